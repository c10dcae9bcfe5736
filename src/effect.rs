//! The values that cross between the hub and its drivers (authorizer, broker, server).
//!
//! Owns: nothing. Knows: how a connection is named, what may be asked and answered. Never knows: what carries a value
//! across, or when.
//!
//! Each `Ask`, `Publish`, `Subscribe` and `Unsubscribe` is answered once, whether it succeeds or not. A connection that waits for the
//! answer has no deadline of its own. Only an `Ask` that was followed by `Withdraw` may stay unanswered.
//!
//! A question that failed comes back with its answer, so that it can be asked again without a copy.

mod saved;

use std::rc::Rc;
use std::time::Duration;

pub use self::saved::{
    SavedConnId, SavedPublication, SavedReceipt, SavedSubscription, SavedSubscriptionId,
    restore_channel,
};

use crate::clock::Millis;
use crate::wire::answer_fields::{AnswerFields, Asked, WrongField};
use crate::wire::channel_name::ChannelName;

/// A connection's name inside the process. Late events, verdicts and receipts are looked up by it. A slot's new
/// connection has another generation, so it is never mistaken for the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    pub slot: u32,
    pub generation: u32,
}

impl ConnId {
    /// A slot that no connection has: in a snapshot, what has this one belongs to none.
    pub const NO_SLOT: u32 = u32::MAX;
}

/// A request of the hub to a driver. Deliveries to members are not effects: they never leave the hub.
#[derive(Debug)]
pub enum Effect {
    Ask(Question),
    /// The connection no longer needs an answer to its question. A question that was not sent yet is never sent.
    Withdraw(ConnId),
    /// Questions that have not been put are answered now: unavailable, and never put.
    Recall,
    Publish(Publication),
    Subscribe(Subscription),
    /// Answered when the subscription has ended at the broker, or the broker has refused that.
    Unsubscribe(ChannelName),
}

/// What the broker is to publish; answered with a [`Receipt`].
#[derive(Debug)]
pub struct Publication {
    pub from: PublishedBy,
    /// When it was first handed out.
    pub since: Millis,
    pub channel: ChannelName,
    /// JSON, as it was sent.
    pub content: Box<[u8]>,
}

/// What has something published, and is given the [`Receipt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedBy {
    /// A connection: its command, its request, or the job that its request has begun. It waits for one of them at a time.
    Connection(ConnId),
    /// A command that all nodes are asked for, by its number, which is not 0.
    Gathering(u32),
    /// A message of this node of which no receipt is needed.
    Nothing,
}

#[cfg(test)]
impl PublishedBy {
    /// The slot of the connection.
    pub fn slot(self) -> Option<u32> {
        match self {
            PublishedBy::Connection(id) => Some(id.slot),
            PublishedBy::Gathering(_) | PublishedBy::Nothing => None,
        }
    }
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

/// The broker's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Done.
    Confirmed,
    /// The broker refused; the broker's error message.
    Refused(Rc<str>),
    /// Whether it was done is unknown.
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
    /// It is put in no batch with others.
    pub alone: bool,
}

/// The authorizer's decision. Not a `Result`: a denial is not an error.
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

/// The answer to a question, or its failure.
#[derive(Debug)]
pub struct Answer {
    pub to: ConnId,
    pub verdict: Verdict,
    /// The answer's status. `None`: there was no answer.
    pub status: Option<u16>,
    /// The fields of its body. `None`: it has none.
    pub fields: Option<Box<AnswerFields>>,
    /// What is wrong with a body that is therefore ignored; in words for the log.
    pub unreadable: Option<String>,
    /// Fields that cannot be used. The verdict is `Unavailable` if the answer was a `200`; a refusal stands without them.
    pub wrong: Vec<WrongField>,
    /// Why the verdict is `Unavailable`, in words for the log ("connection refused", "status 502").
    pub trouble: Option<String>,
    /// The number of the call that brought the answer: answers to questions of one call have the same. `None`: the
    /// question was never put.
    pub call: Option<u64>,
    /// How many questions the call had, in the first answer that it brought; 0 in the others.
    pub questions_in_call: u32,
    /// The whole call failed: every status in it is 5xx, or there was no HTTP answer.
    pub call_failed: bool,
    /// The question itself, if the verdict is `Unavailable`.
    pub question: Option<Question>,
    /// From the question's arrival at the authorizer's queue to its verdict.
    pub took: Duration,
}

impl Answer {
    /// The state that the connection is given, as JSON.
    pub fn state(&self) -> Option<&str> {
        self.fields.as_ref()?.state.as_ref()?.json()
    }

    /// The answer to a question that failed, for this reason.
    pub fn unavailable(to: ConnId, trouble: String, took: Duration) -> Answer {
        Answer {
            to,
            verdict: Verdict::Unavailable,
            status: None,
            fields: None,
            unreadable: None,
            wrong: Vec::new(),
            trouble: Some(trouble),
            call: None,
            questions_in_call: 0,
            call_failed: false,
            question: None,
            took,
        }
    }

    /// The answer together with its question, if it has failed.
    pub fn returning(mut self, question: Question) -> Answer {
        self.question = (self.verdict == Verdict::Unavailable).then_some(question);
        self
    }

    /// How the question has failed, in one word for metrics, if it has.
    pub fn failure(&self) -> Option<&'static str> {
        let kind = match (self.call, self.status) {
            (None, _) => "not_put",
            (_, None) => "no_answer",
            (_, Some(500..=599)) => "5xx",
            (_, Some(_)) => "bad_answer",
        };
        (self.verdict == Verdict::Unavailable).then_some(kind)
    }
}
