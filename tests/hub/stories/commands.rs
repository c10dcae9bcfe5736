//! Commands of clients and their answers (`docs/protocol.md#commands`).

use wsify::effect::Verdict;
use wsify::hub::Settings;

use crate::client::{PING, broadcast, frame, join, leave, text, with_id};
use crate::rig::{Rig, settings};

fn error(heard: &[String]) -> String {
    let error: serde_json::Value = serde_json::from_str(&heard[0]).unwrap();
    assert_eq!(heard.len(), 1);
    let part = |name: &str| error["error"][name].as_str().unwrap_or("-").to_owned();
    format!(
        "{} {} {} {}",
        error["id"],
        part("code"),
        part("command"),
        part("channel")
    )
}

#[test]
fn success_is_silent_without_an_id_and_answered_with_one() {
    let mut rig = Rig::new();
    let mut ann = rig.websocket();
    assert_eq!(rig.says(&mut ann, &join("a")), [""; 0]);
    assert_eq!(rig.says(&mut ann, &leave("nowhere")), [""; 0]);
    assert_eq!(
        rig.says(&mut ann, &with_id(7, &join("b"))),
        [r#"{"id":7,"ok":true}"#]
    );
    let digits = r#"{"id":1.50e2,"command":"leave","args":{"channel":"b"}}"#;
    assert_eq!(rig.says(&mut ann, digits), [r#"{"id":1.50e2,"ok":true}"#]);
    let null = r#"{"id":null,"command":"leave","args":{"channel":"b"}}"#;
    assert_eq!(rig.says(&mut ann, null), [""; 0]);
}

#[test]
fn rate_limited_messages_are_answered_and_the_connection_stays() {
    let mut rig = Rig::with(Settings {
        max_message_rate: 2,
        authorizer: true,
        ..settings()
    });
    let mut ann = rig.websocket();
    let mut ben = rig.websocket();
    assert_eq!(rig.says(&mut ann, &join("a")), [""; 0]);
    assert_eq!(
        error(&rig.says(&mut ann, "nonsense")),
        "null bad_message - -"
    );
    // The authorizer is not asked about them, and the answers have whatever fields can be read.
    ann.say(&broadcast("a", "1"));
    ann.say(r#"{"id":7,"command":"sing"}"#);
    ann.send(&frame(PING, b"and pings are no messages"));
    rig.run();
    assert_eq!(rig.asked(), [""; 0]);
    let heard = ann.hear();
    assert_eq!(error(&heard[..1]), "null rate_limited broadcast a");
    assert_eq!(error(&heard[1..2]), "7 rate_limited sing -");
    assert_eq!(heard[2..], ["pong and pings are no messages"]);
    // The limit is each connection's own.
    assert_eq!(rig.says(&mut ben, &broadcast("a", "2")), [""; 0]);
    assert_eq!(ann.hear(), ["2"]);
    // Half a second allows one more.
    rig.pass(499);
    assert_eq!(
        error(&rig.says(&mut ann, &leave("a"))),
        "null rate_limited leave a"
    );
    rig.pass(1);
    assert_eq!(
        rig.says(&mut ann, &with_id(1, &leave("a"))),
        [r#"{"id":1,"ok":true}"#]
    );
    // The next connection in the slot has its full rate.
    ann.far.reset();
    rig.run();
    let mut cat = rig.websocket();
    assert_eq!(cat.id.slot, ann.id.slot);
    for _ in 0..2 {
        assert_eq!(rig.says(&mut cat, &join("a")), [""; 0]);
    }
}

#[test]
fn failed_commands_are_always_answered_and_the_connection_stays() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let table = [
        ("nonsense", "null bad_message - -"),
        ("[]", "null bad_message - -"),
        (
            r#"{"id":[],"command":"join","args":{"channel":"a"}}"#,
            "null bad_message join a",
        ),
        (
            r#"{"id":1,"command":"sing","args":{"channel":"a"}}"#,
            "1 unknown_command sing a",
        ),
        (r#"{"id":1,"command":"join"}"#, "1 bad_channel join -"),
        (
            r#"{"id":1,"command":"join","args":{"channel":" "}}"#,
            "1 bad_channel join -",
        ),
        (
            r#"{"id":1,"command":"join","args":{"channel":"a","channel":"b"}}"#,
            "1 bad_message join -",
        ),
    ];
    for (message, expected) in table {
        let heard = rig.sends(&mut ann, &text(message));
        assert_eq!(error(&heard), expected, "{message}");
        assert_eq!(rig.asked(), [""; 0], "{message}");
    }
    ann.say(&with_id(2, &join(" a ")));
    rig.run();
    rig.answer(Verdict::Deny);
    assert_eq!(error(&ann.hear()), "2 not_authorized join a");
    ann.say(&broadcast("a", "1"));
    rig.run();
    rig.answer(Verdict::Deny);
    assert_eq!(error(&ann.hear()), "null not_authorized broadcast a");
    assert_eq!(rig.hub.inventory().channels, 0);
}

#[test]
fn a_command_is_answered_when_it_has_taken_effect() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    ann.say(&with_id(1, &join("a")));
    rig.run();
    assert_eq!((ann.hear(), rig.hub.inventory().memberships), (vec![], 0));
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#]);
    assert_eq!(rig.hub.inventory().memberships, 1);
}

#[test]
fn an_authorizer_that_is_down_ends_the_connection_with_1013() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.member("a");
    let mut ben = rig.member("a");
    ann.say(&broadcast("a", "1"));
    rig.run();
    rig.answer(Verdict::Unavailable);
    assert_eq!(ann.hear(), ["close 1013"]);
    assert_eq!(ben.hear(), [""; 0], "the command has no effect yet");
    assert_eq!(rig.hub.inventory().memberships, 1);
}

#[test]
fn one_question_is_open_at_a_time_and_other_messages_wait_in_order() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.member("a");
    let mut ben = rig.websocket();
    let said = [
        text(&with_id(1, &broadcast("a", "1"))),
        text(&with_id(2, &leave("a"))),
        text("bad"),
    ];
    ann.send(&said.concat());
    rig.run();
    assert_eq!(rig.asked(), ["broadcast a"]);
    // Other clients never wait for it.
    assert_eq!(rig.sends(&mut ben, &frame(PING, b"hi")), ["pong hi"]);
    ben.say(&with_id(3, &join("a")));
    rig.run();
    assert_eq!(rig.asked(), ["broadcast a", "join a"]);
    let first = rig.questions.pop_front().unwrap();
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), [r#"{"id":3,"ok":true}"#]);
    rig.questions.push_front(first);
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), ["leave a"]);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#, "1"]);
    rig.answer(Verdict::Allow);
    let heard = ann.hear();
    assert_eq!(heard[0], r#"{"id":2,"ok":true}"#);
    assert!(heard[1].contains("bad_message"), "{heard:?}");
    assert_eq!(ben.hear(), ["1"]);
}

#[test]
fn a_ping_waits_while_a_question_is_open() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    ann.send(&[text(&join("a")), frame(PING, b"?")].concat());
    rig.run();
    assert_eq!(ann.hear(), [""; 0]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["pong ?"]);
}

