//! What is counted, and its Prometheus text (CONTRACT §3, `GET /metrics`).
//!
//! Owns: counters and histograms, and every metric's name, unit and help. Knows: the text format, version 0.0.4.
//! Never knows: who counts, or how a gauge came to its value.
//!
//! Decisions
//! - Plain fields of the one thread that counts, over atomics and a registry: `metrics.deliveries += n` is all it
//!   costs. What other threads count comes as a gauge when the text is made.
//! - A family with labels is a short list searched from its front, over an enum of labels here: the words are those
//!   that the caller has at hand anyway (a command's name, an error's code, an ending's label), and the frequent ones
//!   stand in front. Reconsider when a list outgrows some twenty entries.
//! - Families whose labels are known beforehand start with them at zero, since a rate over a series that begins at 1
//!   misses the first event.
//! - `process_*` keep the names that every Prometheus client gives them, so that dashboards find them.
//! - The longest turn is that of the last minute or two, over one since the start: a stall at three in the morning would
//!   hide all that came after it.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// The `Content-Type` of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters, each since the start of the process.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    /// Connections accepted, whatever became of them.
    pub connections: u64,
    /// Upgrade requests by how they were answered.
    pub handshakes: Tally<&'static str>,
    /// Clients' commands by name and outcome: `ok`, or the error's code.
    pub commands: Tally<[&'static str; 2]>,
    /// HTTP answers by endpoint and status; a `101` is no such answer.
    pub answers: Tally<(&'static str, u16)>,
    /// Contents handed to the fan-out, one for each broadcast to a channel with members here.
    pub fanouts: u64,
    /// Contents handed to members: a broadcast to N members is N.
    pub deliveries: u64,
    /// Read from clients and backends, in bytes.
    pub received: u64,
    /// Written to clients and backends, in bytes.
    pub sent: u64,
    /// Messages that the broker brought, by what became of them.
    pub broker_messages: Tally<&'static str>,
    /// Ended connections by the reason's label.
    pub endings: Tally<&'static str>,
    /// Verdicts by name.
    pub verdicts: Tally<&'static str>,
    /// The authorizer's answers by [`answer_class`].
    pub authorizer_answers: Tally<&'static str>,
    /// From a question's arrival in the queue to its verdict.
    pub verdict_time: Histogram,
    /// From the turn in which a batch was begun to the end of that in which the last member had it.
    pub fanout_time: Histogram,
    /// Turns of the loop, without the time in which it slept.
    pub turn_time: Histogram,
    pub longest_turn: Longest,
}

/// What is so at the moment of asking.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
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
    /// Those who look on.
    pub taps: u64,
    /// Lines that they could not take.
    pub lost_tap_lines: u64,
    /// Questions that a worker is asking.
    pub questions_in_flight: u64,
    /// Questions that wait for a worker.
    pub questions_waiting: u64,
    pub broker_up: bool,
    /// Times that the broker was lost and found again.
    pub broker_reconnections: u64,
    /// Lines that the log could not be rid of.
    pub dropped_log_lines: u64,
    pub longest_turn: Duration,
    pub process: Process,
}

