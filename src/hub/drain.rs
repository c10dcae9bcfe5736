//! The graceful stop (CONTRACT §8): who is told to leave, and when.
//!
//! Owns: how far it has come. Knows: every connection, by slot. Never knows: when it is over for the process.
//!
//! Clients are closed one after the other, evenly over most of the drain time, so that they do not all come back at once
//! to the server that takes over. Upgrades about which the authorizer is being asked are refused at once.
//!
//! Decision: a client whose command waits for the authorizer or the broker is closed when it is answered, or after
//! [`PATIENCE`], over closing it in its turn: with the default timeouts the answer comes, and says whether the command was
//! done. What waits at the end, clients and HTTP requests, does so because the other side hangs.

use std::collections::VecDeque;

use super::{DEADLINES, Hub, WALK};
use crate::clock::Millis;
use crate::connection::{Authorizing, Awaits, Ending, Exchange, Stream};
use crate::effect::ConnId;
use crate::wire::http::{Refusal, Status};

/// The part of the drain time in which clients are closed, and the part after which no request waits any more; the
/// rest is theirs to read the answer. In percent.
const CLOSING: Millis = 90;
const WAITING: Millis = 95;
/// How long a client whose turn has come may wait for the answer to its command: this part of what is left of the time in
/// which requests may wait. In percent.
const PATIENCE: Millis = 75;

/// A graceful stop under way.
#[derive(Debug)]
pub struct Drain {
    from: Millis,
    /// How long clients are told to leave, one after the other.
    spread: Millis,
    /// WebSockets at its begin.
    total: u64,
    /// Of these, how many were told.
    told: u64,
    /// Slots at its begin: whoever comes later is told at once.
    slots: u32,
    /// Where the walk over the slots goes on that refuses upgrades under way.
    refuse: u32,
    /// Where the walk over the slots goes on that tells clients to leave.
    tell: u32,
    /// Clients whose turn has come while a command waits, and when they are closed whether it is answered or not.
    waiting: VecDeque<(Millis, ConnId)>,
    /// When no request waits any more.
    until: Millis,
    /// Where the walk over the slots goes on that answers the requests that wait then; the largest number once it is over.
    answer: u32,
}

impl Drain {
    /// How many should have been told by now, or may be in one turn.
    fn due(&self, now: Millis) -> u64 {
        let passed = now.saturating_sub(self.from);
        let share = self.total.saturating_mul(passed).checked_div(self.spread);
        let due = match share {
            Some(share) if passed < self.spread => share.saturating_add(1),
            _ => self.total,
        };
        due.min(self.total)
            .min(self.told.saturating_add(DEADLINES as u64))
    }

    /// When a client is next to be closed, or the requests that wait are to be answered.
    pub fn next(&self) -> Option<Millis> {
        let share = self.spread.saturating_mul(self.told);
        let next = self.from.saturating_add(share.div_ceil(self.total.max(1)));
        let tell = (self.told < self.total).then_some(next);
        let waiting = self.waiting.front().map(|(at, _)| *at);
        let answer = (self.answer < u32::MAX).then_some(self.until);
        [tell, waiting, answer].into_iter().flatten().min()
    }

    /// Whether no request may wait any more.
    pub fn is_ending(&self, now: Millis) -> bool {
        now >= self.until
    }

    /// When a client whose turn has come is closed at the latest.
    fn patience(&self, now: Millis) -> Millis {
        let left = self.until.saturating_sub(now);
        now.saturating_add(left.saturating_mul(PATIENCE) / 100)
    }

    /// Whether the walk that refuses upgrades goes on.
    pub fn is_refusing(&self) -> bool {
        self.refuse < self.slots
    }
}

impl<S: Stream> Hub<S> {
    /// Begins a graceful stop, which is to be over in `time`.
    pub fn drain(&mut self, time: Millis) {
        let total = self.websockets as u64;
        self.drain = Some(Drain {
            from: self.clock.now,
            spread: time.saturating_mul(CLOSING) / 100,
            total,
            told: 0,
            slots: self.registry.slots(),
            refuse: 0,
            tell: 0,
            waiting: VecDeque::new(),
            until: self
                .clock
                .now
                .saturating_add(time.saturating_mul(WAITING) / 100),
            answer: 0,
        });
        self.go_on_draining();
        self.end_taps();
    }

