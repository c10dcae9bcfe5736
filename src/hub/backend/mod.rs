//! Commands of backends: to channels, users and connections, and lists (`docs/api.md`).
//!
//! Owns: how a command is begun, goes on, waits and is answered. Knows: jobs. Never knows: how a request carries a command,
//! or what is done to one connection.
//!
//! Decision: a command is a job that is done in small steps, rather than doing it at once. One that concerns 10,000
//! connections, or lists them, delays no other connection. A small one is done and answered within its request.

mod actions;
mod contents;
pub mod gather;
pub mod jobs;
mod lists;
mod reach;

use std::borrow::Cow;
use std::rc::Rc;

use self::jobs::saved::SavedJob;
use self::jobs::{Acting, Action, Asker, Contents, Job, JobKind, Reach};
use super::nodes::gathering::Gathering;
use super::nodes::say;
use super::replies;
use super::report;
use super::settle::settle;
use super::state::Hub;
use super::waiter::WaiterId;
use crate::connection::{Awaits, Exchange, Stream, Suspended};
use crate::effect::{ConnId, Receipt};
use crate::snapshot::SnapshotError;
use crate::wire::backend::answer::{BackendAnswer, ConnectionCounts};
use crate::wire::backend::{BackendCommand, Recipient};
use crate::wire::http::{Refusal, Reply, Status};
use crate::wire::node_message::NodeAnswer;

/// Connections that something is done to in one turn, and by one job before it is another one's turn. What takes longer
/// counts for more.
const STEPS: usize = 64;
const STEPS_OF_JOB: usize = 32;
/// Jobs that go on in one turn.
const JOBS: usize = 64;

/// How a job stands.
pub enum JobProgress {
    Done(BackendAnswer),
    /// It goes on in another turn.
    MoreToDo,
    /// Something else has to happen first.
    Waits,
    Failed(Cow<'static, str>),
}

/// Begins a command of the request `exchange`. `bytes`: what of it waits until it is done.
pub fn begin<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    command: BackendCommand,
    bytes: usize,
) {
    if let Some(why) = say::refusal_reason(hub) {
        return refuse(hub, id, exchange, why);
    }
    let kind = match command {
        BackendCommand::Publish(all) => JobKind::Publish(Contents::new(all)),
        command if hub.nodes.is_some() => JobKind::Gather(Box::new(Gathering::new(command))),
        command => done_here(hub, command),
    };
    if let Some(connection) = hub.roster.get(id) {
        connection.suspend(Awaits::Backend, Suspended::Backend { exchange, bytes });
    }
    start(hub, id.into(), Job::new(kind));
}

/// Begins a command that a node has asked all nodes for.
pub fn begin_for<S: Stream>(hub: &mut Hub<S>, asker: Asker, command: BackendCommand) {
    let id = job_without_connection(hub);
    let mut job = Job::new(done_here(hub, command));
    job.asker = Some(asker);
    start(hub, id, job);
}

/// Sends content that has come over the broker to the connections here.
pub fn deliver<S: Stream>(hub: &mut Hub<S>, recipient: Recipient, content: Rc<[u8]>) {
    let Recipient::User(user) = &recipient else {
        return contents::deliver_to_one(hub, recipient, &content);
    };
    if !reach::has_members(hub, &recipient) {
        return;
    }
    let id = job_without_connection(hub);
    if let Some(nodes) = &mut hub.nodes {
        nodes.backlog = nodes.backlog.saturating_add(content.len());
    }
    let mut queued = false;
    hub.jobs.enter_queue(id, &mut queued, user);
    let mut job = Job::new(JobKind::Publish(Contents::arrived(recipient, content)));
    job.queued = queued;
    start(hub, id, job);
}

fn job_without_connection<S: Stream>(hub: &mut Hub<S>) -> WaiterId {
    let ticket = hub.nodes.as_mut().map_or(0, |nodes| nodes.next_ticket());
    WaiterId::Ticket(ticket)
}

fn start<S: Stream>(hub: &mut Hub<S>, id: WaiterId, job: Job) {
    hub.jobs.put(id, job);
    match hub.jobs.left {
        0 => hub.jobs.make_ready(id),
        _ => advance(hub, id),
    }
}

