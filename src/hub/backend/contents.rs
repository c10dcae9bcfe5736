//! Content to channels, users and connections, one target after the other (`docs/api.md#more-targets`).
//!
//! Owns: how far a call has come, and what a user's or a connection's members are sent. Knows: channels, the broker's receipts.
//! Never knows: the request.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;

use super::jobs::{Contents, Job, JobKind, Reach};
use super::{JobProgress, reach};
use crate::buffers::{Runs, Slice};
use crate::connection::Stream;
use crate::effect::{ConnId, Receipt};
use crate::hub::audience::CONGESTED;
use crate::hub::frames;
use crate::hub::nodes::say;
use crate::hub::publish::{self, PublishResult};
use crate::hub::report;
use crate::hub::settle::settle;
use crate::hub::state::Hub;
use crate::hub::waiter::WaiterId;
use crate::wire::backend::answer::{BackendAnswer, CommandResult};
use crate::wire::backend::{Publishing, Recipient, Target};
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;
use crate::wire::node_message::NodeMessage;
use crate::wire::server_message;

/// Content counts for one more step for each of these bytes.
const STEP_BYTES: usize = 16 * 1024;

impl Contents {
    pub fn new(all: Vec<Publishing>) -> Contents {
        let mut left = VecDeque::new();
        for Publishing { targets, content } in all {
            let content: Rc<[u8]> = content.into();
            let targets = targets.into_iter();
            left.extend(targets.map(|target| (target, Rc::clone(&content))));
        }
        Contents {
            left,
            ..Contents::default()
        }
    }

    /// One that has come over the broker.
    pub fn arrived(recipient: Recipient, content: Rc<[u8]>) -> Contents {
        Contents {
            arrived: Some(content.len()),
            left: [(Target::Recipient(recipient), content)].into(),
            ..Contents::default()
        }
    }

    /// Content of this many bytes was handed to the broker, which has not answered.
    fn sent_out(&mut self, bytes: usize) {
        self.unconfirmed = self.unconfirmed.saturating_add(1);
        self.unconfirmed_bytes = self.unconfirmed_bytes.saturating_add(bytes);
    }
}

/// How far content has come to one target.
enum TargetProgress {
    ToAll,
    /// There is more of it.
    InPart,
    /// Something else has to happen first.
    NotYet,
    Failed(Cow<'static, str>),
}

/// The next targets.
pub fn advance<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    job: &mut Job,
    left: &mut usize,
) -> JobProgress {
    let Job {
        kind: JobKind::Publish(contents),
        failure,
        queued,
        ..
    } = job
    else {
        return JobProgress::Waits;
    };
    if !std::mem::replace(&mut contents.begun, true) {
        *failure = obstacle(hub, contents);
    }
    loop {
        if failure.is_some() {
            contents.left.clear();
        }
        let Some((target, content)) = contents.left.front().cloned() else {
            return match (contents.unconfirmed, failure.take()) {
                (0, None) => JobProgress::Done(BackendAnswer::of(CommandResult::Published)),
                (0, Some(why)) => JobProgress::Failed(why),
                (_, why) => {
                    *failure = why;
                    JobProgress::Waits
                }
            };
        };
        if *left == 0 {
            return JobProgress::MoreToDo;
        }
        let sent = match target {
            Target::Channel(name) => publish(hub, id, contents, &name, &content, left),
            Target::Recipient(recipient) if hub.nodes.is_some() && contents.arrived.is_none() => {
                pass_on(hub, id, contents, recipient, &content, left)
            }
            Target::Recipient(recipient) => send(
                hub,
                id,
                (&mut *contents, &mut *queued),
                &recipient,
                &content,
                left,
            ),
        };
        match sent {
            TargetProgress::ToAll => _ = contents.left.pop_front(),
            TargetProgress::InPart => {}
            TargetProgress::NotYet => return JobProgress::Waits,
            TargetProgress::Failed(why) => *failure = Some(why),
        }
    }
}

/// Why not all can be published, before anything is.
fn obstacle<S: Stream>(hub: &Hub<S>, contents: &Contents) -> Option<Cow<'static, str>> {
    contents.left.iter().find_map(|(target, _)| match target {
        Target::Channel(name) => publish::refusal_reason(hub, name.as_str()),
        Target::Recipient(_) if contents.arrived.is_none() => say::refusal_reason(hub),
        Target::Recipient(_) => None,
    })
}

fn cost(content: &[u8]) -> usize {
    let more = content.len().checked_div(STEP_BYTES).unwrap_or_default();
    more.saturating_add(1)
}

fn publish<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    contents: &mut Contents,
    name: &ChannelName,
    content: &[u8],
    left: &mut usize,
) -> TargetProgress {
    if contents.unconfirmed_bytes > CONGESTED {
        return TargetProgress::NotYet;
    }
    let progress = match publish::send(hub, id, name.as_str(), content) {
        PublishResult::Congested => return TargetProgress::NotYet,
        PublishResult::Refused(why) => TargetProgress::Failed(why),
        PublishResult::Delivered => TargetProgress::ToAll,
        PublishResult::AwaitsReceipt => {
            contents.sent_out(content.len());
            TargetProgress::ToAll
        }
    };
    *left = left.saturating_sub(cost(content));
    progress
}

