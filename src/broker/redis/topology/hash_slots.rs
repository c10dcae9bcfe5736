//! Which shard has which slot of a cluster.
//!
//! Owns: the table, and what nodes have said against it lately. Knows: time as an argument. Never knows: addresses, links,
//! or how nodes are asked.
//!
//! Decisions
//! - **What a node says of its own slots counts more than what others say of it**, for [`GUARDED`] milliseconds. Views
//!   lag behind while slots move, and a late one would move a slot back and forth.
//! - **A slot that is redirected too often is not redirected any more for a while** rather than following forever. Two
//!   nodes that name each other would keep the loop busy.

mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

pub use self::saved::SavedHashSlots;
use crate::clock::Millis;
use crate::effect::ShardId;
use crate::wire::hash_slot::HASH_SLOTS;

/// How long a node's own answer counts more than the views of other nodes, in milliseconds.
const GUARDED: Millis = 3_000;
/// Redirections of a slot that are followed in [`WINDOW`] milliseconds.
const MOST_MOVES: u8 = 5;
const WINDOW: Millis = 5_000;

/// What was said of one slot lately.
#[derive(Clone, Copy, Debug)]
struct Denial {
    at: Millis,
    /// The shard that has said that the slot is not its own.
    not: ShardId,
    /// Redirections since `begun`.
    moves: u8,
    begun: Millis,
}

/// Slots whose shard has changed, and to which one.
pub type Change = (RangeInclusive<u16>, Option<ShardId>);

#[derive(Debug)]
pub struct HashSlotTable {
    owners: Vec<Option<ShardId>>,
    said: BTreeMap<u16, Denial>,
}

impl Default for HashSlotTable {
    fn default() -> HashSlotTable {
        HashSlotTable {
            owners: vec![None; HASH_SLOTS.into()],
            said: BTreeMap::new(),
        }
    }
}

impl HashSlotTable {
    pub fn owner(&self, slot: u16) -> Option<ShardId> {
        self.owners.get(usize::from(slot)).copied().flatten()
    }

    /// Whether every slot has a shard.
    pub fn is_whole(&self) -> bool {
        self.owners.iter().all(Option::is_some)
    }

    /// Every shard that has a slot.
    pub fn shards(&self) -> BTreeSet<ShardId> {
        let stretches = self.owners.chunk_by(|one, next| one == next);
        stretches.filter_map(|owners| *owners.first()?).collect()
    }

    fn set(&mut self, slot: u16, owner: Option<ShardId>) -> Option<Change> {
        let place = self.owners.get_mut(usize::from(slot))?;
        (*place != owner).then(|| {
            *place = owner;
            (slot..=slot, owner)
        })
    }

    /// A shard has said that a slot is not its own. Returns what changes.
    pub fn lost(&mut self, slot: u16, shard: ShardId, now: Millis) -> Option<Change> {
        self.note(slot, shard, now);
        if self.owner(slot) == Some(shard) {
            self.set(slot, None)
        } else {
            None
        }
    }

    /// A shard has said that a slot is another's. Returns whether that is to be followed.
    pub fn may_move(&mut self, slot: u16, shard: ShardId, now: Millis) -> bool {
        self.note(slot, shard, now);
        let Some(said) = self.said.get_mut(&slot) else {
            return false;
        };
        said.moves = said.moves.saturating_add(1);
        said.moves <= MOST_MOVES
    }

    /// A slot is this shard's. Returns what changes.
    pub fn assign(&mut self, slot: u16, shard: ShardId) -> Option<Change> {
        self.set(slot, Some(shard))
    }

    fn note(&mut self, slot: u16, not: ShardId, now: Millis) {
        let before = self.said.get(&slot);
        let recent = before.filter(|said| now < said.begun.saturating_add(WINDOW));
        let (moves, begun) = recent.map_or((0, now), |said| (said.moves, said.begun));
        let said = Denial {
            at: now,
            not,
            moves,
            begun,
        };
        self.said.insert(slot, said);
    }

