//! The hub's doors for the broker that is shared with other servers.
//!
//! Owns: nothing. Knows: which part of the hub the broker's news are for. Never knows: redis.

use std::ops::RangeInclusive;
use std::rc::Rc;

use super::backend;
use super::nodes::{Nodes, hear, rounds};
use super::publish;
use super::returned::Returned;
use super::settle;
use super::shards::Shards;
use super::state::Hub;
use crate::connection::Stream;
use crate::effect::{Effect, Publication, PublishedBy, Receipt, ShardId, SubscriptionId};
use crate::wire::channel_name::RESERVED;
use crate::wire::node_message::envelope::NodeSeal;

impl<S: Stream> Hub<S> {
    /// Notes that there is a shared broker, of which nothing is up yet. `prefix`: as names are spread over the slots of
    /// a cluster; `None` for one redis.
    pub fn share(&mut self, prefix: Option<String>) {
        self.channels.subscriptions.share(Shards::new(prefix));
    }

    /// Talks to the other nodes on the broker from now on. `seal`: how messages are signed.
    pub fn meet_nodes(&mut self, seal: NodeSeal) {
        if let Some(nodes) = &mut self.nodes {
            // Another program has met them.
            nodes.seal = seal;
            return;
        }
        let id = self.settings.instance;
        self.nodes = Some(Nodes::new(id, seal, &self.channels.subscriptions));
    }

    /// Tells the other nodes that this one stops.
    pub fn announce_gone(&mut self) {
        rounds::announce_gone(self);
    }

    /// A shard has this name from now on, and its links are away; or it exists no more.
    pub fn name_shard(&mut self, shard: ShardId, name: Option<Rc<str>>) {
        if let Some(shards) = self.channels.subscriptions.shards_mut() {
            shards.name(shard, name);
        }
    }

    /// The channels of these slots are this shard's from now on, or no shard's; nothing of them is subscribed.
    pub fn assign_slots(&mut self, slots: RangeInclusive<u16>, shard: Option<ShardId>) {
        self.returned.mark_due();
        self.channels.subscriptions.assign(slots, shard);
    }

    /// Whether a shard takes what is published.
    pub fn set_publishing(&mut self, shard: ShardId, up: bool) {
        self.returned.mark_due();
        if let Some(shards) = self.channels.subscriptions.shards_mut() {
            shards.set_publishing(shard, up);
        }
    }

    /// Whether a shard brings what is subscribed; nothing is when it begins to.
    pub fn set_listening(&mut self, shard: ShardId, up: bool) {
        self.returned.mark_due();
        self.channels.subscriptions.set_listening(shard, up);
    }

    /// Handles the result of a subscription.
    pub fn subscribed(&mut self, id: SubscriptionId, receipt: Receipt) {
        self.returned.mark_due();
        if rounds::subscribed(self, id, &receipt) {
            return;
        }
        let now = self.clock.now;
        let random = &mut self.random;
        let answered = self.channels.subscribed(id, &receipt, now, random);
        if answered.gap {
            publish::gap(self, id.channel as usize);
        }
        if answered.release {
            let released = self.channels.release(id.channel as usize, Some(receipt));
            self.agenda.released.extend(released);
        }
    }

    /// Handles the end of a subscription at the broker.
    pub fn unsubscribed(&mut self, channel: &str) {
        let unsubscriptions = &mut self.channels.subscriptions.unsubscriptions;
        for id in unsubscriptions.answered(channel) {
            self.jobs.make_ready(id);
        }
    }

    /// Handles the result of a publication.
    pub fn receipt(&mut self, by: PublishedBy, receipt: Receipt) {
        match by {
            PublishedBy::Nothing => {}
            PublishedBy::Gathering(number) => backend::gather::published(self, number, &receipt),
            PublishedBy::Connection(id) if backend::confirmed(self, id, &receipt) => {}
            PublishedBy::Connection(id) => {
                publish::confirmed(self, id, receipt);
                settle::settle(self, id);
            }
        }
    }

    /// Takes back a publication: its channel's slot has moved. It is handed out again once the channel can be published to.
    pub fn returned(&mut self, publication: Publication) {
        self.returned.push(publication);
        self.returned.mark_due();
    }

    /// Delivers JSON that was published, here or elsewhere; or handles what a node says, which is any bytes. Returns false if
    /// it cannot be taken yet, because too much is on its way to the members.
    pub fn arrived(&mut self, channel: &str, content: &[u8]) -> bool {
        let (taken, outcome) = if channel.starts_with(RESERVED) {
            (hear::heard(self, channel, content), "nodes")
        } else {
            (publish::arrived(self, channel, content), "delivered")
        };
        if taken {
            self.listeners.metrics.broker_messages.add(outcome);
        }
        taken
    }
}

/// Hands out again what was returned, as far as its channels can be published to, in order. Fails what has waited for too
/// long.
pub fn retry<S: Stream>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    for publication in hub.returned.take_all(now) {
        if Returned::is_overdue(&publication, now) {
            hub.receipt(publication.from, Receipt::Failed);
        } else if publish::refusal_reason(hub, publication.channel.as_str()).is_none() {
            hub.effects.push_back(Effect::Publish(publication));
        } else {
            hub.returned.push(publication);
        }
    }
}
