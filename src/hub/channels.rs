//! Who is in what, both ways.
//!
//! Owns: the channels by name, their members by [`Audience`], and each connection's memberships. Knows: slots.
//! Never knows: connections, frames, who may do what. A channel exists while it has a member, somebody who waits for it,
//! or a delivery that is listed to be looked at.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

use std::collections::{HashMap, VecDeque};

use slab::Slab;

use super::fanout::{self, Audience};
use super::subscriptions::{Link, Subscribed};
use crate::buffers::{Runs, Slice};
use crate::effect::{ConnId, Receipt};
use crate::wire::answer;
use crate::wire::channel_name::ChannelName;
use crate::wire::frame::{self, Opcode};
use crate::wire::handshake::Dialect;

/// One audience of one channel: the channel's index, and in the lowest bit the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(u32);

impl Place {
    fn new(channel: usize, dialect: Dialect) -> Place {
        Place((channel as u32) << 1 | u32::from(dialect == Dialect::V1))
    }

    fn channel(self) -> usize {
        self.0 as usize >> 1
    }

    fn dialect(self) -> Dialect {
        match self.0 & 1 {
            0 => Dialect::Raw,
            _ => Dialect::V1,
        }
    }
}

/// The memberships of one connection: where, and at which place of that audience. Most are in one channel, and that
/// costs no allocation.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "a map takes 48 bytes, and every connection would pay for them"
)]
enum Joined {
    #[default]
    Nowhere,
    One(Place, u32),
    Many(Box<HashMap<Place, u32>>),
}

const _: () = assert!(size_of::<Joined>() == 16);

impl Joined {
    fn at(&self, place: Place) -> Option<u32> {
        match self {
            Joined::One(p, at) if *p == place => Some(*at),
            Joined::Many(map) => map.get(&place).copied(),
            _ => None,
        }
    }

    fn put(&mut self, place: Place, at: u32) {
        match self {
            Joined::Nowhere => *self = Joined::One(place, at),
            Joined::One(p, old) if *p == place => *old = at,
            Joined::One(p, old) => {
                *self = Joined::Many(Box::new(HashMap::from([(*p, *old), (place, at)])))
            }
            Joined::Many(map) => {
                map.insert(place, at);
            }
        }
    }

    fn take(&mut self, place: Place) {
        match self {
            Joined::One(p, _) if *p == place => *self = Joined::Nowhere,
            Joined::Many(map) => {
                map.remove(&place);
                if map.is_empty() {
                    *self = Joined::Nowhere;
                }
            }
            _ => {}
        }
    }

    fn len(&self) -> usize {
        match self {
            Joined::Nowhere => 0,
            Joined::One(..) => 1,
            Joined::Many(map) => map.len(),
        }
    }

