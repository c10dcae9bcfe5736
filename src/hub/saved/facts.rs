//! What a snapshot says of the hub as a whole, and of each slot besides the connection in it.
//!
//! Owns: the saved forms of both. Never knows: in which order they are restored.

use minicbor::{Decode, Encode};

use crate::clock::Millis;
use crate::hub::grants::saved::SavedGrants;
use crate::hub::report::access_log::saved::SavedCounts;
use crate::hub::slots::saved::SavedWalk;

/// The hub as a whole: the first record of its part.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedHub {
    /// This process's name in connections' ids.
    #[n(0)]
    pub instance: u64,
    /// The state of its random numbers.
    #[n(1)]
    pub random: u64,
    /// Connections accepted since the start.
    #[n(2)]
    pub accepted: u64,
    /// Bytes sent since the start.
    #[n(3)]
    pub sent: u64,
    /// Where the search for connections to evict continues.
    #[n(4)]
    pub eviction: SavedWalk,
    #[cbor(n(5), default)]
    pub evicted_none: u32,
}

/// What is kept of a connection outside of it. Number 3 is in snapshots of 4.0.0, and is not needed: a close code is kept
/// within one call of the hub.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSlot<'b> {
    #[n(0)]
    pub slot: u32,
    /// When the WebSocket was opened.
    #[n(1)]
    pub opened: Option<Millis>,
    /// When its messages so far are paid for, by `--max-message-rate`'s clock.
    #[n(2)]
    pub paid: Option<u64>,
    #[n(4)]
    pub counts: Option<SavedCounts>,
    #[b(5)]
    pub grants: Option<SavedGrants<'b>>,
    /// The last disconnect before its upgrade, which is under way.
    #[n(6)]
    pub upgrade_began: Option<u64>,
    /// Channels that it joins with its `101`.
    #[b(7)]
    pub reserved: Option<Vec<&'b str>>,
}

impl SavedSlot<'_> {
    /// Whether there is anything to say.
    pub fn is_empty(&self) -> bool {
        let SavedSlot {
            slot: _,
            opened,
            paid,
            counts,
            grants,
            upgrade_began,
            reserved,
        } = self;
        let numbers = opened.is_none() && paid.is_none() && upgrade_began.is_none();
        numbers && counts.is_none() && grants.is_none() && reserved.is_none()
    }
}

/// The end of the hub's part: how much of what matters most was before it.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedHubEnd {
    #[n(0)]
    pub connections: u64,
    #[n(1)]
    pub channels: u64,
}
