//! The hub's doors for the broker that is shared with other servers.
//!
//! Owns: nothing. Knows: which part of the hub the broker's news are for. Never knows: redis.

use std::ops::RangeInclusive;
use std::rc::Rc;

use super::backend;
use super::publish;
use super::settle;
use super::shards::Shards;
use super::state::Hub;
use crate::connection::Stream;
use crate::effect::{ConnId, Publication, Receipt, ShardId, SubscriptionId};

impl<S: Stream> Hub<S> {
    /// There is one, with nothing up yet. `prefix`: as names are spread over the slots of a cluster; `None` for one redis.
    pub fn share(&mut self, prefix: Option<String>) {
        self.channels.subscriptions.share(Shards::new(prefix));
    }

    /// A shard has this name from now on, and its links are away; or it exists no more.
    pub fn name_shard(&mut self, shard: ShardId, name: Option<Rc<str>>) {
        if let Some(shards) = self.channels.subscriptions.shards_mut() {
            shards.name(shard, name);
        }
    }

    /// The channels of these slots are this shard's from now on, or no shard's; nothing of them is subscribed.
    pub fn assign_slots(&mut self, slots: RangeInclusive<u16>, shard: Option<ShardId>) {
        self.channels.subscriptions.assign(slots, shard);
    }

    /// Whether a shard takes what is published.
    pub fn set_publishing(&mut self, shard: ShardId, up: bool) {
        if let Some(shards) = self.channels.subscriptions.shards_mut() {
            shards.set_publishing(shard, up);
        }
    }

    /// Whether a shard brings what is subscribed; nothing is when it begins to.
    pub fn set_listening(&mut self, shard: ShardId, up: bool) {
        self.channels.subscriptions.set_listening(shard, up);
    }

    /// Handles the result of a subscription.
    pub fn subscribed(&mut self, id: SubscriptionId, receipt: Receipt) {
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

    /// Handles the result of a publication of this connection.
    pub fn receipt(&mut self, id: ConnId, receipt: Receipt) {
        if !backend::confirmed(self, id, &receipt) {
            publish::confirmed(self, id, receipt);
            settle::settle(self, id);
        }
    }

    /// What was to be published was not, and may be now.
    pub fn returned(&mut self, publication: Publication) {
        publish::again(self, publication);
    }

    /// Delivers JSON that was published, here or elsewhere. Returns false if it cannot be taken yet, because too much
    /// is on its way to the members.
    pub fn arrived(&mut self, channel: &str, content: &[u8]) -> bool {
        publish::arrived(self, channel, content)
    }
}
