//! The memory budget: bytes buffered for all connections (`--max-total-queue-size`).
//!
//! Owns: the sum of the waiting input, and each slot's part of it. Knows: slots and bytes. Never knows: connections.
//!
//! Decision: under pressure, a connection that holds more than is left is ended when it would hold still more. Chosen
//! over a search for the largest holder, and over making every client wait. So the longest queues are ended first, and
//! short ones are safe until nearly nothing is free. It costs one comparison (dynamic thresholds: Choudhury and Hahne,
//! 1998).
//!
//! Half of the budget is for input and half for output, so that slow readers take nothing from senders. Shared bytes
//! count once, however many slow clients they wait for. Events that wait for their receiver are output. They hold no more
//! than they leave, as a connection does; the oldest are dropped.

use crate::buffers::Runs;
use crate::hub::slots::Slots;

#[derive(Debug)]
pub struct Memory {
    /// `--max-total-queue-size`, in bytes.
    most: usize,
    /// `--max-queue-size`, in bytes.
    most_of_one: usize,
    /// Bytes of input that wait.
    inbound: usize,
    /// Bytes of questions that are held.
    held: usize,
    /// Each slot's part of them.
    parts: Slots<u32>,
    /// Bytes of events that wait for their receiver.
    events: usize,
}

impl Memory {
    pub fn new(most: usize, most_of_one: usize) -> Memory {
        Memory {
            most,
            most_of_one,
            inbound: 0,
            held: 0,
            parts: Slots::default(),
            events: 0,
        }
    }

    /// Sets how many bytes of events wait for their receiver.
    #[inline]
    pub fn note_events(&mut self, bytes: usize) {
        self.events = bytes;
    }

    /// Bytes of events that may wait: as many as may then still wait for clients.
    pub fn room_for_events(&self, runs: &Runs) -> usize {
        (self.most / 2).saturating_sub(outbound(runs)) / 2
    }

    /// Sets how many bytes the held questions have.
    pub fn set_held_bytes(&mut self, bytes: usize) {
        self.held = bytes;
    }

    /// Sets how many bytes of input wait from the connection in `slot`. Returns whether there are more than before.
    #[inline]
    pub fn note(&mut self, slot: u32, bytes: usize) -> bool {
        let part = match bytes {
            0 => self.parts.get_mut(slot),
            _ => self.parts.entry(slot),
        };
        if let Some(part) = part {
            // A message and one read are together far below 4 GiB.
            let bytes = bytes.min(u32::MAX as usize) as u32;
            let before = std::mem::replace(part, bytes);
            self.inbound = self
                .inbound
                .saturating_sub(before as usize)
                .saturating_add(bytes as usize);
            return bytes > before;
        }
        false
    }

    /// Bytes that wait, in both directions.
    pub fn total(&self, runs: &Runs) -> usize {
        self.inbound
            .saturating_add(outbound(runs))
            .saturating_add(self.events)
            .saturating_add(self.held)
    }

    /// Bytes of input that may still wait.
    pub fn room_in(&self) -> usize {
        (self.most / 2).saturating_sub(self.inbound.saturating_add(self.held))
    }

    /// Bytes of output that may still wait.
    fn room_out(&self, runs: &Runs) -> usize {
        (self.most / 2)
            .saturating_sub(outbound(runs))
            .saturating_sub(self.events)
    }

    /// Bytes that may wait to be sent to one slow connection now.
    pub fn queue(&self, runs: &Runs) -> usize {
        self.most_of_one.min(self.room_out(runs))
    }

    /// Whether one connection's output is more than may still wait.
    pub fn is_short_for(&self, waiting: usize, runs: &Runs) -> bool {
        waiting > self.room_out(runs)
    }

    /// Whether at least half of the budget is free, in both directions. Events are not counted: they may take a half for a
    /// long time, and leave the other one to connections.
    pub fn is_relaxed(&self, runs: &Runs) -> bool {
        let room_out = (self.most / 2).saturating_sub(outbound(runs));
        self.room_in().min(room_out) >= self.most / 4
    }
}

/// Bytes that wait to be sent to clients.
fn outbound(runs: &Runs) -> usize {
    runs.held.saturating_add(runs.waiting.own)
}
