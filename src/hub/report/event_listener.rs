//! Which events the receiver gets.
//!
//! Owns: which kinds are chosen; the queue; first close codes. Never knows: what happens ([`super::events`] does).

use super::event_queue::EventQueue;
use crate::clock::{Millis, rfc3339};
use crate::hub::settings::EventSettings;
use crate::hub::slots::Slots;
use crate::log::Throttle;
use crate::wire::event::{EventKind, EventKinds};

/// The pause between two lines about dropped events, in milliseconds.
const LOG_INTERVAL: Millis = 60_000;

#[derive(Debug)]
pub struct EventListener {
    /// None, if there is no receiver.
    kinds: EventKinds,
    pub queue: EventQueue,
    /// The first close code that was sent or received, of WebSockets that are being closed. Empty unless `disconnected` is
    /// chosen, and between two calls of the hub: the event follows in the one that closes.
    pub codes: Slots<Option<u16>>,
    pub drops: Throttle,
    /// Dropped events that no line has reported.
    pub unreported: u64,
    /// What the last event had, as many happen in the same millisecond.
    pub time: EventTime,
}

/// A time, and the text that shows it.
#[derive(Debug, Default)]
pub struct EventTime {
    unix: Millis,
    text: String,
}

impl EventTime {
    pub fn text(&mut self, unix: Millis) -> &str {
        if self.unix != unix || self.text.is_empty() {
            (self.unix, self.text) = (unix, rfc3339(unix));
        }
        &self.text
    }
}

impl EventListener {
    pub fn new(settings: Option<EventSettings>) -> EventListener {
        EventListener {
            kinds: settings.map_or(EventKinds::default(), |it| it.kinds),
            queue: EventQueue::new(settings.map_or(0, |it| it.queue)),
            codes: Slots::default(),
            drops: Throttle::once_in(LOG_INTERVAL),
            unreported: 0,
            time: EventTime::default(),
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