/// What the kernel says of this process. What it does not say is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// In user and system mode, since the start.
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
        let outcomes = ["ok", "not_authorized", "bad_channel", "unavailable"];
        let commands = ["broadcast", "join", "leave"].map(|name| outcomes.map(command(name)));
        Metrics {
            started,
            connections: 0,
            handshakes: Tally::of(&[
                "accepted",
                "denied",
                "authorizer_down",
                "full",
                "too_many_connections",
                "draining",
                "malformed",
                "origin",
            ]),
            commands: Tally::of(commands.as_flattened()),
            answers: Tally::of(&[("broadcast", 201)]),
            fanouts: 0,
            deliveries: 0,
            received: 0,
            sent: 0,
            broker_messages: Tally::of(&["delivered", "not_json", "unknown"]),
            endings: Tally::of(&[]),
            verdicts: Tally::of(&["allow", "deny", "unavailable"]),
            authorizer_answers: Tally::of(&ANSWER_CLASSES),
            verdict_time: Histogram::new(VERDICT_TIMES),
            fanout_time: Histogram::new(FANOUT_TIMES),
            turn_time: Histogram::new(TURN_TIMES),
            longest_turn: Longest::default(),
        }
    }

    /// So many contents were handed to a member.
    pub fn delivered(&mut self, contents: u32) {
        self.deliveries = self.deliveries.saturating_add(u64::from(contents));
    }

    /// Appends all metrics to `out`, in the Prometheus text format.
    pub fn render(&self, now: &Gauges, out: &mut String) {
        let mut text = Text(std::mem::take(out));
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.family("wsify_build_info", "gauge", "What runs here.");
        text.sample("wsify_build_info", &version, 1);
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        text.gauge(
            "process_start_time_seconds",
            "When the process began, since 1970.",
            started.unwrap_or_default().as_secs_f64(),
        );
        text.process(&now.process);

        let name = "wsify_connections";
        text.family(name, "gauge", "Connections now, by what they are.");
        text.sample(name, &[("kind", "websocket")], now.websockets);
        text.sample(name, &[("kind", "http")], now.http_connections);
        text.counter(
            "wsify_connections_accepted_total",
            "Connections accepted.",
            self.connections,
        );
        let name = "wsify_connections_ended_total";
        text.family(name, "counter", "Connections ended, by reason.");
        for (reason, count) in self.endings.iter() {
            text.sample(name, &[("reason", reason)], count);
        }
        let name = "wsify_handshakes_total";
        text.family(name, "counter", "Upgrade requests, by their answer.");
        for (outcome, count) in self.handshakes.iter() {
            text.sample(name, &[("outcome", outcome)], count);
        }
        let name = "wsify_http_responses_total";
        text.family(
            name,
            "counter",
            "Answers to requests, by endpoint and status, but for 101.",
        );
        for ((endpoint, status), count) in self.answers.iter() {
            let labels = [("endpoint", endpoint), ("status", &status.to_string())];
            text.sample(name, &labels, count);
        }
        text.counter(
            "wsify_received_bytes_total",
            "Bytes read from clients and backends.",
            self.received,
        );
        text.counter(
            "wsify_sent_bytes_total",
            "Bytes written to clients and backends.",
            self.sent,
        );

        let name = "wsify_commands_total";
        text.family(
            name,
            "counter",
            "Clients' commands, by name and outcome: ok or the error's code.",
        );
        for ([command, outcome], count) in self.commands.iter() {
            let labels = [("command", command), ("outcome", outcome)];
            text.sample(name, &labels, count);
        }
        text.gauge(
            "wsify_channels",
            "Channels with a member here.",
            now.channels,
        );
        text.gauge(
            "wsify_memberships",
            "Members of all channels; a connection counts once for each.",
            now.memberships,
        );
        text.counter(
            "wsify_fanouts_total",
            "Contents published, by clients and backends.",
            self.fanouts,
        );
        text.counter(
            "wsify_deliveries_total",
            "Contents handed to members: a broadcast to N members counts N.",
            self.deliveries,
        );
        text.histogram(
            "wsify_fanout_duration_seconds",
            "From publishing to the turn in which the last member's send was made, by batch.",
            &self.fanout_time,
        );
        text.gauge(
            "wsify_queued_bytes",
            "Bytes that wait to be sent, of all connections together.",
            now.queued_bytes,
        );
        text.gauge(
            "wsify_laggards",
            "Connections whose other side has to read before more can be sent.",
            now.laggards,
        );

        let name = "wsify_authorizer_verdicts_total";
        text.family(name, "counter", "Answers of the authorizer, by verdict.");
        for (verdict, count) in self.verdicts.iter() {
            text.sample(name, &[("verdict", verdict)], count);
        }
        let name = "wsify_authorizer_answers_total";
        text.family(
            name,
            "counter",
            "Answers of the authorizer, by status: 200, or the class of any other; none is no answer.",
        );
        for (class, count) in self.authorizer_answers.iter() {
            text.sample(name, &[("class", class)], count);
        }
        text.histogram(
            "wsify_authorizer_duration_seconds",
            "From a question's arrival in the queue to its verdict.",
            &self.verdict_time,
        );
        text.gauge(
            "wsify_authorizer_calls_in_flight",
            "Questions being asked.",
            now.questions_in_flight,
        );
        text.gauge(
            "wsify_authorizer_questions_waiting",
            "Questions that wait for a worker.",
            now.questions_waiting,
        );

        text.gauge(
            "wsify_broker_up",
            "Whether the broker can be reached: 1 or 0.",
            u8::from(now.broker_up),
        );
        text.counter(
            "wsify_broker_reconnections_total",
            "Times that the broker was lost and found again.",
            now.broker_reconnections,
        );
        let name = "wsify_broker_messages_total";
        text.family(
            name,
            "counter",
            "Messages that the broker brought, by what became of them.",
        );
        for (outcome, count) in self.broker_messages.iter() {
            text.sample(name, &[("outcome", outcome)], count);
        }
        text.gauge("wsify_taps", "Those who look on at /tap.", now.taps);
        text.counter(
            "wsify_tap_lines_lost_total",
            "Lines lost because those who look on could not take them.",
            now.lost_tap_lines,
        );
        text.histogram(
            "wsify_loop_turn_duration_seconds",
            "Turns of the loop, without the time in which it slept.",
            &self.turn_time,
        );
        text.gauge(
            "wsify_loop_turn_longest_seconds",
            "The longest turn of the last one to two minutes.",
            now.longest_turn.as_secs_f64(),
        );
        text.counter(
            "wsify_log_lines_dropped_total",
            "Log lines lost because nobody read them in time.",
            now.dropped_log_lines,
        );
        *out = text.0;
    }
}

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

