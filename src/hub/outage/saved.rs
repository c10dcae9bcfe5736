//! An authorizer that fails, and the questions that wait for it, in a snapshot.

use minicbor::{Decode, Encode};

use super::Outage;
use super::breaker::saved::SavedBreaker;
use super::held::saved::SavedHeld;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedOutage {
    #[n(0)]
    breaker: SavedBreaker,
    /// The last ticket of a question that waits.
    #[cbor(n(1), default)]
    tickets: u64,
    #[cbor(n(2), default)]
    failing: bool,
}

impl Outage {
    pub fn save(&self) -> SavedOutage {
        let Outage {
            policy: _,
            breaker,
            held,
            failing,
        } = self;
        SavedOutage {
            breaker: breaker.save(),
            tickets: held.tickets(),
            failing: *failing,
        }
    }

    /// The questions that wait.
    pub fn save_held(&self) -> impl Iterator<Item = SavedHeld<'_>> {
        self.held.save()
    }

    pub fn restore(&mut self, saved: SavedOutage) {
        self.breaker.restore(saved.breaker);
        self.held.restore_tickets(saved.tickets);
        self.failing = saved.failing;
    }

    /// # Errors
    /// It waits where another one does.
    pub fn restore_held(&mut self, saved: SavedHeld) -> Result<(), SnapshotError> {
        self.held.restore(saved)
    }
}
