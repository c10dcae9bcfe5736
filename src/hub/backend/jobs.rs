//! Commands of backends under way.
//!
//! Owns: the jobs, which of them may go on, and which wait for each other. Knows: values. Never knows: connections, or how a
//! job is carried out.
//!
//! A job has the name of the connection whose request began it. A job of another node has a number. A job continues after its connection has ended, so that no command is left half done.

pub mod saved;
pub mod saved_values;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::buffers::Slice;
use crate::hub::nodes::gathering::Gathering;
use crate::hub::waiter::WaiterId;
use crate::wire::backend::answer::{ConnectionCounts, Page};
use crate::wire::backend::{ConnectionFilter, Recipient, Target};
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;

/// A walk over the connections of a recipient, in the order of their slots. It reaches those that were open when it began.
#[derive(Debug)]
pub struct Reach {
    pub recipient: Recipient,
    /// The next slot; `None` when it is over.
    pub next: Option<u32>,
    pub begun: bool,
    /// Slots of connections that were opened since.
    spared: HashSet<u32>,
}

impl Reach {
    pub fn new(recipient: Recipient) -> Reach {
        Reach {
            recipient,
            next: Some(0),
            begun: false,
            spared: HashSet::new(),
        }
    }

    pub fn spares(&self, slot: u32) -> bool {
        self.spared.contains(&slot)
    }

    /// The user whose connections it walks over.
    pub fn user(&self) -> Option<&str> {
        match &self.recipient {
            Recipient::User(user) => Some(user),
            Recipient::Connection(_) => None,
        }
    }
}

/// What is done to each connection of a recipient.
#[derive(Clone, Debug)]
pub enum Action {
    Disconnect { code: u16, reason: Box<str> },
    Join(ChannelName),
    Leave(ChannelName),
}

/// An action on its way.
#[derive(Debug)]
pub struct Acting {
    pub action: Action,
    pub reach: Reach,
    /// The channel that is to be joined is held.
    pub holds: bool,
    pub counts: ConnectionCounts,
}

impl Acting {
    /// Whether only the broker's answer may be missing.
    pub fn is_over(&self) -> bool {
        self.reach.next.is_none()
    }
}

/// Content on its way to its targets.
#[derive(Debug, Default)]
pub struct Contents {
    pub begun: bool,
    pub left: VecDeque<(Target, Rc<[u8]>)>,
    /// The recipient that is being sent the first of them.
    pub reach: Option<Reach>,
    /// The frames for that recipient, one for each encoding, as soon as they are needed.
    pub frames: [Option<Slice>; Encoding::ALL.len()],
    /// They have come over the broker, and go to connections here. This many bytes.
    pub arrived: Option<usize>,
    /// Publications that the broker has not answered, and their bytes.
    pub unconfirmed: usize,
    pub unconfirmed_bytes: usize,
}

/// A page on its way.
#[derive(Debug)]
pub struct List {
    pub page: Page,
    pub scope: Scope,
    /// The last event before the list.
    pub seq: Option<u64>,
}

/// What is still to be listed.
#[derive(Debug)]
pub enum Scope {
    /// Channels behind `after`.
    Channels { prefix: Box<str>, after: Box<str> },
    /// Connections from the slot `next` on whose id is behind `after`.
    Connections {
        filter: ConnectionFilter,
        after: Box<str>,
        next: u32,
        /// The slots of the members of a channel that has few.
        few: Option<VecDeque<u32>>,
    },
}

/// What a job is about.
#[derive(Debug)]
pub enum JobKind {
    Publish(Contents),
    Act(Acting),
    List(List),
    /// It is done by all nodes.
    Gather(Box<Gathering>),
}

/// The node for which a command is done, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub node: u64,
    pub number: u32,
}

#[derive(Debug)]
pub struct Job {
    pub kind: JobKind,
    /// `None`: it is done for a request.
    pub asker: Option<Asker>,
    /// Why it is not done, if so.
    pub failure: Option<Cow<'static, str>>,
    /// It is in a queue for a user.
    pub queued: bool,
    /// It is in the list of those that may go on.
    ready: bool,
}

impl Job {
    pub fn new(kind: JobKind) -> Job {
        Job {
            kind,
            asker: None,
            failure: None,
            queued: false,
            ready: false,
        }
    }

