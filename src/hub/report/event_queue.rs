//! Events that wait to be sent to their receiver (`docs/events.md#when-the-receiver-is-down`).
//!
//! Owns: their order and numbers, and which are dropped. Knows: limits on their number and bytes. Never knows: what an event
//! says, or how it is sent.
//!
//! Decision: the oldest are dropped, rather than refusing new ones, because a receiver that comes back then learns what
//! is the case now, and the gap in the numbers tells it what to look up.

pub mod saved;

use std::collections::VecDeque;

use crate::clock::Millis;
use crate::wire::event_batch::EventBatch;

/// Bytes that a batch has room for from its beginning at most: a larger block of memory costs system calls.
const ROOM: usize = 64 * 1024;

#[derive(Debug)]
pub struct EventQueue {
    /// Events that may wait.
    most: usize,
    /// The number of the last event.
    seq: u64,
    /// The oldest first; none is empty.
    batches: VecDeque<EventBatch>,
    events: usize,
    bytes: usize,
    /// No batch is under way: the first one goes out in this turn, and does not wait.
    free: bool,
    /// Where the next event is encoded.
    scratch: Vec<u8>,
    /// The events and bytes of the last batch that was taken: the next one is likely to have as many.
    usual: (usize, usize),
}

impl EventQueue {
    /// A queue in which `most` events may wait.
    pub fn new(most: usize) -> EventQueue {
        EventQueue {
            most,
            seq: 0,
            batches: VecDeque::new(),
            events: 0,
            bytes: 0,
            free: true,
            scratch: Vec::new(),
            usual: (0, 0),
        }
    }