/// Has all nodes send content to a recipient, this one included.
fn pass_on<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    contents: &mut Contents,
    recipient: Recipient,
    content: &[u8],
    left: &mut usize,
) -> TargetProgress {
    if contents.unconfirmed_bytes > CONGESTED {
        return TargetProgress::NotYet;
    }
    *left = left.saturating_sub(cost(content));
    if let Some(why) = say::refusal_reason(hub) {
        return TargetProgress::Failed(why);
    }
    report::published(hub, id.connection(), None, content);
    contents.sent_out(content.len());
    // It is JSON, so that it is UTF-8.
    let content = str::from_utf8(content).unwrap_or_default();
    say::to_all(hub, id.into(), &NodeMessage::Content(recipient, content));
    TargetProgress::ToAll
}

/// Sends content to one connection, at once. So what goes to it keeps the order in which it came.
pub fn deliver_to_one<S: Stream>(hub: &mut Hub<S>, recipient: Recipient, content: &[u8]) {
    let mut contents = Contents::default();
    let mut reach = Reach::new(recipient);
    for id in reach::next(hub, &mut reach, 1) {
        let frames = &mut contents.frames;
        deliver(hub, id, frames, &reach.recipient, content);
    }
    release(&mut hub.runs, &mut contents);
}

/// Sends content to the next connections of a recipient.
fn send<S: Stream>(
    hub: &mut Hub<S>,
    id: WaiterId,
    (contents, queued): (&mut Contents, &mut bool),
    recipient: &Recipient,
    content: &[u8],
    left: &mut usize,
) -> TargetProgress {
    let reach = contents
        .reach
        .get_or_insert_with(|| Reach::new(recipient.clone()));
    if let Some(user) = reach.user()
        && !hub.jobs.enter_queue(id, queued, user)
    {
        return TargetProgress::NotYet;
    }
    if !reach.begun && contents.arrived.is_none() {
        report::published(hub, id.connection(), None, content);
    }
    let cost = cost(content);
    let most = left.checked_div(cost).unwrap_or_default().max(1);
    let reached = reach::next(hub, reach, most);
    let is_over = reach.next.is_none();
    *left = left.saturating_sub(reached.len().saturating_mul(cost).max(1));
    for member in reached {
        deliver(hub, member, &mut contents.frames, recipient, content);
    }
    if !is_over {
        return TargetProgress::InPart;
    }
    release(&mut hub.runs, contents);
    contents.reach = None;
    if let Recipient::User(user) = recipient {
        hub.jobs.leave_queue(id, queued, user);
    }
    TargetProgress::ToAll
}

/// Sends content to one connection, behind what waits for it.
fn deliver<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    frames: &mut [Option<Slice>],
    recipient: &Recipient,
    content: &[u8],
) {
    let Some(encoding) = hub.roster.get(id).map(|c| c.encoding()) else {
        return;
    };
    if frames.get(encoding.index()) == Some(&None) {
        encode(hub, encoding.is_deflated(), frames, recipient, content);
    }
    let Some(slice) = frames.get(encoding.index()).copied().flatten() else {
        return;
    };
    let before = hub.runs.taken;
    if let Some(connection) = hub.roster.get(id) {
        connection.deliver(slice, &mut hub.runs, &hub.limits);
    }
    let sent = hub.runs.taken.saturating_sub(before);
    hub.listeners.delivered(id.slot, 1, sent);
    report::delivered_to(hub, id, slice.len() as u64);
    settle(hub, id);
}

/// Encodes the frames for a recipient: the compressed ones, or the others. So content is compressed once.
fn encode<S: Stream>(
    hub: &mut Hub<S>,
    deflated: bool,
    frames: &mut [Option<Slice>],
    recipient: &Recipient,
    content: &[u8],
) {
    let prefix = match recipient {
        Recipient::User(user) => server_message::v1_prefix_for("user", user),
        Recipient::Connection(id) => server_message::v1_prefix_for("connection", id),
    };
    let smaller = if deflated {
        hub.compression.deflate(content)
    } else {
        None
    };
    let encodings = Encoding::ALL.into_iter().zip(frames);
    for (encoding, frame) in encodings.filter(|(it, _)| it.is_deflated() == deflated) {
        let runs = &mut hub.runs;
        let (run, _) = runs.begin();
        runs.append(run, |out| match smaller {
            Some(smaller) => frames::push_deflated(out, encoding, &prefix, content, smaller),
            None => frames::push_plain(out, encoding, &prefix, content),
        });
        let to = runs.len(run) as u32;
        *frame = Some(Slice { run, from: 0, to });
    }
    hub.compression.rest();
    hub.agenda.count(hub.compression.take_cost());
}

/// The broker has answered a publication.
pub fn confirmed(job: &mut Job, receipt: &Receipt) {
    if let JobKind::Publish(contents) = &mut job.kind {
        contents.unconfirmed = contents.unconfirmed.saturating_sub(1);
        // Receipts come in order; which content each is for matters less than that waiting ends.
        if contents.unconfirmed == 0 {
            contents.unconfirmed_bytes = 0;
        }
    }
    if let Some(why) = publish::lost(receipt) {
        job.failure.get_or_insert(why);
    }
}

/// Releases the frames for a recipient.
pub fn release(runs: &mut Runs, contents: &mut Contents) {
    for frame in &mut contents.frames {
        if let Some(slice) = frame.take() {
            runs.release(slice.run);
        }
    }
}

/// A job is over, whether it is done or not.
pub fn end<S: Stream>(hub: &mut Hub<S>, contents: &mut Contents) {
    release(&mut hub.runs, contents);
    if let (Some(bytes), Some(nodes)) = (contents.arrived, &mut hub.nodes) {
        nodes.backlog = nodes.backlog.saturating_sub(bytes);
    }
}
