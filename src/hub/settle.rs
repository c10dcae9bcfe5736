//! What follows from a change to a connection: it is counted, closed, or listed to be flushed, to get a turn, or to be
//! dropped. [`settle`] is called after each thing that is done to a connection, and its steps stand in their order.
//!
//! Owns: the order of the steps. Knows: a connection's state as a whole. Never knows: what was done.

use super::questions;
use super::report::{self, events};
use super::state::Hub;
use crate::buffers::Slice;
use crate::connection::{Ending, Standing, Stream};
use crate::effect::ConnId;
use crate::wire::event::EventKind;

/// Does what follows from a change to a connection.
#[inline]
pub fn settle<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    withdraw_question(hub, id);
    close_if_due(hub, id);
    enforce_memory_budget(hub, id);
    recount(hub, id);
    enlist(hub, id);
}

/// Takes the question of a connection back if it is of no use any more. Ends a connection that was reset while it waits for
/// the answer.
///
/// Decision: a connection that was reset counts as gone while its question is open, rather than serving it to the end.
/// Otherwise many clients that have given up would occupy workers and count toward --max-connections. A connection that
/// has only shut down its sending side behind a message still waits for the answer, and is served to the end. It is
/// closed while its question is held, which may take long.
#[inline]
fn withdraw_question<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    if !connection.is_asking() && !connection.is_broken() {
        return;
    }
    if connection.awaits_verdict() && connection.was_reset() {
        connection.fail(Ending::Reset);
        connection.forget_input();
    }
    if connection.is_held() && connection.has_hung_up() {
        abandon(hub, id);
    }
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    if connection.is_asking() && !connection.awaits_verdict() {
        connection.set_asking(false);
        questions::withdraw(hub, id);
    }
}

/// Closes a connection that is too slow, or whose turn it is in the graceful stop.
#[inline]
fn close_if_due<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    if connection.is_too_slow() {
        let waiting = connection.waiting_out();
        if !hub.usage.memory.is_short_for(waiting, &hub.runs) {
            close(hub, id, Ending::TooSlow);
        } else if !connection.is_over() {
            // What waits for it is released at once. A close frame would have to wait behind it.
            connection.fail(Ending::TooSlow);
            report::overloaded(hub);
        }
    } else if connection.is_to_stop() {
        close(hub, id, Ending::Stopping);
    }
}

/// Notes how much of its input waits, and ends it when that is more than is left of the memory budget.
#[inline]
fn enforce_memory_budget<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    let waiting = connection.waiting_in();
    let more = hub.usage.memory.note(id.slot, waiting);
    // What is held already makes no room for what comes later.
    let grows = more || !connection.is_held();
    if waiting > 0 && grows && waiting > hub.usage.memory.room_in() {
        overload(hub, id);
    }
}

/// Ends a connection because the memory budget is used up.
fn overload<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let retry_after = hub.retry_after();
    match hub.roster.get(id) {
        Some(connection) if connection.is_open() => close(hub, id, Ending::Overloaded),
        Some(connection) => connection.overload(retry_after, &hub.clock),
        None => {}
    }
    if let Some(connection) = hub.roster.get(id) {
        connection.forget_input();
        hub.usage.memory.note(id.slot, connection.waiting_in());
    }
    report::overloaded(hub);
}

/// Counts it as what it is now. If it was a WebSocket and no longer is one, its memberships and grants end.
#[inline]
fn recount<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    if let Some((before, now)) = hub.roster.recount(id) {
        counted(hub, id, before, now);
    }
}

fn counted<S: Stream>(hub: &mut Hub<S>, id: ConnId, before: Standing, now: Standing) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    let (ending, network) = (connection.ending(), connection.client().network());
    if before == Standing::WebSocket {
        report::websocket_ended(hub, id, ending);
        hub.usage.per_address.uncount(id.slot);
        end_memberships(hub, id, ending);
        hub.channels.release_reserved(id.slot);
        hub.grants.end(id.slot);
        hub.disconnects.end(id.slot);
        end_listing(hub, id);
    }
    if now == Standing::WebSocket {
        hub.usage.per_address.enter(id.slot, network);
    }
}

/// Removes a connection from the lists of WebSockets and from its user.
fn end_listing<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    hub.roster.close(id.slot);
    if !hub.users.is_empty()
        && let Some(connection) = hub.roster.get(id)
        && let identity = connection.identity()
        && let Some(user) = hub.roster.identities.user(identity)
    {
        hub.users.remove(user, id.slot);
    }
}

fn end_memberships<S: Stream>(hub: &mut Hub<S>, id: ConnId, ending: Option<Ending>) {
    let facts = events::going(hub, id, ending);
    let wanted = hub.listeners.events.wants(EventKind::Vacated);
    let vacated = hub.channels.leave_all(id.slot, wanted, &mut hub.runs);
    events::gone(hub, id, facts, vacated);
}

/// Counts what it waits to send, and enters it into the lists where it has work.
#[inline]
pub fn enlist<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    connection.count(&mut hub.runs);
    if connection.wants_flush() {
        hub.agenda.flush(id, connection);
    }
    if connection.is_over() {
        return hub.agenda.drop(id, connection);
    }
    if connection.has_work() {
        hub.agenda.again(id, connection);
    }
    let refresh = hub.grants.refresh_at(id.slot);
    let (now, limits) = (hub.clock.now, &hub.limits);
    hub.agenda.watch(id, connection, refresh, now, limits);
}

/// Begins the end of a WebSocket. What was published while it was a member goes before the close frame.
pub fn close<S: Stream>(hub: &mut Hub<S>, id: ConnId, ending: Ending) {
    close_with_reason(hub, id, ending, None);
}

/// Begins the end of a WebSocket; `reason` takes the place of the ending's own.
pub fn close_with_reason<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    ending: Ending,
    reason: Option<&str>,
) {
    if !hub.roster.get(id).is_some_and(|c| c.is_open()) {
        return;
    }
    enqueue_pending(hub, id);
    events::closing(hub, id, ending);
    if let Some(connection) = hub.roster.get(id) {
        connection.close(ending, reason, hub.clock.now);
    }
}

/// Begins the end of a connection whose client sends no more. A client that has only shut down its sending side still
/// receives its answers, and what was published while it was a member.
pub fn end_of_stream<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    enqueue_pending(hub, id);
    if let Some(connection) = hub.roster.get(id) {
        connection.ended(hub.clock.now);
    }
}

/// Handles the end of the stream while the connection's question is held: what waits for the authorizer is forgotten.
pub fn abandon<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    enqueue_pending(hub, id);
    if let Some(connection) = hub.roster.get(id) {
        connection.abandon(hub.clock.now);
    }
}

/// Puts into its outbox what was published while it was a member, unless nothing can be sent to it any more.
fn enqueue_pending<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    if hub.roster.get(id).is_none_or(|c| c.ending().is_some()) {
        return;
    }
    let slices = hub.channels.all_pending(id.slot);
    enqueue(hub, id, slices);
}

/// Puts what was published while it was a member into its outbox.
pub fn enqueue<S: Stream>(hub: &mut Hub<S>, id: ConnId, slices: Vec<Slice>) {
    for slice in slices {
        report::enqueued(hub, id, slice);
        if let Some(connection) = hub.roster.get(id) {
            connection.enqueue(slice, &mut hub.runs, &hub.limits);
        }
    }
}
