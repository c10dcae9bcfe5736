//! The client's sockets and their one epoll.
//!
//! Owns: connecting (spread over source addresses, so that ports never run out), reading, writing, and noticing that
//! nothing happens any more. Never knows what is said.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

/// The token of what is polled inside this poll (the probes).
pub const INNER: usize = usize::MAX;

/// How long nothing at all may happen while something is awaited.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Source addresses 127.0.0.2 to 127.0.0.101, 28,000 ports each.
const SOURCES: u64 = 100;

pub struct Net {
    pub links: Vec<Link>,
    /// What the last turn brought.
    pub ready: Vec<Ready>,
    /// What the last read brought.
    pub scratch: Vec<u8>,
    poll: Poll,
    events: Events,
    addr: SocketAddr,
    connected: u64,
    heard: Instant,
}

pub struct Link {
    pub stream: TcpStream,
    /// An unfinished message.
    pub inbox: Vec<u8>,
    unsent: Vec<u8>,
}

#[derive(Clone, Copy)]
pub struct Ready {
    pub link: usize,
    pub readable: bool,
    pub writable: bool,
}

impl Net {
    /// `at_a_time`: how many events one turn may bring; few, where something else must be looked at in between.
    pub fn new(addr: SocketAddr, at_a_time: usize) -> io::Result<Self> {
        Ok(Self {
            links: Vec::new(),
            ready: Vec::new(),
            scratch: vec![0; 256 * 1024],
            poll: Poll::new()?,
            events: Events::with_capacity(at_a_time),
            addr,
            connected: 0,
            heard: Instant::now(),
        })
    }

    /// Begins a connection that events will name `link`. A `slow` one announces what a small device far away would
    /// (a short receive buffer, small segments), so that it stalls after kilobytes, not after the loopback's megabytes.
    pub fn connect(&mut self, link: usize, slow: bool) -> io::Result<()> {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (self.connected % SOURCES) as u8);
        self.connected += 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        if slow {
            socket.set_recv_buffer_size(4096)?;
            socket.set_tcp_mss(536)?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&self.addr.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(link), interest)?;
        let fresh = Link {
            stream,
            inbox: Vec::new(),
            unsent: Vec::new(),
        };
        match self.links.get_mut(link) {
            Some(old) => *old = fresh,
            None => self.links.push(fresh),
        }
        Ok(())
    }

    /// Gives the last links away, from this one on.
    pub fn release(&mut self, first: usize) -> io::Result<Vec<TcpStream>> {
        let mut streams = Vec::new();
        for mut link in self.links.drain(first..) {
            self.poll.registry().deregister(&mut link.stream)?;
            streams.push(link.stream);
        }
        Ok(streams)
    }

    /// Wakes this poll when that one has something.
    pub fn nest(&self, inner: &Poll) -> io::Result<()> {
        let fd = inner.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(INNER), Interest::READABLE)
    }

    /// Waits for events (at most this long) and sends on what a full socket held back.
    pub fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        self.ready.clear();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let link = event.token().0;
            if link != INNER {
                self.ready.push(Ready {
                    link,
                    readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                    writable: event.is_writable(),
                });
            }
        }
        for at in 0..self.ready.len() {
            let ready = self.ready[at];
            if ready.writable {
                self.flush(ready.link)?;
            }
        }
        if !self.ready.is_empty() {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > TIMEOUT {
            return Err(io::Error::other(format!(
                "nothing heard for {} s",
                TIMEOUT.as_secs()
            )));
        }
        Ok(())
    }

    /// Begins a sample: silence counts from now.
    pub fn begin(&mut self) {
        self.heard = Instant::now();
    }

    /// Reads once into `scratch`: how many bytes came. Fewer than its length have drained the socket.
    pub fn read(&mut self, link: usize) -> io::Result<usize> {
        match self.links[link].stream.read(&mut self.scratch) {
            Ok(0) => Err(io::Error::other(format!(
                "the server closed connection {link}"
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Reads all there is into the link's inbox.
    pub fn fill(&mut self, link: usize) -> io::Result<()> {
        loop {
            let got = self.read(link)?;
            self.links[link]
                .inbox
                .extend_from_slice(&self.scratch[..got]);
            if got < self.scratch.len() {
                return Ok(());
            }
        }
    }

    /// Writes, now or when the socket takes it.
    pub fn write(&mut self, link: usize, bytes: &[u8]) -> io::Result<()> {
        let link = &mut self.links[link];
        let mut sent = 0;
        if link.unsent.is_empty() {
            sent = write_some(&mut link.stream, bytes)?;
        }
        link.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    fn flush(&mut self, link: usize) -> io::Result<()> {
        let Some(link) = self.links.get_mut(link) else {
            return Ok(());
        };
        if !link.unsent.is_empty() {
            let sent = write_some(&mut link.stream, &link.unsent)?;
            link.unsent.drain(..sent);
        }
        Ok(())
    }
}

const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(some) => sent += some,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
