//! What several modules of redis save: addresses, the names of links, times.
//!
//! Owns: which times a snapshot may have. A time that has passed has not yet to come, and what is waited for is near: a
//! deadline beyond all bounds would be waited for without end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use minicbor::{Decode, Encode};

use super::dialogue::Duty;
use super::topology::LinkId;
use crate::clock::Millis;
use crate::config::RedisAddress;
use crate::effect::ShardId;
use crate::snapshot::{SnapshotError, size};
use crate::wire::cluster_view::ViewForm;

/// Longer than anything that redis is waited for, in milliseconds.
const FAR: Millis = 60_000;

/// A time that has passed.
///
/// # Errors
/// It is yet to come.
pub fn past(at: Millis, now: Millis) -> Result<Millis, SnapshotError> {
    if at <= now {
        Ok(at)
    } else {
        Err(SnapshotError::new(format!(
            "a past time that is in the future: {at} ms, at {now} ms"
        )))
    }
}

/// A time until which something waits.
///
/// # Errors
/// Nothing waits that long.
pub fn near(at: Millis, now: Millis) -> Result<Millis, SnapshotError> {
    if at <= now.saturating_add(FAR) {
        Ok(at)
    } else {
        Err(SnapshotError::new(format!(
            "a deadline that is too far off: {at} ms, at {now} ms"
        )))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SavedAddress {
    #[n(0)]
    Tcp(#[n(0)] String, #[n(1)] u16),
    #[n(1)]
    Unix(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
}

impl From<&RedisAddress> for SavedAddress {
    fn from(address: &RedisAddress) -> SavedAddress {
        match address {
            RedisAddress::Tcp { host, port } => SavedAddress::Tcp(host.clone(), *port),
            RedisAddress::Unix(path) => SavedAddress::Unix(path.as_os_str().as_bytes().to_vec()),
        }
    }
}

impl From<SavedAddress> for RedisAddress {
    fn from(saved: SavedAddress) -> RedisAddress {
        match saved {
            SavedAddress::Tcp(host, port) => RedisAddress::Tcp { host, port },
            SavedAddress::Unix(path) => RedisAddress::Unix(PathBuf::from(OsStr::from_bytes(&path))),
        }
    }
}

/// How a node is asked for its view of the cluster.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum SavedForm {
    #[n(0)]
    Shards,
    #[n(1)]
    Slots,
}

impl From<ViewForm> for SavedForm {
    fn from(form: ViewForm) -> SavedForm {
        match form {
            ViewForm::Shards => SavedForm::Shards,
            ViewForm::Slots => SavedForm::Slots,
        }
    }
}

impl From<SavedForm> for ViewForm {
    fn from(saved: SavedForm) -> ViewForm {
        match saved {
            SavedForm::Shards => ViewForm::Shards,
            SavedForm::Slots => ViewForm::Slots,
        }
    }
}

/// A link's name.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub enum SavedLinkId {
    #[n(0)]
    Publishing(#[n(0)] u16),
    #[n(1)]
    Listening(#[n(0)] u16),
    #[n(2)]
    Scout(#[n(0)] u64),
}

impl From<LinkId> for SavedLinkId {
    fn from(id: LinkId) -> SavedLinkId {
        match id {
            LinkId::Master(shard, Duty::Publish) => SavedLinkId::Publishing(shard.0),
            LinkId::Master(shard, Duty::Listen) => SavedLinkId::Listening(shard.0),
            LinkId::Scout(nth) => SavedLinkId::Scout(nth as u64),
        }
    }
}

impl From<SavedLinkId> for LinkId {
    fn from(saved: SavedLinkId) -> LinkId {
        match saved {
            SavedLinkId::Publishing(shard) => LinkId::Master(ShardId(shard), Duty::Publish),
            SavedLinkId::Listening(shard) => LinkId::Master(ShardId(shard), Duty::Listen),
            // Where it does not fit there is no such scout.
            SavedLinkId::Scout(nth) => LinkId::Scout(size(nth)),
        }
    }
}
