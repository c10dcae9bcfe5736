//! Which messages each member gets, and in which order (`docs/protocol.md#guarantees`).

use wsify::hub::Settings;

use crate::client::{Client, broadcast, join, leave, post, text, with_id};
use crate::rig::{Rig, settings};

const V1: &str = "Sec-WebSocket-Protocol: wsify.v1\r\n";

#[test]
fn every_member_gets_a_broadcast_once_byte_for_byte() {
    let mut rig = Rig::new();
    let mut members: Vec<Client> = (0..300).map(|_| rig.member("a")).collect();
    let mut other = rig.member("b");
    let mut outsider = rig.websocket();
    let content = r#"{"n":1.50e+3, "é":"\u00e9", "z":1,"a":2}"#;
    assert_eq!(rig.says(&mut outsider, &broadcast(" a ", content)), [""; 0]);
    for member in &mut members {
        assert_eq!(member.hear(), [content]);
    }
    assert_eq!(other.hear(), [""; 0]);
    // The sender gets it too if it is a member. A missing content is null.
    let bare = r#"{"command":"broadcast","args":{"channel":"b"}}"#;
    assert_eq!(rig.says(&mut other, bare), ["null"]);
}

#[test]
fn joining_twice_is_joining_once_and_leaving_twice_is_leaving_once() {
    let mut rig = Rig::new();
    let mut ann = rig.member("a");
    rig.says(&mut ann, &join("a"));
    assert_eq!(rig.says(&mut ann, &broadcast("a", "1")), ["1"]);
    assert_eq!(rig.says(&mut ann, &leave("a")), [""; 0]);
    assert_eq!(rig.says(&mut ann, &broadcast("a", "2")), [""; 0]);
    assert_eq!(rig.says(&mut ann, &leave("a")), [""; 0]);
    assert_eq!(rig.hub.inventory().channels, 0);
    assert_eq!(rig.hub.inventory().runs, 0);
}

