//! Fuzzing: what must hold for any snapshot of redis. The target in `fuzz/` and the replayed corpus call it.

#![expect(clippy::expect_used, reason = "a broken promise is to panic")]

use super::*;
use crate::effect::{ConnId, Publication, PublishedBy, Subscription, SubscriptionId};
use crate::snapshot::{SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::wire::channel_name::ChannelName;

/// When a snapshot is restored.
const NOW: Millis = 100_000;

/// Panics if a promise is broken. The first byte chooses how redis is configured, and the rest is a snapshot.
pub fn fuzz(bytes: &[u8]) {
    let Some((choice, snapshot)) = bytes.split_first() else {
        return;
    };
    let dsn = dsn(*choice);
    let Ok(mut topology) = restored(&dsn, snapshot) else {
        return;
    };
    play(&mut topology);
    while topology.order().is_some() {}
    while topology.notice().is_some() {}
    // What goes on can be handed over again.
    let header = SnapshotHeader::new(0);
    let mut writer = SnapshotWriter::new(Vec::new(), &header).expect("memory");
    topology.save(&mut writer).expect("memory");
    let snapshot = writer.finish().expect("memory");
    restored(&dsn, &snapshot).expect("its own snapshot");
}

fn dsn(choice: u8) -> RedisDsn {
    let at = |port| RedisAddress::Tcp {
        host: "h".to_owned(),
        port,
    };
    let servers = match choice % 3 {
        0 => RedisServers::One(at(6_379)),
        1 => RedisServers::Sentinel {
            sentinels: vec![at(1), at(2)],
            master: "mymaster".to_owned(),
            credentials: None,
        },
        _ => RedisServers::Cluster(vec![at(1), at(2)]),
    };
    RedisDsn {
        servers,
        tls: false,
        credentials: None,
        db: 0,
        unused: Vec::new(),
    }
}

fn restored(dsn: &RedisDsn, bytes: &[u8]) -> Result<Topology, SnapshotError> {
    let mut reader = SnapshotReader::new(bytes, bytes.len() as u64)?;
    Topology::restore(dsn, String::new(), 1, &mut reader, NOW)
}

/// Some time passes, replies come, links break, and something is to be said.
fn play(topology: &mut Topology) {
    topology.turn(NOW);
    let channel = || ChannelName::checked("a");
    topology.publish(
        Publication {
            from: PublishedBy::Connection(ConnId {
                slot: 1,
                generation: 1,
            }),
            since: NOW,
            channel: channel(),
            content: b"1".as_slice().into(),
        },
        NOW,
    );
    let id = SubscriptionId {
        channel: 1,
        serial: 1,
    };
    let channel = channel();
    topology.subscribe(Subscription { id, channel }, NOW);
    topology.finish(NOW);
    for (nth, link) in topology.links().into_iter().enumerate() {
        for reply in ["+OK\r\n", ":1\r\n", "-MOVED 15495 h:3\r\n"] {
            let _ = topology.handle_reply(link, reply.as_bytes(), NOW);
        }
        let _ = topology.tick(link, NOW);
        if nth.is_multiple_of(2) {
            topology.closed(link, NOW);
        }
    }
    topology.next_deadline();
    topology.turn(NOW);
    topology.finish(NOW);
}
