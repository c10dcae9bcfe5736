//! Questions about clients that leave, and what is logged about answers.

use wsify::effect::{ConnId, Verdict};
use wsify::hub::{Inventory, Settings};
use wsify::wire::answer_fields::{AnswerLimits, Asked, read};

use crate::client::{broadcast, get, local, text, upgrade};
use crate::house::{House, settings};

fn withdrawn(house: &mut House) -> Vec<ConnId> {
    std::mem::take(&mut house.withdrawn)
}

#[test]
fn the_upgrade_question_of_a_client_that_was_reset_is_withdrawn_and_its_place_is_free() {
    let mut house = House::with(Settings {
        authorizer: true,
        max_connections: 1,
        max_connections_per_ip: 1,
        ..settings()
    });
    let ann = house.upgrading("");
    assert_eq!(house.asked(), ["connect"]);
    ann.far.reset();
    house.run();
    assert_eq!(withdrawn(&mut house), [ann.id]);
    assert!(ann.far.is_dropped());
    assert_eq!(house.hub.inventory(), Inventory::default());
    let late = house.questions.pop_front().unwrap();
    let mut ben = house.websocket();
    // A question that a worker has taken by then is answered all the same. The answer has no effect.
    house.send_verdict(&late, Verdict::Allow, None);
    house.run();
    assert_eq!(ben.hear(), [""; 0]);
    assert_eq!(house.hub.inventory().websockets, 1);
}

#[test]
fn a_client_that_ends_its_stream_behind_its_upgrade_request_has_left() {
    // After the question was asked, and together with the request.
    for at_once in [false, true] {
        let mut house = House::asking();
        let ann = house.client();
        ann.send(&upgrade("/ws", ""));
        if !at_once {
            house.run();
            assert_eq!(house.asked(), ["connect"]);
        }
        ann.far.leave();
        house.run();
        assert_eq!(withdrawn(&mut house), [ann.id], "{at_once}");
        assert!(ann.far.is_dropped());
        assert_eq!(house.hub.inventory(), Inventory::default());
    }
}

#[test]
fn messages_behind_an_upgrade_request_are_handled_though_the_client_has_left() {
    for at_once in [false, true] {
        let mut house = House::asking();
        let mut ben = house.member("a");
        let ann = house.client();
        ann.send(&upgrade("/ws", ""));
        if !at_once {
            house.run();
        }
        ann.send(&text(&broadcast("a", "1")));
        ann.far.leave();
        house.run();
        assert_eq!(house.asked(), ["connect"], "{at_once}");
        house.answer(Verdict::Allow);
        assert_eq!(house.asked(), ["broadcast a"]);
        house.answer(Verdict::Allow);
        assert_eq!(ben.hear(), ["1"]);
        assert!(ann.far.is_dropped());
        assert_eq!(withdrawn(&mut house), [], "{at_once}");
    }
}

