//! One frame (RFC 6455 section 5.2): read its header, judge it, unmask its payload, write one.
//!
//! Owns: the header's bits and the rules that a header alone can break.
//! Knows: whether the frame stands within a fragmented message and how much room is left, by its arguments.
//! Never knows: what came before, whose frame it is, what the payload means.
//!
//! Decisions
//! - A header is read and judged as far as it has arrived, rather than waiting for all of it. Two bytes already show
//!   most violations, and a hostile client need not send the third. Reconsider when an extension gives the first bytes
//!   a meaning that later ones decide.
//! - Unmasking finds out whether the result is ASCII, rather than leaving all text to the UTF-8 check. A second pass
//!   reads what the first has just stored, and stalls on it. Reconsider when vector code wider than the target's
//!   baseline can be had without `unsafe`.

mod fuzz;
mod saved;
#[doc(hidden)]
pub use fuzz::fuzz;

/// Close code: the peer broke RFC 6455.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Close code: text that is not UTF-8, compressed data that is none.
pub const INVALID_DATA: u16 = 1007;
/// Close code: a message over the limit.
pub const TOO_BIG: u16 = 1009;

/// RFC 6455 section 5.5: the most that a control frame carries.
pub const MAX_CONTROL: usize = 125;

/// The bit that marks a compressed message, in its first frame (RFC 7692 section 6).
const RSV1: u8 = 0x4;

/// A ping without payload, ready to be sent.
pub const PING: [u8; 2] = [0x80 | Opcode::Ping as u8, 0];

/// What the peer did wrong: the connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    ReservedBit,
    ReservedOpcode,
    Unmasked,
    FragmentedControl,
    LongControl,
    StrayContinuation,
    Interleaved,
    LongLength,
    HalfCode,
    BadCode,
    BadReason,
    BadText,
    StrayCompression,
    BadDeflate,
    CutDeflate,
    TooBig,
}

impl Violation {
    /// The close code that answers it (RFC 6455 section 7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Violation::BadReason
            | Violation::BadText
            | Violation::BadDeflate
            | Violation::CutDeflate => INVALID_DATA,
            Violation::TooBig => TOO_BIG,
            _ => PROTOCOL_ERROR,
        }
    }

    /// The close reason, at most 123 bytes.
    pub fn reason(self) -> &'static str {
        match self {
            Violation::ReservedBit => {
                "a reserved bit is set, but no extension that uses it was negotiated"
            }
            Violation::StrayCompression => "RSV1 on a frame that does not begin a message",
            Violation::BadDeflate => "compressed data that cannot be inflated",
            Violation::CutDeflate => "compressed data that ends early",
            Violation::ReservedOpcode => "a reserved opcode",
            Violation::Unmasked => "a frame that is not masked",
            Violation::FragmentedControl => "a fragmented control frame",
            Violation::LongControl => "a control frame over 125 bytes",
            Violation::StrayContinuation => "a continuation of no message",
            Violation::Interleaved => "a new message before the last one's end",
            Violation::LongLength => "a length that is not in its shortest form",
            Violation::HalfCode => "a close code of one byte",
            Violation::BadCode => "a close code that may not be sent",
            Violation::BadReason => "a close reason that is not UTF-8",
            Violation::BadText => "text that is not UTF-8",
            Violation::TooBig => "a message over the size limit",
        }
    }
}

/// What a frame is, RFC 6455 section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    /// The opcode of these bits. `None` for the reserved ones.
    pub fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A frame's header, as far as it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub fin: bool,
    /// RSV1 to RSV3, shifted down: 0 to 7.
    pub rsv: u8,
    /// Four bits, reserved opcodes among them.
    pub opcode: u8,
    pub masked: bool,
    /// The seven bits: 0 to 125 are the length, 126 and 127 say how many bytes hold it.
    pub short_len: u8,
    /// The payload's length in bytes. `None`: not here yet.
    pub len: Option<u64>,
    /// Zeros where the frame is not masked. `None`: not here yet; there only when `len` is.
    pub mask: Option<[u8; 4]>,
    /// The whole header's size in bytes, arrived or not: where the payload begins.
    pub size: usize,
}

