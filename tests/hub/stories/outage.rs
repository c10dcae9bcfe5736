//! An authorizer that fails: what `--authorizer-failure` says becomes of questions.

use std::time::Duration;

use wsify::config::AuthorizerFailure;
use wsify::effect::{Answer, Question, Verdict};
use wsify::hub::{FailurePolicy, Settings};
use wsify::wire::answer_fields::{Allow, AnswerFields};

use crate::client::{Client, PING, PONG, broadcast, close, frame, get, join, text, with_id};
use crate::rig::{Rig, settings};

const WORKERS: usize = 4;
const HOLD: u64 = 45_000;

fn rig(failure: AuthorizerFailure) -> Rig {
    Rig::with(with(failure))
}

fn with(failure: AuthorizerFailure) -> Settings {
    Settings {
        authorizer: true,
        failure: FailurePolicy {
            failure,
            workers: WORKERS,
            hold: HOLD,
            ..FailurePolicy::default()
        },
        ..settings()
    }
}

/// A rig with this many members of `a`, whose authorizer is down; the first three have noticed. With `hold` these wait.
fn down(failure: AuthorizerFailure, members: usize) -> (Rig, Vec<Client>) {
    let mut rig = rig(failure);
    let mut clients: Vec<Client> = (0..members).map(|_| rig.member("a")).collect();
    rig.logged();
    let holds = failure == AuthorizerFailure::Hold;
    while !is_down(&mut rig) {
        for client in &clients[..3] {
            if !holds || rig.hub.inventory().held < 3 {
                client.say(&with_id(1, &join("b")));
                rig.run();
            }
        }
        rig.pass(250);
        assert!(!rig.questions.is_empty());
        while !rig.questions.is_empty() && !is_down(&mut rig) {
            rig.answer(Verdict::Unavailable);
        }
    }
    // What was on its way comes back.
    assert_eq!(std::mem::take(&mut rig.recalled), 1);
    while !rig.questions.is_empty() {
        answer_badly(&mut rig, |answer| answer.call = None);
    }
    for client in &mut clients {
        client.hear();
    }
    (rig, clients)
}

/// The same with `reject`. The authorizer has answered one question since, and all members have asked to join `d`.
fn slow_start(members: usize) -> (Rig, Vec<Client>) {
    let (mut rig, clients) = down(AuthorizerFailure::Reject, members);
    rig.pass(250);
    clients[0].say(&join("c"));
    rig.run();
    rig.answer(Verdict::Allow);
    for client in &clients {
        client.say(&with_id(2, &join("d")));
    }
    rig.run();
    (rig, clients)
}

fn is_down(rig: &mut Rig) -> bool {
    health(rig) == r#"200 {"authorizer":"down","status":"ok"}"#
}

fn health(rig: &mut Rig) -> String {
    let mut backend = rig.client();
    backend.send(&get("/health"));
    rig.run();
    let line = backend.hear().remove(0);
    backend.far.reset();
    rig.run();
    line
}

fn gauge(rig: &mut Rig, name: &str) -> String {
    let backend = rig.client();
    backend.send(&get("/metrics"));
    rig.run();
    let text = String::from_utf8(backend.far.receive()).unwrap();
    backend.far.reset();
    rig.run();
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("{name}")).to_owned()
}

/// Whether a line of the log is the first of an outage.
fn is_down_line(line: &serde_json::Value) -> bool {
    let message = line["message"].as_str().unwrap();
    message.starts_with("the authorizer is down: ")
}

/// The log's lines about outages, without what differs.
fn outages(rig: &Rig) -> Vec<String> {
    let lines = rig.logged();
    let lines = lines.iter().map(|line| line["message"].as_str().unwrap());
    let about =
        lines.filter(|line| line.contains("the authorizer is down") || line.contains("again"));
    about.map(str::to_owned).collect()
}

fn id_of(question: &Question) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&question.body).unwrap();
    body["question"].as_str().map(str::to_owned)
}

/// Answers the oldest question with what only this question is to blame for.
fn answer_badly(rig: &mut Rig, change: impl FnOnce(&mut Answer)) {
    let question = rig.questions.pop_front().unwrap();
    let answer = rig.send_verdict(&question, Verdict::Unavailable, None);
    answer.call_failed = false;
    change(answer);
    rig.run();
}

