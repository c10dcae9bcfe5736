//! Exponential back-off with jitter: the pause before the next attempt, after attempts that failed.
//!
//! Owns: how a pause grows. Knows: the generator of the jitter. Never knows: what is attempted.

use crate::clock::Millis;
use crate::random::Random;

/// Pauses between attempts, in milliseconds: each is twice as long as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Millis,
    pub longest: Millis,
}

impl Backoff {
    /// The pause before the next attempt, after `failures` failed ones in a row: between half and the whole, at random, so
    /// that not all retry at once.
    pub fn pause(&self, failures: u32, random: &mut Random) -> Millis {
        let doublings = failures.saturating_sub(1).min(16);
        let whole = self.first.saturating_mul(1 << doublings);
        random.jittered(whole.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_with_jitter() {
        let mut random = Random::new(1);
        let backoff = Backoff {
            first: 100,
            longest: 5_000,
        };
        for (failures, whole) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (3, 400),
            (6, 3_200),
            (7, 5_000),
            (u32::MAX, 5_000),
        ] {
            for _ in 0..1_000 {
                let pause = backoff.pause(failures, &mut random);
                assert!((whole / 2..=whole).contains(&pause), "{failures}: {pause}");
            }
        }
    }
}
