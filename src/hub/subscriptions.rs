//! Which channels the broker has been asked for, so that what is published elsewhere reaches the members here.
//!
//! Owns: what the broker is to be asked for next. Knows: its shards, and the value [`Subscribed`] that each channel keeps.
//! Never knows: redis, channels, or which connection waits.
//!
//! A channel is subscribed while it exists. The first join waits until the broker has confirmed it. While the channel's
//! shard is down nothing waits, and once it is up a walk subscribes its channels again. Each subscription has a serial
//! number, and those below the slot's `since` belonged to an earlier link. So nothing has to be undone when a link
//! breaks or a slot moves. And a late confirmation does not count for a channel that was left and joined again.
//!
//! Decision: a refused channel with members is asked for again after its own pause, with exponential back-off and
//! jitter. Chosen over breaking the link, which would lose messages of other channels. And over one pause for all
//! refused channels, which would ask for all of them at once.

pub mod saved;
pub mod unsubscriptions;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;

use self::unsubscriptions::Unsubscriptions;
use super::shards::Shards;
use crate::backoff::Backoff;
use crate::clock::Millis;
use crate::effect::{Effect, Receipt, ShardId, Subscription, SubscriptionId};
use crate::random::Random;
use crate::wire::channel_name::ChannelName;

/// Channels that the walk looks at, and refused channels that are asked for again, between two polls.
pub const CHANNELS_PER_WALK: usize = 512;
/// The pauses before a refused channel is asked for again.
const BACKOFF: Backoff = Backoff {
    first: 100,
    longest: 5_000,
};

/// A channel's subscription, which the channel keeps.
#[derive(Clone, Debug, Default)]
pub struct Subscribed {
    /// 0: never asked for.
    serial: u64,
    /// The channel's.
    slot: u16,
    state: State,
    /// While the broker refuses it, all else is well: no member misses anything.
    optional: bool,
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
    fn is_missing(self) -> bool {
        matches!(self, State::Restoring | State::Refused)
    }
}

impl Subscribed {
    /// Whether it counts as missed by members in this state.
    fn misses(&self, state: State) -> bool {
        state.is_missing() && !(self.optional && self.refusals > 0)
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

/// What became of an answer for a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Connections that wait for the channel are released.
    pub release: bool,
    /// It is subscribed again, and its members may have missed messages.
    pub gap: bool,
}

/// Where a walk over all channels is, and how many it has left. It goes on at the beginning when it comes to the end.
#[derive(Clone, Copy, Debug)]
struct Round {
    at: usize,
    /// `None`: all there are, as it has only begun.
    left: Option<usize>,
}

/// Which channels the broker has been asked for.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// `None`: there is no broker, all channels are this server's own.
    shards: Option<Shards>,
    /// The last one asked for.
    asked: u64,
    walk: Option<Round>,
    /// Which refused subscription is asked for again, and when. What has been asked for since has another serial number.
    again: BinaryHeap<Reverse<(Millis, u64, u32)>>,
    changes: VecDeque<Effect>,
    /// What the broker has been asked to end, or will be with the changes.
    pub unsubscriptions: Unsubscriptions,
}

impl Subscriptions {
    /// Whether everything published to a channel with members here comes here, and what is published here everywhere.
    pub fn are_complete(&self) -> bool {
        let complete = self.shards.as_ref().is_none_or(Shards::are_complete);
        complete && self.walk.is_none()
    }

    /// Whether there is a broker.
    pub fn is_shared(&self) -> bool {
        self.shards.is_some()
    }

    /// There is a broker from now on, and it is away.
    pub fn share(&mut self, shards: Shards) {
        self.shards = Some(shards);
    }

    pub fn shards(&self) -> Option<&Shards> {
        self.shards.as_ref()
    }

    /// The shards, to name them, to count by them, and to note which take publications.
    pub fn shards_mut(&mut self) -> Option<&mut Shards> {
        self.shards.as_mut()
    }

    /// A shard's listening link is there from now on, with nothing subscribed; or it is gone.
    pub fn set_listening(&mut self, shard: ShardId, up: bool) {
        let since = self.asked.saturating_add(1);
        if let Some(shards) = &mut self.shards {
            shards.set_listening(shard, up, since);
            if up {
                self.begin_walk();
            }
        }
    }

    /// These slots are this shard's from now on, or no shard's, with nothing subscribed.
    pub fn assign(&mut self, slots: RangeInclusive<u16>, shard: Option<ShardId>) {
        let since = self.asked.saturating_add(1);
        if let Some(shards) = &mut self.shards {
            shards.assign(slots, shard, since);
            if shard.is_some() {
                self.begin_walk();
            }
        }
    }

    /// All channels are to be looked at, from where the walk is: what it has passed may be void again.
    fn begin_walk(&mut self) {
        let at = self.walk.map_or(0, |round| round.at);
        self.walk = Some(Round { at, left: None });
    }

    /// The subscription of a channel that is new here.
    pub fn of(&self, channel: &str) -> Subscribed {
        let shards = self.shards.as_ref();
        Subscribed {
            slot: shards.map_or(0, |shards| shards.slot_of(channel)),
            ..Subscribed::default()
        }
    }

    /// The subscription of a channel without which the broker counts as up, once it has refused it.
    pub fn of_optional(&self, channel: &str) -> Subscribed {
        Subscribed {
            optional: true,
            ..self.of(channel)
        }
    }

