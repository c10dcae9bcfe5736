//! Tables of request heads.

use super::*;

type Outcome = Result<Option<(String, usize)>, Status>;

/// What the tables below compare of a head.
fn summary(head: &Head) -> String {
    let headers: Vec<String> = head
        .headers()
        .map(|(name, value)| format!("{name}={}", value.escape_ascii()))
        .collect();
    format!(
        "{:?} {} ?{} {:?} {:?} keep={} continue={} [{}]",
        head.method,
        head.path().escape_ascii(),
        head.query(),
        head.version,
        head.framing,
        head.keep_alive,
        head.expects_continue,
        headers.join("|")
    )
}

fn outcome(bytes: &[u8]) -> Outcome {
    match parse_head(bytes) {
        Ok(found) => Ok(found.map(|(head, used)| (summary(&head), used))),
        Err(refusal) => Err(refusal.status),
    }
}

/// As in a session: input is parsed only when that is worth it.
fn in_pieces(bytes: &[u8], size: usize) -> Outcome {
    let mut seen = 0;
    for piece in bytes.chunks(size) {
        let arrived = &bytes[..seen + piece.len()];
        if worth_parsing(arrived, seen) {
            let found = outcome(arrived);
            if found != Ok(None) {
                return found;
            }
        }
        seen = arrived.len();
    }
    Ok(None)
}

fn three_ways(bytes: &[u8]) -> Outcome {
    let whole = outcome(bytes);
    assert_eq!(in_pieces(bytes, 1), whole, "byte by byte: {}", shown(bytes));
    if whole != Ok(None) {
        let trailing = [bytes, b"\x16 anything\r\n\r\n\0"].concat();
        assert_eq!(
            outcome(&trailing),
            whole,
            "with trailing bytes: {}",
            shown(bytes)
        );
    }
    whole
}

fn parsed(text: &str) -> Head {
    parse_head(text.as_bytes()).unwrap().unwrap().0
}

#[test]
fn heads_are_read() {
    let table = [
        (
            "GET /ws HTTP/1.1\r\nHost: h\r\n\r\n",
            "Get /ws ? Http11 None keep=true continue=false [Host=h]",
        ),
        (
            "POST /broadcast?key=a%20b&x=1?2 HTTP/1.1\r\nhost:h:3000\r\nContent-Length: 12\r\n\r\n",
            "Post /broadcast ?key=a%20b&x=1?2 Http11 Length(12) keep=true continue=false [host=h:3000|Content-Length=12]",
        ),
        (
            "HEAD /health HTTP/1.0\r\n\r\n",
            "Head /health ? Http10 None keep=false continue=false []",
        ),
        (
            "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            "Get / ? Http10 None keep=true continue=false [Connection=Keep-Alive]",
        ),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
            "Get / ? Http10 None keep=false continue=false [Connection=keep-alive, close]",
        ),
        (
            "GET / HTTP/1.1\r\nHost:\r\nConnection: foo\r\nConnection: bar, CLOSE\r\n\r\n",
            "Get / ? Http11 None keep=false continue=false [Host=|Connection=foo|Connection=bar, CLOSE]",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: [::1]:3000\r\n\r\n",
            "Options * ? Http11 None keep=true continue=false [Host=[::1]:3000]",
        ),
        (
            "GET http://example.com:80/ws?x HTTP/1.1\r\nHost: a\r\n\r\n",
            "Get /ws ?x Http11 None keep=true continue=false [Host=a]",
        ),
        (
            "GET WS://example.com?x HTTP/1.1\r\nHost: a\r\n\r\n",
            "Get / ?x Http11 None keep=true continue=false [Host=a]",
        ),
        (
            "OPTIONS http://[::1] HTTP/1.1\r\nHost: a\r\n\r\n",
            "Options / ? Http11 None keep=true continue=false [Host=a]",
        ),
        (
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
            "Other example.com:443 ? Http11 None keep=true continue=false [Host=example.com:443]",
        ),
        // RFC 9112 2.2: empty lines before.
        (
            "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "Get / ? Http11 None keep=true continue=false [Host=h]",
        ),
        (
            "get / HTTP/1.1\r\nHost: h\r\n\r\n",
            "Other / ? Http11 None keep=true continue=false [Host=h]",
        ),
        // White space around a value, none in it, and bytes that are not UTF-8 (RFC 9110 5.5).
        (
            "PUT /?{\"a\":[1|2]}ü HTTP/1.1\r\nHost: h\r\nA:\t b  c \t\r\nB:\r\nC: \u{fc}\r\n\r\n",
            "Other / ?{\"a\":[1|2]}ü Http11 None keep=true continue=false [Host=h|A=b  c|B=|C=\\xc3\\xbc]",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: , Chunked\r\nExpect: 100-Continue\r\n\r\n",
            "Post / ? Http11 Chunked keep=true continue=true [Host=h|Transfer-Encoding=, Chunked|Expect=100-Continue]",
        ),
        // Nothing to wait for; nothing that HTTP/1.0 knows.
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
            "Post / ? Http11 Length(0) keep=true continue=false [Host=h|Content-Length=0|Expect=100-continue]",
        ),
        (
            "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue, x\r\n\r\n",
            "Post / ? Http10 Length(1) keep=false continue=false [Content-Length=1|Expect=100-continue, x]",
        ),
        // More than a u64 holds, and zeros in front.
        (
            "POST / HTTP/1.0\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "Post / ? Http10 Length(18446744073709551615) keep=false continue=false [Content-Length=18446744073709551616]",
        ),
        (
            "POST / HTTP/1.0\r\nContent-Length: 00000000000000000000007\r\n\r\n",
            "Post / ? Http10 Length(7) keep=false continue=false [Content-Length=00000000000000000000007]",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a-b_c.d~%41!$&'()*+,;=:\r\n\r\n",
            "Get / ? Http11 None keep=true continue=false [Host=a-b_c.d~%41!$&\\'()*+,;=:]",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(
            three_ways(text.as_bytes()),
            Ok(Some((expected.to_owned(), text.len()))),
            "{text}"
        );
    }
}

