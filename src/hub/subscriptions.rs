//! Which channels the broker has been asked for, so that what others publish there reaches the members here.
//!
//! Owns: the state of each channel's subscription, and what the broker is to be asked for next. Knows: channels, and
//! whether the broker's link is there. Never knows: redis, or who waits for what reason.
//!
//! A channel is subscribed while it exists. The first join waits until the broker has confirmed it; while the link
//! is away nothing waits, and once it is back a walk over all channels subscribes them anew. A serial number names each
//! subscription that is asked for, and what is below [`Link::since`] belonged to a link that is gone: so nothing has to
//! be undone when a link breaks, and the confirmation of a channel that was left and joined again meanwhile is not
//! taken for that of its successor.
//!
//! Decision: a channel with members that the broker refuses is asked for again, after a pause of its own that grows and is
//! partly random, over breaking the link, which would cost the other channels their messages, and over one pause for all
//! refused channels, which would ask for all of them at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use super::channels::{Channel, Channels};
use crate::clock::Millis;
use crate::effect::{ConnId, Effect, Receipt, Subscription, SubscriptionId};
use crate::random::Random;

/// Channels that the walk looks at, and refused channels that are asked for again, between two polls.
const WALK: usize = 512;
/// The pause before a refused channel is asked for again: the first, and the longest, in milliseconds. It doubles with
/// each refusal, and a random half of it is left out.
const FIRST_PAUSE: Millis = 100;
const LONGEST_PAUSE: Millis = 5_000;

/// A channel's subscription.
#[derive(Clone, Debug, Default)]
pub struct Subscribed {
    /// 0: never asked for.
    serial: u64,
    state: State,
    /// Refusals in a row.
    refusals: u8,
    /// What the broker last refused it with, until it is subscribed.
    why: Option<Rc<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Asked for, for those who wait to join.
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
    /// Channels that the walk has come to and whose members miss what is published.
    deaf: usize,
    /// Which refused subscription is asked for again, and when. What has been asked for since has another serial number.
    again: BinaryHeap<Reverse<(Millis, u64, u32)>>,
    changes: VecDeque<Effect>,
}

impl Link {
    /// Everything published to a channel with members here comes here.
    pub fn is_complete(&self) -> bool {
        !self.shared || self.up && self.walk.is_none() && self.deaf == 0
    }

    /// It brings what is subscribed, or there is none.
    pub fn is_up(&self) -> bool {
        !self.shared || self.up
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

    /// The state of a subscription, if it is one of this link's.
    fn state(&self, subscribed: &Subscribed) -> Option<State> {
        (subscribed.serial >= self.since).then_some(subscribed.state)
    }

    /// A channel's members missed what is published, or not, and do now, or not.
    fn count(&mut self, before: bool, now: bool) {
        self.deaf = self
            .deaf
            .saturating_sub(usize::from(before))
            .saturating_add(usize::from(now));
    }

    /// Whether a channel's members miss what is published, as far as that is counted.
    fn is_deaf(&self, subscribed: &Subscribed) -> bool {
        self.state(subscribed).is_some_and(State::is_deaf)
    }
}

/// How a channel stands with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Whoever joins it now gets what is published from now on, or the link is away.
    Ready,
    /// Not known yet; the connection that asked is on the channel's list of those that wait.
    Waiting,
}

impl Channels {
    /// How the channel `name` stands, into which `who` wants. It is asked for unless it is subscribed, or was asked for
    /// and is not answered.
    pub fn standing(&mut self, name: &str, who: ConnId) -> Standing {
        if !self.link.up {
            return Standing::Ready;
        }
        let index = self.open(name);
        let Some(channel) = self.channels.get_mut(index) else {
            return Standing::Ready;
        };
        let state = self.link.state(&channel.subscribed);
        if state == Some(State::Live) {
            return Standing::Ready;
        }
        channel.waiting.push(who);
        if matches!(state, None | Some(State::Refused)) {
            self.ask(index);
        }
        Standing::Waiting
    }

