//! A hub that is replaced: a snapshot is made, and another hub goes on from it, with the same streams.
//!
//! Owns: the checks that hold for every handover. A snapshot of the restored hub is the same, byte for byte: so no part of it
//! reads less than it writes.

use std::time::SystemTime;

use wsify::hub::{Hub, Inventory};
use wsify::metrics::Metrics;
use wsify::snapshot::{RecordKind, SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};

use crate::facts::{with_nothing_of, without};
use crate::pipe::Pipe;
use crate::rig::Rig;
use crate::snapshots;

/// The records of a snapshot, as text.
fn shown(mut snapshot: &[u8]) -> Vec<String> {
    let mut records = Vec::new();
    while let Some((kind, rest)) = snapshot.split_first_chunk::<4>() {
        let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
        let (content, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let kind = u32::from_le_bytes(*kind);
        let name = RecordKind::numbered(kind).map_or("?".to_owned(), |kind| format!("{kind:?}"));
        records.push(format!("{name} {}", minicbor::display(content)));
        snapshot = rest;
    }
    records
}

impl Rig {
    /// Everything that the hub holds.
    pub fn snapshot(&mut self) -> Vec<u8> {
        let header = SnapshotHeader::new(0);
        let mut to = SnapshotWriter::new(Vec::new(), &header).expect("memory");
        self.hub.save(&mut to, Pipe::number).expect("memory");
        to.finish().expect("memory")
    }

    /// A hub that goes on from a snapshot, with the same streams.
    pub fn restored(&self, snapshot: &[u8]) -> Result<Hub<Pipe>, SnapshotError> {
        let mut from = SnapshotReader::new(snapshot, snapshot.len() as u64)?;
        let stream = |number| {
            let mut wires = self.wires.iter().map(|(_, far)| far);
            let far = wires.find(|far| far.number() == number && !far.is_dropped());
            let far = far.ok_or_else(|| SnapshotError::new("there is no such stream"))?;
            Ok(far.hand_over())
        };
        Hub::restore(
            self.settings.clone(),
            self.hub.clock.clone(),
            Metrics::new(SystemTime::now()),
            self.log.clone(),
            &mut from,
            stream,
        )
    }

    /// Replaces the hub by one that knows nothing of it but a snapshot.
    pub fn hand_over(&mut self) {
        let snapshot = self.snapshot();
        snapshots::keep(&snapshot);
        // Blocked connections are counted when something is sent.
        let inventory = |hub: &Hub<Pipe>| Inventory {
            laggards: 0,
            ..hub.inventory()
        };
        let before = inventory(&self.hub);
        let restored = match &self.forgotten {
            None => self.restored(&snapshot),
            Some(fact) => {
                let missing = Some(without(&snapshot, fact)).filter(|it| *it != snapshot);
                let missing = missing.and_then(|snapshot| self.restored(&snapshot).ok());
                let empty = || self.restored(&with_nothing_of(&snapshot, fact));
                missing.map_or_else(empty, Ok)
            }
        };
        self.hub = restored.expect("a snapshot");
        assert_eq!(inventory(&self.hub), before);
        if self.forgotten.is_some() {
            return;
        }
        let again = self.snapshot();
        if again != snapshot {
            let (before, after) = (shown(&snapshot), shown(&again));
            let differing = before.iter().zip(&after).find(|(one, other)| one != other);
            let lengths = (before.len(), after.len());
            panic!("a snapshot of the same facts differs: {differing:?} {lengths:?}");
        }
    }
}