impl Header {
    /// Whether it begins a compressed message, where that was negotiated.
    pub fn is_compressed(&self) -> bool {
        self.rsv & RSV1 != 0
    }

    /// Whether the length takes the fewest bytes that hold it; also true where it has not arrived.
    pub fn is_minimal(&self) -> bool {
        self.len.is_none_or(|len| match self.short_len {
            127 => len > 0xFFFF,
            126 => len > 125,
            _ => true,
        })
    }
}

/// Reads the header that `bytes` begin with. `None`: fewer than two bytes, nothing to judge yet.
pub fn parse(bytes: &[u8]) -> Option<Header> {
    let ([first, second], rest) = bytes.split_first_chunk()?;
    let masked = second & 0x80 != 0;
    let short_len = second & 0x7F;
    let (unmasked, len) = match short_len {
        127 => (10, rest.first_chunk().map(|b| u64::from_be_bytes(*b))),
        126 => (4, rest.first_chunk().map(|b| u16::from_be_bytes(*b).into())),
        n => (2_usize, Some(n.into())),
    };
    let (size, mask) = if masked {
        let mask = bytes.get(unmasked..).and_then(<[u8]>::first_chunk);
        (unmasked.saturating_add(4), mask)
    } else {
        (unmasked, len.and(Some(&[0; 4])))
    };
    Some(Header {
        fin: first & 0x80 != 0,
        rsv: first >> 4 & 0x7,
        opcode: first & 0xF,
        masked,
        short_len,
        len,
        mask: mask.copied(),
        size,
    })
}

/// Judges a client's header as far as it has arrived, and says what the frame is.
///
/// `within`: a fragmented message has begun and not ended. `room`: bytes that the message may still grow by. `deflate`:
/// permessage-deflate was negotiated.
pub fn judge(
    header: &Header,
    within: bool,
    room: usize,
    deflate: bool,
) -> Result<Opcode, Violation> {
    if header.rsv != 0 {
        judge_reserved(header, deflate)?;
    }
    // 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_."
    let Some(opcode) = Opcode::from_bits(header.opcode) else {
        return Err(Violation::ReservedOpcode);
    };
    // 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
    if !header.masked {
        return Err(Violation::Unmasked);
    }
    if opcode.is_control() {
        // 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented."
        if !header.fin {
            return Err(Violation::FragmentedControl);
        }
        if usize::from(header.short_len) > MAX_CONTROL {
            return Err(Violation::LongControl);
        }
        return Ok(opcode);
    }
    // 5.4: fragments of one message "MUST NOT be interleaved between the fragments of another".
    match (opcode, within) {
        (Opcode::Continuation, false) => return Err(Violation::StrayContinuation),
        (Opcode::Text | Opcode::Binary, true) => {
            return Err(Violation::Interleaved);
        }
        _ => {}
    }
    // 5.2: "the minimal number of bytes MUST be used to encode the length".
    if !header.is_minimal() {
        return Err(Violation::LongLength);
    }
    // 10.4, and `docs/protocol.md#violations` for 2^63 and more, whose "most significant bit MUST be 0" (5.2).
    let most = (room as u64).min(i64::MAX as u64);
    if header.len.is_some_and(|len| len > most) {
        return Err(Violation::TooBig);
    }
    Ok(opcode)
}

/// Judges reserved bits that are set.
#[cold]
fn judge_reserved(header: &Header, deflate: bool) -> Result<(), Violation> {
    // 5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values."
    if !deflate || header.rsv != RSV1 {
        return Err(Violation::ReservedBit);
    }
    // RFC 7692 section 6.1: "MUST NOT set the "Per-Message Compressed" bit of control frames and non-first fragments".
    match Opcode::from_bits(header.opcode) {
        Some(Opcode::Text | Opcode::Binary) | None => Ok(()),
        Some(_) => Err(Violation::StrayCompression),
    }
}

