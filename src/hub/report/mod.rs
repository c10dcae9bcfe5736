//! Events: each function here is one. Metrics, the access log, taps, the receiver of events and the log listen.
//!
//! Owns: which listener gets what of a report. Knows: the facts around it (connection, channel, number of members).
//! Never knows: why it happened, or what follows. What happens for every read and every send is counted in
//! [`listeners`] directly.
//!
//! Decision: the end of a WebSocket is two reports. [`websocket_ended`] is reported when its close begins, because a
//! tap on a channel needs the memberships, which end then. [`dropped`] is reported when its socket is closed, because
//! until then the close frame and what waits before it are still being sent and counted. One report would lose
//! memberships or counts, or keep memberships during the close. Reconsider when memberships are kept until the
//! connection is dropped.

pub mod access_log;
mod answers;
pub mod asking;
mod event_listener;
mod event_queue;
pub mod events;
pub mod gap;
pub mod listeners;
pub mod nodes;
pub mod outage;
pub mod tap;

use self::tap::TapLine;
use super::memberships::AudienceId;
use super::roster::Subject;
use super::state::Hub;
use crate::buffers::Slice;
use crate::clock::Millis;
use crate::connection::{Ending, Exchange, Peer, Stream};
use crate::effect::{Answer, ConnId};
use crate::log::Value;
use crate::wire::channel_name::ChannelName;
use crate::wire::command::{Command, Verb};
use crate::wire::encoding::Encoding;
use crate::wire::endpoint::Endpoint;
use crate::wire::frame;
use crate::wire::http::{self, Refusal, Status};
use crate::wire::server_message::{Code, Rejected};

/// A connection was accepted.
pub fn accepted<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let listeners = &mut hub.listeners;
    listeners.metrics.connections = listeners.metrics.connections.saturating_add(1);
    listeners.access_log.accepted(id.slot, hub.clock.now);
}

/// A connection was dropped, and its counts are complete. If it was a WebSocket, [`websocket_ended`] came before. `unused`:
/// all of its requests were answered.
pub fn dropped<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    subject: Subject,
    end: Ending,
    unused: bool,
) {
    let listeners = &mut hub.listeners;
    listeners.metrics.endings.add(end.label());
    listeners
        .access_log
        .dropped(id.slot, &subject, end, unused, hub.clock.now);
    if !listeners.taps.is_empty() {
        listeners.taps.forget(id);
    }
}

/// A request was answered.
pub fn replied<S: Stream>(hub: &mut Hub<S>, endpoint: Endpoint, status: Status) {
    let answer = (endpoint.label(), status.code());
    hub.listeners.metrics.answers.add(answer);
}

/// A request was refused; [`replied`] follows.
pub fn refused<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: &Exchange, refusal: &Refusal) {
    let endpoint = exchange.endpoint.label();
    let status = refusal.status.code();
    emit_to_taps(hub, "refused", Some(id), None, |line| {
        line.text("endpoint", endpoint);
        line.number("status", status.into());
        line.text("code", refusal.code);
        line.text("message", &refusal.message);
    });
    let subject = Subject {
        peer: exchange.from,
        ..hub.roster.subject(id)
    };
    hub.listeners
        .access_log
        .refused(&subject, endpoint, status, refusal.code, hub.clock.now);
}

/// An upgrade was asked for, by the client `from`.
pub fn connecting<S: Stream>(hub: &mut Hub<S>, id: ConnId, from: Peer, query: &str) {
    if hub.listeners.taps.is_empty() {
        return;
    }
    let subject = Subject {
        peer: from,
        ..hub.roster.subject(id)
    };
    let at = unix_time(hub);
    let pairs = http::query_pairs(query);
    for tap in &mut hub.listeners.taps.taps {
        let watched = tap.filter.picks() && tap.filter.fits(subject.id, query);
        tap.watched.set(id.slot, watched);
        if tap.id == id || !tap.looks_at(Some(id.slot), None) {
            continue;
        }
        tap.line("connect", at, Some(&subject), None, |line, filter| {
            let shown = |(name, values): &(String, Vec<String>)| {
                if filter.shows(name) {
                    format!("{name}={}", values.join(","))
                } else {
                    format!("{name}=***")
                }
            };
            let pairs: Vec<String> = pairs.iter().map(shown).collect();
            line.text("query", &pairs.join("&"));
        });
    }
}

/// An upgrade was refused; `outcome` is the metric's label.
pub fn upgrade_refused<S: Stream>(hub: &mut Hub<S>, outcome: &'static str) {
    hub.listeners.metrics.handshakes.add(outcome);
}

/// An upgrade was granted.
pub fn opened<S: Stream>(hub: &mut Hub<S>, id: ConnId, encoding: Encoding, joined: &[ChannelName]) {
    hub.listeners.metrics.handshakes.add("accepted");
    emit_to_taps(hub, "open", Some(id), None, |line| {
        line.text("hears", encoding.shown());
    });
    events::connected(hub, id);
    for channel in joined {
        // It has just joined, and was not a member before.
        let first = hub.channels.members(channel.as_str()) == 1;
        events::joined(hub, channel.as_str(), first);
        command_shown(hub, id, Verb::Join, channel.as_str());
    }
}

