//! A connection to a webhook, as bytes: TCP, perhaps with TLS in it.
//!
//! Owns: a socket's timeouts. Knows: rustls. Never knows: how the connection was made, or what is said on it.
//!
//! Decision
//! - **A socket's timeout is set only when it would be off by more than a sixteenth** rather than setting it before
//!   each system call. Nearly always the whole time of a call is left.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use rustls::{ClientConnection, StreamOwned};

/// What is left until `deadline`.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// A connection to a webhook.
#[derive(Debug)]
pub(super) enum Link {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Link {
    pub(super) fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        match self {
            Link::Plain(socket) => {
                socket.deadline = deadline;
                socket.write_all(bytes)
            }
            Link::Tls(stream) => {
                stream.sock.deadline = deadline;
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        match self {
            Link::Plain(socket) => {
                socket.deadline = deadline;
                socket.read(buffer)
            }
            Link::Tls(stream) => {
                stream.sock.deadline = deadline;
                stream.read(buffer)
            }
        }
    }

    /// Whether it may be used for another call: nothing has come that was not asked for, and no end.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Link::Plain(socket) => is_blocked(&Glance(&socket.tcp).read(&mut [0])),
            Link::Tls(stream) => loop {
                let session = &mut stream.conn;
                // Session tickets may come at any time; anything else is not a good sign.
                let silent = session
                    .process_new_packets()
                    .is_ok_and(|it| !it.peer_has_closed() && it.plaintext_bytes_to_read() == 0);
                if !silent {
                    return false;
                }
                match session.read_tls(&mut Glance(&stream.sock.tcp)) {
                    Ok(1..) => {}
                    end => return is_blocked(&end),
                }
            },
        }
    }
}

fn is_blocked(read: &io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// A socket's bytes, without waiting for any.
struct Glance<'a>(&'a TcpStream);

impl Read for Glance<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok(count)
    }
}

/// A socket whose calls of the kernel end at a deadline.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    deadline: Instant,
    /// As the kernel has them.
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Socket {
    /// Connects to the first of `addrs` that answers.
    pub(super) fn connect(addrs: &[SocketAddr], deadline: Instant) -> io::Result<Socket> {
        let mut failed = io::Error::other("the name has no address");
        for (nth, addr) in addrs.iter().enumerate() {
            let others = u32::try_from(addrs.len() - nth).unwrap_or(u32::MAX);
            // No address takes the time of those behind it.
            match TcpStream::connect_timeout(addr, left(deadline)? / others) {
                Ok(tcp) => {
                    tcp.set_nodelay(true)?;
                    return Ok(Socket {
                        tcp,
                        deadline,
                        read_timeout: Duration::ZERO,
                        write_timeout: Duration::ZERO,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// The timeout to set, if what the kernel has is off. Never zero, which the kernel takes for none.
fn timeout_to_set(set: Duration, left: Duration) -> Option<Duration> {
    let fits = left <= set && set <= left + left / 16;
    (!fits).then(|| left.max(Duration::from_millis(1)))
}

/// The kernel says of a timeout that the call would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(timeout) = timeout_to_set(self.read_timeout, left(self.deadline)?) {
                self.tcp.set_read_timeout(Some(timeout))?;
                self.read_timeout = timeout;
            }
            match self.tcp.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(timed_out),
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(timeout) = timeout_to_set(self.write_timeout, left(self.deadline)?) {
            self.tcp.set_write_timeout(Some(timeout))?;
            self.write_timeout = timeout;
        }
        self.tcp.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
