//! HTTP requests on their way in: the head, the body, and what of a request decides how it is answered.
//!
//! Owns: [`Exchange`], [`HeadReader`] and [`BodyReader`]. Knows: limits and times. Never knows: what a request is for,
//! beyond the [`Endpoint`] that it carries; what is answered.

use std::net::SocketAddr;
use std::ops::Range;

use super::{Limits, Peer};
use crate::buffers::Outbox;
use crate::clock::Millis;
use crate::wire::endpoint::Endpoint;
use crate::wire::http::{self, Body, Framing, Head, Refusal, ReplyOptions};
use crate::wire::message::Payload;
use crate::wire::proxy_protocol;

mod saved;

pub(super) use saved::{SavedBodyReader, SavedExchange, SavedHeadReader};

/// A request that was not answered yet: the facts that decide how it is answered. The head itself is not kept.
#[derive(Debug)]
pub struct Exchange {
    /// The sender: the peer, or the client that a proxy names.
    pub from: Peer,
    /// What it is for.
    pub endpoint: Endpoint,
    /// The page's origin, of a browser.
    pub origin: Option<Box<[u8]>>,
    options: ReplyOptions,
    framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
    /// When the wait for the whole request began.
    since: Millis,
    /// Its body has been read.
    read: bool,
}

impl Exchange {
    fn new(from: Peer, head: &Head, since: Millis) -> Exchange {
        Exchange {
            from,
            endpoint: Endpoint::Unknown,
            origin: head.header("origin").map(Into::into),
            options: head.reply_options(),
            framing: head.framing,
            expects_continue: head.expects_continue,
            since,
            read: false,
        }
    }

    /// How its answer is framed. `closing`: the connection ends with the answer, even if the client wants to keep it.
    pub(super) fn reply_options(&self, closing: bool, limits: &Limits) -> ReplyOptions {
        let too_long =
            matches!(self.framing, Framing::Length(length) if length > limits.max_message as u64);
        let mut options = self.options;
        // The end of an unwanted body has to be found, unless it may never be sent.
        options.close |= closing || self.is_unread() && (too_long || self.expects_continue);
        options
    }

    /// Whether all of its body has been read, if there is one.
    pub fn is_read(&self) -> bool {
        self.read
    }

    /// Whether its body is still to come, or to be skipped.
    pub(super) fn is_unread(&self) -> bool {
        !self.read && self.framing.announces_body()
    }

    pub(super) fn body_was_read(&mut self) {
        self.read = true;
    }
}

/// What a [`HeadReader`] waits for.
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

/// A request's head on its way in.
#[derive(Debug)]
pub(super) struct HeadReader {
    since: Millis,
    wait: Wait,
    /// Bytes that were searched without finding a head.
    seen: u32,
}

/// What a [`HeadReader`] has found.
pub(super) enum HeadStep {
    /// The header of the PROXY protocol: the client's address, if it has one.
    Client(Option<SocketAddr>),
    /// A head, and where its body lies if all of it lies in the input.
    Request(Exchange, Head, Option<Range<usize>>),
}

impl HeadReader {
    /// The reader of the first head, on a connection that was accepted at `now`.
    pub fn first(now: Millis) -> HeadReader {
        HeadReader {
            since: now,
            wait: Wait::First,
            seen: 0,
        }
    }

    /// The reader of the next head, on a connection whose last request was answered at `now`.
    pub fn following(now: Millis) -> HeadReader {
        HeadReader {
            wait: Wait::Next,
            ..HeadReader::first(now)
        }
    }

    /// Expects a header of the PROXY protocol before anything else.
    pub fn expect_proxy(&mut self) {
        self.wait = Wait::Proxy;
    }

    pub fn since(&self) -> Millis {
        self.since
    }

    /// Whether a part of a request has come.
    pub fn has_begun(&self) -> bool {
        self.wait == Wait::Rest || self.seen > 0
    }

    /// Whether the last request has been answered and no byte of another has come.
    pub fn is_between_requests(&self) -> bool {
        self.wait == Wait::Next
    }

    /// Whether no request of this connection has been answered yet, or one has begun.
    pub fn is_unanswered(&self) -> bool {
        self.has_begun() || self.wait == Wait::First
    }

