//! Redis as the broker that several servers share (`docs/scaling.md`).
//!
//! Owns: the links that the [`Topology`] wants, and the bytes on them. Knows: sockets, time. Never knows: the hub, redis'
//! commands, or which servers there are.
//!
//! Decision: each link reconnects by itself, because the loss of a publishing link loses no message of others. If redis
//! is found to be a replica, both links are closed.

mod conversation;
mod dialogue;
mod meaning;
mod redis_log;
mod saved;
mod saved_values;
mod scout;
mod topology;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use mio::event::Event;
use mio::{Registry, Token, Waker};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use slab::Slab;

pub use self::conversation::LinkFault;
pub use self::dialogue::{Dialogue, Duty, LinkIdentity, Notice, Progress, SavedDialogue};
use self::redis_log::RedisLog;
#[doc(hidden)]
pub use self::topology::fuzz;
pub use self::topology::{LinkId, Order, Topology};
use super::link::{self, Advance, RedisLink};
use super::news::{Message, News};
use super::socket::RedisTarget;
use crate::clock::Millis;
use crate::config::{RedisAddress, RedisDsn, RedisServers};
use crate::log::Log;

/// Replies, messages and news of all links in one turn: a flood gets its share, and when a link breaks much may be
/// outstanding.
const STEPS: usize = 2048;
/// Of them, those of one link before the next gets its share.
const STEPS_OF_LINK: usize = 256;
/// Links at a time: two for each master, and scouts.
pub const MOST_LINKS: usize = 4 * topology::MOST_SHARDS;

/// What the driver is started with.
#[derive(Debug)]
pub struct RedisSettings {
    pub dsn: RedisDsn,
    pub prefix: String,
    /// Bytes of the largest content that clients may send.
    pub largest_content: usize,
    /// For TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The tokens of the links are these [`MOST_LINKS`], from this one on.
    pub first_token: Token,
    pub seed: u64,
    /// To find out about the servers, for `--check`.
    pub probe: bool,
}

pub struct Redis {
    pub(super) topology: Topology,
    links: Slab<Connected>,
    by_id: BTreeMap<LinkId, usize>,
    tls: Option<Arc<ClientConfig>>,
    waker: Arc<Waker>,
    first_token: usize,
    seed: u64,
    /// The link whose replies are handled next, and how many of them before the next link's turn.
    current: usize,
    share: usize,
    /// What may still be done in this turn.
    budget: usize,
    redis_log: RedisLog,
    largest_reply: usize,
    /// When the last turn was.
    turned: Millis,
}

/// A link, and what it is.
struct Connected {
    id: LinkId,
    link: RedisLink,
    /// The hub cannot take the next message in this turn.
    postponed: bool,
}

impl Redis {
    /// Makes everything ready; the first turn begins to connect.
    ///
    /// # Errors
    /// With TLS: a host is not a name that a certificate can have.
    pub fn new(
        settings: RedisSettings,
        waker: Arc<Waker>,
        log: Log,
        now: Millis,
    ) -> io::Result<Redis> {
        let RedisSettings {
            dsn,
            prefix,
            largest_content,
            tls,
            first_token,
            seed,
            probe,
        } = settings;
        let given = match &dsn.servers {
            RedisServers::One(address) => std::slice::from_ref(address),
            RedisServers::Sentinel { sentinels, .. } => sentinels,
            RedisServers::Cluster(seeds) => seeds,
        };
        for address in given {
            target(address, tls.as_ref(), &waker)?;
        }
        Ok(Redis {
            topology: Topology::new(&dsn, prefix, probe, seed, now),
            links: Slab::new(),
            by_id: BTreeMap::new(),
            tls,
            waker,
            first_token: first_token.0,
            seed,
            current: 0,
            share: 0,
            budget: 0,
            redis_log: RedisLog::new(dsn, log, now),
            largest_reply: link::largest_reply(largest_content),
            turned: now,
        })
    }

    /// The poll has reported the link with this token, counted from the first one.
    pub fn ready(&mut self, nth: usize, event: &Event) {
        if let Some(connected) = self.links.get_mut(nth) {
            connected.link.ready(event);
        }
    }

    /// Why redis is down, for `--check`: empty while there is something left to be tried.
    pub fn trouble(&self) -> &str {
        if self.topology.is_lost() {
            self.redis_log.trouble()
        } else {
            ""
        }
    }

