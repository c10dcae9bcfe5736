//! What waits in an outbox: pieces in order, and their sums.

use std::collections::VecDeque;

use super::slice::{Slice, Waits};

#[derive(Debug, Default)]
pub(super) struct Queued {
    pub pieces: VecDeque<Piece>,
    pub bytes: usize,
    /// Of these, the connection's own.
    pub own: usize,
    /// The kernel took less than it was offered. The poll reports when it has room.
    pub blocked: bool,
    /// The part of this that the sum in [`Runs`] includes.
    pub counted: Waits,
    /// Allocated and empty, for the next bytes of the connection's own.
    room: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Piece {
    /// The connection's own: answers, pongs, closes.
    Own { bytes: Vec<u8>, sent: usize },
    /// Part of a shared run; one holder of it.
    Shared(Slice),
}

/// Bytes allocated for a connection's own at first: most answers to commands fit.
const USUAL_ANSWER: usize = 64;
/// Larger room is not kept for the next answer: most answers to requests fit.
const LARGEST_ROOM: usize = 512;
/// A queue with room for more pieces is not kept.
const MOST_PIECES: usize = 8;

impl Queued {
    /// The connection's own bytes at the end of the queue. A piece that is partly sent does not grow. Otherwise the front
    /// of a queue that is never empty would never be freed.
    pub fn last_own(&mut self) -> Option<&mut Vec<u8>> {
        if !matches!(self.pieces.back(), Some(Piece::Own { sent: 0, .. })) {
            let mut bytes = std::mem::take(&mut self.room);
            bytes.reserve(USUAL_ANSWER);
            self.pieces.push_back(Piece::Own { bytes, sent: 0 });
        }
        match self.pieces.back_mut() {
            Some(Piece::Own { bytes, .. }) => Some(bytes),
            _ => None,
        }
    }

    /// Takes the first piece off, which is sent. Its room is kept for the next answer.
    pub fn drop_first(&mut self) -> Option<Piece> {
        let mut first = self.pieces.pop_front();
        if let Some(Piece::Own { bytes, .. }) = &mut first
            && bytes.capacity() <= LARGEST_ROOM
        {
            self.room = std::mem::take(bytes);
            self.room.clear();
        }
        first
    }

    /// Makes an empty queue ready for another connection. Returns whether it is small enough to be kept.
    pub fn renew(&mut self) -> bool {
        (self.blocked, self.counted) = (false, Waits::default());
        self.bytes == 0 && self.pieces.is_empty() && self.pieces.capacity() <= MOST_PIECES
    }
}
