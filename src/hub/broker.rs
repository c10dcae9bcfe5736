//! The hub's doors for a broker that is shared with other servers (CONTRACT §7).
//!
//! Owns: what clients and backends are told while it is down. Knows: whether it takes what is published, and whether it
//! brings what others publish. Never knows: redis.
//!
//! Decision: publishing is refused unless both are so, and the channel is subscribed if it has members here; over taking
//! it whenever the broker takes it. Because what is acknowledged reaches the members here as well, and what they cannot
//! hear they would miss silently. A channel without members here is not refused because of others.

use std::borrow::Cow;

use super::Hub;
use crate::connection::Stream;
use crate::effect::{ConnId, Effect, Publication, Receipt, SubscriptionId};
use crate::wire::channel_name::ChannelName;

pub(super) const DOWN: &str = "the broker is down: nothing was published; try again later";
pub(super) const LOST: &str =
    "the broker did not confirm: nothing is known to have been published; try again later";

impl<S: Stream> Hub<S> {
    /// There is a broker, shared with other servers. It is down until it is said to be up.
    pub fn share(&mut self) {
        self.publishing = false;
        self.channels.link.share();
    }

    /// Whether the broker takes what is published.
    pub fn set_publishing(&mut self, up: bool) {
        self.publishing = up;
    }

    /// Whether the broker brings what is subscribed; nothing is when it begins to.
    pub fn set_listening(&mut self, up: bool) {
        self.channels.link.set(up);
    }

    /// Whether everything published reaches everybody, here and there.
    pub fn is_broker_up(&self) -> bool {
        self.publishing && self.channels.link.is_complete()
    }

    /// Whether both links to the broker are there, or there is none to be shared.
    fn is_broker_there(&self) -> bool {
        self.publishing && self.channels.link.is_up()
    }

    /// Why nothing can be published to a channel now, if so.
    pub(super) fn why_unpublishable(&self, channel: &str) -> Option<Cow<'static, str>> {
        if !self.is_broker_there() {
            return Some(DOWN.into());
        }
        if !self.channels.link.is_shared() {
            return None;
        }
        Some(match self.channels.deafness(channel)? {
            None => DOWN.into(),
            Some(why) => format!(
                "the broker refuses this channel ({why}): nothing was published; try again later"
            )
            .into(),
        })
    }

    /// What became of a subscription.
    pub fn subscribed(&mut self, id: SubscriptionId, receipt: Receipt) {
        let now = self.clock.now;
        if self
            .channels
            .subscribed(id, &receipt, now, &mut self.random)
        {
            let released = self.channels.release(id.channel as usize, Some(receipt));
            self.released.extend(released);
        }
    }

    /// Something was published, here or elsewhere: JSON. Returns false when it cannot be taken yet, because too much is
    /// on its way to the members.
    pub fn arrived(&mut self, channel: &str, content: &[u8]) -> bool {
        if self.channels.is_full(channel) {
            return false;
        }
        self.deliver(channel, content);
        true
    }

    /// What a client or a backend is told of a publication that was not confirmed.
    pub(super) fn unconfirmed(receipt: &Receipt) -> Option<Cow<'static, str>> {
        match receipt {
            Receipt::Confirmed => None,
            Receipt::Refused(why) => Some(
                format!(
                    "the broker refuses to publish ({why}): nothing was published; try again later"
                )
                .into(),
            ),
            Receipt::Failed => Some(LOST.into()),
        }
    }

    /// Hands something to the broker, for a connection that waits for the receipt.
    pub(super) fn publish(&mut self, from: ConnId, channel: &str, content: &[u8]) {
        self.tap("broadcast", Some(from), Some(channel), |line| {
            line.content(content)
        });
        self.effects.push_back(Effect::Publish(Publication {
            from,
            channel: ChannelName::checked(channel),
            content: content.into(),
        }));
    }
}
