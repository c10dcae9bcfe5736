//! Which channels the broker has been asked for, so that what is published elsewhere reaches the members here.
//!
//! Owns: the link's state, as far as the hub knows it, and what the broker is to be asked for next. Knows: the value
//! [`Subscribed`] that each channel keeps. Never knows: redis, channels, or which connection waits.
//!
//! A channel is subscribed while it exists. The first join waits until the broker has confirmed it. While the link is
//! down nothing waits, and once it is up a walk subscribes all channels anew. Each subscription has a serial number,
//! and those below `since` belonged to an earlier link. So nothing has to be undone when a link breaks. And a late
//! confirmation does not count for a channel that was left and joined again.
//!
//! Decision: a refused channel with members is asked for again after its own pause, with exponential back-off and
//! jitter. Chosen over breaking the link, which would lose messages of other channels. And over one pause for all
//! refused channels, which would ask for all of them at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use crate::clock::Millis;
use crate::effect::{Effect, Receipt, Subscription, SubscriptionId};
use crate::random::Random;
use crate::wire::channel_name::ChannelName;

/// Channels that the walk looks at, and refused channels that are asked for again, between two polls.
pub const WALK: usize = 512;
/// The pause before a refused channel is asked for again: the first, and the longest, in milliseconds. It doubles with
/// each refusal, and up to half of it is left out at random.
const FIRST_PAUSE: Millis = 100;
const LONGEST_PAUSE: Millis = 5_000;

/// A channel's subscription, which the channel keeps.
#[derive(Clone, Debug, Default)]
pub struct Subscribed {
    /// 0: never asked for.
    serial: u64,
    state: State,
    /// Refusals in a row.
    refusals: u8,
    /// The broker's last error message for it, until it is subscribed.
    why: Option<Rc<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Asked for, for connections that wait to join.
    #[default]
    Asked,
    /// Asked for while it has members.
    Restoring,
    Live,
    /// It has members, the broker refused it, and it will be asked for again.
    Refused,
}

impl State {
    /// Whether the channel has members that miss what is published.
    fn is_deaf(self) -> bool {
        matches!(self, State::Restoring | State::Refused)
    }
}

/// How a channel stands at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerStanding {
    /// A member that joins now gets what is published from now on, or the link is down.
    Ready,
    /// The broker has been asked, and has not answered.
    Waiting,
    /// The broker is to be asked: it has not been, or has refused.
    Unasked,
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
    /// Where the walk continues.
    walk: Option<usize>,
    /// Channels that the walk has come to and whose members miss what is published.
    deaf: usize,
    /// Which refused subscription is asked for again, and when. What has been asked for since has another serial number.
    again: BinaryHeap<Reverse<(Millis, u64, u32)>>,
    changes: VecDeque<Effect>,
}

impl Subscriptions {
    /// Whether everything published to a channel with members here comes here.
    pub fn are_complete(&self) -> bool {
        !self.shared || self.up && self.walk.is_none() && self.deaf == 0
    }

    /// Whether there is a broker.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether the broker brings what is subscribed.
    pub fn is_listening(&self) -> bool {
        self.up
    }

    /// Notes that there is a broker, and that it is down.
    pub fn share(&mut self) {
        self.shared = true;
    }

    /// Notes that the link is up, with nothing subscribed, or that it is down.
    pub fn set(&mut self, up: bool) {
        self.up = up;
        self.since = self.asked.saturating_add(1);
        self.walk = up.then_some(0);
        self.deaf = 0;
        self.again.clear();
    }

    /// What the broker is to be asked for next.
    pub fn change(&mut self) -> Option<Effect> {
        self.changes.pop_front()
    }

    /// Whether something is left to be asked for.
    pub fn has_work(&self) -> bool {
        self.walk.is_some() || !self.changes.is_empty()
    }

