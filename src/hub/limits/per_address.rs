//! How many WebSockets there are from one address (`--max-connections-per-ip`).
//!
//! Owns: the address of each of them, and how many share it. Knows: slots. Never knows: connections. Without the limit it
//! holds nothing.
//!
//! Decision: a tree rather than a hash table. Clients choose their addresses, and a table that grows is rehashed in one
//! step, which delays the loop with a million addresses. Reconsider when upgrades are bound by it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::connection::Network;
use crate::hub::slots::Slots;

#[derive(Debug)]
pub struct PerAddress {
    /// WebSockets from one address; 0 means no limit.
    most: usize,
    counts: BTreeMap<Network, usize>,
    /// The address as which each slot's WebSocket was counted.
    counted: Slots<Option<Network>>,
}

impl PerAddress {
    pub fn new(most: usize) -> PerAddress {
        PerAddress {
            most,
            counts: BTreeMap::new(),
            counted: Slots::default(),
        }
    }

    /// Whether one more is allowed from this address. `None` is a unix socket, which has no limit.
    pub fn has_room(&self, network: Option<Network>) -> bool {
        let count = network.and_then(|network| self.counts.get(&network));
        self.most == 0 || count.is_none_or(|count| *count < self.most)
    }

    /// Counts the WebSocket in `slot`, or the upgrade under way.
    pub fn enter(&mut self, slot: u32, network: Option<Network>) {
        let (Some(network), 1..) = (network, self.most) else {
            return;
        };
        if let Some(counted) = self.counted.entry(slot) {
            *counted = Some(network);
            let count = self.counts.entry(network).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Counts it no longer.
    pub fn uncount(&mut self, slot: u32) {
        let Some(Some(network)) = self.counted.take(slot) else {
            return;
        };
        if let Entry::Occupied(mut entry) = self.counts.entry(network) {
            match entry.get().saturating_sub(1) {
                0 => drop(entry.remove()),
                left => *entry.get_mut() = left,
            }
        }
    }

    /// Addresses with a WebSocket.
    pub fn len(&self) -> usize {
        self.counts.len()
    }
}
