//! The access log: a line when a connection ends, and one when a request is refused (`--access-log`).
//!
//! Owns: how many lines there may be; with `all`, when each connection began and its counts. Knows: endings, and which
//! of them are faults. Never knows: why a request was refused, except for the error's code.
//!
//! Decisions
//! - Counts are kept with `all` only, in a table by slot. They are 40 bytes per connection, too much for an idle
//!   connection with the default, `errors`. So with `errors` no line has counts.
//! - With `errors` there are at most [`LINES`] a second, and a line with the number left out. Faults come in crowds,
//!   when a network breaks or a server is attacked, and then all lines are alike. `all` has no such limit.
//! - Lines are of level `info`: what a client does is not the operator's fault.

pub mod saved;

use crate::clock::Millis;
use crate::config;
use crate::connection::Ending;
use crate::hub::roster::Subject;
use crate::hub::slots::Slots;
use crate::log::{Level, Log, Throttle, Value};

/// Lines in one second, with `errors`.
const LINES: u64 = 100;
const SECOND: Millis = 1_000;

/// When a connection began, and its counts.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    since: Millis,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
}

pub struct AccessLogger {
    wanted: config::AccessLog,
    log: Log,
    /// Empty unless the log is to be `all`.
    counts: Slots<Counts>,
    /// Lines about faults, with `errors`.
    faults: Throttle,
}

impl AccessLogger {
    pub fn new(wanted: config::AccessLog, log: Log) -> AccessLogger {
        AccessLogger {
            wanted,
            log,
            counts: Slots::default(),
            faults: Throttle::lines_in(LINES, SECOND),
        }
    }

    /// A connection was accepted.
    pub fn accepted(&mut self, slot: u32, now: Millis) {
        if self.wanted == config::AccessLog::All
            && let Some(count) = self.counts.entry(slot)
        {
            *count = Counts {
                since: now,
                ..Counts::default()
            };
        }
    }

    /// Counts bytes received from a connection.
    #[inline(always)]
    pub fn received(&mut self, slot: u32, bytes: usize) {
        if let Some(count) = self.counts.get_mut(slot) {
            count.bytes_in = count.bytes_in.saturating_add(bytes as u64);
        }
    }

    /// Counts a message received from a connection.
    #[inline]
    pub fn message(&mut self, slot: u32) {
        if let Some(count) = self.counts.get_mut(slot) {
            count.messages_in = count.messages_in.saturating_add(1);
        }
    }

    /// Counts messages queued for a connection, and bytes sent to it.
    #[inline(always)]
    pub fn delivered(&mut self, slot: u32, messages: u32, bytes: u64) {
        if let Some(count) = self.counts.get_mut(slot) {
            count.messages_out = count.messages_out.saturating_add(messages.into());
            count.bytes_out = count.bytes_out.saturating_add(bytes);
        }
    }

    /// A connection was dropped. `unused`: no request of it was open, as with a load balancer's probes, which connect
    /// and reset.
    pub fn dropped(
        &mut self,
        slot: u32,
        subject: &Subject,
        ending: Ending,
        unused: bool,
        now: Millis,
    ) {
        let fault = is_fault(ending) && !(unused && ending == Ending::Reset);
        let Some(level) = self.level(fault, now) else {
            return;
        };
        let (code, detail) = ending.close();
        let mut fields = subject_fields(subject);
        fields.push(("reason", Value::Text(ending.label())));
        if let Some(code) = code {
            fields.push(("code", Value::Number(code.into())));
        }
        if fault && !detail.is_empty() {
            fields.push(("detail", Value::Text(detail)));
        }
        if let Some(count) = self.counts.get(slot) {
            let age = now.saturating_sub(count.since);
            fields.extend([
                ("duration_ms", Value::Number(age)),
                ("messages_in", Value::Number(count.messages_in)),
                ("messages_out", Value::Number(count.messages_out)),
                ("bytes_in", Value::Number(count.bytes_in)),
                ("bytes_out", Value::Number(count.bytes_out)),
            ]);
        }
        self.line(level, "connection ended", &fields);
    }

    /// A request was answered with an error. The reason is the error's code.
    pub fn refused(
        &mut self,
        subject: &Subject,
        endpoint: &str,
        status: u16,
        reason: &str,
        now: Millis,
    ) {
        let Some(level) = self.level(true, now) else {
            return;
        };
        let mut fields = subject_fields(subject);
        fields.extend([
            ("endpoint", Value::Text(endpoint)),
            ("status", Value::Number(status.into())),
            ("reason", Value::Text(reason)),
        ]);
        self.line(level, "request refused", &fields);
    }

    /// The level of a line, `None` for no line. With `--log-level debug`, `errors` leaves nothing out.
    fn level(&mut self, fault: bool, now: Millis) -> Option<Level> {
        let level = match (self.wanted, fault) {
            (config::AccessLog::Off, _) => return None,
            (config::AccessLog::Errors, false) => Level::Debug,
            (config::AccessLog::Errors, true) | (config::AccessLog::All, _) => Level::Info,
        };
        if !self.log.enabled(level) {
            return None;
        }
        if self.wanted == config::AccessLog::All || self.log.enabled(Level::Debug) {
            return Some(level);
        }
        self.log_left_out(now);
        self.faults.admit(now).map(|_| level)
    }

    /// Logs how many lines were left out in a second that is over.
    fn log_left_out(&mut self, now: Millis) {
        match self.faults.take_left_out(now) {
            0 => {}
            more => self.log.info(
                "access log lines were left out: too many in one second",
                &[("left_out", Value::Number(more))],
            ),
        }
    }

    /// When [`AccessLogger::expire`] is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.faults.deadline()
    }

    /// Logs how many lines were left out, if it is time.
    pub fn expire(&mut self, now: Millis) {
        self.log_left_out(now);
    }

    fn line(&self, level: Level, message: &str, fields: &[(&str, Value)]) {
        match level {
            Level::Debug => self.log.debug(message, fields),
            _ => self.log.info(message, fields),
        }
    }
}

/// The fields that say which connection it is.
fn subject_fields(subject: &Subject) -> Vec<(&'static str, Value<'_>)> {
    let mut fields = vec![
        ("connection", Value::Shown(&subject.id)),
        ("remote_addr", Value::Shown(&subject.peer)),
    ];
    let user = subject.user.as_deref();
    fields.extend(user.map(|user| ("user", Value::Text(user))));
    fields
}

/// Whether an ending is a fault: of the client, the network, the authorizer or this server.
fn is_fault(ending: Ending) -> bool {
    match ending {
        Ending::Closed(_)
        | Ending::Left
        | Ending::Stopping
        | Ending::Disconnected(_)
        | Ending::Idle
        | Ending::NoRoom
        | Ending::Answered => false,
        Ending::Reset
        | Ending::Violation(_)
        | Ending::TooSlow
        | Ending::AuthorizerDown
        | Ending::Refused(_)
        | Ending::Overloaded
        | Ending::Silent
        | Ending::HandshakeTimeout
        | Ending::BadRequest => true,
    }
}
