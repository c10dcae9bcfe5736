//! The counters in a snapshot: metrics go on.
//!
//! Owns: [`SavedMetrics`]. Knows: every counter. Never knows: what is counted.

mod instruments;

use std::time::{Duration, SystemTime};

use minicbor::{Decode, Encode};

use self::instruments::{Measure, SavedCounter, SavedHistogram, SavedLongest};
use super::{CompressionCounts, Longest, Metrics};

#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
struct SavedCompression {
    #[cbor(n(0), default)]
    deflated: u64,
    #[cbor(n(1), default)]
    not_smaller: u64,
    #[cbor(n(2), default)]
    too_small: u64,
    #[cbor(n(3), default)]
    before_deflate: u64,
    #[cbor(n(4), default)]
    after_deflate: u64,
    /// In nanoseconds.
    #[cbor(n(5), default)]
    deflate_time: u64,
    #[cbor(n(6), default)]
    inflated: u64,
    #[cbor(n(7), default)]
    before_inflate: u64,
    #[cbor(n(8), default)]
    after_inflate: u64,
    /// In nanoseconds.
    #[cbor(n(9), default)]
    inflate_time: u64,
}

impl CompressionCounts {
    fn save(&self) -> SavedCompression {
        let CompressionCounts {
            deflated,
            not_smaller,
            too_small,
            before_deflate,
            after_deflate,
            deflate_time,
            inflated,
            before_inflate,
            after_inflate,
            inflate_time,
        } = *self;
        SavedCompression {
            deflated,
            not_smaller,
            too_small,
            before_deflate,
            after_deflate,
            deflate_time: deflate_time.number(),
            inflated,
            before_inflate,
            after_inflate,
            inflate_time: inflate_time.number(),
        }
    }

    fn restore(saved: &SavedCompression) -> CompressionCounts {
        CompressionCounts {
            deflated: saved.deflated,
            not_smaller: saved.not_smaller,
            too_small: saved.too_small,
            before_deflate: saved.before_deflate,
            after_deflate: saved.after_deflate,
            deflate_time: Duration::of(saved.deflate_time),
            inflated: saved.inflated,
            before_inflate: saved.before_inflate,
            after_inflate: saved.after_inflate,
            inflate_time: Duration::of(saved.inflate_time),
        }
    }
}

/// What is counted of questions to the authorizer.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
struct SavedAsking {
    #[cbor(n(0), default)]
    questions: Vec<SavedCounter>,
    #[cbor(n(1), default)]
    unasked: Vec<SavedCounter>,
    #[cbor(n(2), default)]
    verdicts: Vec<SavedCounter>,
    #[cbor(n(3), default)]
    authorizer_answers: Vec<SavedCounter>,
    #[cbor(n(4), default)]
    authorizer_failures: Vec<SavedCounter>,
    #[cbor(n(5), default)]
    verdict_time: SavedHistogram,
    #[cbor(n(6), default)]
    batch_size: SavedHistogram,
}

/// All counters.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedMetrics {
    /// When the process began: Unix time in nanoseconds.
    #[cbor(n(0), default)]
    started: u64,
    #[cbor(n(1), default)]
    connections: u64,
    #[cbor(n(2), default)]
    handshakes: Vec<SavedCounter>,
    #[cbor(n(3), default)]
    events: Vec<SavedCounter>,
    #[cbor(n(4), default)]
    events_dropped: u64,
    #[cbor(n(5), default)]
    event_calls: Vec<SavedCounter>,
    #[cbor(n(20), default)]
    handovers: Vec<SavedCounter>,
    #[cbor(n(6), default)]
    commands: Vec<SavedCounter>,
    #[cbor(n(7), default)]
    backend_memberships: Vec<SavedCounter>,
    #[cbor(n(8), default)]
    answers: Vec<SavedCounter>,
    #[cbor(n(9), default)]
    fanouts: u64,
    #[cbor(n(10), default)]
    deliveries: u64,
    #[cbor(n(11), default)]
    received: u64,
    #[cbor(n(12), default)]
    compression: SavedCompression,
    #[cbor(n(13), default)]
    broker_messages: Vec<SavedCounter>,
    #[cbor(n(14), default)]
    broker_gaps: u64,
    #[cbor(n(15), default)]
    endings: Vec<SavedCounter>,
    #[cbor(n(16), default)]
    asking: SavedAsking,
    #[cbor(n(17), default)]
    fanout_time: SavedHistogram,
    #[cbor(n(18), default)]
    turn_time: SavedHistogram,
    #[cbor(n(19), default)]
    longest_turn: SavedLongest,
    #[cbor(n(21), default)]
    broker_hostile: Vec<SavedCounter>,
}

