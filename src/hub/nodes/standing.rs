//! The two channels of a node at the broker: that of all nodes, and its own.
//!
//! Owns: how they stand. Knows: subscriptions. Never knows: which messages come on them.
//!
//! Decision: they are not channels of the hub, which clients join and lists show. They are subscribed, restored and
//! asked for again like those, by the same [`Subscriptions`].
//!
//! Decision: if the broker refuses them, backends' commands are answered with `503`, and clients are served as
//! before. Chosen over counting as down: an ACL may allow only the clients' channels.

use std::rc::Rc;

use crate::clock::Millis;
use crate::effect::{Receipt, SubscriptionId};
use crate::hub::subscriptions::saved::SavedSubscribed;
use crate::hub::subscriptions::{Subscribed, Subscriptions};
use crate::random::Random;
use crate::snapshot::SnapshotError;
use crate::wire::channel_name::ChannelName;
use crate::wire::node_message::{ALL_NODES, channel_of};

/// Where channels of the hub have their index, no channel has these.
const FIRST: u32 = u32::MAX - 1;

#[derive(Debug)]
struct NodeChannel {
    name: ChannelName,
    subscribed: Subscribed,
}

#[derive(Debug)]
pub struct NodeChannels {
    channels: [NodeChannel; 2],
    /// What goes to all nodes has come here.
    pub known: bool,
}

impl NodeChannels {
    pub fn new(node: u64, subscriptions: &Subscriptions) -> NodeChannels {
        let channel = |name: &str| NodeChannel {
            name: ChannelName::checked(name),
            subscribed: subscriptions.of_optional(name),
        };
        NodeChannels {
            channels: [channel(ALL_NODES), channel(&channel_of(node))],
            known: false,
        }
    }

    /// The subscriptions, that of all nodes first.
    pub fn subscribed(&self) -> impl Iterator<Item = &Subscribed> {
        self.channels.iter().map(|channel| &channel.subscribed)
    }

    /// Restores the subscriptions from a snapshot.
    ///
    /// # Errors
    /// There are not as many.
    pub fn restore(
        &mut self,
        saved: &[SavedSubscribed],
        known: bool,
        subscriptions: &mut Subscriptions,
    ) -> Result<(), SnapshotError> {
        if saved.len() != self.channels.len() {
            let (expected, found) = (self.channels.len(), saved.len());
            let problem = format!("expected {expected} channels of the node, found {found}");
            return Err(SnapshotError::new(problem));
        }
        for (channel, saved) in self.channels.iter_mut().zip(saved) {
            let name = channel.name.as_str();
            channel.subscribed = subscriptions.restore_optional(saved, name);
        }
        self.known = known;
        Ok(())
    }

    /// Asks for channels that have not been asked for since their link is there.
    pub fn ask(&mut self, subscriptions: &mut Subscriptions) {
        for (at, channel) in (FIRST..=u32::MAX).zip(&mut self.channels) {
            if subscriptions.is_to_be_asked(&channel.subscribed) {
                subscriptions.ask(at, &channel.name, &mut channel.subscribed, true);
            }
        }
    }

    /// Asks for a refused channel again. Other subscriptions are ignored.
    pub fn ask_again(&mut self, id: SubscriptionId, subscriptions: &mut Subscriptions) {
        if let Some(channel) = channel_mut(&mut self.channels, id)
            && subscriptions.is_refused(&channel.subscribed, id)
        {
            subscriptions.ask(id.channel, &channel.name, &mut channel.subscribed, true);
        }
    }

    /// Handles the broker's answer. Returns whether what goes to all nodes comes here again, and some of it may be missing.
    /// `None`: the subscription is another channel's.
    pub fn answered(
        &mut self,
        id: SubscriptionId,
        receipt: &Receipt,
        subscriptions: &mut Subscriptions,
        now: (Millis, &mut Random),
    ) -> Option<bool> {
        let channel = channel_mut(&mut self.channels, id)?;
        let answered = subscriptions.answered(&mut channel.subscribed, id, receipt, true, now);
        let is_first =
            id.channel == FIRST && answered.gap && !std::mem::replace(&mut self.known, true);
        let gap = id.channel == FIRST && answered.gap && !is_first;
        if gap {
            subscriptions.count_gap(&channel.subscribed);
        }
        Some(gap)
    }

    /// Whether not all that other nodes send comes here, and why: the broker's error message, or `None` while a channel is
    /// being subscribed.
    pub fn why_missing(&self, subscriptions: &Subscriptions) -> Option<Option<Rc<str>>> {
        let channels = self.channels.iter();
        let mut missing = channels.filter_map(|it| subscriptions.why_missing(&it.subscribed));
        missing.next()
    }
}

fn channel_mut(channels: &mut [NodeChannel], id: SubscriptionId) -> Option<&mut NodeChannel> {
    channels.get_mut(id.channel.checked_sub(FIRST)? as usize)
}
