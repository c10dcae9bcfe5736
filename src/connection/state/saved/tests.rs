//! Streams that are cut at every byte, with a snapshot at the cut: what follows is as if there had been none.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

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
    reset: bool,
    /// How often it was ended.
    finished: usize,
    /// Bytes that were written behind the end.
    late: usize,
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
        let taken = bytes.len().min(wire.room);
        wire.room -= taken;
        wire.late += taken * wire.finished;
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
        self.0.borrow_mut().finished += 1;
        Ok(())
    }

    fn was_reset(&mut self) -> bool {
        self.0.borrow().reset
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
        let peer = match proxy {
            true => "127.0.0.1:1",
            false => "203.0.113.7:51814",
        };
        let peer = Peer::new(peer.parse().unwrap());
        let stream = Scripted(Rc::clone(&wire));
        let mut connection = Connection::new(stream, peer, 1 << 40 | 7, clock.now);
        if proxy {
            connection.expect_proxy();
        }
        let mut runs = Runs::default();
        let (run, _) = runs.begin();
        runs.append(run, |bytes| bytes.extend_from_slice(b"of no connection"));
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
            Event::Said(kind, payload) => {
                self.heard.push(format!("{kind:?}"));
                self.said(payload.of(input));
            }
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
        self.heard.push(format!("{:?}", exchange.origin));
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
            Endpoint::Channels => {
                let work = Suspended::Backend { exchange, bytes: 0 };
                self.connection.suspend(Awaits::Backend, work);
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
            self.heard.push(self.seen());
            self.clock.now += 31_000;
            if !self.connection.is_over() {
                self.connection.expire(&self.clock, &LIMITS);
                self.flush();
            }
        }
    }

    /// What the hub can see of the connection.
    fn seen(&self) -> String {
        let (connection, identities) = (&self.connection, &self.identities);
        let (now, identity) = (self.clock.now, connection.identity());
        let user = identities.user(identity);
        let names = (
            connection.serial(),
            connection.client(),
            connection.encoding(),
            (identities.query(identity), user, identities.state(identity)),
        );
        let flags = (
            connection.standing(),
            connection.is_over(),
            connection.ending(),
            connection.has_hung_up(),
            connection.is_broken(),
            connection.is_asking(),
            connection.is_too_slow(),
            connection.is_to_stop(),
            connection.is_local(),
            connection.wants_flush(),
            connection.is_unused(),
        );
        let times = (connection.deadline(now, &LIMITS), connection.evictable(now));
        let waits = (connection.waiting_in(), connection.waiting_out());
        format!("{names:?} {flags:?} {times:?} {waits:?}")
    }

    /// All that was seen, and all that was sent.
    fn outcome(&mut self) -> String {
        self.heard.push(self.seen());
        let was_reset = self.connection.was_reset();
        let wire = self.wire.borrow();
        let sent = wire.down.escape_ascii();
        let ends = (was_reset, wire.finished, wire.late);
        format!("{}\n{ends:?}\n{sent}", self.heard.join("\n"))
    }

    /// A snapshot of it.
    fn save(&self) -> Snapshot {
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
        Snapshot {
            around: to.finish().unwrap(),
            connection: minicbor::to_vec(&saved).unwrap(),
            held: runs.slice(self.shared),
        }
    }

    /// The same side, as a snapshot has it.
    fn restored(self, snapshot: &Snapshot) -> Result<Side, SnapshotError> {
        let stream = Scripted(Rc::clone(&self.wire));
        let mut loaded = load(snapshot, stream, self.clock.now)?;
        let shared = loaded.runs.restored(&snapshot.held)?;
        loaded.runs.hold(shared.run);
        loaded.runs.end_restore();
        Ok(Side {
            connection: loaded.connection,
            runs: loaded.runs,
            identities: loaded.identities,
            shared,
            ..self
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Snapshot {
    /// With all records but that of the connection.
    around: Vec<u8>,
    connection: Vec<u8>,
    /// As an audience would refer to it.
    held: SavedSlice,
}

/// What is in a snapshot.
struct Loaded {
    connection: Connection<Scripted>,
    runs: Runs,
    identities: Identities,
}

fn load(snapshot: &Snapshot, stream: Scripted, now: Millis) -> Result<Loaded, SnapshotError> {
    let (mut runs, mut identities) = (Runs::default(), Identities::default());
    let mut shared = SharedStates::default();
    let around = &snapshot.around;
    let mut from = SnapshotReader::new(&**around, around.len() as u64)?;
    while let Some(record) = from.read_next()? {
        match record.kind {
            RecordKind::Run => runs.restore(&record.decode::<SavedRun>()?)?,
            _ => identities.restore(&mut shared, &record.decode::<SavedState>()?)?,
        }
    }
    let saved: SavedConnection = minicbor::decode(&snapshot.connection)
        .map_err(|error| SnapshotError::new(error.to_string()))?;
    let mut context = RestoreContext {
        runs: &mut runs,
        shared: &shared,
        identities: &mut identities,
        limits: LIMITS,
        now,
    };
    let connection = Connection::restore(saved, || Ok(stream), &mut context)?;
    identities.end_restore(shared);
    Ok(Loaded {
        connection,
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
struct Course {
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

/// Plays a script as far as the cut.
fn play_to_cut(script: &[u8], course: Course) -> Side {
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
fn play_on(mut side: Side, script: &[u8], course: Course) -> (String, usize) {
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
fn whatever_is_cut_anywhere_goes_on_as_if_it_was_not() {
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

/// CBOR, taken apart.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Map(Vec<(u32, Part)>),
    Array(Vec<Part>),
    Leaf(Vec<u8>),
}

impl Part {
    fn read(from: &mut Decoder) -> Part {
        match from.datatype().unwrap() {
            Type::Map => {
                let count = from.map().unwrap().unwrap();
                let mut entry = || (from.u32().unwrap(), Part::read(from));
                Part::Map((0..count).map(|_| entry()).collect())
            }
            Type::Array => {
                let count = from.array().unwrap().unwrap();
                Part::Array((0..count).map(|_| Part::read(from)).collect())
            }
            _ => {
                let start = from.position();
                from.skip().unwrap();
                Part::Leaf(from.input()[start..from.position()].to_vec())
            }
        }
    }

    fn of(bytes: &[u8]) -> Part {
        Part::read(&mut Decoder::new(bytes))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new(Vec::new());
        match self {
            Part::Map(entries) => {
                out.map(entries.len() as u64).unwrap();
                for (key, part) in entries {
                    out.u32(*key).unwrap();
                    out.writer_mut().extend(part.bytes());
                }
            }
            Part::Array(parts) => {
                out.array(parts.len() as u64).unwrap();
                out.writer_mut().extend(parts.iter().flat_map(Part::bytes));
            }
            Part::Leaf(bytes) => out.writer_mut().extend(bytes),
        }
        out.into_writer()
    }

    /// Every form of this in which `vary` has changed one part, and that part's name.
    fn varied(
        &self,
        name: &str,
        vary: &dyn Fn(&Part) -> Vec<(String, Part)>,
    ) -> Vec<(String, Part)> {
        let own = vary(self).into_iter();
        let mut all: Vec<_> = own
            .map(|(end, part)| (format!("{name}{end}"), part))
            .collect();
        match self {
            Part::Map(entries) => {
                for (nth, (key, part)) in entries.iter().enumerate() {
                    for (name, part) in part.varied(&format!("{name}.{key}"), vary) {
                        let mut entries = entries.clone();
                        entries[nth].1 = part;
                        all.push((name, Part::Map(entries)));
                    }
                }
            }
            Part::Array(parts) => {
                // A variant of an enum and its fields, or many of a kind.
                let name = match parts.first() {
                    Some(Part::Leaf(variant)) => format!("{name}:{}", variant[0]),
                    _ => name.to_owned(),
                };
                for (nth, part) in parts.iter().enumerate() {
                    for (name, part) in part.varied(&name, vary) {
                        let mut parts = parts.clone();
                        parts[nth] = part;
                        all.push((name, Part::Array(parts)));
                    }
                }
            }
            Part::Leaf(_) => {}
        }
        all
    }
}

/// Two of the ways to play a script that is cut there; others at the next cut, and of the next script.
fn some_courses(script: usize, cut: usize) -> impl Iterator<Item = Course> {
    let courses = courses(cut);
    (0..2).map(move |nth| courses[(script + cut * 2 + nth) % courses.len()])
}

/// Scripts that are cut here and there, with the snapshots of it.
/// `cuts`: how many of each.
fn snapshots(cuts: usize) -> Vec<(Vec<u8>, Course, Snapshot)> {
    let mut all = Vec::new();
    for (nth, script) in scripts().into_iter().enumerate() {
        for cut in (0..=script.len()).rev().step_by(script.len() / cuts + 1) {
            for course in some_courses(nth, cut) {
                let snapshot = play_to_cut(&script, course).save();
                all.push((script.clone(), course, snapshot));
            }
        }
    }
    all
}

/// What follows if the connection has been as `part` says.
fn play_altered(
    script: &[u8],
    course: Course,
    altered: &Snapshot,
) -> Result<String, SnapshotError> {
    let side = play_to_cut(script, course).restored(altered)?;
    Ok(play_on(side, script, course).0)
}

#[test]
fn nothing_is_saved_that_makes_no_difference() {
    let forget = |part: &Part| match part {
        Part::Map(entries) => {
            let without = |nth: usize| {
                let mut entries = entries.clone();
                let (key, _) = entries.remove(nth);
                (format!(".{key}"), Part::Map(entries))
            };
            (0..entries.len()).map(without).collect()
        }
        _ => Vec::new(),
    };
    let (mut all, mut missed) = (BTreeSet::new(), BTreeSet::new());
    for (script, course, snapshot) in snapshots(60) {
        let expected = play_altered(&script, course, &snapshot);
        for (name, part) in Part::of(&snapshot.connection).varied("", &forget) {
            all.insert(name.clone());
            if missed.contains(&name) {
                continue;
            }
            let altered = Snapshot {
                connection: part.bytes(),
                ..snapshot.clone()
            };
            if play_altered(&script, course, &altered) != expected {
                missed.insert(name);
            }
        }
    }
    for field in [
        ".4:0.2",
        ".4:1.3",
        ".4:1.4",
        ".4:2.1:0.3",
        ".4:2.1:3.0",
        ".4:2.1:4.1",
        ".4:3.1",
        ".4:3.3",
        ".4:3.4.1:1.0",
        ".4:5.3",
        ".5",
        ".6",
        ".7",
        ".8",
        ".9.1",
        ".10",
        ".11",
        ".12",
        ".13",
        ".14",
        ".15",
        ".16.3",
    ] {
        assert!(all.contains(field), "{field} is in no snapshot");
    }
    // A request whose body is being read is not answered before.
    let unneeded = [".4:1.2.7".to_owned()];
    let unmissed: Vec<&String> = all.difference(&missed).collect();
    assert_eq!(unmissed, unneeded.each_ref());
}

#[test]
fn no_snapshot_of_a_connection_causes_a_panic() {
    let numbers = [0, 1, 23, u64::from(u32::MAX), u64::MAX];
    let alter = |part: &Part| {
        let leaf = |value: &dyn Fn(&mut Encoder<Vec<u8>>)| {
            let mut out = Encoder::new(Vec::new());
            value(&mut out);
            Part::Leaf(out.into_writer())
        };
        let mut all: Vec<Part> = numbers
            .map(|number| leaf(&|out| _ = out.u64(number).unwrap()))
            .into();
        for text in ["", "x", "broadcast", "null", "[1,"] {
            all.push(leaf(&|out| _ = out.str(text).unwrap()));
        }
        for bytes in [&b""[..], &[0xFF; 18], &[0; 4], &[b'a'; 3_000]] {
            all.push(leaf(&|out| _ = out.bytes(bytes).unwrap()));
        }
        for value in [true, false] {
            all.push(leaf(&|out| _ = out.bool(value).unwrap()));
        }
        all.push(Part::Map(Vec::new()));
        all.push(Part::Array(vec![part.clone(), part.clone()]));
        all.into_iter().map(|part| (String::new(), part)).collect()
    };
    let mut seen = BTreeSet::new();
    let mut refused = 0;
    for (script, course, snapshot) in snapshots(12) {
        let altered = Part::of(&snapshot.connection).varied("", &alter);
        for (nth, (name, part)) in altered.into_iter().enumerate() {
            // Each alteration once.
            if !seen.insert((name, nth % 18)) {
                continue;
            }
            let altered = Snapshot {
                connection: part.bytes(),
                ..snapshot.clone()
            };
            refused += usize::from(play_altered(&script, course, &altered).is_err());
        }
    }
    assert!(
        refused > 500 && refused < seen.len() - 100,
        "{refused} of {}",
        seen.len()
    );
}

#[test]
fn no_bytes_in_the_place_of_a_snapshot_cause_a_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    };
    for (script, course, snapshot) in snapshots(12) {
        for _ in 0..10 {
            let mut altered = snapshot.clone();
            let bytes = match below(4) {
                0 => &mut altered.around,
                _ => &mut altered.connection,
            };
            let at = below(bytes.len());
            match below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, below(256) as u8),
                2 => bytes[at] ^= 1 << below(8),
                _ => bytes[at] = below(256) as u8,
            }
            _ = play_altered(&script, course, &altered);
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
