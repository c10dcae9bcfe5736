//! Room for who waits to be accepted, where there are no file descriptors: some of those who have no request make way.
//!
//! Owns: where the search for them goes on. Knows: what each connection would lose. Never knows: how many wait, or why.
//!
//! Decision: whose place is given away is found by a hand that goes round the slots, over a list of those who have no
//! request. A newcomer takes the slot that was left behind the hand, so it is looked at last, which is what a list by age
//! would do; and nothing has to be kept of anybody while there is room.

use crate::connection::{Claim, Stream};
use crate::effect::ConnId;
use crate::hub::{Hub, WALK};

/// The search for a place.
#[derive(Debug, Default)]
pub struct Search {
    /// The slot where it goes on.
    hand: u32,
    /// How many were looked at since a place was found.
    in_vain: u32,
}

impl<S: Stream> Hub<S> {
    /// Others wait at the door, and there is no place: ends at most `wanted` of those who have no request, or, where there
    /// are none, one whose request is not complete. Returns whether it is worth going on: false when everybody was looked
    /// at in vain.
    pub fn evict(&mut self, wanted: usize, buffer: &mut [u8]) -> bool {
        let slots = self.registry.slots();
        let mut left = wanted;
        let mut begun = None;
        for _ in 0..slots.min(WALK) {
            if left == 0 {
                return true;
            }
            let slot = self.search.hand;
            self.search.hand = slot
                .checked_add(1)
                .filter(|next| *next < slots)
                .unwrap_or(0);
            self.search.in_vain = self.search.in_vain.saturating_add(1);
            let Some(connection) = self.registry.tenant(slot) else {
                continue;
            };
            let id = ConnId {
                slot,
                generation: connection.generation(),
            };
            let mut claim = connection.claim(self.clock.now);
            if claim == Claim::None {
                // Its request may have come, and the poll has not told yet.
                connection.readable(false);
                self.turn(id, buffer);
                let now = self.clock.now;
                claim = self.registry.get(id).map_or(Claim::Firm, |c| c.claim(now));
            }
            match claim {
                Claim::None => {
                    self.give_away(id);
                    left = left.saturating_sub(1);
                }
                Claim::Begun => begun = begun.or(Some(id)),
                Claim::Firm => {}
            }
        }
        if left == wanted
            && let Some(id) = begun
        {
            self.give_away(id);
            self.search.hand = id.slot.saturating_add(1);
        }
        if self.search.in_vain < slots {
            return true;
        }
        self.search.in_vain = 0;
        false
    }

    /// Gives the place of a connection away, once it is dropped.
    fn give_away(&mut self, id: ConnId) {
        let retry_after = self.retry_after();
        if let Some(connection) = self.registry.get(id) {
            connection.make_way(retry_after, &mut self.runs, &self.clock);
            self.search.in_vain = 0;
            self.settle(id);
        }
    }
}
