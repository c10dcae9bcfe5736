//! Fuzzing: what must hold for any bytes from a cluster or a sentinel. The target in `fuzz/` and the replayed corpus call
//! it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a broken promise is to panic"
)]

use super::*;
use crate::wire::cluster_view::{ViewAnswer, ViewForm, read_view};

/// Panics if a promise is broken. The first byte chooses what is read.
pub fn fuzz(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    match choice % 4 {
        0 => whole(bytes, |bytes| read_view(ViewForm::Shards, bytes)),
        1 => whole(bytes, |bytes| read_view(ViewForm::Slots, bytes)),
        2 => whole(bytes, read_master),
        _ => {
            let words = String::from_utf8_lossy(bytes);
            if let ClusterError::Moved(slot, address) = ClusterError::parse(&words) {
                assert!(slot < HASH_SLOTS && address.is_none_or(|address| address.port != 0));
            }
            let _ = switched("mymaster", bytes);
        }
    }
    if let Ok(Some((ViewAnswer::View(view), _))) = read_view(ViewForm::Shards, bytes) {
        let slots = view.iter().flat_map(|shard| &shard.slots);
        assert!(
            slots
                .clone()
                .all(|slots| slots.start() <= slots.end() && *slots.end() < HASH_SLOTS)
        );
    }
}

/// Nothing less than the whole of a reply means anything, and what follows changes nothing.
fn whole<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Malformed>,
) {
    if let Ok(Some((found, used))) = read(bytes) {
        assert!(used > 0 && used <= bytes.len());
        assert_eq!(read(&bytes[..used - 1]), Ok(None));
        assert_eq!(read(&bytes[..used]), Ok(Some((found, used))));
    }
}
