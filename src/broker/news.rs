//! News of the broker for the hub, as values.
//!
//! Owns: nothing. Knows: what can happen at a broker. Never knows: which driver there is, or what follows.

use std::ops::{Range, RangeInclusive};
use std::rc::Rc;

use crate::effect::{Publication, PublishedBy, Receipt, ShardId, SubscriptionId};
use crate::wire::channel_name::ChannelName;

/// What has happened at the broker.
#[derive(Debug)]
pub enum News {
    /// A new shard, with this name and its links down; or it exists no more.
    Shard(ShardId, Option<Rc<str>>),
    /// The channels of these slots are this shard's from now on, or no shard's. Nothing of them is subscribed.
    Slots(RangeInclusive<u16>, Option<ShardId>),
    /// The shard takes what is published from now on, or not.
    Publishing(ShardId, bool),
    /// The shard brings what is subscribed from now on, with nothing subscribed yet; or not.
    Listening(ShardId, bool),
    Published(PublishedBy, Receipt),
    /// It was not published, and may be now.
    Returned(Publication),
    Subscribed(SubscriptionId, Receipt),
    /// The answer to the request to end this channel's subscription. It has ended, unless the broker refused that.
    Unsubscribed(ChannelName),
    /// Something was published. It comes again until it is taken.
    Message(Message),
    /// A message was dropped: the metric's label.
    Dropped(&'static str),
}

/// Where a message lies.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// On which link.
    pub link: usize,
    pub channel: Range<usize>,
    pub content: Range<usize>,
    /// Bytes with all that belongs to it.
    pub size: usize,
}
