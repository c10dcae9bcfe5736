//! A snapshot on its way in.

use std::io::{self, Read};

use minicbor::Decode;

use super::header::End;
use super::{RecordKind, SnapshotError, SnapshotHeader};

/// Bytes before the content of a record: its kind and its length.
const PREFIX: usize = 12;
/// A buffer for records up to this size is kept for the next one.
const USUAL: usize = 64 * 1024;

/// Reads a snapshot, record by record.
#[derive(Debug)]
pub struct SnapshotReader<R> {
    from: R,
    /// Bytes that have not been read.
    left: u64,
    content: Vec<u8>,
    /// Records that were read or skipped.
    records: u64,
    ended: bool,
    header: SnapshotHeader,
}

/// A record of a known kind.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    pub kind: RecordKind,
    pub(super) content: &'r [u8],
}

impl Record<'_> {
    /// Reads what [`super::SnapshotWriter::write`] has written.
    ///
    /// # Errors
    /// It is something else.
    pub fn decode<'r, T: Decode<'r, ()>>(&'r self) -> Result<T, SnapshotError> {
        let mut decoder = minicbor::Decoder::new(self.content);
        let decoded = decoder.decode().map_err(|error| {
            SnapshotError::new(format!("malformed content: {error}")).within(self.kind)
        })?;
        if decoder.position() == self.content.len() {
            Ok(decoded)
        } else {
            Err(SnapshotError::new("there is data after its end").within(self.kind))
        }
    }
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the header of a snapshot, which is `size` bytes long. `from` should have a buffer.
    ///
    /// # Errors
    /// It is not a snapshot, or one that this release cannot read.
    pub fn new(from: R, size: u64) -> Result<SnapshotReader<R>, SnapshotError> {
        let mut reader = SnapshotReader {
            from,
            left: size,
            content: Vec::new(),
            records: 0,
            ended: false,
            header: SnapshotHeader::new(0),
        };
        let (kind, length) = reader.prefix()?;
        if kind != RecordKind::Header.number() {
            return Err(SnapshotError::new(
                "not a snapshot: it begins with something else than a header",
            ));
        }
        let kind = RecordKind::Header;
        reader.header = reader.content(kind, length)?.decode()?;
        reader.header.check().map_err(|error| error.within(kind))?;
        Ok(reader)
    }

    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The next record of a known kind. `None`: the snapshot is read to its end.
    ///
    /// # Errors
    /// The snapshot is cut off, or longer than it says, or cannot be read.
    pub fn read_next(&mut self) -> Result<Option<Record<'_>>, SnapshotError> {
        while !self.ended {
            let before = self.records;
            let (number, length) = self.prefix()?;
            match RecordKind::numbered(number) {
                None => self.skip(length)?,
                Some(kind @ RecordKind::End) => {
                    let end: End = self.content(kind, length)?.decode()?;
                    if end.records != before || self.left > 0 {
                        let (records, left) = (end.records, self.left);
                        let problem = format!(
                            "expected {records} records, found {before}; bytes behind the last: {left}"
                        );
                        return Err(SnapshotError::new(problem).within(kind));
                    }
                    self.ended = true;
                }
                Some(kind @ RecordKind::Header) => {
                    return Err(SnapshotError::new("duplicate record").within(kind));
                }
                Some(kind) => return self.content(kind, length).map(Some),
            }
        }
        Ok(None)
    }

    /// The next record, which has to be of this kind.
    ///
    /// # Errors
    /// It is of another kind, or those of [`SnapshotReader::read_next`].
    pub fn read_kind(&mut self, kind: RecordKind) -> Result<Record<'_>, SnapshotError> {
        match self.read_next()? {
            Some(record) if record.kind == kind => Ok(record),
            Some(record) => {
                let problem = format!("expected here, but found {:?}", record.kind);
                Err(SnapshotError::new(problem).within(kind))
            }
            None => Err(SnapshotError::new("expected here, but the snapshot ends").within(kind)),
        }
    }

    /// The kind and the length of the next record.
    fn prefix(&mut self) -> Result<(u32, u64), SnapshotError> {
        let mut prefix = [0; PREFIX];
        self.left = self.left.checked_sub(PREFIX as u64).ok_or_else(cut_off)?;
        self.from.read_exact(&mut prefix).map_err(failed)?;
        let [a, b, c, d, length @ ..] = prefix;
        let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(length));
        self.records = self.records.saturating_add(1);
        Ok((kind, length))
    }

    fn content(&mut self, kind: RecordKind, length: u64) -> Result<Record<'_>, SnapshotError> {
        self.left = self.left.checked_sub(length).ok_or_else(cut_off)?;
        self.content.clear();
        self.content.shrink_to(USUAL);
        let mut content = (&mut self.from).take(length);
        let read = content.read_to_end(&mut self.content).map_err(failed)?;
        if read as u64 == length {
            Ok(Record {
                kind,
                content: &self.content,
            })
        } else {
            Err(cut_off())
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), SnapshotError> {
        self.left = self.left.checked_sub(length).ok_or_else(cut_off)?;
        let mut content = (&mut self.from).take(length);
        let skipped = io::copy(&mut content, &mut io::sink()).map_err(failed)?;
        if skipped == length {
            Ok(())
        } else {
            Err(cut_off())
        }
    }
}

fn cut_off() -> SnapshotError {
    SnapshotError::new("the snapshot is truncated")
}

fn failed(error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => cut_off(),
        _ => SnapshotError::new(format!("the snapshot cannot be read: {error}")),
    }
}
