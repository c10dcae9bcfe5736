//! Channels that a connection joins together with its `101` (`docs/authorizer.md#fields`).
//!
//! Owns: which connection waits with which channels. Knows: how each of them stands at the broker. Never knows: what an
//! upgrade is, or why it has these channels.
//!
//! Decision: a channel is held until all are subscribed, rather than making the connection a member of each one at
//! once. A member is sent what is published, which must not come before the `101`. A channel that is not held would be
//! unsubscribed while the connection waits for the others.
//!
//! Decision: the broker is asked for all of them at once, but the connection waits for one at a time. Because a connection
//! in two lists would be released twice, the second time perhaps while it waits for something else.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

use super::Channels;
use crate::effect::ConnId;
use crate::hub::subscriptions::BrokerStanding;
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;

impl Channels {
    /// Holds channels for the connection in `slot`, which has none yet.
    pub fn reserve(&mut self, slot: u32, names: Vec<ChannelName>) {
        if names.is_empty() {
            return;
        }
        for name in &names {
            self.pin(name.as_str());
        }
        self.reserved.insert(slot, names);
    }

    /// Holds a channel, so that it is kept without members.
    pub fn pin(&mut self, name: &str) {
        let index = self.open(name);
        if let Some(channel) = self.channels.get_mut(index) {
            channel.pins += 1;
        }
    }

    /// Whether all that is published to the channels held for a connection comes here. If not, the broker is asked for what is
    /// missing, and the connection is released when something has changed.
    pub fn are_reserved_ready(&mut self, id: ConnId) -> bool {
        if !self.subscriptions.is_shared() {
            return true;
        }
        let names = self.reserved.remove(&id.slot).unwrap_or_default();
        let mut ready = true;
        for name in &names {
            let Some((index, channel)) = self.named_mut(name.as_str()) else {
                continue;
            };
            let subscribed = channel.subscribed.clone();
            let standing = self.subscriptions.standing(&subscribed);
            if standing == BrokerStanding::Ready {
                continue;
            }
            if std::mem::replace(&mut ready, false)
                && let Some(channel) = self.channels.get_mut(index)
            {
                channel.waiting.push(id.into());
            }
            if standing == BrokerStanding::Unasked {
                self.ask(index);
            }
        }
        if !names.is_empty() {
            self.reserved.insert(id.slot, names);
        }
        ready
    }

    /// Makes a connection a member of the channels that are held for it. Returns them.
    pub fn join_reserved(&mut self, slot: u32, encoding: Encoding) -> Vec<ChannelName> {
        let names = self.reserved.remove(&slot).unwrap_or_default();
        for name in &names {
            self.join(slot, name.as_str(), encoding);
            self.unpin(name);
        }
        names
    }

    /// Holds no channels for a connection any longer.
    pub fn release_reserved(&mut self, slot: u32) {
        for name in self.reserved.remove(&slot).unwrap_or_default() {
            self.unpin(&name);
        }
    }

    /// Holds a channel no longer.
    pub fn unpin(&mut self, name: &ChannelName) {
        if let Some((index, channel)) = self.named_mut(name.as_str()) {
            channel.pins -= 1;
            self.forget_if_empty(index);
        }
    }

    /// Connections that wait with channels.
    pub fn reservations(&self) -> usize {
        self.reserved.len()
    }
}
