//! What a snapshot holds of conditions that last, or come and go.

use minicbor::{Decode, Encode};

use super::saved::SavedThrottle;
use super::{Condition, OutageThrottle};
use crate::clock::Millis;

/// A condition that comes and goes.
#[derive(Clone, Copy, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedOutageThrottle {
    #[n(0)]
    lines: SavedThrottle,
    /// When the one that lasts began.
    #[n(1)]
    since: Option<Millis>,
    /// Its beginning was logged.
    #[cbor(n(2), default)]
    logged: bool,
}

impl Condition {
    /// When it began, if it lasts.
    pub fn save(&self) -> Option<Millis> {
        let Condition { since, steady: _ } = *self;
        since
    }

    pub fn restore(&mut self, since: Option<Millis>, now: Millis) {
        self.since = since.map(|since| since.min(now));
    }
}

impl OutageThrottle {
    pub fn save(&self) -> SavedOutageThrottle {
        let OutageThrottle { lines, since } = self;
        SavedOutageThrottle {
            lines: lines.save(),
            since: since.map(|(since, _)| since),
            logged: since.is_some_and(|(_, logged)| logged),
        }
    }

    pub fn restore(&mut self, saved: SavedOutageThrottle, now: Millis) {
        self.lines.restore(saved.lines, now);
        let since = saved.since.map(|since| since.min(now));
        self.since = since.map(|since| (since, saved.logged));
    }
}
