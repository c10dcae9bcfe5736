//! Numbers that look random: jitter and `Retry-After`.
//!
//! Decision: xorshift64*, seeded once from the system, rather than asking the system each time, because a test can set
//! the seed. Nothing that must be unguessable is made of it. Reconsider when something has to be.

use std::io;
use std::ops::RangeInclusive;

use crate::clock::Millis;

/// 64 random bits of the system, as a seed or a name.
///
/// # Errors
/// The system has none to give.
pub fn seed() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// A generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator, which yields the same numbers for the same seed.
    pub fn new(seed: u64) -> Random {
        // Zero would stay zero.
        Random(seed | 1)
    }

    /// What [`Random::restored`] goes on from.
    pub fn state(&self) -> u64 {
        self.0
    }

    /// Goes on where another one was.
    pub fn restored(state: u64) -> Random {
        match state {
            0 => Random::new(0),
            state => Random(state),
        }
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number of the range; not quite evenly, by one in 2⁶⁴ divided by the range's width.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (start, end) = (*range.start(), *range.end());
        let width = end.saturating_sub(start).saturating_add(1);
        start.saturating_add(self.any() % width)
    }

    /// A time between half of `whole` and the whole of it, so that many waiting clients do not retry at once.
    pub fn jittered(&mut self, whole: Millis) -> Millis {
        self.within(whole / 2..=whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_stay_within_their_range_and_reach_its_ends() {
        let mut random = Random::new(0);
        let found: HashSet<u64> = (0..1_000).map(|_| random.within(1..=5)).collect();
        assert_eq!(found, HashSet::from([1, 2, 3, 4, 5]));
        assert_eq!(random.within(7..=7), 7);
        assert_eq!(random.jittered(0), 0);
        let found: HashSet<u64> = (0..1_000).map(|_| random.jittered(5)).collect();
        assert_eq!(found, HashSet::from([2, 3, 4, 5]));
        random.within(0..=u64::MAX);
    }

    #[test]
    fn a_seed_makes_the_same_numbers_again() {
        let (mut one, mut other) = (Random::new(42), Random::new(42));
        let numbers: HashSet<u64> = (0..1_000).map(|_| one.any()).collect();
        assert_eq!(numbers.len(), 1_000);
        assert!((0..1_000).all(|_| numbers.contains(&other.any())));
    }
}
