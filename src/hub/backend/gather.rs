//! A command that all nodes are asked for: sent, answered by each, answered to the backend (`docs/scaling.md#nodes`).
//!
//! Owns: how long it waits. Knows: jobs, and what nodes say. Never knows: how a command is done here.

use super::JobProgress;
use super::jobs::{Asker, Job, JobKind};
use crate::clock::Millis;
use crate::connection::Stream;
use crate::effect::{PublishedBy, Receipt};
use crate::hub::nodes::gathering::Gathering;
use crate::hub::nodes::say;
use crate::hub::publish;
use crate::hub::state::Hub;
use crate::hub::waiter::WaiterId;
use crate::wire::node_message::{NodeAnswer, NodeMessage, NodeMessageError};

/// How long nodes are waited for, in milliseconds. The backend has its answer within a second.
const GATHER_TIMEOUT: Millis = 950;

/// Sends the command, or looks whether it can be answered.
pub fn advance<S: Stream>(hub: &mut Hub<S>, id: WaiterId, job: &mut Job) -> JobProgress {
    if let Some(why) = job.failure.take() {
        return JobProgress::Failed(why);
    }
    let JobKind::Gather(gathering) = &mut job.kind else {
        return JobProgress::Waits;
    };
    if gathering.command.is_some() {
        return send(hub, id, gathering);
    }
    let now = hub.clock.now;
    let settled = hub.nodes.as_ref().is_none_or(|it| it.settled_at.is_none());
    if now < gathering.until && !(settled && gathering.is_complete()) {
        return JobProgress::Waits;
    }
    match gathering.end() {
        Ok(answer) => JobProgress::Done(answer),
        Err(why) => JobProgress::Failed(why),
    }
}

fn send<S: Stream>(hub: &mut Hub<S>, id: WaiterId, gathering: &mut Gathering) -> JobProgress {
    if let Some(why) = say::refusal_reason(hub) {
        return JobProgress::Failed(why);
    }
    let until = hub.clock.now.saturating_add(GATHER_TIMEOUT);
    let (Some(nodes), Some(command)) = (&mut hub.nodes, gathering.command.take()) else {
        return JobProgress::Failed(say::AWAY.into());
    };
    let number = nodes.next_ticket();
    let others = nodes.peers.there();
    gathering.begin(number, until, others.chain([nodes.id]));
    nodes.asked.insert(number, id);
    nodes.deadlines.push_back((until, number));
    let message = NodeMessage::Request { number, command };
    say::to_all(hub, PublishedBy::Gathering(number), &message);
    JobProgress::Waits
}

/// Has a command answered with what there is.
pub fn end_early(job: &mut Job) {
    if let JobKind::Gather(gathering) = &mut job.kind {
        (gathering.command, gathering.until) = (None, 0);
    }
}

/// Forgets a command that is answered, or will not be.
pub fn release<S: Stream>(hub: &mut Hub<S>, gathering: &Gathering) {
    if let Some(nodes) = &mut hub.nodes {
        nodes.asked.remove(&gathering.number);
    }
}

/// The command with this number, if it still waits.
fn waiting<S: Stream>(hub: &mut Hub<S>, number: u32) -> Option<(WaiterId, &mut Job)> {
    let id = *hub.nodes.as_ref()?.asked.get(&number)?;
    Some((id, hub.jobs.get_mut(id)?))
}

/// The broker has answered to a command that was sent to all nodes.
pub fn published<S: Stream>(hub: &mut Hub<S>, number: u32, receipt: &Receipt) {
    let Some(why) = publish::lost(receipt) else {
        return;
    };
    if let Some((id, job)) = waiting(hub, number) {
        job.failure.get_or_insert(why);
        hub.jobs.make_ready(id);
    }
}

/// A node has answered. An answer to a command that does not wait any more is ignored.
///
/// # Errors
/// It is not an answer to the command, or the second one.
pub fn answered<S: Stream>(
    hub: &mut Hub<S>,
    node: u64,
    number: u32,
    answer: NodeAnswer,
) -> Result<(), NodeMessageError> {
    let Some((id, job)) = waiting(hub, number) else {
        return Ok(());
    };
    if let JobKind::Gather(gathering) = &mut job.kind {
        gathering.add(node, answer)?;
        if gathering.is_complete() {
            hub.jobs.make_ready(id);
        }
    }
    Ok(())
}

/// A node has stopped: it is not waited for.
pub fn gone<S: Stream>(hub: &mut Hub<S>, node: u64) {
    let Some(nodes) = &hub.nodes else {
        return;
    };
    for id in nodes.asked.values() {
        if let Some(Job {
            kind: JobKind::Gather(gathering),
            ..
        }) = hub.jobs.get_mut(*id)
        {
            gathering.leaves(node);
            hub.jobs.make_ready(*id);
        }
    }
}

/// A command of a node is done here, or not: the node is answered.
pub fn answer<S: Stream>(hub: &mut Hub<S>, asker: Asker, answer: NodeAnswer) {
    let Asker { node, number } = asker;
    if hub.nodes.as_ref().is_some_and(|nodes| nodes.id == node) {
        // It is the answer of this node to itself, so that nothing is wrong with it.
        let _ = answered(hub, node, number, answer);
    } else {
        say::to_one(hub, node, &NodeMessage::Answer { number, answer });
    }
}
