//! What the receiver of events is sent (`docs/events.md`).
//!
//! Owns: what happens to a connection, as events. Knows: which kinds are chosen ([`super::event_listener`]), and the facts
//! around it. Never knows: how events travel.
//!
//! Decision: an event is encoded when it happens, rather than keeping what it is made of, because it shows a connection
//! as it was then, and nothing of the connection is left when it is sent.

use super::event_listener::EventListener;
use super::unix_time;
use crate::clock::Millis;
use crate::connection::{Ending, Stream};
use crate::effect::ConnId;
use crate::hub::state::Hub;
use crate::log::Value;
use crate::wire::channel_name::ChannelName;
use crate::wire::event::{
    ConnectionEnd, EventHead, EventKind, push_channel_event, push_connection_event,
};
use crate::wire::event_batch::EventBatch;

/// Channels that the event of an end names.
const CHANNELS: usize = 100;
/// The code of a connection that ended without a close frame (RFC 6455 7.1.5).
const ABNORMAL: u16 = 1006;

/// An upgrade was granted.
pub fn connected<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    if hub.listeners.events.wants(EventKind::Connected) {
        push_connection(hub, id, EventKind::Connected, None);
    }
}

/// A close frame was received, or is being sent.
pub fn closing<S: Stream>(hub: &mut Hub<S>, id: ConnId, ending: Ending) {
    let events = &mut hub.listeners.events;
    if events.wants(EventKind::Disconnected)
        && let Some(first) = events.codes.entry(id.slot)
    {
        let (code, _) = ending.close();
        *first = first.or(code);
    }
}

/// A connection has become a member of a channel; `first`: the channel had none here.
#[inline]
pub fn joined<S: Stream>(hub: &mut Hub<S>, channel: &str, first: bool) {
    if first && hub.listeners.events.wants(EventKind::Occupied) {
        push_channel(hub, EventKind::Occupied, channel);
    }
}

/// A connection is no longer a member of a channel; `last`: the channel has none here.
#[inline]
pub fn left<S: Stream>(hub: &mut Hub<S>, channel: &str, last: bool) {
    if last && hub.listeners.events.wants(EventKind::Vacated) {
        push_channel(hub, EventKind::Vacated, channel);
    }
}

/// What the event of an end shows, taken while the memberships are still there.
#[derive(Debug)]
pub struct FinalFacts {
    opened_at: Millis,
    code: Option<u16>,
    ending: Ending,
    /// The first of the channels that it was in.
    channels: Vec<ChannelName>,
}

/// A connection is gone. Its memberships are still there; [`gone`] follows when they have ended.
pub fn going<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    ending: Option<Ending>,
) -> Option<FinalFacts> {
    if !hub.listeners.events.wants(EventKind::Disconnected) {
        return None;
    }
    let code = hub.listeners.events.codes.take(id.slot).flatten();
    Some(FinalFacts {
        // An upgrade that was not granted ends as well.
        opened_at: hub.roster.opened_at(id.slot)?,
        code,
        ending: ending?,
        channels: hub.channels.first_names(id.slot, CHANNELS),
    })
}

/// The memberships of a connection that is gone have ended; the channels in `vacated` have no member left.
pub fn gone<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    facts: Option<FinalFacts>,
    mut vacated: Vec<ChannelName>,
) {
    vacated.sort_unstable();
    for name in vacated {
        push_channel(hub, EventKind::Vacated, name.as_str());
    }
    if let Some(facts) = facts {
        let end = ConnectionEnd {
            code: facts.code.unwrap_or(ABNORMAL),
            reason: facts.ending.label(),
            duration_ms: hub.clock.now.saturating_sub(facts.opened_at),
            channels: &facts.channels,
        };
        push_connection(hub, id, EventKind::Disconnected, Some(end));
    }
}

/// Takes the events of the next call, while none is under way.
pub fn take<S>(hub: &mut Hub<S>) -> Option<EventBatch> {
    let queue = &mut hub.listeners.events.queue;
    let batch = queue.take();
    hub.usage.memory.note_events(queue.bytes());
    batch
}

/// Logs how many events were dropped, if it is time.
pub fn expire<S>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    if hub.listeners.events.drops.take_left_out(now) > 0 {
        log_dropped(hub);
    }
}

fn push_channel<S: Stream>(hub: &mut Hub<S>, kind: EventKind, channel: &str) {
    let (now, unix) = (hub.clock.now, unix_time(hub));
    let EventListener { queue, time, .. } = &mut hub.listeners.events;
    queue.push(now, |out, seq| {
        let time = time.text(unix);
        push_channel_event(out, EventHead { seq, kind, time }, channel);
    });
    pushed(hub, kind);
}

fn push_connection<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    kind: EventKind,
    end: Option<ConnectionEnd>,
) {
    let (now, unix) = (hub.clock.now, unix_time(hub));
    let roster = &mut hub.roster;
    let EventListener { queue, time, .. } = &mut hub.listeners.events;
    queue.push(now, |out, seq| {
        let time = time.text(unix);
        let head = EventHead { seq, kind, time };
        push_connection_event(out, head, |out| roster.push_connection(id, out), end);
    });
    pushed(hub, kind);
}

/// An event was appended. Drops the oldest ones if there are too many.
fn pushed<S>(hub: &mut Hub<S>, kind: EventKind) {
    let listeners = &mut hub.listeners;
    listeners.metrics.events.add(kind.as_str());
    let events = &mut listeners.events;
    let dropped = events
        .queue
        .trim(hub.usage.memory.room_for_events(&hub.runs));
    hub.usage.memory.note_events(events.queue.bytes());
    if dropped > 0 {
        self::dropped(hub, dropped);
    }
}

/// Events were dropped because too many wait.
fn dropped<S>(hub: &mut Hub<S>, count: u64) {
    let metrics = &mut hub.listeners.metrics;
    metrics.events_dropped = metrics.events_dropped.saturating_add(count);
    let events = &mut hub.listeners.events;
    events.unreported = events.unreported.saturating_add(count);
    if events.drops.admit(hub.clock.now).is_some() {
        log_dropped(hub);
    }
}

fn log_dropped<S>(hub: &mut Hub<S>) {
    let events = &mut hub.listeners.events;
    let dropped = std::mem::take(&mut events.unreported);
    let fields = [
        ("dropped", Value::Number(dropped)),
        ("waiting", Value::Number(events.queue.len() as u64)),
    ];
    let message = "the oldest events were dropped: more wait for their receiver than --events-queue or \
                   --max-total-queue-size allows";
    hub.listeners.log.warn(message, &fields);
}
