//! One channel.
//!
//! Owns: its audiences, one for each encoding; the connections that wait for it; its subscription at the broker. Never knows:
//! other channels, connections.

pub mod saved;

use super::audience::Audience;
use super::compression::Compression;
use super::frames;
use super::subscriptions::Subscribed;
use super::waiter::WaiterId;
use crate::buffers::Runs;
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;
use crate::wire::frame::{self, Opcode};
use crate::wire::server_message;

#[derive(Debug)]
pub struct Channel {
    pub name: ChannelName,
    audiences: Audiences,
    /// The bytes before content in the encoding `wsify.v1`; made when they are first needed.
    prefix: Box<[u8]>,
    /// Waiting connections: publishers until less is on its way to the members, joining ones until it is subscribed.
    pub waiting: Vec<WaiterId>,
    /// What keeps it though it has no members: lists of released connections that have not all had their turn, and
    /// connections that will join it.
    pub pins: u32,
    pub subscribed: Subscribed,
}

/// There may be as many channels as connections.
const _: () = assert!(size_of::<Channel>() <= 312);

/// Encodings that are plain, and those that are compressed: the first and the second half of all.
const HALF: usize = Encoding::ALL.len() / 2;

/// The audiences of a channel, one for each encoding. Those with compression are there only while one of them has a member.
#[derive(Debug, Default)]
struct Audiences {
    plain: [Audience; HALF],
    deflated: Option<Box<[Audience; HALF]>>,
}

impl Audiences {
    fn all(&self) -> impl Iterator<Item = &Audience> {
        let deflated = self.deflated.iter().flat_map(|deflated| deflated.iter());
        self.plain.iter().chain(deflated)
    }

    fn get(&self, encoding: usize) -> Option<&Audience> {
        match encoding.checked_sub(HALF) {
            None => self.plain.get(encoding),
            Some(at) => self.deflated.as_ref()?.get(at),
        }
    }

    fn get_mut(&mut self, encoding: usize) -> Option<&mut Audience> {
        match encoding.checked_sub(HALF) {
            None => self.plain.get_mut(encoding),
            Some(at) => self.deflated.as_mut()?.get_mut(at),
        }
    }

    /// Frees those with compression, if they have no use any more.
    fn tidy(&mut self) {
        if let Some(deflated) = &self.deflated
            && deflated.iter().all(Audience::is_unused)
        {
            self.deflated = None;
        }
    }
}

impl Channel {
    pub fn new(name: ChannelName, subscribed: Subscribed) -> Channel {
        Channel {
            name,
            audiences: Audiences::default(),
            prefix: Box::default(),
            waiting: Vec::new(),
            pins: 0,
            subscribed,
        }
    }

    /// The audience with this encoding's index, if it has had a member.
    pub fn audience(&self, encoding: usize) -> Option<&Audience> {
        self.audiences.get(encoding)
    }

    pub fn audience_mut(&mut self, encoding: usize) -> Option<&mut Audience> {
        self.audiences.get_mut(encoding)
    }

    /// The audience for a member that joins.
    pub fn open_audience(&mut self, encoding: Encoding) -> Option<&mut Audience> {
        if encoding.is_deflated() {
            self.audiences.deflated.get_or_insert_default();
        }
        self.audiences.get_mut(encoding.index())
    }

    /// How many members it has.
    pub fn members(&self) -> usize {
        self.audiences.all().map(Audience::len).sum()
    }

    /// The slots of its members, in no order.
    pub fn member_slots(&self) -> impl Iterator<Item = u32> {
        self.audiences.all().flat_map(Audience::slots)
    }

    pub fn has_members(&self) -> bool {
        self.audiences.all().any(|audience| !audience.is_empty())
    }

    pub fn is_congested(&self) -> bool {
        self.audiences.all().any(Audience::is_congested)
    }

    /// Frees the audiences with compression, if they have no use any more.
    pub fn tidy(&mut self) {
        self.audiences.tidy();
    }

    /// Whether it has no members, and nothing waits for it.
    pub fn is_unused(&self) -> bool {
        self.is_closing() && self.audiences.all().all(Audience::is_unused)
    }

    /// Whether it has no members, and will be unused as soon as its audiences are in no list.
    pub fn is_closing(&self) -> bool {
        !self.has_members() && self.waiting.is_empty() && self.pins == 0
    }

    /// Publishes to all members: the frame of each audience is encoded once. `list` gets each audience that was idle.
    /// `now` is in microseconds.
    pub fn publish(
        &mut self,
        content: &[u8],
        now: u64,
        runs: &mut Runs,
        compression: &mut Compression,
        mut list: impl FnMut(Encoding),
    ) {
        let Channel {
            name,
            audiences,
            prefix,
            ..
        } = self;
        for (encoding, audience) in Encoding::ALL.into_iter().zip(&mut audiences.plain) {
            if audience.is_empty() {
                continue;
            }
            let prefix = prefix_for(encoding, name, prefix);
            audience.publish(now, runs, |out| {
                frames::push_plain(out, encoding, prefix, content)
            });
            if !std::mem::replace(&mut audience.listed, true) {
                list(encoding);
            }
        }
        let Some(deflated) = &mut audiences.deflated else {
            return;
        };
        let wanted = deflated.iter().any(|audience| !audience.is_empty());
        let smaller = wanted.then(|| compression.deflate(content)).flatten();
        for (encoding, audience) in Encoding::ALL.into_iter().skip(HALF).zip(&mut **deflated) {
            if audience.is_empty() {
                continue;
            }
            let prefix = prefix_for(encoding, name, prefix);
            audience.publish(now, runs, |out| match smaller {
                Some(smaller) => frames::push_deflated(out, encoding, prefix, content, smaller),
                None => frames::push_plain(out, encoding, prefix, content),
            });
            if !std::mem::replace(&mut audience.listed, true) {
                list(encoding);
            }
        }
        compression.rest();
    }

    /// Tells the members that speak `wsify.v1` that they may have missed messages; as [`Channel::publish`].
    pub fn publish_gap(&mut self, now: u64, runs: &mut Runs, mut list: impl FnMut(Encoding)) {
        for encoding in Encoding::ALL.into_iter().filter(|it| it.is_v1()) {
            let Some(audience) = self.audiences.get_mut(encoding.index()) else {
                continue;
            };
            if audience.is_empty() {
                continue;
            }
            let gap = server_message::v1_gap(self.name.as_str());
            audience.publish(now, runs, |out| frame::push_frame(out, Opcode::Text, &gap));
            if !std::mem::replace(&mut audience.listed, true) {
                list(encoding);
            }
        }
    }
}

/// What stands before content in an encoding.
#[inline]
fn prefix_for<'p>(encoding: Encoding, name: &ChannelName, prefix: &'p mut Box<[u8]>) -> &'p [u8] {
    if encoding.is_v1() && prefix.is_empty() {
        *prefix = server_message::v1_prefix(name.as_str()).into();
    }
    prefix
}
