//! The access log: a line when a connection ends, and one when a request is refused (`--access-log`).
//!
//! Owns: when a connection began and what it has said and heard, by slot; and how many lines there may be. Knows: endings, and whose fault they are. Never knows: why somebody was refused, but in a word.
//!
//! Decisions
//! - A table by slot, over fields of the connection: it is there only if the log is. It takes 40 bytes for each, so with
//!   `errors` it ends with the first [`FEW`] slots, which is everybody where there are few, and costs a server with a
//!   million nothing.
//! - With `errors` there are at most [`LINES`] a second, and a line that says how many more there were: faults come in
//!   crowds, when a network breaks or somebody attacks, and then each line says the same. `all` is all.
//! - Lines are of level `info`, whatever they say: what a client does is not the operator's fault.

use std::fmt;

use crate::config::AccessLog;
use crate::connection::{Ending, Millis, Peer};
use crate::log::{Level, Log, Value};

/// Slots that the table has with `errors`.
const FEW: usize = 1024;
/// Lines in one second, with `errors`.
const LINES: u64 = 100;

/// When a connection began, and what it has said and heard.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    since: Millis,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// A connection, as lines show it.
pub struct Subject<'a> {
    pub slot: u32,
    /// The id that the authorizer knows.
    pub name: &'a dyn fmt::Display,
    pub peer: Peer,
}

pub struct Access {
    wanted: AccessLog,
    log: Log,
    /// Of the first slots, or of all.
    tallies: Vec<Tally>,
    /// The second that lines are counted in.
    second: Millis,
    lines: u64,
    left_out: u64,
}

impl Access {
    pub fn new(wanted: AccessLog, log: Log) -> Access {
        Access {
            wanted,
            log,
            tallies: Vec::new(),
            second: 0,
            lines: 0,
            left_out: 0,
        }
    }

    /// Somebody has moved into `slot`.
    pub fn accepted(&mut self, slot: u32, now: Millis) {
        let slot = slot as usize;
        let counted = match self.wanted {
            AccessLog::Off => false,
            AccessLog::Errors => slot < FEW,
            AccessLog::All => true,
        };
        if !counted {
            return;
        }
        if slot >= self.tallies.len() {
            self.tallies
                .resize(slot.saturating_add(1), Tally::default());
        }
        if let Some(tally) = self.tallies.get_mut(slot) {
            *tally = Tally {
                since: now,
                ..Tally::default()
            };
        }
    }

    /// So many bytes have come from it.
    pub fn read(&mut self, slot: u32, bytes: usize) {
        if let Some(tally) = self.tallies.get_mut(slot as usize) {
            tally.bytes_in = tally.bytes_in.saturating_add(bytes as u64);
        }
    }

    /// It has said something.
    pub fn said(&mut self, slot: u32) {
        if let Some(tally) = self.tallies.get_mut(slot as usize) {
            tally.messages_in = tally.messages_in.saturating_add(1);
        }
    }

    /// So many messages were put on their way to it.
    pub fn told(&mut self, slot: u32, messages: u32) {
        if let Some(tally) = self.tallies.get_mut(slot as usize) {
            tally.messages_out = tally.messages_out.saturating_add(messages.into());
        }
    }

    /// So many bytes have gone to it.
    pub fn sent(&mut self, slot: u32, bytes: u64) {
        if let Some(tally) = self.tallies.get_mut(slot as usize) {
            tally.bytes_out = tally.bytes_out.saturating_add(bytes);
        }
    }

    /// So many messages were put on their way to it, and so many bytes have gone.
    pub fn delivered(&mut self, slot: u32, messages: u32, bytes: u64) {
        if let Some(tally) = self.tallies.get_mut(slot as usize) {
            tally.messages_out = tally.messages_out.saturating_add(messages.into());
            tally.bytes_out = tally.bytes_out.saturating_add(bytes);
        }
    }

