//! One command with an answer, on many connections, one outstanding on each (M6): a join of the room one is in already.
//!
//! Decision: in volleys (all ask, then all answers are awaited), rather than asking again at each answer, because the
//! client's work per command is as long as the floor's: in lockstep with it a fast server would sleep and wake for each
//! command, and a slower one, always behind, would look cheaper than it is. With `closed=true` each asks again at its
//! answer: where an authorizer takes its time, a volley would measure little but the wait for the last.

use std::io;
use std::time::{Duration, Instant};

use super::net::Net;
use super::open::{self, Plan, unexpected};
use super::{Args, Sample};
use crate::wire;

pub struct Requests {
    net: Net,
    asked: u32,
    awaited: Vec<Vec<u8>>,
    /// When each asked last, for those that ask again at once.
    since: Option<Vec<Instant>>,
}

impl Requests {
    pub fn open(args: &Args) -> io::Result<Self> {
        let links = args.get("links", 100)?;
        let mut net = Net::new(args.addr()?, 1024)?;
        open::open(&mut net, vec![Plan::member(0); links])?;
        Ok(Self {
            net,
            asked: 0,
            awaited: vec![Vec::new(); links],
            since: args
                .get("closed", false)?
                .then(|| vec![Instant::now(); links]),
        })
    }

    pub fn sample(&mut self, time: Duration) -> io::Result<Sample> {
        match self.since.take() {
            None => self.volleys(time),
            Some(mut since) => {
                let sample = self.circle(time, &mut since);
                self.since = Some(since);
                sample
            }
        }
    }

    /// Each asks again at its answer, until the time is over; then the last answers are awaited.
    fn circle(&mut self, time: Duration, since: &mut [Instant]) -> io::Result<Sample> {
        let mut sample = Sample::default();
        let begun = Instant::now();
        self.net.begin();
        for (link, since) in since.iter_mut().enumerate() {
            *since = Instant::now();
            self.ask(link)?;
        }
        let mut outstanding = self.awaited.len();
        while outstanding > 0 {
            self.net.turn(Duration::from_secs(1))?;
            for at in 0..self.net.ready.len() {
                let ready = self.net.ready[at];
                if !ready.readable || !self.answered(ready.link)? {
                    continue;
                }
                sample.round_trips.push(super::micros(since[ready.link]));
                sample.units += 1;
                if begun.elapsed() < time {
                    since[ready.link] = Instant::now();
                    self.ask(ready.link)?;
                } else {
                    outstanding -= 1;
                }
            }
        }
        sample.elapsed = begun.elapsed();
        Ok(sample)
    }

    fn volleys(&mut self, time: Duration) -> io::Result<Sample> {
        let mut sample = Sample::default();
        let begun = Instant::now();
        self.net.begin();
        while begun.elapsed() < time {
            for link in 0..self.awaited.len() {
                self.ask(link)?;
            }
            let mut outstanding = self.awaited.len();
            while outstanding > 0 {
                self.net.turn(Duration::from_secs(1))?;
                for at in 0..self.net.ready.len() {
                    let ready = self.net.ready[at];
                    if ready.readable && self.answered(ready.link)? {
                        sample.units += 1;
                        outstanding -= 1;
                    }
                }
            }
        }
        sample.elapsed = begun.elapsed();
        Ok(sample)
    }

    /// Whether all of the answer has come.
    fn answered(&mut self, link: usize) -> io::Result<bool> {
        self.net.fill(link)?;
        let inbox = &mut self.net.links[link].inbox;
        let awaited = &mut self.awaited[link];
        if !awaited.starts_with(inbox) {
            return Err(unexpected(inbox, "the answer to a command"));
        }
        let all = !inbox.is_empty() && inbox.len() == awaited.len();
        if all {
            inbox.clear();
            awaited.clear();
        }
        Ok(all)
    }

    fn ask(&mut self, link: usize) -> io::Result<()> {
        self.asked = (self.asked + 1) % 100_000_000;
        let id = 200_000_000 + self.asked;
        let mut question = Vec::with_capacity(128);
        let text = wire::join(0, id);
        wire::client_frame(wire::TEXT, &text, id.to_ne_bytes(), &mut question);
        let awaited = &mut self.awaited[link];
        awaited.clear();
        wire::server_frame(wire::TEXT, &wire::ack(id), awaited);
        self.net.write(link, &question)
    }
}
