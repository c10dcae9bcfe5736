//! Events in a row, and the body of a call that has the first of them (`docs/events.md#calls`).
//!
//! Owns: [`EventBatch`]: encoded events, up to as many as one call may have. Knows: the limits of a call. Never knows: what an
//! event says, or whether a call is made.
//!
//! Decision: events wait as the bytes of the call that they will be part of rather than a queue from which calls are
//! put together, because handing a batch over then copies nothing, however much waits.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

mod saved;

use std::collections::VecDeque;

pub use self::saved::SavedEvents;

/// Events in one call at most.
pub const MOST_EVENTS: usize = 1_000;
/// Bytes of a call with more than one event.
pub const MOST_BYTES: usize = 1024 * 1024;

const BEGIN: &str = r#"{"node":""#;
const EVENTS: &str = r#"","events":["#;
const END: &str = "]}";
/// What a call has besides its events and the commas between them. A node's name has 16 digits.
const ENVELOPE: usize = BEGIN.len() + 16 + EVENTS.len() + END.len();

/// Encoded events, the oldest first. They fit into one call.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// The events, those that are gone among them, with a comma behind each.
    bytes: Vec<u8>,
    /// Of those that are not gone, where each ends in `bytes`, and when it happened.
    events: VecDeque<(u32, u64)>,
    /// Where the first of them begins.
    start: u32,
}

impl EventBatch {
    /// An empty batch with room for this many events, and this many bytes.
    pub fn with_capacity(events: usize, bytes: usize) -> EventBatch {
        EventBatch {
            bytes: Vec::with_capacity(bytes),
            events: VecDeque::with_capacity(events),
            start: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of its events.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - self.start as usize
    }

    /// When the first event happened, by the clock that [`EventBatch::push`] was given.
    pub fn oldest(&self) -> Option<u64> {
        self.events.front().map(|(_, at)| *at)
    }

    /// Whether an event of this many bytes fits into the same call. Into a call of its own any event does.
    pub fn has_room(&self, event: usize) -> bool {
        let filled = self.len() < MOST_EVENTS && self.bytes() + event + ENVELOPE <= MOST_BYTES;
        self.is_empty() || filled
    }

    /// Appends an event that happened at `at`. Returns the bytes by which the batch has grown.
    pub fn push(&mut self, at: u64, event: &[u8]) -> usize {
        self.free_front();
        self.bytes.extend_from_slice(event);
        self.bytes.push(b',');
        // A single event is far below 4 GiB, and several are below MOST_BYTES.
        self.events.push_back((self.bytes.len() as u32, at));
        event.len() + 1
    }

    /// The events, and when each happened: what [`EventBatch::push`] was given.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut start = self.start as usize;
        self.events.iter().map(move |(end, at)| {
            let end = *end as usize;
            // Without its comma.
            let event = self.bytes.get(start..end - 1).unwrap_or_default();
            start = end;
            (*at, event)
        })
    }

    /// Removes the first event. Returns the bytes by which the batch has shrunk.
    pub fn pop(&mut self) -> usize {
        let Some((end, _)) = self.events.pop_front() else {
            return 0;
        };
        let before = std::mem::replace(&mut self.start, end);
        if self.is_empty() {
            (self.bytes, self.start) = (Vec::new(), 0);
        }
        (end - before) as usize
    }

    /// Frees the bytes of the events that are gone, once they are more than those of the others. While the receiver is
    /// down, an event may go for each that comes.
    fn free_front(&mut self) {
        if self.start as usize <= self.bytes() {
            return;
        }
        self.bytes.drain(..self.start as usize);
        for (end, _) in &mut self.events {
            *end -= self.start;
        }
        self.start = 0;
    }

