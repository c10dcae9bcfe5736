//! The session: which phase a connection is in, bytes in and [`Input`]s out.
//!
//! Owns: the phase. What belongs to one phase alone lies in it: requests and bodies ([`super::exchange`]), the
//! WebSocket ([`super::websocket`]), what waits for an answer ([`super::suspended`]). Answers malformed requests by
//! itself. Never knows: permissions, the stream.
//!
//! A request belongs to the hub from its [`Input`] until the hub answers it, has its body read or suspends it. Nothing
//! else is read meanwhile.

use super::exchange::{BodyReader, HeadReader};
use super::input::{Input, NextInput};
use super::phase::{Evictable, Phase};
use super::suspended::{Awaits, Suspended};
use super::websocket::{AfterSent, Closing, Open, shift};
use super::{Ending, Exchange, Limits, Peer};
use crate::buffers::Outbox;
use crate::clock::{Clock, Millis};
use crate::wire::handshake::{self, Upgrade};
use crate::wire::http::{self, Head, Refusal, Reply, Status};

/// The comment, as server-sent events have it.
const STILL_THERE: &[u8] = b":\n\n";

/// An idle connection is mostly this; there may be a million of them.
const _: () = assert!(size_of::<Session>() <= 32);

#[derive(Debug)]
pub struct Session {
    pub(super) phase: Phase,
    pub(super) ending: Option<Ending>,
    pub(super) over: bool,
    /// A proxy at the other end names its clients, by the PROXY protocol.
    pub(super) relayed: bool,
}

impl Session {
    /// The session of a connection that was accepted at `now`.
    pub fn new(now: Millis) -> Session {
        Session {
            phase: Phase::Request(HeadReader::first(now)),
            ending: None,
            over: false,
            relayed: false,
        }
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Expects a header of the PROXY protocol before anything else.
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
        !self.over && !self.phase.is_suspended()
    }

