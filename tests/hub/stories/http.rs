//! HTTP requests and responses (`docs/api.md`).

use std::net::SocketAddr;

use wsify::connection::{Limits, Peer};
use wsify::hub::Settings;

use crate::client::{broadcast, get, post, text, upgrade};
use crate::rig::{Rig, settings};

const HEALTHY: &str = r#"200 {"status":"ok"}"#;

fn posting(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /broadcast HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}").into_bytes()
}

const JSON: &str = "Content-Type: application/json\r\n";

fn small_messages() -> Rig {
    Rig::with(Settings {
        limits: Limits {
            max_message: 100,
            ..settings().limits
        },
        ..settings()
    })
}

#[test]
fn pipelined_posts_are_published_and_answered_in_order() {
    let mut rig = Rig::new();
    let mut ann = rig.member("a");
    let mut backend = rig.client();
    let posts: Vec<Vec<u8>> = (0..200)
        .map(|n| match n % 10 {
            9 => post("nonsense"),
            _ => post(&format!(r#"{{"channel":"a","content":{n}}}"#)),
        })
        .collect();
    let heard = rig.sends(&mut backend, &posts.concat());
    assert_eq!(heard.len(), 200);
    for (n, answer) in heard.iter().enumerate() {
        let expected = if n % 10 == 9 {
            "400 bad_message"
        } else {
            "201"
        };
        assert_eq!(answer, expected, "{n}");
    }
    let published: Vec<String> = (0..200)
        .filter(|n| n % 10 != 9)
        .map(|n| n.to_string())
        .collect();
    assert_eq!(ann.hear(), published);
    assert!(!backend.far.is_ended());
}

#[test]
fn a_post_may_come_in_any_pieces_and_in_chunks() {
    let mut rig = Rig::new();
    let mut ann = rig.member("a");
    let mut backend = rig.client();
    let chunked = posting(
        &format!("{JSON}Transfer-Encoding: chunked\r\n"),
        "b\r\n{\"channel\":\r\n5;x=y\r\n\"a\"}\n\r\n0\r\nTrailer: t\r\n\r\n",
    );
    let args = post(r#"{"channel":" a ","args":{"content":[1]}}"#);
    let requests = [chunked, args, get("/health")].concat();
    for size in [1, 7, 40, 1000] {
        for piece in requests.chunks(size) {
            backend.send(piece);
            rig.run();
        }
        assert_eq!(backend.hear(), ["201", "201", HEALTHY], "pieces of {size}");
        assert_eq!(ann.hear(), ["null", "[1]"], "pieces of {size}");
    }
}

#[test]
fn expect_100_continue_is_answered() {
    let mut rig = Rig::new();
    let mut backend = rig.client();
    let head = posting(
        &format!("{JSON}Content-Length: 15\r\nExpect: 100-continue\r\n"),
        "",
    );
    assert_eq!(rig.sends(&mut backend, &head), ["100"]);
    assert_eq!(rig.sends(&mut backend, b"{\"channel\":\"a\"}"), ["201"]);
    // A client that does not wait gets no 100.
    let whole = [head, b"{\"channel\":\"a\"}".to_vec()].concat();
    assert_eq!(rig.sends(&mut backend, &whole), ["201"]);
    assert_eq!(rig.sends(&mut backend, &get("/health")), [HEALTHY]);
}

#[test]
fn a_request_refused_before_its_body_need_not_send_it() {
    let mut rig = small_messages();
    let stranger = Peer::new(SocketAddr::from(([203, 0, 113, 7], 1)));
    let mut ann = rig.client_from(stranger);
    let expecting = posting(
        &format!("{JSON}Content-Length: 15\r\nExpect: 100-continue\r\n"),
        "",
    );
    // The body may or may not come, so the connection ends.
    assert_eq!(
        rig.sends(&mut ann, &expecting),
        ["403 forbidden, close", "end"]
    );

    // A body in transit is read and discarded.
    let mut ben = rig.client_from(stranger);
    ben.send(&posting(
        &format!("{JSON}Content-Length: 15\r\n"),
        "{\"chan",
    ));
    rig.run();
    assert_eq!(ben.hear(), ["403 forbidden"]);
    ben.send(b"nel\":\"a\"}");
    assert_eq!(rig.sends(&mut ben, &get("/health")), [HEALTHY]);

    // A body over the size limit is not waited for.
    let mut cat = rig.client_from(stranger);
    let long = posting(&format!("{JSON}Content-Length: 101\r\n"), "x");
    assert_eq!(rig.sends(&mut cat, &long), ["403 forbidden, close", "end"]);

    // A chunked body that grows over the limit is not waited for either.
    let mut dan = rig.client_from(stranger);
    let chunks = posting(&format!("{JSON}Transfer-Encoding: chunked\r\n"), "");
    assert_eq!(rig.sends(&mut dan, &chunks), ["403 forbidden"]);
    dan.send(b"fff\r\n");
    rig.run();
    rig.pass(2_100);
    assert_eq!(dan.hear(), ["end"]);
}

#[test]
fn a_body_over_the_limit_gets_413_and_the_answer_is_not_lost_to_a_reset() {
    let mut rig = small_messages();
    for request in [
        posting(&format!("{JSON}Content-Length: 101\r\n"), ""),
        posting(
            &format!("{JSON}Content-Length: 99999999999999999999\r\nExpect: 100-continue\r\n"),
            "",
        ),
        posting(&format!("{JSON}Transfer-Encoding: chunked\r\n"), "64\r\n"),
    ] {
        let mut ann = rig.client();
        ann.send(&request);
        if request.ends_with(b"64\r\n") {
            rig.run();
            assert_eq!(ann.hear(), [""; 0]);
            ann.send(&[&[b' '; 100][..], b"\r\n1\r\n"].concat());
        }
        rig.run();
        assert_eq!(ann.hear(), ["413 body_too_large, close", "end"]);
        // Input is read and discarded.
        for _ in 0..10 {
            ann.send(&[b'x'; 100_000]);
            rig.run();
            assert!(!ann.far.is_dropped());
        }
        ann.far.leave();
        rig.run();
        assert!(ann.far.is_dropped());
    }
    rig.assert_empty();
}

#[test]
fn the_first_fault_of_a_post_decides_its_error() {
    let mut rig = small_messages();
    let mut ann = rig.client();
    let text_plain = "Content-Type: text/plain\r\nContent-Length: 2\r\n";
    let table = [
        (posting(text_plain, "{}"), "415 unsupported_media_type"),
        (
            posting("Content-Length: 2\r\n", "{}"),
            "415 unsupported_media_type",
        ),
        (post("{}"), "400 bad_channel"),
        (post(r#"{"channel":""}"#), "400 bad_channel"),
        (post(r#"{"channel":"a","channel":"a"}"#), "400 bad_message"),
        (post("[]"), "400 bad_message"),
        (posting(JSON, ""), "400 bad_message"),
        (
            posting(
                &format!("{JSON}Content-Length: 15\r\n"),
                r#"{"channel":"a"}"#,
            ),
            "201",
        ),
        (
            posting(
                "content-type: Application/JSON ; charset=utf-8\r\nContent-Length: 15\r\n",
                r#"{"channel":"a"}"#,
            ),
            "201",
        ),
        // Requests of browsers and through proxies are never local.
        (
            posting(
                &format!("{JSON}Origin: http://h\r\nContent-Length: 2\r\n"),
                "{}",
            ),
            "403 forbidden",
        ),
        (
            posting(
                &format!("{JSON}Forwarded: for=x\r\nContent-Length: 2\r\n"),
                "{}",
            ),
            "403 forbidden",
        ),
    ];
    for (request, expected) in table {
        assert_eq!(rig.sends(&mut ann, &request), [expected]);
    }
}

#[test]
fn an_idle_connection_is_kept_for_75_seconds() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    assert_eq!(rig.sends(&mut ann, &get("/health")), [HEALTHY]);
    rig.pass(74_900);
    assert!(!ann.far.is_dropped());
    assert_eq!(rig.sends(&mut ann, &get("/health")), [HEALTHY]);
    rig.pass(74_900);
    assert!(!ann.far.is_dropped());
    rig.pass(200);
    assert!(ann.far.is_dropped());
    assert_eq!(ann.hear(), ["end"]);
    rig.assert_empty();
}

#[test]
fn a_next_request_that_stalls_gets_408() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    rig.sends(&mut ann, &get("/health"));
    rig.pass(60_000);
    ann.send(b"G");
    rig.pass(9_900);
    assert_eq!(ann.hear(), [""; 0]);
    rig.pass(200);
    assert_eq!(ann.hear(), ["408 request_timeout, close", "end"]);

    let mut ben = rig.client();
    ben.send(&posting(&format!("{JSON}Content-Length: 15\r\n"), "{"));
    rig.pass(10_100);
    assert_eq!(ben.hear(), ["408 request_timeout, close", "end"]);
}

#[test]
fn the_client_decides_whether_the_connection_is_kept() {
    let mut rig = Rig::new();
    let table = [
        (
            "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            true,
        ),
        ("GET /health HTTP/1.0\r\n\r\n", true),
        (
            "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            false,
        ),
    ];
    for (request, closed) in table {
        let mut ann = rig.client();
        // Requests pipelined behind the last one are not answered.
        let heard = rig.sends(&mut ann, &[request.as_bytes(), &get("/health")].concat());
        if closed {
            assert_eq!(heard, [&format!("{HEALTHY}, close"), "end"])
        } else {
            assert_eq!(heard, [HEALTHY, HEALTHY])
        }
    }
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let table = [
        ("GET /", "404 not_found", None),
        ("GET /healthy", "404 not_found", None),
        (
            "DELETE /health",
            "405 method_not_allowed",
            Some("GET, HEAD, OPTIONS"),
        ),
        (
            "GET /broadcast",
            "405 method_not_allowed",
            Some("POST, OPTIONS"),
        ),
        (
            "POST /ws",
            "405 method_not_allowed",
            Some("GET, HEAD, OPTIONS"),
        ),
        ("GET /ws", "426 upgrade_required", None),
        ("GET /health?x=y", HEALTHY, None),
        ("GET /metrics", "200", None),
        ("OPTIONS /broadcast", "204", None),
    ];
    for (line, expected, allow) in table {
        assert_eq!(rig.sends(&mut ann, &request(line)), [expected], "{line}");
        assert_eq!(ann.header("Allow"), allow, "{line}");
    }
    ann.bodiless = true;
    assert_eq!(rig.sends(&mut ann, &request("HEAD /health")), ["200"]);
    assert_eq!(ann.header("Content-Length"), Some("15"));
}

#[test]
fn a_request_is_answered_though_the_client_ends_its_stream() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    ann.send(&[get("/health"), get("/health")].concat());
    ann.far.leave();
    rig.run();
    assert_eq!(ann.hear(), [HEALTHY, HEALTHY, "end"]);
    assert!(ann.far.is_dropped());
}

#[test]
fn a_client_that_pipelines_without_reading_is_not_read_from() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    ann.far.narrow(1000);
    let requests = get("/health").repeat(20_000);
    ann.send(&requests);
    rig.run();
    assert!(ann.far.wire().unread() > requests.len() / 2);
    let mut answers = ann.hear().len();
    while answers < 20_000 {
        ann.far.widen(100_000);
        rig.run();
        answers += ann.hear().len();
    }
    assert_eq!(answers, 20_000);
    assert_eq!(ann.far.wire().unread(), 0);
}

#[test]
fn an_upgrade_with_frames_behind_it_may_follow_a_post() {
    let mut rig = Rig::new();
    let mut ann = rig.client();
    let all = [
        post(r#"{"channel":"a"}"#),
        upgrade("/ws", ""),
        text(r#"{"id":1,"command":"join","args":{"channel":"a"}}"#),
        text(&broadcast("a", "1")),
    ];
    assert_eq!(
        rig.sends(&mut ann, &all.concat()),
        ["201", "101", r#"{"id":1,"ok":true}"#, "1"]
    );
}
