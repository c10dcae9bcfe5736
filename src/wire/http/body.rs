//! A request's body: how its end is found, and its bytes without the framing (RFC 9112 6 and 7).

use super::reply::{Refusal, Status, bad_request};
use super::{MAX_HEAD, is_text, is_token_byte};

mod saved;

pub use saved::{SavedBody, SavedFraming};

/// Bytes that the chunk extensions and trailers of one body may take. They are read and discarded, so the limit only
/// bounds useless reading. It is that of a head, which holds similar data.
pub const MAX_ASIDE: usize = MAX_HEAD;

/// What a client that sent `Expect: 100-continue` waits for (RFC 9110 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the end of a request's body is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes. A number that no `u64` holds is `u64::MAX`: well-formed, and over any limit.
    Length(u64),
    Chunked,
}

impl Framing {
    /// Whether a body is announced that is longer than nothing.
    pub fn announces_body(self) -> bool {
        !matches!(self, Framing::None | Framing::Length(0))
    }

    /// The body, if `rest` (what follows the head) holds all of it and it is within `limit` bytes: the common case,
    /// which needs no copy. `None`: use a [`Body`], which also reports errors.
    pub fn whole(self, rest: &[u8], limit: u64) -> Option<&[u8]> {
        match self {
            Framing::None => rest.get(..0),
            Framing::Length(length) if length <= limit => rest.get(..usize::try_from(length).ok()?),
            Framing::Length(_) | Framing::Chunked => None,
        }
    }
}

/// A body on its way in: how much of it has come, and what must come next.
#[derive(Debug)]
pub struct Body {
    next: Next,
    /// Bytes of content known to be coming, or come.
    announced: u64,
    /// Bytes of chunk extensions and trailers so far.
    aside: usize,
}

/// What must come next (RFC 9112 7.1). A number is a chunk's size, or what is left of it.
#[derive(Clone, Copy, Debug)]
enum Next {
    Content(u64),
    Size { digits: u8, size: u64 },
    Gap(u64),
    Extension(u64),
    SizeLf(u64),
    Chunk(u64),
    ChunkCr,
    ChunkLf,
    TrailerLine,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Nothing,
}

/// What [`Body::feed`] made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyStep {
    /// Bytes of the input that belong to the body. Less than all of it only where the body is complete.
    pub used: usize,
    /// Whether the body is all there.
    pub complete: bool,
}

impl Body {
    pub fn new(framing: Framing) -> Body {
        let (next, announced) = match framing {
            Framing::None => (Next::Nothing, 0),
            Framing::Length(length) => (Next::Content(length), length),
            Framing::Chunked => (Next::Size { digits: 0, size: 0 }, 0),
        };
        Body {
            next,
            announced,
            aside: 0,
        }
    }

