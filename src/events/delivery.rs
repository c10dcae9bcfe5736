//! One batch of events on its way to the receiver: which of its events go in the next call, and when that is made
//! (`docs/events.md#when-the-receiver-is-down`).
//!
//! Owns: the batch between calls, the pause before the next one. Knows: what a call has led to. Never knows: how a call is
//! made, or the real time.
//!
//! Decision: after a `413` the two halves of a batch go out one after the other, each as a call of its own. The next
//! batch is whole again. Chosen over remembering a size that fits. This takes at most twice as many calls, and a
//! receiver with a raised limit gets whole batches at once.

mod saved;

pub use self::saved::SavedDelivery;
use crate::backoff::Backoff;
use crate::clock::Millis;
use crate::random::Random;
use crate::wire::event_batch::EventBatch;

/// The pauses after failed calls.
const BACKOFF: Backoff = Backoff {
    first: 250,
    longest: 30_000,
};

/// What a call has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// `2xx`.
    Taken,
    /// `413`.
    TooLarge,
    /// Anything else, or no answer.
    Failed,
}

impl CallResult {
    /// The result of a call that was answered with this status.
    pub fn of(status: u16) -> CallResult {
        match status {
            200..=299 => CallResult::Taken,
            413 => CallResult::TooLarge,
            _ => CallResult::Failed,
        }
    }

    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            CallResult::Taken => "taken",
            CallResult::TooLarge => "too_large",
            CallResult::Failed => "failed",
        }
    }
}

/// A batch on its way, or none.
#[derive(Debug)]
pub struct BatchDelivery {
    /// `None` during a call, and when there is no batch.
    batch: Option<EventBatch>,
    /// How many of its events go in each of the calls that are left; the next one is the last. Empty: there is no batch.
    calls: Vec<usize>,
    /// Failed calls in a row.
    failures: u32,
    /// When the next call may be made.
    next: Millis,
    /// The server stops: pauses are short.
    hurried: bool,
    random: Random,
}

impl BatchDelivery {
    pub fn new(seed: u64) -> BatchDelivery {
        BatchDelivery {
            batch: None,
            calls: Vec::new(),
            failures: 0,
            next: 0,
            hurried: false,
            random: Random::new(seed),
        }
    }

    /// The batch between two calls.
    pub fn batch(&self) -> Option<&EventBatch> {
        self.batch.as_ref()
    }

    /// Whether there is no batch, so that the next one can be begun.
    pub fn is_free(&self) -> bool {
        self.calls.is_empty()
    }

    /// Begins with a batch, which is not empty.
    pub fn begin(&mut self, batch: EventBatch) {
        self.calls.push(batch.len());
        self.batch = Some(batch);
    }

    /// The next call, if it is time: the batch, and how many of its events go. The batch comes back with
    /// [`BatchDelivery::called`].
    pub fn next_call(&mut self, now: Millis) -> Option<(EventBatch, usize)> {
        let count = *self.calls.last()?;
        if now < self.next {
            return None;
        }
        Some((self.batch.take()?, count))
    }

