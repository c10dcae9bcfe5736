//! The metrics: what is run for each, with what target.
//!
//! Owns: the list of rows, in groups that can be run alone. Knows wsify's flags and the client's scenarios.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::measure::{Bench, Contender, Paired, Program, Round, Taken, control, median, medians};
use super::process::fd_limit;
use super::report::{Row, Target};

/// The most members one client can be, with fds to spare.
const MANY: usize = 19_000;

/// Metrics that are run together.
pub struct Group {
    pub name: &'static str,
    /// In lower case, as they may be asked for.
    pub metrics: &'static [&'static str],
    pub run: fn(&mut Bench) -> Vec<Row>,
}

/// The groups, in the order in which they run.
pub const GROUPS: &[Group] = &[
    group("fanout", &["m1", "m2", "m9"], fanout),
    group("fairness", &["m3"], fairness),
    group("memory", &["m4"], memory),
    group("connect", &["m5"], connect),
    group("commands", &["m6"], commands),
    group("post", &["m7"], post),
    group("stalled", &["m10"], stalled),
    group("heartbeat", &["m11"], heartbeat),
    group("rush", &["m12"], rush),
    group("authorised", &["m13"], super::authorised::rows),
    group("compression", &["m14"], super::compression::rows),
    group("events", &["m17"], super::events::rows),
];

const fn group(
    name: &'static str,
    metrics: &'static [&'static str],
    run: fn(&mut Bench) -> Vec<Row>,
) -> Group {
    Group { name, metrics, run }
}

/// Heartbeats would disturb what is measured elsewhere.
pub const QUIET: &[&str] = &["--ping-interval", "0"];

/// M1, M2 and M9.
fn fanout(bench: &mut Bench) -> Vec<Row> {
    let patient: &[&str] = &["--ping-interval", "0", "--max-queue-size", "64MiB"];
    [
        ("M1", "fan-out to 1,000, 128 B", "members=1000", 0.95, QUIET),
        (
            "M1",
            "fan-out to 10,000, 128 B",
            "members=10000",
            0.95,
            QUIET,
        ),
        (
            "M1",
            "fan-out to 19,000, 128 B",
            "members=19000",
            0.95,
            QUIET,
        ),
        (
            "M1",
            "fan-out to 1,000, 16 KiB",
            "members=1000 size=16384",
            0.95,
            QUIET,
        ),
        // At 128 B the kernel would hold all that a laggard missed.
        (
            "M1",
            "fan-out to 1,000, 2 KiB, 1 % laggards",
            "members=1000 size=2048 laggards=1",
            0.95,
            patient,
        ),
        (
            "M2",
            "32 in a turn to 1,000",
            "members=1000 batch=32",
            0.90,
            QUIET,
        ),
        (
            "M2",
            "320 in a turn to 1,000",
            "members=1000 batch=320",
            0.90,
            QUIET,
        ),
        (
            "M9",
            "fan-out to 100, 16 KiB",
            "members=100 size=16384",
            0.98,
            QUIET,
        ),
    ]
    .into_iter()
    .map(|(metric, name, client, target, flags)| {
        let millis = if client.contains("laggards") {
            2000
        } else {
            1000
        };
        let client = format!("fanout {client}");
        cpu_row(
            bench, metric, name, target, "fanout", flags, &client, millis, false,
        )
    })
    .collect()
}

/// M5.
fn connect(bench: &mut Bench) -> Vec<Row> {
    let name = "connect, handshake, join, close";
    vec![cpu_row(
        bench,
        "M5",
        name,
        0.94,
        "handshake",
        QUIET,
        "life",
        1500,
        false,
    )]
}

/// M6.
fn commands(bench: &mut Bench) -> Vec<Row> {
    let echo = cpu_row(
        bench,
        "M6",
        "one command with an ack",
        0.85,
        "echo",
        QUIET,
        "requests links=100",
        1000,
        false,
    );
    let rooms = "fanout rooms=1000 members=10 in_flight=32";
    let rooms = cpu_row(
        bench,
        "M6",
        "1,000 rooms of 10",
        0.92,
        "fanout",
        QUIET,
        rooms,
        1000,
        false,
    );
    vec![echo, rooms]
}

