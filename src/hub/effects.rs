//! Requests to the drivers that have not been taken.
//!
//! Owns: their order, and which of them are held back. Knows: questions by their connection. Never knows: drivers, or why
//! something is held back.
//!
//! Decision: while a handover waits for the answers that are under way, questions and publications stay here, over
//! handing over what the threads of the authorizer's pool are doing. A thread cannot be handed over. Messages between nodes
//! leave all the same: other nodes wait for them, and each is sealed with its time.

pub mod saved;

use std::collections::VecDeque;

use crate::effect::{ConnId, Effect, Question};
use crate::wire::channel_name::RESERVED;

#[derive(Debug, Default)]
pub struct Effects {
    waiting: VecDeque<Effect>,
    /// Questions and publications stay.
    holding_back: bool,
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

fn is_question_of(effect: &Effect, id: ConnId) -> bool {
    matches!(effect, Effect::Ask(question) if question.from == id)
}

impl Effects {
    pub fn push_back(&mut self, effect: Effect) {
        if self.holding_back
            && let Effect::Withdraw(id) = effect
        {
            return self.withdraw(id);
        }
        self.waiting.push_back(effect);
    }

    /// A question is withdrawn that may have stayed here.
    fn withdraw(&mut self, id: ConnId) {
        let mut waiting = self.waiting.iter();
        match waiting.position(|it| is_question_of(it, id)) {
            Some(at) => _ = self.waiting.remove(at),
            None => self.waiting.push_back(Effect::Withdraw(id)),
        }
    }

    /// Questions and publications stay here from now on, or leave again.
    pub fn hold_back(&mut self, holding_back: bool) {
        self.holding_back = holding_back;
        if holding_back {
            // What was withdrawn behind its question.
            for effect in std::mem::take(&mut self.waiting) {
                self.push_back(effect);
            }
        }
    }

    /// Questions that were taken and have not been put, in their order: they are taken again, before all others.
    pub fn take_back(&mut self, questions: Vec<Question>) {
        for question in questions.into_iter().rev() {
            self.waiting.push_front(Effect::Ask(question));
        }
    }

    /// The next one that leaves.
    pub fn take(&mut self) -> Option<Effect> {
        if !self.holding_back {
            return self.waiting.pop_front();
        }
        let at = self.waiting.iter().position(leaves)?;
        self.waiting.remove(at)
    }

    /// Whether one leaves.
    pub fn has_work(&self) -> bool {
        match self.holding_back {
            false => !self.waiting.is_empty(),
            true => self.waiting.iter().any(leaves),
        }
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
}
