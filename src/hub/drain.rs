//! The graceful stop (CONTRACT §8): who is told to leave, and when.
//!
//! Owns: how far it has come. Knows: every connection, by slot. Never knows: when it is over for the process.
//!
//! Clients are told one after the other, evenly over most of the time there is, so that they do not all come back at once
//! to whoever takes over; upgrades about which the authorizer is being asked are refused at once.

use super::{DEADLINES, Hub, WALK};
use crate::clock::Millis;
use crate::connection::{Authorizing, Stream};
use crate::effect::ConnId;

/// The part of the drain time in which clients are told to leave; the rest is theirs to do so. In tenths.
const DRAIN_TENTHS: Millis = 9;

/// A graceful stop under way.
#[derive(Debug)]
pub struct Drain {
    from: Millis,
    /// How long clients are told to leave, one after the other.
    spread: Millis,
    /// WebSockets at its begin.
    total: u64,
    /// Of these, how many were told.
    told: u64,
    /// Slots at its begin: whoever comes later is told at once.
    slots: u32,
    /// Where the walk over the slots goes on that refuses upgrades under way.
    refuse: u32,
    /// Where the walk over the slots goes on that tells clients to leave.
    tell: u32,
}

impl Drain {
    /// How many should have been told by now, or may be in one turn.
    fn due(&self, now: Millis) -> u64 {
        let passed = now.saturating_sub(self.from);
        let share = self.total.saturating_mul(passed).checked_div(self.spread);
        let due = match share {
            Some(share) if passed < self.spread => share.saturating_add(1),
            _ => self.total,
        };
        due.min(self.total)
            .min(self.told.saturating_add(DEADLINES as u64))
    }

    /// When the next is to be told, if anybody is.
    pub fn next(&self) -> Option<Millis> {
        let share = self.spread.saturating_mul(self.told);
        let next = self.from.saturating_add(share.div_ceil(self.total.max(1)));
        (self.told < self.total).then_some(next)
    }

    /// Whether the walk that refuses upgrades goes on.
    pub fn is_refusing(&self) -> bool {
        self.refuse < self.slots
    }
}

impl<S: Stream> Hub<S> {
    /// Begins a graceful stop, which is to be over in `time`.
    pub fn drain(&mut self, time: Millis) {
        let total = self.websockets as u64;
        self.drain = Some(Drain {
            from: self.clock.now,
            spread: time.saturating_mul(DRAIN_TENTHS) / 10,
            total,
            told: 0,
            slots: self.registry.slots(),
            refuse: 0,
            tell: 0,
        });
        self.refuse_upgrades();
        self.tell_to_leave();
        self.end_taps();
    }

    /// Refuses upgrades about which the authorizer is being asked, those in the next slots.
    pub(super) fn refuse_upgrades(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let next = drain.refuse;
        drain.refuse = drain.slots.min(next.saturating_add(WALK));
        for slot in next..drain.refuse {
            let Some(connection) = self.registry.tenant(slot) else {
                continue;
            };
            let generation = connection.generation();
            if let Some(Authorizing { exchange, .. }) = connection.session.take_authorizing() {
                connection.starved = false;
                let id = ConnId { slot, generation };
                self.refuse_stopping(id, exchange);
                self.settle(id);
            }
        }
    }

    /// Tells as many clients to leave as should have been told by now, or may be in one turn.
    pub(super) fn tell_to_leave(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let due = drain.due(self.clock.now);
        let end = drain.slots.min(drain.tell.saturating_add(WALK));
        while let Some(drain) = &mut self.drain
            && drain.told < due
        {
            let slot = drain.tell;
            if slot == drain.slots {
                drain.told = drain.total;
                return;
            }
            if slot == end {
                return;
            }
            drain.tell = drain.tell.saturating_add(1);
            let Some(connection) = self.registry.tenant(slot).filter(|c| c.session.is_open())
            else {
                continue;
            };
            connection.stopping = true;
            let id = ConnId {
                slot,
                generation: connection.generation(),
            };
            drain.told = drain.told.saturating_add(1);
            self.settle(id);
        }
    }

    /// Whether nobody is connected any more who would miss the server.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.websockets == 0 && self.busy == 0
    }
}