    /// Takes what belongs to the body from the start of `input`. Its content is appended to `keep`, or discarded. No
    /// memory is allocated for what is only announced. Feeding nothing checks an announced length before [`CONTINUE`]
    /// is sent.
    ///
    /// # Errors
    /// `413`: more than `limit` bytes of content are announced. `400`: the chunks are malformed, or carry over
    /// [`MAX_ASIDE`] bytes of extensions and trailers. After either, the end of the body is unknown.
    pub fn feed(
        &mut self,
        input: &[u8],
        mut keep: Option<&mut Vec<u8>>,
        limit: u64,
    ) -> Result<BodyStep, Refusal> {
        let mut rest = input;
        let complete = loop {
            if self.announced > limit {
                return Err(Refusal::new(
                    Status::ContentTooLarge,
                    "body_too_large",
                    format!("the body is over {limit} bytes: send less at a time"),
                ));
            }
            match (self.next, rest) {
                (Next::Nothing, _) | (Next::Content(0), _) => break true,
                (_, []) => break false,
                (Next::Content(left) | Next::Chunk(left), _) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX);
                    let (content, after) = rest.split_at_checked(here).unwrap_or((rest, &[]));
                    if let Some(keep) = keep.as_deref_mut() {
                        keep.extend_from_slice(content);
                    }
                    rest = after;
                    let left = left.saturating_sub(content.len() as u64);
                    self.next = match self.next {
                        Next::Content(_) => Next::Content(left),
                        _ if left == 0 => Next::ChunkCr,
                        _ => Next::Chunk(left),
                    };
                }
                (_, [byte, after @ ..]) => {
                    rest = after;
                    self.next = self.step(*byte)?;
                }
            }
        };
        Ok(BodyStep {
            used: input.len().saturating_sub(rest.len()),
            complete,
        })
    }

    /// One byte between the chunks.
    fn step(&mut self, byte: u8) -> Result<Next, Refusal> {
        let next = match (self.next, byte) {
            // 16 digits fill a u64, and no more of them are taken, zeros or not.
            (Next::Size { digits: 0..16, .. }, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (Next::Size { digits: 1.., size }, b'\r') => Next::SizeLf(size),
            (Next::Size { digits: 1.., size } | Next::Gap(size), b';') => Next::Extension(size),
            (Next::Size { digits: 1.., size } | Next::Gap(size), b' ' | b'\t') => Next::Gap(size),
            (Next::Extension(size), b'\r') => Next::SizeLf(size),
            (Next::Extension(size), _) if is_text(byte) => Next::Extension(size),
            (Next::SizeLf(0), b'\n') => Next::TrailerLine,
            (Next::SizeLf(size), b'\n') => {
                self.announced = self.announced.saturating_add(size);
                Next::Chunk(size)
            }
            (Next::ChunkCr, b'\r') => Next::ChunkLf,
            (Next::ChunkLf, b'\n') => Next::Size { digits: 0, size: 0 },
            (Next::TrailerLine, b'\r') => Next::LastLf,
            (Next::TrailerLine | Next::TrailerName, _) if is_token_byte(byte) => Next::TrailerName,
            (Next::TrailerName, b':') => Next::TrailerValue,
            (Next::TrailerValue, b'\r') => Next::TrailerLf,
            (Next::TrailerValue, _) if is_text(byte) => Next::TrailerValue,
            (Next::TrailerLf, b'\n') => Next::TrailerLine,
            (Next::LastLf, b'\n') => Next::Nothing,
            _ => return Err(self.malformed(byte)),
        };
        if let Next::Gap(_) | Next::Extension(_) | Next::TrailerName | Next::TrailerValue = next {
            self.aside = self.aside.saturating_add(1);
            if self.aside > MAX_ASIDE {
                return Err(bad_request(
                    "the body's chunk extensions and trailers are over 16 KiB: leave them out",
                ));
            }
        }
        Ok(next)
    }

    fn digit(&self, byte: u8) -> Next {
        let value = char::from(byte).to_digit(16).unwrap_or_default();
        match self.next {
            Next::Size { digits, size } => Next::Size {
                digits: digits.saturating_add(1),
                size: size << 4 | u64::from(value),
            },
            other => other,
        }
    }

    fn malformed(&self, byte: u8) -> Refusal {
        let wanted = match self.next {
            Next::Size { digits: 0, .. } => "a chunk's size in hexadecimal digits",
            Next::Size { .. } => "the end of a chunk's size, of 16 digits at most",
            Next::Gap(_) => "';' or the end of the line, without white space before it",
            Next::Extension(_) => "a chunk extension",
            Next::ChunkCr => "the CR LF behind a chunk, whose size may be wrong",
            Next::TrailerLine | Next::TrailerName | Next::TrailerValue => "a trailer line",
            _ => "the LF of CR LF",
        };
        bad_request(format!(
            "the chunked body has '{}' instead of {wanted}",
            byte.escape_ascii()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::shown;

    /// Feeds `bytes` in pieces of a length: the content and how many bytes were used, `None` while it is incomplete.
    fn fed(
        framing: Framing,
        bytes: &[u8],
        piece: usize,
        limit: u64,
    ) -> Result<Option<(Vec<u8>, usize)>, Status> {
        let mut body = Body::new(framing);
        let mut thrown_away = Body::new(framing);
        let mut content = Vec::new();
        let mut used = 0;
        for piece in std::iter::once(&b""[..]).chain(bytes.chunks(piece)) {
            let kept = body.feed(piece, Some(&mut content), limit);
            assert_eq!(thrown_away.feed(piece, None, limit), kept);
            let kept = kept.map_err(|refusal| refusal.status)?;
            used += kept.used;
            if kept.complete {
                return Ok(Some((content, used)));
            }
            assert_eq!(kept.used, piece.len());
        }
        Ok(None)
    }

    fn fed_three_ways(
        framing: Framing,
        bytes: &[u8],
        limit: u64,
    ) -> Result<Option<(Vec<u8>, usize)>, Status> {
        let whole = fed(framing, bytes, usize::MAX, limit);
        assert_eq!(fed(framing, bytes, 1, limit), whole, "{}", shown(bytes));
        if whole != Ok(None) {
            let trailing = [bytes, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(fed(framing, &trailing, usize::MAX, limit), whole);
            assert_eq!(fed(framing, &trailing, 7, limit), whole);
        }
        whole
    }

    #[test]
    fn bodies_are_read() {
        let table: &[(Framing, &str, &str)] = &[
            (Framing::None, "", ""),
            (Framing::Length(0), "", ""),
            (Framing::Length(5), "hello", "hello"),
            (Framing::Chunked, "0\r\n\r\n", ""),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n\r\n", "hello"),
            (
                Framing::Chunked,
                "3\r\nhel\r\n02\r\nlo\r\n00\r\n\r\n",
                "hello",
            ),
            (
                Framing::Chunked,
                "a\r\n0123456789\r\nA\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
                "0123456789\r\n\r\n\r\n\r\n\r\n",
            ),
            (
                Framing::Chunked,
                "0000000000000005\r\nhello\r\n0\r\n\r\n",
                "hello",
            ),
            (
                Framing::Chunked,
                "5;a=b;c=\"d e\"\r\nhello\r\n0 \t;x\r\n\r\n",
                "hello",
            ),
            (
                Framing::Chunked,
                "5\r\nhello\r\n0\r\nA: b\r\nX-Sum:\t1 \r\n\r\n",
                "hello",
            ),
        ];
        for (framing, bytes, content) in table {
            assert_eq!(
                fed_three_ways(*framing, bytes.as_bytes(), 20),
                Ok(Some((content.as_bytes().to_vec(), bytes.len()))),
                "{bytes:?}"
            );
        }
        for (framing, bytes) in [
            (Framing::Length(6), "hello"),
            (Framing::Chunked, ""),
            (Framing::Chunked, "5"),
            (Framing::Chunked, "5\r\nhello"),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n"),
            (Framing::Chunked, "0\r\nA: b\r\n\r"),
        ] {
            assert_eq!(
                fed_three_ways(framing, bytes.as_bytes(), 20),
                Ok(None),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bytes in [
            "\r\n",
            "x",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            ";a\r\n",
            "1\n",
            "1 \r\n",
            "1 1\r\n",
            "1\rx",
            "1;a\nx",
            "1;\0",
            "1;a\x7f",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rx",
            "1\r\na\r\n\r\n",
            "00000000000000000\r\n",
            "0\r\n\n",
            "0\r\n folded: x\r\n",
            "0\r\nA : x\r\n",
            "0\r\nA\r\n",
            "0\r\n: x\r\n",
            "0\r\nA: x\n",
            "0\r\nA: x\rx",
            "0\r\nA: \0",
            "0\r\n\rx",
        ] {
            assert_eq!(
                fed_three_ways(Framing::Chunked, bytes.as_bytes(), 20),
                Err(Status::BadRequest),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_body_has_its_limits() {
        let large = Err(Status::ContentTooLarge);
        // Known by the announcement, before any of it is received.
        assert_eq!(fed_three_ways(Framing::Length(21), b"", 20), large);
        assert_eq!(fed_three_ways(Framing::Length(u64::MAX), b"", 20), large);
        for bytes in [
            "15\r\n",
            "a\r\n0123456789\r\nb\r\n",
            "ffffffffffffffff\r\n",
            "1\r\na\r\nffffffffffffffff\r\n",
        ] {
            assert_eq!(
                fed_three_ways(Framing::Chunked, bytes.as_bytes(), 20),
                large,
                "{bytes:?}"
            );
        }
        // Any length can be discarded, and no sum overflows.
        let two = "1\r\na\r\nffffffffffffffff\r\n";
        assert_eq!(fed(Framing::Chunked, two.as_bytes(), 1, u64::MAX), Ok(None));
        assert_eq!(
            fed(Framing::Length(u64::MAX), b"abc", 1, u64::MAX),
            Ok(None)
        );

        let extension = |len: usize| format!("0;{}\r\n\r\n", "x".repeat(len - 1));
        assert!(fed_three_ways(Framing::Chunked, extension(MAX_ASIDE).as_bytes(), 20).is_ok());
        for bytes in [
            extension(MAX_ASIDE + 1),
            "1;x\r\na\r\n".repeat(MAX_ASIDE / 2 + 1),
            format!("0\r\n{}", "a:\r\n".repeat(MAX_ASIDE / 2 + 1)),
        ] {
            assert_eq!(
                fed_three_ways(Framing::Chunked, bytes.as_bytes(), 1 << 20),
                Err(Status::BadRequest)
            );
        }
    }

    #[test]
    fn an_announced_body_length_allocates_nothing() {
        let mut content = Vec::new();
        let mut body = Body::new(Framing::Length(1 << 62));
        body.feed(b"abc", Some(&mut content), u64::MAX).unwrap();
        assert!(content.capacity() < 64);
    }

    #[test]
    fn a_body_in_one_piece_is_taken_where_it_lies() {
        let table: &[(Framing, &str, Option<&str>)] = &[
            (Framing::None, "GET /", Some("")),
            (Framing::Length(0), "GET /", Some("")),
            (Framing::Length(3), "abcGET /", Some("abc")),
            (Framing::Length(3), "abc", Some("abc")),
            (Framing::Length(3), "ab", None),
            (Framing::Length(21), "012345678901234567890", None),
            (Framing::Length(u64::MAX), "abc", None),
            (Framing::Chunked, "0\r\n\r\n", None),
        ];
        for (framing, rest, expected) in table {
            let expected = expected.map(str::as_bytes);
            assert_eq!(
                framing.whole(rest.as_bytes(), 20),
                expected,
                "{framing:?} {rest}"
            );
        }
    }
}
