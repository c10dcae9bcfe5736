//! What a snapshot holds of news that the hub has not taken.

use minicbor::{Decode, Encode};

use super::MOST_SHARDS;
use crate::broker::news::News;
use crate::effect::{
    Publication, SavedConnId, SavedPublication, SavedReceipt, SavedSubscriptionId, ShardId,
};
use crate::snapshot::SnapshotError;
use crate::wire::hash_slot::HASH_SLOTS;

/// Why messages are dropped.
const REASONS: [&str; 2] = ["unknown", "not_json"];

#[derive(Debug, Encode, Decode)]
pub enum SavedNews<'b> {
    #[n(0)]
    Shard(#[n(0)] u16, #[b(1)] Option<&'b str>),
    #[n(1)]
    Slots(#[n(0)] u16, #[n(1)] u16, #[n(2)] Option<u16>),
    #[n(2)]
    Publishing(#[n(0)] u16, #[n(1)] bool),
    #[n(3)]
    Listening(#[n(0)] u16, #[n(1)] bool),
    #[n(4)]
    Published(#[n(0)] SavedConnId, #[b(1)] SavedReceipt<'b>),
    #[n(5)]
    Returned(#[b(0)] SavedPublication<'b>),
    #[n(6)]
    Subscribed(#[n(0)] SavedSubscriptionId, #[b(1)] SavedReceipt<'b>),
    #[n(7)]
    Dropped(#[b(0)] &'b str),
}

impl News {
    /// `None`: messages lie in what a link has read, and are handled again. Ends of subscriptions have a list of their
    /// own: an older release passes that over, and has no value for another kind of news.
    pub(super) fn save(&self) -> Option<SavedNews<'_>> {
        Some(match self {
            News::Shard(shard, name) => SavedNews::Shard(shard.0, name.as_deref()),
            News::Slots(slots, shard) => {
                SavedNews::Slots(*slots.start(), *slots.end(), shard.map(|id| id.0))
            }
            News::Publishing(shard, up) => SavedNews::Publishing(shard.0, *up),
            News::Listening(shard, up) => SavedNews::Listening(shard.0, *up),
            News::Published(by, receipt) => SavedNews::Published((*by).into(), receipt.save()),
            News::Returned(publication) => SavedNews::Returned(publication.save()),
            News::Subscribed(id, receipt) => SavedNews::Subscribed((*id).into(), receipt.save()),
            News::Dropped(why) => SavedNews::Dropped(why),
            News::Message(_) | News::Unsubscribed(_) => return None,
        })
    }

    pub(super) fn restore(saved: SavedNews) -> Result<News, SnapshotError> {
        Ok(match saved {
            SavedNews::Shard(id, name) => News::Shard(shard(id)?, name.map(Into::into)),
            SavedNews::Slots(first, last, id) if first <= last && last < HASH_SLOTS => {
                News::Slots(first..=last, id.map(shard).transpose()?)
            }
            SavedNews::Slots(first, last, _) => {
                let problem = format!("unknown slots {first} to {last}");
                return Err(SnapshotError::new(problem));
            }
            SavedNews::Publishing(id, up) => News::Publishing(shard(id)?, up),
            SavedNews::Listening(id, up) => News::Listening(shard(id)?, up),
            SavedNews::Published(by, receipt) => News::Published(by.into(), receipt.into()),
            SavedNews::Returned(saved) => News::Returned(Publication::restore(saved)?),
            SavedNews::Subscribed(id, receipt) => News::Subscribed(id.into(), receipt.into()),
            SavedNews::Dropped(why) => {
                let known = REASONS.into_iter().find(|known| *known == why);
                let unknown = || SnapshotError::new(format!("unknown reason {why:?}"));
                News::Dropped(known.ok_or_else(unknown)?)
            }
        })
    }
}

fn shard(id: u16) -> Result<ShardId, SnapshotError> {
    if usize::from(id) < MOST_SHARDS {
        Ok(ShardId(id))
    } else {
        Err(SnapshotError::new(format!(
            "shard {id} is out of range: at most {MOST_SHARDS}"
        )))
    }
}