    /// The number of the last event; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.seq
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        self.events
    }

    /// Bytes of the events that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest event that waits happened.
    pub fn oldest(&self) -> Option<Millis> {
        self.batches.front().and_then(EventBatch::oldest)
    }

    /// Appends an event, which `encode` writes with its number.
    pub fn push(&mut self, now: Millis, encode: impl FnOnce(&mut Vec<u8>, u64)) {
        self.seq = self.seq.saturating_add(1);
        let mut event = std::mem::take(&mut self.scratch);
        event.clear();
        encode(&mut event, self.seq);
        self.append(now, &event);
        self.scratch = event;
    }

    /// Appends an event that is encoded.
    fn append(&mut self, at: Millis, event: &[u8]) {
        let size = event.len();
        if self.batches.back().is_none_or(|last| !last.has_room(size)) {
            let (events, bytes) = self.usual;
            let batch = EventBatch::with_capacity(events, bytes.min(ROOM));
            self.batches.push_back(batch);
        }
        if let Some(last) = self.batches.back_mut() {
            let grown = last.push(at, event);
            self.bytes = self.bytes.saturating_add(grown);
            self.events = self.events.saturating_add(1);
        }
    }

    /// Drops the oldest of the events that wait until those that are left are within the limits; `room` is in bytes. What
    /// comes to an empty queue always stays. Returns how many were dropped.
    pub fn trim(&mut self, room: usize) -> u64 {
        let first = usize::from(self.free);
        let leaving = if self.free {
            self.batches.front()
        } else {
            None
        };
        let (events, bytes) = leaving.map_or((0, 0), |it| (it.len(), it.bytes()));
        let mut dropped = 0_u64;
        loop {
            let waiting = self.events.saturating_sub(events);
            let over = self.bytes.saturating_sub(bytes) > room && waiting > 1;
            if waiting <= self.most && !over {
                return dropped;
            }
            let Some(batch) = self.batches.get_mut(first) else {
                return dropped;
            };
            self.bytes = self.bytes.saturating_sub(batch.pop());
            self.events = self.events.saturating_sub(1);
            dropped = dropped.saturating_add(1);
            if batch.is_empty() {
                self.batches.remove(first);
            }
        }
    }

    /// Takes the oldest events, as many as one call may have, while no batch is under way.
    pub fn take(&mut self) -> Option<EventBatch> {
        let batch = self.batches.pop_front();
        self.free = batch.is_none();
        if let Some(batch) = &batch {
            self.usual = (batch.len(), batch.bytes());
            self.events = self.events.saturating_sub(batch.len());
            self.bytes = self.bytes.saturating_sub(batch.bytes());
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes events of this many bytes.
    fn push(queue: &mut EventQueue, count: usize, size: usize) {
        for _ in 0..count {
            queue.push(queue.last_seq(), |out, seq| {
                out.extend_from_slice(format!("{seq:0size$}").as_bytes());
            });
        }
    }

    /// The numbers of the events in a batch.
    fn numbers(batch: EventBatch) -> Vec<u64> {
        let mut body = Vec::new();
        batch.push_body(1, batch.len(), &mut body);
        let body = String::from_utf8(body).unwrap();
        let events = body.split_once('[').unwrap().1.trim_end_matches("]}");
        events.split(',').map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn events_are_taken_in_order_as_many_as_a_call_may_have() {
        let mut queue = EventQueue::new(10_000);
        assert_eq!((queue.oldest(), queue.take().is_none()), (None, true));
        push(&mut queue, 2_500, 4);
        assert_eq!(
            (queue.len(), queue.bytes(), queue.last_seq()),
            (2_500, 12_500, 2_500)
        );
        assert_eq!(queue.oldest(), Some(0));
        let mut taken = Vec::new();
        let mut sizes = Vec::new();
        while let Some(batch) = queue.take() {
            sizes.push(batch.len());
            taken.extend(numbers(batch));
        }
        assert_eq!(sizes, [1_000, 1_000, 500]);
        assert!(taken.into_iter().eq(1..=2_500));
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        push(&mut queue, 1, 4);
        assert_eq!(queue.take().map(numbers), Some(vec![2_501]));
    }

    #[test]
    fn the_oldest_that_wait_are_dropped() {
        let mut queue = EventQueue::new(3);
        push(&mut queue, 1, 4);
        assert_eq!(queue.trim(usize::MAX), 0);
        assert_eq!(queue.take().map(numbers), Some(vec![1]));
        push(&mut queue, 5, 4);
        assert_eq!((queue.trim(usize::MAX), queue.len()), (2, 3));
        assert_eq!(queue.take().map(numbers), Some(vec![4, 5, 6]));
        // By bytes, and across batches.
        let mut queue = EventQueue::new(10_000);
        push(&mut queue, 1, 9);
        assert_eq!(queue.take().map(numbers), Some(vec![1]));
        push(&mut queue, 2_000, 9);
        assert_eq!(queue.trim(20_000), 0);
        assert_eq!((queue.trim(19_999), queue.trim(9_000)), (1, 1_099));
        assert_eq!((queue.len(), queue.bytes()), (900, 9_000));
        assert_eq!(queue.take().map(|it| numbers(it)[0]), Some(1_102));
        // What comes to an empty queue is always taken.
        push(&mut queue, 2, 9);
        assert_eq!((queue.trim(0), queue.len()), (1, 1));
    }

    #[test]
    fn events_for_the_next_call_do_not_count_as_waiting() {
        let mut queue = EventQueue::new(1);
        push(&mut queue, 4, 4);
        assert_eq!((queue.trim(0), queue.len()), (0, 4));
        assert_eq!(queue.take().map(numbers), Some(vec![1, 2, 3, 4]));
        push(&mut queue, 4, 4);
        assert_eq!(queue.trim(usize::MAX), 3);
        assert_eq!(queue.take().map(numbers), Some(vec![8]));
        assert!(queue.take().is_none());
        // All of the next call, and one that waits.
        push(&mut queue, 1_003, 4);
        assert_eq!(queue.trim(usize::MAX), 2);
        assert_eq!(queue.take().map(|it| it.len()), Some(1_000));
        assert_eq!(queue.take().map(numbers), Some(vec![8 + 1_003]));
    }
}
