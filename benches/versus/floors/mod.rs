//! What the floors share: listen, wait, accept, receive, shake hands, send, close. One system call each, and only those
//! that no server can do without.
//!
//! Owns: the sockets and the epoll of one floor process. Knows the benches' wire. Never knows wsify.
//!
//! A floor is honest about the kernel and careless about everything else: it trusts its clients, has no limits, no
//! answers to errors, no authorizer. It does what wsify has to do, too, for the same bytes: register once and
//! edge-triggered, let a short read mean that the socket is drained, keep what a slow member cannot take yet.

mod ask;
mod authorizer;
mod echo;
mod fanout;
mod handshake;
mod heartbeat;
mod post;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use self::authorizer::Says;
use crate::wire;

/// Runs the floor of this name on a port of the loopback; never returns but with an error.
pub fn run(name: &str, port: u16) -> io::Result<()> {
    let floor = Floor::listen(port)?;
    match name {
        "fanout" => fanout::run(floor),
        "echo" => echo::run(floor),
        "handshake" => handshake::run(floor),
        "post" => post::run(floor),
        timed => {
            let (name, number) = timed.split_once('=').unwrap_or((timed, ""));
            let time = number.parse().map(Duration::from_millis);
            let port = || number.parse().map_err(io::Error::other);
            if let Some(threads) = name.strip_prefix("ask-batches-") {
                let threads = threads.parse().map_err(io::Error::other)?;
                return ask::run_threads(floor, port()?, threads, 64);
            }
            match (name, time) {
                ("ask-loop", _) => ask::run_loop(floor, port()?),
                ("ask-threads", _) => ask::run_threads(floor, port()?, ask::THREADS, 1),
                ("heartbeat", Ok(interval)) => heartbeat::run(floor, interval),
                ("authorizer", Ok(delay)) => authorizer::run(floor, delay, Says::Yes),
                ("granting-authorizer", Ok(delay)) => authorizer::run(floor, delay, Says::Grants),
                ("remembered-authorizer", Ok(delay)) => authorizer::run(floor, delay, Says::MaxAge),
                _ => Err(io::Error::other(format!("no floor is called {timed:?}"))),
            }
        }
    }
}

const LISTENER: u64 = u64::MAX;
/// As much as one `recv` takes.
const RECEIVE: usize = 64 * 1024;
const ACCEPTS_A_TURN: usize = 64;

pub struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    peers: Vec<Option<Peer>>,
    vacant: Vec<usize>,
    events: Vec<epoll::Event>,
    next: usize,
    /// Its last bytes came together with its end; it is closed once they are done with.
    ending: Option<usize>,
}

struct Peer {
    fd: OwnedFd,
    /// What is rare: an unfinished message that came in, bytes that did not go out.
    rest: Option<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
}

/// What a connection has sent and was not parsed yet.
pub struct Input {
    /// As long as it ever had to be; what holds is `at..filled`.
    bytes: Vec<u8>,
    filled: usize,
    at: usize,
}

/// What became of a connection that an event named.
#[derive(PartialEq)]
pub enum Read {
    Bytes,
    Nothing,
    /// It is gone, and its slot is free.
    Closed,
}

