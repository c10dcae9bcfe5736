//! Whole lives of connections (M5): connect, handshake, join, close, some dozens at a time.

use std::io;
use std::time::{Duration, Instant};

use super::net::Net;
use super::open::{unexpected, upgraded};
use super::{Args, Sample};
use crate::wire;

pub struct Life {
    net: Net,
    lives: Vec<Stage>,
    born: u64,
}

#[derive(Clone)]
enum Stage {
    None,
    Connecting { key: String },
    Upgrading { key: String },
    Joining,
}

const ID: u32 = 123_456_789;

impl Life {
    pub fn open(args: &Args) -> io::Result<Self> {
        Ok(Self {
            net: Net::new(args.addr()?, 1024)?,
            lives: vec![Stage::None; args.get("links", 64)?],
            born: 0,
        })
    }

    pub fn sample(&mut self, time: Duration) -> io::Result<Sample> {
        let mut sample = Sample::default();
        let begun = Instant::now();
        self.net.begin();
        self.net.links.clear();
        for at in 0..self.lives.len() {
            self.be_born(at)?;
        }
        let mut alive = self.lives.len();
        while alive > 0 {
            self.net.turn(Duration::from_secs(1))?;
            for at in 0..self.net.ready.len() {
                let ready = self.net.ready[at];
                if !self.advance(ready.link, ready.readable)? {
                    continue;
                }
                sample.units += 1;
                if begun.elapsed() < time {
                    self.be_born(ready.link)?; // the old socket is closed as it is replaced
                } else {
                    self.lives[ready.link] = Stage::None;
                    alive -= 1;
                }
            }
        }
        self.net.links.clear();
        sample.elapsed = begun.elapsed();
        Ok(sample)
    }

    fn be_born(&mut self, at: usize) -> io::Result<()> {
        self.born += 1;
        let key = wire::client_key(self.born);
        self.lives[at] = Stage::Connecting { key };
        self.net.connect(at, false)
    }

    /// Whether that was all it had to live for.
    fn advance(&mut self, link: usize, readable: bool) -> io::Result<bool> {
        match self.lives[link].clone() {
            Stage::None => {}
            Stage::Connecting { key } => {
                self.net.write(link, &wire::upgrade(&key, "", false))?;
                self.lives[link] = Stage::Upgrading { key };
            }
            Stage::Upgrading { key } if readable => {
                self.net.fill(link)?;
                if let Some(end) = upgraded(&self.net.links[link].inbox, &key)? {
                    self.net.links[link].inbox.drain(..end);
                    let mut frame = Vec::new();
                    let text = wire::join(0, ID);
                    wire::client_frame(wire::TEXT, &text, [3, 1, 4, 1], &mut frame);
                    self.net.write(link, &frame)?;
                    self.lives[link] = Stage::Joining;
                }
            }
            Stage::Joining if readable => {
                self.net.fill(link)?;
                let mut awaited = Vec::new();
                wire::server_frame(wire::TEXT, &wire::ack(ID), &mut awaited);
                let inbox = &self.net.links[link].inbox;
                if !awaited.starts_with(inbox) {
                    return Err(unexpected(inbox, "the answer to a join"));
                }
                return Ok(inbox.len() == awaited.len());
            }
            _ => {}
        }
        Ok(false)
    }
}
