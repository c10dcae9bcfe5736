//! Replacing the running program without closing a connection (docs/operating.md#replacing-the-program).
//!
//! Owns: the phase of a handover, the two trials of the new program, the call that replaces this one. Knows: files,
//! processes, descriptors. Never knows: what is in a snapshot; each module saves its own state.
//!
//! The phases, which [`server`](crate::server) goes through:
//!
//! 1. *Probing*: the program at the path shows, as a child, that it is a wsify and can read the configuration. The loop goes on.
//! 2. *Waiting*: nothing new is asked or published outside; what is under way is awaited. The loop goes on. Nodes go on
//!    talking to each other, so something may always be unconfirmed at the broker: that is awaited for a short time only.
//! 3. *Frozen*: the loop is paused. The snapshot is written, and the program at the path restores it as a child, for
//!    [checking](Handover::check).
//! 4. *Replaced*: execve(2). The new program takes over, or goes [back](Rollback).
//!
//! Until the last step any failure leaves this program as it was, and it goes on.

mod descriptors;
mod memory;
mod program;
mod role;
mod rollback;
mod trial;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub use self::descriptors::{Inherited, keep};
pub use self::memory::SnapshotFile;
use self::program::FileIdentity;
pub use self::program::Program;
pub use self::role::{HandoverRole, PauseTimes, TakeoverState, VARIABLE, answer, monotonic};
pub use self::rollback::{Rollback, arrived};
use self::trial::Trial;
use crate::clock::Millis;

/// How long a trial may take; with a snapshot, one second more for this many bytes of it.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);
const BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;
/// How long the broker's receipts are awaited, in milliseconds. What has none then is handed over.
const RECEIPTS: Millis = 250;

/// What a snapshot of this many bytes may take to be restored.
pub fn timeout(size: u64) -> Duration {
    TRIAL_TIMEOUT.saturating_add(Duration::from_secs(size / BYTES_PER_SECOND))
}

/// Whether a handover is under way, and in which phase.
#[derive(Debug)]
pub struct Handover {
    /// The error says why there can be none.
    program: Result<Program, String>,
    phase: HandoverPhase,
}

#[derive(Debug)]
enum HandoverPhase {
    Idle,
    Probing {
        trial: Box<Trial>,
        file: FileIdentity,
    },
    Waiting {
        file: FileIdentity,
        receipts_until: Millis,
        until: Millis,
    },
}

impl Handover {
    /// A handover that has not begun.
    pub fn new(program: io::Result<Program>) -> Handover {
        let program = program.map_err(|error| {
            format!("cannot find the file of the running program (/proc must be mounted): {error}")
        });
        Handover {
            program,
            phase: HandoverPhase::Idle,
        }
    }

    /// The path of the program, if it is known.
    pub fn path(&self) -> Option<&Path> {
        self.program.as_ref().ok().map(Program::path)
    }

    pub fn is_under_way(&self) -> bool {
        !matches!(self.phase, HandoverPhase::Idle)
    }

    /// Whether what is under way is awaited.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, HandoverPhase::Waiting { .. })
    }

    /// Begins to probe the program at the path.
    ///
    /// # Errors
    /// Why that is not possible, for the log.
    pub fn begin(&mut self) -> Result<(), String> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        let file = program.successor().map_err(|error| error.to_string())?;
        let command = program.command(&HandoverRole::Probe);
        let trial = Trial::start(command, Stdio::null(), TRIAL_TIMEOUT)
            .map_err(|error| format!("it cannot be started: {error}"))?;
        self.phase = HandoverPhase::Probing {
            trial: Box::new(trial),
            file,
        };
        Ok(())
    }

    /// What becomes readable when [`Handover::probe`] has something to do.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        match &self.phase {
            HandoverPhase::Probing { trial, .. } => Some(trial.output()),
            _ => None,
        }
    }

    /// Looks at the probe. `Ok`: it was passed, and what is under way is awaited, for `timeout` at most. The error says why it
    /// failed. `None`: there is nothing new.
    pub fn probe(&mut self, now: Millis, timeout: Millis) -> Option<Result<(), String>> {
        let HandoverPhase::Probing { trial, file } = &mut self.phase else {
            return None;
        };
        let file = *file;
        Some(trial.step()?.map(|_| {
            self.phase = HandoverPhase::Waiting {
                file,
                receipts_until: now.saturating_add(RECEIPTS.min(timeout)),
                until: now.saturating_add(timeout),
            };
        }))
    }

    /// Whether what is under way has been awaited for long enough.
    pub fn is_overdue(&self, now: Millis) -> bool {
        matches!(self.phase, HandoverPhase::Waiting { until, .. } if now >= until)
    }

    /// Whether the broker's receipts have been awaited for long enough.
    pub fn has_awaited_receipts(&self, now: Millis) -> bool {
        matches!(self.phase, HandoverPhase::Waiting { receipts_until, .. } if now >= receipts_until)
    }

    /// Ends the handover.
    pub fn end(&mut self) {
        self.phase = HandoverPhase::Idle;
    }

    /// When the loop has to look at it, on a clock that began at `started`.
    pub fn next_deadline(&self, started: Instant, now: Millis) -> Option<Millis> {
        match &self.phase {
            HandoverPhase::Idle => None,
            HandoverPhase::Probing { trial, .. } => {
                let at = trial.next_deadline().saturating_duration_since(started);
                Some(crate::clock::millis(at).saturating_add(1))
            }
            HandoverPhase::Waiting {
                receipts_until,
                until,
                ..
            } => Some(if now < *receipts_until {
                *receipts_until
            } else {
                *until
            }),
        }
    }

    /// Has the program at the path restore a snapshot, as a child. `meanwhile` is called now and then.
    ///
    /// # Errors
    /// Why it cannot, for the log.
    pub fn check(&self, snapshot: &File, size: u64, meanwhile: impl FnMut()) -> Result<(), String> {
        let (program, file) = self.chosen()?;
        let input = snapshot.try_clone().map_err(|error| error.to_string())?;
        let command = program.command(&HandoverRole::Check);
        Trial::start(command, Stdio::from(input), timeout(size))
            .map_err(|error| format!("it cannot be started: {error}"))?
            .wait(meanwhile)
            .map_err(|why| format!("it cannot restore the snapshot: {why}"))?;
        match program.successor() {
            Ok(now) if now == file => Ok(()),
            Ok(_) => Err("the file has changed while it was being tested".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Replaces this program by the one at the path. Returns only if that fails.
    pub fn replace(&self, snapshot: &File, times: PauseTimes) -> String {
        let program = match self.chosen() {
            Ok((program, _)) => program,
            Err(why) => return why,
        };
        let takeover = TakeoverState {
            snapshot: snapshot.as_raw_fd(),
            program: program.file().as_raw_fd(),
            times,
        };
        let keep_both = |kept| -> io::Result<()> {
            keep(snapshot.as_fd(), kept)?;
            Ok(keep(program.file(), kept)?)
        };
        let failed = match keep_both(true) {
            Ok(()) => rollback::exec(program.command(&HandoverRole::Take(takeover))),
            Err(error) => error,
        };
        let _ = keep_both(false);
        format!("it cannot be started: {failed}")
    }

    /// The program, and the file that was probed.
    fn chosen(&self) -> Result<(&Program, FileIdentity), String> {
        match (&self.program, &self.phase) {
            (Ok(program), HandoverPhase::Waiting { file, .. }) => Ok((program, *file)),
            (Err(why), _) => Err(why.clone()),
            _ => Err("no program was probed".to_owned()),
        }
    }
}