#[test]
fn what_was_answered_before_the_upgrade_is_still_sent() {
    let mut house = House::asking();
    let mut ann = house.client();
    ann.far.narrow(0);
    ann.send(&[get("/health"), upgrade("/ws", "")].concat());
    ann.far.leave();
    house.run();
    ann.far.widen(10_000);
    house.run();
    assert_eq!(ann.hear()[0], r#"200 {"status":"ok"}"#);
}

#[test]
fn the_question_about_a_command_is_withdrawn_when_the_client_was_reset() {
    let mut house = House::asking();
    let mut ben = house.member("a");
    let ann = house.member("a");
    ann.say(&broadcast("a", "1"));
    ann.say(&broadcast("a", "2"));
    house.run();
    ann.far.reset();
    house.run();
    assert_eq!(withdrawn(&mut house), [ann.id]);
    assert!(ann.far.is_dropped());
    assert_eq!(house.hub.inventory().memberships, 1);
    house.answer(Verdict::Allow);
    assert_eq!(house.asked(), [""; 0]);
    assert_eq!(ben.hear(), [""; 0]);
}

#[test]
fn no_question_is_asked_about_a_client_that_was_reset() {
    let mut house = House::asking();
    let ann = house.websocket();
    ann.say(&broadcast("a", "1"));
    ann.far.reset();
    let ben = house.client();
    ben.send(&upgrade("/ws", ""));
    ben.far.reset();
    house.run();
    assert_eq!(house.asked(), [""; 0]);
    assert!(ann.far.is_dropped() && ben.far.is_dropped());
    house.assert_empty();
}

#[test]
fn a_message_is_handled_though_the_client_closed_behind_it_and_is_written_to() {
    let mut house = House::asking();
    let mut ben = house.member("a");
    let ann = house.member("a");
    ann.say(&broadcast("a", "1"));
    house.run();
    ann.far.close();
    house.run();
    let hers = house.questions.pop_front().unwrap();
    // Anything that reaches a closed end leads to a reset.
    ben.say(&broadcast("a", "0"));
    house.run();
    house.answer(Verdict::Allow);
    assert!(!ann.far.is_dropped());
    house.send_verdict(&hers, Verdict::Allow, None);
    house.run();
    assert_eq!(ben.hear(), ["0", "1"]);
    assert_eq!(withdrawn(&mut house), []);
    assert!(ann.far.is_dropped());
}

#[test]
fn a_stop_withdraws_open_upgrade_questions() {
    let mut house = House::asking();
    let mut ann = house.upgrading("");
    house.hub.drain(1_000);
    house.run();
    assert_eq!(withdrawn(&mut house), [ann.id]);
    assert_eq!(ann.hear()[0], "503 draining, close");
}

#[test]
fn a_flood_behind_an_open_question_withdraws_it() {
    let mut house = House::with(Settings {
        authorizer: true,
        max_total_queue: 60_000,
        ..settings()
    });
    let ann = house.client_from(local(7));
    ann.send(&[upgrade("/ws", ""), vec![b'x'; 63_000]].concat());
    house.run();
    assert_eq!(withdrawn(&mut house), [ann.id]);
    assert_eq!(house.hub.inventory().websockets, 0);
}

#[test]
fn the_status_of_an_answer_that_is_not_200_is_logged_and_counted() {
    let mut house = House::asking();
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
        let _ann = house.upgrading("");
        house.logged();
        let question = house.questions.pop_front().unwrap();
        house.send_verdict(&question, verdict, None).status = status;
        house.run();
        let lines = house.logged();
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
    house.pass(60_000);
    let _ann = house.upgrading("");
    let question = house.questions.pop_front().unwrap();
    house.logged();
    house.send_verdict(&question, Verdict::Deny, None).status = Some(201);
    house.run();
    assert!(
        house
            .logged()
            .iter()
            .any(|line| line["level"] == "warn" && line["status"] == 201)
    );
    let ben = house.client();
    ben.send(&get("/metrics"));
    house.run();
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
    let mut house = House::asking();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut ann = house.upgrading("");
        let question = house.questions.pop_front().unwrap();
        let why = Some("it begins with a byte order mark (BOM)".to_owned());
        house
            .send_verdict(&question, Verdict::Allow, None)
            .unreadable = why;
        house.run();
        assert_eq!(ann.hear(), ["101"]);
        let warnings = house
            .logged()
            .into_iter()
            .filter(|line| line["level"] == "warn");
        seen.extend(warnings.map(|line| line["reason"].clone()));
        house.pass(20_000);
    }
    assert_eq!(seen, ["it begins with a byte order mark (BOM)"]);
}

#[test]
fn a_wrong_field_is_logged_at_most_once_a_minute_for_each_field() {
    let mut house = House::asking();
    let mut seen = Vec::new();
    let answers = [
        (Verdict::Unavailable, 200, r#"{"user":1.5,"state":1}"#),
        (Verdict::Deny, 403, r#"{"message":""}"#),
        (Verdict::Unavailable, 200, r#"{"user":false}"#),
        (Verdict::Deny, 403, r#"{"message":[]}"#),
        (Verdict::Unavailable, 200, r#"{"user":[]}"#),
    ];
    for (verdict, status, body) in answers {
        let _ann = house.upgrading("");
        let question = house.questions.pop_front().unwrap();
        let limits = AnswerLimits {
            channels: 1,
            content: 1000,
        };
        let reading = read(Asked::Connect, status, body.as_bytes(), &limits);
        let answer = house.send_verdict(&question, verdict, None);
        answer.wrong = reading.wrong;
        answer.status = Some(status);
        house.run();
        let warnings = house
            .logged()
            .into_iter()
            .filter(|line| line["level"] == "warn");
        seen.extend(warnings.map(|line| {
            format!(
                "{} {} {} {} {}",
                line["field"], line["value"], line["reason"], line["command"], line["status"]
            )
        }));
        house.pass(20_000);
    }
    assert_eq!(
        seen,
        [
            r#""user" "1.5" "expected a string of 1 to 255 bytes, or an integer without fraction and exponent" "connect" 200"#,
            r#""message" "\"\"" "expected a string of 1 to 256 bytes" "connect" 403"#,
            r#""user" "[]" "expected a string of 1 to 255 bytes, or an integer without fraction and exponent" "connect" 200"#,
        ]
    );
}
