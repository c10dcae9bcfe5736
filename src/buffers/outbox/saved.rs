//! An outbox in a snapshot: what the kernel has not taken.

use minicbor::{Decode, Encode};

use super::Outbox;
use crate::buffers::queued::Piece;
use crate::buffers::runs::{RunNumbers, Runs, SavedSlice};
use crate::snapshot::{SnapshotError, is_default};

/// What waits to be sent to one connection.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedOutbox {
    /// In order. What was sent is not among them.
    #[n(0)]
    pieces: Vec<SavedPiece>,
    #[cbor(n(1), default, skip_if = "is_default")]
    blocked: bool,
}

#[derive(Debug, Encode, Decode)]
enum SavedPiece {
    #[n(0)]
    Own(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(1)]
    Shared(#[n(0)] SavedSlice),
}

impl Outbox {
    /// The outbox in a snapshot. `None`: nothing waits.
    pub fn save(&self, runs: &RunNumbers) -> Option<SavedOutbox> {
        let waiting = self.0.as_ref()?;
        let mut pieces = Vec::new();
        for piece in &waiting.pieces {
            match piece {
                Piece::Own { bytes, sent } => {
                    let unsent = bytes.get(*sent..).unwrap_or_default();
                    match pieces.last_mut() {
                        // A piece that is partly sent was not appended to.
                        Some(SavedPiece::Own(before)) => before.extend_from_slice(unsent),
                        _ => pieces.push(SavedPiece::Own(unsent.to_vec())),
                    }
                }
                Piece::Shared(slice) => pieces.push(SavedPiece::Shared(runs.slice(*slice))),
            }
        }
        Some(SavedOutbox {
            pieces,
            blocked: waiting.blocked,
        })
    }

    /// Restores it, and counts it in the sum of all.
    ///
    /// # Errors
    /// It refers to what is in no run. What it holds by then is still held.
    pub fn restore(saved: SavedOutbox, runs: &mut Runs) -> Result<Outbox, SnapshotError> {
        let mut outbox = Outbox::default();
        for piece in saved.pieces {
            match piece {
                SavedPiece::Own(more) => outbox.own(|bytes| bytes.extend_from_slice(&more)),
                SavedPiece::Shared(slice) => {
                    let slice = runs.restored(&slice)?;
                    if !slice.is_empty() {
                        outbox.share(slice, runs);
                    }
                }
            }
        }
        if saved.blocked {
            outbox.block(runs)
        } else {
            outbox.count(runs)
        }
        Ok(outbox)
    }
}
