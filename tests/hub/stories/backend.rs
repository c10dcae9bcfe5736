//! What backends say to users and connections, and what they are listed (`docs/api.md`).

use serde_json::{Value, json};
use wsify::config::AuthorizerFailure;
use wsify::connection::Limits;
use wsify::effect::Verdict;
use wsify::hub::{FailurePolicy, Settings};
use wsify::wire::answer_fields::AnswerFields;
use wsify::wire::channel_name::ChannelName;

use crate::broker::Broker;
use crate::client::{Client, TEXT, broadcast, frame, get, join, text, with_id};
use crate::rig::{Rig, settings};

const V1: &str = "Sec-WebSocket-Protocol: wsify.v1\r\n";

fn of_user(user: &str) -> AnswerFields {
    AnswerFields {
        user: Some(user.into()),
        ..AnswerFields::default()
    }
}

/// A client of a user with an open WebSocket.
fn client_of(rig: &mut Rig, user: &str, more: &str) -> Client {
    let mut client = rig.upgrading(more);
    rig.answer_fields(Verdict::Allow, of_user(user));
    assert_eq!(client.hear(), ["101"]);
    client
}

fn clients_of(rig: &mut Rig, user: &str, count: usize) -> Vec<Client> {
    (0..count).map(|_| client_of(rig, user, "")).collect()
}

