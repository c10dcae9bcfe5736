//! Channels shared with other servers (`docs/scaling.md#redis`).

use wsify::effect::Verdict;
use wsify::hub::Settings;

use crate::broker::{BROKER_REFUSAL, Broker};
use crate::client::{Client, broadcast, get, join, leave, post, with_id};
use crate::rig::{Rig, settings};

const DEGRADED: &str = r#"503 {"broker":"down","status":"degraded"}"#;
const HEALTHY: &str = r#"200 {"status":"ok"}"#;

fn ok(id: u64) -> String {
    format!(r#"{{"id":{id},"ok":true}}"#)
}

/// A member whose join has been answered.
fn member(rig: &mut Rig, broker: &mut Broker, channel: &str) -> Client {
    let mut client = rig.websocket();
    client.say(&with_id(1, &join(channel)));
    broker.settle(rig);
    assert_eq!(client.hear(), [ok(1)]);
    client
}

/// What it hears, `code id` for an error.
fn heard(client: &mut Client) -> Vec<String> {
    let short = |line: String| match serde_json::from_str::<serde_json::Value>(&line) {
        Ok(value) if value["error"]["code"].is_string() => {
            let code = value["error"]["code"].as_str().unwrap().to_owned();
            format!("{code} {}", value["id"])
        }
        _ => line,
    };
    client.hear().into_iter().map(short).collect()
}

#[test]
fn a_broadcast_is_answered_when_it_has_come_back() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, "a");
    ann.say(&with_id(2, &broadcast("a", "1.50")));
    ann.say(&with_id(3, &leave("a")));
    broker.run(&mut rig);
    assert_eq!(ann.hear(), [""; 0]);
    broker.execute_publication();
    broker.run(&mut rig);
    assert_eq!(ann.hear(), [""; 0]);
    assert!(broker.bring(&mut rig).is_some());
    broker.run(&mut rig);
    assert_eq!(ann.hear(), ["1.50"]);
    broker.bring(&mut rig);
    broker.run(&mut rig);
    assert_eq!(ann.hear(), [ok(2), ok(3)]);
    broker.settle(&mut rig);
    assert!(broker.subscribed.is_empty());
}

