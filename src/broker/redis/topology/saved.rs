//! What a snapshot holds of the servers: in a record what names them, and behind it one for each master and each scout.
//!
//! What the operator has configured is not saved, but taken from the settings.

use std::io::{self, Read, Write};

use minicbor::{Decode, Encode};

use super::cluster::{Cluster, SavedCluster};
use super::saved_news::SavedNews;
use super::sentinels::{SavedSentinels, Sentinels};
use super::{Discovery, LinkId, MOST_SHARDS, Master, Topology};
use crate::broker::news::News;
use crate::broker::redis::dialogue::{Dialogue, Duty, LinkIdentity, SavedDialogue};
use crate::broker::redis::saved_values::{SavedAddress, near};
use crate::broker::redis::scout::{SavedScout, Scout};
use crate::clock::Millis;
use crate::config::{Credentials, RedisAddress, RedisDsn, RedisServers};
use crate::effect::{ShardId, restore_channel};
use crate::snapshot::{RecordKind, SnapshotError, SnapshotReader, SnapshotWriter, size};

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedTopology<'b> {
    /// Records of masters that follow.
    #[n(0)]
    masters: u64,
    /// Records of scouts behind these.
    #[n(1)]
    scouts: u64,
    #[b(2)]
    discovery: SavedGuide<'b>,
    #[cbor(b(3), default)]
    news: Vec<SavedNews<'b>>,
    /// Channels whose subscriptions have ended, which is news, too.
    #[cbor(b(4), default)]
    unsubscribed: Vec<&'b str>,
}

