//! Which channels the broker has been asked for, so that what others publish there reaches the members here.
//!
//! Owns: the state of each channel's subscription, and what the broker is to be asked for next. Knows: channels, and
//! whether the broker's link is there. Never knows: redis, or who waits for what reason.
//!
//! A channel is subscribed while it exists. Whoever joins first waits until the broker has confirmed it; while the link
//! is away nobody waits, and once it is back a walk over all channels subscribes them anew. A serial number names each
//! subscription that is asked for, and what is below [`Link::since`] belonged to a link that is gone: so nothing has to
//! be undone when a link breaks, and the confirmation of a channel that was left and joined again meanwhile is not
//! taken for that of its successor.

use std::collections::VecDeque;

use super::channels::Channels;
use crate::effect::{ConnId, Effect, Receipt, Subscription, SubscriptionId};

/// Channels that the walk looks at between two polls.
const WALK: usize = 512;

/// A channel's subscription.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subscribed {
    /// 0: never asked for.
    serial: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Asked,
    /// Asked for during the walk: what there was before is not restored until it is answered.
    Restoring,
    Live,
    Refused,
}

/// The broker's link that brings what is published, as far as the hub knows it.
#[derive(Debug, Default)]
pub struct Link {
    /// There is a broker at all.
    shared: bool,
    up: bool,
    /// Subscriptions below this one are void.
    since: u64,
    /// The last one asked for.
    asked: u64,
    /// Where the walk goes on.
    walk: Option<usize>,
    /// Subscriptions that were asked for during the walk and are not answered.
    restoring: usize,
    changes: VecDeque<Effect>,
}

impl Link {
    /// Everything published to a channel with members here comes here.
    pub fn is_complete(&self) -> bool {
        !self.shared || self.up && self.walk.is_none() && self.restoring == 0
    }

    /// There is a broker.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// There is a broker from now on, and it is down.
    pub fn share(&mut self) {
        self.shared = true;
    }

    /// The link is there from now on, with nothing subscribed; or it is gone.
    pub fn set(&mut self, up: bool) {
        self.up = up;
        self.since = self.asked.saturating_add(1);
        self.walk = up.then_some(0);
        self.restoring = 0;
    }

    /// What the broker is to be asked for next.
    pub fn change(&mut self) -> Option<Effect> {
        self.changes.pop_front()
    }

    /// Whether something is left to be asked for.
    pub fn has_work(&self) -> bool {
        self.walk.is_some() || !self.changes.is_empty()
    }

    /// The state of a subscription, if it is one of this link's.
    fn state(&self, subscribed: Subscribed) -> Option<State> {
        (subscribed.serial >= self.since).then_some(subscribed.state)
    }
}

/// How a channel stands with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Whoever joins it now gets what is published from now on, or the link is away.
    Ready,
    /// Not known yet; whoever asked is told by the list of those who wait.
    Waiting,
    /// The broker would not.
    Refused,
}

impl Channels {
    /// How the channel `name` stands, into which `who` wants. It is subscribed if it was not.
    pub fn standing(&mut self, name: &str, who: ConnId) -> Standing {
        if !self.link.up {
            return Standing::Ready;
        }
        let index = self.open(name);
        let Some(channel) = self.channels.get_mut(index) else {
            return Standing::Refused;
        };
        match self.link.state(channel.subscribed) {
            Some(State::Live) => Standing::Ready,
            Some(State::Refused) => Standing::Refused,
            known => {
                channel.waiting.push(who);
                if known.is_none() {
                    self.ask(index);
                }
                Standing::Waiting
            }
        }
    }

    fn ask(&mut self, index: usize) {
        let Some(channel) = self.channels.get_mut(index) else {
            return;
        };
        let state = match self.link.walk {
            // Whoever joins now may have found members whom the walk has not come to.
            Some(_) => {
                self.link.restoring = self.link.restoring.saturating_add(1);
                State::Restoring
            }
            None => State::Asked,
        };
        self.link.asked = self.link.asked.saturating_add(1);
        channel.subscribed = Subscribed {
            serial: self.link.asked,
            state,
        };
        self.link.changes.push_back(Effect::Subscribe(Subscription {
            id: SubscriptionId {
                channel: index as u32,
                serial: self.link.asked,
            },
            channel: channel.name.clone(),
        }));
    }

    /// What became of a subscription. Returns whether it is still the channel's: then those who wait for it are to be
    /// released.
    pub fn subscribed(&mut self, id: SubscriptionId, receipt: Receipt) -> bool {
        let Some(channel) = self.channels.get_mut(id.channel as usize) else {
            return false;
        };
        if channel.subscribed.serial != id.serial {
            return false;
        }
        if let Some(before) = self.link.state(channel.subscribed) {
            if before == State::Restoring {
                self.link.restoring = self.link.restoring.saturating_sub(1);
            }
            channel.subscribed.state = match receipt {
                Receipt::Confirmed => State::Live,
                Receipt::Failed => State::Refused,
            };
        }
        true
    }

    /// A channel exists no more.
    pub(super) fn unsubscribe(&mut self, channel: &super::channels::Channel) {
        let state = self.link.state(channel.subscribed);
        if state == Some(State::Restoring) {
            self.link.restoring = self.link.restoring.saturating_sub(1);
        }
        if self.link.up && state.is_some_and(|state| state != State::Refused) {
            let name = channel.name.clone();
            self.link.changes.push_back(Effect::Unsubscribe(name));
        }
    }

    /// Goes on with the walk that subscribes the channels there are.
    pub fn restore(&mut self) {
        let Some(from) = self.link.walk else { return };
        let end = from.saturating_add(WALK);
        for index in from..end.min(self.channels.capacity()) {
            if let Some(channel) = self.channels.get(index)
                && self.link.state(channel.subscribed).is_none()
            {
                self.ask(index);
            }
        }
        self.link.walk = (end < self.channels.capacity()).then_some(end);
    }
}
