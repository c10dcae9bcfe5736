//! Questions that wait in the hub: in the queue, or for the end of a pause.
//!
//! Owns: the questions, their order, and until when each may wait. Knows: ids and times. Never knows: connections, whether
//! the authorizer is down, or why a question waits.
//!
//! Decision: trees of keys beside one table rather than a list that is walked. The first in the queue, the next pause
//! and the next limit are found in logarithmic time, however many questions wait.

pub mod saved;

use std::collections::{BTreeMap, HashMap};

use crate::clock::Millis;
use crate::effect::{ConnId, Question};

/// A key in a tree by time; the second number distinguishes keys of one time.
type Key = (Millis, u64);

#[derive(Debug)]
struct HeldQuestion {
    /// `None`: it is being asked.
    question: Option<Question>,
    /// Its bytes, which count while it is being asked as well.
    bytes: usize,
    until: Key,
    place: Position,
    /// How often it has failed.
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    InQueue(u64),
    Pausing(Key),
    Asked,
}

/// Questions that wait in the hub, or are being asked again. A connection has one at most.
#[derive(Debug, Default)]
pub struct HeldQuestions {
    questions: HashMap<ConnId, HeldQuestion>,
    /// By ticket.
    queue: BTreeMap<u64, ConnId>,
    pauses: BTreeMap<Key, ConnId>,
    limits: BTreeMap<Key, ConnId>,
    tickets: u64,
    bytes: usize,
}

impl HeldQuestions {
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Bytes of all questions.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn ticket(&mut self) -> u64 {
        self.tickets = self.tickets.wrapping_add(1);
        self.tickets
    }

    /// A question begins to wait, at the end of the queue, until it is taken out or the time is over.
    pub fn insert(&mut self, question: Question, until: Millis) {
        let (from, bytes) = (question.from, question.body.len());
        self.remove(from);
        let (ticket, until) = (self.ticket(), (until, self.ticket()));
        self.queue.insert(ticket, from);
        self.limits.insert(until, from);
        self.bytes = self.bytes.saturating_add(bytes);
        self.questions.insert(
            from,
            HeldQuestion {
                question: Some(question),
                bytes,
                until,
                place: Position::InQueue(ticket),
                failures: 0,
            },
        );
    }

    /// A question that was being asked has failed and waits again. Returns how often it has failed.
    pub fn put_back(&mut self, question: Question) -> Option<u32> {
        let from = question.from;
        self.questions.get_mut(&from)?.question = Some(question);
        self.enqueue(from);
        self.note_failure(from)
    }

    /// A question has failed once more. Returns how often it has.
    pub fn note_failure(&mut self, from: ConnId) -> Option<u32> {
        let held = self.questions.get_mut(&from)?;
        held.failures = held.failures.saturating_add(1);
        Some(held.failures)
    }

    /// A question that is in the queue is to wait for the end of a pause before.
    pub fn pause(&mut self, from: ConnId, until: Millis) {
        let key = (until, self.ticket());
        if let Some(held) = self.questions.get_mut(&from)
            && let Position::InQueue(ticket) = held.place
        {
            self.queue.remove(&ticket);
            self.pauses.insert(key, from);
            held.place = Position::Pausing(key);
        }
    }

