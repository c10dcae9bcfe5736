//! Commands of backends under way, in a snapshot: a command that was begun is not left half done.
//!
//! Owns: [`SavedJob`] and [`SavedJobQueue`]. Knows: that frames for a recipient are encoded again when they are needed.
//! Which jobs are ready and which are in a queue follows from the queue. A job that
//! waits for the end of a subscription is among the ready ones: it looks again whether that is still under way.

use std::collections::VecDeque;
use std::rc::Rc;

use minicbor::{Decode, Encode};

use super::saved_values::{SavedAction, SavedReach, SavedScope, SavedTarget};
use super::{Acting, Asker, Contents, Job, JobKind, Jobs, List};
use crate::effect::SavedConnId;
use crate::hub::waiter::WaiterId;
use crate::snapshot::{SnapshotError, size};
use crate::wire::backend::Target;
use crate::wire::backend::answer::{ConnectionCounts, Page, SavedPage};
use crate::wire::encoding::Encoding;

/// A command, and how far it has come.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedJob<'b> {
    #[n(0)]
    id: SavedConnId,
    #[b(1)]
    kind: SavedJobKind<'b>,
    /// Why it is not done, if so.
    #[b(2)]
    failure: Option<&'b str>,
    /// The node for which it is done, and its number there.
    #[n(3)]
    asker: Option<(u64, u32)>,
}

#[derive(Debug, Encode, Decode)]
enum SavedJobKind<'b> {
    #[n(0)]
    Publish(#[b(0)] SavedContents<'b>),
    #[n(1)]
    Act(#[b(0)] SavedActing<'b>),
    #[n(2)]
    List(#[b(0)] SavedList<'b>),
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedContents<'b> {
    #[n(0)]
    begun: bool,
    #[b(1)]
    left: Vec<SavedPublishing<'b>>,
    #[b(2)]
    reach: Option<SavedReach<'b>>,
    #[cbor(n(3), default)]
    unconfirmed: u64,
    #[cbor(n(4), default)]
    unconfirmed_bytes: u64,
    /// They have come over the broker: this many bytes.
    #[n(5)]
    arrived: Option<u64>,
}

/// Content, and the targets that it has not been sent to.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedPublishing<'b> {
    #[cbor(b(0), with = "minicbor::bytes")]
    content: &'b [u8],
    #[b(1)]
    targets: Vec<SavedTarget<'b>>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedActing<'b> {
    #[b(0)]
    action: SavedAction<'b>,
    #[b(1)]
    reach: SavedReach<'b>,
    #[n(2)]
    holds: bool,
    #[n(3)]
    connections: u64,
    #[n(4)]
    full: u64,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedList<'b> {
    #[b(0)]
    page: SavedPage<'b>,
    #[b(1)]
    scope: SavedScope<'b>,
    #[n(2)]
    seq: Option<u64>,
}

/// Which jobs may go on, and which wait for each other.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedJobQueue<'b> {
    #[cbor(n(0), default)]
    ready: Vec<SavedConnId>,
    #[cbor(b(1), default)]
    queues: Vec<SavedQueue<'b>>,
}

/// Jobs that walk over the connections of a user, one at a time.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedQueue<'b> {
    #[b(0)]
    user: &'b str,
    #[n(1)]
    ids: Vec<SavedConnId>,
}

impl<'b> From<&'b Contents> for SavedContents<'b> {
    fn from(contents: &Contents) -> SavedContents<'_> {
        let Contents {
            begun,
            left,
            reach,
            frames: _,
            arrived,
            unconfirmed,
            unconfirmed_bytes,
        } = contents;
        let mut publishings: Vec<SavedPublishing> = Vec::new();
        let mut before: Option<&Rc<[u8]>> = None;
        for (target, content) in left {
            let same = before.is_some_and(|before| Rc::ptr_eq(before, content));
            match publishings.last_mut() {
                Some(last) if same => last.targets.push(target.into()),
                _ => publishings.push(SavedPublishing {
                    content,
                    targets: vec![target.into()],
                }),
            }
            before = Some(content);
        }
        SavedContents {
            begun: *begun,
            left: publishings,
            reach: reach.as_ref().map(Into::into),
            unconfirmed: *unconfirmed as u64,
            unconfirmed_bytes: *unconfirmed_bytes as u64,
            arrived: arrived.map(|bytes| bytes as u64),
        }
    }
}

impl TryFrom<SavedContents<'_>> for Contents {
    type Error = SnapshotError;

    fn try_from(saved: SavedContents) -> Result<Contents, SnapshotError> {
        let mut left = VecDeque::new();
        for SavedPublishing { content, targets } in saved.left {
            let content: Rc<[u8]> = content.into();
            for target in targets {
                left.push_back((Target::try_from(target)?, Rc::clone(&content)));
            }
        }
        Ok(Contents {
            begun: saved.begun,
            left,
            reach: saved.reach.map(Into::into),
            frames: [None; Encoding::ALL.len()],
            unconfirmed: size(saved.unconfirmed),
            unconfirmed_bytes: size(saved.unconfirmed_bytes),
            arrived: saved.arrived.map(size),
        })
    }
}