#[test]
fn an_incomplete_head_is_awaited() {
    for text in [
        "",
        "\r",
        "\r\n",
        "\r\n\r\n",
        "G",
        "GET /",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r",
    ] {
        assert_eq!(three_ways(text.as_bytes()), Ok(None), "{text:?}");
    }
}

#[test]
fn malformed_heads_are_refused() {
    let lines: &[&[u8]] = &[
        // Not HTTP, known by the first byte or the first line.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\0",
        b" GET / HTTP/1.1\r\n",
        b"\rGET",
        // A LF alone, wherever it stands.
        b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"EHLO example.com\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET\r\n",
        b"GET /\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET /  HTTP/1.1\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"GET / http/1.1\r\n",
        b"GET / HTTP/1.10\r\n",
        b"GET / HTTP/1x1\r\n",
        b"GET / FTP/1.1\r\n",
        b"GET /\x7f HTTP/1.1\r\n",
        b"GET /\xff HTTP/1.1\r\n",
        b"G(T / HTTP/1.1\r\n",
        // Targets.
        b"GET ws HTTP/1.1\r\n",
        b"GET * HTTP/1.1\r\n",
        b"GET /a#b HTTP/1.1\r\n",
        b"GET ftp://h/ HTTP/1.1\r\n",
        b"GET http:/h/ HTTP/1.1\r\n",
        b"GET http:///ws HTTP/1.1\r\n",
        b"GET http://user@h/ws HTTP/1.1\r\n",
        b"GET http://h:x/ws HTTP/1.1\r\n",
        b"GET example.com:443 HTTP/1.1\r\n",
        b"CONNECT example.com HTTP/1.1\r\n",
        b"CONNECT :443 HTTP/1.1\r\n",
        // Header lines, known before the head is complete.
        b"GET / HTTP/1.1\r\nHost : h\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n",
        b"GET / HTTP/1.1\r\n: h\r\n",
        b"GET / HTTP/1.1\r\n Host: h\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\tfolded\r\n",
        b"GET / HTTP/1.1\r\nA: b\rc\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\rc\r\n",
        b"GET / HTTP/1.1\r\nA: b\0\r\n",
        b"GET / HTTP/1.1\r\nA\0: b\r\n",
        b"GET / HTTP/1.1\r\nA: \x01\r\n",
        b"GET / HTTP/1.1\r\nA: \x7f\r\n",
        b"GET / HTTP/1.1\r\nA\xfc: b\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\rX\r\n",
        // Host (RFC 9112 3.2).
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://h/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: []\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xc3\xbc\r\n\r\n",
        // Lengths (RFC 9112 6).
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1.0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ];
    for bytes in lines {
        assert_eq!(
            three_ways(bytes),
            Err(Status::BadRequest),
            "{}",
            shown(bytes)
        );
    }
}

#[test]
fn other_refusals_of_a_head() {
    let table: &[(&str, Status)] = &[
        ("GET / HTTP/2.0\r\n", Status::VersionNotSupported),
        ("GET / HTTP/0.9\r\n", Status::VersionNotSupported),
        ("GET / HTTP/1.2\r\n", Status::VersionNotSupported),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Status::VersionNotSupported,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Status::NotImplemented,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            Status::NotImplemented,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue, tea\r\n\r\n",
            Status::ExpectationFailed,
        ),
    ];
    for (text, status) in table {
        assert_eq!(three_ways(text.as_bytes()), Err(*status), "{text}");
    }
}

