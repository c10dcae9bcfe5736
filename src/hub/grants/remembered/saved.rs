//! Answers that are remembered, in a snapshot.

use minicbor::{Decode, Encode};

use super::{Entry, MAX_REMEMBERED_ANSWERS, Remembered, Remembrance};
use crate::clock::Millis;
use crate::snapshot::SnapshotError;
use crate::wire::command::Verb;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedRemembered<'b> {
    #[b(0)]
    verb: &'b str,
    #[b(1)]
    channel: &'b str,
    #[n(2)]
    until: Millis,
    #[n(3)]
    allowed: bool,
    /// What the client is told, if that was said.
    #[b(4)]
    why: Option<&'b str>,
}

impl Remembered {
    /// The oldest first.
    pub fn save(&self) -> Vec<SavedRemembered<'_>> {
        fn saved(entry: &Entry) -> SavedRemembered<'_> {
            let Entry {
                verb,
                channel,
                until,
                answer,
            } = entry;
            let (allowed, why) = match answer {
                Remembrance::Yes => (true, None),
                Remembrance::No(why) => (false, why.as_deref()),
            };
            SavedRemembered {
                verb: verb.as_str(),
                channel,
                until: *until,
                allowed,
                why,
            }
        }
        self.0.iter().map(saved).collect()
    }

    /// # Errors
    /// They are too many, or about a command that this release does not know.
    pub fn restore(saved: &[SavedRemembered]) -> Result<Remembered, SnapshotError> {
        if saved.len() > MAX_REMEMBERED_ANSWERS {
            let problem = format!(
                "{} remembered answers: at most {MAX_REMEMBERED_ANSWERS}",
                saved.len()
            );
            return Err(SnapshotError::new(problem));
        }
        let entry = |saved: &SavedRemembered| {
            let verb = Verb::restore(saved.verb)?;
            let answer = if saved.allowed {
                Remembrance::Yes
            } else {
                Remembrance::No(saved.why.map(Into::into))
            };
            Ok(Entry {
                verb,
                channel: saved.channel.into(),
                until: saved.until,
                answer,
            })
        };
        let entries: Result<Vec<Entry>, SnapshotError> = saved.iter().map(entry).collect();
        entries.map(Remembered)
    }
}
