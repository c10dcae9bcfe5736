//! Every connection, by its id.
//!
//! Owns: the connections, their serial numbers and public ids, their queries and states, and how many of them count as
//! WebSockets or as busy. Knows: which slot holds which connection. Never knows: what a connection does. There is no
//! other way to a connection than [`Roster::get`] with a [`ConnId`] or [`Roster::in_slot`] with a slot.

mod saved;

use std::fmt;
use std::io;

use slab::Slab;

use super::slots::Slots;
use crate::clock::Millis;
use crate::connection::{Connection, Identities, Identity, Peer, Standing, Stream};
use crate::effect::ConnId;
use crate::short_text::ShortText;
use crate::wire::{http, question};

/// A connection's public id (`docs/authorizer.md#questions`): unique across processes and restarts. It holds the slot, so
/// that finding the connection is arithmetic; `Display` has a fixed width and begins with the node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicId {
    /// The process's random name.
    pub node: u64,
    pub slot: u32,
    /// Counts the connections of the process; the low 48 bits of it, which last for thousands of years.
    pub serial: u64,
}

/// Slots that are reserved at most. The kernel provides memory for them only when they are used. Without a reservation
/// the slab would be moved when it grows, which delays the loop by two milliseconds for half a million connections.
const MOST_RESERVED: usize = 1 << 20;
/// The part of a serial number that a public id shows.
const SERIAL: u64 = (1 << 48) - 1;

impl PublicId {
    /// Parses the text that `Display` has written, and nothing else.
    pub fn parse(text: &str) -> Option<PublicId> {
        let (node, rest) = text.split_once('-')?;
        let (slot, serial) = rest.split_at_checked(8)?;
        let number = |text: &str, width| {
            let digits = text.len() == width && text.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(text, 16).ok().filter(|_| digits)
        };
        Some(PublicId {
            node: number(node, 16)?,
            slot: number(slot, 8)? as u32,
            serial: number(serial, 12)?,
        })
    }
}

impl PublicId {
    /// The id as clients and backends see it.
    pub fn text(&self) -> ShortText {
        let mut text = ShortText::default();
        text.push_hex(self.node, 16);
        text.push(b'-');
        text.push_hex(self.slot.into(), 8);
        text.push_hex(self.serial & SERIAL, 12);
        text
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// A connection as logs, taps and questions show it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub id: PublicId,
    pub peer: Peer,
    /// To which user it belongs, in the authorizer's words.
    pub user: Option<Box<str>>,
}

#[derive(Debug)]
pub struct Roster<S> {
    slab: Slab<Connection<S>>,
    accepted: u64,
    node: u64,
    /// The queries, users and states of all connections.
    pub identities: Identities,
    /// When the WebSocket in a slot was opened, in 40 bits, which last for 34 years; 0: there is none.
    opened: Slots<[u8; 5]>,
    /// WebSockets, and upgrades under way.
    pub websockets: usize,
    /// Other connections with a request under way, or an end.
    pub busy: usize,
}

impl<S: Stream> Roster<S> {
    /// A roster without connections. `node` is the process's random name. Room for `slots` connections is reserved.
    pub fn new(node: u64, slots: usize) -> Roster<S> {
        Roster {
            slab: Slab::with_capacity(slots.min(MOST_RESERVED)),
            accepted: 0,
            node,
            identities: Identities::default(),
            opened: Slots::default(),
            websockets: 0,
            busy: 0,
        }
    }

    /// Gives a stream a slot and an id.
    ///
    /// # Errors
    /// No slot is left that a [`ConnId`] could name; the stream is dropped.
    pub fn insert(&mut self, stream: S, peer: Peer, now: u64) -> io::Result<ConnId> {
        let entry = self.slab.vacant_entry();
        let slot = u32::try_from(entry.key()).ok();
        let Some(slot) = slot.filter(|slot| *slot != ConnId::NO_SLOT) else {
            return Err(io::Error::other("more connections than 32 bits can name"));
        };
        self.accepted = self.accepted.wrapping_add(1);
        entry.insert(Connection::new(stream, peer, self.accepted, now));
        Ok(ConnId {
            slot,
            generation: self.accepted as u32,
        })
    }

    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection<S>> {
        self.slab
            .get_mut(id.slot as usize)
            .filter(|c| c.generation() == id.generation)
    }

