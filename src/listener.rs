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
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::config::Listen;
use crate::connection::{Peer, Stream};

/// What the kernel may keep of connections that were not accepted yet; it cuts this to its own limit.
const BACKLOG: i32 = 65_535;

/// Bytes that the kernel takes for one client beyond what is on its way. What a slow client has to be sent lies in the server
/// once for all; in the kernel it would lie once for each, up to 4 MB (measured: 3.8 MB for each stalled one, 0.14 with this).
const UNSENT: u32 = 128 * 1024;

/// A client's socket, of either kind.
///
/// Its system calls are rustix', which are inlined into whoever makes them (connection/mod.rs says why), over the C
/// library's.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl io::Read for Socket {
    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(count)
    }
}

impl io::Write for Socket {
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

impl Stream for Socket {
    fn finish(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    /// A closed end answers what is sent to it with a reset, too. The kernel then says `EPIPE`, as the end came first.
    fn was_reset(&mut self) -> bool {
        matches!(rustix::net::sockopt::socket_error(&self.0), Ok(Err(why)) if why != Errno::PIPE)
    }
}

impl Socket {
    /// # Errors
    /// As the kernel says: it can watch no more.
    pub fn register(
        &self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.0.as_raw_fd()), token, interest)
    }
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
    socket: RawSocket,
    kind: Kind,
    /// There may be connections that were not accepted; no edge will tell.
    pub pending: bool,
    /// Where it listens, as it is shown.
    pub address: String,
}

#[derive(Debug)]
enum Kind {
    Tcp,
    /// With its file, where that is ours.
    Unix {
        _file: Option<SocketFile>,
    },
}

impl Listener {
    fn new(socket: RawSocket, kind: Kind, address: String) -> Listener {
        Listener {
            socket,
            kind,
            pending: false,
            address,
        }
    }

    #[inline(always)]
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, from) = rustix::net::acceptfrom_with(&self.socket, flags)?;
        let peer = match self.kind {
            Kind::Unix { .. } => Peer::UNIX,
            Kind::Tcp => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                Peer::new(from.ok_or(io::ErrorKind::ConnectionAborted)?)
            }
        };
        Ok((Socket(socket), peer))
    }

    /// # Errors
    /// As the kernel says.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }
}

/// Whether accepting failed because of the one connection only (accept(2), "Error handling").
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
    prepare_tcp(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let address = match socket.local_addr()?.as_socket() {
        Some(SocketAddr::V6(v6)) if !only => format!(":{}", v6.port()),
        bound => bound.unwrap_or(address).to_string(),
    };
    Ok(Listener::new(socket, Kind::Tcp, address))
}

/// Sets what all sockets that are accepted inherit.
fn prepare_tcp(socket: &RawSocket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)
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
        prepare_tcp(&socket)?;
        let address = match both {
            true => format!(":{}", address.port()),
            false => address.to_string(),
        };
        return Ok(Listener::new(socket, Kind::Tcp, address));
    }
    let address = socket.local_addr()?;
    let address = match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => format!("unix:{}", path.display()),
        (None, Some(name)) => format!("unix:@{}", name.escape_ascii()),
        (None, None) => "unix:".to_owned(),
    };
    Ok(Listener::new(socket, Kind::Unix { _file: None }, address))
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
    let kind = Kind::Unix { _file: Some(file) };
    Ok(Listener::new(
        socket,
        kind,
        format!("unix:{}", path.display()),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_inherits_what_was_set() {
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