impl SavedMetrics {
    /// What is counted where content is compressed.
    pub fn compression(&self) -> CompressionCounts {
        CompressionCounts::restore(&self.compression)
    }
}

impl Metrics {
    /// The counters in a snapshot. `compression`: what is counted elsewhere.
    pub fn save(&self, compression: &CompressionCounts) -> SavedMetrics {
        let Metrics {
            started,
            connections,
            handshakes,
            events,
            events_dropped,
            event_calls,
            handovers,
            commands,
            backend_memberships,
            answers,
            fanouts,
            deliveries,
            received,
            broker_messages,
            broker_gaps,
            broker_hostile,
            endings,
            questions: _,
            unasked: _,
            verdicts: _,
            authorizer_answers: _,
            authorizer_failures: _,
            verdict_time: _,
            batch_size: _,
            fanout_time,
            turn_time,
            longest_turn,
        } = self;
        let started = started.duration_since(SystemTime::UNIX_EPOCH);
        SavedMetrics {
            started: started.map_or(0, |it| it.as_nanos() as u64),
            connections: *connections,
            handshakes: handshakes.save(),
            events: events.save(),
            events_dropped: *events_dropped,
            event_calls: event_calls.save(),
            handovers: handovers.save(),
            commands: commands.save(),
            backend_memberships: backend_memberships.save(),
            answers: answers.save(),
            fanouts: *fanouts,
            deliveries: *deliveries,
            received: *received,
            compression: compression.save(),
            broker_messages: broker_messages.save(),
            broker_gaps: *broker_gaps,
            broker_hostile: broker_hostile.save(),
            endings: endings.save(),
            asking: self.save_asking(),
            fanout_time: fanout_time.save(),
            turn_time: turn_time.save(),
            longest_turn: longest_turn.save(),
        }
    }

    /// Goes on from what was saved.
    pub fn restore(&mut self, saved: &SavedMetrics) {
        let since = Duration::from_nanos(saved.started);
        if let Some(started) = SystemTime::UNIX_EPOCH.checked_add(since) {
            self.started = started;
        }
        self.connections = saved.connections;
        self.handshakes.restore(&saved.handshakes);
        self.events.restore(&saved.events);
        self.events_dropped = saved.events_dropped;
        self.event_calls.restore(&saved.event_calls);
        self.handovers.restore(&saved.handovers);
        self.commands.restore(&saved.commands);
        self.backend_memberships.restore(&saved.backend_memberships);
        self.answers.restore(&saved.answers);
        self.fanouts = saved.fanouts;
        self.deliveries = saved.deliveries;
        self.received = saved.received;
        self.broker_messages.restore(&saved.broker_messages);
        self.broker_gaps = saved.broker_gaps;
        self.broker_hostile.restore(&saved.broker_hostile);
        self.endings.restore(&saved.endings);
        self.restore_asking(&saved.asking);
        self.fanout_time.restore(&saved.fanout_time);
        self.turn_time.restore(&saved.turn_time);
        self.longest_turn = Longest::restore(&saved.longest_turn);
    }

    fn save_asking(&self) -> SavedAsking {
        SavedAsking {
            questions: self.questions.save(),
            unasked: self.unasked.save(),
            verdicts: self.verdicts.save(),
            authorizer_answers: self.authorizer_answers.save(),
            authorizer_failures: self.authorizer_failures.save(),
            verdict_time: self.verdict_time.save(),
            batch_size: self.batch_size.save(),
        }
    }

    fn restore_asking(&mut self, saved: &SavedAsking) {
        self.questions.restore(&saved.questions);
        self.unasked.restore(&saved.unasked);
        self.verdicts.restore(&saved.verdicts);
        self.authorizer_answers.restore(&saved.authorizer_answers);
        self.authorizer_failures.restore(&saved.authorizer_failures);
        self.verdict_time.restore(&saved.verdict_time);
        self.batch_size.restore(&saved.batch_size);
    }
}
