//! What nodes that share a broker do together, and what they do not believe (`docs/scaling.md#nodes`).

use serde_json::json;
use wsify::config::AccessLog;
use wsify::effect::{Receipt, Verdict};
use wsify::hub::EventSettings;
use wsify::wire::answer_fields::AnswerFields;
use wsify::wire::event::EventKinds;
use wsify::wire::node_message::envelope::{Envelope, NodeSeal};
use wsify::wire::node_message::{ALL_NODES, channel_of};

use crate::client::{Client, get, join};
use crate::nodes::{Fleet, SHARD};

const V1: &str = "Sec-WebSocket-Protocol: wsify.v1\r\n";
const GAP: &str = r#"{"gap":true}"#;
const ALL: &str = r#","nodes":{"answered":3,"asked":3}"#;

fn request(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A client of a user with an open WebSocket.
fn client(fleet: &mut Fleet, node: usize, user: &str, more: &str) -> Client {
    let rig = fleet.rig(node);
    let mut client = rig.upgrading(more);
    rig.answer_fields(
        Verdict::Allow,
        AnswerFields {
            user: Some(user.into()),
            ..AnswerFields::default()
        },
    );
    assert_eq!(client.hear(), ["101"]);
    client
}

/// A client that has joined channels, too.
fn member(fleet: &mut Fleet, node: usize, channels: &[&str]) -> Client {
    let mut client = client(fleet, node, "42", V1);
    for channel in channels {
        client.say(&join(channel));
        fleet.settle();
        fleet.rig(node).answer(Verdict::Allow);
        fleet.settle();
    }
    assert_eq!(client.hear(), [""; 0]);
    client
}

fn post(fleet: &mut Fleet, node: usize, path: &str, body: &str) -> String {
    fleet.asks(node, &request(path, body))
}

/// A line of the answer to a command, with its members in the order of their names.
fn counted(connections: usize, rest: &str) -> String {
    format!(r#"200 {{"connections":{connections}{rest}}}"#)
}

fn id_of(client: &Client) -> String {
    client.welcome["connection"].as_str().unwrap().to_owned()
}

/// Another program signs a message, or does not.
fn forged(seal: &NodeSeal, channel: &str, facts: (u64, u64, u64), message: &str) -> Vec<u8> {
    let (node, time, count) = facts;
    let message = message.as_bytes();
    let envelope = Envelope {
        node,
        time,
        count,
        message,
    };
    seal.seal(channel, &envelope)
}

// -- what is done on all nodes

#[test]
fn a_content_reaches_a_user_on_all_nodes_and_a_connection_on_any() {
    let mut fleet = Fleet::of(3);
    let mut mine: Vec<Client> = (0..3).map(|n| client(&mut fleet, n, "42", V1)).collect();
    let mut other = client(&mut fleet, 2, "43", "");
    let body = r#"{"user":"42","content":{"a": 1.0}}"#;
    assert_eq!(post(&mut fleet, 0, "/broadcast", body), "201");
    let heard = [r#"{"user":"42","content":{"a": 1.0}}"#];
    for client in &mut mine {
        assert_eq!(client.hear(), heard);
    }
    let id = id_of(&mine[2]);
    let body = format!(r#"[{{"connection":"{id}","content":1}},{{"user":"43","content":2}}]"#);
    assert_eq!(post(&mut fleet, 1, "/broadcast", &body), "201");
    let heard = [format!(r#"{{"connection":"{id}","content":1}}"#)];
    assert_eq!(mine[2].hear(), heard);
    assert_eq!(other.hear(), ["2"]);
    assert_eq!((mine[0].hear(), mine[1].hear()), (vec![], vec![]));
    let unknown = r#"[{"user":"nobody"},{"connection":"x"}]"#;
    assert_eq!(post(&mut fleet, 1, "/broadcast", unknown), "201");
    for node in 0..3 {
        assert_eq!(fleet.hostile(node), []);
        assert_eq!(fleet.rig(node).hub.inventory().jobs, 0);
    }
}

#[test]
fn what_goes_to_a_user_comes_in_the_same_order_on_all_nodes() {
    let mut fleet = Fleet::of(3);
    let mut clients: Vec<Client> = (0..9)
        .map(|n| client(&mut fleet, n % 3, "42", ""))
        .collect();
    let mut backends: Vec<(usize, Client)> = (0..30)
        .map(|n| {
            let body = format!(r#"{{"user":"42","content":{n}}}"#);
            (n % 3, fleet.begins(n % 3, &request("/broadcast", &body)))
        })
        .collect();
    fleet.settle();
    for (node, backend) in &mut backends {
        assert_eq!(fleet.ends(*node, backend), "201");
    }
    let first = clients[0].hear();
    assert_eq!(first.len(), 30);
    for client in &mut clients[1..] {
        assert_eq!(client.hear(), first);
    }
}

#[test]
fn a_user_is_disconnected_on_all_nodes() {
    let mut fleet = Fleet::of(3);
    let mut mine: Vec<Client> = (0..5)
        .map(|n| client(&mut fleet, n % 3, "42", V1))
        .collect();
    let mut other = client(&mut fleet, 1, "43", V1);
    // An upgrade that the authorizer was asked about before.
    let mut late = fleet.rig(2).upgrading("");
    let answer = post(
        &mut fleet,
        0,
        "/disconnect",
        r#"{"user":"42","code":4001,"reason":"x"}"#,
    );
    assert_eq!(answer, counted(5, ALL));
    for client in &mut mine {
        assert_eq!(client.hear(), ["close 4001"]);
    }
    let user = Some("42".into());
    let fields = AnswerFields {
        user,
        ..AnswerFields::default()
    };
    fleet.rig(2).answer_fields(Verdict::Allow, fields);
    assert_eq!(late.hear(), ["403 disconnected"]);
    assert_eq!(other.hear(), [""; 0]);
    let body = format!(r#"{{"connection":"{}"}}"#, id_of(&other));
    assert_eq!(post(&mut fleet, 2, "/disconnect", &body), counted(1, ALL));
    assert_eq!(other.hear(), ["close 4403"]);
    let none = post(&mut fleet, 2, "/disconnect", r#"{"user":"nobody"}"#);
    assert_eq!(none, counted(0, ALL));
}

#[test]
fn a_user_joins_and_leaves_on_all_nodes_and_the_channels_are_subscribed_when_it_is_answered() {
    let mut fleet = Fleet::of(3);
    let mut mine: Vec<Client> = (0..4)
        .map(|n| client(&mut fleet, n % 2, "42", V1))
        .collect();
    let body = r#"{"user":"42","channel":"a"}"#;
    assert_eq!(post(&mut fleet, 2, "/join", body), counted(4, ALL));
    for client in &mut mine {
        assert_eq!(client.hear(), [r#"{"joined":"a"}"#]);
    }
    let subscribed = |fleet: &Fleet| {
        let nodes = fleet.nodes.iter();
        nodes
            .map(|node| node.subscribed.contains("a"))
            .collect::<Vec<_>>()
    };
    assert_eq!(subscribed(&fleet), [true, true, false]);
    assert_eq!(post(&mut fleet, 0, "/join", body), counted(4, ALL));
    assert_eq!(
        fleet.lists(2, "/channels"),
        json!({"channels":[{"channel":"a","members":4}],"nodes":{"asked":3,"answered":3}})
    );
    assert_eq!(post(&mut fleet, 1, "/leave", body), counted(4, ALL));
    for client in &mut mine {
        assert_eq!(client.hear(), [r#"{"left":"a"}"#]);
    }
    assert_eq!(subscribed(&fleet), [false, false, false]);
}

#[test]
fn a_join_that_the_broker_refuses_one_node_is_not_answered_by_it() {
    let mut fleet = Fleet::of(3);
    let _mine = [
        client(&mut fleet, 0, "42", V1),
        client(&mut fleet, 1, "42", V1),
    ];
    let body = r#"{"user":"42","channel":"a"}"#;
    fleet.nodes[1].subscribing = Receipt::Refused("NOPERM".into());
    let answer = post(&mut fleet, 2, "/join", body);
    assert_eq!(answer, counted(1, r#","nodes":{"answered":2,"asked":3}"#));
    fleet.nodes[0].subscribing = Receipt::Refused("NOPERM".into());
    let body = r#"{"user":"42","channel":"b"}"#;
    // The third one has no connection of the user, and so nothing to join.
    let answer = post(&mut fleet, 2, "/join", body);
    assert_eq!(answer, counted(0, r#","nodes":{"answered":1,"asked":3}"#));
}

#[test]
fn joins_over_max_channels_are_summed_over_all_nodes() {
    let mut fleet = Fleet::with(2, None, |it| it.max_channels = 1);
    for node in [0, 1, 1] {
        let _ = member(&mut fleet, node, &["a"]);
    }
    let answer = post(&mut fleet, 0, "/join", r#"{"user":"42","channel":"b"}"#);
    let rest = r#","full":3,"nodes":{"answered":2,"asked":2}"#;
    assert_eq!(answer, counted(0, rest));
}

// -- lists

#[test]
fn lists_are_merged_page_by_page() {
    let mut fleet = Fleet::of(3);
    for (node, channels) in [
        (0, ["a", "c", "e"]),
        (1, ["b", "c", "d"]),
        (2, ["c", "e", "f"]),
    ] {
        let _ = member(&mut fleet, node, &channels);
    }
    let all = fleet.lists(1, "/channels")["channels"].clone();
    let expected = [("a", 1), ("b", 1), ("c", 3), ("d", 1), ("e", 2), ("f", 1)]
        .map(|(channel, members)| json!({"channel": channel, "members": members}));
    assert_eq!(all, json!(expected));
    for limit in 1..=7 {
        let (mut after, mut pages) = (String::new(), Vec::new());
        loop {
            let target = format!("/channels?limit={limit}&after={after}");
            let page = fleet.lists(2, &target);
            pages.extend(page["channels"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(json!(pages), all, "{limit}");
    }
    let ids = |page: &serde_json::Value| -> Vec<String> {
        let all = page["connections"].as_array().unwrap().iter();
        all.map(|it| it["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = fleet.lists(0, "/connections?user=42");
    let nodes: Vec<String> = ids(&all).iter().map(|id| id[..16].to_owned()).collect();
    assert_eq!(nodes, [1, 2, 3].map(|node| format!("{node:016x}")));
    let first = fleet.lists(2, "/connections?channel=c&limit=2");
    assert_eq!(ids(&first), ids(&all)[..2]);
    let after = first["next"].as_str().unwrap();
    let rest = fleet.lists(2, &format!("/connections?channel=c&limit=2&after={after}"));
    assert_eq!(ids(&rest), ids(&all)[2..]);
    let one = fleet.lists(1, &format!("/connections?connection={}", ids(&all)[2]));
    assert_eq!(ids(&one), ids(&all)[2..]);
}

#[test]
fn lists_have_the_last_event_of_each_node_that_sends_events() {
    let mut fleet = Fleet::with(3, Some("key"), |it| {
        let kinds = EventKinds::parse("connected").unwrap();
        let queue = 10;
        it.events = (it.instance < 3).then_some(EventSettings { kinds, queue });
        it.access_log = AccessLog::Off;
    });
    let _clients = [0, 1, 1, 2].map(|node| client(&mut fleet, node, "42", ""));
    fleet.settle();
    let seq = json!({"0000000000000001": 1, "0000000000000002": 2});
    assert_eq!(fleet.lists(2, "/connections?limit=1")["seq"], seq);
}

// -- nodes that do not answer

#[test]
fn a_node_that_hangs_is_asked_and_waited_for_less_than_a_second_and_may_act_later() {
    let mut fleet = Fleet::of(3);
    let mut mine: Vec<Client> = (0..3).map(|n| client(&mut fleet, n, "42", V1)).collect();
    fleet.nodes[2].hangs = true;
    let body = request("/disconnect", r#"{"user":"42"}"#);
    let mut backend = fleet.begins(0, &body);
    fleet.pass(900);
    assert_eq!(backend.hear(), [""; 0]);
    fleet.pass(99);
    let answer = fleet.ends(0, &mut backend);
    assert_eq!(answer, counted(2, r#","nodes":{"answered":2,"asked":3}"#));
    assert_eq!(mine[2].hear(), [""; 0]);
    // Its answer comes too late, which is not a fault.
    fleet.nodes[2].hangs = false;
    fleet.settle();
    assert_eq!(mine[2].hear(), ["close 4403"]);
    assert_eq!(fleet.hostile(0), []);
    assert_eq!(fleet.rig(0).hub.inventory().jobs, 0);
}

#[test]
fn a_node_that_is_silent_for_long_is_not_asked_any_more_and_one_that_stops_is_not_at_once() {
    let mut fleet = Fleet::of(4);
    fleet.rig(3).hub.announce_gone();
    fleet.rig(3).tick();
    fleet.take(3);
    fleet.nodes[3].hangs = true;
    let body = r#"{"user":"42"}"#;
    assert_eq!(post(&mut fleet, 0, "/disconnect", body), counted(0, ALL));
    fleet.nodes[2].hangs = true;
    fleet.pass(13_000);
    let answer = post(&mut fleet, 0, "/disconnect", body);
    assert_eq!(answer, counted(0, r#","nodes":{"answered":2,"asked":2}"#));
    fleet.nodes[2].hangs = false;
    fleet.pass(2_000);
    assert_eq!(post(&mut fleet, 0, "/disconnect", body), counted(0, ALL));
}

#[test]
fn a_node_that_has_just_begun_finds_the_others_first() {
    let mut fleet = Fleet::of(2);
    // Its greeting has not come to the others when it is asked.
    fleet.nodes[0].hangs = true;
    let third = fleet.add(Some("key"));
    let mut backend = fleet.begins(third, &get("/channels"));
    fleet.settle();
    assert_eq!(backend.hear(), [""; 0]);
    fleet.nodes[0].hangs = false;
    fleet.pass(600);
    let answer = fleet.ends(third, &mut backend);
    assert!(
        answer.contains(r#""nodes":{"answered":3,"asked":3}"#),
        "{answer}"
    );
}

#[test]
fn a_node_that_stops_while_it_is_asked_is_not_waited_for() {
    let mut fleet = Fleet::of(3);
    fleet.nodes[2].hangs = true;
    let mut backend = fleet.begins(0, &get("/channels"));
    fleet.settle();
    assert_eq!(backend.hear(), [""; 0]);
    fleet.rig(2).hub.announce_gone();
    fleet.rig(2).tick();
    fleet.take(2);
    fleet.settle();
    let answer = fleet.ends(0, &mut backend);
    assert!(
        answer.contains(r#""nodes":{"answered":2,"asked":2}"#),
        "{answer}"
    );
}

// -- a broker that is away

#[test]
fn without_the_broker_nothing_is_done() {
    let mut fleet = Fleet::of(2);
    let mut mine = client(&mut fleet, 0, "42", V1);
    let requests = [
        request("/broadcast", r#"{"user":"42","content":1}"#),
        request("/disconnect", r#"{"user":"42"}"#),
        request("/join", r#"{"user":"42","channel":"a"}"#),
        get("/channels"),
        get("/connections"),
    ];
    fleet.nodes[0].publishing = Receipt::Refused("NOPERM".into());
    for request in &requests {
        let answer = fleet.asks(0, request);
        assert!(answer.starts_with("503 unavailable"), "{answer}");
    }
    fleet.nodes[0].publishing = Receipt::Failed;
    for request in &requests {
        let answer = fleet.asks(0, request);
        assert!(answer.starts_with("503 unavailable"), "{answer}");
    }
    fleet.nodes[0].publishing = Receipt::Confirmed;
    fleet.rig(0).hub.set_publishing(SHARD, false);
    for request in &requests {
        let answer = fleet.asks(0, request);
        assert!(answer.starts_with("503 unavailable"), "{answer}");
    }
    fleet.rig(0).hub.set_publishing(SHARD, true);
    fleet.break_listening(0);
    for request in &requests {
        let answer = fleet.asks(0, request);
        assert!(answer.starts_with("503 unavailable"), "{answer}");
    }
    assert_eq!(mine.hear(), [""; 0]);
    fleet.mend_listening(0);
    fleet.pass(600);
    let answer = post(&mut fleet, 0, "/disconnect", r#"{"user":"42"}"#);
    assert!(answer.starts_with("200 "), "{answer}");
    assert_eq!(mine.hear(), [GAP, "close 4403"]);
}

#[test]
fn channels_of_the_nodes_that_the_broker_refuses_are_asked_for_again_and_only_commands_fail() {
    let mut fleet = Fleet::of(2);
    fleet.break_listening(0);
    fleet.nodes[0].subscribing = Receipt::Refused("NOPERM no".into());
    fleet.mend_listening(0);
    fleet.settle();
    for _ in 0..20 {
        assert!(fleet.rig(0).hub.is_broker_up());
        let answer = fleet.asks(0, &get("/channels"));
        assert!(answer.starts_with("503 unavailable"), "{answer}");
        fleet.pass(500);
    }
    fleet.nodes[0].subscribing = Receipt::Confirmed;
    fleet.pass(10_000);
    assert!(fleet.rig(0).hub.is_broker_up());
    let answer = fleet.asks(0, &get("/channels"));
    assert!(
        answer.contains(r#""nodes":{"answered":2,"asked":2}"#),
        "{answer}"
    );
}

// -- gaps

#[test]
fn clients_that_may_have_missed_what_goes_to_users_are_told_before_what_comes_next() {
    let mut fleet = Fleet::of(2);
    let mut v1: Vec<Client> = (0..600).map(|_| client(&mut fleet, 0, "42", V1)).collect();
    let mut raw = client(&mut fleet, 0, "42", "");
    let mut elsewhere = client(&mut fleet, 1, "42", V1);
    fleet.break_listening(0);
    let lost = r#"{"user":"42","content":1}"#;
    assert_eq!(post(&mut fleet, 1, "/broadcast", lost), "201");
    fleet.mend_listening(0);
    fleet.rig(0).tick();
    fleet.take(0);
    // It comes while clients are being told.
    let next = r#"{"user":"42","content":2}"#;
    let mut backend = fleet.begins(1, &request("/broadcast", next));
    fleet.rig(1).run();
    fleet.take(1);
    let mut after = client(&mut fleet, 0, "42", V1);
    fleet.settle();
    assert_eq!(fleet.ends(1, &mut backend), "201");
    let (one, two) = (
        r#"{"user":"42","content":1}"#,
        r#"{"user":"42","content":2}"#,
    );
    for client in &mut v1 {
        assert_eq!(client.hear(), [GAP, two]);
    }
    assert_eq!(raw.hear(), ["2"]);
    assert_eq!(elsewhere.hear(), [one, two]);
    let heard = after.hear();
    assert!(heard == [two] || heard == [GAP, two], "{heard:?}");
    assert_eq!(fleet.rig(0).hub.metrics().broker_gaps, 1);
    assert_eq!(fleet.rig(1).hub.metrics().broker_gaps, 0);
}

#[test]
fn the_publishing_link_makes_no_gap_and_neither_does_the_start() {
    let mut fleet = Fleet::of(1);
    let mut ann = client(&mut fleet, 0, "42", V1);
    fleet.rig(0).hub.set_publishing(SHARD, false);
    fleet.settle();
    fleet.rig(0).hub.set_publishing(SHARD, true);
    fleet.pass(5_000);
    assert_eq!(ann.hear(), [""; 0]);
    assert_eq!(fleet.rig(0).hub.metrics().broker_gaps, 0);
}

#[test]
fn a_node_that_hung_reports_a_gap_for_messages_that_are_too_old() {
    let mut fleet = Fleet::of(2);
    let mut ann = client(&mut fleet, 1, "42", V1);
    fleet.pass(2_000);
    fleet.nodes[1].hangs = true;
    let body = r#"{"user":"42","content":1}"#;
    assert_eq!(post(&mut fleet, 0, "/broadcast", body), "201");
    fleet.pass(31_000);
    let body = r#"{"user":"42","content":2}"#;
    assert_eq!(post(&mut fleet, 0, "/broadcast", body), "201");
    fleet.nodes[1].hangs = false;
    fleet.settle();
    assert_eq!(ann.hear(), ["ping", GAP, r#"{"user":"42","content":2}"#]);
    let labels: Vec<&str> = fleet.hostile(1).iter().map(|(it, _)| *it).collect();
    assert_eq!(labels, ["old"]);
}

// -- hostile messages

#[test]
fn messages_that_are_not_signed_as_they_have_to_be_change_nothing_and_are_counted() {
    let mut fleet = Fleet::of(2);
    let mut ann = member(&mut fleet, 0, &["a"]);
    let now = fleet.now();
    let (key, other, none) = (
        NodeSeal::new(Some("key"), ""),
        NodeSeal::new(Some("other"), ""),
        NodeSeal::default(),
    );
    let kick = r#"{"command":"disconnect","number":1,"user":"42"}"#;
    let mut signed = forged(&key, ALL_NODES, (9, now, 1), kick);
    *signed.last_mut().unwrap() = b' ';
    let large = format!(
        r#"{{"command":"content","user":"42","content":"{}"}}"#,
        "x".repeat(10 << 20)
    );
    let table = [
        (forged(&none, ALL_NODES, (9, now, 1), kick), "unsigned"),
        (
            forged(&other, ALL_NODES, (9, now, 1), kick),
            "wrong_signature",
        ),
        (
            forged(&key, "wsify:{nodes}:x", (9, now, 1), kick),
            "wrong_signature",
        ),
        (forged(&key, ALL_NODES, (9, now + 30_001, 1), kick), "old"),
        (forged(&key, ALL_NODES, (9, 999, 1), kick), "old"),
        (signed, "malformed"),
        (b"hello".to_vec(), "malformed"),
        (b"{}".to_vec(), "malformed"),
        (b"[1,2]".to_vec(), "malformed"),
        (b"\xff\xfe".to_vec(), "malformed"),
        (Vec::new(), "malformed"),
        (kick.as_bytes().to_vec(), "malformed"),
        (forged(&key, ALL_NODES, (9, now, 2), "{}"), "malformed"),
        (
            forged(
                &key,
                ALL_NODES,
                (9, now, 3),
                r#"{"command":"disconnect","user":"42"}"#,
            ),
            "malformed",
        ),
        (
            forged(
                &key,
                ALL_NODES,
                (9, now, 4),
                r#"{"command":"join","number":1,"user":"42","channel":1}"#,
            ),
            "malformed",
        ),
        (
            forged(&key, ALL_NODES, (9, now, 5), r#"{"command":"shutdown"}"#),
            "unknown",
        ),
        (forged(&none, ALL_NODES, (9, now, 1), &large), "too_large"),
        (vec![b'x'; 10 << 20], "too_large"),
    ];
    for (message, label) in table {
        let counts = |fleet: &Fleet| fleet.rig_metrics(0).get(label);
        let before = counts(&fleet);
        fleet.publish(ALL_NODES, &message);
        fleet.settle();
        let shown = String::from_utf8_lossy(&message[..message.len().min(200)]).into_owned();
        assert_eq!(counts(&fleet), before + 1, "{label}: {shown}");
    }
    assert_eq!(ann.hear(), [""; 0]);
    let logged = fleet.rig(0).logged();
    let lines = logged.iter().filter(|line| line["reason"] == "unsigned");
    assert_eq!(lines.count(), 1, "{logged:?}");
    // All that is left of it: a node that has signed something is asked.
    let answer = fleet.lists(1, "/channels");
    assert_eq!(answer["channels"], json!([{"channel":"a","members":1}]));
}

#[test]
fn replayed_node_messages_change_nothing() {
    let mut fleet = Fleet::of(2);
    let mut ann = client(&mut fleet, 0, "42", V1);
    let body = r#"{"user":"42","content":1}"#;
    assert_eq!(post(&mut fleet, 1, "/broadcast", body), "201");
    let body = r#"{"user":"42","channel":"a"}"#;
    let done = counted(1, r#","nodes":{"answered":2,"asked":2}"#);
    assert_eq!(post(&mut fleet, 1, "/join", body), done);
    assert_eq!(post(&mut fleet, 1, "/leave", body), done);
    assert_eq!(ann.hear().len(), 3);
    let said = fleet.said.clone();
    assert!(said.len() > 6);
    let own = channel_of(1);
    let heard = said.iter().filter(|(to, _)| to == ALL_NODES || *to == own);
    let heard = heard.count() as u64;
    for (channel, message) in &said {
        fleet.publish(channel, message);
    }
    fleet.settle();
    assert_eq!(ann.hear(), [""; 0]);
    let dropped: u64 = fleet.hostile(0).iter().map(|(_, count)| count).sum();
    // The first greeting of this node was said before it listened to itself.
    assert_eq!(dropped, heard);
    assert!(
        fleet
            .hostile(0)
            .iter()
            .any(|(label, _)| *label == "replayed")
    );
    // A node that comes up later has heard none of it.
    fleet.pass(1_000);
    let third = fleet.add(Some("key"));
    let mut ben = client(&mut fleet, third, "42", V1);
    for (channel, message) in &said {
        fleet.publish(channel, message);
    }
    fleet.settle();
    assert_eq!(ben.hear(), [""; 0]);
}

#[test]
fn nodes_with_another_key_or_none_are_other_programs() {
    let mut fleet = Fleet::of(2);
    let other = fleet.add(Some("another key"));
    let none = [fleet.add(None), fleet.add(None)];
    let mut clients: Vec<Client> = (0..5).map(|n| client(&mut fleet, n, "42", V1)).collect();
    fleet.pass(600);
    let nodes = |count| json!({"asked": count, "answered": count});
    for (node, count) in [(0, 2), (1, 2), (other, 1), (none[0], 2), (none[1], 2)] {
        let list = fleet.lists(node, "/connections");
        assert_eq!(list["nodes"], nodes(count), "{node}");
        assert_eq!(
            list["connections"].as_array().unwrap().len(),
            count,
            "{node}"
        );
    }
    let answer = post(&mut fleet, none[1], "/disconnect", r#"{"user":"42"}"#);
    assert_eq!(answer, counted(2, r#","nodes":{"answered":2,"asked":2}"#));
    let closed = ["close 4403"];
    assert_eq!(
        (clients[3].hear(), clients[4].hear()),
        (
            closed.map(String::from).to_vec(),
            closed.map(String::from).to_vec()
        )
    );
    assert_eq!((clients[0].hear(), clients[other].hear()), (vec![], vec![]));
    let labels: Vec<&str> = fleet.hostile(0).iter().map(|(label, _)| *label).collect();
    assert_eq!(labels, ["unsigned", "wrong_signature"]);
}

#[test]
fn without_a_key_anything_that_is_well_formed_is_believed() {
    let mut fleet = Fleet::with(1, None, |_| {});
    let mut ann = client(&mut fleet, 0, "42", V1);
    let none = NodeSeal::default();
    let message = r#"{"command":"content","user":"42","content":1}"#;
    for _ in 0..2 {
        let forged = forged(&none, ALL_NODES, (9, 1, 1), message);
        fleet.publish(ALL_NODES, &forged);
    }
    fleet.settle();
    let heard = r#"{"user":"42","content":1}"#;
    assert_eq!(ann.hear(), [heard, heard]);
    // Not without end: nodes that do not exist are not all kept.
    for node in 0..3_000 {
        let here = forged(&none, ALL_NODES, (node, 1, 1), r#"{"command":"here"}"#);
        fleet.publish(ALL_NODES, &here);
    }
    fleet.settle();
    let (label, count) = fleet.hostile(0)[0];
    assert!(label == "too_many" && count >= 1_999, "{label} {count}");
}

// -- a program that is replaced

#[test]
fn a_node_that_is_handed_over_keeps_its_name_its_count_and_what_it_has_heard() {
    let mut fleet = Fleet::of(2);
    let mut mine = [0, 1].map(|node| client(&mut fleet, node, "42", V1));
    let body = r#"{"user":"42","content":1}"#;
    assert_eq!(post(&mut fleet, 1, "/broadcast", body), "201");
    fleet.hand_over(0);
    // Messages that came before are known, and those of this node are not taken for repeated ones.
    let said = fleet.said.clone();
    for (channel, message) in &said {
        fleet.publish(channel, message);
    }
    let body = r#"{"user":"42","content":2}"#;
    assert_eq!(post(&mut fleet, 0, "/broadcast", body), "201");
    let heard = [1, 2].map(|n| format!(r#"{{"user":"42","content":{n}}}"#));
    for client in &mut mine {
        assert_eq!(client.hear(), heard);
    }
    let answer = post(&mut fleet, 0, "/disconnect", r#"{"user":"42"}"#);
    assert_eq!(answer, counted(2, r#","nodes":{"answered":2,"asked":2}"#));
    assert_eq!(fleet.rig(0).hub.metrics().broker_gaps, 0);
}

#[test]
fn a_command_under_way_is_answered_before_the_program_is_replaced() {
    let mut fleet = Fleet::of(3);
    fleet.nodes[2].hangs = true;
    let mut backend = fleet.begins(0, &get("/channels"));
    fleet.settle();
    assert_eq!(backend.hear(), [""; 0]);
    fleet.hand_over(0);
    fleet.settle();
    let answer = fleet.ends(0, &mut backend);
    assert!(
        answer.contains(r#""nodes":{"answered":2,"asked":3}"#),
        "{answer}"
    );
}

// -- fairness

#[test]
fn a_turn_handles_a_bounded_number_of_node_messages() {
    let mut fleet = Fleet::of(2);
    let mut ann = client(&mut fleet, 0, "42", "");
    let key = NodeSeal::new(Some("key"), "");
    let now = fleet.now();
    for count in 1..=1_000 {
        let message = format!(r#"{{"command":"content","user":"42","content":{count}}}"#);
        let message = forged(&key, ALL_NODES, (9, now, count), &message);
        fleet.publish(ALL_NODES, &message);
    }
    let mut turns = 0;
    while fleet.coming(0) > 0 {
        let before = fleet.coming(0);
        fleet.rig(0).tick();
        while fleet.bring(0) {}
        assert!(before - fleet.coming(0) <= 64);
        turns += 1;
        assert!(turns < 1_000);
    }
    fleet.settle();
    let heard = ann.hear();
    let all: Vec<String> = (1..=1_000).map(|n: u64| n.to_string()).collect();
    assert_eq!(heard, all);
}

#[test]
fn a_user_with_many_connections_is_sent_a_content_in_several_turns() {
    let mut fleet = Fleet::of(2);
    let mut clients: Vec<Client> = (0..1_000)
        .map(|_| client(&mut fleet, 0, "42", ""))
        .collect();
    let mut backends: Vec<Client> = (1..=3)
        .map(|n| {
            let body = format!(r#"{{"user":"42","content":{n}}}"#);
            fleet.begins(1, &request("/broadcast", &body))
        })
        .collect();
    fleet.rig(1).run();
    fleet.take(1);
    let mut most = 0;
    while fleet.coming(0) > 0 || fleet.rig(0).has_work() {
        while fleet.bring(0) {}
        fleet.rig(0).tick();
        let heard: usize = clients.iter_mut().map(|client| client.hear().len()).sum();
        most = most.max(heard);
    }
    assert!((1..=160).contains(&most), "{most}");
    fleet.settle();
    for backend in &mut backends {
        assert_eq!(fleet.ends(1, backend), "201");
    }
    assert_eq!(fleet.rig(0).hub.inventory().jobs, 0);
}

#[test]
fn commands_of_other_nodes_that_wait_for_the_broker_do_not_keep_its_messages_away() {
    let mut fleet = Fleet::of(2);
    let mut ann = client(&mut fleet, 0, "42", "");
    // A join that is not answered by the broker, and contents for the same user behind it.
    let key = NodeSeal::new(Some("key"), "");
    let now = fleet.now();
    let join = r#"{"command":"join","number":1,"user":"42","channel":"a"}"#;
    fleet.publish(ALL_NODES, &forged(&key, ALL_NODES, (9, now, 1), join));
    while fleet.bring(0) {}
    let content = "x".repeat(1 << 20);
    for count in 2..12 {
        let message = format!(r#"{{"command":"content","user":"42","content":"{content}"}}"#);
        let message = forged(&key, ALL_NODES, (9, now, count), &message);
        fleet.publish(ALL_NODES, &message);
    }
    for _ in 0..1_000 {
        fleet.rig(0).tick();
        while fleet.bring(0) {}
        ann.hear();
        if fleet.coming(0) == 0 {
            return;
        }
    }
    panic!("{} messages wait", fleet.coming(0));
}
