//! A message of which the end has not arrived, in a snapshot.

use minicbor::{Decode, Encode};

use super::{Assembly, Opcode, Reader};
use crate::snapshot::{SnapshotError, is_default};
use crate::wire::deflate;

/// A message of which the end has not arrived.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedMessage {
    #[cbor(n(0), default, skip_if = "is_default")]
    binary: bool,
    #[cbor(n(1), default, skip_if = "is_default")]
    compressed: bool,
    /// The frame at hand is the message's last.
    #[cbor(n(2), default, skip_if = "is_default")]
    last: bool,
    /// The frame's mask, rotated to its next byte.
    #[cbor(n(3), with = "minicbor::bytes")]
    mask: [u8; 4],
    /// Bytes of the frame that have not arrived.
    #[n(4)]
    left: u64,
    /// What has arrived, unmasked.
    #[cbor(n(5), with = "minicbor::bytes")]
    bytes: Vec<u8>,
}

impl Reader {
    /// The reader in a snapshot. `None`: no message has begun.
    pub fn save(&self) -> Option<SavedMessage> {
        let message = self.message.as_ref()?;
        Some(SavedMessage {
            binary: message.kind == Opcode::Binary,
            compressed: message.compressed,
            last: message.last,
            mask: message.mask,
            left: message.left as u64,
            bytes: message.bytes.clone(),
        })
    }

    /// Restores a reader. `max`: bytes that a message may have.
    ///
    /// # Errors
    /// The message is longer than that, or a text that is not UTF-8.
    pub fn restore(saved: Option<SavedMessage>, max: usize) -> Result<Reader, SnapshotError> {
        let Some(saved) = saved else {
            return Ok(Reader::default());
        };
        let most = if saved.compressed {
            deflate::bound(max)
        } else {
            max
        };
        let room = most.checked_sub(saved.bytes.len());
        let left = usize::try_from(saved.left).ok();
        let left = left.filter(|left| room.is_some_and(|room| *left <= room));
        let left = left.ok_or(SnapshotError::new("a message over --max-message-size"))?;
        let kind = if saved.binary {
            Opcode::Binary
        } else {
            Opcode::Text
        };
        let mut message = Assembly {
            last: saved.last,
            mask: saved.mask,
            left,
            bytes: saved.bytes,
            ..Assembly::new(kind, saved.compressed)
        };
        if message.is_plain_text() && message.check().is_err() {
            return Err(SnapshotError::new("a text message that is not UTF-8"));
        }
        Ok(Reader {
            message: Some(Box::new(message)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_have_begun_is_refused() {
        let message = |compressed, left, bytes: &[u8]| SavedMessage {
            binary: false,
            compressed,
            last: false,
            mask: [1; 4],
            left,
            bytes: bytes.into(),
        };
        let table = [
            (message(false, 5, b"hello"), true),
            (message(false, 5, "héé".as_bytes()), true),
            // A text may end within a character, and compressed bytes are not text.
            (message(false, 5, b"h\xC3"), true),
            (message(true, 5, b"\xFF\xFE"), true),
            (message(false, 5, b"h\xFF"), false),
            (message(false, 6, b"hello"), false),
            (message(false, u64::MAX, b"hello"), false),
            (message(false, 0, b"hello, world"), false),
            (message(true, 0, &[1; 76]), false),
        ];
        for (saved, legal) in table {
            let text = format!("{saved:?}");
            let restored = Reader::restore(Some(saved), 10);
            assert_eq!(restored.is_ok(), legal, "{text}");
        }
    }
}
