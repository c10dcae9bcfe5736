//! Encoded bytes that many connections share, and the sum of what all outboxes hold.

use slab::Slab;

use super::queued::Queued;
use super::slice::{Slice, Waits};

mod saved;

pub use saved::{RunNumbers, SavedRun, SavedSlice};

/// Encoded bytes that many connections share. Grows only at its end; freed when nothing holds it.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    holders: u32,
    /// Distinguishes it from a later run at the same index.
    serial: u64,
}

/// Every run that is held, and a few empty buffers for the next ones.
#[derive(Debug, Default)]
pub struct Runs {
    live: Slab<Run>,
    spare: Vec<Vec<u8>>,
    /// Their total capacity, in bytes.
    spare_bytes: usize,
    /// Empty queues for the next outboxes that something is put into.
    #[expect(
        clippy::vec_box,
        reason = "an outbox is one word: the boxes themselves pass from one to another"
    )]
    spare_queues: Vec<Box<Queued>>,
    begun: u64,
    /// Bytes of all runs that are held.
    pub held: usize,
    /// Bytes that the kernel has taken, of runs and of connections' own; counted here because every send has the runs
    /// at hand.
    pub taken: u64,
    /// What waits in all outboxes together, as of the last [`count`](super::Outbox::count) of each.
    pub waiting: Waits,
}

/// Buffers kept for the next runs: enough for the channels that are busy in one turn, so that a steady state allocates
/// nothing.
const SPARE_RUNS: usize = 64;
/// Their total capacity, in bytes. More is returned to the allocator, so that memory does not stay high after a large
/// message or a busy hour.
const SPARE_CAPACITY: usize = 256 * 1024;

/// Queues kept for the next answers: as many connections as are reported in one turn. Each keeps room for one usual answer.
const SPARE_QUEUES: usize = 256;

impl Runs {
    /// An empty queue that was used before, if there is one.
    #[inline]
    pub(super) fn spare_queue(&mut self) -> Option<Box<Queued>> {
        self.spare_queues.pop()
    }

    /// Keeps a queue that has become empty, if it is worth it.
    #[inline]
    pub(super) fn keep_queue(&mut self, mut queue: Box<Queued>) {
        if self.spare_queues.len() < SPARE_QUEUES && queue.renew() {
            self.spare_queues.push(queue);
        }
    }

    /// Frees the spare buffers and queues. Those of a rush lie scattered over the heap, and each keeps a page in use.
    pub fn free_spares(&mut self) {
        self.spare = Vec::new();
        self.spare_bytes = 0;
        self.spare_queues = Vec::new();
    }

    /// A new, empty run with one holder, and its serial number.
    pub fn begin(&mut self) -> (u32, u64) {
        let bytes = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= bytes.capacity();
        self.begun += 1;
        (
            self.live.insert(Run {
                bytes,
                holders: 1,
                serial: self.begun,
            }) as u32,
            self.begun,
        )
    }

    /// Holds a released run again if it still has other holders and is shorter than `max`.
    pub fn hold_again(&mut self, run: u32, serial: u64, max: usize) -> bool {
        match self.live.get_mut(run as usize) {
            Some(found) if found.serial == serial && found.bytes.len() < max => {
                found.holders += 1;
                true
            }
            _ => false,
        }
    }

    /// Lets `write` append to the run's bytes.
    pub fn append(&mut self, run: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(run) = self.live.get_mut(run as usize) {
            let before = run.bytes.len();
            write(&mut run.bytes);
            self.held += run.bytes.len() - before;
        }
    }

    /// The length of a run in bytes.
    pub fn len(&self, run: u32) -> usize {
        self.live.get(run as usize).map_or(0, |run| run.bytes.len())
    }

    pub fn slice(&self, slice: Slice) -> &[u8] {
        let run = self.live.get(slice.run as usize);
        run.and_then(|run| run.bytes.get(slice.from as usize..slice.to as usize))
            .unwrap_or_default()
    }

    pub fn hold(&mut self, run: u32) {
        if let Some(run) = self.live.get_mut(run as usize) {
            run.holders += 1;
        }
    }

    pub fn release(&mut self, run: u32) {
        let Some(found) = self.live.get_mut(run as usize) else {
            return;
        };
        found.holders -= 1;
        if found.holders == 0 {
            let mut bytes = self.live.remove(run as usize).bytes;
            self.held -= bytes.len();
            let spare_bytes = self.spare_bytes + bytes.capacity();
            if self.spare.len() < SPARE_RUNS && spare_bytes <= SPARE_CAPACITY {
                self.spare_bytes = spare_bytes;
                bytes.clear();
                self.spare.push(bytes);
            }
        }
    }

    /// Runs that are held.
    pub fn live(&self) -> usize {
        self.live.len()
    }
}
