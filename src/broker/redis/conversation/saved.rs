//! What a snapshot holds of one link's commands: the bytes that were not sent, and which replies are awaited.

use minicbor::{Decode, Encode};

use super::{Conversation, Outstanding};
use crate::broker::redis::saved_values::past;
use crate::clock::Millis;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedConversation<'b, W> {
    #[cbor(b(0), with = "minicbor::bytes", default)]
    out: &'b [u8],
    #[n(1)]
    asked: Vec<SavedOutstanding<W>>,
    #[n(2)]
    heard: Millis,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedOutstanding<W> {
    #[n(0)]
    at: Millis,
    #[n(1)]
    what: W,
}

impl<W> Conversation<W> {
    /// The conversation in a snapshot. `save` saves what is awaited.
    pub fn save<'c, S>(&'c self, save: impl Fn(&'c W) -> S) -> SavedConversation<'c, S> {
        let saved = |asked: &'c Outstanding<W>| SavedOutstanding {
            at: asked.at,
            what: save(&asked.what),
        };
        SavedConversation {
            out: &self.out,
            asked: self.asked.iter().map(saved).collect(),
            heard: self.heard,
        }
    }

    /// Restores a conversation. `restore` restores what is awaited.
    ///
    /// # Errors
    /// A time is impossible, or what is awaited is.
    pub fn restore<S>(
        saved: SavedConversation<S>,
        restore: impl Fn(S) -> Result<W, SnapshotError>,
        now: Millis,
    ) -> Result<Conversation<W>, SnapshotError> {
        let restored = |saved: SavedOutstanding<S>| {
            Ok(Outstanding {
                at: past(saved.at, now)?,
                what: restore(saved.what)?,
            })
        };
        Ok(Conversation {
            out: saved.out.to_vec(),
            asked: saved
                .asked
                .into_iter()
                .map(restored)
                .collect::<Result<_, _>>()?,
            heard: past(saved.heard, now)?,
        })
    }
}

#[cfg(test)]
impl<W> SavedConversation<'_, W> {
    /// Another answer is awaited.
    pub fn awaits(&mut self, what: W) {
        self.asked.push(SavedOutstanding { at: 0, what });
    }
}
