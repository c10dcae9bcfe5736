//! Streams that are cut at every byte, with a snapshot at the cut: what follows is as if there had been none.

use super::*;

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

fn upgrade(target: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    .into()
}

const COMPRESSED: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// What clients send.
pub(super) fn scripts() -> Vec<Vec<u8>> {
    let text = |text: &str| frame(0x81, text.as_bytes());
    let websocket = |frames: &[Vec<u8>]| [upgrade("/ws", ""), frames.concat()].concat();
    let http = |text: &str| text.replace('\n', "\r\n").into_bytes();
    let long = "é".repeat(150);
    let mut scripts = vec![
        http(
            "GET /health HTTP/1.1\nHost: h\n\nHEAD /health?a=b HTTP/1.0\nConnection: keep-alive\n\nGET /x HTTP/1.1\nHost: h\nConnection: close\n\nGET / HTTP/1.1",
        ),
        http("\n\nGET / HTTP/1.0\n\n"),
        http("GET / HTTP/1.1\nHost: h\nHost: h\n\n"),
        http("PROXY TCP4 192.0.2.1 203.0.113.7 1000 80\nGET / HTTP/1.1\nHost: h\n\n"),
        http("PROXY UNKNOWN\nno HTTP\n\n"),
        // Bodies: whole, chunked, awaited, of no endpoint, too long, malformed.
        http(
            "POST /broadcast HTTP/1.1\nHost: h\nContent-Length: 32\n\n{\"channel\":\"a\",\"content\":[1, 2]}GET / HTTP/1.1\nHost: h\n\n",
        ),
        http(
            "POST /broadcast HTTP/1.1\nHost: h\nContent-Length: 21\n\n{\"channel\":\"\\u0061b\"}POST /broadcast HTTP/1.1\nHost: h\nContent-Length: 3\n\nabcGET / HTTP/1.1\nHost: h\n\n",
        ),
        http(
            "POST /broadcast HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a=b\n01234\n0010 \n0123456789abcdef\n0\nTrailer: of it\n\nGET / HTTP/1.1\nHost: h\n\n",
        ),
        http(
            "POST /broadcast HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 4\nOrigin: https://example.org\n\nbodyGET / HTTP/1.1\nHost: h\n\n",
        ),
        http(
            "POST /nothing HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n4\nbody\n0\n\nPOST /nothing HTTP/1.1\nHost: h\nContent-Length: 4\n\nbodyGET / HTTP/1.1\nHost: h\n\n",
        ),
        http("POST /broadcast HTTP/1.1\nHost: h\nContent-Length: 1001\n\nbody"),
        http("POST /broadcast HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n4\nbodyx"),
        http(
            "POST /disconnect HTTP/1.1\nHost: h\nContent-Length: 4\n\nbodyGET / HTTP/1.1\nHost: h\n\n",
        ),
        http("GET /channels HTTP/1.1\nHost: h\nContent-Length: 4\nExpect: 100-continue\n\nbody"),
        http("GET /tap HTTP/1.1\nHost: h\n\nwhat is sent to a tap"),
        // Upgrades that wait.
        [
            upgrade("/ws?a=b&held", "Sec-WebSocket-Protocol: x, wsify.v1\r\n"),
            text("first"),
        ]
        .concat(),
        [upgrade("/ws?channels=1", COMPRESSED), text("first")].concat(),
        [
            upgrade("/ws?a", "Transfer-Encoding: chunked\r\n"),
            b"0\r\n\r\n".to_vec(),
            text("first"),
        ]
        .concat(),
        [
            upgrade("/ws", "Transfer-Encoding: chunked\r\n"),
            b"1\r\nx\r\n0\r\n\r\n".to_vec(),
        ]
        .concat(),
        // Messages: whole, in fragments with pings between them, longer than a header's first form.
        websocket(&[text("one"), text("two"), frame(0x82, &[0, 1, 2])]),
        websocket(&[
            frame(0x01, "é".as_bytes()),
            frame(0x89, b"ping"),
            frame(0x00, &"é".as_bytes()[..1]),
            frame(0x8A, b""),
            frame(0x80, &"é".as_bytes()[1..]),
        ]),
        websocket(&[
            text(&long),
            frame(0x02, &[0xF7; 200]),
            frame(0x80, &[8; 130]),
            frame(0x88, b""),
        ]),
        [
            upgrade("/ws", COMPRESSED),
            frame(0xC1, &[0xAA; 20]),
            frame(0x41, &[0xF1; 150]),
            frame(0x80, &[2; 5]),
            frame(0xC1, b"x"),
            frame(0x88, b""),
        ]
        .concat(),
        // Ends: the client's, and violations.
        websocket(&[
            text("one"),
            frame(0x88, &[0x03, 0xE8, b'b', b'y', b'e']),
            text("ignored"),
        ]),
        websocket(&[frame(0x88, b""), b"discarded".to_vec()]),
        websocket(&[
            frame(0x01, b"begun"),
            frame(0x81, b"another"),
            b"discarded".to_vec(),
        ]),
        websocket(&[frame(0x01, b"\xC3"), frame(0x80, b"x")]),
        websocket(&[frame(0x82, &[1; 1_001])]),
        websocket(&[b"\x81\x05hello".to_vec()]),
    ];
    // Commands that wait, with pings and more behind them.
    for command in [
        r#"{"command":"join","args":{"channel":"a"},"id":7}"#,
        r#"{"command":"leave","args":{"channel":" \u0061b "},"id":"x"}"#,
        r#"{"command":"broadcast","args":{"content":{"a":1},"channel":"a"}}"#,
        "refresh",
    ] {
        let frames = [
            text(command),
            frame(0x89, b"ping"),
            text("behind"),
            text(command),
        ];
        scripts.push(websocket(&frames));
    }
    scripts
}

