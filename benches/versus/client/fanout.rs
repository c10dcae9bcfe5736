//! Fan-out: a client publishes to a room, and all its members must receive it; then the next.
//!
//! Covers one room or many (M1, M2, M6, M9), laggards (M1), members that never read (M10), and other connections that
//! talk meanwhile (M3).

use std::io;
use std::time::{Duration, Instant};

use super::net::Net;
use super::open::{self, Plan, unexpected};
use super::probes::{Probes, Question};
use super::{Args, Sample, micros};
use crate::wire;

pub struct Fanout {
    net: Net,
    rooms: Vec<Room>,
    members: Vec<Member>,
    /// Speaks in the one room without being in it; without one, the members take turns.
    outsider: Option<usize>,
    /// Bytes of one content.
    size: usize,
    /// Content is JSON as applications send it, and not noise.
    objects: bool,
    /// Members have agreed to compression.
    squeezer: Option<Box<wire::Squeezer>>,
    /// Messages in one write.
    batch: usize,
    /// Rooms in which something is under way at the same time.
    in_flight: usize,
    laggards: Laggards,
    probes: Option<Probes>,
    masks: u32,
}

struct Room {
    /// What every member must hear, from where they were last all level.
    expected: Vec<u8>,
    /// Members that have not heard all of it.
    behind: usize,
    sequence: u64,
    said: Instant,
}

struct Member {
    /// How much of its room's `expected` it has heard.
    heard: usize,
    lags: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Laggards {
    None,
    /// They read nothing until the sample's end, and then everything.
    CatchUp,
    /// They never read at all.
    Never,
}

impl Fanout {
    pub fn open(args: &Args) -> io::Result<Self> {
        let rooms = args.get("rooms", 1)?;
        let per_room: usize = args.get("members", 1)?;
        let lag_percent: usize = args.get("laggards", 0)?;
        let compressed = args.get("compressed", false)?;
        let probes = args.get("probes", 0)?;
        let at_a_time = if probes > 0 { 16 } else { 1024 };
        let mut net = Net::new(args.addr()?, at_a_time)?;
        // Member i is in room i % rooms: a room's members are scattered, as in life.
        let members: Vec<Member> = (0..rooms * per_room)
            .map(|at| Member {
                heard: 0,
                lags: lag_percent > 0 && at % (100 / lag_percent) == 0,
            })
            .collect();
        let mut plans: Vec<Plan> = members
            .iter()
            .enumerate()
            .map(|(at, member)| Plan::WebSocket {
                query: String::new(),
                room: Some(at % rooms),
                slow: member.lags,
                deflate: compressed,
            })
            .collect();
        let outsider = (rooms == 1).then_some(plans.len());
        if outsider.is_some() {
            plans.push(Plan::outsider());
        }
        let first_probe = plans.len();
        plans.extend((0..probes).map(|at| Plan::member(rooms + at)));
        open::open(&mut net, plans)?;
        let probes = match probes {
            0 => None,
            _ => Some(Probes::take(
                &mut net,
                first_probe,
                Question::Say { first_room: rooms },
                args.get("probes_per_second", 1000)?,
            )?),
        };
        Ok(Self {
            net,
            rooms: (0..rooms)
                .map(|_| Room {
                    expected: Vec::new(),
                    behind: 0,
                    sequence: 0,
                    said: Instant::now(),
                })
                .collect(),
            members,
            outsider,
            size: args.get("size", 128)?,
            objects: args.get("objects", false)?,
            squeezer: compressed.then(Box::default),
            batch: args.get("batch", 1)?,
            in_flight: args.get("in_flight", 1)?,
            laggards: match (lag_percent, args.get("never", false)?) {
                (0, _) => Laggards::None,
                (_, false) => Laggards::CatchUp,
                (_, true) => Laggards::Never,
            },
            probes,
            masks: 0,
        })
    }

    pub fn sample(&mut self, time: Duration) -> io::Result<Sample> {
        let mut sample = Sample::default();
        let begun = Instant::now();
        self.net.begin();
        if let Some(probes) = &mut self.probes {
            probes.begin();
        }
        let mut next = 0;
        let mut under_way = 0;
        loop {
            let more = begun.elapsed() < time;
            while more && under_way < self.in_flight {
                self.say(next)?;
                next = (next + 1) % self.rooms.len();
                under_way += 1;
            }
            if under_way == 0 && !more {
                break;
            }
            under_way -= self.turn(&mut sample)?;
        }
        if self.laggards == Laggards::CatchUp {
            self.catch_up(&mut sample)?;
        }
        sample.elapsed = begun.elapsed();
        if let Some(probes) = &mut self.probes {
            sample.round_trips = probes.finish()?;
        }
        Ok(sample)
    }

