//! wsify against the floor: how near to what the kernel allows, on this machine, with one command.
//!
//! ```text
//! cargo bench --bench versus                    everything, under 15 minutes
//! cargo bench --bench versus -- fanout          one group (or one metric: M5)
//! cargo bench --bench versus -- --self-check    a floor in wsify's place: is the ruler straight?
//! ```
//!
//! For each metric a **floor** (`floors/`), a program that makes only the system calls no server can do without for that
//! work, and `wsify` serve the same load client (`client/`) in turn, on a core of their own. A figure is CPU time of the
//! server per unit of work, from `/proc/PID/task/*/schedstat`; a ratio is the median of paired rounds (`measure.rs`); the
//! floor is measured against itself, too, and where that is not 1 ± 0.02 the row is inconclusive: something else was
//! running. The client checks count, order and content of everything it hears. The table is printed, and written with
//! the machine, the commit and every sample to `target/bench/bench.json`, and as a chart to `target/bench/bench.svg`.
//!
//! Needs Linux 5.11 or newer and 20,000 fds (`ulimit -Hn`); best on a machine that does nothing else. A row that fails (a wrong or
//! missing message, a server that ends) makes the exit status 1; one that falls short of its target does not.
//!
//! This executable is also the floors, the client and the authorizer: it starts itself with another first argument.

mod authorised;
mod client;
mod compression;
mod events;
mod floors;
mod measure;
mod metrics;
mod process;
mod report;
mod wire;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use measure::Bench;
use process::Cores;
use report::{Progress, Verdict};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.split_first() {
        Some((first, rest)) if first == process::PINNED => Err(process::become_pinned(rest)),
        Some((first, rest)) if first == "client" => client::run(rest),
        Some((first, rest)) if first == "floor" => floor(rest),
        _ => return bench(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn floor(args: &[String]) -> io::Result<()> {
    let [name, port] = args else {
        return Err(io::Error::other("floor NAME PORT"));
    };
    floors::run(name, port.parse().map_err(io::Error::other)?)
}

fn bench(args: &[String]) -> ExitCode {
    // Cargo says `--bench` when it benches; `cargo test --benches` does not, and wants no figures.
    if !args.iter().any(|arg| arg == "--bench") {
        println!("run me with: cargo bench --bench versus");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = args
        .iter()
        .filter(|arg| !arg.starts_with("--"))
        .map(|arg| arg.to_lowercase())
        .collect();
    let groups: Vec<_> = metrics::GROUPS
        .iter()
        .filter(|group| {
            wanted.is_empty()
                || wanted
                    .iter()
                    .any(|it| group.name == it || group.metrics.contains(&it.as_str()))
        })
        .collect();
    if groups.is_empty() {
        // Not an error: the word may be meant for another bench of the same `cargo bench`.
        let names: Vec<_> = metrics::GROUPS.iter().map(|group| group.name).collect();
        println!("no such group here; there are: {}", names.join(", "));
        return ExitCode::SUCCESS;
    }
    match run(&groups, args.iter().any(|arg| arg == "--self-check")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the bench could not run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the groups and reports; whether no row failed.
fn run(groups: &[&metrics::Group], self_check: bool) -> io::Result<bool> {
    let wsify = PathBuf::from(env!("CARGO_BIN_EXE_wsify"));
    let dir = target_dir(&wsify).join("bench");
    std::fs::create_dir_all(&dir)?;
    let machine = report::machine();
    let mut bench = Bench {
        exe: std::env::current_exe()?,
        wsify,
        dir,
        cores: Cores::choose()?,
        self_check,
        begun: Instant::now(),
        progress: Progress::new(),
    };
    if bench.cores.server == bench.cores.client {
        eprintln!("only one core: server and client share it, and no figure means much");
    }
    eprintln!(
        "server on core {}, client on core {}, {machine}",
        bench.cores.server, bench.cores.client
    );
    let mut rows = Vec::new();
    for group in groups {
        rows.extend((group.run)(&mut bench));
    }
    let seconds = bench.begun.elapsed().as_secs();
    report::write(&bench.dir, &machine, &rows, seconds)?;
    Ok(rows.iter().all(|row| row.verdict() != Verdict::Failed))
}

/// Two above the binary: cargo puts it in `target/PROFILE/`.
fn target_dir(binary: &std::path::Path) -> PathBuf {
    binary
        .ancestors()
        .nth(2)
        .map_or_else(|| PathBuf::from("target"), PathBuf::from)
}
