//! The shards of the broker in a snapshot.
//!
//! Owns: [`SavedShards`]. Knows: slots as ranges that are alike. What is counted of them follows from the channels, which
//! are restored later.

use std::rc::Rc;

use minicbor::{Decode, Encode};

use super::{HashSlot, MOST_NAMES, Named, Shard, Shards};
use crate::effect::ShardId;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedShards {
    #[n(0)]
    prefix: Option<String>,
    #[n(1)]
    slots: Vec<SavedSlotRun>,
    #[n(2)]
    shards: Vec<SavedShard>,
    #[n(3)]
    names: Vec<SavedShardName>,
}

/// Slots in a row that are one shard's.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedSlotRun {
    #[n(0)]
    count: u32,
    #[n(1)]
    shard: Option<u16>,
    #[n(2)]
    since: u64,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedShard {
    #[n(0)]
    publishing: bool,
    #[n(1)]
    listening: bool,
    /// Its place among the names.
    #[n(2)]
    name: Option<u32>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedShardName {
    #[n(0)]
    name: String,
    #[n(1)]
    known: bool,
    #[n(2)]
    up: bool,
    #[n(3)]
    reconnections: u64,
    #[n(4)]
    gaps: u64,
}

impl From<&Named> for SavedShardName {
    fn from(named: &Named) -> SavedShardName {
        let Named {
            name,
            known,
            up,
            reconnections,
            gaps,
        } = named;
        SavedShardName {
            name: name.to_string(),
            known: *known,
            up: *up,
            reconnections: *reconnections,
            gaps: *gaps,
        }
    }
}

impl From<&SavedShardName> for Named {
    fn from(saved: &SavedShardName) -> Named {
        Named {
            name: Rc::from(saved.name.as_str()),
            known: saved.known,
            up: saved.up,
            reconnections: saved.reconnections,
            gaps: saved.gaps,
        }
    }
}

impl Shards {
    pub fn save(&self) -> SavedShards {
        let Shards {
            prefix,
            slots,
            shards,
            names,
            away: _,
            missing: _,
        } = self;
        let alike =
            |one: &HashSlot, other: &HashSlot| (one.shard, one.since) == (other.shard, other.since);
        let run = |run: &[HashSlot]| SavedSlotRun {
            count: run.len() as u32,
            shard: run.first().and_then(|slot| slot.shard).map(|id| id.0),
            since: run.first().map_or(0, |slot| slot.since),
        };
        let shard = |shard: &Shard| SavedShard {
            publishing: shard.publishing,
            listening: shard.listening,
            name: shard.name.map(|name| name as u32),
        };
        SavedShards {
            prefix: prefix.clone(),
            slots: slots.chunk_by(alike).map(run).collect(),
            shards: shards.iter().map(shard).collect(),
            names: names.iter().map(SavedShardName::from).collect(),
        }
    }

    /// # Errors
    /// There are too many of something, or too few slots, or a name is missing.
    pub fn restore(saved: &SavedShards) -> Result<Shards, SnapshotError> {
        let mut shards = Shards::new(saved.prefix.clone());
        let all = shards.slots.len();
        let mut slots = Vec::with_capacity(all);
        for run in &saved.slots {
            let slot = HashSlot {
                shard: run.shard.map(ShardId),
                since: run.since,
                missing: 0,
            };
            let room = all.saturating_sub(slots.len());
            slots.extend(std::iter::repeat_n(slot, room.min(run.count as usize)));
        }
        let named = |shard: &SavedShard| {
            let name = shard.name.map(|name| name as usize);
            name.is_none_or(|name| name < saved.names.len())
        };
        let few = saved.names.len() <= MOST_NAMES && saved.shards.len() <= 1 << 16;
        if slots.len() != all || !few || !saved.shards.iter().all(named) {
            return Err(SnapshotError::new(
                "wrong number of slots, unknown name of a shard, or too many shards or names",
            ));
        }
        shards.slots = slots;
        shards.shards = saved.shards.iter().map(Shard::from).collect();
        shards.names = saved.names.iter().map(Named::from).collect();
        shards.away = (0..all).filter(|slot| !shards.is_up(*slot)).count();
        Ok(shards)
    }
}

impl From<&SavedShard> for Shard {
    fn from(saved: &SavedShard) -> Shard {
        Shard {
            publishing: saved.publishing,
            listening: saved.listening,
            name: saved.name.map(|name| name as usize),
        }
    }
}
