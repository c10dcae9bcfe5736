//! Where an idle worker is called.
//!
//! Owns: a call that has not been heard. Knows: the worker's thread. Never knows: which questions wait.

use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};

use crate::webhook::lock;

/// The place where an idle worker waits to be called.
pub(super) struct Seat {
    pub(super) number: usize,
    thread: Thread,
    called: Mutex<Option<Call>>,
}

pub(super) enum Call {
    /// A question waits.
    Look,
    /// The worker is to end.
    Stop,
}

impl Seat {
    /// The seat of the thread that calls this.
    pub(super) fn own(number: usize) -> Seat {
        Seat {
            number,
            thread: thread::current(),
            called: Mutex::new(None),
        }
    }

    pub(super) fn take_call(&self) -> Option<Call> {
        lock(&self.called).take()
    }

    pub(super) fn call(seat: Option<Arc<Seat>>, call: Call) {
        if let Some(seat) = seat {
            *lock(&seat.called) = Some(call);
            seat.thread.unpark();
        }
    }
}
