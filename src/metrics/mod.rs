//! Counters, histograms and gauges of one process (`docs/observing.md#metrics`).
//!
//! Owns: what is counted, by plain fields. Never knows: which code counts, or where a gauge's value comes from.
//!
//! Decisions
//! - Plain fields of the one thread that counts rather than atomics and a registry: `metrics.deliveries += n` is all it
//!   costs. What other threads count comes as a gauge when the text is made.
//! - A family with labels is a short list searched from its front rather than an enum of labels here. The labels are
//!   texts that the caller has anyway (a command's name, an error's code, an ending's label). Frequent ones stand in
//!   front. Reconsider when a list has over twenty entries.
//! - Families whose labels are known beforehand start with them at zero, since a rate over a series that begins at 1
//!   misses the first event.
//! - `process_*` keep the names that every Prometheus client gives them, so that dashboards find them.
//! - The longest turn is that of the last minute or two rather than one since the start, because an early stall would
//!   hide all later ones.

mod families;
mod family;
mod instruments;
mod process_families;
mod render;
mod samples;
mod saved;

use std::rc::Rc;
use std::time::{Duration, SystemTime};

pub use self::family::{Family, Kind};
pub use self::instruments::{Counters, Histogram, Longest};
pub use self::render::all_families;
pub use self::saved::SavedMetrics;

/// The `Content-Type` of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters, each since the start of the process.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    /// Accepted connections.
    pub connections: u64,
    /// Upgrade requests by how they were answered.
    pub handshakes: Counters<&'static str>,
    /// Events for the receiver, by kind.
    pub events: Counters<&'static str>,
    /// Events for the receiver that were dropped.
    pub events_dropped: u64,
    /// Calls to the receiver of events, by outcome.
    pub event_calls: Counters<&'static str>,
    /// Handovers to another program, by outcome.
    pub handovers: Counters<&'static str>,
    /// Clients' commands by name and outcome: `ok`, or the error's code.
    pub commands: Counters<[&'static str; 2]>,
    /// Memberships that backends have begun or ended.
    pub backend_memberships: Counters<&'static str>,
    /// HTTP answers by endpoint and status; a `101` is not such an answer.
    pub answers: Counters<(&'static str, u16)>,
    /// Pieces of content handed to the fan-out, one for each broadcast to a channel with members here.
    pub fanouts: u64,
    /// Pieces of content handed to members: a broadcast to N members is N.
    pub deliveries: u64,
    /// Read from clients and backends, in bytes.
    pub received: u64,
    /// Messages that the broker brought, by outcome.
    pub broker_messages: Counters<&'static str>,
    /// Channels whose members here were told that they may have missed messages. What goes to users and connections counts as
    /// one channel.
    pub broker_gaps: u64,
    /// Messages of nodes that were dropped, by the reason's label.
    pub broker_hostile: Counters<&'static str>,
    /// Ended connections by the reason's label.
    pub endings: Counters<&'static str>,
    /// Questions by command.
    pub questions: Counters<&'static str>,
    /// Commands that needed no question, by the field that has answered them.
    pub unasked: Counters<&'static str>,
    /// Verdicts by name.
    pub verdicts: Counters<&'static str>,
    /// The authorizer's answers by [`answer_class`].
    pub authorizer_answers: Counters<&'static str>,
    /// Questions that failed, by kind.
    pub authorizer_failures: Counters<&'static str>,
    /// From a question's arrival in the queue to its verdict.
    pub verdict_time: Histogram,
    /// Questions in each call of the authorizer.
    pub batch_size: Histogram<u64>,
    /// From the turn in which a batch was begun to the end of that in which the last member had it.
    pub fanout_time: Histogram,
    /// Turns of the loop, without the time in which it slept.
    pub turn_time: Histogram,
    pub longest_turn: Longest,
}

/// What became of compressing contents and inflating messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressionCounts {
    /// Contents that were compressed.
    pub deflated: u64,
    /// Contents that would not have become smaller.
    pub not_smaller: u64,
    /// Contents that were too small to try.
    pub too_small: u64,
    /// Bytes of compressed contents, before compression.
    pub before_deflate: u64,
    /// Bytes of compressed contents, after compression.
    pub after_deflate: u64,
    /// Time spent on compression, also on contents that did not become smaller.
    pub deflate_time: Duration,
    /// Messages that were inflated.
    pub inflated: u64,
    /// Bytes of compressed messages, as they were received.
    pub before_inflate: u64,
    /// Bytes of the same messages, inflated.
    pub after_inflate: u64,
    /// Time spent on inflating, also on messages that were refused.
    pub inflate_time: Duration,
}

