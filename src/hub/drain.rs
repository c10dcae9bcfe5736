//! The graceful stop, carried out (`docs/operating.md#stopping`).
//!
//! Owns: which clients are closed and refused in a turn. Knows: the [plan](super::drain_plan), and every connection by
//! slot. Never knows: when the process ends.
//!
//! Clients are closed one after the other, evenly over most of the drain time, so that they do not all reconnect at
//! once. What was published to a client and what waits in its outbox is sent before the close frame
//! ([`super::settle::close`]). Upgrades about which the authorizer is being asked are refused at once. A client whose
//! command waits is closed when it is answered, or when it has waited long enough. Likewise one that has sent messages which
//! were not handled yet.

use super::backend;
use super::drain_plan::DrainPlan;
use super::endpoints::{tap, upgrade};
use super::publish;
use super::settle::{close, settle};
use super::slots::Walk;
use super::state::Hub;
use crate::clock::Millis;
use crate::connection::{Awaits, Connection, Ending, Stream, Suspended};

/// Clients closed between two polls. Each takes 5 to 20 microseconds, as nothing of it is in a cache.
const CLOSES: u64 = 16;
/// The part of the drain time after which all clients are closed if events have a receiver, in percent. The rest is for
/// their events.
const WITH_EVENTS: Millis = 75;
/// Slots that each walk looks at between two polls: 0.01 to 0.4 milliseconds, as they are in a cache or not.
const SLOTS_PER_WALK: u32 = 256;

/// Begins a graceful stop, which is to be over in `time`.
pub fn begin<S: Stream>(hub: &mut Hub<S>, time: Millis) {
    let (websockets, slots) = (hub.roster.websockets, hub.roster.slots());
    let closing = match hub.settings.events {
        None => time,
        Some(_) => time.saturating_mul(WITH_EVENTS) / 100,
    };
    hub.drain = Some(DrainPlan::new(hub.clock.now, closing, websockets, slots));
    advance(hub);
    tap::end_all(hub);
}

/// Continues a graceful stop, if there is one.
pub fn advance<S: Stream>(hub: &mut Hub<S>) {
    refuse_upgrades(hub);
    close_clients(hub);
    close_waiting(hub);
    answer_waiting(hub);
}

/// Refuses upgrades that are under way, those in the next slots.
fn refuse_upgrades<S: Stream>(hub: &mut Hub<S>) {
    for _ in 0..SLOTS_PER_WALK {
        let Some(slot) = hub.drain.as_mut().and_then(|plan| plan.refuse.next()) else {
            return;
        };
        let now = hub.clock.now;
        if let Some((id, connection)) = hub.roster.in_slot(slot)
            && let Some(exchange) = connection.cancel_upgrade(now)
        {
            upgrade::refuse_stopping(hub, id, exchange);
            settle(hub, id);
        }
    }
}

/// Closes as many clients as are due, those in the next slots.
fn close_clients<S: Stream>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    let mut left = hub.drain.as_ref().map_or(0, |plan| plan.due(now, CLOSES));
    for _ in 0..SLOTS_PER_WALK {
        let Some(plan) = &mut hub.drain else { return };
        if left == 0 {
            return;
        }
        let Some(slot) = plan.close.next() else {
            return plan.close_none();
        };
        // A client that has just left is not counted any more: it must not take the turn of another.
        let is_here = |connection: &Connection<S>| connection.is_open() && !connection.is_over();
        let Some((id, connection)) = hub.roster.in_slot(slot).filter(|(_, c)| is_here(c)) else {
            continue;
        };
        connection.stop();
        plan.close_one();
        if !connection.is_to_stop() {
            plan.wait(id, now);
        }
        left = left.saturating_sub(1);
        settle(hub, id);
    }
}

/// Closes clients whose commands have waited long enough.
fn close_waiting<S: Stream>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    for _ in 0..CLOSES {
        let Some(id) = hub.drain.as_mut().and_then(|plan| plan.next_waiting(now)) else {
            return;
        };
        close(hub, id, Ending::Stopping);
        settle(hub, id);
    }
}

/// Near the end, answers the requests in the next slots that wait for the broker. Later requests do not wait.
fn answer_waiting<S: Stream>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    let slots = hub.roster.slots();
    for _ in 0..SLOTS_PER_WALK {
        let Some(plan) = hub.drain.as_mut().filter(|plan| plan.is_ending(now)) else {
            return;
        };
        let walk = plan.answer.get_or_insert(Walk::below(slots));
        let Some(slot) = walk.next() else { return };
        let request =
            |connection: &Connection<S>| !connection.is_open() && !connection.is_upgrading();
        let Some((id, _)) = hub.roster.in_slot(slot).filter(|(_, c)| request(c)) else {
            continue;
        };
        if let Some(exchange) = backend::cancel(hub, id) {
            publish::refuse_waiting(hub, id, exchange);
            settle(hub, id);
            continue;
        }
        let Some(connection) = hub.roster.get(id) else {
            continue;
        };
        let waiting = connection
            .resume(Awaits::Receipt, now)
            .or_else(|| connection.resume(Awaits::Channel, now));
        if let Some(Suspended::Post { exchange, .. }) = waiting {
            publish::refuse_waiting(hub, id, exchange);
            settle(hub, id);
        }
    }
}
