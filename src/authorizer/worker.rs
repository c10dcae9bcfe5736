//! One worker: it asks one question after the other, rests between them, and ends when none comes.
//!
//! Owns: a worker's client. Knows: in what order an answer is handed in and the next question is taken.
//! Never knows: another worker, but that it is to be called.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::call::{Client, ClientFactory};
use super::outcome::Outcome;
use super::parker::{Call, Parker};
use super::pool::{Pool, Work};
use super::task::Task;
use crate::effect::{Answer, Question};

/// How long the rest of an answer may take to come. It follows its head at once, or something is wrong with it.
const DRAIN_TIME: Duration = Duration::from_millis(250);
/// For how long of that a worker counts as about to be idle. A server that sends head and body apart needs less.
const ABOUT_TO_BE_IDLE: Duration = Duration::from_millis(2);

impl Pool {
    /// A worker's life.
    pub(super) fn serve(&self, number: usize) {
        let parker = Arc::new(Parker::own(number));
        let mut client = self.clients.client();
        let mut work = self.work();
        work.spawning -= 1;
        let mut next = self.next(work, false, &parker, client.caller.rest);
        while let Some(tasks) = next {
            let answers = self.put(&mut client, tasks);
            let finished = shielded(&mut client, &self.clients, |client| {
                client.caller.finish_at_hand()
            });
            let mut work = self.work();
            let first = work.deliver(answers);
            if finished == Some(false) {
                work.finishing += 1;
                drop(work);
                self.wake(first);
                work = self.finish(&mut client);
                next = self.next(work, false, &parker, client.caller.rest);
            } else {
                next = self.next(work, first, &parker, client.caller.rest);
            }
        }
    }

    /// Puts questions to the authorizer, in one call.
    fn put(&self, client: &mut Client, tasks: Vec<Task>) -> Vec<Answer> {
        let questions: Vec<&Question> = tasks.iter().map(|task| &task.question).collect();
        // A panic in there would be a defect of a library. It costs this connection and no question.
        let outcomes = shielded(client, &self.clients, |client| client.ask(&questions));
        let mut outcomes = outcomes.unwrap_or_default().into_iter();
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut in_call = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let answer = |task: Task| {
            let outcome = outcomes.next();
            let outcome =
                outcome.unwrap_or_else(|| Outcome::nothing("the call failed inside the server"));
            outcome.answer(task, call, std::mem::take(&mut in_call))
        };
        tasks.into_iter().map(answer).collect()
    }

    /// Waits for the rest of an answer. Where that takes long, this worker does not count as about to be idle any more.
    fn finish(&self, client: &mut Client) -> MutexGuard<'_, Work> {
        let wait = |client: &mut Client, timeout| {
            shielded(client, &self.clients, |client| {
                client.caller.finish(timeout)
            })
            .unwrap_or(true)
        };
        let at_once = wait(client, ABOUT_TO_BE_IDLE);
        let mut work = self.work();
        work.finishing -= 1;
        if at_once {
            return work;
        }
        if work.calls() > work.covered() {
            work.spawn();
        }
        drop(work);
        if !wait(client, DRAIN_TIME) {
            client.caller.hang_up();
        }
        self.work()
    }

    /// The next questions for the worker on `parker`, which may wait for them as long as its connection is worth keeping.
    /// `None`: the worker is to end. `wake`: the loop has to be woken.
    fn next<'p>(
        &'p self,
        mut work: MutexGuard<'p, Work>,
        wake: bool,
        parker: &Arc<Parker>,
        rest: Duration,
    ) -> Option<Vec<Task>> {
        let mut until = None;
        loop {
            let tasks = work.take();
            if !tasks.is_empty() {
                let another = work.wake_up();
                drop(work);
                Parker::call(another, Call::Wake);
                self.wake(wake && until.is_none());
                return Some(tasks);
            }
            work.to_spawn.as_ref()?;
            work.idle.push(Arc::clone(parker));
            drop(work);
            self.wake(wake && until.is_none());
            let until = *until.get_or_insert_with(|| Instant::now() + rest);
            match self.rest(parker, until) {
                Call::Stop => return None,
                Call::Wake => work = self.work(),
            }
            work.waking -= 1;
        }
    }

    /// Waits to be called.
    fn rest(&self, parker: &Parker, until: Instant) -> Call {
        loop {
            if let Some(call) = parker.take_call() {
                return call;
            }
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                thread::park_timeout(left);
            } else if let Some(call) = self.retire(parker) {
                return call;
            } else {
                // It has just been taken off the list, and is about to be called.
                thread::park();
            }
        }
    }

    /// Takes a worker off the list of those that are idle, if it is still there. It is to end, unless a question waits.
    fn retire(&self, parker: &Parker) -> Option<Call> {
        let mut work = self.work();
        let at = work.idle.iter().position(|it| it.number == parker.number)?;
        work.idle.remove(at);
        if work.waiting.len() > 0 {
            work.waking += 1;
            return Some(Call::Wake);
        }
        work.vacant.push(parker.number);
        Some(Call::Stop)
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