    /// Whether it has reached all connections, so that only the broker's answer may be missing.
    fn is_over(&self) -> bool {
        matches!(&self.kind, JobKind::Act(acting) if acting.is_over())
    }

    /// The walk that is under way.
    pub fn reach(&mut self) -> Option<&mut Reach> {
        match &mut self.kind {
            JobKind::Publish(contents) => contents.reach.as_mut(),
            JobKind::Act(acting) => Some(&mut acting.reach),
            JobKind::List(_) | JobKind::Gather(_) => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Jobs {
    jobs: HashMap<WaiterId, Job>,
    /// Those that may go on.
    ready: VecDeque<WaiterId>,
    /// Jobs that walk over the connections of a user, one at a time: all of them are sent the same in the same order.
    queues: HashMap<Box<str>, VecDeque<WaiterId>>,
    /// What may still be done in this turn.
    pub left: usize,
}

impl Jobs {
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many may go on.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether a job waits for anything but its turn.
    pub fn waits(&self, id: WaiterId) -> bool {
        self.jobs.get(&id).is_some_and(|job| !job.ready)
    }

    pub fn put(&mut self, id: WaiterId, job: Job) {
        self.jobs.insert(id, job);
    }

    pub fn take(&mut self, id: WaiterId) -> Option<Job> {
        let mut job = self.jobs.remove(&id)?;
        job.ready = false;
        Some(job)
    }

    pub fn get_mut(&mut self, id: WaiterId) -> Option<&mut Job> {
        if self.jobs.is_empty() {
            None
        } else {
            self.jobs.get_mut(&id)
        }
    }

    /// Content on its way, of all jobs.
    pub fn contents(&mut self) -> impl Iterator<Item = &mut Contents> {
        self.jobs
            .values_mut()
            .filter_map(|job| match &mut job.kind {
                JobKind::Publish(contents) => Some(contents),
                JobKind::Act(_) | JobKind::List(_) | JobKind::Gather(_) => None,
            })
    }

    /// Commands that all nodes were asked for.
    pub fn gathering(&self) -> Vec<WaiterId> {
        let jobs = self.jobs.iter();
        let gathering = jobs.filter(|(_, job)| matches!(job.kind, JobKind::Gather(_)));
        gathering.map(|(id, _)| *id).collect()
    }

    /// Has a job continue with its next turn.
    pub fn make_ready(&mut self, id: WaiterId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && !std::mem::replace(&mut job.ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Has a job wait that may go on.
    pub fn wait(&mut self, id: WaiterId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && std::mem::take(&mut job.ready)
        {
            self.ready.retain(|other| *other != id);
        }
    }

    pub fn next_ready(&mut self) -> Option<WaiterId> {
        self.ready.pop_front()
    }

    /// Whether a job may walk over the connections of a user. If not, it goes on when it may.
    pub fn enter_queue(&mut self, id: WaiterId, queued: &mut bool, user: &str) -> bool {
        if *queued {
            let queue = self.queues.get(user);
            return queue.is_some_and(|queue| queue.front() == Some(&id));
        }
        *queued = true;
        let queue = self.queues.entry(user.into()).or_default();
        queue.push_back(id);
        queue.len() == 1
    }

    /// A job has gone over the connections of a user, or will not.
    pub fn leave_queue(&mut self, id: WaiterId, queued: &mut bool, user: &str) {
        if !std::mem::take(queued) {
            return;
        }
        let Some(queue) = self.queues.get_mut(user) else {
            return;
        };
        let was_first = queue.front() == Some(&id);
        queue.retain(|other| *other != id);
        match queue.front().copied() {
            None => _ = self.queues.remove(user),
            Some(next) if was_first => self.make_ready(next),
            Some(_) => {}
        }
    }

    /// A connection of a user was opened: walks that have begun skip it.
    pub fn opened(&mut self, user: &str, slot: u32) {
        if self.queues.is_empty() {
            return;
        }
        let first = self.queues.get(user).and_then(|queue| queue.front());
        if let Some(job) = first.and_then(|first| self.jobs.get_mut(first))
            && let Some(reach) = job.reach()
            && reach.begun
        {
            reach.spared.insert(slot);
        }
    }
}
