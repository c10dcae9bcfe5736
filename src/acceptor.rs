//! Accepting: which listeners have connections to accept, and what happens when file descriptors run out.
//!
//! Owns: the listeners, the limit on open sockets, the pause after a failure. Knows: the hub's doors, and how the poll's
//! tokens name listeners and connections. Never knows: a request, a WebSocket.
//!
//! Decision: at the limit on file descriptors, new connections wait in the kernel's queue while idle HTTP connections
//! are evicted. Chosen over answering `503` on a reserved descriptor, because the next connection may be a probe of
//! `/health`. The idle ones may never send a request. `--max-connections` is the hub's to enforce: that is where the
//! `503` comes from.

use std::fmt::Display;
use std::io;

use mio::{Interest, Registry, Token};

use crate::clock::Millis;
use crate::connection::Peer;
use crate::effect::ConnId;
use crate::hub::Hub;
use crate::listener::{self, ClientSocket, Listener};
use crate::log::{Log, Throttle, Value};

/// Connections accepted from one listener in one turn, so that a rush of clients does not delay the others.
const ACCEPTS: usize = 16;
/// Pause after the kernel is out of a resource or nothing could be evicted, unless a connection closes before.
const PAUSE: Millis = 100;
/// At most one log line about failed connections in this time.
const LOG_INTERVAL: Millis = 5_000;

/// The token of the first listener. Connections and the broker's links have smaller ones, and the loop's own sources larger
/// ones.
pub const FIRST_LISTENER: usize = usize::MAX - 1024;

/// The listeners, and when they accept.
pub struct Acceptor {
    listeners: Vec<Listener>,
    /// Sockets of clients that may be open at once.
    max_sockets: usize,
    /// Connections evicted in one turn at most.
    max_evictions: usize,
    /// Nothing is accepted before this time.
    paused_until: Millis,
    failures: Throttle,
    log: Log,
}

impl Acceptor {
    /// An acceptor for at most `max_sockets` connections, of which `reserved` never are WebSockets.
    ///
    /// Evicts at most a quarter of `reserved` in one turn, so that a new connection has several turns for its request.
    pub fn new(
        listeners: Vec<Listener>,
        max_sockets: usize,
        reserved: usize,
        log: Log,
    ) -> Acceptor {
        Acceptor {
            listeners,
            max_sockets,
            max_evictions: (reserved / 4).clamp(1, ACCEPTS),
            paused_until: 0,
            failures: Throttle::once_in(LOG_INTERVAL),
            log,
        }
    }

    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Notes the poll's event if `token` is a listener's. Returns whether it is.
    #[inline(always)]
    pub fn ready(&mut self, token: Token) -> bool {
        let Some(nth) = token.0.checked_sub(FIRST_LISTENER) else {
            return false;
        };
        if let Some(listener) = self.listeners.get_mut(nth) {
            listener.pending = true;
        }
        true
    }

