//! Resumes a server that another program has left (docs/operating.md#replacing-the-program).
//!
//! Owns: what is logged and counted of a handover that is over. Knows: how long the loop was paused. Never knows: how
//! the parts were restored.

use std::time::Duration;

use super::Server;
use crate::clock::{Millis, micros};
use crate::handover::{PauseTimes, monotonic};
use crate::log::{SavedLog, Value};

/// How long the loop has been paused, and why this program goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub times: PauseTimes,
    /// When this program began to run, on the kernel's monotonic clock.
    pub begun: Duration,
    /// Why the new program has failed, if this is the old one again.
    pub failure: Option<String>,
}

impl Server {
    /// Serves from now on. `stop_at`: when a graceful stop under way ends; `log`: lines that could not be written.
    pub fn resume(&mut self, stop_at: Option<Millis>, log: SavedLog, pause: &Pause) {
        // They were open for a rollback until now.
        let _ = self.keep_descriptors(false);
        self.log.restore(log);
        let outcome = if pause.failure.is_some() {
            "undone"
        } else {
            "done"
        };
        self.hub.metrics_mut().handovers.add(outcome);
        let connections = self.hub.connections();
        match &stop_at {
            Some(until) => self.resume_stop(*until),
            None => self.manager.reloaded(self.hub.clock.now, connections),
        }
        self.log_resumption(pause);
    }

    fn log_resumption(&self, pause: &Pause) {
        let PauseTimes {
            frozen,
            saved,
            checked,
        } = pause.times;
        let (begun, now) = (micros(pause.begun), micros(monotonic()));
        let millis = |from: u64, to: u64| Value::Number(to.saturating_sub(from).div_ceil(1000));
        let connections = Value::Number(self.hub.connections() as u64);
        let stood = ("stood_still_ms", millis(frozen, now));
        if let Some(why) = &pause.failure {
            let fields = [
                ("reason", Value::Text(why)),
                ("connections", connections),
                stood,
            ];
            let message = "the new program failed after it was started, and the process went back to the old one: nothing is lost; \
                           install another release before the next SIGUSR2";
            return self.log.error(message, &fields);
        }
        let fields = [
            ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
            ("connections", connections),
            stood,
            ("snapshot_ms", millis(frozen, saved)),
            ("check_ms", millis(saved, checked)),
            ("exec_ms", millis(checked, begun)),
            ("restore_ms", millis(begun, now)),
        ];
        let message = "the program was replaced, and this one goes on";
        self.log.info(message, &fields);
    }
}
