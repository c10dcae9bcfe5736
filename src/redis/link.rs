//! One connection to redis: its name looked up, TCP, TLS, bytes in and out; and made anew when it breaks.
//!
//! Owns: the socket, what waits in both directions, the back-off. Knows: where redis is. Never knows: what is said.
//!
//! Decision: a thread of its own for each lookup of a name, and never two: `getaddrinfo` cannot be stopped, and while one
//! hangs another would hang as well.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mio::event::Event;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token, Waker};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::buffers::Inbox;
use crate::clock::Millis;
use crate::random::Random;

/// For a name to be looked up, and again for a connection to come about.
const PATIENCE: Millis = 5_000;
/// Between two attempts: the first, and the longest. The same for all servers, they would all come back at once; so it
/// is a random time between half and the whole of it.
const FIRST_REST: Millis = 100;
const LONGEST_REST: Millis = 5_000;
/// A connection that lasted so long was a good one: the next attempt is a first one again.
const STEADY: Millis = 10_000;
/// A buffer that has grown larger is given back once it is empty.
const KEPT: usize = 256 * 1024;
/// The resolver's own need.
const STACK: usize = 512 * 1024;

/// Where redis is.
#[derive(Debug)]
pub(super) enum Place {
    Tcp {
        host: String,
        port: u16,
        /// For `rediss://`.
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        /// Woken when a name has been looked up.
        waker: Arc<Waker>,
    },
    Unix(PathBuf),
}

/// Where a connection goes to, after a name was looked up.
#[derive(Clone, Debug)]
enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => path.display().fmt(f),
        }
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(target: &Target) -> io::Result<Socket> {
        match target {
            Target::Tcp(address) => TcpStream::connect(*address).map(Socket::Tcp),
            Target::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => stream,
        }
    }

    /// Whether the connection has come about; `NotConnected` while that is open.
    fn outcome(&self) -> io::Result<()> {
        let error = match self {
            Socket::Tcp(stream) => stream.take_error(),
            Socket::Unix(stream) => stream.take_error(),
        };
        match error {
            Ok(None) => match self {
                Socket::Tcp(stream) => stream.peer_addr().map(|_| ()),
                Socket::Unix(stream) => stream.peer_addr().map(|_| ()),
            },
            Ok(Some(error)) | Err(error) => Err(error),
        }
    }

    /// Without it small commands wait for the acknowledgement of the ones before them.
    fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nodelay(true),
            Socket::Unix(_) => Ok(()),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Found = Result<Vec<SocketAddr>, String>;

enum Stage {
    Resting {
        until: Millis,
    },
    Resolving {
        until: Millis,
    },
    Connecting {
        until: Millis,
        stream: Socket,
        address: Target,
        /// What is tried next.
        others: VecDeque<Target>,
    },
    Open(Wire),
}

