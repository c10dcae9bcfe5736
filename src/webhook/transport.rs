//! A connection as ureq uses it: one send for a request, one probe before it is used again, folded lines unfolded.
//!
//! Owns: the bytes that wait for the next send. Knows: ureq's transport interface. Never knows: what is said, or TLS.
//!
//! Decisions
//! - **Output is sent when an answer is awaited.** ureq writes a request's head and body one after the other, and two
//!   sends cost both sides twice.
//! - **The probe before reuse is the only one.** ureq probes a connection when it puts it away as well; whatever that would
//!   find, the probe before the next call finds, too.
//! - ureq's `unversioned` interface may change in a minor version: `Cargo.lock` pins it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use super::link::Link;
use super::traffic::Traffic;
use super::unfold::Unfold;

/// Of a large request this much is sent at a time.
const CHUNK: usize = 64 * 1024;
/// Far away, for a call without a time limit.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(super) struct Carrier {
    link: Link,
    buffers: LazyBuffers,
    /// To be sent before the next read.
    unsent: Vec<u8>,
    unfold: Unfold,
    traffic: Arc<Traffic>,
    /// No probe since the last answer.
    answered: bool,
}

impl Carrier {
    pub(super) fn new(link: Link, buffers: LazyBuffers, traffic: Arc<Traffic>) -> Carrier {
        Carrier {
            link,
            buffers,
            unsent: Vec::new(),
            unfold: Unfold::default(),
            traffic,
            answered: false,
        }
    }

    fn send(&mut self, timeout: &NextTimeout) -> Result<(), ureq::Error> {
        let sent = self.link.write_all(&self.unsent, deadline(timeout));
        self.unsent.clear();
        sent.map_err(|error| failed(error, timeout))
    }
}

impl Transport for Carrier {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.unfold = Unfold::default();
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.unsent.extend_from_slice(output);
        match self.unsent.len() {
            0..CHUNK => Ok(()),
            _ => self.send(&timeout),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        if !self.unsent.is_empty() {
            self.send(&timeout)?;
        }
        self.answered = true;
        let until = self.traffic.until();
        let deadline = until.map_or_else(|| deadline(&timeout), |it| it.min(deadline(&timeout)));
        loop {
            let room = self.buffers.input_append_buf();
            let held = self.unfold.put_back(room);
            let Some(free) = room.get_mut(held..).filter(|free| !free.is_empty()) else {
                return Err(ureq::Error::Other("its answer is too large".into()));
            };
            let read = match self.link.read(free, deadline) {
                // TLS was not ended as it should be; the answer's framing says whether anything is missing.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
                read => read.map_err(|error| failed(error, &timeout))?,
            };
            let fresh = room
                .get_mut(..held.saturating_add(read))
                .unwrap_or_default();
            let ready = match read {
                0 => {
                    self.unfold.release();
                    held
                }
                _ => self.unfold.apply(fresh),
            };
            self.buffers.input_appended(ready);
            if ready > 0 || read == 0 {
                return Ok(ready > 0);
            }
        }
    }

    fn is_open(&mut self) -> bool {
        if std::mem::take(&mut self.answered) {
            return true;
        }
        self.link.is_quiet()
    }

    fn is_tls(&self) -> bool {
        matches!(self.link, Link::Tls(_))
    }
}

fn deadline(timeout: &NextTimeout) -> Instant {
    Instant::now() + (*timeout.after).min(NEVER)
}

fn failed(error: std::io::Error, timeout: &NextTimeout) -> ureq::Error {
    match error.kind() {
        std::io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}
