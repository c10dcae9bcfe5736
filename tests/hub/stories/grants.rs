//! What the fields of the authorizer's answers do (`docs/authorizer.md#grants`).

use serde_json::Value;
use wsify::effect::Verdict;
use wsify::hub::Settings;
use wsify::wire::answer_fields::{Allow, AnswerFields, CloseWith, NewState};
use wsify::wire::channel_name::ChannelName;

use crate::broker::{BROKER_REFUSAL, Broker};
use crate::client::{Client, PING, broadcast, frame, get, join, leave, with_id};
use crate::rig::{Rig, settings};

fn fields() -> AnswerFields {
    AnswerFields::default()
}

fn state(json: &str) -> Option<NewState> {
    Some(NewState::Json(json.into()))
}

fn allow(join: &[&str], leave: &[&str], broadcast: &[&str]) -> Option<Allow> {
    let patterns = |list: &[&str]| list.iter().map(|it| (*it).into()).collect();
    Some(Allow {
        join: patterns(join),
        leave: patterns(leave),
        broadcast: patterns(broadcast),
    })
}

fn channels(names: &[&str]) -> Vec<ChannelName> {
    names.iter().map(|it| ChannelName::checked(it)).collect()
}

fn ok(id: u64) -> String {
    format!(r#"{{"id":{id},"ok":true}}"#)
}

/// What a client hears after it has said something that is not to be asked about.
fn says_unasked(rig: &mut Rig, client: &mut Client, message: &str) -> Vec<String> {
    client.say(message);
    rig.run();
    assert_eq!(rig.asked(), [""; 0], "{message}");
    client.hear()
}

/// What a client hears after it has said something that is asked about and refused, or allowed, with fields.
fn says_asked(
    rig: &mut Rig,
    client: &mut Client,
    message: &str,
    verdict: Verdict,
    fields: AnswerFields,
) -> Vec<String> {
    client.say(message);
    rig.run();
    assert_eq!(rig.questions.len(), 1, "{message}");
    rig.answer_fields(verdict, fields);
    client.hear()
}

fn refused(command: &str, message: &str) -> String {
    format!(
        r#"{{"error":{{"code":"not_authorized","message":"{message}","command":"{command}","channel":"a"}}}}"#
    )
}

fn metric(rig: &mut Rig, sample: &str) -> u64 {
    let client = rig.client();
    client.send(&get("/metrics"));
    rig.run();
    let text = String::from_utf8(client.far.receive()).unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(sample));
    let value = found.unwrap_or_else(|| panic!("no {sample}")).trim();
    client.far.reset();
    rig.run();
    value.parse().unwrap()
}

// -- user and state

#[test]
fn a_user_is_shown_in_every_later_question() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.granted(AnswerFields {
        user: Some("o\"neil".into()),
        ..fields()
    });
    for message in [join("a"), broadcast("a", "1"), leave("a")] {
        ann.say(&message);
        rig.run();
        assert_eq!(rig.connection_shown()["user"], "o\"neil", "{message}");
        rig.answer(Verdict::Allow);
    }
    assert_eq!(ann.hear(), ["1"]);
    let ben = rig.websocket();
    ben.say(&join("a"));
    rig.run();
    assert_eq!(rig.connection_shown().get("user"), None);
}