#[test]
fn wsify_v1_names_the_channel() {
    let mut rig = Rig::new();
    let mut ann = rig.websocket_with(V1);
    let mut ben = rig.member("a");
    rig.says(&mut ann, &join("a"));
    let heard = rig.says(&mut ann, &with_id(1, &broadcast("a", "[1, 2]")));
    assert_eq!(
        heard,
        [
            r#"{"id":1,"ok":true}"#,
            r#"{"channel":"a","content":[1, 2]}"#
        ]
    );
    assert_eq!(ben.hear(), ["[1, 2]"]);
    let quoted = r#"{"command":"join","args":{"channel":"\u0022q\u0022"}}"#;
    rig.says(&mut ann, quoted);
    let heard = rig.says(&mut ann, &broadcast(r#"\"q\""#, "0"));
    assert_eq!(heard, [r#"{"channel":"\"q\"","content":0}"#]);
}

#[test]
fn members_of_both_encodings_get_the_same_order() {
    let mut rig = Rig::new();
    let mut raw = rig.member("a");
    let mut v1 = rig.websocket_with(V1);
    rig.says(&mut v1, &join("a"));
    let publishers: Vec<Client> = (0..4).map(|_| rig.websocket()).collect();
    for n in 0..40 {
        publishers[n % 4].say(&broadcast("a", &n.to_string()));
        if n % 7 == 0 {
            rig.tick();
        }
    }
    rig.run();
    let heard = raw.hear();
    assert_eq!(heard.len(), 40);
    let wrapped: Vec<String> = heard
        .iter()
        .map(|n| format!(r#"{{"channel":"a","content":{n}}}"#))
        .collect();
    assert_eq!(v1.hear(), wrapped);
}

/// A crowd in `a` so large that a broadcast takes several turns, and the hub in the middle of one: some members have
/// had it.
fn in_the_middle_of_a_broadcast(rig: &mut Rig) -> Vec<Client> {
    let mut crowd: Vec<Client> = (0..400).map(|_| rig.member("a")).collect();
    let publisher = rig.websocket();
    publisher.say(&broadcast("a", "1"));
    rig.tick();
    let served = crowd
        .iter_mut()
        .filter(|c| c.far.wire().calls.writes > 1)
        .count();
    assert!(served > 0 && served < 400, "{served}");
    crowd
}

#[test]
fn a_member_that_leaves_during_a_broadcast_still_gets_it() {
    let mut rig = Rig::new();
    let mut crowd = in_the_middle_of_a_broadcast(&mut rig);
    // All leave at once, whether they have got it or not.
    for member in &crowd {
        member.say(&with_id(9, &leave("a")));
    }
    rig.run();
    for member in &mut crowd {
        assert_eq!(member.hear(), ["1", r#"{"id":9,"ok":true}"#]);
    }
    assert_eq!(rig.hub.inventory().memberships, 0);
    assert_eq!(rig.hub.inventory().runs, 0);
}

#[test]
fn a_client_that_joins_during_a_broadcast_gets_no_earlier_message() {
    let mut rig = Rig::new();
    let mut late: Vec<Client> = (0..50).map(|_| rig.websocket()).collect();
    let mut crowd = in_the_middle_of_a_broadcast(&mut rig);
    for (n, client) in late.iter().enumerate() {
        client.send(&[text(&join("a")), text(&broadcast("a", &format!("\"{n}\"")))].concat());
    }
    rig.run();
    let first = crowd[0].hear();
    assert_eq!((first.len(), first[0].as_str()), (51, "1"));
    for member in &mut crowd[1..] {
        assert_eq!(member.hear(), first);
    }
    for (n, client) in late.iter_mut().enumerate() {
        let own = first.iter().position(|m| *m == format!("\"{n}\"")).unwrap();
        assert_eq!(client.hear(), first[own..]);
    }
}

#[test]
fn a_member_that_leaves_and_joins_again_during_a_broadcast_gets_nothing_twice() {
    let mut rig = Rig::new();
    let mut crowd = in_the_middle_of_a_broadcast(&mut rig);
    for member in &crowd {
        member.send(&[text(&leave("a")), text(&join("a"))].concat());
    }
    rig.run();
    crowd[0].say(&broadcast("a", "2"));
    rig.run();
    for member in &mut crowd {
        assert_eq!(member.hear(), ["1", "2"]);
    }
}

#[test]
fn a_member_that_is_closed_during_a_broadcast_gets_it_before_the_close() {
    let mut rig = Rig::new();
    let mut crowd = in_the_middle_of_a_broadcast(&mut rig);
    rig.hub.drain(0);
    rig.run();
    for member in &mut crowd {
        assert_eq!(member.hear(), ["1", "close 1012"]);
    }
}

#[test]
fn a_congested_channel_makes_publishers_wait_and_loses_nothing() {
    let mut rig = Rig::with(Settings {
        limits: wsify::connection::Limits {
            max_queue: 64 << 20,
            ..settings().limits
        },
        ..settings()
    });
    let mut members: Vec<Client> = (0..40).map(|_| rig.member("a")).collect();
    let mut websockets: Vec<Client> = (0..6).map(|_| rig.websocket()).collect();
    let mut backends: Vec<Client> = (0..6).map(|_| rig.client()).collect();
    let content = |n: usize| format!("\"{n}{}\"", "x".repeat(900_000));
    for (n, client) in websockets.iter().enumerate() {
        client.say(&with_id(n as u64, &broadcast("a", &content(n))));
    }
    for (n, client) in backends.iter().enumerate() {
        let body = format!(r#"{{"channel":"a","content":{}}}"#, content(6 + n));
        client.send(&post(&body));
    }
    // The number of publishers without an answer when everything has been read.
    let mut waited = None;
    while rig.has_work() {
        rig.tick();
        let publishers = || websockets.iter().chain(&backends);
        if waited.is_none() && publishers().all(|c| c.far.wire().unread() == 0) {
            let answered = |c: &&Client| c.far.wire().calls.writes > usize::from(c.is_websocket());
            waited = Some(publishers().count() - publishers().filter(answered).count());
        }
    }
    assert!(waited > Some(4), "{waited:?} had to wait");
    for (n, client) in websockets.iter_mut().enumerate() {
        assert_eq!(client.hear(), [format!(r#"{{"id":{n},"ok":true}}"#)]);
    }
    for client in &mut backends {
        assert_eq!(client.hear(), ["201"]);
    }
    let heard = members[0].hear();
    let mut all = heard.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!((heard.len(), all.len()), (12, 12));
    for member in &mut members[1..] {
        assert!(member.hear() == heard);
    }
    drop(websockets);
    assert_eq!(rig.hub.inventory().runs, 0);
}

#[test]
fn publishers_do_not_wait_for_members_that_have_left() {
    let mut rig = Rig::new();
    let mut members: Vec<Client> = (0..40).map(|_| rig.member("a")).collect();
    let mut ann = rig.websocket();
    let content = format!("\"{}\"", "x".repeat(900_000));
    for _ in 0..6 {
        ann.say(&broadcast("a", &content));
    }
    ann.say(&with_id(1, &broadcast("a", "2")));
    while rig.hub.metrics().fanouts < 5 {
        rig.tick();
    }
    for member in &mut members {
        member.far.reset();
    }
    rig.run();
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#]);
    assert_eq!(rig.hub.inventory().channels, 0);
    assert_eq!(rig.hub.inventory().runs, 0);
}
