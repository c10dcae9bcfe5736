//! What has waited for a channel goes on: a command, a request, an upgrade.
//!
//! Owns: which handler each of them goes back to. Knows: what a connection waits with. Never knows: why it had to wait.

use super::backend;
use super::commands;
use super::endpoints;
use super::publish::{self, Publisher};
use super::settle::settle;
use super::state::Hub;
use super::waiter::WaiterId;
use crate::connection::{Awaits, Stream, Suspended};
use crate::effect::Receipt;

/// Retries for what has waited for a channel. `receipt` is the result of the subscription, if it waited for
/// one.
pub fn resume<S: Stream>(hub: &mut Hub<S>, waiter: WaiterId, receipt: Option<Receipt>) {
    if backend::resume(hub, waiter, receipt.as_ref()) {
        return;
    }
    let Some(id) = waiter.connection() else {
        return;
    };
    let now = hub.clock.now;
    let work = hub
        .roster
        .get(id)
        .and_then(|c| c.resume(Awaits::Channel, now));
    match work {
        Some(Suspended::Command { command, message }) => {
            commands::resume(hub, id, command, &message, receipt);
        }
        Some(Suspended::Post {
            exchange,
            post,
            body,
        }) => publish::publish(hub, id, Publisher::Backend(exchange, post, &body)),
        Some(Suspended::Upgrade(upgrade, fields)) => {
            let fields = fields.unwrap_or_default();
            endpoints::upgrade::resume(hub, id, upgrade, fields, receipt);
        }
        Some(Suspended::Refresh | Suspended::Backend { .. }) | None => {}
    }
    settle(hub, id);
}
