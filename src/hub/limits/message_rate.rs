//! How many messages a connection may send in a second (`--max-message-rate`).
//!
//! Owns: for each slot, what its connection has used up. Knows: slots, and the time as an argument. Never knows:
//! messages. Without the limit it holds nothing.
//!
//! Decision: one number for each connection, the time at which its messages would have been sent at the permitted rate
//! (GCRA, ITU-T I.371). Chosen over a count and the time of its last change, because it is a token bucket in eight
//! bytes, without rounding. The bucket holds the messages of one second.

use crate::clock::Millis;
use crate::hub::slots::Slots;

/// The cost of a message. A millisecond brings as many of these as a second brings messages.
const MESSAGE: u64 = 1_000;

#[derive(Debug)]
pub struct MessageRate {
    /// Messages; 0 means no limit.
    per_second: u64,
    /// On a clock that gains `per_second` in a millisecond: when the messages so far are paid for.
    paid: Slots<u64>,
}

impl MessageRate {
    pub fn new(per_second: u64) -> MessageRate {
        MessageRate {
            per_second,
            paid: Slots::default(),
        }
    }

    /// Resets `slot` for a new connection.
    pub fn begin(&mut self, slot: u32) {
        if let Some(paid) = self.paid.get_mut(slot) {
            *paid = 0;
        }
    }

    /// When the messages of the connection in `slot` are paid for, if there were any.
    pub fn paid(&self, slot: u32) -> Option<u64> {
        self.paid.get(slot).copied().filter(|paid| *paid > 0)
    }

    /// Goes on with what the connection in `slot` has used up.
    pub fn restore(&mut self, slot: u32, paid: u64) {
        if self.per_second > 0
            && let Some(entry) = self.paid.entry(slot)
        {
            *entry = paid;
        }
    }

    /// Whether the connection in `slot` may send one more message. If so, the message is counted.
    pub fn admit(&mut self, slot: u32, now: Millis) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let Some(paid) = self.paid.entry(slot) else {
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
    fn admitted(rate: &mut MessageRate, now: Millis, tries: usize) -> usize {
        (0..tries).filter(|_| rate.admit(7, now)).count()
    }

    #[test]
    fn a_second_brings_what_it_should() {
        let mut rate = MessageRate::new(10);
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
            assert_eq!(admitted(&mut rate, now, 20), count, "{now}");
        }
        // The next tenant has a bucket of its own, and so has the neighbour.
        assert!(rate.admit(8, 61_500) && !rate.admit(7, 61_500));
        rate.begin(7);
        assert_eq!(admitted(&mut rate, 61_500, 20), 10);
    }

    #[test]
    fn any_rate_is_kept_exactly() {
        for per_second in [1, 3, 7, 999, 1_000, 1_001, 1_000_000] {
            let mut rate = MessageRate::new(per_second);
            let tries = (per_second as usize).div_ceil(1_000) + 1;
            let most = admitted(&mut rate, 0, per_second as usize + 1);
            let rest: usize = (1..=3_000).map(|now| admitted(&mut rate, now, tries)).sum();
            assert_eq!((most, rest), (per_second as usize, 3 * per_second as usize));
        }
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut rate = MessageRate::new(0);
        assert_eq!(admitted(&mut rate, 0, 10_000), 10_000);
        assert_eq!(rate.paid.capacity(), 0);
    }
}
