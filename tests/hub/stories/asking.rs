//! Questions about clients that leave, and what is logged about answers.

use wsify::effect::{ConnId, Verdict};
use wsify::hub::{Inventory, Settings};
use wsify::wire::answer_fields::{AnswerLimits, Asked, read};

use crate::client::{broadcast, get, local, text, upgrade, with_id};
use crate::rig::{Rig, settings};

fn withdrawn(rig: &mut Rig) -> Vec<ConnId> {
    std::mem::take(&mut rig.withdrawn)
}

#[test]
fn the_upgrade_question_of_a_client_that_was_reset_is_withdrawn_and_its_place_is_free() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        max_connections: 1,
        max_connections_per_ip: 1,
        ..settings()
    });
    let ann = rig.upgrading("");
    assert_eq!(rig.asked(), ["connect"]);
    ann.far.reset();
    rig.run();
    assert_eq!(withdrawn(&mut rig), [ann.id]);
    assert!(ann.far.is_dropped());
    assert_eq!(rig.hub.inventory(), Inventory::default());
    let late = rig.questions.pop_front().unwrap();
    let mut ben = rig.websocket();
    // A question that a worker has taken by then is answered all the same. The answer has no effect.
    rig.send_verdict(&late, Verdict::Allow, None);
    rig.run();
    assert_eq!(ben.hear(), [""; 0]);
    assert_eq!(rig.hub.inventory().websockets, 1);
}

#[test]
fn a_client_that_ends_its_stream_behind_its_upgrade_request_has_left() {
    // After the question was asked, and together with the request.
    for at_once in [false, true] {
        let mut rig = Rig::with_authorizer();
        let ann = rig.client();
        ann.send(&upgrade("/ws", ""));
        if !at_once {
            rig.run();
            assert_eq!(rig.asked(), ["connect"]);
        }
        ann.far.leave();
        rig.run();
        assert_eq!(withdrawn(&mut rig), [ann.id], "{at_once}");
        assert!(ann.far.is_dropped());
        assert_eq!(rig.hub.inventory(), Inventory::default());
    }
}

#[test]
fn messages_behind_an_upgrade_request_are_handled_though_the_client_has_left() {
    for at_once in [false, true] {
        let mut rig = Rig::with_authorizer();
        let mut ben = rig.member("a");
        let mut ann = rig.client();
        ann.send(&upgrade("/ws", ""));
        if !at_once {
            rig.run();
        }
        ann.send(&text(&with_id(1, &broadcast("a", "1"))));
        ann.far.leave();
        rig.run();
        assert_eq!(rig.asked(), ["connect"], "{at_once}");
        rig.answer(Verdict::Allow);
        assert_eq!(rig.asked(), ["broadcast a"]);
        rig.answer(Verdict::Allow);
        assert_eq!(ben.hear(), ["1"]);
        assert_eq!(ann.hear(), ["101", r#"{"id":1,"ok":true}"#, "end"]);
        assert!(ann.far.is_dropped());
        assert_eq!(withdrawn(&mut rig), [], "{at_once}");
    }
}

#[test]
fn answers_before_an_upgrade_are_still_sent() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.client();
    ann.far.narrow(0);
    ann.send(&[get("/health"), upgrade("/ws", "")].concat());
    ann.far.leave();
    rig.run();
    ann.far.widen(10_000);
    rig.run();
    assert_eq!(ann.hear()[0], r#"200 {"status":"ok"}"#);
}

#[test]
fn the_question_about_a_command_is_withdrawn_when_the_client_was_reset() {
    let mut rig = Rig::with_authorizer();
    let mut ben = rig.member("a");
    let ann = rig.member("a");
    ann.say(&broadcast("a", "1"));
    ann.say(&broadcast("a", "2"));
    rig.run();
    ann.far.reset();
    rig.run();
    assert_eq!(withdrawn(&mut rig), [ann.id]);
    assert!(ann.far.is_dropped());
    assert_eq!(rig.hub.inventory().memberships, 1);
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), [""; 0]);
    assert_eq!(ben.hear(), [""; 0]);
}

#[test]
fn no_question_is_asked_about_a_client_that_was_reset() {
    let mut rig = Rig::with_authorizer();
    let ann = rig.websocket();
    ann.say(&broadcast("a", "1"));
    ann.far.reset();
    let ben = rig.client();
    ben.send(&upgrade("/ws", ""));
    ben.far.reset();
    rig.run();
    assert_eq!(rig.asked(), [""; 0]);
    assert!(ann.far.is_dropped() && ben.far.is_dropped());
    rig.assert_empty();
}

#[test]
fn a_message_is_handled_though_the_client_closed_behind_it_and_is_written_to() {
    let mut rig = Rig::with_authorizer();
    let mut ben = rig.member("a");
    let ann = rig.member("a");
    ann.say(&broadcast("a", "1"));
    rig.run();
    ann.far.close();
    rig.run();
    let hers = rig.questions.pop_front().unwrap();
    // Anything that reaches a closed end leads to a reset.
    ben.say(&broadcast("a", "0"));
    rig.run();
    rig.answer(Verdict::Allow);
    assert!(!ann.far.is_dropped());
    rig.send_verdict(&hers, Verdict::Allow, None);
    rig.run();
    assert_eq!(ben.hear(), ["0", "1"]);
    assert_eq!(withdrawn(&mut rig), []);
    assert!(ann.far.is_dropped());
}

