//! What a snapshot holds of redis: a record that says of which redis, those of the topology, one for each link.
//!
//! Decision: a link over TLS is not handed over, because its keys are in the library's hands alone. It counts as broken when
//! the snapshot is restored, and what follows is what follows whenever a link breaks.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use minicbor::{Decode, Encode};
use mio::{Registry, Waker};

use super::redis_log::SavedRedisLog;
use super::saved_values::{SavedAddress, SavedLinkId, near, past};
use super::{LinkId, Redis, RedisSettings, Topology, target};
use crate::broker::link::{RedisLink, SavedLink};
use crate::broker::socket::RedisSocket;
use crate::clock::Millis;
use crate::config::{RedisAddress, RedisDsn, RedisServers};
use crate::log::Log;
use crate::snapshot::{RecordKind, SnapshotError, SnapshotReader, SnapshotWriter};

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedRedis {
    #[n(0)]
    servers: SavedServers,
    #[n(1)]
    redis_log: SavedRedisLog,
    /// Records of links, behind those of the topology.
    #[n(2)]
    links: u64,
    /// When it was saved.
    #[n(3)]
    at: Millis,
}

/// Which redis it is. With another one nothing of the rest would be true.
#[derive(Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct SavedServers {
    #[n(0)]
    addresses: Vec<SavedAddress>,
    /// What sentinels call it.
    #[n(1)]
    master: Option<String>,
    #[n(2)]
    tls: bool,
    #[n(3)]
    db: u32,
    #[n(4)]
    prefix: String,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedConnected<'b> {
    #[n(0)]
    id: SavedLinkId,
    #[n(1)]
    address: SavedAddress,
    #[b(2)]
    link: SavedLink<'b>,
}

impl SavedServers {
    fn new(dsn: &RedisDsn, prefix: &str) -> SavedServers {
        let (addresses, master) = match &dsn.servers {
            RedisServers::One(address) => (std::slice::from_ref(address), None),
            RedisServers::Sentinel {
                sentinels, master, ..
            } => (sentinels.as_slice(), Some(master.clone())),
            RedisServers::Cluster(seeds) => (seeds.as_slice(), None),
        };
        SavedServers {
            addresses: addresses.iter().map(SavedAddress::from).collect(),
            master,
            tls: dsn.tls,
            db: dsn.db,
            prefix: prefix.to_owned(),
        }
    }
}

