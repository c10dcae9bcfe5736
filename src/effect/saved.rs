//! What a snapshot holds of these values, as long as a driver has not answered, or its answer has not been taken.

use minicbor::{Decode, Encode};

use super::{ConnId, Publication, PublishedBy, Receipt, Subscription, SubscriptionId};
use crate::clock::Millis;
use crate::snapshot::SnapshotError;
use crate::wire::channel_name::{BadChannel, ChannelName};

/// A connection, or with [`ConnId::NO_SLOT`] what belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct SavedConnId {
    #[n(0)]
    slot: u32,
    #[n(1)]
    generation: u32,
}

impl From<ConnId> for SavedConnId {
    fn from(id: ConnId) -> SavedConnId {
        let ConnId { slot, generation } = id;
        SavedConnId { slot, generation }
    }
}

impl From<SavedConnId> for ConnId {
    fn from(saved: SavedConnId) -> ConnId {
        let SavedConnId { slot, generation } = saved;
        ConnId { slot, generation }
    }
}

impl SavedConnId {
    /// Of what belongs to no connection, by a number.
    pub fn of_no_connection(number: u32) -> SavedConnId {
        SavedConnId {
            slot: ConnId::NO_SLOT,
            generation: number,
        }
    }

    /// The number of what belongs to no connection.
    pub fn number(self) -> Option<u32> {
        (self.slot == ConnId::NO_SLOT).then_some(self.generation)
    }
}

impl From<PublishedBy> for SavedConnId {
    fn from(by: PublishedBy) -> SavedConnId {
        match by {
            PublishedBy::Connection(id) => id.into(),
            PublishedBy::Gathering(number) => SavedConnId::of_no_connection(number),
            PublishedBy::Nothing => SavedConnId::of_no_connection(0),
        }
    }
}

impl From<SavedConnId> for PublishedBy {
    fn from(saved: SavedConnId) -> PublishedBy {
        match saved.number() {
            None => PublishedBy::Connection(saved.into()),
            Some(0) => PublishedBy::Nothing,
            Some(number) => PublishedBy::Gathering(number),
        }
    }
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSubscriptionId {
    #[n(0)]
    channel: u32,
    #[n(1)]
    serial: u64,
}

impl From<SubscriptionId> for SavedSubscriptionId {
    fn from(id: SubscriptionId) -> SavedSubscriptionId {
        let SubscriptionId { channel, serial } = id;
        SavedSubscriptionId { channel, serial }
    }
}

impl From<SavedSubscriptionId> for SubscriptionId {
    fn from(saved: SavedSubscriptionId) -> SubscriptionId {
        let SavedSubscriptionId { channel, serial } = saved;
        SubscriptionId { channel, serial }
    }
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedPublication<'b> {
    #[n(0)]
    from: SavedConnId,
    #[n(1)]
    since: Millis,
    #[b(2)]
    channel: &'b str,
    #[cbor(b(3), with = "minicbor::bytes")]
    content: &'b [u8],
}

impl Publication {
    pub fn save(&self) -> SavedPublication<'_> {
        SavedPublication {
            from: self.from.into(),
            since: self.since,
            channel: self.channel.as_str(),
            content: &self.content,
        }
    }

    /// # Errors
    /// Its channel has no name.
    pub fn restore(saved: SavedPublication) -> Result<Publication, SnapshotError> {
        Ok(Publication {
            from: saved.from.into(),
            since: saved.since,
            channel: restore_channel(saved.channel)?,
            content: saved.content.into(),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSubscription<'b> {
    #[n(0)]
    id: SavedSubscriptionId,
    #[b(1)]
    channel: &'b str,
}

impl Subscription {
    pub fn save(&self) -> SavedSubscription<'_> {
        SavedSubscription {
            id: self.id.into(),
            channel: self.channel.as_str(),
        }
    }

    /// # Errors
    /// Its channel has no name.
    pub fn restore(saved: SavedSubscription) -> Result<Subscription, SnapshotError> {
        Ok(Subscription {
            id: saved.id.into(),
            channel: restore_channel(saved.channel)?,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub enum SavedReceipt<'b> {
    #[n(0)]
    Confirmed,
    #[n(1)]
    Refused(#[b(0)] &'b str),
    #[n(2)]
    Failed,
}

impl Receipt {
    pub fn save(&self) -> SavedReceipt<'_> {
        match self {
            Receipt::Confirmed => SavedReceipt::Confirmed,
            Receipt::Refused(words) => SavedReceipt::Refused(words),
            Receipt::Failed => SavedReceipt::Failed,
        }
    }
}

impl From<SavedReceipt<'_>> for Receipt {
    fn from(saved: SavedReceipt) -> Receipt {
        match saved {
            SavedReceipt::Confirmed => Receipt::Confirmed,
            SavedReceipt::Refused(words) => Receipt::Refused(words.into()),
            SavedReceipt::Failed => Receipt::Failed,
        }
    }
}

/// A channel's name, as the broker knows it: names among servers are some, too.
///
/// # Errors
/// It is none.
pub fn restore_channel(name: &str) -> Result<ChannelName, SnapshotError> {
    match ChannelName::check(name) {
        Ok(checked) if checked == name => Ok(ChannelName::checked(name)),
        Err(BadChannel::Reserved) if name.trim() == name => Ok(ChannelName::checked(name)),
        _ => Err(SnapshotError::new(format!("invalid channel name {name:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(saved: &impl Encode<()>) -> Vec<u8> {
        minicbor::to_vec(saved).unwrap()
    }

    #[test]
    fn values_are_restored_as_they_were() {
        let id = ConnId {
            slot: 7,
            generation: u32::MAX,
        };
        for from in [
            PublishedBy::Connection(id),
            PublishedBy::Gathering(1),
            PublishedBy::Nothing,
        ] {
            let publication = Publication {
                from,
                since: 9,
                channel: ChannelName::checked("ä"),
                content: b"[1]".as_slice().into(),
            };
            let bytes = again(&publication.save());
            let restored = Publication::restore(minicbor::decode(&bytes).unwrap()).unwrap();
            assert_eq!(format!("{restored:?}"), format!("{publication:?}"));
        }
        let subscription = Subscription {
            id: SubscriptionId {
                channel: 3,
                serial: u64::MAX,
            },
            channel: ChannelName::checked("wsify:nodes"),
        };
        let bytes = again(&subscription.save());
        let restored = Subscription::restore(minicbor::decode(&bytes).unwrap()).unwrap();
        assert_eq!(format!("{restored:?}"), format!("{subscription:?}"));
        for receipt in [
            Receipt::Confirmed,
            Receipt::Refused("NOPERM no".into()),
            Receipt::Failed,
        ] {
            let bytes = again(&receipt.save());
            let saved: SavedReceipt = minicbor::decode(&bytes).unwrap();
            assert_eq!(Receipt::from(saved), receipt);
        }
    }

    #[test]
    fn invalid_channel_names_in_a_snapshot_are_refused() {
        for name in ["", " ", " a", "a\n", &"x".repeat(256), " wsify:nodes"] {
            assert!(restore_channel(name).is_err(), "{name:?}");
        }
        for name in ["a", "ä b", &"x".repeat(255), "wsify:nodes"] {
            assert_eq!(restore_channel(name).unwrap().as_str(), name);
        }
    }
}
