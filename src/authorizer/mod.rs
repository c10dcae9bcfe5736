//! The authorizer as the loop sees it: questions go out to worker threads, answers come back in batches.
//!
//! Owns: what the pool is started with, and when the loop has to look after it. Knows: that a question is answered once,
//! unless it is taken back before it is put. Never knows: a client's socket, what a question means, what is logged.
//!
//! Calls are made by [`crate::webhook`].

mod call;
mod outcome;
mod parker;
mod pool;
mod probe;
mod settings;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod waiting;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::pool::Load;
use self::pool::Pool;
pub use self::probe::{Probed, ProbedBody, probe};
pub use self::settings::AuthorizerSettings;
use self::task::Task;
use self::waiting::Waiting;
use crate::effect::{Answer, ConnId, Question};

/// Recalled questions that are answered between two polls.
const RECALLED: usize = 64;
const NOT_PUT: &str = "the authorizer is down: the question was not sent";

/// The pool of workers that ask the authorizer.
pub struct Authorizer {
    pool: Arc<Pool>,
    /// Questions that are never put, and are to be answered.
    recalled: Waiting,
    /// When the oldest question that waits will have waited too long, unless it has been put meanwhile.
    due: Option<Instant>,
    timeout: Duration,
}

impl Authorizer {
    /// Prepares the pool. No worker is started and nothing is sent before the first question. `waker` is woken when
    /// answers have come back.
    ///
    /// # Errors
    /// For an `https` URL: no root certificate can be read. Or a thread cannot start.
    pub fn start(settings: AuthorizerSettings, waker: Arc<mio::Waker>) -> io::Result<Authorizer> {
        Ok(Authorizer {
            pool: Pool::start(&settings, waker)?,
            recalled: Waiting::default(),
            due: None,
            timeout: settings.timeout,
        })
    }

    /// Has a question put, as soon as there is a worker. Never blocks.
    ///
    /// # Errors
    /// The question comes back when all workers are busy and the queue is full: the authorizer counts as down.
    pub fn ask(&mut self, question: Question) -> Result<(), Question> {
        let asked = Instant::now();
        self.pool.ask(Task { question, asked })?;
        self.due.get_or_insert(asked + self.timeout);
        Ok(())
    }

    /// Takes back the question of a connection, if it has not been put yet. Otherwise it is still answered.
    pub fn withdraw(&self, from: ConnId) {
        self.pool.withdraw(from);
    }

    /// Takes back all questions that have not been put. The next calls of [`Authorizer::answers`] bring their answers.
    pub fn recall(&mut self) {
        let mut waiting = self.pool.recall();
        while let Some(task) = waiting.pop() {
            self.recalled.push(task);
        }
    }

    /// Takes back all questions that have not been put, to be asked later: they get no answer here.
    pub fn take_back(&mut self) -> Vec<Question> {
        let mut waiting = self.pool.recall();
        let tasks = std::iter::from_fn(|| waiting.pop());
        tasks.map(|task| task.question).collect()
    }

    /// Whether every question has its answer, and [`Authorizer::answers`] has brought them all.
    pub fn is_quiet(&self) -> bool {
        !self.has_recalled() && self.pool.is_quiet()
    }

    /// Whether [`Authorizer::answers`] has to be called again at once.
    pub fn has_recalled(&self) -> bool {
        self.recalled.len() > 0
    }

    /// Takes all answers that have come back. To be called at every wake, as only the first answer since the last call
    /// wakes the loop, and when [`Authorizer::due`] says.
    pub fn answers(&mut self, into: &mut Vec<Answer>) -> Load {
        let (load, due) = self.pool.collect(into);
        self.due = due;
        for _ in 0..RECALLED {
            let Some(task) = self.recalled.pop() else {
                break;
            };
            into.push(task.unanswered(NOT_PUT));
        }
        load
    }

    /// When [`Authorizer::answers`] has to be called, if nothing happens before.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Drop for Authorizer {
    fn drop(&mut self) {
        self.pool.close();
    }
}
