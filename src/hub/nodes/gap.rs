//! Clients are told that they may have missed what goes to users and connections (`docs/scaling.md#gaps`).
//!
//! Owns: how many of them in a turn. Knows: connections. Never knows: why something was missed.
//!
//! Decision: content that comes meanwhile waits, rather than sending each client what comes with its own gap before it.
//! A mark for each connection would cost memory all the time, and the walk takes seconds only with a million clients.

use super::missed::MissedWalk;
use crate::connection::Stream;
use crate::hub::replies;
use crate::hub::report;
use crate::hub::settle::settle;
use crate::hub::state::Hub;

/// Clients that are told in one turn, and slots that are looked at.
const CLIENTS: usize = 256;
const SLOTS: usize = 4_096;

/// What goes to users and connections may have been missed until now.
pub fn begin<S: Stream>(hub: &mut Hub<S>) {
    report::gap::missed_by_all(hub);
    let (slots, at) = (hub.roster.slots(), hub.clock.now);
    if let Some(nodes) = &mut hub.nodes {
        nodes.missed = MissedWalk::below(slots, at);
    }
}

/// The same, if clients are not being told for another message of this turn.
pub fn begin_once<S: Stream>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    let missed = hub.nodes.as_ref().map(|nodes| &nodes.missed);
    if !missed.is_some_and(|missed| missed.is_under_way() && missed.at == now) {
        begin(hub);
    }
}

/// Tells the next clients.
pub fn advance<S: Stream>(hub: &mut Hub<S>) {
    let mut left = CLIENTS;
    for _ in 0..SLOTS {
        let Some(missed) = hub.nodes.as_mut().map(|nodes| &mut nodes.missed) else {
            return;
        };
        let at = missed.at;
        let Some(slot) = missed.next() else {
            return;
        };
        if hub.roster.opened_at(slot).is_none_or(|opened| opened > at) {
            continue;
        }
        let Some((id, connection)) = hub.roster.in_slot(slot) else {
            continue;
        };
        if !connection.is_open() || !connection.encoding().is_v1() {
            continue;
        }
        replies::gap(hub, id);
        settle(hub, id);
        left = left.saturating_sub(1);
        if left == 0 {
            return;
        }
    }
}
