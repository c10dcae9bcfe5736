//! The links that there should be, by name.
//!
//! Owns: the names. Never knows: what is said on a link, or how it is made.

use crate::broker::redis::dialogue::Duty;
use crate::config::RedisAddress;
use crate::effect::ShardId;

/// A link's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkId {
    /// To a master.
    Master(ShardId, Duty),
    /// To a server that is asked where masters are.
    Scout(usize),
}

/// What is to be done with a link. One that breaks is made again until it is to be closed.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Open(LinkId, RedisAddress),
    Close(LinkId),
}
