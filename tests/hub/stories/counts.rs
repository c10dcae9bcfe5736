//! The exact number of system calls in a steady state.

use crate::client::{
    Client, PING, broadcast, close, frame, get, join, post, text, upgrade, with_id,
};
use crate::pipe::Calls;
use crate::rig::Rig;

fn calls(reads: usize, writes: usize) -> Calls {
    Calls {
        reads,
        idle_reads: 0,
        writes,
    }
}

fn crowd(rig: &mut Rig, count: usize) -> Vec<Client> {
    let crowd: Vec<Client> = (0..count).map(|_| rig.member("a")).collect();
    for member in &crowd {
        member.far.take_calls();
    }
    crowd
}

#[test]
fn a_broadcast_to_n_is_n_writes() {
    let mut rig = Rig::new();
    let mut crowd = crowd(&mut rig, 1000);
    let publisher = rig.websocket();
    publisher.far.take_calls();
    publisher.say(&broadcast("a", "1"));
    rig.run();
    assert_eq!(publisher.far.take_calls(), calls(1, 0));
    for member in &mut crowd {
        assert_eq!(member.far.take_calls(), calls(0, 1));
        assert_eq!(member.hear(), ["1"]);
    }
}

#[test]
fn broadcasts_of_one_turn_are_one_write_to_each_member() {
    let mut rig = Rig::new();
    let mut crowd = crowd(&mut rig, 100);
    let publishers: Vec<Client> = (0..4).map(|_| rig.websocket()).collect();
    let mut backend = rig.client();
    for (n, publisher) in publishers.iter().enumerate() {
        publisher.far.take_calls();
        let said: Vec<Vec<u8>> = (0..8)
            .map(|m| text(&broadcast("a", &format!("1{n}{m}"))))
            .collect();
        publisher.send(&said.concat());
    }
    backend.send(&post(r#"{"channel":"a"}"#));
    rig.run();
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
    let mut rig = Rig::new();
    let mut ann = rig.websocket();
    ann.far.take_calls();
    for (message, heard) in [
        (text(&with_id(1, &join("a"))), 1),
        // The answer and the content are one write.
        (text(&with_id(2, &broadcast("a", "1"))), 2),
        (frame(PING, b"?"), 1),
        (text(&with_id(3, &join("b"))).repeat(20), 20),
    ] {
        ann.send(&message);
        rig.run();
        assert_eq!(ann.hear().len(), heard);
        assert_eq!(ann.far.take_calls(), calls(1, 1));
    }
}

#[test]
fn a_request_is_one_read_and_one_write() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    for request in [
        get("/health"),
        post(r#"{"channel":"a"}"#),
        get("/health").repeat(16),
    ] {
        ann.send(&request);
        rig.run();
        assert!(!ann.hear().is_empty());
        assert_eq!(ann.far.take_calls(), calls(1, 1));
    }
}

#[test]
fn a_connections_life_is_one_read_and_one_write_for_each_message() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    ann.send(&upgrade("/ws", ""));
    rig.run();
    ann.send(&text(&with_id(1, &join("a"))));
    rig.run();
    ann.send(&close(1000));
    rig.run();
    assert_eq!(
        ann.hear(),
        ["101", r#"{"id":1,"ok":true}"#, "close 1000", "end"]
    );
    assert_eq!(ann.far.take_calls(), calls(3, 3));
    rig.assert_empty();
}

#[test]
fn a_full_socket_is_not_written_to() {
    let mut rig = Rig::new();
    let slow = rig.member("a");
    let ann = rig.websocket();
    slow.far.narrow(0);
    slow.far.take_calls();
    for n in 0..50 {
        ann.say(&broadcast("a", &n.to_string()));
        rig.run();
    }
    assert_eq!(slow.far.take_calls(), calls(0, 1));
    slow.far.widen(1 << 20);
    rig.run();
    assert_eq!(slow.far.take_calls(), calls(0, 1));
}

#[test]
fn an_idle_hub_is_only_woken_for_its_deadlines() {
    let mut rig = Rig::new();
    let idle: Vec<Client> = (0..100).map(|_| rig.member("a")).collect();
    // The handshake's deadline still comes once, without effect.
    rig.pass(11_000);
    let before = rig.ticks;
    rig.pass(13_000);
    assert_eq!(rig.ticks, before);
    for client in &idle {
        client.far.take_calls();
    }
    rig.pass(1_100);
    assert!(rig.ticks < before + 5, "{}", rig.ticks - before);
    for client in &idle {
        assert_eq!(client.far.take_calls(), calls(0, 1));
    }
}