    /// Reads the head at the beginning of `input`; with it, how many bytes were used. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The input is malformed; the refusal is to be sent.
    pub fn next(
        &mut self,
        input: &[u8],
        peer: &Peer,
        now: Millis,
        limits: &Limits,
    ) -> Result<Option<(HeadStep, usize)>, Refusal> {
        if self.wait == Wait::Proxy {
            let Some((client, used)) = proxy_protocol::parse(input)? else {
                return Ok(None);
            };
            self.wait = Wait::First;
            return Ok(Some((HeadStep::Client(client), used)));
        }
        if self.wait == Wait::Next && !input.is_empty() {
            (self.wait, self.since) = (Wait::Rest, now);
        }
        let parsed = if http::worth_parsing(input, self.seen as usize) {
            http::parse_head(input)?
        } else {
            None
        };
        let Some((head, start)) = parsed else {
            self.seen = input.len() as u32;
            return Ok(None);
        };
        self.seen = 0;
        let mut exchange = Exchange::new(*peer, &head, self.since);
        let behind = input.get(start..).unwrap_or_default();
        let body = head.framing.whole(behind, limits.max_message as u64);
        exchange.read = body.is_some();
        let end = start.saturating_add(body.unwrap_or_default().len());
        let body = exchange.read.then_some(start..end);
        Ok(Some((HeadStep::Request(exchange, head, body), end)))
    }
}

/// A body on its way in.
#[derive(Debug)]
pub(super) struct BodyReader {
    since: Millis,
    body: Body,
    limit: u64,
    /// The request. `None`: it was answered, and the body is skipped.
    exchange: Option<Exchange>,
    /// The head of an upgrade request, whose body has to be empty.
    upgrade: Option<Head>,
    kept: Vec<u8>,
    /// The client waits for `100 Continue`.
    expected: bool,
}

impl BodyReader {
    /// Keeps the body of a request.
    pub fn keep(exchange: Exchange, limits: &Limits) -> BodyReader {
        BodyReader {
            since: exchange.since,
            body: Body::new(exchange.framing),
            limit: limits.max_message as u64,
            expected: exchange.expects_continue,
            exchange: Some(exchange),
            upgrade: None,
            kept: Vec::new(),
        }
    }

    /// Reads the body of an upgrade request, which has to be empty.
    pub fn empty(exchange: Exchange, upgrade: Head, limits: &Limits) -> BodyReader {
        BodyReader {
            limit: 0,
            upgrade: Some(upgrade),
            ..BodyReader::keep(exchange, limits)
        }
    }

    /// Skips the body of a request that has been answered.
    pub fn skip(exchange: Exchange, limits: &Limits) -> BodyReader {
        BodyReader {
            exchange: None,
            expected: false,
            ..BodyReader::keep(exchange, limits)
        }
    }

    pub fn since(&self) -> Millis {
        self.since
    }

    /// Whether the request has been answered.
    pub fn is_skipping(&self) -> bool {
        self.exchange.is_none()
    }

    /// Whether it is an upgrade request's, and has to be empty.
    pub fn is_of_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }

    /// Bytes kept.
    pub fn buffered(&self) -> usize {
        let head = self.upgrade.as_ref().map_or(0, Head::size);
        self.kept.len().saturating_add(head)
    }

    /// The head of the upgrade request.
    pub fn take_upgrade(&mut self) -> Option<Head> {
        self.upgrade.take()
    }

    /// The request, if it has not been answered.
    pub fn take_exchange(&mut self) -> Option<Exchange> {
        self.exchange.take()
    }

    /// Takes what belongs to the body; the body, once it is complete.
    ///
    /// # Errors
    /// The body is malformed or too long; where it ends is unknown.
    pub fn feed(
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
            let body = std::mem::take(&mut self.kept);
            return Ok((fed.used, Some(Payload::Owned(body))));
        }
        if std::mem::take(&mut self.expected) && fed.used == 0 {
            outbox.own(|out| out.extend_from_slice(http::CONTINUE));
        }
        Ok((fed.used, None))
    }
}
