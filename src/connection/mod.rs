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
mod exchange;
mod identity;
mod peer;
mod session;
mod suspended;
mod websocket;

use std::io::{self, Read, Write};

pub use ending::Ending;
pub use exchange::Exchange;
pub use identity::{Identities, Identity};
pub use peer::{Network, Peer};
pub use session::{Event, Evictable, Step};
pub use suspended::{Awaits, Suspended};

use self::session::Session;
use crate::buffers::{Inbox, Outbox, Runs, Sent, Slice, Taken};
use crate::clock::{Clock, Millis};
use crate::wire::encoding::Encoding;
use crate::wire::handshake::Upgrade;
use crate::wire::http::{self, Head, Reply};

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
    /// The other end; of a WebSocket, the client that a proxy there has named.
    peer: Peer,
    session: Session,
    inbox: Inbox,
    outbox: Outbox,
    /// The kernel may have bytes that were not read.
    unread: bool,
    /// The other side sends no more than what the kernel has.
    hung_up: bool,
    /// Of that, the other side has ended its stream in order. What breaks it later is that something was sent to it.
    finished: bool,
    /// The other side has broken the stream.
    reset: bool,
    /// The authorizer is being asked about it.
    asking: bool,
    /// More bytes have to come before there is anything to understand.
    starved: bool,
    /// More came for it than may wait.
    too_slow: bool,
    /// It is to be closed because the server stops, once the open question is answered.
    stopping: bool,
    encoding: Encoding,
    identity: Identity,
    marks: Marks,
}