/// A family of counters, told apart by a key.
#[derive(Debug)]
pub struct Tally<K>(Vec<(K, u64)>);

impl<K: Copy + PartialEq> Tally<K> {
    /// Counters of zero for `keys`, which are found the faster the further in front they stand.
    fn of(keys: &[K]) -> Tally<K> {
        Tally(keys.iter().map(|&key| (key, 0)).collect())
    }

    /// Begins at zero for `keys` that are not there.
    pub fn know(&mut self, keys: &[K]) {
        for &key in keys {
            if !self.0.iter().any(|(known, _)| *known == key) {
                self.0.push((key, 0));
            }
        }
    }

    /// Counts one more. A key that was not there begins at zero. Keys must be few: none may come from a client.
    pub fn add(&mut self, key: K) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => self.0.push((key, 1)),
        }
    }

    /// The count of `key`.
    pub fn get(&self, key: K) -> u64 {
        self.iter()
            .find(|(known, _)| *known == key)
            .map_or(0, |(_, count)| count)
    }

    fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.0.iter().copied()
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

/// A fan-out's time: of one turn for a room, seconds for a hall.
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

/// A turn's time: tens of microseconds, up to what others would notice.
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

/// The longest of the last minute or two: of this minute and the one before it.
#[derive(Debug, Default)]
pub struct Longest {
    minute: u64,
    this: Duration,
    last: Duration,
}

impl Longest {
    /// `now` is on any clock that began with the process.
    pub fn observe(&mut self, now: Duration, duration: Duration) {
        let minute = now.as_secs() / 60;
        if minute != self.minute {
            self.last = match minute.saturating_sub(self.minute) {
                1 => self.this,
                _ => Duration::ZERO,
            };
            (self.minute, self.this) = (minute, Duration::ZERO);
        }
        self.this = self.this.max(duration);
    }

    /// As it is seen at `now`.
    pub fn at(&self, now: Duration) -> Duration {
        match (now.as_secs() / 60).saturating_sub(self.minute) {
            0 => self.this.max(self.last),
            1 => self.this,
            _ => Duration::ZERO,
        }
    }
}

/// Durations, counted by the first bound that they do not exceed.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for what exceeds them all.
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    /// `bounds` ascend.
    fn new(bounds: &'static [Duration]) -> Histogram {
        Histogram {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: Duration::ZERO,
        }
    }

    pub fn observe(&mut self, duration: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < duration);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(duration);
    }

    /// Durations observed.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// The text format, as it grows.
struct Text(String);

