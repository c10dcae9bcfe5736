//! A connection in a snapshot.
//!
//! Owns: its fields, as the format has them. Knows: what follows from other facts, and is therefore not written. Never
//! knows: what its slot and its socket are.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Connection, Marks, StreamFault};
use crate::buffers::{Inbox, Outbox, RunNumbers, Runs, SavedOutbox};
use crate::clock::Millis;
use crate::connection::ending::SavedEnding;
use crate::connection::identity::{SavedIdentity, SharedStates, StateNumbers};
use crate::connection::peer::SavedPeer;
use crate::connection::phase::{Phase, SavedPhase};
use crate::connection::session::Session;
use crate::connection::{Ending, Identities, Limits, Peer, Stream};
use crate::snapshot::{SnapshotError, is_default};
use crate::wire::encoding::Encoding;

/// A connection.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedConnection {
    /// Its place among all.
    #[n(0)]
    pub slot: u32,
    /// By which the hub's owner finds its socket.
    #[n(1)]
    pub socket: u64,
    #[n(2)]
    serial: u64,
    #[n(3)]
    peer: SavedPeer,
    #[n(4)]
    phase: SavedPhase,
    #[n(5)]
    ending: Option<SavedEnding>,
    #[cbor(n(6), default, skip_if = "is_default")]
    over: bool,
    #[cbor(n(7), default, skip_if = "is_default")]
    relayed: bool,
    #[n(8)]
    inbox: Option<ByteVec>,
    #[n(9)]
    outbox: Option<SavedOutbox>,
    #[cbor(n(10), default, skip_if = "is_default")]
    hung_up: bool,
    #[n(11)]
    fault: Option<SavedStreamFault>,
    #[cbor(n(12), default, skip_if = "is_default")]
    asking: bool,
    #[cbor(n(13), default, skip_if = "is_default")]
    too_slow: bool,
    #[cbor(n(14), default, skip_if = "is_default")]
    stopping: bool,
    /// [`Encoding::index`].
    #[cbor(n(15), default, skip_if = "is_default")]
    encoding: u8,
    #[n(16)]
    identity: Option<SavedIdentity>,
}

/// What the poll has reported of a broken stream.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(index_only)]
enum SavedStreamFault {
    #[n(0)]
    Unknown,
    #[n(1)]
    ResetByPeer,
    #[n(2)]
    WriteAfterClose,
}

/// What saving a connection takes.
#[derive(Clone, Copy, Debug)]
pub struct SaveContext<'c> {
    pub runs: &'c RunNumbers,
    pub states: &'c StateNumbers,
    pub identities: &'c Identities,
    pub now: Millis,
}

/// What restoring a connection takes.
#[derive(Debug)]
pub struct RestoreContext<'c> {
    pub runs: &'c mut Runs,
    pub shared: &'c SharedStates,
    pub identities: &'c mut Identities,
    pub limits: Limits,
    pub now: Millis,
}

impl<S: Stream> Connection<S> {
    /// The connection in a snapshot. `slot` and `socket` pass through. What can be read and understood is not a fact: a
    /// restored connection tries to.
    pub fn save(&self, slot: u32, socket: u64, context: SaveContext) -> SavedConnection {
        let session = &self.session;
        let input = self.inbox.bytes();
        SavedConnection {
            slot,
            socket,
            serial: self.serial,
            peer: self.peer.save(),
            phase: session.phase.save(context.now),
            ending: session.ending.map(Ending::save),
            over: session.over,
            relayed: session.relayed,
            inbox: (!input.is_empty()).then(|| input.to_vec().into()),
            outbox: self.outbox.save(context.runs),
            hung_up: self.hung_up,
            fault: match self.fault {
                StreamFault::None => None,
                StreamFault::Unknown => Some(SavedStreamFault::Unknown),
                StreamFault::ResetByPeer => Some(SavedStreamFault::ResetByPeer),
                StreamFault::WriteAfterClose => Some(SavedStreamFault::WriteAfterClose),
            },
            asking: self.asking,
            too_slow: self.too_slow,
            stopping: self.stopping,
            encoding: self.encoding.index() as u8,
            identity: context.identities.save_one(self.identity, context.states),
        }
    }

    /// The hub's marks are those of a new connection: it makes them again. `stream` is called last, so that no error
    /// behind it closes the stream.
    ///
    /// # Errors
    /// It is malformed, or refers to what is not there. What it holds by then is still held.
    pub fn restore(
        saved: SavedConnection,
        stream: impl FnOnce() -> Result<S, SnapshotError>,
        context: &mut RestoreContext,
    ) -> Result<Connection<S>, SnapshotError> {
        let mut inbox = Inbox::default();
        if let Some(input) = saved.inbox {
            inbox.append(&input);
        }
        let (now, limits) = (context.now, &context.limits);
        let session = Session {
            phase: Phase::restore(saved.phase, inbox.len(), now, limits)?,
            ending: saved.ending.map(Ending::restore).transpose()?,
            over: saved.over,
            relayed: saved.relayed,
        };
        let identity = match saved.identity {
            Some(identity) => context.identities.restore_one(&identity, context.shared)?,
            None => Default::default(),
        };
        let outbox = match saved.outbox {
            Some(outbox) => Outbox::restore(outbox, context.runs)?,
            None => Outbox::default(),
        };
        let encoding = Encoding::restore(saved.encoding)?;
        Ok(Connection {
            stream: stream()?,
            serial: saved.serial,
            peer: Peer::restore(saved.peer),
            session,
            inbox,
            outbox,
            unread: true,
            hung_up: saved.hung_up,
            fault: match saved.fault {
                None => StreamFault::None,
                Some(SavedStreamFault::Unknown) => StreamFault::Unknown,
                Some(SavedStreamFault::ResetByPeer) => StreamFault::ResetByPeer,
                Some(SavedStreamFault::WriteAfterClose) => StreamFault::WriteAfterClose,
            },
            asking: saved.asking,
            starved: false,
            too_slow: saved.too_slow,
            stopping: saved.stopping,
            encoding,
            identity,
            marks: Marks::default(),
        })
    }
}

#[cfg(test)]
mod tests;
