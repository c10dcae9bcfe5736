//! What must hold of any answer that is unfolded, for fuzzing and for tests.
//!
//! Owns: nothing. Knows: that the pieces in which an answer comes change nothing. Never knows: a verdict.

use super::Unfold;

/// An answer that comes in pieces of this size, unfolded, as the transport does it.
pub(super) fn unfolded(answer: &[u8], piece: usize) -> Vec<u8> {
    let mut unfold = Unfold::default();
    let mut read = Vec::new();
    for piece in answer.chunks(piece.max(1)) {
        let mut room = vec![0; piece.len() + 2];
        let held = unfold.put_back(&mut room);
        room.truncate(held);
        room.extend_from_slice(piece);
        let ready = unfold.apply(&mut room);
        room.truncate(ready);
        read.extend_from_slice(&room);
    }
    read.extend_from_slice(unfold.held);
    read
}

/// What must hold for any answer; the fuzz target and the replayed corpus call it. Panics where it does not.
///
/// The second byte is the size of the pieces in which the rest, the answer, arrives.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Some(([_, piece], answer)) = bytes.split_first_chunk() else {
        return;
    };
    let whole = unfolded(answer, answer.len());
    assert_eq!(whole, unfolded(answer, usize::from(*piece)));
    assert_eq!(whole.len(), answer.len());
    for (after, before) in whole.iter().zip(answer) {
        assert!(after == before || *after == b' ' && matches!(before, b'\r' | b'\n'));
    }
}