// Writing to a String cannot fail.
impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (nth, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if nth == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str(r"\\"),
                    '"' => self.0.push_str(r#"\""#),
                    '\n' => self.0.push_str(r"\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn process(&mut self, process: &Process) {
        if let Some(cpu) = process.cpu {
            self.family(
                "process_cpu_seconds_total",
                "counter",
                "CPU time used, in user and system mode.",
            );
            self.sample("process_cpu_seconds_total", &[], cpu.as_secs_f64());
        }
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory in RAM.",
                process.resident_memory,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space.",
                process.virtual_memory,
            ),
            ("process_threads", "Threads.", process.threads),
            (
                "process_open_fds",
                "Open file descriptors.",
                process.open_fds,
            ),
            (
                "process_max_fds",
                "File descriptors that may be open.",
                process.max_fds,
            ),
        ] {
            if let Some(value) = value {
                self.gauge(name, help, value);
            }
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bounds = histogram.bounds.iter().map(|b| b.as_secs_f64().to_string());
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        for (bound, count) in bounds.zip(&histogram.counts) {
            total += count;
            self.sample(&bucket, &[("le", &bound)], total);
        }
        self.sample(&format!("{name}_sum"), &[], histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    const GAUGES: Gauges = Gauges {
        websockets: 3,
        http_connections: 2,
        channels: 5,
        memberships: 8,
        queued_bytes: 9,
        laggards: 10,
        taps: 2,
        lost_tap_lines: 16,
        questions_in_flight: 1,
        questions_waiting: 4,
        broker_up: true,
        broker_reconnections: 6,
        dropped_log_lines: 7,
        longest_turn: Duration::from_millis(11),
        process: Process {
            cpu: Some(Duration::from_millis(1_250)),
            resident_memory: Some(12),
            virtual_memory: Some(13),
            threads: Some(14),
            open_fds: None,
            max_fds: Some(15),
        },
    };

    /// Every sample of a text that keeps the format's rules, by name with labels. Panics where it does not.
    fn parsed(text: &str) -> HashMap<String, f64> {
        let mut families: HashMap<&str, &str> = HashMap::new();
        let mut current = "";
        let mut helped = "";
        let mut samples = HashMap::new();
        assert!(text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect(line);
                assert!(!help.is_empty() && !help.contains('\\'), "{line}");
                helped = name;
            } else if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').expect(line);
                assert_eq!(name, helped, "TYPE without its HELP");
                assert!(families.insert(name, kind).is_none(), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                current = name;
            } else {
                let (name, value) = line.rsplit_once(' ').expect(line);
                let bare = name.split('{').next().unwrap();
                let family = match families[current] {
                    "histogram" => ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|suffix| bare.strip_suffix(suffix))
                        .expect(line),
                    _ => bare,
                };
                assert_eq!(family, current, "a sample outside its family: {line}");
                assert!(bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                labels(&name[bare.len()..]);
                let value: f64 = value.parse().expect(line);
                assert!(value.is_finite() && value >= 0.0, "{line}");
                assert!(samples.insert(name.to_owned(), value).is_none(), "{line}");
            }
        }
        samples
    }

    /// `{name="text",...}` or nothing, every name once.
    fn labels(text: &str) -> HashMap<String, String> {
        let mut found = HashMap::new();
        if text.is_empty() {
            return found;
        }
        let mut rest = text.strip_prefix('{').expect(text);
        loop {
            let (name, quoted) = rest.split_once("=\"").expect(text);
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            let mut chars = quoted.chars();
            let mut value = String::new();
            loop {
                match chars.next().expect(text) {
                    '"' => break,
                    '\\' => value.push(match chars.next().expect(text) {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("escaped {c} in {text}"),
                    }),
                    c => value.push(c),
                }
            }
            assert!(found.insert(name.to_owned(), value).is_none(), "{text}");
            rest = match chars.next() {
                Some(',') => chars.as_str(),
                Some('}') if chars.as_str().is_empty() => return found,
                _ => panic!("{text}"),
            };
        }
    }

    fn rendered(metrics: &Metrics) -> HashMap<String, f64> {
        let mut out = "# earlier text stays\n".to_owned();
        metrics.render(&GAUGES, &mut out);
        parsed(out.strip_prefix("# earlier text stays\n").unwrap())
    }

    #[test]
    fn a_new_process_shows_every_known_series_at_zero() {
        let started = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let samples = rendered(&Metrics::new(started));
        let set = HashSet::from(
            [
                ("process_start_time_seconds", 1.5),
                ("wsify_connections{kind=\"websocket\"}", 3.0),
                ("wsify_connections{kind=\"http\"}", 2.0),
                ("wsify_channels", 5.0),
                ("wsify_memberships", 8.0),
                ("wsify_authorizer_calls_in_flight", 1.0),
                ("wsify_authorizer_questions_waiting", 4.0),
                ("wsify_broker_up", 1.0),
                ("wsify_log_lines_dropped_total", 7.0),
                ("wsify_queued_bytes", 9.0),
                ("wsify_laggards", 10.0),
                ("wsify_taps", 2.0),
                ("wsify_tap_lines_lost_total", 16.0),
                ("wsify_broker_reconnections_total", 6.0),
                ("wsify_loop_turn_longest_seconds", 0.011),
                ("process_cpu_seconds_total", 1.25),
                ("process_resident_memory_bytes", 12.0),
                ("process_virtual_memory_bytes", 13.0),
                ("process_threads", 14.0),
                ("process_max_fds", 15.0),
            ]
            .map(|(name, value)| (name, value.to_string())),
        );
        for (name, value) in &set {
            assert_eq!(samples[*name].to_string(), *value, "{name}");
        }
        let info = concat!(
            "wsify_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"}"
        );
        assert_eq!(samples[info], 1.0);
        for (name, value) in &samples {
            let gauge = name == info || set.iter().any(|(set, _)| set == name);
            assert!(gauge || *value == 0.0, "{name} begins at {value}");
        }
        assert!(samples.contains_key("wsify_commands_total{command=\"join\",outcome=\"ok\"}"));
        assert!(!samples.contains_key("process_open_fds"), "it is not known");
    }

    #[test]
    fn what_is_counted_is_shown() {
        let mut metrics = Metrics::new(SystemTime::now());
        metrics.connections += 2;
        metrics.deliveries += 1_000;
        metrics.fanouts += 1;
        metrics.received += 11;
        metrics.sent += 12;
        metrics.handshakes.add("accepted");
        metrics.handshakes.add("origin");
        metrics.commands.add(["join", "ok"]);
        metrics.commands.add(["join", "ok"]);
        metrics.commands.add(["none", "bad_message"]);
        metrics.answers.add(("broadcast", 201));
        metrics.answers.add(("broadcast", 403));
        metrics.endings.add("too_slow");
        metrics.verdicts.add("deny");
        assert_eq!(metrics.commands.get(["join", "ok"]), 2);
        assert_eq!(metrics.commands.get(["leave", "nothing"]), 0);
        let samples = rendered(&metrics);
        for (name, value) in [
            ("wsify_connections_accepted_total", 2.0),
            ("wsify_deliveries_total", 1_000.0),
            ("wsify_fanouts_total", 1.0),
            ("wsify_received_bytes_total", 11.0),
            ("wsify_sent_bytes_total", 12.0),
            ("wsify_handshakes_total{outcome=\"accepted\"}", 1.0),
            ("wsify_handshakes_total{outcome=\"denied\"}", 0.0),
            ("wsify_handshakes_total{outcome=\"origin\"}", 1.0),
            ("wsify_commands_total{command=\"join\",outcome=\"ok\"}", 2.0),
            (
                "wsify_commands_total{command=\"none\",outcome=\"bad_message\"}",
                1.0,
            ),
            (
                "wsify_http_responses_total{endpoint=\"broadcast\",status=\"201\"}",
                1.0,
            ),
            (
                "wsify_http_responses_total{endpoint=\"broadcast\",status=\"403\"}",
                1.0,
            ),
            ("wsify_connections_ended_total{reason=\"too_slow\"}", 1.0),
            ("wsify_authorizer_verdicts_total{verdict=\"deny\"}", 1.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn a_histogram_is_cumulative_and_its_bounds_are_inclusive() {
        let mut metrics = Metrics::new(SystemTime::now());
        for micros in [0, 1_000, 1_001, 30_000, 10_000_000, 10_000_001] {
            metrics.verdict_time.observe(Duration::from_micros(micros));
        }
        let samples = rendered(&metrics);
        let name = "wsify_authorizer_duration_seconds";
        let bucket = |le: &str| samples[&format!("{name}_bucket{{le=\"{le}\"}}")];
        let bounds = ["0.001", "0.0025", "0.025", "0.05", "5", "10", "+Inf"];
        assert_eq!(bounds.map(bucket), [2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 6.0]);
        assert_eq!(samples[&format!("{name}_count")], 6.0);
        assert_eq!(samples[&format!("{name}_sum")], 20.032002);
        for bounds in [VERDICT_TIMES, FANOUT_TIMES, TURN_TIMES] {
            assert!(bounds.is_sorted());
        }
    }

    #[test]
    fn the_longest_is_forgotten_after_a_minute_or_two() {
        let at = Duration::from_secs;
        let mut longest = Longest::default();
        longest.observe(at(10), at(5));
        longest.observe(at(50), at(2));
        assert_eq!([at(59), at(61), at(119)].map(|t| longest.at(t)), [at(5); 3]);
        assert_eq!(
            longest.at(at(120)),
            at(0),
            "nobody took a turn for a minute"
        );
        longest.observe(at(70), at(1));
        assert_eq!(longest.at(at(119)), at(5));
        assert_eq!(longest.at(at(120)), at(1));
        longest.observe(at(130), at(3));
        assert_eq!(longest.at(at(130)), at(3));
        longest.observe(at(600), at(1));
        assert_eq!(longest.at(at(600)), at(1));
    }

    #[test]
    fn no_label_breaks_out_of_its_quotes() {
        let mut text = Text(String::new());
        let value = "a\"b\\c\nd} 1";
        text.family("wsify_x", "gauge", "x.");
        text.sample("wsify_x", &[("one", value), ("two", "ü")], 1);
        let samples = parsed(&text.0);
        let name = samples.keys().next().unwrap();
        let found = labels(name.strip_prefix("wsify_x").unwrap());
        assert_eq!((found["one"].as_str(), found["two"].as_str()), (value, "ü"));
    }
}
