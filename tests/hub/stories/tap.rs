//! Taps: the events that they get, and that other connections do not notice them (`docs/observing.md#tap`).

use serde_json::Value;
use wsify::effect::Verdict;
use wsify::hub::Settings;

use crate::client::{Client, broadcast, close, get, join, leave, post, text, upgrade};
use crate::rig::{Rig, settings};

/// A client of `GET /tap`.
struct Tap {
    client: Client,
    text: String,
}

impl Tap {
    fn open(rig: &mut Rig, query: &str) -> Tap {
        let client = rig.client();
        client.send(&get(&format!("/tap{query}")));
        rig.run();
        let answer = String::from_utf8(client.far.receive()).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: text/event-stream"));
        assert!(head.contains("\r\nConnection: close"));
        Tap {
            client,
            text: text.to_owned(),
        }
    }

    /// The events since the last call.
    fn events(&mut self) -> Vec<(String, Value)> {
        self.text += &String::from_utf8(self.client.far.receive()).unwrap();
        let text = std::mem::take(&mut self.text);
        assert!(text.is_empty() || text.ends_with("\n\n"), "{text:?}");
        let event = |part: &str| {
            let (event, data) = part.split_once('\n')?;
            let data = data.strip_prefix("data: ").unwrap();
            let event = event.strip_prefix("event: ").unwrap();
            Some((event.to_owned(), serde_json::from_str(data).expect(data)))
        };
        text.split("\n\n").filter_map(event).collect()
    }

    /// The events since the last call, each with its distinctive fields.
    fn hears(&mut self) -> Vec<String> {
        let fields = [
            "command",
            "channel",
            "channels",
            "verdict",
            "content",
            "members",
            "messages",
            "queued_bytes",
            "code",
            "reason",
            "query",
            "connections",
            "connected",
            "lines",
        ];
        let shown = |(event, data): (String, Value)| {
            let values = fields.iter().filter_map(|field| data.get(field));
            let values = values.map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let mut words: Vec<String> = values.collect();
            words.insert(0, event);
            words.join(" ")
        };
        self.events().into_iter().map(shown).collect()
    }
}

fn asking() -> Rig {
    Rig::with_authorizer()
}