/// Masks or unmasks in place, RFC 6455 section 5.3, and returns whether the result is all ASCII. A payload that
/// comes in pieces needs [`advance`] between them.
pub fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> bool {
    // A long payload is seldom aligned for vector registers, which costs at each cache line.
    const LONG: usize = 1024;
    if bytes.len() < LONG {
        return unmask_run(bytes, mask);
    }
    let aligned = bytes.as_ptr().align_offset(16).min(bytes.len());
    let (head, rest) = bytes.split_at_mut(aligned);
    unmask_run(head, mask) & unmask_run(rest, advance(mask, aligned))
}

// Not inlined: within a larger function the compiler does not keep the values in vector registers.
#[inline(never)]
fn unmask_run(bytes: &mut [u8], mask: [u8; 4]) -> bool {
    let key = u32::from_ne_bytes(mask);
    // A fixed number of words at a time makes vector code.
    const WORDS: usize = 8;
    let mut seen = [0; WORDS];
    let (words, tail) = bytes.as_chunks_mut();
    let (blocks, rest) = words.as_chunks_mut::<WORDS>();
    for block in blocks {
        for (word, seen) in block.iter_mut().zip(&mut seen) {
            let plain = u32::from_ne_bytes(*word) ^ key;
            *word = plain.to_ne_bytes();
            *seen |= plain;
        }
    }
    let mut any = seen.into_iter().fold(0, |any, word| any | word);
    for word in rest {
        let plain = u32::from_ne_bytes(*word) ^ key;
        *word = plain.to_ne_bytes();
        any |= plain;
    }
    for (byte, mask) in tail.iter_mut().zip(mask) {
        *byte ^= mask;
        any |= u32::from(*byte);
    }
    any & 0x8080_8080 == 0
}

/// The mask for what follows `count` bytes.
pub fn advance(mask: [u8; 4], count: usize) -> [u8; 4] {
    // Not `rotate_left` of the array: that is three calls of memmove. Whole turns change nothing.
    u32::from_le_bytes(mask)
        .rotate_right((count as u32).wrapping_mul(8))
        .to_le_bytes()
}

/// Appends the header of a server's frame (final, not masked); its payload of `len` bytes is to follow.
pub fn push_header(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    push_head(out, 0x80 | opcode as u8, len);
}

/// Appends the header of a server's frame with a compressed payload of `len` bytes.
pub fn push_compressed_header(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    push_head(out, 0x80 | RSV1 << 4 | opcode as u8, len);
}

#[inline]
fn push_head(out: &mut Vec<u8>, first: u8, len: usize) {
    match len {
        0..=125 => out.extend_from_slice(&[first, len as u8]),
        126..=0xFFFF => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, high, low]);
        }
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends a server's whole frame.
pub fn push_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    push_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a server's whole frame; `write` appends its payload. A payload that needs a long header is moved for it, which
/// answers seldom are.
pub fn push_frame_of(out: &mut Vec<u8>, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    push_header(out, opcode, 0);
    let payload = out.len();
    write(out);
    let len = out.len().saturating_sub(payload);
    if len <= MAX_CONTROL {
        if let Some(short) = out.get_mut(begin.saturating_add(1)) {
            *short = len as u8;
        }
        return;
    }
    let mut header = Vec::with_capacity(10);
    push_header(&mut header, opcode, len);
    out.splice(begin..payload, header);
}

/// How many frames of a server's stand in `bytes`, which hold nothing else.
pub fn count(mut bytes: &[u8]) -> u32 {
    let mut frames: u32 = 0;
    while let [_, short, rest @ ..] = bytes {
        let (length, payload) = match (short, rest) {
            (126, [a, b, payload @ ..]) => (u16::from_be_bytes([*a, *b]).into(), payload),
            (127, [a, b, c, d, e, f, g, h, payload @ ..]) => (
                u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize,
                payload,
            ),
            _ => (usize::from(*short), rest),
        };
        frames = frames.saturating_add(1);
        bytes = payload.get(length..).unwrap_or_default();
    }
    frames
}

