//! The batch under way, in a snapshot. No call is under way then.
//!
//! Owns: [`SavedDelivery`]. Knows: the pause before the next call. Never knows: what an event says.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{BACKOFF, BatchDelivery};
use crate::clock::Millis;
use crate::snapshot::SnapshotError;
use crate::wire::event_batch::EventBatch;

#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedDelivery {
    /// The batch: when each event happened, and its JSON.
    #[cbor(n(0), default)]
    events: Vec<EventUnderWay>,
    /// How many go in each of the calls that are left; the next one is the last.
    #[cbor(n(1), default)]
    calls: Vec<u64>,
    /// Failed calls in a row.
    #[cbor(n(2), default)]
    failures: u32,
    /// When the next call may be made.
    #[cbor(n(3), default)]
    next: Millis,
    /// The server stops.
    #[cbor(n(4), default)]
    hurried: bool,
}

#[derive(Debug, Encode, Decode)]
struct EventUnderWay {
    #[n(0)]
    at: u64,
    #[n(1)]
    json: ByteVec,
}

impl BatchDelivery {
    pub fn save(&self) -> SavedDelivery {
        let BatchDelivery {
            batch,
            calls,
            failures,
            next,
            hurried,
            // Another program has its own.
            random: _,
        } = self;
        let events = batch.iter().flat_map(EventBatch::iter);
        let events = events.map(|(at, json)| EventUnderWay {
            at,
            json: json.to_vec().into(),
        });
        SavedDelivery {
            events: events.collect(),
            calls: calls.iter().map(|count| *count as u64).collect(),
            failures: *failures,
            next: *next,
            hurried: *hurried,
        }
    }

    /// Goes on as the saved one would.
    ///
    /// # Errors
    /// The calls that are left do not make up the batch.
    pub fn restore(
        saved: SavedDelivery,
        seed: u64,
        now: Millis,
    ) -> Result<BatchDelivery, SnapshotError> {
        let SavedDelivery {
            events,
            calls,
            failures,
            next,
            hurried,
        } = saved;
        let mut left = events.len() as u64;
        for count in &calls {
            let rest = left.checked_sub(*count).filter(|_| *count > 0);
            left = rest.ok_or_else(no_batch)?;
        }
        if left > 0 {
            return Err(no_batch());
        }
        let mut batch = EventBatch::default();
        for EventUnderWay { at, json } in &events {
            if !batch.has_room(json.len()) {
                return Err(SnapshotError::new("more events than one call can have"));
            }
            batch.push(*at, json);
        }
        Ok(BatchDelivery {
            batch: (!calls.is_empty()).then_some(batch),
            calls: calls.into_iter().map(|count| count as usize).collect(),
            failures,
            next: next.min(now.saturating_add(BACKOFF.longest)),
            hurried,
            ..BatchDelivery::new(seed)
        })
    }
}

fn no_batch() -> SnapshotError {
    SnapshotError::new("the calls do not add up to the batch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::delivery::CallResult;

    fn again(delivery: &BatchDelivery, now: Millis) -> Result<BatchDelivery, SnapshotError> {
        let saved = minicbor::to_vec(delivery.save()).unwrap();
        BatchDelivery::restore(minicbor::decode(&saved).unwrap(), 2, now)
    }

    #[test]
    fn a_batch_goes_on_with_the_same_calls_at_the_same_times() {
        let mut delivery = BatchDelivery::new(1);
        let mut batch = EventBatch::default();
        for event in ["{}", "{\"a\":1}", "[]"] {
            batch.push(7, event.as_bytes());
        }
        delivery.begin(batch);
        let (batch, _) = delivery.next_call(10).unwrap();
        delivery.called(batch, CallResult::TooLarge, 10);
        let (batch, _) = delivery.next_call(10).unwrap();
        delivery.called(batch, CallResult::Failed, 10);

        let mut restored = again(&delivery, 10).unwrap();
        let due = delivery.next_deadline().unwrap();
        assert_eq!(restored.next_deadline(), Some(due));
        for expected in [1, 2] {
            let (first, count) = restored.next_call(due).unwrap();
            let (other, same) = delivery.next_call(due).unwrap();
            assert_eq!((count, same), (expected, expected));
            assert!(first.iter().eq(other.iter()));
            restored.called(first, CallResult::Taken, due);
            delivery.called(other, CallResult::Taken, due);
        }
        assert!(restored.is_free() && again(&restored, 0).unwrap().is_free());
    }

    #[test]
    fn calls_that_do_not_make_up_the_batch_are_refused() {
        let event = || EventUnderWay {
            at: 0,
            json: b"{}".to_vec().into(),
        };
        for calls in [vec![], vec![1], vec![3], vec![2, 0], vec![u64::MAX, 3]] {
            let saved = SavedDelivery {
                events: vec![event(), event()],
                calls,
                ..SavedDelivery::default()
            };
            assert!(BatchDelivery::restore(saved, 1, 0).is_err());
        }
        let endless = SavedDelivery {
            events: vec![event()],
            calls: vec![1],
            next: u64::MAX,
            ..SavedDelivery::default()
        };
        let restored = BatchDelivery::restore(endless, 1, 5).unwrap();
        assert_eq!(restored.next_deadline(), Some(5 + BACKOFF.longest));
    }
}
