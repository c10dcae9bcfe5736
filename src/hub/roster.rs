//! Every connection, by its name.
//!
//! Owns: the slab and the numbers that make a name unique. Knows: which slot has which tenant.
//! Never knows: what a connection does. There is no other way to a connection than [`Registry::get`] with a [`ConnId`]
//! or, for members of a channel (which leave it before their slot is free) and for the wheel of deadlines (who is looked
//! at in vain takes no harm), [`Registry::tenant`].

use std::fmt;
use std::io;

use slab::Slab;

use crate::connection::{Connection, Peer, Stream};
use crate::effect::ConnId;

/// The name under which the world knows a connection (CONTRACT §6): unique across processes and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub instance: u64,
    pub serial: u64,
}

impl Name {
    /// Of what `Display` has written.
    pub fn parse(text: &str) -> Option<Name> {
        let (instance, serial) = text.split_once('-')?;
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(text, 16).ok().filter(|_| digits)
        };
        Some(Name {
            instance: number(instance)?,
            serial: number(serial)?,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.instance, self.serial)
    }
}

#[derive(Debug)]
pub struct Registry<S> {
    slab: Slab<Connection<S>>,
    accepted: u64,
}

impl<S> Default for Registry<S> {
    fn default() -> Self {
        Registry {
            slab: Slab::new(),
            accepted: 0,
        }
    }
}

impl<S: Stream> Registry<S> {
    /// Gives a stream a slot and a name.
    ///
    /// # Errors
    /// The stream comes back when no slot is left that a [`ConnId`] could name.
    pub fn insert(&mut self, stream: S, peer: Peer, now: u64) -> io::Result<ConnId> {
        let entry = self.slab.vacant_entry();
        let Ok(slot) = u32::try_from(entry.key()) else {
            return Err(io::Error::other("more connections than 32 bits can name"));
        };
        self.accepted = self.accepted.wrapping_add(1);
        entry.insert(Connection::new(stream, peer, self.accepted, now));
        Ok(ConnId {
            slot,
            generation: self.accepted as u32,
        })
    }

    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection<S>> {
        self.slab
            .get_mut(id.slot as usize)
            .filter(|c| c.generation() == id.generation)
    }

    /// Whoever lives in `slot`.
    pub fn tenant(&mut self, slot: u32) -> Option<&mut Connection<S>> {
        self.slab.get_mut(slot as usize)
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Connection<S>> {
        self.get(id)?;
        self.slab.try_remove(id.slot as usize)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// One more than the highest slot in use may be: where a walk over all slots ends.
    pub fn slots(&self) -> u32 {
        self.slab.capacity() as u32
    }
}
