//! What is known of a cluster, and when one of its nodes is asked for its view.
//!
//! Owns: the slots, the nodes that can be asked, the pauses between questions. Knows: time as an argument. Never knows: what
//! is said on a link, or how it is made.
//!
//! Decisions
//! - **A view is asked for on a publishing link** rather than a link of its own: there are two links for each master,
//!   and no more. Only while none is up, a scout asks one node after the other.
//! - **The nodes of the last view are asked too, not only those of the DSN**: over the years all of these may be replaced.

mod saved;

use std::collections::VecDeque;

pub use self::saved::SavedCluster;
use super::hash_slots::HashSlotTable;
use super::links::LinkId;
use crate::backoff::Backoff;
use crate::broker::redis::dialogue::Duty;
use crate::clock::Millis;
use crate::config::RedisAddress;
use crate::effect::{Publication, ShardId};
use crate::random::Random;
use crate::wire::cluster_view::ViewForm;
use crate::wire::hash_slot;

/// Masters that are connected to, with two links each. Redis itself recommends no more nodes.
pub const MOST_SHARDS: usize = 1_000;
/// Nodes that are remembered, to be asked when no master can be.
const MOST_KNOWN: usize = 2_000;
/// The pause between two views: at least, while something is wrong, and otherwise; in milliseconds.
const AT_LEAST: Millis = 100;
const SHORT_PAUSE: Millis = 250;
const USUAL_PAUSE: Millis = 10_000;
/// How long a master may take to show its view, and a node to be connected to besides, before another one is asked.
const VIEWING: Millis = 1_000;
const SCOUTING: Millis = 2_000;
/// The pauses when no node has answered.
const BACKOFF: Backoff = Backoff {
    first: 100,
    longest: 5_000,
};
/// When something is published again that was refused as its slot is about to move.
const AGAIN: Millis = 100;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// A view is to be asked for.
    Ask,
    /// The scout has had no answer for too long.
    NextCandidate,
}

#[derive(Debug)]
pub struct Cluster {
    pub slots: HashSlotTable,
    pub tls: bool,
    pub form: ViewForm,
    seeds: Vec<RedisAddress>,
    /// The nodes of the last view.
    known: Vec<RedisAddress>,
    /// On which link a view is awaited.
    asked: Option<LinkId>,
    /// Something has happened since it was asked for.
    again: bool,
    /// Which shard is best asked.
    prefer: Option<ShardId>,
    /// Which shard is asked next otherwise.
    next: usize,
    ask_at: Millis,
    /// When the last view came.
    last: Millis,
    /// Masters whose answers were late by this time are known to be.
    pub slow_noted: Millis,
    /// Which of the nodes is asked by a scout.
    candidate: usize,
    /// Nodes of this round that gave no view, and rounds in which none did.
    tried: usize,
    rounds: u32,
    /// When another node is asked, if no answer has come.
    asked_until: Millis,
    /// What is to be published again, and when.
    waiting: VecDeque<(Millis, Box<Publication>)>,
}

impl Cluster {
    pub fn new(seeds: Vec<RedisAddress>, tls: bool, now: Millis) -> Cluster {
        Cluster {
            slots: HashSlotTable::default(),
            tls,
            form: ViewForm::Shards,
            seeds,
            known: Vec::new(),
            asked: None,
            again: false,
            prefer: None,
            next: 0,
            ask_at: now,
            last: 0,
            slow_noted: 0,
            candidate: 0,
            tried: 0,
            rounds: 0,
            asked_until: 0,
            waiting: VecDeque::new(),
        }
    }

    /// The shard that has a channel.
    pub fn route(&self, prefix: &str, channel: &str) -> Option<ShardId> {
        let slot = hash_slot::hash_slot(prefix.as_bytes(), channel.as_bytes());
        self.slots.owner(slot)
    }

    fn nodes(&self) -> usize {
        self.seeds.len().saturating_add(self.known.len())
    }

    /// The node that a scout is sent to.
    pub fn candidate(&self) -> Option<&RedisAddress> {
        let at = self.candidate.checked_rem(self.nodes())?;
        self.seeds.iter().chain(&self.known).nth(at)
    }

    /// The nodes of a view.
    pub fn remember(&mut self, nodes: impl Iterator<Item = RedisAddress>) {
        let seeds = &self.seeds;
        let others = nodes.filter(|node| !seeds.contains(node));
        self.known = others.take(MOST_KNOWN).collect();
    }

