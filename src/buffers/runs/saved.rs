//! Runs in a snapshot: each once, whatever holds it.
//!
//! Owns: the numbers by which outboxes and audiences refer to them. Never knows: what holds a run.

use std::io::{self, Write};

use minicbor::{Decode, Encode};

use super::{Run, Runs, Slice};
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

/// The number of what is no run: a reader refuses it.
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
            return Err(SnapshotError::new("there is too much of it"));
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