/// A command as it is done on one node.
fn done_here<S: Stream>(hub: &Hub<S>, command: BackendCommand) -> JobKind {
    match command {
        BackendCommand::Publish(all) => JobKind::Publish(Contents::new(all)),
        BackendCommand::Disconnect {
            recipient,
            code,
            reason,
        } => act(Action::Disconnect { code, reason }, Reach::new(recipient)),
        BackendCommand::Join(recipient, channel) => {
            act(Action::Join(channel), Reach::new(recipient))
        }
        BackendCommand::Leave(recipient, channel) => {
            act(Action::Leave(channel), Reach::new(recipient))
        }
        BackendCommand::ListChannels {
            prefix,
            after,
            limit,
        } => JobKind::List(lists::of_channels(hub, prefix, after, limit)),
        BackendCommand::ListConnections {
            filter,
            after,
            limit,
        } => JobKind::List(lists::of_connections(hub, filter, after, limit)),
    }
}

fn act(action: Action, reach: Reach) -> JobKind {
    JobKind::Act(Acting {
        action,
        reach,
        holds: false,
        counts: ConnectionCounts::default(),
    })
}

/// Continues commands that may go on.
pub fn advance_all<S: Stream>(hub: &mut Hub<S>) {
    hub.jobs.left = STEPS;
    for _ in 0..hub.jobs.ready().min(JOBS) {
        if hub.jobs.left == 0 {
            return;
        }
        let Some(id) = hub.jobs.next_ready() else {
            return;
        };
        advance(hub, id);
        if let Some(id) = id.connection() {
            settle(hub, id);
        }
    }
}

/// The next steps of a job.
fn advance<S: Stream>(hub: &mut Hub<S>, id: WaiterId) {
    let Some(mut job) = hub.jobs.take(id) else {
        return;
    };
    let budget = hub.jobs.left.min(STEPS_OF_JOB);
    let mut left = budget;
    let progress = match job.kind {
        JobKind::Publish(_) => contents::advance(hub, id, &mut job, &mut left),
        JobKind::Act(_) => actions::advance(hub, id, &mut job, &mut left),
        JobKind::List(_) => lists::advance(hub, &mut job, &mut left),
        JobKind::Gather(_) => gather::advance(hub, id, &mut job),
    };
    let cost = budget.saturating_sub(left).max(1);
    hub.jobs.left = hub.jobs.left.saturating_sub(cost);
    match progress {
        JobProgress::MoreToDo => {
            hub.jobs.put(id, job);
            hub.jobs.make_ready(id);
        }
        JobProgress::Waits => hub.jobs.put(id, job),
        JobProgress::Done(answer) => {
            end(hub, id, &mut job);
            finish(hub, id, &job, Ok(answer));
        }
        JobProgress::Failed(why) => {
            end(hub, id, &mut job);
            finish(hub, id, &job, Err(why));
        }
    }
}

/// Releases what a job holds.
fn end<S: Stream>(hub: &mut Hub<S>, id: WaiterId, job: &mut Job) {
    match &mut job.kind {
        JobKind::Publish(contents) => contents::end(hub, contents),
        JobKind::Act(acting) => actions::release(hub, &acting.action, acting.holds),
        JobKind::List(_) => {}
        JobKind::Gather(gathering) => gather::release(hub, gathering),
    }
    let user: Option<Box<str>> = job.reach().and_then(|reach| reach.user().map(Into::into));
    if let Some(user) = user {
        hub.jobs.leave_queue(id, &mut job.queued, &user);
    }
}

/// Answers the request, or the node, that has begun a command.
fn finish<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    job: &Job,
    answer: Result<BackendAnswer, Cow<'static, str>>,
) {
    let Some(asker) = job.asker else {
        if let Some(id) = id.connection() {
            reply(hub, id, answer);
        }
        return;
    };
    let answer = match answer {
        Ok(BackendAnswer { result, seq, .. }) => {
            let seq = seq.first().map(|(_, seq)| *seq);
            NodeAnswer::Done { result, seq }
        }
        Err(why) => NodeAnswer::Failed(why.into()),
    };
    gather::answer(hub, asker, answer);
}

