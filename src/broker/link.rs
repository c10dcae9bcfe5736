//! One connection to the broker: made, broken, made again; bytes in and out.
//!
//! Owns: the socket, the bytes that have come and are not handled, the back-off. Knows: where the broker is. Never
//! knows: what is said.
//!
//! Decision: never two lookups of its name at once. While one hangs, another would hang as well.

mod saved;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::event::Event;
use mio::{Interest, Registry, Token};

pub use self::saved::SavedLink;
use super::socket::{Destination, NameLookup, RedisSocket, RedisTarget};
use crate::backoff::Backoff;
use crate::clock::Millis;
use crate::random::Random;

/// How long the lookup of a name may take, and again how long a connection may take to be established.
const CONNECT_TIMEOUT: Millis = 5_000;
/// The pauses between two attempts.
const BACKOFF: Backoff = Backoff {
    first: 100,
    longest: 5_000,
};
/// A connection that lasted so long was a good one: the next attempt is a first one again.
const STEADY: Millis = 1_000;
/// Reads in one turn, each of the whole buffer: a flood gets its share.
const READS: usize = 4;
/// A reply that has not ended by then has no end; the messages of servers with a larger `--max-message-size` fit.
const LARGEST_REPLY: usize = 64 * 1024 * 1024;
/// Bytes of a reply besides the content in it: names, and what nodes say to each other.
const BESIDES: usize = 1024 * 1024;
/// A buffer that has grown larger is given back once it is empty.
const KEPT: usize = 256 * 1024;

enum Stage {
    Resting {
        until: Millis,
    },
    Resolving {
        until: Millis,
    },
    Connecting {
        until: Millis,
        socket: RedisSocket,
        destination: Destination,
        /// What is tried next.
        others: VecDeque<Destination>,
    },
    Open(RedisSocket),
}

pub struct RedisLink {
    target: Arc<RedisTarget>,
    token: Token,
    stage: Stage,
    lookup: Option<NameLookup>,
    /// Attempts that failed since the last good connection.
    tries: u32,
    /// The address that is tried first: the one behind the last that did not answer.
    first: usize,
    opened: Millis,
    random: Random,
    /// What has come, from `handled` on not handled.
    input: Vec<u8>,
    handled: usize,
    /// More bytes have to come before there is anything to handle.
    starved: bool,
    /// The kernel may have bytes that were not read.
    unread: bool,
    /// Bytes of what is being sent that the kernel has taken.
    sent: usize,
    /// The kernel took less than it was offered; an edge says when it takes more.
    blocked: bool,
}

/// How large a reply may be where a client may send content of `largest` bytes.
pub fn largest_reply(largest: usize) -> usize {
    LARGEST_REPLY.max(largest.saturating_add(BESIDES))
}

/// What [`RedisLink::advance`] has come to.
pub enum Advance {
    Nothing,
    /// Something may be said now.
    Opened,
    /// It did not work; it rests.
    Failed(String),
}

