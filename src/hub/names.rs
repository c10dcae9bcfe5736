//! Which name is which channel's.
//!
//! Owns: the tables. Knows: names and indices. Never knows: what a channel is.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::wire::channel_name::ChannelName;

/// Tables in [`ChannelNames`], as a power of 2. With a million channels each has 500 names.
const TABLE_BITS: u32 = 11;

/// Which name is which channel's. Many small tables rather than a large one. A table that grows is rehashed in one
/// step, which delays the loop by half a microsecond for each name.
#[derive(Debug)]
pub struct ChannelNames(Box<[HashMap<ChannelName, u32>]>);

impl Default for ChannelNames {
    fn default() -> Self {
        let tables = 0..1 << TABLE_BITS;
        ChannelNames(tables.map(|_: usize| HashMap::default()).collect())
    }
}

impl ChannelNames {
    /// Not keyed, unlike the tables: if names are made to meet in one of them, it is as slow as a single table.
    fn table(name: &str) -> usize {
        let mix = |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte));
        let sum = name.bytes().fold(0, mix);
        // The upper bits of a product with the golden ratio are even, where the lower ones of names that count are not.
        (sum.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - TABLE_BITS)) as usize
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
        let from = if after < prefix {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
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
    fn names_are_spread_evenly_over_the_tables() {
        let kinds: [fn(u32) -> String; 4] = [
            |n| n.to_string(),
            |n| format!("room-{n}"),
            |n| format!("user:{n:08}"),
            |n| format!("{:08x}-4c1f", n.wrapping_mul(2_654_435_769)),
        ];
        for name in kinds {
            let mut names = ChannelNames::default();
            let average = 100;
            for n in 0..average << TABLE_BITS {
                names.insert(ChannelName::checked(&name(n)), 1);
            }
            let longest = names.0.iter().map(HashMap::len).max();
            assert!(longest < Some(150), "{longest:?}");
        }
    }

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