    fn places(&self) -> impl Iterator<Item = (Place, u32)> {
        let (one, many) = match self {
            Joined::Nowhere => (None, None),
            Joined::One(place, at) => (Some((*place, *at)), None),
            Joined::Many(map) => (None, Some(map.iter().map(|(place, at)| (*place, *at)))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// Tables in [`Names`].
const TABLES: usize = 512;

/// Which name is which channel's. Many small tables, over a large one: a table that has to grow is filled anew in one
/// go, and a hundred thousand names at once would keep everybody waiting for ten milliseconds.
#[derive(Debug)]
struct Names(Box<[HashMap<ChannelName, u32>]>);

impl Default for Names {
    fn default() -> Self {
        Names((0..TABLES).map(|_| HashMap::default()).collect())
    }
}

impl Names {
    /// Not keyed, unlike the tables: names that are made to meet in one of them make it as slow as a single one.
    fn table(name: &str) -> usize {
        let mix = |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte));
        name.bytes().fold(0, mix) % TABLES
    }

    fn get(&self, name: &str) -> Option<u32> {
        self.0.get(Names::table(name))?.get(name).copied()
    }

    fn insert(&mut self, name: ChannelName, channel: usize) {
        if let Some(table) = self.0.get_mut(Names::table(name.as_str())) {
            table.insert(name, channel as u32);
        }
    }

    fn remove(&mut self, name: &ChannelName) {
        if let Some(table) = self.0.get_mut(Names::table(name.as_str())) {
            table.remove(name);
        }
    }
}

#[derive(Debug)]
pub(super) struct Channel {
    pub name: ChannelName,
    audiences: [Audience; 2],
    /// What stands before a content in the dialect `wsify.v1`; made when it is first needed.
    prefix: Vec<u8>,
    /// Who waits: publishers until less is on its way to the members, those who join until it is subscribed.
    pub waiting: Vec<ConnId>,
    /// Lists of those who have waited, and have not been told.
    releasing: u32,
    pub subscribed: Subscribed,
}

/// Those who waited for a channel and may try again, in the order in which they came.
#[derive(Debug)]
pub struct Released {
    channel: usize,
    /// What became of the subscription that they have waited for, if they did.
    pub receipt: Option<Receipt>,
    ids: std::vec::IntoIter<ConnId>,
}

impl Released {
    pub fn next(&mut self) -> Option<ConnId> {
        self.ids.next()
    }
}

impl Channel {
    fn new(name: ChannelName) -> Channel {
        Channel {
            name,
            audiences: Default::default(),
            prefix: Vec::new(),
            waiting: Vec::new(),
            releasing: 0,
            subscribed: Subscribed::default(),
        }
    }

    pub fn has_members(&self) -> bool {
        self.audiences.iter().any(|audience| !audience.is_empty())
    }

    fn audience(&self, dialect: Dialect) -> &Audience {
        let [raw, v1] = &self.audiences;
        match dialect {
            Dialect::Raw => raw,
            Dialect::V1 => v1,
        }
    }

    fn audience_mut(&mut self, dialect: Dialect) -> &mut Audience {
        let [raw, v1] = &mut self.audiences;
        match dialect {
            Dialect::Raw => raw,
            Dialect::V1 => v1,
        }
    }
}

#[derive(Debug, Default)]
pub struct Channels {
    by_name: Names,
    pub(super) channels: Slab<Channel>,
    joined: Vec<Joined>,
    memberships: usize,
    pub link: Link,
}

impl Channels {
    /// Channels that exist.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Members of all channels together.
    pub fn memberships(&self) -> usize {
        self.memberships
    }

    /// Channels that the connection in `slot` is in.
    pub fn joined(&self, slot: u32) -> usize {
        self.joined.get(slot as usize).map_or(0, Joined::len)
    }

    /// Names of the channels that the connection in `slot` is in.
    pub fn names_of(&self, slot: u32) -> impl Iterator<Item = &str> {
        let joined = self.joined.get(slot as usize).into_iter();
        let places = joined.flat_map(Joined::places);
        places.filter_map(|(place, _)| self.name(place))
    }

    /// The name of the channel that a place is in.
    pub fn name(&self, place: Place) -> Option<&str> {
        let channel = self.channels.get(place.channel())?;
        Some(channel.name.as_str())
    }

    /// How many connections are in a channel.
    pub fn members(&self, name: &str) -> usize {
        let channel = self.by_name.get(name);
        let channel = channel.and_then(|index| self.channels.get(index as usize));
        let audiences = channel.into_iter().flat_map(|channel| &channel.audiences);
        audiences.map(Audience::len).sum()
    }

    pub fn is_member(&self, slot: u32, name: &str, dialect: Dialect) -> bool {
        self.membership(slot, name, dialect).is_some()
    }

    fn membership(&self, slot: u32, name: &str, dialect: Dialect) -> Option<(Place, u32)> {
        let place = Place::new(self.by_name.get(name)? as usize, dialect);
        Some((place, self.joined.get(slot as usize)?.at(place)?))
    }

    /// Makes `slot` a member. Joining twice is joining once.
    pub fn join(&mut self, slot: u32, name: &str, dialect: Dialect) {
        if self.is_member(slot, name, dialect) {
            return;
        }
        let index = self.open(name);
        if self.joined.len() <= slot as usize {
            self.joined.resize_with(slot as usize + 1, Joined::default);
        }
        if let Some(channel) = self.channels.get_mut(index)
            && let Some(joined) = self.joined.get_mut(slot as usize)
        {
            let at = channel.audience_mut(dialect).add(slot);
            joined.put(Place::new(index, dialect), at);
            self.memberships += 1;
        }
    }

    /// The channel's index; it is made if there is none.
    pub(super) fn open(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return index as usize;
        }
        let name = ChannelName::checked(name);
        let index = self.channels.insert(Channel::new(name.clone()));
        self.by_name.insert(name, index);
        index
    }

    /// What the member in `slot` has not had yet of what was published to it here.
    pub fn owed(&self, slot: u32, name: &str, dialect: Dialect) -> Vec<Slice> {
        let membership = self.membership(slot, name, dialect).into_iter();
        membership
            .flat_map(|(place, at)| self.owed_at(place, at))
            .collect()
    }

    /// What `slot` has not had yet of what was published to it anywhere.
    pub fn owed_everywhere(&self, slot: u32) -> Vec<Slice> {
        let joined = self.joined.get(slot as usize).into_iter();
        joined
            .flat_map(Joined::places)
            .flat_map(|(place, at)| self.owed_at(place, at))
            .collect()
    }

    fn owed_at(&self, place: Place, at: u32) -> impl Iterator<Item = Slice> {
        let channel = self.channels.get(place.channel()).into_iter();
        channel.flat_map(move |channel| channel.audience(place.dialect()).owed(at))
    }

    /// Ends one membership. Leaving a channel one is not in does nothing.
    pub fn leave(&mut self, slot: u32, name: &str, dialect: Dialect, runs: &mut Runs) {
        if let Some((place, at)) = self.membership(slot, name, dialect) {
            if let Some(joined) = self.joined.get_mut(slot as usize) {
                joined.take(place);
            }
            self.remove(place, at, runs);
        }
    }

    /// Ends all memberships of `slot`.
    pub fn leave_all(&mut self, slot: u32, runs: &mut Runs) {
        if let Some(joined) = self.joined.get_mut(slot as usize) {
            let joined = std::mem::take(joined);
            for (place, at) in joined.places() {
                self.remove(place, at, runs);
            }
        }
    }

    fn remove(&mut self, place: Place, at: u32, runs: &mut Runs) {
        let Channels {
            channels, joined, ..
        } = self;
        let Some(channel) = channels.get_mut(place.channel()) else {
            return;
        };
        let audience = channel.audience_mut(place.dialect());
        audience.remove(at, runs, |other, at| {
            if let Some(joined) = joined.get_mut(other as usize) {
                joined.put(place, at);
            }
        });
        self.memberships -= 1;
        self.forget_if_empty(place.channel());
    }

    /// Removes a channel that nobody is in and nobody will look at.
    fn forget_if_empty(&mut self, index: usize) {
        let Some(channel) = self.channels.get(index) else {
            return;
        };
        let unused = channel.audiences.iter().all(|a| a.is_empty() && !a.listed);
        if unused && channel.waiting.is_empty() && channel.releasing == 0 {
            let channel = self.channels.remove(index);
            self.by_name.remove(&channel.name);
            self.unsubscribe(&channel);
        }
    }

    pub fn audience_mut(&mut self, place: Place) -> Option<&mut Audience> {
        let channel = self.channels.get_mut(place.channel())?;
        Some(channel.audience_mut(place.dialect()))
    }

    /// Whether so much is on its way to the channel that nothing more is to be published to it.
    pub fn is_full(&mut self, name: &str) -> bool {
        self.named_mut(name)
            .is_some_and(|(_, channel)| channel.audiences.iter().any(Audience::is_congested))
    }

    /// Whether a publisher has to wait until less is on its way to the channel; if so, `publisher` is released when there
    /// is.
    pub fn is_congested(&mut self, name: &str, publisher: ConnId, runs: &Runs) -> bool {
        // What all runs hold bounds what is on its way to one channel. Mostly that answers it, and the name need not be
        // looked up twice.
        if runs.held <= fanout::CONGESTED {
            return false;
        }
        let Some((_, channel)) = self.named_mut(name) else {
            return false;
        };
        let congested = channel.audiences.iter().any(Audience::is_congested);
        if congested {
            channel.waiting.push(publisher);
        }
        congested
    }

    pub(super) fn named(&self, name: &str) -> Option<&Channel> {
        self.channels.get(self.by_name.get(name)? as usize)
    }

    fn named_mut(&mut self, name: &str) -> Option<(usize, &mut Channel)> {
        let index = self.by_name.get(name)? as usize;
        Some((index, self.channels.get_mut(index)?))
    }

    /// A batch has gone out, or the audience is empty: who waits because of it need wait no longer, and the channel may be
    /// of no more use.
    pub fn served(&mut self, place: Place) -> Option<Released> {
        let channel = self.channels.get(place.channel())?;
        if !channel.audiences.iter().any(Audience::is_congested) {
            let released = self.release(place.channel(), None);
            if released.is_some() {
                return released;
            }
        }
        self.forget_if_empty(place.channel());
        None
    }

    /// Those who wait for a channel, to be told; then [`Channels::released`] is to be called.
    pub fn release(&mut self, index: usize, receipt: Option<Receipt>) -> Option<Released> {
        let channel = self.channels.get_mut(index)?;
        if channel.waiting.is_empty() {
            return None;
        }
        channel.releasing += 1;
        Some(Released {
            channel: index,
            receipt,
            ids: std::mem::take(&mut channel.waiting).into_iter(),
        })
    }

    /// They all have been told.
    pub fn released(&mut self, done: &Released) {
        if let Some(channel) = self.channels.get_mut(done.channel) {
            channel.releasing -= 1;
        }
        self.forget_if_empty(done.channel);
    }

    /// Publishes to all members: each audience's frame is encoded once. Places that were idle, and have to be served
    /// now, are put in `serve`. `now` is in microseconds.
    pub fn publish(
        &mut self,
        name: &str,
        content: &[u8],
        now: u64,
        runs: &mut Runs,
        serve: &mut VecDeque<Place>,
    ) {
        let Some((index, channel)) = self.named_mut(name) else {
            return;
        };
        let Channel {
            name,
            audiences: [raw, v1],
            prefix,
            ..
        } = channel;
        for (dialect, audience) in [(Dialect::Raw, raw), (Dialect::V1, v1)] {
            if audience.is_empty() {
                continue;
            }
            match dialect {
                Dialect::Raw => audience.publish(now, runs, |out| {
                    frame::push_frame(out, Opcode::Text, content)
                }),
                Dialect::V1 => {
                    if prefix.is_empty() {
                        *prefix = answer::v1_prefix(name.as_str());
                    }
                    audience.publish(now, runs, |out| {
                        let size = prefix.len() + content.len() + answer::V1_SUFFIX.len();
                        frame::push_header(out, Opcode::Text, size);
                        answer::push_v1(out, prefix, content);
                    });
                }
            }
            if !audience.listed {
                audience.listed = true;
                serve.push_back(Place::new(index, dialect));
            }
        }
    }
}
