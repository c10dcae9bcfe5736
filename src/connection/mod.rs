//! One connection: its stream, what waits in both directions, and its session.
//!
//! Owns: the stream; [`Connection::fill`] and [`Connection::flush`] (with [`Connection::deliver`]) are all the reads and
//! writes of a client. Knows: its limits and what time it is told. Never knows: another connection, channels, the
//! broker, the authorizer.
//!
//! Decision: registered once, edge-triggered, over registering anew for each wish. A read that did not fill the buffer
//! has drained the socket, so it is not followed by one that would block; a write that blocked is told by an edge. The
//! price is that whoever stops early has to remember that there is more ([`Connection::has_work`]).
//!
//! Decision: reads and writes are inlined, with their system calls, into the loops that walk over connections, over calls
//! as the compiler would have them. Because where the kernel has to spoil the processor's predictions of returns (against
//! Spectre, on AMD), to return from a function in which a system call was made takes 0.6 µs: a seventh of a `send`, and
//! twenty times of all else that a delivery takes here. Reconsider when `cargo bench --bench versus` shows no difference.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod ending;
mod identity;
mod peer;
mod session;

use std::io::{self, Read, Write};

pub use ending::Ending;
pub use identity::{Identities, Identity};
pub use peer::{Network, Peer};
pub use session::{Authorizing, Awaits, Claim, Event, Exchange, Parked, Publishing, Session, Step};

use crate::buffers::{Inbox, Outbox, Runs, Sent, Slice};
use crate::wire::encoding::Encoding;
use crate::wire::handshake::Upgrade;
use crate::wire::http::{self, Reply};

/// Milliseconds on the server's own clock, which begins at its start and never goes back.
pub type Millis = u64;

/// What time it is, as the server was told.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    pub now: Millis,
    /// The same in microseconds, for what is measured and not waited for. Told when a turn begins.
    pub micros: u64,
    /// Milliseconds from 1970 to the clock's beginning, as the system's clock has them.
    pub unix: Millis,
    /// The text of a Date header (RFC 9110 5.6.7).
    pub date: String,
}

/// What carries a connection's bytes: a socket in the program, a scripted pipe in tests.
pub trait Stream: Read + Write {
    /// Tells the other side that nothing more will be sent; reading goes on.
    ///
    /// # Errors
    /// As the kernel says; the connection is then of no more use.
    fn finish(&mut self) -> io::Result<()>;
}

/// What a connection may take and how long it may take for it (CONTRACT §2).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--handshake-timeout`, in milliseconds.
    pub handshake_timeout: Millis,
    /// `--ping-interval`, in milliseconds; 0 is never.
    pub ping_interval: Millis,
    /// `--max-message-size`, in bytes.
    pub max_message: usize,
    /// `--max-queue-size`, in bytes.
    pub max_queue: usize,
}

#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    /// Which connection this is since the server's start.
    serial: u64,
    /// Who is at the other end; once it is a WebSocket, for whom a proxy there speaks.
    pub peer: Peer,
    pub session: Session,
    pub inbox: Inbox,
    pub outbox: Outbox,
    /// The step of the deadline wheel in which this connection's valid entry lies; 0 is none.
    pub alarm: u32,
    /// The kernel may have bytes that were not read.
    unread: bool,
    /// The other side sends no more than what the kernel has.
    hung_up: bool,
    /// More bytes have to come before there is anything to understand.
    pub starved: bool,
    /// More came for it than may wait.
    pub too_slow: bool,
    /// It is to be closed because the server stops, once the open question is answered.
    pub stopping: bool,
    /// It stands in the hub's list of those to be flushed.
    pub dirty: bool,
    /// It stands in the hub's list of those with work but no edge to come.
    pub queued: bool,
    /// It stands in the hub's list of those to be dropped.
    pub to_drop: bool,
    /// As what the hub counts it.
    pub counted: Standing,
    /// How it hears what is broadcast.
    pub encoding: Encoding,
    pub identity: Identity,
}

