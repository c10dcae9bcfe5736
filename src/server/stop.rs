//! What signals lead to: the graceful stop, and a handover.
//!
//! Owns: the first and the second signal to stop, and when the server exits. Knows: whether clients and events are left.
//! Never knows: how clients are disconnected.

use std::ops::ControlFlow;

use super::Server;
use crate::clock::Millis;
use crate::events::EventSender;
use crate::log::Value;
use crate::signals;

impl Server {
    /// The first signal to stop begins a graceful stop; a second one breaks with the exit status.
    pub(super) fn take_signals(&mut self) -> ControlFlow<u8> {
        for signal in self.signals.take() {
            if signal == signals::REPLACE {
                self.begin_handover();
                continue;
            }
            let number = ("signal", Value::Number(signal as u64));
            if self.stop_at.is_some() {
                self.log.warn("second signal: exiting at once", &[number]);
                return ControlFlow::Break(128 + signal as u8);
            }
            if self.handover.is_under_way() {
                self.abort_handover("the server is to stop");
            }
            let fields = [
                number,
                ("connections", Value::Number(self.hub.connections() as u64)),
                ("drain_ms", Value::Number(self.drain_time)),
            ];
            let message = "stopping: clients are disconnected over the drain time";
            self.log.info(message, &fields);
            self.stop_at = Some(self.hub.clock.now + self.drain_time);
            self.hub.drain(self.drain_time);
            if let Some(events) = &mut self.events {
                events.hurry();
            }
            self.manager.stopping(self.drain_time);
        }
        ControlFlow::Continue(())
    }

    /// Goes on with a graceful stop that another program has begun.
    pub(super) fn resume_stop(&mut self, until: Millis) {
        self.stop_at = Some(until);
        let left = until.saturating_sub(self.hub.clock.now);
        self.manager.stopping(left.min(self.drain_time));
    }

    /// Breaks when a graceful stop is over: no client and no event is left, or its time is up.
    pub(super) fn stop_if_due(&self) -> ControlFlow<u8> {
        let Some(at) = self.stop_at else {
            return ControlFlow::Continue(());
        };
        // The sender takes what waits as soon as it is free: free means that no event is left.
        let events_sent = self.events.as_ref().is_none_or(EventSender::is_free);
        if self.hub.clock.now < at && !(events_sent && self.hub.is_drained()) {
            return ControlFlow::Continue(());
        }
        let connections = Value::Number(self.hub.connections() as u64);
        let events = Value::Number(self.hub.events_left());
        let fields = [("connections_left", connections), ("events_left", events)];
        let shown = if self.events.is_some() { 2 } else { 1 };
        self.log.info("stopped", &fields[..shown]);
        ControlFlow::Break(0)
    }
}