/// A WebSocket has ended: its close frame was sent or has come, or its socket has ended. Or an upgrade was refused, and
/// there is no ending. The connection's memberships are still there.
pub fn websocket_ended<S: Stream>(hub: &mut Hub<S>, id: ConnId, ending: Option<Ending>) {
    if let Some(ending) = ending
        && !hub.listeners.taps.is_empty()
    {
        tap_end(hub, id, ending);
    }
    // Once a tenth is free: a server that stays nearly full would fill the log.
    let most = hub.settings.max_connections.saturating_mul(9);
    let full = &mut hub.listeners.full;
    if full.holds() && hub.roster.websockets.saturating_mul(10) < most && full.end(hub.clock.now) {
        let open = ("connections", Value::Number(hub.roster.websockets as u64));
        hub.listeners
            .log
            .info("the server is no longer full", &[open]);
    }
}

fn tap_end<S: Stream>(hub: &mut Hub<S>, id: ConnId, ending: Ending) {
    let subject = hub.roster.subject(id);
    let at = unix_time(hub);
    let encoding = hub.roster.get(id).map_or(Encoding::Raw, |c| c.encoding());
    for tap in &mut hub.listeners.taps.taps {
        let channel = tap.filter.channel.clone();
        let channel = channel.as_ref().map(ChannelName::as_str);
        let member = |name| hub.channels.is_member(id.slot, name, encoding);
        if channel.is_none_or(member) && tap.looks_at(Some(id.slot), channel) {
            tap.line("end", at, Some(&subject), None, |line, _| {
                line.text("reason", ending.label());
                if let (Some(code), _) = ending.close() {
                    line.number("code", code.into());
                }
            });
        }
    }
}

/// The authorizer has answered for a command that waits, or for an upgrade.
pub fn decided<S: Stream>(hub: &mut Hub<S>, answer: &Answer, command: &str, channel: Option<&str>) {
    answers::log(hub, answer, command);
    emit_to_taps(hub, "verdict", Some(answer.to), channel, |line| {
        line.text("command", command);
        line.text("verdict", answer.verdict.as_str());
        if let Some(status) = answer.status.filter(|status| *status != 200) {
            line.number("status", status.into());
        }
        line.milliseconds("took_ms", answer.took);
        if let Some(trouble) = &answer.trouble {
            line.text("trouble", trouble);
        }
    });
}

/// A command was done.
pub fn command_done<S: Stream>(hub: &mut Hub<S>, id: ConnId, command: &Command, message: &[u8]) {
    let verb = command.verb.as_str();
    hub.listeners.metrics.commands.add([verb, "ok"]);
    if command.verb != Verb::Broadcast {
        command_shown(hub, id, command.verb, command.channel(message));
    }
}

/// Shows to taps that a connection has joined or left a channel.
fn command_shown<S: Stream>(hub: &mut Hub<S>, id: ConnId, verb: Verb, channel: &str) {
    if !hub.listeners.taps.is_empty() {
        let members = hub.channels.members(channel) as u64;
        emit_to_taps(hub, verb.as_str(), Some(id), Some(channel), |line| {
            line.number("members", members);
        });
    }
}

/// A backend has made a connection join a channel, or leave it.
pub fn moved_by_backend<S: Stream>(hub: &mut Hub<S>, id: ConnId, joined: bool, channel: &str) {
    let verb = if joined { Verb::Join } else { Verb::Leave };
    hub.listeners.metrics.backend_memberships.add(verb.as_str());
    command_shown(hub, id, verb, channel);
}

/// Content for its user, or for itself alone, was sent to a connection.
pub fn delivered_to<S: Stream>(hub: &mut Hub<S>, id: ConnId, bytes: u64) {
    if !hub.listeners.taps.watches(id.slot) {
        return;
    }
    emit_to_taps(hub, "deliver", Some(id), None, |line| {
        line.number("messages", 1);
        line.number("bytes", bytes);
    });
}

/// The number of the last event, if there is a receiver of events.
pub fn last_seq<S>(hub: &Hub<S>) -> Option<u64> {
    let has_receiver = hub.settings.events.is_some();
    has_receiver.then(|| hub.listeners.events.queue.last_seq())
}

/// A command was not done.
pub fn command_failed<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: &Command,
    message: &[u8],
    code: Code,
    why: &str,
) {
    let verb = command.verb.as_str();
    hub.listeners.metrics.commands.add([verb, code.as_str()]);
    emit_to_taps(
        hub,
        "refused",
        Some(id),
        Some(command.channel(message)),
        |line| {
            line.text("command", verb);
            line.text("code", code.as_str());
            line.text("message", why);
        },
    );
}

/// A message was not a valid command.
pub fn message_rejected<S: Stream>(hub: &mut Hub<S>, id: ConnId, rejected: &Rejected) {
    let code = rejected.fault.code.as_str();
    hub.listeners.metrics.commands.add(["other", code]);
    emit_to_taps(hub, "refused", Some(id), None, |line| {
        line.text("code", code);
        line.text("message", &rejected.fault.message);
    });
}

