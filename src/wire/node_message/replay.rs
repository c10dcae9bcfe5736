//! Which messages of a node were received already.
//!
//! Owns: the newest number and time, and which of the numbers shortly before it have come. Knows: numbers. Never knows: clocks,
//! nodes.
//!
//! Decision: a window, rather than accepting growing numbers only. After a slot of a cluster has moved, a message may
//! come behind one that was sent later.

/// Numbers before the newest one that may still come.
const WINDOW: u64 = 1_024;
const WORDS: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    /// The time of the newest message, in the sender's Unix milliseconds.
    pub newest: u64,
    pub highest: u64,
    /// Which of the last numbers have come, each in the bit of its remainder.
    pub seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Notes a message. Returns false if it has come before, or may have.
    pub fn admit(&mut self, count: u64, time: u64) -> bool {
        match count.checked_sub(self.highest) {
            Some(0) | None => {
                let behind = self.highest.saturating_sub(count);
                if behind >= WINDOW || self.highest == 0 || self.has(count) {
                    return false;
                }
            }
            Some(ahead) if ahead >= WINDOW => {
                self.seen = [0; WORDS];
                self.highest = count;
            }
            Some(_) => {
                for skipped in self.highest.saturating_add(1)..count {
                    self.set(skipped, false);
                }
                self.highest = count;
            }
        }
        self.set(count, true);
        self.newest = self.newest.max(time);
        true
    }

    fn has(&self, count: u64) -> bool {
        let (word, bit) = place(count);
        self.seen.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, count: u64, seen: bool) {
        let (at, bit) = place(count);
        if let Some(word) = self.seen.get_mut(at) {
            *word = if seen { *word | bit } else { *word & !bit };
        }
    }
}

fn place(count: u64) -> (usize, u64) {
    let at = count & (WINDOW - 1);
    ((at >> 6) as usize, 1 << (at & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_admitted_once() {
        let mut window = ReplayWindow::default();
        let table = [
            (0, false),
            (5, true),
            (5, false),
            (7, true),
            (6, true),
            (6, false),
            (1, true),
            (1_500, true),
            (1_500 - 1_024, false),
            (1_500 - 1_023, true),
            (1_500 - 1_023, false),
            // Its bit was another number's.
            (7 + 1_024, true),
            (7, false),
            (100_000, true),
            (99_999, true),
            (98_976, false),
            (u64::MAX, true),
            (u64::MAX, false),
            (u64::MAX - 1_023, true),
            (100_001, false),
        ];
        for (count, expected) in table {
            assert_eq!(window.admit(count, 1), expected, "{count}");
        }
    }

    #[test]
    fn any_order_within_the_window_is_as_a_set() {
        let mut window = ReplayWindow::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut count = 40_u64;
        for step in 0..200_000_u64 {
            // A walk that goes forth and back.
            count = (count + step.wrapping_mul(0x9e37_79b9) % 90)
                .saturating_sub(43)
                .max(1);
            let highest = seen.last().copied().unwrap_or(0);
            let expected = count + WINDOW > highest && seen.insert(count);
            assert_eq!(window.admit(count, step), expected, "{step} {count}");
        }
        assert!(seen.len() > 1_000);
        assert_eq!(window.newest, 199_999);
    }
}
