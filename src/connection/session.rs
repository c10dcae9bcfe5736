//! The session: which phase a connection is in, bytes in and [`Event`]s out.
//!
//! Owns: the phase and what belongs to it alone. Knows: HTTP requests follow one another, an upgrade makes a WebSocket of
//! them, and how either ends. Answers pings, closes and malformed requests by itself. Never knows: what may be said, by
//! whom, to whom; the stream.
//!
//! A request belongs to the hub from its [`Event`] until the hub gives it back by answering it, having its body read, or
//! asking about it; meanwhile nothing else is understood.

use std::net::SocketAddr;
use std::ops::Range;

use super::{Ending, Limits, Peer};
use crate::buffers::Outbox;
use crate::clock::{Clock, Millis};
use crate::wire::command::Command;
use crate::wire::frame::{self, Opcode};
use crate::wire::handshake::{self, Upgrade};
use crate::wire::http::{self, Body, Framing, Head, Refusal, Reply, ReplyOptions, Status};
use crate::wire::message::{Item, Payload, Reader};
use crate::wire::proxy_protocol;

/// How long a connection without a request under way is kept (CONTRACT §3).
const KEEP_ALIVE: Millis = 75_000;
/// How long what the client still sends is read and thrown away after the last answer was sent, so that the answer is not lost to
/// a TCP reset (CONTRACT §3).
const LINGER: Millis = 2_000;
/// How often a stream of events says that it is still there, so that no proxy takes it for dead.
const BEAT: Millis = 15_000;
/// What it says then: a comment of server-sent events.
const STILL_THERE: &[u8] = b":\n\n";
/// How long the client may take to read the last answer, or to read a close frame and answer it.
const CLOSING: Millis = 5_000;
/// How long a connection has for its next request, and for hearing the last answer, however many wait for its place: what
/// a slow line needs, and little enough for those who wait.
const GRACE: Millis = 250;

/// All that a connection can tell the house.
#[derive(Debug)]
pub enum Event {
    /// The proxy at the other end has said for whom it speaks, if it knows.
    Introduced(Option<SocketAddr>),
    /// A request's head has come, and where its body lies, if all of it lies in the input, too. Otherwise the body has not
    /// been looked at.
    Request(Exchange, Head, Option<Range<usize>>),
    /// The body that was asked for has come, wholly.
    Body(Exchange, Payload),
    /// The body that was asked for is malformed or too long; its end cannot be found.
    BadBody(Exchange, Refusal),
    /// A message, [`Opcode::Text`] or [`Opcode::Binary`].
    Said(Opcode, Payload),
    /// The WebSocket is to end, by [`Session::close`]; nothing more is understood until then.
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

/// A request that has not been answered: what of it decides how it will be. The head itself is not kept meanwhile.
#[derive(Debug)]
pub struct Exchange {
    /// Who sent it: the peer, or for whom a proxy asks.
    pub from: Peer,
    options: ReplyOptions,
    framing: Framing,
    /// The client waits to be told to send the body.
    expects_continue: bool,
    /// The page's origin, of a browser.
    pub origin: Option<Box<[u8]>>,
    /// Since when the whole request is awaited.
    since: Millis,
    /// Its body has been read.
    read: bool,
}

impl Exchange {
    /// Whether all of its body has been read, if there is one.
    pub fn is_read(&self) -> bool {
        self.read
    }

