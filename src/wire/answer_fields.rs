//! What an answer of the authorizer may say besides yes and no (`docs/authorizer.md#answers`).
//!
//! Owns: the fields, their types and their limits. Knows: which field belongs to an answer about what. Never knows: how an
//! answer travels, or what follows from a field.

use super::channel_name::ChannelName;
use super::command::Verb;

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
    /// A state, and nothing else.
    pub fn with_state(state: &str) -> Box<AnswerFields> {
        Box::new(AnswerFields {
            state: Some(NewState::Json(state.into())),
            ..AnswerFields::default()
        })
    }
}

/// What becomes of a connection's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewState {
    Removed,
    /// JSON, as it was written.
    Json(Box<str>),
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
