//! The endpoints: a request goes to the handler of its row in the table ([`crate::wire::endpoint`]).
//!
//! Owns: what holds for every endpoint: the client that a proxy names, the key, the type of a body, the answer for an
//! unknown path. Knows: requests. Never knows: what an endpoint does, or how a reply is written on the wire.
//!
//! A new endpoint is a row in the table, and a handler here.

mod backend;
pub mod broadcast;
mod health;
mod metrics;
pub mod tap;
pub mod upgrade;

use subtle::ConstantTimeEq;

use super::replies;
use super::state::Hub;
use crate::connection::{Exchange, Peer, Stream};
use crate::effect::ConnId;
use crate::playground;
use crate::wire::endpoint::{self, Endpoint};
use crate::wire::http::{self, Head, Refusal, Status};

/// Headers by which a request shows that it came through a proxy (`docs/api.md#the-key`).
const FORWARDED: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// Handles a request's head, perhaps with its body: answers it, suspends it, or reads its body.
pub fn request<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    mut exchange: Exchange,
    head: Head,
    body: Option<&[u8]>,
) {
    let proxies = &hub.settings.proxies;
    if proxies.trusts(exchange.from.ip())
        && let Some(client) = proxies.client(head.list("x-forwarded-for"))
    {
        exchange.from = Peer::new(client);
    }
    let endpoint = Endpoint::of(&head, hub.settings.playground);
    exchange.endpoint = endpoint;
    if endpoint.is_for_backends()
        && let Some(refusal) = refuse_backend(hub, id, &head)
    {
        return replies::refuse(hub, id, exchange, refusal);
    }
    if endpoint.takes_body() {
        return read_body(hub, id, exchange, &head, body);
    }
    match endpoint {
        Endpoint::Ws => upgrade::request(hub, id, exchange, head),
        Endpoint::Channels | Endpoint::Connections => {
            backend::request(hub, id, exchange, &head);
        }
        Endpoint::Health => health::request(hub, id, exchange),
        Endpoint::Metrics => metrics::request(hub, id, exchange),
        Endpoint::Tap => tap::request(hub, id, exchange, &head),
        Endpoint::Playground => replies::reply(hub, id, exchange, playground::page()),
        Endpoint::Preflight => {
            let reply = hub.settings.origins.preflight(
                head.header("origin"),
                head.list("access-control-request-headers"),
            );
            replies::reply(hub, id, exchange, reply);
        }
        Endpoint::Broadcast
        | Endpoint::Disconnect
        | Endpoint::Join
        | Endpoint::Leave
        | Endpoint::Unknown => {
            let refusal = endpoint::unknown(&head, hub.settings.playground);
            replies::refuse(hub, id, exchange, refusal);
        }
    }
}

/// Uses the body of a request if it is there, or else begins to read it.
fn read_body<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    head: &Head,
    whole: Option<&[u8]>,
) {
    if !head.header("content-type").is_some_and(http::is_json) {
        let message =
            "the body is not declared as JSON: send it with Content-Type: application/json";
        let (status, code) = (Status::UnsupportedMediaType, "unsupported_media_type");
        let refusal = Refusal::new(status, code, message);
        return replies::refuse(hub, id, exchange, refusal);
    }
    if let Some(whole) = whole {
        body(hub, id, exchange, whole);
    } else if let Some(connection) = hub.roster.get(id) {
        connection.read_body(exchange, &hub.limits);
    }
}

/// Handles a request's body.
pub fn body<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, body: &[u8]) {
    match exchange.endpoint {
        Endpoint::Broadcast => broadcast::body(hub, id, exchange, body),
        Endpoint::Disconnect | Endpoint::Join | Endpoint::Leave => {
            backend::body(hub, id, exchange, body);
        }
        // The table has no other endpoint with a body.
        Endpoint::Ws
        | Endpoint::Channels
        | Endpoint::Connections
        | Endpoint::Health
        | Endpoint::Metrics
        | Endpoint::Tap
        | Endpoint::Playground
        | Endpoint::Preflight
        | Endpoint::Unknown => {}
    }
}

/// Why this request may not use a backend endpoint, if it may not (`docs/api.md#the-key`).
fn refuse_backend<S: Stream>(hub: &mut Hub<S>, id: ConnId, head: &Head) -> Option<Refusal> {
    let Some(key) = &hub.settings.key else {
        let local = hub.roster.get(id).is_some_and(|c| c.is_local());
        let relayed = FORWARDED.iter().any(|name| head.header(name).is_some());
        let browser = head.header("origin").is_some();
        return (!local || relayed || browser).then(|| {
            let message = "without a key only programs on this machine may use this endpoint: set --broadcasting-key \
                           (or WSIFY_BROADCASTING_KEY) and send it as Authorization: Bearer KEY or ?key=KEY";
            Refusal::new(Status::Forbidden, "forbidden", message)
        });
    };
    let fits = |given: &[u8]| bool::from(given.ct_eq(key.expose().as_bytes()));
    let bearer = head
        .header("authorization")
        .and_then(bearer)
        .is_some_and(fits);
    let query = http::query_pairs(head.query());
    let query = query
        .iter()
        .filter(|(name, _)| name == "key")
        .flat_map(|(_, values)| values);
    let allowed = bearer || query.map(|value| value.as_bytes()).any(fits);
    (!allowed).then(|| {
        let message =
            "the key is wrong or missing: send it as Authorization: Bearer KEY or ?key=KEY";
        Refusal::new(Status::Forbidden, "forbidden", message)
    })
}

/// The credentials of `Authorization: Bearer …` (RFC 6750 2.1), whose scheme may be in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(key.trim_ascii())
}
