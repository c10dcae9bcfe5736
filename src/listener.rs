//! Listeners on TCP and unix sockets, and the client sockets that they accept.
//!
//! Owns: how a listen address is opened, a unix socket's file, and [`ClientSocket`], the server's [`Stream`]. Knows: the
//! kernel's sockets. Never knows: the order of a turn, the hub, a request.
//!
//! Decision: `socket2` opens the listeners rather than mio's `bind`. mio's backlog of 128 is too short for a rush of
//! clients, and mio cannot set SO_REUSEPORT before it binds. Sockets that a service manager has opened get the same
//! backlog; their files are the manager's to remove.

mod saved;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

pub use self::saved::SavedListener;
use crate::config::Listen;
use crate::connection::{Peer, Stream};

/// Connections that the kernel may queue until they are accepted. It lowers this to its own limit.
const BACKLOG: i32 = 65_535;

/// Unsent bytes that the kernel buffers for one client (TCP_NOTSENT_LOWAT). The server holds a broadcast once for all
/// slow clients. The kernel would hold a copy for each of them, up to 4 MB.
const UNSENT: u32 = 128 * 1024;

/// A client's socket, TCP or unix.
///
/// Decision: system calls through rustix, which are inlined into the caller (connection/traffic.rs explains why),
/// rather than the C library's.
#[derive(Debug)]
pub struct ClientSocket(OwnedFd);

impl io::Read for ClientSocket {
    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(count)
    }
}

impl io::Write for ClientSocket {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    #[inline(always)]
    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let mut nothing = SendAncillaryBuffer::default();
        let flags = SendFlags::NOSIGNAL;
        Ok(rustix::net::sendmsg(&self.0, parts, &mut nothing, flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for ClientSocket {
    fn finish(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    /// A closed peer also answers later data with a reset. The kernel then reports `EPIPE`, because the end came first.
    fn was_reset(&mut self) -> bool {
        matches!(rustix::net::sockopt::socket_error(&self.0), Ok(Err(why)) if why != Errno::PIPE)
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that another program has accepted.
impl From<OwnedFd> for ClientSocket {
    fn from(socket: OwnedFd) -> ClientSocket {
        ClientSocket(socket)
    }
}

impl ClientSocket {
    /// Registers the socket with the poll.
    ///
    /// # Errors
    /// The kernel can watch no more sockets.
    pub fn register(
        &self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.0.as_raw_fd()), token, interest)
    }
}

/// A unix socket's file. It is removed when the listener closes, unless another file has taken its place.
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

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: RawSocket,
    kind: ListenerKind,
    /// Connections may wait to be accepted. The poll is edge-triggered and does not report them again.
    pub pending: bool,
    /// The address, as logs and messages show it.
    pub address: String,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp,
    /// `None`: the file belongs to the service manager.
    Unix {
        file: Option<SocketFile>,
    },
}

impl Listener {
    fn new(socket: RawSocket, kind: ListenerKind, address: String) -> Listener {
        Listener {
            socket,
            kind,
            pending: false,
            address,
        }
    }

    /// Accepts one connection.
    ///
    /// # Errors
    /// `WouldBlock`: none waits. [`is_of_one_connection`] separates failures of a connection from those of the
    /// listener.
    #[inline(always)]
    pub fn accept(&self) -> io::Result<(ClientSocket, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, from) = rustix::net::acceptfrom_with(&self.socket, flags)?;
        let peer = match self.kind {
            ListenerKind::Unix { .. } => Peer::UNIX,
            ListenerKind::Tcp => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                Peer::new(from.ok_or(io::ErrorKind::ConnectionAborted)?)
            }
        };
        Ok((ClientSocket(socket), peer))
    }

    /// Registers the listener with the poll.
    ///
    /// # Errors
    /// The kernel can watch no more sockets.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether accepting failed for one connection only (accept(2), "Error handling").
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | Interrupted
            | NetworkDown
            | HostUnreachable
            | NetworkUnreachable
    )
}

/// Opens the listeners of one listen address (docs/operating.md#listening): several if a name has several addresses.
///
/// `shared`: other processes may listen on the same TCP port (SO_REUSEPORT).
///
/// # Errors
/// The first address that cannot be opened.
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

/// Whether this machine has no IPv6.
fn is_without_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// `only`: an IPv6 listener does not accept IPv4 connections.
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
    prepare_tcp(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let address = match socket.local_addr()?.as_socket() {
        Some(SocketAddr::V6(v6)) if !only => format!(":{}", v6.port()),
        bound => bound.unwrap_or(address).to_string(),
    };
    Ok(Listener::new(socket, ListenerKind::Tcp, address))
}

/// Sets the options that accepted sockets inherit.
fn prepare_tcp(socket: &RawSocket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Takes over the `count` sockets that a service manager has opened (docs/operating.md#socket-activation).
///
/// # Errors
/// The first socket that cannot be used, and why.
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
            .map_err(|_| io::Error::other("neither a TCP socket nor a unix stream socket"))?
            .map(RawSocket::from),
    };
    let Some(socket) = taken else {
        return Err(io::Error::other("there is no such descriptor"));
    };
    if !socket.is_listener()? {
        return Err(io::Error::other(
            "the socket does not listen: a .socket unit needs ListenStream= and Accept=no",
        ));
    }
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    socket.listen(BACKLOG)?;
    if let Some(address) = socket.local_addr()?.as_socket() {
        let both =
            matches!(address, SocketAddr::V6(v6) if v6.ip().is_unspecified() && !socket.only_v6()?);
        prepare_tcp(&socket)?;
        let address = if both {
            format!(":{}", address.port())
        } else {
            address.to_string()
        };
        return Ok(Listener::new(socket, ListenerKind::Tcp, address));
    }
    let address = socket.local_addr()?;
    let address = match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => format!("unix:{}", path.display()),
        (None, Some(name)) => format!("unix:@{}", name.escape_ascii()),
        (None, None) => "unix:".to_owned(),
    };
    Ok(Listener::new(
        socket,
        ListenerKind::Unix { file: None },
        address,
    ))
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
    let kind = ListenerKind::Unix { file: Some(file) };
    Ok(Listener::new(
        socket,
        kind,
        format!("unix:{}", path.display()),
    ))
}

/// Removes a socket file on which no process listens any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in its place",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_inherit_the_listeners_options() {
        let any = Listen::Ip((Ipv4Addr::LOCALHOST, 0).into());
        let listener = open(&any, false).unwrap().remove(0);
        let _client = std::net::TcpStream::connect(&listener.address).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        assert!(peer.is_local());
        let socket = socket2::SockRef::from(&socket.0);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
    }
}