    /// When the next refused channel is to be asked for again.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.again.peek().map(|Reverse((at, ..))| *at)
    }

    /// How a channel stands with this subscription.
    pub fn standing(&self, subscribed: &Subscribed) -> BrokerStanding {
        match self.state(subscribed) {
            Some(State::Live) => BrokerStanding::Ready,
            Some(State::Asked | State::Restoring) => BrokerStanding::Waiting,
            None | Some(State::Refused) => BrokerStanding::Unasked,
        }
    }

    /// Whether this link has never been asked for a subscription.
    pub fn is_new(&self, subscribed: &Subscribed) -> bool {
        self.state(subscribed).is_none()
    }

    /// Why a message would miss the members of a channel with this subscription, if so: the broker's error message, or
    /// `None` while it is being restored.
    pub fn deafness(&self, subscribed: &Subscribed) -> Option<Option<Rc<str>>> {
        let live = self.state(subscribed) == Some(State::Live);
        (!live).then(|| subscribed.why.clone())
    }

    /// The state of a subscription, if it is one of this link's.
    fn state(&self, subscribed: &Subscribed) -> Option<State> {
        (subscribed.serial >= self.since).then_some(subscribed.state)
    }

    fn is_deaf(&self, subscribed: &Subscribed) -> bool {
        self.state(subscribed).is_some_and(State::is_deaf)
    }

    /// Counts a channel whose members begin or cease to miss what is published.
    fn count(&mut self, before: bool, now: bool) {
        self.deaf = self
            .deaf
            .saturating_sub(usize::from(before))
            .saturating_add(usize::from(now));
    }

    /// Asks the broker for a channel.
    pub fn ask(
        &mut self,
        channel: u32,
        name: &ChannelName,
        subscribed: &mut Subscribed,
        has_members: bool,
    ) {
        let state = match has_members {
            true => State::Restoring,
            false => State::Asked,
        };
        self.count(self.is_deaf(subscribed), state.is_deaf());
        self.asked = self.asked.saturating_add(1);
        (subscribed.serial, subscribed.state) = (self.asked, state);
        self.changes.push_back(Effect::Subscribe(Subscription {
            id: SubscriptionId {
                channel,
                serial: self.asked,
            },
            channel: name.clone(),
        }));
    }

    /// Handles the broker's answer for the subscription `id`. Returns whether it is still the channel's.
    pub fn answered(
        &mut self,
        subscribed: &mut Subscribed,
        id: SubscriptionId,
        receipt: &Receipt,
        has_members: bool,
        (now, random): (Millis, &mut Random),
    ) -> bool {
        if subscribed.serial != id.serial {
            return false;
        }
        let Some(before) = self.state(subscribed) else {
            // It belonged to a link that is gone.
            return true;
        };
        let after = match receipt {
            Receipt::Confirmed => {
                (subscribed.refusals, subscribed.why) = (0, None);
                Some(State::Live)
            }
            Receipt::Refused(_) | Receipt::Failed => {
                if let Receipt::Refused(why) = receipt {
                    subscribed.why = Some(Rc::clone(why));
                }
                has_members.then(|| {
                    let pause = random.jittered(pause(subscribed.refusals));
                    subscribed.refusals = subscribed.refusals.saturating_add(1);
                    let again = (now.saturating_add(pause), id.serial, id.channel);
                    self.again.push(Reverse(again));
                    State::Refused
                })
            }
        };
        match after {
            Some(after) => subscribed.state = after,
            // The next join asks for it anew.
            None => *subscribed = Subscribed::default(),
        }
        self.count(before.is_deaf(), after.is_some_and(State::is_deaf));
        true
    }

    /// Handles a channel that was removed.
    pub fn closed(&mut self, subscribed: &Subscribed, name: &ChannelName) {
        let state = self.state(subscribed);
        self.count(state.is_some_and(State::is_deaf), false);
        if self.up && state.is_some_and(|state| state != State::Refused) {
            self.changes.push_back(Effect::Unsubscribe(name.clone()));
        }
    }

    /// The next refused subscription whose pause is over.
    pub fn next_again(&mut self, now: Millis) -> Option<SubscriptionId> {
        let Reverse((at, serial, channel)) = self.again.peek().copied()?;
        if at > now {
            return None;
        }
        self.again.pop();
        Some(SubscriptionId { channel, serial })
    }

    /// Whether a channel's subscription is still the refused one.
    pub fn is_refused(&self, subscribed: &Subscribed, id: SubscriptionId) -> bool {
        subscribed.serial == id.serial && subscribed.state == State::Refused
    }

    /// The next part of the walk over `all` channels, if there is one: their indices.
    pub fn next_part(&mut self, all: usize) -> Option<Range<usize>> {
        let from = self.walk?;
        let end = from.saturating_add(WALK);
        self.walk = (end < all).then_some(end);
        Some(from..end.min(all))
    }
}

/// The longest pause before a channel is asked for again that was refused `times` times.
fn pause(refusals: u8) -> Millis {
    FIRST_PAUSE
        .saturating_mul(1 << refusals.min(16))
        .min(LONGEST_PAUSE)
}
