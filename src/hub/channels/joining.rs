//! How a connection becomes a member of a channel, and how that ends.
//!
//! Owns: both ways of a membership, kept alike. Knows: slots and encodings, the ends of subscriptions. Never knows: what is still to be sent to a member
//! that leaves ([`Channels::pending`]).

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

use super::Channels;
use crate::buffers::Runs;
use crate::hub::memberships::AudienceId;
use crate::hub::waiter::WaiterId;
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;

/// How a channel that was left stands at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftStanding {
    /// It is not subscribed any more, or still needed.
    Settled,
    /// The broker has been asked to end its subscription, and has not answered.
    Unsubscribing,
    /// The broker will be asked in this turn or the next one.
    Unasked,
}

impl Channels {
    /// Makes `slot` a member. Joining twice has no further effect. Returns whether it is the channel's first.
    pub fn join(&mut self, slot: u32, name: &str, encoding: Encoding) -> bool {
        if self.is_member(slot, name, encoding) {
            return false;
        }
        let index = self.open(name);
        let mut first = false;
        if let Some(channel) = self.channels.get_mut(index)
            && let Some(joined) = self.joined.entry(slot)
            && let Some(audience) = channel.open_audience(encoding)
        {
            let at = audience.add(slot);
            first = at == 0 && channel.members() == 1;
            if first {
                self.occupied.insert(&channel.name, index);
            }
            joined.put(AudienceId::new(index, encoding), at);
            self.memberships += 1;
        }
        first
    }

    /// Ends one membership. Leaving a channel one is not in does nothing. Returns whether it was the channel's last.
    pub fn leave(&mut self, slot: u32, name: &str, encoding: Encoding, runs: &mut Runs) -> bool {
        let Some((id, at)) = self.membership(slot, name, encoding) else {
            return false;
        };
        if let Some(joined) = self.joined.get_mut(slot) {
            joined.take(id);
        }
        self.remove(id, at, runs)
    }

    /// Ends all memberships of `slot`. Returns the channels that have no member left, if that is `wanted`.
    pub fn leave_all(&mut self, slot: u32, wanted: bool, runs: &mut Runs) -> Vec<ChannelName> {
        let mut vacated = Vec::new();
        let joined = self.joined.take(slot).unwrap_or_default();
        for (id, at) in joined.audiences() {
            let channel = self.channels.get(id.channel()).filter(|_| wanted);
            let name = channel.map(|channel| channel.name.clone());
            if self.remove(id, at, runs) {
                vacated.extend(name);
            }
        }
        vacated
    }

    /// How the channel `name`, which connections have left, stands at the broker. `leaving` is released by its answer.
    pub fn standing_of_left(&mut self, name: &str, leaving: WaiterId) -> LeftStanding {
        if !self.subscriptions.is_shared() {
            return LeftStanding::Settled;
        }
        if let Some((_, channel)) = self.named_mut(name)
            && channel.is_closing()
        {
            return LeftStanding::Unasked;
        }
        if self.subscriptions.unsubscriptions.awaits(name, leaving) {
            LeftStanding::Unsubscribing
        } else {
            LeftStanding::Settled
        }
    }

    /// Removes a member. Returns whether it was the channel's last.
    fn remove(&mut self, id: AudienceId, at: u32, runs: &mut Runs) -> bool {
        let Channels {
            channels, joined, ..
        } = self;
        let Some(channel) = channels.get_mut(id.channel()) else {
            return false;
        };
        let Some(audience) = channel.audience_mut(id.encoding()) else {
            return false;
        };
        audience.remove(at, runs, |other, at| {
            if let Some(joined) = joined.get_mut(other) {
                joined.put(id, at);
            }
        });
        let last = !channel.has_members();
        if last {
            self.occupied.remove(&channel.name);
        }
        self.memberships -= 1;
        self.forget_if_empty(id.channel());
        last
    }
}