#[test]
fn a_message_may_come_in_fragments_with_a_ping_in_between() {
    let mut rig = Rig::new();
    let mut ann = rig.member("a");
    let said = broadcast("a", r#""é""#).into_bytes();
    let torn = said.len() - 4;
    let pieces = [
        frame(0x01, &said[..5]),
        frame(PING, b"between"),
        frame(0x00, &said[5..torn]),
        frame(0x80, &said[torn..]),
    ];
    assert_eq!(rig.sends(&mut ann, &pieces[..2].concat()), ["pong between"]);
    assert_eq!(rig.sends(&mut ann, &pieces[2..].concat()), [r#""é""#]);
    for byte in pieces.concat() {
        ann.send(&[byte]);
        rig.run();
    }
    assert_eq!(ann.hear(), ["pong between", r#""é""#]);
    // Binary messages hold JSON too.
    assert_eq!(rig.sends(&mut ann, &frame(0x82, &said)), [r#""é""#]);
}

#[test]
fn a_join_over_max_channels_is_refused() {
    let mut rig = Rig::with(Settings {
        max_channels: 2,
        authorizer: true,
        ..settings()
    });
    let mut ann = rig.websocket();
    rig.says(&mut ann, &join("a"));
    rig.says(&mut ann, &join("b"));
    let heard = rig.sends(&mut ann, &text(&with_id(1, &join("c"))));
    assert_eq!(error(&heard), "1 too_many_channels join c");
    assert_eq!(rig.asked(), [""; 0]);
    assert_eq!(
        rig.says(&mut ann, &with_id(2, &join("b"))),
        [r#"{"id":2,"ok":true}"#]
    );
    rig.says(&mut ann, &leave("a"));
    assert_eq!(
        rig.says(&mut ann, &with_id(3, &join("c"))),
        [r#"{"id":3,"ok":true}"#]
    );
}

#[test]
fn a_broadcast_is_published_though_the_client_hangs_up_at_once() {
    let mut rig = Rig::with_authorizer();
    let mut ben = rig.member("a");
    let ann = rig.websocket();
    ann.say(&broadcast("a", "1"));
    ann.say(&broadcast("a", "2"));
    ann.far.leave();
    rig.run();
    assert!(!ann.far.is_dropped());
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), ["1"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), ["2"]);
    assert!(ann.far.is_dropped());
}

#[test]
fn a_broadcast_is_published_though_the_client_vanishes_and_is_written_to() {
    let mut rig = Rig::with_authorizer();
    let mut ben = rig.member("a");
    let ann = rig.member("a");
    ann.say(&broadcast("a", "1"));
    ann.say(&broadcast("a", "2"));
    rig.run();
    ann.far.vanish();
    // A message published meanwhile is written to a client that has vanished.
    ben.say(&broadcast("a", "0"));
    rig.run();
    let hers = rig.questions.pop_front().unwrap();
    rig.answer(Verdict::Allow);
    rig.questions.push_front(hers);
    assert_eq!(ben.hear(), ["0"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), ["1"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), ["2"]);
    assert!(ann.far.is_dropped());
    assert_eq!(rig.hub.inventory().memberships, 1);
}
