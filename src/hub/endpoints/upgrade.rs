//! `GET /ws`: the handshake, the origin, whether there is room, the authorizer; then the WebSocket is open
//! (`docs/protocol.md#connecting`).
//!
//! Owns: the order of the checks, and the refusals. Knows: limits. Never knows: what the authorizer is asked
//! ([`crate::hub::permission`] does).

use crate::connection::{Exchange, Peer, Stream};
use crate::effect::ConnId;
use crate::hub::permission::{self, AllowedUpgrade};
use crate::hub::replies;
use crate::hub::report;
use crate::hub::settle::settle;
use crate::hub::state::Hub;
use crate::wire::handshake::{self, Upgrade};
use crate::wire::http::{Head, Refusal, Status};

pub fn request<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, head: Head) {
    let judged = handshake::judge(&head, hub.compression.is_on());
    if judged.is_ok() && !exchange.is_read() {
        if let Some(connection) = hub.roster.get(id) {
            connection.read_empty_body(exchange, head, &hub.settings.limits);
        }
        return;
    }
    report::connecting(hub, id, exchange.from, head.query());
    let upgrade = match judged {
        Ok(upgrade) => upgrade,
        Err(refusal) => {
            report::upgrade_refused(hub, "malformed");
            return replies::refuse(hub, id, exchange, refusal);
        }
    };
    if !hub.settings.origins.admit(&head) {
        report::upgrade_refused(hub, "origin");
        let message = "pages of this origin may not connect: add it to --allowed-origins";
        let refusal = Refusal::new(Status::Forbidden, "origin_not_allowed", message);
        return replies::refuse(hub, id, exchange, refusal);
    }
    if hub.drain.is_some() {
        return refuse_stopping(hub, id, exchange);
    }
    if hub.roster.websockets >= hub.settings.max_connections {
        report::server_is_full(hub);
        let message = "the server is full: come back later";
        let refusal = Refusal::new(Status::Unavailable, "full", message);
        return refuse_for_now(hub, id, exchange, refusal);
    }
    if !hub.usage.per_address.has_room(exchange.from.network()) {
        let (code, message) = (
            "too_many_connections",
            "there are as many connections from your address as there may be: close one, or come back later",
        );
        let refusal = Refusal::new(Status::TooManyRequests, code, message);
        return refuse_for_now(hub, id, exchange, refusal);
    }
    if let Some((exchange, upgrade)) = permission::for_upgrade(hub, id, exchange, upgrade, &head) {
        // Without an authorizer only taps look at the query.
        if !hub.listeners.taps.is_empty() {
            keep(hub, id, head.query(), "");
        }
        open(hub, id, exchange.from, &upgrade);
    }
}

/// The authorizer has allowed an upgrade.
pub fn allowed<S: Stream>(hub: &mut Hub<S>, id: ConnId, allowed: AllowedUpgrade) {
    let AllowedUpgrade {
        exchange,
        upgrade,
        query,
        state,
    } = allowed;
    if hub.drain.is_some() {
        return refuse_stopping(hub, id, exchange);
    }
    keep(hub, id, &query, state.as_deref().unwrap_or_default());
    open(hub, id, exchange.from, &upgrade);
}

/// Keeps what later questions about a connection show.
fn keep<S: Stream>(hub: &mut Hub<S>, id: ConnId, query: &str, state: &str) {
    let identity = hub.roster.identities.put(query, state);
    if let Some(connection) = hub.roster.get(id) {
        connection.set_identity(identity);
    }
}

fn open<S: Stream>(hub: &mut Hub<S>, id: ConnId, from: Peer, upgrade: &Upgrade) {
    if let Some(connection) = hub.roster.get(id) {
        connection.open(from, upgrade, &hub.clock);
    }
    report::opened(hub, id, upgrade.encoding);
    // Counted at once: the next request of this turn must find the room taken.
    settle(hub, id);
}

/// Refuses an upgrade because the server stops.
pub fn refuse_stopping<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange) {
    let message = "the server is stopping: come back later";
    let refusal = Refusal::new(Status::Unavailable, "draining", message);
    refuse_for_now(hub, id, exchange, refusal);
}

fn refuse_for_now<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, refusal: Refusal) {
    report::upgrade_refused(hub, refusal.code);
    replies::refuse_for_now(hub, id, exchange, refusal);
}