fn request(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A backend that has sent a request, which may not have been answered yet.
fn asking(rig: &mut Rig, path: &str, body: &str) -> Client {
    let backend = rig.client();
    backend.send(&request(path, body));
    backend
}

/// The only answer to a request.
fn post(rig: &mut Rig, path: &str, body: &str) -> String {
    let mut backend = asking(rig, path, body);
    rig.run();
    end(rig, &mut backend)
}

fn end(rig: &mut Rig, backend: &mut Client) -> String {
    let mut lines = backend.hear();
    assert_eq!(lines.len(), 1, "{lines:?}");
    backend.far.reset();
    rig.run();
    lines.remove(0)
}

/// The body of the answer to a `GET`.
fn list(rig: &mut Rig, target: &str) -> Value {
    let mut backend = rig.client();
    backend.send(&get(target));
    rig.run();
    let line = end(rig, &mut backend);
    let body = line
        .strip_prefix("200 ")
        .unwrap_or_else(|| panic!("{line}"));
    serde_json::from_str(body).unwrap()
}

fn id_of(rig: &mut Rig, client: &Client) -> String {
    let port = client.id;
    let all = list(rig, "/connections?limit=1000");
    let all = all["connections"].as_array().unwrap().clone();
    let slot = format!("-{:08x}", port.slot);
    let found = all
        .iter()
        .find(|it| it["id"].as_str().unwrap().contains(&slot));
    found.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Everything goes, and nothing of it is left.
fn leave_empty(rig: &mut Rig, clients: &[Client]) {
    reset(rig, clients);
    rig.assert_empty();
}

/// The same with a broker, where nothing stays subscribed.
fn leave_both_empty(rig: &mut Rig, broker: &mut Broker, clients: &[Client]) {
    reset(rig, clients);
    broker.settle(rig);
    assert!(broker.subscribed.is_empty());
    rig.assert_empty();
}

fn reset(rig: &mut Rig, clients: &[Client]) {
    for client in clients {
        client.far.reset();
    }
    rig.run();
}

// -- broadcast

#[test]
fn a_content_reaches_all_connections_of_a_user_and_no_other() {
    let mut rig = Rig::with_authorizer();
    let mut raw = client_of(&mut rig, "4\"2", "");
    let mut v1 = client_of(&mut rig, "4\"2", V1);
    let mut other = client_of(&mut rig, "43", "");
    let mut userless = rig.websocket();
    let body = r#"{"user":"4\"2","content":{"a": 1.0}}"#;
    assert_eq!(post(&mut rig, "/broadcast", body), "201");
    assert_eq!(raw.hear(), [r#"{"a": 1.0}"#]);
    assert_eq!(v1.hear(), [r#"{"user":"4\"2","content":{"a": 1.0}}"#]);
    let unknown = r#"{"user":"nobody","content":1}"#;
    assert_eq!(post(&mut rig, "/broadcast", unknown), "201");
    assert_eq!((other.hear(), userless.hear()), (vec![], vec![]));
    leave_empty(&mut rig, &[raw, v1, other, userless]);
}

#[test]
fn a_content_reaches_one_connection_alone() {
    let mut rig = Rig::with_authorizer();
    let mut ann = client_of(&mut rig, "42", V1);
    let mut ben = client_of(&mut rig, "42", V1);
    let id = ann.welcome["connection"].as_str().unwrap().to_owned();
    let body = format!(r#"{{"connection":"{id}"}}"#);
    assert_eq!(post(&mut rig, "/broadcast", &body), "201");
    assert_eq!(
        ann.hear(),
        [format!(r#"{{"connection":"{id}","content":null}}"#)]
    );
    assert_eq!(ben.hear(), [""; 0]);
    for unknown in [&id.to_uppercase(), &id[1..], "", "x"] {
        let body = format!(r#"{{"connection":"{unknown}"}}"#);
        assert_eq!(post(&mut rig, "/broadcast", &body), "201");
    }
    // Its slot has another connection: it is not meant.
    ann.far.reset();
    rig.run();
    let mut cat = client_of(&mut rig, "42", V1);
    assert_eq!(cat.id.slot, ann.id.slot);
    assert_eq!(post(&mut rig, "/broadcast", &body), "201");
    assert_eq!((ben.hear(), cat.hear()), (vec![], vec![]));
}

#[test]
fn a_list_of_channels_is_published_to_each_once() {
    let mut rig = Rig::new();
    let mut a = rig.member("a");
    let mut both = rig.member("a");
    rig.says(&mut both, &join("b"));
    let body = r#"{"channels":["a"," b ","a","c"],"content":1}"#;
    assert_eq!(post(&mut rig, "/broadcast", body), "201");
    assert_eq!(
        (a.hear(), both.hear()),
        (vec!["1".into()], vec!["1".into(); 2])
    );
    leave_empty(&mut rig, &[a, both]);
}

#[test]
fn of_an_array_with_a_fault_nothing_is_published() {
    let mut rig = Rig::with_authorizer();
    let mut ann = client_of(&mut rig, "42", "");
    rig.says(&mut ann, &join("a"));
    for bad in [
        r#"{"channel":" "}"#,
        r#"{"user":""}"#,
        "{}",
        r#"{"channels":[]}"#,
        "1",
    ] {
        let body = format!(r#"[{{"channel":"a","content":1}},{{"user":"42"}},{bad}]"#);
        let answer = post(&mut rig, "/broadcast", &body);
        assert!(answer.starts_with("400 "), "{bad}: {answer}");
    }
    assert_eq!(ann.hear(), [""; 0]);
    let body = r#"[{"channel":"a","content":1},{"user":42,"content":2},{"channel":"a"}]"#;
    assert_eq!(post(&mut rig, "/broadcast", body), "201");
    let mut heard = ann.hear();
    heard.sort();
    assert_eq!(heard, ["1", "2", "null"]);
}

#[test]
fn all_connections_of_a_user_are_sent_the_same_in_the_same_order() {
    let mut rig = Rig::with_authorizer();
    let mut clients = clients_of(&mut rig, "42", 200);
    let mut backends: Vec<Client> = (0..20)
        .map(|n| {
            let body = format!(r#"[{{"user":"43"}},{{"user":"42","content":{n}}}]"#);
            asking(&mut rig, "/broadcast", &body)
        })
        .collect();
    rig.run();
    for backend in &mut backends {
        assert_eq!(backend.hear(), ["201"]);
    }
    let first = clients[0].hear();
    assert_eq!(first.len(), 20);
    for client in &mut clients[1..] {
        assert_eq!(client.hear(), first);
    }
    clients.append(&mut backends);
    leave_empty(&mut rig, &clients);
}

#[test]
fn a_connection_that_cannot_take_a_content_for_its_user_is_closed() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        limits: Limits {
            max_queue: 1_000,
            ..settings().limits
        },
        ..settings()
    });
    let mut slow = client_of(&mut rig, "42", "");
    let mut quick = client_of(&mut rig, "42", "");
    slow.far.narrow(0);
    let body = format!(r#"{{"user":"42","content":"{}"}}"#, "x".repeat(600));
    for _ in 0..3 {
        assert_eq!(post(&mut rig, "/broadcast", &body), "201");
    }
    assert_eq!(quick.hear().len(), 3);
    slow.far.widen(1_000_000);
    rig.run();
    let heard = slow.hear();
    assert_eq!(heard.last().unwrap(), "close 1008", "{heard:?}");
    leave_empty(&mut rig, &[slow, quick]);
}

// -- disconnect

#[test]
fn a_disconnect_closes_the_connections_of_a_user_with_code_and_reason() {
    let mut rig = Rig::with_authorizer();
    let mut clients = clients_of(&mut rig, "42", 3);
    let mut other = client_of(&mut rig, "43", "");
    for client in &mut clients {
        rig.says(client, &join("a"));
    }
    // The first is closing already, and is not counted.
    clients[0].send(&crate::client::close(1000));
    clients[0].far.narrow(0);
    rig.run();
    let body = r#"{"user":"42","code":4001,"reason":"bye"}"#;
    assert_eq!(
        post(&mut rig, "/disconnect", body),
        r#"200 {"connections":2}"#
    );
    assert_eq!(rig.hub.inventory().memberships, 0);
    for client in &mut clients[1..] {
        assert_eq!(client.hear(), ["close 4001"]);
        assert_eq!(client.reason, "bye");
    }
    assert_eq!(
        post(&mut rig, "/disconnect", body),
        r#"200 {"connections":0}"#
    );
    // A client that does not answer the close is gone 5 s later.
    rig.pass(4_900);
    assert_eq!(clients[1].hear(), [""; 0]);
    rig.pass(200);
    assert_eq!(clients[1].hear(), ["end"]);
    assert_eq!(other.hear(), [""; 0]);
    clients.push(other);
    leave_empty(&mut rig, &clients);
}

#[test]
fn a_disconnect_forgets_the_open_question_and_what_waits_behind_it() {
    let mut rig = Rig::with_authorizer();
    let mut ann = client_of(&mut rig, "42", "");
    let mut ben = rig.member("a");
    ann.say(&broadcast("a", "1"));
    ann.say(&broadcast("a", "2"));
    rig.run();
    assert_eq!(rig.asked(), ["broadcast a"]);
    let id = id_of(&mut rig, &ann);
    let body = format!(r#"{{"connection":"{id}"}}"#);
    assert_eq!(
        post(&mut rig, "/disconnect", &body),
        r#"200 {"connections":1}"#
    );
    assert_eq!(rig.withdrawn, [ann.id]);
    // It may have been put already.
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), [""; 0]);
    assert_eq!(
        (ann.hear(), ben.hear()),
        (vec!["close 4403".into()], vec![])
    );
    assert_eq!(ann.reason, "closed by the backend");
    leave_empty(&mut rig, &[ann, ben]);
}

#[test]
fn a_disconnect_forgets_a_question_that_is_held() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        failure: FailurePolicy {
            failure: AuthorizerFailure::Hold,
            ..FailurePolicy::default()
        },
        ..settings()
    });
    let mut ann = client_of(&mut rig, "42", "");
    ann.say(&join("a"));
    rig.run();
    rig.answer(Verdict::Unavailable);
    assert_eq!(rig.hub.inventory().held, 1);
    let body = r#"{"user":"42"}"#;
    assert_eq!(
        post(&mut rig, "/disconnect", body),
        r#"200 {"connections":1}"#
    );
    assert_eq!(ann.hear(), ["close 4403"]);
    rig.pass(1_000);
    assert_eq!((rig.hub.inventory().held, rig.asked()), (0, vec![]));
    leave_empty(&mut rig, &[ann]);
}

#[test]
fn what_was_published_before_a_disconnect_goes_before_the_close_frame() {
    let mut rig = Rig::with_authorizer();
    let mut clients = clients_of(&mut rig, "42", 100);
    for client in &mut clients {
        rig.says(client, &join("a"));
    }
    let channel = asking(&mut rig, "/broadcast", r#"{"channel":"a","content":1}"#);
    let user = asking(&mut rig, "/broadcast", r#"{"user":"42","content":2}"#);
    // Half of both is sent.
    rig.tick();
    let disconnect = asking(&mut rig, "/disconnect", r#"{"user":"42"}"#);
    rig.run();
    for client in &mut clients {
        let mut heard = client.hear();
        assert_eq!(heard.pop().unwrap(), "close 4403");
        heard.sort();
        assert_eq!(heard, ["1", "2"]);
    }
    clients.extend([channel, user, disconnect]);
    leave_empty(&mut rig, &clients);
}

#[test]
fn an_upgrade_that_was_asked_about_before_a_disconnect_does_not_survive_it() {
    let mut rig = Rig::with_authorizer();
    let mut before = rig.upgrading("");
    let mut other = rig.upgrading("");
    let body = r#"{"user":"42"}"#;
    assert_eq!(
        post(&mut rig, "/disconnect", body),
        r#"200 {"connections":0}"#
    );
    let mut after = rig.upgrading("");
    for user in ["42", "43", "42"] {
        rig.answer_fields(Verdict::Allow, of_user(user));
    }
    assert_eq!(before.hear(), ["403 disconnected"]);
    assert_eq!(
        (other.hear(), after.hear()),
        (vec!["101".into()], vec!["101".into()])
    );
    // The same connection may ask again.
    before.send(&crate::client::upgrade("/ws", ""));
    rig.run();
    rig.answer_fields(Verdict::Allow, of_user("42"));
    assert_eq!(before.hear(), ["101"]);
    assert_eq!(rig.hub.inventory().upgrades, 0);
    leave_empty(&mut rig, &[before, other, after]);
}

#[test]
fn an_upgrade_whose_channels_are_not_subscribed_does_not_survive_a_disconnect() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.upgrading("");
    let fields = AnswerFields {
        channels: vec![ChannelName::checked("a")],
        ..of_user("42")
    };
    rig.answer_fields(Verdict::Allow, fields);
    broker.run(&mut rig);
    let body = r#"{"user":"42"}"#;
    assert_eq!(
        post(&mut rig, "/disconnect", body),
        r#"200 {"connections":0}"#
    );
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), ["403 disconnected"]);
    broker.settle(&mut rig);
    assert!(broker.subscribed.is_empty());
    leave_empty(&mut rig, &[ann]);
}

#[test]
fn an_upgrade_can_be_disconnected_by_its_id() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.upgrading("");
    let id = rig.connection_shown()["id"].as_str().unwrap().to_owned();
    let body = format!(r#"{{"connection":"{id}"}}"#);
    assert_eq!(
        post(&mut rig, "/disconnect", &body),
        r#"200 {"connections":0}"#
    );
    assert_eq!(rig.withdrawn, [ann.id]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["403 disconnected, close", "end"]);
    leave_empty(&mut rig, &[ann]);
}

#[test]
fn a_user_with_many_connections_is_disconnected_while_others_are_served() {
    let mut rig = Rig::with_authorizer();
    let mut clients = clients_of(&mut rig, "42", 2_000);
    // This one is asked about before, and allowed at the end.
    let mut before = rig.upgrading("");
    let mut disconnect = asking(&mut rig, "/disconnect", r#"{"user":"42"}"#);
    let mut after = rig.client();
    let mut turns = 0;
    while disconnect.hear().is_empty() {
        match turns {
            3 => after.send(&crate::client::upgrade("/ws", "")),
            5 => {
                let question = rig.questions.pop_back().unwrap();
                let answer = rig.send_verdict(&question, Verdict::Allow, None);
                answer.fields = Some(Box::new(of_user("42")));
            }
            _ => {}
        }
        let mut health = rig.client();
        health.send(&get("/health"));
        rig.tick();
        assert_eq!(health.hear(), [r#"200 {"status":"ok"}"#], "in its turn");
        health.far.reset();
        turns += 1;
    }
    assert!((2_000 / 64..200).contains(&turns), "{turns} turns");
    rig.run();
    for client in &mut clients {
        assert_eq!(client.hear(), ["close 4403"]);
    }
    assert_eq!(after.hear(), ["101"], "it came later");
    rig.answer_fields(Verdict::Allow, of_user("42"));
    assert_eq!(before.hear(), ["403 disconnected"]);
    clients.extend([disconnect, before, after]);
    leave_empty(&mut rig, &clients);
}

// -- join and leave

#[test]
fn a_backend_makes_a_user_join_and_leave() {
    let mut rig = Rig::with_authorizer();
    let mut raw = client_of(&mut rig, "42", "");
    let mut v1 = client_of(&mut rig, "42", V1);
    let mut member = client_of(&mut rig, "42", V1);
    rig.says(&mut member, &join("a"));
    let body = r#"{"user":42,"channel":" a "}"#;
    assert_eq!(post(&mut rig, "/join", body), r#"200 {"connections":3}"#);
    let publish = r#"{"channel":"a","content":1}"#;
    assert_eq!(post(&mut rig, "/broadcast", publish), "201");
    let content = r#"{"channel":"a","content":1}"#;
    assert_eq!(raw.hear(), ["1"]);
    assert_eq!(v1.hear(), [r#"{"joined":"a"}"#, content]);
    assert_eq!(member.hear(), [content]);
    // What was published before goes out before it.
    let backend = rig.client();
    backend.send(&[request("/broadcast", publish), request("/leave", body)].concat());
    rig.run();
    assert_eq!(v1.hear(), [content, r#"{"left":"a"}"#]);
    assert_eq!((raw.hear(), member.hear().len()), (vec!["1".into()], 2));
    assert_eq!(post(&mut rig, "/leave", body), r#"200 {"connections":3}"#);
    assert_eq!(post(&mut rig, "/broadcast", publish), "201");
    assert_eq!(
        (raw.hear(), v1.hear(), member.hear()),
        (vec![], vec![], vec![])
    );
    leave_empty(&mut rig, &[raw, v1, member, backend]);
}

#[test]
fn a_join_does_not_wait_for_the_open_question() {
    let mut rig = Rig::with_authorizer();
    let mut ann = client_of(&mut rig, "42", V1);
    ann.say(&with_id(1, &join("b")));
    rig.run();
    let body = r#"{"user":"42","channel":"a"}"#;
    assert_eq!(post(&mut rig, "/join", body), r#"200 {"connections":1}"#);
    assert_eq!(ann.hear(), [r#"{"joined":"a"}"#]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#]);
    leave_empty(&mut rig, &[ann]);
}

#[test]
fn a_join_that_max_channels_forbids_is_counted_as_full() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        max_channels: 1,
        ..settings()
    });
    let mut clients = clients_of(&mut rig, "42", 3);
    rig.says(&mut clients[0], &join("a"));
    rig.says(&mut clients[1], &join("b"));
    let body = r#"{"user":"42","channel":"a"}"#;
    let expected = r#"200 {"connections":2,"full":1}"#;
    assert_eq!(post(&mut rig, "/join", body), expected);
    leave_empty(&mut rig, &clients);
}

#[test]
fn a_leave_forgets_what_was_remembered_about_the_channel() {
    let mut rig = Rig::with_authorizer();
    let ann = client_of(&mut rig, "42", "");
    let remembered = || AnswerFields {
        max_age: Some(60),
        ..AnswerFields::default()
    };
    ann.say(&join("a"));
    rig.run();
    rig.answer_fields(Verdict::Allow, remembered());
    ann.say(&crate::client::leave("a"));
    rig.run();
    rig.answer_fields(Verdict::Allow, remembered());
    // It is no longer a member, and is found all the same.
    let body = r#"{"user":"42","channel":"a"}"#;
    assert_eq!(post(&mut rig, "/leave", body), r#"200 {"connections":1}"#);
    ann.say(&join("a"));
    rig.run();
    assert_eq!(rig.asked(), ["join a"]);
    leave_empty(&mut rig, &[ann]);
}

#[test]
fn a_join_is_answered_when_the_broker_has_subscribed() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = client_of(&mut rig, "42", V1);
    let body = r#"{"user":"42","channel":"a"}"#;
    let mut backend = asking(&mut rig, "/join", body);
    broker.run(&mut rig);
    assert_eq!((backend.hear(), ann.hear()), (vec![], vec![]));
    broker.settle(&mut rig);
    assert_eq!(backend.hear(), [r#"200 {"connections":1}"#]);
    assert_eq!(ann.hear(), [r#"{"joined":"a"}"#]);
    broker.foreign("a", "1");
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [r#"{"channel":"a","content":1}"#]);
    // No connection, no subscription.
    let absent = r#"{"user":"43","channel":"b"}"#;
    assert_eq!(post(&mut rig, "/join", absent), r#"200 {"connections":0}"#);
    assert_eq!(broker.subscribed.len(), 1);
    // It is refused, and nothing changes.
    let refused = asking(&mut rig, "/join", r#"{"user":"42","channel":"c"}"#);
    broker.run(&mut rig);
    assert!(broker.refuse_change());
    broker.settle(&mut rig);
    let mut refused = refused;
    assert_eq!(refused.hear(), ["503 unavailable"]);
    assert_eq!((ann.hear(), rig.hub.inventory().memberships), (vec![], 1));
    leave_both_empty(&mut rig, &mut broker, &[ann, backend, refused]);
}

/// A user joins the channel `a`, and the broker subscribes it.
fn joins(rig: &mut Rig, broker: &mut Broker, user: &str) {
    let mut join = asking(
        rig,
        "/join",
        &format!(r#"{{"user":"{user}","channel":"a"}}"#),
    );
    broker.settle(rig);
    assert_eq!(end(rig, &mut join), COUNTS_ONE);
}

/// A user is asked to leave it.
fn leaving(rig: &mut Rig, broker: &mut Broker, user: &str) -> Client {
    let leave = asking(
        rig,
        "/leave",
        &format!(r#"{{"user":"{user}","channel":"a"}}"#),
    );
    broker.run(rig);
    leave
}

const COUNTS_ONE: &str = r#"200 {"connections":1}"#;

#[test]
fn a_leave_is_answered_when_the_broker_has_unsubscribed() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut clients = ["42", "43"].map(|user| client_of(&mut rig, user, V1));
    for user in ["42", "43"] {
        joins(&mut rig, &mut broker, user);
    }
    // Another member needs the subscription.
    let mut first = leaving(&mut rig, &mut broker, "42");
    assert_eq!(first.hear(), [COUNTS_ONE]);
    let mut last = leaving(&mut rig, &mut broker, "43");
    // It is left already, and the subscription ends.
    let mut again = leaving(&mut rig, &mut broker, "42");
    let told = [r#"{"joined":"a"}"#, r#"{"left":"a"}"#];
    assert_eq!(clients.each_mut().map(Client::hear), [told, told]);
    // Another program goes on with it.
    rig.hand_over();
    broker.hand_over(&mut rig);
    broker.run(&mut rig);
    assert!(broker.execute_change() && broker.subscribed.is_empty());
    assert_eq!((last.hear(), again.hear()), (vec![], vec![]));
    broker.settle(&mut rig);
    assert_eq!([last.hear(), again.hear()], [[COUNTS_ONE], [COUNTS_ONE]]);
    assert_eq!(rig.hub.inventory().unsubscriptions, 0);
    let [ann, ben] = clients;
    leave_both_empty(&mut rig, &mut broker, &[ann, ben, first, last, again]);
}

#[test]
fn a_leave_waits_for_what_is_still_on_its_way_to_the_channel() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = client_of(&mut rig, "42", "");
    joins(&mut rig, &mut broker, "42");
    // The channel is in the list of those that are served, and the broker is asked when it has been.
    assert!(rig.hub.arrived("a", b"1"));
    let mut leave = leaving(&mut rig, &mut broker, "42");
    assert_eq!((ann.hear(), leave.hear()), (vec!["1".into()], vec![]));
    assert!(broker.execute_change() && broker.subscribed.is_empty());
    broker.settle(&mut rig);
    assert_eq!(leave.hear(), [COUNTS_ONE]);
    leave_both_empty(&mut rig, &mut broker, &[ann, leave]);
}

#[test]
fn a_leave_whose_broker_goes_away_is_answered() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let ann = client_of(&mut rig, "42", "");
    joins(&mut rig, &mut broker, "42");
    let mut leave = leaving(&mut rig, &mut broker, "42");
    assert_eq!(leave.hear(), [""; 0]);
    broker.break_listening(&mut rig);
    broker.run(&mut rig);
    assert_eq!(leave.hear(), [COUNTS_ONE]);
    assert_eq!(rig.hub.inventory().unsubscriptions, 0);
    broker.mend_listening(&mut rig);
    broker.settle(&mut rig);
    leave_both_empty(&mut rig, &mut broker, &[ann, leave]);
}

#[test]
fn a_command_goes_on_when_its_backend_has_gone() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = client_of(&mut rig, "42", V1);
    let body = r#"{"user":"42","channel":"a"}"#;
    let backend = asking(&mut rig, "/join", body);
    broker.run(&mut rig);
    backend.far.reset();
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [r#"{"joined":"a"}"#]);
    leave_both_empty(&mut rig, &mut broker, &[ann]);
}

#[test]
fn without_the_broker_nothing_is_done() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = client_of(&mut rig, "42", "");
    broker.break_listening(&mut rig);
    rig.run();
    for (path, body) in [
        ("/broadcast", r#"{"user":"42"}"#),
        ("/broadcast", r#"[{"channel":"a"}]"#),
        ("/disconnect", r#"{"user":"42"}"#),
        ("/join", r#"{"user":"42","channel":"a"}"#),
        ("/leave", r#"{"user":"42","channel":"a"}"#),
    ] {
        assert_eq!(post(&mut rig, path, body), "503 unavailable", "{path}");
        assert_eq!(post(&mut rig, path, "{}")[..4], *"400 ", "{path}");
    }
    for (target, expected) in [
        ("/channels", "503 unavailable"),
        ("/connections", "503 unavailable"),
        ("/channels?limit=0", "400 bad_request"),
    ] {
        let mut backend = rig.client();
        backend.send(&get(target));
        rig.run();
        assert_eq!(end(&mut rig, &mut backend), expected, "{target}");
    }
    assert_eq!(ann.hear(), [""; 0]);
    leave_empty(&mut rig, &[ann]);
}

#[test]
fn many_channels_are_confirmed_by_the_broker() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let body = r#"[{"channels":["a","b"],"content":1},{"channel":"c"}]"#;
    let mut backend = asking(&mut rig, "/broadcast", body);
    broker.run(&mut rig);
    for _ in 0..2 {
        assert!(broker.execute_publication().is_some());
        broker.read_publisher(&mut rig);
        broker.run(&mut rig);
        assert_eq!(backend.hear(), [""; 0]);
    }
    broker.settle(&mut rig);
    assert_eq!(backend.hear(), ["201"]);
    // One of them is refused.
    backend.send(&request("/broadcast", body));
    broker.run(&mut rig);
    assert!(broker.execute_publication().is_some());
    assert!(broker.refuse_publication());
    broker.settle(&mut rig);
    assert_eq!(backend.hear(), ["503 unavailable"]);
    leave_empty(&mut rig, &[backend]);
}

// -- lists

#[test]
fn channels_are_listed_in_byte_order_page_by_page() {
    let mut rig = Rig::new();
    let mut clients: Vec<Client> = ["b", "a:1", "a:2", "é"].map(|name| rig.member(name)).into();
    rig.says(&mut clients[0], &join("a:1"));
    let channel = |name: &str, members: u64| json!({"channel": name, "members": members});
    assert_eq!(
        list(&mut rig, "/channels?limit=2"),
        json!({"channels": [channel("a:1", 2), channel("a:2", 1)], "next": "a:2"})
    );
    // The name of the page's end need not exist any more.
    rig.says(&mut clients[2], &crate::client::leave("a:2"));
    assert_eq!(
        list(&mut rig, "/channels?after=a:2"),
        json!({"channels": [channel("b", 1), channel("é", 1)]})
    );
    assert_eq!(
        list(&mut rig, "/channels?prefix=a:&limit=1"),
        json!({"channels": [channel("a:1", 2)]})
    );
    leave_empty(&mut rig, &clients);
}

#[test]
fn a_connection_is_listed_with_what_is_known_of_it() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.upgrading("");
    let fields = AnswerFields {
        channels: ["b", "a"].map(ChannelName::checked).into(),
        ..of_user("42")
    };
    let fields = AnswerFields {
        state: AnswerFields::with_state(r#"{"n":1.0}"#).state,
        ..fields
    };
    rig.answer_fields(Verdict::Allow, fields);
    assert_eq!(ann.hear(), ["101"]);
    let ben = rig.websocket();
    let _http = rig.client();
    rig.pass(1_500);
    let all = list(&mut rig, "/connections");
    let (ann_id, ben_id) = (id_of(&mut rig, &ann), id_of(&mut rig, &ben));
    assert_eq!(
        all,
        json!({"connections": [
            {"id": ann_id, "user": "42", "remote_addr": "127.0.0.1:1", "state": {"n": 1.0},
             "connected_ms": 1_500, "channels": ["a", "b"], "channels_total": 2},
            {"id": ben_id, "remote_addr": "127.0.0.1:2", "connected_ms": 1_500, "channels": [],
             "channels_total": 0},
        ]})
    );
    leave_empty(&mut rig, &[ann, ben, _http]);
}

#[test]
fn connections_are_listed_by_channel_user_and_id_page_by_page() {
    let mut rig = Rig::with_authorizer();
    let mut clients = Vec::new();
    for n in 0..30 {
        let mut client = client_of(&mut rig, ["x", "y", "z"][n % 3], "");
        if n % 2 == 0 {
            rig.says(&mut client, &join("a"));
        }
        clients.push(client);
    }
    let ids: Vec<String> = clients.iter().map(|it| id_of(&mut rig, it)).collect();
    let expected = |fits: &dyn Fn(usize) -> bool| -> Vec<String> {
        let fitting = ids.iter().enumerate().filter(|(n, _)| fits(*n));
        fitting.map(|(_, id)| id.clone()).collect()
    };
    let one = format!("connection={}", ids[7]);
    let table: [(&str, Vec<String>); 6] = [
        ("", expected(&|_| true)),
        ("channel=a", expected(&|n| n % 2 == 0)),
        ("user=y", expected(&|n| n % 3 == 1)),
        (&one, expected(&|n| n == 7)),
        ("user=nobody", vec![]),
        ("connection=x", vec![]),
    ];
    for (filter, expected) in table {
        for limit in [1, 4, 5, 100] {
            let mut found = Vec::new();
            let mut after = String::new();
            loop {
                let target = format!("/connections?{filter}&limit={limit}&after={after}");
                let page = list(&mut rig, &target);
                let entries = page["connections"].as_array().unwrap();
                assert!(entries.len() <= limit);
                let ids = entries
                    .iter()
                    .map(|it| it["id"].as_str().unwrap().to_owned());
                found.extend(ids);
                match page["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(found, expected, "{filter} {limit}");
        }
    }
    leave_empty(&mut rig, &clients);
}

#[test]
fn a_page_goes_on_in_other_turns() {
    let mut rig = Rig::new();
    let clients: Vec<Client> = (0..500).map(|_| rig.websocket()).collect();
    let mut backend = rig.client();
    backend.send(&get("/connections?limit=1000"));
    rig.tick();
    assert_eq!(backend.hear(), [""; 0]);
    let mut health = rig.client();
    health.send(&get("/health"));
    rig.tick();
    assert_eq!(health.hear().len(), 1);
    rig.run();
    let line = backend.hear().remove(0);
    assert_eq!(line.matches(r#""id":"#).count(), 500);
    backend.far.reset();
    health.far.reset();
    leave_empty(&mut rig, &clients);
}

// -- stopping

#[test]
fn a_stop_answers_backends() {
    let mut rig = Rig::with_authorizer();
    let mut ann = client_of(&mut rig, "42", "");
    let mut ben = client_of(&mut rig, "42", "");
    rig.hub.drain(10_000);
    rig.run();
    let open = rig.hub.inventory().websockets;
    assert_eq!((open, list_while_stopping(&mut rig)), (1, 1));
    let body = r#"{"user":"42","content":1}"#;
    let mut backend = asking(&mut rig, "/broadcast", body);
    rig.run();
    assert_eq!(backend.hear(), ["201, close", "end"]);
    let id = r#"{"user":"42","code":4001}"#;
    backend.far.reset();
    let mut backend = asking(&mut rig, "/disconnect", id);
    rig.run();
    assert_eq!(backend.hear(), [r#"200 {"connections":1}, close"#, "end"]);
    assert_eq!(ann.hear(), ["close 1012"]);
    assert_eq!(ben.hear(), ["1", "close 4001"]);
    for client in [&ann, &ben, &backend] {
        client.far.reset();
    }
    rig.run();
    assert!(rig.hub.is_drained());
}

fn list_while_stopping(rig: &mut Rig) -> usize {
    let mut backend = rig.client();
    backend.send(&get("/connections"));
    rig.run();
    let line = backend.hear().remove(0);
    backend.far.reset();
    line.matches(r#""id":"#).count()
}

#[test]
fn a_stop_does_not_wait_for_a_command_that_the_broker_does_not_confirm() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let ann = client_of(&mut rig, "42", "");
    let mut publish = asking(&mut rig, "/broadcast", r#"[{"channel":"a"}]"#);
    let mut join = asking(&mut rig, "/join", r#"{"user":"42","channel":"b"}"#);
    broker.run(&mut rig);
    rig.hub.drain(1_000);
    rig.pass(1_000);
    assert_eq!(publish.hear(), ["503 draining, close", "end"]);
    assert_eq!(join.hear(), ["503 draining, close", "end"]);
    broker.settle(&mut rig);
    leave_empty(&mut rig, &[ann, publish, join]);
}

// -- wsify.v1 and reserved names

#[test]
fn a_client_of_wsify_v1_is_welcomed_first() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.client();
    ann.send(
        &[
            crate::client::upgrade("/ws", V1),
            text(&with_id(1, &join("c"))),
        ]
        .concat(),
    );
    rig.run();
    let fields = AnswerFields {
        channels: ["b", "a"].map(ChannelName::checked).into(),
        ..of_user("42")
    };
    rig.answer_fields(Verdict::Allow, fields);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101", r#"{"id":1,"ok":true}"#]);
    let id = id_of(&mut rig, &ann);
    let expected = json!({"connection": id, "user": "42", "channels": ["b", "a"]});
    assert_eq!(ann.welcome, expected);
    let ben = rig.websocket_with(V1);
    assert_eq!(
        (&ben.welcome["user"], &ben.welcome["channels"]),
        (&Value::Null, &json!([]))
    );
    leave_empty(&mut rig, &[ann, ben]);
}

#[test]
fn names_that_begin_with_wsify_are_refused() {
    let mut rig = Rig::with_authorizer();
    let mut ann = client_of(&mut rig, "42", "");
    for name in ["wsify:", " wsify:x", "wsify:user:42"] {
        let commands = [join(name), broadcast(name, "1"), crate::client::leave(name)];
        for command in commands {
            ann.send(&frame(TEXT, command.as_bytes()));
            rig.run();
            let heard = ann.hear();
            assert!(heard[0].contains(r#""code":"bad_channel""#), "{heard:?}");
        }
        for (path, body) in [
            ("/broadcast", format!(r#"{{"channel":"{name}"}}"#)),
            ("/broadcast", format!(r#"{{"channels":["a","{name}"]}}"#)),
            ("/join", format!(r#"{{"user":"42","channel":"{name}"}}"#)),
            ("/leave", format!(r#"{{"user":"42","channel":"{name}"}}"#)),
        ] {
            assert_eq!(
                post(&mut rig, path, &body),
                "400 bad_channel",
                "{path} {name}"
            );
        }
    }
    assert_eq!(rig.asked(), [""; 0], "the authorizer is not asked");
    for name in ["Wsify:x", "wsify", "xwsify:"] {
        assert_eq!(rig.says(&mut ann, &join(name)), [""; 0], "{name}");
    }
    leave_empty(&mut rig, &[ann]);
}
