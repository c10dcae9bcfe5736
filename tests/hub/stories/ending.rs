//! How connections end: closing handshakes, silence, the server's stop (`docs/protocol.md#closing`).

use wsify::connection::Limits;
use wsify::effect::Verdict;
use wsify::hub::Settings;

use crate::client::{
    CLOSE, Client, PING, PONG, TEXT, broadcast, close, frame, get, join, post, text, upgrade,
    with_id,
};
use crate::rig::{Rig, settings};

#[test]
fn a_clients_close_is_echoed_and_the_server_closes_first() {
    let mut rig = Rig::new();
    for (sent, echoed) in [
        (close(1000), "close 1000"),
        (close(4321), "close 4321"),
        (frame(CLOSE, b""), "close 1000"),
    ] {
        let mut ann = rig.member("a");
        let behind = text(&with_id(1, &broadcast("a", "1")));
        assert_eq!(
            rig.sends(&mut ann, &[sent, behind].concat()),
            [echoed, "end"]
        );
        assert!(ann.far.is_dropped());
    }
    rig.assert_empty();
}

#[test]
fn a_close_waits_behind_an_open_question() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    ann.send(&[text(&with_id(1, &join("a"))), close(1000)].concat());
    rig.run();
    assert_eq!(ann.hear(), [""; 0]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#, "close 1000", "end"]);
    rig.assert_empty();
}

#[test]
fn violations_of_the_rfc_are_closed_with_their_code() {
    let mut rig = Rig::new();
    let unmasked = vec![0x81, 0x01, b'x'];
    let table = [
        (unmasked, "close 1002"),
        (frame(0xC1, b"x"), "close 1002"),
        (frame(0x83, b"x"), "close 1002"),
        (frame(0x80, b"x"), "close 1002"),
        (frame(0x09, b"x"), "close 1002"),
        (frame(PING, &[b'x'; 126]), "close 1002"),
        (close(1005), "close 1002"),
        (frame(CLOSE, b"\x03\xE8\xFF"), "close 1007"),
        (frame(TEXT, b"\xFF"), "close 1007"),
        (
            [&[0x81, 0xFF][..], &(1u64 << 63).to_be_bytes()].concat(),
            "close 1009",
        ),
        (
            [&[0x81, 0xFF][..], &((1u64 << 20) + 1).to_be_bytes()].concat(),
            "close 1009",
        ),
    ];
    for (sent, expected) in table {
        let mut ann = rig.member("a");
        let mut ben = rig.member("a");
        let all = [
            text(&broadcast("a", "1")),
            sent.clone(),
            text(&broadcast("a", "2")),
        ];
        assert_eq!(
            rig.sends(&mut ann, &all.concat()),
            ["1", expected, "end"],
            "{sent:x?}"
        );
        assert_eq!(ben.hear(), ["1"]);
        ben.far.leave();
        // Input is discarded for a while.
        assert!(!ann.far.is_dropped());
        ann.send(&[0; 100_000]);
        rig.run();
        assert!(!ann.far.is_dropped());
        rig.pass(2_100);
        assert!(ann.far.is_dropped());
    }
    rig.assert_empty();
}

#[test]
fn a_stream_that_ends_without_a_close_ends_the_connection() {
    let mut rig = Rig::new();
    let mut members: Vec<Client> = (0..3).map(|_| rig.member("a")).collect();
    members[0].far.leave();
    members[1].far.reset();
    rig.run();
    assert!(members[0].far.is_dropped() && members[1].far.is_dropped());
    assert_eq!(rig.hub.inventory().memberships, 1);
    assert_eq!(rig.says(&mut members[2], &broadcast("a", "1")), ["1"]);
}