#[test]
fn a_user_is_shown_in_the_access_log_and_by_taps() {
    let mut rig = Rig::with_authorizer();
    let tap = rig.client();
    tap.send(&get("/tap"));
    rig.run();
    let ann = rig.granted(AnswerFields {
        user: Some("42".into()),
        ..fields()
    });
    ann.say(&join("a"));
    rig.run();
    rig.answer(Verdict::Allow);
    ann.far.reset();
    rig.run();
    let shown = String::from_utf8(tap.far.receive()).unwrap();
    let with_user: Vec<&str> = shown
        .split("\n\n")
        .filter(|event| event.contains(r#","user":"42""#))
        .filter_map(|event| event.strip_prefix("event: ")?.split('\n').next())
        .collect();
    assert_eq!(with_user, ["open", "question", "verdict", "join", "end"]);
    let lines = rig.logged();
    let ended = lines.iter().find(|line| line["reason"] == "reset").unwrap();
    assert_eq!(ended["user"], "42");
}

#[test]
fn any_yes_may_replace_the_state_or_remove_it() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.granted(AnswerFields {
        user: Some("42".into()),
        state: state(r#"{"n": 1.0}"#),
        ..fields()
    });
    for (message, next, shown) in [
        (join("a"), state(r#"{"n":2}"#), r#"{"n": 1.0}"#),
        (broadcast("b", "1"), None, r#"{"n":2}"#),
        (leave("a"), Some(NewState::Removed), r#"{"n":2}"#),
        (join("a"), state("\"back\""), ""),
        (join("a"), None, "\"back\""),
    ] {
        ann.say(&message);
        rig.run();
        let body = String::from_utf8(rig.questions[0].body.clone()).unwrap();
        let state_shown = match body.split_once(r#","state":"#) {
            Some((_, rest)) => &rest[..rest.len() - 2],
            None => "",
        };
        assert_eq!(state_shown, shown, "{message}");
        assert_eq!(rig.connection_shown()["user"], "42");
        let fields = AnswerFields {
            state: next,
            ..fields()
        };
        rig.answer_fields(Verdict::Allow, fields);
    }
    assert_eq!(ann.hear(), [""; 0]);
    ann.far.reset();
    rig.run();
    rig.assert_empty();
}

// -- refusals

#[test]
fn a_refusal_s_message_is_told_to_the_client() {
    let mut rig = Rig::with_authorizer();
    let message = |text: &str| AnswerFields {
        message: Some(text.into()),
        ..fields()
    };
    let mut ann = rig.websocket();
    for (said, command) in [
        (join("a"), "join"),
        (leave("a"), "leave"),
        (broadcast("a", "1"), "broadcast"),
    ] {
        let heard = says_asked(&mut rig, &mut ann, &said, Verdict::Deny, message("pay"));
        assert_eq!(heard, [refused(command, "pay")]);
    }
    let heard = says_asked(&mut rig, &mut ann, &join("a"), Verdict::Deny, fields());
    assert_eq!(heard, [refused("join", "the authorizer says no")]);
    let mut ben = rig.upgrading("");
    rig.answer_fields(Verdict::Deny, message("your token has expired"));
    assert_eq!(ben.hear(), ["403 not_authorized"]);
    let body = ben.head.split("\r\n\r\n").nth(1).unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["message"], "your token has expired");
}

#[test]
fn a_refusal_may_close_the_connection_behind_its_error() {
    for (reason, told) in [
        (Some("too often"), "too often"),
        (None, "the authorizer says no"),
        (Some(""), ""),
    ] {
        let mut rig = Rig::with_authorizer();
        let mut ben = rig.member("a");
        let mut ann = rig.member("a");
        ann.say(&broadcast("a", "1"));
        ann.say(&broadcast("a", "2"));
        rig.run();
        rig.answer_fields(
            Verdict::Deny,
            AnswerFields {
                message: Some("no".into()),
                close: Some(CloseWith {
                    code: 4999,
                    reason: reason.map(Into::into),
                }),
                ..fields()
            },
        );
        assert_eq!(ann.hear(), [&refused("broadcast", "no"), "close 4999"]);
        assert_eq!(ann.reason, told);
        assert_eq!(rig.asked(), [""; 0], "what waited behind it is dropped");
        assert_eq!(rig.hub.inventory().websockets, 1);
        rig.pass(10_000);
        assert_eq!(ben.hear(), [""; 0]);
        let lines = rig.logged();
        let ended = lines.iter().find(|line| line["reason"] == "refused");
        assert_eq!(ended.unwrap()["code"], 4999);
    }
}

// -- content

#[test]
fn a_content_is_published_in_place_of_the_client_s_byte_for_byte() {
    let content = r#"{ "n": 1.00, "é": "\u0061"}"#;
    let answer = AnswerFields {
        content: Some(content.as_bytes().into()),
        ..fields()
    };
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.member("a");
    let said = with_id(7, &broadcast("a", "\"mine\""));
    ann.say(&said);
    rig.run();
    rig.answer_fields(Verdict::Allow, answer.clone());
    let mut heard = ann.hear();
    heard.sort();
    assert_eq!(heard, [content.to_owned(), ok(7)]);

    // And over a broker.
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let ann = rig.websocket();
    ann.say(&broadcast("a", "\"mine\""));
    broker.run(&mut rig);
    rig.answer_fields(Verdict::Allow, answer);
    broker.run(&mut rig);
    let published = broker.execute_publication();
    assert_eq!(published, Some(("a".to_owned(), content.to_owned())));
}

// -- allow

#[test]
fn commands_that_allow_covers_are_not_asked_about() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.granted(AnswerFields {
        allow: allow(&["news", "user:42:*"], &["*"], &["user:42:*"]),
        ..fields()
    });
    for (message, heard) in [
        (with_id(1, &join("news")), vec![ok(1)]),
        (join("  user:42:é "), vec![]),
        (with_id(2, &leave("anything")), vec![ok(2)]),
        (broadcast("user:42:é", "1"), vec!["1".to_owned()]),
    ] {
        assert_eq!(says_unasked(&mut rig, &mut ann, &message), heard);
    }
    for message in [join("newsletter"), join("user:4"), broadcast("news", "1")] {
        ann.say(&message);
        rig.run();
        assert_eq!(rig.questions.len(), 1, "{message}");
        rig.answer(Verdict::Deny);
        assert_eq!(ann.hear().len(), 1);
    }
    // Others have nothing of it.
    let ben = rig.websocket();
    ben.say(&join("news"));
    rig.run();
    assert_eq!(rig.asked(), ["join news"]);
    let by_allow = r#"wsify_authorizer_unasked_total{by="allow"}"#;
    assert_eq!(metric(&mut rig, by_allow), 4);
    let joins = r#"wsify_authorizer_questions_total{command="join"}"#;
    assert_eq!(metric(&mut rig, joins), 3);
}

#[test]
fn the_server_s_own_limits_hold_for_what_allow_covers() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        max_channels: 1,
        max_message_rate: 2,
        ..settings()
    });
    let mut ann = rig.granted(AnswerFields {
        allow: allow(&["*"], &[], &[]),
        ..fields()
    });
    assert_eq!(says_unasked(&mut rig, &mut ann, &join("a")), [""; 0]);
    for code in ["too_many_channels", "rate_limited"] {
        let heard = says_unasked(&mut rig, &mut ann, &join("b"));
        assert!(heard[0].contains(code), "{heard:?}");
    }
}

#[test]
fn a_tap_shows_why_a_command_was_not_asked_about() {
    let mut rig = Rig::with_authorizer();
    let tap = rig.client();
    tap.send(&get("/tap?channel=a"));
    rig.run();
    let mut ann = rig.granted(AnswerFields {
        allow: allow(&["a*"], &[], &[]),
        ..fields()
    });
    let no = AnswerFields {
        max_age: Some(60),
        ..fields()
    };
    says_unasked(&mut rig, &mut ann, &join("a"));
    says_asked(&mut rig, &mut ann, &leave("a"), Verdict::Deny, no);
    says_unasked(&mut rig, &mut ann, &leave("a"));
    let shown = String::from_utf8(tap.far.receive()).unwrap();
    let known: Vec<&str> = shown
        .split("\n\n")
        .filter(|event| event.starts_with("event: verdict"))
        .filter_map(|event| event.split(r#""channel":"a","#).nth(1))
        .filter(|event| event.contains(r#""by""#))
        .collect();
    assert_eq!(
        known,
        [
            r#""command":"join","verdict":"allow","by":"allow","pattern":"a*"}"#,
            r#""command":"leave","verdict":"deny","by":"max_age"}"#,
        ]
    );
}

// -- max_age

#[test]
fn an_answer_is_remembered_for_its_command_and_channel() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let yes = AnswerFields {
        max_age: Some(2),
        state: state("1"),
        ..fields()
    };
    let asked = says_asked(&mut rig, &mut ann, &join("a"), Verdict::Allow, yes);
    assert_eq!(asked, [""; 0]);
    // The state is not set again.
    let other = AnswerFields {
        state: state("2"),
        ..fields()
    };
    says_asked(&mut rig, &mut ann, &leave("a"), Verdict::Allow, other);
    assert_eq!(says_unasked(&mut rig, &mut ann, &join(" a ")), [""; 0]);
    ann.say(&join("b"));
    rig.run();
    assert_eq!(rig.connection_shown()["state"], 2);
    rig.answer(Verdict::Allow);
    rig.pass(1_999);
    assert_eq!(says_unasked(&mut rig, &mut ann, &join("a")), [""; 0]);
    rig.pass(1);
    ann.say(&join("a"));
    rig.run();
    assert_eq!(rig.asked(), ["join a"]);
    let by_age = r#"wsify_authorizer_unasked_total{by="max_age"}"#;
    assert_eq!(metric(&mut rig, by_age), 2);
    ann.far.reset();
    rig.run();
    rig.pass(1_000);
    rig.assert_empty();
}

#[test]
fn a_refusal_is_remembered_with_its_message() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let no = AnswerFields {
        max_age: Some(60),
        message: Some("members only".into()),
        ..fields()
    };
    let expected = [refused("join", "members only")];
    let heard = says_asked(&mut rig, &mut ann, &join("a"), Verdict::Deny, no);
    assert_eq!(heard, expected);
    assert_eq!(says_unasked(&mut rig, &mut ann, &join("a")), expected);
    assert_eq!(rig.hub.inventory().memberships, 0);
}

#[test]
fn a_fresh_refusal_forgets_what_was_remembered_of_its_channel() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let remember = || AnswerFields {
        max_age: Some(60),
        ..fields()
    };
    for message in [broadcast("a", "1"), broadcast("b", "1")] {
        says_asked(&mut rig, &mut ann, &message, Verdict::Allow, remember());
        says_unasked(&mut rig, &mut ann, &message);
    }
    says_asked(&mut rig, &mut ann, &join("a"), Verdict::Deny, fields());
    assert_eq!(
        says_unasked(&mut rig, &mut ann, &broadcast("b", "1")),
        [""; 0]
    );
    ann.say(&broadcast("a", "1"));
    rig.run();
    assert_eq!(rig.asked(), ["broadcast a"]);
}

#[test]
fn sixty_four_answers_are_remembered_and_the_oldest_goes_first() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    for n in 0..65 {
        let yes = AnswerFields {
            max_age: Some(60),
            ..fields()
        };
        let message = broadcast(&n.to_string(), "1");
        says_asked(&mut rig, &mut ann, &message, Verdict::Allow, yes);
    }
    for n in 1..65 {
        says_unasked(&mut rig, &mut ann, &broadcast(&n.to_string(), "1"));
    }
    ann.say(&broadcast("0", "1"));
    rig.run();
    assert_eq!(rig.asked(), ["broadcast 0"]);
}

// -- expiry

/// A rig with an authorizer, which sends no pings.
fn quiet() -> Rig {
    let mut settings = Settings {
        authorizer: true,
        ..settings()
    };
    settings.limits.ping_interval = 0;
    Rig::with(settings)
}

/// A client with an `allow` for everything that expires in 100 s.
fn expiring(rig: &mut Rig) -> Client {
    rig.granted(AnswerFields {
        allow: allow(&["*"], &["*"], &["*"]),
        expires_in: Some(100),
        state: state("1"),
        user: Some("42".into()),
        ..fields()
    })
}

#[test]
fn a_connection_is_asked_about_again_up_to_a_tenth_earlier_at_random() {
    let mut times = Vec::new();
    let mut rig = quiet();
    let clients: Vec<Client> = (0..40).map(|_| expiring(&mut rig)).collect();
    let began = rig.hub.clock.now;
    while times.len() < clients.len() {
        rig.pass(100);
        let now = rig.hub.clock.now - began;
        times.extend(rig.questions.drain(..).map(|_| now));
        assert!(now <= 100_200, "{} of them were asked about", times.len());
    }
    assert!(times[0] >= 90_000, "{times:?}");
    // Evenly spread, more or less.
    let early = times.iter().filter(|at| **at < 95_000).count();
    assert!((8..=32).contains(&early), "{times:?}");
    drop(clients);
}

#[test]
fn a_refresh_says_what_the_connection_is_and_grants_anew() {
    let mut rig = quiet();
    let mut ann = expiring(&mut rig);
    assert_eq!(says_unasked(&mut rig, &mut ann, &join("a")), [""; 0]);
    let remember = AnswerFields {
        max_age: Some(10_000),
        ..fields()
    };
    rig.pass(101_000);
    let body: Value = serde_json::from_slice(&rig.questions[0].body).unwrap();
    let id = body["connection"]["id"].clone();
    assert_eq!(
        body,
        serde_json::json!({"command": "refresh", "args": {}, "connection":
            {"id": id, "remote_addr": "127.0.0.1:1", "user": "42", "query": {}, "state": 1}})
    );
    rig.answer_fields(
        Verdict::Allow,
        AnswerFields {
            allow: allow(&["b"], &[], &[]),
            expires_in: Some(50),
            state: state("2"),
            ..fields()
        },
    );
    assert_eq!(says_unasked(&mut rig, &mut ann, &join("b")), [""; 0]);
    // The membership, the user and the new state are there; the old allow is not.
    assert_eq!(rig.hub.inventory().memberships, 2);
    ann.say(&leave("a"));
    rig.run();
    assert_eq!(rig.connection_shown()["user"], "42");
    assert_eq!(rig.connection_shown()["state"], 2);
    rig.answer_fields(Verdict::Deny, remember);
    ann.hear();
    assert_eq!(says_unasked(&mut rig, &mut ann, &leave("a")).len(), 1);
    rig.pass(51_000);
    assert_eq!(rig.asked(), ["refresh"]);
    // Remembered answers end with it, and without expires_in it is not asked about again.
    rig.answer(Verdict::Allow);
    for message in [leave("a"), join("b")] {
        ann.say(&message);
        rig.run();
        assert_eq!(rig.questions.len(), 1, "{message}");
        rig.answer(Verdict::Allow);
    }
    rig.pass(40_000_000);
    assert_eq!(rig.asked(), [""; 0]);
}

#[test]
fn nothing_is_handled_between_the_expiry_and_the_answer_however_busy_the_client_is() {
    let mut rig = quiet();
    let mut ann = expiring(&mut rig);
    let mut ben = rig.member("a");
    let flood = |from: usize, to: usize| {
        let numbers = from..to;
        numbers.flat_map(|n| crate::client::text(&broadcast("a", &n.to_string())))
    };
    ann.send(&flood(0, 700).collect::<Vec<u8>>());
    rig.run();
    assert_eq!(ben.hear().len(), 700);
    // It is busy when the time comes, and nothing looks at it but its own messages.
    rig.hub.clock.now += 100_001;
    ann.send(&flood(700, 1_400).collect::<Vec<u8>>());
    rig.run();
    assert_eq!(
        (rig.asked(), ben.hear()),
        (vec!["refresh".to_owned()], vec![])
    );
    ann.send(&flood(1_400, 1_500).collect::<Vec<u8>>());
    rig.run();
    assert_eq!((rig.questions.len(), ben.hear()), (1, vec![]));
    rig.answer_fields(
        Verdict::Allow,
        AnswerFields {
            allow: allow(&[], &[], &["a"]),
            ..fields()
        },
    );
    let expected: Vec<String> = (700..1_500).map(|n| n.to_string()).collect();
    assert_eq!(ben.hear(), expected);
    assert_eq!(ann.hear(), [""; 0]);
}

#[test]
fn a_refresh_waits_for_the_open_question_and_goes_before_what_is_behind_it() {
    let mut rig = quiet();
    let ann = rig.granted(AnswerFields {
        expires_in: Some(1),
        ..fields()
    });
    ann.say(&join("a"));
    ann.say(&join("b"));
    rig.run();
    rig.pass(5_000);
    assert_eq!(rig.asked(), ["join a"]);
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), ["refresh"]);
    assert_eq!(rig.hub.inventory().memberships, 1);
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), ["join b"]);
}