/// A connection has published something, which goes to the members or the broker next. `channel` is none if it goes to
/// connections.
pub fn published<S: Stream>(
    hub: &mut Hub<S>,
    from: Option<ConnId>,
    channel: Option<&str>,
    content: &[u8],
) {
    emit_to_taps(hub, "broadcast", from, channel, |line| {
        line.content(content);
    });
}

/// Something is published to the members here.
pub fn fanned_out<S: Stream>(hub: &mut Hub<S>, channel: &str, content: &[u8]) {
    let fanouts = &mut hub.listeners.metrics.fanouts;
    *fanouts = fanouts.saturating_add(1);
    if !hub.listeners.taps.is_empty() {
        let members = hub.channels.members(channel) as u64;
        emit_to_taps(hub, "fanout", None, Some(channel), |line| {
            line.content(content);
            line.number("members", members);
        });
    }
}

/// What was pending for a member was put into its outbox, because it leaves or ends.
pub fn enqueued<S: Stream>(hub: &mut Hub<S>, id: ConnId, slice: Slice) {
    let contents = frame::count(hub.runs.slice(slice));
    hub.listeners.enqueued(id.slot, contents);
}

/// A delivery to a connection that a tap watches.
pub struct Delivery {
    pub id: ConnId,
    pub contents: u32,
    pub bytes: u64,
}

/// Watched connections have received something of an audience's channel.
pub fn watched_deliveries<S: Stream>(
    hub: &mut Hub<S>,
    audience: AudienceId,
    deliveries: &[Delivery],
) {
    let at = unix_time(hub);
    for delivery in deliveries {
        let subject = hub.roster.subject(delivery.id);
        let Some(connection) = hub.roster.get(delivery.id) else {
            continue;
        };
        let queued = connection.waiting_out() as u64;
        let channel = hub.channels.name(audience);
        for tap in &mut hub.listeners.taps.taps {
            if tap.filter.picks() && tap.looks_at(Some(delivery.id.slot), channel) {
                tap.line("deliver", at, Some(&subject), channel, |line, _| {
                    line.number("messages", delivery.contents.into());
                    line.number("bytes", delivery.bytes);
                    line.number("queued_bytes", queued);
                });
            }
        }
    }
}

/// An upgrade was refused because the server is full.
pub fn server_is_full<S: Stream>(hub: &mut Hub<S>) {
    if hub.listeners.full.begin(hub.clock.now) {
        let most = Value::Number(hub.settings.max_connections as u64);
        let full =
            "the server is full: upgrades get 503 until a connection ends; see --max-connections";
        hub.listeners.log.warn(full, &[("connections", most)]);
    }
}

/// The memory budget is used up: a connection that holds much of it is ended.
pub fn overloaded<S: Stream>(hub: &mut Hub<S>) {
    if hub.listeners.overloaded.begin(hub.clock.now) {
        let message = "queue memory is used up: the connections with the most buffered bytes are disconnected; \
                       raise --max-total-queue-size, and add memory if needed";
        hub.listeners.log.warn(message, &memory_budget(hub));
    }
}

/// Checks whether the memory budget is no longer used up.
pub fn check_memory_relief<S: Stream>(hub: &mut Hub<S>) {
    let overloaded = &mut hub.listeners.overloaded;
    if overloaded.holds() && hub.usage.memory.is_relaxed(&hub.runs) && overloaded.end(hub.clock.now)
    {
        let message = "there is queue memory again: no more connections are disconnected for it";
        hub.listeners.log.info(message, &memory_budget(hub));
    }
}

/// The buffered bytes, and `--max-total-queue-size`.
fn memory_budget<S: Stream>(hub: &Hub<S>) -> [(&'static str, Value<'static>); 2] {
    let number = |bytes: usize| Value::Number(bytes as u64);
    let bytes = number(hub.usage.memory.total(&hub.runs));
    let limit = number(hub.settings.max_total_queue);
    [("bytes", bytes), ("limit", limit)]
}

/// The Unix time, in milliseconds.
pub fn unix_time<S>(hub: &Hub<S>) -> Millis {
    hub.clock.unix.saturating_add(hub.clock.now)
}

/// Emits a line to the taps that look at the connection or the channel.
#[inline]
fn emit_to_taps<S: Stream>(
    hub: &mut Hub<S>,
    event: &str,
    id: Option<ConnId>,
    channel: Option<&str>,
    fields: impl Fn(&mut TapLine),
) {
    if hub.listeners.taps.is_empty() {
        return;
    }
    let subject = id.map(|id| hub.roster.subject(id));
    let at = unix_time(hub);
    for tap in &mut hub.listeners.taps.taps {
        if id != Some(tap.id) && tap.looks_at(id.map(|id| id.slot), channel) {
            tap.line(event, at, subject.as_ref(), channel, |line, _| fields(line));
        }
    }
}
