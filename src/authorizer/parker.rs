//! Where an idle worker is called.
//!
//! Owns: a call that the worker has not taken. Knows: the worker's thread. Never knows: which questions wait.

use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};

use crate::webhook::lock;

/// The place where an idle worker waits to be called.
pub(super) struct Parker {
    pub(super) number: usize,
    thread: Thread,
    called: Mutex<Option<Call>>,
}

pub(super) enum Call {
    /// A question waits.
    Wake,
    /// The worker is to end.
    Stop,
}

impl Parker {
    /// The parker of the thread that calls this.
    pub(super) fn own(number: usize) -> Parker {
        Parker {
            number,
            thread: thread::current(),
            called: Mutex::new(None),
        }
    }

    pub(super) fn take_call(&self) -> Option<Call> {
        lock(&self.called).take()
    }

    pub(super) fn call(parker: Option<Arc<Parker>>, call: Call) {
        if let Some(parker) = parker {
            *lock(&parker.called) = Some(call);
            parker.thread.unpark();
        }
    }
}