#[test]
fn an_idle_connection_is_asked_about_at_its_time_though_it_is_pinged() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.granted(AnswerFields {
        expires_in: Some(60),
        ..fields()
    });
    rig.pass(26_000);
    assert_eq!(ann.hear(), ["ping"]);
    ann.send(&frame(PING, b"x"));
    rig.pass(25_500);
    assert_eq!(ann.hear(), ["pong x", "ping"]);
    ann.send(&frame(PING, b"x"));
    rig.pass(9_000);
    assert_eq!(rig.asked(), ["refresh"]);
    // Meanwhile it is not pinged.
    rig.pass(60_000);
    assert_eq!(ann.hear(), ["pong x"]);
    rig.answer(Verdict::Allow);
    rig.pass(26_000);
    assert_eq!(ann.hear(), ["ping"]);
}

#[test]
fn a_refused_refresh_closes_the_connection() {
    let close = |reason: Option<&str>| {
        Some(CloseWith {
            code: 4001,
            reason: reason.map(Into::into),
        })
    };
    let message = Some("log in again".into());
    for (close, message, code, reason) in [
        (None, None, 4403, "the authorizer says no"),
        (None, message.clone(), 4403, "log in again"),
        (close(None), message, 4001, "the authorizer says no"),
        (close(Some("bye")), None, 4001, "bye"),
    ] {
        let mut rig = quiet();
        let mut ann = expiring(&mut rig);
        rig.pass(101_000);
        ann.say(&join("a"));
        rig.answer_fields(
            Verdict::Deny,
            AnswerFields {
                close,
                message,
                ..fields()
            },
        );
        assert_eq!(ann.hear(), [format!("close {code}")]);
        assert_eq!(ann.reason, reason);
        assert_eq!(rig.asked(), [""; 0]);
        rig.pass(10_000);
        rig.assert_empty();
    }
}

