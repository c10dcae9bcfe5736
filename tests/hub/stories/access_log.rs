//! The access log: which ends are logged, and with which fields (`docs/observing.md#logs`).

use serde_json::{Value, json};
use wsify::config::AccessLog;
use wsify::effect::Verdict;
use wsify::hub::Settings;
use wsify::log::Level;

use crate::client::{broadcast, close, frame, get, join, text, upgrade, with_id};
use crate::rig::{Rig, settings};

fn rig(access_log: AccessLog) -> Rig {
    Rig::with(Settings {
        access_log,
        ..settings()
    })
}

/// The lines of level `info`, as `message reason`.
fn logged_info(rig: &Rig) -> Vec<String> {
    let lines = rig.logged();
    let lines = lines.iter().filter(|line| line["level"] == "info");
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .map(|line| format!("{}: {}", word(&line["message"]), word(&line["reason"])))
        .collect()
}

#[test]
fn a_line_has_duration_messages_and_bytes() {
    let mut rig = rig(AccessLog::All);
    let ann = rig.member("a");
    let ben = rig.websocket();
    let request = upgrade("/ws", "").len();
    let joining = text(&join("a")).len();
    rig.logged();
    ben.say(&broadcast("a", "1"));
    ben.say(&broadcast("a", "2"));
    let asking = text(&with_id(1, &join("a")));
    ann.send(&asking);
    rig.run();
    rig.hub.clock.now += 1_234;
    ann.send(&close(4_001));
    rig.run();
    let heard = ann.far.receive();
    let line = &rig.logged()[0];
    assert_eq!(line["message"], "connection ended");
    assert_eq!(line["level"], "info");
    // Two contents and an answer; the close frame does not count.
    let bytes_in = request + joining + asking.len() + close(4_001).len();
    for (name, value) in [
        ("connection", json!("0000000000000001-00000000000000000001")),
        ("remote_addr", json!("127.0.0.1:1")),
        ("reason", json!("closed")),
        ("code", json!(4_001)),
        ("duration_ms", json!(1_234)),
        ("messages_in", json!(2)),
        ("messages_out", json!(3)),
        ("bytes_in", json!(bytes_in)),
    ] {
        assert_eq!(line[name], value, "{name} of {line}");
    }
    let answer = line["bytes_out"].as_u64().unwrap() - heard.len() as u64;
    assert!((100..200).contains(&answer), "the 101 has {answer} bytes");

    // The next connection in the slot counts from 0.
    let mut next = rig.client();
    rig.sends(&mut next, &get("/health"));
    next.far.leave();
    rig.run();
    let line = &rig.logged()[0];
    assert_eq!(
        [&line["reason"], &line["messages_in"], &line["duration_ms"]],
        [&json!("left"), &json!(0), &json!(0)]
    );
}

/// One end after another, each in a hub of its own, and what is logged of it by default.
#[test]
fn with_access_log_errors_only_faults_are_logged() {
    let quiet: [fn(&mut Rig); 5] = [
        |rig| rig.websocket().send(&close(1000)),
        |rig| rig.websocket().far.leave(),
        |rig| {
            let mut client = rig.client();
            rig.sends(&mut client, &get("/health"));
            client.far.leave();
        },
        // A health check that connects and leaves.
        |rig| rig.client().far.reset(),
        |rig| {
            let _stays = rig.websocket();
            rig.hub.drain(10);
            rig.pass(20_000);
        },
    ];
    for (nth, happens) in quiet.iter().enumerate() {
        let mut rig = rig(AccessLog::Errors);
        happens(&mut rig);
        rig.run();
        assert_eq!(logged_info(&rig), [""; 0], "the {nth}th");
        rig.assert_empty();
    }
    type Happens = fn(&mut Rig);
    let faults: [(Happens, &str); 7] = [
        (|rig| rig.websocket().far.reset(), "connection ended: reset"),
        (
            |rig| rig.websocket().send(&frame(0xC1, b"{}")),
            "connection ended: protocol_error",
        ),
        (
            |rig| rig.client().send(b"GET\r\n\r\n"),
            "connection ended: bad_request",
        ),
        (
            |rig| {
                let _slow = rig.client();
                rig.pass(20_000);
            },
            "connection ended: handshake_timeout",
        ),
        (
            |rig| {
                let _gone = rig.websocket();
                rig.pass(60_000);
            },
            "connection ended: silent",
        ),
        (
            |rig| rig.client().send(&get("/nothing")),
            "request refused: not_found",
        ),
        (
            |rig| {
                rig.hub.drain(60_000);
                rig.client().send(&upgrade("/ws", ""));
            },
            "request refused: draining",
        ),
    ];
    for (happens, expected) in faults {
        let mut rig = rig(AccessLog::Errors);
        happens(&mut rig);
        rig.pass(10_000);
        assert_eq!(
            logged_info(&rig).first().map(String::as_str),
            Some(expected)
        );
        let mut silent = self::rig(AccessLog::Off);
        happens(&mut silent);
        silent.pass(10_000);
        assert_eq!(silent.logged().len(), 0, "{expected}");
    }
}

#[test]
fn a_refused_upgrade_is_logged_with_address_and_reason() {
    let settings = Settings {
        authorizer: true,
        access_log: AccessLog::Errors,
        ..settings()
    };
    let mut rig = Rig::with_level(settings, Level::Info);
    let _ann = rig.upgrading("");
    rig.answer(Verdict::Deny);
    let lines = rig.logged();
    assert_eq!(lines.len(), 1);
    for (name, value) in [
        ("message", json!("request refused")),
        ("connection", json!("0000000000000001-00000000000000000001")),
        ("remote_addr", json!("127.0.0.1:1")),
        ("endpoint", json!("ws")),
        ("status", json!(403)),
        ("reason", json!("not_authorized")),
    ] {
        assert_eq!(lines[0][name], value, "{name} of {}", lines[0]);
    }
}

#[test]
fn many_faults_are_throttled_to_a_hundred_lines_and_a_count() {
    let mut rig = Rig::with_level(
        Settings {
            access_log: AccessLog::Errors,
            ..settings()
        },
        wsify::log::Level::Info,
    );
    let crowd: Vec<_> = (0..250).map(|_| rig.websocket()).collect();
    for client in &crowd {
        client.far.reset();
    }
    rig.run();
    assert_eq!(rig.logged().len(), 100);
    rig.pass(1_000);
    let lines = rig.logged();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["left_out"], 150);
    rig.websocket().far.reset();
    rig.run();
    assert_eq!(logged_info(&rig), ["connection ended: reset"]);
    assert_eq!(rig.hub.metrics().endings.get("reset"), 251);
}

#[test]
fn messages_are_counted_for_the_first_slots_only_unless_all_are_logged() {
    for (access_log, counted) in [(AccessLog::Errors, false), (AccessLog::All, true)] {
        let mut rig = rig(access_log);
        let _crowd: Vec<_> = (0..1024).map(|_| rig.client()).collect();
        let late = rig.websocket();
        rig.hub.clock.now += 5;
        late.far.reset();
        rig.run();
        let line = &rig.logged()[0];
        assert_eq!(line["duration_ms"].is_u64(), counted, "{line}");
        assert_eq!(line["bytes_in"].is_u64(), counted, "{line}");
    }
}
