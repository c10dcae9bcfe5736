//! Which redis servers there are: one, the master that sentinels name, or the masters of a cluster.
//!
//! Owns: a [`Dialogue`] with each, the scouts that ask where they are, and which links there should be. Knows: which of them
//! has which channel. Never knows: sockets, clocks. Commands, bytes and what becomes of links come in; [`News`], bytes and
//! [`Order`]s go out; time is an argument.
//!
//! Decision: one type for the three of them rather than three drivers. The commands to a master are the same, and so
//! are the orders about its links. They differ in what names the masters (`watched.rs`, `clustered.rs`).

mod cluster;
mod clustered;
mod fuzz;
mod hash_slots;
mod links;
mod masters;
mod saved;
mod saved_news;
mod sentinels;
mod watched;

use std::collections::VecDeque;

#[doc(hidden)]
pub use self::fuzz::fuzz;

use self::cluster::Cluster;
pub use self::cluster::MOST_SHARDS;
pub use self::links::{LinkId, Order};
use self::sentinels::Sentinels;
use super::conversation::LinkFault;
use super::dialogue::{Dialogue, Duty, LinkIdentity, Notice, Progress, RedisKind, ServerFacts};
use super::scout::Scout;
use crate::broker::news::News;
use crate::clock::Millis;
use crate::config::{RedisAddress, RedisDsn, RedisServers};
use crate::effect::ShardId;
use crate::random::Random;
use crate::wire::nodes::NodeAddress;

/// A master, and what is said to it.
#[derive(Debug)]
struct Master {
    address: RedisAddress,
    dialogue: Dialogue,
    /// When its links are closed, if it is no longer a master.
    leave_at: Option<Millis>,
}

impl Master {
    fn is_up(&self) -> bool {
        Duty::BOTH.into_iter().all(|duty| self.dialogue.is_up(duty))
    }

    fn is_slow(&self, now: Millis) -> bool {
        self.dialogue.slow_at().is_some_and(|at| now >= at)
    }
}

/// What names the masters.
#[derive(Debug)]
enum Discovery {
    Nothing,
    Sentinels(Box<Sentinels>),
    Cluster(Box<Cluster>),
}

#[derive(Debug)]
pub struct Topology {
    /// How links introduce themselves.
    identity: LinkIdentity,
    masters: Vec<Option<Master>>,
    scouts: Vec<Option<Scout>>,
    discovery: Discovery,
    orders: VecDeque<Order>,
    news: VecDeque<News>,
    notices: VecDeque<Notice>,
    random: Random,
}

impl Topology {
    /// The servers of a DSN. `probe`: to find out about them, for `--check`.
    pub fn new(dsn: &RedisDsn, prefix: String, probe: bool, seed: u64, now: Millis) -> Topology {
        let kind = match dsn.servers {
            RedisServers::One(_) => RedisKind::Alone,
            RedisServers::Sentinel { .. } => RedisKind::Watched,
            RedisServers::Cluster(_) => RedisKind::Shard,
        };
        let identity = LinkIdentity {
            credentials: dsn.credentials.clone(),
            db: dsn.db,
            prefix,
            shard: ShardId(0),
            kind,
            probe,
        };
        let mut topology = Topology {
            identity,
            masters: Vec::new(),
            scouts: Vec::new(),
            discovery: Discovery::Nothing,
            orders: VecDeque::new(),
            news: VecDeque::new(),
            notices: VecDeque::new(),
            random: Random::new(seed),
        };
        match &dsn.servers {
            RedisServers::One(address) => {
                let shard = topology.add(address.clone());
                topology.news.push_back(News::Slots(0..=0, shard));
            }
            RedisServers::Sentinel {
                sentinels,
                master,
                credentials,
            } => topology.watch(sentinels, master, credentials.as_ref(), now),
            RedisServers::Cluster(seeds) => {
                let cluster = Cluster::new(seeds.clone(), dsn.tls, now);
                topology.discovery = Discovery::Cluster(Box::new(cluster));
            }
        }
        topology
    }

    /// What is before every channel's name.
    pub fn prefix(&self) -> &str {
        &self.identity.prefix
    }

