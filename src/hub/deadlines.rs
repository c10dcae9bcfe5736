//! The deadlines of connections: a wheel of small entries.
//!
//! Owns: the wheel. Knows: slots and times. Never knows: why a connection has a deadline. A due entry is only a reason
//! to check the connection. What is due follows from its own fields, so activity writes one field there and nothing
//! here. An entry of a slot's former connection costs one needless check, so entries need no id.
//!
//! Decision: one wheel of a fixed horizon rather than a heap or a hierarchy of wheels. A deadline beyond the horizon is
//! entered at its end and checked again there. One check per minute and connection costs less than a structure that
//! avoids it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "steps count from the server's start, and each index is a remainder of the wheel's size"
)]

use std::ops::Range;

use crate::clock::Millis;

/// Length of a step: no deadline is missed by more.
const STEP: Millis = 16;
/// Steps in the wheel: a horizon of 65 s.
const STEPS: u64 = 4096;

#[derive(Debug)]
pub struct Deadlines {
    wheel: Vec<Vec<u32>>,
    /// A bit for each step that has entries.
    filled: Vec<u64>,
    /// The first step that has not been emptied yet.
    next: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            wheel: vec![Vec::new(); STEPS as usize],
            filled: vec![0; STEPS as usize / 64],
            next: 0,
        }
    }
}

impl Deadlines {
    /// A wheel whose first step is that of `now`.
    pub fn beginning_at(now: Millis) -> Deadlines {
        Deadlines {
            next: now / STEP,
            ..Deadlines::default()
        }
    }

    /// Enters `slot` at the time `at`, or at the horizon. Returns the step, which distinguishes the connection's valid
    /// entry from older ones.
    pub fn insert(&mut self, slot: u32, at: Millis) -> u32 {
        let step = (at / STEP + 1).clamp(self.next, self.next + STEPS - 1);
        let index = (step % STEPS) as usize;
        self.wheel[index].push(slot);
        self.filled[index / 64] |= 1 << (index % 64);
        name(step)
    }

    /// Whether a deadline at `at` is due before the step `alarm`.
    pub fn is_before(at: Millis, alarm: u32) -> bool {
        (name(at / STEP + 1).wrapping_sub(alarm) as i32) < 0
    }

    /// Moves at most `most` due entries to `due`, each with the step it was put in.
    pub fn take_due(&mut self, now: Millis, most: usize, due: &mut Vec<(u32, u32)>) {
        let today = now / STEP;
        let mut left = most;
        while self.next <= today && left > 0 {
            let Some(step) = self.first_filled(self.next..today + 1) else {
                self.next = today + 1;
                return;
            };
            self.next = step;
            let index = (step % STEPS) as usize;
            let entries = &mut self.wheel[index];
            let keep = entries.len().saturating_sub(left);
            left -= entries.len() - keep;
            due.extend(entries.drain(keep..).map(|slot| (slot, name(step))));
            if entries.is_empty() {
                // If it were kept for the next round, each step's memory would occupy a page of the heap forever.
                *entries = Vec::new();
                self.filled[index / 64] &= !(1 << (index % 64));
                self.next = step + 1;
            }
        }
    }

    /// When the next entry is due, if there is one.
    pub fn next_due(&self) -> Option<Millis> {
        self.first_filled(self.next..self.next + STEPS)
            .map(|step| step * STEP)
    }

    fn first_filled(&self, steps: Range<u64>) -> Option<u64> {
        let mut step = steps.start;
        let end = steps.end.min(steps.start + STEPS);
        while step < end {
            let index = (step % STEPS) as usize;
            let word = self.filled[index / 64] >> (index % 64);
            if word != 0 {
                let found = step + u64::from(word.trailing_zeros());
                return (found < end).then_some(found);
            }
            step += 64 - (index % 64) as u64;
        }
        None
    }
}

/// A step's number: its low half, so that numbers repeat after two years; 0 means none. If two steps have one number, a
/// connection is checked twice, which is harmless.
fn name(step: u64) -> u32 {
    (step as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(deadlines: &mut Deadlines, now: Millis) -> Vec<u32> {
        let mut due = Vec::new();
        deadlines.take_due(now, usize::MAX, &mut due);
        due.into_iter().map(|(slot, _)| slot).collect()
    }

    #[test]
    fn no_slot_is_due_early_and_none_is_forgotten() {
        let mut deadlines = Deadlines::default();
        for slot in 0..3000 {
            deadlines.insert(slot, Millis::from(slot) * 7);
        }
        let mut seen = Vec::new();
        let mut now = 0;
        while let Some(next) = deadlines.next_due() {
            assert!(next >= now);
            now = next;
            let today = due(&mut deadlines, now);
            assert!(!today.is_empty());
            for slot in &today {
                let at = Millis::from(*slot) * 7;
                assert!(at <= now && now <= at + 2 * STEP, "{slot} at {now}");
            }
            seen.extend(today);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..3000).collect::<Vec<_>>());
    }

    #[test]
    fn beyond_the_horizon_is_looked_at_at_the_horizon() {
        let mut deadlines = Deadlines::default();
        deadlines.insert(1, 10_000_000);
        let at = deadlines.next_due().unwrap();
        assert_eq!(at, (STEPS - 1) * STEP);
        assert!(due(&mut deadlines, at - 1).is_empty());
        assert_eq!(due(&mut deadlines, at), [1]);
        assert_eq!(deadlines.next_due(), None);
    }

    #[test]
    fn a_long_sleep_misses_no_slot() {
        let mut deadlines = Deadlines::default();
        deadlines.insert(1, 5);
        deadlines.insert(2, 60_000);
        assert_eq!(due(&mut deadlines, 100_000_000), [1, 2]);
        deadlines.insert(3, 7);
        assert_eq!(due(&mut deadlines, 100_000_000 + STEP), [3]);
    }

    #[test]
    fn step_numbers_wrap_around() {
        let again = (1 << 32) * STEP;
        for at in again - 5 * STEP..again + 5 * STEP {
            let mut deadlines = Deadlines::default();
            due(&mut deadlines, at - 10 * STEP);
            let alarm = deadlines.insert(1, at);
            assert_ne!(alarm, 0);
            assert!(Deadlines::is_before(at - 3 * STEP, alarm));
            assert!(!Deadlines::is_before(at + 3 * STEP, alarm));
            let mut found = Vec::new();
            deadlines.take_due(at - STEP, usize::MAX, &mut found);
            assert_eq!(found, []);
            deadlines.take_due(at + 2 * STEP, usize::MAX, &mut found);
            assert_eq!(found, [(1, alarm)]);
        }
    }

    #[test]
    fn many_due_slots_are_taken_in_parts() {
        let mut deadlines = Deadlines::default();
        for slot in 0..100 {
            deadlines.insert(slot, 40);
        }
        let mut found = Vec::new();
        for _ in 0..10 {
            let before = found.len();
            deadlines.take_due(1000, 10, &mut found);
            assert_eq!(found.len(), before + 10);
        }
        deadlines.take_due(1000, 10, &mut found);
        assert_eq!(found.len(), 100);
    }
}
