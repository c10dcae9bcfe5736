//! The exact number of system calls in a steady state.

use crate::client::{
    Client, PING, broadcast, close, frame, get, join, post, text, upgrade, with_id,
};
use crate::house::House;
use crate::pipe::Calls;

fn calls(reads: usize, writes: usize) -> Calls {
    Calls {
        reads,
        idle_reads: 0,
        writes,
    }
}

fn crowd(house: &mut House, count: usize) -> Vec<Client> {
    let crowd: Vec<Client> = (0..count).map(|_| house.member("a")).collect();
    for member in &crowd {
        member.far.take_calls();
    }
    crowd
}

#[test]
fn a_broadcast_to_n_is_n_writes() {
    let mut house = House::open();
    let mut crowd = crowd(&mut house, 1000);
    let publisher = house.websocket();
    publisher.far.take_calls();
    publisher.say(&broadcast("a", "1"));
    house.run();
    assert_eq!(publisher.far.take_calls(), calls(1, 0));
    for member in &mut crowd {
        assert_eq!(member.far.take_calls(), calls(0, 1));
        assert_eq!(member.hear(), ["1"]);
    }
}

#[test]
fn broadcasts_of_one_turn_are_one_write_to_each_member() {
    let mut house = House::open();
    let mut crowd = crowd(&mut house, 100);
    let publishers: Vec<Client> = (0..4).map(|_| house.websocket()).collect();
    let mut backend = house.client();
    for (n, publisher) in publishers.iter().enumerate() {
        publisher.far.take_calls();
        let said: Vec<Vec<u8>> = (0..8)
            .map(|m| text(&broadcast("a", &format!("1{n}{m}"))))
            .collect();
        publisher.send(&said.concat());
    }
    backend.send(&post(r#"{"channel":"a"}"#));
    house.run();
    for member in &mut crowd {
        assert_eq!(member.far.take_calls(), calls(0, 1));
        assert_eq!(member.hear().len(), 33);
    }
    for publisher in &publishers {
        assert_eq!(publisher.far.take_calls(), calls(1, 0));
    }
    assert_eq!(backend.hear(), ["201"]);
    assert_eq!(backend.far.take_calls(), calls(1, 1));
}

#[test]
fn a_command_with_an_id_is_one_read_and_one_write() {
    let mut house = House::open();
    let mut ann = house.websocket();
    ann.far.take_calls();
    for (message, heard) in [
        (text(&with_id(1, &join("a"))), 1),
        // The answer and the content are one write.
        (text(&with_id(2, &broadcast("a", "1"))), 2),
        (frame(PING, b"?"), 1),
        (text(&with_id(3, &join("b"))).repeat(20), 20),
    ] {
        ann.send(&message);
        house.run();
        assert_eq!(ann.hear().len(), heard);
        assert_eq!(ann.far.take_calls(), calls(1, 1));
    }
}

#[test]
fn a_request_is_one_read_and_one_write() {
    let mut house = House::open();
    let mut ann = house.client();
    for request in [
        get("/health"),
        post(r#"{"channel":"a"}"#),
        get("/health").repeat(16),
    ] {
        ann.send(&request);
        house.run();
        assert!(!ann.hear().is_empty());
        assert_eq!(ann.far.take_calls(), calls(1, 1));
    }
}

#[test]
fn a_connections_life_is_one_read_and_one_write_for_each_message() {
    let mut house = House::open();
    let mut ann = house.client();
    ann.send(&upgrade("/ws", ""));
    house.run();
    ann.send(&text(&with_id(1, &join("a"))));
    house.run();
    ann.send(&close(1000));
    house.run();
    assert_eq!(
        ann.hear(),
        ["101", r#"{"id":1,"ok":true}"#, "close 1000", "end"]
    );
    assert_eq!(ann.far.take_calls(), calls(3, 3));
    house.assert_empty();
}

#[test]
fn a_full_socket_is_not_written_to() {
    let mut house = House::open();
    let slow = house.member("a");
    let ann = house.websocket();
    slow.far.narrow(0);
    slow.far.take_calls();
    for n in 0..50 {
        ann.say(&broadcast("a", &n.to_string()));
        house.run();
    }
    assert_eq!(slow.far.take_calls(), calls(0, 1));
    slow.far.widen(1 << 20);
    house.run();
    assert_eq!(slow.far.take_calls(), calls(0, 1));
}

#[test]
fn an_idle_hub_is_only_woken_for_its_deadlines() {
    let mut house = House::open();
    let idle: Vec<Client> = (0..100).map(|_| house.member("a")).collect();
    // The handshake's deadline still comes once, without effect.
    house.pass(11_000);
    let before = house.ticks;
    house.pass(13_000);
    assert_eq!(house.ticks, before);
    for client in &idle {
        client.far.take_calls();
    }
    house.pass(1_100);
    assert!(house.ticks < before + 5, "{}", house.ticks - before);
    for client in &idle {
        assert_eq!(client.far.take_calls(), calls(0, 1));
    }
}
