//! `/metrics` and `/health`: the state at the moment of the request (`docs/observing.md`).

use crate::client::{Client, broadcast, get, join, leave, post, text};
use crate::rig::Rig;

/// The sum of the samples whose name, with its labels, begins with `name`.
fn metric(rig: &mut Rig, name: &str) -> f64 {
    let client = rig.client();
    client.send(&get("/metrics"));
    rig.run();
    let answer = String::from_utf8(client.far.receive()).unwrap();
    client.far.leave();
    rig.run();
    let samples = answer.lines().filter(|line| line.starts_with(name));
    let values = samples.map(|line| line.rsplit_once(' ').unwrap().1);
    let values: Vec<f64> = values.map(|value| value.parse().unwrap()).collect();
    assert!(!values.is_empty(), "no {name} in {answer}");
    values.iter().sum()
}

#[test]
fn a_broadcast_to_n_members_counts_n_deliveries_in_any_batch() {
    let mut rig = Rig::new();
    let mut members: Vec<Client> = (0..5).map(|_| rig.member("a")).collect();
    let ann = rig.websocket();
    let said: Vec<Vec<u8>> = (0..8)
        .map(|n| text(&broadcast("a", &n.to_string())))
        .collect();
    ann.send(&said.concat());
    rig.run();
    assert_eq!(metric(&mut rig, "wsify_deliveries_total"), 40.0);
    assert_eq!(metric(&mut rig, "wsify_fanouts_total"), 8.0);
    assert_eq!(metric(&mut rig, "wsify_fanout_duration_seconds_count"), 1.0);

    // A member that joins between two messages of a batch gets the second only. One that leaves gets what is pending.
    let ben = rig.websocket();
    for message in [
        broadcast("a", "1"),
        join("a"),
        broadcast("a", "2"),
        leave("a"),
    ] {
        ben.say(&message);
    }
    rig.run();
    assert_eq!(ben.far.receive(), [0x81, 1, b'2']);
    assert_eq!(metric(&mut rig, "wsify_deliveries_total"), 40.0 + 5.0 + 6.0);
    for member in &mut members {
        assert_eq!(member.hear().len(), 10);
    }
}

#[test]
fn a_fan_out_takes_until_the_last_member_has_it() {
    let mut rig = Rig::new();
    let _members: Vec<Client> = (0..200).map(|_| rig.member("a")).collect();
    let ann = rig.websocket();
    ann.say(&broadcast("a", "1"));
    rig.tick();
    assert_eq!(metric_now(&rig), (0, 0.0), "it is under way");
    rig.hub.clock.now += 30;
    rig.run();
    assert_eq!(metric_now(&rig), (1, 0.03));
}

/// The number of fan-outs, and the sum of their durations in seconds.
fn metric_now(rig: &Rig) -> (u64, f64) {
    let times = &rig.hub.metrics().fanout_time;
    (times.count(), times.sum().as_secs_f64())
}

#[test]
fn laggards_and_queued_bytes_are_counted_as_they_change() {
    let mut rig = Rig::new();
    let mut slow: Vec<Client> = (0..3).map(|_| rig.member("a")).collect();
    let ann = rig.websocket();
    for client in &slow {
        client.far.narrow(1);
    }
    let mut said = String::from("\"");
    said.push_str(&"x".repeat(98));
    said.push('"');
    for nth in 1..=3 {
        ann.say(&broadcast("a", &said));
        rig.run();
        assert_eq!(metric(&mut rig, "wsify_laggards"), 3.0);
        // Two bytes of header more, and one byte less that the kernel took.
        let each = f64::from(nth) * 102.0 - 1.0;
        assert_eq!(metric(&mut rig, "wsify_queued_bytes"), 3.0 * each);
    }
    // Answers count as well.
    slow[0].say("{}");
    rig.run();
    let before = metric(&mut rig, "wsify_queued_bytes");
    assert!(before > 3.0 * 305.0);

    slow[0].far.widen(1 << 20);
    slow[1].far.widen(10);
    slow[2].far.reset();
    rig.run();
    assert_eq!(metric(&mut rig, "wsify_laggards"), 1.0);
    assert_eq!(metric(&mut rig, "wsify_queued_bytes"), 295.0);
    slow[1].far.widen(1 << 20);
    rig.run();
    assert_eq!(metric(&mut rig, "wsify_laggards"), 0.0);
    assert_eq!(metric(&mut rig, "wsify_queued_bytes"), 0.0);
    assert_eq!(slow[1].hear(), [said.as_str(); 3]);
}

#[test]
fn a_turn_is_measured_from_its_begin_to_its_end() {
    let mut rig = Rig::new();
    rig.hub.clock.micros = 5_000_000;
    rig.hub
        .turn_over(std::time::Duration::from_micros(5_000_400));
    assert_eq!(rig.hub.metrics().turn_time.count(), 1);
    assert_eq!(rig.hub.metrics().turn_time.sum().as_micros(), 400);
    rig.hub.clock.now = 6_000;
    assert_eq!(metric(&mut rig, "wsify_loop_turn_longest_seconds"), 0.0004);
}

#[test]
fn health_reports_a_broker_that_is_down_and_draining_before_it() {
    let mut rig = Rig::new();
    let mut probe = rig.client();
    assert_eq!(
        rig.sends(&mut probe, &get("/health")),
        [r#"200 {"status":"ok"}"#]
    );
    rig.hub.share(None);
    let degraded = r#"503 {"broker":"down","status":"degraded"}"#;
    assert_eq!(rig.sends(&mut probe, &get("/health")), [degraded]);
    assert_eq!(metric(&mut rig, "wsify_broker_up"), 0.0);
    let stays = rig.websocket();
    rig.hub.drain(10_000);
    let draining = r#"503 {"status":"draining"}, close"#;
    assert_eq!(rig.sends(&mut probe, &get("/health"))[0], draining);
    drop(stays);
}

#[test]
fn health_is_answered_while_the_server_is_full() {
    let mut rig = Rig::with(wsify::hub::Settings {
        max_connections: 1,
        ..crate::rig::settings()
    });
    let _only = rig.websocket();
    let mut other = rig.upgrading("");
    assert_eq!(other.hear(), ["503 full"]);
    let mut probe = rig.client();
    assert_eq!(
        rig.sends(&mut probe, &get("/health")),
        [r#"200 {"status":"ok"}"#]
    );
    let mut backend = rig.client();
    assert_eq!(
        rig.sends(&mut backend, &post(r#"{"channel":"a"}"#)),
        ["201"]
    );
}
