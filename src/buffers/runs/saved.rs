//! Runs in a snapshot: each once, whatever holds it.
//!
//! Owns: the numbers by which outboxes and audiences refer to them. Never knows: what holds a run.

use std::io::{self, Write};

use minicbor::{Decode, Encode};

use super::{Run, Runs};
use crate::buffers::slice::Slice;
use crate::snapshot::{RecordKind, SnapshotError, SnapshotWriter};

/// A run. Its number is how many were before it.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedRun<'r> {
    #[cbor(n(0), with = "minicbor::bytes")]
    bytes: &'r [u8],
}

/// A stretch of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SavedSlice {
    /// The run's number.
    #[n(0)]
    run: u32,
    #[n(1)]
    from: u32,
    #[n(2)]
    to: u32,
}

/// The numbers of all runs in a snapshot.
#[derive(Debug)]
pub struct RunNumbers {
    /// By the run's index.
    numbers: Vec<u32>,
}

/// The number of what is not a run: a reader refuses it.
const NO_RUN: u32 = u32::MAX;

impl RunNumbers {
    /// A stretch, as the snapshot names it.
    pub fn slice(&self, slice: Slice) -> SavedSlice {
        let number = self.numbers.get(slice.run as usize).copied();
        SavedSlice {
            run: number.unwrap_or(NO_RUN),
            from: slice.from,
            to: slice.to,
        }
    }
}

impl Runs {
    /// Writes a record for each run.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn save(&self, to: &mut SnapshotWriter<impl Write>) -> io::Result<RunNumbers> {
        let mut numbers = Vec::new();
        for (number, (index, run)) in self.live.iter().enumerate() {
            to.write(RecordKind::Run, &SavedRun { bytes: &run.bytes })?;
            numbers.resize(index, NO_RUN);
            numbers.push(number as u32);
        }
        Ok(RunNumbers { numbers })
    }

    /// Appends a run, which is held until [`Runs::end_restore`]. Nothing is to be released before that: a run's index is
    /// its number.
    ///
    /// # Errors
    /// It is longer than a slice can say, or there are more than can be numbered.
    pub fn restore(&mut self, saved: &SavedRun) -> Result<(), SnapshotError> {
        let bytes = saved.bytes.to_vec();
        if u32::try_from(bytes.len()).is_err() || self.live.len() >= NO_RUN as usize {
            return Err(SnapshotError::new(
                "too long, or too many records of this kind",
            ));
        }
        self.held += bytes.len();
        self.begun += 1;
        self.live.insert(Run {
            bytes,
            holders: 1,
            serial: self.begun,
        });
        Ok(())
    }

    /// The stretch that a snapshot names. It is not held yet.
    ///
    /// # Errors
    /// There is no such run, or it has no such stretch.
    pub fn restored(&self, saved: &SavedSlice) -> Result<Slice, SnapshotError> {
        let SavedSlice { run, from, to } = *saved;
        let len = self.live.get(run as usize).map(|run| run.bytes.len());
        match len {
            Some(len) if from <= to && to as usize <= len => Ok(Slice { run, from, to }),
            Some(len) => Err(SnapshotError::new(format!(
                "bytes {from} to {to} of run {run}, which has {len}"
            ))),
            None => Err(SnapshotError::new(format!("there is no run {run}"))),
        }
    }

    /// All that holds runs is restored: those that nothing holds go.
    pub fn end_restore(&mut self) {
        let restored: Vec<usize> = self.live.iter().map(|(index, _)| index).collect();
        for index in restored {
            self.release(index as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::{Outbox, SavedOutbox};
    use crate::snapshot::{SnapshotHeader, SnapshotReader};

    fn with_runs(texts: &[&str]) -> (Runs, Vec<Slice>) {
        let mut runs = Runs::default();
        let slices = texts.iter().map(|text| {
            let (run, _) = runs.begin();
            runs.append(run, |bytes| bytes.extend_from_slice(text.as_bytes()));
            let to = text.len() as u32;
            Slice { run, from: 0, to }
        });
        let slices = slices.collect();
        (runs, slices)
    }

    fn saved(runs: &Runs) -> (Vec<u8>, RunNumbers) {
        let mut to = SnapshotWriter::new(Vec::new(), &SnapshotHeader::new(0)).unwrap();
        let numbers = runs.save(&mut to).unwrap();
        (to.finish().unwrap(), numbers)
    }

    fn restored(snapshot: &[u8]) -> Runs {
        let mut from = SnapshotReader::new(snapshot, snapshot.len() as u64).unwrap();
        let mut runs = Runs::default();
        while let Some(record) = from.read_next().unwrap() {
            runs.restore(&record.decode().unwrap()).unwrap();
        }
        runs
    }

    #[test]
    fn a_run_is_saved_once_however_many_outboxes_hold_it() {
        let (mut before, slices) = with_runs(&["gone", "first", "gone too", "second"]);
        before.release(slices[0].run);
        before.release(slices[2].run);
        let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::default()).collect();
        for outbox in &mut outboxes {
            outbox.share(slices[3], &mut before);
            outbox.own(|out| out.extend_from_slice(b"own"));
            let part = Slice {
                from: 2,
                ..slices[1]
            };
            outbox.share(part, &mut before);
        }
        let (snapshot, numbers) = saved(&before);
        assert!(snapshot.len() < 150, "{}", snapshot.len());
        let mut after = restored(&snapshot);
        let mut sent = Vec::new();
        for outbox in &outboxes {
            let saved = minicbor::to_vec(outbox.save(&numbers).unwrap()).unwrap();
            let saved: SavedOutbox = minicbor::decode(&saved).unwrap();
            let mut outbox = Outbox::restore(saved, &mut after).unwrap();
            assert_eq!(outbox.len(), 12);
            outbox.flush(&mut sent, &mut after);
        }
        after.end_restore();
        assert_eq!(sent, "secondownrst".repeat(100).as_bytes());
        assert_eq!((after.live(), after.held), (0, 0));
    }

    #[test]
    fn a_stretch_that_is_in_no_run_is_refused() {
        let (runs, slices) = with_runs(&["hello", ""]);
        let (snapshot, numbers) = saved(&runs);
        let restored = restored(&snapshot);
        assert_eq!(restored.restored(&numbers.slice(slices[0])), Ok(slices[0]));
        let unknown = Slice {
            run: 7,
            ..slices[0]
        };
        let number = numbers.slice(unknown);
        for (run, from, to) in [
            (0, 0, 6),
            (0, 3, 2),
            (0, u32::MAX, 0),
            (1, 0, 1),
            (2, 0, 0),
            (number.run, 0, 0),
        ] {
            let saved = SavedSlice { run, from, to };
            assert!(restored.restored(&saved).is_err(), "{saved:?}");
        }
    }
}
