//! Events that wait, in a snapshot: each is sent once, with its number.

use minicbor::{Decode, Encode};

use super::EventQueue;
use crate::clock::Millis;
use crate::snapshot::SnapshotError;
use crate::wire::event_batch::{EventBatch, SavedEvents};
use crate::wire::json;

#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedEventQueue {
    /// The number of the last event.
    #[n(0)]
    seq: u64,
    /// No batch is under way.
    #[n(1)]
    free: bool,
}

impl EventQueue {
    pub fn save(&self) -> SavedEventQueue {
        let EventQueue {
            most: _,
            seq,
            batches: _,
            usual: _,
            events: _,
            bytes: _,
            free,
            scratch: _,
        } = self;
        SavedEventQueue {
            seq: *seq,
            free: *free,
        }
    }

    /// The events that wait, as many together as one call may have.
    pub fn save_events(&self) -> impl Iterator<Item = SavedEvents<'_>> {
        self.batches.iter().map(EventBatch::save)
    }

    pub fn restore(&mut self, saved: &SavedEventQueue) {
        (self.seq, self.free) = (saved.seq, saved.free);
    }

    /// Appends events that were numbered before.
    ///
    /// # Errors
    /// An event says nothing, or has happened later than now.
    pub fn restore_events(
        &mut self,
        saved: &SavedEvents,
        now: Millis,
    ) -> Result<(), SnapshotError> {
        for (at, json) in saved.each() {
            if !json::is_value(json) || at > now || u32::try_from(json.len()).is_err() {
                return Err(SnapshotError::new(
                    "an event that is not JSON, is too long or lies in the future",
                ));
            }
            self.append(at, json);
        }
        Ok(())
    }
}
