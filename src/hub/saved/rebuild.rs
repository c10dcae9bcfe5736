//! What follows from the facts of a restored hub: one walk over all connections makes it.
//!
//! Owns: the walk. Knows: what the hub counts, and which lists and indexes it has. Never knows: the snapshot.

use crate::connection::{Standing, Stream};
use crate::hub::settle;
use crate::hub::state::Hub;

/// Counts and lists every connection as what it is.
pub fn rebuild<S: Stream>(hub: &mut Hub<S>) {
    hub.agenda.begin_at(hub.clock.now);
    hub.usage.memory.set_held_bytes(hub.outage.bytes());
    let events = hub.listeners.events.queue.bytes();
    hub.usage.memory.note_events(events);
    hub.returned.mark_due();
    for slot in 0..hub.roster.slots() {
        count(hub, slot);
        if let Some((id, _)) = hub.roster.in_slot(slot) {
            settle::enlist(hub, id);
        }
    }
}

fn count<S: Stream>(hub: &mut Hub<S>, slot: u32) {
    let Some((id, connection)) = hub.roster.in_slot(slot) else {
        return;
    };
    hub.usage.memory.note(slot, connection.waiting_in());
    let (is_open, identity) = (connection.is_open(), connection.identity());
    let network = connection.client().network();
    let Some((_, Standing::WebSocket)) = hub.roster.recount(id) else {
        return;
    };
    hub.usage.per_address.enter(slot, network);
    if is_open && let Some(user) = hub.roster.identities.user(identity) {
        hub.users.insert(user, slot);
    }
}