#[test]
fn a_refresh_that_fails_closes_the_connection_with_1013() {
    let mut rig = quiet();
    let mut ann = expiring(&mut rig);
    rig.pass(101_000);
    rig.answer(Verdict::Unavailable);
    assert_eq!(ann.hear(), ["close 1013"]);
}

#[test]
fn a_client_that_is_reset_or_stopped_takes_its_refresh_back() {
    let mut rig = quiet();
    let ann = expiring(&mut rig);
    rig.pass(101_000);
    ann.far.reset();
    rig.run();
    assert_eq!(std::mem::take(&mut rig.withdrawn), [ann.id]);
    rig.assert_empty();

    let mut rig = quiet();
    let mut ann = expiring(&mut rig);
    rig.pass(101_000);
    assert_eq!(rig.asked(), ["refresh"]);
    rig.hub.drain(10_000);
    rig.pass(9_000);
    // It has asked nothing itself, so nothing is waited for.
    assert_eq!(ann.hear()[0], "close 1012");
    assert_eq!(rig.withdrawn, [ann.id]);
}

#[test]
fn messages_behind_a_refresh_are_handled_though_the_client_has_left() {
    let mut rig = quiet();
    let mut ben = rig.member("a");
    let ann = expiring(&mut rig);
    rig.pass(101_000);
    assert_eq!(rig.asked(), ["refresh"]);
    ann.say(&broadcast("a", "1"));
    ann.far.leave();
    rig.run();
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), ["broadcast a"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), ["1"]);
    assert!(ann.far.is_dropped());
}

