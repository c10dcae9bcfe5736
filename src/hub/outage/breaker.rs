//! Whether the authorizer is down, and how fast questions may go out to it (`docs/authorizer.md#answers`).
//!
//! Owns: the state: up, down, or a slow start. Knows: which call failed or was answered, for which connection, and when.
//! Never knows: what a question says, which questions wait, the clock.
//!
//! ```text
//! up ──── five failed calls in a row, for three connections ────> down: one probe at a time, with growing pauses
//! down ── the first HTTP answer other than 5xx ─────────────────> slow start: each answer lets two questions go
//! slow start ── every worker is busy, or a minute is over ──────> up
//! slow start ── a failed call ──────────────────────────────────> down
//! ```
//!
//! Decision: the slow start counts questions rather than calls. A batch is one call with many questions, so that calls
//! only grow more slowly than they might. Counting questions needs nothing from the driver.

pub mod saved;

use std::collections::HashSet;

use crate::backoff::Backoff;
use crate::clock::Millis;
use crate::effect::{Answer, ConnId};
use crate::random::Random;

/// Failed calls in a row that mean that the authorizer is down.
const FAILURES: u32 = 5;
/// Connections that these calls are about, at least: what one client says may make an authorizer fail.
const CONNECTIONS: usize = 3;
/// The pauses between attempts. An authorizer that is back waits for the longest at most.
pub const BACKOFF: Backoff = Backoff {
    first: 250,
    longest: 5_000,
};
/// How long a slow start takes at most: a minute without a failed call.
const SLOW_START: Millis = 60_000;

/// What an answer says about the authorizer as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The call failed: 5xx, or no HTTP answer. With its number.
    Failed(u64),
    /// An HTTP answer other than 5xx has come.
    Answered,
    /// Nothing: the question was not put, or it alone has failed.
    Nothing,
}

impl CallOutcome {
    pub fn of(answer: &Answer) -> CallOutcome {
        match (answer.call, answer.status) {
            (None, _) => CallOutcome::Nothing,
            (Some(call), _) if answer.call_failed => CallOutcome::Failed(call),
            (_, Some(status)) if !(500..=599).contains(&status) => CallOutcome::Answered,
            _ => CallOutcome::Nothing,
        }
    }
}

/// What an answer has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageChange {
    /// The authorizer is down from now on.
    Down,
    /// It is up again.
    Up,
}

/// Failed calls in a row, while the authorizer is up.
#[derive(Debug, Default)]
struct FailedCalls {
    calls: u32,
    /// The number of the last of them: a batch brings one answer for each question.
    last: Option<u64>,
    /// The first connections that they were about, no more than matter.
    connections: Vec<ConnId>,
}

impl FailedCalls {
    /// One more answer of a failed call. Returns whether they are enough.
    fn add(&mut self, from: ConnId, call: u64) -> bool {
        if self.last != Some(call) {
            self.calls = self.calls.saturating_add(1);
            self.last = Some(call);
        }
        if self.connections.len() < CONNECTIONS && !self.connections.contains(&from) {
            self.connections.push(from);
        }
        self.calls >= FAILURES && self.connections.len() >= CONNECTIONS
    }
}

#[derive(Debug)]
enum BreakerState {
    Up(FailedCalls),
    Down {
        /// Failed attempts, the one that began it among them.
        failures: u32,
        /// When the next probe may go out.
        next: Millis,
        /// The connection whose question is the probe.
        probe: Option<ConnId>,
    },
    SlowStart {
        /// Questions that may be out at once.
        window: usize,
        until: Millis,
    },
}

#[derive(Debug)]
pub struct Breaker {
    state: BreakerState,
    /// Calls in flight at most.
    workers: usize,
    /// Questions that may be out at once while it is up: more would only wait elsewhere.
    most_out: usize,
    /// Questions that were let out one by one, and are not answered.
    out: HashSet<ConnId>,
}

impl Breaker {
    /// There are this many workers, and up to `batch` questions in a call.
    pub fn new(workers: usize, batch: usize) -> Breaker {
        let workers = workers.max(1);
        Breaker {
            state: BreakerState::Up(FailedCalls::default()),
            workers,
            most_out: workers.saturating_mul(batch.max(1)),
            out: HashSet::new(),
        }
    }

    pub fn is_down(&self) -> bool {
        matches!(self.state, BreakerState::Down { .. })
    }

