//! Which clients are being told that they may have missed what goes to users and connections (`docs/scaling.md#gaps`).
//!
//! Owns: where that walk is. Knows: slots. Never knows: why something was missed, or what clients are told.

use crate::clock::Millis;
use crate::hub::slots::Walk;

#[derive(Debug, Default)]
pub struct MissedWalk {
    walk: Walk,
    /// Clients that were open then are told.
    pub at: Millis,
}

impl MissedWalk {
    /// A walk over the slots below `end`.
    pub fn below(end: u32, at: Millis) -> MissedWalk {
        MissedWalk {
            walk: Walk::below(end),
            at,
        }
    }

    pub fn is_under_way(&self) -> bool {
        !self.walk.is_over()
    }

    /// The next slot; `None` when it is over.
    pub fn next(&mut self) -> Option<u32> {
        self.walk.next()
    }
}
