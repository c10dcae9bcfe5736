//! A million connections without a socket (M11, M16): what they cost in memory, and the longest time for which one
//! operation on them delays all other connections.
//!
//! ```text
//! cargo bench --bench million
//! cargo bench --bench million -- --connections 100000
//! ```
//!
//! Drives the hub as `server/` does, with streams of eight bytes (`puppet.rs`) and a clock that is told. An operation
//! is what one connection brings in (accept, handshake and join; a broadcast; a pong; a close); a tick is all the rest of
//! a turn: deadlines, fan-out, flush, reap. Time is CPU time of this thread, so that other programs count for little;
//! what the kernel does meanwhile to give memory or move it is in it. Since a longest time is what an unlucky moment makes
//! of it, everything is done three times, each in a process of its own, and the best figure is shown.
//!
//! The table goes to stdout, and as JSON to `target/bench/million.json`. Needs Linux, for the size of its memory.

#[path = "backend.rs"]
mod backend;
#[path = "puppet.rs"]
mod puppet;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use puppet::{CLOSE, PONG, Puppet, TEXT, frame, say};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use wsify::clock::{Clock, Millis};
use wsify::config::AccessLog;
use wsify::connection::{Limits, Peer};
use wsify::effect::ConnId;
use wsify::hub::{FailurePolicy, Hub, Settings};
use wsify::log::{Level, Log};
use wsify::metrics::Metrics;
use wsify::wire::forwarded::Proxies;
use wsify::wire::origins::Origins;

const CONNECTIONS: &str = "1000000";
/// How often everything is done.
const ROUNDS: usize = 3;
/// Connections that arrive in a millisecond, so that the deadlines are those of ten seconds' arrivals.
const ARRIVALS: u32 = 100;
/// As many as the server accepts in one turn.
const ACCEPTS: u32 = 16;
/// As many events as the server takes from the poll in one turn.
const EVENTS: usize = 256;
const PING_INTERVAL: Millis = 25_000;
/// 50 of a million are closed in a millisecond.
const DRAIN: Millis = 20_000;

const LONGEST: f64 = 1000.0;
const MEGABYTES: f64 = 160.0;

/// The crowds by name, and how many share a channel.
const CROWDS: [(&str, u32); 3] = [
    ("one channel", u32::MAX),
    ("rooms of ten", 10),
    ("a room for each", 1),
];
/// The crowd whose connections are one user's.
const USER: &str = "one user";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["crowd", name, count] => crowd(name, count),
        ref args => bench(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench could not run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &[&str]) -> io::Result<()> {
    let given = args.iter().position(|arg| *arg == "--connections");
    let count = given.and_then(|at| args.get(at + 1).copied());
    // A word is the name of what is wanted, perhaps of another bench.
    let mut words = args.iter().filter(|arg| !arg.starts_with("--"));
    let wanted =
        given.is_some() || words.all(|word| ["million", "m11", "M11", "m16", "M16"].contains(word));
    // Cargo says `--bench` when it benches; `cargo test --benches` does not, and wants no figures.
    if !args.contains(&"--bench") || !wanted {
        println!("run me with: cargo bench --bench million");
        return Ok(());
    }
    let count = count.unwrap_or(CONNECTIONS);
    let mut rows = Vec::new();
    let crowds = CROWDS.map(|(name, _)| name);
    for name in crowds.into_iter().chain([USER]) {
        let mut best: Vec<Value> = Vec::new();
        for round in 1..=ROUNDS {
            eprintln!("{name}, round {round} of {ROUNDS}");
            let mut command = Command::new(std::env::current_exe()?);
            let command = command.args(["crowd", name, count]);
            let output = command.stderr(Stdio::inherit()).output()?;
            if !output.status.success() {
                return Err(io::Error::other(format!("{name}: {}", output.status)));
            }
            let fresh: Vec<Value> = serde_json::from_slice(&output.stdout)?;
            if best.is_empty() {
                best = fresh;
                continue;
            }
            for (best, fresh) in best.iter_mut().zip(fresh) {
                if fresh["figure"].as_f64() < best["figure"].as_f64() {
                    *best = fresh;
                }
            }
        }
        rows.extend(best);
    }
    print(&rows);
    write(count, &rows)
}