    fn master(&self, id: ShardId) -> Option<&Master> {
        self.masters.get(usize::from(id.0))?.as_ref()
    }

    fn master_mut(&mut self, id: ShardId) -> Option<&mut Master> {
        self.masters.get_mut(usize::from(id.0))?.as_mut()
    }

    fn scout_mut(&mut self, nth: usize) -> Option<&mut Scout> {
        self.scouts.get_mut(nth)?.as_mut()
    }

    /// What is to be done with a link next.
    pub fn order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The next news for the hub.
    pub fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Bytes to be sent. The caller removes what it has sent.
    pub fn out(&mut self, link: LinkId) -> Option<&mut Vec<u8>> {
        match link {
            LinkId::Master(id, duty) => Some(self.master_mut(id)?.dialogue.out(duty)),
            LinkId::Scout(nth) => Some(self.scout_mut(nth)?.out()),
        }
    }

    /// A link can be used.
    pub fn opened(&mut self, link: LinkId, now: Millis) {
        match link {
            LinkId::Master(id, duty) => {
                if let Some(master) = self.master_mut(id) {
                    master.dialogue.opened(duty, now);
                }
            }
            LinkId::Scout(nth) => {
                if let Some(scout) = self.scout_mut(nth) {
                    scout.opened(now);
                }
                if let Discovery::Sentinels(sentinels) = &mut self.discovery {
                    sentinels.asked(nth);
                }
            }
        }
    }

    /// A link is broken, or was not established.
    pub fn closed(&mut self, link: LinkId, now: Millis) {
        match link {
            LinkId::Master(id, duty) => {
                if let Some(master) = self.master_mut(id) {
                    master.dialogue.closed(duty);
                    self.collect(Some(id), now);
                    self.missed(link, now);
                }
            }
            LinkId::Scout(nth) => {
                if let Some(scout) = self.scout_mut(nth) {
                    scout.closed();
                    self.scout_lost(nth, now);
                }
            }
        }
    }

    /// A link to a master is away.
    fn missed(&mut self, link: LinkId, now: Millis) {
        match &mut self.discovery {
            Discovery::Nothing => {}
            Discovery::Sentinels(sentinels) => sentinels.doubt(now),
            Discovery::Cluster(cluster) => cluster.link_lost(link, now),
        }
    }

    fn scout_lost(&mut self, nth: usize, now: Millis) {
        match &mut self.discovery {
            Discovery::Nothing => {}
            Discovery::Sentinels(sentinels) => sentinels.lost(nth),
            Discovery::Cluster(_) => self.next_candidate(now),
        }
    }

