//! Lines that stdout has not taken, in a snapshot.
//!
//! Owns: [`SavedLog`]. Never knows: why stdout is slow.

use minicbor::{Decode, Encode};

use super::Log;

/// What is left of the log when nothing more can be written.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedLog {
    /// Whole lines.
    #[cbor(n(0), with = "minicbor::bytes", default)]
    waiting: Vec<u8>,
    /// Lines behind them that were dropped and are not reported yet.
    #[cbor(n(1), default)]
    gap: u64,
    /// Lines that were dropped since the start.
    #[cbor(n(2), default)]
    dropped: u64,
    /// A line may have been written in part.
    #[cbor(n(3), default)]
    torn: bool,
}

impl Log {
    /// What waits, taken away. What the writer is at work on is lost with it, and counted.
    ///
    /// If the process goes on after all, [`Log::put_back`] undoes it.
    pub fn save(&self) -> SavedLog {
        let mut queue = self.shared.lock();
        let taken = if queue.writing { queue.taken } else { 0 };
        SavedLog {
            waiting: std::mem::take(&mut queue.waiting),
            gap: std::mem::take(&mut queue.gap).saturating_add(taken),
            dropped: queue.dropped.saturating_add(taken),
            torn: taken > 0,
        }
    }

    /// Writes what another program's log could not.
    pub fn restore(&self, saved: SavedLog) {
        let SavedLog {
            waiting,
            gap,
            dropped,
            torn,
        } = saved;
        let mut queue = self.shared.lock();
        let later = std::mem::take(&mut queue.waiting);
        if torn {
            queue.waiting.push(b'\n');
        }
        queue.waiting.extend(waiting);
        queue.waiting.extend(later);
        queue.gap = queue.gap.saturating_add(gap);
        queue.dropped = queue.dropped.saturating_add(dropped);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Takes back what [`Log::save`] has taken: this program goes on.
    pub fn put_back(&self, saved: SavedLog) {
        let mut queue = self.shared.lock();
        let later = std::mem::replace(&mut queue.waiting, saved.waiting);
        queue.waiting.extend(later);
        // What the writer is at work on was not lost.
        let counted = saved.dropped.saturating_sub(queue.dropped);
        queue.gap = queue.gap.saturating_add(saved.gap.saturating_sub(counted));
        drop(queue);
        self.shared.filled.notify_one();
    }
}
