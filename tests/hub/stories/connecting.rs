//! From the first byte to the open WebSocket.

use wsify::connection::Peer;
use wsify::effect::Verdict;
use wsify::hub::Settings;
use wsify::wire::answer_fields::Asked;
use wsify::wire::forwarded::Proxies;

use crate::client::{self, broadcast, get, join, text, upgrade, with_id};
use crate::rig::{Rig, settings};

const V1: &str = "Sec-WebSocket-Protocol: wsify.v1\r\n";

#[test]
fn without_an_authorizer_every_upgrade_is_allowed() {
    let mut rig = Rig::new();
    let mut ann = rig.upgrading("");
    assert_eq!(ann.hear(), ["101"]);
    let accept = ann.header("Sec-WebSocket-Accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn an_upgrade_is_allowed_if_the_authorizer_allows_it() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.upgrading("");
    assert_eq!(rig.asked(), ["connect"]);
    assert_eq!(ann.hear(), [""; 0]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101"]);
}

#[test]
fn whom_the_authorizer_denies_gets_403_and_may_try_again() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.upgrading("");
    rig.answer(Verdict::Deny);
    assert_eq!(ann.hear(), ["403 not_authorized"]);
    ann.send(&upgrade("/ws?token=better", ""));
    rig.run();
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101"]);
}

#[test]
fn while_the_authorizer_is_down_upgrades_get_503_and_when_to_come_back() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.upgrading("");
    rig.answer(Verdict::Unavailable);
    assert_eq!(ann.hear(), ["503 authorizer_down"]);
    let seconds: u64 = ann.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds));
}

