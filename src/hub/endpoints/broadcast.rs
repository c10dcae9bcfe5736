//! `POST /broadcast`: a backend publishes (`docs/api.md#broadcast`).
//!
//! Knows: the body. Never knows: how it is published, or when it is answered ([`crate::hub::publish`]).

use crate::connection::{Exchange, Stream};
use crate::effect::ConnId;
use crate::hub::publish::{self, Publisher};
use crate::hub::replies;
use crate::hub::state::Hub;
use crate::wire::answer::Fault;
use crate::wire::command;
use crate::wire::http::{Refusal, Status};

/// The body has come.
pub fn body<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, body: &[u8]) {
    match command::parse_post(body) {
        Ok(Some(post)) => publish::publish(hub, id, Publisher::Backend(exchange, post, body)),
        Ok(None) => {
            let message = "the body names another target: give a channel, and nothing else";
            let refusal = Refusal::new(Status::BadRequest, "bad_message", message);
            replies::refuse(hub, id, exchange, refusal);
        }
        Err(Fault { code, message }) => {
            let refusal = Refusal::new(Status::BadRequest, code.as_str(), message);
            replies::refuse(hub, id, exchange, refusal);
        }
    }
}
