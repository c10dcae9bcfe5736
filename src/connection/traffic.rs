//! What goes in and out of a connection.
//!
//! Owns: [`Connection::fill`] and [`Connection::flush`] (with [`Connection::deliver`]), which are all the reads and writes of
//! a client. Knows: its limits, and the time as an argument. Never knows: what a message means.
//!
//! Decision: registered once, edge-triggered, rather than registering again for each kind of readiness. A read that did
//! not fill the buffer has drained the socket, so no read follows that would block. After a write that blocked, the
//! poll reports room. The price is that code which stops early has to remember that there is more
//! ([`Connection::has_work`]).
//!
//! Decision: reads and writes are inlined, with their system calls, into the loops that walk over connections, rather
//! than calls as the compiler would have them, because with some mitigations of Spectre on AMD, returning from a
//! function that has made a system call takes 0.6 µs. That is a seventh of a `send`, and twenty times all else in a
//! delivery. Reconsider when `cargo bench --bench versus` shows no difference.

use std::io;

use super::{
    Awaits, Connection, Ending, Exchange, Filled, Limits, NextInput, Peer, Stream, Suspended,
    websocket,
};
use crate::buffers::{Runs, Sent, Slice, Taken};
use crate::clock::{Clock, Millis};
use crate::wire::handshake::Upgrade;
use crate::wire::http::{self, Head, Reply};

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

    /// Reads the next [`Input`](super::Input) from `input`.
    pub fn next(&mut self, input: &mut [u8], clock: &Clock, limits: &Limits) -> NextInput {
        let step = self
            .session
            .next(input, &self.peer, &mut self.outbox, clock, limits);
        self.starved = step.input.is_none();
        step
    }

    /// Answers the pings at the front of `input`, while a question is held. Returns how many bytes were used.
    pub fn answer_pings(&mut self, input: &mut [u8], limits: &Limits) -> usize {
        let used = self.session.answer_pings(input, &mut self.outbox, limits);
        self.starved = true;
        self.too_slow |= used.is_none();
        used.unwrap_or_default()
    }

    /// Whether bytes were received and not used.
    pub fn has_input(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Keeps bytes that were not used.
    pub fn keep_input(&mut self, bytes: &[u8]) {
        self.inbox.append(bytes);
    }

    /// Takes the bytes that were not used. Those that are still not used are to be put back.
    pub fn take_input(&mut self) -> Taken {
        self.inbox.take()
    }

    /// Puts back what [`Connection::take_input`] took, less the first `used` bytes.
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

    /// Takes back the upgrade under way, whatever it waits for. Its request is still to be answered.
    pub fn cancel_upgrade(&mut self, now: Millis) -> Option<Exchange> {
        if !self.is_upgrading() {
            return None;
        }
        let work = self
            .resume(Awaits::Verdict, now)
            .or_else(|| self.resume(Awaits::Channel, now))?;
        match work {
            Suspended::Upgrade(upgrade, _) => Some(upgrade.exchange),
            _ => None,
        }
    }

    /// Puts a text message behind the `101`, whatever may wait; `write` appends its payload.
    pub fn greet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        websocket::push_text(&mut self.outbox, write);
    }

    /// Has the chunked body of an upgrade request read, which has to be empty.
    pub fn read_empty_body(&mut self, exchange: Exchange, upgrade: Head, limits: &Limits) {
        self.session.read_empty_body(exchange, upgrade, limits);
    }

    /// Has a request's body read.
    pub fn read_body(&mut self, exchange: Exchange, limits: &Limits) {
        self.session.read_body(exchange, limits);
    }

    /// Has the next answer take no allocation, if nothing waits.
    #[inline]
    pub fn prepare(&mut self, runs: &mut Runs) {
        self.outbox.prepare(runs);
    }

    /// Answers a request. `closing`: the connection ends after it, even if the client wants to keep it.
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

    /// Answers a request with a body of unknown length, which is put into the outbox part by part.
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

    /// Answers an upgrade with `101`. From now on the input is frames.
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

    /// Whether `more` bytes may be appended; if not, it is too slow. Nothing is appended after the first refusal, so
    /// messages are missing only at the end.
    fn has_room(&mut self, more: usize, limits: &Limits) -> bool {
        self.too_slow |= !self.outbox.has_room(more, limits.max_queue);
        !self.too_slow
    }

    /// Sends a part of a shared run, at once if nothing waits before it. Returns false if the connection is broken or
    /// too slow, and has to be ended.
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

    /// Notes that nothing can be sent any more. A client that sends a command and disconnects at once is still served:
    /// its input and its open question go before its end. The poll reports a reset.
    fn broken(&mut self, runs: &mut Runs) {
        self.outbox.clear(runs);
        if self.session.is_open() {
            self.session.end(Ending::Reset);
            (self.hung_up, self.unread) = (true, true);
        } else {
            self.session.fail(Ending::Reset);
        }
    }

    /// Notes that it can still be read, but that nothing can be sent any more.
    fn is_mute(&self) -> bool {
        self.session.is_open() && self.session.ending().is_some()
    }

    /// Appends a part of a shared run to the outbox, to be sent by [`Connection::flush`].
    pub fn enqueue(&mut self, slice: Slice, runs: &mut Runs, limits: &Limits) {
        if self.has_room(slice.len(), limits) {
            self.outbox.share(slice, runs);
        }
    }

    /// Sends what waits, as far as the kernel takes it, and acts on an empty outbox.
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
