//! A page on its way, in a snapshot.

use minicbor::{Decode, Encode};

use super::{EntryValue, Listed, Page, PageEntry};
use crate::snapshot::{SnapshotError, size};

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedPage<'b> {
    /// Connections are listed, not channels.
    #[n(0)]
    connections: bool,
    #[n(1)]
    limit: u64,
    #[b(2)]
    entries: Vec<SavedEntry<'b>>,
    #[n(3)]
    more: bool,
}

/// A channel with its members, or a connection with the JSON that shows it.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedEntry<'b> {
    #[b(0)]
    key: &'b str,
    #[n(1)]
    members: Option<u64>,
    #[cbor(b(2), with = "minicbor::bytes")]
    json: Option<&'b [u8]>,
}

impl Page {
    pub fn save(&self) -> SavedPage<'_> {
        let Page {
            listed,
            limit,
            entries,
            bytes: _,
            more,
        } = self;
        SavedPage {
            connections: *listed == Listed::Connections,
            limit: *limit as u64,
            entries: entries.iter().map(SavedEntry::from).collect(),
            more: *more,
        }
    }

    /// # Errors
    /// It has more entries than it may have.
    pub fn restore(saved: SavedPage) -> Result<Page, SnapshotError> {
        let listed = if saved.connections {
            Listed::Connections
        } else {
            Listed::Channels
        };
        let mut page = Page::new(listed, size(saved.limit));
        for SavedEntry { key, members, json } in saved.entries {
            let value = match (members, json) {
                (Some(members), _) => EntryValue::Members(members),
                (None, json) => EntryValue::Json(json.unwrap_or(b"{}").into()),
            };
            let key = key.into();
            if !page.add(PageEntry { key, value }) {
                return Err(SnapshotError::new(
                    "a page with more entries than its limit",
                ));
            }
        }
        page.more = saved.more;
        Ok(page)
    }
}

impl<'b> From<&'b PageEntry> for SavedEntry<'b> {
    fn from(PageEntry { key, value }: &PageEntry) -> SavedEntry<'_> {
        let (members, json) = match value {
            EntryValue::Members(members) => (Some(*members), None),
            EntryValue::Json(json) => (None, Some(&**json)),
        };
        SavedEntry { key, members, json }
    }
}
