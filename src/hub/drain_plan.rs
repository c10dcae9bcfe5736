//! The plan of a graceful stop: which client is to be closed when.
//!
//! Owns: its progress. Knows: times, slots, and which clients wait. Never knows: connections ([`super::drain`] carries
//! it out).
//!
//! Decision: if a client's command waits for the authorizer or the broker, the client is closed after the answer, or
//! after [`COMMAND_PERCENT`]. Chosen over closing it in its turn. With the default timeouts the client still learns whether
//! its command was done. Whatever still waits at the end does so because the authorizer or the broker hangs.

pub mod saved;

use std::collections::VecDeque;

use super::slots::Walk;
use crate::clock::Millis;
use crate::effect::ConnId;

/// The part of the drain time in which clients are closed, and the part after which no request waits any more, in
/// percent. In the rest clients read the answers.
const CLOSING: Millis = 90;
const WAITING: Millis = 95;
/// How long a client whose turn has come may wait for the answer to its command. In percent of the rest of the time in
/// which requests may wait.
const COMMAND_PERCENT: Millis = 75;

/// A graceful stop under way.
#[derive(Debug)]
pub struct DrainPlan {
    from: Millis,
    /// The time over which clients are closed, one after the other.
    spread: Millis,
    /// WebSockets at its beginning.
    total: u64,
    /// Of these, how many had their turn.
    closed: u64,
    /// Refuses upgrades under way.
    pub refuse: Walk,
    /// Closes clients. A client that comes later is refused at once.
    pub close: Walk,
    /// Clients whose turn has come while a command waits, and when they are closed whether it is answered or not.
    waiting: VecDeque<(Millis, ConnId)>,
    /// When no request waits any more.
    until: Millis,
    /// Answers the requests that wait then, once it has begun.
    pub answer: Option<Walk>,
}

impl DrainPlan {
    /// A stop that begins at `now` and is to be over in `time`.
    pub fn new(now: Millis, time: Millis, websockets: usize, slots: u32) -> DrainPlan {
        DrainPlan {
            from: now,
            spread: time.saturating_mul(CLOSING) / 100,
            total: websockets as u64,
            closed: 0,
            refuse: Walk::below(slots),
            close: Walk::below(slots),
            waiting: VecDeque::new(),
            until: now.saturating_add(time.saturating_mul(WAITING) / 100),
            answer: None,
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

    /// Notes that one more has had its turn.
    pub fn close_one(&mut self) {
        self.closed = self.closed.saturating_add(1);
    }

    /// Notes that no other is left to be closed.
    pub fn close_none(&mut self) {
        self.closed = self.total;
    }

    /// Notes a client whose turn has come and whose command waits for an answer.
    pub fn wait(&mut self, id: ConnId, now: Millis) {
        let left = self.until.saturating_sub(now);
        let longest = left.saturating_mul(COMMAND_PERCENT) / 100;
        self.waiting.push_back((now.saturating_add(longest), id));
    }

    /// The next client that has waited long enough.
    pub fn next_waiting(&mut self, now: Millis) -> Option<ConnId> {
        let (at, id) = *self.waiting.front()?;
        if at > now {
            return None;
        }
        self.waiting.pop_front();
        Some(id)
    }

    /// Whether no request may wait any more.
    pub fn is_ending(&self, now: Millis) -> bool {
        now >= self.until
    }

    /// When the next step is due, if any is left.
    pub fn next(&self) -> Option<Millis> {
        let share = self.spread.saturating_mul(self.closed);
        let next = self.from.saturating_add(share.div_ceil(self.total.max(1)));
        let close = (self.closed < self.total).then_some(next);
        let waiting = self.waiting.front().map(|(at, _)| *at);
        let answer = self.answer.is_none_or(|walk| !walk.is_over());
        let answer = answer.then_some(self.until);
        [close, waiting, answer].into_iter().flatten().min()
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
        // Then requests that wait are answered.
        assert_eq!(plan.next(), Some(10_500));
        plan.answer = Some(Walk::default());
        assert_eq!(plan.next(), None);
    }

    #[test]
    fn clients_that_wait_are_closed_at_three_quarters_of_what_is_left() {
        let mut plan = DrainPlan::new(0, 10_000, 1, 1);
        let id = ConnId {
            slot: 0,
            generation: 1,
        };
        plan.close_one();
        plan.wait(id, 1_500);
        assert_eq!(plan.next(), Some(7_500));
        assert_eq!(plan.next_waiting(7_499), None);
        assert_eq!(
            (plan.next_waiting(7_500), plan.next_waiting(7_500)),
            (Some(id), None)
        );
    }

    #[test]
    fn without_time_all_are_due_at_once_but_bounded() {
        let plan = DrainPlan::new(0, 0, 1_000, 1_000);
        assert_eq!((plan.due(0, 64), plan.due(0, 5_000)), (64, 1_000));
    }
}
