//! Questions that wait in the hub, in a snapshot: their order, and until when each may wait.

use minicbor::{Decode, Encode};

use super::{HeldQuestion, HeldQuestions, Key, Position};
use crate::clock::Millis;
use crate::effect::{ConnId, Question, SavedConnId};
use crate::hub::effects::saved::SavedQuestion;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedHeld<'b> {
    #[n(0)]
    from: SavedConnId,
    /// `None`: it is being asked.
    #[b(1)]
    question: Option<SavedQuestion<'b>>,
    #[n(2)]
    bytes: u64,
    #[n(3)]
    until: SavedKey,
    #[n(4)]
    place: SavedPosition,
    #[cbor(n(5), default)]
    failures: u32,
}

/// A time, and a number that distinguishes it from others at the same time.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(map)]
struct SavedKey {
    #[n(0)]
    at: Millis,
    #[n(1)]
    ticket: u64,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
enum SavedPosition {
    #[n(0)]
    InQueue(#[n(0)] u64),
    #[n(1)]
    Pausing(#[n(0)] SavedKey),
    #[n(2)]
    Asked,
}

impl From<Key> for SavedKey {
    fn from((at, ticket): Key) -> SavedKey {
        SavedKey { at, ticket }
    }
}

impl From<SavedKey> for Key {
    fn from(SavedKey { at, ticket }: SavedKey) -> Key {
        (at, ticket)
    }
}

impl From<Position> for SavedPosition {
    fn from(place: Position) -> SavedPosition {
        match place {
            Position::InQueue(ticket) => SavedPosition::InQueue(ticket),
            Position::Pausing(key) => SavedPosition::Pausing(key.into()),
            Position::Asked => SavedPosition::Asked,
        }
    }
}

impl From<SavedPosition> for Position {
    fn from(saved: SavedPosition) -> Position {
        match saved {
            SavedPosition::InQueue(ticket) => Position::InQueue(ticket),
            SavedPosition::Pausing(key) => Position::Pausing(key.into()),
            SavedPosition::Asked => Position::Asked,
        }
    }
}

impl HeldQuestions {
    /// The held questions, those whose time is over first in front.
    pub fn save(&self) -> impl Iterator<Item = SavedHeld<'_>> {
        let found = |from: &ConnId| Some((*from, self.questions.get(from)?));
        let held = self.limits.values().filter_map(found);
        held.map(|(from, held)| {
            let HeldQuestion {
                question,
                bytes,
                until,
                place,
                failures,
            } = held;
            SavedHeld {
                from: from.into(),
                question: question.as_ref().map(Into::into),
                bytes: *bytes as u64,
                until: (*until).into(),
                place: (*place).into(),
                failures: *failures,
            }
        })
    }

    /// The last ticket.
    pub fn tickets(&self) -> u64 {
        self.tickets
    }

    pub fn restore_tickets(&mut self, tickets: u64) {
        self.tickets = tickets;
    }

    /// # Errors
    /// It takes the place of another one, or is at once here and being asked.
    pub fn restore(&mut self, saved: SavedHeld) -> Result<(), SnapshotError> {
        let from = ConnId::from(saved.from);
        let question = saved.question.map(Question::try_from).transpose()?;
        let place = Position::from(saved.place);
        let own = question.as_ref().is_none_or(|it| it.from == from);
        if !own || question.is_none() != matches!(place, Position::Asked) {
            return Err(SnapshotError::new(
                "a held question that is also being asked, or belongs to another connection",
            ));
        }
        let until = Key::from(saved.until);
        let other = match place {
            Position::InQueue(ticket) => self.queue.insert(ticket, from),
            Position::Pausing(key) => self.pauses.insert(key, from),
            Position::Asked => None,
        };
        let bytes = match &question {
            Some(question) => question.body.len(),
            None => saved.bytes.min(u32::MAX.into()) as usize,
        };
        let held = HeldQuestion {
            question,
            bytes,
            until,
            place,
            failures: saved.failures,
        };
        self.bytes = self.bytes.saturating_add(bytes);
        let other = other.or(self.limits.insert(until, from));
        if other.is_some() || self.questions.insert(from, held).is_some() {
            Err(SnapshotError::new("two held questions in one place"))
        } else {
            Ok(())
        }
    }
}
