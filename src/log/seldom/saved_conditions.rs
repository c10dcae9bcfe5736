//! What a snapshot holds of conditions that last, or come and go.

use minicbor::{Decode, Encode};

use super::saved::SavedSeldom;
use super::{Condition, Spells};
use crate::clock::Millis;

/// A condition that comes and goes.
#[derive(Clone, Copy, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedSpells {
    #[n(0)]
    lines: SavedSeldom,
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

impl Spells {
    pub fn save(&self) -> SavedSpells {
        let Spells { lines, since } = self;
        SavedSpells {
            lines: lines.save(),
            since: since.map(|(since, _)| since),
            logged: since.is_some_and(|(_, logged)| logged),
        }
    }

    pub fn restore(&mut self, saved: SavedSpells, now: Millis) {
        self.lines.restore(saved.lines, now);
        let since = saved.since.map(|since| since.min(now));
        self.since = since.map(|since| (since, saved.logged));
    }
}
