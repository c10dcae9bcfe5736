//! M17: what it costs to tell a receiver all events.
//!
//! Owns: its row. The reference is wsify itself without a receiver.

use std::io;

use super::measure::{Bench, Paired, Round, Taken, Who, control, median, medians};
use super::metrics::{QUIET, samples};
use super::report::{Row, Target};

const NAME: &str = "connect, handshake, join, close, with all events beside none";

pub fn rows(bench: &mut Bench) -> Vec<Row> {
    bench.progress.row(format!("M17 {NAME}"));
    let target = Target::AtLeast(1.0 / 1.05);
    let row = match rounds(bench) {
        Err(error) => Row::failed("M17", NAME, target, &error),
        Ok(rounds) => {
            let micros = |taken: &Taken| taken.ns_per_unit / 1000.0;
            let [off, on, ratio] = medians(&rounds, micros);
            Row {
                metric: "M17",
                name: NAME.to_owned(),
                unit: "us",
                floor: Some(off),
                wsify: on,
                ratio: Some(ratio),
                target,
                control: control(&rounds, micros),
                client_busy: Some(median(rounds.iter().map(|it| it.wsify.client_busy))),
                note: "four events for each connection; the receiver answers at once".to_owned(),
                failed: None,
                samples: samples(&rounds),
            }
        }
    };
    bench.progress.done(&row);
    vec![row]
}

fn rounds(bench: &mut Bench) -> io::Result<Vec<Round>> {
    // It says yes to everything that is posted.
    let receiver = bench.authorizer(0)?;
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    let all = "connected,disconnected,occupied,vacated";
    let mut flags = QUIET.to_vec();
    flags.extend(["--events-url", &url, "--events", all]);
    bench.paired_with(
        Who::Wsify(QUIET, "handshake"),
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