#[test]
fn a_client_that_only_ends_its_sending_side_receives_its_answers() {
    let said = [
        text(&with_id(1, &join("b"))),
        text(&with_id(2, &broadcast("a", "1"))),
        text("x"),
        frame(PING, b"p"),
    ]
    .concat();
    let answers = |heard: &[String]| {
        assert_eq!(heard[0], r#"{"id":1,"ok":true}"#, "{heard:?}");
        assert_eq!(heard.len(), 6, "{heard:?}");
        for part in ["1", r#"{"id":2,"ok":true}"#, "pong p"] {
            assert!(heard.iter().any(|line| line == part), "{heard:?}");
        }
        assert!(heard.iter().any(|line| line.contains("bad_message")));
        assert_eq!(heard[5], "end");
    };
    let mut rig = Rig::new();
    // At once, and when there is room again.
    for narrow in [false, true] {
        let mut ann = rig.member("a");
        if narrow {
            ann.far.narrow(0);
        }
        ann.send(&said);
        ann.far.leave();
        rig.run();
        assert_eq!(rig.hub.inventory().websockets, 0, "it counts as gone");
        assert_eq!(ann.far.is_dropped(), !narrow);
        ann.far.widen(10_000);
        rig.run();
        answers(&ann.hear());
        assert!(ann.far.is_dropped());
        // Behind its upgrade request, and with it.
        let mut ben = rig.client();
        ben.send(&[upgrade("/ws", ""), text(&with_id(1, &join("b")))].concat());
        ben.far.leave();
        rig.run();
        assert_eq!(ben.hear(), ["101", r#"{"id":1,"ok":true}"#, "end"]);
        assert!(ben.far.is_dropped());
    }
    // A client that does not read is not waited for.
    let ann = rig.member("a");
    ann.far.narrow(0);
    ann.send(&said);
    ann.far.leave();
    rig.run();
    assert!(!ann.far.is_dropped());
    rig.pass(5_100);
    assert!(ann.far.is_dropped());
    rig.assert_empty();
}

#[test]
fn a_silent_client_is_pinged_and_then_dropped() {
    let mut rig = Rig::new();
    let mut ann = rig.websocket();
    let mut ben = rig.websocket();
    rig.pass(24_900);
    assert_eq!(ann.hear(), [""; 0]);
    rig.pass(200);
    assert_eq!(
        (ann.hear(), ben.hear()),
        (vec!["ping".into()], vec!["ping".into()])
    );
    ben.send(&frame(PONG, b""));
    rig.pass(24_800);
    assert!(!ann.far.is_dropped());
    rig.pass(400);
    assert_eq!(ann.hear(), ["end"]);
    assert!(ann.far.is_dropped());
    assert_eq!(ben.hear(), ["ping"]);
}

#[test]
fn a_client_whose_input_waits_to_be_read_is_not_silent() {
    let mut rig = Rig::new();
    let mut ann = rig.websocket();
    // More than the turns of a busy loop take, and the pongs behind it.
    ann.send(&text("x").repeat(20_000));
    ann.send(&frame(PONG, b""));
    for _ in 0..8 {
        rig.hub.clock.now += 25_100;
        rig.tick();
        assert!(!ann.far.is_dropped() && rig.has_work());
    }
    rig.run();
    let pings = ann.hear().iter().filter(|line| *line == "ping").count();
    assert!(pings > 1, "{pings} pings");
    // Once it is read, its silence counts.
    rig.pass(25_100);
    assert!(!ann.far.is_dropped());
    rig.pass(25_100);
    assert!(ann.far.is_dropped());
    rig.assert_empty();
}

#[test]
fn what_has_come_while_the_loop_stood_still_is_read_before_anything_is_due() {
    let mut rig = Rig::new();
    let crowd: Vec<Client> = (0..600).map(|_| rig.websocket()).collect();
    let silent = rig.websocket();
    rig.pass(25_100);
    for client in &crowd {
        client.send(&frame(PONG, b""));
    }
    rig.hub.clock.now += 25_100;
    rig.hub.stood_still();
    // The poll does not report all of them at once.
    rig.tick_some(|| false);
    rig.run();
    assert!(crowd.iter().all(|client| !client.far.is_dropped()));
    rig.pass(25_100);
    assert!(silent.far.is_dropped());
}

#[test]
fn a_request_that_waits_to_be_read_is_not_late() {
    let mut rig = Rig::new();
    let flood = text("x").repeat(20_000);
    let crowd: Vec<Client> = (0..9).map(|_| rig.websocket()).collect();
    let mut ann = rig.client();
    assert_eq!(rig.sends(&mut ann, &get("/health")).len(), 1);
    let mut ben = rig.client();
    // They come together, behind more than a turn of the loop takes, after a pause as of a frozen machine.
    for client in &crowd {
        client.send(&flood);
    }
    ann.send(&get("/health"));
    ben.send(&get("/health"));
    rig.hub.clock.now += 100_000;
    rig.tick();
    assert_eq!((ann.hear(), ben.hear()), (vec![], vec![]));
    rig.run();
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.hear(), [r#"200 {"status":"ok"}"#]);
    }
}

#[test]
fn any_byte_ends_the_silence() {
    let mut rig = Rig::new();
    let mut ann = rig.websocket();
    // One long message, a byte at a time.
    for byte in frame(TEXT, &[b' '; 20]) {
        rig.pass(20_000);
        ann.send(&[byte]);
        rig.run();
    }
    let heard = ann.hear();
    assert_eq!(heard.len(), 1);
    assert!(heard[0].contains("bad_message"), "{heard:?}");
}

#[test]
fn after_a_suspend_clients_have_time_to_answer_the_ping() {
    let mut rig = Rig::new();
    let mut ann = rig.websocket();
    rig.hub.clock.now += 1_000_000;
    rig.run();
    assert_eq!(ann.hear(), ["ping"]);
    rig.pass(1_000);
    ann.send(&frame(PONG, b""));
    rig.pass(24_000);
    assert!(!ann.far.is_dropped());
}

#[test]
fn without_a_ping_interval_silent_clients_stay() {
    let mut rig = Rig::with(Settings {
        limits: Limits {
            ping_interval: 0,
            ..settings().limits
        },
        ..settings()
    });
    let mut ann = rig.member("a");
    rig.pass(1_000_000_000);
    assert_eq!(ann.hear(), [""; 0]);
    assert_eq!(rig.says(&mut ann, &broadcast("a", "1")), ["1"]);
}

#[test]
fn a_client_with_a_pending_verdict_is_not_silent() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    ann.say(&with_id(1, &join("a")));
    rig.pass(200_000);
    assert_eq!(ann.hear(), [""; 0]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#]);
    rig.pass(24_900);
    assert_eq!(ann.hear(), [""; 0]);
    rig.pass(200);
    assert_eq!(ann.hear(), ["ping"]);
}

#[test]
fn an_unanswered_close_has_a_deadline() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let mut ben = rig.websocket();
    for client in [&mut ann, &mut ben] {
        client.say(&join("a"));
        rig.run();
        rig.answer(Verdict::Unavailable);
        assert_eq!(client.hear(), ["close 1013"]);
        // Commands sent meanwhile have no effect.
        client.say(&join("a"));
        rig.run();
        assert_eq!(rig.asked(), [""; 0]);
    }
    ben.send(&close(1013));
    rig.run();
    assert!(ben.far.is_dropped());
    rig.pass(4_900);
    assert!(!ann.far.is_dropped());
    rig.pass(200);
    assert!(ann.far.is_dropped());
    rig.assert_empty();
}

#[test]
fn a_stop_closes_the_websockets_spread_over_time() {
    let mut rig = Rig::new();
    let mut clients: Vec<Client> = (0..10).map(|_| rig.member("a")).collect();
    assert!(!rig.hub.is_drained());
    rig.hub.drain(10_000);
    let mut closed = Vec::new();
    for _ in 0..10 {
        rig.pass(1_000);
        let mut now = 0;
        for client in &mut clients {
            let heard = client.hear();
            if heard.first().is_some_and(|line| line == "close 1012") {
                client.send(&close(1012));
                now += 1;
            }
        }
        closed.push(now);
    }
    assert_eq!(closed.iter().sum::<usize>(), 10);
    assert!(closed.iter().all(|n| *n <= 2), "{closed:?}");
    rig.run();
    assert!(rig.hub.is_drained());
    rig.assert_empty();
}

#[test]
fn a_stop_without_websockets_is_over_at_once() {
    let mut rig = Rig::new();
    rig.hub.drain(10_000);
    assert!(rig.hub.is_drained());
    // An idle HTTP connection does not delay it.
    let mut ann = rig.client();
    rig.run();
    assert!(rig.hub.is_drained());
    ann.send(b"GET ");
    rig.run();
    assert!(!rig.hub.is_drained());
    let rest = b"/health HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(
        rig.sends(&mut ann, rest),
        [r#"503 {"status":"draining"}, close"#, "end"]
    );
}

#[test]
fn waiting_requests_are_answered_before_a_stop_is_over() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    ann.send(&get("/health").repeat(1500));
    rig.tick();
    rig.hub.drain(10_000);
    assert!(!rig.hub.is_drained());
    rig.run();
    let heard = ann.hear();
    assert_eq!(
        heard[heard.len() - 2..],
        [r#"503 {"status":"draining"}, close"#, "end"]
    );
}

#[test]
fn commands_with_an_open_question_are_answered_before_the_stop() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.member("a");
    let mut ben = rig.member("a");
    let mut cat = rig.upgrading("");
    ann.say(&with_id(1, &broadcast("a", "1")));
    rig.run();
    rig.hub.drain(1_000);
    rig.pass(500);
    assert_eq!(cat.hear(), ["503 draining, close", "end"]);
    assert_eq!(ben.hear(), ["close 1012"]);
    assert_eq!(ann.hear(), [""; 0]);
    assert!(!rig.hub.is_drained());
    // The verdict about the upgrade that was refused meanwhile changes nothing.
    assert_eq!(rig.asked(), ["connect", "broadcast a"]);
    rig.answer(Verdict::Allow);
    rig.answer(Verdict::Allow);
    assert_eq!(cat.hear(), [""; 0]);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#, "1", "close 1012"]);
    for client in [&ann, &ben, &cat] {
        client.far.leave();
    }
    rig.run();
    assert!(rig.hub.is_drained());
    rig.assert_empty();
}

#[test]
fn messages_that_have_come_are_handled_before_the_stop() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.member("a");
    for id in 1..=3 {
        ann.say(&with_id(id, &broadcast("a", "1")));
    }
    rig.run();
    rig.hub.drain(10_000);
    rig.pass(100);
    for id in 1..=3 {
        assert_eq!(rig.asked(), ["broadcast a"]);
        assert_eq!(ann.hear(), [""; 0]);
        rig.answer(Verdict::Allow);
        let heard = ann.hear();
        let answer = format!(r#"{{"id":{id},"ok":true}}"#);
        assert_eq!(heard[..2], [answer.as_str(), "1"]);
        assert_eq!(
            heard.get(2).map(String::as_str),
            (id == 3).then_some("close 1012")
        );
    }
}

#[test]
fn a_flood_that_has_come_is_handled_before_the_stop() {
    let mut rig = Rig::new();
    let mut ann = rig.member("a");
    for id in 0..1_500 {
        ann.say(&with_id(id, &join("b")));
    }
    rig.tick();
    rig.hub.drain(10_000);
    rig.pass(100);
    let heard = ann.hear();
    assert_eq!(heard.len(), 1_501);
    assert_eq!(heard[1_499..], [r#"{"id":1499,"ok":true}"#, "close 1012"]);
}

#[test]
fn a_stop_refuses_many_open_upgrades_in_parts() {
    let mut rig = Rig::with_authorizer();
    let crowd: Vec<Client> = (0..5_000).map(|_| rig.client()).collect();
    let mut ann = rig.upgrading("");
    let mut ben = rig.upgrading("");
    rig.hub.drain(10_000);
    assert!(rig.has_work());
    // Before their share is due.
    let allowed = rig.questions.pop_front().unwrap();
    rig.send_verdict(&allowed, Verdict::Allow, None);
    rig.run();
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.hear(), ["503 draining, close", "end"]);
        client.far.leave();
    }
    rig.run();
    assert!(rig.hub.is_drained());
    drop(crowd);
}

#[test]
fn during_a_stop_upgrades_are_refused() {
    let mut rig = Rig::new();
    let mut first = rig.websocket();
    let mut ann = rig.websocket();
    rig.hub.drain(10_000);
    let mut ben = rig.client();
    assert_eq!(
        rig.sends(&mut ben, &upgrade("/ws", "")),
        ["503 draining, close", "end"]
    );
    assert!(ben.header("Retry-After").is_some());
    assert_eq!(first.hear(), ["close 1012"]);
    // Open WebSockets are served until they are closed.
    assert_eq!(
        rig.says(&mut ann, &with_id(1, &join("a"))),
        [r#"{"id":1,"ok":true}"#]
    );
    rig.pass(5_000);
    assert_eq!(ann.hear(), ["close 1012"]);
}

#[test]
fn over_max_total_queue_the_largest_holders_are_disconnected() {
    let mut rig = Rig::with(Settings {
        max_total_queue: 20_000,
        ..settings()
    });
    let begun = |len: usize| frame(TEXT, &[b' '; 50_000])[..len].to_vec();
    let mut ann = rig.websocket();
    let mut ben = rig.websocket();
    let mut cat = rig.websocket();
    // Each connection may hold as much as is free.
    assert_eq!(rig.sends(&mut ann, &begun(3_000)), [""; 0]);
    assert_eq!(rig.sends(&mut ben, &begun(3_000)), [""; 0]);
    assert_eq!(rig.sends(&mut cat, &begun(3_000)), ["close 1013", "end"]);
    let mut dan = rig.client();
    let post = &post(&" ".repeat(5_000))[..3_500];
    assert_eq!(rig.sends(&mut dan, post), ["503 overloaded, close", "end"]);
    assert!(rig.log.take().contains("queue memory is used up"));
    // Connections that hold little stay.
    let mut eve = rig.websocket();
    assert_eq!(rig.sends(&mut eve, &begun(500)), [""; 0]);
    assert_eq!(rig.sends(&mut ann, b"  "), [""; 0]);
    assert_eq!(rig.hub.inventory().waiting, 6_478);
    ann.far.reset();
    ben.far.reset();
    rig.pass(5_000);
    eve.send(b" ");
    rig.run();
    assert!(rig.log.take().contains("there is queue memory again"));
    eve.far.reset();
    rig.run();
    rig.assert_empty();
}

#[test]
fn over_max_total_queue_the_slowest_readers_are_disconnected() {
    let mut rig = Rig::with(Settings {
        max_total_queue: 1 << 21,
        ..settings()
    });
    let mut fast = rig.member("a");
    let slow = rig.member("a");
    let mut other = rig.member("b");
    let content = format!("\"{}\"", "x".repeat(300_000));
    slow.far.narrow(0);
    fast.far.widen(1 << 30);
    for _ in 0..4 {
        let mut ann = rig.websocket();
        assert_eq!(rig.says(&mut ann, &broadcast("a", &content)), [""; 0]);
        assert_eq!(fast.hear(), [content.as_str()]);
        assert!(rig.hub.inventory().waiting <= 1 << 21);
    }
    assert_eq!(rig.says(&mut other, &broadcast("b", "1")), ["1"]);
    rig.pass(10_000);
    assert_eq!(rig.log.take().matches("too_slow").count(), 1);
    assert_eq!(rig.hub.inventory().waiting, 0);
}
