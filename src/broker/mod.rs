//! The broker: what carries publications to other servers and theirs to this one.
//!
//! Owns: the values that cross. Knows: which driver there is. Never knows: the hub, or a client. Commands come in as
//! values, and [`News`] is taken out by the caller, in order.
//!
//! Decision: a message is a range of what was read ([`Message`]) rather than a copy. It stays there while the hub
//! cannot take it.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod link;
mod news;
pub mod redis;
mod saved;
mod socket;

use mio::Registry;
use mio::event::Event;

pub use self::news::{Message, News};

use self::redis::Redis;
use crate::clock::Millis;
use crate::effect::{Publication, Subscription};
use crate::wire::channel_name::ChannelName;

/// The driver.
pub enum Broker {
    /// What is published here is for the clients here: the hub delivers it by itself.
    Memory,
    Redis(Box<Redis>),
}

impl Broker {
    fn redis(&self) -> Option<&Redis> {
        match self {
            Broker::Memory => None,
            Broker::Redis(redis) => Some(redis),
        }
    }

    fn redis_mut(&mut self) -> Option<&mut Redis> {
        match self {
            Broker::Memory => None,
            Broker::Redis(redis) => Some(redis),
        }
    }

    /// The poll has reported the link with this token, counted from the first one.
    pub fn ready(&mut self, nth: usize, event: &Event) {
        if let Some(redis) = self.redis_mut() {
            redis.ready(nth, event);
        }
    }

    /// Connects, reads, and looks at what is due. Bounded.
    pub fn turn(&mut self, registry: &Registry, buffer: &mut [u8], now: Millis) {
        if let Some(redis) = self.redis_mut() {
            redis.turn(registry, buffer, now);
        }
    }

    /// What has happened, in order; nothing more once it has been enough for one turn.
    pub fn next(&mut self, now: Millis) -> Option<News> {
        self.redis_mut()?.next(now)
    }

    /// A message's channel and its content, which is JSON.
    pub fn content(&self, message: &Message) -> (&str, &[u8]) {
        let empty = ("", [].as_slice());
        self.redis().map_or(empty, |redis| redis.content(message))
    }

    /// A message has been dealt with.
    pub fn take(&mut self, message: &Message) {
        if let Some(redis) = self.redis_mut() {
            redis.take(message);
        }
    }

    /// The message cannot be taken yet: it comes again in the next turn.
    pub fn postpone(&mut self, message: &Message) {
        if let Some(redis) = self.redis_mut() {
            redis.postpone(message);
        }
    }

    /// All news of a turn were taken: `up` says whether all is well now, for the log. Returns whether it is again, after a
    /// link had broken.
    pub fn judge(&mut self, up: bool, now: Millis) -> bool {
        self.redis_mut().is_some_and(|redis| redis.judge(up, now))
    }

    /// Has something published; answered with [`News::Published`].
    pub fn publish(&mut self, publication: Publication, now: Millis) {
        if let Some(redis) = self.redis_mut() {
            redis.topology.publish(publication, now);
        }
    }

    /// Whether everything that was to be published is confirmed, or has failed.
    pub fn is_quiet(&self) -> bool {
        self.redis()
            .is_none_or(|redis| !redis.topology.is_publishing())
    }

    /// Has a channel subscribed; answered with [`News::Subscribed`].
    pub fn subscribe(&mut self, subscription: Subscription, now: Millis) {
        if let Some(redis) = self.redis_mut() {
            redis.topology.subscribe(subscription, now);
        }
    }

    /// Has a channel subscribed no longer; answered with [`News::Unsubscribed`].
    pub fn unsubscribe(&mut self, channel: ChannelName, now: Millis) {
        if let Some(redis) = self.redis_mut() {
            redis.topology.unsubscribe(channel, now);
        }
    }

    /// Sends what was asked for.
    pub fn flush(&mut self, now: Millis) {
        if let Some(redis) = self.redis_mut() {
            redis.flush(now);
        }
    }

    /// Why the broker is down; empty while there is something left to be tried.
    pub fn trouble(&self) -> &str {
        self.redis().map_or("", Redis::trouble)
    }

    /// The last reason why the broker was down, even while there is something left to be tried.
    pub fn last_trouble(&self) -> &str {
        self.redis().map_or("", Redis::last_trouble)
    }

    /// What it has found, if it was to find out about its servers: a line for each.
    pub fn found(&self) -> Vec<String> {
        self.redis().map_or_else(Vec::new, Redis::found)
    }

    /// Whether a turn would do something although nothing happens.
    pub fn has_work(&self) -> bool {
        self.redis().is_some_and(Redis::has_work)
    }

    /// When a turn is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.redis()?.next_deadline()
    }
}
