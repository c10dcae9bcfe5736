//! The worker pool: how many workers there are, which are idle, which questions wait.
//!
//! Owns: what workers and loop share, under one lock. Knows: how long a question may wait, when a worker is started.
//! Never knows: HTTP, what a question means. It logs nothing: trouble travels in the `Answer`.
//!
//! Decisions
//! - **Workers come with the load and go with their connection.** A worker is started when a question finds none that
//!   is idle or about to be, up to the limit. It ends when its connection has been idle for too long. Chosen over
//!   starting all at once because a quiet server then holds no thread, no socket and no timer. Reconsider if workers
//!   share connections (HTTP/2).
//! - **An answer is handed in and the next question taken under one lock.** Otherwise the next question of the same
//!   client would find the worker still busy, and start another one for nothing.
//! - **Idle workers are called one at a time**, and each calls another one if questions are left. Chosen over handing
//!   each question to a worker of its own. A worker that has just finished often takes the question before the one that was
//!   called, without a wake-up. With four at a time a command takes a quarter more CPU if the webhook answers at once, a tenth
//!   more if it takes 5 ms, and the median wait is longer.
//! - **The worker that rested least is called first** (a stack, not a queue). So under light load few connections stay
//!   in use, and the other workers can end.
//! - **A spawner starts the workers**: a thread that does nothing else and has its own file descriptors (fd_table.rs).
//!   So the workers' connections are in a table that the loop does not use.
//! - **Nothing waits for the workers at the end**: a dropped pool stops the idle ones, and the busy ones find out.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::call::ClientFactory;
use super::parker::{Call, Parker};
use super::settings::AuthorizerSettings;
use super::task::Task;
use super::waiting::Waiting;
use crate::effect::{Answer, ConnId, Question};
use crate::fd_table;
use crate::webhook::{STACK, lock};

const WAITED_TOO_LONG: &str =
    "the question has waited for a worker longer than --authorizer-timeout";

/// What the workers share with the loop.
pub(super) struct Pool {
    /// How many there may be.
    workers: usize,
    /// Questions that may wait.
    queue: usize,
    /// How long a question may wait.
    timeout: Duration,
    pub(super) clients: Arc<ClientFactory>,
    /// How many calls have been made.
    pub(super) calls: AtomicU64,
    work: Mutex<Work>,
    waker: Arc<mio::Waker>,
}

/// Which worker does what. While a question waits and a worker is idle, one is waking.
pub(super) struct Work {
    pub(super) waiting: Waiting,
    /// Questions that one call may have.
    batch: usize,
    /// Questions that were taken and have no answer yet.
    asking: usize,
    /// The last one rested least.
    pub(super) idle: Vec<Arc<Parker>>,
    /// Numbers of the workers that are not there.
    pub(super) vacant: Vec<usize>,
    /// Workers that are being started, and have not looked for a question yet.
    pub(super) spawning: usize,
    /// Workers that have been called, and have not looked for a question yet.
    pub(super) waking: usize,
    /// Workers that have handed in their answer, and will look for a question as soon as the rest of it has come.
    pub(super) finishing: usize,
    /// To the spawner. `None`: the pool is closed.
    pub(super) to_spawn: Option<Sender<usize>>,
    answers: Vec<Answer>,
}

/// What the pool is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Questions that a worker is asking.
    pub in_flight: usize,
    /// Questions that wait for a worker.
    pub waiting: usize,
}

impl Pool {
    /// # Errors
    /// For an `https` URL: no root certificate can be read. Or the spawner cannot start.
    pub(super) fn start(
        settings: &AuthorizerSettings,
        waker: Arc<mio::Waker>,
    ) -> io::Result<Arc<Pool>> {
        let workers = settings.workers.max(1);
        let (to_spawn, wanted) = channel();
        let pool = Arc::new(Pool {
            workers,
            queue: settings.queue,
            timeout: settings.timeout,
            clients: Arc::new(ClientFactory::new(settings, false)?),
            calls: AtomicU64::new(0),
            work: Mutex::new(Work {
                waiting: Waiting::default(),
                batch: settings.batch.max(1),
                asking: 0,
                idle: Vec::new(),
                vacant: (1..=workers).rev().collect(),
                spawning: 0,
                waking: 0,
                finishing: 0,
                to_spawn: Some(to_spawn),
                answers: Vec::new(),
            }),
            waker,
        });
        let spawner = Arc::clone(&pool);
        fd_table::spawn_with_own_fds("authorizer", move || spawner.spawn_wanted(wanted))?;
        Ok(pool)
    }

    /// Puts a question into the queue, and sees to it that a worker takes it. Never blocks.
    ///
    /// # Errors
    /// The question comes back: the queue is full.
    pub(super) fn ask(&self, task: Task) -> Result<(), Question> {
        let mut work = self.work();
        work.waiting.push(task);
        let covered = work.covered();
        if work.calls() > covered && !work.spawn() {
            let is_empty = work.vacant.len() == self.workers;
            let uncovered = work
                .waiting
                .len()
                .saturating_sub(work.questions_of(covered));
            if (is_empty || uncovered > self.queue)
                && let Some(last) = work.waiting.pop_last()
            {
                return Err(last.question);
            }
        }
        let parker = work.wake_up();
        drop(work);
        Parker::call(parker, Call::Wake);
        Ok(())
    }