/// What the hub notes on a connection, so that it need not look into its lists. The connection only keeps it.
#[derive(Debug)]
pub struct Marks {
    /// The step of the deadline wheel in which its valid entry lies; 0 is none.
    pub alarm: u32,
    /// It is in the list of those to be flushed.
    pub dirty: bool,
    /// It is in the list of those that have work but no edge to come.
    pub again: bool,
    /// It is in the list of those to be dropped.
    pub to_drop: bool,
    /// As what it is counted.
    pub standing: Standing,
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
            unread: false,
            hung_up: false,
            finished: false,
            reset: false,
            asking: false,
            starved: true,
            too_slow: false,
            stopping: false,
            encoding: Encoding::Raw,
            identity: Identity::default(),
            marks: Marks {
                alarm: 0,
                dirty: false,
                again: false,
                to_drop: false,
                standing: Standing::Idle,
            },
        }
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Unique since the server's start.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Tells this connection from others in its slot: the low half of its serial number.
    pub fn generation(&self) -> u32 {
        self.serial as u32
    }

    pub fn marks(&mut self) -> &mut Marks {
        &mut self.marks
    }

    /// The client: of a WebSocket or an upgrade under way, the one that a proxy has named.
    pub fn client(&self) -> Peer {
        self.session.upgrading().unwrap_or(self.peer)
    }

    /// The other end has named its client, by the PROXY protocol.
    pub fn introduce(&mut self, client: Peer) {
        self.peer = client;
    }

    /// Nothing is understood before a header of the PROXY protocol.
    pub fn expect_proxy(&mut self) {
        self.session.expect_proxy();
    }

    /// Whether a program on this machine is at the other end, and speaks for itself.
    pub fn is_local(&self) -> bool {
        self.peer.is_local() && !self.session.is_relayed()
    }

    /// The encoding in which it is sent what is broadcast.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The query and state that questions about it show.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// The poll said that there is something to read; `closed`: and that it is the last; `reset`: and that the stream is
    /// broken.
    pub fn readable(&mut self, closed: bool, reset: bool) {
        self.unread = true;
        self.hung_up |= closed;
        self.finished |= closed && !reset;
        self.reset |= reset && !self.finished;
    }

    /// Whether the other side sends no more than what the kernel has.
    pub fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Whether the other side has broken the stream, and not only ended it.
    pub fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether the authorizer is being asked about it.
    pub fn is_asking(&self) -> bool {
        self.asking
    }

    /// The authorizer is asked about it, or no longer. Returns whether it was.
    pub fn set_asking(&mut self, asking: bool) -> bool {
        std::mem::replace(&mut self.asking, asking)
    }

    /// Whether an answer of the authorizer would still do something.
    pub fn awaits_verdict(&self) -> bool {
        self.session.awaits_verdict()
    }

    /// The poll said that the kernel takes more. Returns whether something waits for that.
    #[inline(always)]
    pub fn writable(&mut self) -> bool {
        let blocked = self.outbox.is_blocked();
        if blocked {
            self.outbox.unblock();
        }
        blocked
    }

    /// Whether the kernel may have bytes that were not read.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Whether more bytes have to come before there is anything to understand.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether bytes would be understood, if there were any: not while it waits for an answer, nor while the answers to
    /// earlier requests wait to be sent.
    pub fn is_listening(&self) -> bool {
        self.session.is_listening() && !(self.session.is_http() && self.outbox.is_blocked())
    }

    /// Whether the authorizer is being asked about an upgrade of it.
    pub fn is_upgrading(&self) -> bool {
        self.session.upgrading().is_some()
    }

    /// Whether it is an open WebSocket.
    pub fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Whether nothing is left to send or receive.
    pub fn is_over(&self) -> bool {
        self.session.is_over()
    }

    /// Whether a command waits for an answer.
    pub fn is_command_suspended(&self) -> bool {
        self.session.is_command_suspended()
    }

    /// Whether more came for it than may wait.
    pub fn is_too_slow(&self) -> bool {
        self.too_slow
    }

    /// Why it ends, once it does.
    pub fn ending(&self) -> Option<Ending> {
        self.session.ending()
    }

    /// Whether it speaks HTTP and no request of it waits for an answer.
    pub fn is_unused(&self) -> bool {
        self.session.is_http() && !self.session.has_request()
    }

    /// Bytes that have come from it and wait.
    pub fn waiting_in(&self) -> usize {
        self.inbox.len().saturating_add(self.session.held())
    }

    /// Bytes that wait to be sent to it.
    pub fn waiting_out(&self) -> usize {
        self.outbox.len()
    }

    /// Whether a flush would do something.
    pub fn wants_flush(&self) -> bool {
        let unsent = !self.outbox.is_empty() || self.session.is_finishing();
        unsent && !self.outbox.is_blocked()
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
        } else if self.is_unused() && !self.has_work() && self.outbox.is_empty() {
            Standing::Idle
        } else {
            Standing::Busy
        }
    }

    /// Brings the sums in `runs` up to date with what waits to be sent.
    pub fn count(&mut self, runs: &mut Runs) {
        self.outbox.count(runs);
    }

    /// When it has to be looked at, if nothing happens before.
    pub fn deadline(&self, now: Millis, limits: &Limits) -> Option<Millis> {
        self.session.deadline(now, limits)
    }

    /// Does what is due, if its deadline has passed.
    pub fn expire(&mut self, clock: &Clock, limits: &Limits) {
        let deadline = self.session.deadline(clock.now, limits);
        if deadline.is_some_and(|at| at <= clock.now) {
            self.session.expire(&mut self.outbox, clock, limits);
        }
    }

    /// Whether it may be evicted.
    pub fn evictable(&self, now: Millis) -> Evictable {
        match self.session.evictable(now) {
            Evictable::Yes if self.has_work() || !self.outbox.is_empty() => Evictable::IfNeeded,
            evictable => evictable,
        }
    }

    /// Ends it, because its file descriptor is needed. Its client is told at once, or not at all.
    pub fn evict(&mut self, retry_after: String, runs: &mut Runs, clock: &Clock) {
        self.session.evict(retry_after, &mut self.outbox, clock);
        self.flush(runs, clock.now);
        self.session.fail(Ending::NoRoom);
    }

    /// Ends a request, because too many bytes are buffered; a WebSocket is closed instead.
    pub fn overload(&mut self, retry_after: String, clock: &Clock) {
        self.session.overload(retry_after, &mut self.outbox, clock);
    }

    /// Lets go of what has come and was not understood.
    pub fn forget_input(&mut self) {
        self.inbox = Inbox::default();
    }

    /// It is to be closed because the server stops, once the open question is answered.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether it is to be closed now because the server stops.
    pub fn is_to_stop(&self) -> bool {
        self.stopping && !self.session.is_command_suspended()
    }

    /// It is over at once.
    pub fn fail(&mut self, ending: Ending) {
        self.session.fail(ending);
    }

    /// The client has ended the stream.
    pub fn ended(&mut self, now: Millis) {
        self.session.ended(&self.outbox, now);
    }

    /// Begins the end of a WebSocket: puts the close frame behind what waits.
    pub fn close(&mut self, ending: Ending, now: Millis) {
        self.session.close(ending, &mut self.outbox, now);
    }

    /// Lets go of everything that waits to be sent.
    pub fn clear(&mut self, runs: &mut Runs) {
        self.outbox.clear(runs);
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
                    self.session.active(now);
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
        let step = self
            .session
            .next(input, &self.peer, &mut self.outbox, clock, limits);
        self.starved = step.event.is_none();
        step
    }

    /// Whether bytes have come that were not understood.
    pub fn has_input(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Keeps bytes that were not understood.
    pub fn keep_input(&mut self, bytes: &[u8]) {
        self.inbox.append(bytes);
    }

    /// Takes the bytes that were not understood, to be given back less those that are.
    pub fn take_input(&mut self) -> Taken {
        self.inbox.take()
    }

    /// Gives back what [`Connection::take_input`] took, less the first `used` bytes.
    pub fn put_input_back(&mut self, input: Taken, used: usize) {
        self.inbox.put_back(input, used);
    }

    /// Keeps `work` until the answer that it awaits has come.
    pub fn suspend(&mut self, awaits: Awaits, work: Suspended) {
        self.session.suspend(awaits, work);
    }

    /// What waits for this answer, if anything does.
    pub fn resume(&mut self, answer: Awaits, now: Millis) -> Option<Suspended> {
        let work = self.session.resume(answer, now)?;
        self.starved = false;
        Some(work)
    }

    /// Has the chunked body of an upgrade request read, which has to be empty.
    pub fn read_empty_body(&mut self, exchange: Exchange, upgrade: Head, limits: &Limits) {
        self.session.read_empty_body(exchange, upgrade, limits);
    }

    /// Has a request's body read.
    pub fn read_body(&mut self, exchange: Exchange, limits: &Limits) {
        self.session.read_body(exchange, limits);
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

    /// Puts encoded bytes behind what waits to be sent; they are taken.
    pub fn push(&mut self, bytes: &mut Vec<u8>) {
        self.outbox.own(|out| out.append(bytes));
    }

    /// The body that went on is complete.
    pub fn end_stream(&mut self, ending: Ending, now: Millis) {
        self.session.end_stream(ending, now);
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
            websocket::push_text(&mut self.outbox, write);
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

    /// Nothing can be sent any more. A client that sends a command and hangs up at once is still served: what has come from
    /// it, or waits for a verdict, goes before its end. If it was a reset, the poll says so.
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
    pub fn enqueue(&mut self, slice: Slice, runs: &mut Runs, limits: &Limits) {
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
