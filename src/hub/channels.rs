//! Channels and their members, both ways.
//!
//! Owns: the channels by name, their members by [`Audience`], one for each encoding, and each connection's memberships.
//! Knows: slots, and how a channel stands at the broker. Never knows: connections, permissions. A channel exists while
//! it has a member, a connection that waits for it or will join it, or an audience with a batch.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

mod joining;
mod listed;
mod named;
mod publishing;
mod reserved;
pub mod saved;

pub use joining::LeftStanding;

use std::collections::HashMap;
use std::rc::Rc;

use slab::Slab;

use super::audience::{self, Audience};
use super::channel::Channel;
use super::memberships::{AudienceId, Memberships};
use super::names::{ChannelNames, OccupiedChannels};
use super::slots::Slots;
use super::subscriptions::{self, Answered, BrokerStanding, Subscriptions};
use super::waiter::WaiterId;
use crate::buffers::{Runs, Slice};
use crate::clock::Millis;
use crate::effect::{Receipt, SubscriptionId};
use crate::random::Random;
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;

/// What has waited for a channel and may try again, in the order in which it came.
#[derive(Debug)]
pub struct Released {
    channel: usize,
    /// The result of the subscription, if they have waited for one.
    pub receipt: Option<Receipt>,
    ids: std::vec::IntoIter<WaiterId>,
}

impl Released {
    pub fn next(&mut self) -> Option<WaiterId> {
        self.ids.next()
    }
}

#[derive(Debug, Default)]
pub struct Channels {
    by_name: ChannelNames,
    channels: Slab<Channel>,
    joined: Slots<Memberships>,
    memberships: usize,
    /// Channels that connections will join as soon as all are subscribed; by slot, few at a time.
    reserved: HashMap<u32, Vec<ChannelName>>,
    /// Which channels the broker has been asked for.
    pub subscriptions: Subscriptions,
    /// Channels that have members.
    occupied: OccupiedChannels,
}

impl Channels {
    /// Channels that exist.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Members of all channels together.
    pub fn memberships(&self) -> usize {
        self.memberships
    }

    /// Channels that the connection in `slot` is in.
    pub fn joined(&self, slot: u32) -> usize {
        self.joined.get(slot).map_or(0, Memberships::len)
    }

    /// The name of an audience's channel.
    pub fn name(&self, id: AudienceId) -> Option<&str> {
        let channel = self.channels.get(id.channel())?;
        Some(channel.name.as_str())
    }

    /// The name of the channel at an index.
    pub fn name_at(&self, index: usize) -> Option<&ChannelName> {
        self.channels.get(index).map(|channel| &channel.name)
    }

    pub fn is_member(&self, slot: u32, name: &str, encoding: Encoding) -> bool {
        self.membership(slot, name, encoding).is_some()
    }

    fn membership(&self, slot: u32, name: &str, encoding: Encoding) -> Option<(AudienceId, u32)> {
        let id = AudienceId::new(self.by_name.get(name)? as usize, encoding);
        Some((id, self.joined.get(slot)?.at(id)?))
    }

