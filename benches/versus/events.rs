//! M17: what it costs to tell a receiver all events.
//!
//! Owns: its rows. The reference is wsify itself without a receiver. The more often a receiver answers, the more calls there
//! are, and the smaller are the batches: one that answers at once costs most, and no webhook does.

use std::io;

use super::measure::{Bench, Paired, Program, Round, Taken, control, median, medians};
use super::metrics::{QUIET, samples};
use super::report::{Row, Target};

pub fn rows(bench: &mut Bench) -> Vec<Row> {
    let life = "connect, join, close with all events beside none";
    let slow = format!("{life}, receiver after 5 ms");
    let fast = format!("{life}, receiver at once");
    vec![
        row(bench, &slow, 5, Target::AtLeast(1.0 / 1.05)),
        row(bench, &fast, 0, Target::AtLeast(0.0)),
    ]
}

fn row(bench: &mut Bench, name: &str, delay: u64, target: Target) -> Row {
    bench.progress.row(format!("M17 {name}"));
    let row = match rounds(bench, delay) {
        Err(error) => Row::failed("M17", name, target, &error),
        Ok(rounds) => {
            let micros = |taken: &Taken| taken.ns_per_unit / 1000.0;
            let [off, on, ratio] = medians(&rounds, micros);
            Row {
                metric: "M17",
                name: name.to_owned(),
                unit: "us",
                floor: Some(off),
                wsify: on,
                ratio: Some(ratio),
                target,
                control: control(&rounds, micros),
                pauses: None,
                client_busy: Some(median(rounds.iter().map(|it| it.wsify.client_busy))),
                note: String::new(),
                failed: None,
                samples: samples(&rounds),
            }
        }
    };
    bench.progress.done(&row);
    row
}

fn rounds(bench: &mut Bench, delay: u64) -> io::Result<Vec<Round>> {
    // It says yes to everything that is posted.
    let receiver = bench.authorizer(delay)?;
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    let all = "connected,disconnected,occupied,vacated";
    let mut flags = QUIET.to_vec();
    flags.extend(["--events-url", &url, "--events", all]);
    bench.paired_with(
        Program::Wsify(QUIET, "handshake"),
        &Paired {
            floor: "handshake",
            flags: &flags,
            client: "life",
            reference_client: None,
            millis: 1500,
            fresh: false,
        },
    )
}
