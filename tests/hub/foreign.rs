//! A hub that is restored from any bytes, and then runs for a while. The fuzzer and the corpus use it.
//!
//! Whatever the bytes are, there is an error or a hub that works, and no panic.

use std::time::SystemTime;

use wsify::config::AuthorizerFailure;
use wsify::effect::{ConnId, Effect, Receipt, Verdict};
use wsify::hub::{EventSettings, FailurePolicy, Hub, Settings};
use wsify::metrics::Metrics;
use wsify::snapshot::{RecordKind, SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};
use wsify::wire::event::EventKinds;

use super::client::{frame, join};
use super::pipe::{Far, Pipe, pipe};
use super::rig::{Rig, settings};

/// Vacant slots take memory; a fuzzer would take all of it.
const SLOTS: u32 = 4_096;
/// A hub that does not come to rest in this many turns is left alone.
const TURNS: usize = 200;

/// What a connection's record says of its name.
#[derive(minicbor::Decode)]
#[cbor(map)]
struct Connected {
    #[n(0)]
    slot: u32,
    #[n(2)]
    serial: u64,
}

/// What a channel's record says of its place.
#[derive(minicbor::Decode)]
#[cbor(map)]
struct Indexed {
    #[n(0)]
    index: u32,
}

/// The settings with which snapshots are read: everything is switched on.
pub fn everything() -> Settings {
    Settings {
        authorizer: true,
        max_connections_per_ip: 100,
        max_message_rate: 100,
        compression: Some(1),
        events: Some(EventSettings {
            kinds: EventKinds::all(),
            queue: 100,
        }),
        failure: FailurePolicy {
            failure: AuthorizerFailure::Hold,
            ..FailurePolicy::default()
        },
        ..settings()
    }
}

/// The ids of the connections in a snapshot. `None`: it has slots that would take too much memory, or cannot be read.
fn connections(snapshot: &[u8]) -> Option<Vec<ConnId>> {
    let mut from = SnapshotReader::new(snapshot, snapshot.len() as u64).ok()?;
    let mut ids = Vec::new();
    while let Some(record) = from.read_next().ok()? {
        let number = match record.kind {
            RecordKind::Connection => {
                let Connected { slot, serial } = record.decode().ok()?;
                ids.push(ConnId {
                    slot,
                    generation: serial as u32,
                });
                slot
            }
            RecordKind::Channel => record.decode::<Indexed>().ok()?.index,
            _ => continue,
        };
        if number >= SLOTS {
            return None;
        }
    }
    Some(ids)
}

/// A hub that goes on from a snapshot with streams that are new.
pub fn restored(snapshot: &[u8]) -> Result<Rig, SnapshotError> {
    let unreadable = || SnapshotError::new("it cannot be read");
    let ids = connections(snapshot).ok_or_else(unreadable)?;
    let mut rig = Rig::with(everything());
    rig.hub.clock.now = 1 << 40;
    let mut from = SnapshotReader::new(snapshot, snapshot.len() as u64)?;
    let mut fars: Vec<Far> = Vec::new();
    let stream = |_| -> Result<Pipe, SnapshotError> {
        let (near, far) = pipe();
        fars.push(far);
        Ok(near)
    };
    rig.hub = Hub::restore(
        rig.settings.clone(),
        rig.hub.clock.clone(),
        Metrics::new(SystemTime::UNIX_EPOCH),
        rig.log.clone(),
        &mut from,
        stream,
    )?;
    rig.wires = ids.into_iter().zip(fars).collect();
    Ok(rig)
}

/// Lets a restored hub run, until all of its clients have gone.
pub fn run(rig: &mut Rig) {
    turns(rig);
    for (_, far) in rig.wires.clone() {
        far.send(&frame(0x81, join("c").as_bytes()));
    }
    rig.hub.clock.now += 30_000;
    turns(rig);
    let mut to = SnapshotWriter::new(Vec::new(), &SnapshotHeader::new(0)).expect("memory");
    rig.hub.save(&mut to, Pipe::number).expect("memory");
    for (_, far) in rig.wires.clone() {
        far.reset();
    }
    rig.hub.clock.now += 100_000;
    turns(rig);
}

fn turns(rig: &mut Rig) {
    for _ in 0..TURNS {
        rig.tick();
        for question in std::mem::take(&mut rig.questions) {
            rig.send_verdict(&question, Verdict::Allow, None);
        }
        for effect in std::mem::take(&mut rig.effects) {
            match effect {
                Effect::Publish(publication) => {
                    rig.hub.receipt(publication.from, Receipt::Confirmed);
                }
                Effect::Subscribe(it) => rig.hub.subscribed(it.id, Receipt::Confirmed),
                _ => {}
            }
        }
        if !rig.has_work() {
            return;
        }
    }
}

/// Restores a hub from `bytes`, if that is possible, and lets it run.
pub fn play(bytes: &[u8]) {
    if let Ok(mut rig) = restored(bytes) {
        run(&mut rig);
    }
}