    /// A connection has ended. `unused`: nothing was asked on it that was not answered, as is the way of those who only
    /// look whether there is somebody, and reset.
    pub fn ended(&mut self, who: &Subject, ending: Ending, unused: bool, now: Millis) {
        let fault = is_fault(ending) && !(unused && ending == Ending::Reset);
        let Some(level) = self.level(fault, now) else {
            return;
        };
        let (code, detail) = ending.close();
        let mut fields = vec![
            ("connection", Value::Shown(who.name)),
            ("remote_addr", Value::Shown(&who.peer)),
            ("reason", Value::Text(ending.label())),
        ];
        if let Some(code) = code {
            fields.push(("code", Value::Number(code.into())));
        }
        if fault && !detail.is_empty() {
            fields.push(("detail", Value::Text(detail)));
        }
        if let Some(tally) = self.tallies.get(who.slot as usize) {
            let age = now.saturating_sub(tally.since);
            fields.extend([
                ("duration_ms", Value::Number(age)),
                ("messages_in", Value::Number(tally.messages_in)),
                ("messages_out", Value::Number(tally.messages_out)),
                ("bytes_in", Value::Number(tally.bytes_in)),
                ("bytes_out", Value::Number(tally.bytes_out)),
            ]);
        }
        self.line(level, "connection ended", &fields);
    }

    /// A request was answered with an error. The reason is the error's code.
    pub fn refused(
        &mut self,
        who: &Subject,
        endpoint: &str,
        status: u16,
        reason: &str,
        now: Millis,
    ) {
        let Some(level) = self.level(true, now) else {
            return;
        };
        let fields = [
            ("connection", Value::Shown(who.name)),
            ("remote_addr", Value::Shown(&who.peer)),
            ("endpoint", Value::Text(endpoint)),
            ("status", Value::Number(status.into())),
            ("reason", Value::Text(reason)),
        ];
        self.line(level, "request refused", &fields);
    }

    /// The level of a line about a `fault`, or about none; `None` when there is to be no line. What `errors` leaves out
    /// is there to be seen with `--log-level debug`.
    fn level(&mut self, fault: bool, now: Millis) -> Option<Level> {
        let level = match (self.wanted, fault) {
            (AccessLog::Off, _) => return None,
            (AccessLog::Errors, false) => Level::Debug,
            (AccessLog::Errors, true) | (AccessLog::All, _) => Level::Info,
        };
        if !self.log.enabled(level) {
            return None;
        }
        if self.wanted == AccessLog::All || self.log.enabled(Level::Debug) {
            return Some(level);
        }
        self.tell_left_out(now);
        if self.lines >= LINES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.lines = self.lines.saturating_add(1);
        Some(level)
    }

    /// Begins to count anew when another second has begun, and says how many lines were left out in the last.
    fn tell_left_out(&mut self, now: Millis) {
        let second = now / 1000;
        if second == self.second {
            return;
        }
        (self.second, self.lines) = (second, 0);
        match std::mem::take(&mut self.left_out) {
            0 => {}
            more => self.log.info(
                "more faults in one second than the access log tells of",
                &[("left_out", Value::Number(more))],
            ),
        }
    }

    /// When [`Access::tell_left_out`] has something to say, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        (self.left_out > 0).then(|| self.second.saturating_add(1).saturating_mul(1000))
    }

    /// The time may have come to say how many lines were left out.
    pub fn expire(&mut self, now: Millis) {
        if self.left_out > 0 {
            self.tell_left_out(now);
        }
    }

    fn line(&self, level: Level, message: &str, fields: &[(&str, Value)]) {
        match level {
            Level::Debug => self.log.debug(message, fields),
            _ => self.log.info(message, fields),
        }
    }
}

/// Whether an ending is somebody's fault: the client's, the network's, the authorizer's.
fn is_fault(ending: Ending) -> bool {
    match ending {
        Ending::Closed(_)
        | Ending::Left
        | Ending::Stopping
        | Ending::Idle
        | Ending::NoRoom
        | Ending::Answered => false,
        Ending::Reset
        | Ending::Violation(_)
        | Ending::TooSlow
        | Ending::AuthorizerDown
        | Ending::Overloaded
        | Ending::Silent
        | Ending::HandshakeTimeout
        | Ending::BadRequest => true,
    }
}
