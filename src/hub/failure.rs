//! What becomes of what waits for an answer when the authorizer fails (`docs/authorizer.md#failure`): the rows of
//! `--authorizer-failure`.
//!
//! Owns: what each kind of question leads to then. Knows: the policy, connections. Never knows: whether the authorizer is down,
//! or which questions are asked again ([`super::outage`] decides).

use super::questions;
use super::replies::{self, AfterReply};
use super::report;
use super::settle::{close, settle};
use super::state::Hub;
use crate::config::AuthorizerFailure;
use crate::connection::{Awaits, Ending, Exchange, Stream, Suspended};
use crate::effect::ConnId;
use crate::wire::command::Command;
use crate::wire::http::{Refusal, Status};
use crate::wire::server_message::Code;

/// Questions given up between two polls.
const GIVEN_UP: usize = 64;

/// Gives up questions that have waited too long for an authorizer that is down, those whose time is over.
pub fn give_up_overdue<S: Stream>(hub: &mut Hub<S>) {
    for _ in 0..GIVEN_UP {
        let Some(id) = hub.outage.next_given_up(hub.clock.now) else {
            return;
        };
        give_up(hub, id);
        // The question is forgotten, whatever the connection has waited for.
        questions::withdraw(hub, id);
        settle(hub, id);
    }
}

/// Gives up a question. What waits for its answer is not done.
pub fn give_up<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    // The answer may still come. The connection ends, so that it is taken for no other one's.
    let after = if hub.outage.is_asked(id) {
        AfterReply::Close
    } else {
        AfterReply::GoOn
    };
    let now = hub.clock.now;
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    connection.set_asking(false);
    match connection.resume(Awaits::Verdict, now) {
        Some(Suspended::Upgrade(upgrade, _)) => {
            refuse_upgrade(hub, id, upgrade.exchange, after);
        }
        Some(Suspended::Command { command, message }) => {
            abandon_command(hub, id, &command, &message);
        }
        Some(Suspended::Refresh) => postpone_refresh(hub, id),
        Some(Suspended::Post { .. } | Suspended::Backend { .. }) | None => {}
    }
}

/// Refuses an upgrade for now.
pub fn refuse_upgrade<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    after: AfterReply,
) {
    let message = "the authorizer is down: come back later";
    let refusal = Refusal::new(Status::Unavailable, "authorizer_down", message);
    report::upgrade_refused(hub, "authorizer_down");
    hub.disconnects.end(id.slot);
    match after {
        AfterReply::Close => {
            let refusal = refusal.with("Retry-After", hub.retry_after());
            replies::refuse_and_close(hub, id, exchange, refusal);
        }
        AfterReply::GoOn => replies::refuse_for_now(hub, id, exchange, refusal),
    }
}

/// Does not carry out a command.
pub fn abandon_command<S: Stream>(hub: &mut Hub<S>, id: ConnId, command: &Command, message: &[u8]) {
    if hub.outage.failure() == AuthorizerFailure::Reject {
        let why = "the authorizer is down, and the command is not carried out: send it again later";
        replies::failed(hub, id, command, message, Code::AuthorizerDown, why);
    } else {
        report::outage::command_abandoned(hub, command.verb);
        close(hub, id, Ending::AuthorizerDown);
    }
}

/// Puts off the refresh of a connection about which the authorizer does not answer. With `reject` it goes on without
/// grants, and is asked about again after a pause.
pub fn postpone_refresh<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    if hub.outage.failure() == AuthorizerFailure::Reject {
        hub.grants.postpone(id.slot, hub.clock.now, &mut hub.random);
    } else {
        close(hub, id, Ending::AuthorizerDown);
    }
}
