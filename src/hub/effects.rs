//! Requests to the drivers that have not been taken.
//!
//! Owns: their order, and which of them are held back. Knows: questions by their connection. Never knows: drivers, or why
//! something is held back.
//!
//! Decision: while a handover waits for the answers that are under way, questions and publications stay here, rather
//! than handing over what the threads of the authorizer's pool are doing. A thread cannot be handed over. Messages
//! between nodes leave all the same: other nodes wait for them, and each is sealed with its time.
//!
//! Decision: what is held back is in a list of its own, with an index of its questions, rather than one queue that is
//! searched. A busy server holds back a great many, and a turn must not cost more with each.

pub mod saved;

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::effect::{ConnId, Effect, Question};
use crate::wire::channel_name::RESERVED;

#[derive(Debug, Default)]
pub struct Effects {
    /// Those that leave, in their order.
    leaving: VecDeque<Effect>,
    /// `None`: all leave.
    held_back: Option<HeldBack>,
}

/// Effects that stay.
#[derive(Debug, Default)]
struct HeldBack {
    /// By their place in the order.
    effects: BTreeMap<i64, Effect>,
    /// The place of the question of each connection that has one.
    questions: HashMap<ConnId, i64>,
}

/// Whether an effect leaves while questions and publications are held back. A recall concerns the questions before it,
/// and waits behind them.
fn leaves(effect: &Effect) -> bool {
    match effect {
        Effect::Ask(_) | Effect::Recall => false,
        Effect::Publish(publication) => publication.channel.as_str().starts_with(RESERVED),
        Effect::Withdraw(_) | Effect::Subscribe(_) | Effect::Unsubscribe(_) => true,
    }
}

impl HeldBack {
    fn push_back(&mut self, effect: Effect) {
        let last = self.effects.last_key_value();
        let place = last.map_or(0, |(last, _)| last.saturating_add(1));
        self.put(place, effect);
    }

    fn push_front(&mut self, effect: Effect) {
        let first = self.effects.first_key_value();
        let place = first.map_or(0, |(first, _)| first.saturating_sub(1));
        self.put(place, effect);
    }

    fn put(&mut self, place: i64, effect: Effect) {
        if let Effect::Ask(question) = &effect {
            self.questions.insert(question.from, place);
        }
        self.effects.insert(place, effect);
    }

    /// Forgets the question of a connection. Returns whether there was one.
    fn withdraw(&mut self, id: ConnId) -> bool {
        let place = self.questions.remove(&id);
        place.is_some_and(|place| self.effects.remove(&place).is_some())
    }
}

impl Effects {
    pub fn push_back(&mut self, effect: Effect) {
        if let Some(held_back) = &mut self.held_back {
            if !leaves(&effect) {
                return held_back.push_back(effect);
            }
            if let Effect::Withdraw(id) = effect
                && held_back.withdraw(id)
            {
                return;
            }
        }
        self.leaving.push_back(effect);
    }

    /// Questions and publications stay here from now on, or leave again.
    pub fn hold_back(&mut self, holding_back: bool) {
        let held_back = self.held_back.take().unwrap_or_default();
        self.leaving.extend(held_back.effects.into_values());
        if holding_back {
            self.held_back = Some(HeldBack::default());
            for effect in std::mem::take(&mut self.leaving) {
                self.push_back(effect);
            }
        }
    }

    /// Questions that were taken and have not been put, in their order: they are taken again, before all others.
    pub fn take_back(&mut self, questions: Vec<Question>) {
        for question in questions.into_iter().rev().map(Effect::Ask) {
            match &mut self.held_back {
                Some(held_back) => held_back.push_front(question),
                None => self.leaving.push_front(question),
            }
        }
    }

    /// The next one that leaves.
    pub fn take(&mut self) -> Option<Effect> {
        self.leaving.pop_front()
    }

    /// Whether one leaves.
    pub fn has_work(&self) -> bool {
        !self.leaving.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Publication;
    use crate::wire::answer_fields::Asked;
    use crate::wire::channel_name::ChannelName;

    fn id(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 1,
        }
    }

    fn question(slot: u32) -> Question {
        Question {
            from: id(slot),
            asked: Asked::Join,
            body: Vec::new(),
            alone: false,
        }
    }

    fn taken(effects: &mut Effects) -> Vec<String> {
        let shown = |effect| match effect {
            Effect::Ask(question) => format!("ask {}", question.from.slot),
            Effect::Withdraw(id) => format!("withdraw {}", id.slot),
            Effect::Publish(_) => "publish".to_owned(),
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| effects.take()).map(shown).collect()
    }

    #[test]
    fn effects_held_back_leave_later_in_order() {
        let mut effects = Effects::default();
        effects.push_back(Effect::Ask(question(1)));
        effects.push_back(Effect::Withdraw(id(1)));
        effects.push_back(Effect::Withdraw(id(2)));
        effects.push_back(Effect::Ask(question(3)));
        effects.hold_back(true);
        assert!(effects.has_work());
        assert_eq!(taken(&mut effects), ["withdraw 2"]);
        assert!(!effects.has_work());
        let publish = |channel| {
            Effect::Publish(Publication {
                from: crate::effect::PublishedBy::Connection(id(4)),
                since: 0,
                channel: ChannelName::checked(channel),
                content: Box::default(),
            })
        };
        effects.push_back(publish("a"));
        effects.push_back(publish("wsify:{nodes}"));
        assert_eq!(taken(&mut effects), ["publish"]);
        effects.push_back(Effect::Recall);
        effects.push_back(Effect::Ask(question(5)));
        effects.push_back(Effect::Ask(question(6)));
        effects.push_back(Effect::Withdraw(id(5)));
        effects.push_back(Effect::Unsubscribe(ChannelName::checked("a")));
        assert_eq!(taken(&mut effects).len(), 1);
        effects.take_back(vec![question(8), question(9)]);
        effects.hold_back(false);
        let all = ["ask 8", "ask 9", "ask 3", "publish", "Recall", "ask 6"];
        assert_eq!(taken(&mut effects), all);
    }

    #[test]
    fn a_question_that_was_taken_is_withdrawn_there() {
        let mut effects = Effects::default();
        effects.hold_back(true);
        effects.push_back(Effect::Withdraw(id(1)));
        effects.push_back(Effect::Ask(question(1)));
        effects.hold_back(true);
        assert_eq!(taken(&mut effects), ["withdraw 1"]);
        effects.push_back(Effect::Withdraw(id(1)));
        effects.push_back(Effect::Ask(question(1)));
        effects.push_back(Effect::Withdraw(id(2)));
        // What leaves, and what is held back behind it.
        assert_eq!(effects.all().count(), 2);
        effects.hold_back(false);
        assert_eq!(taken(&mut effects), ["withdraw 2", "ask 1"]);
        assert!(!effects.has_work());
    }
}