    fn new(from: Peer, head: &Head, since: Millis) -> Exchange {
        Exchange {
            from,
            options: head.reply_options(),
            framing: head.framing,
            expects_continue: head.expects_continue,
            origin: head.header("origin").map(Into::into),
            since,
            read: false,
        }
    }
}

/// An upgrade about which the authorizer is being asked.
#[derive(Debug)]
pub struct Authorizing {
    pub exchange: Exchange,
    pub upgrade: Upgrade,
    /// The upgrade request's, which it will show with later questions.
    pub query: Box<str>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// The authorizer's word.
    Verdict,
    /// Its channel: room for what it publishes, or the broker's word that the channel is subscribed.
    Channel,
    /// The broker's word that it has published.
    Receipt,
}

/// A `POST /broadcast` that waits.
#[derive(Debug)]
pub struct Publishing {
    pub awaits: Awaits,
    pub exchange: Exchange,
    /// Empty once it is with the broker.
    pub body: Box<[u8]>,
}

/// A command that waits.
#[derive(Debug)]
pub struct Parked {
    pub awaits: Awaits,
    pub command: Command,
    pub message: Box<[u8]>,
}

/// A body on its way in.
#[derive(Debug)]
struct Arriving {
    since: Millis,
    body: Body,
    limit: u64,
    /// The request; without it, it has been answered, and the body is thrown away.
    exchange: Option<Exchange>,
    /// The head of an upgrade request, whose body has to be empty.
    upgrade: Option<Head>,
    kept: Vec<u8>,
    /// The client waits to be told to go on.
    expected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// For the header of the PROXY protocol, since the connection was accepted.
    Proxy,
    /// For the first request, since the connection was accepted.
    First,
    /// For the next request, since the last was answered.
    Next,
    /// For the rest of a request, since its first byte.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// The client's close is being echoed; the server then closes first (RFC 6455 7.1.1).
    Echo,
    /// A close frame was sent; the client's is awaited.
    Sent,
    /// Nothing more will be said: what still comes is thrown away until the client ends the stream.
    Linger,
}

#[derive(Debug)]
enum Phase {
    Request {
        since: Millis,
        wait: Wait,
        seen: u32,
    },
    Body(Box<Arriving>),
    Authorizing(Box<Authorizing>),
    Publishing(Box<Publishing>),
    Open {
        /// The low half of when a byte last came, or a ping went: silence is never as long as 49 days.
        heard: u32,
        pinged: bool,
        reader: Reader,
        parked: Option<Box<Parked>>,
    },
    /// The answer goes on until one side ends it. What the client says meanwhile is thrown away.
    Streaming {
        beat: Millis,
    },
    Closing {
        until: Millis,
        close: Close,
        reader: Reader,
        finished: bool,
    },
}

impl Phase {
    /// The last request was answered at `since`.
    fn next_request(since: Millis) -> Phase {
        Phase::Request {
            since,
            wait: Wait::Next,
            seen: 0,
        }
    }
}

/// An idle connection is mostly this; there may be a million of them.
const _: () = assert!(size_of::<Session>() <= 32);

/// How much a connection would lose with its place, should somebody else need one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: no request has begun, or all has been said, and not just now.
    None,
    /// A request that has begun, or an answer on its way.
    Begun,
    /// It is a WebSocket, or something is being done for it, or it is [new](GRACE).
    Firm,
}

#[derive(Debug)]
pub struct Session {
    phase: Phase,
    ending: Option<Ending>,
    over: bool,
    /// A proxy at the other end speaks for others, by the PROXY protocol.
    relayed: bool,
}

impl Session {
    /// `now` is when the connection was accepted.
    pub fn new(now: Millis) -> Session {
        Session {
            phase: Phase::Request {
                since: now,
                wait: Wait::First,
                seen: 0,
            },
            ending: None,
            over: false,
            relayed: false,
        }
    }

    /// Nothing is understood before a header of the PROXY protocol.
    pub fn expect_proxy(&mut self) {
        self.relayed = true;
        if let Phase::Request { wait, .. } = &mut self.phase {
            *wait = Wait::Proxy;
        }
    }

    /// Whether what comes is said for others, whoever they are.
    pub fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Why it ends, once it does.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    pub fn is_listening(&self) -> bool {
        match &self.phase {
            _ if self.over => false,
            Phase::Authorizing(_)
            | Phase::Publishing(_)
            | Phase::Open {
                parked: Some(_), ..
            } => false,
            _ => true,
        }
    }

