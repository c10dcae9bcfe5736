//! What was published goes out: the fan-out in slices, and the flush of everything that waits to be sent.
//!
//! Owns: how much is sent between two polls, and in which order. Knows: audiences and outboxes. Never knows: what is sent.

use super::endpoints::tap;
use super::memberships::AudienceId;
use super::report::{self, Delivery};
use super::settle::settle;
use super::state::Hub;
use crate::connection::Stream;

/// Sends of broadcasts between two polls, and to one audience before the next audience's turn. Large frames count for
/// more.
const SENDS: usize = 32;
const SENDS_PER_AUDIENCE: usize = 16;
/// A send costs one more for each of these bytes.
const SEND_COST: usize = 64 * 1024;

/// Sends the next slices of what was published, round-robin between audiences. If that takes more than one turn,
/// answers to other connections are sent in between.
pub fn fan_out<S: Stream>(hub: &mut Hub<S>) {
    hub.limits.max_queue = hub.usage.memory.queue(&hub.runs);
    report::check_memory_relief(hub);
    if hub.agenda.fanning_out {
        flush(hub);
    }
    let mut left = SENDS;
    while left > 0 {
        let Some(audience) = hub.agenda.serving.pop_front() else {
            break;
        };
        let cost = serve(hub, audience, left.min(SENDS_PER_AUDIENCE));
        left = left.saturating_sub(cost);
    }
    hub.agenda.fanning_out = !hub.agenda.serving.is_empty();
}

/// Serves one audience until `budget` is used up or its batch has gone out. Returns what it cost.
fn serve<S: Stream>(hub: &mut Hub<S>, id: AudienceId, budget: usize) -> usize {
    let Some(audience) = hub.channels.audience_mut(id) else {
        return 1;
    };
    // Mostly no tap watches and no connection fails, and then these allocate nothing.
    let mut watched = Vec::new();
    let mut failed = Vec::new();
    let mut cost = 1_usize;
    let more = loop {
        if cost > budget {
            break true;
        }
        let Some((slot, slice, contents)) = audience.next(&hub.runs) else {
            hub.listeners.batch_gone_out(audience.since());
            break audience.finish_batch(&mut hub.runs);
        };
        cost = cost
            .saturating_add(1)
            .saturating_add(slice.len() / SEND_COST);
        let before = hub.runs.taken;
        let Some((id, connection)) = hub.roster.in_slot(slot) else {
            continue;
        };
        if !connection.deliver(slice, &mut hub.runs, &hub.limits) {
            failed.push(id);
        }
        let sent = hub.runs.taken.saturating_sub(before);
        hub.listeners.delivered(slot, contents, sent);
        if hub.listeners.taps.watches(slot) {
            watched.push(Delivery {
                id,
                contents,
                bytes: slice.len() as u64,
            });
        }
    };
    audience.listed = more;
    if more {
        hub.agenda.serving.push_back(id);
    }
    report::watched_deliveries(hub, id, &watched);
    hub.agenda.released.extend(hub.channels.served(id));
    while let Some(id) = failed.pop() {
        settle(hub, id);
    }
    cost
}

/// Flushes each connection into whose outbox something was put, once.
#[inline(always)]
pub fn flush<S: Stream>(hub: &mut Hub<S>) {
    tap::pump(hub);
    let mut dirty = std::mem::take(&mut hub.agenda.dirty);
    for id in dirty.drain(..) {
        if let Some(connection) = hub.roster.get(id) {
            connection.marks().dirty = false;
            let before = hub.runs.taken;
            connection.flush(&mut hub.runs, hub.clock.now);
            let sent = hub.runs.taken.saturating_sub(before);
            hub.listeners.flushed(id.slot, sent);
            settle(hub, id);
        }
    }
    // Connections that became dirty meanwhile are flushed next time. Usually there are none, and the list keeps its
    // memory.
    if hub.agenda.dirty.is_empty() {
        hub.agenda.dirty = dirty;
    }
    // The memory budget may have room again, which the poll does not report.
    tap::pump(hub);
}
