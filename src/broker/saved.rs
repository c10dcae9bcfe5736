//! What a snapshot holds of the broker: which driver there is, and what that one saves.

use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use minicbor::{Decode, Encode};
use mio::{Registry, Waker};

use super::Broker;
use super::redis::{Redis, RedisSettings};
use crate::clock::Millis;
use crate::log::Log;
use crate::snapshot::{RecordKind, SnapshotError, SnapshotReader, SnapshotWriter};

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedBroker {
    #[n(0)]
    driver: SavedDriver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
enum SavedDriver {
    #[n(0)]
    Memory,
    #[n(1)]
    Redis,
}

impl Broker {
    /// The sockets that have to stay open, and keep their numbers, while the program is replaced.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.redis().into_iter().flat_map(Redis::descriptors)
    }

    /// Saves it, between two turns of the loop and behind a [`Broker::flush`]. It can go on afterwards.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn save<W: Write>(&mut self, to: &mut SnapshotWriter<W>) -> io::Result<()> {
        let driver = match self {
            Broker::Memory => SavedDriver::Memory,
            Broker::Redis(_) => SavedDriver::Redis,
        };
        to.write(RecordKind::Broker, &SavedBroker { driver })?;
        match self {
            Broker::Memory => Ok(()),
            Broker::Redis(redis) => redis.save(to),
        }
    }

    /// A broker as it was saved, with the same settings; `None`: those of the memory broker. `sockets` gives the socket
    /// with a number, which is asked for once if the snapshot is right; `None`: the snapshot is only to be checked. `now` is
    /// the time on the clock that goes on, at which or after which it was saved.
    ///
    /// # Errors
    /// The records are of another broker, or contradict each other, or a socket is of no use.
    pub fn restore<R: Read>(
        settings: Option<RedisSettings>,
        waker: Arc<Waker>,
        log: Log,
        now: Millis,
        from: &mut SnapshotReader<R>,
        registry: &Registry,
        sockets: impl FnMut(u64) -> Result<Option<OwnedFd>, SnapshotError>,
    ) -> Result<Broker, SnapshotError> {
        let saved: SavedBroker = from.read_kind(RecordKind::Broker)?.decode()?;
        match (saved.driver, settings) {
            (SavedDriver::Memory, None) => Ok(Broker::Memory),
            (SavedDriver::Redis, Some(settings)) => {
                let redis = Redis::restore(settings, waker, log, now, from, registry, sockets)?;
                Ok(Broker::Redis(Box::new(redis)))
            }
            _ => Err(SnapshotError::new(
                "another broker than --broker-driver names",
            )),
        }
    }
}
