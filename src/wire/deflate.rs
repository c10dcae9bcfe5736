//! Compression of single messages (RFC 7692 sections 6 and 7.2), without a window that outlives one.
//!
//! Owns: one [`Deflater`] and one [`Inflater`] for all connections, each with a buffer that is used again. Knows: DEFLATE's
//! blocks (RFC 1951), as far as to put bytes around what is deflated. Never knows: frames, what a connection has agreed to,
//! whether compressing pays.
//!
//! Decisions
//! - zlib-rs itself rather than flate2 with zlib-rs below it: they are equally fast, and flate2 adds only a layer.
//!   Reconsider when zlib-rs changes its interface often.
//! - Level 3 of 9 rather than the usual 6. JSON gets nearly as small, and large content occupies the loop for a fifth
//!   of the time (`docs/performance.md#compression`). Reconsider when content travels over links that are paid by the
//!   byte.
//! - Content is deflated once, and its envelope is put around it in two stored blocks, rather than deflating it again
//!   with its envelope. That costs a few bytes and no time. It is possible because deflated content ends in an empty
//!   stored block, on a byte's boundary, and refers to nothing before it. Reconsider when envelopes become large enough
//!   to be worth compressing.
//! - A message is inflated when it is complete, rather than inflating its parts as they arrive. That would take a
//!   window of 40 KiB for each message that has begun, and seven bytes begin one. Reconsider when messages have many
//!   megabytes.

use simdutf8::compat::from_utf8;
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use super::frame::Violation;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// See the decisions.
const LEVEL: i32 = 3;

/// zlib's memory level, of 9; 8 is usual. Between two contents the compressor's memory leaves the processor's caches,
/// so less of it is faster. The compressed form is hardly larger.
const MEM_LEVEL: i32 = 5;

/// The largest window, in bits: what no agreement has made smaller.
const WINDOW_BITS: u8 = 15;

/// The same for a stream without a header, as zlib has it.
const HEADERLESS: i32 = -(WINDOW_BITS as i32);

/// What an empty stored block ends with. RFC 7692 section 7.2.1: it is left out at a message's end.
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// The largest stored block (RFC 1951 section 3.2.4).
const MAX_STORED: usize = 0xFFFF;

/// Buffers up to this size are kept, so that a steady state allocates nothing. Larger ones are freed after a huge
/// message.
const KEPT: usize = 64 * 1024;

/// Bytes that the compressed form of a message of `len` bytes may have. Incompressible data grows a little (zlib's
/// bound for the worst settings), and by a few bytes for each part that is flushed by itself.
pub fn bound(len: usize) -> usize {
    len.saturating_add(len / 8).saturating_add(64)
}

/// Compresses content, one at a time.
pub struct Deflater {
    stream: Deflate,
    out: Vec<u8>,
}

impl Default for Deflater {
    fn default() -> Self {
        Deflater {
            stream: compressor(),
            out: Vec::new(),
        }
    }
}

fn compressor() -> Deflate {
    Deflate::new_with_config(DeflateConfig {
        level: LEVEL,
        window_bits: HEADERLESS,
        mem_level: MEM_LEVEL,
        ..DeflateConfig::default()
    })
}

impl Deflater {
    /// Compresses content to the payload of a message of its own. `None`: that would not be smaller.
    pub fn deflate(&mut self, content: &[u8]) -> Option<&[u8]> {
        // Room for all of it, whether it is smaller or not. If a compressor of zlib-rs 0.6.8 is reset with output
        // unwritten, that output goes on taking room in its buffer. Once none is left, it panics.
        let most = bound(content.len());
        if self.out.len() < most {
            self.out.resize(most, 0);
        }
        let out = self.out.get_mut(..most)?;
        self.stream.reset();
        let done = self.stream.compress(content, out, DeflateFlush::SyncFlush);
        let len = usize::try_from(self.stream.total_out()).ok()?;
        // With room left everything is written, and ends in an empty stored block.
        if done != Ok(Status::Ok) || len >= most {
            self.stream = compressor();
            return None;
        }
        let deflated = self.out.get(..len)?.strip_suffix(&TAIL)?;
        (deflated.len() < content.len()).then_some(deflated)
    }

    /// Gives back what only large content needed.
    pub fn rest(&mut self) {
        give_back(&mut self.out);
    }
}

fn give_back(buffer: &mut Vec<u8>) {
    if buffer.len() > KEPT {
        buffer.truncate(KEPT);
        buffer.shrink_to_fit();
    }
}

/// A deflated content within an envelope, to be written as one message's payload. Before and behind it stand stored blocks,
/// so neither is longer than [`MAX_STORED`].
#[derive(Clone, Copy, Debug)]
pub struct Enveloped<'a> {
    before: &'a [u8],
    deflated: &'a [u8],
    behind: &'a [u8],
}

