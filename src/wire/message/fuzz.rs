//! Fuzzing: what must hold for any stream, however it arrives. The target in `fuzz/` and the replayed corpus call it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a broken promise is to panic"
)]

use super::*;

/// An item with its bytes, to compare readings of the same stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OwnedItem {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Compressed(Opcode, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Reads `stream` as a connection does, in pieces whose sizes `piece` chooses. Returns what was heard, the violation
/// that ended it, and how many bytes were never used.
pub(super) fn read_all(
    stream: &[u8],
    max: usize,
    deflate: bool,
    mut piece: impl FnMut() -> usize,
) -> (Vec<OwnedItem>, Option<Violation>, usize) {
    let mut reader = Reader::default();
    let mut heard = Vec::new();
    let mut inbox = Vec::new();
    let mut arrived = 0;
    loop {
        let step = match reader.next(&mut inbox, max, deflate) {
            Ok(step) => step,
            Err(violation) => return (heard, Some(violation), 0),
        };
        let unused = &inbox[step.used..];
        assert!(
            unused == &stream[arrived - unused.len()..arrived],
            "changed"
        );
        if let Some(message) = &reader.message {
            let (has, owns) = (message.bytes.len(), message.bytes.capacity());
            let max = if message.compressed {
                deflate::bound(max)
            } else {
                max
            };
            assert!(has <= max && owns <= has.max(32) * 2, "{has} {owns}");
            // What was checked is not checked again.
            assert!(
                message.compressed || message.kind != Opcode::Text || has - message.checked < 4
            );
        }
        let bytes = |payload| match payload {
            Payload::In(range) => inbox[..step.used][range].to_vec(),
            Payload::Owned(bytes) => bytes,
        };
        let waits = step.item.is_none();
        heard.extend(step.item.map(|item| match item {
            Item::Text(payload) => OwnedItem::Text(bytes(payload)),
            Item::Binary(payload) => OwnedItem::Binary(bytes(payload)),
            Item::Compressed(kind, payload) => OwnedItem::Compressed(kind, bytes(payload)),
            Item::Ping(range) => OwnedItem::Ping(inbox[..step.used][range].to_vec()),
            Item::Pong => OwnedItem::Pong,
            Item::Close(code) => OwnedItem::Close(code),
        }));
        if let Some(OwnedItem::Close(_)) = heard.last() {
            return (heard, None, 0);
        }
        inbox.drain(..step.used);
        if waits {
            assert!(
                inbox.len() < 6 + frame::MAX_CONTROL,
                "{} unused",
                inbox.len()
            );
            if arrived == stream.len() {
                return (heard, None, inbox.len());
            }
            let end = stream.len().min(arrived + piece().max(1));
            inbox.extend_from_slice(&stream[arrived..end]);
            arrived = end;
        }
    }
}

/// Panics if a promise is broken.
///
/// The first byte chooses the size limit, the second the sizes of the pieces, the rest is the stream. It is read with
/// permessage-deflate and without.
pub fn fuzz(bytes: &[u8]) {
    let Some(([max, pieces], stream)) = bytes.split_first_chunk() else {
        return;
    };
    let max = usize::from(*max) * 16;
    for deflate in [false, true] {
        let whole = read_all(stream, max, deflate, || stream.len());
        for heard in &whole.0 {
            match heard {
                OwnedItem::Text(bytes) => {
                    assert!(bytes.len() <= max && std::str::from_utf8(bytes).is_ok())
                }
                OwnedItem::Binary(bytes) => assert!(bytes.len() <= max),
                OwnedItem::Compressed(_, bytes) => {
                    assert!(deflate && bytes.len() <= deflate::bound(max));
                }
                OwnedItem::Ping(bytes) => assert!(bytes.len() <= frame::MAX_CONTROL),
                OwnedItem::Pong | OwnedItem::Close(_) => {}
            }
        }
        let mut seed = u32::from(*pieces);
        let torn = read_all(stream, max, deflate, || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 28) as usize
        });
        assert_eq!(whole, torn);
        assert_eq!(whole, read_all(stream, max, deflate, || 1));
    }
}
