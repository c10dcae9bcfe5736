//! A connection of which a snapshot is taken anywhere, and which goes on from there: in `courses` what follows is as if
//! there had been none, and in `facts` every part of the snapshot counts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;

use super::*;
use crate::buffers::{SavedRun, SavedSlice, Slice, Waits};
use crate::clock::Clock;
use crate::connection::{
    Awaits, Exchange, Filled, Input, NextInput, PendingUpgrade, SavedState, Suspended,
};
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
        let peer = if proxy {
            "127.0.0.1:1"
        } else {
            "203.0.113.7:51814"
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
            self.handle_input();
            let mut buffer = [0; 64];
            let hears = self.connection.is_listening() || self.connection.answers_pings();
            if !hears || !self.connection.is_unread() {
                break;
            }
            match self.connection.fill(&mut buffer, self.clock.now) {
                Filled::Bytes(count) => self.connection.keep_input(&buffer[..count]),
                Filled::Nothing => {}
                Filled::End if self.connection.is_held() => self.connection.abandon(self.clock.now),
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

    fn handle_input(&mut self) {
        loop {
            if self.connection.is_over() {
                return;
            }
            if self.connection.answers_pings() {
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
            let NextInput { used, input: next } = step;
            self.connection.put_input_back(input, used);
            match next {
                None => return,
                Some(next) => self.react(next, &bytes),
            }
        }
    }

    fn react(&mut self, next: Input, input: &[u8]) {
        match next {
            Input::Introduced(client) => {
                self.heard.push(format!("introduced {client:?}"));
                if let Some(client) = client {
                    self.connection.introduce(Peer::new(client));
                }
            }
            Input::Request(mut exchange, head, body) => {
                exchange.endpoint = Endpoint::of(&head, true);
                let body = body.map(|range| input[range].to_vec());
                self.heard.push(format!("{:?} {body:?}", exchange.endpoint));
                self.request(exchange, head, body);
            }
            Input::Body(exchange, payload) => {
                let body = payload.of(input).to_vec();
                self.post(exchange, &body);
            }
            Input::BadBody(exchange, refusal) => self.answer(exchange, &refusal.reply(), true),
            Input::Said(kind, payload) => {
                self.heard.push(format!("{kind:?}"));
                self.said(payload.of(input));
            }
            Input::Compressed(kind, payload) => {
                let text = format!("{kind:?} {:?}", payload.of(input));
                self.tell(&text);
            }
            Input::Bye(ending) => {
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
        let pending = PendingUpgrade {
            exchange,
            upgrade,
            query: query.into(),
        };
        let work = Suspended::Upgrade(pending, None);
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
            Suspended::Upgrade(pending, None) if pending.query.contains("channels") => {
                let long = format!("{{\"long\":\"{}\"}}", "x".repeat(20));
                let fields = AnswerFields {
                    user: Some("ann".into()),
                    channels: vec![ChannelName::checked("a"), ChannelName::checked("b")],
                    expires_in: Some(7),
                    content: Some(b"[1]".to_vec().into()),
                    ..*AnswerFields::with_state(&long)
                };
                let work = Suspended::Upgrade(pending, Some(Box::new(fields)));
                self.connection.suspend(Awaits::Channel, work);
            }
            Suspended::Upgrade(pending, fields) => {
                self.open(pending.exchange, pending.upgrade, &pending.query, fields);
            }
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

mod courses;
mod facts;