#[test]
fn a_post_is_answered_when_it_has_come_back_and_pipelined_requests_wait() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, "a");
    let mut backend = rig.client();
    backend.send(&[post(r#"{"channel":"a","content":[1]}"#), get("/health")].concat());
    broker.run(&mut rig);
    assert_eq!(backend.hear(), [""; 0]);
    broker.settle(&mut rig);
    assert_eq!(backend.hear(), ["201", HEALTHY]);
    assert_eq!(ann.hear(), ["[1]"]);
    // That channel has no members here: the message is published all the same.
    backend.send(&post(r#"{"channel":"elsewhere","content":2}"#));
    broker.run(&mut rig);
    let published = broker.execute_publication();
    assert_eq!(published, Some(("elsewhere".into(), "2".into())));
    broker.settle(&mut rig);
    assert_eq!(backend.hear(), ["201"]);
}

#[test]
fn joins_wait_for_one_confirmation_and_hear_nothing_before_it_is_answered() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut crowd: Vec<Client> = (0..700).map(|_| rig.websocket()).collect();
    for client in &crowd {
        client.say(&with_id(1, &join("a")));
        // Commands sent meanwhile wait.
        client.say(&with_id(2, &join("b")));
    }
    broker.run(&mut rig);
    assert!(crowd.iter_mut().all(|client| client.hear().is_empty()));
    assert!(broker.execute_change());
    assert!(!broker.execute_change(), "one subscription for all");
    broker.foreign("a", "0");
    broker.bring(&mut rig);
    // The joins have not been answered yet: a member hears the answer before the message.
    broker.bring(&mut rig);
    broker.settle(&mut rig);
    broker.foreign("a", "1");
    broker.settle(&mut rig);
    for client in &mut crowd {
        let mut heard = client.hear();
        assert_eq!(heard[0], ok(1));
        heard.retain(|line| line != "0");
        assert_eq!(heard, [ok(1), ok(2), "1".into()]);
    }
}

#[test]
fn a_channel_left_and_joined_again_waits_for_its_own_confirmation() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.websocket();
    let mut ben = rig.websocket();
    ann.say(&with_id(1, &join("a")));
    broker.run(&mut rig);
    broker.execute_change();
    broker.bring(&mut rig);
    ann.say(&with_id(2, &leave("a")));
    broker.run(&mut rig);
    assert_eq!(ann.hear(), [ok(1), ok(2)]);
    // redis has not unsubscribed it yet, and would bring a message.
    ben.say(&with_id(3, &join("a")));
    broker.run(&mut rig);
    assert!(broker.subscribed.contains("a"));
    assert_eq!(ben.hear(), [""; 0]);
    broker.execute_change();
    assert!(!broker.subscribed.contains("a"));
    broker.run(&mut rig);
    assert_eq!(ben.hear(), [""; 0]);
    broker.settle(&mut rig);
    assert_eq!(ben.hear(), [ok(3)]);
    assert!(broker.subscribed.contains("a"));
}

#[test]
fn a_connection_that_ends_while_its_join_waits_leaves_nothing_behind() {
    let mut settings = settings();
    settings.limits.max_queue = 100;
    let mut rig = Rig::with(settings);
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, "b");
    ann.say(&with_id(2, &join("a")));
    broker.run(&mut rig);
    // It is too slow for the messages of another channel.
    ann.far.narrow(10);
    for _ in 0..2 {
        broker.foreign("b", &format!("\"{}\"", "x".repeat(80)));
        broker.bring(&mut rig);
        broker.run(&mut rig);
    }
    ann.far.widen(1 << 20);
    broker.run(&mut rig);
    assert_eq!(ann.hear().last().unwrap(), "close 1008");
    ann.far.leave();
    broker.settle(&mut rig);
    rig.assert_empty();
    assert!(broker.subscribed.is_empty());
}

#[test]
fn while_the_broker_is_down_joins_succeed_and_broadcasts_do_not() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.websocket();
    let mut probe = rig.client();
    broker.break_listening(&mut rig);
    assert_eq!(rig.sends(&mut probe, &get("/health")), [DEGRADED]);
    assert_eq!(rig.says(&mut ann, &with_id(1, &join("a"))), [ok(1)]);
    ann.say(&with_id(2, &broadcast("a", "1")));
    broker.run(&mut rig);
    assert_eq!(rig.asked(), [""; 0], "no question is asked in vain");
    assert_eq!(heard(&mut ann), ["unavailable 2"]);
    probe.send(&post(r#"{"channel":"a","content":1}"#));
    broker.run(&mut rig);
    assert_eq!(probe.hear(), ["503 unavailable"]);

    // The broker is not up before every channel is subscribed.
    broker.mend_listening(&mut rig);
    broker.run(&mut rig);
    assert!(broker.execute_change());
    assert_eq!(rig.sends(&mut probe, &get("/health")), [DEGRADED]);
    broker.bring(&mut rig);
    assert_eq!(rig.sends(&mut probe, &get("/health")), [HEALTHY]);
    broker.foreign("a", "2");
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), ["2"]);

    // Only the publishing link is down: messages of other servers are heard.
    broker.break_publishing(&mut rig);
    broker.foreign("a", "3");
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), ["3"]);
    ann.say(&with_id(4, &broadcast("a", "4")));
    broker.run(&mut rig);
    assert_eq!(heard(&mut ann), ["unavailable 4"]);
}

#[test]
fn a_broker_that_goes_down_while_the_authorizer_is_asked() {
    let mut rig = Rig::with_authorizer();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.websocket();
    ann.say(&with_id(1, &broadcast("a", "1")));
    broker.run(&mut rig);
    broker.break_publishing(&mut rig);
    rig.answer(Verdict::Allow);
    broker.run(&mut rig);
    assert_eq!(heard(&mut ann), ["unavailable 1"]);
}

