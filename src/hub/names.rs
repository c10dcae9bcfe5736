//! Which name is which channel's.
//!
//! Owns: the tables. Knows: names and indices. Never knows: what a channel is.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

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

/// Channels that have members, in the byte order of their names: so a page of them costs what it returns.
#[derive(Debug, Default)]
pub struct OccupiedChannels(BTreeMap<ChannelName, u32>);

impl OccupiedChannels {
    pub fn insert(&mut self, name: &ChannelName, channel: usize) {
        self.0.insert(name.clone(), channel as u32);
    }

    pub fn remove(&mut self, name: &ChannelName) {
        self.0.remove(name);
    }

    /// Names behind `after` that begin with `prefix`, each with its channel.
    pub fn behind(&self, prefix: &str, after: &str) -> impl Iterator<Item = (&ChannelName, u32)> {
        let from = match after < prefix {
            true => Bound::Included(prefix),
            false => Bound::Excluded(after),
        };
        let names = self.0.range::<str, _>((from, Bound::Unbounded));
        let fits = move |(name, _): &(&ChannelName, &u32)| name.as_str().starts_with(prefix);
        names
            .take_while(fits)
            .map(|(name, channel)| (name, *channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occupied_channels_are_listed_in_byte_order() {
        let mut occupied = OccupiedChannels::default();
        for (channel, name) in ["b", "a:2", "é", "a", "a:10", "B", "a:1"]
            .iter()
            .enumerate()
        {
            occupied.insert(&ChannelName::checked(name), channel);
        }
        occupied.remove(&ChannelName::checked("B"));
        let table: [(&str, &str, &[&str]); 7] = [
            ("", "", &["a", "a:1", "a:10", "a:2", "b", "é"]),
            ("", "a:1", &["a:10", "a:2", "b", "é"]),
            ("", "a:11", &["a:2", "b", "é"]),
            ("a:", "", &["a:1", "a:10", "a:2"]),
            ("a:1", "a:1", &["a:10"]),
            ("a:", "b", &[]),
            ("", "é", &[]),
        ];
        for (prefix, after, expected) in table {
            let found = occupied.behind(prefix, after);
            let found: Vec<&str> = found.map(|(name, _)| name.as_str()).collect();
            assert_eq!(found, expected, "{prefix} {after}");
        }
    }
}
