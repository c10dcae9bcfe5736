//! What an answer of the authorizer may say besides yes and no (`docs/authorizer.md#answers`).
//!
//! Owns: the fields as values, and what a pattern of `allow` matches. Knows: what a question may be about. Never knows: how
//! an answer is read or travels, or what follows from a field.

use super::channel_name::ChannelName;
use super::command::Verb;
use super::json::scalars::MAX_USER;

mod fuzz;
mod read;
mod saved;
mod state;
#[cfg(test)]
mod tests;
mod wrong;

#[doc(hidden)]
pub use self::fuzz::fuzz;
pub use self::read::{AnswerLimits, BatchItem, Reading, first_item, names, read, read_items};
pub use self::saved::{SavedAllow, SavedFields};
pub use self::state::{is_state, read_state};
pub use self::wrong::{AnswerField, WrongField};

/// The `Content-Type` of an answer that has fields.
pub const CONTENT_TYPE: &str = "application/vnd.wsify+json";

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    Connect,
    Join,
    Leave,
    Broadcast,
    /// May the connection go on, and with which grants.
    Refresh,
}

impl Asked {
    /// The question's `command`.
    pub fn as_str(self) -> &'static str {
        match self {
            Asked::Connect => "connect",
            Asked::Join => "join",
            Asked::Leave => "leave",
            Asked::Broadcast => "broadcast",
            Asked::Refresh => "refresh",
        }
    }
}

impl From<Verb> for Asked {
    fn from(verb: Verb) -> Asked {
        match verb {
            Verb::Join => Asked::Join,
            Verb::Leave => Asked::Leave,
            Verb::Broadcast => Asked::Broadcast,
        }
    }
}

/// The fields of one answer that belong to its question and its status. By default there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerFields {
    /// The user that the connection belongs to.
    pub user: Option<Box<str>>,
    pub state: Option<NewState>,
    /// Channels that are joined with the `101`, each once.
    pub channels: Vec<ChannelName>,
    pub allow: Option<Allow>,
    /// Seconds until the connection is asked about again.
    pub expires_in: Option<u32>,
    /// Seconds for which the same answer holds for this command and channel.
    pub max_age: Option<u32>,
    /// JSON, as it was written, to be published in place of the client's.
    pub content: Option<Box<[u8]>>,
    /// What the client is told of a refusal.
    pub message: Option<Box<str>>,
    /// The connection is closed behind the refusal.
    pub close: Option<CloseWith>,
}

impl AnswerFields {
    /// The fields in a box, for an [`Answer`](crate::effect::Answer). `None` if there are none.
    pub fn boxed(self) -> Option<Box<AnswerFields>> {
        (self != AnswerFields::default()).then(|| Box::new(self))
    }

    /// A state, and nothing else.
    pub fn with_state(state: &str) -> Box<AnswerFields> {
        Box::new(AnswerFields {
            state: Some(NewState::Json(state.into())),
            ..AnswerFields::default()
        })
    }
}

/// Whether a connection may be of this user.
pub fn is_user(user: &str) -> bool {
    (1..=MAX_USER).contains(&user.len())
}

/// What becomes of a connection's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewState {
    Removed,
    /// JSON, as it was written.
    Json(Box<str>),
}

impl NewState {
    /// The state, if there is one from now on.
    pub fn json(&self) -> Option<&str> {
        match self {
            NewState::Removed => None,
            NewState::Json(state) => Some(state),
        }
    }
}

/// How a refused connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseWith {
    pub code: u16,
    pub reason: Option<Box<str>>,
}

/// Commands that need no question, by the channels that they name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Allow {
    pub join: Box<[Box<str>]>,
    pub leave: Box<[Box<str>]>,
    pub broadcast: Box<[Box<str>]>,
}

impl Allow {
    /// The pattern that allows a command on a channel, if any does.
    pub fn pattern_for(&self, verb: Verb, channel: &str) -> Option<&str> {
        let patterns = match verb {
            Verb::Join => &self.join,
            Verb::Leave => &self.leave,
            Verb::Broadcast => &self.broadcast,
        };
        let matching = patterns.iter().find(|it| matches_pattern(it, channel));
        matching.map(|pattern| &**pattern)
    }

    pub fn permits(&self, verb: Verb, channel: &str) -> bool {
        self.pattern_for(verb, channel).is_some()
    }
}

/// Whether a pattern, a channel's name or a prefix and `*`, is about a channel.
fn matches_pattern(pattern: &str, channel: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => channel.starts_with(prefix),
        None => pattern == channel,
    }
}