    /// Whether what is published to a channel gets to the broker, and back.
    pub fn is_available(&self, channel: &str) -> bool {
        let available = |shards: &Shards| shards.is_available(shards.slot_of(channel));
        self.shards.as_ref().is_none_or(available)
    }

    /// Whether a channel is brought by the broker once it is subscribed.
    pub fn is_listening(&self, channel: &str) -> bool {
        let listening = |shards: &Shards| shards.is_listening(shards.slot_of(channel));
        self.shards.as_ref().is_some_and(listening)
    }

    /// Whether the channel with this subscription is, and has never been asked for since its slot's link is there.
    pub fn is_to_be_asked(&self, subscribed: &Subscribed) -> bool {
        let listening = |shards: &Shards| shards.is_listening(subscribed.slot);
        self.shards.as_ref().is_some_and(listening) && self.state(subscribed).is_none()
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
        let shards = self.shards.as_ref();
        if !shards.is_some_and(|shards| shards.is_listening(subscribed.slot)) {
            return BrokerStanding::Ready;
        }
        match self.state(subscribed) {
            Some(State::Live) => BrokerStanding::Ready,
            Some(State::Asked | State::Restoring) => BrokerStanding::Waiting,
            None | Some(State::Refused) => BrokerStanding::Unasked,
        }
    }

    /// Whether members with this subscription would miss a message, and why: the broker's error message, or `None`
    /// while it is being restored.
    pub fn why_missing(&self, subscribed: &Subscribed) -> Option<Option<Rc<str>>> {
        let live = !self.is_shared() || self.state(subscribed) == Some(State::Live);
        (!live).then(|| subscribed.why.clone())
    }

    /// The state of a subscription, unless it is void.
    fn state(&self, subscribed: &Subscribed) -> Option<State> {
        let since = self.shards.as_ref()?.since(subscribed.slot);
        (subscribed.serial >= since).then_some(subscribed.state)
    }

    fn is_missing(&self, subscribed: &Subscribed) -> bool {
        let state = self.state(subscribed);
        state.is_some_and(|state| subscribed.misses(state))
    }

    /// Counts a channel of this slot whose members begin or cease to miss what is published.
    fn count_missing(&mut self, slot: u16, before: bool, now: bool) {
        if let Some(shards) = &mut self.shards {
            shards.count_missing(slot, before, now);
        }
    }

    /// Asks the broker for a channel.
    pub fn ask(
        &mut self,
        channel: u32,
        name: &ChannelName,
        subscribed: &mut Subscribed,
        has_members: bool,
    ) {
        let state = if has_members {
            State::Restoring
        } else {
            State::Asked
        };
        self.count_missing(
            subscribed.slot,
            self.is_missing(subscribed),
            subscribed.misses(state),
        );
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

    /// Handles the broker's answer for the subscription `id`.
    pub fn answered(
        &mut self,
        subscribed: &mut Subscribed,
        id: SubscriptionId,
        receipt: &Receipt,
        has_members: bool,
        (now, random): (Millis, &mut Random),
    ) -> Answered {
        if subscribed.serial != id.serial {
            return Answered::default();
        }
        let (release, gap) = (true, false);
        let Some(before) = self.state(subscribed) else {
            // It belonged to a link that is gone, or to another shard's.
            return Answered { release, gap };
        };
        let missed = subscribed.misses(before);
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
                    subscribed.refusals = subscribed.refusals.saturating_add(1);
                    let pause = BACKOFF.pause(subscribed.refusals.into(), random);
                    let again = (now.saturating_add(pause), id.serial, id.channel);
                    self.again.push(Reverse(again));
                    State::Refused
                })
            }
        };
        match after {
            Some(after) => subscribed.state = after,
            // The next join asks for it again.
            None => {
                *subscribed = Subscribed {
                    slot: subscribed.slot,
                    ..Subscribed::default()
                };
            }
        }
        let missing = after.is_some_and(|after| subscribed.misses(after));
        self.count_missing(subscribed.slot, missed, missing);
        let gap = has_members && before.is_missing() && after == Some(State::Live);
        Answered { release, gap }
    }

    /// What is published to a channel with this subscription may have been missed.
    pub fn count_gap(&mut self, subscribed: &Subscribed) {
        if let Some(shards) = &mut self.shards {
            shards.count_gap(subscribed.slot);
        }
    }

    /// Handles a channel that was removed.
    pub fn closed(&mut self, subscribed: &Subscribed, name: &ChannelName) {
        let state = self.state(subscribed);
        self.count_missing(subscribed.slot, self.is_missing(subscribed), false);
        if state.is_some_and(|state| state != State::Refused) && self.is_listening(name.as_str()) {
            self.unsubscriptions.begin(name);
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
        subscribed.serial == id.serial && self.state(subscribed) == Some(State::Refused)
    }

    /// The next part of the walk over `all` channels, if there is one: their indices.
    pub fn next_part(&mut self, all: usize) -> Option<Range<usize>> {
        let Round { at, left } = self.walk?;
        let from = if at < all { at } else { 0 };
        let left = left.unwrap_or(all);
        let end = from.saturating_add(left.min(CHANNELS_PER_WALK)).min(all);
        let left = left.saturating_sub(end.saturating_sub(from));
        let (at, left) = (end, Some(left));
        self.walk = (left > Some(0)).then_some(Round { at, left });
        Some(from..end)
    }
}
