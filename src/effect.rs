//! The values that cross between the hub and its drivers (authorizer, broker, server).
//!
//! Owns: nothing. Knows: how a connection is named, what may be asked and answered.
//! Never knows: who carries a value across, or when.

use std::time::Duration;

/// A connection's name inside the process. Whoever comes back late (an event, a verdict, a receipt) is looked up
/// by it: a slot's new tenant has another generation and is never mistaken for the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub slot: u32,
    pub generation: u32,
}

/// What the authorizer is asked (CONTRACT §6).
#[derive(Debug)]
pub struct Question {
    pub from: ConnId,
    /// Whether the answer's body is read for a `state`: only a `connect` may set one.
    pub wants_state: bool,
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

/// A verdict on its way home.
#[derive(Debug)]
pub struct Answer {
    pub to: ConnId,
    pub verdict: Verdict,
    /// The JSON text that a `connect` was answered with as `state`.
    pub state: Option<Box<str>>,
    /// Whether the body that might have held a `state` was over the limit, so that it was ignored.
    pub state_too_long: bool,
    /// Why the verdict is `Unavailable`, in words for the log ("connection refused", "status 502").
    pub trouble: Option<String>,
    /// From the question's arrival at the authorizer's queue to its verdict.
    pub took: Duration,
}
