//! `GET /health`: whether the server serves (`docs/observing.md#health`).
//!
//! Knows: whether it stops, and whether the broker and the authorizer are up. Stopping wins. Without an authorizer no other
//! node fares better, so that the status stays 200.

use crate::connection::{Exchange, Stream};
use crate::effect::ConnId;
use crate::hub::replies;
use crate::hub::state::Hub;
use crate::wire::http::{Reply, Status};

pub fn request<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange) {
    let (status, body): (_, &[u8]) = if hub.drain.is_some() {
        (Status::Unavailable, br#"{"status":"draining"}"#)
    } else {
        match (hub.is_broker_up(), !hub.outage.is_down()) {
            (true, true) => (Status::Ok, br#"{"status":"ok"}"#),
            (true, false) => (Status::Ok, br#"{"status":"ok","authorizer":"down"}"#),
            (false, true) => {
                let body = br#"{"status":"degraded","broker":"down"}"#;
                (Status::Unavailable, body)
            }
            (false, false) => {
                let body = br#"{"status":"degraded","broker":"down","authorizer":"down"}"#;
                (Status::Unavailable, body)
            }
        }
    };
    let reply = Reply::json(status, body).with("Cache-Control", "no-store");
    replies::reply(hub, id, exchange, reply);
}