/// Does everything with one crowd, and prints its rows as JSON.
fn crowd(name: &str, count: &str) -> io::Result<()> {
    let count = count.parse().map_err(io::Error::other)?;
    let known = CROWDS.into_iter().find(|(known, _)| *known == name);
    let phases = match known {
        Some((_, room)) => Crowd::live(count, room)?,
        None if name == USER => Crowd::user()?,
        None => return Err(io::Error::other("no such crowd")),
    };
    let rows: Vec<Value> = phases.iter().flat_map(|phase| phase.rows(name)).collect();
    println!("{}", Value::from(rows));
    Ok(())
}

/// What one part of a crowd's life cost.
#[derive(Default)]
struct Phase {
    name: &'static str,
    /// Nanoseconds of each operation.
    operations: Vec<u32>,
    ticks: Vec<u32>,
    /// Sends or pings or closes: what a tick did of it.
    units: u64,
    /// Resident memory that came with it, in bytes.
    memory: Option<u64>,
    /// The most of the units that were due at one time of the wheel.
    herd: Option<u64>,
}

impl Phase {
    fn new(name: &'static str) -> Phase {
        Phase {
            name,
            ..Phase::default()
        }
    }

    fn rows(&self, crowd: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut row = |what, figure: f64, which: Option<f64>, unit, target: Option<f64>| {
            let verdict = target.map(|target| {
                if figure <= target {
                    "pass"
                } else {
                    "falls short"
                }
            });
            rows.push(json!({
                "members": crowd, "while": self.name, "what": what,
                "figure": (figure * 10.0).round() / 10.0, "which": which, "unit": unit, "target": target, "verdict": verdict,
            }));
        };
        if let Some(memory) = self.memory {
            // The target is for connections, and these rooms are a hundred thousand channels besides.
            let target = (crowd == CROWDS[0].0).then_some(MEGABYTES);
            row("memory", memory as f64 / 1e6, None, "MB", target);
        }
        if let Some(times) = Times::of(&self.operations) {
            row(
                "longest operation",
                times.longest,
                Some(times.which),
                "us",
                Some(LONGEST),
            );
            row("mean operation", times.mean, None, "us", None);
        }
        if let Some(times) = Times::of(&self.ticks) {
            row(
                "longest tick",
                times.longest,
                Some(times.which),
                "us",
                Some(LONGEST),
            );
            row("ticks", times.count, None, "", None);
            if self.units > 0 {
                let each = times.mean * times.count / self.units as f64;
                row("ticks' time for each", each * 1000.0, None, "ns", None);
            }
        }
        if let Some(herd) = self.herd {
            row("most due together", herd as f64, None, "", None);
        }
        rows
    }
}

struct Crowd {
    hub: Hub<Puppet>,
    ids: Vec<ConnId>,
    buffer: Vec<u8>,
    phase: Phase,
}

impl Crowd {
    fn empty(hub: Hub<Puppet>, count: u32) -> Crowd {
        Crowd {
            hub,
            ids: Vec::with_capacity(count as usize),
            buffer: vec![0; 64 * 1024],
            phase: Phase::new("growing"),
        }
    }

    /// A crowd's whole life.
    fn live(count: u32, room: u32) -> io::Result<Vec<Phase>> {
        let mut crowd = Crowd::empty(hub(false), count);
        // So that it is resident, and not counted, before anything is.
        crowd.ids.resize(
            count as usize,
            ConnId {
                slot: 0,
                generation: 0,
            },
        );
        crowd.ids.clear();
        let capacity = count as usize;
        crowd.phase.operations = vec![1; capacity];
        crowd.phase.operations.clear();
        crowd.phase.ticks = vec![1; capacity];
        crowd.phase.ticks.clear();

        let mut phases = Vec::new();
        crowd.grow(count, room)?;
        if room >= count {
            phases.push(crowd.next_phase("a broadcast to all"));
            crowd.broadcast()?;
        }
        phases.push(crowd.next_phase("pages for backends"));
        crowd.pages()?;
        phases.push(crowd.next_phase("heartbeats"));
        crowd.beat()?;
        if room >= count {
            phases.push(crowd.next_phase("all leave"));
            crowd.leave()?;
        } else {
            phases.push(crowd.next_phase("a graceful stop"));
            crowd.stop()?;
        }
        phases.push(crowd.next_phase(""));
        Ok(phases)
    }

