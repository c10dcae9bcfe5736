//! What a snapshot holds of a dialogue: what is outstanding on its two links, and what was collected for a command.

use minicbor::{Decode, Encode};

use super::values::Greeting;
use super::{Dialogue, Duty, Half, LinkIdentity, Published, SentPublication, What};
use crate::broker::redis::conversation::{Conversation, SavedConversation};
use crate::broker::redis::saved_values::{SavedForm, past};
use crate::clock::Millis;
use crate::effect::{
    Publication, PublishedBy, SavedConnId, SavedPublication, SavedSubscription, Subscription,
    restore_channel,
};
use crate::snapshot::SnapshotError;
use crate::wire::channel_name::ChannelName;
use crate::wire::hash_slot::HASH_SLOTS;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedDialogue<'b> {
    #[b(0)]
    publisher: SavedHalf<'b>,
    #[b(1)]
    listener: SavedHalf<'b>,
    #[cbor(n(2), default)]
    published: Vec<SavedPublished>,
    #[n(3)]
    heard: u64,
    #[n(4)]
    covered: u64,
    #[cbor(b(5), default)]
    subscribing: Vec<SavedSubscription<'b>>,
    #[cbor(b(6), default)]
    unsubscribing: Vec<&'b str>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedHalf<'b> {
    #[n(0)]
    up: bool,
    #[n(1)]
    checked: Millis,
    #[b(2)]
    talk: SavedConversation<'b, SavedWhat<'b>>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedPublished {
    #[n(0)]
    at: Millis,
    #[n(1)]
    by: Option<SavedConnId>,
    #[n(2)]
    slot: u16,
}

#[derive(Debug, Encode, Decode)]
enum SavedWhat<'b> {
    #[n(0)]
    Greeting(#[n(0)] SavedGreeting),
    #[n(1)]
    Role,
    #[n(2)]
    Info,
    #[n(3)]
    View(#[n(0)] SavedForm),
    #[n(4)]
    Ping(#[n(0)] u64),
    #[n(5)]
    Publish(#[b(0)] SavedSent<'b>),
    #[n(6)]
    Subscribe(#[b(0)] Vec<SavedSubscription<'b>>, #[n(1)] u64),
    #[n(7)]
    Unsubscribe(#[b(0)] Vec<&'b str>, #[n(1)] u64),
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(index_only)]
enum SavedGreeting {
    #[n(0)]
    Auth,
    /// If redis knows no users, the password is sent alone.
    #[n(1)]
    AuthAloneNext,
    #[n(2)]
    Select,
    #[n(3)]
    Name,
    #[n(4)]
    Ping,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedSent<'b> {
    #[n(0)]
    by: Option<SavedConnId>,
    #[n(1)]
    slot: u16,
    #[b(2)]
    kept: Option<SavedPublication<'b>>,
    #[n(3)]
    doubtful: bool,
}

impl Dialogue {
    /// The dialogue in a snapshot. News, notices and hints have to be taken before.
    pub fn save(&self) -> SavedDialogue<'_> {
        debug_assert!(self.news.is_empty() && self.notices.is_empty() && self.hints.is_empty());
        let published = |it: &Published| SavedPublished {
            at: it.at,
            by: it.by.map(SavedConnId::from),
            slot: it.slot,
        };
        SavedDialogue {
            publisher: self.publisher.save(),
            listener: self.listener.save(),
            published: self.published.iter().map(published).collect(),
            heard: self.heard,
            covered: self.covered,
            subscribing: self.subscribing.iter().map(Subscription::save).collect(),
            unsubscribing: self.unsubscribing.iter().map(ChannelName::as_str).collect(),
        }
    }

    /// # Errors
    /// It contradicts itself, or names what does not exist.
    pub fn restore(
        identity: LinkIdentity,
        saved: SavedDialogue,
        now: Millis,
    ) -> Result<Dialogue, SnapshotError> {
        let published = |it: SavedPublished| {
            Ok(Published {
                at: past(it.at, now)?,
                by: it.by.map(PublishedBy::from),
                slot: checked_slot(it.slot)?,
            })
        };
        let published: Result<_, SnapshotError> =
            saved.published.into_iter().map(published).collect();
        let dialogue = Dialogue {
            publisher: Half::restore(saved.publisher, now)?,
            listener: Half::restore(saved.listener, now)?,
            published: published?,
            heard: saved.heard,
            covered: saved.covered,
            subscribing: subscriptions(saved.subscribing)?,
            unsubscribing: names(saved.unsubscribing)?,
            ..Dialogue::new(identity)
        };
        dialogue.check()?;
        Ok(dialogue)
    }

    /// Whether the positions of what was published are possible.
    fn check(&self) -> Result<(), SnapshotError> {
        let count = self.published.len() as u64;
        let end = self.heard.checked_add(count);
        let asked = self.listener.talk.asked.iter();
        let pings = asked.filter_map(|asked| match asked.what {
            What::Ping(position) => Some(position),
            _ => None,
        });
        match end {
            Some(end) if pings.chain([self.covered]).all(|it| it <= end) => Ok(()),
            _ => Err(SnapshotError::new(
                "a PING that confirms more than was published",
            )),
        }
    }

    /// Whether something was said on a link since it was opened.
    pub fn is_talking(&self, duty: Duty) -> bool {
        let half = match duty {
            Duty::Publish => &self.publisher,
            Duty::Listen => &self.listener,
        };
        half.up || !half.talk.asked.is_empty()
    }
}

impl Half {
    fn save(&self) -> SavedHalf<'_> {
        SavedHalf {
            up: self.up,
            checked: self.checked,
            talk: self.talk.save(What::save),
        }
    }

    fn restore(saved: SavedHalf, now: Millis) -> Result<Half, SnapshotError> {
        Ok(Half {
            up: saved.up,
            checked: past(saved.checked, now)?,
            talk: Conversation::restore(saved.talk, What::restore, now)?,
        })
    }
}

impl What {
    fn save(&self) -> SavedWhat<'_> {
        match self {
            What::Greeting(greeting) => SavedWhat::Greeting(match greeting {
                Greeting::Auth { alone_next: false } => SavedGreeting::Auth,
                Greeting::Auth { alone_next: true } => SavedGreeting::AuthAloneNext,
                Greeting::Select => SavedGreeting::Select,
                Greeting::Name => SavedGreeting::Name,
                Greeting::Ping => SavedGreeting::Ping,
            }),
            What::Role => SavedWhat::Role,
            What::Info => SavedWhat::Info,
            What::View(form) => SavedWhat::View((*form).into()),
            What::Ping(position) => SavedWhat::Ping(*position),
            What::Publish(sent) => SavedWhat::Publish(SavedSent {
                by: sent.by.map(SavedConnId::from),
                slot: sent.slot,
                kept: sent.kept.as_deref().map(Publication::save),
                doubtful: sent.doubtful,
            }),
            What::Subscribe(channels, confirmed) => SavedWhat::Subscribe(
                channels.iter().map(Subscription::save).collect(),
                *confirmed as u64,
            ),
            What::Unsubscribe(channels, ended) => SavedWhat::Unsubscribe(
                channels.iter().map(ChannelName::as_str).collect(),
                *ended as u64,
            ),
        }
    }

    fn restore(saved: SavedWhat) -> Result<What, SnapshotError> {
        Ok(match saved {
            SavedWhat::Greeting(greeting) => What::Greeting(match greeting {
                SavedGreeting::Auth => Greeting::Auth { alone_next: false },
                SavedGreeting::AuthAloneNext => Greeting::Auth { alone_next: true },
                SavedGreeting::Select => Greeting::Select,
                SavedGreeting::Name => Greeting::Name,
                SavedGreeting::Ping => Greeting::Ping,
            }),
            SavedWhat::Role => What::Role,
            SavedWhat::Info => What::Info,
            SavedWhat::View(form) => What::View(form.into()),
            SavedWhat::Ping(position) => What::Ping(position),
            SavedWhat::Publish(sent) => What::Publish(SentPublication {
                by: sent.by.map(PublishedBy::from),
                slot: checked_slot(sent.slot)?,
                kept: sent
                    .kept
                    .map(Publication::restore)
                    .transpose()?
                    .map(Box::new),
                doubtful: sent.doubtful,
            }),
            SavedWhat::Subscribe(channels, confirmed) => {
                let confirmed = place_in(confirmed, channels.len())?;
                What::Subscribe(subscriptions(channels)?, confirmed)
            }
            SavedWhat::Unsubscribe(channels, ended) => {
                let ended = place_in(ended, channels.len())?;
                What::Unsubscribe(names(channels)?, ended)
            }
        })
    }
}

fn subscriptions(saved: Vec<SavedSubscription>) -> Result<Vec<Subscription>, SnapshotError> {
    saved.into_iter().map(Subscription::restore).collect()
}

fn names(saved: Vec<&str>) -> Result<Vec<ChannelName>, SnapshotError> {
    saved.into_iter().map(restore_channel).collect()
}

/// Of the channels in a command the one that is confirmed next.
fn place_in(next: u64, channels: usize) -> Result<usize, SnapshotError> {
    let next = usize::try_from(next).ok().filter(|next| *next < channels);
    next.ok_or_else(|| {
        SnapshotError::new(format!(
            "more channels are confirmed than the {channels} of a command"
        ))
    })
}

fn checked_slot(slot: u16) -> Result<u16, SnapshotError> {
    if slot < HASH_SLOTS {
        Ok(slot)
    } else {
        Err(SnapshotError::new(format!("unknown slot {slot}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::SubscriptionId;

    const NOW: Millis = 1_000;

    /// A publication is published, and the answers to a `PING` and to a subscription of two channels are awaited.
    fn dialogue() -> Dialogue {
        let subscription = |serial, name| Subscription {
            id: SubscriptionId { channel: 0, serial },
            channel: ChannelName::checked(name),
        };
        let channels = vec![subscription(1, "a"), subscription(2, "b")];
        let mut dialogue = Dialogue {
            heard: 4,
            covered: 5,
            ..Dialogue::default()
        };
        dialogue.published.push_back(Published {
            at: 900,
            by: None,
            slot: 7,
        });
        let listener = &mut dialogue.listener.talk;
        listener.ask(What::Ping(5), &[], 900);
        listener.ask(What::Subscribe(channels, 1), &[], 900);
        let ended = vec![ChannelName::checked("c")];
        listener.ask(What::Unsubscribe(ended, 0), &[], 900);
        let sent = SentPublication {
            by: None,
            slot: 7,
            kept: None,
            doubtful: false,
        };
        dialogue.publisher.talk.ask(What::Publish(sent), &[], 900);
        dialogue
    }

    #[test]
    fn an_inconsistent_snapshot_of_a_dialogue_is_refused() {
        type Change = fn(&mut SavedDialogue);
        let changes: &[(Change, &str)] = &[
            (|it| it.covered = 6, "a PING that confirms more"),
            (|it| it.heard = u64::MAX, "a PING that confirms more"),
            (|it| it.heard = 3, "a PING that confirms more"),
            (|it| it.published.clear(), "a PING that confirms more"),
            (|it| it.published[0].slot = HASH_SLOTS, "unknown slot"),
            (|it| it.published[0].at = NOW + 1, "in the future"),
            (|it| it.publisher.checked = u64::MAX, "in the future"),
            (|it| it.unsubscribing.push(""), "invalid channel name"),
            (|it| it.listener.talk.awaits(SavedWhat::Ping(6)), "a PING"),
            (
                |it| {
                    it.listener
                        .talk
                        .awaits(SavedWhat::Unsubscribe(vec!["a"], 1))
                },
                "more channels are confirmed",
            ),
            (
                |it| it.listener.talk.awaits(SavedWhat::Subscribe(vec![], 0)),
                "more channels are confirmed",
            ),
            (
                |it| {
                    it.listener
                        .talk
                        .awaits(SavedWhat::Unsubscribe(vec![" "], 0))
                },
                "invalid channel name",
            ),
            (
                |it| {
                    let (by, kept) = (None, None);
                    it.publisher.talk.awaits(SavedWhat::Publish(SavedSent {
                        by,
                        slot: u16::MAX,
                        kept,
                        doubtful: false,
                    }));
                },
                "unknown slot",
            ),
        ];
        let dialogue = dialogue();
        let restore = |saved| Dialogue::restore(LinkIdentity::default(), saved, NOW);
        assert!(restore(dialogue.save()).is_ok());
        for (change, problem) in changes {
            let mut saved = dialogue.save();
            change(&mut saved);
            let error = restore(saved).expect_err(problem).to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