    /// The last reason why redis was down, even while there is something left to be tried.
    pub fn last_trouble(&self) -> &str {
        self.redis_log.trouble()
    }

    pub fn has_work(&self) -> bool {
        let mut links = self.links.iter();
        self.topology.has_news() || links.any(|(_, connected)| connected.link.has_work())
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        let links = self.links.iter();
        let links = links.filter_map(|(_, connected)| connected.link.deadline());
        links.chain(self.topology.next_deadline()).min()
    }

    pub fn turn(&mut self, registry: &Registry, buffer: &mut [u8], now: Millis) {
        (self.budget, self.turned) = (STEPS, now);
        self.topology.turn(now);
        self.carry_out(now);
        for key in 0..self.links.capacity() {
            let Some(connected) = self.links.get_mut(key) else {
                continue;
            };
            connected.postponed = false;
            let id = connected.id;
            match connected.link.advance(registry, now) {
                Advance::Nothing => {}
                Advance::Opened => self.topology.opened(id, now),
                Advance::Failed(why) => self.broken(key, &why, now),
            }
            let Some(Connected { link, .. }) = self.links.get_mut(key) else {
                continue;
            };
            if let Err(why) = link.fill(buffer, self.largest_reply) {
                self.broken(key, &why, now);
            } else if link.is_open()
                && !link.has_work()
                && let Err(fault) = self.topology.tick(id, now)
            {
                self.fault(key, &fault, now);
            }
        }
        self.carry_out(now);
    }

    /// Opens and closes links as the topology wants.
    fn carry_out(&mut self, now: Millis) {
        while let Some(order) = self.topology.order() {
            match order {
                Order::Close(id) => {
                    if let Some(key) = self.by_id.remove(&id) {
                        self.links.try_remove(key);
                    }
                }
                Order::Open(id, address) => self.open(id, &address, now),
            }
        }
    }

    fn open(&mut self, id: LinkId, address: &RedisAddress, now: Millis) {
        let target = match target(address, self.tls.as_ref(), &self.waker) {
            Ok(target) if self.links.len() < MOST_LINKS => Arc::new(target),
            Ok(_) => return self.topology.closed(id, now),
            Err(error) => {
                self.redis_log.broken(id, address, &error.to_string(), now);
                return self.topology.closed(id, now);
            }
        };
        let link = |token, seed| Ok::<_, Infallible>(RedisLink::new(target, token, seed));
        let Ok(()) = self.insert(id, link);
    }

    /// Adds a link, which is made of a token and a seed.
    ///
    /// # Errors
    /// It cannot be made.
    fn insert<E>(
        &mut self,
        id: LinkId,
        make: impl FnOnce(Token, u64) -> Result<RedisLink, E>,
    ) -> Result<(), E> {
        let entry = self.links.vacant_entry();
        let key = entry.key();
        let token = Token(self.first_token.saturating_add(key));
        self.seed = self.seed.rotate_left(7) ^ key as u64;
        let link = make(token, self.seed)?;
        let postponed = false;
        entry.insert(Connected {
            id,
            link,
            postponed,
        });
        self.by_id.insert(id, key);
        Ok(())
    }

    pub fn next(&mut self, now: Millis) -> Option<News> {
        loop {
            while let Some(notice) = self.topology.notice() {
                self.redis_log.notice(&notice, now);
            }
            self.budget = self.budget.checked_sub(1)?;
            if let Some(news) = self.topology.news() {
                return Some(news);
            }
            let key = self.next_link()?;
            let connected = self.links.get_mut(key)?;
            let link = &mut connected.link;
            match self.topology.handle_reply(connected.id, link.input(), now) {
                Ok(Progress::Starved) => link.starve(),
                Ok(Progress::Handled(count)) => link.consume(count),
                Ok(Progress::Message(message)) => {
                    let link = key;
                    return Some(News::Message(Message { link, ..message }));
                }
                Err(fault) => self.fault(key, &fault, now),
            }
        }
    }

