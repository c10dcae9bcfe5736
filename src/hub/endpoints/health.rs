//! `GET /health`: whether the server serves (`docs/observing.md#health`).
//!
//! Knows: whether it stops, and whether the broker is up. Stopping wins.

use crate::connection::{Exchange, Stream};
use crate::effect::ConnId;
use crate::hub::replies;
use crate::hub::state::Hub;
use crate::wire::http::{Reply, Status};

pub fn request<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange) {
    let (status, body): (_, &[u8]) = if hub.drain.is_some() {
        (Status::Unavailable, br#"{"status":"draining"}"#)
    } else if !hub.is_broker_up() {
        let body = br#"{"status":"degraded","broker":"down"}"#;
        (Status::Unavailable, body)
    } else {
        (Status::Ok, br#"{"status":"ok"}"#)
    };
    let reply = Reply::json(status, body).with("Cache-Control", "no-store");
    replies::reply(hub, id, exchange, reply);
}
