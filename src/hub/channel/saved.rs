//! One channel in a snapshot: its members in their order, and the connections that wait for it.
//!
//! Owns: [`SavedChannel`]. Knows: that nothing is on its way to the members, because batches are finished before. What
//! holds the channel follows from other facts.

use minicbor::{Decode, Encode};

use super::{Audiences, Channel};
use crate::effect::{SavedConnId, restore_channel};
use crate::hub::subscriptions::Subscriptions;
use crate::hub::subscriptions::saved::SavedSubscribed;
use crate::snapshot::SnapshotError;
use crate::wire::encoding::Encoding;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedChannel<'b> {
    /// Subscriptions name it by this.
    #[n(0)]
    pub index: u32,
    #[b(1)]
    name: &'b str,
    #[n(2)]
    subscribed: SavedSubscribed,
    #[n(3)]
    audiences: Vec<SavedAudience>,
    #[cbor(n(4), default)]
    waiting: Vec<SavedConnId>,
}

/// Members with the same encoding.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedAudience {
    #[n(0)]
    v1: bool,
    #[n(1)]
    deflated: bool,
    #[n(2)]
    slots: Vec<u32>,
}

impl Channel {
    pub fn save(&self, index: usize) -> SavedChannel<'_> {
        let Channel {
            name,
            audiences,
            prefix: _,
            waiting,
            pins: _,
            subscribed,
        } = self;
        let audience = |encoding: Encoding| {
            let audience = audiences.get(encoding.index())?;
            (!audience.is_empty()).then(|| SavedAudience {
                v1: encoding.is_v1(),
                deflated: encoding.is_deflated(),
                slots: audience.slots().collect(),
            })
        };
        SavedChannel {
            index: index as u32,
            name: name.as_str(),
            subscribed: subscribed.save(),
            audiences: Encoding::ALL.into_iter().filter_map(audience).collect(),
            waiting: waiting.iter().copied().map(SavedConnId::from).collect(),
        }
    }

    /// # Errors
    /// It has no name.
    pub fn restore(
        saved: SavedChannel,
        subscriptions: &mut Subscriptions,
    ) -> Result<Channel, SnapshotError> {
        let name = restore_channel(saved.name)?;
        let subscribed = subscriptions.restore_subscribed(&saved.subscribed, name.as_str());
        let mut channel = Channel {
            audiences: Audiences::default(),
            waiting: saved.waiting.into_iter().map(Into::into).collect(),
            ..Channel::new(name, subscribed)
        };
        for SavedAudience {
            v1,
            deflated,
            slots,
        } in saved.audiences
        {
            if let Some(audience) = channel.open_audience(Encoding::of(v1, deflated)) {
                for slot in slots {
                    audience.add(slot);
                }
            }
        }
        Ok(channel)
    }
}
