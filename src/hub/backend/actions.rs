//! `/disconnect`, `/join` and `/leave`: what is done to each connection of a recipient (`docs/api.md#users-and-connections`).
//!
//! Owns: what each of them does, and when a channel is joined. Knows: memberships, grants. Never knows: the request.
//!
//! Decision: a channel that is joined is held until all have joined it, over asking the broker again and again. Because it
//! would be unsubscribed if its only other member left meanwhile.

use super::jobs::{Acting, Action, Job, JobKind};
use super::{JobProgress, changed, reach};
use crate::connection::{Ending, Stream};
use crate::effect::ConnId;
use crate::hub::commands;
use crate::hub::nodes::say;
use crate::hub::replies;
use crate::hub::report;
use crate::hub::settle::{close_saying, settle};
use crate::hub::state::Hub;
use crate::hub::subscriptions::BrokerStanding;
use crate::hub::waiter::WaiterId;
use crate::wire::backend::Recipient;
use crate::wire::backend::answer::{BackendAnswer, CommandResult, ConnectionCounts};
use crate::wire::channel_name::ChannelName;
use crate::wire::http::{Refusal, Status};

/// A connection counts for one more step for so many channels that it is in.
const STEP_CHANNELS: usize = 16;

/// The next connections.
pub fn advance<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    job: &mut Job,
    left: &mut usize,
) -> JobProgress {
    if let Some(why) = job.failure.take() {
        return JobProgress::Failed(why);
    }
    let JobKind::Act(Acting {
        action,
        reach,
        holds,
        counts,
    }) = &mut job.kind
    else {
        return JobProgress::Waits;
    };
    if let Action::Join(channel) = action {
        if let Some(why) = say::why_not(hub) {
            return JobProgress::Failed(why);
        }
        if !reach::has_members(hub, &reach.recipient) {
            return JobProgress::Done(BackendAnswer::of(CommandResult::Counts(*counts)));
        }
        if !prepare(hub, id, channel, holds) {
            return JobProgress::Waits;
        }
    }
    if let Some(user) = reach.user()
        && !hub.jobs.line_up(id, &mut job.lined_up, user)
    {
        return JobProgress::Waits;
    }
    if let Action::Disconnect { .. } = action
        && !reach.begun
    {
        refuse_upgrades(hub, &reach.recipient);
    }
    while *left > 0 {
        // One after the other, because what it costs depends on the connection.
        let Some(member) = reach::next(hub, reach, 1).pop() else {
            match reach.next {
                Some(_) => *left = left.saturating_sub(1),
                None => {
                    return JobProgress::Done(BackendAnswer::of(CommandResult::Counts(*counts)));
                }
            }
            continue;
        };
        let more = hub.channels.joined(member.slot).checked_div(STEP_CHANNELS);
        *left = left.saturating_sub(more.unwrap_or_default().saturating_add(1));
        act(hub, member, action, counts);
    }
    JobProgress::MoreToDo
}

/// Holds the channel that is to be joined, and has it subscribed. Returns whether it is.
fn prepare<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    channel: &ChannelName,
    holds: &mut bool,
) -> bool {
    if !std::mem::replace(holds, true) {
        hub.channels.hold(channel.as_str());
    }
    hub.channels.subscribe(channel.as_str(), id) == BrokerStanding::Ready
}

/// Releases what a job holds.
pub fn release<S: Stream>(hub: &mut Hub<S>, action: &Action, holds: bool) {
    if let Action::Join(channel) = action
        && holds
    {
        hub.channels.let_go(channel);
    }
}

/// Refuses upgrades under way of this user or connection.
fn refuse_upgrades<S: Stream>(hub: &mut Hub<S>, recipient: &Recipient) {
    let text = match recipient {
        Recipient::User(user) => return hub.disconnects.note(user),
        Recipient::Connection(text) => text,
    };
    let Some(id) = reach::by_public_id(hub, text) else {
        return;
    };
    let now = hub.clock.now;
    if let Some(exchange) = hub.roster.get(id).and_then(|c| c.cancel_upgrade(now)) {
        report::upgrade_refused(hub, "disconnected");
        // The authorizer may still answer. The connection is closed, so that its answer is not taken for another
        // question's.
        let message = "the backend has disconnected this client: reconnect only if your application allows it";
        let refusal = Refusal::new(Status::Forbidden, "disconnected", message);
        replies::refuse_and_close(hub, id, exchange, refusal);
        settle(hub, id);
    }
}

fn act<S: Stream>(hub: &mut Hub<S>, id: ConnId, action: &Action, counts: &mut ConnectionCounts) {
    match action {
        Action::Disconnect { code, reason } => {
            close_saying(hub, id, Ending::Disconnected(*code), Some(reason));
        }
        Action::Join(channel) => match join(hub, id, channel) {
            None => {
                counts.full = counts.full.saturating_add(1);
                return;
            }
            Some(true) => changed(hub, id, action),
            Some(false) => {}
        },
        Action::Leave(channel) => {
            hub.grants.forget(id.slot, channel.as_str());
            if commands::leave(hub, id, channel.as_str()) {
                changed(hub, id, action);
            }
        }
    }
    counts.connections = counts.connections.saturating_add(1);
    settle(hub, id);
}

/// Returns whether the connection was no member before; `None`: it may not be in more channels.
fn join<S: Stream>(hub: &mut Hub<S>, id: ConnId, channel: &ChannelName) -> Option<bool> {
    let encoding = hub.roster.get(id)?.encoding();
    if commands::is_one_too_many(hub, id.slot, channel.as_str(), encoding) {
        return None;
    }
    if hub.channels.is_member(id.slot, channel.as_str(), encoding) {
        return Some(false);
    }
    let first = hub.channels.join(id.slot, channel.as_str(), encoding);
    report::events::joined(hub, channel.as_str(), first);
    Some(true)
}
