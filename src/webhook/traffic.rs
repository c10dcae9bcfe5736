//! What a caller knows of its connections: how many there were, and how long a read may take.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::threads::lock;

/// What a caller knows of its connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    connections: AtomicUsize,
    /// The longest wait of a read, whatever the call's time limit.
    until: Mutex<Option<Instant>>,
}

impl Traffic {
    /// Connections made so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wait_until(&self, until: Option<Instant>) {
        *lock(&self.until) = until;
    }

    pub(super) fn until(&self) -> Option<Instant> {
        *lock(&self.until)
    }
}
