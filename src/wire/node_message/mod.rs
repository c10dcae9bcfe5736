//! Messages between nodes that share a broker, as values (`docs/scaling.md#nodes`).
//!
//! Owns: what nodes say to each other, and on which channels. Knows: commands of backends, and answers to them. Never knows:
//! which nodes there are, or what follows from a message. [`envelope`] says which node a message is from, and proves it.
//! [`read`] and [`write`] are its JSON, and [`replay`] finds messages that came before.
//!
//! Decision: JSON rather than a binary form. Messages can be read with `redis-cli`, content is passed on byte for byte,
//! and the readers of backends' bodies check what other nodes ask for.
//!
//! Decision: all channels have the same hash tag, so that in a cluster one master carries them. Then all nodes receive
//! messages in the same order, a command and its answers come the same way, and there is one shard whose loss matters.
//! What goes to users does not scale with the masters. Reconsider when that is more than one master carries.

pub mod envelope;
mod fuzz;
pub mod read;
pub mod replay;
#[cfg(test)]
mod tests;
pub mod write;

use super::backend::answer::CommandResult;
use super::backend::{BackendCommand, Recipient};

#[doc(hidden)]
pub use fuzz::fuzz;

/// The channel that all nodes listen to. Behind it, with a colon, is the name of a node for the channel of that node alone.
pub const ALL_NODES: &str = "wsify:{nodes}";

/// The channel that only this node listens to.
pub fn channel_of(node: u64) -> String {
    format!("{ALL_NODES}:{node:016x}")
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeMessage<'m> {
    /// The node is there. `new`: it does not know the others yet.
    Here { new: bool },
    /// The node stops.
    Gone,
    /// Content for connections, which is JSON.
    Content(Recipient, &'m str),
    /// A command for all nodes. It is never `Publish`: content is sent piece by piece.
    Request {
        number: u32,
        command: BackendCommand,
    },
    /// What came of a command.
    Answer { number: u32, answer: NodeAnswer },
}

/// What one node answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAnswer {
    /// Done. `seq`: the number of the last event before it.
    Done {
        result: CommandResult,
        seq: Option<u64>,
    },
    /// Why it could not be done.
    Failed(Box<str>),
}

/// Why a message is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeMessageError {
    /// It is not a message of a node, or a value in it is wrong.
    Malformed,
    TooLarge,
    /// It has no signature, and this node has a key.
    Unsigned,
    /// It was signed with another key, or on another channel.
    WrongSignature,
    /// Its time differs by too much, or is before this node's start.
    Old,
    /// It was received before.
    Replayed,
    /// This version has no such message.
    Unknown,
    /// There are more nodes or commands than this node keeps.
    TooMany,
}

impl NodeMessageError {
    pub const LABELS: [&'static str; 8] = [
        "malformed",
        "too_large",
        "unsigned",
        "wrong_signature",
        "old",
        "replayed",
        "unknown",
        "too_many",
    ];

    /// The metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            NodeMessageError::Malformed => "malformed",
            NodeMessageError::TooLarge => "too_large",
            NodeMessageError::Unsigned => "unsigned",
            NodeMessageError::WrongSignature => "wrong_signature",
            NodeMessageError::Old => "old",
            NodeMessageError::Replayed => "replayed",
            NodeMessageError::Unknown => "unknown",
            NodeMessageError::TooMany => "too_many",
        }
    }
}
