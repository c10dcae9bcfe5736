//! A connection's fields, and what it can be asked.
//!
//! Owns: the fields, and the marks that the hub keeps on it. Knows: its whole state. Never knows: how its bytes are
//! read and written ([`super::traffic`]).

use super::phase::Evictable;
use super::session::Session;
use super::websocket;
use super::{Ending, Identity, Limits, Peer, Stream};
use crate::buffers::{Inbox, Outbox, Runs};
use crate::clock::{Clock, Millis};
use crate::wire::command::Command;
use crate::wire::encoding::Encoding;

mod saved;

pub use saved::{RestoreContext, SaveContext, SavedConnection};

#[derive(Debug)]
pub struct Connection<S> {
    pub(super) stream: S,
    /// Which connection this is since the server's start.
    pub(super) serial: u64,
    /// The other end; of a WebSocket, the client that a proxy there has named.
    pub(super) peer: Peer,
    pub(super) session: Session,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    /// The kernel may have bytes that were not read.
    pub(super) unread: bool,
    /// The other side sends no more than what the kernel has.
    pub(super) hung_up: bool,
    fault: StreamFault,
    /// The authorizer is being asked about it.
    pub(super) asking: bool,
    /// More bytes are needed before anything can be read.
    pub(super) starved: bool,
    /// More was queued for it than may wait.
    pub(super) too_slow: bool,
    /// It is to be closed because the server stops, once the open question is answered.
    pub(super) stopping: bool,
    pub(super) encoding: Encoding,
    pub(super) identity: Identity,
    pub(super) marks: Marks,
}

/// Whether the poll has reported a broken stream, and the reason as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamFault {
    None,
    Unknown,
    /// The peer has reset it.
    ResetByPeer,
    /// The peer had closed it in order, and something was sent to it later.
    WriteAfterClose,
}

/// The hub's marks on a connection, so that it need not search its lists. The connection only stores them.
#[derive(Debug, Default)]
pub struct Marks {
    /// The step of the deadline wheel in which its valid entry lies; 0 means none.
    pub alarm: u32,
    /// It is in the list of those to be flushed.
    pub dirty: bool,
    /// It is in the list of those that have work but no edge to come.
    pub again: bool,
    /// It is in the list of those to be dropped.
    pub to_drop: bool,
    /// What it is counted as.
    pub standing: Standing,
}

/// What a connection counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// A stop would not disturb it: it is over, or waits for a request that has not begun.
    #[default]
    Idle,
    /// A request is under way, or an end.
    Busy,
    /// It is a WebSocket, or an upgrade is under way.
    WebSocket,
}

/// There may be a million of them. (The stream is a descriptor, four bytes.)
const _: () = assert!(size_of::<Connection<u32>>() <= 104);

impl<S: Stream> Connection<S> {
    pub fn new(stream: S, peer: Peer, serial: u64, now: Millis) -> Self {
        Connection {
            stream,
            serial,
            peer,
            session: Session::new(now),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            unread: false,
            hung_up: false,
            fault: StreamFault::None,
            asking: false,
            starved: true,
            too_slow: false,
            stopping: false,
            encoding: Encoding::Raw,
            identity: Identity::default(),
            marks: Marks::default(),
        }
    }