    /// Handles the reply at the start of `bytes`.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub fn handle_reply(
        &mut self,
        link: LinkId,
        bytes: &[u8],
        now: Millis,
    ) -> Result<Progress, LinkFault> {
        let step = match link {
            LinkId::Master(id, duty) => match self.master_mut(id) {
                Some(master) => master.dialogue.handle_reply(duty, bytes, now),
                None => Ok(Progress::Starved),
            },
            LinkId::Scout(nth) => match self.scout_mut(nth) {
                Some(scout) => scout.handle_reply(bytes, now),
                None => Ok(Progress::Starved),
            },
        };
        match link {
            LinkId::Master(id, _) => self.collect(Some(id), now),
            LinkId::Scout(nth) => self.take_findings(nth, now),
        }
        step
    }

    /// Gives up what is too late on a link. Not to be called while there are replies to be handled.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub fn tick(&mut self, link: LinkId, now: Millis) -> Result<(), LinkFault> {
        match link {
            LinkId::Master(id, duty) => match self.master_mut(id) {
                Some(master) => master.dialogue.tick(duty, now),
                None => Ok(()),
            },
            LinkId::Scout(nth) => match self.scout_mut(nth) {
                Some(scout) => scout.tick(now),
                None => Ok(()),
            },
        }
    }

    /// Goes on with what is due. To be called once in a turn.
    pub fn turn(&mut self, now: Millis) {
        for at in 0..self.masters.len() {
            let id = ShardId(at as u16);
            if let Some(master) = self.master_mut(id) {
                master.dialogue.fail_overdue(now);
                self.collect(Some(id), now);
            }
        }
        match &self.discovery {
            Discovery::Nothing => {}
            Discovery::Sentinels(_) => self.turn_sentinels(now),
            Discovery::Cluster(_) => self.turn_cluster(now),
        }
    }

    /// When [`Topology::tick`] or [`Topology::turn`] has something to do, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let shards = self.masters.iter().flatten();
        let shards = shards.filter_map(|master| master.dialogue.next_deadline());
        let scouts = self.scouts.iter().flatten();
        let scouts = scouts.filter_map(Scout::next_deadline);
        let discovery = match &self.discovery {
            Discovery::Nothing => None,
            Discovery::Sentinels(sentinels) => Some(sentinels.next_deadline()),
            Discovery::Cluster(cluster) => {
                let masters = self.masters.iter().flatten();
                let slow = masters.filter_map(|master| master.dialogue.slow_at());
                let slow = slow.filter(|at| *at > cluster.slow_noted).min();
                let masters = self.masters.iter().flatten();
                let leave = masters.filter_map(|master| master.leave_at).min();
                let next = [slow, leave, Some(cluster.next_deadline())];
                next.into_iter().flatten().min()
            }
        };
        shards.chain(scouts).chain(discovery).min()
    }

    /// Whether all servers that could name the masters were asked without result.
    pub fn is_lost(&self) -> bool {
        match &self.discovery {
            Discovery::Nothing => true,
            Discovery::Sentinels(sentinels) => sentinels.are_lost(),
            Discovery::Cluster(cluster) => cluster.is_lost(),
        }
    }

    /// Opens a scout's link.
    fn send_out(&mut self, nth: usize, scout: Scout, address: RedisAddress) {
        if nth >= self.scouts.len() {
            self.scouts.resize_with(nth.saturating_add(1), || None);
        }
        if let Some(place) = self.scouts.get_mut(nth) {
            *place = Some(scout);
            self.orders
                .push_back(Order::Open(LinkId::Scout(nth), address));
        }
    }

    /// What is known of the masters, for `--check`.
    pub fn facts(&self) -> Vec<(String, ServerFacts)> {
        let shards = self.masters.iter().flatten();
        let facts = |master: &Master| (master.address.to_string(), master.dialogue.facts().clone());
        shards.map(facts).collect()
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.discovery, Discovery::Cluster(_))
    }

    /// How many sentinels answer, of how many.
    pub fn sentinels(&self) -> Option<(usize, usize)> {
        let up = self.scouts.iter().flatten().filter(|scout| scout.is_up());
        let watched = matches!(self.discovery, Discovery::Sentinels(_));
        watched.then(|| (up.count(), self.scouts.len()))
    }

    /// Whether a link is to be closed soon.
    pub fn is_leaving(&self, link: LinkId) -> bool {
        match link {
            LinkId::Master(id, _) => self.master(id).is_some_and(|it| it.leave_at.is_some()),
            LinkId::Scout(_) => false,
        }
    }

    /// The address that a link goes to.
    pub fn address(&self, link: LinkId) -> Option<&RedisAddress> {
        match (link, &self.discovery) {
            (LinkId::Master(id, _), _) => self.master(id).map(|master| &master.address),
            (LinkId::Scout(nth), Discovery::Sentinels(sentinels)) => sentinels.address(nth),
            (LinkId::Scout(_), Discovery::Cluster(cluster)) => cluster.candidate(),
            (LinkId::Scout(_), Discovery::Nothing) => None,
        }
    }

    /// An address as the node at `asked` has named it.
    fn resolved(
        node: &NodeAddress,
        port: u16,
        asked: Option<&RedisAddress>,
    ) -> Option<RedisAddress> {
        let host = match (&node.host, asked) {
            (Some(host), _) => host.clone(),
            (None, Some(RedisAddress::Tcp { host, .. })) => host.clone(),
            (None, _) => return None,
        };
        Some(RedisAddress::Tcp { host, port })
    }
}

#[cfg(test)]
mod tests;
