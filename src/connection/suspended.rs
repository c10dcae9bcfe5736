//! What waits for an answer in a connection. Nothing further is read from it before the answer.
//!
//! Owns: [`Suspended`], the one kind of waiting, and [`Awaits`], what ends it. Knows: the values that wait. Never
//! knows: where it comes from. Later messages wait in order behind it, and so does the end of the stream.

use super::Exchange;
use crate::wire::answer_fields::AnswerFields;
use crate::wire::command::{Command, Post};
use crate::wire::handshake::Upgrade;

mod saved;

pub(super) use saved::SavedSuspended;

/// The answer that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// The authorizer's verdict.
    Verdict,
    /// The same, while the question is held. Meanwhile its client is pinged, and heard as far as its next message; if it
    /// ends its stream, it has left.
    HeldVerdict,
    /// The channel: room for what is published to it, or the broker's confirmation that it is subscribed.
    Channel,
    /// The broker's confirmation that it has published.
    Receipt,
    /// The end of a command of a backend.
    Backend,
}

impl Awaits {
    /// Whether this answer ends the waiting.
    pub fn ends_with(self, answer: Awaits) -> bool {
        self == answer || self == Awaits::HeldVerdict && answer == Awaits::Verdict
    }
}

/// An upgrade under way.
#[derive(Debug)]
pub struct PendingUpgrade {
    pub exchange: Exchange,
    pub upgrade: Upgrade,
    /// The query of the upgrade request, which later questions show.
    pub query: Box<str>,
}

/// What waits.
#[derive(Debug)]
pub enum Suspended {
    /// An upgrade about which the authorizer is being asked, or whose channels are not all subscribed; and what the
    /// authorizer has said, once it has allowed it.
    Upgrade(PendingUpgrade, Option<Box<AnswerFields>>),
    /// A command of a client, and the message that it was parsed from.
    Command {
        command: Command,
        message: Box<[u8]>,
    },
    /// The connection itself, about which the authorizer is being asked again.
    Refresh,
    /// A `POST /broadcast`, and its body: empty once it is with the broker.
    Post {
        exchange: Exchange,
        post: Post,
        body: Box<[u8]>,
    },
    /// The request of a backend whose command is being carried out. This many bytes of it wait.
    Backend { exchange: Exchange, bytes: usize },
}

impl Suspended {
    /// Bytes that it holds.
    pub fn buffered(&self) -> usize {
        match self {
            Suspended::Upgrade(..) | Suspended::Refresh => 0,
            Suspended::Command { message, .. } => message.len(),
            Suspended::Post { body, .. } => body.len(),
            Suspended::Backend { bytes, .. } => *bytes,
        }
    }
}
