//! The access log in a snapshot: what it has counted of each connection.

use minicbor::{Decode, Encode};

use super::{AccessLogger, Counts};
use crate::clock::Millis;
use crate::log::SavedThrottle;

/// When a connection began, and its counts.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedCounts {
    #[n(0)]
    since: Millis,
    #[cbor(n(1), default)]
    messages_in: u64,
    #[cbor(n(2), default)]
    messages_out: u64,
    #[cbor(n(3), default)]
    bytes_in: u64,
    #[cbor(n(4), default)]
    bytes_out: u64,
}

impl AccessLogger {
    /// What is counted of the connection in `slot`, if anything is.
    pub fn save_counts(&self, slot: u32) -> Option<SavedCounts> {
        let Counts {
            since,
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
        } = *self.counts.get(slot)?;
        Some(SavedCounts {
            since,
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
        })
    }

    /// Goes on with these counts of the connection in `slot`.
    pub fn restore_counts(&mut self, slot: u32, saved: &SavedCounts) {
        if let Some(counts) = self.counts.entry(slot) {
            *counts = Counts {
                since: saved.since,
                messages_in: saved.messages_in,
                messages_out: saved.messages_out,
                bytes_in: saved.bytes_in,
                bytes_out: saved.bytes_out,
            };
        }
    }

    /// The throttle of its lines.
    pub fn save(&self) -> SavedThrottle {
        let AccessLogger {
            wanted: _,
            log: _,
            counts: _,
            faults,
        } = self;
        faults.save()
    }

    pub fn restore(&mut self, saved: SavedThrottle, now: Millis) {
        self.faults.restore(saved, now);
    }
}
