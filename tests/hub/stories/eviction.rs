//! Eviction: when file descriptors run out, which connections are closed, and in which order.

use wsify::effect::Verdict;

use crate::client::{Client, get, post, upgrade};
use crate::house::House;

/// Milliseconds. Longer than any connection is spared from eviction.
const LONG: u64 = 300;

/// A turn in which so many connections are to be evicted. Returns whether any may be left to evict.
fn evict(house: &mut House, wanted: usize) -> bool {
    let worth = house.hub.evict(wanted, &mut house.buffer);
    house.run();
    worth
}

fn has_gone(client: &Client) -> bool {
    client.far.is_dropped()
}

#[test]
fn connections_without_a_request_are_evicted_before_those_with_a_part_of_one() {
    let mut house = House::asking();
    let mut ann = house.websocket();
    let mut silent = house.client();
    let mut kept = house.client();
    assert_eq!(house.sends(&mut kept, &get("/nothing")), ["404 not_found"]);
    let mut half = house.client();
    assert_eq!(house.sends(&mut half, b"GET /he"), [""; 0]);
    let mut posting = house.client();
    let torn = post(r#"{"channel":"a"}"#);
    assert_eq!(house.sends(&mut posting, &torn[..torn.len() - 1]), [""; 0]);
    let mut asking = house.upgrading("");

    assert!(!evict(&mut house, 9), "no connection is old enough");
    house.pass(LONG);
    assert!(evict(&mut house, 9));
    assert_eq!(silent.hear(), ["503 full, close", "end"]);
    assert!(silent.header("Retry-After").is_some());
    assert_eq!(kept.hear(), ["end"], "it waits for no answer");
    assert!(has_gone(&silent) && has_gone(&kept));

    assert!(evict(&mut house, 9));
    assert_eq!(half.hear(), ["503 full, close", "end"]);
    assert!(evict(&mut house, 9));
    assert_eq!(posting.hear(), ["503 full, close", "end"]);
    assert!(has_gone(&half) && has_gone(&posting));

    assert!(!evict(&mut house, 9), "none is left that could be evicted");
    house.answer(Verdict::Allow);
    assert_eq!(asking.hear(), ["101"]);
    assert_eq!(ann.hear(), [""; 0]);
    assert!(house.log.take().contains(r#""reason":"no_room""#));
}

#[test]
fn the_newest_connection_is_evicted_last() {
    let mut house = House::open();
    let mut crowd: Vec<Client> = (0..5).map(|_| house.client()).collect();
    house.pass(LONG);
    for _ in 0..20 {
        assert!(evict(&mut house, 1));
        let oldest = crowd.remove(0);
        assert!(has_gone(&oldest));
        crowd.push(house.client());
        house.pass(LONG);
        assert!(!crowd.iter().any(has_gone));
    }
}

#[test]
fn the_newest_partial_request_is_evicted_last() {
    let mut house = House::open();
    let begin = |house: &mut House| {
        let mut client = house.client();
        assert_eq!(house.sends(&mut client, b"G"), [""; 0]);
        client
    };
    let mut crowd: Vec<Client> = (0..5).map(|_| begin(&mut house)).collect();
    for _ in 0..20 {
        house.pass(LONG);
        assert!(evict(&mut house, 9));
        assert!(has_gone(&crowd.remove(0)));
        assert!(!crowd.iter().any(has_gone), "one at a time");
        crowd.push(begin(&mut house));
    }
}

#[test]
fn a_request_that_the_poll_has_not_reported_yet_is_served() {
    let mut house = House::open();
    let mut probe = house.client();
    let mut ann = house.client();
    house.pass(LONG);
    probe.send(&get("/health"));
    ann.send(&upgrade("/ws", ""));
    evict(&mut house, 9);
    assert_eq!(probe.hear(), [r#"200 {"status":"ok"}"#]);
    assert_eq!(ann.hear(), ["101"]);
}

#[test]
fn an_eviction_puts_no_error_into_an_answer_that_is_being_sent() {
    let mut house = House::open();
    let mut slow = house.client();
    slow.far.narrow(10);
    slow.send(&get("/metrics"));
    house.run();
    house.pass(LONG);
    assert!(evict(&mut house, 1));
    assert!(has_gone(&slow));
    assert_eq!(slow.far.receive().len(), 10);
    assert_eq!(slow.hear(), ["end"]);
    house.assert_empty();
}

#[test]
fn a_lingering_connection_is_evicted_once_its_last_answer_could_be_read() {
    let mut house = House::open();
    let mut ann = house.client();
    assert_eq!(
        house.sends(&mut ann, b"\x16\x03\x01"),
        ["400 bad_request, close", "end"]
    );
    assert!(!evict(&mut house, 1));
    house.pass(LONG);
    assert!(evict(&mut house, 1));
    assert!(has_gone(&ann));
}