#[test]
fn nothing_of_a_connection_s_grants_is_left_to_the_next_in_its_slot() {
    let mut rig = quiet();
    let mut ann = expiring(&mut rig);
    let yes = AnswerFields {
        max_age: Some(86_400),
        ..fields()
    };
    rig.pass(101_000);
    rig.answer(Verdict::Allow);
    says_asked(&mut rig, &mut ann, &join("a"), Verdict::Allow, yes);
    let before = rig.hub.inventory();
    assert_eq!((before.grants, before.identities), (1, 1));
    ann.far.reset();
    rig.run();
    rig.assert_empty();
    let ben = rig.websocket();
    assert_eq!(ben.id.slot, ann.id.slot);
    ben.say(&join("a"));
    rig.run();
    assert_eq!(rig.asked(), ["join a"]);
    assert_eq!(rig.connection_shown().get("user"), None);
}

#[test]
fn an_allow_shared_by_many_connections_is_kept_once() {
    let mut rig = quiet();
    let clients: Vec<Client> = (0..100)
        .map(|n| {
            rig.granted(AnswerFields {
                user: Some(n.to_string().into()),
                state: state(r#"{"role":"moderator"}"#),
                allow: allow(&["a", "b:*"], &["*"], &[]),
                ..fields()
            })
        })
        .collect();
    let held = rig.hub.inventory();
    assert_eq!((held.allows, held.grants), (1, 100));
    assert_eq!((held.shared_states, held.identities), (1, 100));
    for client in clients {
        client.far.reset();
    }
    rig.run();
    rig.assert_empty();
}

// -- channels

#[test]
fn channels_are_joined_with_the_101() {
    let mut rig = Rig::with_authorizer();
    let mut ben = rig.websocket();
    let mut ann = rig.granted(AnswerFields {
        channels: channels(&["a", "b"]),
        ..fields()
    });
    assert_eq!(rig.asked(), [""; 0]);
    assert_eq!(rig.hub.inventory().memberships, 2);
    for channel in ["a", "b"] {
        rig.says(&mut ben, &broadcast(channel, "1"));
        assert_eq!(ann.hear(), ["1"]);
    }
    // They can be left as any other.
    rig.says(&mut ann, &leave("a"));
    rig.says(&mut ben, &broadcast("a", "2"));
    assert_eq!(ann.hear(), [""; 0]);
    ann.far.reset();
    ben.far.reset();
    rig.run();
    rig.assert_empty();
}

/// A client whose upgrade is allowed with channels, over a broker.
fn opening(rig: &mut Rig, broker: &mut Broker, names: &[&str]) -> Client {
    let client = rig.upgrading("");
    rig.answer_fields(
        Verdict::Allow,
        AnswerFields {
            channels: channels(names),
            user: Some("42".into()),
            ..fields()
        },
    );
    broker.run(rig);
    client
}

#[test]
fn the_101_waits_until_the_channels_are_subscribed() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = opening(&mut rig, &mut broker, &["a", "b", "c"]);
    // All are asked for at once.
    assert!(broker.execute_change());
    for _ in 0..3 {
        assert_eq!(ann.hear(), [""; 0]);
        assert_eq!(rig.hub.inventory().memberships, 0);
        broker.bring(&mut rig);
        broker.run(&mut rig);
        assert_eq!(broker.subscribed.len(), 3, "none is given up meanwhile");
    }
    assert_eq!(ann.hear(), ["101"]);
    assert_eq!(rig.hub.inventory().memberships, 3);
    // Subscribed already: nothing is waited for.
    let mut ben = opening(&mut rig, &mut broker, &["c", "a"]);
    assert_eq!(ben.hear(), ["101"]);
    broker.foreign("a", "1");
    broker.settle(&mut rig);
    assert_eq!(
        (ann.hear(), ben.hear()),
        (vec!["1".into()], vec!["1".into()])
    );
    for client in [ann, ben] {
        client.far.reset();
    }
    broker.settle(&mut rig);
    assert!(broker.subscribed.is_empty());
    rig.assert_empty();
}

