//! One channel.
//!
//! Owns: its audiences, one for each encoding; the connections that wait for it; its subscription at the broker. Knows: how
//! a content is encoded. Never knows: other channels, connections.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

use super::audience::Audience;
use super::subscriptions::Subscribed;
use crate::buffers::Runs;
use crate::effect::ConnId;
use crate::wire::answer;
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;
use crate::wire::frame::{self, Opcode};

#[derive(Debug)]
pub struct Channel {
    pub name: ChannelName,
    /// One for each encoding, at its index.
    pub audiences: [Audience; Encoding::ALL.len()],
    /// The bytes before a content in the encoding `wsify.v1`; made when they are first needed.
    pub prefix: Vec<u8>,
    /// Waiting connections: publishers until less is on its way to the members, joining ones until it is subscribed.
    pub waiting: Vec<ConnId>,
    /// What keeps it though it has no members: lists of released connections that have not all had their turn, and
    /// connections that will join it.
    pub holds: u32,
    pub subscribed: Subscribed,
}

impl Channel {
    pub fn new(name: ChannelName) -> Channel {
        Channel {
            name,
            audiences: Default::default(),
            prefix: Vec::new(),
            waiting: Vec::new(),
            holds: 0,
            subscribed: Subscribed::default(),
        }
    }

    pub fn has_members(&self) -> bool {
        self.audiences.iter().any(|audience| !audience.is_empty())
    }

    /// How many members it has.
    pub fn members(&self) -> usize {
        self.audiences.iter().map(Audience::len).sum()
    }

    pub fn is_congested(&self) -> bool {
        self.audiences.iter().any(Audience::is_congested)
    }

    /// Whether it has no members, and nothing waits for it.
    pub fn is_unused(&self) -> bool {
        let unused = |audience: &Audience| audience.is_empty() && !audience.listed;
        self.audiences.iter().all(unused) && self.waiting.is_empty() && self.holds == 0
    }

    /// Publishes to all members: the frame of each audience is encoded once. `list` gets each audience that was idle.
    /// `now` is in microseconds.
    pub fn publish(
        &mut self,
        content: &[u8],
        now: u64,
        runs: &mut Runs,
        mut list: impl FnMut(Encoding),
    ) {
        let Channel {
            name,
            audiences,
            prefix,
            ..
        } = self;
        for (encoding, audience) in Encoding::ALL.into_iter().zip(audiences) {
            if audience.is_empty() {
                continue;
            }
            match encoding {
                Encoding::Raw => audience.publish(now, runs, |out| {
                    frame::push_frame(out, Opcode::Text, content)
                }),
                Encoding::V1 => {
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
            if !std::mem::replace(&mut audience.listed, true) {
                list(encoding);
            }
        }
    }
}