    /// How a node sees the cluster; `from` is its shard, if it is a master. Returns what changes, in stretches.
    pub fn view(
        &mut self,
        view: &[Option<ShardId>],
        from: Option<ShardId>,
        now: Millis,
    ) -> Vec<Change> {
        let lasting = |said: &Denial| {
            let guarded = now < said.at.saturating_add(GUARDED);
            guarded || now < said.begun.saturating_add(WINDOW)
        };
        self.said.retain(|_, said| lasting(said));
        let mut changes: Vec<Change> = Vec::new();
        for slot in 0..HASH_SLOTS {
            let owner = view.get(usize::from(slot)).copied().flatten();
            let doubted = self.said.get(&slot).is_some_and(|said| {
                let guarded = now < said.at.saturating_add(GUARDED);
                guarded && owner == Some(said.not) && from != owner
            });
            if doubted || self.set(slot, owner).is_none() {
                continue;
            }
            match changes.last_mut() {
                Some((slots, to)) if *to == owner && slots.end().checked_add(1) == Some(slot) => {
                    *slots = *slots.start()..=slot;
                }
                _ => changes.push((slot..=slot, owner)),
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ShardId = ShardId(1);
    const TWO: ShardId = ShardId(2);

    fn view(stretches: &[(RangeInclusive<u16>, ShardId)]) -> Vec<Option<ShardId>> {
        let mut view = vec![None; HASH_SLOTS.into()];
        for (slots, shard) in stretches {
            for slot in slots.clone() {
                view[usize::from(slot)] = Some(*shard);
            }
        }
        view
    }

    #[test]
    fn a_cluster_view_changes_only_slots_that_differ() {
        let mut table = HashSlotTable::default();
        let halves = view(&[(0..=9_999, ONE), (10_000..=16_383, TWO)]);
        let changes = [(0..=9_999, Some(ONE)), (10_000..=16_383, Some(TWO))];
        assert_eq!(table.view(&halves, None, 0), changes);
        assert!(table.is_whole());
        assert!(table.view(&halves, None, 0).is_empty());
        let moved = view(&[
            (0..=4, ONE),
            (5..=7, TWO),
            (8..=9_998, ONE),
            (10_000..=16_383, TWO),
        ]);
        let changes = [(5..=7, Some(TWO)), (9_999..=9_999, None)];
        assert_eq!(table.view(&moved, None, 0), changes);
        assert!(!table.is_whole());
        assert_eq!(table.shards(), BTreeSet::from([ONE, TWO]));
    }

    #[test]
    fn a_nodes_own_words_count_more_than_what_others_say_of_it() {
        let mut table = HashSlotTable::default();
        let one = view(&[(0..=16_383, ONE)]);
        table.view(&one, None, 0);
        assert_eq!(table.lost(5, ONE, 100), Some((5..=5, None)));
        assert_eq!(table.lost(5, ONE, 100), None);
        assert!(
            table.view(&one, Some(TWO), 200).is_empty(),
            "it lags behind"
        );
        assert_eq!(table.assign(5, TWO), Some((5..=5, Some(TWO))));
        assert!(table.view(&one, None, 3_099).is_empty());
        // Its own view says what it has now.
        assert_eq!(table.view(&one, Some(ONE), 200), [(5..=5, Some(ONE))]);
        table.lost(6, ONE, 300);
        assert_eq!(table.view(&one, None, 3_300), [(6..=6, Some(ONE))]);
        // What a shard says of a slot that is not its own any more changes nothing.
        assert_eq!(table.lost(6, TWO, 400), None);
    }

    #[test]
    fn nodes_that_name_each_other_are_not_followed_for_ever() {
        let mut table = HashSlotTable::default();
        for n in 0..5 {
            assert!(table.may_move(7, if n % 2 == 0 { ONE } else { TWO }, n));
        }
        assert!(!table.may_move(7, ONE, 10));
        assert!(table.may_move(8, ONE, 10));
        assert!(!table.may_move(7, ONE, 4_999));
        assert!(table.may_move(7, ONE, 5_000));
    }
}
