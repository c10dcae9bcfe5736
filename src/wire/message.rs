//! Messages (RFC 6455 sections 5.4 to 5.6, 7 and 8.1): a client's bytes in; texts, binaries, pings and closes out.
//! Compressed messages come out as they are ([`super::deflate`] inflates them).
//!
//! Owns: the message that is being assembled.
//! Knows: fragments, control frames between them, UTF-8, sizes, close codes.
//! Never knows: where bytes come from or go to, what a message says, what is answered.
//!
//! Decisions
//! - A message that lies whole in the input stays there, unmasked in place and named by its range, rather than a copy.
//!   It is the common case, and an idle connection then owns no buffer. Reconsider when a message must outlive the
//!   input.
//! - A frame that has only begun is taken in as it comes, so what stays unused is less than one header or control
//!   frame. Over waiting for the whole frame, because text is refused at its first wrong byte, and no large
//!   frame is in memory twice. Reconsider when another layer buffers whole frames anyway.
//! - Memory follows what has arrived (a `Vec`'s doubling), never what was announced, rather than reserving once: ten
//!   bytes of header must not reserve a gigabyte. The price is that a large message is copied twice on average.
//!   Reconsider when only authenticated clients may send.
//! - Text is a `Payload` of bytes that were checked, not a `str`: a range has no type to remember it by. Reconsider when a
//!   second check of the text is seen in a profile.

use super::deflate;
use super::frame::{self, Header, Opcode, Violation};
use std::ops::Range;

mod fuzz;
mod saved;

#[doc(hidden)]
pub use fuzz::fuzz;
pub use saved::SavedMessage;

/// What a client sent: one message, ping, pong or close.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// Valid UTF-8.
    Text(Payload),
    Binary(Payload),
    /// A text or a binary, compressed (RFC 7692 section 6).
    Compressed(Opcode, Payload),
    /// To be answered with a pong of these bytes of the input, 0 to 125.
    Ping(Range<usize>),
    Pong,
    /// The client's code, `None` if it gave none. Bytes behind it are ignored.
    Close(Option<u16>),
}

/// A message's bytes, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// They lie in the input that was given to [`Reader::next`].
    In(Range<usize>),
    /// They came in pieces.
    Owned(Vec<u8>),
}

impl Payload {
    /// The bytes themselves, `input` being what they were found in.
    pub fn of<'p>(&'p self, input: &'p [u8]) -> &'p [u8] {
        match self {
            Payload::In(range) => input.get(range.clone()).unwrap_or_default(),
            Payload::Owned(bytes) => bytes,
        }
    }
}

/// How far [`Reader::next`] came.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are understood, and not to be passed again; an item's range lies in them.
    pub used: usize,
    /// `None`: more bytes are needed. Pass the unused ones again, with more behind them.
    pub item: Option<Item>,
}

/// Reads one client's messages. Owns memory only while a message has begun and not ended.
#[derive(Debug, Default)]
pub struct Reader {
    message: Option<Box<Assembly>>,
}

const _: () = assert!(size_of::<Reader>() <= 16);

/// A message of which the end has not arrived.
#[derive(Debug)]
struct Assembly {
    /// [`Opcode::Text`] or [`Opcode::Binary`].
    kind: Opcode,
    compressed: bool,
    /// The frame at hand is the message's last.
    last: bool,
    /// The frame's mask, rotated to its next byte.
    mask: [u8; 4],
    /// Bytes of the frame that have not arrived.
    left: usize,
    /// What has arrived, unmasked.
    bytes: Vec<u8>,
    /// This many of `bytes` are valid UTF-8; up to three more begin a character. Counted in a plain text only.
    checked: usize,
}

impl Reader {
    /// Understands `input` up to the first item in it, unmasking what it uses in place; what it does not use is
    /// unchanged.
    ///
    /// `max`: bytes that one message may have. `deflate`: permessage-deflate was negotiated. An error names the close
    /// code; after it, as after a close, the reader is not to be called again.
    #[inline]
    pub fn next(&mut self, input: &mut [u8], max: usize, deflate: bool) -> Result<Step, Violation> {
        let mut used = 0;
        let item = self.item(input, max, deflate, &mut used)?;
        Ok(Step { used, item })
    }

    /// Bytes of the message that has begun.
    pub fn buffered(&self) -> usize {
        self.message.as_ref().map_or(0, |m| m.bytes.len())
    }

