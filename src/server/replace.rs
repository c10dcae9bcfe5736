//! A handover, as the loop goes through it (docs/operating.md#replacing-the-program).
//!
//! Owns: the order of its steps, what is logged of it. Knows: when nothing is under way. Never knows: how a program is
//! tried or replaced ([`crate::handover`]), or what a snapshot holds.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::Interest;
use mio::unix::SourceFd;
use rustix::process::{Resource, getrlimit};

use super::{HANDOVER, Server};
use crate::clock::{Millis, micros, millis};
use crate::handover::{PauseTimes, monotonic};
use crate::log::Value;
use crate::signals;

/// How long a standing loop waits for the log's lines to be written.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the end of a call may take to be reported.
const REPORT: Millis = 500;
/// File descriptors that the new program needs besides those that it is handed.
const SPARE_FDS: usize = 12;
/// Bytes of memory that are free before a snapshot is written. An allocation that fails ends the program.
const SPARE_MEMORY: usize = 16 * 1024 * 1024;

impl Server {
    /// A signal asks for a handover.
    pub(super) fn begin_handover(&mut self) {
        if self.handover.is_under_way() {
            let ignored =
                "a handover is under way: this SIGUSR2 is ignored; send it again afterwards";
            return self.log.info(ignored, &[]);
        }
        if self.stop_at.is_none() {
            self.manager.reloading(monotonic());
        }
        let path = self.handover.path();
        let path = path.map_or_else(String::new, |path| path.display().to_string());
        let message = "a handover begins: testing the program at this path";
        self.log.info(message, &[("path", Value::Text(&path))]);
        signals::keep_ended_children();
        let begun = self.handover.begin().and_then(|()| {
            let registry = self.poll.registry();
            let output = self.handover.output().map(|output| output.as_raw_fd());
            let registered = output.map_or(Ok(()), |fd| {
                registry.register(&mut SourceFd(&fd), HANDOVER, Interest::READABLE)
            });
            registered.map_err(|error| error.to_string())
        });
        if let Err(why) = begun {
            self.abort_handover(&why);
        }
    }

    /// A handover under way goes on, as the last step of a turn. Breaks if a second signal ends the server.
    #[inline(always)]
    pub(super) fn advance_handover(&mut self) -> ControlFlow<u8> {
        if self.handover.is_under_way() {
            self.handover_step()
        } else {
            ControlFlow::Continue(())
        }
    }

    fn handover_step(&mut self) -> ControlFlow<u8> {
        let now = self.hub.clock.now;
        let patience = self.authorizer_timeout.saturating_add(REPORT);
        match self.handover.probe(now, patience) {
            Some(Ok(())) => {
                // In this order: a question may come back that was withdrawn in this turn.
                if let Some(authorizer) = &mut self.authorizer {
                    self.hub.take_back(authorizer.take_back());
                }
                self.hub.hold_back(true);
            }
            Some(Err(why)) => self.abort_handover(&why),
            None => {}
        }
        if !self.handover.is_waiting() {
            return ControlFlow::Continue(());
        }
        let has_receipts = self.broker.is_quiet() || self.handover.has_awaited_receipts(now);
        if self.no_call_is_under_way() && has_receipts {
            let ready = self.require_descriptors().and_then(|()| require_memory());
            let why = match ready {
                Ok(()) => self.hand_over(),
                Err(why) => why,
            };
            self.abort_handover(&why);
            return self.take_signals();
        }
        if self.handover.is_overdue(now) {
            self.abort_handover("a call to the authorizer or the receiver of events has exceeded --authorizer-timeout");
        }
        ControlFlow::Continue(())
    }

    /// Ends a handover: this program goes on.
    pub(super) fn abort_handover(&mut self, why: &str) {
        self.handover.end();
        self.hub.hold_back(false);
        self.hub.metrics_mut().handovers.add("given_up");
        let message = "the handover is given up: this program goes on, and nothing is lost; \
                       remove the reason, and send SIGUSR2 again";
        self.log.error(message, &[("reason", Value::Text(why))]);
        if self.stop_at.is_none() {
            let (now, connections) = (self.hub.clock.now, self.hub.connections());
            self.manager.reloaded(now, connections);
        }
    }

    /// Calls of threads cannot be handed over. What was published is handed over if redis does not confirm it in time.
    fn no_call_is_under_way(&self) -> bool {
        let authorizer = self.authorizer.as_ref().is_none_or(|it| it.is_quiet());
        authorizer && self.events.as_ref().is_none_or(|it| it.is_quiet())
    }

    /// Stops the loop, writes the snapshot, has it checked, and replaces this program. Returns only if that fails, and
    /// why.
    fn hand_over(&mut self) -> String {
        let frozen = micros(monotonic());
        self.manager.ping();
        let flushed = self.log.flush(LOG_FLUSH_TIMEOUT);
        let saved = if flushed {
            Default::default()
        } else {
            self.log.save()
        };
        let (written, saved) = self.write_snapshot(saved);
        let written = written.map_err(|error| format!("the snapshot cannot be written: {error}"));
        let Err(why) = written.and_then(|(snapshot, size)| self.replace(snapshot, size, frozen));
        self.log.put_back(saved);
        self.hub.stood_still();
        let stood = Duration::from_micros(micros(monotonic()).saturating_sub(frozen));
        let stood = [("stood_still_ms", Value::Number(millis(stood)))];
        let message = "the loop goes on: it stood still for a handover that failed";
        self.log.info(message, &stood);
        why
    }

    fn replace(
        &mut self,
        snapshot: std::fs::File,
        size: u64,
        frozen: u64,
    ) -> Result<Infallible, String> {
        let saved = micros(monotonic());
        let manager = &self.manager;
        self.handover.check(&snapshot, size, || manager.ping())?;
        let times = PauseTimes {
            frozen,
            saved,
            checked: micros(monotonic()),
        };
        if self.signals.take_only(signals::REPLACE) {
            let ignored =
                "a handover is under way: this SIGUSR2 is ignored; send it again afterwards";
            self.log.info(ignored, &[]);
            self.log.flush(LOG_FLUSH_TIMEOUT);
        }
        if self.signals.has_arrived() {
            return Err("a stop was requested".to_owned());
        }
        let failed = match self.keep_descriptors(true) {
            Ok(()) => self.handover.replace(&snapshot, times),
            Err(error) => format!("descriptors cannot be handed over: {error}"),
        };
        let _ = self.keep_descriptors(false);
        Err(failed)
    }

    /// # Errors
    /// The limit on file descriptors was lowered, so that neither the new program nor this one could begin.
    fn require_descriptors(&self) -> Result<(), String> {
        let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let open = self.descriptors().count();
        if (open + SPARE_FDS) as u64 <= limit {
            Ok(())
        } else {
            Err(format!(
                "the limit on file descriptors is now {limit}, and {open} are in use: raise it (prlimit --nofile)"
            ))
        }
    }
}

/// # Errors
/// A limit on memory was lowered, or is nearly reached.
fn require_memory() -> Result<(), String> {
    let mut spare: Vec<u8> = Vec::new();
    let reserved = spare.try_reserve_exact(SPARE_MEMORY);
    // Otherwise the compiler may leave out an allocation that nothing uses.
    std::hint::black_box(&spare);
    reserved.map_err(|_| {
        format!(
            "there is too little memory for a snapshot: {SPARE_MEMORY} bytes cannot be allocated"
        )
    })
}