    /// The connection in `slot`, and its id.
    #[inline]
    pub fn in_slot(&mut self, slot: u32) -> Option<(ConnId, &mut Connection<S>)> {
        let connection = self.slab.get_mut(slot as usize)?;
        let generation = connection.generation();
        Some((ConnId { slot, generation }, connection))
    }

    /// A connection as logs, taps and questions show it.
    pub fn subject(&mut self, id: ConnId) -> Subject {
        let (id, peer, identity) = self.facts(id);
        let user = self.identities.user(identity).map(Into::into);
        Subject { id, peer, user }
    }

    fn facts(&mut self, id: ConnId) -> (PublicId, Peer, Identity) {
        let (node, slot) = (self.node, id.slot);
        let (serial, peer, identity) = self
            .get(id)
            .map_or((0, Peer::UNIX, Identity::default()), |c| {
                (c.serial(), c.client(), c.identity())
            });
        (PublicId { node, slot, serial }, peer, identity)
    }

    /// Notes that the WebSocket in a slot is open.
    pub fn open(&mut self, slot: u32, now: Millis) {
        if let Some(opened) = self.opened.entry(slot) {
            let [a, b, c, d, e, ..] = now.max(1).to_le_bytes();
            *opened = [a, b, c, d, e];
        }
    }

    /// Notes that the WebSocket in a slot has ended.
    pub fn close(&mut self, slot: u32) {
        self.opened.take(slot);
    }

    /// When the WebSocket in a slot was opened, if there is one.
    #[inline]
    pub fn opened_at(&self, slot: u32) -> Option<Millis> {
        let [a, b, c, d, e] = *self.opened.get(slot)?;
        let at = Millis::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
        (at > 0).then_some(at)
    }

    /// Appends what questions and events show of a connection, as JSON.
    pub fn push_connection(&mut self, id: ConnId, out: &mut Vec<u8>) {
        let (id, peer, identity) = self.facts(id);
        let query = http::query_pairs(self.identities.query(identity));
        let (user, state) = (
            self.identities.user(identity),
            self.identities.state(identity),
        );
        let (id, peer) = (id.text(), peer.text());
        question::push_connection(out, id.as_bytes(), peer.as_bytes(), user, &query, state);
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Connection<S>> {
        self.get(id)?;
        self.slab.try_remove(id.slot as usize)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Where a walk over all slots ends: one more than the highest slot in use may be.
    pub fn slots(&self) -> u32 {
        self.slab.capacity() as u32
    }

    /// Counts a connection as what it is now. Returns both standings if it has changed.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "what is no longer counted was counted; a wrong count is to be seen by tests, not to be hidden"
    )]
    #[inline]
    pub fn recount(&mut self, id: ConnId) -> Option<(Standing, Standing)> {
        let connection = self.get(id)?;
        let now = connection.standing();
        let before = std::mem::replace(&mut connection.marks().standing, now);
        if now == before {
            return None;
        }
        match before {
            Standing::Idle => {}
            Standing::Busy => self.busy -= 1,
            Standing::WebSocket => self.websockets -= 1,
        }
        match now {
            Standing::Idle => {}
            Standing::Busy => self.busy += 1,
            Standing::WebSocket => self.websockets += 1,
        }
        Some((before, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_ids_have_a_fixed_width_and_come_back() {
        for (slot, serial) in [(0, 1), (7, 0xabc), (u32::MAX, SERIAL)] {
            let id = PublicId {
                node: 0xa265_abcd_a451_4c6f,
                slot,
                serial,
            };
            let text = id.to_string();
            assert_eq!((text.len(), PublicId::parse(&text)), (37, Some(id)));
            assert!(text.starts_with("a265abcda4514c6f-"));
        }
    }

    #[test]
    fn nothing_else_is_a_public_id() {
        let good = "a265abcda4514c6f-00000007000000000abc";
        assert!(PublicId::parse(good).is_some());
        for bad in [
            "",
            "a265abcda4514c6f-1",
            "a265abcda4514c6f",
            "265abcda4514c6f-00000007000000000abc",
            "a265abcda4514c6f-0000000700000000+abc",
            "a265abcda4514c6f-00000007000000000abcd",
            "a265abcda4514c6f-0000000é000000000ab",
        ] {
            assert_eq!(PublicId::parse(bad), None, "{bad}");
        }
    }
}
