//! Which name is which channel's.
//!
//! Owns: the tables. Knows: names and indices. Never knows: what a channel is.

use std::collections::HashMap;

use crate::wire::channel_name::ChannelName;

/// Tables in [`ChannelNames`].
const TABLES: usize = 512;

/// Which name is which channel's. Many small tables, over a large one. A table that grows is filled anew in one step,
/// which delays the loop by ten milliseconds with a hundred thousand names.
#[derive(Debug)]
pub struct ChannelNames(Box<[HashMap<ChannelName, u32>]>);

impl Default for ChannelNames {
    fn default() -> Self {
        ChannelNames((0..TABLES).map(|_| HashMap::default()).collect())
    }
}

impl ChannelNames {
    /// Not keyed, unlike the tables: if names are made to meet in one of them, it is as slow as a single table.
    fn table(name: &str) -> usize {
        let mix = |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte));
        name.bytes().fold(0, mix) % TABLES
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(ChannelNames::table(name))?.get(name).copied()
    }

    pub fn insert(&mut self, name: ChannelName, channel: usize) {
        if let Some(table) = self.0.get_mut(ChannelNames::table(name.as_str())) {
            table.insert(name, channel as u32);
        }
    }

    pub fn remove(&mut self, name: &ChannelName) {
        if let Some(table) = self.0.get_mut(ChannelNames::table(name.as_str())) {
            table.remove(name);
        }
    }
}
