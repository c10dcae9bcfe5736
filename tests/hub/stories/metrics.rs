//! What `/metrics` and `/health` say, at the moment when they are asked.

use crate::client::{Client, broadcast, get, join, leave, post, text};
use crate::house::House;

/// The sum of the samples whose name, with its labels, begins with `name`.
fn metric(house: &mut House, name: &str) -> f64 {
    let client = house.client();
    client.send(&get("/metrics"));
    house.run();
    let answer = String::from_utf8(client.far.receive()).unwrap();
    client.far.leave();
    house.run();
    let samples = answer.lines().filter(|line| line.starts_with(name));
    let values = samples.map(|line| line.rsplit_once(' ').unwrap().1);
    let values: Vec<f64> = values.map(|value| value.parse().unwrap()).collect();
    assert!(!values.is_empty(), "no {name} in {answer}");
    values.iter().sum()
}

#[test]
fn a_broadcast_to_n_members_counts_n_whatever_goes_out_in_one_piece() {
    let mut house = House::open();
    let mut members: Vec<Client> = (0..5).map(|_| house.member("a")).collect();
    let ann = house.websocket();
    let said: Vec<Vec<u8>> = (0..8)
        .map(|n| text(&broadcast("a", &n.to_string())))
        .collect();
    ann.send(&said.concat());
    house.run();
    assert_eq!(metric(&mut house, "wsify_deliveries_total"), 40.0);
    assert_eq!(metric(&mut house, "wsify_fanouts_total"), 8.0);
    assert_eq!(
        metric(&mut house, "wsify_fanout_duration_seconds_count"),
        1.0
    );

    // Who joins between two messages of a batch gets the second only; who leaves behind it gets what it is owed.
    let ben = house.websocket();
    for message in [
        broadcast("a", "1"),
        join("a"),
        broadcast("a", "2"),
        leave("a"),
    ] {
        ben.say(&message);
    }
    house.run();
    assert_eq!(ben.far.receive(), [0x81, 1, b'2']);
    assert_eq!(
        metric(&mut house, "wsify_deliveries_total"),
        40.0 + 5.0 + 6.0
    );
    for member in &mut members {
        assert_eq!(member.hear().len(), 10);
    }
}

#[test]
fn a_fan_out_takes_until_the_last_member_has_it() {
    let mut house = House::open();
    let _members: Vec<Client> = (0..200).map(|_| house.member("a")).collect();
    let ann = house.websocket();
    ann.say(&broadcast("a", "1"));
    house.tick();
    assert_eq!(metric_now(&house), (0, 0.0), "it is under way");
    house.hub.clock.now += 30;
    house.run();
    assert_eq!(metric_now(&house), (1, 0.03));
}

/// Fan-outs that are over, and how long they took together.
fn metric_now(house: &House) -> (u64, f64) {
    let times = &house.hub.metrics().fanout_time;
    (times.count(), times.sum().as_secs_f64())
}

#[test]
fn what_waits_is_known_without_a_look_at_anybody() {
    let mut house = House::open();
    let mut slow: Vec<Client> = (0..3).map(|_| house.member("a")).collect();
    let ann = house.websocket();
    for client in &slow {
        client.far.narrow(1);
    }
    let mut said = String::from("\"");
    said.push_str(&"x".repeat(98));
    said.push('"');
    for nth in 1..=3 {
        ann.say(&broadcast("a", &said));
        house.run();
        assert_eq!(metric(&mut house, "wsify_laggards"), 3.0);
        // Two bytes of header, and one byte that the kernel took.
        let each = f64::from(nth) * 102.0 - 1.0;
        assert_eq!(metric(&mut house, "wsify_queued_bytes"), 3.0 * each);
    }
    // Its own answers count as well.
    slow[0].say("{}");
    house.run();
    let before = metric(&mut house, "wsify_queued_bytes");
    assert!(before > 3.0 * 305.0);

    slow[0].far.widen(1 << 20);
    slow[1].far.widen(10);
    slow[2].far.reset();
    house.run();
    assert_eq!(metric(&mut house, "wsify_laggards"), 1.0);
    assert_eq!(metric(&mut house, "wsify_queued_bytes"), 295.0);
    slow[1].far.widen(1 << 20);
    house.run();
    assert_eq!(metric(&mut house, "wsify_laggards"), 0.0);
    assert_eq!(metric(&mut house, "wsify_queued_bytes"), 0.0);
    assert_eq!(slow[1].hear(), [said.as_str(); 3]);
}

#[test]
fn a_turn_is_measured_from_its_begin_to_its_end() {
    let mut house = House::open();
    house.hub.clock.micros = 5_000_000;
    house
        .hub
        .turn_over(std::time::Duration::from_micros(5_000_400));
    assert_eq!(house.hub.metrics().turn_time.count(), 1);
    assert_eq!(house.hub.metrics().turn_time.sum().as_micros(), 400);
    house.hub.clock.now = 6_000;
    assert_eq!(
        metric(&mut house, "wsify_loop_turn_longest_seconds"),
        0.0004
    );
}

#[test]
fn health_says_when_the_broker_is_down_and_a_stop_wins() {
    let mut house = House::open();
    let mut probe = house.client();
    assert_eq!(
        house.sends(&mut probe, &get("/health")),
        [r#"200 {"status":"ok"}"#]
    );
    house.hub.share(None);
    let degraded = r#"503 {"broker":"down","status":"degraded"}"#;
    assert_eq!(house.sends(&mut probe, &get("/health")), [degraded]);
    assert_eq!(metric(&mut house, "wsify_broker_up"), 0.0);
    let stays = house.websocket();
    house.hub.drain(10_000);
    let draining = r#"503 {"status":"draining"}, close"#;
    assert_eq!(house.sends(&mut probe, &get("/health"))[0], draining);
    drop(stays);
}

#[test]
fn health_is_answered_while_the_server_is_full() {
    let mut house = House::with(wsify::hub::Settings {
        max_connections: 1,
        ..crate::house::settings()
    });
    let _only = house.websocket();
    let mut other = house.upgrading("");
    assert_eq!(other.hear(), ["503 full"]);
    let mut probe = house.client();
    assert_eq!(
        house.sends(&mut probe, &get("/health")),
        [r#"200 {"status":"ok"}"#]
    );
    let mut backend = house.client();
    assert_eq!(
        house.sends(&mut backend, &post(r#"{"channel":"a"}"#)),
        ["201"]
    );
}
