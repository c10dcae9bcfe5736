//! The plan of a graceful stop: which client is to be closed when.
//!
//! Owns: how far it has come. Knows: times and slots. Never knows: connections ([`super::drain`] carries it out).

use super::slots::Walk;
use crate::clock::Millis;

/// The part of the drain time in which clients are closed, in tenths; in the rest they may answer.
const CLOSING_TENTHS: Millis = 9;

/// A graceful stop under way.
#[derive(Debug)]
pub struct DrainPlan {
    from: Millis,
    /// The time over which clients are closed, one after the other.
    spread: Millis,
    /// WebSockets at its beginning.
    total: u64,
    /// Of these, how many were closed.
    closed: u64,
    /// Refuses upgrades under way.
    pub refuse: Walk,
    /// Closes clients. A client that comes later is refused at once.
    pub close: Walk,
}

impl DrainPlan {
    /// A stop that begins at `now` and is to be over in `time`.
    pub fn new(now: Millis, time: Millis, websockets: usize, slots: u32) -> DrainPlan {
        DrainPlan {
            from: now,
            spread: time.saturating_mul(CLOSING_TENTHS) / 10,
            total: websockets as u64,
            closed: 0,
            refuse: Walk::below(slots),
            close: Walk::below(slots),
        }
    }

    /// How many more are to be closed by `now`, at most `most`.
    pub fn due(&self, now: Millis, most: u64) -> u64 {
        let passed = now.saturating_sub(self.from);
        let share = self.total.saturating_mul(passed).checked_div(self.spread);
        let due = match share {
            Some(share) if passed < self.spread => share.saturating_add(1),
            _ => self.total,
        };
        due.min(self.total).saturating_sub(self.closed).min(most)
    }

    /// One more was closed.
    pub fn close_one(&mut self) {
        self.closed = self.closed.saturating_add(1);
    }

    /// No other is left to be closed.
    pub fn close_none(&mut self) {
        self.closed = self.total;
    }

    /// When the next is to be closed, if any is left.
    pub fn next(&self) -> Option<Millis> {
        let share = self.spread.saturating_mul(self.closed);
        let next = self.from.saturating_add(share.div_ceil(self.total.max(1)));
        (self.closed < self.total).then_some(next)
    }

    /// Whether the walk that refuses upgrades goes on.
    pub fn is_refusing(&self) -> bool {
        !self.refuse.is_over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_closed_evenly_over_nine_tenths_of_the_time() {
        let mut plan = DrainPlan::new(1_000, 10_000, 9, 20);
        for (nth, at) in (0..9).map(|nth| (nth, 1_000 + nth * 1_000)) {
            assert_eq!((plan.next(), plan.due(at, 64)), (Some(at), 1), "{nth}");
            plan.close_one();
            assert_eq!(plan.due(at, 64), 0);
        }
        assert_eq!(plan.next(), None);
    }

    #[test]
    fn without_time_all_are_due_at_once_but_bounded() {
        let plan = DrainPlan::new(0, 0, 1_000, 1_000);
        assert_eq!((plan.due(0, 64), plan.due(0, 5_000)), (64, 1_000));
    }
}
