//! Recipients, targets, and how far a walk over them has come, in a snapshot.

use minicbor::{Decode, Encode};

use super::{Action, Reach, Scope};
use crate::effect::restore_channel;
use crate::snapshot::SnapshotError;
use crate::wire::backend::{ConnectionFilter, Recipient, Target};

#[derive(Debug, Encode, Decode)]
pub enum SavedRecipient<'b> {
    #[n(0)]
    User(#[b(0)] &'b str),
    #[n(1)]
    Connection(#[b(0)] &'b str),
}

impl<'b> From<&'b Recipient> for SavedRecipient<'b> {
    fn from(recipient: &Recipient) -> SavedRecipient<'_> {
        match recipient {
            Recipient::User(user) => SavedRecipient::User(user),
            Recipient::Connection(id) => SavedRecipient::Connection(id),
        }
    }
}

impl From<SavedRecipient<'_>> for Recipient {
    fn from(saved: SavedRecipient) -> Recipient {
        match saved {
            SavedRecipient::User(user) => Recipient::User(user.into()),
            SavedRecipient::Connection(id) => Recipient::Connection(id.into()),
        }
    }
}

#[derive(Debug, Encode, Decode)]
pub enum SavedTarget<'b> {
    #[n(0)]
    Channel(#[b(0)] &'b str),
    #[n(1)]
    Recipient(#[b(0)] SavedRecipient<'b>),
}

impl<'b> From<&'b Target> for SavedTarget<'b> {
    fn from(target: &Target) -> SavedTarget<'_> {
        match target {
            Target::Channel(name) => SavedTarget::Channel(name.as_str()),
            Target::Recipient(recipient) => SavedTarget::Recipient(recipient.into()),
        }
    }
}

impl TryFrom<SavedTarget<'_>> for Target {
    type Error = SnapshotError;

    fn try_from(saved: SavedTarget) -> Result<Target, SnapshotError> {
        Ok(match saved {
            SavedTarget::Channel(name) => Target::Channel(restore_channel(name)?),
            SavedTarget::Recipient(recipient) => Target::Recipient(recipient.into()),
        })
    }
}

/// A walk over the connections of a recipient.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedReach<'b> {
    #[b(0)]
    recipient: SavedRecipient<'b>,
    #[n(1)]
    next: Option<u32>,
    #[n(2)]
    begun: bool,
    #[cbor(n(3), default)]
    spared: Vec<u32>,
}

impl<'b> From<&'b Reach> for SavedReach<'b> {
    fn from(reach: &Reach) -> SavedReach<'_> {
        let Reach {
            recipient,
            next,
            begun,
            spared,
        } = reach;
        let mut spared: Vec<u32> = spared.iter().copied().collect();
        spared.sort_unstable();
        SavedReach {
            recipient: recipient.into(),
            next: *next,
            begun: *begun,
            spared,
        }
    }
}

impl From<SavedReach<'_>> for Reach {
    fn from(saved: SavedReach) -> Reach {
        Reach {
            recipient: saved.recipient.into(),
            next: saved.next,
            begun: saved.begun,
            spared: saved.spared.into_iter().collect(),
        }
    }
}

#[derive(Debug, Encode, Decode)]
pub enum SavedAction<'b> {
    #[n(0)]
    Disconnect(#[n(0)] u16, #[b(1)] &'b str),
    #[n(1)]
    Join(#[b(0)] &'b str),
    #[n(2)]
    Leave(#[b(0)] &'b str),
}

impl<'b> From<&'b Action> for SavedAction<'b> {
    fn from(action: &Action) -> SavedAction<'_> {
        match action {
            Action::Disconnect { code, reason } => SavedAction::Disconnect(*code, reason),
            Action::Join(channel) => SavedAction::Join(channel.as_str()),
            Action::Leave(channel) => SavedAction::Leave(channel.as_str()),
        }
    }
}

impl TryFrom<SavedAction<'_>> for Action {
    type Error = SnapshotError;

    fn try_from(saved: SavedAction) -> Result<Action, SnapshotError> {
        Ok(match saved {
            SavedAction::Disconnect(code, reason) => Action::Disconnect {
                code,
                reason: reason.into(),
            },
            SavedAction::Join(channel) => Action::Join(restore_channel(channel)?),
            SavedAction::Leave(channel) => Action::Leave(restore_channel(channel)?),
        })
    }
}

#[derive(Debug, Encode, Decode)]
enum SavedFilter<'b> {
    #[n(0)]
    All,
    #[n(1)]
    Channel(#[b(0)] &'b str),
    #[n(2)]
    Recipient(#[b(0)] SavedRecipient<'b>),
}

/// What is still to be listed.
#[derive(Debug, Encode, Decode)]
pub enum SavedScope<'b> {
    #[n(0)]
    Channels(#[b(0)] SavedChannelScope<'b>),
    #[n(1)]
    Connections(#[b(0)] SavedConnectionScope<'b>),
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedChannelScope<'b> {
    #[b(0)]
    prefix: &'b str,
    #[b(1)]
    after: &'b str,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedConnectionScope<'b> {
    #[b(0)]
    filter: SavedFilter<'b>,
    #[b(1)]
    after: &'b str,
    #[n(2)]
    next: u32,
    #[n(3)]
    few: Option<Vec<u32>>,
}

impl<'b> From<&'b Scope> for SavedScope<'b> {
    fn from(scope: &Scope) -> SavedScope<'_> {
        match scope {
            Scope::Channels { prefix, after } => {
                SavedScope::Channels(SavedChannelScope { prefix, after })
            }
            Scope::Connections {
                filter,
                after,
                next,
                few,
            } => SavedScope::Connections(SavedConnectionScope {
                filter: match filter {
                    ConnectionFilter::All => SavedFilter::All,
                    ConnectionFilter::Channel(name) => SavedFilter::Channel(name.as_str()),
                    ConnectionFilter::Recipient(it) => SavedFilter::Recipient(it.into()),
                },
                after,
                next: *next,
                few: few.as_ref().map(|few| few.iter().copied().collect()),
            }),
        }
    }
}

impl TryFrom<SavedScope<'_>> for Scope {
    type Error = SnapshotError;

    fn try_from(saved: SavedScope) -> Result<Scope, SnapshotError> {
        Ok(match saved {
            SavedScope::Channels(SavedChannelScope { prefix, after }) => Scope::Channels {
                prefix: prefix.into(),
                after: after.into(),
            },
            SavedScope::Connections(saved) => Scope::Connections {
                filter: match saved.filter {
                    SavedFilter::All => ConnectionFilter::All,
                    SavedFilter::Channel(name) => ConnectionFilter::Channel(restore_channel(name)?),
                    SavedFilter::Recipient(it) => ConnectionFilter::Recipient(it.into()),
                },
                after: saved.after.into(),
                next: saved.next,
                few: saved.few.map(Into::into),
            },
        })
    }
}