    /// The channel's index; it is made if there is none.
    fn open(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return index as usize;
        }
        let name = ChannelName::checked(name);
        let subscribed = self.subscriptions.of(name.as_str());
        let index = self.channels.insert(Channel::new(name.clone(), subscribed));
        self.by_name.insert(name, index);
        index
    }

    /// What was published to this audience and not yet sent to the member in `slot`.
    pub fn pending(&self, slot: u32, name: &str, encoding: Encoding) -> Vec<Slice> {
        let membership = self.membership(slot, name, encoding).into_iter();
        membership
            .flat_map(|(id, at)| self.pending_in(id, at))
            .collect()
    }

    /// What was published to any of its channels and not yet sent to `slot`.
    pub fn all_pending(&self, slot: u32) -> Vec<Slice> {
        let joined = self.joined.get(slot).into_iter();
        joined
            .flat_map(Memberships::audiences)
            .flat_map(|(id, at)| self.pending_in(id, at))
            .collect()
    }

    fn pending_in(&self, id: AudienceId, at: u32) -> impl Iterator<Item = Slice> {
        let channel = self.channels.get(id.channel()).into_iter();
        let audience = channel.filter_map(move |channel| channel.audience(id.encoding()));
        audience.flat_map(move |audience| audience.pending(at))
    }

    /// Removes a channel without members that nothing waits for.
    fn forget_if_empty(&mut self, index: usize) {
        let Some(channel) = self.channels.get_mut(index) else {
            return;
        };
        channel.tidy();
        if channel.is_unused() {
            let channel = self.channels.remove(index);
            self.by_name.remove(&channel.name);
            self.subscriptions
                .closed(&channel.subscribed, &channel.name);
        }
    }

    pub fn audience_mut(&mut self, id: AudienceId) -> Option<&mut Audience> {
        let channel = self.channels.get_mut(id.channel())?;
        channel.audience_mut(id.encoding())
    }

    /// Whether too much is on its way to the channel for another message.
    pub fn is_full(&mut self, name: &str) -> bool {
        self.named_mut(name)
            .is_some_and(|(_, channel)| channel.is_congested())
    }

    /// Whether a publisher has to wait until less is on its way to the channel; if so, `publisher` is released when there
    /// is.
    pub fn is_congested(&mut self, name: &str, publisher: WaiterId, runs: &Runs) -> bool {
        // The total of all runs bounds what is on its way to one channel. Mostly that is enough, and saves a second
        // lookup of the name.
        if runs.held <= audience::CONGESTED {
            return false;
        }
        let Some((_, channel)) = self.named_mut(name) else {
            return false;
        };
        let congested = channel.is_congested();
        if congested {
            channel.waiting.push(publisher);
        }
        congested
    }

    fn named_mut(&mut self, name: &str) -> Option<(usize, &mut Channel)> {
        let index = self.by_name.get(name)? as usize;
        Some((index, self.channels.get_mut(index)?))
    }

    /// Handles a batch that has gone out, or an empty audience: releases connections that wait for it, and removes the
    /// channel if it is unused.
    pub fn served(&mut self, id: AudienceId) -> Option<Released> {
        let channel = self.channels.get(id.channel())?;
        if !channel.is_congested() {
            let released = self.release(id.channel(), None);
            if released.is_some() {
                return released;
            }
        }
        self.forget_if_empty(id.channel());
        None
    }

    /// Releases the connections that wait for a channel. After the turn of the last one the caller calls
    /// [`Channels::released`].
    pub fn release(&mut self, index: usize, receipt: Option<Receipt>) -> Option<Released> {
        let channel = self.channels.get_mut(index)?;
        if channel.waiting.is_empty() {
            return None;
        }
        channel.pins += 1;
        Some(Released {
            channel: index,
            receipt,
            ids: std::mem::take(&mut channel.waiting).into_iter(),
        })
    }

    /// Notes that all released connections have had their turn.
    pub fn released(&mut self, done: &Released) {
        if let Some(channel) = self.channels.get_mut(done.channel) {
            channel.pins -= 1;
        }
        self.forget_if_empty(done.channel);
    }

    /// The state at the broker of the channel `name`, which `joining` wants to join. Asks the broker for it unless it
    /// is subscribed or already asked for. `joining` is released by the answer.
    pub fn subscribe(&mut self, name: &str, joining: WaiterId) -> BrokerStanding {
        if !self.subscriptions.is_listening(name) {
            return BrokerStanding::Ready;
        }
        let index = self.open(name);
        let Some(channel) = self.channels.get_mut(index) else {
            return BrokerStanding::Ready;
        };
        let standing = self.subscriptions.standing(&channel.subscribed);
        if standing != BrokerStanding::Ready {
            channel.waiting.push(joining);
        }
        if standing == BrokerStanding::Unasked {
            self.ask(index);
        }
        standing
    }

    /// Whether members of the channel `name` here would miss a message, and why: the broker's error message, or `None`
    /// while it is being restored.
    pub fn why_missing(&self, name: &str) -> Option<Option<Rc<str>>> {
        let channel = self.channels.get(self.by_name.get(name)? as usize)?;
        if channel.has_members() {
            self.subscriptions.why_missing(&channel.subscribed)
        } else {
            None
        }
    }

    /// Asks the broker for a channel.
    fn ask(&mut self, index: usize) {
        if let Some(channel) = self.channels.get_mut(index) {
            let has_members = channel.has_members();
            let Channel {
                name, subscribed, ..
            } = channel;
            self.subscriptions
                .ask(index as u32, name, subscribed, has_members);
        }
    }

    /// Handles the broker's answer for a channel.
    pub fn subscribed(
        &mut self,
        id: SubscriptionId,
        receipt: &Receipt,
        now: Millis,
        random: &mut Random,
    ) -> Answered {
        let Some(channel) = self.channels.get_mut(id.channel as usize) else {
            return Answered::default();
        };
        let has_members = channel.has_members();
        let subscribed = &mut channel.subscribed;
        let now = (now, random);
        let answered = self
            .subscriptions
            .answered(subscribed, id, receipt, has_members, now);
        if answered.gap {
            self.subscriptions.count_gap(subscribed);
        }
        answered
    }

    /// Continues the walk that asks for all channels, and asks again for refused ones. Returns those that may be asked
    /// for again and are not channels of clients.
    pub fn restore(&mut self, now: Millis) -> Vec<SubscriptionId> {
        let mut others = Vec::new();
        for _ in 0..subscriptions::CHANNELS_PER_WALK {
            let Some(id) = self.subscriptions.next_again(now) else {
                break;
            };
            let index = id.channel as usize;
            match self.channels.get(index) {
                Some(channel) if self.subscriptions.is_refused(&channel.subscribed, id) => {
                    self.ask(index);
                }
                Some(_) => {}
                None => others.push(id),
            }
        }
        let Some(part) = self.subscriptions.next_part(self.channels.capacity()) else {
            return others;
        };
        for index in part {
            if let Some(channel) = self.channels.get(index)
                && self.subscriptions.is_to_be_asked(&channel.subscribed)
            {
                self.ask(index);
            }
        }
        others
    }
}