    /// One write of `batch` messages into a room.
    fn say(&mut self, at: usize) -> io::Result<()> {
        let in_room = self.members.len() / self.rooms.len();
        let count = self.rooms.len();
        let room = &mut self.rooms[at];
        let speaker = match self.outsider {
            Some(link) => link,
            None => at + count * (room.sequence as usize % in_room),
        };
        let mut bytes = Vec::with_capacity(self.batch * (self.size + 96));
        for _ in 0..self.batch {
            let content = if self.objects {
                wire::objects(at, room.sequence, self.size)
            } else {
                wire::content(at, room.sequence, self.size)
            };
            let text = wire::say(at, &content);
            self.masks = self.masks.wrapping_add(0x9e37_79b9);
            wire::client_frame(wire::TEXT, &text, self.masks.to_ne_bytes(), &mut bytes);
            match &mut self.squeezer {
                Some(squeezer) => squeezer.frame(&content, &mut room.expected),
                None => wire::server_frame(wire::TEXT, &content, &mut room.expected),
            }
            room.sequence += 1;
        }
        room.behind = (at..self.members.len())
            .step_by(count)
            .filter(|&member| !self.members[member].lags)
            .count();
        room.said = Instant::now();
        self.net.write(speaker, &bytes)
    }

    /// What one turn brings; how many rooms have now heard everything.
    fn turn(&mut self, sample: &mut Sample) -> io::Result<usize> {
        let timeout = match &mut self.probes {
            Some(probes) => probes.turn()?,
            None => Duration::from_secs(1),
        };
        self.net.turn(timeout).map_err(|error| {
            let behind: usize = self.rooms.iter().map(|room| room.behind).sum();
            io::Error::other(format!(
                "{error}; {behind} members have not heard everything"
            ))
        })?;
        let mut level = 0;
        for at in 0..self.net.ready.len() {
            let ready = self.net.ready[at];
            if !ready.readable {
                continue;
            }
            if self.members.get(ready.link).is_some_and(|it| it.lags) {
                continue;
            }
            if self.hear(ready.link)? {
                let at = ready.link % self.rooms.len();
                let room = &mut self.rooms[at];
                room.behind -= 1;
                if room.behind == 0 {
                    level += 1;
                    sample.broadcasts.push(micros(room.said));
                    sample.units += self.level(at);
                }
            }
        }
        Ok(level)
    }

    /// Reads what a member heard and compares it; whether that was the rest of it.
    fn hear(&mut self, link: usize) -> io::Result<bool> {
        loop {
            let got = self.net.read(link)?;
            if got == 0 {
                return Ok(false);
            }
            let Some(member) = self.members.get_mut(link) else {
                let heard = &self.net.scratch[..got];
                return Err(unexpected(heard, "nothing: it is in no room"));
            };
            let expected = &self.rooms[link % self.rooms.len()].expected;
            let ahead = &expected[member.heard..];
            let heard = &self.net.scratch[..got];
            if !ahead.starts_with(heard) {
                let awaited = String::from_utf8_lossy(&ahead[..ahead.len().min(60)]).into_owned();
                return Err(unexpected(
                    heard,
                    &format!("{awaited:?} (member {link}, byte {})", member.heard),
                ));
            }
            member.heard += got;
            if got < self.net.scratch.len() {
                return Ok(member.heard == expected.len());
            }
        }
    }

    /// All readers of the room are level: how many deliveries that makes.
    fn level(&mut self, at: usize) -> u64 {
        let mut readers = 0;
        let all = (at..self.members.len()).step_by(self.rooms.len());
        if self.laggards == Laggards::CatchUp {
            readers += all.filter(|&it| !self.members[it].lags).count();
        } else {
            self.rooms[at].expected.clear();
            for member in all {
                readers += usize::from(!self.members[member].lags);
                self.members[member].heard = 0;
            }
        }
        (readers * self.batch) as u64
    }

    /// The laggards read everything they were sent.
    fn catch_up(&mut self, sample: &mut Sample) -> io::Result<()> {
        let frame = self.size + if self.size < 126 { 2 } else { 4 };
        let mut left = 0;
        for link in 0..self.members.len() {
            if self.members[link].lags {
                let total = self.rooms[link % self.rooms.len()].expected.len();
                sample.units += (total / frame) as u64;
                left += usize::from(total > 0 && !self.hear(link)?);
            }
        }
        while left > 0 {
            self.net.turn(Duration::from_secs(1))?;
            for at in 0..self.net.ready.len() {
                let ready = self.net.ready[at];
                let lags = self.members.get(ready.link).is_some_and(|it| it.lags);
                if lags && ready.readable && self.hear(ready.link)? {
                    left -= 1;
                }
            }
        }
        for room in &mut self.rooms {
            room.expected.clear();
        }
        for member in &mut self.members {
            member.heard = 0;
        }
        Ok(())
    }
}
