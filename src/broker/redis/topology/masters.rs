//! The masters: commands go to the one that has the channel, and the news of each are taken in order.
//!
//! Owns: how a master is added and removed. Knows: which master has which channel. Never knows: what makes a server a
//! master.

use std::rc::Rc;

use super::links::{LinkId, Order};
use super::{Discovery, MOST_SHARDS, Master, Topology};
use crate::broker::news::News;
use crate::broker::redis::dialogue::{Dialogue, Duty, LinkIdentity, Notice};
use crate::clock::Millis;
use crate::config::RedisAddress;
use crate::effect::{Publication, Receipt, ShardId, Subscription};
use crate::wire::channel_name::ChannelName;

impl Topology {
    /// The shard that has a channel.
    fn route(&self, channel: &str) -> Option<ShardId> {
        match &self.discovery {
            Discovery::Nothing | Discovery::Sentinels(_) => Some(ShardId(0)),
            Discovery::Cluster(cluster) => cluster.route(&self.identity.prefix, channel),
        }
    }

    /// Publishes something.
    pub fn publish(&mut self, publication: Publication, now: Millis) {
        let id = self.route(publication.channel.as_str());
        match id.and_then(|id| self.master_mut(id)) {
            Some(master) => {
                master.dialogue.publish(publication, now);
                self.collect(id, now);
            }
            None => {
                let news = News::Published(publication.from, Receipt::Failed);
                self.news.push_back(news);
            }
        }
    }

    /// Subscribes a channel.
    pub fn subscribe(&mut self, subscription: Subscription, now: Millis) {
        let id = self.route(subscription.channel.as_str());
        match id.and_then(|id| self.master_mut(id)) {
            Some(master) => {
                master.dialogue.subscribe(subscription, now);
                self.collect(id, now);
            }
            None => {
                let news = News::Subscribed(subscription.id, Receipt::Failed);
                self.news.push_back(news);
            }
        }
    }

    /// Ends a channel's subscription.
    pub fn unsubscribe(&mut self, channel: ChannelName, now: Millis) {
        let id = self.route(channel.as_str());
        match id.and_then(|id| self.master_mut(id)) {
            Some(master) => {
                master.dialogue.unsubscribe(channel, now);
                self.collect(id, now);
            }
            None => self.news.push_back(News::Unsubscribed(channel)),
        }
    }

    /// Whether something was published of which nothing is known yet.
    pub fn is_publishing(&self) -> bool {
        let mut masters = self.masters.iter().flatten();
        masters.any(|master| master.dialogue.is_publishing())
    }

    /// Sends the commands that were collected. To be called once after commands or replies.
    pub fn finish(&mut self, now: Millis) {
        for master in self.masters.iter_mut().flatten() {
            master.dialogue.finish(now);
        }
    }

    /// Takes what a dialogue has come to, in order.
    pub(super) fn collect(&mut self, id: Option<ShardId>, now: Millis) {
        let Some(id) = id else {
            return;
        };
        while let Some(master) = self
            .masters
            .get_mut(usize::from(id.0))
            .and_then(Option::as_mut)
        {
            while let Some(news) = master.dialogue.news() {
                if let Discovery::Sentinels(sentinels) = &mut self.discovery
                    && matches!(news, News::Publishing(_, true) | News::Listening(_, true))
                    && master.is_up()
                {
                    sentinels.confirm(now);
                }
                self.news.push_back(news);
            }
            while let Some(notice) = master.dialogue.notice() {
                self.notices.push_back(notice);
            }
            match master.dialogue.hint() {
                Some(hint) => self.heed_node(id, hint, now),
                None => break,
            }
        }
    }

    /// Adds a master with its two links. `None`: there are too many.
    pub(super) fn add(&mut self, address: RedisAddress) -> Option<ShardId> {
        let free = self.masters.iter().position(Option::is_none);
        let at = free.unwrap_or(self.masters.len());
        if at >= MOST_SHARDS {
            return None;
        }
        let id = ShardId(at as u16);
        let name: Rc<str> = address.to_string().into();
        let (server, is) = (name.to_string(), true);
        self.notices.push_back(Notice::Master { server, is });
        self.news.push_back(News::Shard(id, Some(name)));
        for duty in Duty::BOTH {
            let link = LinkId::Master(id, duty);
            self.orders.push_back(Order::Open(link, address.clone()));
        }
        let identity = LinkIdentity {
            shard: id,
            ..self.identity.clone()
        };
        let dialogue = Dialogue::new(identity);
        let master = Some(Master {
            address,
            dialogue,
            leave_at: None,
        });
        match self.masters.get_mut(at) {
            Some(place) => *place = master,
            None => self.masters.push(master),
        }
        Some(id)
    }

    /// A server is no longer a master: what is outstanding there fails.
    pub(super) fn remove(&mut self, id: ShardId, now: Millis) {
        for duty in Duty::BOTH {
            if let Some(master) = self.master_mut(id) {
                master.dialogue.closed(duty);
                self.orders
                    .push_back(Order::Close(LinkId::Master(id, duty)));
                self.collect(Some(id), now);
            }
        }
        let place = self.masters.get_mut(usize::from(id.0));
        if let Some(master) = place.and_then(Option::take) {
            let (server, is) = (master.address.to_string(), false);
            self.notices.push_back(Notice::Master { server, is });
        }
        self.news.push_back(News::Shard(id, None));
    }
}
