//! What the receiver of events is told, in the order in which it happened (`docs/events.md`).

use serde_json::{Value, json};
use wsify::connection::Limits;
use wsify::effect::Verdict;
use wsify::hub::{EventSettings, Settings};
use wsify::wire::answer_fields::{AnswerFields, CloseWith, NewState};
use wsify::wire::channel_name::ChannelName;
use wsify::wire::event::EventKinds;

use crate::broker::Broker;
use crate::client::{
    CLOSE, Client, TEXT, broadcast, close, frame, get, join, leave, text, upgrade,
};
use crate::rig::{Receiver, Rig, settings};

fn with_events(kinds: &str, queue: usize) -> Settings {
    Settings {
        events: Some(EventSettings {
            kinds: EventKinds::parse(kinds).unwrap(),
            queue,
        }),
        ..settings()
    }
}

/// All kinds of events.
fn telling() -> Settings {
    with_events("connected,disconnected,occupied,vacated", 1_000)
}

/// Events since the last call, each as a short line.
fn told(rig: &mut Rig) -> Vec<String> {
    let events = std::mem::take(&mut rig.events);
    events.iter().map(line).collect()
}

/// `17 connected :1`, `18 occupied a`, `20 disconnected :1 1001 closed a,b`; the address without its host.
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (seq, kind) = (&event["seq"], text(&event["event"]));
    if let Some(channel) = event.get("channel") {
        return format!("{seq} {kind} {}", text(channel));
    }
    let address = text(&event["connection"]["remote_addr"]);
    let port = address.trim_start_matches("127.0.0.1");
    let Some(channels) = event.get("channels") else {
        return format!("{seq} {kind} {port}");
    };
    let channels: Vec<String> = channels.as_array().unwrap().iter().map(text).collect();
    let (code, reason) = (&event["code"], text(&event["reason"]));
    let line = format!("{seq} {kind} {port} {code} {reason} {}", channels.join(","));
    line.trim_end().to_owned()
}

#[test]
fn events_of_a_connection_arrive_in_order() {
    let mut rig = Rig::with(telling());
    rig.hub.clock.unix = 1_767_268_799_000;
    let mut ann = rig.websocket();
    for message in [join("hello"), join("hello"), join("b"), leave("x")] {
        rig.says(&mut ann, &message);
    }
    rig.pass(2_000);
    rig.says(&mut ann, &leave("b"));
    rig.pass(20_034 - 2_000);
    rig.sends(&mut ann, &close(1001));
    let id = format!("0000000000000001-{:08x}{:012x}", ann.id.slot, 1);
    let connection = json!({"id": id, "remote_addr": "127.0.0.1:1", "query": {}});
    let begin = "2026-01-01T12:00:00.000Z";
    assert_eq!(
        rig.events,
        [
            json!({"seq": 1, "event": "connected", "time": begin, "connection": connection}),
            json!({"seq": 2, "event": "occupied", "time": begin, "channel": "hello"}),
            json!({"seq": 3, "event": "occupied", "time": begin, "channel": "b"}),
            json!({"seq": 4, "event": "vacated", "time": "2026-01-01T12:00:02.000Z", "channel": "b"}),
            json!({"seq": 5, "event": "vacated", "time": "2026-01-01T12:00:20.034Z", "channel": "hello"}),
            json!({"seq": 6, "event": "disconnected", "time": "2026-01-01T12:00:20.034Z",
                   "connection": connection, "code": 1001, "reason": "closed",
                   "duration_ms": 20_034, "channels": ["hello"]}),
        ]
    );
    rig.assert_empty();
}

#[test]
fn a_channel_is_occupied_by_its_first_member_and_vacated_by_its_last() {
    let mut rig = Rig::with(with_events("vacated,occupied", 10));
    let mut ann = rig.member("a");
    // The other encoding is another audience of the same channel.
    let mut ben = rig.websocket_with("Sec-WebSocket-Protocol: wsify.v1\r\n");
    rig.says(&mut ben, &join("a"));
    rig.says(&mut ann, &leave("a"));
    assert_eq!(told(&mut rig), ["1 occupied a"]);
    ben.far.reset();
    rig.run();
    rig.says(&mut ann, &leave("a"));
    assert_eq!(told(&mut rig), ["2 vacated a"]);
    rig.says(&mut ann, &join("a"));
    rig.says(&mut ann, &join("a"));
    assert_eq!(told(&mut rig), ["3 occupied a"]);
}

