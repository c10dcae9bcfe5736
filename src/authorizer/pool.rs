//! The worker pool: which thread asks which question, and which question waits.
//!
//! Owns: the workers, the queue, the answers that the loop has not taken yet. Knows: how long a question may wait.
//! Never knows: HTTP, what a question means. It logs nothing: trouble travels in the `Answer`.
//!
//! Decisions
//! - **Workers come with the load and go with their connection.** A worker is started when a question finds none that is
//!   idle or about to be, up to the limit, and ends when its connection has been idle for too long. Chosen over starting
//!   all at once because a quiet server then holds no thread, no socket and no timer. Reconsider if workers share
//!   connections (HTTP/2).
//! - **An answer and the wish for the next question are handed in under one lock.** Otherwise the next question of the
//!   same client would find the worker still busy, and start another one for nothing.
//! - **The worker that rested least gets the next question** (a stack, not a queue), so that under light load few
//!   connections stay warm and the other workers can end.
//! - **A spawner starts the workers**: a thread that does nothing else and has its own file descriptors (fd_table.rs), so
//!   that their connections are in a table that the loop does not use.
//! - **Nothing waits for the workers at the end**: a dropped pool stops the idle ones, and the busy ones find out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::Settings;
use super::call::{Client, ClientFactory, Outcome};
use crate::effect::{Answer, ConnId, Question};
use crate::fd_table;

/// A worker's stack. Most of what it needs is TLS, and a head's lines.
pub(super) const STACK: usize = 512 * 1024;
/// How long the rest of an answer may take to come. It follows its head at once, or something is wrong with it.
const DRAIN_TIME: Duration = Duration::from_millis(250);
/// For how long of that a worker counts as about to be idle. A server that sends head and body apart needs less.
const ABOUT_TO_BE_IDLE: Duration = Duration::from_millis(2);
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
    clients: Arc<ClientFactory>,
    work: Mutex<Work>,
    waker: Arc<mio::Waker>,
}

/// Which worker does what. While a question waits, no worker is idle.
struct Work {
    waiting: Waiting,
    /// The last one rested least.
    idle: Vec<Arc<Seat>>,
    /// Numbers of the workers that are not there.
    vacant: Vec<usize>,
    /// Workers that are being started, and have not looked for a question yet.
    spawning: usize,
    /// Workers that have handed in their answer, and will look for a question as soon as the rest of it has come.
    finishing: usize,
    /// To the spawner. `None`: the pool is closed.
    to_spawn: Option<Sender<usize>>,
    answers: Vec<Answer>,
}

/// A question, and when it was asked.
pub(super) struct Task {
    pub(super) question: Question,
    pub(super) asked: Instant,
}

/// What the pool is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Questions that a worker is asking.
    pub in_flight: usize,
    /// Questions that wait for a worker.
    pub waiting: usize,
}

