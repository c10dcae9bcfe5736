//! Compression (M14): one deflate for each broadcast, and no more CPU beside it than the bytes that are sent take.
//!
//! Owns: its rows. The reference is wsify itself without compression, once with content of as many bytes as the
//! compressed one has, and once with the same content.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use super::measure::{Bench, Paired, Program, Round, Taken, control, median, medians};
use super::metrics::{QUIET, row_like, samples};
use super::report::{Row, Target};
use super::wire;

const COMPRESSING: &[&str] = &[
    "--ping-interval",
    "0",
    "--compression",
    "on",
    "--compression-min-size",
    "1",
];

/// The rows of the group.
pub fn rows(bench: &mut Bench) -> Vec<Row> {
    let mut rows = same_bytes(bench);
    for (size, shown) in [(200, "200 B"), (2048, "2 KiB"), (16_384, "16 KiB")] {
        for (members, to) in [(1, "1"), (10, "10"), (1000, "1,000")] {
            rows.push(same_content(bench, size, shown, members, to));
        }
    }
    rows
}

/// What a server without compression does: it makes no difference what the client of the floor is.
const REFERENCE: Program = Program::Wsify(QUIET, "fanout");

/// Deflates for each broadcast, and a fan-out beside a plain one of as many bytes.
fn same_bytes(bench: &mut Bench) -> Vec<Row> {
    let deflates = "deflates per broadcast of 2 KiB to 1,000";
    let fanout = "fan-out to 1,000, 2 KiB compressed, beside as many plain bytes and one deflate";
    bench.progress.row(format!("M14 {deflates}"));
    let client = "fanout members=1000 size=2048 objects=true compressed=true";
    let once = Target::FigureAtMost(1.0);
    let target = Target::AtLeast(1.0 / 1.03);
    let measured = count(bench, client).and_then(|counted| {
        let squeezed = compressed_size(2048);
        let reference = format!("fanout members=1000 size={squeezed} objects=true");
        let mut rounds = bench.paired_with(
            REFERENCE,
            &Paired {
                floor: "fanout",
                flags: COMPRESSING,
                client,
                reference_client: Some(&reference),
                millis: 1000,
                fresh: false,
            },
        )?;
        for floor in rounds.iter_mut().flat_map(|round| &mut round.floors) {
            floor.ns_per_unit += deflate_ns(2048) / 1000.0;
        }
        Ok((counted, rounds, squeezed))
    });
    let rows = match measured {
        Err(error) => vec![
            Row::failed("M14", deflates, once, &error),
            Row::failed("M14", fanout, target, &error),
        ],
        Ok((counted, rounds, squeezed)) => {
            let cpu = cpu_row(fanout, target, &rounds);
            let note = format!("{squeezed} bytes instead of 2,048");
            let each = Row {
                name: deflates.to_owned(),
                unit: "",
                floor: None,
                wsify: counted.deflates,
                ratio: None,
                target: once,
                control: None,
                pauses: None,
                client_busy: None,
                note: format!(
                    "{:.1} us each, other programs included; {:.1} us alone",
                    counted.ns_per_deflate / 1000.0,
                    deflate_ns(2048) / 1000.0
                ),
                samples: counted.said,
                ..row_like(&cpu)
            };
            vec![each, Row { note, ..cpu }]
        }
    };
    rows.iter().for_each(|row| bench.progress.done(row));
    rows
}

/// The CPU of one broadcast, compressed and plain. It has no target: it says when compression pays.
fn same_content(bench: &mut Bench, size: usize, shown: &str, members: usize, to: &str) -> Row {
    let name = format!("one broadcast of {shown} to {to}, compressed beside plain");
    bench.progress.row(format!("M14 {name}"));
    let plain = format!("fanout members={members} size={size} objects=true");
    let rounds = bench.paired_with(
        REFERENCE,
        &Paired {
            floor: "fanout",
            flags: COMPRESSING,
            client: &format!("{plain} compressed=true"),
            reference_client: Some(&plain),
            millis: 300,
            fresh: false,
        },
    );
    let target = Target::AtLeast(0.0);
    let row = match rounds {
        Err(error) => Row::failed("M14", &name, target, &error),
        Ok(mut rounds) => {
            for round in &mut rounds {
                let [first, second] = &mut round.floors;
                for taken in [first, second, &mut round.wsify] {
                    taken.ns_per_unit *= members as f64;
                }
            }
            Row {
                note: format!("{} bytes instead of {size}", compressed_size(size)),
                ..cpu_row(&name, target, &rounds)
            }
        }
    };
    bench.progress.done(&row);
    row
}

fn cpu_row(name: &str, target: Target, rounds: &[Round]) -> Row {
    let micros = |taken: &Taken| taken.ns_per_unit / 1000.0;
    let [floor, wsify, ratio] = medians(rounds, micros);
    Row {
        metric: "M14",
        name: name.to_owned(),
        unit: "us",
        floor: Some(floor),
        wsify,
        ratio: Some(ratio),
        target,
        control: control(rounds, micros),
        pauses: None,
        client_busy: Some(median(rounds.iter().map(|it| it.wsify.client_busy))),
        note: String::new(),
        failed: None,
        samples: samples(rounds),
    }
}

/// What one deflate of content of this size takes when the caches hold other things, as after a fan-out: the median.
fn deflate_ns(size: usize) -> f64 {
    let mut squeezer = wire::Squeezer::default();
    let mut frame = Vec::new();
    let mut others = vec![0_u8; 8 << 20];
    median((0..200).map(|sequence| {
        let content = wire::objects(0, sequence, size);
        frame.clear();
        for line in others.chunks_mut(64) {
            line[0] = line[0].wrapping_add(1);
        }
        let begun = Instant::now();
        squeezer.frame(&content, &mut frame);
        begun.elapsed().as_nanos() as f64
    }))
}

/// How large contents of this size are when they are compressed: the mean.
fn compressed_size(size: usize) -> usize {
    let mut frames = Vec::new();
    let mut squeezer = wire::Squeezer::default();
    for sequence in 0..100 {
        squeezer.frame(&wire::objects(0, sequence, size), &mut frames);
    }
    frames.len() / 100 - 4
}

struct Counted {
    /// For each broadcast.
    deflates: f64,
    ns_per_deflate: f64,
    said: Value,
}

/// Counts the deflates of a sample.
fn count(bench: &mut Bench, client: &str) -> io::Result<Counted> {
    let mut contender = bench.contend(Program::Wsify(COMPRESSING, "fanout"), client)?;
    if bench.self_check {
        return Err(io::Error::other("a floor has no metrics"));
    }
    contender.client.sample(150)?;
    let mut total = [0.0; 3];
    for sign in [-1.0, 1.0] {
        let text = metrics(contender.server.port)?;
        for (sum, name) in total.iter_mut().zip([
            "wsify_fanouts_total",
            "wsify_compression_contents_total{outcome=\"compressed\"}",
            "wsify_compression_seconds_total{operation=\"deflate\"}",
        ]) {
            *sum += sign * value(&text, name)?;
        }
        if sign < 0.0 {
            contender.client.sample(1000)?;
        }
    }
    let [broadcasts, deflates, seconds] = total;
    Ok(Counted {
        deflates: deflates / broadcasts,
        ns_per_deflate: seconds * 1e9 / deflates,
        said: json!({ "broadcasts": broadcasts, "deflates": deflates, "seconds": seconds }),
    })
}

/// The text of `/metrics`.
fn metrics(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn value(text: &str, name: &str) -> io::Result<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {name} in the metrics")))
}
