//! The phase that a connection is in, and what follows from the phase alone.
//!
//! Owns: [`Phase`]; what belongs to one phase lies in it. Never knows: what comes before or after a phase
//! ([`super::session`] does).

use super::exchange::{BodyReader, HeadReader};
use super::suspended::{Awaits, Suspended};
use super::websocket::{Closing, LINGER, Open};
use super::{Limits, Peer};
use crate::clock::Millis;
use crate::wire::command::Command;

mod saved;

pub(super) use saved::SavedPhase;

/// How long a connection without a request under way is kept (`docs/api.md#http`).
const KEEP_ALIVE: Millis = 75_000;
/// How often a stream of events sends a comment, so that no proxy considers it hung.
const BEAT: Millis = 15_000;
/// How long a connection cannot be evicted after it was accepted or answered. A slow client needs this to send the next
/// request, or to read the last answer.
const GRACE: Millis = 250;

#[derive(Debug)]
pub(super) enum Phase {
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

/// Whether a connection may be evicted: closed so that a new one can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evictable {
    /// It has no request, or its last answer is sent, and not [just now](GRACE).
    Yes,
    /// Only if there is no better one: a request has begun, or an answer is being sent.
    IfNeeded,
    /// It is a WebSocket, a request is being worked on, or it is [new](GRACE).
    No,
}

impl Phase {
    /// Whether something waits for an answer.
    pub fn is_suspended(&self) -> bool {
        match self {
            Phase::Suspended(_) => true,
            Phase::Open(open) => open.is_suspended(),
            _ => false,
        }
    }

    /// The client of the upgrade that is under way.
    pub fn upgrading(&self) -> Option<Peer> {
        match self {
            Phase::Suspended(suspended) => match &suspended.1 {
                Suspended::Upgrade(upgrade, _) => Some(upgrade.exchange.from),
                _ => None,
            },
            _ => None,
        }
    }

    /// Bytes that were received and wait: of a message or a body that is incomplete or suspended.
    pub fn buffered(&self) -> usize {
        match self {
            Phase::Body(body) => body.buffered(),
            Phase::Suspended(suspended) => suspended.1.buffered(),
            Phase::Open(open) => open.buffered(),
            Phase::Closing(closing) => closing.buffered(),
            Phase::Request(_) | Phase::Streaming { .. } => 0,
        }
    }

    /// Whether a request, or a part of one, was received and not answered.
    pub fn has_request(&self) -> bool {
        match self {
            Phase::Request(head) => head.has_begun(),
            Phase::Body(_) | Phase::Suspended(_) => true,
            _ => false,
        }
    }

    pub fn evictable(&self, now: Millis) -> Evictable {
        let (evictable, since) = match self {
            Phase::Request(head) if head.has_begun() => (Evictable::IfNeeded, head.since()),
            Phase::Request(head) => (Evictable::Yes, head.since()),
            Phase::Body(body) => (Evictable::IfNeeded, body.since()),
            Phase::Closing(closing) => (Evictable::Yes, closing.until(now).saturating_sub(LINGER)),
            Phase::Suspended(_) | Phase::Open(_) | Phase::Streaming { .. } => {
                return Evictable::No;
            }
        };
        if now < since.saturating_add(GRACE) {
            Evictable::No
        } else {
            evictable
        }
    }

    /// The answer that is waited for.
    pub fn awaits(&self) -> Option<Awaits> {
        match self {
            Phase::Suspended(suspended) => Some(suspended.0),
            Phase::Open(open) => open.awaits(),
            _ => None,
        }
    }

    /// The question that waits is held.
    pub fn hold(&mut self, now: Millis) {
        match self {
            Phase::Suspended(suspended) if suspended.0 == Awaits::Verdict => {
                suspended.0 = Awaits::HeldVerdict;
            }
            Phase::Open(open) => open.hold(now),
            _ => {}
        }
    }

    /// The command that waits for an answer, and its message.
    pub fn command(&self) -> Option<(&Command, &[u8])> {
        match self {
            Phase::Open(open) => open.command(),
            _ => None,
        }
    }

    /// The deadline at which to check it, if nothing happens before.
    pub fn deadline(&self, now: Millis, limits: &Limits) -> Option<Millis> {
        match self {
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
}