impl<'b> SavedJobKind<'b> {
    /// `None`: it is answered before a snapshot.
    fn of(kind: &'b JobKind) -> Option<SavedJobKind<'b>> {
        Some(match kind {
            JobKind::Gather(_) => return None,
            JobKind::Publish(contents) => SavedJobKind::Publish(contents.into()),
            JobKind::Act(acting) => {
                let Acting {
                    action,
                    reach,
                    holds,
                    counts,
                } = acting;
                SavedJobKind::Act(SavedActing {
                    action: action.into(),
                    reach: reach.into(),
                    holds: *holds,
                    connections: counts.connections,
                    full: counts.full,
                })
            }
            JobKind::List(List { page, scope, seq }) => SavedJobKind::List(SavedList {
                page: page.save(),
                scope: scope.into(),
                seq: *seq,
            }),
        })
    }
}

impl TryFrom<SavedJobKind<'_>> for JobKind {
    type Error = SnapshotError;

    fn try_from(saved: SavedJobKind) -> Result<JobKind, SnapshotError> {
        Ok(match saved {
            SavedJobKind::Publish(contents) => JobKind::Publish(contents.try_into()?),
            SavedJobKind::Act(acting) => JobKind::Act(Acting {
                action: acting.action.try_into()?,
                reach: acting.reach.into(),
                holds: acting.holds,
                counts: ConnectionCounts {
                    connections: acting.connections,
                    full: acting.full,
                },
            }),
            SavedJobKind::List(list) => JobKind::List(List {
                page: Page::restore(list.page)?,
                scope: list.scope.try_into()?,
                seq: list.seq,
            }),
        })
    }
}

impl Jobs {
    /// Every job, in the order of ids.
    pub fn save(&self) -> impl Iterator<Item = SavedJob<'_>> {
        let mut jobs: Vec<(&WaiterId, &Job)> = self.jobs.iter().collect();
        jobs.sort_unstable_by_key(|(id, _)| SavedConnId::from(**id));
        jobs.into_iter().filter_map(|(id, job)| {
            let Job {
                kind,
                asker,
                failure,
                queued: _,
                ready: _,
            } = job;
            Some(SavedJob {
                id: (*id).into(),
                kind: SavedJobKind::of(kind)?,
                failure: failure.as_deref(),
                asker: asker.map(|Asker { node, number }| (node, number)),
            })
        })
    }

    pub fn save_queue(&self) -> SavedJobQueue<'_> {
        let Jobs {
            jobs,
            ready,
            queues,
            left: _,
        } = self;
        let ids = |ids: &VecDeque<WaiterId>| ids.iter().copied().map(Into::into).collect();
        let mut queues: Vec<SavedQueue> = queues
            .iter()
            .map(|(user, queue)| SavedQueue {
                user,
                ids: ids(queue),
            })
            .collect();
        queues.sort_unstable_by_key(|queue| queue.user);
        let mut look_again: Vec<WaiterId> = jobs
            .iter()
            .filter(|(_, job)| !job.ready && job.is_over())
            .map(|(id, _)| *id)
            .collect();
        look_again.sort_unstable_by_key(|id| SavedConnId::from(*id));
        let ready = ready.iter().copied().chain(look_again);
        SavedJobQueue {
            ready: ready.map(Into::into).collect(),
            queues,
        }
    }

    /// Restores a job. Returns it, so that what it holds is held.
    ///
    /// # Errors
    /// There is one with this id; or it means nothing here.
    pub fn restore(&mut self, saved: SavedJob) -> Result<&Job, SnapshotError> {
        let id = WaiterId::from(saved.id);
        let mut job = Job::new(saved.kind.try_into()?);
        job.failure = saved.failure.map(|why| why.to_owned().into());
        job.asker = saved.asker.map(|(node, number)| Asker { node, number });
        if self.jobs.contains_key(&id) {
            return Err(SnapshotError::new("two commands of one connection"));
        }
        Ok(self.jobs.entry(id).or_insert(job))
    }

    /// Restores which jobs may go on, and which wait for each other, once all jobs are there.
    ///
    /// # Errors
    /// One of them is not there, or is in a list twice.
    pub fn restore_queue(&mut self, saved: SavedJobQueue) -> Result<(), SnapshotError> {
        let missing = || SnapshotError::new("an unknown command in a queue");
        for id in saved.ready.into_iter().map(WaiterId::from) {
            let job = self.jobs.get_mut(&id).ok_or_else(missing)?;
            if std::mem::replace(&mut job.ready, true) {
                return Err(SnapshotError::new(
                    "a command is twice in the list of those that may go on",
                ));
            }
            self.ready.push_back(id);
        }
        for SavedQueue { user, ids } in saved.queues {
            let queue: VecDeque<WaiterId> = ids.into_iter().map(WaiterId::from).collect();
            for id in &queue {
                let job = self.jobs.get_mut(id).ok_or_else(missing)?;
                if std::mem::replace(&mut job.queued, true) {
                    return Err(SnapshotError::new("a command waits in two queues"));
                }
            }
            self.queues.insert(user.into(), queue);
        }
        Ok(())
    }
}