enum Wire {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

pub(super) struct Link {
    place: Arc<Place>,
    token: Token,
    stage: Stage,
    /// The lookup under way, and what it has found.
    lookup: Option<Arc<Mutex<Option<Found>>>>,
    /// Attempts that failed since the last good connection.
    tries: u32,
    /// The address that is tried first: the one behind the last that did not answer.
    first: usize,
    opened: Millis,
    random: Random,
    pub inbox: Inbox,
    /// More bytes have to come before there is anything to understand.
    pub starved: bool,
    /// The kernel may have bytes that were not read.
    unread: bool,
    /// When bytes last came.
    pub heard: Millis,
    out: Vec<u8>,
    sent: usize,
    /// The kernel took less than it was offered; an edge will tell when it takes more.
    blocked: bool,
}

/// What [`Link::advance`] has come to.
pub(super) enum Advance {
    Nothing,
    /// Something may be said now.
    Opened,
    /// It did not work; it rests.
    Failed(String),
}

/// What a read brought.
pub(super) enum Filled {
    Bytes(usize),
    Nothing,
    Broken(String),
}

impl Place {
    /// The host, or the path.
    fn name(&self) -> String {
        match self {
            Place::Tcp { host, .. } => host.clone(),
            Place::Unix(path) => path.display().to_string(),
        }
    }
}

impl Link {
    pub fn new(place: Arc<Place>, token: Token, seed: u64) -> Link {
        Link {
            place,
            token,
            stage: Stage::Resting { until: 0 },
            lookup: None,
            tries: 0,
            first: 0,
            opened: 0,
            random: Random::new(seed),
            inbox: Inbox::default(),
            starved: true,
            unread: false,
            heard: 0,
            out: Vec::new(),
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

    /// Bytes that redis has not taken.
    pub fn unsent(&self) -> usize {
        self.out.len().saturating_sub(self.sent)
    }

    /// The poll had something to say. What exactly is found out: an edge may be that of the connection before.
    pub fn ready(&mut self, event: &Event) {
        self.blocked = false;
        self.unread |=
            self.is_open() && (event.is_readable() || event.is_read_closed() || event.is_error());
    }

    /// When [`Link::advance`] has to be called, if nothing happens before.
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
        match &mut self.stage {
            Stage::Resting { until } if now >= *until => {
                let target = match &*self.place {
                    Place::Unix(path) => Target::Unix(path.clone()),
                    Place::Tcp { host, port, .. } => match host.parse::<IpAddr>() {
                        Ok(ip) => Target::Tcp(SocketAddr::new(ip, *port)),
                        Err(_) => return self.resolve(now),
                    },
                };
                self.connect(registry, VecDeque::from([target]), now)
            }
            Stage::Resolving { until } => {
                let late = now >= *until;
                let found = self.lookup.as_ref().and_then(|lookup| {
                    lookup.lock().unwrap_or_else(PoisonError::into_inner).take()
                });
                match found {
                    Some(found) => {
                        self.lookup = None;
                        match found {
                            Ok(mut addresses) => {
                                let first = self.first.checked_rem(addresses.len()).unwrap_or(0);
                                addresses.rotate_left(first);
                                let targets = addresses.into_iter().map(Target::Tcp);
                                self.connect(registry, targets.collect(), now)
                            }
                            Err(why) => self.fail(why, now),
                        }
                    }
                    None if late => {
                        let why = format!(
                            "{}: the name's address did not come in time",
                            self.place.name()
                        );
                        self.fail(why, now)
                    }
                    None => Advance::Nothing,
                }
            }
            Stage::Connecting {
                until,
                stream,
                address,
                others,
            } => {
                let late = now >= *until;
                match stream.outcome() {
                    Ok(()) => self.open(now),
                    Err(e) if e.kind() == io::ErrorKind::NotConnected && !late => Advance::Nothing,
                    Err(e) if e.kind() == io::ErrorKind::NotConnected => {
                        self.first = self.first.wrapping_add(1);
                        let why = format!("{address}: no connection came about in time");
                        self.fail(why, now)
                    }
                    Err(e) => {
                        let why = format!("{address}: {e}");
                        let others = std::mem::take(others);
                        match others.is_empty() {
                            true => self.fail(why, now),
                            false => self.connect(registry, others, now),
                        }
                    }
                }
            }
            Stage::Resting { .. } | Stage::Open(_) => Advance::Nothing,
        }
    }

    fn resolve(&mut self, now: Millis) -> Advance {
        self.stage = Stage::Resolving {
            until: now.saturating_add(PATIENCE),
        };
        if self.lookup.is_some() {
            return Advance::Nothing;
        }
        let lookup = Arc::new(Mutex::new(None));
        let Place::Tcp {
            host, port, waker, ..
        } = &*self.place
        else {
            return Advance::Nothing;
        };
        let (host, port, waker) = (host.clone(), *port, Arc::clone(waker));
        let answer = Arc::clone(&lookup);
        let started = thread::Builder::new()
            .name("redis-dns".into())
            .stack_size(STACK)
            .spawn(move || {
                let found = match (host.as_str(), port).to_socket_addrs() {
                    Ok(addresses) => Ok(addresses.collect()),
                    Err(error) => Err(format!("{host}: {error}")),
                };
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                // It fails only when the poll is gone, and with it whoever waited.
                let _ = waker.wake();
            });
        match started {
            Ok(_) => {
                self.lookup = Some(lookup);
                Advance::Nothing
            }
            Err(error) => {
                let why = format!("no thread to look up {}: {error}", self.place.name());
                self.fail(why, now)
            }
        }
    }

    fn connect(
        &mut self,
        registry: &Registry,
        mut others: VecDeque<Target>,
        now: Millis,
    ) -> Advance {
        let mut why = format!("{}: the name has no address", self.place.name());
        while let Some(address) = others.pop_front() {
            let connected = Socket::connect(&address).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry.register(stream.source(), self.token, interest)?;
                Ok(stream)
            });
            match connected {
                Ok(stream) => {
                    self.stage = Stage::Connecting {
                        until: now.saturating_add(PATIENCE),
                        stream,
                        address,
                        others,
                    };
                    return Advance::Nothing;
                }
                Err(error) => why = format!("{address}: {error}"),
            }
        }
        self.fail(why, now)
    }