    fn next_phase(&mut self, name: &'static str) -> Phase {
        std::mem::replace(&mut self.phase, Phase::new(name))
    }

    /// One operation: what `stream` says, and what follows from it at once.
    fn operation<T>(&mut self, run: impl FnOnce(&mut Hub<Puppet>, &mut [u8]) -> T) -> T {
        let from = cpu_time();
        let result = run(&mut self.hub, &mut self.buffer);
        self.phase.operations.push((cpu_time() - from) as u32);
        result
    }

    fn says(&mut self, id: ConnId, bytes: &[u8]) {
        self.operation(|hub, buffer| say(hub, buffer, id, bytes));
    }

    /// The rest of a turn.
    fn tick(&mut self) {
        let from = cpu_time();
        self.hub.turns(&mut self.buffer);
        self.hub.expire();
        self.hub.fan_out();
        self.hub.flush();
        self.hub.reap();
        self.phase.ticks.push((cpu_time() - from) as u32);
    }

    fn rest(&mut self) {
        while self.has_work() {
            self.tick();
        }
    }

    fn has_work(&self) -> bool {
        let next = self.hub.next_deadline();
        self.hub.has_work() || next.is_some_and(|at| at <= self.hub.clock.now)
    }

    fn grow(&mut self, count: u32, room: u32) -> io::Result<()> {
        let upgrade = format!("{}\r\n", puppet::UPGRADE);
        let before = resident()?;
        let peer = Peer::new(([127, 0, 0, 1], 1).into());
        for number in 0..count {
            self.hub.clock.now = Millis::from(number / ARRIVALS);
            let join = format!(
                r#"{{"command":"join","args":{{"channel":"room-{}"}}}}"#,
                number / room
            );
            let join = frame(TEXT, &join);
            let id = self.operation(|hub, buffer| {
                let id = hub.accept(Puppet::new(number), peer)?;
                say(hub, buffer, id, upgrade.as_bytes());
                hub.flush();
                say(hub, buffer, id, &join);
                Ok::<_, io::Error>(id)
            })?;
            self.ids.push(id);
            if number % ACCEPTS == 0 {
                self.tick();
            }
        }
        self.rest();
        self.phase.memory = Some(resident()? - before);
        Ok(())
    }

    /// Each member gets it, once.
    fn broadcast(&mut self) -> io::Result<()> {
        for id in &self.ids {
            if let Some(stream) = self.hub.stream(*id) {
                stream.sends = 0;
            }
        }
        let message =
            r#"{"command":"broadcast","args":{"channel":"room-0","content":"to all members"}}"#;
        self.says(self.ids[0], &frame(TEXT, message));
        self.rest();
        for id in &self.ids {
            let sends = self.hub.stream(*id).map(|stream| stream.sends);
            if sends != Some(1) {
                return Err(io::Error::other(format!(
                    "{sends:?} sends to {id:?}, not one"
                )));
            }
        }
        self.phase.units = self.ids.len() as u64;
        Ok(())
    }

    /// Two intervals in which clients send nothing but pongs.
    fn beat(&mut self) -> io::Result<()> {
        let until = self.hub.clock.now + 2 * PING_INTERVAL;
        let mut herd = 0;
        puppet::take_called();
        let pong = frame(PONG, "");
        while let Some(next) = self.hub.next_deadline().filter(|at| *at <= until) {
            self.hub.clock.now = next.max(self.hub.clock.now);
            self.rest();
            let pinged = puppet::take_called();
            self.phase.units += pinged.len() as u64;
            herd = herd.max(pinged.len() as u64);
            for number in pinged {
                self.says(self.ids[number as usize], &pong);
            }
        }
        self.phase.herd = Some(herd);
        if self.hub.connections() != self.ids.len() || self.phase.units < self.ids.len() as u64 {
            return Err(io::Error::other("a connection was not pinged, or was lost"));
        }
        Ok(())
    }

