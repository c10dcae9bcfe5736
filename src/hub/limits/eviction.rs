//! Eviction: when file descriptors run out, idle HTTP connections are closed so that new ones can be accepted.
//!
//! Owns: the search for them. Knows: which connections may be evicted. Never knows: how many connections wait to be
//! accepted.
//!
//! Decision: a walk that goes round the slots rather than a list of idle connections. A new connection takes a slot
//! that was freed behind the walk, so it is checked last, as in a list by age. And no list has to be kept up to date.

use crate::connection::{Evictable, Stream};
use crate::effect::ConnId;
use crate::hub::settle::settle;
use crate::hub::state::Hub;
use crate::hub::turn::turn;

/// Slots checked between two polls.
const SLOTS_PER_WALK: u32 = 4096;

/// Evicts at most `wanted` connections without a request, or, if there are none, one whose request is not complete.
/// Returns whether it is worth going on: false when no slot had a candidate.
pub fn evict<S: Stream>(hub: &mut Hub<S>, wanted: usize, buffer: &mut [u8]) -> bool {
    let slots = hub.roster.slots();
    let mut left = wanted;
    let mut begun = None;
    for _ in 0..slots.min(SLOTS_PER_WALK) {
        if left == 0 {
            return true;
        }
        let slot = hub.usage.eviction.next_around(slots);
        hub.usage.evicted_none = hub.usage.evicted_none.saturating_add(1);
        let Some((id, connection)) = hub.roster.in_slot(slot) else {
            continue;
        };
        let mut evictable = connection.evictable(hub.clock.now);
        if evictable == Evictable::Yes {
            // Its request may have come before the poll has reported it.
            connection.readable(false, false);
            turn(hub, id, buffer);
            let now = hub.clock.now;
            let connection = hub.roster.get(id);
            evictable = connection.map_or(Evictable::No, |c| c.evictable(now));
        }
        match evictable {
            Evictable::Yes => {
                evict_one(hub, id);
                left = left.saturating_sub(1);
            }
            Evictable::IfNeeded => begun = begun.or(Some(id)),
            Evictable::No => {}
        }
    }
    if left == wanted
        && let Some(id) = begun
    {
        evict_one(hub, id);
        hub.usage.eviction.continue_after(id.slot);
    }
    if hub.usage.evicted_none < slots {
        return true;
    }
    hub.usage.evicted_none = 0;
    false
}

fn evict_one<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let retry_after = hub.retry_after();
    if let Some(connection) = hub.roster.get(id) {
        connection.evict(retry_after, &mut hub.runs, &hub.clock);
        hub.usage.evicted_none = 0;
        settle(hub, id);
    }
}