#[test]
fn commands_outstanding_when_a_link_breaks_are_unavailable() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, "a");
    let mut backend = rig.client();
    for breaks in [Broker::break_publishing, Broker::break_listening] {
        for published in [false, true] {
            ann.say(&with_id(2, &broadcast("a", "1")));
            backend.send(&post(r#"{"channel":"elsewhere","content":1}"#));
            broker.run(&mut rig);
            if published {
                while broker.execute_publication().is_some() {}
                broker.read_publisher(&mut rig);
            }
            breaks(&mut broker, &mut rig);
            broker.settle(&mut rig);
            // The reply on the other link counts.
            let came = published && broker.listening;
            if came {
                assert_eq!(ann.hear(), ["1".into(), ok(2)])
            } else {
                assert_eq!(heard(&mut ann), ["unavailable 2"])
            }
            let answer = if came { "201" } else { "503 unavailable" };
            assert_eq!(backend.hear(), [answer]);
            broker.mend_publishing(&mut rig);
            broker.mend_listening(&mut rig);
            broker.settle(&mut rig);
        }
    }
}

#[test]
fn a_join_whose_confirmation_is_lost_is_answered_at_once_and_subscribed_later() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.websocket();
    ann.say(&with_id(1, &join("a")));
    broker.run(&mut rig);
    broker.break_listening(&mut rig);
    // The link is back before the hub has had its turn.
    broker.mend_listening(&mut rig);
    broker.run(&mut rig);
    assert_eq!(ann.hear(), [""; 0]);
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [ok(1)]);
    assert!(broker.subscribed.contains("a"));

    ann.say(&with_id(2, &join("b")));
    broker.run(&mut rig);
    broker.break_listening(&mut rig);
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [ok(2)]);
    broker.mend_listening(&mut rig);
    broker.settle(&mut rig);
    assert_eq!(broker.subscribed.len(), 2);
}

#[test]
fn a_first_join_that_the_broker_refuses_says_why_and_a_new_one_asks_again() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.websocket();
    let mut ben = rig.websocket();
    ann.say(&with_id(1, &join("a")));
    broker.run(&mut rig);
    assert!(broker.refuse_change());
    broker.bring(&mut rig);
    // The new join comes before the waiting ones have been answered.
    ben.say(&with_id(1, &join("a")));
    broker.run(&mut rig);
    let [line] = ann.hear().try_into().unwrap();
    assert!(
        line.contains(r#""code":"unavailable""#) && line.contains(BROKER_REFUSAL),
        "{line}"
    );
    assert!(!line.contains("another"), "{line}");
    assert!(
        rig.hub.is_broker_up(),
        "there is no member that misses anything"
    );
    broker.settle(&mut rig);
    assert_eq!(ben.hear(), [ok(1)]);
    ann.say(&with_id(2, &join("a")));
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [ok(2)]);

    ann.say(&with_id(3, &join("b")));
    broker.run(&mut rig);
    assert!(broker.refuse_change());
    broker.settle(&mut rig);
    assert_eq!(heard(&mut ann), ["unavailable 3"]);
    assert_eq!(rig.hub.inventory().channels, 1);
    rig.pass(20_000);
    assert!(
        rig.effects.is_empty(),
        "asked for without members: {:?}",
        rig.effects
    );
}