/// How the same script is played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    cut: usize,
    /// How many answers come before the cut.
    answers: usize,
    /// What the client's kernel takes before the cut.
    room: usize,
    /// The client ends its stream behind the rest.
    leaves: bool,
    /// What else has happened before the cut.
    before: Before,
}

#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    /// The client has ended its stream.
    Left,
    /// The poll has reported that the stream is broken.
    Broken,
    /// And what has broken it is known.
    Reset,
    /// The server has begun to stop.
    Stopping,
    /// The server has closed the WebSocket.
    Closed,
    /// The client was silent for so long that it was pinged.
    Silence,
    /// More was queued than may wait.
    TooMuch,
}

/// The ways in which a script is played that is cut somewhere.
fn courses(cut: usize) -> [Course; 11] {
    let course = |answers, room, leaves, before| Course {
        cut,
        answers,
        room,
        leaves,
        before,
    };
    [
        course(0, 100_000, false, Before::Nothing),
        course(1, 3, true, Before::Nothing),
        course(1, 150, false, Before::Nothing),
        course(2, 200, true, Before::Nothing),
        course(0, 150, false, Before::Left),
        course(1, 100_000, false, Before::Broken),
        course(0, 100_000, false, Before::Reset),
        course(0, 150, true, Before::Stopping),
        course(0, 250, false, Before::Closed),
        course(1, 200, false, Before::Silence),
        course(1, 200, false, Before::TooMuch),
    ]
}

/// Two of the ways to play a script that is cut there; others at the next cut, and of the next script.
pub(super) fn some_courses(script: usize, cut: usize) -> impl Iterator<Item = Course> {
    let courses = courses(cut);
    (0..2).map(move |nth| courses[(script + cut * 2 + nth) % courses.len()])
}

/// Plays a script as far as the cut.
pub(super) fn play_to_cut(script: &[u8], course: Course) -> Side {
    let mut side = Side::new(course.room, script.starts_with(b"PROXY"));
    side.feed(&script[..course.cut], false);
    for _ in 0..course.answers {
        side.resume();
    }
    match course.before {
        Before::Nothing => {}
        Before::Left => side.feed(b"", true),
        Before::Broken => side.connection.readable(false, true),
        Before::Reset => {
            side.connection.readable(false, true);
            side.wire.borrow_mut().reset = true;
            side.connection.was_reset();
            side.wire.borrow_mut().reset = false;
        }
        Before::Stopping => side.connection.stop(),
        Before::Closed => {
            let ending = Ending::Disconnected(4001);
            side.connection
                .close(ending, Some("reason"), side.clock.now);
            side.flush();
        }
        Before::Silence => {
            side.clock.now += 30_000;
            side.connection.expire(&side.clock, &LIMITS);
            side.flush();
        }
        Before::TooMuch => {
            let limits = Limits {
                max_queue: 0,
                ..LIMITS
            };
            side.connection.tell(&limits, |_| ());
        }
    }
    side
}

/// Plays the rest. Returns all that can be seen of the whole, and the bytes of runs that are left.
pub(super) fn play_on(mut side: Side, script: &[u8], course: Course) -> (String, usize) {
    side.clock.now += 300;
    // A snapshot does not say whether there is something to read.
    side.connection.readable(false, false);
    side.heard.push(side.seen());
    side.work();
    side.feed(&script[course.cut..], course.leaves);
    side.end();
    let outcome = side.outcome();
    side.connection.clear(&mut side.runs);
    side.connection.count(&mut side.runs);
    side.runs.release(side.shared.run);
    assert_eq!(side.runs.waiting, Waits::default());
    (outcome, side.runs.held)
}

/// Plays a script with a snapshot at the cut and without, and compares what can be seen. Returns the snapshot.
fn compare(script: &[u8], course: Course) -> Snapshot {
    let side = play_to_cut(script, course);
    let snapshot = side.save();
    let side = side.restored(&snapshot).unwrap();
    // What was restored is all there is to save, and once more.
    let second = side.save();
    let side = side.restored(&second).unwrap();
    assert_eq!(side.save(), second);
    let (with, held) = play_on(side, script, course);
    let (without, _) = play_on(play_to_cut(script, course), script, course);
    assert_eq!(with, without, "{course:?} of {}", script.escape_ascii());
    // Nothing is held that is not needed.
    assert_eq!(held, 0);
    snapshot
}

#[test]
fn a_snapshot_at_any_byte_changes_nothing() {
    let upgrade = upgrade("/ws", "");
    for (nth, script) in scripts().iter().enumerate() {
        // The same upgrade need not be cut again and again.
        let begins = script.starts_with(&upgrade) && nth % 8 > 0;
        let first = if begins { upgrade.len() } else { 0 };
        for cut in first..=script.len() {
            for course in some_courses(nth, cut) {
                compare(script, course);
            }
        }
    }
}

#[test]
fn the_corpora_are_cut_as_well() {
    let corpus = |name: &str| {
        let path = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(path).unwrap();
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files
            .filter(|bytes| bytes.len() < 1_000)
            .collect::<Vec<_>>()
    };
    let upgrade = upgrade("/ws", COMPRESSED);
    let messages = corpus("message").into_iter();
    let messages = messages.map(|bytes| [&upgrade[..], &bytes].concat());
    for (nth, script) in corpus("http").into_iter().chain(messages).enumerate() {
        for cut in (0..=script.len()).rev().step_by(script.len() / 7 + 1) {
            compare(&script, some_courses(nth, cut).next().unwrap());
        }
    }
}
