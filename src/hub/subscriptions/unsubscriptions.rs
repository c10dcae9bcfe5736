//! Channels of which the broker has been asked to end the subscription, until it has answered.
//!
//! Owns: how many answers each channel awaits, and what waits for the last of them. Never knows: why a channel has no
//! subscription any more, or what waits.

pub mod saved;

use std::collections::BTreeMap;

use crate::hub::waiter::WaiterId;
use crate::wire::channel_name::ChannelName;

/// Ends of subscriptions that are under way.
#[derive(Debug, Default)]
pub struct Unsubscriptions {
    under_way: BTreeMap<ChannelName, Unsubscription>,
}

/// The end of a channel's subscription.
#[derive(Debug, Default)]
struct Unsubscription {
    /// Answers that are awaited: several, if the channel was joined and left again meanwhile.
    awaited: u32,
    /// Commands that wait for the last of them.
    waiting: Vec<WaiterId>,
}

impl Unsubscriptions {
    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// The broker is asked to end a channel's subscription.
    pub fn begin(&mut self, channel: &ChannelName) {
        let unsubscription = self.under_way.entry(channel.clone()).or_default();
        unsubscription.awaited = unsubscription.awaited.saturating_add(1);
    }

    /// Whether an answer of the broker is awaited. If so, `id` is released by the last one.
    pub fn awaits(&mut self, channel: &str, id: WaiterId) -> bool {
        let Some(unsubscription) = self.under_way.get_mut(channel) else {
            return false;
        };
        if !unsubscription.waiting.contains(&id) {
            unsubscription.waiting.push(id);
        }
        true
    }

    /// The broker has answered. Returns what has waited for it, with the last answer.
    pub fn answered(&mut self, channel: &str) -> Vec<WaiterId> {
        let Some(unsubscription) = self.under_way.get_mut(channel) else {
            return Vec::new();
        };
        unsubscription.awaited = unsubscription.awaited.saturating_sub(1);
        if unsubscription.awaited > 0 {
            return Vec::new();
        }
        let ended = self.under_way.remove(channel);
        ended.map(|ended| ended.waiting).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_left_twice_awaits_two_answers() {
        let mut unsubscriptions = Unsubscriptions::default();
        let channel = ChannelName::checked("a");
        let [one, other] = [1, 2].map(WaiterId::Ticket);
        assert!(!unsubscriptions.awaits("a", one));
        unsubscriptions.begin(&channel);
        assert!(unsubscriptions.awaits("a", one));
        unsubscriptions.begin(&channel);
        assert!(unsubscriptions.awaits("a", other) && unsubscriptions.awaits("a", one));
        assert!(!unsubscriptions.awaits("b", one));
        assert_eq!(unsubscriptions.answered("a"), []);
        assert_eq!(unsubscriptions.answered("a"), [one, other]);
        // Of an answer that is not awaited nothing comes.
        assert_eq!(unsubscriptions.answered("a"), []);
        assert_eq!(unsubscriptions.len(), 0);
    }
}