    fn open(&mut self, now: Millis) -> Advance {
        let resting = Stage::Resting { until: now };
        let Stage::Connecting {
            stream, address, ..
        } = std::mem::replace(&mut self.stage, resting)
        else {
            return Advance::Nothing;
        };
        if let Err(error) = stream.set_nodelay() {
            return self.fail(format!("{address}: {error}"), now);
        }
        let wire = match &*self.place {
            Place::Unix(_) | Place::Tcp { tls: None, .. } => Wire::Plain(stream),
            Place::Tcp {
                tls: Some((config, name)),
                ..
            } => match ClientConnection::new(Arc::clone(config), name.clone()) {
                Ok(session) => Wire::Tls(Box::new(StreamOwned::new(session, stream))),
                Err(error) => return self.fail(error.to_string(), now),
            },
        };
        self.stage = Stage::Open(wire);
        (self.opened, self.heard) = (now, now);
        // What came meanwhile has had its edge.
        (self.unread, self.starved, self.blocked) = (true, true, false);
        Advance::Opened
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
        let rest = FIRST_REST
            .saturating_mul(1 << self.tries.min(16))
            .min(LONGEST_REST);
        self.tries = self.tries.saturating_add(1);
        let rest = self.random.jittered(rest);
        self.stage = Stage::Resting {
            until: now.saturating_add(rest),
        };
        self.inbox = Inbox::default();
        (self.out, self.sent) = (Vec::new(), 0);
        (self.unread, self.starved, self.blocked) = (false, true, false);
    }

    /// Reads once.
    pub fn fill(&mut self, buffer: &mut [u8], now: Millis) -> Filled {
        let Stage::Open(wire) = &mut self.stage else {
            self.unread = false;
            return Filled::Nothing;
        };
        if !self.unread {
            return Filled::Nothing;
        }
        loop {
            match wire.read(buffer) {
                Ok(0) => return Filled::Broken("it has closed the connection".to_owned()),
                Ok(count) => {
                    self.heard = now;
                    // The next read tells whether this was all, or the end behind it.
                    return Filled::Bytes(count);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.unread = false;
                    return Filled::Nothing;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Filled::Broken(e.to_string()),
            }
        }
    }

    /// What is to be sent, to be appended to.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what waits, as far as the kernel takes it.
    pub fn flush(&mut self) -> Result<(), String> {
        let Stage::Open(wire) = &mut self.stage else {
            return Ok(());
        };
        if self.blocked {
            return Ok(());
        }
        loop {
            let rest = self.out.get(self.sent..).unwrap_or_default();
            let sent = match rest.is_empty() {
                // TLS may hold back what it could not send.
                true => wire.flush().map(|()| None),
                false => wire.write(rest).map(Some),
            };
            match sent {
                Ok(None) => break,
                Ok(Some(0)) => return Err("nothing can be sent to it".to_owned()),
                Ok(Some(count)) => self.sent = self.sent.saturating_add(count),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        self.out.clear();
        self.out.shrink_to(KEPT);
        self.sent = 0;
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(_) => Ok(()),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}