    /// When to accept again: at once if that time is over. `None` while no connection waits.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.is_pending().then_some(self.paused_until)
    }

    /// Ends the pause, because a connection has closed and its descriptor is free.
    pub fn resume(&mut self) {
        self.paused_until = 0;
    }

    /// Accepts a bounded number of connections from each listener.
    pub fn accept(&mut self, hub: &mut Hub<ClientSocket>, registry: &Registry) {
        let now = hub.clock.now;
        if self.paused_until > now {
            return;
        }
        for nth in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                if !self.listeners[nth].pending || hub.connections() >= self.max_sockets {
                    break;
                }
                match self.listeners[nth].accept() {
                    Ok((socket, peer)) => self.admit(hub, registry, nth, socket, peer),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.listeners[nth].pending = false;
                    }
                    Err(e) if listener::is_of_one_connection(&e) => {}
                    Err(e) => {
                        self.paused_until = now + PAUSE;
                        let message = "cannot accept connections for now: the server tries again";
                        self.warn(now, message, Some(nth), &e);
                        return;
                    }
                }
            }
        }
    }

    /// Has the hub evict idle HTTP connections, if connections wait and all descriptors are taken.
    pub fn evict(&mut self, hub: &mut Hub<ClientSocket>, buffer: &mut [u8]) {
        let now = hub.clock.now;
        let full = hub.connections() >= self.max_sockets;
        if !full || self.paused_until > now || !self.is_pending() {
            return;
        }
        if !hub.evict(self.max_evictions, buffer) {
            self.paused_until = now + PAUSE;
        }
        let message = "the limit on file descriptors is reached: idle HTTP connections are closed to accept new ones; \
                       raise the limit (ulimit -n)";
        let open = format!("{} connections are open", hub.connections());
        self.warn(now, message, None, &open);
    }

    fn is_pending(&self) -> bool {
        self.listeners.iter().any(|listener| listener.pending)
    }

    fn admit(
        &mut self,
        hub: &mut Hub<ClientSocket>,
        registry: &Registry,
        nth: usize,
        socket: ClientSocket,
        peer: Peer,
    ) {
        let admitted = hub.accept(socket, peer).and_then(|id| {
            let Some(socket) = hub.stream(id) else {
                return Ok(());
            };
            register(registry, id, socket).inspect_err(|_| hub.fail(id))
        });
        if let Err(e) = admitted {
            let message = "cannot serve a connection: it is closed";
            self.warn(hub.clock.now, message, Some(nth), &e);
        }
    }

    /// `nth`: the listener that it is about, if it is about one.
    fn warn(&mut self, now: Millis, message: &str, nth: Option<usize>, reason: &dyn Display) {
        if self.failures.admit(now).is_none() {
            return;
        }
        let mut fields = vec![("reason", Value::Shown(reason))];
        if let Some(listener) = nth.and_then(|nth| self.listeners.get(nth)) {
            fields.push(("listener", Value::Text(&listener.address)));
        }
        self.log.warn(message, &fields);
    }
}

/// Registers a connection's socket with the poll.
///
/// # Errors
/// The kernel can watch no more sockets.
pub fn register(registry: &Registry, id: ConnId, socket: &ClientSocket) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    socket.register(registry, connection_token(id), interest)
}

/// The token of the `nth` listener.
pub fn listener_token(nth: usize) -> Token {
    Token(FIRST_LISTENER + nth)
}

/// The token of a connection.
fn connection_token(id: ConnId) -> Token {
    Token((id.generation as usize) << 32 | id.slot as usize)
}

/// The connection of a token that [`Acceptor`] has registered.
pub fn connection_id(token: Token) -> ConnId {
    ConnId {
        slot: token.0 as u32,
        generation: (token.0 >> 32) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;
    use crate::log::Level;

    fn acceptor(reserved: usize) -> Acceptor {
        let any = Listen::Ip("127.0.0.1:0".parse().unwrap());
        let listeners = listener::open(&any, false).unwrap();
        Acceptor::new(listeners, 64, reserved, Log::in_memory(Level::Error))
    }

    #[test]
    fn a_connection_is_found_by_its_token() {
        for (slot, generation) in [(0, 0), (1, 0), (u32::MAX, 7), (3, u32::MAX - 1)] {
            let id = ConnId { slot, generation };
            let token = connection_token(id);
            assert_eq!(connection_id(token), id);
            assert!(!acceptor(0).ready(token), "{token:?} is no listener's");
        }
    }

    #[test]
    fn accepting_is_due_while_a_listener_is_pending() {
        let mut acceptor = acceptor(0);
        assert_eq!(acceptor.next_deadline(), None);
        assert!(acceptor.ready(listener_token(0)));
        assert_eq!(acceptor.next_deadline(), Some(0));
        acceptor.paused_until = 1_100;
        assert_eq!(acceptor.next_deadline(), Some(1_100));
        acceptor.resume();
        assert_eq!(acceptor.next_deadline(), Some(0));
    }

    #[test]
    fn at_most_a_quarter_of_the_reserved_sockets_is_evicted_in_one_turn() {
        let evictions = |reserved| acceptor(reserved).max_evictions;
        assert_eq!([0, 3, 4, 32, 128].map(evictions), [1, 1, 1, 8, 16]);
    }
}
