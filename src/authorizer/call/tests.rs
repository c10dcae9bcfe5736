//! Answers with fields and batches, over sockets.

use std::sync::atomic::Ordering::SeqCst;

use std::time::{Duration, Instant};

use super::*;
use crate::authorizer::tests::*;
use crate::authorizer::{AuthorizerSettings, probe};
use crate::effect::{Answer, Verdict};
use crate::wire::answer_fields::{AnswerField, NewState};

const FIELDS: &str = "application/vnd.wsify+json";

fn answer(status: u16, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// What one question is answered.
fn heard(asked: Asked, answer: &str) -> Answer {
    let server = Server::always(answer);
    let mut desk = Desk::new(&server.url());
    assert!(desk.put(1, asked));
    let heard = desk.hear(1).remove(0);
    assert!(desk.put(1, asked));
    assert_eq!(desk.hear(1)[0].verdict, heard.verdict);
    desk.settled();
    assert_eq!(server.connections(), 1, "{answer}");
    heard
}

#[test]
fn fields_are_read_where_the_type_says_so() {
    for kind in [
        FIELDS,
        "Application/VND.wsify+JSON",
        "application/vnd.wsify+json; charset=utf-8",
        "application/vnd.wsify+json;x",
    ] {
        let yes = answer(200, kind, r#"{"state":[1.0],"max_age":60}"#);
        for asked in [Asked::Join, Asked::Leave, Asked::Broadcast] {
            let heard = heard(asked, &yes);
            assert_eq!(heard.verdict, Verdict::Allow);
            assert_eq!(heard.state(), Some("[1.0]"), "{kind}");
            assert_eq!(heard.fields.unwrap().max_age, Some(60));
        }
        assert_eq!(heard(Asked::Connect, &yes).state(), Some("[1.0]"));
        assert_eq!(heard(Asked::Refresh, &yes).state(), Some("[1.0]"));
        let no = answer(403, kind, r#"{"message":"no","state":1}"#);
        for asked in [Asked::Connect, Asked::Join, Asked::Refresh] {
            let heard = heard(asked, &no);
            assert_eq!((heard.verdict, heard.status), (Verdict::Deny, Some(403)));
            let fields = heard.fields.unwrap();
            assert_eq!(fields.message.as_deref(), Some("no"));
            assert_eq!(fields.state, None);
        }
        let down = heard(Asked::Join, &answer(503, kind, r#"{"message":"no"}"#));
        assert_eq!(
            (down.verdict, down.call_failed),
            (Verdict::Unavailable, true)
        );
        assert_eq!((down.fields, down.wrong), (None, vec![]));
    }
    for kind in [
        "application/json",
        "application/vnd.wsify+jsonx",
        "application/vnd.wsify",
        "text/plain",
        "",
    ] {
        let yes = answer(200, kind, r#"{"max_age":"x","state":1,"user":{}}"#);
        let heard_of = heard(Asked::Join, &yes);
        assert_eq!(heard_of.verdict, Verdict::Allow, "{kind}");
        assert_eq!((heard_of.fields, heard_of.wrong), (None, vec![]), "{kind}");
        let heard_of = heard(Asked::Connect, &yes);
        assert_eq!(heard_of.verdict, Verdict::Allow, "{kind}");
        let is_json = kind == "application/json";
        assert_eq!(heard_of.state(), is_json.then_some("1"), "{kind}");
        let no = heard(Asked::Connect, &answer(403, kind, r#"{"message":"no"}"#));
        assert_eq!((no.verdict, no.fields), (Verdict::Deny, None), "{kind}");
    }
}

#[test]
fn a_yes_with_a_wrong_field_counts_as_down_for_its_question() {
    for (asked, body, field) in [
        (
            Asked::Connect,
            r#"{"user":1.5,"state":1}"#,
            AnswerField::User,
        ),
        (
            Asked::Join,
            r#"{"max_age":-1,"state":1}"#,
            AnswerField::MaxAge,
        ),
        (
            Asked::Broadcast,
            r#"{"state":1,"state":2}"#,
            AnswerField::State,
        ),
        (Asked::Refresh, "[]", AnswerField::Body),
        (Asked::Leave, "", AnswerField::Body),
    ] {
        let heard = heard(asked, &answer(200, FIELDS, body));
        let got = (heard.verdict, heard.status, heard.call_failed);
        assert_eq!(got, (Verdict::Unavailable, Some(200), false), "{body}");
        assert_eq!(heard.fields, None);
        assert_eq!(heard.wrong[0].field, field);
        let trouble = heard.trouble.unwrap();
        assert!(trouble.contains(field.as_str()), "{trouble}");
        assert!(!trouble.contains("1.5"), "{trouble}");
    }
}

#[test]
fn a_refusal_stands_without_its_wrong_fields() {
    let body = r#"{"message":7,"max_age":60}"#;
    let heard_of = heard(Asked::Join, &answer(403, FIELDS, body));
    assert_eq!(heard_of.verdict, Verdict::Deny);
    assert_eq!(heard_of.wrong[0].field, AnswerField::Message);
    assert_eq!(heard_of.fields.unwrap().max_age, Some(60));
    for (body, wrong) in [("x", 1), ("{\"a\":1,\"a\":1}", 1), ("", 0)] {
        let heard = heard(Asked::Join, &answer(403, FIELDS, body));
        assert_eq!(heard.verdict, Verdict::Deny, "{body}");
        assert_eq!((heard.fields, heard.wrong.len()), (None, wrong), "{body}");
    }
}

/// What is heard of a body that hangs or breaks off behind its head.
fn heard_of_half(status: u16, framing: &'static str, closes: bool) -> Answer {
    let server = Server::new(move |peer| {
        peer.request();
        peer.say(format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {FIELDS}\r\n{framing}\r\n\r\n{{\""
        ));
        if !closes {
            peer.stay();
        }
    });
    // A busy machine may take longer for the head than a short call has.
    let mut timeout = Duration::from_millis(if closes { 20_000 } else { 100 });
    loop {
        let mut desk = Desk::with(AuthorizerSettings {
            timeout,
            ..settings(&server.url())
        });
        let connections = server.connections();
        let heard = desk.ask();
        if heard.status.is_some() || timeout >= TEST_TIMEOUT {
            desk.ask();
            let more = server.connections() - connections;
            assert_eq!(more, 2, "a broken answer ends its connection");
            return heard;
        }
        timeout *= 4;
    }
}

#[test]
fn a_body_that_hangs_or_breaks_off_is_no_yes_but_a_no() {
    for (status, verdict) in [(200, Verdict::Unavailable), (403, Verdict::Deny)] {
        for framing in ["Content-Length: 11", "Transfer-Encoding: chunked"] {
            for closes in [true, false] {
                let heard = heard_of_half(status, framing, closes);
                assert_eq!(heard.verdict, verdict, "{status} {framing} {closes}");
                assert_eq!((heard.status, heard.call_failed), (Some(status), false));
                assert_eq!(heard.wrong[0].field, AnswerField::Body);
                assert_eq!(heard.fields, None);
            }
        }
    }
}

#[test]
fn a_body_has_room_for_a_content_and_64_kib() {
    // The settings of these tests allow content of 1,000 bytes.
    let most = 1000 + 64 * 1024;
    for (length, fits) in [(most, true), (most + 1, false), (1 << 20, false)] {
        let body = format!("{{\"max_age\":5,\"x\":\"{}\"}}", "x".repeat(length - 20));
        assert_eq!(body.len(), length);
        for (status, verdict) in [(200, Verdict::Unavailable), (403, Verdict::Deny)] {
            for framed in [
                format!("Content-Length: {length}\r\n\r\n{body}"),
                format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            ] {
                let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {FIELDS}\r\n");
                let server = Server::always(format!("{head}{framed}"));
                let heard = Desk::new(&server.url()).ask();
                if fits {
                    assert_eq!(heard.fields.unwrap().max_age, Some(5));
                } else {
                    assert_eq!(heard.verdict, verdict);
                    let text = heard.wrong[0].to_string();
                    assert!(text.contains("66536 bytes at most"), "{text}");
                }
            }
        }
    }
}

fn batching(url: &str, batch: usize) -> Desk {
    Desk::with(AuthorizerSettings {
        batch,
        ..settings(url)
    })
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

/// Three questions in one call, all answered with these bytes.
fn heard_of_three(answer: &str) -> Vec<Answer> {
    let server = Server::always(answer);
    let questions = [1, 2, 3].map(|slot| question(slot, Asked::Join));
    let factory = ClientFactory::new(
        &AuthorizerSettings {
            batch: 3,
            ..settings(&server.url())
        },
        false,
    );
    let mut client = Arc::new(factory.unwrap()).client();
    let outcomes = client.ask(&[&questions[0], &questions[1], &questions[2]]);
    let tasks = questions.map(|question| crate::authorizer::task::Task {
        question,
        asked: Instant::now(),
    });
    let answers = outcomes.into_iter().zip(tasks);
    answers.map(|(it, task)| it.answer(task, 1, 0)).collect()
}

#[test]
fn what_waits_while_a_worker_is_busy_is_one_batch() {
    let (server, open) = gated(OK);
    let mut desk = batching(&server.url(), 4);
    assert!(desk.put(0, Asked::Connect));
    until(|| server.requests() == 1);
    for slot in 1..=6 {
        assert!(desk.put(slot, Asked::Join));
    }
    assert_eq!(desk.load(), (1, 6));
    desk.authorizer.withdraw(question(3, Asked::Join).from);
    open.store(true, SeqCst);
    let heard = desk.hear(6);
    let requests = server.seen.requests.lock().unwrap().clone();
    let bodies: Vec<&str> = requests.iter().map(|it| body(it)).collect();
    let array = |slots: &[u32]| {
        let bodies = slots
            .iter()
            .map(|slot| format!("{{\"command\":\"{slot}\"}}"));
        format!("[{}]", bodies.collect::<Vec<_>>().join(","))
    };
    assert_eq!(bodies, [array(&[0]), array(&[1, 2, 4, 5]), array(&[6])]);
    // An answer without an array answers no question.
    let slots: Vec<u32> = heard.iter().map(|answer| answer.to.slot).collect();
    assert_eq!(slots, [0, 1, 2, 4, 5, 6]);
    let calls: Vec<_> = heard
        .iter()
        .map(|it| (it.call.unwrap(), it.questions_in_call))
        .collect();
    assert_eq!(calls, [(0, 1), (1, 4), (1, 0), (1, 0), (1, 0), (2, 1)]);
    for answer in heard {
        let got = (answer.verdict, answer.status, answer.call_failed);
        assert_eq!(got, (Verdict::Unavailable, Some(200), false));
    }
}

#[test]
fn a_question_that_is_to_be_alone_is() {
    let (server, open) = gated(OK);
    let mut desk = batching(&server.url(), 100);
    assert!(desk.put(0, Asked::Join));
    until(|| server.requests() == 1);
    for slot in 1..=5 {
        let mut question = question(slot, Asked::Join);
        question.alone = slot == 3;
        assert!(desk.authorizer.ask(question).is_ok());
    }
    open.store(true, SeqCst);
    let heard = desk.hear(6);
    let sizes: Vec<u32> = heard
        .iter()
        .map(|answer| answer.questions_in_call)
        .collect();
    assert_eq!(sizes, [1, 2, 0, 1, 2, 0]);
}

#[test]
fn questions_that_fit_into_no_batch_are_asked_by_as_many_workers_as_it_takes() {
    let (server, open) = gated(OK);
    let mut desk = Desk::with(AuthorizerSettings {
        batch: 64,
        workers: 3,
        ..settings(&server.url())
    });
    for slot in 1..=3 {
        let mut question = question(slot, Asked::Join);
        question.alone = true;
        assert!(desk.authorizer.ask(question).is_ok());
    }
    until(|| server.requests() == 3);
    open.store(true, SeqCst);
    desk.hear(3);
}

#[test]
fn the_items_of_an_array_are_answers_in_order() {
    let body = r#"[{"status":200,"max_age":60},{"status":403,"message":"no"},{"status":503}]"#;
    for kind in [
        "application/json",
        FIELDS,
        "application/json; charset=utf-8",
    ] {
        let [yes, no, down] = heard_of_three(&answer(200, kind, body)).try_into().unwrap();
        assert_eq!((yes.verdict, yes.status), (Verdict::Allow, Some(200)));
        assert_eq!(yes.fields.unwrap().max_age, Some(60));
        assert_eq!((no.verdict, no.status), (Verdict::Deny, Some(403)));
        assert_eq!(no.fields.unwrap().message.as_deref(), Some("no"));
        assert_eq!(
            (down.verdict, down.status),
            (Verdict::Unavailable, Some(503))
        );
        assert_eq!(down.trouble.as_deref(), Some("status 503"));
        assert!(!yes.call_failed && !no.call_failed && !down.call_failed);
    }
    let body = r#"[{"status":200,"state":null},{"status":200,"max_age":1.5},{"status":200}]"#;
    let heard = heard_of_three(&answer(200, "application/json", body));
    assert_eq!(
        heard[0].fields.as_ref().unwrap().state,
        Some(NewState::Removed)
    );
    let wrong = &heard[1];
    assert_eq!(
        (wrong.verdict, wrong.status),
        (Verdict::Unavailable, Some(200))
    );
    assert_eq!(wrong.wrong[0].field, AnswerField::MaxAge);
    assert_eq!(heard[2].verdict, Verdict::Allow);
    let body = r#"[{"status":500},{"status":599},{"status":503}]"#;
    for answer in heard_of_three(&answer(200, "application/json", body)) {
        assert!(answer.call_failed, "all of its items are 5xx");
    }
}

#[test]
fn another_status_of_a_batch_holds_for_all_its_questions() {
    let body = r#"[{"status":200},{"status":200},{"status":200}]"#;
    for (status, verdict) in [
        (403, Verdict::Deny),
        (201, Verdict::Deny),
        (302, Verdict::Deny),
        (500, Verdict::Unavailable),
    ] {
        for kind in ["application/json", FIELDS, "text/html"] {
            for answer in heard_of_three(&answer(status, kind, body)) {
                assert_eq!((answer.verdict, answer.status), (verdict, Some(status)));
                assert_eq!(answer.call_failed, status == 500);
                assert_eq!((answer.fields, answer.wrong), (None, vec![]));
            }
        }
    }
    for answer in heard_of_three("SSH-2.0\r\n") {
        let got = (answer.verdict, answer.status, answer.call_failed);
        assert_eq!(got, (Verdict::Unavailable, None, true));
    }
}

#[test]
fn an_array_that_does_not_answer_all_counts_as_down_for_all() {
    let good = r#"[{"status":200},{"status":200},{"status":200}]"#;
    for (kind, body) in [
        ("application/json", r#"[{"status":200},{"status":200}]"#),
        ("application/json", r#"[{"status":200},{"status":200},{}]"#),
        ("application/json", r#"{"status":200}"#),
        ("application/json", ""),
        ("text/plain", good),
        ("", good),
    ] {
        for answer in heard_of_three(&answer(200, kind, body)) {
            let got = (answer.verdict, answer.status, answer.call_failed);
            assert_eq!(
                got,
                (Verdict::Unavailable, Some(200), false),
                "{kind} {body}"
            );
            assert!(answer.trouble.unwrap().starts_with("the answer to a batch"));
            assert!(
                answer.question.unwrap().alone,
                "if it is asked again: {body}"
            );
        }
    }
    // The limit grows with the batch.
    let most = 1000 + 64 * 1024 + 3 * 4 * 1024;
    for (length, verdict) in [(most, Verdict::Allow), (most + 1, Verdict::Unavailable)] {
        let padding = " ".repeat(length - good.len());
        let answers = heard_of_three(&answer(200, FIELDS, &format!("{good}{padding}")));
        assert_eq!(answers[2].verdict, verdict, "{length}");
    }
}

#[test]
fn a_probe_says_what_was_understood() {
    let questions = || vec![b"{\"a\":1}".to_vec(), b"{\"a\":2}".to_vec()];
    let probed = |batch: usize, answer: &str| {
        let server = Server::always(answer);
        let settings = AuthorizerSettings {
            batch,
            ..settings(&server.url())
        };
        let probed = probe::probe(&settings, questions()).unwrap();
        let asked = server.seen.requests.lock().unwrap()[0].clone();
        assert!(asked.contains("x-wsify-probe: 1"), "{asked}");
        (body(&asked).to_owned(), probed)
    };
    let (asked, one) = probed(1, &answer(200, FIELDS, r#"{"user":1,"max_age":2}"#));
    assert_eq!((asked.as_str(), one.answers.len()), ("{\"a\":1}", 1));
    let said = one.body.unwrap();
    assert_eq!(
        (said.used, said.ignored),
        (vec!["user".into()], vec!["max_age".into()])
    );
    let (_, one) = probed(
        1,
        &answer(200, "application/json", r#"{"user":1,"state":2}"#),
    );
    let said = one.body.unwrap();
    assert_eq!(
        (said.used, said.ignored),
        (vec!["state".into()], vec!["user".into()])
    );
    assert!(!said.has_fields);
    let array = r#"[{"status":200,"user":1,"x":2},{"status":403}]"#;
    let (asked, two) = probed(9, &answer(200, "application/json", array));
    assert_eq!(
        (asked.as_str(), two.answers.len()),
        (r#"[{"a":1},{"a":2}]"#, 2)
    );
    let said = two.body.unwrap();
    assert_eq!(
        (said.used, said.ignored),
        (vec!["user".into()], vec!["x".into()])
    );
    assert!(said.has_fields);
    let (_, none) = probed(9, OK);
    assert_eq!(none.body, None);
    assert_eq!(none.answers[1].verdict, Verdict::Unavailable);
}
