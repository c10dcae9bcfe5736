//! The authorizer as the loop sees it: questions go out to worker threads, answers come home in batches.
//!
//! Owns: what the pool is started with, and when the loop has to look after it. Knows: that a question is answered once,
//! unless it is taken back before it is put. Never knows: a client's socket, what a question means, who logs.
//!
//! One file for each part; the map in src/lib.rs lists them.
//!
//! Decision: no proxy from the environment. The authorizer is part of the deployment, and `HTTP_PROXY` is meant for the
//! world.

mod call;
mod dial;
mod link;
mod outcome;
mod pool;
mod probe;
mod seat;
mod settings;
pub mod signature;
mod task;
#[cfg(test)]
mod tests;
mod threads;
mod traffic;
mod transport;
mod unfold;
mod url;
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
#[doc(hidden)]
pub use self::unfold::fuzz;
pub use self::url::Url;
use crate::effect::{Answer, ConnId, Question};

/// The pool of workers that ask the authorizer.
pub struct Authorizer {
    pool: Arc<Pool>,
    /// When the oldest question that waits will have waited too long, unless it has been put meanwhile.
    due: Option<Instant>,
    timeout: Duration,
}

impl Authorizer {
    /// Prepares the pool. No worker is started and nothing is sent before the first question. `waker` is woken when
    /// answers have come home.
    ///
    /// # Errors
    /// For an `https` URL: no root certificate can be read. Or a thread cannot start.
    pub fn start(settings: AuthorizerSettings, waker: Arc<mio::Waker>) -> io::Result<Authorizer> {
        Ok(Authorizer {
            pool: Pool::start(&settings, waker)?,
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

    /// Takes all answers that have come home. To be called at every wake, as only the first answer since the last call
    /// wakes the loop, and when [`Authorizer::due`] says.
    pub fn answers(&mut self, into: &mut Vec<Answer>) -> Load {
        let (load, due) = self.pool.collect(into);
        self.due = due;
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
