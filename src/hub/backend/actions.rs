//! `/disconnect`, `/join` and `/leave`: what is done to each connection of a recipient (`docs/api.md#users-and-connections`).
//!
//! Owns: what each of them does, and when a channel is joined. Knows: memberships, grants. Never knows: the request.
//!
//! Decision: a channel that is joined is held until all have joined it, rather than asking the broker again and again,
//! because it would be unsubscribed if its only other member left meanwhile.
//!
//! Decision: a leave is answered when the channel's subscription has ended, if it does, rather than answering when the
//! memberships have. So a backend that looks at redis, or counts its subscribers, sees what it was told.

use super::jobs::{Acting, Action, Job, JobKind};
use super::{JobProgress, changed, reach};
use crate::connection::{Ending, Stream};
use crate::effect::ConnId;
use crate::hub::channels::LeftStanding;
use crate::hub::commands;
use crate::hub::nodes::say;
use crate::hub::replies;
use crate::hub::report;
use crate::hub::settle::{close_with_reason, settle};
use crate::hub::state::Hub;
use crate::hub::subscriptions::BrokerStanding;
use crate::hub::waiter::WaiterId;
use crate::wire::backend::Recipient;
use crate::wire::backend::answer::{BackendAnswer, CommandResult, ConnectionCounts};
use crate::wire::channel_name::ChannelName;
use crate::wire::http::{Refusal, Status};

/// A connection counts for one more step for this many channels that it is in.
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
    let JobKind::Act(acting) = &mut job.kind else {
        return JobProgress::Waits;
    };
    // A leave that waits for the broker has done the rest.
    if acting.is_over() {
        return end(hub, id, acting);
    }
    if let Action::Join(channel) = &acting.action {
        if let Some(why) = say::refusal_reason(hub) {
            return JobProgress::Failed(why);
        }
        if !reach::has_members(hub, &acting.reach.recipient) {
            return done(acting);
        }
        if !prepare(hub, id, channel, &mut acting.holds) {
            return JobProgress::Waits;
        }
    }
    if let Some(user) = acting.reach.user()
        && !hub.jobs.enter_queue(id, &mut job.queued, user)
    {
        return JobProgress::Waits;
    }
    if let Action::Disconnect { .. } = acting.action
        && !acting.reach.begun
    {
        refuse_upgrades(hub, &acting.reach.recipient);
    }
    while *left > 0 {
        step(hub, acting, left);
        if acting.is_over() {
            if let Some(user) = acting.reach.user() {
                hub.jobs.leave_queue(id, &mut job.queued, user);
            }
            return end(hub, id, acting);
        }
    }
    JobProgress::MoreToDo
}

/// The next connection: one after the other, because what it costs depends on the connection.
fn step<S: Stream>(hub: &mut Hub<S>, acting: &mut Acting, left: &mut usize) {
    let Some(member) = reach::next(hub, &mut acting.reach, 1).pop() else {
        *left = left.saturating_sub(1);
        return;
    };
    let more = hub.channels.joined(member.slot).checked_div(STEP_CHANNELS);
    *left = left.saturating_sub(more.unwrap_or_default().saturating_add(1));
    act(hub, member, &acting.action, &mut acting.counts);
}

/// All connections were reached.
fn end<S: Stream>(hub: &mut Hub<S>, id: WaiterId, acting: &Acting) -> JobProgress {
    let Action::Leave(channel) = &acting.action else {
        return done(acting);
    };
    match hub.channels.standing_of_left(channel.as_str(), id) {
        LeftStanding::Settled => done(acting),
        LeftStanding::Unsubscribing => JobProgress::Waits,
        LeftStanding::Unasked => JobProgress::MoreToDo,
    }
}

fn done(acting: &Acting) -> JobProgress {
    JobProgress::Done(BackendAnswer::of(CommandResult::Counts(acting.counts)))
}

/// Holds the channel that is to be joined, and has it subscribed. Returns whether it is.
fn prepare<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    channel: &ChannelName,
    holds: &mut bool,
) -> bool {
    if !std::mem::replace(holds, true) {
        hub.channels.pin(channel.as_str());
    }
    hub.channels.subscribe(channel.as_str(), id) == BrokerStanding::Ready
}

/// Releases what a job holds.
pub fn release<S: Stream>(hub: &mut Hub<S>, action: &Action, holds: bool) {
    if let Action::Join(channel) = action
        && holds
    {
        hub.channels.unpin(channel);
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
            close_with_reason(hub, id, Ending::Disconnected(*code), Some(reason));
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

/// Returns whether the connection was not a member before; `None`: it may not be in more channels.
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