#[test]
fn only_chosen_events_are_told_and_counted_in_seq() {
    for (kinds, expected) in [
        ("disconnected", vec!["1 disconnected :1 1000 closed a"]),
        ("connected", vec!["1 connected :1"]),
        (
            "occupied,disconnected",
            vec!["1 occupied a", "2 disconnected :1 1000 closed a"],
        ),
        ("vacated", vec!["1 vacated a"]),
    ] {
        let mut rig = Rig::with(with_events(kinds, 10));
        let mut ann = rig.member("a");
        rig.sends(&mut ann, &close(1000));
        assert_eq!(told(&mut rig), expected);
    }
    let mut rig = Rig::new();
    let mut ann = rig.member("a");
    rig.sends(&mut ann, &close(1000));
    assert_eq!(told(&mut rig), [""; 0]);
}

#[test]
fn an_end_names_the_first_hundred_channels_in_byte_order_and_all_that_it_vacates() {
    let mut rig = Rig::with(with_events("disconnected,vacated", 1_000));
    let mut ann = rig.websocket();
    let mut names: Vec<String> = (0..150).map(|nth| format!("c{nth}")).collect();
    names.push("Z".into());
    names.push("é".into());
    for name in &names {
        rig.says(&mut ann, &join(name));
    }
    let ben = rig.member("c7");
    ann.far.reset();
    rig.run();
    names.sort();
    let last = rig.events.pop().unwrap();
    assert_eq!(last["channels"], json!(names[..100]));
    let vacated: Vec<&str> = rig
        .events
        .iter()
        .map(|it| it["channel"].as_str().unwrap())
        .collect();
    let expected: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|it| *it != "c7")
        .collect();
    assert_eq!(vacated, expected);
    drop(ben);
}

/// What a client does.
type Act = fn(&mut Client);

/// What is told of the end of the only client, a member of `a`.
fn end(rig: &mut Rig) -> String {
    rig.run();
    let mut lines = told(rig);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines
        .remove(0)
        .split_once(' ')
        .unwrap()
        .1
        .replace("disconnected :1 ", "")
}

#[test]
fn every_way_in_which_a_client_ends_has_its_code_and_reason() {
    let endings: [(&str, Act); 10] = [
        ("1000 closed a", |it| it.send(&close(1000))),
        ("4321 closed a", |it| it.send(&close(4321))),
        ("1000 closed a", |it| it.send(&frame(CLOSE, b""))),
        ("1006 left a", |it| it.far.leave()),
        ("1006 left a", |it| it.far.close()),
        ("1006 reset a", |it| it.far.reset()),
        ("1002 protocol_error a", |it| it.send(&[0x81, 0x01, b'x'])),
        ("1002 protocol_error a", |it| it.send(&close(1005))),
        ("1007 invalid_text a", |it| it.send(&frame(TEXT, b"\xFF"))),
        ("1009 too_big a", |it| {
            it.send(&[&[0x81, 0xFF][..], &(1u64 << 63).to_be_bytes()].concat());
        }),
    ];
    for (expected, act) in endings {
        let mut rig = Rig::with(with_events("disconnected", 10));
        let mut ann = rig.member("a");
        act(&mut ann);
        assert_eq!(end(&mut rig), expected);
        // Nothing more is told when the closing handshake and the connection are over.
        ann.far.reset();
        rig.pass(10_000);
        assert_eq!(told(&mut rig), [""; 0]);
        rig.assert_empty();
    }
}

#[test]
fn every_way_in_which_the_server_ends_it_has_its_code_and_reason() {
    // Silence: no close frame is sent.
    let mut rig = Rig::with(with_events("disconnected", 10));
    let _ann = rig.member("a");
    rig.pass(60_000);
    assert_eq!(end(&mut rig), "1006 silent a");

    // A slow reader is sent one.
    let mut rig = Rig::with(Settings {
        limits: Limits {
            max_queue: 1_000,
            ..settings().limits
        },
        ..with_events("disconnected", 10)
    });
    let ann = rig.member("a");
    let mut ben = rig.websocket();
    ann.far.narrow(0);
    for _ in 0..3 {
        rig.says(
            &mut ben,
            &broadcast("a", &format!("\"{}\"", "x".repeat(600))),
        );
    }
    assert_eq!(end(&mut rig), "1008 too_slow a");

    // Unless memory is short: then nothing waits for it any longer.
    let mut rig = Rig::with(Settings {
        max_total_queue: 4_000,
        ..with_events("disconnected", 10)
    });
    let ann = rig.member("a");
    let mut ben = rig.websocket();
    ann.far.narrow(0);
    for _ in 0..3 {
        rig.says(
            &mut ben,
            &broadcast("a", &format!("\"{}\"", "x".repeat(900))),
        );
    }
    assert_eq!(end(&mut rig), "1006 too_slow a");

    // A stop.
    let mut rig = Rig::with(with_events("disconnected", 10));
    let _ann = rig.member("a");
    rig.hub.drain(1_000);
    assert_eq!(end(&mut rig), "1012 stopping a");

    // A message that there is no memory for.
    let mut rig = Rig::with(Settings {
        max_total_queue: 4_000,
        ..with_events("disconnected", 10)
    });
    let ann = rig.member("a");
    let long = text(&" ".repeat(5_000));
    ann.send(&long[..4_000]);
    assert_eq!(end(&mut rig), "1013 overloaded a");
}

