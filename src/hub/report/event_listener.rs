//! What the receiver of events listens to.
//!
//! Owns: which kinds are chosen; the queue; with `disconnected`, since when each connection is open, and its first close
//! code. Never knows: what happens ([`super::events`] does).

use super::event_queue::EventQueue;
use crate::clock::Millis;
use crate::hub::settings::EventSettings;
use crate::hub::slots::Slots;
use crate::log::Seldom;
use crate::wire::event::{EventKind, EventKinds};

/// The pause between two lines about dropped events, in milliseconds.
const SELDOM: Millis = 60_000;

/// An open WebSocket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    pub is_open: bool,
    /// The first close code that was sent or received.
    pub code: Option<u16>,
    pub since: Millis,
}

#[derive(Debug)]
pub struct EventListener {
    /// None, if there is no receiver.
    kinds: EventKinds,
    pub queue: EventQueue,
    /// Empty unless `disconnected` is chosen.
    pub lives: Slots<Life>,
    pub drops: Seldom,
    /// Dropped events that no line has reported.
    pub unreported: u64,
}

impl EventListener {
    pub fn new(settings: Option<EventSettings>) -> EventListener {
        EventListener {
            kinds: settings.map_or(EventKinds::default(), |it| it.kinds),
            queue: EventQueue::new(settings.map_or(0, |it| it.queue)),
            lives: Slots::default(),
            drops: Seldom::once_in(SELDOM),
            unreported: 0,
        }
    }

    #[inline]
    pub fn wants(&self, kind: EventKind) -> bool {
        self.kinds.has(kind)
    }

    /// Whether events show queries and states of connections.
    pub fn shows_connections(&self) -> bool {
        self.wants(EventKind::Connected) || self.wants(EventKind::Disconnected)
    }

    /// When the line about dropped events is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.drops.deadline()
    }
}
