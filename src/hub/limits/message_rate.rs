//! How many messages a connection may send in a second (`--max-message-rate`).
//!
//! Owns: for each slot, what its tenant has used up. Knows: slots, and what time it is told. Never knows: what was said.
//! Without the limit it holds nothing.
//!
//! Decision: one number for each connection, the moment at which all that it has said would have been said at the
//! permitted pace (GCRA, ITU-T I.371), over a count and the time of its last change: a token bucket in eight bytes, and
//! without rounding. The bucket holds what a second brings.

use crate::connection::Millis;

/// What a message costs. A millisecond brings as many of these as a second brings messages.
const MESSAGE: u64 = 1_000;

#[derive(Debug)]
pub struct Rates {
    /// Messages; 0 is no limit.
    per_second: u64,
    /// By slot: on the clock that gains `per_second` in a millisecond, when what was said is paid for.
    paid: Vec<u64>,
}

impl Rates {
    pub fn new(per_second: u64) -> Rates {
        Rates {
            per_second,
            paid: Vec::new(),
        }
    }

    /// `slot` has a new tenant, who has said nothing.
    pub fn begin(&mut self, slot: u32) {
        if let Some(paid) = self.paid.get_mut(slot as usize) {
            *paid = 0;
        }
    }

    /// Whether the tenant of `slot` may say one more; if so, it has.
    pub fn admit(&mut self, slot: u32, now: Millis) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let slot = slot as usize;
        if self.paid.len() <= slot {
            self.paid.resize(slot.saturating_add(1), 0);
        }
        let Some(paid) = self.paid.get_mut(slot) else {
            return true;
        };
        let earned = now.saturating_mul(self.per_second);
        let next = earned.max(*paid).saturating_add(MESSAGE);
        let bucket = MESSAGE.saturating_mul(self.per_second);
        let admitted = next <= earned.saturating_add(bucket);
        if admitted {
            *paid = next;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `tries` at `now` are admitted.
    fn admitted(rates: &mut Rates, now: Millis, tries: usize) -> usize {
        (0..tries).filter(|_| rates.admit(7, now)).count()
    }

    #[test]
    fn a_second_brings_what_it_should() {
        let mut rates = Rates::new(10);
        // A bucket of a second's worth at first, then one each 100 ms.
        let table = [
            (5_000, 10),
            (5_099, 0),
            (5_100, 1),
            (5_350, 2),
            (5_400, 1),
            (60_000, 10),
            (61_500, 10),
        ];
        for (now, count) in table {
            assert_eq!(admitted(&mut rates, now, 20), count, "{now}");
        }
        // The next tenant has a bucket of its own, and so has the neighbour.
        assert!(rates.admit(8, 61_500) && !rates.admit(7, 61_500));
        rates.begin(7);
        assert_eq!(admitted(&mut rates, 61_500, 20), 10);
    }

    #[test]
    fn any_rate_is_kept_exactly() {
        for per_second in [1, 3, 7, 999, 1_000, 1_001, 1_000_000] {
            let mut rates = Rates::new(per_second);
            let tries = (per_second as usize).div_ceil(1_000) + 1;
            let most = admitted(&mut rates, 0, per_second as usize + 1);
            let rest: usize = (1..=3_000)
                .map(|now| admitted(&mut rates, now, tries))
                .sum();
            assert_eq!((most, rest), (per_second as usize, 3 * per_second as usize));
        }
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut rates = Rates::new(0);
        assert_eq!(admitted(&mut rates, 0, 10_000), 10_000);
        assert_eq!(rates.paid.capacity(), 0);
    }
}
