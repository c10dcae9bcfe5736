//! Tables by slot, and the walk over all slots.
//!
//! Owns: the shapes only. Knows: that slots are small numbers that are used again. Never knows: connections.

pub mod saved;

/// A value for each slot, up to the last one that ever needed one: a server without the feature pays nothing.
#[derive(Debug)]
pub struct Slots<T>(Vec<T>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots(Vec::new())
    }
}

impl<T: Default> Slots<T> {
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.0.get(slot as usize)
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.0.get_mut(slot as usize)
    }

    /// The value of a slot, which is made if there is none.
    #[inline]
    pub fn entry(&mut self, slot: u32) -> Option<&mut T> {
        let slot = slot as usize;
        if self.0.len() <= slot {
            self.0.resize_with(slot.saturating_add(1), T::default);
        }
        self.0.get_mut(slot)
    }

    /// Takes the value of a slot out.
    pub fn take(&mut self, slot: u32) -> Option<T> {
        self.get_mut(slot).map(std::mem::take)
    }

    /// One more than the last slot that ever needed a value.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The memory that it holds, in values.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// A set of slots: a bit for each.
#[derive(Debug, Default)]
pub struct SlotSet(Slots<u64>);

impl SlotSet {
    #[inline]
    pub fn has(&self, slot: u32) -> bool {
        let word = self.0.get(slot / 64);
        word.is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    pub fn set(&mut self, slot: u32, present: bool) {
        let word = if present {
            self.0.entry(slot / 64)
        } else {
            self.0.get_mut(slot / 64)
        };
        if let Some(word) = word {
            *word = *word & !(1 << (slot % 64)) | u64::from(present) << (slot % 64);
        }
    }
}

/// A walk over slots that continues from turn to turn. The caller bounds how far it goes in one turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    next: u32,
    end: u32,
}

impl Walk {
    /// A walk over the slots below `end`.
    pub fn below(end: u32) -> Walk {
        Walk { next: 0, end }
    }

    /// A walk to one slot alone.
    pub fn only(slot: u32) -> Walk {
        Walk {
            next: slot,
            end: slot.saturating_add(1),
        }
    }

    pub fn is_over(self) -> bool {
        self.next >= self.end
    }

    /// The next slot, unless it is over.
    pub fn next(&mut self) -> Option<u32> {
        if self.is_over() {
            return None;
        }
        let slot = self.next;
        self.next = slot.saturating_add(1);
        Some(slot)
    }

    /// The next slot of a walk that never ends: behind the last of `slots` comes the first.
    pub fn next_around(&mut self, slots: u32) -> u32 {
        self.end = slots;
        if self.is_over() {
            self.next = 0;
        }
        let slot = self.next;
        self.next = slot.saturating_add(1);
        slot
    }

    /// Continues behind `slot`.
    pub fn continue_after(&mut self, slot: u32) {
        self.next = slot.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_grows_with_the_slots_that_need_it() {
        let mut table: Slots<u32> = Slots::default();
        assert_eq!(table.get(7), None);
        assert_eq!(table.take(7), None);
        *table.entry(7).unwrap() = 3;
        assert_eq!(table.get(6), Some(&0));
        assert_eq!(table.take(7), Some(3));
        assert_eq!(table.get(7), Some(&0));
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = SlotSet::default();
        set.set(1_000, false);
        for slot in [0, 63, 64, 130] {
            assert!(!set.has(slot));
            set.set(slot, true);
            assert!(set.has(slot) && !set.has(slot + 1));
        }
        set.set(64, false);
        assert!(set.has(63) && !set.has(64) && set.has(130));
    }

    #[test]
    fn walks_visit_each_slot_once_and_round_walks_begin_again() {
        let mut walk = Walk::below(3);
        let visited: Vec<u32> = std::iter::from_fn(|| walk.next()).collect();
        assert_eq!((visited, walk.is_over()), (vec![0, 1, 2], true));
        let mut round = Walk::default();
        let visited: Vec<u32> = (0..5).map(|_| round.next_around(2)).collect();
        assert_eq!(visited, [0, 1, 0, 1, 0]);
        round.continue_after(4);
        assert_eq!(round.next_around(9), 5);
    }
}
