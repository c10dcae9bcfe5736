//! The receiver of events, as docs/events.md describes one that is right: it keeps the last number, and skips what it has
//! seen.
//!
//! Owns: the delivery, with a clock of its own at the end; what was told. Knows: what may follow on what.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wsify::events::{BatchDelivery, CallResult};
use wsify::wire::event_batch::EventBatch;

use super::knobs::Knobs;
use crate::rig::{self, Rig};
use crate::seeds::Dice;

pub struct Receiver {
    delivery: BatchDelivery,
    /// The call under way.
    call: Option<(EventBatch, usize)>,
    pub calls: usize,
    /// The number of the last event.
    last: u64,
    taken: usize,
    missing: u64,
    /// Connections that are open, by actor.
    open: BTreeSet<usize>,
    /// How each of the others has ended.
    ends: BTreeMap<usize, Value>,
    occupied: BTreeSet<String>,
}

impl Receiver {
    pub fn new(seed: u64) -> Receiver {
        Receiver {
            delivery: BatchDelivery::new(seed),
            call: None,
            calls: 0,
            last: 0,
            taken: 0,
            missing: 0,
            open: BTreeSet::new(),
            ends: BTreeMap::new(),
            occupied: BTreeSet::new(),
        }
    }

    pub fn taken(&self) -> usize {
        self.taken
    }

    pub fn end_of(&self, actor: usize) -> Option<&Value> {
        self.ends.get(&actor)
    }

    /// Whether nothing is left, as far as it was told.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.occupied.is_empty()
    }

    /// What is missing was dropped.
    pub fn judge_gaps(&self, dropped: u64) {
        assert_eq!(self.missing, dropped);
    }

    /// One turn of the loop: perhaps the call is answered, perhaps the next one is made.
    pub fn turn(&mut self, rig: &mut Rig, knobs: &Knobs, dice: &mut Dice) {
        let now = rig.hub.clock.now;
        if self.call.is_some() && dice.chance(knobs.answering) {
            let (fails, reads) = (dice.chance(knobs.failing), dice.chance(50));
            self.answer(now, knobs.bite, fails, reads);
        }
        self.call_next(rig, now);
    }

    /// Takes everything that is left.
    pub fn take_all(&mut self, rig: &mut Rig, knobs: &Knobs) {
        let mut now = rig.hub.clock.now;
        loop {
            self.call_next(rig, now);
            if self.call.is_some() {
                self.answer(now, knobs.bite, false, true);
            } else if let Some(next) = self.delivery.next_deadline() {
                now = next;
            } else {
                return;
            }
        }
    }

    fn call_next(&mut self, rig: &mut Rig, now: u64) {
        if self.call.is_some() {
            return;
        }
        if self.delivery.is_free()
            && let Some(batch) = rig.hub.take_events()
        {
            self.delivery.begin(batch);
        }
        self.call = self.delivery.next_call(now);
        self.calls += usize::from(self.call.is_some());
    }

    fn answer(&mut self, now: u64, bite: usize, fails: bool, reads: bool) {
        let (batch, count) = self.call.take().expect("a call");
        let result = match (fails, count > bite) {
            (_, true) => CallResult::TooLarge,
            (true, _) => CallResult::Failed,
            _ => CallResult::Taken,
        };
        if result == CallResult::Taken || result == CallResult::Failed && reads {
            for event in rig::events(&batch, count) {
                self.told(event);
            }
        }
        let dropped = self.delivery.called(batch, result, now);
        assert_eq!(dropped, 0);
    }

    fn told(&mut self, event: Value) {
        let seq = event["seq"].as_u64().expect("a number");
        if seq <= self.last {
            return;
        }
        self.missing += seq - self.last - 1;
        self.last = seq;
        self.taken += 1;
        if self.missing == 0 {
            self.follow(event);
        }
    }

    /// What may follow on what was told.
    fn follow(&mut self, event: Value) {
        let kind = event["event"].as_str().expect("a kind");
        if let Some(channel) = event.get("channel").and_then(Value::as_str) {
            let changed = match kind {
                "occupied" => self.occupied.insert(channel.to_owned()),
                "vacated" => self.occupied.remove(channel),
                other => panic!("{other} of a channel"),
            };
            assert!(changed, "{event}");
            return;
        }
        let connection = &event["connection"];
        let address = connection["remote_addr"].as_str().expect("an address");
        let (_, port) = address.rsplit_once(':').expect("a port");
        let actor = port.parse::<usize>().expect("a number") - 1;
        match kind {
            "connected" => {
                let new = self.open.insert(actor) && !self.ends.contains_key(&actor);
                assert!(new, "{event}");
            }
            "disconnected" => {
                assert!(self.open.remove(&actor), "{event}");
                self.ends.insert(actor, event);
            }
            other => panic!("{other} of a connection"),
        }
    }
}