/// What is published to `channel` by a client and by a backend is answered.
fn published(rig: &mut Rig, broker: &mut Broker, channel: &str) -> [String; 2] {
    let mut client = rig.websocket();
    client.say(&with_id(1, &broadcast(channel, "1")));
    let mut backend = rig.client();
    backend.send(&post(&format!(r#"{{"channel":"{channel}","content":1}}"#)));
    broker.settle(rig);
    let client = client.hear().pop().unwrap();
    [client, backend.hear().pop().unwrap()]
}

#[test]
fn a_channel_with_members_that_the_broker_refuses_is_asked_for_until_it_is_subscribed() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, "a");
    let mut ben = member(&mut rig, &mut broker, "b");
    let mut probe = rig.client();
    broker.break_listening(&mut rig);
    broker.mend_listening(&mut rig);
    let mut asked = Vec::new();
    for _ in 0..9 {
        broker.run(&mut rig);
        while broker.is_quiet() {
            rig.hub.clock.now = rig.hub.next_deadline().expect("it is asked for again");
            broker.run(&mut rig);
        }
        asked.push(rig.hub.clock.now);
        // Both of them at first, which shows only that one is refused; then that one alone.
        assert!(broker.refuse_change());
        if asked.len() == 1 {
            broker.bring(&mut rig);
            assert!(broker.refuse_change());
        }
        broker.settle(&mut rig);
        assert_eq!(rig.sends(&mut probe, &get("/health")), [DEGRADED]);
        let [client, backend] = published(&mut rig, &mut broker, "a");
        assert!(
            client.contains("unavailable") && client.contains(BROKER_REFUSAL),
            "{client}"
        );
        assert_eq!(backend, "503 unavailable");
        assert_eq!(published(&mut rig, &mut broker, "b"), [ok(1), "201".into()]);
        assert_eq!(published(&mut rig, &mut broker, "c"), [ok(1), "201".into()]);
    }
    let pauses: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses[0] >= 50 && pauses[0] <= 100, "{pauses:?}");
    assert!(
        pauses.iter().skip(6).all(|p| (2_500..=5_000).contains(p)),
        "{pauses:?}"
    );

    // A join asks at once, whatever the pause.
    let mut cat = rig.websocket();
    cat.say(&with_id(1, &join("a")));
    broker.run(&mut rig);
    assert!(broker.refuse_change());
    broker.settle(&mut rig);
    assert_eq!(heard(&mut cat), ["unavailable 1"]);
    assert_eq!(rig.sends(&mut probe, &get("/health")), [DEGRADED]);

    rig.pass(5_000);
    broker.settle(&mut rig);
    assert_eq!(rig.sends(&mut probe, &get("/health")), [HEALTHY]);
    assert_eq!(published(&mut rig, &mut broker, "a"), [ok(1), "201".into()]);
    assert_eq!(ann.hear(), ["1", "1"]);
    assert_eq!(ben.hear().len(), 18);
}

#[test]
fn a_refused_channel_is_forgotten_with_its_last_member() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let ann = member(&mut rig, &mut broker, "a");
    broker.break_listening(&mut rig);
    broker.mend_listening(&mut rig);
    broker.run(&mut rig);
    assert!(broker.refuse_change());
    broker.settle(&mut rig);
    assert!(!rig.hub.is_broker_up());
    ann.far.reset();
    broker.settle(&mut rig);
    assert!(rig.hub.is_broker_up());
    rig.pass(60_000);
    assert!(rig.effects.is_empty());
    rig.assert_empty();
}

#[test]
fn a_publication_that_the_broker_refuses_says_why() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.websocket();
    let mut backend = rig.client();
    ann.say(&with_id(1, &broadcast("a", "1")));
    backend.send(&post(r#"{"channel":"a","content":1}"#));
    broker.run(&mut rig);
    while broker.refuse_publication() {}
    broker.settle(&mut rig);
    let [line] = ann.hear().try_into().unwrap();
    assert!(
        line.contains(r#""code":"unavailable""#) && line.contains(BROKER_REFUSAL),
        "{line}"
    );
    assert_eq!(backend.hear(), ["503 unavailable"]);
    assert!(rig.hub.is_broker_up(), "other channels may be published to");
}

#[test]
fn messages_for_channels_without_members_are_dropped() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, "a");
    assert!(rig.hub.arrived("b", b"1"));
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [""; 0]);
}

#[test]
fn a_congested_channel_stops_reading_from_the_broker() {
    let mut rig = Rig::with(Settings {
        limits: wsify::connection::Limits {
            max_queue: 64 << 20,
            ..settings().limits
        },
        ..settings()
    });
    let mut broker = Broker::up(&mut rig);
    let mut ann = member(&mut rig, &mut broker, "a");
    let content = format!("\"{}\"", "x".repeat(1 << 20));
    let taken = (0..10)
        .take_while(|_| rig.hub.arrived("a", content.as_bytes()))
        .count();
    assert!((4..=5).contains(&taken), "{taken} MiB");
    broker.settle(&mut rig);
    assert!(rig.hub.arrived("a", content.as_bytes()));
    broker.settle(&mut rig);
    assert_eq!(ann.hear().len(), taken + 1);
}

