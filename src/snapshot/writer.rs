//! A snapshot on its way out.

use std::io::{self, Write};

use minicbor::Encode;

use super::header::End;
use super::{RecordKind, SnapshotHeader};

/// A buffer for records up to this size is kept for the next one.
const USUAL: usize = 64 * 1024;

/// Writes a snapshot, record by record.
#[derive(Debug)]
pub struct SnapshotWriter<W> {
    to: W,
    record: Vec<u8>,
    records: u64,
}

impl<W: Write> SnapshotWriter<W> {
    /// Begins a snapshot. Each record takes two writes: `to` should have a buffer.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(to: W, header: &SnapshotHeader) -> io::Result<SnapshotWriter<W>> {
        let mut writer = SnapshotWriter {
            to,
            record: Vec::new(),
            records: 0,
        };
        writer.write(RecordKind::Header, header)?;
        Ok(writer)
    }

    /// Appends a record.
    ///
    /// # Errors
    /// Those of the underlying writer. What was written is then of no use.
    pub fn write(&mut self, kind: RecordKind, saved: &impl Encode<()>) -> io::Result<()> {
        self.record.clear();
        minicbor::encode(saved, &mut self.record).map_err(io::Error::other)?;
        let length = self.record.len() as u64;
        let [a, b, c, d] = kind.number().to_le_bytes();
        let [e, f, g, h, i, j, k, l] = length.to_le_bytes();
        self.to.write_all(&[a, b, c, d, e, f, g, h, i, j, k, l])?;
        self.to.write_all(&self.record)?;
        self.records = self.records.saturating_add(1);
        self.record.shrink_to(USUAL);
        Ok(())
    }

    /// Ends the snapshot.
    ///
    /// # Errors
    /// Those of the underlying writer.
    pub fn finish(mut self) -> io::Result<W> {
        let records = self.records;
        self.write(RecordKind::End, &End { records })?;
        self.to.flush()?;
        Ok(self.to)
    }
}
