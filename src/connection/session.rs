//! The session: which phase a connection is in, bytes in and [`Event`]s out.
//!
//! Owns: the phase. What belongs to one phase alone lies in it: requests and bodies ([`super::exchange`]), the WebSocket
//! ([`super::websocket`]), what waits for an answer ([`super::suspended`]). Answers malformed requests by itself. Never
//! knows: who may do what, the stream.
//!
//! A request belongs to the hub from its [`Event`] until the hub answers it, has its body read or suspends it; meanwhile
//! nothing else is understood.

use std::net::SocketAddr;
use std::ops::Range;

use super::exchange::{BodyReader, Found, HeadReader};
use super::suspended::{Awaits, Suspended};
use super::websocket::{Closing, LINGER, Next, Open, Said, shift};
use super::{Ending, Exchange, Limits, Peer};
use crate::buffers::Outbox;
use crate::clock::{Clock, Millis};
use crate::wire::frame::Opcode;
use crate::wire::handshake::{self, Upgrade};
use crate::wire::http::{self, Head, Refusal, Reply, ReplyOptions, Status};
use crate::wire::message::Payload;

/// How long a connection without a request under way is kept (`docs/api.md#http`).
const KEEP_ALIVE: Millis = 75_000;
/// How often a stream of events sends a comment, so that no proxy takes it for dead.
const BEAT: Millis = 15_000;
/// The comment, as server-sent events have it.
const STILL_THERE: &[u8] = b":\n\n";
/// How long a connection cannot be evicted after it was accepted or answered: what a slow line needs to send the next
/// request or to read the last answer.
const GRACE: Millis = 250;

/// Everything that a connection tells the hub.
#[derive(Debug)]
pub enum Event {
    /// The proxy at the other end has named its client, if it knows one.
    Introduced(Option<SocketAddr>),
    /// A request's head has come, and where its body lies if all of it lies in the input. Otherwise the body has not
    /// been looked at.
    Request(Exchange, Head, Option<Range<usize>>),
    /// The body that was asked for is complete.
    Body(Exchange, Payload),
    /// The body that was asked for is malformed or too long; its end cannot be found.
    BadBody(Exchange, Refusal),
    /// A message, [`Opcode::Text`] or [`Opcode::Binary`].
    Said(Opcode, Payload),
    /// The WebSocket is to be closed; nothing more is understood until it is.
    Bye(Ending),
}

/// How far [`Session::next`] came.
#[derive(Debug)]
pub struct Step {
    /// Bytes of the input that are understood, and never to be shown again.
    pub used: usize,
    /// `None`: more bytes are needed.
    pub event: Option<Event>,
}

impl Step {
    fn event(used: usize, event: Event) -> Step {
        Step {
            used,
            event: Some(event),
        }
    }

    fn wait(used: usize) -> Step {
        Step { used, event: None }
    }
}

#[derive(Debug)]
enum Phase {
    Request(HeadReader),
    Body(Box<BodyReader>),
    /// A request waits for an answer.
    Suspended(Box<(Awaits, Suspended)>),
    Open(Open),
    /// The answer goes on until one side ends it. Input is discarded.
    Streaming {
        beat: Millis,
    },
    Closing(Closing),
}

/// An idle connection is mostly this; there may be a million of them.
const _: () = assert!(size_of::<Session>() <= 32);

/// Whether a connection may be evicted: closed so that a new one can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evictable {
    /// It has no request, or its last answer is sent, and not [just now](GRACE).
    Yes,
    /// If no other is: a request has begun, or an answer is being sent.
    IfNeeded,
    /// It is a WebSocket, a request is being worked on, or it is [new](GRACE).
    No,
}

#[derive(Debug)]
pub struct Session {
    phase: Phase,
    ending: Option<Ending>,
    over: bool,
    /// A proxy at the other end names its clients, by the PROXY protocol.
    relayed: bool,
}

