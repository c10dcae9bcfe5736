//! How many WebSockets there are from one address (`--max-connections-per-ip`).
//!
//! Owns: which address each of them came from, and how many share it. Knows: slots. Never knows: connections. Without the
//! limit it holds nothing.
//!
//! Decision: a tree, over a hash table: an address is the client's choice, and a table that has to grow is filled anew in
//! one go, which with a million addresses keeps everybody waiting. Reconsider when upgrades are bound by it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::connection::Network;

#[derive(Debug)]
pub struct Addresses {
    /// From one address at most; 0 is no limit.
    most: usize,
    counts: BTreeMap<Network, usize>,
    /// By slot: where its WebSocket came from, so that it leaves as what it came.
    came_from: Vec<Option<Network>>,
}

impl Addresses {
    pub fn new(most: usize) -> Addresses {
        Addresses {
            most,
            counts: BTreeMap::new(),
            came_from: Vec::new(),
        }
    }

    /// Whether one more may come from there. `None` is a unix socket, from which anybody may.
    pub fn has_room(&self, network: Option<Network>) -> bool {
        let count = network.and_then(|network| self.counts.get(&network));
        self.most == 0 || count.is_none_or(|count| *count < self.most)
    }

    /// There is a WebSocket in `slot`, or an upgrade under way.
    pub fn enter(&mut self, slot: u32, network: Option<Network>) {
        let (Some(network), 1..) = (network, self.most) else {
            return;
        };
        let slot = slot as usize;
        if self.came_from.len() <= slot {
            self.came_from.resize(slot.saturating_add(1), None);
        }
        if let Some(place) = self.came_from.get_mut(slot) {
            *place = Some(network);
            let count = self.counts.entry(network).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// There is none any more.
    pub fn leave(&mut self, slot: u32) {
        let place = self.came_from.get_mut(slot as usize);
        let Some(network) = place.and_then(Option::take) else {
            return;
        };
        if let Entry::Occupied(mut entry) = self.counts.entry(network) {
            match entry.get().saturating_sub(1) {
                0 => drop(entry.remove()),
                left => *entry.get_mut() = left,
            }
        }
    }

    /// Addresses that are remembered.
    pub fn len(&self) -> usize {
        self.counts.len()
    }
}
