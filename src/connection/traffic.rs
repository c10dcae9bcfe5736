//! What goes in and out of a connection.
//!
//! Owns: [`Connection::fill`] and [`Connection::flush`] (with [`Connection::deliver`]), which are all the reads and writes of
//! a client. Knows: its limits, and the time as an argument. Never knows: what a message means.
//!
//! Decision: registered once, edge-triggered, over registering anew for each wish. A read that did not fill the buffer
//! has drained the socket, so it is not followed by one that would block; a write that blocked is told by an edge. The
//! price is that whoever stops early has to remember that there is more ([`Connection::has_work`]).
//!
//! Decision: reads and writes are inlined, with their system calls, into the loops that walk over connections, over calls
//! as the compiler would have them. Because where the kernel has to spoil the processor's predictions of returns (against
//! Spectre, on AMD), to return from a function in which a system call was made takes 0.6 µs: a seventh of a `send`, and
//! twenty times of all else that a delivery takes here. Reconsider when `cargo bench --bench versus` shows no difference.

use std::io;

use super::{
    Awaits, Connection, Ending, Exchange, Filled, Limits, Peer, Stream, Suspended, Understood,
    websocket,
};
use crate::buffers::{Inbox, Runs, Sent, Slice, Taken};
use crate::clock::{Clock, Millis};
use crate::wire::handshake::Upgrade;
use crate::wire::http::{self, Head, Reply};

/// It ends.
impl<S: Stream> Connection<S> {
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

    /// The client has ended the stream, or the connection, and what waits for the authorizer is forgotten.
    pub fn leave(&mut self, now: Millis) {
        self.session.resume(Awaits::Verdict, now);
        self.forget_input();
        self.ended(now);
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
}

/// It is read, understood and written to.
impl<S: Stream> Connection<S> {
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
    pub fn next(&mut self, input: &mut [u8], clock: &Clock, limits: &Limits) -> Understood {
        let step = self
            .session
            .next(input, &self.peer, &mut self.outbox, clock, limits);
        self.starved = step.event.is_none();
        step
    }

    /// Answers the pings at the front of `input`, while a question is held. Returns how many bytes were used.
    pub fn answer_pings(&mut self, input: &mut [u8], limits: &Limits) -> usize {
        let used = self.session.answer_pings(input, &mut self.outbox, limits);
        self.starved = true;
        self.too_slow |= used.is_none();
        used.unwrap_or_default()
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
