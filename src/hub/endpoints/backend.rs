//! `POST /disconnect`, `/join` and `/leave`, `GET /channels` and `/connections` (`docs/api.md`).
//!
//! Knows: which command each of them is. Never knows: how it is carried out, or when it is answered
//! ([`crate::hub::backend`]).

use crate::connection::{Exchange, Stream};
use crate::effect::ConnId;
use crate::hub::backend;
use crate::hub::replies;
use crate::hub::state::Hub;
use crate::wire::backend::{BackendCommand, body, query};
use crate::wire::endpoint::Endpoint;
use crate::wire::http::{Head, Refusal, Status};
use crate::wire::server_message::Fault;

/// A request without a body has come.
pub fn request<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, head: &Head) {
    let command = match exchange.endpoint {
        Endpoint::Channels => query::list_channels(head.query()),
        _ => query::list_connections(head.query()),
    };
    match command {
        Ok(command) => backend::begin(hub, id, exchange, command, 0),
        Err(why) => {
            let refusal = Refusal::new(Status::BadRequest, "bad_request", why);
            replies::refuse(hub, id, exchange, refusal);
        }
    }
}

/// A body has come.
pub fn body<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, body: &[u8]) {
    let command = match exchange.endpoint {
        Endpoint::Disconnect => body::disconnect(body),
        Endpoint::Join => {
            body::membership(body).map(|(recipient, name)| BackendCommand::Join(recipient, name))
        }
        _ => body::membership(body).map(|(recipient, name)| BackendCommand::Leave(recipient, name)),
    };
    match command {
        Ok(command) => backend::begin(hub, id, exchange, command, 0),
        Err(fault) => refuse(hub, id, exchange, fault),
    }
}

/// Refuses a body.
pub fn refuse<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, fault: Fault) {
    let Fault { code, message } = fault;
    let refusal = Refusal::new(Status::BadRequest, code.as_str(), message);
    replies::refuse(hub, id, exchange, refusal);
}
