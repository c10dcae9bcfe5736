//! Which channels the broker has been asked for, in a snapshot: its answers come to the program that takes over.
//!
//! Owns: [`SavedSubscriptions`], and [`SavedSubscribed`], which each channel saves.

use std::cmp::Reverse;
use std::rc::Rc;

use minicbor::{Decode, Encode};

use super::unsubscriptions::Unsubscriptions;
use super::unsubscriptions::saved::SavedUnsubscription;
use super::{Round, State, Subscribed, Subscriptions};
use crate::clock::Millis;
use crate::effect::Effect;
use crate::hub::shards::Shards;
use crate::hub::shards::saved::SavedShards;
use crate::snapshot::{SnapshotError, size};

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSubscriptions<'b> {
    #[n(0)]
    shards: Option<SavedShards>,
    #[n(1)]
    asked: u64,
    #[n(2)]
    walk: Option<SavedRound>,
    #[cbor(n(3), default)]
    again: Vec<SavedAgain>,
    #[cbor(b(4), default)]
    unsubscriptions: Vec<SavedUnsubscription<'b>>,
}

/// Where the walk over all channels is.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedRound {
    #[n(0)]
    at: u64,
    #[n(1)]
    left: Option<u64>,
}

/// A refused subscription that is asked for again.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedAgain {
    #[n(0)]
    at: Millis,
    #[n(1)]
    serial: u64,
    #[n(2)]
    channel: u32,
}

/// A channel's subscription.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSubscribed {
    #[cbor(n(0), default)]
    serial: u64,
    #[n(1)]
    state: SavedSubscribedState,
    #[cbor(n(2), default)]
    refusals: u8,
    #[n(3)]
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(index_only)]
enum SavedSubscribedState {
    #[n(0)]
    Asked,
    #[n(1)]
    Restoring,
    #[n(2)]
    Live,
    #[n(3)]
    Refused,
}

impl From<State> for SavedSubscribedState {
    fn from(state: State) -> SavedSubscribedState {
        match state {
            State::Asked => SavedSubscribedState::Asked,
            State::Restoring => SavedSubscribedState::Restoring,
            State::Live => SavedSubscribedState::Live,
            State::Refused => SavedSubscribedState::Refused,
        }
    }
}

impl From<SavedSubscribedState> for State {
    fn from(saved: SavedSubscribedState) -> State {
        match saved {
            SavedSubscribedState::Asked => State::Asked,
            SavedSubscribedState::Restoring => State::Restoring,
            SavedSubscribedState::Live => State::Live,
            SavedSubscribedState::Refused => State::Refused,
        }
    }
}

impl Subscribed {
    pub fn save(&self) -> SavedSubscribed {
        let Subscribed {
            serial,
            slot: _,
            state,
            optional: _,
            refusals,
            why,
        } = self;
        SavedSubscribed {
            serial: *serial,
            state: (*state).into(),
            refusals: *refusals,
            why: why.as_ref().map(|why| why.to_string()),
        }
    }
}

impl Subscriptions {
    pub fn save(&self) -> SavedSubscriptions<'_> {
        let Subscriptions {
            shards,
            asked,
            walk,
            again,
            changes: _,
            unsubscriptions,
        } = self;
        let round = |Round { at, left }: Round| SavedRound {
            at: at as u64,
            left: left.map(|left| left as u64),
        };
        let mut again: Vec<_> = again.iter().map(|Reverse(again)| *again).collect();
        again.sort_unstable();
        let again = again.into_iter().map(|(at, serial, channel)| SavedAgain {
            at,
            serial,
            channel,
        });
        SavedSubscriptions {
            shards: shards.as_ref().map(Shards::save),
            asked: *asked,
            walk: walk.map(round),
            again: again.collect(),
            unsubscriptions: unsubscriptions.save(),
        }
    }

    /// What the broker is still to be asked for, in order.
    pub fn changes(&self) -> impl Iterator<Item = &Effect> {
        self.changes.iter()
    }

    /// # Errors
    /// Its shards do not fit together, or a subscription ends that cannot.
    pub fn restore(saved: &SavedSubscriptions) -> Result<Subscriptions, SnapshotError> {
        let round = |round: &SavedRound| Round {
            at: size(round.at),
            left: round.left.map(size),
        };
        let again = saved.again.iter();
        let again = again.map(|again| Reverse((again.at, again.serial, again.channel)));
        Ok(Subscriptions {
            shards: saved.shards.as_ref().map(Shards::restore).transpose()?,
            asked: saved.asked,
            walk: saved.walk.as_ref().map(round),
            again: again.collect(),
            unsubscriptions: Unsubscriptions::restore(&saved.unsubscriptions)?,
            ..Subscriptions::default()
        })
    }

    /// Appends what the broker is still to be asked for.
    ///
    /// # Errors
    /// It is nothing that a broker is asked for.
    pub fn restore_change(&mut self, change: Effect) -> Result<(), SnapshotError> {
        match change {
            Effect::Subscribe(_) | Effect::Unsubscribe(_) => self.changes.push_back(change),
            _ => {
                return Err(SnapshotError::new(
                    "neither a subscription nor the end of one",
                ));
            }
        }
        Ok(())
    }

    /// The subscription of the channel `name`. If its members miss what is published, that is counted.
    pub fn restore_subscribed(&mut self, saved: &SavedSubscribed, name: &str) -> Subscribed {
        self.restore_as(saved, self.of(name))
    }

    /// The same of a channel without which the broker counts as up, once it has refused it.
    pub fn restore_optional(&mut self, saved: &SavedSubscribed, name: &str) -> Subscribed {
        self.restore_as(saved, self.of_optional(name))
    }

    fn restore_as(&mut self, saved: &SavedSubscribed, fresh: Subscribed) -> Subscribed {
        let subscribed = Subscribed {
            serial: saved.serial,
            state: saved.state.into(),
            refusals: saved.refusals,
            why: saved.why.as_deref().map(Rc::from),
            ..fresh
        };
        let missing = self.is_missing(&subscribed);
        self.count_missing(subscribed.slot, false, missing);
        subscribed
    }
}