    /// Keeps a publication that is to be published again a little later.
    pub fn postpone(&mut self, publication: Box<Publication>, now: Millis) {
        self.waiting
            .push_back((now.saturating_add(AGAIN), publication));
    }

    /// What is to be published again now.
    pub fn next_again(&mut self, now: Millis) -> Option<Publication> {
        let (at, _) = self.waiting.front()?;
        if now < *at {
            return None;
        }
        self.waiting
            .pop_front()
            .map(|(_, publication)| *publication)
    }

    /// A view is wanted soon, of this shard if possible.
    pub fn want_view(&mut self, prefer: Option<ShardId>, now: Millis) {
        self.prefer = prefer.or(self.prefer);
        self.again |= self.asked.is_some();
        let soon = now.max(self.last.saturating_add(AT_LEAST));
        self.ask_at = self.ask_at.min(soon);
    }

    /// A master has not answered by this time: the others may know of another one. To be called as long as that lasts.
    pub fn master_is_slow(&mut self, at: Millis) {
        self.slow_noted = self.slow_noted.max(at);
        let soon = self.last.saturating_add(SHORT_PAUSE);
        self.ask_at = self.ask_at.min(soon);
    }

    /// A link is broken: no view will come on it.
    pub fn link_lost(&mut self, link: LinkId, now: Millis) {
        if self.asked == Some(link) {
            self.asked = None;
        }
        self.want_view(None, now);
    }

    pub fn due(&self, now: Millis) -> Due {
        match self.asked {
            Some(LinkId::Scout(_)) if now >= self.asked_until => Due::NextCandidate,
            Some(LinkId::Master(..)) if now >= self.asked_until => Due::Ask,
            None if now >= self.ask_at => Due::Ask,
            _ => Due::Nothing,
        }
    }

    /// The order in which `count` shards are to be asked for a view.
    pub fn turns(&mut self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let next = self.next;
        let turns = (0..count).filter_map(move |n| n.saturating_add(next).checked_rem(count));
        let preferred = self.prefer.take().map(|id| usize::from(id.0));
        preferred.into_iter().chain(turns)
    }

    /// A shard is asked for its view.
    pub fn shard_asked(&mut self, at: usize, now: Millis) {
        self.next = at.saturating_add(1);
        self.asked_until = now.saturating_add(VIEWING);
        let link = LinkId::Master(ShardId(at as u16), Duty::Publish);
        (self.asked, self.again) = (Some(link), false);
    }

    /// A scout is sent out.
    pub fn scout_sent(&mut self, link: LinkId, now: Millis) {
        (self.asked, self.again) = (Some(link), false);
        self.asked_until = now.saturating_add(SCOUTING);
    }

    /// A scout got no view: the next node is asked, or all are after a pause.
    pub fn in_vain(&mut self, random: &mut Random, now: Millis) {
        self.asked = None;
        self.candidate = self.candidate.wrapping_add(1);
        self.tried = self.tried.saturating_add(1);
        self.ask_at = now;
        if self.tried >= self.nodes() {
            (self.tried, self.rounds) = (0, self.rounds.saturating_add(1));
            self.ask_at = now.saturating_add(BACKOFF.pause(self.rounds, random));
        }
    }

    /// A view has come; `troubled`: something is wrong all the same.
    pub fn answered(&mut self, useful: bool, troubled: bool, random: &mut Random, now: Millis) {
        (self.asked, self.last) = (None, now);
        if useful {
            (self.tried, self.rounds) = (0, 0);
        }
        let pause = match (self.again, troubled || !useful) {
            (true, _) => AT_LEAST,
            (false, true) => random.jittered(SHORT_PAUSE),
            (false, false) => USUAL_PAUSE,
        };
        self.ask_at = now.saturating_add(pause);
    }

    /// Whether no node has given a view.
    pub fn is_lost(&self) -> bool {
        self.rounds > 0
    }

    /// When something is to be done, if nothing happens before.
    pub fn next_deadline(&self) -> Millis {
        let ask = match self.asked {
            Some(_) => self.asked_until,
            None => self.ask_at,
        };
        self.waiting.front().map_or(ask, |(at, _)| ask.min(*at))
    }
}