impl Redis {
    /// The sockets that are handed over.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let links = self.links.iter();
        links.filter_map(|(_, connected)| connected.link.descriptor())
    }

    /// Writes redis' part of a snapshot. To be called between turns.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn save<W: Write>(&mut self, to: &mut SnapshotWriter<W>) -> io::Result<()> {
        for (_, connected) in &mut self.links {
            if let Some(out) = self.topology.out(connected.id) {
                connected.link.forget_sent(out);
            }
        }
        let saved = SavedRedis {
            servers: SavedServers::new(self.redis_log.dsn(), self.topology.prefix()),
            redis_log: self.redis_log.save(),
            links: self.links.len() as u64,
            at: self.turned,
        };
        to.write(RecordKind::Redis, &saved)?;
        self.topology.save(to)?;
        for (_, connected) in &self.links {
            let saved = SavedConnected {
                id: connected.id.into(),
                address: (&connected.link.target().address()).into(),
                link: connected.link.save(),
            };
            to.write(RecordKind::RedisLink, &saved)?;
        }
        Ok(())
    }

    /// Redis as it was saved, with the same settings. `sockets` gives the socket with a number, which is asked for once if
    /// the snapshot is right; `None`: the snapshot is only to be checked. `now` is on the clock that goes on.
    ///
    /// # Errors
    /// The records are of another redis, or contradict each other, or a socket is of no use.
    pub fn restore<R: Read>(
        settings: RedisSettings,
        waker: Arc<Waker>,
        log: Log,
        now: Millis,
        from: &mut SnapshotReader<R>,
        registry: &Registry,
        sockets: impl FnMut(u64) -> Result<Option<OwnedFd>, SnapshotError>,
    ) -> Result<Redis, SnapshotError> {
        let (dsn, prefix, seed) = (settings.dsn.clone(), settings.prefix.clone(), settings.seed);
        let record = from.read_kind(RecordKind::Redis)?;
        let saved: SavedRedis = record.decode()?;
        if saved.servers != SavedServers::new(&dsn, &prefix) {
            let problem = "another redis than --broker-dsn and --broker-prefix name";
            return Err(SnapshotError::new(problem));
        }
        let mut redis = Redis::new(settings, waker, log, now)
            .map_err(|e| SnapshotError::new(format!("--broker-dsn cannot be used: {e}")))?;
        let within = |error: SnapshotError| error.within(RecordKind::Redis);
        redis
            .redis_log
            .restore(saved.redis_log, now)
            .map_err(within)?;
        let (links, at) = (saved.links, past(saved.at, now).map_err(within)?);
        redis.topology = Topology::restore(&dsn, prefix, seed, from, now)?;
        match redis.restore_links(links, at, now, from, registry, sockets) {
            Ok(()) => Ok(redis),
            Err(error) => {
                // Its sockets stay open: another program may go on with them.
                std::mem::forget(redis);
                Err(error)
            }
        }
    }

    fn restore_links<R: Read>(
        &mut self,
        links: u64,
        at: Millis,
        now: Millis,
        from: &mut SnapshotReader<R>,
        registry: &Registry,
        mut sockets: impl FnMut(u64) -> Result<Option<OwnedFd>, SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut missing: BTreeSet<LinkId> = self.topology.links().into_iter().collect();
        let mut lost = Vec::new();
        for _ in 0..links {
            let record = from.read_kind(RecordKind::RedisLink)?;
            let saved: SavedConnected = record.decode()?;
            let within = |error: SnapshotError| error.within(RecordKind::RedisLink);
            let id = saved.id.into();
            if !missing.remove(&id) {
                return Err(within(SnapshotError::new("unknown link, or a duplicate")));
            }
            if saved.link.socket.is_none() && self.topology.is_talking(id) {
                lost.push(id);
            }
            let socket = saved.link.socket.map(&mut sockets).transpose()?.flatten();
            self.restore_link(id, saved, socket, registry, now)
                .map_err(within)?;
        }
        lost.extend(
            missing
                .into_iter()
                .filter(|id| self.topology.is_talking(*id)),
        );
        self.lose(&lost, at, now);
        Ok(())
    }

    fn restore_link(
        &mut self,
        id: LinkId,
        saved: SavedConnected,
        socket: Option<OwnedFd>,
        registry: &Registry,
        now: Millis,
    ) -> Result<(), SnapshotError> {
        let address: RedisAddress = saved.address.into();
        // A view may have changed which node is asked next, while a scout is still at another one.
        let free = self.topology.is_cluster() && matches!(id, LinkId::Scout(_));
        if !free && self.topology.address(id) != Some(&address) {
            return Err(SnapshotError::new(format!("unexpected server {address}")));
        }
        if saved.link.socket.is_some() && !self.topology.is_talking(id) {
            return Err(SnapshotError::new(
                "an open link on which no reply is awaited",
            ));
        }
        near(saved.link.until, now)?;
        past(saved.link.opened, now)?;
        let target = target(&address, self.tls.as_ref(), &self.waker)
            .map_err(|e| SnapshotError::new(format!("{address} cannot be used: {e}")))?;
        let target = Arc::new(target);
        let socket = socket.map(|socket| RedisSocket::restore(socket, &target));
        let resumed = self.insert(id, |token, seed| {
            let mut link = RedisLink::restore(target, token, seed, &saved.link);
            if let Some(socket) = socket {
                link.resume(socket?, saved.link.input, registry)?;
            }
            Ok(link)
        });
        resumed.map_err(|e: io::Error| {
            SnapshotError::new(format!("the socket to {address} cannot be used: {e}"))
        })
    }

    /// Links that were not handed over are broken since the snapshot was made.
    fn lose(&mut self, lost: &[LinkId], at: Millis, now: Millis) {
        if lost.is_empty() {
            return;
        }
        self.redis_log.not_handed_over(lost.len(), at);
        for id in lost {
            self.topology.closed(*id, now);
        }
        self.carry_out(now);
    }
}
