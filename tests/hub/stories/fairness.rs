//! No connection slows down another.

use wsify::connection::Limits;
use wsify::hub::Settings;

use crate::client::{Client, PING, broadcast, close, frame, join, leave, post, text, with_id};
use crate::rig::{Rig, settings};

fn small_queues() -> Rig {
    Rig::with(Settings {
        limits: Limits {
            max_queue: 1000,
            ..settings().limits
        },
        ..settings()
    })
}

fn content(n: usize) -> String {
    format!("\"{n:03}{}\"", "x".repeat(95))
}

#[test]
fn a_slow_reader_is_closed_with_1008_behind_what_it_was_sent() {
    let mut rig = small_queues();
    let mut slow = rig.member("a");
    let mut fast = rig.member("a");
    let ann = rig.websocket();
    slow.far.narrow(150);
    for n in 0..30 {
        ann.say(&broadcast("a", &content(n)));
        rig.run();
    }
    assert_eq!(rig.hub.inventory().memberships, 1);
    assert_eq!(fast.hear().len(), 30, "other members are not slowed down");
    // Now it reads: a run of messages without a gap, and then the close.
    slow.far.widen(1 << 20);
    rig.run();
    let heard = slow.hear();
    assert!(heard.len() > 8, "{}", heard.len());
    let messages = &heard[..heard.len() - 1];
    assert!(messages.iter().enumerate().all(|(n, m)| *m == content(n)));
    assert_eq!(heard.last().unwrap(), "close 1008");
    slow.send(&close(1008));
    rig.run();
    assert!(slow.far.is_dropped());
    assert_eq!(rig.hub.inventory().runs, 0);
}

#[test]
fn a_client_that_never_reads_is_dropped_and_leaves_nothing() {
    let mut rig = small_queues();
    let slow: Vec<Client> = (0..5).map(|_| rig.member("a")).collect();
    let ann = rig.websocket();
    for client in &slow {
        client.far.narrow(150);
    }
    for n in 0..30 {
        ann.say(&broadcast("a", &content(n)));
        rig.run();
    }
    assert!(rig.hub.inventory().runs > 0);
    rig.pass(5_100);
    assert!(slow.iter().all(|client| client.far.is_dropped()));
    assert_eq!(rig.hub.inventory().runs, 0);
    assert_eq!(rig.hub.inventory().connections, 1);
}

#[test]
fn after_a_message_that_did_not_fit_a_reader_gets_no_later_one() {
    // It is closed, or leaves just then.
    for leaves in [false, true] {
        let mut rig = small_queues();
        let crowd: Vec<Client> = (0..200).map(|_| rig.member("a")).collect();
        let mut slow = rig.member("a");
        let ann = rig.websocket();
        let large = format!("\"{}\"", "x".repeat(900));
        slow.far.narrow(100);
        ann.say(&broadcast("a", &large));
        rig.run();
        // A small message follows while the large one is still being sent.
        ann.say(&broadcast("a", &large));
        rig.tick();
        ann.say(&broadcast("a", "1"));
        if leaves {
            slow.say(&with_id(1, &leave("a")));
        }
        rig.run();
        slow.far.widen(1 << 20);
        rig.run();
        assert_eq!(slow.hear(), [&large[..], "close 1008"]);
        drop(crowd);
    }
}

#[test]
fn an_empty_queue_takes_any_message() {
    let mut rig = small_queues();
    let mut slow = rig.member("a");
    let ann = rig.websocket();
    let large = format!("\"{}\"", "x".repeat(100_000));
    slow.far.narrow(10);
    ann.say(&broadcast("a", &large));
    rig.run();
    for _ in 0..11 {
        slow.far.widen(10_000);
        rig.run();
    }
    assert_eq!(slow.hear(), [large]);
}

#[test]
fn a_client_that_floods_with_pings_and_does_not_read_is_closed() {
    let mut rig = small_queues();
    let mut ann = rig.websocket();
    ann.far.narrow(100);
    for _ in 0..100 {
        ann.send(&frame(PING, &[b'p'; 100]));
        rig.run();
    }
    ann.far.widen(1 << 20);
    rig.run();
    let heard = ann.hear();
    assert_eq!(heard.last().unwrap(), "close 1008");
    assert!(heard.len() < 15, "{}", heard.len());
}

#[test]
fn a_flood_gets_its_share_of_each_turn_and_no_more() {
    let mut rig = Rig::new();
    let mut flooding = rig.websocket();
    let mut ann = rig.websocket();
    let message = text(&with_id(1, &join("a")));
    flooding.send(&message.repeat(5_000));
    rig.tick();
    // 512 messages were handled in this turn; the next connection waits for no more.
    let first = flooding.hear().len();
    assert!((1..=1024).contains(&first), "{first}");
    ann.send(&frame(PING, b"?"));
    rig.tick();
    assert_eq!(ann.hear(), ["pong ?"]);
    let second = flooding.hear().len();
    assert!((1..=1024).contains(&second), "{second}");
    rig.run();
    assert_eq!(first + second + flooding.hear().len(), 5_000);
}

#[test]
fn a_large_broadcast_does_not_delay_other_channels() {
    let mut rig = Rig::new();
    let mut crowd: Vec<Client> = (0..900).map(|_| rig.member("crowd")).collect();
    let mut pair: Vec<Client> = (0..2).map(|_| rig.member("pair")).collect();
    let ann = rig.websocket();
    ann.say(&broadcast("crowd", "1"));
    rig.tick();
    pair[0].say(&broadcast("pair", "2"));
    rig.tick();
    assert_eq!(
        (pair[0].hear(), pair[1].hear()),
        (vec!["2".into()], vec!["2".into()])
    );
    let mut served = || -> usize { crowd.iter_mut().map(|member| member.hear().len()).sum() };
    let waiting = 900 - served();
    assert!(waiting > 500, "{waiting}");
    rig.run();
    assert_eq!(served(), waiting);
}

#[test]
fn messages_published_during_a_broadcast_make_one_batch() {
    let mut rig = Rig::new();
    let mut crowd: Vec<Client> = (0..400).map(|_| rig.member("a")).collect();
    let mut backend = rig.client();
    for member in &crowd {
        member.far.take_calls();
    }
    backend.send(&post(r#"{"channel":"a","content":0}"#));
    rig.tick();
    for n in 1..20 {
        backend.send(&post(&format!(r#"{{"channel":"a","content":{n}}}"#)));
        rig.tick();
    }
    rig.run();
    assert_eq!(backend.hear().len(), 20);
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for member in &mut crowd {
        assert!(member.far.wire().calls.writes < 12);
        assert_eq!(member.hear(), expected);
    }
}

#[test]
fn short_writes_and_small_buffers_change_nothing() {
    let mut rig = Rig::new();
    rig.buffer = vec![0; 5];
    let mut ann = rig.client();
    ann.far.wire_mut().largest_write = 3;
    let said = [
        crate::client::upgrade("/ws", ""),
        text(&with_id(1, &join("a"))),
        text(&broadcast("a", "\"é\"")),
        frame(PING, b"?"),
        close(1000),
    ];
    assert_eq!(
        rig.sends(&mut ann, &said.concat()),
        [
            "101",
            r#"{"id":1,"ok":true}"#,
            "\"é\"",
            "pong ?",
            "close 1000",
            "end"
        ]
    );
    rig.run();
    assert!(ann.far.is_dropped());
}