    /// Whether a command waits for an answer.
    pub fn is_command_suspended(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.is_command_suspended())
    }

    /// Whether it is an HTTP connection without a suspended request.
    pub fn is_http(&self) -> bool {
        matches!(self.phase, Phase::Request(_) | Phase::Body(_))
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether it counts as a WebSocket: it is one, or an upgrade is under way.
    pub fn is_websocket(&self) -> bool {
        self.is_open() || self.phase.upgrading().is_some()
    }

    /// Whether the authorizer's answer still has an effect.
    pub fn awaits_verdict(&self) -> bool {
        let awaits = self.phase.awaits();
        !self.over && awaits.is_some_and(|it| it.ends_with(Awaits::Verdict))
    }

    /// Whether its question is held.
    pub fn is_held(&self) -> bool {
        !self.over && self.phase.awaits() == Some(Awaits::HeldVerdict)
    }

    /// Notes that the connection's question is held.
    pub fn hold(&mut self, now: Millis) {
        self.phase.hold(now);
    }

    /// Answers the pings at the front of `input`, while a question is held. Returns how many bytes were used, or `None`
    /// when a pong finds no room.
    pub fn answer_pings(
        &mut self,
        input: &mut [u8],
        outbox: &mut Outbox,
        limits: &Limits,
    ) -> Option<usize> {
        match &mut self.phase {
            Phase::Open(open) => open.answer_pings(input, outbox, limits),
            _ => Some(0),
        }
    }

    /// The client need not have answered the last ping: it was not read.
    pub fn reset_ping(&mut self) {
        if let Phase::Open(open) = &mut self.phase {
            open.reset_ping();
        }
    }

    /// Whether it may be evicted.
    pub fn evictable(&self, now: Millis) -> Evictable {
        if self.over {
            Evictable::No
        } else {
            self.phase.evictable(now)
        }
    }

    /// The deadline at which to check it, if nothing happens before.
    pub fn deadline(&self, now: Millis, limits: &Limits) -> Option<Millis> {
        if self.over {
            None
        } else {
            self.phase.deadline(now, limits)
        }
    }

    /// Whether nothing is left to send or receive.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Notes that bytes were received.
    #[inline(always)]
    pub fn active(&mut self, now: Millis) {
        if let Phase::Open(open) = &mut self.phase {
            open.active(now);
        }
    }

    /// Reads the next [`Input`] from `input`.
    pub fn next(
        &mut self,
        input: &mut [u8],
        peer: &Peer,
        outbox: &mut Outbox,
        clock: &Clock,
        limits: &Limits,
    ) -> NextInput {
        let all = input.len();
        let mut used = 0;
        loop {
            let rest = input.get_mut(used..).unwrap_or_default();
            match &mut self.phase {
                // Nothing is read while something waits for an answer.
                Phase::Suspended(_) => return NextInput::wait(used),
                Phase::Open(open) if open.is_suspended() => return NextInput::wait(used),
                Phase::Open(open) => {
                    let (count, said) = open.next(rest, outbox, limits);
                    return NextInput::said(said, used, count);
                }
                Phase::Request(head) => match head.next(rest, peer, clock.now, limits) {
                    Ok(None) => return NextInput::wait(used),
                    Ok(Some((found, count))) => return NextInput::found(found, used, count),
                    Err(refusal) => {
                        self.refuse(refusal, Ending::BadRequest, outbox, clock);
                        return NextInput::wait(all);
                    }
                },
                Phase::Body(body) => match body.feed(rest, outbox) {
                    Ok((count, None)) => return NextInput::wait(used.saturating_add(count)),
                    Ok((count, Some(payload))) => {
                        let payload = shift(payload, used);
                        used = used.saturating_add(count);
                        let (exchange, upgrade) = (body.take_exchange(), body.take_upgrade());
                        self.phase = Phase::Request(HeadReader::following(clock.now));
                        if let Some(mut exchange) = exchange {
                            exchange.body_was_read();
                            let next = match upgrade {
                                Some(head) => Input::Request(exchange, head, Some(used..used)),
                                None => Input::Body(exchange, payload),
                            };
                            return NextInput::of(used, next);
                        }
                    }
                    Err(refusal) => return self.body_failed(refusal, all, outbox, clock),
                },
                Phase::Closing(closing) => match closing.next(rest, limits) {
                    Ok((count, found)) => {
                        self.over |= found;
                        return NextInput::wait(used.saturating_add(count));
                    }
                    Err(_) => {
                        self.linger(Ending::Reset, clock.now);
                        return NextInput::wait(all);
                    }
                },
                Phase::Streaming { .. } => return NextInput::wait(all),
            }
        }
    }

    /// Answers a request, which ends with it. `closing`: so does the connection, even if the client wants to keep it.
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

    /// Has a request's body read, to come back as [`Input::Body`].
    pub fn read_body(&mut self, exchange: Exchange, limits: &Limits) {
        self.phase = Phase::Body(Box::new(BodyReader::keep(exchange, limits)));
    }

    /// Reads the chunked body of an upgrade request, which has to be empty. RFC 6455 4.1 requires a GET, and a proxy
    /// may frame a GET's missing body as chunks. Afterwards the request is yielded again as [`Input::Request`].
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
            Phase::Suspended(suspended) if suspended.0.ends_with(answer) => {
                let between = Phase::Request(HeadReader::following(0));
                match std::mem::replace(&mut self.phase, between) {
                    Phase::Suspended(suspended) => Some(suspended.1),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Answers an upgrade with `101`. From now on the input is frames.
    pub fn open(&mut self, upgrade: &Upgrade, outbox: &mut Outbox, clock: &Clock) {
        outbox.own(|out| handshake::switching(out, upgrade, Some(&clock.date)));
        self.phase = Phase::Open(Open::new(upgrade.deflate.is_some(), clock.now));
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

    /// Begins the end of a WebSocket. `reason` takes the place of the ending's own.
    pub fn close(
        &mut self,
        ending: Ending,
        reason: Option<&str>,
        outbox: &mut Outbox,
        now: Millis,
    ) {
        if let Phase::Open(open) = &mut self.phase {
            let closing = open.close(ending, reason, outbox, now);
            self.end(ending);
            self.phase = Phase::Closing(closing);
        }
    }

    /// Ends it at once: nothing more can be sent or received.
    pub fn fail(&mut self, ending: Ending) {
        self.end(ending);
        self.over = true;
    }

    /// Notes why it ends; the first reason stays.
    pub fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    /// Notes that the client has ended the stream. What is in the outbox is still sent.
    pub fn ended(&mut self, outbox: &Outbox, now: Millis) {
        let sends = match self.phase {
            Phase::Request(_) | Phase::Body(_) | Phase::Closing(_) => true,
            // With an ending, nothing can be sent any more.
            Phase::Open(_) => self.ending.is_none(),
            Phase::Suspended(_) | Phase::Streaming { .. } => false,
        };
        self.end(Ending::Left);
        if outbox.is_empty() || !sends {
            self.over = true;
        } else if !matches!(self.phase, Phase::Closing(_)) {
            self.phase = Phase::Closing(Closing::send_rest(now));
        }
    }

    /// Whether [`Session::all_sent`] would do something, once all is sent.
    pub fn is_finishing(&self) -> bool {
        !self.over && matches!(&self.phase, Phase::Closing(closing) if closing.is_finishing())
    }

    /// Notes that the outbox is empty; `drained`: and that all input was read. Returns whether to shut down the sending
    /// side now.
    #[inline]
    pub fn all_sent(&mut self, drained: bool, now: Millis) -> bool {
        let Phase::Closing(closing) = &mut self.phase else {
            return false;
        };
        let next = closing.all_sent(drained, now);
        self.over |= next == AfterSent::Over;
        next == AfterSent::Finish
    }

    pub(super) fn linger(&mut self, ending: Ending, now: Millis) {
        self.end(ending);
        self.phase = Phase::Closing(Closing::linger(now));
    }
}
