//! Channels and members, as lists show them.
//!
//! Owns: how they are found. Knows: names in their order, audiences. Never knows: what a page is.

use super::Channels;
use crate::hub::channel::Channel;
use crate::wire::channel_name::ChannelName;

impl Channels {
    /// Channels with members whose names are behind `after` and begin with `prefix`, in byte order.
    pub fn behind(&self, prefix: &str, after: &str) -> impl Iterator<Item = (&ChannelName, usize)> {
        let found = self.occupied.behind(prefix, after);
        found.map(|(name, index)| {
            let channel = self.channels.get(index as usize);
            (name, channel.map_or(0, Channel::members))
        })
    }

    /// How many connections are in a channel.
    pub fn members(&self, name: &str) -> usize {
        let channel = self.by_name.get(name);
        let channel = channel.and_then(|index| self.channels.get(index as usize));
        channel.map_or(0, Channel::members)
    }

    /// The slots of a channel's members, in no order.
    pub fn member_slots(&self, name: &str) -> Vec<u32> {
        let index = self.by_name.get(name);
        let channel = index.and_then(|index| self.channels.get(index as usize));
        channel
            .into_iter()
            .flat_map(Channel::member_slots)
            .collect()
    }
}