impl<'a> Enveloped<'a> {
    /// An envelope around deflated content. `deflated` is what [`Deflater::deflate`] made of the content. `None`: the
    /// envelope does not fit.
    pub fn new(before: &'a [u8], deflated: &'a [u8], behind: &'a [u8]) -> Option<Enveloped<'a>> {
        let fits = before.len() <= MAX_STORED && behind.len() <= MAX_STORED;
        fits.then_some(Enveloped {
            before,
            deflated,
            behind,
        })
    }

    /// The length of the payload.
    pub fn size(&self) -> usize {
        AROUND
            .saturating_add(self.before.len())
            .saturating_add(self.deflated.len())
            .saturating_add(self.behind.len())
    }

    /// Appends the payload.
    pub fn push(&self, out: &mut Vec<u8>) {
        push_stored(out, self.before);
        out.extend_from_slice(self.deflated);
        out.extend_from_slice(&TAIL);
        push_stored(out, self.behind);
        out.push(0);
    }
}

/// Bytes of a stored block's head, where it begins on a byte's boundary.
const STORED_HEAD: usize = 5;

/// Bytes of an enveloped payload besides content and envelope. These are the heads of two stored blocks, the tail of
/// the deflated content, and the first byte of the last block.
const AROUND: usize = STORED_HEAD * 2 + TAIL.len() + 1;

/// Appends a stored block, which begins on a byte's boundary (RFC 1951 section 3.2.4).
fn push_stored(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len() as u16;
    out.push(0);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(!len).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Inflates messages, one at a time.
pub struct Inflater {
    stream: Inflate,
    out: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater {
            stream: Inflate::new(false, WINDOW_BITS),
            out: Vec::new(),
        }
    }
}

/// A message that was inflated, in the inflater's buffer. To be given back with [`Inflater::keep`].
#[derive(Debug)]
pub struct Inflated {
    buffer: Vec<u8>,
    len: usize,
}

impl Inflated {
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

/// The first bytes that the buffer has: most messages fit in, and a bomb's size is looked at often.
const FIRST: usize = 4096;

/// RFC 7692 section 7.2.2: what was left out is appended, and behind it an empty block marked as the last one. It is
/// reached only if everything before it was complete.
const END: [u8; 9] = [0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF];

impl Inflater {
    /// Inflates a message's payload. `max`: bytes that it may have, looked at as it grows.
    ///
    /// # Errors
    /// [`Violation::TooBig`]; [`Violation::BadDeflate`] what cannot be inflated; [`Violation::CutDeflate`] what ends early;
    /// and, in a text, [`Violation::BadText`].
    pub fn inflate(
        &mut self,
        payload: &[u8],
        text: bool,
        max: usize,
    ) -> Result<Inflated, Violation> {
        self.stream.reset(false);
        let mut progress = InflatedText::default();
        let done = self.payload(payload, &mut progress, text, max);
        let done = done.and_then(|ended| if ended { Ok(()) } else { self.end() });
        let buffer = std::mem::take(&mut self.out);
        let inflated = Inflated {
            buffer,
            len: progress.len,
        };
        match done {
            Ok(()) if !text || progress.checked == progress.len => Ok(inflated),
            failed => {
                self.keep(inflated);
                failed.and(Err(Violation::BadText))
            }
        }
    }

    /// Takes back what was inflated.
    pub fn keep(&mut self, inflated: Inflated) {
        self.out = inflated.buffer;
        give_back(&mut self.out);
    }

    /// Inflates everything that the message has. Returns whether its last block was marked as the last one, at its very end.
    fn payload(
        &mut self,
        payload: &[u8],
        progress: &mut InflatedText,
        text: bool,
        max: usize,
    ) -> Result<bool, Violation> {
        let mut rest = payload;
        loop {
            if progress.len == self.out.len() {
                self.grow(max);
            }
            // One byte beyond the limit shows that it is exceeded. The rest of the buffer's capacity is not used, so
            // that the same payload breaks the same rule whatever came before.
            let end = self.out.len().min(max.saturating_add(1));
            let room = self.out.get_mut(progress.len..end).unwrap_or_default();
            let offered = room.len();
            let before = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(rest, room, InflateFlush::NoFlush);
            let used = self.stream.total_in().saturating_sub(before.0) as usize;
            let made = self.stream.total_out().saturating_sub(before.1) as usize;
            rest = rest.get(used..).unwrap_or_default();
            progress.len = progress.len.saturating_add(made);
            if text {
                progress.check(&self.out)?;
            }
            if progress.len > max {
                return Err(Violation::TooBig);
            }
            match status.map_err(|_| Violation::BadDeflate)? {
                Status::StreamEnd if rest.is_empty() => return Ok(true),
                // RFC 7692 section 7.2.3.4: further blocks may follow on the next byte's boundary.
                Status::StreamEnd => self.stream.reset(false),
                // With room left there is nothing more in what was given.
                _ if rest.is_empty() && made < offered => return Ok(false),
                _ if used == 0 && made == 0 => return Err(Violation::BadDeflate),
                _ => {}
            }
        }
    }

    /// Looks whether the message was complete.
    fn end(&mut self) -> Result<(), Violation> {
        let before = (self.stream.total_in(), self.stream.total_out());
        let status = self
            .stream
            .decompress(&END, &mut [0], InflateFlush::NoFlush);
        let used = self.stream.total_in().saturating_sub(before.0) as usize;
        let made = self.stream.total_out().saturating_sub(before.1);
        match status {
            Ok(Status::StreamEnd) if used == END.len() && made == 0 => Ok(()),
            _ => Err(Violation::CutDeflate),
        }
    }

    /// Makes room, at most for one byte more than there may be.
    fn grow(&mut self, max: usize) {
        let len = self.out.len().saturating_mul(2).max(FIRST);
        let most = max.saturating_add(1).max(self.out.len().saturating_add(1));
        self.out.resize(len.min(most), 0);
    }
}

/// How far a message has come.
#[derive(Debug, Default)]
struct InflatedText {
    /// Bytes that were inflated.
    len: usize,
    /// This many of them are valid UTF-8; up to three more begin a character. Counted in a text only.
    checked: usize,
}

impl InflatedText {
    /// RFC 6455 section 8.1, as early as possible: what no further byte can make valid is refused now.
    fn check(&mut self, out: &[u8]) -> Result<(), Violation> {
        let unchecked = out.get(self.checked..self.len).unwrap_or_default();
        match from_utf8(unchecked) {
            Ok(_) => self.checked = self.len,
            Err(error) if error.error_len().is_none() => {
                self.checked = self.checked.saturating_add(error.valid_up_to());
            }
            Err(_) => return Err(Violation::BadText),
        }
        Ok(())
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