#[test]
fn the_authorizer_s_failure_and_its_close_are_told_with_their_codes() {
    let asking = || Settings {
        authorizer: true,
        ..with_events("disconnected", 10)
    };
    let mut rig = Rig::with(asking());
    let ann = rig.member("a");
    ann.say(&join("b"));
    rig.run();
    rig.answer(Verdict::Unavailable);
    assert_eq!(end(&mut rig), "1013 authorizer_down a");

    let mut rig = Rig::with(asking());
    let ann = rig.member("a");
    ann.say(&join("b"));
    rig.run();
    let fields = AnswerFields {
        close: Some(CloseWith {
            code: 4_123,
            reason: Some("go".into()),
        }),
        ..AnswerFields::default()
    };
    rig.answer_fields(Verdict::Deny, fields);
    assert_eq!(end(&mut rig), "4123 refused a");
}

#[test]
fn a_close_that_is_found_after_a_broken_write_has_the_client_s_code() {
    let mut rig = Rig::with(with_events("disconnected", 10));
    let ann = rig.member("a");
    let ben = rig.websocket();
    // The close frame is in the kernel, and nothing can be sent any more, when the server writes first.
    ann.send(&close(4_000));
    ann.far.close();
    ben.say(&broadcast("a", "1"));
    rig.run();
    let end = end(&mut rig);
    assert!(end.starts_with("4000 "), "{end}");
    let lines = rig.logged();
    let line = lines
        .iter()
        .find(|line| line["message"] == "connection ended");
    let reason = line.unwrap()["reason"].as_str().unwrap();
    assert!(end.ends_with(&format!("{reason} a")), "{end}: {reason}");
}

#[test]
fn commands_sent_before_a_close_are_carried_out_before_it() {
    let mut rig = Rig::with(telling());
    let ann = rig.websocket();
    ann.send(&[text(&join("a")), text(&leave("a")), text(&join("b"))].concat());
    ann.far.leave();
    rig.run();
    assert_eq!(
        told(&mut rig),
        [
            "1 connected :1",
            "2 occupied a",
            "3 vacated a",
            "4 occupied b",
            "5 vacated b",
            "6 disconnected :1 1006 left b",
        ]
    );
}

#[test]
fn an_open_question_is_answered_before_the_end_is_told() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        ..telling()
    });
    let ann = rig.websocket();
    told(&mut rig);
    ann.send(&[text(&join("a")), close(1000)].concat());
    ann.far.leave();
    rig.run();
    assert_eq!(told(&mut rig), [""; 0]);
    rig.answer(Verdict::Allow);
    assert_eq!(
        told(&mut rig),
        [
            "2 occupied a",
            "3 vacated a",
            "4 disconnected :1 1000 closed a"
        ]
    );
}

#[test]
fn refused_upgrades_and_requests_are_no_connections() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        ..telling()
    });
    let mut ann = rig.upgrading("");
    rig.answer(Verdict::Deny);
    assert_eq!(ann.hear(), ["403 not_authorized"]);
    let ben = rig.upgrading("");
    ben.far.reset();
    rig.run();
    let cat = rig.upgrading("");
    cat.far.leave();
    rig.run();
    let dan = rig.upgrading("");
    rig.hub.drain(1_000);
    rig.run();
    let mut eve = rig.client();
    rig.sends(&mut eve, &get("/health"));
    eve.far.reset();
    dan.far.reset();
    rig.pass(20_000);
    assert_eq!(told(&mut rig), [""; 0]);
}

