//! `GET /ws`: checks the handshake, the origin, the limits and the authorizer, then opens the WebSocket
//! (`docs/protocol.md#connecting`).
//!
//! Owns: the order of the checks, and the refusals. Knows: limits. Never knows: what the authorizer is asked
//! ([`crate::hub::permission`] does).

use crate::connection::{Awaits, Exchange, Peer, PendingUpgrade, Stream, Suspended};
use crate::effect::{ConnId, Receipt};
use crate::hub::backend;
use crate::hub::disconnects::Survival;
use crate::hub::permission;
use crate::hub::replies;
use crate::hub::report;
use crate::hub::settle::settle;
use crate::hub::state::Hub;
use crate::wire::answer_fields::{AnswerFields, NewState};
use crate::wire::handshake::{self, Upgrade};
use crate::wire::http::{Head, Refusal, Status};

pub fn request<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, head: Head) {
    let judged = handshake::judge(&head, hub.compression.is_on());
    if judged.is_ok() && !exchange.is_read() {
        if let Some(connection) = hub.roster.get(id) {
            connection.read_empty_body(exchange, head, &hub.limits);
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
        let message = "this origin is not allowed: add it to --allowed-origins";
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
            "there are too many connections from your address: close one, or come back later",
        );
        let refusal = Refusal::new(Status::TooManyRequests, code, message);
        return refuse_for_now(hub, id, exchange, refusal);
    }
    if let Some((exchange, upgrade)) = permission::for_upgrade(hub, id, exchange, upgrade, &head) {
        // Without an authorizer only taps and events show the query.
        if !hub.listeners.taps.is_empty() || hub.listeners.events.shows_connections() {
            keep(hub, id, head.query(), None, None);
        }
        open(hub, id, exchange.from, &upgrade);
        // Counted at once, so that the next request of this turn sees it.
        settle(hub, id);
    }
}

/// The authorizer has allowed an upgrade.
pub fn allowed<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    pending: PendingUpgrade,
    mut fields: Box<AnswerFields>,
) {
    let channels = std::mem::take(&mut fields.channels);
    hub.channels.reserve(id.slot, channels);
    resume(hub, id, pending, fields, None);
}

/// Goes on with an upgrade that is allowed: it is open once its channels are subscribed. `receipt` is what became of the
/// subscription that it has waited for, if it has.
pub fn resume<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    pending: PendingUpgrade,
    fields: Box<AnswerFields>,
    receipt: Option<Receipt>,
) {
    if hub.drain.is_some() {
        return refuse_stopping(hub, id, pending.exchange);
    }
    let user = fields.user.as_deref().unwrap_or_default();
    match hub.disconnects.survival(id.slot, user) {
        Survival::Survives => {}
        Survival::Disconnected => {
            report::upgrade_refused(hub, "disconnected");
            let message = "the backend has disconnected this user: reconnect only if your application allows it";
            let refusal = Refusal::new(Status::Forbidden, "disconnected", message);
            return replies::refuse(hub, id, pending.exchange, refusal);
        }
        Survival::Unknown => {
            let message = "too many users were disconnected in the meantime: connect again";
            let refusal = Refusal::new(Status::Unavailable, "unavailable", message);
            return refuse_for_now(hub, id, pending.exchange, refusal);
        }
    }
    if let Some(Receipt::Refused(why)) = receipt {
        let message =
            format!("the broker refuses a channel of this client ({why}): come back later");
        let refusal = Refusal::new(Status::Unavailable, "unavailable", message);
        return refuse_for_now(hub, id, pending.exchange, refusal);
    }
    if !hub.channels.are_reserved_ready(id) {
        if let Some(connection) = hub.roster.get(id) {
            connection.suspend(Awaits::Channel, Suspended::Upgrade(pending, Some(fields)));
        }
        return;
    }
    let PendingUpgrade {
        exchange,
        upgrade,
        query,
    } = pending;
    let state = fields.state.as_ref().and_then(NewState::json);
    keep(hub, id, &query, fields.user.as_deref(), state);
    permission::grant(hub, id, fields.allow, fields.expires_in);
    open(hub, id, exchange.from, &upgrade);
    if let Some(user) = &fields.user {
        backend::opened(hub, id, user);
    }
    settle(hub, id);
}

/// Keeps what later questions about a connection show.
fn keep<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    query: &str,
    user: Option<&str>,
    state: Option<&str>,
) {
    let identity = hub.roster.identities.put(query, user, state);
    if let Some(connection) = hub.roster.get(id) {
        connection.set_identity(identity);
    }
}

fn open<S: Stream>(hub: &mut Hub<S>, id: ConnId, from: Peer, upgrade: &Upgrade) {
    if let Some(connection) = hub.roster.get(id) {
        connection.open(from, upgrade, &hub.clock);
    }
    hub.disconnects.end(id.slot);
    hub.roster.open(id.slot, hub.clock.now);
    let joined = hub.channels.join_reserved(id.slot, upgrade.encoding);
    if upgrade.encoding.is_v1() {
        replies::welcome(hub, id, &joined);
    }
    report::opened(hub, id, upgrade.encoding, &joined);
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
