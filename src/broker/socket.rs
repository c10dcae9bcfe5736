//! A socket to the broker: TCP, unix or TLS, and the lookup of a host's name.
//!
//! Owns: which kind of socket an address needs. Knows: addresses. Never knows: when to connect again, or what is said.
//!
//! Decision: a thread of its own for each lookup rather than a resolver without threads: `getaddrinfo` knows the host's
//! configuration, and it cannot be stopped.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mio::Waker;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::config::RedisAddress;

/// Stack of the thread that looks up a name, in bytes: the system's resolver needs a quarter of it.
const STACK: usize = 512 * 1024;

/// The place of a broker: its address, and what a connection to it needs.
#[derive(Debug)]
pub enum RedisTarget {
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

impl fmt::Display for RedisTarget {
    /// The host, or the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisTarget::Tcp { host, .. } => host.fmt(f),
            RedisTarget::Unix(path) => path.display().fmt(f),
        }
    }
}

impl RedisTarget {
    pub fn address(&self) -> RedisAddress {
        match self {
            RedisTarget::Tcp { host, port, .. } => RedisAddress::Tcp {
                host: host.clone(),
                port: *port,
            },
            RedisTarget::Unix(path) => RedisAddress::Unix(path.clone()),
        }
    }

    /// Its destination, where no name has to be looked up for that.
    pub fn destination(&self) -> Option<Destination> {
        match self {
            RedisTarget::Unix(path) => Some(Destination::Unix(path.clone())),
            RedisTarget::Tcp { host, port, .. } => {
                let ip = host.parse::<IpAddr>().ok()?;
                Some(Destination::Tcp(SocketAddr::new(ip, *port)))
            }
        }
    }
}

/// Where a connection goes, once a name is looked up.
#[derive(Clone, Debug)]
pub enum Destination {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Tcp(address) => address.fmt(f),
            Destination::Unix(path) => path.display().fmt(f),
        }
    }
}

type Found = Result<Vec<Destination>, String>;

/// A lookup of a name, under way or done.
pub struct NameLookup(Arc<Mutex<Option<Found>>>);

impl NameLookup {
    /// Begins one.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(target: &Arc<RedisTarget>) -> io::Result<NameLookup> {
        let (target, found) = (Arc::clone(target), Arc::new(Mutex::new(None)));
        let answer = Arc::clone(&found);
        let look_up = move || {
            let RedisTarget::Tcp {
                host, port, waker, ..
            } = &*target
            else {
                return;
            };
            let found = match (host.as_str(), *port).to_socket_addrs() {
                Ok(addresses) => Ok(addresses.map(Destination::Tcp).collect()),
                Err(error) => Err(format!("{host}: {error}")),
            };
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            // It fails only when the poll is gone, and nothing waits for the answer then.
            let _ = waker.wake();
        };
        let thread = thread::Builder::new()
            .name("redis-dns".into())
            .stack_size(STACK);
        thread.spawn(look_up)?;
        Ok(NameLookup(found))
    }

    /// What it has found, once.
    pub fn take(&self) -> Option<Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A connection, or an attempt at one.
pub enum RedisSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl RedisSocket {
    /// Begins to connect.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn connect(destination: &Destination) -> io::Result<RedisSocket> {
        match destination {
            Destination::Tcp(address) => TcpStream::connect(*address).map(RedisSocket::Tcp),
            Destination::Unix(path) => UnixStream::connect(path).map(RedisSocket::Unix),
        }
    }

    /// A connection that another program has opened, and handed over.
    ///
    /// # Errors
    /// Nothing can be said over TLS by a program that has not begun it.
    pub fn restore(socket: OwnedFd, target: &RedisTarget) -> io::Result<RedisSocket> {
        match target {
            RedisTarget::Tcp { tls: Some(_), .. } => {
                Err(io::Error::other("its keys are not known"))
            }
            RedisTarget::Tcp { .. } => {
                let stream = std::net::TcpStream::from(socket);
                Ok(RedisSocket::Tcp(TcpStream::from_std(stream)))
            }
            RedisTarget::Unix(_) => {
                let stream = std::os::unix::net::UnixStream::from(socket);
                Ok(RedisSocket::Unix(UnixStream::from_std(stream)))
            }
        }
    }

    /// The descriptor, if another program can go on with it.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            RedisSocket::Tcp(stream) => Some(stream.as_fd()),
            RedisSocket::Unix(stream) => Some(stream.as_fd()),
            RedisSocket::Tls(_) => None,
        }
    }

    /// What is to be registered with the poll.
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            RedisSocket::Tcp(stream) => stream,
            RedisSocket::Unix(stream) => stream,
            RedisSocket::Tls(stream) => &mut stream.sock,
        }
    }

    /// Whether the connection has been established.
    ///
    /// # Errors
    /// `NotConnected` while that is open.
    pub fn outcome(&self) -> io::Result<()> {
        let (error, peer) = match self {
            RedisSocket::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
            RedisSocket::Tls(stream) => {
                let stream = &stream.sock;
                (stream.take_error()?, stream.peer_addr().map(|_| ()))
            }
            RedisSocket::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
        };
        error.map_or(peer, Err)
    }

    /// Makes an established connection ready for use.
    ///
    /// # Errors
    /// Of the kernel, or of TLS.
    pub fn open(self, target: &RedisTarget) -> io::Result<RedisSocket> {
        let stream = match self {
            RedisSocket::Tcp(stream) => stream,
            other => return Ok(other),
        };
        // Without it small commands wait for the acknowledgement of the ones before them.
        stream.set_nodelay(true)?;
        match target {
            RedisTarget::Tcp {
                tls: Some((config, name)),
                ..
            } => {
                let session = ClientConnection::new(Arc::clone(config), name.clone());
                let session = session.map_err(io::Error::other)?;
                Ok(RedisSocket::Tls(Box::new(StreamOwned::new(
                    session, stream,
                ))))
            }
            _ => Ok(RedisSocket::Tcp(stream)),
        }
    }
}

impl Read for RedisSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            RedisSocket::Tcp(stream) => stream.read(buffer),
            RedisSocket::Unix(stream) => stream.read(buffer),
            RedisSocket::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for RedisSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            RedisSocket::Tcp(stream) => stream.write(bytes),
            RedisSocket::Unix(stream) => stream.write(bytes),
            RedisSocket::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            // TLS may hold back what it could not send.
            RedisSocket::Tls(stream) => stream.flush(),
            RedisSocket::Tcp(_) | RedisSocket::Unix(_) => Ok(()),
        }
    }
}
