//! The sender of events in a snapshot.
//!
//! Owns: [`SavedEventSender`]. Knows: the batch under way, what the log was told of the receiver. Never knows: calls, since
//! none is under way.

use minicbor::{Decode, Encode};

use super::{EventSender, SavedDelivery};
use crate::clock::Millis;
use crate::log::{SavedOutageThrottle, SavedThrottle};
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedEventSender {
    #[n(0)]
    delivery: SavedDelivery,
    /// Outages of the receiver.
    #[n(1)]
    outages: Option<SavedOutageThrottle>,
    /// Events that it has refused.
    #[n(2)]
    refusals: Option<SavedThrottle>,
}

impl EventSender {
    /// What another program goes on with. No call may be under way.
    pub fn save(&self) -> SavedEventSender {
        SavedEventSender {
            delivery: self.delivery.save(),
            outages: Some(self.outages.save()),
            refusals: Some(self.refusals.save()),
        }
    }

    /// Goes on with what another program has left. `node` is this process's name.
    ///
    /// # Errors
    /// It is not a batch.
    pub fn restore(
        &mut self,
        saved: SavedEventSender,
        node: u64,
        now: Millis,
    ) -> Result<(), SnapshotError> {
        self.delivery = super::BatchDelivery::restore(saved.delivery, node, now)?;
        if let Some(outages) = saved.outages {
            self.outages.restore(outages, now);
        }
        if let Some(refusals) = saved.refusals {
            self.refusals.restore(refusals, now);
        }
        Ok(())
    }
}