    /// At once: as many in a turn as the poll tells of.
    fn leave(&mut self) -> io::Result<()> {
        let leaving = std::mem::take(&mut self.ids);
        let close = frame(CLOSE, "");
        for ids in leaving.chunks(EVENTS) {
            for id in ids {
                self.says(*id, &close);
            }
            // Sockets would take longer.
            self.hub.clock.now += 1;
            self.tick();
            puppet::take_called();
        }
        self.rest();
        self.phase.units = leaving.len() as u64;
        match self.hub.connections() {
            0 => Ok(()),
            left => Err(io::Error::other(format!("{left} are still there"))),
        }
    }

    /// Each connection is closed, one after the other.
    fn stop(&mut self) -> io::Result<()> {
        puppet::take_called();
        self.phase.units = self.hub.connections() as u64;
        let until = self.hub.clock.now + DRAIN;
        self.operation(|hub, _| hub.drain(DRAIN));
        let close = frame(CLOSE, "");
        let mut drained = false;
        while !drained {
            self.hub.clock.now += 1;
            self.tick();
            self.rest();
            drained = self.operation(|hub, _| hub.is_drained());
            for number in puppet::take_called() {
                self.says(self.ids[number as usize], &close);
            }
            if self.hub.clock.now > until {
                let left = self.hub.connections();
                return Err(io::Error::other(format!("{left} are still there")));
            }
        }
        self.rest();
        Ok(())
    }
}

fn hub(authorizer: bool) -> Hub<Puppet> {
    let settings = Settings {
        limits: Limits {
            handshake_timeout: 10_000,
            ping_interval: PING_INTERVAL,
            max_message: 1 << 20,
            max_queue: 1 << 20,
        },
        max_connections: usize::MAX,
        max_connections_per_ip: 0,
        max_message_rate: 0,
        compression: None,
        max_total_queue: 1 << 30,
        playground: false,
        max_channels: 1000,
        key: None,
        origins: Origins::parse("*").expect("any origin"),
        proxies: Proxies::default(),
        proxy_protocol: false,
        authorizer,
        authorizer_url: String::new(),
        failure: FailurePolicy::default(),
        access_log: AccessLog::Errors,
        events: None,
        slots: 1_000_000,
        instance: 1,
    };
    let clock = Clock {
        now: 0,
        date: "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
        ..Clock::default()
    };
    let metrics = Metrics::new(SystemTime::UNIX_EPOCH);
    Hub::new(settings, clock, metrics, Log::in_memory(Level::Error))
}

/// CPU time of this thread in nanoseconds.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory of this process in bytes.
fn resident() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))? * 1024)
}

fn print(rows: &[Value]) {
    println!(
        "{:<14} {:<20} {:<20} {:>12}    {:>8}  verdict",
        "members", "while", "what", "figure", "target"
    );
    for row in rows {
        let word = |name| row[name].as_str().unwrap_or_default();
        let target = row["target"].as_f64().map(|target| format!("<= {target}"));
        println!(
            "{:<14} {:<20} {:<20} {:>12} {:<2} {:>8}  {}",
            word("members"),
            word("while"),
            word("what"),
            row["figure"].as_f64().unwrap_or(f64::NAN),
            word("unit"),
            target.unwrap_or_default(),
            word("verdict"),
        );
    }
}

fn write(count: &str, rows: &[Value]) -> io::Result<()> {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let text = json!({"connections": count, "load_average": load.trim(), "rows": rows});
    // Two above the binary: cargo puts it in `target/PROFILE/`.
    let target = Path::new(env!("CARGO_BIN_EXE_wsify")).ancestors().nth(2);
    let folder = target.unwrap_or(Path::new("target")).join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join("million.json");
    fs::write(&file, serde_json::to_string_pretty(&text)?)?;
    println!(
        "load average {}; written to {}",
        load.trim(),
        file.display()
    );
    Ok(())
}

struct Times {
    count: f64,
    mean: f64,
    longest: f64,
    /// The number of the longest, beginning with 0.
    which: f64,
}

impl Times {
    /// In microseconds.
    fn of(times: &[u32]) -> Option<Times> {
        let (which, longest) = times.iter().enumerate().max_by_key(|(_, time)| **time)?;
        let count = times.len() as f64;
        let sum: u64 = times.iter().map(|time| u64::from(*time)).sum();
        Some(Times {
            count,
            mean: sum as f64 / count / 1000.0,
            longest: f64::from(*longest) / 1000.0,
            which: which as f64,
        })
    }
}
