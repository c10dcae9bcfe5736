//! The report that members may have missed messages.
//!
//! Knows: what is counted of it. Never knows: why, or what the members are sent.

use super::emit_to_taps;
use crate::connection::Stream;
use crate::hub::state::Hub;

/// The members of a channel here may have missed messages.
pub fn gap<S: Stream>(hub: &mut Hub<S>, channel: usize) {
    let gaps = &mut hub.listeners.metrics.broker_gaps;
    *gaps = gaps.saturating_add(1);
    if hub.listeners.taps.is_empty() {
        return;
    }
    let Some(name) = hub.channels.name_at(channel).cloned() else {
        return;
    };
    let members = hub.channels.members(name.as_str()) as u64;
    emit_to_taps(hub, "gap", None, Some(name.as_str()), |line| {
        line.number("members", members);
    });
}

/// All clients here may have missed what goes to users and connections.
pub fn missed_by_all<S: Stream>(hub: &mut Hub<S>) {
    let gaps = &mut hub.listeners.metrics.broker_gaps;
    *gaps = gaps.saturating_add(1);
    let clients = hub.roster.websockets as u64;
    emit_to_taps(hub, "gap", None, None, |line| {
        line.number("clients", clients);
    });
}
