//! Events in a snapshot.

use minicbor::{Decode, Encode};

use super::EventBatch;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedEvents<'b> {
    #[b(0)]
    events: Vec<SavedEvent<'b>>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedEvent<'b> {
    /// When it happened.
    #[n(0)]
    at: u64,
    /// JSON.
    #[cbor(b(1), with = "minicbor::bytes")]
    json: &'b [u8],
}

impl EventBatch {
    pub fn save(&self) -> SavedEvents<'_> {
        let EventBatch {
            bytes,
            events,
            start,
        } = self;
        let mut from = *start as usize;
        let events = events.iter().map(|(end, at)| {
            // Without the comma behind it.
            let end = *end as usize;
            let json = bytes.get(from..end.saturating_sub(1)).unwrap_or_default();
            from = end;
            SavedEvent { at: *at, json }
        });
        SavedEvents {
            events: events.collect(),
        }
    }
}

impl SavedEvents<'_> {
    /// Each event, the oldest first: when it happened, and its JSON.
    pub fn each(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.events.iter().map(|event| (event.at, event.json))
    }
}