#[test]
fn every_later_question_has_the_connections_id_query_and_state() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.client();
    ann.send(&upgrade(
        "/ws?token=a&token=b+c",
        "x-forwarded-for: 203.0.113.7\r\n",
    ));
    rig.run();
    let body = |rig: &Rig| -> serde_json::Value {
        serde_json::from_slice(&rig.questions[0].body).unwrap()
    };
    let connect = body(&rig);
    assert_eq!(
        connect["args"]["headers"]["X-Forwarded-For"][0],
        "203.0.113.7"
    );
    assert_eq!(connect["args"]["query"]["token"][1], "b c");
    assert_eq!(connect["connection"]["remote_addr"], "127.0.0.1:1");
    assert!(connect["connection"].get("state").is_none());
    assert_eq!(rig.questions[0].asked, Asked::Connect);
    rig.answer_with(Verdict::Allow, Some(r#"{"user":42}"#));
    assert_eq!(ann.hear(), ["101"]);

    ann.say(r#"{"command":"join","args":{"channel":"a","more":1.50}}"#);
    rig.run();
    let join = body(&rig);
    assert_eq!(join["connection"]["state"]["user"], 42);
    assert_eq!(join["connection"]["query"]["token"][0], "a");
    assert_eq!(join["connection"]["id"], connect["connection"]["id"]);
    let sent = std::str::from_utf8(&rig.questions[0].body).unwrap();
    assert!(
        sent.contains(r#""args":{"channel":"a","more":1.50}"#),
        "{sent}"
    );
    assert_eq!(rig.questions[0].asked, Asked::Join);
}

#[test]
fn a_late_verdict_does_not_count_for_the_next_connection_in_the_slot() {
    let mut rig = Rig::with_authorizer();
    let ann = rig.upgrading("");
    let question = rig.questions.pop_front().unwrap();
    // The hub drops the connection as if its socket could not be registered. Its slot is free.
    rig.hub.fail(ann.id);
    rig.run();
    let mut ben = rig.upgrading("");
    assert_eq!(ben.id.slot, ann.id.slot);
    assert_ne!(ben.id, ann.id);

    rig.send_verdict(&question, Verdict::Allow, None);
    rig.run();
    assert_eq!(ben.hear(), [""; 0]);
    rig.answer(Verdict::Deny);
    assert_eq!(ben.hear(), ["403 not_authorized"]);
}

#[test]
fn frames_behind_the_upgrade_request_are_handled_after_it() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.client();
    let behind = [text(&with_id(1, &join("a"))), text(&broadcast("a", "7"))].concat();
    ann.send(&[upgrade("/ws", ""), behind].concat());
    rig.run();
    assert_eq!(rig.asked(), ["connect"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101"]);
    assert_eq!(rig.asked(), ["join a"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), [r#"{"id":1,"ok":true}"#]);
    assert_eq!(rig.asked(), ["broadcast a"]);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["7"]);
}

#[test]
fn a_request_may_come_byte_by_byte_or_two_at_once() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    for byte in upgrade("/ws", V1) {
        ann.send(&[byte]);
        rig.run();
    }
    assert_eq!(ann.hear(), ["101"]);
    assert_eq!(ann.header("Sec-WebSocket-Protocol"), Some("wsify.v1"));

    let mut ben = rig.client();
    let both = [get("/health"), upgrade("/ws", "")].concat();
    assert_eq!(
        rig.sends(&mut ben, &both),
        [r#"200 {"status":"ok"}"#, "101"]
    );
}

#[test]
fn an_address_has_at_most_max_connections_per_ip() {
    let mut rig = Rig::with(Settings {
        max_connections_per_ip: 2,
        authorizer: true,
        ..settings()
    });
    let peer = |address: &str| Peer::new(address.parse().unwrap());
    let knock = |rig: &mut Rig, peer| {
        let client = rig.client_from(peer);
        client.send(&upgrade("/ws", ""));
        rig.run();
        client
    };
    let mut ann = knock(&mut rig, peer("[2001:db8::1]:1"));
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101"]);
    // An upgrade under way counts, and so does another address of the same /64.
    let mut ben = knock(&mut rig, peer("[2001:db8::2:0:0:0]:2"));
    let mut cat = knock(&mut rig, peer("[2001:db8::3]:3"));
    assert_eq!(cat.hear(), ["429 too_many_connections"]);
    let seconds: u64 = cat.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds));
    // HTTP requests do not count, nor do other addresses.
    let health = rig.sends(&mut cat, &get("/health"));
    assert_eq!(health, [r#"200 {"status":"ok"}"#]);
    for other in ["[2001:db8:0:1::1]:1", "203.0.113.7:1", "203.0.113.7:2"] {
        let mut other = knock(&mut rig, peer(other));
        assert_eq!(other.hear(), [""; 0]);
    }
    for _ in 0..4 {
        assert_eq!(knock(&mut rig, Peer::UNIX).hear(), [""; 0]);
    }
    assert_eq!(rig.hub.inventory().addresses, 3);

    // A connection that is refused or leaves no longer counts.
    rig.answer(Verdict::Deny);
    assert_eq!(ben.hear(), ["403 not_authorized"]);
    cat.send(&upgrade("/ws", ""));
    rig.run();
    assert_eq!(cat.hear(), [""; 0]);
    ann.far.reset();
    rig.run();
    let mut dan = knock(&mut rig, peer("[2001:db8::4]:4"));
    while !rig.questions.is_empty() {
        rig.answer(Verdict::Allow);
    }
    assert_eq!(cat.hear(), ["101"]);
    assert_eq!(dan.hear(), ["101"]);
}

#[test]
fn x_forwarded_for_of_a_trusted_proxy_is_the_clients_address() {
    let mut rig = Rig::with(Settings {
        proxies: Proxies::parse("10.0.0.0/8").unwrap(),
        max_connections_per_ip: 1,
        authorizer: true,
        ..settings()
    });
    let asked = |rig: &Rig| {
        let last = rig.questions.back().unwrap();
        let question: serde_json::Value = serde_json::from_slice(&last.body).unwrap();
        question["connection"]["remote_addr"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let forwarded = |hops: &str| upgrade("/ws", &format!("X-Forwarded-For: {hops}\r\n"));
    let proxy = Peer::new("10.0.0.1:1000".parse().unwrap());

    let mut ann = rig.client_from(proxy);
    // All lines are one list. The part that the client sent itself does not count.
    ann.send(&upgrade(
        "/ws",
        "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 203.0.113.7:5,10.9.9.9\r\n",
    ));
    rig.run();
    assert_eq!(asked(&rig), "203.0.113.7:5");
    // Another client behind the same proxy is another address. The same address again is over the limit.
    let mut ben = rig.client_from(proxy);
    assert_eq!(
        rig.sends(&mut ben, &forwarded("203.0.113.7")),
        ["429 too_many_connections"]
    );
    assert_eq!(rig.sends(&mut ben, &forwarded("203.0.113.8")), [""; 0]);
    assert_eq!(asked(&rig), "203.0.113.8");
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101"]);

    // After a refusal the proxy's connection serves the next client.
    rig.answer(Verdict::Deny);
    assert_eq!(ben.hear(), ["403 not_authorized"]);
    assert_eq!(rig.sends(&mut ben, &forwarded("2001:db8::7")), [""; 0]);
    assert_eq!(asked(&rig), "2001:db8::7");
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), ["101"]);
    assert_eq!(rig.hub.inventory().addresses, 2);
    // Later questions have the same address.
    ben.say(&join("a"));
    rig.run();
    assert_eq!(asked(&rig), "2001:db8::7");
    rig.answer(Verdict::Allow);

    // From any other peer the header is ignored, and the proxy may send requests of its own.
    for (peer, hops, shown) in [
        ("192.0.2.1:9", "203.0.113.9", "192.0.2.1:9"),
        ("10.0.0.1:1001", "unknown", "10.0.0.1:1001"),
    ] {
        let cat = rig.client_from(Peer::new(peer.parse().unwrap()));
        cat.send(&forwarded(hops));
        rig.run();
        assert_eq!(asked(&rig), shown);
    }
    ann.far.reset();
    ben.far.reset();
    rig.run();
    assert_eq!(rig.hub.inventory().addresses, 2);
}

#[test]
fn the_proxy_header_of_a_trusted_proxy_is_the_clients_address() {
    let mut rig = Rig::with(Settings {
        proxies: Proxies::parse("10.0.0.0/8,127.0.0.1").unwrap(),
        proxy_protocol: true,
        authorizer: true,
        ..settings()
    });
    let peer = |address: &str| Peer::new(address.parse().unwrap());
    let table: [(Peer, &[u8], &str, &str); 8] = [
        (
            peer("10.0.0.1:1"),
            b"PROXY TCP4 203.0.113.7 10.0.0.2 5 443\r\n",
            "",
            "203.0.113.7:5",
        ),
        (
            Peer::UNIX,
            b"PROXY TCP6 2001:db8::7 ::1 5 443\r\n",
            "",
            "[2001:db8::7]:5",
        ),
        (Peer::UNIX, b"PROXY UNKNOWN\r\n", "", "unix"),
        (
            peer("127.0.0.1:1"),
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            "",
            "127.0.0.1:1",
        ),
        // Another proxy behind it, trusted or not.
        (
            peer("10.0.0.1:1"),
            b"PROXY TCP4 10.0.0.3 10.0.0.2 5 443\r\n",
            "203.0.113.9",
            "203.0.113.9",
        ),
        (
            peer("10.0.0.1:1"),
            b"PROXY TCP4 203.0.113.7 10.0.0.2 5 443\r\n",
            "203.0.113.9",
            "203.0.113.7:5",
        ),
        // Other peers neither have to send one nor may.
        (peer("192.0.2.1:1"), b"", "", "192.0.2.1:1"),
        (peer("192.0.2.1:1"), b"", "203.0.113.9", "192.0.2.1:1"),
    ];
    for (peer, header, hops, shown) in table {
        let more = match hops {
            "" => String::new(),
            hops => format!("X-Forwarded-For: {hops}\r\n"),
        };
        let bytes = [header, &upgrade("/ws", &more)].concat();
        for piece in [1, bytes.len()] {
            let mut ann = rig.client_from(peer);
            for piece in bytes.chunks(piece) {
                ann.send(piece);
                rig.run();
            }
            let question: serde_json::Value =
                serde_json::from_slice(&rig.questions[0].body).unwrap();
            assert_eq!(question["connection"]["remote_addr"], shown);
            rig.answer(Verdict::Allow);
            assert_eq!(ann.hear(), ["101"]);
        }
    }
    // A header that is missing, malformed, from a peer that is not trusted, or late.
    let line = b"PROXY TCP4 203.0.113.7 10.0.0.2 5 443\r\n";
    let mut ann = rig.client_from(peer("10.0.0.1:1"));
    assert_eq!(
        rig.sends(&mut ann, b"G"),
        ["400 bad_proxy_header, close", "end"]
    );
    let mut ben = rig.client_from(Peer::UNIX);
    assert_eq!(
        rig.sends(&mut ben, b"PROXY TCP5 \r\n"),
        ["400 bad_proxy_header, close", "end"]
    );
    let mut cat = rig.client_from(peer("192.0.2.1:1"));
    let twice = [&line[..], &upgrade("/ws", "")].concat();
    assert_eq!(
        rig.sends(&mut cat, &twice),
        ["400 bad_request, close", "end"]
    );
    let mut dan = rig.client_from(peer("10.0.0.1:1"));
    rig.pass(9_000);
    assert_eq!(rig.sends(&mut dan, &line[..20]), [""; 0]);
    rig.pass(1_100);
    assert_eq!(dan.hear(), ["408 request_timeout, close", "end"]);
}

#[test]
fn a_connection_with_a_proxy_header_is_never_local() {
    let mut rig = Rig::with(Settings {
        proxies: Proxies::parse("127.0.0.1").unwrap(),
        proxy_protocol: true,
        ..settings()
    });
    let header = b"PROXY TCP4 127.0.0.1 127.0.0.1 5 443\r\n";
    let mut ann = rig.client();
    assert_eq!(
        rig.sends(&mut ann, &[&header[..], &get("/metrics")].concat()),
        ["403 forbidden"]
    );
    let mut ben = rig.client_from(Peer::UNIX);
    assert_eq!(
        rig.sends(
            &mut ben,
            &[b"PROXY UNKNOWN\r\n", &get("/metrics")[..]].concat()
        ),
        ["403 forbidden"]
    );
    let health = rig.sends(&mut ben, &get("/health"));
    assert_eq!(health, [r#"200 {"status":"ok"}"#]);
}

#[test]
fn at_max_connections_upgrades_are_refused_and_requests_answered() {
    let mut rig = Rig::with(Settings {
        max_connections: 2,
        authorizer: true,
        ..settings()
    });
    let ann = rig.websocket();
    // An upgrade under way counts.
    let mut ben = rig.upgrading("");
    let mut cat = rig.upgrading("");
    assert_eq!(cat.hear(), ["503 full"]);
    assert!(cat.header("Retry-After").is_some());
    assert_eq!(
        rig.sends(&mut cat, &get("/health")),
        [r#"200 {"status":"ok"}"#]
    );

    rig.answer(Verdict::Deny);
    assert_eq!(ben.hear(), ["403 not_authorized"]);
    cat.send(&upgrade("/ws", ""));
    rig.run();
    rig.answer(Verdict::Allow);
    assert_eq!(cat.hear(), ["101"]);

    // A connection that leaves makes room.
    ann.far.leave();
    rig.run();
    ben.send(&upgrade("/ws", ""));
    rig.run();
    rig.answer(Verdict::Allow);
    assert_eq!(ben.hear(), ["101"]);
}

#[test]
fn a_silent_handshake_gets_408() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    let mut ben = rig.client();
    ben.send(b"GET /ws HTTP/1.1\r\nHost: h\r\n");
    rig.pass(9_900);
    assert_eq!((ann.hear(), ben.hear()), (vec![], vec![]));
    rig.pass(200);
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.hear(), ["408 request_timeout, close", "end"]);
        assert!(!client.far.is_dropped(), "it lingers");
    }
    ann.far.leave();
    rig.run();
    assert!(ann.far.is_dropped());
    rig.pass(2_100);
    assert!(ben.far.is_dropped());
    rig.assert_empty();
}

#[test]
fn a_slow_handshake_gets_408_however_often_a_byte_comes() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    for byte in &upgrade("/ws", "")[..100] {
        ann.send(&[*byte]);
        rig.pass(100);
    }
    rig.pass(100);
    assert_eq!(ann.hear(), ["408 request_timeout, close", "end"]);
}

#[test]
fn a_tls_hello_and_other_noise_get_400() {
    let mut rig = Rig::new();
    for noise in [
        &b"\x16\x03\x01"[..],
        b"GET /ws\x01",
        b"POST / HTTP/1.1\r\n\r\n",
    ] {
        let mut ann = rig.client();
        assert_eq!(
            rig.sends(&mut ann, noise),
            ["400 bad_request, close", "end"]
        );
    }
}

#[test]
fn a_client_cannot_send_connect_as_a_command() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.websocket();
    let forged = r#"{"id":"x","command":"connect","args":{"channel":"a"}}"#;
    let heard = rig.sends(&mut ann, &text(forged));
    assert!(
        heard[0].starts_with(r#"{"id":"x","error":{"code":"unknown_command""#),
        "{heard:?}"
    );
    assert_eq!(heard.len(), 1);
    assert_eq!(rig.asked(), [""; 0], "the authorizer is not asked");
    assert_eq!(
        rig.says(&mut ann, &client::with_id(1, &join("a"))),
        [r#"{"id":1,"ok":true}"#]
    );
}

#[test]
fn an_upgrade_with_an_empty_chunked_body_is_asked_about_once_the_body_has_come() {
    let mut rig = Rig::with_authorizer();
    let mut ann = rig.client();
    let chunked = upgrade("/ws", "Transfer-Encoding: chunked\r\n");
    let behind = text(&with_id(1, &join("a")));
    ann.send(&chunked);
    rig.run();
    assert_eq!(rig.asked(), [""; 0]);
    ann.send(b"0\r");
    rig.run();
    assert_eq!(rig.asked(), [""; 0]);
    ann.send(&[&b"\n\r\n"[..], &behind].concat());
    rig.run();
    assert_eq!(rig.asked(), ["connect"]);
    rig.answer(Verdict::Allow);
    rig.answer(Verdict::Allow);
    assert_eq!(ann.hear(), ["101", r#"{"id":1,"ok":true}"#]);
    // One that is not empty is refused as soon as that is known.
    let mut ben = rig.client();
    assert_eq!(
        rig.sends(&mut ben, &[&chunked[..], b"5\r\n"].concat()),
        ["400 bad_request, close", "end"]
    );
    // A body that does not come is an incomplete request.
    let mut dan = rig.client();
    dan.send(&chunked);
    rig.run();
    rig.pass(10_100);
    assert_eq!(dan.hear(), ["408 request_timeout, close", "end"]);
}
