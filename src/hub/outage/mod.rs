//! What becomes of questions when the authorizer fails (`docs/authorizer.md#failure`).
//!
//! Owns: whether a question goes out, waits or is refused at once; which one goes out next; when one is given up. Knows: the
//! policy, the time as an argument. Never knows: connections, what an answer does to one ([`super::permission`] does), or
//! how a question travels ([`super::questions`] does).
//!
//! [`breaker`] says whether the authorizer is down, and how fast questions may go out to it; [`held`] has those that wait.
//! With `close` both are idle: every question goes out as it comes.

mod breaker;
mod held;
pub mod saved;

use self::breaker::{Breaker, CallOutcome};
use self::held::HeldQuestions;
use super::settings::FailurePolicy;
use crate::clock::Millis;
use crate::config::AuthorizerFailure;
use crate::effect::{Answer, ConnId, Question};
use crate::random::Random;

pub use self::breaker::{BACKOFF, OutageChange};

/// Pauses that end between two polls.
const PAUSES: usize = 64;

/// What becomes of a new question.
#[derive(Debug)]
pub enum Admission {
    Ask(Question),
    /// It waits here.
    Wait,
    /// It is not asked: the authorizer is down, or too much waits.
    Refuse,
}

#[derive(Debug)]
pub struct Outage {
    policy: FailurePolicy,
    breaker: Breaker,
    held: HeldQuestions,
    /// The last call has failed.
    failing: bool,
}

impl Outage {
    pub fn new(policy: FailurePolicy) -> Outage {
        Outage {
            policy,
            breaker: Breaker::new(policy.workers, policy.batch),
            held: HeldQuestions::default(),
            failing: false,
        }
    }

    /// The value of `--authorizer-failure`.
    pub fn failure(&self) -> AuthorizerFailure {
        self.policy.failure
    }

    /// Whether questions are held while the authorizer is down.
    pub fn holds(&self) -> bool {
        self.policy.failure == AuthorizerFailure::Hold
    }

    /// Whether the authorizer is known to be down, so that questions are no longer put as they come.
    pub fn is_down(&self) -> bool {
        self.breaker.is_down()
    }

    /// The metric's value. With `close`: whether the last call brought an answer.
    pub fn is_up(&self) -> bool {
        match self.policy.failure {
            AuthorizerFailure::Close => !self.failing,
            AuthorizerFailure::Reject | AuthorizerFailure::Hold => !self.is_down(),
        }
    }

    /// Questions that wait here, or are being asked again.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// How often a question that is held has failed.
    pub fn failures(&self, from: ConnId) -> u32 {
        self.held.failures(from)
    }

    /// Whether a question that is held is being asked again.
    pub fn is_asked(&self, from: ConnId) -> bool {
        self.held.is_asked(from)
    }

    /// A new question has come up. `room`: bytes that may still wait.
    pub fn admit(&mut self, question: Question, room: usize, now: Millis) -> Admission {
        self.breaker.pass(now);
        if self.breaker.is_up() {
            return Admission::Ask(question);
        }
        if self.held.first().is_none() && self.breaker.admits(now) {
            self.breaker.let_out(question.from);
            return Admission::Ask(question);
        }
        let (fits, longest) = match self.policy.failure {
            AuthorizerFailure::Hold => (question.body.len() <= room, self.policy.hold),
            // It waits as for a worker.
            _ => {
                let fits = !self.is_down() && self.held.len() < self.policy.queue;
                (fits, self.policy.authorizer_timeout)
            }
        };
        if !fits {
            return Admission::Refuse;
        }
        self.held.insert(question, now.saturating_add(longest));
        Admission::Wait
    }

    /// An answer has come, for whichever connection.
    pub fn note_answer(
        &mut self,
        answer: &Answer,
        now: Millis,
        random: &mut Random,
    ) -> Option<OutageChange> {
        let outcome = CallOutcome::of(answer);
        match outcome {
            CallOutcome::Failed(_) => self.failing = true,
            CallOutcome::Answered => self.failing = false,
            CallOutcome::Nothing => {}
        }
        if self.policy.failure == AuthorizerFailure::Close {
            return None;
        }
        self.breaker.answered(answer.to, outcome, now, random)
    }

    /// A question has failed. Returns whether it is held, to be asked again. It came up at `since`; `room`: bytes that may
    /// still wait.
    pub fn hold(
        &mut self,
        question: Question,
        since: Millis,
        room: usize,
        now: Millis,
        random: &mut Random,
    ) -> bool {
        let from = question.from;
        let until = since.saturating_add(self.policy.hold);
        let failures = if self.held.is_asked(from) {
            self.held.put_back(question)
        } else if until <= now || question.body.len() > room {
            None
        } else {
            self.held.insert(question, until);
            self.held.note_failure(from)
        };
        let Some(failures) = failures else {
            return false;
        };
        if !self.is_down() {
            let until = now.saturating_add(BACKOFF.pause(failures, random));
            self.held.pause(from, until);
        }
        true
    }

    /// Whether nothing waits here.
    pub fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// Puts what has paused long enough into the queue.
    pub fn end_pauses(&mut self, now: Millis) {
        self.breaker.pass(now);
        self.held.end_pauses(now, PAUSES);
        // Those that wait take turns in probing, whatever their own pause.
        if self.is_down() && self.held.first().is_none() && self.breaker.admits(now) {
            self.held.end_next_pause();
        }
    }

    /// The next question that is to be asked now.
    pub fn next(&mut self, now: Millis) -> Option<Question> {
        if !self.breaker.admits(now) {
            return None;
        }
        let question = self.held.take_first()?;
        self.breaker.let_out(question.from);
        Some(question)
    }

    /// The next connection whose question is given up: it has waited too long, or nothing waits for an authorizer that is
    /// down. To be [forgotten](Outage::forget).
    pub fn next_given_up(&self, now: Millis) -> Option<ConnId> {
        let refused = if self.refuses_waiting() {
            self.held.first()
        } else {
            None
        };
        refused.or_else(|| self.held.overdue(now))
    }

    fn refuses_waiting(&self) -> bool {
        self.is_down() && !self.holds()
    }

    /// A connection wants no answer to its question any more. Returns whether the question is to be taken back from
    /// where it was put.
    pub fn forget(&mut self, from: ConnId) -> bool {
        !self.held.remove(from) && self.breaker.forget(from)
    }

    /// A question has its final answer.
    pub fn settled(&mut self, from: ConnId) {
        self.held.remove(from);
    }

    /// When something is to be done next, if no answer comes before.
    pub fn next_deadline(&self, now: Millis) -> Option<Millis> {
        if self.held.is_empty() {
            return None;
        }
        let waits = self.held.first().is_some();
        let pausing = self.held.next_pause();
        let turn = if self.breaker.admits(now) {
            Some(now)
        } else {
            self.breaker.next()
        };
        let goes = waits || self.is_down() && pausing.is_some();
        let refused = (waits && self.refuses_waiting()).then_some(now);
        [
            turn.filter(|_| goes),
            refused,
            pausing,
            self.held.next_limit(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
