//! Opening connections: connect, upgrade, join, each answer checked, many at a time.
//!
//! Owns: where each connection under way stands. Pings that come meanwhile are answered.

use std::io;
use std::time::Duration;

use super::net::{Net, Ready};
use crate::wire;

/// This many at a time are fast, and fit any listen backlog.
pub const WINDOW: usize = 256;

/// What a connection is to become.
#[derive(Clone)]
pub enum Plan {
    /// HTTP: connected is enough.
    Plain,
    WebSocket {
        /// With its `?`, or empty.
        query: String,
        room: Option<usize>,
        slow: bool,
        /// It offers compression, which must be agreed to.
        deflate: bool,
    },
}

impl Plan {
    pub fn member(room: usize) -> Self {
        Self::WebSocket {
            query: String::new(),
            room: Some(room),
            slow: false,
            deflate: false,
        }
    }

    /// A WebSocket in no room.
    pub fn outsider() -> Self {
        Self::WebSocket {
            query: String::new(),
            room: None,
            slow: false,
            deflate: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Connecting,
    Upgrading,
    Joining,
    Open,
}

pub struct Opening {
    plans: Vec<Plan>,
    phases: Vec<Phase>,
    /// The link of the first plan.
    first: usize,
    open: usize,
    window: usize,
}

impl Opening {
    /// The plans become links behind those that there are.
    pub fn new(net: &Net, plans: Vec<Plan>, window: usize) -> Self {
        Self {
            phases: Vec::with_capacity(plans.len()),
            plans,
            first: net.links.len(),
            open: 0,
            window,
        }
    }

    pub fn done(&self) -> bool {
        self.open == self.plans.len()
    }

    /// Whether there is still one to be begun that the window has room for.
    pub fn eager(&self) -> bool {
        self.phases.len() < self.plans.len() && self.phases.len() - self.open < self.window
    }

    /// Begins this many more, as far as the window goes.
    pub fn begin(&mut self, net: &mut Net, at_most: usize) -> io::Result<()> {
        for _ in 0..at_most {
            if !self.eager() {
                break;
            }
            let slow = matches!(
                self.plans[self.phases.len()],
                Plan::WebSocket { slow: true, .. }
            );
            net.connect(self.first + self.phases.len(), slow)?;
            self.phases.push(Phase::Connecting);
        }
        Ok(())
    }

    /// Goes on with a connection that has news.
    pub fn advance(&mut self, net: &mut Net, ready: Ready) -> io::Result<()> {
        let Some(at) = ready.link.checked_sub(self.first) else {
            return Ok(());
        };
        if self.phases[at] == Phase::Connecting && ready.writable {
            if let Some(error) = net.links[ready.link].stream.take_error()? {
                return Err(error);
            }
            self.phases[at] = match &self.plans[at] {
                Plan::Plain => self.opened(),
                Plan::WebSocket { query, deflate, .. } => {
                    let request = wire::upgrade(&key(ready.link), query, *deflate);
                    net.write(ready.link, &request)?;
                    Phase::Upgrading
                }
            };
            return Ok(());
        }
        if !ready.readable {
            return Ok(());
        }
        net.fill(ready.link)?;
        if self.phases[at] == Phase::Upgrading {
            let inbox = &mut net.links[ready.link].inbox;
            let Some(end) = upgraded(inbox, &key(ready.link))? else {
                return Ok(());
            };
            let agreed = wire::header_value(&inbox[..end], "sec-websocket-extensions");
            let offered = matches!(self.plans[at], Plan::WebSocket { deflate: true, .. });
            if agreed.is_some() != offered {
                return Err(unexpected(&inbox[..end], "compression as it was offered"));
            }
            inbox.drain(..end);
            self.phases[at] = match self.plans[at] {
                Plan::WebSocket {
                    room: Some(room), ..
                } => {
                    let mut frame = Vec::new();
                    let text = wire::join(room, id(ready.link));
                    wire::client_frame(wire::TEXT, &text, [9, 8, 7, 6], &mut frame);
                    net.write(ready.link, &frame)?;
                    Phase::Joining
                }
                _ => self.opened(),
            };
        }
        while let Some(text) = hear(net, ready.link)? {
            if self.phases[at] != Phase::Joining || text != wire::ack(id(ready.link)) {
                return Err(unexpected(&text, "the answer to a join"));
            }
            self.phases[at] = self.opened();
        }
        Ok(())
    }

    fn opened(&mut self) -> Phase {
        self.open += 1;
        Phase::Open
    }
}

/// Opens them all, and waits until they are.
pub fn open(net: &mut Net, plans: Vec<Plan>) -> io::Result<()> {
    let mut opening = Opening::new(net, plans, WINDOW);
    net.begin();
    while !opening.done() {
        opening.begin(net, WINDOW)?;
        net.turn(Duration::from_secs(1))?;
        for at in 0..net.ready.len() {
            let ready = net.ready[at];
            opening.advance(net, ready)?;
        }
    }
    Ok(())
}

/// The next text message in a link's inbox; pings before it are answered.
fn hear(net: &mut Net, link: usize) -> io::Result<Option<Vec<u8>>> {
    while let Some(frame) = wire::frame(&net.links[link].inbox, 0) {
        let payload = net.links[link].inbox[frame.start..frame.end].to_vec();
        net.links[link].inbox.drain(..frame.end);
        match frame.opcode {
            wire::TEXT => return Ok(Some(payload)),
            wire::PING => {
                let mut pong = Vec::new();
                wire::client_frame(wire::PONG, &payload, [1, 2, 3, 4], &mut pong);
                net.write(link, &pong)?;
            }
            _ => return Err(unexpected(&payload, "a text message or a ping")),
        }
    }
    Ok(None)
}

/// Checks an upgrade's answer: where its head ends, once it has come.
pub fn upgraded(bytes: &[u8], key: &str) -> io::Result<Option<usize>> {
    let Some(end) = wire::head_end(bytes) else {
        return Ok(None);
    };
    let head = &bytes[..end];
    let accepted = wire::header_value(head, "sec-websocket-accept");
    if !head.starts_with(b"HTTP/1.1 101 ")
        || accepted != Some(wire::accept_key(key.as_bytes()).as_bytes())
    {
        return Err(unexpected(bytes, "101 with the right accept key"));
    }
    Ok(Some(end))
}

pub fn unexpected(bytes: &[u8], awaited: &str) -> io::Error {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    io::Error::other(format!("heard {shown:?} instead of {awaited}"))
}

fn key(link: usize) -> String {
    wire::client_key(link as u64)
}

fn id(link: usize) -> u32 {
    100_000_000 + link as u32
}
