//! Commands to redis: publications, and the channels to be subscribed and unsubscribed, many in one command.
//!
//! Owns: how many go into one command. Knows: what is outstanding. Never knows: replies.

use super::{Dialogue, SentPublication, What};
use crate::broker::news::News;
use crate::broker::redis::conversation::Outstanding;
use crate::clock::Millis;
use crate::effect::{Publication, Receipt, Subscription};
use crate::wire::channel_name::{ChannelName, RESERVED};
use crate::wire::resp;

/// Channels in one command: many enough that a command costs little, few enough that a refused one is soon found.
const BATCH: usize = 256;
/// Bytes that redis has not accepted: with more it counts as down.
const MOST_UNSENT: usize = 64 * 1024 * 1024;

impl Dialogue {
    /// Publishes something.
    pub fn publish(&mut self, publication: Publication, now: Millis) {
        let (by, slot) = (publication.from, self.slot(publication.channel.as_str()));
        let sharded = self.is_sharded();
        let half = &mut self.publisher;
        if !half.up || !self.listener.up || half.talk.out.len() > MOST_UNSENT {
            let news = News::Published(by, Receipt::Failed);
            return self.news.push_back(news);
        }
        let name = format!("{}{}", self.identity.prefix, publication.channel.as_str());
        let verb: &[u8] = if sharded { b"SPUBLISH" } else { b"PUBLISH" };
        let parts = [verb, name.as_bytes(), &publication.content];
        resp::push_command(&mut half.talk.out, &parts);
        let sent = SentPublication {
            by: Some(by),
            slot,
            kept: sharded.then(|| Box::new(publication)),
            doubtful: false,
        };
        let what = What::Publish(sent);
        half.talk.asked.push_back(Outstanding { at: now, what });
    }

    /// Subscribes a channel.
    pub fn subscribe(&mut self, subscription: Subscription, now: Millis) {
        if !self.listener.up {
            let news = News::Subscribed(subscription.id, Receipt::Failed);
            return self.news.push_back(news);
        }
        self.unsubscribe_batch(now);
        if let Some(first) = self.subscribing.first()
            && !self.go_together(&first.channel, &subscription.channel)
        {
            self.subscribe_batch(now);
        }
        self.subscribing.push(subscription);
        if self.subscribing.len() >= BATCH {
            self.subscribe_batch(now);
        }
    }

    /// Whether one command may subscribe both channels. In a cluster it may be about one slot only. The channels of the nodes
    /// go alone: where redis refuses them, it would refuse those of clients in the same command.
    fn go_together(&self, one: &ChannelName, other: &ChannelName) -> bool {
        let [one, other] = [one, other].map(ChannelName::as_str);
        let alike = one.starts_with(RESERVED) == other.starts_with(RESERVED);
        alike && (!self.is_sharded() || self.slot(one) == self.slot(other))
    }

    /// Ends a channel's subscription.
    pub fn unsubscribe(&mut self, channel: ChannelName, now: Millis) {
        if !self.listener.up {
            return self.news.push_back(News::Unsubscribed(channel));
        }
        self.subscribe_batch(now);
        if self.is_sharded()
            && let Some(first) = self.unsubscribing.first()
            && self.slot(first.as_str()) != self.slot(channel.as_str())
        {
            self.unsubscribe_batch(now);
        }
        self.unsubscribing.push(channel);
        if self.unsubscribing.len() >= BATCH {
            self.unsubscribe_batch(now);
        }
    }

    /// Sends the commands that were collected. To be called once after commands or replies.
    pub fn finish(&mut self, now: Millis) {
        self.subscribe_batch(now);
        self.unsubscribe_batch(now);
        let position = self.heard.saturating_add(self.published.len() as u64);
        if position > self.covered {
            self.covered = position;
            let what = What::Ping(position);
            self.listener.talk.ask(what, &[b"PING"], now);
        }
    }

    fn subscribe_batch(&mut self, now: Millis) {
        if !self.subscribing.is_empty() {
            let channels = std::mem::take(&mut self.subscribing);
            self.subscribe_all(channels, now);
        }
    }

    pub(super) fn subscribe_all(&mut self, channels: Vec<Subscription>, now: Millis) {
        let names = self.prefixed(channels.iter().map(|c| &c.channel));
        let sharded = self.is_sharded();
        let verb: &[u8] = if sharded { b"SSUBSCRIBE" } else { b"SUBSCRIBE" };
        let mut parts = vec![verb];
        parts.extend(names.iter().map(String::as_bytes));
        let what = What::Subscribe(channels, 0);
        self.listener.talk.ask(what, &parts, now);
    }

    fn unsubscribe_batch(&mut self, now: Millis) {
        if self.unsubscribing.is_empty() {
            return;
        }
        let channels = std::mem::take(&mut self.unsubscribing);
        let names = self.prefixed(channels.iter());
        let sharded = self.is_sharded();
        let verb: &[u8] = if sharded {
            b"SUNSUBSCRIBE"
        } else {
            b"UNSUBSCRIBE"
        };
        let mut parts = vec![verb];
        parts.extend(names.iter().map(String::as_bytes));
        let what = What::Unsubscribe(channels, 0);
        self.listener.talk.ask(what, &parts, now);
        if sharded {
            resp::push_command(&mut self.listener.talk.out, &[b"PING"]);
        }
    }

    fn prefixed<'a>(&self, channels: impl Iterator<Item = &'a ChannelName>) -> Vec<String> {
        let prefix = &self.identity.prefix;
        channels
            .map(|channel| format!("{prefix}{}", channel.as_str()))
            .collect()
    }
}