#[test]
fn a_reused_slot_does_not_inherit_events() {
    let mut rig = Rig::with(with_events("disconnected", 10));
    let mut ann = rig.member("a");
    rig.pass(5_000);
    rig.sends(&mut ann, &close(4_000));
    let ben = rig.client();
    assert_eq!(ben.id.slot, ann.id.slot);
    rig.pass(1_000);
    ben.send(&upgrade("/ws", ""));
    rig.run();
    rig.pass(2_000);
    ben.far.reset();
    rig.run();
    let lives: Vec<_> = rig
        .events
        .iter()
        .map(|it| (&it["code"], &it["duration_ms"]))
        .collect();
    assert_eq!(
        lives,
        [
            (&json!(4_000), &json!(5_000)),
            (&json!(1_006), &json!(2_000))
        ]
    );
}

#[test]
fn a_connection_is_shown_as_it_was_at_that_moment() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        ..with_events("connected,disconnected,occupied", 10)
    });
    let ann = rig.client();
    ann.send(&upgrade("/ws?token=a%22&token=b", ""));
    rig.run();
    let fields = AnswerFields {
        user: Some("42".into()),
        state: Some(NewState::Json(r#"{"n": 1.0}"#.into())),
        channels: ["x", "b"].map(ChannelName::checked).into(),
        ..AnswerFields::default()
    };
    rig.answer_fields(Verdict::Allow, fields);
    ann.say(&join("a"));
    rig.run();
    let fields = AnswerFields {
        state: Some(NewState::Json("2".into())),
        ..AnswerFields::default()
    };
    rig.answer_fields(Verdict::Allow, fields);
    ann.far.reset();
    rig.run();
    let shown = |at: usize| rig.events[at]["connection"].clone();
    let query = json!({"token": ["a\"", "b"]});
    assert_eq!(shown(0)["query"], query);
    assert_eq!(
        (&shown(0)["user"], &shown(0)["state"]),
        (&json!("42"), &json!({"n": 1.0}))
    );
    let last = rig.events.len() - 1;
    assert_eq!(shown(last)["query"], query);
    assert_eq!(
        (&shown(last)["user"], &shown(last)["state"]),
        (&json!("42"), &json!(2))
    );
    assert_eq!(
        told(&mut rig),
        [
            "1 connected :1",
            "2 occupied x",
            "3 occupied b",
            "4 occupied a",
            "5 disconnected :1 1006 reset a,b,x",
        ]
    );
}

#[test]
fn a_query_is_shown_without_an_authorizer_too() {
    for (kinds, shown) in [
        ("connected", true),
        ("disconnected", true),
        ("occupied", false),
    ] {
        let mut rig = Rig::with(with_events(kinds, 10));
        let ann = rig.client();
        ann.send(&upgrade("/ws?a=b", ""));
        rig.run();
        assert_eq!(rig.hub.inventory().identities, usize::from(shown));
        ann.far.reset();
        rig.run();
        for event in &rig.events {
            assert_eq!(event["connection"]["query"], json!({"a": ["b"]}));
        }
        assert_eq!(rig.events.len(), usize::from(shown));
        rig.assert_empty();
    }
}

#[test]
fn with_a_broker_a_join_is_told_when_it_is_done() {
    let mut rig = Rig::with(telling());
    let mut broker = Broker::up(&mut rig);
    let ann = rig.websocket();
    told(&mut rig);
    ann.say(&join("a"));
    broker.run(&mut rig);
    assert!(broker.refuse_change());
    broker.settle(&mut rig);
    ann.say(&join("a"));
    broker.run(&mut rig);
    assert_eq!(told(&mut rig), [""; 0]);
    broker.settle(&mut rig);
    assert_eq!(told(&mut rig), ["2 occupied a"]);
}

#[test]
fn a_stop_closes_clients_in_three_quarters_of_its_time() {
    for (settings, last) in [(telling(), 7_500), (settings(), 10_000)] {
        let mut rig = Rig::with(Settings {
            authorizer: true,
            ..settings
        });
        let mut clients: Vec<Client> = (0..20).map(|_| rig.websocket()).collect();
        for client in &clients[..5] {
            client.say(&join("a"));
        }
        rig.run();
        rig.hub.drain(10_000);
        let mut closed = 0;
        let mut when = 0;
        for now in (0..=10_000).step_by(100) {
            for client in &mut clients {
                if client.hear().iter().any(|line| line == "close 1012") {
                    closed += 1;
                    when = now;
                }
            }
            rig.pass(100);
        }
        assert_eq!(closed, 20);
        assert!(when <= last && when > last * 3 / 4, "{when}");
    }
}

#[test]
fn waiting_events_are_bounded_and_the_gap_shows_in_seq() {
    let mut rig = Rig::with(Settings {
        limits: Limits {
            ping_interval: 0,
            ..settings().limits
        },
        ..with_events("occupied,vacated", 3)
    });
    let mut ann = rig.websocket();
    rig.receiver = Receiver::Hangs;
    for channel in ["a", "b", "c", "d", "e", "f"] {
        rig.says(&mut ann, &join(channel));
    }
    let lines = rig.logged();
    let dropped: Vec<_> = lines.iter().filter(|it| it["level"] == "warn").collect();
    assert_eq!(dropped.len(), 1, "{lines:?}");
    assert_eq!(
        (&dropped[0]["dropped"], &dropped[0]["waiting"]),
        (&json!(1), &json!(3))
    );
    assert!(
        dropped[0]["message"]
            .as_str()
            .unwrap()
            .contains("--events-queue")
    );
    // A line in a minute has the rest.
    rig.pass(60_000);
    let lines = rig.logged();
    let dropped = lines.iter().find(|it| it["level"] == "warn").unwrap();
    assert_eq!(dropped["dropped"], 1);
    rig.receiver = Receiver::Takes;
    rig.run();
    rig.tick();
    let expected = [
        "1 occupied a",
        "4 occupied d",
        "5 occupied e",
        "6 occupied f",
    ];
    assert_eq!(told(&mut rig), expected);
    assert_eq!(rig.hub.metrics().events_dropped, 2);
    assert_eq!(rig.hub.metrics().events.get("occupied"), 6);
}

#[test]
fn waiting_events_take_their_share_of_the_memory_and_no_more() {
    let mut rig = Rig::with(Settings {
        max_total_queue: 40_000,
        ..with_events("occupied,vacated", 100_000)
    });
    let mut ann = rig.websocket();
    rig.receiver = Receiver::Hangs;
    for _ in 0..200 {
        rig.says(&mut ann, &join("a"));
        rig.says(&mut ann, &leave("a"));
    }
    let waiting = rig.hub.inventory().waiting;
    assert!((9_800..=10_000).contains(&waiting), "{waiting}");
    assert!(rig.hub.metrics().events_dropped > 200);
    // Clients have the other half.
    let mut ben = rig.member("b");
    let content = format!("\"{}\"", "x".repeat(9_000));
    ben.far.narrow(0);
    rig.says(&mut ann, &broadcast("b", &content));
    ben.far.widen(100_000);
    rig.run();
    assert_eq!(ben.hear(), [content.as_str()]);
    // The newest events are those that are left.
    rig.receiver = Receiver::Takes;
    rig.run();
    rig.tick();
    let lines = told(&mut rig);
    assert_eq!(lines[0], "1 occupied a");
    assert_eq!(lines.last().unwrap(), "401 occupied b");
    assert_eq!(rig.hub.inventory().waiting, 0);
}

#[test]
fn joins_and_disconnects_by_backends_make_the_same_events() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        ..telling()
    });
    let ann = rig.upgrading("");
    let fields = AnswerFields {
        user: Some("42".into()),
        ..AnswerFields::default()
    };
    rig.answer_fields(Verdict::Allow, fields);
    let mut post = |path: &str, body: &str| {
        let backend = rig.client();
        backend.send(
            format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        rig.run();
        backend.far.reset();
        rig.run();
        told(&mut rig)
    };
    let member = r#"{"user":"42","channel":"a"}"#;
    assert_eq!(post("/join", member), ["1 connected :1", "2 occupied a"]);
    assert_eq!(post("/join", member), [""; 0]);
    assert_eq!(post("/leave", member), ["3 vacated a"]);
    assert_eq!(post("/leave", member), [""; 0]);
    assert_eq!(post("/join", member), ["4 occupied a"]);
    // The open question is forgotten: the connection is gone at once.
    ann.say(&join("b"));
    assert_eq!(
        post("/disconnect", r#"{"user":"42","code":4001,"reason":"out"}"#),
        ["5 vacated a", "6 disconnected :1 4001 disconnected a"]
    );
}

#[test]
fn a_list_and_the_events_after_it_make_a_picture_without_a_gap() {
    let mut rig = Rig::with(telling());
    let mut ann = rig.member("a");
    let mut backend = rig.client();
    backend.send(&get("/channels"));
    rig.run();
    let list = backend.hear().remove(0);
    let list: Value = serde_json::from_str(list.strip_prefix("200 ").unwrap()).unwrap();
    assert_eq!(list["seq"], json!({"0000000000000001": 2}));
    rig.says(&mut ann, &join("b"));
    let seq = |event: &Value| event["seq"].as_u64().unwrap();
    let after: Vec<String> = rig
        .events
        .iter()
        .filter(|it| seq(it) > 2)
        .map(line)
        .collect();
    assert_eq!(after, ["3 occupied b"]);
}
