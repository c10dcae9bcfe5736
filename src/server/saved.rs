//! What a snapshot holds of the process: descriptors, listeners, the batch of events under way, a stop under way, the log.
//! It is the first record. Those of the broker and of the hub follow.
//!
//! Owns: the order of the parts. Knows: each part's own way to be saved. Never knows: what is in it.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::Server;
use crate::clock::Millis;
use crate::events::SavedEventSender;
use crate::handover::{SnapshotFile, keep, monotonic};
use crate::listener::{Listener, SavedListener};
use crate::log::SavedLog;
use crate::snapshot::{RecordKind, SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};

/// Bytes that are written to the snapshot's file at once.
const PIECE: usize = 256 * 1024;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedProcess {
    /// Where the program was started from.
    #[n(0)]
    pub path: Option<ByteVec>,
    /// The numbers of all descriptors that are handed over.
    #[cbor(n(1), default)]
    pub descriptors: Vec<i32>,
    #[cbor(n(2), default)]
    pub listeners: Vec<SavedListener>,
    /// This process's random name.
    #[n(3)]
    pub node: u64,
    /// The batch of events under way, if they have a receiver.
    #[n(4)]
    pub events: Option<SavedEventSender>,
    /// When a graceful stop under way ends.
    #[n(5)]
    pub stop_at: Option<Millis>,
    #[cbor(n(6), default)]
    pub log: SavedLog,
}

impl SavedProcess {
    /// Reads it: the first record.
    ///
    /// # Errors
    /// It is missing, or malformed.
    pub fn read<R: Read>(from: &mut SnapshotReader<R>) -> Result<SavedProcess, SnapshotError> {
        from.read_kind(RecordKind::Process)?.decode()
    }
}

impl Server {
    /// Writes a snapshot, and seals it. Returns its size too.
    ///
    /// # Errors
    /// There is no memory or no descriptor left. The server is as it was, but for the log: what waited there is in
    /// `log`.
    pub(super) fn write_snapshot(&mut self, log: SavedLog) -> (io::Result<(File, u64)>, SavedLog) {
        let process = self.save_process(log);
        let written = self.write(&process);
        (written, process.log)
    }

    fn write(&mut self, process: &SavedProcess) -> io::Result<(File, u64)> {
        let begun = monotonic().saturating_sub(self.started.elapsed());
        let header = SnapshotHeader::new(begun.as_nanos() as u64);
        let file = BufWriter::with_capacity(PIECE, SnapshotFile::create()?);
        let mut to = SnapshotWriter::new(file, &header)?;
        to.write(RecordKind::Process, process)?;
        self.broker.save(&mut to)?;
        let number = |socket: &_| AsFd::as_fd(socket).as_raw_fd() as u64;
        self.hub.save(&mut to, number)?;
        to.finish()?.into_inner()?.seal()
    }

    fn save_process(&self, log: SavedLog) -> SavedProcess {
        let listeners = self.acceptor.listeners().iter();
        let path = self.handover.path();
        SavedProcess {
            path: path.map(|path| path.as_os_str().as_bytes().to_vec().into()),
            descriptors: self.descriptors().map(|fd| fd.as_raw_fd()).collect(),
            listeners: listeners.map(Listener::save).collect(),
            node: self.node,
            events: self.events.as_ref().map(|events| events.save()),
            stop_at: self.stop_at,
            log,
        }
    }

    /// All that has to stay open, and keep its number, while the program is replaced.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listeners = self.acceptor.listeners().iter();
        let connections = self.hub.streams();
        listeners
            .map(AsFd::as_fd)
            .chain(self.broker.descriptors())
            .chain(connections.map(|(_, socket)| socket.as_fd()))
    }

    /// Sets whether all of that stays open.
    ///
    /// # Errors
    /// The kernel refuses, which it should not.
    pub(super) fn keep_descriptors(&self, kept: bool) -> io::Result<()> {
        for descriptor in self.descriptors() {
            keep(descriptor, kept)?;
        }
        Ok(())
    }
}