/// As what a connection counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It would not miss the server: it is over, or waits for a request that has not begun.
    Idle,
    /// A request is under way, or an end.
    Busy,
    /// It is a WebSocket, or an upgrade is under way.
    WebSocket,
}

/// There may be a million of them. (The stream is a descriptor, four bytes.)
const _: () = assert!(size_of::<Connection<u32>>() <= 104);

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes at the start of the buffer.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other side sends no more.
    End,
    /// The connection is broken.
    Broken,
}

impl<S: Stream> Connection<S> {
    pub fn new(stream: S, peer: Peer, serial: u64, now: Millis) -> Self {
        Connection {
            stream,
            serial,
            peer,
            session: Session::new(now),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            alarm: 0,
            unread: false,
            hung_up: false,
            starved: true,
            too_slow: false,
            stopping: false,
            dirty: false,
            queued: false,
            to_drop: false,
            counted: Standing::Idle,
            encoding: Encoding::Raw,
            identity: Identity::default(),
        }
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Unique since the server's start.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Tells this tenant of its slot from others: the low half of its serial number.
    pub fn generation(&self) -> u32 {
        self.serial as u32
    }

    /// Who is served as a WebSocket, or will be.
    pub fn client(&self) -> Peer {
        self.session.upgrading().unwrap_or(self.peer)
    }

    /// The poll said that there is something to read; `closed`: and that it is the last.
    pub fn readable(&mut self, closed: bool) {
        self.unread = true;
        self.hung_up |= closed;
    }

    /// Whether the kernel may have bytes that were not read.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Whether bytes would be understood, were there any: not while a question is open, nor while the answers to earlier
    /// requests wait to be sent.
    pub fn is_listening(&self) -> bool {
        self.session.is_listening() && !(self.session.is_http() && self.outbox.is_blocked())
    }

    /// Bytes that have come from it and wait.
    pub fn waiting(&self) -> usize {
        self.inbox.len().saturating_add(self.session.held())
    }

    /// Lets go of what waits, and ends; a WebSocket is closed instead.
    pub fn overload(&mut self, clock: &Clock) {
        self.session.overload(&mut self.outbox, clock);
    }

    /// Whether a turn would do something although no edge will come.
    pub fn has_work(&self) -> bool {
        self.is_listening() && (self.unread || !self.starved)
    }

    /// As what it counts now.
    pub fn standing(&self) -> Standing {
        let session = &self.session;
        if session.is_over() {
            Standing::Idle
        } else if session.is_websocket() {
            Standing::WebSocket
        } else if session.is_http()
            && !session.is_asked()
            && !self.has_work()
            && self.outbox.is_empty()
        {
            Standing::Idle
        } else {
            Standing::Busy
        }
    }

    /// How much it would lose with its place.
    pub fn claim(&self, now: Millis) -> Claim {
        match self.session.claim(now) {
            Claim::None if self.has_work() || !self.outbox.is_empty() => Claim::Begun,
            claim => claim,
        }
    }

    /// Gives its place to somebody else. What its client is told goes out at once, or not at all.
    pub fn make_way(&mut self, retry_after: String, runs: &mut Runs, clock: &Clock) {
        self.session.make_way(retry_after, &mut self.outbox, clock);
        self.flush(runs, clock.now);
        self.session.fail(Ending::NoRoom);
    }

    /// Reads once into `buffer`. A read that does not fill it has drained the socket.
    #[inline(always)]
    pub fn fill(&mut self, buffer: &mut [u8], now: Millis) -> Filled {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.unread = false;
                    return Filled::End;
                }
                Ok(count) => {
                    self.unread = count == buffer.len() || self.hung_up;
                    self.session.heard(now);
                    return Filled::Bytes(count);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.is_mute() => {
                    self.unread = false;
                    return Filled::Nothing;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.unread = false;
                    return Filled::Broken;
                }
            }
        }
    }

    /// Understands the next thing in `input`.
    pub fn next(&mut self, input: &mut [u8], clock: &Clock, limits: &Limits) -> Step {
        self.session
            .next(input, &self.peer, &mut self.outbox, clock, limits)
    }

    /// Answers a request. `closing`: the connection ends after it, whatever the client wishes.
    pub fn answer(
        &mut self,
        exchange: Exchange,
        reply: &Reply,
        closing: bool,
        clock: &Clock,
        limits: &Limits,
    ) {
        self.session
            .answer(exchange, reply, closing, &mut self.outbox, clock, limits);
    }

    /// Answers a request with a body that goes on and on; it is put into the outbox as it comes about.
    pub fn stream(&mut self, content_type: &str, headers: &[http::Field], clock: &Clock) {
        let date = Some(clock.date.as_str());
        self.outbox
            .own(|out| http::begin_stream(out, content_type, headers, date));
        self.session.stream(clock.now);
    }

    /// Answers an upgrade with `101`; from now on messages are spoken.
    pub fn open(&mut self, from: Peer, upgrade: &Upgrade, clock: &Clock) {
        self.peer = from;
        self.encoding = upgrade.encoding;
        self.session.open(upgrade, &mut self.outbox, clock);
    }

    /// Puts a text message of this connection alone into the outbox, if there is room; `write` appends its payload.
    /// Returns whether there was.
    pub fn tell(&mut self, limits: &Limits, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let room = self.has_room(1, limits);
        if room {
            session::push_text(&mut self.outbox, write);
        }
        room
    }

    /// Whether `more` bytes may be put behind what waits; if not, it is too slow. Nothing follows what found no room, so
    /// that no message is missed but at the end.
    fn has_room(&mut self, more: usize, limits: &Limits) -> bool {
        self.too_slow |= !self.outbox.has_room(more, limits.max_queue);
        !self.too_slow
    }

    /// Sends a part of a shared run, at once if nothing waits before it. Returns false when it has to be ended: it is
    /// broken, or too slow.
    #[inline(always)]
    pub fn deliver(&mut self, slice: Slice, runs: &mut Runs, limits: &Limits) -> bool {
        if !self.has_room(slice.len(), limits) {
            return false;
        }
        if self.is_mute() {
            return true;
        }
        match self.outbox.send(&mut self.stream, slice, runs) {
            Sent::Broken => {
                self.broken(runs);
                false
            }
            Sent::All | Sent::Blocked => true,
        }
    }

    /// Nothing can be sent any more. A client that says something and hangs up at once is still heard (CONTRACT §6): what
    /// has come from it, or waits for a verdict, goes before its end.
    fn broken(&mut self, runs: &mut Runs) {
        self.outbox.clear(runs);
        if self.session.is_open() {
            self.session.end(Ending::Reset);
            (self.hung_up, self.unread) = (true, true);
        } else {
            self.session.fail(Ending::Reset);
        }
    }

    /// It is still heard, but nothing can be sent to it any more.
    fn is_mute(&self) -> bool {
        self.session.is_open() && self.session.ending().is_some()
    }

    /// Puts a part of a shared run behind what waits, to be sent by [`Connection::flush`].
    pub fn owe(&mut self, slice: Slice, runs: &mut Runs, limits: &Limits) {
        if self.has_room(slice.len(), limits) {
            self.outbox.share(slice, runs);
        }
    }

    /// Sends what waits, as far as the kernel takes it, and what follows from its being sent.
    #[inline(always)]
    pub fn flush(&mut self, runs: &mut Runs, now: Millis) {
        if self.is_mute() {
            return self.outbox.clear(runs);
        }
        match self.outbox.flush(&mut self.stream, runs) {
            Sent::All => {
                if self
                    .session
                    .all_sent(!self.unread && self.inbox.is_empty(), now)
                    && self.stream.finish().is_err()
                {
                    self.session.fail(Ending::Reset);
                }
            }
            Sent::Blocked => {}
            Sent::Broken => self.broken(runs),
        }
    }
}
