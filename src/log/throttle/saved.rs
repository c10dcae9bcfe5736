//! What a snapshot holds of a throttle. How many lines it admits, and in which time, is the release's own.

use minicbor::{Decode, Encode};

use super::Throttle;
use crate::clock::Millis;

#[derive(Clone, Copy, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedThrottle {
    #[n(0)]
    until: Millis,
    #[n(1)]
    left: u64,
    #[n(2)]
    left_out: u64,
}

impl Throttle {
    pub fn save(&self) -> SavedThrottle {
        SavedThrottle {
            until: self.until,
            left: self.left,
            left_out: self.left_out,
        }
    }

    /// Goes on as the saved one would, within its own limits.
    pub fn restore(&mut self, saved: SavedThrottle, now: Millis) {
        self.until = saved.until.min(now.saturating_add(self.interval));
        self.left = saved.left.min(self.lines);
        self.left_out = saved.left_out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_throttle_is_restored() {
        let mut before = Throttle::lines_in(2, 1_000);
        assert_eq!(before.admit(500), Some(0));
        assert_eq!(before.admit(500), Some(0));
        assert_eq!(before.admit(500), None);
        let mut after = Throttle::lines_in(2, 1_000);
        after.restore(before.save(), 900);
        assert_eq!(after.admit(1_499), None);
        assert_eq!(after.admit(1_500), Some(2));
        // One that was without end has one.
        let absurd = SavedThrottle {
            until: u64::MAX,
            left: u64::MAX,
            left_out: u64::MAX,
        };
        after.restore(absurd, 2_000);
        assert_eq!(after.admit(2_000), Some(u64::MAX));
        assert_eq!(after.admit(2_000), Some(0));
        assert_eq!(after.admit(2_999), None);
        assert_eq!(after.admit(3_000), Some(1));
    }
}