    fn item(
        &mut self,
        input: &mut [u8],
        max: usize,
        deflate: bool,
        used: &mut usize,
    ) -> Result<Option<Item>, Violation> {
        loop {
            if let Some(message) = &mut self.message {
                let rest = input.get_mut(*used..).unwrap_or_default();
                *used = used.saturating_add(message.take(rest)?);
                if message.left > 0 {
                    return Ok(None);
                }
            }
            if let Some(message) = self.message.take_if(|message| message.last) {
                return Ok(Some(message.ended()));
            }

            let rest = input.get_mut(*used..).unwrap_or_default();
            let Some(header) = frame::parse(rest) else {
                return Ok(None);
            };
            let opcode = self.judge(&header, max, deflate)?;
            let (Some(len), Some(mask)) = (header.len, header.mask) else {
                return Ok(None);
            };
            // Judged to be at most the room there is, or 125.
            let len = len as usize;
            let start = used.saturating_add(header.size);
            let end = start.saturating_add(len);
            let payload = rest.get_mut(header.size..);
            let payload = payload.and_then(|payload| payload.get_mut(..len));

            if opcode.is_control() {
                let Some(payload) = payload else {
                    return Ok(None);
                };
                *used = end;
                return control(opcode, payload, mask, start..end).map(Some);
            }

            if let Some(payload) = payload
                && header.fin
                && self.message.is_none()
            {
                *used = end;
                let compressed = header.is_compressed();
                return whole(opcode, compressed, payload, mask, start..end).map(Some);
            }

            *used = start;
            self.begin_frame(opcode, &header, mask, len);
        }
    }

    /// A frame of `len` bytes begins, which has not arrived whole or is not a whole message.
    fn begin_frame(&mut self, kind: Opcode, header: &Header, mask: [u8; 4], len: usize) {
        let message = self
            .message
            .get_or_insert_with(|| Box::new(Assembly::new(kind, header.is_compressed())));
        message.last = header.fin;
        message.mask = mask;
        message.left = len;
    }

    /// Judges a header, with what has come of the message.
    #[inline]
    fn judge(&self, header: &Header, max: usize, deflate: bool) -> Result<Opcode, Violation> {
        let room = match &self.message {
            None if !header.is_compressed() => max,
            _ => self.room(header, max),
        };
        frame::judge(header, self.message.is_some(), room, deflate)
    }

    /// Bytes that the message may still grow by.
    #[cold]
    fn room(&self, header: &Header, max: usize) -> usize {
        let (compressed, held) = match &self.message {
            None => (header.is_compressed(), 0),
            Some(message) => (message.compressed, message.bytes.len()),
        };
        let most = if compressed { deflate::bound(max) } else { max };
        most.saturating_sub(held)
    }
}

/// A control frame, whose payload lies at `range` of the input.
fn control(
    opcode: Opcode,
    payload: &mut [u8],
    mask: [u8; 4],
    range: Range<usize>,
) -> Result<Item, Violation> {
    frame::unmask(payload, mask);
    Ok(match opcode {
        Opcode::Ping => Item::Ping(range),
        Opcode::Pong => Item::Pong,
        _ => Item::Close(close_code(payload)?),
    })
}

/// A message in one frame, whose payload lies at `range` of the input.
#[inline]
fn whole(
    kind: Opcode,
    compressed: bool,
    payload: &mut [u8],
    mask: [u8; 4],
    range: Range<usize>,
) -> Result<Item, Violation> {
    let is_ascii = frame::unmask(payload, mask);
    if compressed {
        return Ok(Item::Compressed(kind, Payload::In(range)));
    }
    if kind == Opcode::Text && !is_ascii && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(Violation::BadText);
    }
    Ok(plain(kind, Payload::In(range)))
}

fn plain(kind: Opcode, payload: Payload) -> Item {
    match kind {
        Opcode::Text => Item::Text(payload),
        _ => Item::Binary(payload),
    }
}

impl Assembly {
    fn new(kind: Opcode, compressed: bool) -> Self {
        Self {
            kind,
            compressed,
            last: false,
            mask: [0; 4],
            left: 0,
            bytes: Vec::new(),
            checked: 0,
        }
    }

    /// Takes in what is there of the frame at hand. Returns how many bytes that was.
    fn take(&mut self, input: &mut [u8]) -> Result<usize, Violation> {
        let count = self.left.min(input.len());
        let piece = input.get_mut(..count).unwrap_or_default();
        frame::unmask(piece, self.mask);
        self.mask = frame::advance(self.mask, count);
        self.left = self.left.saturating_sub(count);
        self.bytes.extend_from_slice(piece);
        if self.is_plain_text() {
            self.check()?;
        }
        Ok(count)
    }

    fn is_plain_text(&self) -> bool {
        self.kind == Opcode::Text && !self.compressed
    }

    /// All of it has come.
    fn ended(self) -> Item {
        let payload = Payload::Owned(self.bytes);
        if self.compressed {
            Item::Compressed(self.kind, payload)
        } else {
            plain(self.kind, payload)
        }
    }

    /// RFC 6455 section 8.1, as early as possible: what no further byte can make valid is refused now.
    fn check(&mut self) -> Result<(), Violation> {
        let ended = self.last && self.left == 0;
        let unchecked = self.bytes.get(self.checked..).unwrap_or_default();
        match simdutf8::compat::from_utf8(unchecked) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() && !ended => {
                self.checked = self.checked.saturating_add(error.valid_up_to());
            }
            Err(_) => return Err(Violation::BadText),
        }
        Ok(())
    }
}

/// The code in a close frame's payload, judged (RFC 6455 sections 5.5.1 and 7.4, `docs/protocol.md#violations`).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(Violation::HalfCode)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::BadCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::BadReason);
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests;