    /// Appends the body of a call with the first `count` events.
    pub fn push_body(&self, node: u64, count: usize, out: &mut Vec<u8>) {
        let last = count.min(self.len()).checked_sub(1);
        let end = last.and_then(|last| self.events.get(last));
        // Without the comma behind the last one.
        let range = end.map_or(0..0, |(end, _)| self.start as usize..*end as usize - 1);
        let events = self.bytes.get(range).unwrap_or_default();
        out.reserve(events.len() + ENVELOPE);
        out.extend_from_slice(BEGIN.as_bytes());
        out.extend_from_slice(format!("{node:016x}").as_bytes());
        out.extend_from_slice(EVENTS.as_bytes());
        out.extend_from_slice(events);
        out.extend_from_slice(END.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u64 = 0xa265_abcd_a451_4c6f;

    fn body(batch: &EventBatch, count: usize) -> String {
        let mut out = Vec::new();
        batch.push_body(NODE, count, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_body_has_the_first_events_in_their_order() {
        let mut batch = EventBatch::default();
        assert_eq!(
            body(&batch, 7),
            r#"{"node":"a265abcda4514c6f","events":[]}"#
        );
        for (at, event) in [(5, "{1}"), (6, "{22}"), (6, "{}")] {
            assert_eq!(batch.push(at, event.as_bytes()), event.len() + 1);
        }
        for (count, events) in [
            (0, ""),
            (1, "{1}"),
            (2, "{1},{22}"),
            (3, "{1},{22},{}"),
            (4, "{1},{22},{}"),
        ] {
            let expected = format!(r#"{{"node":"a265abcda4514c6f","events":[{events}]}}"#);
            assert_eq!(body(&batch, count), expected);
        }
        assert_eq!(
            (batch.len(), batch.bytes(), batch.oldest()),
            (3, 12, Some(5))
        );
        assert_eq!(batch.pop(), 4);
        assert_eq!(
            (batch.len(), batch.bytes(), batch.oldest()),
            (2, 8, Some(6))
        );
        assert!(body(&batch, 1).ends_with("[{22}]}"));
        assert_eq!((batch.pop(), batch.pop(), batch.pop()), (5, 3, 0));
        assert_eq!((batch.len(), batch.bytes(), batch.oldest()), (0, 0, None));
        assert_eq!(batch.bytes.capacity(), 0);
        batch.push(9, b"{3}");
        assert!(body(&batch, 1).ends_with("[{3}]}"));
    }

    #[test]
    fn bytes_of_events_that_are_gone_are_used_again() {
        let mut batch = EventBatch::default();
        let event = |number: usize| format!("{{{number}}}").repeat(100);
        for number in 0..10 {
            batch.push(0, event(number).as_bytes());
        }
        for number in 10..10_000 {
            batch.pop();
            batch.push(0, event(number).as_bytes());
            assert!(batch.bytes.len() <= 2 * batch.bytes() + event(number).len() + 1);
        }
        let left: Vec<String> = (9_990..10_000).map(event).collect();
        assert!(body(&batch, 10).ends_with(&format!(r#""events":[{}]}}"#, left.join(","))));
        let popped: usize = (0..10).map(|_| batch.pop()).sum();
        assert_eq!(popped, left.iter().map(|it| it.len() + 1).sum::<usize>());
        assert_eq!((batch.len(), batch.bytes()), (0, 0));
    }

    #[test]
    fn a_call_has_so_many_events_and_bytes_at_most_unless_one_is_larger() {
        let mut batch = EventBatch::default();
        while batch.has_room(2) {
            batch.push(0, b"{}");
        }
        assert_eq!(batch.len(), MOST_EVENTS);
        batch.pop();
        assert!(batch.has_room(2));

        let large = vec![b'1'; MOST_BYTES / 4];
        for last in [large.len() - 2 - ENVELOPE, large.len() - 1 - ENVELOPE] {
            let mut batch = EventBatch::default();
            for _ in 0..3 {
                assert!(batch.has_room(large.len()));
                batch.push(0, &large);
            }
            let more = vec![b'2'; last - 1];
            let fits = last == large.len() - 2 - ENVELOPE;
            assert_eq!(batch.has_room(more.len()), fits);
            batch.push(0, &more);
            assert_eq!(body(&batch, 4).len() <= MOST_BYTES, fits);
            assert!(!batch.has_room(1));
        }

        let mut batch = EventBatch::default();
        assert!(batch.has_room(2 * MOST_BYTES));
        batch.push(0, &vec![b'3'; 2 * MOST_BYTES]);
        assert!(!batch.has_room(1));
    }
}