    /// The link whose replies are handled next.
    fn next_link(&mut self) -> Option<usize> {
        let fed = |connected: &Connected| {
            connected.link.is_open() && connected.link.is_fed() && !connected.postponed
        };
        if self.share > 0 && self.links.get(self.current).is_some_and(fed) {
            self.share = self.share.saturating_sub(1);
            return Some(self.current);
        }
        let count = self.links.capacity();
        let first = self.current.saturating_add(1);
        let turns = (0..count).filter_map(|n| n.saturating_add(first).checked_rem(count));
        let mut turns = turns.filter(|key| self.links.get(*key).is_some_and(fed));
        self.current = turns.next()?;
        self.share = STEPS_OF_LINK;
        Some(self.current)
    }

    pub fn content(&self, message: &Message) -> (&str, &[u8]) {
        let link = self.links.get(message.link);
        let input = link.map_or([].as_slice(), |connected| connected.link.input());
        let at = |range: &std::ops::Range<usize>| input.get(range.clone()).unwrap_or_default();
        let channel = str::from_utf8(at(&message.channel)).unwrap_or_default();
        (channel, at(&message.content))
    }

    pub fn take(&mut self, message: &Message) {
        if let Some(connected) = self.links.get_mut(message.link) {
            connected.link.consume(message.size);
        }
    }

    pub fn postpone(&mut self, message: &Message) {
        if let Some(connected) = self.links.get_mut(message.link) {
            connected.postponed = true;
        }
    }

    pub fn flush(&mut self, now: Millis) {
        self.topology.finish(now);
        for key in 0..self.links.capacity() {
            let Some(Connected { id, link, .. }) = self.links.get_mut(key) else {
                continue;
            };
            if let Some(out) = self.topology.out(*id)
                && let Err(why) = link.flush(out)
            {
                self.broken(key, &why, now);
            }
        }
        self.carry_out(now);
    }

    fn fault(&mut self, key: usize, fault: &LinkFault, now: Millis) {
        let id = self.links.get(key).map(|connected| connected.id);
        self.broken(key, &fault.why, now);
        if let (Some(LinkId::Master(shard, duty)), true) = (id, fault.both)
            && let Some(&other) = self.by_id.get(&LinkId::Master(shard, duty.other()))
            && self.links.get(other).is_some_and(|it| it.link.is_open())
        {
            self.broken(other, &fault.why, now);
        }
    }

    /// A link is broken, or was not established.
    fn broken(&mut self, key: usize, why: &str, now: Millis) {
        let Some(Connected { id, link, .. }) = self.links.get_mut(key) else {
            return;
        };
        let id = *id;
        link.close(now);
        if let Some(address) = self.topology.address(id)
            && !self.topology.is_leaving(id)
        {
            self.redis_log.broken(id, address, why, now);
        }
        self.topology.closed(id, now);
    }

    pub fn judge(&mut self, up: bool, now: Millis) -> bool {
        self.redis_log.judge(up, now)
    }

    /// What was found, for `--check`: a line for each server.
    pub fn found(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((up, all)) = self.topology.sentinels() {
            lines.push(format!("{up} of {all} sentinels answer"));
        }
        let masters = self.topology.facts();
        if self.topology.is_cluster() {
            lines.push(format!("a cluster of {} shards", masters.len()));
        }
        for (address, facts) in masters {
            let version = facts.version.as_deref().unwrap_or("version unknown");
            let replicas = match facts.replicas {
                None => "its role is unknown: ROLE is not permitted".to_owned(),
                Some(1) => "1 replica".to_owned(),
                Some(count) => format!("{count} replicas"),
            };
            lines.push(format!("master {address}: {version}, {replicas}"));
        }
        lines
    }
}

fn target(
    address: &RedisAddress,
    tls: Option<&Arc<ClientConfig>>,
    waker: &Arc<Waker>,
) -> io::Result<RedisTarget> {
    Ok(match address {
        RedisAddress::Unix(path) => RedisTarget::Unix(path.clone()),
        RedisAddress::Tcp { host, port } => {
            let name = || ServerName::try_from(host.clone()).map_err(io::Error::other);
            let tls = tls.map(|config| Ok::<_, io::Error>((Arc::clone(config), name()?)));
            RedisTarget::Tcp {
                host: host.clone(),
                port: *port,
                tls: tls.transpose()?,
                waker: Arc::clone(waker),
            }
        }
    })
}

#[cfg(test)]
mod tests;