    /// Takes back the question of `from`, if it still waits.
    pub(super) fn withdraw(&self, from: ConnId) {
        self.work().waiting.remove(from);
    }

    /// Takes back all questions that have not been put.
    pub(super) fn recall(&self) -> Waiting {
        std::mem::take(&mut self.work().waiting)
    }

    /// Whether no question waits or is being asked, and no answer has to be taken.
    pub(super) fn is_quiet(&self) -> bool {
        let work = self.work();
        work.waiting.len() == 0 && work.asking == 0 && work.answers.is_empty()
    }

    /// Takes all answers, those to questions that have waited too long among them. Returns what the pool is busy with, and
    /// when the next question will have waited too long.
    pub(super) fn collect(&self, into: &mut Vec<Answer>) -> (Load, Option<Instant>) {
        let mut work = self.work();
        if let Some(oldest) = work.waiting.oldest() {
            let now = Instant::now();
            let mut oldest = Some(oldest);
            while oldest.is_some_and(|asked| asked + self.timeout <= now) {
                let overdue = work.waiting.pop();
                work.answers
                    .extend(overdue.map(|task| task.unanswered(WAITED_TOO_LONG)));
                oldest = work.waiting.oldest();
            }
        }
        if into.is_empty() {
            std::mem::swap(into, &mut work.answers)
        } else {
            into.append(&mut work.answers)
        }
        let waiting = work.waiting.len();
        // About to be taken.
        let taken = waiting.min(work.questions_of(work.idle.len() + work.waking + work.spawning));
        let load = Load {
            in_flight: work.asking + taken,
            waiting: waiting - taken,
        };
        let due = work.waiting.oldest().map(|asked| asked + self.timeout);
        (load, due)
    }

    /// Stops the idle workers, and forgets what waits. Busy workers end when their call is over.
    pub(super) fn close(&self) {
        let mut work = self.work();
        work.to_spawn = None;
        work.waiting = Waiting::default();
        for parker in work.idle.drain(..) {
            Parker::call(Some(parker), Call::Stop);
        }
    }

    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }

    /// Starts workers, as the spawner.
    fn spawn_wanted(self: &Arc<Self>, wanted: Receiver<usize>) {
        for number in wanted {
            let pool = Arc::clone(self);
            let spawned = thread::Builder::new()
                .name(format!("authorizer-{number}"))
                .stack_size(STACK)
                .spawn(move || pool.serve(number));
            if let Err(error) = spawned {
                self.could_not_spawn(number, &error);
            }
        }
    }

    /// Where no worker is left, what waits is answered.
    fn could_not_spawn(&self, number: usize, error: &io::Error) {
        let mut work = self.work();
        work.spawning -= 1;
        work.vacant.push(number);
        if work.vacant.len() < self.workers {
            return;
        }
        let trouble = format!("no thread can be started to ask it: {error}");
        let mut first = false;
        while let Some(unanswered) = work.waiting.pop() {
            first |= work.answers.is_empty();
            work.answers.push(unanswered.unanswered(&trouble));
        }
        drop(work);
        self.wake(first);
    }

    /// Wakes the loop, for the first of the answers that it will find.
    pub(super) fn wake(&self, first: bool) {
        if first {
            // It fails only when the poll is gone, and with it the loop.
            let _ = self.waker.wake();
        }
    }

    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.workers - self.work().vacant.len()
    }

    /// Whether every worker rests: the last connections are kept, or dropped.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        let work = self.work();
        work.waiting.len() == 0 && work.vacant.len() + work.idle.len() == self.workers
    }
}

impl Work {
    /// Has another worker started, if there may be one more.
    pub(super) fn spawn(&mut self) -> bool {
        let Some(number) = self.vacant.pop() else {
            return false;
        };
        let sent = self.to_spawn.as_ref().map(|spawner| spawner.send(number));
        let spawning = sent.is_some_and(|sent| sent.is_ok());
        if spawning {
            self.spawning += 1;
        } else {
            self.vacant.push(number)
        }
        spawning
    }

    /// Workers that will look for questions without being started again.
    pub(super) fn covered(&self) -> usize {
        self.spawning + self.finishing + self.idle.len() + self.waking
    }

    /// Calls that it takes to put what waits.
    pub(super) fn calls(&self) -> usize {
        self.waiting.calls(self.batch)
    }

    /// Questions that this many workers may take.
    fn questions_of(&self, workers: usize) -> usize {
        workers.saturating_mul(self.batch)
    }

    /// The next idle worker to be called, if one is wanted and none is on its way.
    pub(super) fn wake_up(&mut self) -> Option<Arc<Parker>> {
        if self.waking > 0 || self.calls() == 0 {
            return None;
        }
        let parker = self.idle.pop()?;
        self.waking += 1;
        Some(parker)
    }

    /// Takes the questions of the next call. None: there are none.
    pub(super) fn take(&mut self) -> Vec<Task> {
        let tasks = self.waiting.take(self.batch);
        self.asking += tasks.len();
        tasks
    }

    /// Puts the answers of a call where the loop takes them. Returns whether they are the first there.
    pub(super) fn deliver(&mut self, answers: Vec<Answer>) -> bool {
        self.asking = self.asking.saturating_sub(answers.len());
        let first = self.answers.is_empty();
        self.answers.extend(answers);
        first
    }
}
