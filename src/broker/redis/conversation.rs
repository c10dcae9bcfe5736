//! The commands and replies of one link to a redis server: what is to be sent, which replies are awaited.
//!
//! Owns: the order of commands. Knows: that replies come in that order. Never knows: what a command is.

mod saved;

use std::collections::VecDeque;

pub use self::saved::SavedConversation;
use crate::clock::Millis;
use crate::wire::resp;

/// How long redis may take to answer, in milliseconds (`docs/api.md#broadcast`).
pub const REPLY_TIMEOUT: Millis = 5_000;

/// Why a link has to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFault {
    /// For the log.
    pub why: String,
    /// The other link to the same server has to be closed, too.
    pub both: bool,
}

impl LinkFault {
    pub fn of_one(why: impl Into<String>) -> LinkFault {
        let (why, both) = (why.into(), false);
        LinkFault { why, both }
    }
}

#[derive(Debug)]
pub struct Conversation<W> {
    /// Bytes to be sent.
    pub out: Vec<u8>,
    pub asked: VecDeque<Outstanding<W>>,
    /// When a reply last came.
    pub heard: Millis,
}

/// A question, and since when its answer is awaited.
#[derive(Debug)]
pub struct Outstanding<W> {
    pub at: Millis,
    pub what: W,
}

impl<W> Default for Conversation<W> {
    fn default() -> Conversation<W> {
        Conversation {
            out: Vec::new(),
            asked: VecDeque::new(),
            heard: 0,
        }
    }
}

impl<W> Conversation<W> {
    /// Sends a command, of its name and its arguments.
    pub fn ask(&mut self, what: W, parts: &[&[u8]], at: Millis) {
        resp::push_command(&mut self.out, parts);
        self.asked.push_back(Outstanding { at, what });
    }

    /// When the answer that is awaited longest is too late.
    pub fn late_at(&self) -> Option<Millis> {
        let front = self.asked.front();
        front.map(|asked| asked.at.saturating_add(REPLY_TIMEOUT))
    }

    /// Fails if an answer is too late.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub fn check_timeout(&self, now: Millis) -> Result<(), LinkFault> {
        match self.late_at() {
            Some(late) if now >= late => Err(LinkFault::of_one("it does not answer")),
            _ => Ok(()),
        }
    }
}
