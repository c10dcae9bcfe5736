//! `GET /metrics`: the counters, and the gauges at the time of the request (`docs/observing.md#metrics`).
//!
//! Knows: where each gauge comes from. Never knows: the text format.
//!
//! Decision: the metrics of the process are read while the request is answered ([`process`]) rather than an effect and
//! a phase that waits for its answer.

use std::time::Duration;

use crate::connection::{Exchange, Stream};
use crate::effect::ConnId;
use crate::hub::nodes::Nodes;
use crate::hub::replies;
use crate::hub::shards::Shards;
use crate::hub::state::Hub;
use crate::metrics::{self, Gauges};
use crate::process;
use crate::wire::http::{Reply, Status};

pub fn request<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange) {
    let gauges = gauges(hub);
    let mut text = String::new();
    hub.listeners.metrics.render(&gauges, &mut text);
    let reply = Reply {
        content_type: Some(metrics::CONTENT_TYPE),
        ..Reply::json(Status::Ok, text.into_bytes())
    };
    replies::reply(hub, id, exchange, reply);
}

fn gauges<S: Stream>(hub: &Hub<S>) -> Gauges {
    let (roster, listeners) = (&hub.roster, &hub.listeners);
    let now = Duration::from_micros(hub.clock.micros);
    let oldest_event = hub.drivers.oldest_event;
    let oldest_event = oldest_event.or_else(|| listeners.events.queue.oldest());
    Gauges {
        sent: hub.runs.taken,
        compression: hub.compression.counts,
        websockets: roster.websockets as u64,
        http_connections: roster.len().saturating_sub(roster.websockets) as u64,
        channels: hub.channels.len() as u64,
        memberships: hub.channels.memberships() as u64,
        queued_bytes: hub.runs.waiting.bytes as u64,
        laggards: hub.runs.waiting.blocked as u64,
        taps: listeners.taps.len() as u64,
        lost_tap_lines: listeners.taps.lost(),
        questions_in_flight: hub.drivers.questions_in_flight,
        questions_waiting: hub.drivers.questions_waiting,
        events_waiting: hub.events_left(),
        events_lag: oldest_event.map_or(Duration::ZERO, |at| {
            Duration::from_millis(hub.clock.now.saturating_sub(at))
        }),
        authorizer_up: hub.outage.is_up(),
        questions_held: hub.outage.held() as u64,
        broker_up: hub.is_broker_up(),
        broker_reconnections: hub.drivers.broker_reconnections,
        broker_shards: hub
            .channels
            .subscriptions
            .shards()
            .map_or_else(Vec::new, Shards::gauges),
        broker_nodes: hub.nodes.as_ref().map_or(1, Nodes::len) as u64,
        dropped_log_lines: listeners.log.dropped(),
        longest_turn: listeners.metrics.longest_turn.at(now),
        process: process::now(),
    }
}
