//! Events on their way to the receiver: batches are taken from the loop and sent by a thread, one call at a time.
//!
//! Owns: the batch under way, and what the log says of the receiver. Knows: when the next call is due. Never knows: what an
//! event says, or which events wait.
//!
//! Decision: one thread that exists from the start rather than a worker of the authorizer's pool, because events must
//! stay in order, so that there is one call at most, and a slow authorizer must not delay them.

mod delivery;
mod saved;
mod sender;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use self::delivery::{BatchDelivery, CallResult, SavedDelivery};
pub use self::saved::SavedEventSender;
use self::sender::{EventCall, EventThread, FinishedCall, post};
use crate::clock::Millis;
use crate::fd_table;
use crate::log::{Log, OutageThrottle, Throttle, Value};
use crate::webhook::{Webhook, WebhookSettings, lock};
use crate::wire::event_batch::EventBatch;

/// Outages logged in one interval, in milliseconds: a receiver that fails on and off must not flood the log.
const OUTAGES: u64 = 6;
const LOG_INTERVAL: Millis = 60_000;
/// Lines about events that the receiver refuses as too large, in the same interval.
const REFUSALS: u64 = 10;

/// The loop's side.
pub struct EventSender {
    delivery: BatchDelivery,
    calls: Sender<EventCall>,
    finished: Arc<Mutex<Option<FinishedCall>>>,
    /// Events of the batch under way, and when the oldest of them happened.
    under_way: (usize, Option<Millis>),
    outages: OutageThrottle,
    refusals: Throttle,
    /// The receiver's URL for the log, without secrets.
    url: String,
    log: Log,
}

impl EventSender {
    /// Starts the thread. Nothing is sent before the first event. `node` is this process's name, `waker` is woken when a call
    /// is over.
    ///
    /// # Errors
    /// For an `https` URL: no root certificate can be read. Or the thread cannot start.
    pub fn start(
        settings: WebhookSettings,
        node: u64,
        waker: Arc<mio::Waker>,
        log: Log,
    ) -> io::Result<EventSender> {
        let (calls, to_make) = channel();
        let url = settings.url.to_string();
        let finished = Arc::default();
        let thread = EventThread {
            webhook: Arc::new(Webhook::new(settings)?),
            node,
            calls: to_make,
            finished: Arc::clone(&finished),
            waker,
        };
        fd_table::spawn_with_own_fds("events", move || thread.run())?;
        Ok(EventSender {
            delivery: BatchDelivery::new(node),
            calls,
            finished,
            under_way: (0, None),
            outages: OutageThrottle::logged(OUTAGES, LOG_INTERVAL),
            refusals: Throttle::lines_in(REFUSALS, LOG_INTERVAL),
            url,
            log,
        })
    }

    /// What the last call has led to, if it is over, and how many events were dropped with it. `waiting`: events that the
    /// receiver has not taken, for the log.
    pub fn take_result(&mut self, waiting: u64, now: Millis) -> Option<(CallResult, usize)> {
        let FinishedCall {
            batch,
            result,
            trouble,
        } = lock(&self.finished).take()?;
        match result {
            CallResult::Failed => self.went_down(&trouble, waiting, now),
            CallResult::Taken | CallResult::TooLarge => self.came_back(now),
        }
        let dropped = self.delivery.called(batch, result, now);
        if dropped > 0 {
            self.refused(dropped, now);
        }
        Some((result, dropped))
    }

    /// Whether no batch is under way.
    pub fn is_free(&self) -> bool {
        self.delivery.is_free()
    }

    /// Whether no call is under way.
    pub fn is_quiet(&self) -> bool {
        self.is_free() || self.delivery.batch().is_some()
    }

    /// Begins with a batch, which is not empty.
    pub fn begin(&mut self, batch: EventBatch) {
        self.delivery.begin(batch);
    }

    /// Makes the next call, if it is time. Never blocks.
    pub fn call(&mut self, now: Millis) {
        if let Some(batch) = self.delivery.batch() {
            self.under_way = (batch.len(), batch.oldest());
        } else if self.is_free() {
            self.under_way = (0, None);
        }
        if let Some((batch, count)) = self.delivery.next_call(now) {
            // The thread ends only with this side.
            let _ = self.calls.send(EventCall { batch, count });
        }
    }

    /// When [`EventSender::call`] is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.delivery.next_deadline()
    }

    /// Events of the batch under way, and when the oldest of them happened.
    pub fn under_way(&self) -> (usize, Option<Millis>) {
        self.under_way
    }

    /// The server stops: what is under way is tried at once, and often.
    pub fn hurry(&mut self) {
        self.delivery.hurry();
    }

    fn went_down(&mut self, trouble: &str, waiting: u64, now: Millis) {
        if let Some(left_out) = self.outages.begin(now) {
            let message = "the receiver of events is down: events wait, and beyond --events-queue the oldest are dropped";
            let fields = [
                ("reason", Value::Text(trouble)),
                ("url", Value::Text(&self.url)),
                ("waiting", Value::Number(waiting)),
                ("outages_left_out", Value::Number(left_out)),
            ];
            let shown = if left_out > 0 { 4 } else { 3 };
            let fields = fields.get(..shown).unwrap_or_default();
            self.log.error(message, fields);
        }
    }

    fn came_back(&mut self, now: Millis) {
        if let Some(time) = self.outages.end(now) {
            let fields = [("down_ms", Value::Number(time))];
            self.log.info("the receiver of events is up again", &fields);
        }
    }

    fn refused(&mut self, dropped: usize, now: Millis) {
        if let Some(left_out) = self.refusals.admit(now) {
            let dropped = left_out.saturating_add(dropped as u64);
            let refused = "an event was dropped: its receiver refuses it alone as too large (413); raise its limit";
            self.log
                .warn(refused, &[("dropped", Value::Number(dropped))]);
        }
    }
}

/// Posts no events here and now, marked as a probe. Returns the status of the answer, and how long it took.
///
/// # Errors
/// Why there is no answer.
pub fn probe(settings: WebhookSettings) -> Result<(u16, Duration), String> {
    let webhook = Webhook::new(settings).map_err(|error| error.to_string())?;
    let mut body = Vec::new();
    EventBatch::default().push_body(0, 0, &mut body);
    let began = Instant::now();
    let status = post(&mut Arc::new(webhook).caller(), &body)?;
    Ok((status, began.elapsed()))
}
