//! Other connections, asking at a steady pace whatever becomes of the answers, and measuring each round trip.
//!
//! Owns: their own poll, looked at between every few events of the client's, so that what is measured is the server.
//!
//! Decision: an open loop rather than one question at a time per probe: a slow server gets as many questions as a fast
//! one.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::micros;
use super::net::Net;
use super::open::unexpected;
use crate::wire;

/// What a probe asks.
#[derive(Clone, Copy)]
pub enum Question {
    /// A broadcast to a room of its own, answered by its delivery.
    Say { first_room: usize },
    /// A ping, answered by its pong: it needs no question.
    Ping,
}

pub struct Probes {
    poll: Poll,
    events: Events,
    probes: Vec<Probe>,
    question: Question,
    period: Duration,
    due: Instant,
    next: usize,
    asked: u64,
    round_trips: Vec<u32>,
    scratch: Vec<u8>,
}

struct Probe {
    stream: TcpStream,
    awaited: VecDeque<(Instant, Vec<u8>)>,
    inbox: Vec<u8>,
}

/// How long an answer may take before the sample counts as failed.
const TIMEOUT: Duration = Duration::from_secs(20);

impl Probes {
    /// Makes probes of the links from `first` on; `per_second` questions of all together.
    pub fn take(
        net: &mut Net,
        first: usize,
        question: Question,
        per_second: u32,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut probes = Vec::new();
        for (at, mut stream) in net.release(first)?.into_iter().enumerate() {
            poll.registry()
                .register(&mut stream, Token(at), Interest::READABLE)?;
            probes.push(Probe {
                stream,
                awaited: VecDeque::new(),
                inbox: Vec::new(),
            });
        }
        net.nest(&poll)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            probes,
            question,
            period: Duration::from_secs(1) / per_second,
            due: Instant::now(),
            next: 0,
            asked: 0,
            round_trips: Vec::new(),
            scratch: vec![0; 16 * 1024],
        })
    }

    pub fn begin(&mut self) {
        self.due = Instant::now();
        self.round_trips.clear();
    }

    /// Asks what is due and hears what has come; how long until the next question.
    pub fn turn(&mut self) -> io::Result<Duration> {
        let now = Instant::now();
        while self.due <= now {
            self.due += self.period;
            self.ask()?;
        }
        self.hear(Duration::ZERO)?;
        Ok(self.due.saturating_duration_since(Instant::now()))
    }

    /// Waits for the answers that are still owed; all round trips since `begin`.
    pub fn finish(&mut self) -> io::Result<Vec<u32>> {
        let begun = Instant::now();
        while self.probes.iter().any(|probe| !probe.awaited.is_empty()) {
            if begun.elapsed() > TIMEOUT {
                return Err(io::Error::other("a probe was never answered"));
            }
            self.hear(Duration::from_millis(100))?;
        }
        Ok(std::mem::take(&mut self.round_trips))
    }

    fn ask(&mut self) -> io::Result<()> {
        let at = self.next;
        self.next = (at + 1) % self.probes.len();
        self.asked += 1;
        let mut question = Vec::new();
        let mut answer = Vec::new();
        match self.question {
            Question::Say { first_room } => {
                let content = wire::content(first_room + at, self.asked, 32);
                let text = wire::say(first_room + at, &content);
                wire::client_frame(wire::TEXT, &text, [5, 6, 7, 8], &mut question);
                wire::server_frame(wire::TEXT, &content, &mut answer);
            }
            Question::Ping => {
                let payload = self.asked.to_be_bytes();
                wire::client_frame(wire::PING, &payload, [5, 6, 7, 8], &mut question);
                wire::server_frame(wire::PONG, &payload, &mut answer);
            }
        }
        let probe = &mut self.probes[at];
        probe.awaited.push_back((Instant::now(), answer));
        // So few bytes always fit.
        probe.stream.write_all(&question)
    }

    fn hear(&mut self, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let probe = &mut self.probes[event.token().0];
            let got = match probe.stream.read(&mut self.scratch) {
                Ok(0) => return Err(io::Error::other("the server closed a probe")),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            probe.inbox.extend_from_slice(&self.scratch[..got]);
            while let Some((asked, answer)) = probe.awaited.front() {
                let len = answer.len().min(probe.inbox.len());
                if probe.inbox[..len] != answer[..len] {
                    return Err(unexpected(&probe.inbox, "the answer to a probe"));
                }
                if len < answer.len() {
                    break;
                }
                self.round_trips.push(micros(*asked));
                probe.inbox.drain(..len);
                probe.awaited.pop_front();
            }
            if probe.awaited.is_empty() && !probe.inbox.is_empty() {
                return Err(unexpected(&probe.inbox, "nothing"));
            }
        }
        Ok(())
    }
}
