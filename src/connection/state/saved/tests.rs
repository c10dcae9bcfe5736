//! Streams that are cut at every byte, with a snapshot at the cut: what follows is as if there had been none.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;

use super::*;
use crate::buffers::{SavedRun, SavedSlice, Slice, Waits};
use crate::clock::Clock;
use crate::connection::{Awaits, Event, Exchange, Filled, SavedState, Suspended, Understood};
use crate::snapshot::{RecordKind, SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::wire::answer_fields::AnswerFields;
use crate::wire::channel_name::ChannelName;
use crate::wire::command::{self, Verb};
use crate::wire::endpoint::Endpoint;
use crate::wire::frame::{self, Opcode};
use crate::wire::handshake::{self, Upgrade};
use crate::wire::http::{Framing, Head, Reply, Status};

/// Takes as much as there is room for, and has what was sent to it.
#[derive(Debug, Default)]
struct Wire {
    up: VecDeque<u8>,
    down: Vec<u8>,
    room: usize,
    left: bool,
    finished: bool,
}

#[derive(Debug)]
struct Scripted(Rc<RefCell<Wire>>);

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        match (wire.up.is_empty(), wire.left) {
            (true, true) => Ok(0),
            (true, false) => Err(io::ErrorKind::WouldBlock.into()),
            _ => wire.up.read(buffer),
        }
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.finished, "a write behind the end");
        let taken = bytes.len().min(wire.room);
        wire.room -= taken;
        wire.down.extend_from_slice(&bytes[..taken]);
        match taken {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        self.write(&parts.concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Scripted {
    fn finish(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.finished, "ended twice");
        wire.finished = true;
        Ok(())
    }

    fn was_reset(&mut self) -> bool {
        false
    }
}

const LIMITS: Limits = Limits {
    handshake_timeout: 10_000,
    ping_interval: 30_000,
    max_message: 1_000,
    max_queue: 100_000,
};

/// A connection with all that it shares, and a hub that answers what it is asked only when it is told to.
struct Side {
    connection: Connection<Scripted>,
    wire: Rc<RefCell<Wire>>,
    runs: Runs,
    identities: Identities,
    /// What is delivered between messages; held here, as an audience does.
    shared: Slice,
    clock: Clock,
    heard: Vec<String>,
}

impl Side {
    fn new(room: usize, proxy: bool) -> Side {
        let clock = Clock {
            now: 5_000_000_000,
            date: "Thu, 01 Jan 1970 00:00:00 GMT".into(),
            ..Clock::default()
        };
        let wire = Rc::new(RefCell::new(Wire {
            room,
            ..Wire::default()
        }));
        let peer = Peer::new("203.0.113.7:51814".parse().unwrap());
        let stream = Scripted(Rc::clone(&wire));
        let mut connection = Connection::new(stream, peer, 1 << 40 | 7, clock.now);
        if proxy {
            connection.expect_proxy();
        }
        let mut runs = Runs::default();
        let (run, _) = runs.begin();
        runs.append(run, |bytes| bytes.extend_from_slice(b"nobody's"));
        runs.hold(run);
        let (gone, _) = runs.begin();
        let mut identities = Identities::default();
        let state = format!("{{\"long\":\"{}\"}}", "x".repeat(20));
        // Shared by two others.
        for _ in 0..2 {
            identities.put("", None, Some(&state));
        }
        let (shared, _) = runs.begin();
        runs.release(gone);
        Side {
            connection,
            wire,
            runs,
            identities,
            shared: Slice {
                run: shared,
                from: 0,
                to: 0,
            },
            clock,
            heard: Vec::new(),
        }
    }

    /// What the client sends, and all that follows before anything is answered that is asked.
    fn feed(&mut self, bytes: &[u8], leaves: bool) {
        if bytes.is_empty() && !leaves {
            return;
        }
        self.wire.borrow_mut().up.extend(bytes);
        self.wire.borrow_mut().left = leaves;
        self.connection.readable(leaves, false);
        self.work();
    }

    fn work(&mut self) {
        while !self.connection.is_over() {
            self.understand();
            let mut buffer = [0; 64];
            let hears = self.connection.is_listening() || self.connection.hears_pings();
            if !hears || !self.connection.is_unread() {
                break;
            }
            match self.connection.fill(&mut buffer, self.clock.now) {
                Filled::Bytes(count) => self.connection.keep_input(&buffer[..count]),
                Filled::Nothing => {}
                Filled::End if self.connection.is_held() => self.connection.leave(self.clock.now),
                Filled::End => self.connection.ended(self.clock.now),
                Filled::Broken => self.connection.fail(Ending::Reset),
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if !self.connection.is_over() {
            self.connection.flush(&mut self.runs, self.clock.now);
        }
    }

    fn understand(&mut self) {
        loop {
            if self.connection.is_over() {
                return;
            }
            if self.connection.hears_pings() {
                let mut input = self.connection.take_input();
                let used = self.connection.answer_pings(input.bytes(), &LIMITS);
                self.connection.put_input_back(input, used);
                return;
            }
            if !self.connection.is_listening() {
                return;
            }
            let mut input = self.connection.take_input();
            let step = self.connection.next(input.bytes(), &self.clock, &LIMITS);
            let bytes = input.bytes().to_vec();
            let Understood { used, event } = step;
            self.connection.put_input_back(input, used);
            match event {
                None => return,
                Some(event) => self.react(event, &bytes),
            }
        }
    }

    fn react(&mut self, event: Event, input: &[u8]) {
        match event {
            Event::Introduced(client) => {
                self.heard.push(format!("introduced {client:?}"));
                if let Some(client) = client {
                    self.connection.introduce(Peer::new(client));
                }
            }
            Event::Request(mut exchange, head, body) => {
                exchange.endpoint = Endpoint::of(&head, true);
                let body = body.map(|range| input[range].to_vec());
                self.heard.push(format!("{:?} {body:?}", exchange.endpoint));
                self.request(exchange, head, body);
            }
            Event::Body(exchange, payload) => {
                let body = payload.of(input).to_vec();
                self.post(exchange, &body);
            }
            Event::BadBody(exchange, refusal) => self.answer(exchange, &refusal.reply(), true),
            Event::Said(_, payload) => self.said(&payload.of(input).to_vec()),
            Event::Compressed(kind, payload) => {
                let text = format!("{kind:?} {:?}", payload.of(input));
                self.tell(&text);
            }
            Event::Bye(ending) => {
                self.heard.push(format!("bye {ending:?}"));
                self.connection.close(ending, None, self.clock.now);
            }
        }
    }

    fn answer(&mut self, exchange: Exchange, reply: &Reply, closing: bool) {
        let (connection, clock) = (&mut self.connection, &self.clock);
        connection.answer(exchange, reply, closing, clock, &LIMITS);
    }

    fn ok(&mut self, exchange: Exchange, body: &[u8]) {
        let body = format!("{body:?}").into_bytes();
        self.answer(exchange, &Reply::json(Status::Ok, body), false);
    }

    fn request(&mut self, exchange: Exchange, head: Head, body: Option<Vec<u8>>) {
        match exchange.endpoint {
            Endpoint::Ws => match handshake::judge(&head, true) {
                Err(refusal) => self.answer(exchange, &refusal.reply(), false),
                Ok(_) if head.framing == Framing::Chunked && !exchange.is_read() => {
                    let connection = &mut self.connection;
                    connection.read_empty_body(exchange, head, &LIMITS);
                }
                Ok(upgrade) => self.upgrade(exchange, upgrade, head.query()),
            },
            Endpoint::Tap => {
                let json = "application/json";
                self.connection.stream(json, &[], &self.clock);
                self.connection.push(&mut b"{}\n".to_vec());
            }
            _ if !exchange.endpoint.takes_body() => self.ok(exchange, b"no body"),
            _ => match body {
                Some(body) => self.post(exchange, &body),
                None => self.connection.read_body(exchange, &LIMITS),
            },
        }
    }

    fn post(&mut self, exchange: Exchange, body: &[u8]) {
        if exchange.endpoint == Endpoint::Disconnect {
            let bytes = body.len();
            let work = Suspended::Backend { exchange, bytes };
            return self.connection.suspend(Awaits::Backend, work);
        }
        match command::parse_post(body) {
            Ok(Some(post)) => {
                let body = body.into();
                let work = Suspended::Post {
                    exchange,
                    post,
                    body,
                };
                self.connection.suspend(Awaits::Channel, work);
            }
            _ => self.ok(exchange, body),
        }
    }

    fn upgrade(&mut self, exchange: Exchange, upgrade: Upgrade, query: &str) {
        if query.is_empty() {
            return self.open(exchange, upgrade, "", None);
        }
        let work = Suspended::Upgrade {
            exchange,
            upgrade,
            query: query.into(),
            fields: None,
        };
        self.connection.suspend(Awaits::Verdict, work);
        self.connection.set_asking(true);
        if query.contains("held") {
            self.connection.hold(self.clock.now);
        }
    }

    fn open(
        &mut self,
        exchange: Exchange,
        upgrade: Upgrade,
        query: &str,
        fields: Option<Box<AnswerFields>>,
    ) {
        let state = fields.as_ref().and_then(|fields| fields.state.as_ref());
        let state = state.and_then(|state| state.json());
        let user = fields.as_ref().and_then(|fields| fields.user.as_deref());
        let identity = self.identities.put(query, user, state);
        self.connection.set_identity(identity);
        self.connection.open(exchange.from, &upgrade, &self.clock);
        self.connection.greet(|out| out.extend_from_slice(b"hello"));
    }

    fn tell(&mut self, text: &str) {
        let write = |out: &mut Vec<u8>| out.extend_from_slice(text.as_bytes());
        self.connection.tell(&LIMITS, write);
        // And something that others are sent, too: two parts of a run that follow each other, and one that does not.
        self.runs.append(self.shared.run, |bytes| {
            frame::push_frame(bytes, Opcode::Text, text.as_bytes());
        });
        let to = self.runs.len(self.shared.run) as u32;
        let slice = Slice {
            from: self.shared.to,
            to,
            ..self.shared
        };
        self.shared.to = to;
        self.connection.deliver(slice, &mut self.runs, &LIMITS);
        if text.len().is_multiple_of(2) {
            self.connection.enqueue(slice, &mut self.runs, &LIMITS);
        }
    }

    fn said(&mut self, message: &[u8]) {
        if message == b"refresh" {
            return self.connection.suspend(Awaits::Verdict, Suspended::Refresh);
        }
        let Ok(command) = command::parse(message) else {
            return self.tell(&format!("{:?}", String::from_utf8_lossy(message)));
        };
        let awaits = match command.verb {
            Verb::Broadcast => Awaits::Channel,
            _ => Awaits::Verdict,
        };
        let held = command.verb == Verb::Leave;
        let message = message.into();
        let work = Suspended::Command { command, message };
        self.connection.suspend(awaits, work);
        if held {
            self.connection.hold(self.clock.now);
        }
    }

    /// Answers what is asked, once; false if nothing is.
    fn resume(&mut self) -> bool {
        let awaited = [
            Awaits::Verdict,
            Awaits::Channel,
            Awaits::Receipt,
            Awaits::Backend,
        ];
        let now = self.clock.now;
        let resumed = awaited
            .into_iter()
            .find_map(|awaits| Some((awaits, self.connection.resume(awaits, now)?)));
        let Some((awaits, work)) = resumed else {
            return false;
        };
        self.connection.set_asking(false);
        self.heard.push(format!("{awaits:?} {work:?}"));
        match work {
            Suspended::Upgrade {
                exchange,
                upgrade,
                query,
                fields: None,
            } if query.contains("channels") => {
                let long = format!("{{\"long\":\"{}\"}}", "x".repeat(20));
                let fields = AnswerFields {
                    user: Some("ann".into()),
                    channels: vec![ChannelName::checked("a"), ChannelName::checked("b")],
                    expires_in: Some(7),
                    content: Some(b"[1]".to_vec().into()),
                    ..*AnswerFields::with_state(&long)
                };
                let work = Suspended::Upgrade {
                    exchange,
                    upgrade,
                    query,
                    fields: Some(Box::new(fields)),
                };
                self.connection.suspend(Awaits::Channel, work);
            }
            Suspended::Upgrade {
                exchange,
                upgrade,
                query,
                fields,
            } => self.open(exchange, upgrade, &query, fields),
            Suspended::Command { command, message } if awaits == Awaits::Channel => {
                let (command, message) = command.with_content(&message, b"[\"other\"]");
                let work = Suspended::Command { command, message };
                self.connection.suspend(Awaits::Receipt, work);
            }
            Suspended::Command { command, message } => {
                let id = command.id(&message).unwrap_or("none").to_owned();
                let (args, content) = (command.args(&message), command.content(&message));
                let channel = command.channel(&message);
                let parts = format!("{id} {channel} {args:?} {content:?}");
                self.tell(&parts);
            }
            Suspended::Refresh => self.tell("refreshed"),
            Suspended::Post {
                exchange,
                post,
                body,
            } if awaits == Awaits::Channel => {
                let (channel, content) = (post.channel(&body), post.content(&body));
                self.heard.push(format!("{channel} {content:?}"));
                let work = Suspended::Post {
                    exchange,
                    post,
                    body: Box::default(),
                };
                self.connection.suspend(Awaits::Receipt, work);
            }
            Suspended::Post { exchange, .. } => self.ok(exchange, b"posted"),
            Suspended::Backend { exchange, bytes } => self.ok(exchange, &[bytes as u8]),
        }
        self.work();
        true
    }

    /// The client reads, all is answered, and time goes by.
    fn end(&mut self) {
        for room in [1, 20, 1_000, 100_000] {
            self.wire.borrow_mut().room = room;
            self.connection.writable();
            self.work();
        }
        while self.resume() {}
        for _ in 0..3 {
            let deadline = self.connection.deadline(self.clock.now, &LIMITS);
            self.heard.push(format!("{deadline:?}"));
            self.clock.now += 31_000;
            if !self.connection.is_over() {
                self.connection.expire(&self.clock, &LIMITS);
                self.flush();
            }
        }
    }

    /// All that can be seen from outside, and all that is left.
    fn outcome(&mut self) -> String {
        let connection = &mut self.connection;
        let clock = &self.clock;
        let (now, identity) = (clock.now, connection.identity());
        let identities = &self.identities;
        let (query, user) = (identities.query(identity), identities.user(identity));
        let shown = (query, user, identities.state(identity));
        let deadline = connection.deadline(now, &LIMITS);
        let evictable = connection.evictable(now);
        let marks = (
            connection.serial(),
            connection.client(),
            connection.encoding(),
        );
        let flags = (
            connection.standing(),
            connection.is_over(),
            connection.ending(),
            connection.has_hung_up(),
            connection.is_asking(),
            connection.is_starved(),
            connection.is_too_slow(),
            connection.is_local(),
        );
        let waits = (connection.waiting_in(), connection.waiting_out());
        let wire = self.wire.borrow();
        let sent = wire.down.escape_ascii();
        format!(
            "{deadline:?} {evictable:?} {marks:?} {flags:?} {waits:?} {shown:?} {:?}\n{}\n{sent}",
            wire.finished,
            self.heard.join("\n")
        )
    }

    /// A snapshot of it, and what is shared.
    fn save(&self) -> (Vec<u8>, SavedSlice) {
        let mut to = SnapshotWriter::new(Vec::new(), &SnapshotHeader::new(0)).unwrap();
        let runs = self.runs.save(&mut to).unwrap();
        let states = self.identities.save(&mut to).unwrap();
        let context = SaveContext {
            runs: &runs,
            states: &states,
            identities: &self.identities,
            now: self.clock.now,
        };
        let saved = self.connection.save(17, 1 << 50, context);
        to.write(RecordKind::Connection, &saved).unwrap();
        (to.finish().unwrap(), runs.slice(self.shared))
    }

    /// The same side, as the snapshot has it.
    fn restored(self, snapshot: &[u8], shared: SavedSlice) -> Side {
        let stream = Scripted(Rc::clone(&self.wire));
        let mut loaded = load(snapshot, stream, self.clock.now).unwrap();
        let shared = loaded.runs.restored(&shared).unwrap();
        loaded.runs.hold(shared.run);
        loaded.runs.end_restore();
        Side {
            connection: loaded.connection,
            runs: loaded.runs,
            identities: loaded.identities,
            shared,
            ..self
        }
    }
}

/// What is in a snapshot.
struct Loaded {
    connection: Connection<Scripted>,
    runs: Runs,
    identities: Identities,
}

fn load(snapshot: &[u8], stream: Scripted, now: Millis) -> Result<Loaded, SnapshotError> {
    let mut from = SnapshotReader::new(snapshot, snapshot.len() as u64)?;
    let mut runs = Runs::default();
    let mut identities = Identities::default();
    let mut shared = SharedStates::default();
    let mut connection = Err(SnapshotError::new("there is no connection"));
    let mut stream = Some(stream);
    while let Some(record) = from.read_next()? {
        match record.kind {
            RecordKind::Run => runs.restore(&record.decode::<SavedRun>()?)?,
            RecordKind::SharedState => {
                identities.restore(&mut shared, &record.decode::<SavedState>()?)?;
            }
            RecordKind::Connection => {
                let saved: SavedConnection = record.decode()?;
                let Some(stream) = stream.take() else {
                    return Err(SnapshotError::new("there are two"));
                };
                let mut context = RestoreContext {
                    runs: &mut runs,
                    shared: &shared,
                    identities: &mut identities,
                    limits: LIMITS,
                    now,
                };
                connection = Connection::restore(saved, stream, &mut context);
            }
            _ => {}
        }
    }
    identities.end_restore(shared);
    Ok(Loaded {
        connection: connection?,
        runs,
        identities,
    })
}

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
fn scripts() -> Vec<Vec<u8>> {
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
        http("no HTTP at all\n\n"),
        // Bodies: whole, chunked, awaited, of no endpoint, too long, malformed.
        http(
            "POST /broadcast HTTP/1.1\nHost: h\nContent-Length: 33\n\n{\"channel\":\"a\",\"content\":[1, 2]}GET / HTTP/1.1\nHost: h\n\n",
        ),
        http(
            "POST /broadcast HTTP/1.1\nHost: h\nContent-Length: 22\n\n{\"channel\":\"\\u0061b\"}POST /broadcast HTTP/1.1\nHost: h\nContent-Length: 3\n\nabcGET / HTTP/1.1\nHost: h\n\n",
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
        websocket(&[text(&long), frame(0x02, &[7; 200]), frame(0x80, &[8; 130])]),
        [
            upgrade("/ws", COMPRESSED),
            frame(0xC1, &[0xAA; 20]),
            frame(0x41, &[1; 150]),
            frame(0x80, &[2; 5]),
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
struct Course {
    cut: usize,
    /// How many answers come before the cut.
    answers: usize,
    /// What the client's kernel takes before the cut.
    room: usize,
    proxy: bool,
    leaves: bool,
}

/// Plays a script, with a snapshot at the cut or without.
fn play(script: &[u8], course: Course, snapshots: &mut BTreeSet<Vec<u8>>, saved: bool) -> String {
    let (before, after) = script.split_at(course.cut);
    let mut side = Side::new(course.room, course.proxy);
    side.feed(before, false);
    for _ in 0..course.answers {
        side.resume();
    }
    if saved {
        let (snapshot, shared) = side.save();
        side = side.restored(&snapshot, shared);
        snapshots.insert(snapshot);
        // What was restored is all there is to save.
        let (snapshot, shared) = side.save();
        side = side.restored(&snapshot, shared);
        assert_eq!(side.save(), (snapshot, shared));
    }
    side.clock.now += 100;
    side.work();
    side.feed(after, course.leaves);
    side.end();
    let outcome = side.outcome();
    // Nothing is held that is not needed.
    side.connection.clear(&mut side.runs);
    side.connection.count(&mut side.runs);
    side.runs.release(side.shared.run);
    let left = (side.runs.live(), side.runs.held, side.runs.waiting);
    let nobodys = if saved { (0, 0) } else { (1, 8) };
    assert_eq!(left, (nobodys.0, nobodys.1, Waits::default()));
    outcome
}

/// Plays a script in every way, and returns all snapshots that are made.
fn play_all(script: &[u8], proxy: bool, cuts: impl Iterator<Item = usize>) -> BTreeSet<Vec<u8>> {
    let mut snapshots = BTreeSet::new();
    for cut in cuts {
        for (answers, room, leaves) in [
            (0, 100_000, false),
            (1, 3, true),
            (1, 150, false),
            (2, 200, true),
        ] {
            let course = Course {
                cut,
                answers,
                room,
                proxy,
                leaves,
            };
            let with = play(script, course, &mut snapshots, true);
            let without = play(script, course, &mut snapshots, false);
            assert_eq!(with, without, "{course:?} of {}", script.escape_ascii());
        }
    }
    snapshots
}

#[test]
fn whatever_is_cut_anywhere_goes_on_as_if_it_was_not() {
    let upgrade = upgrade("/ws", "");
    for (nth, script) in scripts().iter().enumerate() {
        // The same upgrade need not be cut again and again.
        let begins = script.starts_with(&upgrade) && nth % 8 > 0;
        let first = if begins { upgrade.len() } else { 0 };
        play_all(script, false, first..=script.len());
    }
}

#[test]
fn a_header_of_a_proxy_may_be_cut_as_well() {
    let header = b"PROXY TCP4 192.0.2.1 203.0.113.7 1000 80\r\n".to_vec();
    for script in [&scripts()[0], &scripts()[17]] {
        let script = [&header[..], script].concat();
        play_all(&script, true, 0..=header.len() + 20);
    }
}