#[derive(Debug, Encode, Decode)]
enum SavedGuide<'b> {
    #[n(0)]
    Nothing,
    #[n(1)]
    Sentinels(#[n(0)] SavedSentinels),
    #[n(2)]
    Cluster(#[b(0)] SavedCluster<'b>),
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedMaster<'b> {
    #[n(0)]
    shard: u16,
    #[n(1)]
    address: SavedAddress,
    #[n(2)]
    leave_at: Option<Millis>,
    #[b(3)]
    dialogue: SavedDialogue<'b>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedPlacedScout<'b> {
    #[n(0)]
    nth: u64,
    #[b(1)]
    scout: SavedScout<'b>,
}

impl Topology {
    /// Saves it in records of its own. Orders and notices have to be taken before.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn save<W: Write>(&self, to: &mut SnapshotWriter<W>) -> io::Result<()> {
        debug_assert!(self.orders.is_empty() && self.notices.is_empty());
        let saved = SavedTopology {
            masters: self.masters.iter().flatten().count() as u64,
            scouts: self.scouts.iter().flatten().count() as u64,
            discovery: match &self.discovery {
                Discovery::Nothing => SavedGuide::Nothing,
                Discovery::Sentinels(sentinels) => SavedGuide::Sentinels(sentinels.save()),
                Discovery::Cluster(cluster) => SavedGuide::Cluster(cluster.save()),
            },
            news: self.news.iter().filter_map(News::save).collect(),
            unsubscribed: self.news.iter().filter_map(unsubscribed).collect(),
        };
        to.write(RecordKind::RedisServers, &saved)?;
        for (shard, master) in (0..).zip(&self.masters) {
            if let Some(master) = master {
                let saved = SavedMaster {
                    shard,
                    address: (&master.address).into(),
                    leave_at: master.leave_at,
                    dialogue: master.dialogue.save(),
                };
                to.write(RecordKind::RedisMaster, &saved)?;
            }
        }
        for (nth, scout) in (0..).zip(&self.scouts) {
            if let Some(scout) = scout {
                let scout = scout.save();
                to.write(RecordKind::RedisScout, &SavedPlacedScout { nth, scout })?;
            }
        }
        Ok(())
    }

    /// The servers of a DSN, as they were saved. No link is ordered.
    ///
    /// # Errors
    /// The records are of other servers, or contradict each other.
    pub fn restore<R: Read>(
        dsn: &RedisDsn,
        prefix: String,
        seed: u64,
        from: &mut SnapshotReader<R>,
        now: Millis,
    ) -> Result<Topology, SnapshotError> {
        let mut topology = Topology::new(dsn, prefix, false, seed, now);
        topology.forget();
        let record = from.read_kind(RecordKind::RedisServers)?;
        let saved: SavedTopology = record.decode()?;
        let within = |error: SnapshotError| error.within(RecordKind::RedisServers);
        let (masters, scouts) = (saved.masters, saved.scouts);
        topology.discovery = discovery(saved.discovery, dsn, now).map_err(within)?;
        let news: Result<_, _> = saved.news.into_iter().map(News::restore).collect();
        topology.news = news.map_err(within)?;
        for channel in saved.unsubscribed {
            let channel = restore_channel(channel).map_err(within)?;
            topology.news.push_back(News::Unsubscribed(channel));
        }
        for _ in 0..masters {
            let record = from.read_kind(RecordKind::RedisMaster)?;
            let saved: SavedMaster = record.decode()?;
            let within = |error: SnapshotError| error.within(RecordKind::RedisMaster);
            topology.restore_master(saved, now).map_err(within)?;
        }
        for _ in 0..scouts {
            let record = from.read_kind(RecordKind::RedisScout)?;
            let saved: SavedPlacedScout = record.decode()?;
            let within = |error: SnapshotError| error.within(RecordKind::RedisScout);
            topology.restore_scout(saved, dsn, now).map_err(within)?;
        }
        topology.check(dsn).map_err(within)?;
        Ok(topology)
    }

    /// Forgets what a new one begins with.
    fn forget(&mut self) {
        self.masters.clear();
        self.scouts.clear();
        self.orders.clear();
        self.news.clear();
        self.notices.clear();
    }

    fn restore_master(&mut self, saved: SavedMaster, now: Millis) -> Result<(), SnapshotError> {
        let at = usize::from(saved.shard);
        // In their order, each once.
        if at < self.masters.len() || at >= MOST_SHARDS {
            return Err(SnapshotError::new(format!("shard {at} is out of order")));
        }
        let identity = LinkIdentity {
            shard: ShardId(saved.shard),
            ..self.identity.clone()
        };
        let master = Master {
            address: saved.address.into(),
            dialogue: Dialogue::restore(identity, saved.dialogue, now)?,
            leave_at: saved.leave_at.map(|at| near(at, now)).transpose()?,
        };
        self.masters.resize_with(at, || None);
        self.masters.push(Some(master));
        Ok(())
    }

    fn restore_scout(
        &mut self,
        saved: SavedPlacedScout,
        dsn: &RedisDsn,
        now: Millis,
    ) -> Result<(), SnapshotError> {
        let (most, master, credentials) = match &dsn.servers {
            RedisServers::One(_) => (0, None, None),
            RedisServers::Sentinel {
                sentinels,
                master,
                credentials,
            } => (sentinels.len(), Some(master.as_str()), credentials.as_ref()),
            RedisServers::Cluster(_) => (1, None, dsn.credentials.as_ref()),
        };
        let nth = size(saved.nth);
        if nth < self.scouts.len() || nth >= most {
            return Err(SnapshotError::new(format!(
                "scout {nth} is out of order, or one too many"
            )));
        }
        let credentials: Option<Credentials> = credentials.cloned();
        let scout = Scout::restore(saved.scout, master, credentials, now)?;
        self.scouts.resize_with(nth, || None);
        self.scouts.push(Some(scout));
        Ok(())
    }

    /// Whether the masters are those that are named.
    fn check(&self, dsn: &RedisDsn) -> Result<(), SnapshotError> {
        let mut masters = self.masters.iter().flatten();
        let named = match (&self.discovery, &dsn.servers) {
            (Discovery::Sentinels(sentinels), _) => sentinels.master(),
            (_, RedisServers::One(address)) => Some(address),
            (Discovery::Cluster(cluster), _) => {
                let known = |id: &ShardId| self.master(*id).is_some();
                return if cluster.slots.shards().iter().all(known) {
                    Ok(())
                } else {
                    Err(SnapshotError::new("a slot of an unknown shard"))
                };
            }
            (Discovery::Nothing, _) => None,
        };
        let master = masters.next().map(|master| &master.address);
        if master == named && self.masters.len() <= 1 {
            Ok(())
        } else {
            Err(SnapshotError::new(
                "another master than the one that is named",
            ))
        }
    }

    /// The links that there should be.
    pub fn links(&self) -> Vec<LinkId> {
        let masters = (0..).zip(&self.masters).filter(|(_, it)| it.is_some());
        let masters = masters
            .flat_map(|(shard, _)| Duty::BOTH.map(|duty| LinkId::Master(ShardId(shard), duty)));
        let scouts = self.scouts.iter().enumerate();
        let scouts = scouts.filter(|(_, it)| it.is_some());
        masters
            .chain(scouts.map(|(nth, _)| LinkId::Scout(nth)))
            .collect()
    }

    /// Whether something was said on a link since it was opened.
    pub fn is_talking(&self, link: LinkId) -> bool {
        match link {
            LinkId::Master(id, duty) => self
                .master(id)
                .is_some_and(|it| it.dialogue.is_talking(duty)),
            LinkId::Scout(nth) => {
                let scout = self.scouts.get(nth).and_then(Option::as_ref);
                scout.is_some_and(Scout::is_talking)
            }
        }
    }
}

/// The channel whose subscription has ended, if that is the news.
fn unsubscribed(news: &News) -> Option<&str> {
    match news {
        News::Unsubscribed(channel) => Some(channel.as_str()),
        _ => None,
    }
}

fn discovery(saved: SavedGuide, dsn: &RedisDsn, now: Millis) -> Result<Discovery, SnapshotError> {
    Ok(match (saved, &dsn.servers) {
        (SavedGuide::Nothing, RedisServers::One(_)) => Discovery::Nothing,
        (SavedGuide::Sentinels(saved), RedisServers::Sentinel { sentinels, .. }) => {
            let sentinels: &[RedisAddress] = sentinels;
            Discovery::Sentinels(Box::new(Sentinels::restore(saved, sentinels, now)?))
        }
        (SavedGuide::Cluster(saved), RedisServers::Cluster(seeds)) => {
            let cluster = Cluster::restore(saved, seeds.clone(), dsn.tls, now)?;
            Discovery::Cluster(Box::new(cluster))
        }
        _ => {
            return Err(SnapshotError::new(
                "another kind of --broker-dsn: one redis, Sentinel and Cluster differ",
            ));
        }
    })
}
