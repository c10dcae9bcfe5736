//! M13: commands that a webhook is asked about, one by one and in batches, and those that it has allowed beforehand.
//!
//! Owns: what is run, with what target. Knows wsify's flags and the client's scenario.

use std::io;

use serde_json::json;

use super::measure::{Bench, Paired, Program, Round, Taken, control, median, medians};
use super::metrics::{row_like, samples, thousands};
use super::report::{Row, Target};

const MILLIS: u64 = 1000;

pub fn rows(bench: &mut Bench) -> Vec<Row> {
    let mut rows = Vec::new();
    for (delay, clients, least) in [
        (0, 200, None),
        (5, 200, Some(20_000.0)),
        (20, 200, None),
        (20, 1000, Some(12_000.0)),
    ] {
        rows.extend(asked(
            bench,
            &Case {
                delay,
                clients,
                least,
                batches: None,
            },
        ));
    }
    // 8 workers are the default; 20 ms need 16, so that all clients can be asked about at once.
    for (delay, clients, workers, least) in [
        (0, 200, 8, None),
        (20, 1000, 8, None),
        (20, 1000, 16, Some(40_000.0)),
    ] {
        rows.extend(asked(
            bench,
            &Case {
                delay,
                clients,
                least,
                batches: Some(workers),
            },
        ));
    }
    rows.push(not_asked(bench, "allow", "granting-authorizer"));
    rows.push(not_asked(bench, "max_age", "remembered-authorizer"));
    rows
}

struct Case {
    delay: u64,
    clients: usize,
    /// Commands per second.
    least: Option<f64>,
    /// Batches of 64, and how many of them at once.
    batches: Option<usize>,
}

impl Case {
    fn name(&self) -> String {
        let after = match self.delay {
            0 => "at once".to_owned(),
            delay => format!("after {delay} ms"),
        };
        let how = match self.batches {
            None => String::new(),
            Some(workers) => format!(", batches of 64, {workers} workers"),
        };
        let clients = spelled(self.clients);
        format!("authorised, {clients} clients, webhook {after}{how}")
    }

    /// CPU beside the floor.
    fn target(&self) -> Target {
        Target::AtLeast(match self.batches {
            None => 1.0 / 1.15,
            Some(_) => 1.0 / 1.5,
        })
    }

    fn floor(&self, authorizer: u16) -> String {
        match self.batches {
            None => format!("ask-threads={authorizer}"),
            Some(workers) => format!("ask-batches-{workers}={authorizer}"),
        }
    }

    fn note(&self) -> String {
        match self.batches {
            None => "the floor is one loop and 32 blocking threads".to_owned(),
            Some(workers) => format!(
                "the floor is one loop and {workers} blocking threads that post up to 64 questions at a time"
            ),
        }
    }
}

/// CPU beside the floor with blocking threads; throughput beside that of one loop whose calls do not block and have one
/// question each.
fn asked(bench: &mut Bench, case: &Case) -> Vec<Row> {
    let cpu = case.name();
    let speed = format!("{cpu}: throughput");
    bench.progress.row(format!("M13 {cpu}"));
    let target = case.target();
    let least = Target::FigureAtLeast(case.least.unwrap_or_default());
    let rows = asked_rounds(bench, case).map(|(floor, rounds)| {
        let row = cpu_row(&cpu, target, case.note(), &rounds);
        let rate =
            |taken: &Taken| taken.units / taken.said["ns"].as_f64().unwrap_or(f64::NAN) * 1e9;
        let trip = |taken: &Taken| taken.said["p50_us"].as_f64().unwrap_or(f64::NAN) / 1000.0;
        let fast = median(rounds.iter().map(|it| rate(&it.wsify)));
        let speed = Row {
            name: speed.clone(),
            unit: "/s",
            floor: Some(rate(&floor)),
            wsify: fast,
            ratio: Some(fast / rate(&floor)),
            target: least,
            control: None,
            pauses: None,
            note: format!(
                "the reference is one loop whose calls do not block; median latency {:.1} ms, there {:.1}",
                median(rounds.iter().map(|it| trip(&it.wsify))),
                trip(&floor)
            ),
            samples: json!({ "floor": floor.said }),
            ..row_like(&row)
        };
        vec![row, speed]
    });
    let rows = rows.unwrap_or_else(|error| {
        vec![
            Row::failed("M13", &cpu, target, &error),
            Row::failed("M13", &speed, least, &error),
        ]
    });
    rows.iter().for_each(|row| bench.progress.done(row));
    rows
}

fn cpu_row(name: &str, target: Target, note: String, rounds: &[Round]) -> Row {
    let micros = |taken: &Taken| taken.ns_per_unit / 1000.0;
    let [floor, wsify, ratio] = medians(rounds, micros);
    Row {
        metric: "M13",
        name: name.to_owned(),
        unit: "us",
        floor: Some(floor),
        wsify,
        ratio: Some(ratio),
        target,
        control: control(rounds, micros),
        pauses: None,
        client_busy: Some(median(rounds.iter().map(|it| it.wsify.client_busy))),
        note,
        failed: None,
        samples: samples(rounds),
    }
}

/// One sample of the loop whose calls do not block, and rounds against the loop with threads.
fn asked_rounds(bench: &mut Bench, case: &Case) -> io::Result<(Taken, Vec<Round>)> {
    let authorizer = bench.authorizer(case.delay)?;
    let url = format!("http://127.0.0.1:{}/", authorizer.port);
    let client = format!("requests links={} closed=true", case.clients);
    let limit = format!("ask-loop={}", authorizer.port);
    let mut limit = bench.contend(Program::Floor(&limit), &client)?;
    limit.client.sample(150)?;
    let limit = limit.take(MILLIS)?;
    let workers = case.batches.unwrap_or_default().to_string();
    let mut flags = vec!["--ping-interval", "0", "--authorizer-url", &url];
    if case.batches.is_some() {
        flags.extend(["--authorizer-batch", "64", "--authorizer-workers", &workers]);
    }
    let rounds = bench.paired(&Paired {
        floor: &case.floor(authorizer.port),
        flags: &flags,
        client: &client,
        reference_client: None,
        millis: MILLIS,
        fresh: false,
    })?;
    Ok((limit, rounds))
}

/// A command that needs no question, beside one of a server without an authorizer.
fn not_asked(bench: &mut Bench, by: &str, authorizer: &str) -> Row {
    let name = format!("not asked because of {by}, 200 clients");
    bench.progress.row(format!("M13 {name}"));
    let target = Target::AtLeast(0.95);
    let quiet: &[&str] = &["--ping-interval", "0"];
    let rounds = bench
        .authorizer_called(authorizer, 0)
        .and_then(|authorizer| {
            let url = format!("http://127.0.0.1:{}/", authorizer.port);
            let paired = Paired {
                floor: "echo",
                flags: &["--ping-interval", "0", "--authorizer-url", &url],
                client: "requests links=200",
                reference_client: None,
                millis: MILLIS,
                fresh: false,
            };
            bench.paired_with(Program::Wsify(quiet, "echo"), &paired)
        });
    let note = "the reference is wsify without an authorizer".to_owned();
    let row = match rounds {
        Ok(rounds) => cpu_row(&name, target, note, &rounds),
        Err(error) => Row::failed("M13", &name, target, &error),
    };
    bench.progress.done(&row);
    row
}

/// `200` as it is, `1000` as `1,000`.
fn spelled(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => thousands(number),
    }
}
