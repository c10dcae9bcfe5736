//! Ends of subscriptions in a snapshot: the broker's answers come to the program that takes over. What waits for them asks
//! again.

use minicbor::{Decode, Encode};

use super::{Unsubscription, Unsubscriptions};
use crate::effect::restore_channel;
use crate::snapshot::SnapshotError;

/// A channel, and how many answers it awaits.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedUnsubscription<'b> {
    #[b(0)]
    channel: &'b str,
    #[n(1)]
    awaited: u32,
}

impl Unsubscriptions {
    /// In the order of names.
    pub fn save(&self) -> Vec<SavedUnsubscription<'_>> {
        let under_way = self.under_way.iter();
        let saved = under_way.map(|(channel, unsubscription)| SavedUnsubscription {
            channel: channel.as_str(),
            awaited: unsubscription.awaited,
        });
        saved.collect()
    }

    /// # Errors
    /// A channel is named twice, or awaits nothing.
    pub fn restore(saved: &[SavedUnsubscription]) -> Result<Unsubscriptions, SnapshotError> {
        let mut unsubscriptions = Unsubscriptions::default();
        for SavedUnsubscription { channel, awaited } in saved {
            let unsubscription = Unsubscription {
                awaited: *awaited,
                waiting: Vec::new(),
            };
            let under_way = &mut unsubscriptions.under_way;
            let before = under_way.insert(restore_channel(channel)?, unsubscription);
            if before.is_some() || *awaited == 0 {
                return Err(SnapshotError::new(
                    "the end of a subscription that is not under way",
                ));
            }
        }
        Ok(unsubscriptions)
    }
}