#[test]
fn an_upgrade_whose_channel_redis_refuses_is_answered_503() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = opening(&mut rig, &mut broker, &["a", "b"]);
    // Of what it refuses together redis is asked one by one.
    assert!(broker.refuse_change());
    broker.bring(&mut rig);
    assert!(broker.execute_change() && broker.refuse_change());
    broker.bring(&mut rig);
    broker.run(&mut rig);
    assert_eq!((ann.hear(), broker.subscribed.len()), (vec![], 1));
    broker.bring(&mut rig);
    broker.run(&mut rig);
    assert_eq!(ann.hear(), ["503 unavailable"]);
    assert!(ann.head.contains(BROKER_REFUSAL), "{}", ann.head);
    assert!(ann.header("Retry-After").is_some());
    broker.settle(&mut rig);
    assert!(broker.subscribed.is_empty());
    let left = rig.hub.inventory();
    assert_eq!((left.websockets, left.reservations), (0, 0));
    assert_eq!((left.channels, left.identities), (0, 0));
    // The connection may try again.
    ann.send(&crate::client::upgrade("/ws", ""));
    rig.run();
    assert_eq!(rig.asked(), ["connect"]);
}

#[test]
fn a_link_that_breaks_lets_the_upgrade_go_on() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = opening(&mut rig, &mut broker, &["a", "b"]);
    broker.execute_change();
    broker.bring(&mut rig);
    broker.run(&mut rig);
    assert_eq!(ann.hear(), [""; 0]);
    broker.break_listening(&mut rig);
    broker.run(&mut rig);
    assert_eq!(ann.hear(), ["101"]);
    broker.mend_listening(&mut rig);
    broker.settle(&mut rig);
    assert_eq!(broker.subscribed.len(), 2);
}

#[test]
fn an_upgrade_that_waits_for_channels_can_leave_or_be_stopped() {
    for how in ["leave", "reset", "vanish", "stop"] {
        let mut rig = Rig::with_authorizer();
        let mut broker = Broker::up(&mut rig);
        let mut ann = opening(&mut rig, &mut broker, &["a", "b"]);
        match how {
            "leave" => ann.far.leave(),
            "reset" => ann.far.reset(),
            "vanish" => ann.far.vanish(),
            _ => rig.hub.drain(1_000),
        }
        broker.run(&mut rig);
        match how {
            "leave" => assert!(ann.far.is_dropped()),
            "stop" => assert_eq!(ann.hear()[0], "503 draining, close"),
            _ => {}
        }
        ann.far.reset();
        broker.settle(&mut rig);
        rig.pass(100_000);
        broker.settle(&mut rig);
        assert!(broker.subscribed.is_empty(), "{how}");
        rig.assert_empty();
    }
}