#[test]
fn a_tap_gets_every_event() {
    let mut rig = asking();
    let mut tap = Tap::open(&mut rig, "");
    assert_eq!(tap.hears(), ["tap 0"]);
    let ann = rig.client();
    ann.send(&upgrade("/ws?user=42&token=s3cret", ""));
    rig.run();
    rig.answer(Verdict::Allow);
    assert_eq!(
        tap.hears(),
        [
            "connect user=***&token=***",
            "question connect",
            "verdict connect allow",
            "open"
        ]
    );
    for (command, verdict, heard) in [
        (
            join("a"),
            Verdict::Allow,
            vec!["question join a", "verdict join a allow", "join a 1"],
        ),
        (
            join("b"),
            Verdict::Deny,
            vec![
                "question join b",
                "verdict join b deny",
                "refused join b not_authorized",
            ],
        ),
        (
            broadcast("a", "[1]"),
            Verdict::Allow,
            vec![
                "question broadcast a",
                "verdict broadcast a allow",
                "broadcast a [1]",
                "fanout a [1] 1",
            ],
        ),
        (
            leave("a"),
            Verdict::Allow,
            vec!["question leave a", "verdict leave a allow", "leave a 0"],
        ),
    ] {
        ann.say(&command);
        rig.run();
        rig.answer(verdict);
        assert_eq!(tap.hears(), heard);
    }
    ann.say("nonsense");
    rig.run();
    assert_eq!(tap.hears(), ["refused bad_message"]);
    ann.send(&close(1000));
    rig.run();
    assert_eq!(tap.hears(), ["end 1000 closed"]);
    let backend = rig.client();
    backend.send(&post(r#"{"channel":"a","content":2}"#));
    backend.send(&get("/nothing"));
    rig.run();
    assert_eq!(
        tap.hears(),
        ["broadcast a 2", "fanout a 2 0", "refused not_found"]
    );
    tap.client.far.leave();
    rig.run();
    assert_eq!(rig.hub.inventory().taps, 0);
}

#[test]
fn every_event_has_a_time_and_a_connection() {
    let mut rig = Rig::new();
    rig.hub.clock.unix = 1_700_000_000_000;
    let mut tap = Tap::open(&mut rig, "");
    let _ann = rig.member("a");
    for (event, data) in tap.events() {
        assert_eq!(data["time"], "2023-11-14T22:13:21.000Z");
        if event != "tap" {
            assert_eq!(
                data["connection"], "0000000000000001-00000001000000000002",
                "{event}"
            );
            assert_eq!(data["remote_addr"], "127.0.0.1:2");
        }
    }
}

#[test]
fn a_tap_of_a_channel_gets_its_events_only() {
    let mut rig = Rig::new();
    let before = rig.member("a");
    let mut tap = Tap::open(&mut rig, "?channel=%20a");
    assert_eq!(tap.hears(), ["tap a 1 1"]);
    let mut ann = rig.websocket();
    rig.says(&mut ann, &join("b"));
    rig.says(&mut ann, &broadcast("b", "0"));
    rig.says(&mut ann, &join("a"));
    rig.says(&mut ann, &broadcast("a", "1"));
    ann.far.reset();
    before.far.leave();
    rig.websocket().far.leave();
    rig.run();
    assert_eq!(
        tap.hears(),
        [
            "join a 2",
            "broadcast a 1",
            "fanout a 1 2",
            "end left",
            "end reset"
        ]
    );
}

#[test]
fn a_tap_of_a_connection_gets_every_delivery_to_it() {
    let mut rig = Rig::new();
    let mut ann = rig.member("a");
    rig.says(&mut ann, &join("b"));
    let mut ben = rig.member("a");
    let mut tap = Tap::open(
        &mut rig,
        "?connection=0000000000000001-00000000000000000001",
    );
    let events = tap.events();
    assert_eq!(events[1].0, "found");
    let mut channels = events[1].1["channels"].as_array().unwrap().clone();
    channels.sort_by_key(|name| name.to_string());
    assert_eq!(channels, ["a", "b"]);
    assert_eq!(events[2].1["connections"], 1);

    // Ben's message reaches ann, the tapped connection. The event does not name the sender.
    for content in ["1", "2"] {
        ben.send(&text(&broadcast("a", content)));
    }
    ben.say(&broadcast("c", "3"));
    rig.run();
    assert_eq!(tap.hears(), ["deliver a 2 0"]);
    ann.far.narrow(0);
    rig.says(&mut ben, &broadcast("b", "4"));
    assert_eq!(tap.hears(), ["deliver b 1 3"]);
    ben.far.leave();
    ann.far.reset();
    rig.run();
    assert_eq!(tap.hears(), ["end reset"]);
    // The next connection in the slot is another one.
    rig.member("a");
    assert_eq!(tap.hears(), [""; 0]);
}

#[test]
fn a_tap_of_a_query_value_finds_present_and_later_connections() {
    let mut rig = asking();
    let connect = |rig: &mut Rig, query: &str| {
        let client = rig.client();
        client.send(&upgrade(&format!("/ws?{query}"), ""));
        rig.run();
        rig.answer(Verdict::Allow);
        client
    };
    let before = connect(&mut rig, "user=42&token=s3cret");
    connect(&mut rig, "user=7");
    let mut tap = Tap::open(&mut rig, "?query=user:42");
    assert_eq!(tap.hears(), ["tap 2", "found [] 0", "watching 1"]);
    connect(&mut rig, "user=421");
    connect(&mut rig, "resu=42");
    let _after = connect(&mut rig, "token=s3cret&user=42");
    assert_eq!(
        tap.hears(),
        [
            "connect token=***&user=42",
            "question connect",
            "verdict connect allow",
            "open"
        ]
    );
    before.far.reset();
    rig.run();
    assert_eq!(tap.hears(), ["end reset"]);

    // All parameters have to match.
    let mut both = Tap::open(&mut rig, "?query=user&channel=a");
    assert_eq!(both.hears()[0], "tap a 0 4");
    both.hears();
    let ann = connect(&mut rig, "user=1");
    for channel in ["a", "b"] {
        ann.say(&join(channel));
        rig.run();
        rig.answer(Verdict::Allow);
    }
    assert_eq!(
        both.hears(),
        ["question join a", "verdict join a allow", "join a 1"]
    );
}

#[test]
fn without_an_authorizer_queries_are_only_kept_while_there_is_a_tap() {
    let mut rig = Rig::new();
    rig.client().send(&upgrade("/ws?user=42", ""));
    rig.run();
    let mut tap = Tap::open(&mut rig, "?query=user:42");
    assert_eq!(tap.hears(), ["tap 1", "watching 0"]);
    rig.client().send(&upgrade("/ws?user=42", ""));
    rig.run();
    assert_eq!(tap.hears(), ["connect user=42", "open"]);
    let mut later = Tap::open(&mut rig, "?query=user:42");
    assert_eq!(later.hears(), ["tap 2", "found [] 0", "watching 1"]);
}

#[test]
fn a_long_content_is_cut_between_two_characters() {
    let mut rig = Rig::new();
    let mut tap = Tap::open(&mut rig, "?channel=a");
    let mut ann = rig.websocket();
    let long = format!("\"{}\"", "é".repeat(150));
    rig.says(&mut ann, &broadcast("a", &long));
    rig.says(&mut ann, &broadcast("a", "\"\u{9b}31m\u{202e}\u{e0041}\""));
    let raw = String::from_utf8(tap.client.far.receive()).unwrap();
    assert!(raw.contains(r#"\"\u009b31m\u202e\udb40\udc41\""#), "{raw}");
    tap.text += &raw;
    let events = tap.events();
    let content = &events[1].1["content"];
    assert_eq!(*content, format!("\"{}", "é".repeat(99)));
    assert_eq!(events[1].1["content_bytes"], 302);
    assert_eq!(events[3].1["content"], "\"\u{9b}31m\u{202e}\u{e0041}\"");
}

#[test]
fn a_tap_with_wrong_parameters_is_refused() {
    let mut rig = Rig::with(Settings {
        key: None,
        ..settings()
    });
    for (query, answer) in [
        ("?chanel=a", "400 bad_request"),
        ("?channel=", "400 bad_request"),
        ("?channel=a&channel=b", "400 bad_request"),
        ("?connection=7", "400 bad_request"),
    ] {
        let mut client = rig.client();
        let heard = rig.sends(&mut client, &get(&format!("/tap{query}")));
        assert_eq!(heard, [answer], "{query}");
    }
    let relayed = "GET /tap HTTP/1.1\r\nHost: h\r\nX-Real-IP: 127.0.0.1\r\n\r\n";
    let mut client = rig.client();
    assert_eq!(
        rig.sends(&mut client, relayed.as_bytes()),
        ["403 forbidden"]
    );
    let mut client = rig.client();
    let posted = "POST /tap HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        rig.sends(&mut client, posted.as_bytes()),
        ["405 method_not_allowed"]
    );
}

#[test]
fn an_eleventh_tap_is_refused_until_one_has_gone() {
    let mut rig = Rig::new();
    let taps: Vec<Tap> = (0..10).map(|_| Tap::open(&mut rig, "")).collect();
    let mut late = rig.client();
    assert_eq!(rig.sends(&mut late, &get("/tap")), ["503 too_many_taps"]);
    taps[3].client.far.reset();
    rig.run();
    Tap::open(&mut rig, "");
}

#[test]
fn a_tap_that_does_not_read_loses_lines_and_gets_their_number() {
    let mut rig = Rig::new();
    let mut tap = Tap::open(&mut rig, "");
    tap.hears();
    tap.client.far.narrow(0);
    let mut ann = rig.member("a");
    for n in 0..4_000 {
        assert_eq!(
            rig.says(&mut ann, &broadcast("a", &n.to_string())),
            [n.to_string()]
        );
    }
    let held = rig.hub.inventory().queued_bytes;
    assert!(held < 300 * 1024, "{held} bytes wait for it");
    tap.client.far.widen(usize::MAX / 4);
    rig.run();
    let events = tap.events();
    let lost: Vec<u64> = events
        .iter()
        .filter(|(event, _)| event == "lost")
        .map(|(_, data)| data["lines"].as_u64().unwrap())
        .collect();
    assert_eq!(lost.len(), 1);
    // Connecting and joining are three lines, and a broadcast is two.
    let got = events.len() as u64 - 1;
    assert_eq!(got + lost[0], 3 + 2 * 4_000);
    rig.says(&mut ann, &broadcast("a", "5"));
    assert_eq!(tap.hears(), ["broadcast a 5", "fanout a 5 1"]);
}

#[test]
fn events_over_a_taps_share_of_a_turn_are_lost_and_counted() {
    let mut rig = Rig::new();
    let mut tap = Tap::open(&mut rig, "");
    let mut ann = rig.member("a");
    tap.hears();
    ann.send(&text(&broadcast("a", "1")).repeat(500));
    rig.run();
    assert_eq!(ann.hear().len(), 500);
    let heard = tap.hears();
    let lost: u64 = heard
        .iter()
        .filter_map(|line| line.strip_prefix("lost ")?.parse::<u64>().ok())
        .sum();
    assert!(lost > 0 && heard.len() > 50, "{} lines", heard.len());
    let gaps = heard.iter().filter(|line| line.starts_with("lost")).count();
    assert_eq!(heard.len() as u64 - gaps as u64 + lost, 1_000);
}

#[test]
fn a_quiet_tap_gets_heartbeats() {
    let mut rig = Rig::new();
    let tap = Tap::open(&mut rig, "");
    tap.client.far.receive();
    rig.pass(50_000);
    assert_eq!(tap.client.far.receive(), b":\n\n:\n\n:\n\n");
    // Its input is discarded.
    tap.client.send(&get("/health"));
    rig.run();
    assert_eq!(tap.client.far.receive(), b"");
}

#[test]
fn a_stop_ends_a_tap_with_the_last_chunk() {
    let mut rig = Rig::new();
    let mut tap = Tap::open(&mut rig, "");
    tap.hears();
    rig.hub.drain(10_000);
    rig.run();
    assert_eq!(tap.hears(), ["bye stopping"]);
    assert!(tap.client.far.is_ended());
    tap.client.far.leave();
    rig.run();
    assert!(rig.hub.is_drained());
    rig.assert_empty();
    let mut late = rig.client();
    assert_eq!(
        rig.sends(&mut late, &get("/tap")),
        ["503 draining, close", "end"]
    );
}

#[test]
fn many_connections_are_searched_in_slices() {
    let mut rig = Rig::new();
    let first = Tap::open(&mut rig, "");
    let crowd: Vec<Client> = (0..3_000)
        .map(|_| {
            let client = rig.client();
            client.send(&upgrade("/ws?user=42", ""));
            rig.run();
            client
        })
        .collect();
    first.client.far.leave();
    rig.run();
    let ticks = rig.ticks;
    let mut tap = Tap::open(&mut rig, "?query=user");
    assert!(rig.ticks - ticks >= 3_000 / 512);
    let heard = tap.hears();
    assert_eq!(heard.last().unwrap(), "watching 3000");
    let found = heard.iter().filter(|line| line.starts_with("found"));
    assert_eq!(found.count(), 100);
    crowd[2_999].far.reset();
    rig.run();
    assert_eq!(tap.hears(), ["end reset"]);
}