    /// When the next call is to be made, unless one is under way.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.batch.as_ref().map(|_| self.next)
    }

    /// A call is over. Returns how many events were dropped, because the receiver takes none of that size.
    pub fn called(&mut self, mut batch: EventBatch, result: CallResult, now: Millis) -> usize {
        let mut dropped = 0;
        if result == CallResult::Failed {
            self.failures = self.failures.saturating_add(1);
            self.next = now.saturating_add(self.pause());
        } else {
            (self.failures, self.next) = (0, 0);
            let count = self.calls.pop().unwrap_or_default();
            if result == CallResult::TooLarge && count > 1 {
                self.calls.push(count - count / 2);
                self.calls.push(count / 2);
            } else {
                dropped = usize::from(result == CallResult::TooLarge);
                for _ in 0..count {
                    batch.pop();
                }
            }
        }
        if !self.is_free() {
            self.batch = Some(batch);
        }
        dropped
    }

    /// The server stops: the receiver is called at once, whatever pause was under way, and pauses are short from now on.
    pub fn hurry(&mut self) {
        self.hurried = true;
        self.next = 0;
    }

    /// The pause after this many failures.
    fn pause(&mut self) -> Millis {
        if self.hurried {
            return BACKOFF.first;
        }
        BACKOFF.pause(self.failures, &mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of events that are numbers from 1 on.
    fn batch(count: usize) -> EventBatch {
        let mut batch = EventBatch::default();
        for number in 1..=count {
            batch.push(0, number.to_string().as_bytes());
        }
        batch
    }

    fn numbers(batch: &EventBatch, count: usize) -> Vec<usize> {
        let mut body = Vec::new();
        batch.push_body(1, count, &mut body);
        let body = String::from_utf8(body).unwrap();
        let events = body.split_once('[').unwrap().1.trim_end_matches("]}");
        events.split(',').map(|it| it.parse().unwrap()).collect()
    }

    /// The events of the call that is made now.
    fn call(delivery: &mut BatchDelivery, now: Millis) -> Option<(EventBatch, Vec<usize>)> {
        let (batch, count) = delivery.next_call(now)?;
        assert_eq!(delivery.next_deadline(), None);
        assert!(delivery.next_call(now).is_none() && !delivery.is_free());
        let numbers = numbers(&batch, count);
        Some((batch, numbers))
    }

    #[test]
    fn statuses_have_their_results() {
        for (status, result) in [
            (100, CallResult::Failed),
            (200, CallResult::Taken),
            (204, CallResult::Taken),
            (299, CallResult::Taken),
            (301, CallResult::Failed),
            (400, CallResult::Failed),
            (413, CallResult::TooLarge),
            (500, CallResult::Failed),
            (999, CallResult::Failed),
        ] {
            assert_eq!(CallResult::of(status), result, "{status}");
        }
    }

    #[test]
    fn a_batch_that_is_taken_makes_room_for_the_next() {
        let mut delivery = BatchDelivery::new(1);
        assert!(delivery.is_free() && delivery.next_call(0).is_none());
        for _ in 0..3 {
            delivery.begin(batch(2));
            assert!(!delivery.is_free());
            let (batch, events) = call(&mut delivery, 5).unwrap();
            assert_eq!(events, [1, 2]);
            assert_eq!(delivery.called(batch, CallResult::Taken, 6), 0);
            assert!(delivery.is_free());
            assert_eq!(delivery.next_deadline(), None);
        }
    }

    #[test]
    fn a_failed_call_is_made_again_after_pauses_that_double() {
        let mut delivery = BatchDelivery::new(1);
        delivery.begin(batch(3));
        let mut now = 1_000;
        for whole in [
            250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000,
        ] {
            let (batch, events) = call(&mut delivery, now).unwrap();
            assert_eq!(events, [1, 2, 3]);
            delivery.called(batch, CallResult::Failed, now);
            let next = delivery.next_deadline().unwrap();
            assert!((now + whole / 2..=now + whole).contains(&next), "{whole}");
            assert!(delivery.next_call(next - 1).is_none());
            now = next;
        }
        // After a success they begin again.
        let (taken, _) = call(&mut delivery, now).unwrap();
        delivery.called(taken, CallResult::Taken, now);
        delivery.begin(batch(1));
        let (failed, _) = call(&mut delivery, now).unwrap();
        delivery.called(failed, CallResult::Failed, now);
        assert!(delivery.next_deadline().unwrap() <= now + 250);
    }

    #[test]
    fn pauses_are_random() {
        let mut pauses: Vec<Millis> = (0..50)
            .map(|seed| {
                let mut delivery = BatchDelivery::new(seed);
                delivery.begin(batch(1));
                let (batch, _) = call(&mut delivery, 0).unwrap();
                delivery.called(batch, CallResult::Failed, 0);
                delivery.next_deadline().unwrap()
            })
            .collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 20, "{pauses:?}");
    }

    /// Plays a receiver that takes at most `most` events in a call, and none of `refused`. Returns what it has taken, and
    /// how many calls that took.
    fn play(count: usize, most: usize, refused: &[usize]) -> (Vec<usize>, usize, usize) {
        let mut delivery = BatchDelivery::new(1);
        delivery.begin(batch(count));
        let (mut taken, mut dropped, mut calls) = (Vec::new(), 0, 0);
        while let Some((batch, events)) = call(&mut delivery, 0) {
            calls += 1;
            let fits = events.len() <= most && !events.iter().any(|it| refused.contains(it));
            let result = if fits {
                CallResult::Taken
            } else {
                CallResult::TooLarge
            };
            if fits {
                taken.extend(events);
            }
            dropped += delivery.called(batch, result, 0);
        }
        assert!(delivery.is_free());
        (taken, dropped, calls)
    }

    #[test]
    fn a_413_halves_the_batch_and_an_event_that_gets_it_alone_is_dropped() {
        let all = |count| (1..=count).collect::<Vec<usize>>();
        for (count, most, calls) in [
            (1_000, 1_000, 1),
            (1_000, 500, 3),
            (7, 4, 3),
            (7, 3, 5),
            (5, 1, 9),
            (1, 1, 1),
        ] {
            assert_eq!(
                play(count, most, &[]),
                (all(count), 0, calls),
                "{count} by {most}"
            );
        }
        let (taken, dropped, _) = play(10, 10, &[3, 10]);
        assert_eq!((taken, dropped), (vec![1, 2, 4, 5, 6, 7, 8, 9], 2));
        assert_eq!(play(2, 0, &[]), (Vec::new(), 2, 3));
    }

    #[test]
    fn a_half_that_fails_is_sent_again_and_the_order_stays() {
        let mut delivery = BatchDelivery::new(1);
        delivery.begin(batch(4));
        let mut heard = Vec::new();
        let mut now = 0;
        for result in [
            CallResult::TooLarge,
            CallResult::Failed,
            CallResult::Taken,
            CallResult::Failed,
            CallResult::TooLarge,
            CallResult::Taken,
            CallResult::Taken,
        ] {
            now = delivery.next_deadline().unwrap().max(now);
            let (batch, events) = call(&mut delivery, now).unwrap();
            heard.push(events);
            delivery.called(batch, result, now);
        }
        let expected: [&[usize]; 7] = [
            &[1, 2, 3, 4],
            &[1, 2],
            &[1, 2],
            &[3, 4],
            &[3, 4],
            &[3],
            &[4],
        ];
        assert_eq!(heard, expected);
        assert!(delivery.is_free());
    }

    #[test]
    fn a_stop_ends_the_pause_and_the_next_ones_are_short() {
        let mut delivery = BatchDelivery::new(1);
        delivery.begin(batch(1));
        for _ in 0..9 {
            let now = delivery.next_deadline().unwrap();
            let (batch, _) = call(&mut delivery, now).unwrap();
            delivery.called(batch, CallResult::Failed, now);
        }
        delivery.hurry();
        let now = 1_000_000;
        for at in [now, now + 250, now + 500] {
            let (batch, events) = call(&mut delivery, at).unwrap();
            assert_eq!(events, [1]);
            delivery.called(batch, CallResult::Failed, at);
            assert_eq!(delivery.next_deadline(), Some(at + 250));
        }
        // A call that was under way keeps its turn.
        let mut delivery = BatchDelivery::new(1);
        delivery.begin(batch(1));
        let (batch, _) = call(&mut delivery, 7).unwrap();
        delivery.hurry();
        delivery.called(batch, CallResult::Failed, 9);
        assert_eq!(delivery.next_deadline(), Some(259));
    }
}