/// Nothing panics while it holds one of these locks. If it did, the values would still be whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// # Errors
    /// For an `https` URL: no root certificate can be read. Or the spawner cannot start.
    pub(super) fn start(settings: &Settings, waker: Arc<mio::Waker>) -> io::Result<Arc<Pool>> {
        let workers = settings.workers.max(1);
        let (to_spawn, wanted) = channel();
        let pool = Arc::new(Pool {
            workers,
            queue: settings.queue,
            timeout: settings.timeout,
            clients: Arc::new(ClientFactory::new(settings, false)?),
            work: Mutex::new(Work {
                waiting: Waiting::default(),
                idle: Vec::new(),
                vacant: (1..=workers).rev().collect(),
                spawning: 0,
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

    /// Hands a question to a worker, or to the queue. Never blocks. Returns whether it waits.
    ///
    /// # Errors
    /// The question comes back: the queue is full.
    pub(super) fn ask(&self, task: Task) -> Result<bool, Question> {
        let mut work = self.work();
        if let Some(seat) = work.idle.pop() {
            drop(work);
            seat.hand(Handed::Task(task));
            return Ok(false);
        }
        let covered = work.spawning + work.finishing;
        if work.waiting.len() >= covered && !work.spawn() {
            let is_empty = work.vacant.len() == self.workers;
            if is_empty || work.waiting.len() - covered >= self.queue {
                return Err(task.question);
            }
        }
        work.waiting.push(task);
        Ok(true)
    }

    /// Takes back the question of `from`, if it still waits.
    pub(super) fn withdraw(&self, from: ConnId) {
        self.work().waiting.remove(from);
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
        match into.is_empty() {
            true => std::mem::swap(into, &mut work.answers),
            false => into.append(&mut work.answers),
        }
        let apart = work.vacant.len() + work.idle.len() + work.finishing;
        let load = Load {
            in_flight: self.workers.saturating_sub(apart),
            waiting: work.waiting.len().saturating_sub(work.spawning),
        };
        let due = work.waiting.oldest().map(|asked| asked + self.timeout);
        (load, due)
    }

    /// Stops the idle workers, and forgets what waits. Busy workers end when their call is over.
    pub(super) fn close(&self) {
        let mut work = self.work();
        work.to_spawn = None;
        work.waiting = Waiting::default();
        for seat in work.idle.drain(..) {
            seat.hand(Handed::Stop);
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
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
            first |= work.deliver(unanswered.unanswered(&trouble));
        }
        drop(work);
        self.wake(first);
    }

    /// A worker's life.
    fn serve(&self, number: usize) {
        let seat = Arc::new(Seat {
            number,
            thread: thread::current(),
            handed: Mutex::new(None),
        });
        let mut client = self.clients.client();
        let mut work = self.work();
        work.spawning -= 1;
        let mut next = self.next(work, false, &seat, client.rest);
        while let Some(task) = next {
            let answer = self.put(&mut client, &task);
            let finished = shielded(&mut client, &self.clients, Client::finish_at_hand);
            let mut work = self.work();
            let first = work.deliver(answer);
            if finished == Some(false) {
                work.finishing += 1;
                drop(work);
                self.wake(first);
                work = self.finish(&mut client);
                next = self.next(work, false, &seat, client.rest);
            } else {
                next = self.next(work, first, &seat, client.rest);
            }
        }
    }

    /// Puts a question to the authorizer.
    fn put(&self, client: &mut Client, task: &Task) -> Answer {
        // A panic in there would be a defect of a library. It costs this connection and no question.
        let outcome = shielded(client, &self.clients, |client| client.ask(&task.question));
        let outcome = outcome
            .unwrap_or_else(|| Outcome::nothing("the call failed inside the server".to_owned()));
        Answer {
            to: task.question.from,
            verdict: outcome.verdict,
            status: outcome.status,
            state: outcome.state,
            unreadable: outcome.unreadable,
            trouble: outcome.trouble,
            took: task.asked.elapsed(),
        }
    }

    /// Waits for the rest of an answer. Where that takes long, this worker does not count as about to be idle any more.
    fn finish(&self, client: &mut Client) -> MutexGuard<'_, Work> {
        let wait = |client: &mut Client, patience| {
            shielded(client, &self.clients, |client| client.finish(patience)).unwrap_or(true)
        };
        let at_once = wait(client, ABOUT_TO_BE_IDLE);
        let mut work = self.work();
        work.finishing -= 1;
        if at_once {
            return work;
        }
        if work.waiting.len() > work.spawning + work.finishing {
            work.spawn();
        }
        drop(work);
        if !wait(client, DRAIN_TIME) {
            client.hang_up();
        }
        self.work()
    }

    /// The next question for the worker on `seat`, which may wait for it as long as its connection is worth keeping.
    /// `None`: the worker is to end. `wake`: the loop has to be woken.
    fn next(
        &self,
        mut work: MutexGuard<'_, Work>,
        wake: bool,
        seat: &Arc<Seat>,
        rest: Duration,
    ) -> Option<Task> {
        let task = work.waiting.pop();
        let closed = work.to_spawn.is_none();
        if task.is_none() && !closed {
            work.idle.push(Arc::clone(seat));
        }
        drop(work);
        self.wake(wake);
        match task {
            None if !closed => self.rest(seat, rest),
            task => task,
        }
    }

    /// Waits for a question.
    fn rest(&self, seat: &Seat, rest: Duration) -> Option<Task> {
        let until = Instant::now() + rest;
        loop {
            match seat.take() {
                Some(Handed::Task(task)) => return Some(task),
                Some(Handed::Stop) => return None,
                None => {}
            }
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO if self.leave(seat) => return None,
                // It has just been taken off the list, and is about to be handed something.
                Duration::ZERO => thread::park(),
                left => thread::park_timeout(left),
            }
        }
    }

    /// Takes a worker off the list of those that are idle, for good, if it is still there.
    fn leave(&self, seat: &Seat) -> bool {
        let mut work = self.work();
        let found = work.idle.iter().position(|it| it.number == seat.number);
        if let Some(at) = found {
            work.idle.remove(at);
            work.vacant.push(seat.number);
        }
        found.is_some()
    }

    /// Wakes the loop, for the first of the answers that it will find.
    fn wake(&self, first: bool) {
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
    fn spawn(&mut self) -> bool {
        let Some(number) = self.vacant.pop() else {
            return false;
        };
        let sent = self.to_spawn.as_ref().map(|spawner| spawner.send(number));
        let spawning = sent.is_some_and(|sent| sent.is_ok());
        match spawning {
            true => self.spawning += 1,
            false => self.vacant.push(number),
        }
        spawning
    }

    /// Puts an answer where the loop takes it. Returns whether it is the first there.
    fn deliver(&mut self, answer: Answer) -> bool {
        self.answers.push(answer);
        self.answers.len() == 1
    }
}

impl Task {
    fn unanswered(self, trouble: &str) -> Answer {
        Answer::unavailable(self.question.from, trouble.to_owned(), self.asked.elapsed())
    }
}

/// Runs a part of a call. After a panic the client is a new one, and there is no result.
fn shielded<T>(
    client: &mut Client,
    clients: &Arc<ClientFactory>,
    act: impl FnOnce(&mut Client) -> T,
) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(|| act(client))).ok();
    if done.is_none() {
        *client = clients.client();
    }
    done
}

/// Where an idle worker is handed its next question.
struct Seat {
    number: usize,
    thread: Thread,
    handed: Mutex<Option<Handed>>,
}

enum Handed {
    Task(Task),
    /// The worker is to end.
    Stop,
}

impl Seat {
    fn hand(&self, handed: Handed) {
        *lock(&self.handed) = Some(handed);
        self.thread.unpark();
    }

    fn take(&self) -> Option<Handed> {
        lock(&self.handed).take()
    }
}

/// Questions that wait for a worker, which may be about to be started for them: the oldest is the next.
#[derive(Default)]
struct Waiting {
    tasks: BTreeMap<u64, Task>,
    /// The ticket of each connection's question. A connection has one open question at most.
    tickets: HashMap<ConnId, u64>,
    next_ticket: u64,
}

impl Waiting {
    fn len(&self) -> usize {
        self.tasks.len()
    }

    fn oldest(&self) -> Option<Instant> {
        let (_, task) = self.tasks.first_key_value()?;
        Some(task.asked)
    }

    fn push(&mut self, task: Task) {
        self.tickets.insert(task.question.from, self.next_ticket);
        self.tasks.insert(self.next_ticket, task);
        self.next_ticket += 1;
    }

    fn pop(&mut self) -> Option<Task> {
        let (_, task) = self.tasks.pop_first()?;
        self.tickets.remove(&task.question.from);
        Some(task)
    }

    fn remove(&mut self, from: ConnId) {
        if let Some(ticket) = self.tickets.remove(&from) {
            self.tasks.remove(&ticket);
        }
    }
}
