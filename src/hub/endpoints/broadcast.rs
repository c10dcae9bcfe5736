//! `POST /broadcast`: a backend publishes (`docs/api.md#broadcast`).
//!
//! Knows: the body. Never knows: how it is published, or when it is answered ([`crate::hub::publish`] to one channel,
//! [`crate::hub::backend`] otherwise).

use super::backend::refuse;
use crate::connection::{Exchange, Stream};
use crate::effect::ConnId;
use crate::hub::backend;
use crate::hub::publish::{self, Publisher};
use crate::hub::state::Hub;
use crate::wire::backend::BackendCommand;
use crate::wire::backend::body::{Broadcast, broadcast};

/// The body has come.
pub fn body<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, body: &[u8]) {
    match broadcast(body) {
        Ok(Broadcast::One(post)) => {
            publish::publish(hub, id, Publisher::Backend(exchange, post, body));
        }
        Ok(Broadcast::Many(all)) => {
            let command = BackendCommand::Publish(all);
            backend::begin(hub, id, exchange, command, body.len());
        }
        Err(fault) => refuse(hub, id, exchange, fault),
    }
}