    /// Puts at most `most` questions whose pause is over into the queue.
    pub fn end_pauses(&mut self, now: Millis, most: usize) {
        for _ in 0..most {
            match self.pauses.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let from = first.remove();
                    self.enqueue(from);
                }
                _ => return,
            }
        }
    }

    /// Puts the question whose pause ends next into the queue.
    pub fn end_next_pause(&mut self) {
        if let Some((_, from)) = self.pauses.pop_first() {
            self.enqueue(from);
        }
    }

    fn enqueue(&mut self, from: ConnId) {
        let ticket = self.ticket();
        if let Some(held) = self.questions.get_mut(&from) {
            held.place = Position::InQueue(ticket);
            self.queue.insert(ticket, from);
        }
    }

    /// The first in the queue.
    pub fn first(&self) -> Option<ConnId> {
        self.queue.first_key_value().map(|(_, from)| *from)
    }

    /// Takes the first in the queue, to be asked now.
    pub fn take_first(&mut self) -> Option<Question> {
        let (_, from) = self.queue.pop_first()?;
        let held = self.questions.get_mut(&from)?;
        held.place = Position::Asked;
        held.question.take()
    }

    /// The first whose time is over.
    pub fn overdue(&self, now: Millis) -> Option<ConnId> {
        let ((until, _), from) = self.limits.first_key_value()?;
        (*until <= now).then_some(*from)
    }

    /// Whether a question is being asked again.
    pub fn is_asked(&self, from: ConnId) -> bool {
        let held = self.questions.get(&from);
        held.is_some_and(|held| matches!(held.place, Position::Asked))
    }

    /// How often a question has failed; 0 where it does not wait here.
    pub fn failures(&self, from: ConnId) -> u32 {
        self.questions.get(&from).map_or(0, |held| held.failures)
    }

    /// Forgets a question. Returns whether it waited here, and was not being asked.
    pub fn remove(&mut self, from: ConnId) -> bool {
        let Some(held) = self.questions.remove(&from) else {
            return false;
        };
        self.limits.remove(&held.until);
        self.bytes = self.bytes.saturating_sub(held.bytes);
        match held.place {
            Position::InQueue(ticket) => self.queue.remove(&ticket).is_some(),
            Position::Pausing(key) => self.pauses.remove(&key).is_some(),
            Position::Asked => false,
        }
    }

    /// When the next pause ends.
    pub fn next_pause(&self) -> Option<Millis> {
        self.pauses.first_key_value().map(|((at, _), _)| *at)
    }

    /// When the time of the next question is over.
    pub fn next_limit(&self) -> Option<Millis> {
        self.limits.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer_fields::Asked;

    fn question(slot: u32) -> Question {
        Question {
            from: id(slot),
            asked: Asked::Join,
            body: vec![0; 10],
            alone: false,
        }
    }

    fn id(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 1,
        }
    }

    fn all_in_line(held: &mut HeldQuestions) -> Vec<u32> {
        let taken = std::iter::from_fn(|| held.take_first());
        taken.map(|question| question.from.slot).collect()
    }

    #[test]
    fn a_held_question_that_fails_again_goes_to_the_end_of_the_queue() {
        let mut held = HeldQuestions::default();
        for slot in 0..3 {
            held.insert(question(slot), 1_000);
        }
        assert_eq!(
            (held.len(), held.bytes(), held.first()),
            (3, 30, Some(id(0)))
        );
        let first = held.take_first().unwrap();
        assert!(held.is_asked(id(0)) && !held.is_asked(id(1)));
        assert_eq!(held.put_back(first), Some(1));
        assert_eq!((held.len(), held.bytes()), (3, 30));
        assert_eq!(all_in_line(&mut held), [1, 2, 0]);
        assert_eq!((held.failures(id(0)), held.failures(id(1))), (1, 0));
    }

    #[test]
    fn a_pause_ends_in_its_time_and_no_more_than_asked_for_end_at_once() {
        let mut held = HeldQuestions::default();
        for (slot, until) in [(0, 30), (1, 10), (2, 20), (3, 10)] {
            held.insert(question(slot), 1_000);
            held.pause(id(slot), until);
        }
        assert_eq!((held.first(), held.next_pause()), (None, Some(10)));
        held.end_pauses(9, 64);
        assert_eq!(held.first(), None);
        held.end_pauses(20, 2);
        assert_eq!(all_in_line(&mut held), [1, 3]);
        held.end_pauses(20, 2);
        assert_eq!(all_in_line(&mut held), [2]);
        held.end_next_pause();
        assert_eq!((all_in_line(&mut held), held.next_pause()), (vec![0], None));
    }

    #[test]
    fn held_questions_are_overdue_in_the_order_of_their_limits() {
        let mut held = HeldQuestions::default();
        for (slot, until) in [(0, 300), (1, 100), (2, 200)] {
            held.insert(question(slot), until);
        }
        held.take_first();
        assert_eq!((held.overdue(99), held.next_limit()), (None, Some(100)));
        let mut over = Vec::new();
        while let Some(from) = held.overdue(300) {
            // What is being asked cannot be taken back here.
            over.push((from.slot, held.remove(from)));
        }
        assert_eq!(over, [(1, true), (2, true), (0, false)]);
        assert!(held.is_empty() && held.bytes() == 0 && held.queue.is_empty());
    }

    #[test]
    fn nothing_stays_of_what_is_forgotten() {
        let mut held = HeldQuestions::default();
        held.insert(question(0), 100);
        held.insert(question(1), 100);
        held.pause(id(1), 50);
        held.insert(question(2), 100);
        assert!(!held.remove(id(3)));
        assert!([0, 1, 2].into_iter().all(|slot| held.remove(id(slot))));
        assert!(held.put_back(question(1)).is_none());
        let left = [held.queue.len(), held.pauses.len(), held.limits.len()];
        assert_eq!((left, held.bytes()), ([0, 0, 0], 0));
    }
}
