//! What a snapshot holds of the slots: in stretches, because a cluster has few of them.

use minicbor::{Decode, Encode};

use super::{Denial, HashSlotTable};
use crate::broker::redis::saved_values::past;
use crate::clock::Millis;
use crate::effect::ShardId;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedHashSlots {
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

impl HashSlotTable {
    pub fn save(&self) -> SavedHashSlots {
        let mut next: u16 = 0;
        let mut stretches = Vec::new();
        for owners in self.owners.chunk_by(|one, next| one == next) {
            let first = next;
            next = next.saturating_add(owners.len() as u16);
            if let Some(Some(ShardId(shard))) = owners.first() {
                stretches.push(SavedStretch {
                    first,
                    last: next.saturating_sub(1),
                    shard: *shard,
                });
            }
        }
        let denial = |(slot, said): (&u16, &Denial)| SavedDenial {
            slot: *slot,
            at: said.at,
            not: said.not.0,
            moves: said.moves,
            begun: said.begun,
        };
        SavedHashSlots {
            stretches,
            said: self.said.iter().map(denial).collect(),
        }
    }

    /// # Errors
    /// There are no such slots, or a time is impossible.
    pub fn restore(saved: SavedHashSlots, now: Millis) -> Result<HashSlotTable, SnapshotError> {
        let mut table = HashSlotTable::default();
        for SavedStretch { first, last, shard } in saved.stretches {
            let owners = table.owners.get_mut(usize::from(first)..=usize::from(last));
            let unknown = || SnapshotError::new(format!("unknown slots {first} to {last}"));
            let owners = owners.ok_or_else(unknown)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_do_not_exist_are_refused() {
        let stretch = |first, last| SavedHashSlots {
            stretches: vec![SavedStretch {
                first,
                last,
                shard: 1,
            }],
            said: Vec::new(),
        };
        for (first, last) in [(0, 16_384), (16_384, 16_384), (9, 7), (0, u16::MAX)] {
            assert!(HashSlotTable::restore(stretch(first, last), 0).is_err());
        }
        for (first, last) in [(0, 0), (0, 16_383), (16_383, 16_383)] {
            let table = HashSlotTable::restore(stretch(first, last), 0).unwrap();
            assert_eq!(table.owner(first), Some(ShardId(1)));
            assert_eq!(table.owner(last), Some(ShardId(1)));
        }
        let said = |at, begun| SavedHashSlots {
            stretches: Vec::new(),
            said: vec![SavedDenial {
                slot: 7,
                at,
                not: 1,
                moves: 9,
                begun,
            }],
        };
        assert!(HashSlotTable::restore(said(5, 5), 5).is_ok());
        assert!(HashSlotTable::restore(said(6, 5), 5).is_err());
        assert!(HashSlotTable::restore(said(5, 6), 5).is_err());
    }
}