impl Session {
    /// `now` is when the connection was accepted.
    pub fn new(now: Millis) -> Session {
        Session {
            phase: Phase::Request(HeadReader::first(now)),
            ending: None,
            over: false,
            relayed: false,
        }
    }

    /// Nothing is understood before a header of the PROXY protocol.
    pub fn expect_proxy(&mut self) {
        self.relayed = true;
        if let Phase::Request(head) = &mut self.phase {
            head.expect_proxy();
        }
    }

    /// Whether the other end is a proxy that names its clients.
    pub fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Why it ends, once it does.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    pub fn is_listening(&self) -> bool {
        !self.over && !self.is_suspended()
    }

    /// Whether something waits for an answer.
    fn is_suspended(&self) -> bool {
        match &self.phase {
            Phase::Suspended(_) => true,
            Phase::Open(open) => open.is_suspended(),
            _ => false,
        }
    }

    /// Whether a command waits for an answer.
    pub fn is_command_suspended(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.is_suspended())
    }

    /// Whether it speaks HTTP, with no request suspended.
    pub fn is_http(&self) -> bool {
        matches!(self.phase, Phase::Request(_) | Phase::Body(_))
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether it counts as a WebSocket: it is one, or an upgrade is under way.
    pub fn is_websocket(&self) -> bool {
        self.is_open() || self.upgrading().is_some()
    }

    /// The client of the upgrade about which the authorizer is being asked.
    pub fn upgrading(&self) -> Option<Peer> {
        match &self.phase {
            Phase::Suspended(suspended) => match &suspended.1 {
                Suspended::Upgrade { exchange, .. } => Some(exchange.from),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the authorizer's answer would still do something.
    pub fn awaits_verdict(&self) -> bool {
        let awaits = match &self.phase {
            Phase::Suspended(suspended) => Some(suspended.0),
            Phase::Open(open) => open.awaits(),
            _ => None,
        };
        !self.over && awaits == Some(Awaits::Verdict)
    }

    /// Bytes that have come and wait: of a message or a body that is not complete, or that is suspended.
    pub fn held(&self) -> usize {
        match &self.phase {
            Phase::Body(body) => body.held(),
            Phase::Suspended(suspended) => suspended.1.held(),
            Phase::Open(open) => open.held(),
            Phase::Closing(closing) => closing.held(),
            Phase::Request(_) | Phase::Streaming { .. } => 0,
        }
    }

    /// Whether a request, or a part of one, has come that was not answered.
    pub fn has_request(&self) -> bool {
        match &self.phase {
            Phase::Request(head) => head.has_begun(),
            Phase::Body(_) | Phase::Suspended(_) => true,
            _ => false,
        }
    }

    pub fn evictable(&self, now: Millis) -> Evictable {
        let (evictable, since) = match &self.phase {
            Phase::Request(head) if head.has_begun() => (Evictable::IfNeeded, head.since()),
            Phase::Request(head) => (Evictable::Yes, head.since()),
            Phase::Body(body) => (Evictable::IfNeeded, body.since()),
            Phase::Closing(closing) => (Evictable::Yes, closing.until(now).saturating_sub(LINGER)),
            Phase::Suspended(_) | Phase::Open(_) | Phase::Streaming { .. } => {
                return Evictable::No;
            }
        };
        match self.over || now < since.saturating_add(GRACE) {
            true => Evictable::No,
            false => evictable,
        }
    }

    /// Whether nothing is left to send or receive.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Bytes have come.
    #[inline(always)]
    pub fn active(&mut self, now: Millis) {
        if let Phase::Open(open) = &mut self.phase {
            open.active(now);
        }
    }

    /// Understands the next thing in `input`.
    pub fn next(
        &mut self,
        input: &mut [u8],
        peer: &Peer,
        outbox: &mut Outbox,
        clock: &Clock,
        limits: &Limits,
    ) -> Step {
        let all = input.len();
        let mut used = 0;
        loop {
            let rest = input.get_mut(used..).unwrap_or_default();
            match &mut self.phase {
                // Nothing is understood while something waits for an answer.
                Phase::Suspended(_) => return Step::wait(used),
                Phase::Open(open) if open.is_suspended() => return Step::wait(used),
                Phase::Open(open) => {
                    let (count, said) = open.next(rest, outbox, limits);
                    let at = used;
                    used = used.saturating_add(count);
                    let event = said.map(|said| match said {
                        Said::Message(kind, payload) => Event::Said(kind, shift(payload, at)),
                        Said::End(ending) => Event::Bye(ending),
                    });
                    return Step { used, event };
                }
                Phase::Request(head) => match head.next(rest, peer, clock.now, limits) {
                    Ok(None) => return Step::wait(used),
                    Ok(Some((found, count))) => return found_at(found, used, count),
                    Err(refusal) => {
                        self.refuse(refusal, Ending::BadRequest, outbox, clock);
                        return Step::wait(all);
                    }
                },
                Phase::Body(body) => match body.feed(rest, outbox) {
                    Ok((count, None)) => return Step::wait(used.saturating_add(count)),
                    Ok((count, Some(payload))) => {
                        let payload = shift(payload, used);
                        used = used.saturating_add(count);
                        let (exchange, upgrade) = (body.take_exchange(), body.take_upgrade());
                        self.phase = Phase::Request(HeadReader::following(clock.now));
                        if let Some(mut exchange) = exchange {
                            exchange.body_was_read();
                            let event = match upgrade {
                                Some(head) => Event::Request(exchange, head, Some(used..used)),
                                None => Event::Body(exchange, payload),
                            };
                            return Step::event(used, event);
                        }
                    }
                    Err(refusal) if body.is_of_upgrade() => {
                        let refusal = match refusal.status {
                            Status::ContentTooLarge => handshake::has_body(),
                            _ => refusal,
                        };
                        self.refuse(refusal, Ending::BadRequest, outbox, clock);
                        return Step::wait(all);
                    }
                    Err(refusal) => {
                        let exchange = body.take_exchange();
                        self.linger(Ending::BadRequest, clock.now);
                        let event = exchange.map(|exchange| Event::BadBody(exchange, refusal));
                        return Step { used: all, event };
                    }
                },
                Phase::Closing(closing) => match closing.next(rest, limits) {
                    Ok((count, found)) => {
                        self.over |= found;
                        return Step::wait(used.saturating_add(count));
                    }
                    Err(_) => {
                        self.linger(Ending::Reset, clock.now);
                        return Step::wait(all);
                    }
                },
                Phase::Streaming { .. } => return Step::wait(all),
            }
        }
    }

    /// Answers a request, which ends with it. `closing`: so does the connection, whatever the client wishes.
    pub fn answer(
        &mut self,
        exchange: Exchange,
        reply: &Reply,
        closing: bool,
        outbox: &mut Outbox,
        clock: &Clock,
        limits: &Limits,
    ) {
        let options = exchange.reply_options(closing, limits);
        outbox.own(|out| http::respond(out, reply, options, Some(&clock.date)));
        if options.close {
            self.linger(Ending::Answered, clock.now);
        } else if exchange.is_unread() {
            self.phase = Phase::Body(Box::new(BodyReader::skip(exchange, limits)));
        } else {
            self.phase = Phase::Request(HeadReader::following(clock.now));
        }
    }

    /// Has a request's body read, to come back as [`Event::Body`].
    pub fn read_body(&mut self, exchange: Exchange, limits: &Limits) {
        self.phase = Phase::Body(Box::new(BodyReader::keep(exchange, limits)));
    }

    /// Reads the chunked body of an upgrade request, which has to be empty: RFC 6455 4.1 wants a GET, and a proxy may
    /// frame a GET's missing body as chunks. Then the request comes again as [`Event::Request`].
    pub fn read_empty_body(&mut self, exchange: Exchange, upgrade: Head, limits: &Limits) {
        self.phase = Phase::Body(Box::new(BodyReader::empty(exchange, upgrade, limits)));
    }

    /// The answer to a request has begun and will go on.
    pub fn stream(&mut self, now: Millis) {
        self.phase = Phase::Streaming { beat: now };
    }

    /// The answer that went on is complete.
    pub fn end_stream(&mut self, ending: Ending, now: Millis) {
        if let Phase::Streaming { .. } = self.phase {
            self.linger(ending, now);
        }
    }

    /// Keeps `work` until the answer that it awaits has come.
    pub fn suspend(&mut self, awaits: Awaits, work: Suspended) {
        match &mut self.phase {
            Phase::Open(open) => open.suspend(awaits, work),
            phase => *phase = Phase::Suspended(Box::new((awaits, work))),
        }
    }

    /// What waits for this answer, if anything does. Until it is answered or suspended again, the session is between two
    /// requests.
    pub fn resume(&mut self, answer: Awaits, now: Millis) -> Option<Suspended> {
        match &mut self.phase {
            Phase::Open(open) => open.resume(answer, now),
            Phase::Suspended(suspended) if suspended.0 == answer => {
                let between = Phase::Request(HeadReader::following(0));
                match std::mem::replace(&mut self.phase, between) {
                    Phase::Suspended(suspended) => Some(suspended.1),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Answers an upgrade with `101`; from now on messages are spoken.
    pub fn open(&mut self, upgrade: &Upgrade, outbox: &mut Outbox, clock: &Clock) {
        outbox.own(|out| handshake::switching(out, upgrade, Some(&clock.date)));
        self.phase = Phase::Open(Open::new(clock.now));
    }

    /// Begins the end of a WebSocket.
    pub fn close(&mut self, ending: Ending, outbox: &mut Outbox, now: Millis) {
        if let Phase::Open(open) = &mut self.phase {
            let closing = open.close(ending, outbox, now);
            self.end(ending);
            self.phase = Phase::Closing(closing);
        }
    }

    /// Lets go of what has come; a client that waits for an answer is sent `503`. `retry_after` is in seconds.
    pub fn overload(&mut self, retry_after: String, outbox: &mut Outbox, clock: &Clock) {
        match &self.phase {
            Phase::Closing(_) => self.over = true,
            Phase::Body(body) if body.is_skipping() => {
                self.linger(Ending::Overloaded, clock.now);
            }
            _ => {
                let message = "there is no room for your request: come back later";
                let refusal = Refusal::new(Status::Unavailable, "overloaded", message)
                    .with("Retry-After", retry_after);
                self.refuse(refusal, Ending::Overloaded, outbox, clock);
            }
        }
    }

    /// It is over at once: nothing more can be sent or received.
    pub fn fail(&mut self, ending: Ending) {
        self.end(ending);
        self.over = true;
    }

    /// Its file descriptor is needed. A client that waits for an answer, or has had none yet, is sent `503`, which has to
    /// be flushed at once. `retry_after` is in seconds.
    pub fn evict(&mut self, retry_after: String, outbox: &mut Outbox, clock: &Clock) {
        let waits = match &self.phase {
            Phase::Request(head) => head.is_unanswered(),
            Phase::Body(body) => !body.is_skipping(),
            _ => false,
        };
        // An answer that is being sent is not mixed with another.
        if waits && outbox.is_empty() {
            let full = "the server is full: come back later, and send the request at once";
            let refusal =
                Refusal::new(Status::Unavailable, "full", full).with("Retry-After", retry_after);
            self.refuse(refusal, Ending::NoRoom, outbox, clock);
        }
    }

    /// Notes why it ends; the first reason stays.
    pub fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    /// The client has ended the stream. What was answered is still sent to it.
    pub fn ended(&mut self, outbox: &Outbox, now: Millis) {
        self.end(Ending::Left);
        if outbox.is_empty() || !self.is_http() && !matches!(self.phase, Phase::Closing(_)) {
            self.over = true;
        } else if self.is_http() {
            self.phase = Phase::Closing(Closing::send_rest(now));
        }
    }

    /// Whether [`Session::all_sent`] would do something, once all is sent.
    pub fn is_finishing(&self) -> bool {
        !self.over && matches!(&self.phase, Phase::Closing(closing) if closing.is_finishing())
    }

    /// Everything in the outbox has been sent. `drained`: and everything that has come was read. Returns whether the
    /// client is now to be told that nothing more follows.
    #[inline]
    pub fn all_sent(&mut self, drained: bool, now: Millis) -> bool {
        let Phase::Closing(closing) = &mut self.phase else {
            return false;
        };
        let next = closing.all_sent(drained, now);
        self.over |= next == Next::Over;
        next == Next::Finish
    }

    /// When it has to be looked at, if nothing happens before.
    pub fn deadline(&self, now: Millis, limits: &Limits) -> Option<Millis> {
        match &self.phase {
            _ if self.over => None,
            Phase::Request(head) if head.is_between_requests() => {
                Some(head.since().saturating_add(KEEP_ALIVE))
            }
            Phase::Request(head) => Some(head.since().saturating_add(limits.handshake_timeout)),
            Phase::Body(body) => Some(body.since().saturating_add(limits.handshake_timeout)),
            Phase::Suspended(_) => None,
            Phase::Open(open) => open.deadline(now, limits),
            Phase::Streaming { beat } => Some(beat.saturating_add(BEAT)),
            Phase::Closing(closing) => Some(closing.until(now)),
        }
    }

    /// The deadline has passed.
    pub fn expire(&mut self, outbox: &mut Outbox, clock: &Clock, limits: &Limits) {
        match &mut self.phase {
            Phase::Open(open) => {
                if open.expire(outbox, clock.now, limits) {
                    self.fail(Ending::Silent);
                }
            }
            Phase::Body(body) if body.is_skipping() => {
                self.linger(Ending::HandshakeTimeout, clock.now);
            }
            Phase::Request(head) if head.is_between_requests() => self.fail(Ending::Idle),
            Phase::Request(_) | Phase::Body(_) => {
                let late = "the request was not complete in time: send it at once, or raise --handshake-timeout";
                let refusal = Refusal::new(Status::RequestTimeout, "request_timeout", late);
                self.refuse(refusal, Ending::HandshakeTimeout, outbox, clock);
            }
            Phase::Streaming { beat } => {
                *beat = clock.now;
                if outbox.is_empty() {
                    outbox.own(|out| out.extend_from_slice(STILL_THERE));
                }
            }
            Phase::Closing(_) => self.over = true,
            Phase::Suspended(_) => {}
        }
    }

    /// Answers what was no complete request, and ends.
    fn refuse(&mut self, refusal: Refusal, ending: Ending, outbox: &mut Outbox, clock: &Clock) {
        outbox
            .own(|out| http::respond(out, &refusal.reply(), ReplyOptions::LAST, Some(&clock.date)));
        self.linger(ending, clock.now);
    }

    fn linger(&mut self, ending: Ending, now: Millis) {
        self.end(ending);
        self.phase = Phase::Closing(Closing::linger(now));
    }
}

/// A step to what was found `at` bytes behind the input's start, in `count` bytes.
fn found_at(found: Found, at: usize, count: usize) -> Step {
    let event = match found {
        Found::Client(client) => Event::Introduced(client),
        Found::Request(exchange, head, body) => {
            let shift =
                |body: Range<usize>| body.start.saturating_add(at)..body.end.saturating_add(at);
            Event::Request(exchange, head, body.map(shift))
        }
    };
    Step::event(at.saturating_add(count), event)
}