impl Floor {
    fn listen(port: u16) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM.nonblocking(),
            None,
        )?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?; // inherited by what it accepts
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
        socket.listen(65_535)?;
        let listener = OwnedFd::from(socket);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            peers: Vec::new(),
            vacant: Vec::new(),
            events: Vec::with_capacity(1024),
            next: 0,
            ending: None,
        })
    }

    /// Begins a turn: waits for events, at most this long.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        self.events.clear();
        self.next = 0;
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The slot of the turn's next connection and what was read from it into `input`; `None` ends the turn.
    pub fn next(&mut self, input: &mut Input) -> io::Result<Option<(usize, Read)>> {
        if let Some(slot) = self.ending.take() {
            self.close(slot);
            return Ok(Some((slot, Read::Closed)));
        }
        while let Some(&event) = self.events.get(self.next) {
            self.next += 1;
            let (data, flags) = (event.data, event.flags);
            let slot = data.u64();
            if slot == LISTENER {
                self.accept()?;
                continue;
            }
            let slot = slot as usize;
            if flags.contains(epoll::EventFlags::OUT) {
                self.flush(slot);
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP) {
                let read = self.receive(slot, flags, input);
                return Ok(Some((slot, read)));
            }
        }
        Ok(None)
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_A_TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let fd = match rustix::net::accept_with(&self.listener, flags) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            self.adopt(fd)?;
        }
        Ok(())
    }

    /// Takes a socket in, and returns its slot.
    pub fn adopt(&mut self, fd: OwnedFd) -> io::Result<usize> {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        epoll::add(
            &self.epoll,
            &fd,
            epoll::EventData::new_u64(slot as u64),
            epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET,
        )?;
        self.peers[slot] = Some(Peer { fd, rest: None });
        Ok(slot)
    }

    fn receive(&mut self, slot: usize, flags: epoll::EventFlags, input: &mut Input) -> Read {
        let Some(peer) = &mut self.peers[slot] else {
            return Read::Nothing;
        };
        input.at = 0;
        let mut filled = 0;
        if let Some(rest) = &mut peer.rest {
            filled = rest.incoming.len();
            input.need(filled);
            input.bytes[..filled].copy_from_slice(&rest.incoming);
            rest.incoming.clear();
        }
        let mut ended = false;
        loop {
            input.need(filled + RECEIVE);
            let room = &mut input.bytes[filled..filled + RECEIVE];
            let asked = room.len();
            match rustix::net::recv(&peer.fd, room, RecvFlags::empty()) {
                Ok((_, 0)) => ended = true,
                Ok((_, got)) => {
                    filled += got;
                    if got == asked {
                        continue; // the one case in which there may be more
                    }
                    ended = flags.contains(epoll::EventFlags::RDHUP);
                }
                Err(Errno::AGAIN) => {}
                Err(_) => ended = true,
            }
            break;
        }
        input.filled = filled;
        match (filled, ended) {
            (0, true) => {
                self.close(slot);
                Read::Closed
            }
            (0, false) => Read::Nothing,
            (_, ended) => {
                self.ending = ended.then_some(slot);
                Read::Bytes
            }
        }
    }

    /// `close` takes the socket out of the epoll by itself.
    fn close(&mut self, slot: usize) {
        self.peers[slot] = None;
        self.vacant.push(slot);
    }

    /// Answers an upgrade request that lies at the input's front; false when it is something else.
    pub fn shake_hands(&mut self, slot: usize, input: &mut Input) -> bool {
        let bytes = input.left();
        if !bytes.starts_with(b"GET ") {
            return false;
        }
        let Some(end) = wire::head_end(bytes) else {
            return false;
        };
        let key = wire::header_value(&bytes[..end], "sec-websocket-key").unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            wire::accept_key(key)
        );
        input.at += end;
        self.send(slot, answer.as_bytes());
        true
    }

    /// Sends, behind what a slow connection has not taken yet.
    pub fn send(&mut self, slot: usize, bytes: &[u8]) {
        let Some(peer) = &mut self.peers[slot] else {
            return;
        };
        let sent = match &peer.rest {
            Some(rest) if !rest.outgoing.is_empty() => 0,
            _ => rustix::net::send(&peer.fd, bytes, SendFlags::NOSIGNAL).unwrap_or(0),
        };
        if sent < bytes.len() {
            let rest = peer.rest.get_or_insert_default();
            rest.outgoing.extend_from_slice(&bytes[sent..]);
        }
    }

    fn flush(&mut self, slot: usize) {
        let Some(Peer {
            fd,
            rest: Some(rest),
        }) = &mut self.peers[slot]
        else {
            return;
        };
        while rest.sent < rest.outgoing.len() {
            match rustix::net::send(&*fd, &rest.outgoing[rest.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => rest.sent += sent,
                Err(_) => return,
            }
        }
        rest.outgoing = Vec::new();
        rest.sent = 0;
    }

    /// Ends the work on what a connection said: an unfinished message waits for its rest.
    pub fn keep(&mut self, slot: usize, input: &Input) {
        let left = input.left();
        if !left.is_empty()
            && let Some(peer) = &mut self.peers[slot]
        {
            let rest = peer.rest.get_or_insert_default();
            rest.incoming.extend_from_slice(left);
        }
    }
}

impl Input {
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            filled: 0,
            at: 0,
        }
    }

    fn need(&mut self, len: usize) {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.at..self.filled]
    }

    /// The next whole frame, unmasked where it lies: its opcode, and where its payload is.
    pub fn frame(&mut self) -> Option<(u8, Range<usize>)> {
        let frame = wire::frame(&self.bytes[..self.filled], self.at)?;
        self.at = frame.end;
        wire::unmask(&mut self.bytes[frame.start..frame.end], frame.mask?);
        Some((frame.opcode, frame.start..frame.end))
    }

    /// Whether an answer without a body has come wholly.
    pub fn answered(&mut self) -> bool {
        let end = wire::head_end(self.left());
        self.at += end.unwrap_or_default();
        end.is_some()
    }

    /// The body of the next whole request.
    pub fn request(&mut self) -> Option<Range<usize>> {
        let bytes = self.left();
        let end = wire::head_end(bytes)?;
        let digits = wire::header_value(&bytes[..end], "content-length")?;
        let len = digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        let start = self.at + end;
        if bytes.len() < end + len {
            return None;
        }
        self.at = start + len;
        Some(start..start + len)
    }

    pub fn get(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}