/// Values at the time when the text is made: gauges, and what is counted where it happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Written to clients and backends, in bytes.
    pub sent: u64,
    pub compression: CompressionCounts,
    /// Connections that have been upgraded.
    pub websockets: u64,
    /// All other connections.
    pub http_connections: u64,
    /// Channels with a member here.
    pub channels: u64,
    /// Members of all channels, a connection counting once for each that it is in.
    pub memberships: u64,
    /// Bytes that wait to be sent, of all connections together; what many of them share counts for each.
    pub queued_bytes: u64,
    /// Connections whose other side has to read before more can be sent.
    pub laggards: u64,
    /// Open taps.
    pub taps: u64,
    /// Lines dropped because a tap was too slow.
    pub lost_tap_lines: u64,
    /// Questions that a worker is asking.
    pub questions_in_flight: u64,
    /// Questions that wait for a worker.
    pub questions_waiting: u64,
    /// Events that wait for their receiver, or are under way to it.
    pub events_waiting: u64,
    /// The age of the oldest of them.
    pub events_lag: Duration,
    pub authorizer_up: bool,
    /// Questions that are held.
    pub questions_held: u64,
    pub broker_up: bool,
    /// Times that the broker was lost and found again.
    pub broker_reconnections: u64,
    pub broker_shards: Vec<ShardGauge>,
    /// Nodes that share the broker, this one included.
    pub broker_nodes: u64,
    /// Log lines dropped because stdout was blocked.
    pub dropped_log_lines: u64,
    pub longest_turn: Duration,
    pub process: Process,
}

/// What is known of a shard of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardGauge {
    /// The shard's address.
    pub name: Rc<str>,
    /// Whether both links to it are there. `None`: it is no longer a shard.
    pub up: Option<bool>,
    /// Times that it was lost and found again.
    pub reconnections: u64,
    /// Channels of the shard whose members were told of a gap; part of [`Metrics::broker_gaps`].
    pub gaps: u64,
}

/// What the kernel reports of this process. Unknown values are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time in user and system mode, since the start.
    pub cpu: Option<Duration>,
    /// Bytes.
    pub resident_memory: Option<u64>,
    /// Bytes.
    pub virtual_memory: Option<u64>,
    pub threads: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
}

impl Metrics {
    /// All at zero, for a process that began at `started`.
    pub fn new(started: SystemTime) -> Metrics {
        let command = |name| move |outcome| [name, outcome];
        let outcomes = [
            "ok",
            "not_authorized",
            "bad_channel",
            "unavailable",
            "authorizer_down",
        ];
        let commands = ["broadcast", "join", "leave"].map(|name| outcomes.map(command(name)));
        Metrics {
            started,
            connections: 0,
            handshakes: Counters::of(&[
                "accepted",
                "denied",
                "authorizer_down",
                "full",
                "too_many_connections",
                "draining",
                "malformed",
                "origin",
                "disconnected",
            ]),
            events: Counters::of(&["disconnected", "connected", "occupied", "vacated"]),
            events_dropped: 0,
            event_calls: Counters::of(&["taken", "failed", "too_large"]),
            handovers: Counters::of(&["done", "given_up", "undone"]),
            commands: Counters::of(commands.as_flattened()),
            backend_memberships: Counters::of(&["join", "leave"]),
            answers: Counters::of(&[("broadcast", 201)]),
            fanouts: 0,
            deliveries: 0,
            received: 0,
            broker_messages: Counters::of(&["delivered", "nodes", "not_json", "unknown"]),
            broker_gaps: 0,
            broker_hostile: Counters::of(&[]),
            endings: Counters::of(&[]),
            questions: Counters::of(&["broadcast", "join", "connect", "leave", "refresh"]),
            unasked: Counters::of(&["allow", "max_age"]),
            verdicts: Counters::of(&["allow", "deny", "unavailable"]),
            authorizer_answers: Counters::of(&ANSWER_CLASSES),
            authorizer_failures: Counters::of(&FAILURES),
            verdict_time: Histogram::new(VERDICT_TIMES),
            batch_size: Histogram::new(BATCH_SIZES),
            fanout_time: Histogram::new(FANOUT_TIMES),
            turn_time: Histogram::new(TURN_TIMES),
            longest_turn: Longest::default(),
        }
    }

    /// Counts content handed to a member.
    pub fn delivered(&mut self, contents: u32) {
        self.deliveries = self.deliveries.saturating_add(u64::from(contents));
    }
}

/// How a question may fail; `refused` is not put, as the authorizer is down.
const FAILURES: [&str; 5] = ["5xx", "no_answer", "bad_answer", "not_put", "refused"];

/// What [`answer_class`] may be, the frequent ones in front.
const ANSWER_CLASSES: [&str; 8] = ["200", "4xx", "5xx", "none", "2xx", "3xx", "1xx", "other"];

/// The class of an authorizer's answer. `200` is one by itself, as no other status is a yes; a status above 599 is `other`.
pub fn answer_class(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(200) => "200",
        Some(100..=199) => "1xx",
        Some(201..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        Some(_) => "other",
    }
}

/// The authorizer's time: around what a webhook takes (1 to 100 ms), up to its default timeout of 5 s and beyond.
const VERDICT_TIMES: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// A fan-out's time: one turn for a small channel, seconds for a large one.
const FANOUT_TIMES: &[Duration] = &[
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

/// A turn's time: from tens of microseconds to delays that clients notice.
const TURN_TIMES: &[Duration] = &[
    Duration::from_micros(10),
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// Questions in a call of the authorizer, up to what `--authorizer-batch` allows.
const BATCH_SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000];

#[cfg(test)]
mod tests;