    /// Why what is published to the channel `name` would not reach its members here, if so: what the broker refused it
    /// with, or nothing while it is only to be restored.
    pub fn deafness(&self, name: &str) -> Option<Option<Rc<str>>> {
        let channel = self.named(name)?;
        let live = self.link.state(&channel.subscribed) == Some(State::Live);
        (!live && channel.has_members()).then(|| channel.subscribed.why.clone())
    }

    fn ask(&mut self, index: usize) {
        let Some(channel) = self.channels.get_mut(index) else {
            return;
        };
        let state = match channel.has_members() {
            true => State::Restoring,
            false => State::Asked,
        };
        let was_deaf = self.link.is_deaf(&channel.subscribed);
        self.link.asked = self.link.asked.saturating_add(1);
        channel.subscribed.serial = self.link.asked;
        channel.subscribed.state = state;
        self.link.count(was_deaf, state.is_deaf());
        self.link.changes.push_back(Effect::Subscribe(Subscription {
            id: SubscriptionId {
                channel: index as u32,
                serial: self.link.asked,
            },
            channel: channel.name.clone(),
        }));
    }

    /// What became of a subscription. Returns whether it is still the channel's: then those that wait for it are to be
    /// released.
    pub fn subscribed(
        &mut self,
        id: SubscriptionId,
        receipt: &Receipt,
        now: Millis,
        random: &mut Random,
    ) -> bool {
        let Some(channel) = self.channels.get_mut(id.channel as usize) else {
            return false;
        };
        if channel.subscribed.serial != id.serial {
            return false;
        }
        let Some(before) = self.link.state(&channel.subscribed) else {
            // It belonged to a link that is gone.
            return true;
        };
        let has_members = channel.has_members();
        let subscribed = &mut channel.subscribed;
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
                    let pause = pause(subscribed.refusals);
                    subscribed.refusals = subscribed.refusals.saturating_add(1);
                    let again = (
                        now.saturating_add(random.jittered(pause)),
                        id.serial,
                        id.channel,
                    );
                    self.link.again.push(Reverse(again));
                    State::Refused
                })
            }
        };
        match after {
            Some(after) => subscribed.state = after,
            // The next join asks for it as if it had never been asked for.
            None => *subscribed = Subscribed::default(),
        }
        self.link
            .count(before.is_deaf(), after.is_some_and(State::is_deaf));
        true
    }

    /// A channel exists no more.
    pub(super) fn unsubscribe(&mut self, channel: &Channel) {
        let state = self.link.state(&channel.subscribed);
        self.link.count(state.is_some_and(State::is_deaf), false);
        if self.link.up && state.is_some_and(|state| state != State::Refused) {
            let name = channel.name.clone();
            self.link.changes.push_back(Effect::Unsubscribe(name));
        }
    }

    /// Asks again for refused channels whose pause is over.
    fn ask_again(&mut self, now: Millis) {
        for _ in 0..WALK {
            let Some(Reverse((at, serial, index))) = self.link.again.peek().copied() else {
                return;
            };
            if at > now {
                return;
            }
            self.link.again.pop();
            let index = index as usize;
            let subscribed = self.channels.get(index).map(|channel| &channel.subscribed);
            if subscribed.is_some_and(|s| s.serial == serial && s.state == State::Refused) {
                self.ask(index);
            }
        }
    }

    /// Goes on with the walk that subscribes the channels there are, and asks again for refused ones.
    pub fn restore(&mut self, now: Millis) {
        self.ask_again(now);
        let Some(from) = self.link.walk else { return };
        let end = from.saturating_add(WALK);
        for index in from..end.min(self.channels.capacity()) {
            if let Some(channel) = self.channels.get(index)
                && self.link.state(&channel.subscribed).is_none()
            {
                self.ask(index);
            }
        }
        self.link.walk = (end < self.channels.capacity()).then_some(end);
    }
}

/// How long a channel is not asked for again, at most, that was refused so many times before.
fn pause(refusals: u8) -> Millis {
    FIRST_PAUSE
        .saturating_mul(1 << refusals.min(16))
        .min(LONGEST_PAUSE)
}