    /// Does what is due of a graceful stop, bounded.
    pub(super) fn go_on_draining(&mut self) {
        self.refuse_upgrades();
        self.tell_to_leave();
        self.close_waiting();
        self.answer_waiting();
    }

    /// Refuses upgrades about which the authorizer is being asked, those in the next slots.
    fn refuse_upgrades(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let next = drain.refuse;
        drain.refuse = drain.slots.min(next.saturating_add(WALK));
        for slot in next..drain.refuse {
            let Some(connection) = self.registry.tenant(slot) else {
                continue;
            };
            let generation = connection.generation();
            if let Some(Authorizing { exchange, .. }) = connection.session.take_authorizing() {
                connection.starved = false;
                let id = ConnId { slot, generation };
                self.refuse_stopping(id, exchange);
                self.settle(id);
            }
        }
    }

    /// Tells as many clients to leave as should have been told by now, or may be in one turn.
    fn tell_to_leave(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let due = drain.due(self.clock.now);
        let end = drain.slots.min(drain.tell.saturating_add(WALK));
        while let Some(drain) = &mut self.drain
            && drain.told < due
        {
            let slot = drain.tell;
            if slot == drain.slots {
                drain.told = drain.total;
                return;
            }
            if slot == end {
                return;
            }
            drain.tell = drain.tell.saturating_add(1);
            let Some(connection) = self.registry.tenant(slot).filter(|c| c.session.is_open())
            else {
                continue;
            };
            connection.stopping = true;
            let id = ConnId {
                slot,
                generation: connection.generation(),
            };
            drain.told = drain.told.saturating_add(1);
            if connection.session.is_parked() {
                let until = drain.patience(self.clock.now);
                drain.waiting.push_back((until, id));
            }
            self.settle(id);
        }
    }

    /// Closes clients whose command has waited long enough.
    fn close_waiting(&mut self) {
        for _ in 0..DEADLINES {
            let Some(drain) = &mut self.drain else { return };
            let Some((_, id)) = drain
                .waiting
                .front()
                .copied()
                .filter(|(at, _)| *at <= self.clock.now)
            else {
                return;
            };
            drain.waiting.pop_front();
            self.close(id, Ending::Stopping);
            self.settle(id);
        }
    }

    /// Answers the requests that wait for the broker near the end, those in the next slots.
    fn answer_waiting(&mut self) {
        let slots = self.registry.slots();
        let Some(drain) = &mut self.drain else { return };
        let from = drain.answer;
        if !drain.is_ending(self.clock.now) || from == u32::MAX {
            return;
        }
        let end = slots.min(from.saturating_add(WALK));
        // Requests that come later do not wait.
        drain.answer = if end == slots { u32::MAX } else { end };
        for slot in from..end {
            let Some(connection) = self.registry.tenant(slot) else {
                continue;
            };
            let generation = connection.generation();
            let session = &mut connection.session;
            let waiting = session
                .take_publishing(Awaits::Receipt)
                .or_else(|| session.take_publishing(Awaits::Channel));
            if let Some(publishing) = waiting {
                connection.starved = false;
                let id = ConnId { slot, generation };
                self.refuse_waiting(id, publishing.exchange);
                self.settle(id);
            }
        }
    }

    /// Answers a request that would have to wait for longer than the server does.
    pub(super) fn refuse_waiting(&mut self, id: ConnId, exchange: Exchange) {
        let message =
            "the server is stopping: nothing is known to have been published; try again later";
        let refusal = Refusal::new(Status::Unavailable, "draining", message);
        self.refuse(id, "broadcast", exchange, refusal, true);
    }

    /// Whether nobody is connected any more who would miss the server.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.websockets == 0 && self.busy == 0
    }
}