#[test]
fn with_close_every_question_is_asked_and_the_gauge_follows_the_calls() {
    let mut rig = rig(AuthorizerFailure::Close);
    for nth in 0..10 {
        let mut ann = rig.upgrading("");
        assert_eq!(rig.asked(), ["connect"], "{nth}");
        assert_eq!(id_of(&rig.questions[0]), None);
        rig.answer(Verdict::Unavailable);
        assert_eq!(ann.hear(), ["503 authorizer_down"]);
        assert_eq!(
            gauge(&mut rig, "wsify_authorizer_up"),
            "wsify_authorizer_up 0"
        );
        assert_eq!(health(&mut rig), r#"200 {"status":"ok"}"#);
    }
    rig.pass(1_234);
    let ann = rig.member("a");
    assert_eq!(
        gauge(&mut rig, "wsify_authorizer_up"),
        "wsify_authorizer_up 1"
    );
    // What was never put says nothing about the authorizer.
    ann.say(&join("b"));
    rig.run();
    answer_badly(&mut rig, |answer| answer.call = None);
    assert_eq!(
        gauge(&mut rig, "wsify_authorizer_up"),
        "wsify_authorizer_up 1"
    );
    let lines = rig.logged();
    let down = lines.iter().find(|line| is_down_line(line)).unwrap();
    assert_eq!(down["then"], "close");
    assert_eq!(down["url"], "http://authorizer/");
    assert!(
        down["message"]
            .as_str()
            .unwrap()
            .ends_with("closed with 1013"),
        "{down}"
    );
    let up = lines
        .iter()
        .find(|line| line["message"] == "the authorizer answers again");
    assert!(up.unwrap()["down_ms"].as_u64().unwrap() >= 1_234, "{up:?}");
}

#[test]
fn with_reject_commands_get_an_error_and_the_connection_stays() {
    let mut rig = rig(AuthorizerFailure::Reject);
    let mut ann = rig.member("a");
    ann.say(&with_id(7, &broadcast("a", "1")));
    ann.say(&with_id(8, &broadcast("a", "2")));
    rig.run();
    rig.answer(Verdict::Unavailable);
    let heard = ann.hear();
    assert_eq!(heard.len(), 1);
    assert!(
        heard[0].starts_with(r#"{"id":7,"error":{"code":"authorizer_down","message":""#)
            && heard[0].ends_with(r#","command":"broadcast","channel":"a"}}"#),
        "{heard:?}"
    );
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":8,"ok":true}"#, "2"]);
    let mut ben = rig.upgrading("");
    rig.answer(Verdict::Unavailable);
    assert_eq!(ben.hear(), ["503 authorizer_down"]);
    assert!(ben.header("Retry-After").is_some());
    let failed = gauge(
        &mut rig,
        "wsify_authorizer_failures_total{kind=\"no_answer\"}",
    );
    assert!(failed.ends_with(" 2"), "{failed}");
}

#[test]
fn with_reject_nothing_is_asked_of_an_authorizer_that_is_down_but_one_probe() {
    let (mut rig, mut clients) = down(AuthorizerFailure::Reject, 3);
    assert_eq!(
        outages(&rig),
        [
            "the authorizer is down: upgrades get 503, and commands that need it get the error authorizer_down"
        ]
    );
    assert_eq!(
        gauge(&mut rig, "wsify_authorizer_up"),
        "wsify_authorizer_up 0"
    );
    let mut ben = rig.upgrading("");
    assert_eq!(ben.hear(), ["503 authorizer_down"]);
    for client in &mut clients {
        client.say(&with_id(1, &join("c")));
        rig.run();
        assert!(client.hear()[0].contains("authorizer_down"));
    }
    assert_eq!(rig.asked(), [""; 0]);
    // The first that comes when the pause is over is the probe. It waits for the answer, and the others do not.
    rig.pass(250);
    for client in &clients {
        client.say(&with_id(2, &join("d")));
    }
    rig.run();
    assert_eq!(rig.asked(), ["join d"]);
    assert_eq!(clients[0].hear(), [""; 0]);
    assert!(clients[1].hear()[0].contains("authorizer_down"));
    rig.answer(Verdict::Unavailable);
    assert!(clients[0].hear()[0].contains("authorizer_down"));
    assert_eq!(outages(&rig), [""; 0]);
    // The next pause is longer.
    rig.pass(249);
    assert!(rig.sends(&mut clients[0], &text(&join("d")))[0].contains("authorizer_down"));
    rig.pass(251);
    rig.sends(&mut clients[0], &text(&with_id(3, &join("d"))));
    rig.answer(Verdict::Deny);
    assert!(clients[0].hear()[0].contains("not_authorized"));
    assert_eq!(outages(&rig), ["the authorizer answers again"]);
    assert_eq!(health(&mut rig), r#"200 {"status":"ok"}"#);
}

#[test]
fn after_an_outage_questions_go_out_no_faster_than_answers_come_back() {
    let (mut rig, mut clients) = slow_start(20);
    // Until every worker is busy.
    for out in [1, 2, 4, 4, 4, 4, 1] {
        assert_eq!(rig.questions.len(), out);
        for _ in 0..out {
            let question = rig.questions.pop_front().unwrap();
            rig.send_verdict(&question, Verdict::Allow, None);
        }
        rig.run();
    }
    for client in &mut clients {
        assert_eq!(client.hear(), [r#"{"id":2,"ok":true}"#]);
    }
    // From now on a single failure is none of the authorizer's.
    clients[0].say(&join("e"));
    rig.run();
    rig.answer(Verdict::Unavailable);
    assert_eq!(health(&mut rig), r#"200 {"status":"ok"}"#);
}

#[test]
fn a_failed_call_in_a_slow_start_is_an_outage_again_and_what_waits_is_rejected() {
    let (mut rig, mut clients) = slow_start(20);
    assert_eq!(rig.questions.len(), 1);
    rig.answer(Verdict::Unavailable);
    assert!(is_down(&mut rig));
    for client in &mut clients {
        assert!(client.hear()[0].contains("authorizer_down"));
    }
    assert_eq!((rig.asked().len(), rig.hub.inventory().held), (0, 0));
}

#[test]
fn with_reject_what_waits_in_a_slow_start_waits_as_for_a_worker() {
    let (mut rig, mut clients) = slow_start(5);
    // The first hangs.
    rig.pass(4_999);
    assert_eq!(clients[1].hear(), [""; 0]);
    clients[4].far.reset();
    rig.pass(1);
    for client in &mut clients[1..4] {
        assert!(client.hear()[0].contains("authorizer_down"));
    }
    assert_eq!(rig.asked(), ["join d"]);
    assert_eq!(rig.hub.inventory().held, 0);
    rig.answer(Verdict::Allow);
    assert_eq!(clients[0].hear(), [r#"{"id":2,"ok":true}"#]);
}

#[test]
fn with_hold_a_failed_question_is_asked_again_with_the_same_id_and_growing_pauses() {
    let mut rig = rig(AuthorizerFailure::Hold);
    let mut ann = rig.member("a");
    ann.say(&with_id(1, &broadcast("a", "1")));
    ann.say(&with_id(2, &broadcast("a", "2")));
    rig.run();
    let id = id_of(&rig.questions[0]).expect("an id");
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let body = rig.questions[0].body.clone();
    assert!(!rig.questions[0].alone);
    for whole in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
        rig.answer(Verdict::Unavailable);
        rig.pass(whole / 2 - 1);
        assert_eq!(rig.asked(), [""; 0], "{whole}");
        rig.pass(whole / 2 + 1);
        assert_eq!(rig.asked(), ["broadcast a"], "{whole}");
        assert_eq!(rig.questions[0].body, body);
        assert!(rig.questions[0].alone);
    }
    assert_eq!(rig.hub.inventory().held, 1);
    rig.answer(Verdict::Allow);
    assert_eq!(rig.hub.inventory().held, 0);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#, "1"]);
    assert_ne!(id_of(&rig.questions[0]), Some(id));
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":2,"ok":true}"#, "2"]);
    // What failed without its call may be in a batch again.
    ann.say(&join("b"));
    rig.run();
    answer_badly(&mut rig, |answer| answer.status = Some(200));
    rig.pass(250);
    assert!(!rig.questions[0].alone);
}

#[test]
fn with_hold_a_question_is_given_up_in_time_and_its_client_closed() {
    let mut rig = rig(AuthorizerFailure::Hold);
    let mut ann = rig.member("a");
    let mut ben = rig.upgrading("");
    ann.say(&join("b"));
    rig.run();
    let began = rig.hub.clock.now;
    let until = began + HOLD;
    while rig.hub.clock.now < until {
        while !rig.questions.is_empty() {
            rig.answer(Verdict::Unavailable);
        }
        assert_eq!(
            (ann.hear().contains(&"close 1013".to_owned()), ben.hear()),
            (false, vec![])
        );
        rig.pass(1_000.min(until - rig.hub.clock.now));
        ann.send(&frame(PONG, b""));
    }
    assert!(ann.hear().contains(&"close 1013".to_owned()));
    let heard = ben.hear();
    assert!(heard[0].starts_with("503 authorizer_down"), "{heard:?}");
    assert!(ben.header("Retry-After").is_some());
    assert_eq!(rig.hub.inventory().held, 0);
    // A late answer changes nothing.
    while !rig.questions.is_empty() {
        rig.answer(Verdict::Allow);
    }
    assert_eq!(ann.hear(), [""; 0]);
}

#[test]
fn a_question_that_took_longer_than_the_hold_is_not_held() {
    let mut rig = rig(AuthorizerFailure::Hold);
    let mut ann = rig.member("a");
    ann.say(&join("b"));
    rig.pass(HOLD);
    answer_badly(&mut rig, |answer| answer.took = Duration::from_millis(HOLD));
    assert_eq!(ann.hear(), ["ping", "close 1013"][1..]);
}

#[test]
fn with_hold_all_wait_for_an_authorizer_that_is_down_and_take_turns_in_probing() {
    let (mut rig, mut clients) = down(AuthorizerFailure::Hold, 6);
    for client in &clients[3..] {
        client.say(&with_id(1, &broadcast("a", "7")));
    }
    rig.run();
    assert_eq!((rig.asked().len(), rig.hub.inventory().held), (0, 6));
    assert_eq!(
        gauge(&mut rig, "wsify_authorizer_held"),
        "wsify_authorizer_held 6"
    );
    let mut probes = Vec::new();
    for pause in [250, 500, 1_000, 2_000, 4_000, 5_000] {
        rig.pass(pause);
        assert_eq!(rig.questions.len(), 1, "{pause}");
        // However long it takes, it is alone.
        rig.pass(2_000);
        assert_eq!(rig.questions.len(), 1, "{pause}");
        probes.push(rig.questions[0].from);
        rig.answer(Verdict::Unavailable);
    }
    let mut each = probes.clone();
    each.sort_unstable_by_key(|id| id.slot);
    each.dedup();
    assert_eq!(each.len(), 6, "{probes:?}");
    rig.pass(5_000);
    // A wrong field is an answer as well, but this question goes on waiting.
    answer_badly(&mut rig, |answer| answer.status = Some(200));
    assert!(!is_down(&mut rig));
    let mut out = 1;
    while rig.hub.inventory().held > 0 {
        assert!(rig.questions.len() <= out, "{}", rig.questions.len());
        for _ in 0..rig.questions.len() {
            let question = rig.questions.pop_front().unwrap();
            rig.send_verdict(&question, Verdict::Allow, None);
        }
        rig.run();
        rig.pass(100);
        out *= 2;
    }
    for client in &mut clients {
        let heard = client.hear();
        let ok = heard
            .iter()
            .filter(|line| *line == r#"{"id":1,"ok":true}"#)
            .count();
        assert_eq!(ok, 1, "{heard:?}");
        assert_eq!(heard.iter().filter(|line| *line == "7").count(), 3);
    }
}

#[test]
fn with_hold_what_found_the_queue_full_or_was_recalled_is_asked_again() {
    let mut rig = rig(AuthorizerFailure::Hold);
    let mut ann = rig.upgrading("");
    for _ in 0..8 {
        answer_badly(&mut rig, |answer| answer.call = None);
        assert_eq!(health(&mut rig), r#"200 {"status":"ok"}"#);
        rig.pass(5_000);
        assert_eq!(rig.asked(), ["connect"]);
    }
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101"]);
}

#[test]
fn a_held_client_is_pinged_and_its_pings_are_answered_as_far_as_its_next_message() {
    let (mut rig, mut clients) = down(AuthorizerFailure::Hold, 3);
    let ann = &mut clients[0];
    assert_eq!(rig.sends(ann, &frame(PING, b"1")), ["pong 1"]);
    // In parts, and several at once.
    assert_eq!(rig.sends(ann, &frame(PING, b"2")[..3]), [""; 0]);
    let rest = [
        &frame(PING, b"2")[3..],
        &frame(PONG, b""),
        &frame(PING, b"3"),
    ]
    .concat();
    assert_eq!(rig.sends(ann, &rest), ["pong 2", "pong 3"]);
    rig.pass(24_900);
    assert_eq!(ann.hear(), [""; 0]);
    rig.pass(150);
    assert_eq!(ann.hear(), ["ping"]);
    rig.sends(ann, &frame(PONG, b""));
    // Behind a message nothing is heard, and silence is none.
    let both = [text(&with_id(2, &join("c"))), frame(PING, b"4")].concat();
    assert_eq!(rig.sends(ann, &both), [""; 0]);
    rig.sends(ann, &frame(PING, b"5"));
    assert_eq!(rig.hub.inventory().held, 3);
    allow_all(&mut rig);
    // The second command waits for its turn in the slow start, and its client is heard again.
    let expected = [
        r#"{"id":1,"ok":true}"#,
        "pong 4",
        "pong 5",
        r#"{"id":2,"ok":true}"#,
    ];
    assert_eq!(ann.hear(), expected);
}

fn allow_all(rig: &mut Rig) {
    for _ in 0..100 {
        while !rig.questions.is_empty() {
            rig.answer(Verdict::Allow);
        }
        rig.pass(100);
    }
}

#[test]
fn a_held_client_that_answers_no_ping_is_ended_but_not_one_whose_message_waits() {
    for waits in [false, true] {
        let mut rig = Rig::with(Settings {
            failure: FailurePolicy {
                hold: 600_000,
                ..with(AuthorizerFailure::Hold).failure
            },
            ..with(AuthorizerFailure::Hold)
        });
        let mut ann = rig.member("a");
        ann.say(&join("b"));
        rig.run();
        rig.answer(Verdict::Unavailable);
        if waits {
            ann.say(&join("c"));
        }
        rig.pass(101_000);
        let heard = ann.hear();
        assert_eq!(heard.contains(&"end".to_owned()), !waits, "{heard:?}");
        let pings = heard.iter().filter(|line| *line == "ping").count();
        assert_eq!(pings, if waits { 4 } else { 1 });
        assert_eq!(rig.hub.inventory().held, usize::from(waits));
    }
}

#[test]
fn a_held_client_whose_socket_ends_has_left() {
    for reset in [false, true] {
        let (mut rig, mut clients) = down(AuthorizerFailure::Hold, 4);
        clients[0].say(&broadcast("a", "1"));
        let ben = rig.upgrading("");
        // It has said something behind its request, which makes no difference.
        ben.send(&text(&broadcast("a", "2")));
        let held = rig.hub.inventory().held;
        assert_eq!(held, 4);
        for client in [&clients[0], &ben] {
            if reset {
                client.far.reset()
            } else {
                client.far.leave()
            }
        }
        rig.run();
        assert!(clients[0].far.is_dropped() && ben.far.is_dropped());
        assert_eq!(rig.hub.inventory().held, 2);
        allow_all(&mut rig);
        assert_eq!(clients[3].hear(), [""; 0]);
    }
}

#[test]
fn a_probe_whose_client_leaves_still_says_how_the_authorizer_is() {
    let (mut rig, clients) = down(AuthorizerFailure::Hold, 3);
    rig.pass(250);
    assert_eq!(rig.questions.len(), 1);
    let probe = rig.questions[0].from;
    let ann = clients.iter().find(|client| client.id == probe).unwrap();
    ann.far.leave();
    rig.run();
    assert!(ann.far.is_dropped());
    // It is not taken back, and no other goes out meanwhile.
    assert_eq!(rig.withdrawn, []);
    rig.pass(2_000);
    assert_eq!(rig.questions.len(), 1);
    rig.answer(Verdict::Allow);
    assert!(!is_down(&mut rig));
}

#[test]
fn a_client_that_had_ended_its_stream_before_its_question_failed_has_left() {
    let mut rig = rig(AuthorizerFailure::Hold);
    let ann = rig.member("a");
    ann.say(&broadcast("a", "1"));
    ann.far.leave();
    rig.run();
    // While it is asked for the first time it is heard to the end.
    assert!(!ann.far.is_dropped());
    rig.answer(Verdict::Unavailable);
    assert!(ann.far.is_dropped());
    assert_eq!(rig.hub.inventory().held, 0);
}

#[test]
fn a_close_frame_of_a_held_client_waits_behind_its_command() {
    let (mut rig, mut clients) = down(AuthorizerFailure::Hold, 3);
    assert_eq!(rig.sends(&mut clients[0], &close(1000)), [""; 0]);
    allow_all(&mut rig);
    assert_eq!(
        clients[0].hear(),
        [r#"{"id":1,"ok":true}"#, "close 1000", "end"]
    );
}

#[test]
fn when_the_memory_budget_is_used_up_the_new_question_is_not_held() {
    let mut rig = Rig::with(Settings {
        max_total_queue: 40_000,
        ..with(AuthorizerFailure::Hold)
    });
    let content = format!("\"{}\"", "x".repeat(6_000));
    let mut clients: Vec<Client> = (0..2).map(|_| rig.member("a")).collect();
    for client in &clients {
        client.say(&broadcast("b", &content));
        rig.run();
    }
    // Both messages and one question have room.
    while !rig.questions.is_empty() {
        rig.answer(Verdict::Unavailable);
    }
    assert_eq!(rig.hub.inventory().held, 1);
    assert_eq!(clients[0].hear(), [""; 0]);
    assert_eq!(clients[1].hear(), ["close 1013"]);
    // Pings make no held question too many.
    assert_eq!(rig.sends(&mut clients[0], &frame(PING, b"1")), ["pong 1"]);
    allow_all(&mut rig);
    assert_eq!(rig.hub.inventory().waiting, 0);
}

#[test]
fn a_stop_closes_held_clients_in_their_turn_and_refuses_held_upgrades() {
    let (mut rig, mut clients) = down(AuthorizerFailure::Hold, 3);
    let mut ben = rig.upgrading("");
    assert_eq!(rig.hub.inventory().held, 4);
    rig.hub.drain(10_000);
    rig.run();
    assert_eq!(ben.hear()[0], "503 draining, close");
    rig.pass(10_000);
    for client in &mut clients {
        assert_eq!(client.hear(), ["close 1012"]);
    }
    assert_eq!(rig.hub.inventory().held, 0);
}

#[test]
fn a_tap_shows_what_waits_for_an_authorizer_that_is_down() {
    let (mut rig, clients) = down(AuthorizerFailure::Hold, 4);
    let tap = rig.client();
    tap.send(&get("/tap?query=a"));
    rig.run();
    let tap = rig.client();
    tap.send(&get("/tap"));
    rig.run();
    clients[3].say(&join("c"));
    rig.run();
    let shown = String::from_utf8(tap.far.receive()).unwrap();
    let line = shown
        .lines()
        .skip_while(|line| *line != "event: held")
        .nth(1);
    let line = line.expect("a held question");
    for part in [
        r#""channel":"c""#,
        r#""command":"join""#,
        r#""failed":0"#,
        r#""reason":"the authorizer is down""#,
    ] {
        assert!(line.contains(part), "{line}");
    }
    for pause in [250, 500, 1_000, 2_000] {
        rig.pass(pause);
        rig.answer(Verdict::Unavailable);
    }
    let shown = String::from_utf8(tap.far.receive()).unwrap();
    assert!(shown.contains("event: asked\n"), "{shown}");
    assert!(
        shown.contains(r#""channel":"c","command":"join","failed":0}"#),
        "{shown}"
    );
}

#[test]
fn held_questions_are_asked_and_given_up_in_parts() {
    let mut rig = Rig::with(Settings {
        failure: FailurePolicy {
            workers: 1_000,
            ..with(AuthorizerFailure::Hold).failure
        },
        ..with(AuthorizerFailure::Hold)
    });
    let clients: Vec<Client> = (0..300).map(|_| rig.upgrading("")).collect();
    while !rig.questions.is_empty() {
        answer_badly(&mut rig, |answer| answer.call = None);
    }
    assert_eq!(rig.hub.inventory().held, 300);
    rig.hub.clock.now += 250;
    let mut most = 0;
    while rig.questions.len() < 300 {
        let before = rig.questions.len();
        rig.tick();
        most = most.max(rig.questions.len() - before);
    }
    assert_eq!(most, 64);
    rig.hub.clock.now += HOLD;
    while rig.hub.inventory().held > 0 {
        let before = rig.hub.inventory().held;
        rig.tick();
        assert!(before - rig.hub.inventory().held <= 64);
    }
    drop(clients);
}

#[test]
fn an_outage_that_flickers_is_logged_now_and_then() {
    let mut rig = rig(AuthorizerFailure::Close);
    let ann = rig.member("a");
    for nth in 0..20 {
        let _ben = rig.upgrading("");
        rig.answer(Verdict::Unavailable);
        ann.say(&join(&nth.to_string()));
        rig.run();
        rig.answer(Verdict::Allow);
    }
    assert_eq!(outages(&rig).len(), 12);
    rig.pass(60_000);
    let _ben = rig.upgrading("");
    rig.answer(Verdict::Unavailable);
    let lines = rig.logged();
    let line = lines.iter().find(|line| is_down_line(line));
    assert_eq!(line.unwrap()["outages_left_out"], 14);
}

/// A client that is asked about again within the second, whose refresh has just failed.
fn unrefreshed(failure: AuthorizerFailure) -> (Rig, Client) {
    let mut rig = rig(failure);
    let allow = Allow {
        join: ["*".into()].into(),
        ..Allow::default()
    };
    let ann = rig.granted(AnswerFields {
        allow: Some(allow),
        expires_in: Some(1),
        ..AnswerFields::default()
    });
    rig.pass(1_001);
    assert_eq!(rig.asked(), ["refresh"]);
    rig.answer(Verdict::Unavailable);
    (rig, ann)
}

#[test]
fn with_reject_a_refresh_that_fails_is_asked_again_and_the_connection_stays_without_its_grants() {
    let (mut rig, mut ann) = unrefreshed(AuthorizerFailure::Reject);
    for pause in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
        assert_eq!(rig.asked(), [""; 0]);
        rig.pass(pause / 2 - 1);
        assert_eq!(rig.asked(), [""; 0], "not before half of {pause} ms");
        rig.pass(pause / 2 + 2);
        assert_eq!(rig.asked(), ["refresh"], "after {pause} ms");
        rig.answer(Verdict::Unavailable);
    }
    ann.say(&with_id(1, &join("a")));
    rig.run();
    assert_eq!(rig.asked(), ["join a"], "its grants are over");
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#]);
    rig.pass(5_001);
    assert_eq!(rig.asked(), ["refresh"]);
    rig.answer(Verdict::Allow);
    rig.pass(20_000);
    assert_eq!(rig.asked(), [""; 0]);
}

#[test]
fn with_hold_a_refresh_that_fails_waits_and_what_the_client_says_behind_it() {
    let (mut rig, mut ann) = unrefreshed(AuthorizerFailure::Hold);
    ann.say(&with_id(1, &join("a")));
    rig.pass(251);
    assert_eq!(rig.asked(), ["refresh"]);
    rig.answer(Verdict::Unavailable);
    rig.pass(501);
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), ["join a"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#]);
}

#[test]
fn with_hold_a_refresh_is_given_up_in_time_and_its_client_closed() {
    let (mut rig, mut ann) = unrefreshed(AuthorizerFailure::Hold);
    for _ in 0..HOLD / 1_000 {
        rig.pass(1_000);
        if !rig.questions.is_empty() {
            rig.answer(Verdict::Unavailable);
        }
    }
    assert_eq!(ann.hear().last().map(String::as_str), Some("close 1013"));
}

#[test]
fn with_reject_a_refresh_may_be_the_probe() {
    let (mut rig, _clients) = down(AuthorizerFailure::Reject, 3);
    rig.pass(250);
    let mut ann = rig.upgrading("");
    assert_eq!(rig.asked(), ["connect"]);
    rig.answer_fields(
        Verdict::Allow,
        AnswerFields {
            expires_in: Some(1),
            ..AnswerFields::default()
        },
    );
    assert_eq!(ann.hear(), ["101"]);
    // A failed call in the slow start.
    rig.pass(1_050);
    assert_eq!(rig.asked(), ["refresh"]);
    rig.answer(Verdict::Unavailable);
    assert!(is_down(&mut rig));
    // Where it comes too early to be the probe, it pauses once more.
    rig.pass(250 + 500 + 50);
    assert_eq!(rig.asked(), ["refresh"]);
    assert!(is_down(&mut rig));
    rig.answer(Verdict::Allow);
    assert!(!is_down(&mut rig));
    assert_eq!(ann.hear(), [""; 0]);
}