impl RedisLink {
    pub fn new(target: Arc<RedisTarget>, token: Token, seed: u64) -> RedisLink {
        RedisLink {
            target,
            token,
            stage: Stage::Resting { until: 0 },
            lookup: None,
            tries: 0,
            first: 0,
            opened: 0,
            random: Random::new(seed),
            input: Vec::new(),
            handled: 0,
            starved: true,
            unread: false,
            sent: 0,
            blocked: false,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Whether a turn would do something although no edge will come.
    pub fn has_work(&self) -> bool {
        self.unread || !self.starved
    }

    /// The poll has reported an event. The socket is then read and written, because an edge may belong to the former
    /// connection.
    pub fn ready(&mut self, event: &Event) {
        self.blocked = false;
        self.unread |=
            self.is_open() && (event.is_readable() || event.is_read_closed() || event.is_error());
    }

    /// When [`RedisLink::advance`] has to be called, if nothing happens before.
    pub fn deadline(&self) -> Option<Millis> {
        match self.stage {
            Stage::Resting { until }
            | Stage::Resolving { until }
            | Stage::Connecting { until, .. } => Some(until),
            Stage::Open(_) => None,
        }
    }

    /// Does what is next to come to a connection.
    pub fn advance(&mut self, registry: &Registry, now: Millis) -> Advance {
        match self.stage {
            Stage::Resting { until } if now >= until => match self.target.destination() {
                Some(destination) => self.connect(registry, VecDeque::from([destination]), now),
                None => self.resolve(now),
            },
            Stage::Resolving { until } => self.resolved(registry, now >= until, now),
            Stage::Connecting { until, .. } => self.connected(registry, now >= until, now),
            Stage::Resting { .. } | Stage::Open(_) => Advance::Nothing,
        }
    }

    fn resolve(&mut self, now: Millis) -> Advance {
        self.stage = Stage::Resolving {
            until: now.saturating_add(CONNECT_TIMEOUT),
        };
        if self.lookup.is_some() {
            return Advance::Nothing;
        }
        match NameLookup::start(&self.target) {
            Ok(lookup) => {
                self.lookup = Some(lookup);
                Advance::Nothing
            }
            Err(error) => {
                let why = format!("no thread to look up {}: {error}", self.target);
                self.fail(why, now)
            }
        }
    }

    fn resolved(&mut self, registry: &Registry, late: bool, now: Millis) -> Advance {
        match self.lookup.as_ref().and_then(NameLookup::take) {
            Some(found) => {
                self.lookup = None;
                match found {
                    Ok(mut destinations) => {
                        let first = self.first.checked_rem(destinations.len()).unwrap_or(0);
                        destinations.rotate_left(first);
                        self.connect(registry, destinations.into(), now)
                    }
                    Err(why) => self.fail(why, now),
                }
            }
            None if late => {
                let why = format!("{}: looking up the name timed out", self.target);
                self.fail(why, now)
            }
            None => Advance::Nothing,
        }
    }

    fn connect(
        &mut self,
        registry: &Registry,
        mut others: VecDeque<Destination>,
        now: Millis,
    ) -> Advance {
        let mut why = format!("{}: the name has no address", self.target);
        while let Some(destination) = others.pop_front() {
            let connecting = RedisSocket::connect(&destination).and_then(|mut socket| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry.register(socket.source(), self.token, interest)?;
                Ok(socket)
            });
            match connecting {
                Ok(socket) => {
                    self.stage = Stage::Connecting {
                        until: now.saturating_add(CONNECT_TIMEOUT),
                        socket,
                        destination,
                        others,
                    };
                    return Advance::Nothing;
                }
                Err(error) => why = format!("{destination}: {error}"),
            }
        }
        self.fail(why, now)
    }

    fn connected(&mut self, registry: &Registry, late: bool, now: Millis) -> Advance {
        let resting = Stage::Resting { until: now };
        let Stage::Connecting {
            until,
            socket,
            destination,
            others,
        } = std::mem::replace(&mut self.stage, resting)
        else {
            return Advance::Nothing;
        };
        match socket.outcome() {
            Ok(()) => match socket.open(&self.target) {
                Ok(socket) => {
                    self.stage = Stage::Open(socket);
                    self.opened = now;
                    // What came meanwhile has had its edge.
                    (self.unread, self.blocked) = (true, false);
                    Advance::Opened
                }
                Err(error) => self.fail(format!("{destination}: {error}"), now),
            },
            Err(e) if e.kind() == io::ErrorKind::NotConnected && !late => {
                self.stage = Stage::Connecting {
                    until,
                    socket,
                    destination,
                    others,
                };
                Advance::Nothing
            }
            Err(e) if e.kind() == io::ErrorKind::NotConnected => {
                self.first = self.first.wrapping_add(1);
                self.fail(format!("{destination}: connecting timed out"), now)
            }
            Err(e) if others.is_empty() => self.fail(format!("{destination}: {e}"), now),
            Err(_) => self.connect(registry, others, now),
        }
    }

    fn fail(&mut self, why: String, now: Millis) -> Advance {
        self.close(now);
        Advance::Failed(why)
    }

    /// Ends the connection, or the attempt at one, and rests.
    pub fn close(&mut self, now: Millis) {
        if self.is_open() && now >= self.opened.saturating_add(STEADY) {
            self.tries = 0;
        }
        self.tries = self.tries.saturating_add(1);
        let pause = BACKOFF.pause(self.tries, &mut self.random);
        self.stage = Stage::Resting {
            until: now.saturating_add(pause),
        };
        (self.input, self.handled) = (Vec::new(), 0);
        (self.starved, self.unread) = (true, false);
        (self.sent, self.blocked) = (0, false);
    }

    /// What has come and is not handled.
    pub fn input(&self) -> &[u8] {
        self.input.get(self.handled..).unwrap_or_default()
    }

    /// Removes `count` bytes of the input, which are handled.
    pub fn consume(&mut self, count: usize) {
        self.handled = self.handled.saturating_add(count);
        if self.handled >= self.input.len() {
            self.input.clear();
            self.input.shrink_to(KEPT);
            (self.handled, self.starved) = (0, true);
        }
    }

    /// Notes that more has to come before the input can be handled.
    pub fn starve(&mut self) {
        self.starved = true;
    }

    /// Whether there may be something to handle.
    pub fn is_fed(&self) -> bool {
        !self.starved
    }

    /// Reads what has come, unless what came before has to be handled first. Bounded. What is not handled has at most
    /// `largest` bytes.
    ///
    /// # Errors
    /// The connection is broken, in words for the log.
    pub fn fill(&mut self, buffer: &mut [u8], largest: usize) -> Result<(), String> {
        let Stage::Open(socket) = &mut self.stage else {
            self.unread = false;
            return Ok(());
        };
        let mut reads: usize = 0;
        while self.unread && (self.starved || reads > 0) && reads < READS {
            match socket.read(buffer) {
                // What came before the end is handled first: it may say why.
                Ok(0) if reads > 0 => return Ok(()),
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(count) => {
                    reads = reads.saturating_add(1);
                    self.starved = false;
                    self.input.drain(..self.handled);
                    self.handled = 0;
                    self.input
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.unread = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if reads > 0 => return Ok(()),
                Err(e) => return Err(e.to_string()),
            }
        }
        if self.input.len() > largest {
            Err("its reply is too long".to_owned())
        } else {
            Ok(())
        }
    }

    /// Sends from `out`, as far as the kernel takes it; what it has taken is removed.
    ///
    /// # Errors
    /// The connection is broken, in words for the log.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let Stage::Open(socket) = &mut self.stage else {
            return Ok(());
        };
        if self.blocked {
            return Ok(());
        }
        loop {
            let rest = out.get(self.sent..).unwrap_or_default();
            let sent = if rest.is_empty() {
                socket.flush().map(|()| None)
            } else {
                socket.write(rest).map(Some)
            };
            match sent {
                Ok(None) => break,
                Ok(Some(0)) => return Err("it accepts no data".to_owned()),
                Ok(Some(count)) => self.sent = self.sent.saturating_add(count),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        // The rest is moved only where it is the smaller part.
        if self.sent >= out.len() / 2 {
            out.drain(..self.sent.min(out.len()));
            self.sent = 0;
        }
        if out.is_empty() {
            out.shrink_to(KEPT);
        }
        Ok(())
    }
}
