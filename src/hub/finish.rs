//! What is finished before a snapshot, so that it need not be saved.
//!
//! Owns: how each of these is ended. Knows: audiences, jobs, taps. Never knows: the format of a snapshot.
//!
//! Decision: what is on its way to the members of a channel is put into their outboxes, rather than saving batches with
//! their cursors, because outboxes have to be saved anyway, and a snapshot then says nothing of how a fan-out works.
//! The price is a piece in each member's outbox, of content that is kept once.

use super::backend;
use super::endpoints::tap;
use super::memberships::AudienceId;
use super::report;
use super::settle::settle;
use super::state::Hub;
use crate::connection::Stream;
use crate::effect::ConnId;

/// Finishes all of it. The hub can go on afterwards, as if nothing had happened but that taps have ended.
pub fn finish<S: Stream>(hub: &mut Hub<S>) {
    while !hub.agenda.serving.is_empty() {
        let mut touched = Vec::new();
        let serving = std::mem::take(&mut hub.agenda.serving);
        for audience in &serving {
            enqueue(hub, *audience, &mut touched);
        }
        for id in touched {
            settle(hub, id);
        }
        for audience in serving {
            hub.agenda.released.extend(hub.channels.served(audience));
        }
    }
    hub.agenda.fanning_out = false;
    backend::finish_gathering(hub);
    backend::forget_frames(hub);
    tap::end_all(hub);
}

/// Puts all batches of an audience into the outboxes of those members that have not had them.
fn enqueue<S: Stream>(hub: &mut Hub<S>, id: AudienceId, touched: &mut Vec<ConnId>) {
    loop {
        let Some(audience) = hub.channels.audience_mut(id) else {
            return;
        };
        let Some((slot, slice, _)) = audience.next(&hub.runs) else {
            hub.listeners.batch_gone_out(audience.since());
            if audience.finish_batch(&mut hub.runs) {
                continue;
            }
            audience.listed = false;
            return;
        };
        let Some((id, connection)) = hub.roster.in_slot(slot) else {
            continue;
        };
        connection.enqueue(slice, &mut hub.runs, &hub.limits);
        report::enqueued(hub, id, slice);
        touched.push(id);
    }
}