/// A server's close frame (RFC 6455 section 5.5.1). A reason that does not fit is cut between two characters; without
/// a code there is no room for a reason either.
pub fn close_frame(code: Option<u16>, reason: &str) -> Vec<u8> {
    let mut payload = Vec::with_capacity(MAX_CONTROL);
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        let fitting = (0..=reason.len().min(MAX_CONTROL - 2))
            .rev()
            .find_map(|end| reason.get(..end));
        payload.extend_from_slice(fitting.unwrap_or_default().as_bytes());
    }
    let mut frame = Vec::with_capacity(2 + MAX_CONTROL);
    push_frame(&mut frame, Opcode::Close, &payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 1 << 20;
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    /// Bits as the RFC draws them, blanks only for the eye.
    fn bits(ruler: &str) -> Vec<u8> {
        let bits: Vec<u8> = ruler
            .bytes()
            .filter(|b| *b != b' ')
            .map(|b| b - b'0')
            .collect();
        assert_eq!(bits.len() % 8, 0, "{ruler}");
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit))
            .collect()
    }

    #[test]
    fn a_servers_frames_are_counted() {
        let mut bytes = Vec::new();
        for (nth, size) in [0, 1, 125, 126, 65_535, 65_536, 2].into_iter().enumerate() {
            assert_eq!(count(&bytes), nth as u32);
            push_frame(&mut bytes, Opcode::Text, &vec![127; size]);
        }
        assert_eq!(count(&bytes), 7);
    }

    #[test]
    fn headers_are_read_as_far_as_they_have_arrived() {
        type Row = (
            &'static str,
            &'static [u8],
            (bool, u8, u8),
            u64,
            [u8; 4],
            bool,
        );
        #[rustfmt::skip]
        let table: [Row; 9] = [
            // F RSV opcode M length   what follows                   fin  rsv  opcode  length  mask  minimal
            ("1 000 0001   0 0000000", &[],                           (true,  0, 0x1), 0,       [0; 4], true),
            ("0 000 0010   0 0000101", &[],                           (false, 0, 0x2), 5,       [0; 4], true),
            ("1 101 1111   1 1111101", &MASK,                         (true,  5, 0xF), 125,     MASK,   true),
            ("1 000 0000   0 1111110", &[0, 126],                     (true,  0, 0x0), 126,     [0; 4], true),
            ("1 000 0000   0 1111110", &[0, 125],                     (true,  0, 0x0), 125,     [0; 4], false),
            ("0 010 1001   1 1111110", &[255, 255, 0x37, 0xFA, 0x21, 0x3D], (false, 2, 0x9), 65_535, MASK, true),
            ("1 000 0010   0 1111111", &[0, 0, 0, 0, 0, 1, 0, 0],     (true,  0, 0x2), 65_536,  [0; 4], true),
            ("1 000 0010   0 1111111", &[0, 0, 0, 0, 0, 0, 255, 255], (true,  0, 0x2), 65_535,  [0; 4], false),
            ("1 100 0010   1 1111111", &[255, 255, 255, 255, 255, 255, 255, 255, 0x37, 0xFA, 0x21, 0x3D],
                                                                      (true,  4, 0x2), u64::MAX, MASK,  true),
        ];
        for (ruler, follows, (fin, rsv, opcode), len, mask, minimal) in table {
            let mut bytes = [&bits(ruler)[..], follows].concat();
            let size = bytes.len();
            let masked = mask != [0; 4];
            let short_len = bytes[1] & 0x7F;

            let whole = parse(&bytes).unwrap();
            let expected = Header {
                fin,
                rsv,
                opcode,
                masked,
                short_len,
                len: Some(len),
                mask: Some(mask),
                size,
            };
            assert_eq!(whole, expected, "{ruler} {follows:?}");
            assert_eq!(whole.is_minimal(), minimal, "{ruler} {follows:?}");

            assert_eq!(parse(&[]), None);
            assert_eq!(parse(&bytes[..1]), None);
            let mask_size = if masked { 4 } else { 0 };
            for end in 2..size {
                let expected = Header {
                    len: Some(len).filter(|_| end >= size - mask_size),
                    mask: None,
                    ..expected
                };
                assert_eq!(
                    parse(&bytes[..end]),
                    Some(expected),
                    "{ruler} {follows:?} {end}"
                );
            }

            bytes.extend_from_slice(b"trailing");
            assert_eq!(parse(&bytes), Some(expected));
        }
    }

    /// What the judge says of a header that has arrived as far as `bytes` go.
    fn verdict(bytes: &[u8], within: bool) -> Result<Opcode, u16> {
        judge(&parse(bytes).unwrap(), within, ROOM, false).map_err(|violation| violation.code())
    }

    #[test]
    fn invalid_frames_are_refused_at_their_second_byte() {
        use Opcode::*;
        #[rustfmt::skip]
        let table = [
            // F RSV opcode M length    first frame    within a message
            ("1 000 0001   1 0000000", Ok(Text),         Err(1002)),
            ("0 000 0001   1 0000000", Ok(Text),         Err(1002)),
            ("1 000 0010   1 1111101", Ok(Binary),       Err(1002)),
            ("1 000 0010   1 1111110", Ok(Binary),       Err(1002)),
            ("1 000 0010   1 1111111", Ok(Binary),       Err(1002)),
            ("0 000 0000   1 0000001", Err(1002),        Ok(Continuation)),
            ("1 000 0000   1 0000001", Err(1002),        Ok(Continuation)),
            ("1 000 1000   1 0000000", Ok(Close),        Ok(Close)),
            ("1 000 1001   1 1111101", Ok(Ping),         Ok(Ping)),
            ("1 000 1010   1 0000000", Ok(Pong),         Ok(Pong)),
            // Reserved bits, each alone.
            ("1 100 0001   1 0000000", Err(1002),        Err(1002)),
            ("1 010 1001   1 0000000", Err(1002),        Err(1002)),
            ("1 001 0000   1 0000000", Err(1002),        Err(1002)),
            // Not masked.
            ("1 000 0001   0 0000000", Err(1002),        Err(1002)),
            ("1 000 0000   0 0000000", Err(1002),        Err(1002)),
            ("1 000 1000   0 0000000", Err(1002),        Err(1002)),
            ("1 000 1001   0 0000000", Err(1002),        Err(1002)),
            // Control frames: fragmented, over 125 bytes.
            ("0 000 1000   1 0000000", Err(1002),        Err(1002)),
            ("0 000 1001   1 0000000", Err(1002),        Err(1002)),
            ("1 000 1001   1 1111110", Err(1002),        Err(1002)),
            ("1 000 1010   1 1111111", Err(1002),        Err(1002)),
        ];
        for (ruler, first, within) in table {
            let bytes = bits(ruler);
            assert_eq!(verdict(&bytes, false), first, "{ruler}");
            assert_eq!(verdict(&bytes, true), within, "{ruler}, within");
        }
        for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            assert_eq!(
                verdict(&[0x80 | opcode, 0x80], false),
                Err(1002),
                "{opcode}"
            );
            assert_eq!(
                verdict(&[0x80 | opcode, 0x80], true),
                Err(1002),
                "{opcode}, within"
            );
        }
    }

    #[test]
    fn a_length_is_judged_when_it_is_there_before_the_mask() {
        let room = ROOM as u64;
        #[rustfmt::skip]
        let table = [
            (126, 125, Err(1002)),
            (126, 126, Ok(Opcode::Binary)),
            (126, 65_535, Ok(Opcode::Binary)),
            (127, 0, Err(1002)),
            (127, 65_535, Err(1002)),
            (127, 65_536, Ok(Opcode::Binary)),
            (127, room, Ok(Opcode::Binary)),
            (127, room + 1, Err(1009)),
            (127, (1 << 63) - 1, Err(1009)),
            (127, 1 << 63, Err(1009)),
            (127, u64::MAX, Err(1009)),
        ];
        for (short, len, expected) in table {
            let mut bytes = vec![0x82, 0x80 | short];
            match short {
                126 => bytes.extend((len as u16).to_be_bytes()),
                _ => bytes.extend(len.to_be_bytes()),
            }
            for end in 2..bytes.len() {
                assert_eq!(
                    verdict(&bytes[..end], false),
                    Ok(Opcode::Binary),
                    "{len} {end}"
                );
            }
            assert_eq!(verdict(&bytes, false), expected, "{short} {len}");
            bytes.extend(MASK);
            bytes.extend(b"trailing");
            assert_eq!(verdict(&bytes, false), expected, "{short} {len}");
        }
    }

    #[test]
    fn the_top_bit_of_a_length_is_refused_whatever_the_room() {
        let bytes = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let verdict = judge(&parse(&bytes).unwrap(), false, usize::MAX, false);
        assert_eq!(verdict.unwrap_err().code(), TOO_BIG);
    }

    #[test]
    fn room_binds_data_and_not_control() {
        let judged = |bytes: &[u8], room| judge(&parse(bytes).unwrap(), false, room, false).is_ok();
        assert!(judged(&[0x81, 0x85], 5));
        assert!(!judged(&[0x81, 0x85], 4));
        assert!(judged(&[0x89, 0x85], 0));
    }

    #[test]
    fn unmasking_is_the_same_at_every_length_alignment_and_tear() {
        let masked: Vec<u8> = (0..1200u32).map(|i| (i * 37) as u8).collect();
        for start in 0..40 {
            for end in (start..200).chain(1020..1100) {
                let expected: Vec<u8> = masked[start..end]
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| byte ^ MASK[i % 4])
                    .collect();
                for torn in [start, start + (end - start) / 3] {
                    let mut bytes = masked.clone();
                    unmask(&mut bytes[start..torn], MASK);
                    unmask(&mut bytes[torn..end], advance(MASK, torn - start));
                    assert_eq!(bytes[start..end], expected);
                    assert_eq!(bytes[..start], masked[..start]);
                    assert_eq!(bytes[end..], masked[end..]);
                }
            }
        }
    }

    #[test]
    fn unmasking_tells_ascii_wherever_it_ends() {
        for len in (0..100).chain(1020..1060) {
            let mut bytes = vec![0x7F ^ 0xAA; len];
            assert!(unmask(&mut bytes, [0xAA; 4]), "{len}");
            for odd in 0..len {
                let mut bytes = vec![0x7F ^ 0xAA; len];
                bytes[odd] = 0x80 ^ 0xAA;
                assert!(!unmask(&mut bytes, [0xAA; 4]), "{odd} of {len}");
            }
        }
    }

    #[test]
    fn frame_headers_round_trip() {
        for (len, size) in [
            (0, 2),
            (125, 2),
            (126, 4),
            (65_535, 4),
            (65_536, 10),
            (1 << 20, 10),
        ] {
            let mut out = vec![b'x'];
            push_header(&mut out, Opcode::Text, len);
            let header = parse(&out[1..]).unwrap();
            assert_eq!(out.len() - 1, size, "{len}");
            assert_eq!((header.len, header.size), (Some(len as u64), size));
            assert!(header.fin && !header.masked && header.is_minimal());
            assert_eq!((header.rsv, header.opcode), (0, 1));
        }
        let mut out = Vec::new();
        push_frame(&mut out, Opcode::Pong, b"hi");
        assert_eq!(out, b"\x8A\x02hi");
        assert_eq!(PING, [0x89, 0]);
    }

    #[test]
    fn a_close_frame_fits_and_stays_utf8() {
        assert_eq!(close_frame(None, "unsaid"), [0x88, 0]);
        assert_eq!(close_frame(Some(1002), "why"), b"\x88\x05\x03\xEAwhy");
        for (reason, kept) in [
            ("a".repeat(123), 123),
            ("a".repeat(124), 123),
            ("é".repeat(70), 122),
            ("a".to_string() + &"🦀".repeat(40), 121),
        ] {
            let frame = close_frame(Some(1012), &reason);
            assert_eq!(frame.len(), 4 + kept);
            assert_eq!(usize::from(frame[1]), 2 + kept);
            assert_eq!(std::str::from_utf8(&frame[4..]), Ok(&reason[..kept]));
        }
    }

    #[test]
    fn any_bytes_keep_the_invariants() {
        let mut seed = 1u64;
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 80)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56) as u8
                })
                .collect();
            fuzz(&bytes);
        }
    }
}