/// Answers the request that has begun a command.
fn reply<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    answer: Result<BackendAnswer, Cow<'static, str>>,
) {
    let now = hub.clock.now;
    let waiting = hub
        .roster
        .get(id)
        .and_then(|c| c.resume(Awaits::Backend, now));
    let Some(Suspended::Backend { exchange, .. }) = waiting else {
        return;
    };
    match answer {
        Ok(answer) => {
            let reply = match answer.json() {
                None => Reply::empty(Status::Created),
                Some(json) => Reply::json(Status::Ok, json).with("Cache-Control", "no-store"),
            };
            replies::reply(hub, id, exchange, reply);
        }
        Err(why) => refuse(hub, id, exchange, why),
    }
}

fn refuse<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, why: Cow<'static, str>) {
    let refusal = Refusal::new(Status::Unavailable, "unavailable", why);
    replies::refuse(hub, id, exchange, refusal);
}

/// The broker has answered a publication. Returns whether it was a job's.
pub fn confirmed<S: Stream>(hub: &mut Hub<S>, id: ConnId, receipt: &Receipt) -> bool {
    let id = id.into();
    let Some(job) = hub.jobs.get_mut(id) else {
        return false;
    };
    contents::confirmed(job, receipt);
    hub.jobs.make_ready(id);
    true
}

/// What a job has waited for has happened to its channel. `receipt` is what became of the subscription, if it waited for that.
/// Returns whether there is such a job.
pub fn resume<S: Stream>(hub: &mut Hub<S>, id: WaiterId, receipt: Option<&Receipt>) -> bool {
    let Some(job) = hub.jobs.get_mut(id) else {
        return false;
    };
    if let Some(Receipt::Refused(why)) = receipt {
        let why = format!(
            "the broker refuses this channel ({why}): nothing was changed; try again later"
        );
        job.failure = Some(why.into());
    }
    hub.jobs.make_ready(id);
    true
}

/// Cancels a command that waits for the broker or a channel, because the server stops. Returns its request.
pub fn cancel<S: Stream>(hub: &mut Hub<S>, id: ConnId) -> Option<Exchange> {
    if !hub.jobs.waits(id.into()) {
        return None;
    }
    let mut job = hub.jobs.take(id.into())?;
    end(hub, id.into(), &mut job);
    let now = hub.clock.now;
    match hub.roster.get(id)?.resume(Awaits::Backend, now) {
        Some(Suspended::Backend { exchange, .. }) => Some(exchange),
        _ => None,
    }
}

/// A connection of a user was opened.
pub fn opened<S: Stream>(hub: &mut Hub<S>, id: ConnId, user: &str) {
    hub.users.insert(user, id.slot);
    hub.jobs.opened(user, id.slot);
}

/// Restores a command under way, with what it holds.
///
/// # Errors
/// It means nothing here.
pub fn restore<S>(hub: &mut Hub<S>, saved: SavedJob) -> Result<(), SnapshotError> {
    match &hub.jobs.restore(saved)?.kind {
        JobKind::Act(Acting {
            action: Action::Join(channel),
            holds: true,
            ..
        }) => hub.channels.restore_hold(channel.as_str())?,
        JobKind::Publish(Contents {
            arrived: Some(bytes),
            ..
        }) => {
            if let Some(nodes) = &mut hub.nodes {
                nodes.backlog = nodes.backlog.saturating_add(*bytes);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Answers the commands that all nodes were asked for with what they have answered so far.
pub fn finish_gathering<S: Stream>(hub: &mut Hub<S>) {
    for id in hub.jobs.gathering() {
        if let Some(job) = hub.jobs.get_mut(id) {
            gather::end_early(job);
        }
        hub.jobs.wait(id);
        advance(hub, id);
        if let Some(id) = id.connection() {
            settle(hub, id);
        }
    }
}

/// Releases the frames that are encoded for recipients: they are encoded again when they are needed.
pub fn forget_frames<S: Stream>(hub: &mut Hub<S>) {
    for contents in hub.jobs.contents() {
        contents::release(&mut hub.runs, contents);
    }
}

/// Reports that a connection's memberships were changed by a backend.
fn changed<S: Stream>(hub: &mut Hub<S>, id: ConnId, action: &Action) {
    let (Action::Join(channel) | Action::Leave(channel)) = action else {
        return;
    };
    let joined = matches!(action, Action::Join(_));
    report::moved_by_backend(hub, id, joined, channel.as_str());
    replies::moved(hub, id, joined, channel.as_str());
}