    /// Whether every question goes out as it comes.
    pub fn is_up(&self) -> bool {
        matches!(self.state, BreakerState::Up(_))
    }

    /// Looks whether a slow start has lasted long enough.
    pub fn pass(&mut self, now: Millis) {
        if let BreakerState::SlowStart { until, .. } = self.state
            && now >= until
        {
            self.state = BreakerState::Up(FailedCalls::default());
        }
    }

    /// Whether a question that waits may go out now.
    pub fn admits(&self, now: Millis) -> bool {
        match self.state {
            BreakerState::Up(_) => self.out.len() < self.most_out,
            BreakerState::Down { next, probe, .. } => probe.is_none() && now >= next,
            BreakerState::SlowStart { window, .. } => self.out.len() < window,
        }
    }

    /// When [`Breaker::admits`] may become true, if no answer comes before.
    pub fn next(&self) -> Option<Millis> {
        match self.state {
            BreakerState::Up(_) => None,
            BreakerState::Down { next, probe, .. } => probe.is_none().then_some(next),
            BreakerState::SlowStart { until, .. } => Some(until),
        }
    }

    /// A question goes out that [`Breaker::admits`] let out.
    pub fn let_out(&mut self, from: ConnId) {
        self.out.insert(from);
        match &mut self.state {
            BreakerState::Down { probe, .. } => *probe = Some(from),
            BreakerState::SlowStart { .. } if self.out.len() >= self.workers => {
                self.state = BreakerState::Up(FailedCalls::default());
            }
            BreakerState::Up(_) | BreakerState::SlowStart { .. } => {}
        }
    }

    /// A connection wants no answer any more. Returns whether its question may be taken back. A probe may not, nor what is
    /// out in a slow start: it has been put, and its answer says how the authorizer is.
    pub fn forget(&mut self, from: ConnId) -> bool {
        if self.is_up() {
            self.out.remove(&from);
        }
        !self.out.contains(&from)
    }

    /// An answer has come. Returns what has changed with it.
    pub fn answered(
        &mut self,
        from: ConnId,
        outcome: CallOutcome,
        now: Millis,
        random: &mut Random,
    ) -> Option<OutageChange> {
        self.pass(now);
        let was_out = !self.out.is_empty() && self.out.remove(&from);
        match (&mut self.state, outcome) {
            (BreakerState::Up(row), CallOutcome::Answered) => {
                *row = FailedCalls::default();
                None
            }
            (BreakerState::Up(row), CallOutcome::Failed(call)) => {
                row.add(from, call).then(|| self.go_down(now, random))
            }
            (BreakerState::Down { .. }, CallOutcome::Answered) => {
                self.state = BreakerState::SlowStart {
                    window: 1,
                    until: now.saturating_add(SLOW_START),
                };
                Some(OutageChange::Up)
            }
            (BreakerState::Down { .. }, outcome) => {
                self.probed(from, outcome, now, random);
                None
            }
            (BreakerState::SlowStart { window, .. }, CallOutcome::Answered) => {
                *window = window.saturating_add(usize::from(was_out));
                None
            }
            // A call from before the outage says nothing about what came after it.
            (BreakerState::SlowStart { .. }, CallOutcome::Failed(_)) => {
                was_out.then(|| self.go_down(now, random))
            }
            (BreakerState::Up(_) | BreakerState::SlowStart { .. }, CallOutcome::Nothing) => None,
        }
    }

    fn go_down(&mut self, now: Millis, random: &mut Random) -> OutageChange {
        self.out.clear();
        self.state = BreakerState::Down {
            failures: 1,
            next: now.saturating_add(BACKOFF.pause(1, random)),
            probe: None,
        };
        OutageChange::Down
    }

    /// While it is down, the probe has ended without an answer, or another call has failed. The pause counts from the
    /// last failure.
    fn probed(&mut self, from: ConnId, outcome: CallOutcome, now: Millis, random: &mut Random) {
        let BreakerState::Down {
            failures,
            next,
            probe,
            ..
        } = &mut self.state
        else {
            return;
        };
        if *probe == Some(from) {
            *probe = None;
            *failures = failures.saturating_add(1);
        } else if probe.is_some() || outcome == CallOutcome::Nothing {
            return;
        }
        *next = now.saturating_add(BACKOFF.pause(*failures, random));
    }
}

#[cfg(test)]
mod tests;
