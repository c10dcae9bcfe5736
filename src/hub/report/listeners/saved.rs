//! The listeners in a snapshot: what is being counted, and which log lines are throttled. Taps are not handed over.

use minicbor::{Decode, Encode};

use super::Listeners;
use crate::clock::Millis;
use crate::hub::report::event_listener::EventListener;
use crate::hub::report::event_queue::saved::SavedEventQueue;
use crate::log::{SavedOutageThrottle, SavedThrottle};
use crate::wire::answer_fields::AnswerField;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedReport<'b> {
    #[n(0)]
    access_log: SavedThrottle,
    #[n(1)]
    lost_tap_lines: u64,
    #[n(2)]
    events: SavedEventQueue,
    #[n(3)]
    drops: SavedThrottle,
    /// Dropped events that no line has reported.
    #[cbor(n(4), default)]
    unreported: u64,
    /// Since when the server is full.
    #[n(5)]
    full: Option<Millis>,
    /// Since when the memory budget is used up.
    #[n(6)]
    overloaded: Option<Millis>,
    #[n(7)]
    outages: SavedOutageThrottle,
    #[n(8)]
    failed_questions: SavedThrottle,
    #[n(9)]
    other_2xx: SavedThrottle,
    #[n(10)]
    unreadable: SavedThrottle,
    #[cbor(b(11), default)]
    wrong_fields: Vec<SavedWrongField<'b>>,
    /// When batches were begun that have gone out in this turn.
    #[cbor(n(12), default)]
    gone_out: Vec<u32>,
    #[n(13)]
    hostile: Option<SavedThrottle>,
}

/// The throttle of lines about a field.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedWrongField<'b> {
    #[b(0)]
    field: &'b str,
    #[n(1)]
    lines: SavedThrottle,
}

impl Listeners {
    pub fn save(&self) -> SavedReport<'_> {
        let Listeners {
            metrics: _,
            access_log,
            taps,
            events,
            log: _,
            full,
            overloaded,
            outages,
            failed_questions,
            other_2xx,
            unreadable,
            wrong_fields,
            hostile,
            gone_out,
        } = self;
        let EventListener {
            queue,
            drops,
            unreported,
            ..
        } = events;
        let fields = AnswerField::ALL.into_iter().zip(wrong_fields);
        let fields = fields.map(|(field, lines)| SavedWrongField {
            field: field.as_str(),
            lines: lines.save(),
        });
        SavedReport {
            access_log: access_log.save(),
            lost_tap_lines: taps.lost(),
            events: queue.save(),
            drops: drops.save(),
            unreported: *unreported,
            full: full.save(),
            overloaded: overloaded.save(),
            outages: outages.save(),
            failed_questions: failed_questions.save(),
            other_2xx: other_2xx.save(),
            unreadable: unreadable.save(),
            wrong_fields: fields.collect(),
            gone_out: gone_out.clone(),
            hostile: Some(hostile.save()),
        }
    }

    pub fn restore(&mut self, saved: SavedReport, now: Millis) {
        self.access_log.restore(saved.access_log, now);
        self.taps.restore_lost(saved.lost_tap_lines);
        self.events.queue.restore(&saved.events);
        self.events.drops.restore(saved.drops, now);
        self.events.unreported = saved.unreported;
        self.full.restore(saved.full, now);
        self.overloaded.restore(saved.overloaded, now);
        self.outages.restore(saved.outages, now);
        self.failed_questions.restore(saved.failed_questions, now);
        self.other_2xx.restore(saved.other_2xx, now);
        self.unreadable.restore(saved.unreadable, now);
        for SavedWrongField { field, lines } in saved.wrong_fields {
            let known = AnswerField::ALL
                .into_iter()
                .position(|it| it.as_str() == field);
            if let Some(throttle) = known.and_then(|at| self.wrong_fields.get_mut(at)) {
                throttle.restore(lines, now);
            }
        }
        if let Some(hostile) = saved.hostile {
            self.hostile.restore(hostile, now);
        }
        self.gone_out = saved.gone_out;
    }
}
