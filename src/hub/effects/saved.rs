//! Requests to the drivers that have not been taken, in a snapshot.
//!
//! Owns: [`SavedEffect`]. Never knows: what a question or a publication is about.

use minicbor::{Decode, Encode};

use super::Effects;
use crate::effect::{
    Effect, Publication, Question, SavedConnId, SavedPublication, SavedSubscription, Subscription,
    restore_channel,
};
use crate::snapshot::SnapshotError;
use crate::wire::answer_fields::Asked;
use crate::wire::json;

/// A question to the authorizer.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedQuestion<'b> {
    #[n(0)]
    from: SavedConnId,
    /// The question's `command`.
    #[b(1)]
    asked: &'b str,
    #[cbor(b(2), with = "minicbor::bytes")]
    body: &'b [u8],
    #[cbor(n(3), default)]
    alone: bool,
}

impl<'b> From<&'b Question> for SavedQuestion<'b> {
    fn from(question: &Question) -> SavedQuestion<'_> {
        let Question {
            from,
            asked,
            body,
            alone,
        } = question;
        SavedQuestion {
            from: (*from).into(),
            asked: asked.as_str(),
            body,
            alone: *alone,
        }
    }
}

impl TryFrom<SavedQuestion<'_>> for Question {
    type Error = SnapshotError;

    fn try_from(saved: SavedQuestion) -> Result<Question, SnapshotError> {
        if !json::is_value(saved.body) {
            return Err(SnapshotError::new("a question that is not JSON"));
        }
        Ok(Question {
            from: saved.from.into(),
            asked: Asked::restore(saved.asked)?,
            body: saved.body.to_vec(),
            alone: saved.alone,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub enum SavedEffect<'b> {
    #[n(0)]
    Ask(#[b(0)] SavedQuestion<'b>),
    #[n(1)]
    Withdraw(#[n(0)] SavedConnId),
    #[n(2)]
    Recall,
    #[n(3)]
    Publish(#[b(0)] SavedPublication<'b>),
    #[n(4)]
    Subscribe(#[b(0)] SavedSubscription<'b>),
    #[n(5)]
    Unsubscribe(#[b(0)] &'b str),
}

impl<'b> From<&'b Effect> for SavedEffect<'b> {
    fn from(effect: &'b Effect) -> SavedEffect<'b> {
        match effect {
            Effect::Ask(question) => SavedEffect::Ask(question.into()),
            Effect::Withdraw(id) => SavedEffect::Withdraw((*id).into()),
            Effect::Recall => SavedEffect::Recall,
            Effect::Publish(publication) => SavedEffect::Publish(publication.save()),
            Effect::Subscribe(subscription) => SavedEffect::Subscribe(subscription.save()),
            Effect::Unsubscribe(channel) => SavedEffect::Unsubscribe(channel.as_str()),
        }
    }
}

impl TryFrom<SavedEffect<'_>> for Effect {
    type Error = SnapshotError;

    fn try_from(saved: SavedEffect) -> Result<Effect, SnapshotError> {
        Ok(match saved {
            SavedEffect::Ask(question) => Effect::Ask(question.try_into()?),
            SavedEffect::Withdraw(id) => Effect::Withdraw(id.into()),
            SavedEffect::Recall => Effect::Recall,
            SavedEffect::Publish(it) => Effect::Publish(Publication::restore(it)?),
            SavedEffect::Subscribe(it) => Effect::Subscribe(Subscription::restore(it)?),
            SavedEffect::Unsubscribe(channel) => Effect::Unsubscribe(restore_channel(channel)?),
        })
    }
}

impl Effects {
    /// All of them, in their order: those that are held back are behind the others.
    pub fn all(&self) -> impl Iterator<Item = &Effect> {
        let held_back = self.held_back.iter();
        let held_back = held_back.flat_map(|it| it.effects.values());
        self.leaving.iter().chain(held_back)
    }

    /// Appends one that was saved.
    pub fn restore(&mut self, saved: SavedEffect) -> Result<(), SnapshotError> {
        self.leaving.push_back(saved.try_into()?);
        Ok(())
    }
}