    pub fn stream_ref(&self) -> &S {
        &self.stream
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The connection's serial number, unique since the server's start.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Distinguishes this connection from others in its slot: the low half of its serial number.
    pub fn generation(&self) -> u32 {
        self.serial as u32
    }

    pub fn marks(&mut self) -> &mut Marks {
        &mut self.marks
    }

    /// The client: of a WebSocket or an upgrade under way, the one that a proxy has named.
    pub fn client(&self) -> Peer {
        self.session.phase().upgrading().unwrap_or(self.peer)
    }

    /// Sets the client that the peer has named by the PROXY protocol.
    pub fn introduce(&mut self, client: Peer) {
        self.peer = client;
    }

    /// Expects a header of the PROXY protocol before anything else.
    pub fn expect_proxy(&mut self) {
        self.session.expect_proxy();
    }

    /// Whether the peer is a program on this machine, and no proxy.
    pub fn is_local(&self) -> bool {
        self.peer.is_local() && !self.session.is_relayed()
    }

    /// The encoding in which it is sent what is broadcast.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The query and state that questions about it show.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Notes that the poll has reported something to read; `closed`: that it is the last; `reset`: that the stream is
    /// broken.
    pub fn readable(&mut self, closed: bool, reset: bool) {
        self.unread = true;
        self.hung_up |= closed;
        if reset && self.fault == StreamFault::None {
            self.fault = StreamFault::Unknown;
        }
    }

    /// Whether the other side sends no more than what the kernel has.
    pub fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Whether the stream is broken.
    pub fn is_broken(&self) -> bool {
        self.fault != StreamFault::None
    }

    /// Whether the peer has reset the stream, and not only ended it. The kernel is asked once, and only when it
    /// matters: it then clears the error, which a read would have found.
    pub fn was_reset(&mut self) -> bool {
        if self.fault == StreamFault::Unknown {
            self.fault = if self.stream.was_reset() {
                StreamFault::ResetByPeer
            } else {
                StreamFault::WriteAfterClose
            };
        }
        self.fault == StreamFault::ResetByPeer
    }

    /// Whether the authorizer is being asked about it.
    pub fn is_asking(&self) -> bool {
        self.asking
    }

    /// Notes whether the authorizer is being asked about it. Returns whether it was.
    pub fn set_asking(&mut self, asking: bool) -> bool {
        std::mem::replace(&mut self.asking, asking)
    }

    /// Whether an answer of the authorizer still has an effect.
    pub fn awaits_verdict(&self) -> bool {
        self.session.awaits_verdict()
    }

    /// Whether its question is held.
    pub fn is_held(&self) -> bool {
        self.session.is_held()
    }

    /// Notes that the connection's question is held.
    pub fn hold(&mut self, now: Millis) {
        self.session.hold(now);
        self.starved = false;
    }

    /// Whether its question is held, and something may be there that can be heard nevertheless.
    pub fn answers_pings(&self) -> bool {
        let readable = !self.starved || self.unread && !self.has_message();
        readable && self.session.is_open() && self.session.is_held()
    }

    /// Whether more than pings and pongs has come and was not understood: a message, or what is malformed.
    pub fn has_message(&self) -> bool {
        let first = self.inbox.first();
        first.is_some_and(|first| !websocket::begins_control(first, self.inbox.len()))
    }

    /// The command that waits for an answer, and its message.
    pub fn command(&self) -> Option<(&Command, &[u8])> {
        self.session.phase().command()
    }

    /// Notes that the poll has reported room for sending. Returns whether something waits for that.
    #[inline(always)]
    pub fn writable(&mut self) -> bool {
        let blocked = self.outbox.is_blocked();
        if blocked {
            self.outbox.unblock();
        }
        blocked
    }

    /// Whether the kernel may have bytes that were not read.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Whether more bytes are needed before anything can be read.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether input would be read: not while it waits for an answer, nor while earlier answers wait to be sent.
    pub fn is_listening(&self) -> bool {
        self.session.is_listening() && !(self.session.is_http() && self.outbox.is_blocked())
    }

    /// Whether an upgrade of it is under way.
    pub fn is_upgrading(&self) -> bool {
        self.session.phase().upgrading().is_some()
    }

    /// Whether it is an open WebSocket.
    pub fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Whether nothing is left to send or receive.
    pub fn is_over(&self) -> bool {
        self.session.is_over()
    }

    /// Whether a command waits for an answer.
    pub fn is_command_suspended(&self) -> bool {
        self.session.is_command_suspended()
    }

    /// Whether more was queued for it than may wait.
    pub fn is_too_slow(&self) -> bool {
        self.too_slow
    }

    /// Why it ends, once it does.
    pub fn ending(&self) -> Option<Ending> {
        self.session.ending()
    }

    /// Whether it is an HTTP connection without a request that waits for an answer.
    pub fn is_unused(&self) -> bool {
        self.session.is_http() && !self.session.phase().has_request()
    }

    /// Bytes that have come from it and wait.
    pub fn waiting_in(&self) -> usize {
        self.inbox
            .len()
            .saturating_add(self.session.phase().buffered())
    }

    /// Bytes that wait to be sent to it.
    pub fn waiting_out(&self) -> usize {
        self.outbox.len()
    }

    /// Whether a flush would have an effect.
    pub fn wants_flush(&self) -> bool {
        let unsent = !self.outbox.is_empty() || self.session.is_finishing();
        unsent && !self.outbox.is_blocked()
    }

    /// Whether a turn would have an effect although the poll will report nothing.
    pub fn has_work(&self) -> bool {
        self.is_listening() && (self.unread || !self.starved) || self.answers_pings()
    }

    /// What it counts as now.
    pub fn standing(&self) -> Standing {
        let session = &self.session;
        if session.is_over() {
            Standing::Idle
        } else if session.is_websocket() {
            Standing::WebSocket
        } else if self.is_unused() && !self.has_work() && self.outbox.is_empty() {
            Standing::Idle
        } else {
            Standing::Busy
        }
    }

    /// Brings the sums in `runs` up to date with what waits to be sent.
    pub fn count(&mut self, runs: &mut Runs) {
        self.outbox.count(runs);
    }

    /// The deadline at which to check it, if nothing happens before.
    pub fn deadline(&self, now: Millis, limits: &Limits) -> Option<Millis> {
        self.session.deadline(now, limits)
    }

    /// Does what is due, if its deadline has passed.
    pub fn expire(&mut self, clock: &Clock, limits: &Limits) {
        let deadline = self.session.deadline(clock.now, limits);
        if deadline.is_some_and(|at| at <= clock.now) {
            // What was sent in time is read first, however busy the loop is.
            if self.session.is_http() && self.has_work() {
                return;
            }
            // Its pong may lie behind what waits to be read.
            if self.session.is_held() && self.has_message() || self.has_work() {
                self.session.reset_ping();
            }
            self.session.expire(&mut self.outbox, clock, limits);
        }
    }

    /// Whether it may be evicted.
    pub fn evictable(&self, now: Millis) -> Evictable {
        match self.session.evictable(now) {
            Evictable::Yes if self.has_work() || !self.outbox.is_empty() => Evictable::IfNeeded,
            evictable => evictable,
        }
    }
}
