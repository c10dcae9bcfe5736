//! What a snapshot holds of a scout.

use minicbor::{Decode, Encode};

use super::{Awaited, Inquiry, Scout};
use crate::broker::redis::conversation::{Conversation, SavedConversation};
use crate::broker::redis::saved_values::SavedForm;
use crate::clock::Millis;
use crate::config::Credentials;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedScout<'b> {
    #[b(0)]
    talk: SavedConversation<'b, SavedAwaited>,
    #[n(1)]
    up: bool,
    #[n(2)]
    subscribed: bool,
    /// How it asks for a view. `None`: it asks a sentinel.
    #[n(3)]
    form: Option<SavedForm>,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
pub enum SavedAwaited {
    #[n(0)]
    Login(#[n(0)] bool),
    #[n(1)]
    Aside,
    #[n(2)]
    Master,
    #[n(3)]
    View(#[n(0)] SavedForm),
    #[n(4)]
    Ping,
}

impl Scout {
    /// What it has found has to be taken before.
    pub fn save(&self) -> SavedScout<'_> {
        debug_assert!(self.findings.is_empty());
        SavedScout {
            talk: self.talk.save(|awaited| match awaited {
                Awaited::Login { alone_next } => SavedAwaited::Login(*alone_next),
                Awaited::Aside => SavedAwaited::Aside,
                Awaited::Master => SavedAwaited::Master,
                Awaited::View(form) => SavedAwaited::View((*form).into()),
                Awaited::Ping => SavedAwaited::Ping,
            }),
            up: self.up,
            subscribed: self.subscribed,
            form: match &self.inquiry {
                Inquiry::Master(_) => None,
                Inquiry::View(form) => Some((*form).into()),
            },
        }
    }

    /// A scout that asks a sentinel for `master`, or a node of a cluster.
    ///
    /// # Errors
    /// It asks for something else, or has a time that is impossible.
    pub fn restore(
        saved: SavedScout,
        master: Option<&str>,
        credentials: Option<Credentials>,
        now: Millis,
    ) -> Result<Scout, SnapshotError> {
        let inquiry = match (saved.form, master) {
            (None, Some(master)) => Inquiry::Master(master.to_owned()),
            (Some(form), None) => Inquiry::View(form.into()),
            _ => {
                return Err(SnapshotError::new(
                    "a question about a master in a cluster, or about a view outside of one",
                ));
            }
        };
        let awaited = |saved| {
            Ok(match saved {
                SavedAwaited::Login(alone_next) => Awaited::Login { alone_next },
                SavedAwaited::Aside => Awaited::Aside,
                SavedAwaited::Master => Awaited::Master,
                SavedAwaited::View(form) => Awaited::View(form.into()),
                SavedAwaited::Ping => Awaited::Ping,
            })
        };
        Ok(Scout {
            talk: Conversation::restore(saved.talk, awaited, now)?,
            up: saved.up,
            subscribed: saved.subscribed,
            ..Scout::new(inquiry, credentials)
        })
    }

    /// Whether something was said since the link was opened.
    pub fn is_talking(&self) -> bool {
        self.up || !self.talk.asked.is_empty()
    }
}