    /// Whether requests and answers are spoken, and not yet messages.
    pub fn is_http(&self) -> bool {
        matches!(self.phase, Phase::Request { .. } | Phase::Body(_))
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether it counts as a WebSocket: it is one, or an upgrade is under way.
    pub fn is_websocket(&self) -> bool {
        matches!(self.phase, Phase::Authorizing(_) | Phase::Open { .. })
    }

    /// Who sent the upgrade request about which the authorizer is being asked.
    pub fn upgrading(&self) -> Option<Peer> {
        match &self.phase {
            Phase::Authorizing(authorizing) => Some(authorizing.exchange.from),
            _ => None,
        }
    }

    /// Whether the authorizer's answer would still do something.
    pub fn awaits_verdict(&self) -> bool {
        match &self.phase {
            _ if self.over => false,
            Phase::Authorizing(_) => true,
            Phase::Open {
                parked: Some(parked),
                ..
            } => parked.awaits == Awaits::Verdict,
            _ => false,
        }
    }

    /// Bytes that have come and wait: of a message or a body that is not complete, or that has to wait.
    pub fn held(&self) -> usize {
        match &self.phase {
            Phase::Body(arriving) => {
                let head = arriving.upgrade.as_ref().map_or(0, Head::size);
                arriving.kept.len().saturating_add(head)
            }
            Phase::Publishing(publishing) => publishing.body.len(),
            Phase::Open { reader, parked, .. } => {
                let parked = parked.as_ref().map_or(0, |parked| parked.message.len());
                reader.held().saturating_add(parked)
            }
            Phase::Closing { reader, .. } => reader.held(),
            Phase::Request { .. } | Phase::Streaming { .. } | Phase::Authorizing(_) => 0,
        }
    }

    /// Whether a command is kept.
    pub fn is_parked(&self) -> bool {
        matches!(
            self.phase,
            Phase::Open {
                parked: Some(_),
                ..
            }
        )
    }

    /// Whether a request, or a part of one, has come that was not answered.
    pub fn is_asked(&self) -> bool {
        match &self.phase {
            Phase::Request { wait, seen, .. } => *wait == Wait::Rest || *seen > 0,
            Phase::Body(_) | Phase::Authorizing(_) | Phase::Publishing(_) => true,
            _ => false,
        }
    }

    pub fn claim(&self, now: Millis) -> Claim {
        let (claim, since) = match &self.phase {
            Phase::Request { since, .. } if self.is_asked() => (Claim::Begun, *since),
            Phase::Request { since, .. } => (Claim::None, *since),
            Phase::Body(arriving) => (Claim::Begun, arriving.since),
            Phase::Closing { until, .. } => (Claim::None, until.saturating_sub(LINGER)),
            Phase::Authorizing(_)
            | Phase::Publishing(_)
            | Phase::Open { .. }
            | Phase::Streaming { .. } => {
                return Claim::Firm;
            }
        };
        match self.over || now < since.saturating_add(GRACE) {
            true => Claim::Firm,
            false => claim,
        }
    }

    /// Whether nothing is left to say or hear.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Bytes have come.
    pub fn heard(&mut self, now: Millis) {
        if let Phase::Open { heard, pinged, .. } = &mut self.phase {
            (*heard, *pinged) = (now as u32, false);
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
        let mut used = 0;
        loop {
            let all = input.len();
            let rest = input.get_mut(used..).unwrap_or_default();
            match &mut self.phase {
                Phase::Request {
                    wait: wait @ Wait::Proxy,
                    ..
                } => match proxy_protocol::parse(rest) {
                    Ok(Some((client, count))) => {
                        *wait = Wait::First;
                        return Step {
                            used: used.saturating_add(count),
                            event: Some(Event::Introduced(client)),
                        };
                    }
                    Ok(None) => return Step { used, event: None },
                    Err(refusal) => {
                        self.refuse(refusal, Ending::BadRequest, outbox, clock);
                        return Step {
                            used: all,
                            event: None,
                        };
                    }
                },
                Phase::Request { since, wait, seen } => {
                    if *wait == Wait::Next && !rest.is_empty() {
                        (*wait, *since) = (Wait::Rest, clock.now);
                    }
                    if !http::worth_parsing(rest, *seen as usize) {
                        *seen = rest.len() as u32;
                        return Step { used, event: None };
                    }
                    match http::parse_head(rest) {
                        Ok(Some((head, count))) => {
                            let mut exchange = Exchange::new(*peer, &head, *since);
                            *seen = 0;
                            let behind = rest.get(count..).unwrap_or_default();
                            let body = head.framing.whole(behind, limits.max_message as u64);
                            exchange.read = body.is_some();
                            let start = used.saturating_add(count);
                            used = start.saturating_add(body.unwrap_or_default().len());
                            let body = exchange.read.then_some(start..used);
                            return Step {
                                used,
                                event: Some(Event::Request(exchange, head, body)),
                            };
                        }
                        Ok(None) => {
                            *seen = rest.len() as u32;
                            return Step { used, event: None };
                        }
                        Err(refusal) => {
                            self.refuse(refusal, Ending::BadRequest, outbox, clock);
                            return Step {
                                used: all,
                                event: None,
                            };
                        }
                    }
                }
                Phase::Body(arriving) => match arriving.feed(rest, outbox) {
                    Ok((count, None)) => {
                        return Step {
                            used: used.saturating_add(count),
                            event: None,
                        };
                    }
                    Ok((count, Some(payload))) => {
                        let payload = shift(payload, used);
                        used = used.saturating_add(count);
                        let kept = arriving.exchange.take();
                        let upgrade = arriving.upgrade.take();
                        self.phase = Phase::next_request(clock.now);
                        if let Some(mut exchange) = kept {
                            exchange.read = true;
                            let event = match upgrade {
                                Some(head) => Event::Request(exchange, head, Some(used..used)),
                                None => Event::Body(exchange, payload),
                            };
                            return Step {
                                used,
                                event: Some(event),
                            };
                        }
                    }
                    Err(refusal) if arriving.upgrade.is_some() => {
                        let refusal = match refusal.status {
                            Status::ContentTooLarge => handshake::has_body(),
                            _ => refusal,
                        };
                        self.refuse(refusal, Ending::BadRequest, outbox, clock);
                        return Step {
                            used: all,
                            event: None,
                        };
                    }
                    Err(refusal) => {
                        let kept = arriving.exchange.take();
                        self.linger(Ending::BadRequest, clock.now);
                        let event = kept.map(|exchange| Event::BadBody(exchange, refusal));
                        return Step { used: all, event };
                    }
                },
                Phase::Open {
                    reader,
                    parked: None,
                    ..
                } => match reader.next(rest, limits.max_message) {
                    Ok(step) => {
                        let at = used;
                        used = used.saturating_add(step.used);
                        match step.item {
                            None => return Step { used, event: None },
                            Some(Item::Text(payload)) => {
                                return said(Opcode::Text, payload, at, used);
                            }
                            Some(Item::Binary(payload)) => {
                                return said(Opcode::Binary, payload, at, used);
                            }
                            Some(Item::Ping(range)) => {
                                let ping = rest.get(range).unwrap_or_default();
                                if outbox.has_room(ping.len(), limits.max_queue) {
                                    outbox.own(|out| frame::push_frame(out, Opcode::Pong, ping));
                                } else {
                                    return bye(Ending::TooSlow, used);
                                }
                            }
                            Some(Item::Pong) => {}
                            Some(Item::Close(code)) => return bye(Ending::Closed(code), all),
                        }
                    }
                    Err(violation) => return bye(Ending::Violation(violation), all),
                },
                Phase::Closing {
                    close: Close::Sent,
                    reader,
                    ..
                } => match reader.next(rest, limits.max_message) {
                    Ok(step) => {
                        used = used.saturating_add(step.used);
                        match step.item {
                            None => return Step { used, event: None },
                            Some(Item::Close(_)) => {
                                self.over = true;
                                return Step {
                                    used: all,
                                    event: None,
                                };
                            }
                            Some(_) => {}
                        }
                    }
                    Err(_) => self.linger(Ending::Reset, clock.now),
                },
                Phase::Streaming { .. } | Phase::Closing { .. } => {
                    return Step {
                        used: all,
                        event: None,
                    };
                }
                // Nothing is understood before the open question is answered.
                Phase::Authorizing(_) | Phase::Publishing(_) | Phase::Open { .. } => {
                    return Step { used, event: None };
                }
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
        let unread = !exchange.read && exchange.framing.announces_body();
        let too_long = matches!(exchange.framing, Framing::Length(length) if length > limits.max_message as u64);
        let mut options = exchange.options;
        // The end of a body that is not wanted has to be found, unless nobody knows whether it comes at all.
        options.close |= closing || unread && (too_long || exchange.expects_continue);
        outbox.own(|out| http::respond(out, reply, options, Some(&clock.date)));
        if options.close {
            self.linger(Ending::Answered, clock.now);
        } else if unread {
            self.phase = Phase::Body(Box::new(Arriving::new(exchange, false, limits)));
        } else {
            self.phase = Phase::next_request(clock.now);
        }
    }

    /// Has a request's body read, to come back as [`Event::Body`].
    pub fn read_body(&mut self, exchange: Exchange, limits: &Limits) {
        self.phase = Phase::Body(Box::new(Arriving::new(exchange, true, limits)));
    }

    /// Reads the chunked body of an upgrade request, which has to be empty: RFC 6455 4.1 wants a GET, and a proxy may
    /// frame a GET's missing body as chunks. Then the request comes again as [`Event::Request`].
    pub fn read_empty_body(&mut self, exchange: Exchange, upgrade: Head, limits: &Limits) {
        self.phase = Phase::Body(Box::new(Arriving {
            limit: 0,
            upgrade: Some(upgrade),
            ..Arriving::new(exchange, true, limits)
        }));
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

    /// Keeps an upgrade until its verdict comes.
    pub fn authorize(&mut self, authorizing: Authorizing) {
        self.phase = Phase::Authorizing(Box::new(authorizing));
    }

    /// The upgrade that was kept, if it still is.
    pub fn take_authorizing(&mut self) -> Option<Authorizing> {
        match std::mem::replace(&mut self.phase, Phase::next_request(0)) {
            Phase::Authorizing(authorizing) => Some(*authorizing),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Keeps a publication until what it awaits has come.
    pub fn publish_later(&mut self, publishing: Publishing) {
        self.phase = Phase::Publishing(Box::new(publishing));
    }

    /// The publication that was kept, if one is that `awaits` this.
    pub fn take_publishing(&mut self, awaits: Awaits) -> Option<Publishing> {
        match std::mem::replace(&mut self.phase, Phase::next_request(0)) {
            Phase::Publishing(publishing) if publishing.awaits == awaits => Some(*publishing),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Answers an upgrade with `101`; from now on messages are spoken.
    pub fn open(&mut self, upgrade: &Upgrade, outbox: &mut Outbox, clock: &Clock) {
        outbox.own(|out| handshake::switching(out, upgrade, Some(&clock.date)));
        self.phase = Phase::Open {
            heard: clock.now as u32,
            pinged: false,
            reader: Reader::default(),
            parked: None,
        };
    }

    /// Keeps a command; nothing else is understood until it is taken back.
    pub fn park(&mut self, waiting: Parked) {
        if let Phase::Open { parked, .. } = &mut self.phase {
            *parked = Some(Box::new(waiting));
        }
    }

    /// The command that was kept, if one is that `awaits` this. Silence is counted anew: while it was kept the server did
    /// not read.
    pub fn unpark(&mut self, awaits: Awaits, now: Millis) -> Option<Parked> {
        let Phase::Open {
            parked,
            heard,
            pinged,
            ..
        } = &mut self.phase
        else {
            return None;
        };
        let ready = parked.take_if(|parked| parked.awaits == awaits)?;
        (*heard, *pinged) = (now as u32, false);
        Some(*ready)
    }

    /// Begins the end of a WebSocket. A close frame of the client's is echoed; otherwise the ending's code and reason
    /// are said, and the client's close is awaited where it can still be told from garbage.
    pub fn close(&mut self, ending: Ending, outbox: &mut Outbox, now: Millis) {
        let Phase::Open { reader, .. } = &mut self.phase else {
            return;
        };
        let reader = match ending {
            Ending::Overloaded => Reader::default(),
            _ => std::mem::take(reader),
        };
        self.end(ending);
        let (code, reason) = ending.close();
        let frame = frame::close_frame(code, reason);
        outbox.own(|out| out.extend_from_slice(&frame));
        let close = match ending {
            Ending::Closed(_) => Close::Echo,
            Ending::Violation(_) | Ending::Overloaded => Close::Linger,
            _ => Close::Sent,
        };
        self.phase = Phase::Closing {
            until: now.saturating_add(CLOSING),
            close,
            reader,
            finished: false,
        };
    }

    /// Nothing more of what has come is kept; who waits for an answer is told to come back.
    pub fn overload(&mut self, outbox: &mut Outbox, clock: &Clock) {
        match &self.phase {
            Phase::Closing { .. } => self.over = true,
            Phase::Body(arriving) if arriving.exchange.is_none() => {
                self.linger(Ending::Overloaded, clock.now);
            }
            _ => {
                let message = "there is no room for your request: come back later";
                let refusal = Refusal::new(Status::Unavailable, "overloaded", message);
                let refusal = refusal.with("Retry-After", "5");
                self.refuse(refusal, Ending::Overloaded, outbox, clock);
            }
        }
    }

    /// It is over at once: nothing more can be said or heard.
    pub fn fail(&mut self, ending: Ending) {
        self.end(ending);
        self.over = true;
    }

    /// Somebody else needs its place. Who waits for an answer, or has had none yet, is told to come back in `retry_after`
    /// seconds. What it is told has to be flushed at once; then it is over.
    pub fn make_way(&mut self, retry_after: String, outbox: &mut Outbox, clock: &Clock) {
        let waits = match &self.phase {
            Phase::Request { wait, .. } => self.is_asked() || *wait == Wait::First,
            Phase::Body(arriving) => arriving.exchange.is_some(),
            _ => false,
        };
        // An answer that is being sent is not mixed with another.
        if waits && outbox.is_empty() {
            let full = "the server is full: come back later, and send the request at once";
            let refusal = Refusal::new(Status::Unavailable, "full", full);
            let refusal = refusal.with("Retry-After", retry_after);
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
        if outbox.is_empty() || !self.is_http() && !matches!(self.phase, Phase::Closing { .. }) {
            self.over = true;
        } else if self.is_http() {
            self.closing(Close::Echo, now);
        }
    }

    /// Whether [`Session::all_sent`] would do something, once all is sent.
    pub fn is_finishing(&self) -> bool {
        let finishing = matches!(
            self.phase,
            Phase::Closing {
                close: Close::Echo | Close::Linger,
                finished: false,
                ..
            }
        );
        finishing && !self.over
    }

    /// Everything in the outbox has been sent. `drained`: and everything that has come was read. Returns whether the
    /// client is now to be told that nothing more follows.
    pub fn all_sent(&mut self, drained: bool, now: Millis) -> bool {
        let Phase::Closing {
            until,
            close,
            finished,
            ..
        } = &mut self.phase
        else {
            return false;
        };
        match close {
            Close::Echo if drained => {
                self.over = true;
                false
            }
            Close::Sent => false,
            Close::Echo | Close::Linger => {
                *close = Close::Linger;
                if !*finished {
                    *until = now.saturating_add(LINGER);
                }
                !std::mem::replace(finished, true)
            }
        }
    }

    /// When it has to be looked at, if nothing happens before.
    pub fn deadline(&self, now: Millis, limits: &Limits) -> Option<Millis> {
        match &self.phase {
            _ if self.over => None,
            Phase::Request {
                since,
                wait: Wait::Next,
                ..
            } => Some(since.saturating_add(KEEP_ALIVE)),
            Phase::Request { since, .. } => Some(since.saturating_add(limits.handshake_timeout)),
            Phase::Body(arriving) => Some(arriving.since.saturating_add(limits.handshake_timeout)),
            Phase::Open {
                heard,
                parked: None,
                ..
            } if limits.ping_interval > 0 => {
                let silence = Millis::from((now as u32).wrapping_sub(*heard));
                let left = limits.ping_interval.saturating_sub(silence);
                Some(now.saturating_add(left))
            }
            Phase::Authorizing(_) | Phase::Publishing(_) | Phase::Open { .. } => None,
            Phase::Streaming { beat } => Some(beat.saturating_add(BEAT)),
            Phase::Closing { until, .. } => Some(*until),
        }
    }

    /// The deadline has passed.
    pub fn expire(&mut self, outbox: &mut Outbox, clock: &Clock, limits: &Limits) {
        match &mut self.phase {
            Phase::Open { heard, pinged, .. } if !*pinged => {
                // The client has the whole interval to answer, however late it is pinged.
                (*heard, *pinged) = (clock.now as u32, true);
                if outbox.has_room(frame::PING.len(), limits.max_queue) {
                    outbox.own(|out| out.extend_from_slice(&frame::PING));
                }
            }
            Phase::Open { .. } => self.fail(Ending::Silent),
            Phase::Body(arriving) if arriving.exchange.is_none() => {
                self.linger(Ending::HandshakeTimeout, clock.now)
            }
            Phase::Request {
                wait: Wait::Proxy | Wait::First | Wait::Rest,
                ..
            }
            | Phase::Body(_) => {
                let late = "the request was not complete in time: send it at once, or raise --handshake-timeout";
                let refusal = Refusal::new(Status::RequestTimeout, "request_timeout", late);
                self.refuse(refusal, Ending::HandshakeTimeout, outbox, clock);
            }
            Phase::Request { .. } => self.fail(Ending::Idle),
            Phase::Streaming { beat } => {
                *beat = clock.now;
                if outbox.is_empty() {
                    outbox.own(|out| out.extend_from_slice(STILL_THERE));
                }
            }
            Phase::Closing { .. } => self.over = true,
            Phase::Authorizing(_) | Phase::Publishing(_) => {}
        }
    }

    /// Answers what was no whole request, and ends.
    fn refuse(&mut self, refusal: Refusal, ending: Ending, outbox: &mut Outbox, clock: &Clock) {
        outbox
            .own(|out| http::respond(out, &refusal.reply(), ReplyOptions::LAST, Some(&clock.date)));
        self.linger(ending, clock.now);
    }

    fn linger(&mut self, ending: Ending, now: Millis) {
        self.end(ending);
        self.closing(Close::Linger, now);
    }

    fn closing(&mut self, close: Close, now: Millis) {
        self.phase = Phase::Closing {
            until: now.saturating_add(CLOSING),
            close,
            reader: Reader::default(),
            finished: false,
        };
    }
}

impl Arriving {
    /// `keep`: the body is wanted; otherwise the request has been answered, and its body is thrown away.
    fn new(exchange: Exchange, keep: bool, limits: &Limits) -> Arriving {
        Arriving {
            since: exchange.since,
            body: Body::new(exchange.framing),
            limit: limits.max_message as u64,
            expected: keep && exchange.expects_continue,
            exchange: keep.then_some(exchange),
            upgrade: None,
            kept: Vec::new(),
        }
    }

    /// Takes what belongs to the body; the body, once it is complete.
    fn feed(
        &mut self,
        input: &[u8],
        outbox: &mut Outbox,
    ) -> Result<(usize, Option<Payload>), Refusal> {
        if self.kept.is_empty()
            && let Some(exchange) = &self.exchange
            && let Some(whole) = exchange.framing.whole(input, self.limit)
        {
            return Ok((whole.len(), Some(Payload::In(0..whole.len()))));
        }
        let keep = self.exchange.is_some().then_some(&mut self.kept);
        let fed = self.body.feed(input, keep, self.limit)?;
        if fed.complete {
            return Ok((
                fed.used,
                Some(Payload::Owned(std::mem::take(&mut self.kept))),
            ));
        }
        if std::mem::take(&mut self.expected) && fed.used == 0 {
            outbox.own(|out| out.extend_from_slice(http::CONTINUE));
        }
        Ok((fed.used, None))
    }
}

/// A step that ends with a message, whose payload was read `at` bytes behind the input's start.
fn said(kind: Opcode, payload: Payload, at: usize, used: usize) -> Step {
    let event = Some(Event::Said(kind, shift(payload, at)));
    Step { used, event }
}

/// A step that ends with the WebSocket.
fn bye(ending: Ending, used: usize) -> Step {
    let event = Some(Event::Bye(ending));
    Step { used, event }
}

/// The same payload, seen from `by` bytes earlier.
fn shift(payload: Payload, by: usize) -> Payload {
    match payload {
        Payload::In(range) => {
            Payload::In(range.start.saturating_add(by)..range.end.saturating_add(by))
        }
        owned => owned,
    }
}

/// Puts a text message into `outbox`; `write` appends its payload.
pub fn push_text(outbox: &mut Outbox, write: impl FnOnce(&mut Vec<u8>)) {
    let mut payload = Vec::new();
    write(&mut payload);
    outbox.own(|out| frame::push_frame(out, Opcode::Text, &payload));
}
