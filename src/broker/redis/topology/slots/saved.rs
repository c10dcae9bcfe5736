//! What a snapshot holds of the slots: in stretches, because a cluster has few of them.

use minicbor::{Decode, Encode};

use super::{Denial, SlotTable};
use crate::broker::redis::saved_values::past;
use crate::clock::Millis;
use crate::effect::ShardId;
use crate::snapshot::SnapshotError;
use crate::wire::slot::SLOTS;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSlots {
    #[cbor(n(0), default)]
    stretches: Vec<SavedStretch>,
    #[cbor(n(1), default)]
    said: Vec<SavedDenial>,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
struct SavedStretch {
    #[n(0)]
    first: u16,
    #[n(1)]
    last: u16,
    #[n(2)]
    shard: u16,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(map)]
struct SavedDenial {
    #[n(0)]
    slot: u16,
    #[n(1)]
    at: Millis,
    #[n(2)]
    not: u16,
    #[n(3)]
    moves: u8,
    #[n(4)]
    begun: Millis,
}

impl SlotTable {
    pub fn save(&self) -> SavedSlots {
        let mut stretches: Vec<SavedStretch> = Vec::new();
        for (slot, owner) in (0..SLOTS).zip(&self.owners) {
            let Some(ShardId(shard)) = *owner else {
                continue;
            };
            match stretches.last_mut() {
                Some(it) if it.shard == shard && it.last.checked_add(1) == Some(slot) => {
                    it.last = slot;
                }
                _ => stretches.push(SavedStretch {
                    first: slot,
                    last: slot,
                    shard,
                }),
            }
        }
        let denial = |(slot, said): (&u16, &Denial)| SavedDenial {
            slot: *slot,
            at: said.at,
            not: said.not.0,
            moves: said.moves,
            begun: said.begun,
        };
        SavedSlots {
            stretches,
            said: self.said.iter().map(denial).collect(),
        }
    }

    /// # Errors
    /// There are no such slots, or a time is impossible.
    pub fn restore(saved: SavedSlots, now: Millis) -> Result<SlotTable, SnapshotError> {
        let mut table = SlotTable::default();
        for SavedStretch { first, last, shard } in saved.stretches {
            let owners = table.owners.get_mut(usize::from(first)..=usize::from(last));
            let owners = owners.ok_or_else(|| SnapshotError::new("there are no such slots"))?;
            owners.fill(Some(ShardId(shard)));
        }
        for saved in saved.said {
            let said = Denial {
                at: past(saved.at, now)?,
                not: ShardId(saved.not),
                moves: saved.moves,
                begun: past(saved.begun, now)?,
            };
            table.said.insert(saved.slot, said);
        }
        Ok(table)
    }
}