#[test]
fn a_stop_withdraws_open_upgrade_questions() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.upgrading("");
    rig.hub.drain(1_000);
    rig.run();
    assert_eq!(withdrawn(&mut rig), [ann.id]);
    assert_eq!(ann.hear()[0], "503 draining, close");
}

#[test]
fn a_flood_behind_an_open_question_withdraws_it() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        max_total_queue: 60_000,
        ..settings()
    });
    let ann = rig.client_from(local(7));
    ann.send(&[upgrade("/ws", ""), vec![b'x'; 63_000]].concat());
    rig.run();
    assert_eq!(withdrawn(&mut rig), [ann.id]);
    assert_eq!(rig.hub.inventory().websockets, 0);
}

#[test]
fn the_status_of_an_answer_that_is_not_200_is_logged_and_counted() {
    let mut rig = Rig::with_authorizer();
    for (status, verdict) in [
        (Some(200), Verdict::Allow),
        (Some(204), Verdict::Deny),
        (Some(202), Verdict::Deny),
        (Some(302), Verdict::Deny),
        (Some(419), Verdict::Deny),
        (Some(101), Verdict::Deny),
        (Some(999), Verdict::Deny),
        (Some(502), Verdict::Unavailable),
        (None, Verdict::Unavailable),
    ] {
        let _ann = rig.upgrading("");
        rig.logged();
        let question = rig.questions.pop_front().unwrap();
        rig.send_verdict(&question, verdict, None).status = status;
        rig.run();
        let lines = rig.logged();
        let of = |level: &str| {
            lines
                .iter()
                .find(|line| line["level"] == level && line["status"] == status.unwrap_or_default())
        };
        let debug = of("debug").is_some();
        assert_eq!(
            debug,
            status.is_some_and(|it| it != 200),
            "{status:?}: {lines:?}"
        );
        // At most once a minute.
        assert_eq!(of("warn").is_some(), status == Some(204), "{status:?}");
    }
    rig.pass(60_000);
    let _ann = rig.upgrading("");
    let question = rig.questions.pop_front().unwrap();
    rig.logged();
    rig.send_verdict(&question, Verdict::Deny, None).status = Some(201);
    rig.run();
    let lines = rig.logged();
    let warning = lines.iter().find(|line| line["level"] == "warn").unwrap();
    assert_eq!(
        (&warning["status"], &warning["left_out"]),
        (&201.into(), &1.into())
    );
    let ben = rig.client();
    ben.send(&get("/metrics"));
    rig.run();
    let metrics = String::from_utf8(ben.far.receive()).unwrap();
    for (class, count) in [
        ("200", 1),
        ("1xx", 1),
        ("2xx", 3),
        ("3xx", 1),
        ("4xx", 1),
        ("5xx", 1),
        ("other", 1),
        ("none", 1),
    ] {
        let sample = format!("wsify_authorizer_answers_total{{class=\"{class}\"}} {count}\n");
        assert!(metrics.contains(&sample), "{sample} in {metrics}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_logged_at_most_once_a_minute() {
    let mut rig = Rig::with_authorizer();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut ann = rig.upgrading("");
        let question = rig.questions.pop_front().unwrap();
        let why = Some("it begins with a byte order mark (BOM)".to_owned());
        rig.send_verdict(&question, Verdict::Allow, None).unreadable = why;
        rig.run();
        assert_eq!(ann.hear(), ["101"]);
        let warnings = rig
            .logged()
            .into_iter()
            .filter(|line| line["level"] == "warn");
        seen.extend(warnings.map(|line| format!("{} {}", line["reason"], line["left_out"])));
        rig.pass(20_000);
    }
    let line = r#""it begins with a byte order mark (BOM)""#;
    assert_eq!(seen, [format!("{line} null"), format!("{line} 2")]);
}

#[test]
fn a_wrong_field_is_logged_at_most_once_a_minute_for_each_field() {
    let mut rig = Rig::with_authorizer();
    let mut seen = Vec::new();
    let answers = [
        (Verdict::Unavailable, 200, r#"{"user":1.5,"state":1}"#),
        (Verdict::Deny, 403, r#"{"message":""}"#),
        (Verdict::Unavailable, 200, r#"{"user":false}"#),
        (Verdict::Deny, 403, r#"{"message":[]}"#),
        (Verdict::Unavailable, 200, r#"{"user":[]}"#),
    ];
    for (verdict, status, body) in answers {
        let _ann = rig.upgrading("");
        let question = rig.questions.pop_front().unwrap();
        let limits = AnswerLimits {
            channels: 1,
            content: 1000,
        };
        let reading = read(Asked::Connect, status, body.as_bytes(), &limits);
        let answer = rig.send_verdict(&question, verdict, None);
        answer.wrong = reading.wrong;
        answer.status = Some(status);
        rig.run();
        let warnings = rig
            .logged()
            .into_iter()
            .filter(|line| line["level"] == "warn");
        seen.extend(warnings.map(|line| {
            let names = ["field", "value", "reason", "command", "status", "left_out"];
            names.map(|name| line[name].to_string()).join(" ")
        }));
        rig.pass(20_000);
    }
    assert_eq!(
        seen,
        [
            r#""user" "1.5" "expected a string of 1 to 255 bytes, or an integer without fraction and exponent" "connect" 200 null"#,
            r#""message" "\"\"" "expected a string of 1 to 256 bytes" "connect" 403 null"#,
            r#""user" "[]" "expected a string of 1 to 255 bytes, or an integer without fraction and exponent" "connect" 200 1"#,
        ]
    );
}
