//! How much waits in all, and how much more may (`--max-total-queue-size`).
//!
//! Owns: the sum of what has come and waits, and each slot's part of it. Knows: slots and bytes. Never knows: connections.
//!
//! Decision: when room becomes scarce, whoever holds more than is left is ended as soon as it wants to hold more, over
//! looking for the largest, and over making everybody wait. So the longest queues go first, the short ones that everybody
//! has now and then are left alone until nearly nothing is free, and it costs a comparison (dynamic thresholds: Choudhury
//! and Hahne, 1998).
//!
//! Half of the room is for what comes and half for what goes, so that readers who are slow take nothing from those who send.
//! What is shared counts once: a thousand who have not read the same messages hold them in one place.

use crate::buffers::Runs;

#[derive(Debug)]
pub struct Backlog {
    /// `--max-total-queue-size`.
    most: usize,
    /// `--max-queue-size`.
    most_of_one: usize,
    /// Bytes that have come and wait.
    inbound: usize,
    /// By slot: its part of them. Up to the last that ever had one.
    parts: Vec<u32>,
}

impl Backlog {
    pub fn new(most: usize, most_of_one: usize) -> Backlog {
        Backlog {
            most,
            most_of_one,
            inbound: 0,
            parts: Vec::new(),
        }
    }

    /// So many bytes of the tenant of `slot` wait now.
    pub fn note(&mut self, slot: u32, bytes: usize) {
        let slot = slot as usize;
        if self.parts.len() <= slot {
            if bytes == 0 {
                return;
            }
            self.parts.resize(slot.saturating_add(1), 0);
        }
        if let Some(part) = self.parts.get_mut(slot) {
            // A message and what is read at once are far below 32 bits.
            let bytes = bytes.min(u32::MAX as usize) as u32;
            let before = std::mem::replace(part, bytes);
            self.inbound = self
                .inbound
                .saturating_sub(before as usize)
                .saturating_add(bytes as usize);
        }
    }

    /// Bytes that wait.
    pub fn total(&self, runs: &Runs) -> usize {
        self.inbound
            .saturating_add(runs.held)
            .saturating_add(runs.waiting.own)
    }

    /// Bytes that may still come and wait.
    pub fn room_in(&self) -> usize {
        (self.most / 2).saturating_sub(self.inbound)
    }

    /// Bytes that may still wait to go.
    fn room_out(&self, runs: &Runs) -> usize {
        let outbound = runs.held.saturating_add(runs.waiting.own);
        (self.most / 2).saturating_sub(outbound)
    }

    /// Bytes that may wait to go to one slow connection.
    pub fn queue(&self, runs: &Runs) -> usize {
        self.most_of_one.min(self.room_out(runs))
    }

    /// Whether what waits for one connection is more than may still wait.
    pub fn is_short_for(&self, waiting: usize, runs: &Runs) -> bool {
        waiting > self.room_out(runs)
    }

    /// Whether at least half of the room is free, on either side.
    pub fn is_relaxed(&self, runs: &Runs) -> bool {
        self.room_in().min(self.room_out(runs)) >= self.most / 4
    }
}
