//! Eviction: when file descriptors run out, which connections are closed, and in which order.

use wsify::effect::Verdict;

use crate::client::{Client, get, post, upgrade};
use crate::rig::Rig;

/// Milliseconds. Longer than any connection is spared from eviction.
const LONG: u64 = 300;

/// A turn in which this many connections are to be evicted. Returns whether any may be left to evict.
fn evict(rig: &mut Rig, wanted: usize) -> bool {
    let worth = rig.hub.evict(wanted, &mut rig.buffer);
    rig.run();
    worth
}

fn has_gone(client: &Client) -> bool {
    client.far.is_dropped()
}

#[test]
fn connections_without_a_request_are_evicted_before_those_with_a_part_of_one() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let mut silent = rig.client();
    let mut kept = rig.client();
    assert_eq!(rig.sends(&mut kept, &get("/nothing")), ["404 not_found"]);
    let mut half = rig.client();
    assert_eq!(rig.sends(&mut half, b"GET /he"), [""; 0]);
    let mut posting = rig.client();
    let torn = post(r#"{"channel":"a"}"#);
    assert_eq!(rig.sends(&mut posting, &torn[..torn.len() - 1]), [""; 0]);
    let mut asking = rig.upgrading("");

    assert!(!evict(&mut rig, 9), "no connection is old enough");
    rig.pass(LONG);
    assert!(evict(&mut rig, 9));
    assert_eq!(silent.hear(), ["503 full, close", "end"]);
    assert!(silent.header("Retry-After").is_some());
    assert_eq!(kept.hear(), ["end"], "it waits for no answer");
    assert!(has_gone(&silent) && has_gone(&kept));

    assert!(evict(&mut rig, 9));
    assert_eq!(half.hear(), ["503 full, close", "end"]);
    assert!(evict(&mut rig, 9));
    assert_eq!(posting.hear(), ["503 full, close", "end"]);
    assert!(has_gone(&half) && has_gone(&posting));

    assert!(!evict(&mut rig, 9), "none is left that could be evicted");
    rig.answer(Verdict::Allow);
    assert_eq!(asking.hear(), ["101"]);
    assert_eq!(ann.hear(), [""; 0]);
    assert!(rig.log.take().contains(r#""reason":"no_room""#));
}

#[test]
fn the_newest_connection_is_evicted_last() {
    let mut rig = Rig::new();
    let mut crowd: Vec<Client> = (0..5).map(|_| rig.client()).collect();
    rig.pass(LONG);
    for _ in 0..20 {
        assert!(evict(&mut rig, 1));
        let oldest = crowd.remove(0);
        assert!(has_gone(&oldest));
        crowd.push(rig.client());
        rig.pass(LONG);
        assert!(!crowd.iter().any(has_gone));
    }
}

#[test]
fn the_newest_partial_request_is_evicted_last() {
    let mut rig = Rig::new();
    let begin = |rig: &mut Rig| {
        let mut client = rig.client();
        assert_eq!(rig.sends(&mut client, b"G"), [""; 0]);
        client
    };
    let mut crowd: Vec<Client> = (0..5).map(|_| begin(&mut rig)).collect();
    for _ in 0..20 {
        rig.pass(LONG);
        assert!(evict(&mut rig, 9));
        assert!(has_gone(&crowd.remove(0)));
        assert!(!crowd.iter().any(has_gone), "one at a time");
        crowd.push(begin(&mut rig));
    }
}

#[test]
fn a_request_that_the_poll_has_not_reported_yet_is_served() {
    let mut rig = Rig::new();
    let mut probe = rig.client();
    let mut ann = rig.client();
    rig.pass(LONG);
    probe.send(&get("/health"));
    ann.send(&upgrade("/ws", ""));
    evict(&mut rig, 9);
    assert_eq!(probe.hear(), [r#"200 {"status":"ok"}"#]);
    assert_eq!(ann.hear(), ["101"]);
}

#[test]
fn an_eviction_puts_no_error_into_an_answer_that_is_being_sent() {
    let mut rig = Rig::new();
    let mut slow = rig.client();
    slow.far.narrow(10);
    slow.send(&get("/metrics"));
    rig.run();
    rig.pass(LONG);
    assert!(evict(&mut rig, 1));
    assert!(has_gone(&slow));
    assert_eq!(slow.far.receive().len(), 10);
    assert_eq!(slow.hear(), ["end"]);
    rig.assert_empty();
}

#[test]
fn a_lingering_connection_is_evicted_once_its_last_answer_could_be_read() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    assert_eq!(
        rig.sends(&mut ann, b"\x16\x03\x01"),
        ["400 bad_request, close", "end"]
    );
    assert!(!evict(&mut rig, 1));
    rig.pass(LONG);
    assert!(evict(&mut rig, 1));
    assert!(has_gone(&ann));
}
