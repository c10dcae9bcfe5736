//! The values that cross between the hub and its drivers (authorizer, broker, server).
//!
//! Owns: nothing. Knows: how a connection is named, what may be asked and answered. Never knows: what carries a value
//! across, or when.
//!
//! Each `Ask`, `Publish` and `Subscribe` is answered once, whatever becomes of it: a connection that waits for the answer
//! has no deadline of its own. Only an `Ask` that was followed by `Withdraw` may stay unanswered.

use std::rc::Rc;
use std::time::Duration;

use crate::clock::Millis;
use crate::wire::answer_fields::{AnswerFields, Asked, NewState};
use crate::wire::channel_name::ChannelName;

/// A connection's name inside the process. What comes back late (an event, a verdict, a receipt) is looked up by it: a
/// slot's new connection has another generation, and is never mistaken for the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub slot: u32,
    pub generation: u32,
}

/// What the hub wants from outside. Rare things only: what is delivered to members never leaves the hub.
#[derive(Debug)]
pub enum Effect {
    Ask(Question),
    /// The connection wants no answer to its question any more. If that has not been put yet, it never is.
    Withdraw(ConnId),
    Publish(Publication),
    Subscribe(Subscription),
    Unsubscribe(ChannelName),
}

/// What the broker is to publish; answered with a [`Receipt`].
#[derive(Debug)]
pub struct Publication {
    pub from: ConnId,
    /// When it was first handed out.
    pub since: Millis,
    pub channel: ChannelName,
    /// JSON, as it was sent.
    pub content: Box<[u8]>,
}

/// A channel whose messages the broker is to bring; answered with a [`Receipt`].
#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub channel: ChannelName,
}

/// A part of the broker that has some of the channels: in a cluster a master, otherwise all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A subscription's name inside the process: a channel that is left and joined again has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionId {
    pub channel: u32,
    pub serial: u64,
}

/// What became of what the broker was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It has done it.
    Confirmed,
    /// It would not, and why, in its own words.
    Refused(Rc<str>),
    /// It is not known whether it did.
    Failed,
}

/// What the authorizer is asked (`docs/authorizer.md#questions`).
#[derive(Debug)]
pub struct Question {
    pub from: ConnId,
    /// What it is about, which says what its answer may hold.
    pub asked: Asked,
    /// The JSON that is posted.
    pub body: Vec<u8>,
}

/// What the authorizer says. An answer, not a `Result`: no is as good an answer as yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `200`.
    Allow,
    /// Anything that is neither `200` nor a sign that the authorizer is down.
    Deny,
    /// `5xx`, no answer in time, unreachable, not HTTP, or no room in the queue.
    Unavailable,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::Unavailable => "unavailable",
        }
    }
}

/// What came of a question.
#[derive(Debug)]
pub struct Answer {
    pub to: ConnId,
    pub verdict: Verdict,
    /// The answer's status. `None`: there was no answer.
    pub status: Option<u16>,
    /// What it says besides. `None`: nothing.
    pub fields: Option<Box<AnswerFields>>,
    /// What is wrong with a body or a field that is therefore ignored; in words for the log.
    pub unreadable: Option<String>,
    /// Why the verdict is `Unavailable`, in words for the log ("connection refused", "status 502").
    pub trouble: Option<String>,
    /// The number of the call that brought the answer: answers to questions of one call have the same. `None`: the
    /// question was never put.
    pub call: Option<u64>,
    /// The whole call failed: every status in it is 5xx, or there was no HTTP answer.
    pub call_failed: bool,
    /// From the question's arrival at the authorizer's queue to its verdict.
    pub took: Duration,
}

impl Answer {
    /// The state that the connection is given, as JSON.
    pub fn state(&self) -> Option<&str> {
        match self.fields.as_ref()?.state.as_ref()? {
            NewState::Json(state) => Some(state),
            NewState::Removed => None,
        }
    }

    /// There is none, for this reason.
    pub fn unavailable(to: ConnId, trouble: String, took: Duration) -> Answer {
        Answer {
            to,
            verdict: Verdict::Unavailable,
            status: None,
            fields: None,
            unreadable: None,
            trouble: Some(trouble),
            call: None,
            call_failed: false,
            took,
        }
    }
}
