//! Where clients come in: listeners on TCP and unix sockets, and the sockets that they yield.
//!
//! Owns: how a wanted address is opened, a unix socket's file, and [`Socket`], the product's
//! [`Stream`]. Knows: the kernel's sockets. Never knows: the poll's order, the hub, a client.
//!
//! Decision: `socket2` opens the listeners, over mio's own `bind`: that has a backlog of 128, at which a rush of clients
//! is refused; and it knows SO_REUSEPORT, which has to be set before. What a service manager has opened gets that
//! backlog, too, and its file is left to it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use mio::event::Source;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::config::Listen;
use crate::connection::{Peer, Stream};

/// What the kernel may keep of connections that were not accepted yet; it cuts this to its own limit.
const BACKLOG: i32 = 65_535;

/// A client's socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl io::Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write_vectored(parts),
            Socket::Unix(stream) => stream.write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }
}

impl Socket {
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => stream,
        }
    }
}

#[derive(Debug)]
enum Door {
    Tcp(mio::net::TcpListener),
    Unix {
        listener: mio::net::UnixListener,
        /// Where it is ours.
        _file: Option<SocketFile>,
    },
}

/// A unix socket's file, removed when the listener is closed, if it is still the same.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug)]
pub struct Listener {
    door: Door,
    /// There may be connections that were not accepted; no edge will tell.
    pub pending: bool,
    /// Where it listens, as it is shown.
    pub address: String,
}

impl Listener {
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        match &self.door {
            Door::Tcp(listener) => listener
                .accept()
                .map(|(s, from)| (Socket::Tcp(s), Peer::new(from))),
            Door::Unix { listener, .. } => listener
                .accept()
                .map(|(s, _)| (Socket::Unix(s), Peer::UNIX)),
        }
    }

    pub fn source(&mut self) -> &mut dyn Source {
        match &mut self.door {
            Door::Tcp(listener) => listener,
            Door::Unix { listener, .. } => listener,
        }
    }
}

/// Whether accepting failed because of the one connection only (accept(2), "Error handling").
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

/// Opens one wanted address, which may be several: a name's. `shared`: a TCP port is other processes' as well.
pub fn open(listen: &Listen, shared: bool) -> io::Result<Vec<Listener>> {
    match listen {
        Listen::Unix(path) => Ok(vec![open_unix(path)?]),
        Listen::Ip(address) => Ok(vec![open_tcp(*address, true, shared)?]),
        Listen::Host(name, port) => {
            let mut addresses: Vec<SocketAddr> =
                (name.as_str(), *port).to_socket_addrs()?.collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
                .into_iter()
                .map(|address| open_tcp(address, true, shared))
                .collect()
        }
        Listen::AllInterfaces(port) => {
            let both = open_tcp((Ipv6Addr::UNSPECIFIED, *port).into(), false, shared);
            match both {
                Err(e) if is_without_ipv6(&e) => {
                    let address = (Ipv4Addr::UNSPECIFIED, *port).into();
                    Ok(vec![open_tcp(address, true, shared)?])
                }
                both => Ok(vec![both?]),
            }
        }
    }
}

/// Whether this machine speaks no IPv6.
fn is_without_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// `only`: an IPv6 address does not stand for IPv4 as well.
fn open_tcp(address: SocketAddr, only: bool, shared: bool) -> io::Result<Listener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // What is accepted inherits it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = mio::net::TcpListener::from_std(socket.into());
    let address = match listener.local_addr()? {
        SocketAddr::V6(v6) if !only => format!(":{}", v6.port()),
        address => address.to_string(),
    };
    Ok(Listener {
        door: Door::Tcp(listener),
        pending: false,
        address,
    })
}

/// Takes over the `count` sockets that a service manager has opened.
///
/// Errors: the first that cannot be used, and why.
pub fn inherit(count: usize) -> Result<Vec<Listener>, String> {
    let mut passed = ListenFd::from_env();
    (0..count.min(passed.len()))
        .map(|nth| take_over(&mut passed, nth).map_err(|e| format!("descriptor {}: {e}", 3 + nth)))
        .collect()
}

fn take_over(passed: &mut ListenFd, nth: usize) -> io::Result<Listener> {
    let taken = match passed.take_tcp_listener(nth) {
        Ok(listener) => listener.map(RawSocket::from),
        Err(_) => passed
            .take_unix_listener(nth)
            .map_err(|_| io::Error::other("it is neither a TCP socket nor a unix stream socket"))?
            .map(RawSocket::from),
    };
    let Some(socket) = taken else {
        return Err(io::Error::other("it is not there"));
    };
    if !socket.is_listener()? {
        return Err(io::Error::other(
            "it does not listen: a .socket unit needs ListenStream= and Accept=no",
        ));
    }
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    socket.listen(BACKLOG)?;
    if let Some(address) = socket.local_addr()?.as_socket() {
        let both =
            matches!(address, SocketAddr::V6(v6) if v6.ip().is_unspecified() && !socket.only_v6()?);
        socket.set_tcp_nodelay(true)?;
        return Ok(Listener {
            door: Door::Tcp(mio::net::TcpListener::from_std(socket.into())),
            pending: false,
            address: match both {
                true => format!(":{}", address.port()),
                false => address.to_string(),
            },
        });
    }
    let listener = UnixListener::from(OwnedFd::from(socket));
    let address = listener.local_addr()?;
    let address = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => format!("unix:{}", path.display()),
        (None, Some(name)) => format!("unix:@{}", name.escape_ascii()),
        (None, None) => "unix:".to_owned(),
    };
    Ok(Listener {
        door: Door::Unix {
            listener: mio::net::UnixListener::from_std(listener),
            _file: None,
        },
        pending: false,
        address,
    })
}

fn open_unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    let listener = mio::net::UnixListener::from_std(socket.into());
    Ok(Listener {
        door: Door::Unix {
            listener,
            _file: Some(file),
        },
        pending: false,
        address: format!("unix:{}", path.display()),
    })
}

/// Removes a socket file on which nobody listens any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of another kind",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
