//! The commands of backends to channels, users and connections, as values (`docs/api.md`).
//!
//! Owns: the commands. Knows: which values they hold, checked. Never knows: which node carries them out, or what is there.
//! [`body`] and [`query`] read them from requests, and [`answer`] is what comes back.

pub mod answer;
pub mod body;
mod fuzz;
pub mod query;
#[cfg(test)]
mod tests;

use super::channel_name::ChannelName;

#[doc(hidden)]
pub use fuzz::fuzz;

/// Targets of one call, in all of its objects together. What each costs is work for the loop, and a call is answered when
/// all is done.
pub const MAX_TARGETS: usize = 1_000;
/// Entries of a page, and how many there are if the query does not say.
pub const MAX_LIMIT: usize = 1_000;
const USUAL_LIMIT: usize = 100;

/// Connections that a backend names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// All connections of a user.
    User(Box<str>),
    /// One connection, by a text that may be its public id.
    Connection(Box<str>),
}

/// A target of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Channel(ChannelName),
    Recipient(Recipient),
}

/// One content, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publishing {
    /// Each once.
    pub targets: Vec<Target>,
    /// JSON, as it was sent.
    pub content: Box<[u8]>,
}

/// A command of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendCommand {
    /// All of it is published, in this order.
    Publish(Vec<Publishing>),
    Disconnect {
        recipient: Recipient,
        code: u16,
        /// Empty means none.
        reason: Box<str>,
    },
    Join(Recipient, ChannelName),
    Leave(Recipient, ChannelName),
    ListChannels {
        prefix: Box<str>,
        /// The page begins behind this name; everything is behind the empty one.
        after: Box<str>,
        limit: usize,
    },
    ListConnections {
        filter: ConnectionFilter,
        /// The page begins behind this id; everything is behind the empty one.
        after: Box<str>,
        limit: usize,
    },
}

/// Which connections are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionFilter {
    All,
    Channel(ChannelName),
    Recipient(Recipient),
}
