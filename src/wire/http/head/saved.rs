//! A head in a snapshot: its bytes, of which all else follows.

use super::{Head, parse_head};
use crate::snapshot::SnapshotError;

impl Head {
    /// The head's bytes, as they were sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// # Errors
    /// The bytes are not a head, or more than one.
    pub fn restore(bytes: &[u8]) -> Result<Head, SnapshotError> {
        match parse_head(bytes) {
            Ok(Some((head, used))) if used == bytes.len() => Ok(head),
            _ => Err(SnapshotError::new("invalid request head")),
        }
    }
}