#[test]
fn a_stop_waits_for_outstanding_commands() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut ann = rig.websocket();
    let mut backend = rig.client();
    ann.say(&with_id(1, &broadcast("a", "1")));
    backend.send(&post(r#"{"channel":"a","content":1}"#));
    broker.run(&mut rig);
    rig.hub.drain(1_000);
    rig.pass(700);
    assert!(!rig.hub.is_drained());
    assert_eq!(ann.hear(), [""; 0]);
    broker.settle(&mut rig);
    assert_eq!(ann.hear(), [ok(1), "close 1012".into()]);
    assert_eq!(backend.hear(), ["201, close", "end"]);
}

#[test]
fn a_stop_does_not_wait_for_a_broker_that_hangs() {
    let mut rig = Rig::new();
    let mut broker = Broker::up(&mut rig);
    let mut clients: Vec<Client> = (0..10).map(|_| rig.websocket()).collect();
    for (nth, client) in clients.iter().enumerate() {
        // One waits for a subscription, one for a publication.
        match nth % 2 {
            0 => client.say(&with_id(1, &join("a"))),
            _ => client.say(&with_id(1, &broadcast("b", "1"))),
        }
    }
    let mut backend = rig.client();
    let request = post(r#"{"channel":"a","content":1}"#);
    backend.send(&request);
    rig.run();
    rig.hub.drain(10_000);
    let mut closed = Vec::new();
    for _ in 0..100 {
        rig.pass(100);
        let now = clients.iter_mut().filter_map(|client| client.hear().pop());
        closed.push(now.inspect(|line| assert_eq!(line, "close 1012")).count());
    }
    assert_eq!(closed.iter().sum::<usize>(), 10);
    assert!(
        closed.iter().all(|at_once| *at_once <= 2),
        "they are spread: {closed:?}"
    );
    assert_eq!(closed.iter().position(|closed| *closed > 0), Some(71));
    assert_eq!(backend.hear(), ["503 draining, close", "end"]);
    // A command that comes at the very end does not wait.
    let mut late = rig.client();
    assert_eq!(
        rig.sends(&mut late, &request),
        ["503 draining, close", "end"]
    );
    // A late reply of the broker changes nothing.
    for client in &clients {
        client.far.leave();
    }
    broker.settle(&mut rig);
    rig.pass(10_000);
    rig.assert_empty();
    assert!(broker.subscribed.is_empty());
}

#[test]
fn a_stop_does_not_wait_for_an_authorizer_that_hangs() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let mut ben = rig.websocket();
    ann.say(&with_id(1, &broadcast("a", "1")));
    ben.say(&with_id(1, &join("a")));
    rig.run();
    rig.hub.drain(1_000);
    rig.pass(950);
    assert_eq!(ann.hear(), ["close 1012"]);
    assert_eq!(ben.hear(), ["close 1012"]);
    // A late answer is ignored.
    rig.answer(Verdict::Allow);
    rig.answer(Verdict::Unavailable);
    assert_eq!(ann.hear(), [""; 0]);
    assert_eq!(ben.hear(), [""; 0]);
    assert_eq!(rig.hub.inventory().memberships, 0);
}

#[test]
fn ten_thousand_channels_are_restored_in_slices() {
    let mut rig = Rig::with(Settings {
        max_channels: 10_000,
        ..settings()
    });
    let mut broker = Broker::up(&mut rig);
    let ann = rig.websocket();
    for nth in 0..10_000 {
        ann.say(&join(&nth.to_string()));
    }
    broker.settle(&mut rig);
    assert_eq!(broker.subscribed.len(), 10_000);
    broker.break_listening(&mut rig);
    broker.settle(&mut rig);
    broker.mend_listening(&mut rig);
    while rig.has_work() {
        rig.tick();
        assert!(rig.effects.len() <= 512);
        broker.take(&mut rig);
    }
    broker.settle(&mut rig);
    assert_eq!(broker.subscribed.len(), 10_000);
    assert!(rig.hub.is_broker_up());
}
