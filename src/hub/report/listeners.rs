//! The listeners: metrics, the access log, taps, the receiver of events, and the log.
//!
//! Owns: each listener's own state, and the throttles of log lines. Knows: numbers and slots. What happens for every
//! send and every read is counted here directly. Other reports come from [`super`], which knows the connections. Never
//! knows: why something happens.

pub mod saved;

use std::time::Duration;

use super::access_log::AccessLogger;
use super::event_listener::EventListener;
use super::tap::Taps;
use crate::clock::{Millis, micros};
use crate::connection::Ending;
use crate::hub::settings::Settings;
use crate::log::{Condition, Log, OutageThrottle, Throttle};
use crate::metrics::Metrics;
use crate::wire::answer_fields::AnswerField;
use crate::wire::node_message::NodeMessageError;

/// The least time, in milliseconds, between the log lines that report the memory budget as used up and as free again.
const STEADY: Millis = 5_000;
/// The pause between two lines of the same kind about faulty answers of the authorizer, in milliseconds.
const LOG_INTERVAL: Millis = 60_000;

/// Outages of the authorizer logged in that time: one that fails on and off must not flood the log.
const OUTAGES: u64 = 6;

pub struct Listeners {
    pub metrics: Metrics,
    pub access_log: AccessLogger,
    pub taps: Taps,
    pub events: EventListener,
    pub log: Log,
    /// The server is full.
    pub full: Condition,
    /// The memory budget is used up.
    pub overloaded: Condition,
    /// Lines about outages of the authorizer.
    pub outages: OutageThrottle,
    /// Lines about questions that failed while there is no outage.
    pub failed_questions: Throttle,
    /// Lines about answers of the authorizer that are a 2xx other than 200.
    pub other_2xx: Throttle,
    /// Lines about answers of the authorizer that cannot be read.
    pub unreadable: Throttle,
    /// Lines about fields in them that cannot be used, by field.
    pub wrong_fields: [Throttle; AnswerField::ALL.len()],
    /// Lines about messages of other nodes that are dropped.
    pub hostile: Throttle,
    /// When each batch that has gone out in this turn was begun: the low half of the clock's microseconds.
    gone_out: Vec<u32>,
}

impl Listeners {
    pub fn new(settings: &Settings, mut metrics: Metrics, log: Log) -> Listeners {
        metrics.endings.preset(&Ending::LABELS);
        metrics.broker_hostile.preset(&NodeMessageError::LABELS);
        Listeners {
            metrics,
            access_log: AccessLogger::new(settings.access_log, log.clone()),
            taps: Taps::default(),
            events: EventListener::new(settings.events),
            log,
            full: Condition::lasting(0),
            overloaded: Condition::lasting(STEADY),
            outages: OutageThrottle::logged(OUTAGES, LOG_INTERVAL),
            failed_questions: Throttle::once_in(LOG_INTERVAL),
            other_2xx: Throttle::once_in(LOG_INTERVAL),
            unreadable: Throttle::once_in(LOG_INTERVAL),
            wrong_fields: [const { Throttle::once_in(LOG_INTERVAL) }; AnswerField::ALL.len()],
            hostile: Throttle::once_in(LOG_INTERVAL),
            gone_out: Vec::new(),
        }
    }

    /// Counts bytes received from a connection.
    #[inline(always)]
    pub fn received(&mut self, slot: u32, bytes: usize) {
        self.metrics.received = self.metrics.received.saturating_add(bytes as u64);
        self.access_log.received(slot, bytes);
    }

    /// Counts a message received from a connection.
    #[inline]
    pub fn message(&mut self, slot: u32) {
        self.access_log.message(slot);
    }

    /// Counts content put into a connection's outbox.
    #[inline]
    pub fn enqueued(&mut self, slot: u32, contents: u32) {
        self.metrics.delivered(contents);
        self.access_log.delivered(slot, contents, 0);
    }

    /// Counts an answer put into a connection's outbox.
    #[inline]
    pub fn answered(&mut self, slot: u32) {
        self.access_log.delivered(slot, 1, 0);
    }

    /// Counts bytes sent to a connection by a flush.
    #[inline(always)]
    pub fn flushed(&mut self, slot: u32, bytes: u64) {
        self.access_log.delivered(slot, 0, bytes);
    }

    /// Counts content delivered to a connection, and bytes sent.
    #[inline(always)]
    pub fn delivered(&mut self, slot: u32, contents: u32, bytes: u64) {
        self.metrics.delivered(contents);
        self.access_log.delivered(slot, contents, bytes);
    }

    /// A batch that was begun at `since` has gone out to all members.
    pub fn batch_gone_out(&mut self, since: Option<u32>) {
        self.gone_out.extend(since);
    }

    /// Notes the end of a turn that began at `begin`, in microseconds. What went out in it counts as sent at its end.
    pub fn turn_over(&mut self, begin: u64, end: Duration) {
        let now = micros(end);
        let took = Duration::from_micros(now.saturating_sub(begin));
        self.metrics.turn_time.observe(took);
        self.metrics.longest_turn.observe(end, took);
        for since in self.gone_out.drain(..) {
            let took = (now as u32).wrapping_sub(since);
            let took = Duration::from_micros(took.into());
            self.metrics.fanout_time.observe(took);
        }
    }
}
