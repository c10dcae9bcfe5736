//! Which channels the broker has been asked for, so that what is published elsewhere reaches the members here.
//!
//! Owns: the link's state, as far as the hub knows it, and what the broker is to be asked for next. Knows: the value
//! [`Subscribed`] that each channel keeps. Never knows: redis, channels, or which connection waits.
//!
//! A channel is subscribed while it exists. The first member waits until the broker has confirmed it; while the link is
//! away no member waits, and once it is back a walk over all channels subscribes them anew. A serial number names each
//! subscription that is asked for, and those below `since` belonged to a link that is gone: so nothing has to be undone
//! when a link breaks, and the confirmation of a channel that was left and joined again is not taken for its successor's.

use std::collections::VecDeque;
use std::ops::Range;

use crate::effect::{Effect, Receipt, Subscription, SubscriptionId};
use crate::wire::command::ChannelName;

/// Channels that the walk looks at between two polls.
const WALK: usize = 512;

/// A channel's subscription, which the channel keeps.
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
    /// Asked for during the walk: until it is answered, not everything is restored.
    Restoring,
    Live,
    Refused,
}

/// How a channel stands at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerStanding {
    /// A member that joins now gets what is published from now on, or the link is away.
    Ready,
    /// The broker has not answered yet.
    Waiting,
    /// The broker has not been asked yet.
    Unknown,
    /// The broker has refused.
    Refused,
}

/// The broker's link that brings what is published.
#[derive(Debug, Default)]
pub struct Subscriptions {
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

impl Subscriptions {
    /// Whether everything published to a channel with members here comes here.
    pub fn are_complete(&self) -> bool {
        !self.shared || self.up && self.walk.is_none() && self.restoring == 0
    }

    /// Whether there is a broker.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether the broker brings what is subscribed.
    pub fn is_listening(&self) -> bool {
        self.up
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

    /// How a channel stands with this subscription.
    pub fn standing(&self, subscribed: Subscribed) -> BrokerStanding {
        match self.state(subscribed) {
            None => BrokerStanding::Unknown,
            Some(State::Asked | State::Restoring) => BrokerStanding::Waiting,
            Some(State::Live) => BrokerStanding::Ready,
            Some(State::Refused) => BrokerStanding::Refused,
        }
    }

    /// The state of a subscription, if it is one of this link's.
    fn state(&self, subscribed: Subscribed) -> Option<State> {
        (subscribed.serial >= self.since).then_some(subscribed.state)
    }

    /// Asks the broker for a channel. Returns its subscription.
    pub fn ask(&mut self, channel: u32, name: &ChannelName) -> Subscribed {
        let state = match self.walk {
            // A member that joins now may find members to which the walk has not come.
            Some(_) => {
                self.restoring = self.restoring.saturating_add(1);
                State::Restoring
            }
            None => State::Asked,
        };
        self.asked = self.asked.saturating_add(1);
        let serial = self.asked;
        self.changes.push_back(Effect::Subscribe(Subscription {
            id: SubscriptionId { channel, serial },
            channel: name.clone(),
        }));
        Subscribed { serial, state }
    }

    /// The broker has answered for the subscription `id`. Returns whether it is still the channel's.
    pub fn answered(
        &mut self,
        subscribed: &mut Subscribed,
        id: SubscriptionId,
        receipt: Receipt,
    ) -> bool {
        if subscribed.serial != id.serial {
            return false;
        }
        if let Some(before) = self.state(*subscribed) {
            self.no_longer_restoring(before);
            subscribed.state = match receipt {
                Receipt::Confirmed => State::Live,
                Receipt::Failed => State::Refused,
            };
        }
        true
    }

    /// The channel exists no more.
    pub fn closed(&mut self, subscribed: Subscribed, name: &ChannelName) {
        let Some(state) = self.state(subscribed) else {
            return;
        };
        self.no_longer_restoring(state);
        if self.up && state != State::Refused {
            self.changes.push_back(Effect::Unsubscribe(name.clone()));
        }
    }

    fn no_longer_restoring(&mut self, state: State) {
        if state == State::Restoring {
            self.restoring = self.restoring.saturating_sub(1);
        }
    }

    /// The next part of the walk over `all` channels, if there is one: their indices.
    pub fn next_part(&mut self, all: usize) -> Option<Range<usize>> {
        let from = self.walk?;
        let end = from.saturating_add(WALK);
        // While the part is asked for, the walk is still on.
        self.walk = Some(end);
        Some(from..end.min(all))
    }

    /// The part was asked for; `all` channels there are.
    pub fn part_is_done(&mut self, all: usize) {
        self.walk = self.walk.filter(|next| *next < all);
    }
}
