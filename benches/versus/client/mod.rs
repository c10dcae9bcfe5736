//! The load client: one process, one thread, one epoll, up to 19,000 connections, driven by the runner.
//!
//! Owns: the conversation with the runner. The client opens what its scenario needs and says `{"ready":true}`; then each
//! number on stdin is a sample to run, answered by one line of JSON. The end of stdin ends it.
//! Knows the benches' wire. Never knows whether the server is a floor or wsify.
//!
//! It checks count, order and content of everything: what a member hears must be, byte for byte, the stream of frames it
//! ought to hear. Comparing costs less than parsing, and forgives nothing. The first difference ends the sample.

mod fanout;
mod heartbeat;
mod idle;
mod life;
mod net;
mod open;
mod post;
mod probes;
mod requests;
mod rush;

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde_json::json;

/// What a sample came to.
#[derive(Default)]
pub struct Sample {
    /// Deliveries, commands, lives, requests or pings, all checked.
    pub units: u64,
    pub elapsed: Duration,
    /// How long each broadcast took, from its write to the last member's read, in microseconds.
    pub broadcasts: Vec<u32>,
    /// Round trips of the probes, in microseconds.
    pub round_trips: Vec<u32>,
}

/// `key=value` arguments.
pub struct Args(HashMap<String, String>);

enum Scenario {
    Fanout(fanout::Fanout),
    Heartbeat(heartbeat::Heartbeat),
    Idle(idle::Idle),
    Life(life::Life),
    Post(post::Post),
    Requests(requests::Requests),
    Rush(rush::Rush),
}

/// Runs the scenario `args[0]` with the `key=value`s behind it.
pub fn run(args: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut scenario = match open(args) {
        Ok(scenario) => scenario,
        Err(error) => {
            writeln!(out, "{}", json!({ "error": error.to_string() }))?;
            return Ok(());
        }
    };
    writeln!(out, "{}", json!({ "ready": true }))?;
    for line in io::stdin().lines() {
        let number = line?.trim().parse().map_err(io::Error::other)?;
        let answer = match scenario.sample(number) {
            Ok(sample) => sample.to_json(),
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

fn open(args: &[String]) -> io::Result<Scenario> {
    let (name, rest) = args
        .split_first()
        .ok_or_else(|| io::Error::other("no scenario named"))?;
    let args = Args(
        rest.iter()
            .filter_map(|arg| arg.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    );
    Ok(match name.as_str() {
        "fanout" => Scenario::Fanout(fanout::Fanout::open(&args)?),
        "heartbeat" => Scenario::Heartbeat(heartbeat::Heartbeat::open(&args)?),
        "idle" => Scenario::Idle(idle::Idle::open(&args)?),
        "life" => Scenario::Life(life::Life::open(&args)?),
        "post" => Scenario::Post(post::Post::open(&args)?),
        "requests" => Scenario::Requests(requests::Requests::open(&args)?),
        "rush" => Scenario::Rush(rush::Rush::open(&args)?),
        other => return Err(io::Error::other(format!("no scenario is called {other:?}"))),
    })
}

impl Scenario {
    /// One sample: of this many milliseconds, or (idle) of this many connections.
    fn sample(&mut self, number: u64) -> io::Result<Sample> {
        let time = Duration::from_millis(number);
        match self {
            Self::Fanout(it) => it.sample(time),
            Self::Heartbeat(it) => it.sample(time),
            Self::Idle(it) => it.sample(number as usize),
            Self::Life(it) => it.sample(time),
            Self::Post(it) => it.sample(time),
            Self::Requests(it) => it.sample(time),
            Self::Rush(it) => it.sample(),
        }
    }
}

impl Args {
    /// The value, or what stands for it when it is not given.
    pub fn get<T: FromStr>(&self, name: &str, otherwise: T) -> io::Result<T> {
        match self.0.get(name) {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .map_err(|_| io::Error::other(format!("{name}={text} makes no sense"))),
        }
    }

    pub fn addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], self.get("port", 0)?)))
    }
}

impl Sample {
    fn to_json(&self) -> serde_json::Value {
        json!({
            "units": self.units,
            "ns": self.elapsed.as_nanos() as u64,
            "broadcast_us": percentile(&self.broadcasts, 0.5),
            "round_trips": self.round_trips.len(),
            "p50_us": percentile(&self.round_trips, 0.5),
            "p99_us": percentile(&self.round_trips, 0.99),
            "p999_us": percentile(&self.round_trips, 0.999),
        })
    }
}

fn percentile(values: &[u32], part: f64) -> Option<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * part).ceil() as usize).copied()
}

/// Microseconds since then.
fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}
