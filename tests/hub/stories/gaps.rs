//! Members that may have missed messages are told (`docs/scaling.md#gaps`).

use crate::broker::Broker;
use crate::client::{Client, broadcast, join, leave, with_id};
use crate::rig::Rig;

const V1: &str = "Sec-WebSocket-Protocol: wsify.v1\r\n";

fn gap(channel: &str) -> String {
    format!(r#"{{"channel":"{channel}","gap":true}}"#)
}

fn content(channel: &str, content: &str) -> String {
    format!(r#"{{"channel":"{channel}","content":{content}}}"#)
}

fn ok(id: u64) -> String {
    format!(r#"{{"id":{id},"ok":true}}"#)
}

/// A member that speaks `wsify.v1`, whose joins were answered.
fn member(rig: &mut Rig, broker: &mut Broker, channels: &[&str]) -> Client {
    let mut client = rig.websocket_with(V1);
    for channel in channels {
        client.say(&join(channel));
    }
    broker.settle(rig);
    assert_eq!(client.hear(), [""; 0]);
    client
}

fn metric(rig: &mut Rig, name: &str) -> String {
    let probe = rig.client();
    probe.send(&crate::client::get("/metrics"));
    rig.run();
    let text = String::from_utf8(probe.far.receive()).expect("a text");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect(name).trim().to_owned()
}

#[test]
fn members_are_told_of_a_gap_behind_what_came_before_and_ahead_of_what_comes_next() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, &["a", "b"]);
    let mut raw = rig.websocket();
    raw.say(&join("a"));
    broker.settle(&mut rig);
    // It has come, and has not gone out.
    broker.foreign("a", "1");
    broker.bring(&mut rig);
    broker.break_listening(&mut rig);
    broker.mend_listening(&mut rig);
    broker.run(&mut rig);
    assert!(broker.execute_change());
    broker.foreign("a", "2");
    broker.settle(&mut rig);
    assert_eq!(raw.hear(), ["1", "2"]);
    let mut heard = ann.hear();
    heard.retain(|line| *line != gap("b"));
    assert_eq!(heard, [content("a", "1"), gap("a"), content("a", "2")]);
    assert_eq!(metric(&mut rig, "wsify_broker_gaps_total"), "2");
    let shard = r#"wsify_broker_shard_gaps_total{shard="redis"}"#;
    assert_eq!(metric(&mut rig, shard), "2");
    let shard = r#"wsify_broker_shard_reconnections_total{shard="redis"}"#;
    assert_eq!(metric(&mut rig, shard), "1");
    let shard = r#"wsify_broker_shard_up{shard="redis"}"#;
    assert_eq!(metric(&mut rig, shard), "1");
}

#[test]
fn the_publishing_link_makes_no_gap() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, &["a"]);
    broker.break_publishing(&mut rig);
    broker.mend_publishing(&mut rig);
    broker.settle(&mut rig);
    ann.say(&with_id(1, &broadcast("a", "1")));
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [content("a", "1"), ok(1)]);
    assert_eq!(metric(&mut rig, "wsify_broker_gaps_total"), "0");
}

#[test]
fn a_member_that_joined_while_the_broker_was_away_has_a_gap_and_one_that_waited_has_none() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    broker.break_listening(&mut rig);
    let mut ann = member(&mut rig, &mut broker, &["a"]);
    broker.mend_listening(&mut rig);
    broker.run(&mut rig);
    let mut ben = rig.websocket_with(V1);
    ben.say(&with_id(1, &join("a")));
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [gap("a")]);
    assert_eq!(ben.hear(), [ok(1)]);
    // An ordinary first join.
    ben.say(&with_id(2, &join("b")));
    broker.settle(&mut rig);
    assert_eq!(ben.hear(), [ok(2)]);
}

#[test]
fn a_member_that_left_in_the_meantime_is_told_nothing() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, &["a"]);
    broker.break_listening(&mut rig);
    ann.say(&leave("a"));
    broker.settle(&mut rig);
    broker.mend_listening(&mut rig);
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [""; 0]);
    assert_eq!(metric(&mut rig, "wsify_broker_gaps_total"), "0");
}

#[test]
fn a_channel_that_the_broker_refuses_has_its_gap_when_it_is_subscribed() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, &["a", "b"]);
    broker.break_listening(&mut rig);
    broker.mend_listening(&mut rig);
    broker.run(&mut rig);
    // Both of them at first, which shows only that one is refused; then each alone.
    assert!(broker.refuse_change());
    broker.bring(&mut rig);
    assert!(broker.refuse_change());
    broker.settle(&mut rig);
    let first = ann.hear();
    assert_eq!(first.len(), 1, "{first:?}");
    rig.pass(5_000);
    broker.settle(&mut rig);
    let mut all = [first, ann.hear()].concat();
    all.sort();
    assert_eq!(all, [gap("a"), gap("b")]);
}
