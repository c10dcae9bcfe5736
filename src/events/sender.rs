//! The thread that calls the receiver of events, one call after the other.
//!
//! Owns: the caller. Knows: HTTP as far as a status. Never knows: what follows from it.
//!
//! Decision: the thread has a lower priority than the loop (a higher niceness) rather than equal priority. If all
//! processors are busy, the thread then waits for a moment, so that calls become fewer and batches larger. With equal
//! priority each answer would interrupt the loop for a small batch. Nothing is delayed while a processor is free.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::delivery::CallResult;
use crate::webhook::{Caller, Webhook, lock};
use crate::wire::event_batch::EventBatch;

/// How long the rest of an answer may take to come. It follows its head at once, or something is wrong with it.
const DRAIN_TIME: Duration = Duration::from_millis(250);

/// The niceness of the thread: of a processor that the loop keeps busy it gets a thirtieth.
const NICE: i32 = 15;

/// A call to be made: with the first events of a batch.
pub(super) struct EventCall {
    pub batch: EventBatch,
    pub count: usize,
}

/// A call that was made.
pub(super) struct FinishedCall {
    pub batch: EventBatch,
    pub result: CallResult,
    /// Why it has failed, for the log.
    pub trouble: String,
}

/// What the thread needs.
pub(super) struct EventThread {
    pub webhook: Arc<Webhook>,
    /// The node's name.
    pub node: u64,
    pub calls: Receiver<EventCall>,
    /// Where the loop takes what a call has led to. The waker is woken when something is there.
    pub finished: Arc<Mutex<Option<FinishedCall>>>,
    pub waker: Arc<mio::Waker>,
}

impl EventThread {
    /// Makes calls until the loop has gone.
    pub(super) fn run(self) {
        // Where it is not allowed, calls are more frequent under load.
        let _ = setpriority_process(Some(gettid()), NICE);
        let mut caller = self.webhook.caller();
        let mut body = Vec::new();
        while let Some(call) = self.next(&mut caller, &mut body) {
            let EventCall { batch, count } = call;
            batch.push_body(self.node, count, &mut body);
            let (result, trouble) = self.post(&mut caller, &body);
            body.clear();
            *lock(&self.finished) = Some(FinishedCall {
                batch,
                result,
                trouble,
            });
            // It fails only when the poll is gone, and with it the loop.
            let _ = self.waker.wake();
            if !caller.finish(DRAIN_TIME) {
                caller.hang_up();
            }
        }
    }

    /// Waits for the next call. The connection is kept as long as it is worth keeping, and so is the memory for bodies.
    fn next(&self, caller: &mut Caller, body: &mut Vec<u8>) -> Option<EventCall> {
        match self.calls.recv_timeout(caller.rest) {
            Ok(call) => Some(call),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                caller.hang_up();
                *body = Vec::new();
                self.calls.recv().ok()
            }
        }
    }

    fn post(&self, caller: &mut Caller, body: &[u8]) -> (CallResult, String) {
        // A panic in there would be a defect of a library. It costs this connection and no event.
        let posted = catch_unwind(AssertUnwindSafe(|| post(caller, body)));
        match posted {
            Ok(Ok(status)) => (CallResult::of(status), format!("status {status}")),
            Ok(Err(trouble)) => (CallResult::Failed, trouble),
            Err(_) => {
                *caller = self.webhook.caller();
                let trouble = "the call failed inside the server".to_owned();
                (CallResult::Failed, trouble)
            }
        }
    }
}

/// Posts a body. Returns the status of the answer, whose body does not matter.
///
/// # Errors
/// Why there is no answer, for the log.
pub(super) fn post(caller: &mut Caller, body: &[u8]) -> Result<u16, String> {
    let response = caller.post(body)?;
    let status = response.status().as_u16();
    caller.discard(response.into_body());
    Ok(status)
}