#[test]
fn a_tls_hello_is_refused_with_a_hint() {
    let refusal = parse_head(b"\x16").unwrap_err();
    assert!(refusal.message.contains("TLS"), "{}", refusal.message);
}

#[test]
fn a_head_has_its_limits() {
    // Padded to a length with a header, or with empty lines before it.
    let start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
    let long = |len: usize| format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4));
    let late = |len: usize| {
        let host = if len.is_multiple_of(2) { "hh" } else { "h" };
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        format!("{}{head}", "\r\n".repeat((len - head.len()) / 2))
    };
    for text in [long(MAX_HEAD), late(MAX_HEAD)] {
        assert_eq!(text.len(), MAX_HEAD);
        assert!(matches!(outcome(text.as_bytes()), Ok(Some((_, MAX_HEAD)))));
    }
    for text in [
        long(MAX_HEAD + 1),
        late(MAX_HEAD + 1),
        "\r\n".repeat(MAX_HEAD / 2),
        "A".repeat(MAX_HEAD),
        format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_HEAD)),
    ] {
        assert_eq!(outcome(text.as_bytes()), Err(Status::HeadTooLarge));
        assert_eq!(in_pieces(text.as_bytes(), 97), Err(Status::HeadTooLarge));
        // Not before the limit is reached.
        assert_eq!(outcome(&text.as_bytes()[..MAX_HEAD - 1]), Ok(None));
    }
    let many = |lines: usize| {
        let more = "a:\r\n".repeat(lines - 1);
        format!("GET / HTTP/1.1\r\nHost: h\r\n{more}\r\n")
    };
    assert!(matches!(three_ways(many(100).as_bytes()), Ok(Some(_))));
    assert_eq!(three_ways(many(101).as_bytes()), Err(Status::HeadTooLarge));
}

#[test]
fn only_news_is_worth_parsing() {
    let table: &[(&[u8], usize, bool)] = &[
        (b"", 0, false),
        (b"G", 0, true),
        (b"GE", 1, false),
        (b"GET", 3, false),
        (b"GET", 9, false),
        (b"GET / HTTP/1.1\r\nHo", 10, true),
        (b"GET / HTTP/1.1\r\nHo", 16, false),
        // The first byte behind empty lines.
        (b"\r\n\x16", 2, true),
        (b"\r\n\x16\x03", 3, false),
    ];
    for (bytes, seen, expected) in table {
        assert_eq!(worth_parsing(bytes, *seen), *expected, "{}", shown(bytes));
    }
    let long = [b'A'; MAX_HEAD];
    assert!(!worth_parsing(&long[..MAX_HEAD - 1], MAX_HEAD - 2));
    assert!(worth_parsing(&long, MAX_HEAD - 1));
}

#[test]
fn headers_are_found() {
    let head = parsed(
        "GET / HTTP/1.1\r\nhOST: h\r\nConnection: keep-alive, Upgrade\r\nX-A: 1\r\nconnection: Foo\r\nx-a: 2\r\n\r\n",
    );
    assert_eq!(head.header("Host"), Some(&b"h"[..]));
    assert_eq!(head.header("x-A"), Some(&b"1"[..]));
    assert_eq!(head.header("x"), None);
    assert_eq!(head.headers_named("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
    for (token, expected) in [
        ("upgrade", true),
        ("KEEP-ALIVE", true),
        ("foo", true),
        ("keep", false),
        ("", false),
    ] {
        assert_eq!(head.has_token("Connection", token), expected, "{token}");
    }
    assert!(!head.has_token("Upgrade", "websocket"));
}

#[test]
fn reply_options_follow_the_request() {
    let head = parsed("HEAD / HTTP/1.0\r\n\r\n");
    assert_eq!(
        head.reply_options(),
        ReplyOptions {
            version: Version::Http10,
            close: true,
            head_only: true
        }
    );
    assert_eq!(
        parsed("GET / HTTP/1.1\r\nHost: h\r\n\r\n").reply_options(),
        ReplyOptions {
            version: Version::Http11,
            close: false,
            head_only: false
        }
    );
}

#[test]
fn names_are_written_as_textproto_writes_them() {
    for (name, expected) in [
        ("user-agent", "User-Agent"),
        ("USER-AGENT", "User-Agent"),
        ("User-Agent", "User-Agent"),
        ("sec-webSocket-KEY", "Sec-Websocket-Key"),
        ("x--y-", "X--Y-"),
        ("etag", "Etag"),
        ("1a_b.c", "1a_b.c"),
        ("foo bar", "foo bar"),
        ("foo-bär", "foo-bär"),
        ("", ""),
    ] {
        assert_eq!(canonical_name(name), expected, "{name}");
    }
}
