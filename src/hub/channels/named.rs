//! The names of the channels that a connection is in.
//!
//! Owns: how they are listed. Knows: memberships. Never knows: what they are listed for.

use super::Channels;
use crate::hub::memberships::Memberships;
use crate::wire::channel_name::ChannelName;

impl Channels {
    /// Names of the channels that the connection in `slot` is in.
    pub fn names_of(&self, slot: u32) -> impl Iterator<Item = &ChannelName> {
        let joined = self.joined.get(slot).into_iter();
        let ids = joined.flat_map(Memberships::audiences);
        ids.filter_map(|(id, _)| self.channels.get(id.channel()))
            .map(|channel| &channel.name)
    }

    /// The first `most` of these names, in byte order. The cost is linear in the number of channels.
    pub fn first_names(&self, slot: u32, most: usize) -> Vec<ChannelName> {
        let mut names = Vec::with_capacity(self.joined(slot));
        names.extend(self.names_of(slot).cloned());
        if names.len() > most {
            names.select_nth_unstable(most);
            names.truncate(most);
        }
        names.sort_unstable();
        names
    }
}
