//! Channels and memberships in a snapshot.
//!
//! Owns: the indexes, which follow from the channels: one walk over all members makes them. Knows: what holds a channel.
//! Never knows: connections.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

use minicbor::{Decode, Encode};
use slab::Slab;

use super::{Channels, Released};
use crate::effect::{SavedConnId, SavedReceipt};
use crate::hub::channel::Channel;
use crate::hub::memberships::AudienceId;
use crate::hub::waiter::WaiterId;
use crate::snapshot::SnapshotError;
use crate::wire::channel_name::ChannelName;
use crate::wire::encoding::Encoding;

/// Channels that a snapshot may have room for: as many as connections. Vacant places take memory, too.
const MOST_CHANNELS: usize = 1 << 22;

/// Connections that were released and have not all had their turn.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedReleased<'b> {
    #[n(0)]
    channel: u32,
    #[b(1)]
    receipt: Option<SavedReceipt<'b>>,
    #[n(2)]
    ids: Vec<SavedConnId>,
}

impl Released {
    pub fn save(&self) -> SavedReleased<'_> {
        let Released {
            channel,
            receipt,
            ids,
        } = self;
        let ids = ids.as_slice().iter();
        SavedReleased {
            channel: *channel as u32,
            receipt: receipt.as_ref().map(|receipt| receipt.save()),
            ids: ids.copied().map(SavedConnId::from).collect(),
        }
    }
}

impl Channels {
    /// Every channel, with its index.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.channels.iter()
    }

    /// The names of the channels that the connection in `slot` will join.
    pub fn reserved_by(&self, slot: u32) -> Option<&[ChannelName]> {
        self.reserved.get(&slot).map(Vec::as_slice)
    }

    /// Puts channels, each with its index, in the place of those that are there: none. `fits`: whether the connection in a
    /// slot may be a member with an encoding.
    ///
    /// # Errors
    /// An index, a name or a membership comes twice, or a member does not fit.
    pub fn restore_all(
        &mut self,
        channels: Vec<(usize, Channel)>,
        mut fits: impl FnMut(u32, Encoding) -> bool,
    ) -> Result<(), SnapshotError> {
        let mut free = 0;
        for (index, channel) in &channels {
            if *index < free || *index >= MOST_CHANNELS {
                return Err(SnapshotError::new(format!(
                    "channel {index} is out of order"
                )));
            }
            free = index + 1;
            if self.by_name.get(channel.name.as_str()).is_some() {
                let problem = format!("duplicate channel {:?}", channel.name.as_str());
                return Err(SnapshotError::new(problem));
            }
            self.by_name.insert(channel.name.clone(), *index);
            if channel.has_members() {
                self.occupied.insert(&channel.name, *index);
            }
            for encoding in Encoding::ALL {
                let audience = channel.audience(encoding.index()).into_iter();
                for (at, slot) in audience.flat_map(|audience| audience.slots()).enumerate() {
                    if !fits(slot, encoding) {
                        let problem = format!(
                            "channel {index} has a member in slot {slot}, which has no open WebSocket with its encoding"
                        );
                        return Err(SnapshotError::new(problem));
                    }
                    self.restore_membership(slot, AudienceId::new(*index, encoding), at as u32)?;
                }
            }
        }
        self.channels = channels.into_iter().collect::<Slab<Channel>>();
        Ok(())
    }

    fn restore_membership(
        &mut self,
        slot: u32,
        id: AudienceId,
        at: u32,
    ) -> Result<(), SnapshotError> {
        let Some(joined) = self.joined.entry(slot) else {
            return Ok(());
        };
        if joined.at(id).is_some() {
            return Err(SnapshotError::new(
                "a connection is twice a member of a channel",
            ));
        }
        joined.put(id, at);
        self.memberships += 1;
        Ok(())
    }

    /// The channels that the connection in `slot` will join.
    ///
    /// # Errors
    /// One of them does not exist.
    pub fn restore_reserved(
        &mut self,
        slot: u32,
        names: Vec<ChannelName>,
    ) -> Result<(), SnapshotError> {
        for name in &names {
            self.restore_hold(name.as_str())?;
        }
        self.reserved.insert(slot, names);
        Ok(())
    }

    /// Counts one holder more of the channel `name`.
    ///
    /// # Errors
    /// It does not exist.
    pub fn restore_hold(&mut self, name: &str) -> Result<(), SnapshotError> {
        let held = self.named_mut(name).map(|(_, channel)| channel);
        let unknown = || SnapshotError::new(format!("unknown channel {name:?}"));
        let held = held.ok_or_else(unknown)?;
        held.pins += 1;
        Ok(())
    }

    /// Connections that were released.
    ///
    /// # Errors
    /// Their channel does not exist.
    pub fn restore_released(&mut self, saved: SavedReleased) -> Result<Released, SnapshotError> {
        let channel = saved.channel as usize;
        let held = self.channels.get_mut(channel);
        let unknown = || SnapshotError::new(format!("unknown number of a channel: {channel}"));
        let held = held.ok_or_else(unknown)?;
        held.pins += 1;
        let ids: Vec<WaiterId> = saved.ids.into_iter().map(Into::into).collect();
        Ok(Released {
            channel,
            receipt: saved.receipt.map(Into::into),
            ids: ids.into_iter(),
        })
    }
}