/// M7.
fn post(bench: &mut Bench) -> Vec<Row> {
    [
        ("POST, no member", "post", 0.92),
        ("POST, 1 member", "post members=1", 0.88),
        ("POST, pipelined x16", "post pipelined=16", 0.60),
    ]
    .into_iter()
    .map(|(name, client, target)| {
        cpu_row(
            bench, "M7", name, target, "post", QUIET, client, 1000, false,
        )
    })
    .collect()
}

/// M11, but for the simulated million.
fn heartbeat(bench: &mut Bench) -> Vec<Row> {
    vec![cpu_row(
        bench,
        "M11",
        "heartbeats of 10,000",
        0.85,
        "heartbeat=500",
        &["--ping-interval", "500ms"],
        "heartbeat members=10000",
        3000,
        true,
    )]
}

/// A row that compares the servers' CPU per unit of work.
#[expect(clippy::too_many_arguments, reason = "it is the table's columns")]
fn cpu_row(
    bench: &mut Bench,
    metric: &'static str,
    name: &str,
    target: f64,
    floor: &str,
    flags: &[&str],
    client: &str,
    millis: u64,
    fresh: bool,
) -> Row {
    bench.progress.row(format!("{metric} {name}"));
    let target = Target::AtLeast(target);
    let paired = Paired {
        floor,
        flags,
        client,
        reference_client: None,
        millis,
        fresh,
    };
    let row = match bench.paired(&paired) {
        Err(error) => Row::failed(metric, name, target, &error),
        Ok(rounds) => {
            let micros = |taken: &Taken| taken.ns_per_unit / 1000.0;
            let [floor, wsify, ratio] = medians(&rounds, micros);
            Row {
                metric,
                name: name.to_owned(),
                unit: "us",
                floor: Some(floor),
                wsify,
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

pub fn samples(rounds: &[Round]) -> Value {
    let one = |taken: &Taken| json!({ "ns_per_unit": taken.ns_per_unit, "client_busy": taken.client_busy, "client": taken.said });
    rounds
        .iter()
        .map(|round| {
            json!({
                "floor": one(&round.floors[0]),
                "wsify": one(&round.wsify),
                "floor_again": one(&round.floors[1]),
            })
        })
        .collect()
}

/// M3: broadcasts to 19,000 back to back, and 50 other connections that broadcast to themselves, 1,000 times a second.
fn fairness(bench: &mut Bench) -> Vec<Row> {
    let fair = "others' p99.9 / one broadcast to 19,000";
    let completion = "completion of a broadcast to 19,000";
    bench.progress.row(format!("M3 {completion}"));
    let client = format!("fanout members={MANY} probes=50 probes_per_second=1000");
    let rounds = bench.paired(&Paired {
        floor: "fanout",
        flags: QUIET,
        client: &client,
        reference_client: None,
        millis: 2000,
        fresh: false,
    });
    let rounds = rounds.and_then(|rounds| Ok((rounds, bench.cores.pause(0.999)?)));
    let rows = match rounds {
        Err(error) => vec![
            Row::failed("M3", fair, Target::AtMost(0.02), &error),
            Row::failed("M3", completion, Target::AtMost(1.05), &error),
        ],
        Ok((rounds, pause)) => {
            let said = |taken: &Taken, what: &str| taken.said[what].as_f64().unwrap_or(f64::NAN);
            let duration = |taken: &Taken| said(taken, "broadcast_us") / 1000.0;
            let slowest = |taken: &Taken| said(taken, "p999_us") / 1000.0;
            let [floor_slowest, wsify_slowest, _] = medians(&rounds, slowest);
            let [floor, wsify, ratio] = medians(&rounds, duration);
            let busy = median(rounds.iter().map(|it| it.wsify.client_busy));
            let row = Row {
                metric: "M3",
                name: fair.to_owned(),
                unit: "ms",
                floor: Some(floor_slowest),
                wsify: wsify_slowest,
                ratio: Some(median(
                    rounds
                        .iter()
                        .map(|it| slowest(&it.wsify) / duration(&it.wsify)),
                )),
                target: Target::AtMost(0.02),
                control: None,
                pauses: Some(pause / wsify),
                client_busy: Some(busy),
                note: format!("one broadcast takes {wsify:.0} ms; the floor does not slice"),
                failed: None,
                samples: samples(&rounds),
            };
            let completion = Row {
                name: completion.to_owned(),
                floor: Some(floor),
                wsify,
                ratio: Some(1.0 / ratio),
                target: Target::AtMost(1.05),
                control: control(&rounds, duration),
                pauses: None,
                note: "the ratio is wsify / floor".to_owned(),
                samples: Value::Null,
                ..row_like(&row)
            };
            vec![row, completion]
        }
    };
    rows.iter().for_each(|row| bench.progress.done(row));
    rows
}

/// A row with the same metric, unit and client.
pub fn row_like(row: &Row) -> Row {
    Row {
        name: String::new(),
        note: String::new(),
        failed: None,
        samples: Value::Null,
        ..*row
    }
}

/// M4: the slope of resident memory from 1,000 to 19,000 connections. What the first thousand bring with them (buffers,
/// worker threads' stacks) belongs to no connection; nor does what was used while they came, so both ends are looked at
/// after a rest.
fn memory(bench: &mut Bench) -> Vec<Row> {
    let plain = "bytes per idle connection";
    let asked = "bytes per idle connection, authorizer, 60-byte query";
    let granted = "the same with user, state of 60 bytes, shared allow";
    let mut rows = Vec::new();
    for (name, limit, behind) in [
        (plain, 160.0, Behind::Nothing),
        (asked, 256.0, Behind::Authorizer),
        (granted, 320.0, Behind::GrantingAuthorizer),
    ] {
        bench.progress.row(format!("M4 {name}"));
        let target = Target::FigureAtMost(limit);
        let row = match slopes(bench, behind) {
            Err(error) => Row::failed("M4", name, target, &error),
            Ok((floor, wsify, samples)) => Row {
                metric: "M4",
                name: name.to_owned(),
                unit: "B",
                floor: Some(floor),
                wsify,
                ratio: None,
                target,
                control: None,
                pauses: None,
                client_busy: None,
                note: String::new(),
                failed: None,
                samples,
            },
        };
        bench.progress.done(&row);
        rows.push(row);
    }
    rows
}

/// After which a server has given back what it does not use any more, and its idle workers have ended.
const REST: Duration = Duration::from_secs(12);

/// What is behind wsify.
#[derive(Clone, Copy, PartialEq)]
enum Behind {
    Nothing,
    Authorizer,
    GrantingAuthorizer,
}

fn slopes(bench: &mut Bench, behind: Behind) -> io::Result<(f64, f64, Value)> {
    let authorizer = match behind {
        Behind::GrantingAuthorizer => bench.granting_authorizer()?,
        _ => bench.authorizer(0)?,
    };
    let url = format!("http://127.0.0.1:{}/", authorizer.port);
    let (flags, query): (&[&str], _) = match behind {
        Behind::Nothing => (&[], String::new()),
        _ => (
            &["--authorizer-url", &url],
            format!("query=?token={}", "a".repeat(54)),
        ),
    };
    let client = format!("idle {query}");
    let mut slopes = Vec::new();
    for program in [Program::Floor("fanout"), Program::Wsify(flags, "fanout")] {
        let mut contender = bench.contend(program, &client)?;
        contender.client.sample(1000)?;
        std::thread::sleep(REST);
        let mut points = vec![contender.server.process.rss()?];
        for step in 2..=MANY / 1000 {
            bench.progress.step(&format!("{step},000 connections"));
            contender.client.sample(1000)?;
            points.push(contender.server.process.rss()?);
        }
        std::thread::sleep(REST);
        points.push(contender.server.process.rss()?);
        slopes.push(points);
    }
    let slope = |points: &[u64]| match points {
        [first, .., last] => last.saturating_sub(*first) as f64 / (MANY - 1000) as f64,
        _ => f64::NAN,
    };
    Ok((
        slope(&slopes[0]),
        slope(&slopes[1]),
        json!({ "rss_rested_then_every_1000_then_rested": { "floor": slopes[0], "wsify": slopes[1] } }),
    ))
}

/// M10: 4,500 members that read, without and with 500 that never do.
fn stalled(bench: &mut Bench) -> Vec<Row> {
    let speed = "4,500 readers beside 500 stalled";
    let growth = "memory grown / bytes published, 500 stalled";
    bench.progress.row(format!("M10 {speed}"));
    let rows = match stalled_rows(bench, speed, growth) {
        Ok(rows) => rows,
        Err(error) => vec![
            Row::failed("M10", speed, Target::AtLeast(0.98), &error),
            Row::failed("M10", growth, Target::AtMost(1.5), &error),
        ],
    };
    rows.iter().for_each(|row| bench.progress.done(row));
    rows
}

fn stalled_rows(bench: &mut Bench, speed: &str, growth: &str) -> io::Result<Vec<Row>> {
    const SIZE: f64 = 32_768.0;
    let flags: &[&str] = &["--ping-interval", "0", "--max-queue-size", "1GiB"];
    let program = Program::Wsify(flags, "fanout");
    let without = format!("fanout members=4500 size={SIZE}");
    let with = format!("fanout members=5000 size={SIZE} laggards=10 never=true");
    let mut contenders: Vec<Contender> = Vec::new();
    for client in [&without, &with, &without] {
        bench.progress.step("connecting");
        contenders.push(bench.contend(program, client)?);
    }
    let before = contenders[1].server.process.rss()?;
    // By then the kernel's buffers of the stalled ones are full.
    let mut published = 0.0;
    for contender in &mut contenders {
        let warm = contender.take(2000)?;
        published = warm.units.max(published);
    }
    let mut rounds: Vec<Round> = Vec::new();
    published = 0.0;
    let filled = contenders[1].server.process.rss()?;
    for round in 0..5 {
        bench.progress.step(&format!("round {}", round + 1));
        let mut taken = Vec::new();
        for contender in &mut contenders {
            taken.push(contender.take(1500)?);
        }
        if let Ok([first, wsify, second]) = <[Taken; 3]>::try_from(taken) {
            published += wsify.units / 4500.0 * SIZE;
            rounds.push(Round {
                floors: [first, second],
                wsify,
            });
        }
    }
    let after = contenders[1].server.process.rss()?;
    let grown = after.saturating_sub(filled) as f64;
    let micros = |taken: &Taken| taken.ns_per_unit / 1000.0;
    let [alone, beside, ratio] = medians(&rounds, micros);
    let row = Row {
        metric: "M10",
        name: speed.to_owned(),
        unit: "us",
        floor: Some(alone),
        wsify: beside,
        ratio: Some(ratio),
        target: Target::AtLeast(0.98),
        control: control(&rounds, micros),
        pauses: None,
        client_busy: Some(median(rounds.iter().map(|it| it.wsify.client_busy))),
        note: "the reference is wsify without them".to_owned(),
        failed: None,
        samples: samples(&rounds),
    };
    let growth = Row {
        name: growth.to_owned(),
        unit: "MB",
        floor: Some(published / 1e6),
        wsify: grown / 1e6,
        ratio: Some(grown / published),
        target: Target::AtMost(1.5),
        control: None,
        pauses: None,
        note: "the reference is what was published once all were stalled".to_owned(),
        samples: json!({ "rss_connected": before, "rss_stalled": filled, "rss_after": after }),
        ..row_like(&row)
    };
    Ok(vec![row, growth])
}

/// M12: a crowd through an authorizer of 5 ms and 32 workers, beside 1,000 standing connections that ping.
fn rush(bench: &mut Bench) -> Vec<Row> {
    const STANDING: usize = 1000;
    const DELAY_MS: f64 = 5.0;
    const WORKERS: f64 = 32.0;
    let limit = usize::try_from(fd_limit()).unwrap_or(usize::MAX);
    let crowd = MANY.min(limit.saturating_sub(2 * STANDING));
    let time = format!("{} connect at once, authorizer of 5 ms", thousands(crowd));
    let trip = "p99 of 1,000 standing meanwhile";
    bench.progress.row(format!("M12 {time}"));
    let measured = (|| {
        let mut rounds = Vec::new();
        for round in 1..=3 {
            bench.progress.step(&format!("round {round}"));
            let mut floor =
                bench.contend(Program::Floor("handshake"), &format!("rush crowd={crowd}"))?;
            let floor = floor.take(0)?;
            let authorizer = bench.authorizer(DELAY_MS as u64)?;
            let url = format!("http://127.0.0.1:{}/", authorizer.port);
            let flags: &[&str] = &[
                "--ping-interval",
                "0",
                "--authorizer-url",
                &url,
                "--authorizer-workers",
                "32",
                "--authorizer-queue",
                "20000",
            ];
            let client = format!("rush standing={STANDING} crowd={crowd}");
            let mut wsify = bench.contend(Program::Wsify(flags, "handshake"), &client)?;
            rounds.push((floor, wsify.take(0)?));
        }
        Ok::<_, io::Error>((rounds, bench.cores.pause(0.99)?))
    })();
    let rows = match measured {
        Err(error) => vec![
            Row::failed("M12", &time, Target::AtMost(1.10), &error),
            Row::failed("M12", trip, Target::FigureAtMost(5.0), &error),
        ],
        Ok((rounds, pause)) => {
            let seconds = |taken: &Taken| taken.said["ns"].as_f64().unwrap_or(f64::NAN) / 1e9;
            let asked = crowd as f64 * DELAY_MS / 1000.0 / WORKERS;
            let least = |floor: &Taken| seconds(floor).max(asked);
            let p99 = |taken: &Taken| taken.said["p99_us"].as_f64().unwrap_or(f64::NAN) / 1000.0;
            let row = Row {
                metric: "M12",
                name: time,
                unit: "s",
                floor: Some(median(rounds.iter().map(|(floor, _)| least(floor)))),
                wsify: median(rounds.iter().map(|(_, wsify)| seconds(wsify))),
                ratio: Some(median(
                    rounds
                        .iter()
                        .map(|(floor, wsify)| seconds(wsify) / least(floor)),
                )),
                target: Target::AtMost(1.10),
                control: None,
                pauses: None,
                client_busy: Some(median(rounds.iter().map(|(_, wsify)| wsify.client_busy))),
                note: format!(
                    "the reference is the longer of the authorizer's {asked:.2} s and the floor's {:.2} s",
                    median(rounds.iter().map(|(floor, _)| seconds(floor)))
                ),
                failed: None,
                samples: rounds
                    .iter()
                    .map(|(floor, wsify)| json!({ "floor": floor.said, "wsify": wsify.said }))
                    .collect(),
            };
            let trip = Row {
                name: trip.to_owned(),
                unit: "ms",
                floor: None,
                wsify: median(rounds.iter().map(|(_, wsify)| p99(wsify))),
                ratio: None,
                target: Target::FigureAtMost(5.0),
                pauses: Some(pause),
                ..row_like(&row)
            };
            vec![row, trip]
        }
    };
    rows.iter().for_each(|row| bench.progress.done(row));
    rows
}

/// `18000` as `18,000`.
pub fn thousands(number: usize) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}
