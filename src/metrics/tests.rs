//! The text of every metric, read back.

use super::*;
use std::collections::{HashMap, HashSet};

const GAUGES: Gauges = Gauges {
    sent: 12,
    compression: CompressionCounts {
        deflated: 0,
        not_smaller: 0,
        too_small: 0,
        before_deflate: 0,
        after_deflate: 0,
        deflate_time: Duration::ZERO,
        inflated: 0,
        before_inflate: 0,
        after_inflate: 0,
        inflate_time: Duration::ZERO,
    },
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
    events_waiting: 12,
    events_lag: Duration::from_millis(1500),
    authorizer_up: true,
    questions_held: 17,
    broker_up: true,
    broker_reconnections: 6,
    broker_nodes: 3,
    broker_shards: Vec::new(),
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
            ("wsify_sent_bytes_total", 12.0),
            ("wsify_connections{kind=\"websocket\"}", 3.0),
            ("wsify_connections{kind=\"http\"}", 2.0),
            ("wsify_channels", 5.0),
            ("wsify_memberships", 8.0),
            ("wsify_authorizer_calls_in_flight", 1.0),
            ("wsify_authorizer_questions_waiting", 4.0),
            ("wsify_events_waiting", 12.0),
            ("wsify_events_lag_seconds", 1.5),
            ("wsify_authorizer_up", 1.0),
            ("wsify_authorizer_held", 17.0),
            ("wsify_broker_up", 1.0),
            ("wsify_broker_nodes", 3.0),
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
    assert_eq!(longest.at(at(120)), at(0), "there was no turn for a minute");
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
    let mut text = "# HELP wsify_x x.\n# TYPE wsify_x gauge\n".to_owned();
    let value = "a\"b\\c\nd} 1";
    samples::Samples::new(&mut text, "wsify_x").labelled(&[("one", value), ("two", "ü")], 1);
    let samples = parsed(&text);
    let name = samples.keys().next().unwrap();
    let found = labels(name.strip_prefix("wsify_x").unwrap());
    assert_eq!((found["one"].as_str(), found["two"].as_str()), (value, "ü"));
}
