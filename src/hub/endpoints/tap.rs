//! `GET /tap`: events as they happen (`docs/observing.md#tap`).
//!
//! Owns: the connections of taps: how one begins, how its lines are sent, how it ends. Knows: the connections that were
//! there before a tap. Never knows: the content of lines ([`crate::hub::report`] does).

use crate::connection::{Ending, Exchange, Stream};
use crate::effect::ConnId;
use crate::hub::channels::Channels;
use crate::hub::replies;
use crate::hub::report;
use crate::hub::report::tap::{Filter, OUTBOX, PENDING, TAPS, Tap, TapLine};
use crate::hub::settle::settle;
use crate::hub::slots::Walk;
use crate::hub::state::Hub;
use crate::wire::channel_name::ChannelName;
use crate::wire::http::{Head, Method, Refusal, Status};

/// Slots that a new tap's walk looks at between two polls.
const SLOTS_PER_WALK: u32 = 512;
/// Older connections that a new tap shows at most.
const FOUND: u64 = 100;
/// Channels of a connection that a line names.
const CHANNELS: usize = 20;

const ASKED_ABOUT: &str = "its last command, which is being asked about";

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

pub fn request<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, head: &Head) {
    let filter = match Filter::parse(head.query()) {
        Ok(filter) => filter,
        Err(why) => {
            let refusal = Refusal::new(Status::BadRequest, "bad_request", why);
            return replies::refuse(hub, id, exchange, refusal);
        }
    };
    let unavailable = if hub.drain.is_some() {
        Some(("draining", "the server is stopping: come back later"))
    } else if hub.listeners.taps.len() >= TAPS {
        let message = "ten taps are open already: close one of them first";
        Some(("too_many_taps", message))
    } else {
        None
    };
    if let Some((code, message)) = unavailable {
        let refusal = Refusal::new(Status::Unavailable, code, message);
        return replies::refuse_for_now(hub, id, exchange, refusal);
    }
    report::replied(hub, exchange.endpoint, Status::Ok);
    let origin = exchange.origin.as_deref();
    let headers = origin.map(|origin| hub.settings.origins.cors(Some(origin)));
    if let Some(connection) = hub.roster.get(id) {
        let headers = headers.unwrap_or_default();
        connection.stream(EVENT_STREAM, &headers, &hub.clock);
        if head.method == Method::Head {
            return connection.end_stream(Ending::Answered, hub.clock.now);
        }
    }
    begin(hub, id, filter);
}

fn begin<S: Stream>(hub: &mut Hub<S>, id: ConnId, filter: Filter) {
    let members = filter.channel.as_ref();
    let members = members.map(|channel| hub.channels.members(channel.as_str()) as u64);
    let walk = match filter.slot() {
        Some(slot) => Walk::only(slot),
        None if filter.picks() => Walk::below(hub.roster.slots()),
        None => Walk::default(),
    };
    let mut tap = Tap::new(id, filter, walk);
    let websockets = hub.roster.websockets as u64;
    tap.line("tap", report::unix_time(hub), None, None, |line, filter| {
        if let Some(channel) = &filter.channel {
            line.text("channel", channel.as_str());
        }
        line.number("connected", websockets);
        if let Some(members) = members {
            line.number("members", members);
        }
    });
    hub.listeners.taps.taps.push(tap);
}

/// Continues the walks of new taps over older connections.
fn walk<S: Stream>(hub: &mut Hub<S>) {
    let at = report::unix_time(hub);
    for tap in &mut hub.listeners.taps.taps {
        if tap.walk.is_over() {
            continue;
        }
        for _ in 0..SLOTS_PER_WALK {
            if tap.pending.len() >= PENDING / 2 {
                break;
            }
            let Some(slot) = tap.walk.next() else { break };
            let Some((id, connection)) = hub.roster.in_slot(slot).filter(|(_, c)| c.is_open())
            else {
                continue;
            };
            let queued = connection.waiting_out() as u64;
            let (encoding, identity) = (connection.encoding(), connection.identity());
            let waits_for = if connection.is_held() {
                Some("an authorizer that is down")
            } else {
                connection.is_command_suspended().then_some(ASKED_ABOUT)
            };
            let subject = hub.roster.subject(id);
            if !tap
                .filter
                .fits(subject.id, hub.roster.identities.query(identity))
            {
                continue;
            }
            tap.watched.set(slot, true);
            tap.found = tap.found.saturating_add(1);
            if tap.found <= FOUND {
                tap.line("found", at, Some(&subject), None, |line, _| {
                    line.text("hears", encoding.shown());
                    push_channels(line, &hub.channels, slot);
                    line.number("queued_bytes", queued);
                    if let Some(waits_for) = waits_for {
                        line.text("waits_for", waits_for);
                    }
                });
            }
        }
        if tap.walk.is_over() {
            let found = tap.found;
            tap.line("watching", at, None, None, |line, _| {
                line.number("connections", found);
            });
        }
    }
}

/// The channels that the connection in `slot` is in.
fn push_channels(line: &mut TapLine, channels: &Channels, slot: u32) {
    let names = channels.names_of(slot).map(ChannelName::as_str);
    let names: Vec<&str> = names.take(CHANNELS).collect();
    line.texts("channels", &names);
    let more = channels.joined(slot).saturating_sub(names.len());
    if more > 0 {
        line.number("more_channels", more as u64);
    }
}

/// Puts lines into the outboxes of their taps.
pub fn pump<S: Stream>(hub: &mut Hub<S>) {
    if hub.listeners.taps.is_empty() {
        return;
    }
    walk(hub);
    for nth in 0..hub.listeners.taps.len() {
        let Some(tap) = hub.listeners.taps.taps.get_mut(nth) else {
            return;
        };
        let Some(connection) = hub.roster.get(tap.id) else {
            continue;
        };
        tap.stuck = connection.waiting_out() > OUTBOX;
        if tap.stuck || tap.pending.is_empty() {
            continue;
        }
        tap.push_lost();
        connection.push(&mut tap.pending);
        let id = tap.id;
        settle(hub, id);
    }
}

/// Ends all taps because the server stops, with a last line that reports it.
pub fn end_all<S: Stream>(hub: &mut Hub<S>) {
    let at = report::unix_time(hub);
    for mut tap in hub.listeners.taps.take_all() {
        let id = tap.id;
        if let Some(connection) = hub.roster.get(id) {
            connection.push(&mut tap.pending);
            tap.line("bye", at, None, None, |line, _| {
                line.text("reason", Ending::Stopping.label());
            });
            connection.push(&mut tap.pending);
            connection.end_stream(Ending::Stopping, hub.clock.now);
            settle(hub, id);
        }
    }
}
