//! Messages (RFC 6455 sections 5.4 to 5.6, 7 and 8.1): a client's bytes in; texts, binaries, pings and closes out.
//!
//! Owns: the message that is being assembled.
//! Knows: fragments, control frames between them, UTF-8, sizes, close codes.
//! Never knows: where bytes come from or go to, what a message says, what is answered.
//!
//! Decisions
//! - A message that lies whole in the input stays there: unmasked in place and named by its range. Chosen over handing
//!   out copies, because it is the common case, and an idle connection then owns no buffer. Reconsider when a message
//!   must outlive the input.
//! - A frame that has only begun is taken in as it comes, so what stays unused is less than one header or control
//!   frame. Chosen over waiting for the whole frame, because text is refused at its first wrong byte, and nobody
//!   holds a large frame twice. Reconsider when another layer buffers whole frames anyway.
//! - Memory follows what has arrived (a `Vec`'s doubling), never what was announced: ten bytes of header buy nothing.
//!   Chosen over reserving once, at the price of copying a large message twice on average. Reconsider when clients must
//!   prove who they are before they may speak.
//! - Text is a `Payload` of bytes that were checked, not a `str`: a range has no type to remember it by. Reconsider when a
//!   second check of the text is seen in a profile.

use super::frame::{self, Opcode, Violation};
use std::ops::Range;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// What a client said, one at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// Valid UTF-8.
    Text(Payload),
    Binary(Payload),
    /// To be answered with a pong of these bytes of the input, 0 to 125.
    Ping(Range<usize>),
    Pong,
    /// The code to be echoed, `None` where the client gave none. Whatever follows is not to be looked at.
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
    /// Bytes of the input that are understood, and never to be shown again; an item's range lies in them.
    pub used: usize,
    /// `None`: more bytes are needed. The unused ones are to be shown again with more behind them.
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
    text: bool,
    /// The frame at hand is the message's last.
    last: bool,
    /// The frame's mask, rotated to its next byte.
    mask: [u8; 4],
    /// Bytes of the frame that have not arrived.
    left: usize,
    /// What has arrived, unmasked.
    bytes: Vec<u8>,
    /// So many of `bytes` are valid UTF-8; up to three more begin a character.
    checked: usize,
}

impl Reader {
    /// Understands `input` up to the first item in it, unmasking what it uses in place; what it does not use is
    /// unchanged.
    ///
    /// `max`: bytes that one message may have. An error names the close code; after it, as after a close, the reader
    /// is not to be called again.
    pub fn next(&mut self, input: &mut [u8], max: usize) -> Result<Step, Violation> {
        let mut used = 0;
        let item = self.item(input, max, &mut used)?;
        Ok(Step { used, item })
    }

    /// Bytes of the message that has begun.
    pub fn held(&self) -> usize {
        self.message.as_ref().map_or(0, |m| m.bytes.len())
    }

    fn item(
        &mut self,
        input: &mut [u8],
        max: usize,
        used: &mut usize,
    ) -> Result<Option<Item>, Violation> {
        loop {
            let mut assembled = 0;
            if let Some(message) = &mut self.message {
                let rest = input.get_mut(*used..).unwrap_or_default();
                *used = used.saturating_add(message.take(rest)?);
                if message.left > 0 {
                    return Ok(None);
                }
                assembled = message.bytes.len();
            }
            if let Some(message) = self.message.take_if(|message| message.last) {
                return Ok(Some(data(message.text, Payload::Owned(message.bytes))));
            }

            let rest = input.get_mut(*used..).unwrap_or_default();
            let Some(header) = frame::parse(rest) else {
                return Ok(None);
            };
            let room = max.saturating_sub(assembled);
            let opcode = frame::judge(&header, self.message.is_some(), room)?;
            let (Some(len), Some(mask)) = (header.len, header.mask) else {
                return Ok(None);
            };
            // Judged to be at most `room`, or 125.
            let len = len as usize;
            let start = used.saturating_add(header.size);
            let end = start.saturating_add(len);
            let payload = rest.get_mut(header.size..);
            let payload = payload.and_then(|payload| payload.get_mut(..len));

            if opcode.is_control() {
                let Some(payload) = payload else {
                    return Ok(None);
                };
                frame::unmask(payload, mask);
                *used = end;
                return Ok(Some(match opcode {
                    Opcode::Ping => Item::Ping(start..end),
                    Opcode::Pong => Item::Pong,
                    _ => Item::Close(close_code(payload)?),
                }));
            }

            let text = opcode == Opcode::Text;
            if let Some(payload) = payload
                && header.fin
                && self.message.is_none()
            {
                let is_ascii = frame::unmask(payload, mask);
                if text && !is_ascii && simdutf8::basic::from_utf8(payload).is_err() {
                    return Err(Violation::BadText);
                }
                *used = end;
                return Ok(Some(data(text, Payload::In(start..end))));
            }

            let message = self
                .message
                .get_or_insert_with(|| Box::new(Assembly::new(text)));
            message.last = header.fin;
            message.mask = mask;
            message.left = len;
            *used = start;
        }
    }
}

fn data(text: bool, payload: Payload) -> Item {
    if text {
        Item::Text(payload)
    } else {
        Item::Binary(payload)
    }
}

impl Assembly {
    fn new(text: bool) -> Self {
        Self {
            text,
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
        if self.text {
            self.check()?;
        }
        Ok(count)
    }

    /// RFC 6455 section 8.1, as early as can be: what no further byte can mend is refused now.
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

/// The code in a close frame's payload, judged (RFC 6455 sections 5.5.1 and 7.4, CONTRACT section 9).
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
mod tests {
    use super::fuzz::{OwnedItem, read_all};
    use super::*;
    use crate::wire::frame::PROTOCOL_ERROR;

    const MAX: usize = 1 << 20;

    /// A client's frame: `first` is the first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        masked(first, payload, [0x37, 0xFA, 0x21, 0x3D])
    }

    fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut header = Vec::new();
        frame::push_header(&mut header, Opcode::Text, payload.len());
        header[0] = first;
        header[1] |= 0x80;
        header.extend(mask);
        let mut bytes = [&header, payload].concat();
        frame::unmask(&mut bytes[header.len()..], mask);
        bytes
    }

    /// First bytes and payloads.
    type Frames<'a> = &'a [(u8, &'a [u8])];

    fn frames(frames: Frames) -> Vec<u8> {
        frames
            .iter()
            .flat_map(|(first, payload)| frame(*first, payload))
            .collect()
    }

    /// Reads a stream that holds no violation whole, byte by byte and with a ping behind it.
    #[track_caller]
    fn hears(stream: &[u8], expected: &[OwnedItem]) {
        let calm = (expected.to_vec(), None, 0);
        assert_eq!(read_all(stream, MAX, || stream.len()), calm, "whole");
        assert_eq!(read_all(stream, MAX, || 1), calm, "byte by byte");
        let closed = matches!(expected.last(), Some(OwnedItem::Close(_)));
        let trailed = [stream, &frame(0x89, b"behind")].concat();
        let mut expected = expected.to_vec();
        expected.extend((!closed).then(|| OwnedItem::Ping(b"behind".to_vec())));
        assert_eq!(
            read_all(&trailed, MAX, || trailed.len()),
            (expected, None, 0),
            "with bytes behind"
        );
    }

    /// A stream whose last byte is the first to be wrong: no earlier byte is blamed, and none behind it is needed.
    #[track_caller]
    fn breaks(stream: &[u8], max: usize, heard: &[OwnedItem], code: u16) {
        let calm = &stream[..stream.len() - 1];
        assert_eq!(read_all(calm, max, || 1).1, None, "blamed too early");
        for (name, stream, step) in [
            ("whole", stream.to_vec(), stream.len()),
            ("byte by byte", stream.to_vec(), 1),
            (
                "with bytes behind",
                [stream, &[0; 20]].concat(),
                stream.len() + 20,
            ),
        ] {
            let (before, violation, _) = read_all(&stream, max, || step);
            assert_eq!(before, heard, "{name}");
            assert_eq!(violation.map(|it| it.code()), Some(code), "{name}");
        }
    }

    fn text(text: &str) -> OwnedItem {
        OwnedItem::Text(text.into())
    }

    #[test]
    fn messages_are_heard() {
        let ping = |bytes: &[u8]| OwnedItem::Ping(bytes.to_vec());
        let binary = |bytes: &[u8]| OwnedItem::Binary(bytes.to_vec());
        let long = "é".repeat(40_000);
        #[rustfmt::skip]
        let table: &[(Frames, &[OwnedItem])] = &[
            (&[], &[]),
            (&[(0x81, b"Hello")], &[text("Hello")]),
            (&[(0x81, b"")], &[text("")]),
            (&[(0x82, b"\xFF\x00")], &[binary(b"\xFF\x00")]),
            (&[(0x82, b"")], &[binary(b"")]),
            (&[(0x81, long.as_bytes())], &[text(&long)]),
            (&[(0x81, b"one"), (0x81, b"two")], &[text("one"), text("two")]),
            (&[(0x89, b"")], &[ping(b"")]),
            (&[(0x89, &[7; 125])], &[ping(&[7; 125])]),
            (&[(0x8A, b"unasked")], &[OwnedItem::Pong]),
            // Fragments, empty ones among them.
            (&[(0x01, b"Hel"), (0x80, b"lo")], &[text("Hello")]),
            (&[(0x01, b""), (0x00, b""), (0x80, b"")], &[text("")]),
            (&[(0x01, b"a"), (0x80, b"")], &[text("a")]),
            (&[(0x02, b"\xF0"), (0x80, b"\xFF")], &[binary(b"\xF0\xFF")]),
            // Control frames between them.
            (&[(0x01, b"a"), (0x89, b"p"), (0x00, b"b"), (0x8A, b""), (0x80, b"c")],
                &[ping(b"p"), OwnedItem::Pong, text("abc")]),
            (&[(0x01, b"a"), (0x88, b"")], &[OwnedItem::Close(None)]),
            // A character torn between fragments, with a ping in the tear.
            (&[(0x01, b"\xF0\x9F"), (0x89, b""), (0x00, b"\xA6"), (0x80, b"\x80")], &[ping(b""), text("🦀")]),
            (&[(0x01, b"\xED"), (0x80, b"\x9F\xBF")], &[text("\u{D7FF}")]),
            (&[(0x01, b"\xF4"), (0x80, b"\x8F\xBF\xBF")], &[text("\u{10FFFF}")]),
            // Nothing is heard after a close.
            (&[(0x88, b""), (0x81, b"late")], &[OwnedItem::Close(None)]),
        ];
        for (stream, expected) in table {
            hears(&frames(stream), expected);
        }
    }

    #[test]
    fn an_example_of_the_rfc() {
        // Section 5.7.
        let hello = [
            0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58,
        ];
        hears(&hello, &[text("Hello")]);
    }

    #[test]
    fn violations_are_seen_at_their_byte() {
        #[rustfmt::skip]
        let table: &[(Frames, &[u8], u16)] = &[
            // (frames before it, the bytes of the header that breaks a rule, code)
            (&[], &[0x81, 0x00], 1002),
            (&[], &[0xC1, 0x80], 1002),
            (&[], &[0x83, 0x80], 1002),
            (&[], &[0x80, 0x80], 1002),
            (&[], &[0x09, 0x80], 1002),
            (&[], &[0x89, 0xFE], 1002),
            (&[], &[0x81, 0xFE, 0, 125], 1002),
            (&[], &[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 255, 255], 1002),
            (&[], &[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], 1009),
            (&[], &[0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1], 1009),
            (&[(0x01, b"a")], &[0x81, 0x80], 1002),
            (&[(0x01, b"a")], &[0x02, 0x80], 1002),
            (&[(0x01, b"a")], &[0x0A, 0x80], 1002),
            (&[(0x01, b"a")], &[0x80, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0], 1009),
        ];
        for (before, header, code) in table {
            breaks(&[&frames(before), *header].concat(), MAX, &[], *code);
        }
    }

    #[test]
    fn a_message_has_a_largest_size_however_it_is_cut() {
        let exact = [7; 200];
        assert_eq!(
            read_all(&frame(0x82, &exact), 200, || 1000).0,
            [OwnedItem::Binary(exact.to_vec())]
        );
        let header = &frame(0x82, &[7; 201])[..4];
        breaks(header, 200, &[], 1009);
        // The limit is the message's, not the frame's, and is the next message's anew.
        let whole = frames(&[(0x02, &[7; 150]), (0x80, &[7; 50])]);
        let over = [&whole[..], &frame(0x02, &[7; 150]), &[0x80, 0x80 | 51]].concat();
        breaks(&over, 200, &[OwnedItem::Binary(exact.to_vec())], 1009);
    }

    #[test]
    fn text_is_refused_at_its_first_wrong_byte() {
        // The last byte of each is the first that no further byte can mend.
        let table: &[&[u8]] = &[
            b"\x80",
            b"abc\xFF",
            b"\xC0",
            b"\xC1",
            b"\xC3a",
            b"\xE0\x9F",
            b"\xE1\x80\xC0",
            b"\xED\xA0",
            b"\xF0\x8F",
            b"\xF4\x90",
            b"\xF5",
            b"\xF0\x9F\xA6a",
        ];
        for wrong in table {
            for torn in 0..=wrong.len() {
                // In one frame that goes on, then torn into two fragments.
                let mut stream = frame(0x01, &[wrong, &b"and so on"[..]].concat());
                stream.truncate(stream.len() - 9);
                breaks(&stream, MAX, &[], 1007);

                let (left, right) = wrong.split_at(torn);
                let mut second = frame(0x80, &[right, &b"and so on"[..]].concat());
                second.truncate(second.len() - 9);
                if !right.is_empty() {
                    breaks(&[frame(0x01, left), second].concat(), MAX, &[], 1007);
                }
            }
        }
    }

    #[test]
    fn text_that_ends_within_a_character_is_refused_at_its_end() {
        for cut in [&b"\xC3"[..], b"ok\xE2\x82", b"\xF0\x9F\xA6"] {
            let whole = read_all(&frame(0x81, cut), MAX, || 1000);
            assert_eq!(whole.1.map(|it| it.code()), Some(1007));
            breaks(&frame(0x81, cut), MAX, &[], 1007);
            // An empty last fragment ends it with its header.
            breaks(&frames(&[(0x01, cut), (0x80, b"")]), MAX, &[], 1007);
        }
    }

    #[test]
    fn closes_are_judged() {
        for code in 0..=u16::MAX {
            let allowed = match code {
                0..=999 | 1004..=1006 | 1015..=2999 | 5000.. => false,
                1000..=1003 | 1007..=1014 | 3000..=4999 => true,
            };
            let expected = if allowed {
                Ok(Some(code))
            } else {
                Err(PROTOCOL_ERROR)
            };
            assert_eq!(
                close_code(&code.to_be_bytes()).map_err(|it| it.code()),
                expected
            );
        }
        hears(&frame(0x88, b""), &[OwnedItem::Close(None)]);
        hears(&frame(0x88, b"\x03\xE8"), &[OwnedItem::Close(Some(1000))]);
        hears(
            &frame(0x88, b"\x0F\xA0bye \xC3\xA9"),
            &[OwnedItem::Close(Some(4000))],
        );
        for (payload, code) in [
            (&b"\x03"[..], 1002),
            (b"\x03\xED", 1002),
            (b"\x03\xE8\xFF", 1007),
            (b"\x03\xE8\xC3", 1007),
            (b"\x03\xED\xFF", 1002),
        ] {
            breaks(&frame(0x88, payload), MAX, &[], code);
        }
    }

    #[test]
    fn an_unfragmented_message_stays_where_it_lies() {
        let mut input = frames(&[(0x81, b"Hello"), (0x82, b"World")]);
        let mut reader = Reader::default();
        let step = reader.next(&mut input, MAX).unwrap();
        assert_eq!(
            step,
            Step {
                used: 11,
                item: Some(Item::Text(Payload::In(6..11)))
            }
        );
        assert_eq!(&input[6..11], b"Hello");
        let step = reader.next(&mut input[11..], MAX).unwrap();
        assert_eq!(
            step,
            Step {
                used: 11,
                item: Some(Item::Binary(Payload::In(6..11)))
            }
        );
        assert!(reader.message.is_none());
    }

    #[test]
    fn a_complete_message_leaves_nothing_behind() {
        let mut input = frames(&[(0x01, b"Hel"), (0x80, b"lo"), (0x89, b"x")]);
        let mut reader = Reader::default();
        let step = reader.next(&mut input, MAX).unwrap();
        assert_eq!(
            step.item,
            Some(Item::Text(Payload::Owned(b"Hello".to_vec())))
        );
        assert_eq!(step.used, input.len() - 7);
        assert!(reader.message.is_none());
    }

    #[test]
    fn memory_follows_what_has_arrived() {
        let mut input = frame(0x82, &[7; 1 << 20]);
        let mut reader = Reader::default();
        let step = reader.next(&mut input[..114], MAX).unwrap();
        assert_eq!(
            step,
            Step {
                used: 114,
                item: None
            }
        );
        let message = reader.message.as_ref().unwrap();
        assert_eq!(message.bytes.len(), 100);
        assert!(message.bytes.capacity() < 256);
    }

    #[test]
    fn many_small_pieces_are_one_message() {
        // 65,537 fragments, as in Autobahn 9.3; and a mebibyte that comes byte by byte.
        let count = 65_537;
        let mut stream = frame(0x01, "é".as_bytes());
        for _ in 2..count {
            stream.extend(frame(0x00, "é".as_bytes()));
        }
        stream.extend(frame(0x80, "é".as_bytes()));
        let expected = [text(&"é".repeat(count))];
        assert_eq!(read_all(&stream, MAX, || 1 << 16).0, expected);

        let stream = frame(0x81, &[b'a'; MAX]);
        let mut reader = Reader::default();
        let mut heard = None;
        let mut inbox = Vec::new();
        for byte in stream {
            inbox.push(byte);
            let step = reader.next(&mut inbox, MAX).unwrap();
            inbox.drain(..step.used);
            heard = step.item;
        }
        assert_eq!(heard, Some(Item::Text(Payload::Owned(vec![b'a'; MAX]))));
    }

    /// A generator that is told its seed, so that a failure can be repeated.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % sides as u64) as usize
        }

        fn size(&mut self) -> usize {
            let most = [1, 10, 130, 300, 3000, 70_000][self.roll(6)];
            self.roll(most)
        }
    }

    #[test]
    fn random_messages_are_heard_as_they_were_said() {
        for seed in 1..=100 {
            let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ seed << 7);
            let mut stream = Vec::new();
            let mut said = Vec::new();
            for _ in 0..dice.roll(12) {
                let size = dice.size();
                let is_text = dice.roll(2) == 0;
                let payload: Vec<u8> = if is_text {
                    let alphabet = ['a', '"', 'é', '€', '🦀', '\u{10FFFF}'];
                    let letters = [1, 6][dice.roll(2)];
                    let text: String = (0..size).map(|_| alphabet[dice.roll(letters)]).collect();
                    text.into_bytes()
                } else {
                    (0..size).map(|_| dice.roll(256) as u8).collect()
                };
                let mut cuts: Vec<usize> = (0..[0, 0, 1, 20][dice.roll(4)])
                    .map(|_| dice.roll(payload.len() + 1))
                    .collect();
                cuts.sort_unstable();
                cuts.push(payload.len());
                let mut opcode = if is_text { 0x1 } else { 0x2 };
                let mut from = 0;
                for (nth, to) in cuts.iter().enumerate() {
                    let fin = if nth + 1 == cuts.len() { 0x80 } else { 0 };
                    let mask = (dice.roll(1 << 32) as u32).to_ne_bytes();
                    stream.extend(masked(fin | opcode, &payload[from..*to], mask));
                    from = *to;
                    opcode = 0x0;
                    if fin == 0 && dice.roll(3) == 0 {
                        let ping = vec![b'p'; dice.roll(126)];
                        stream.extend(frame(0x89, &ping));
                        said.push(OwnedItem::Ping(ping));
                    }
                }
                said.push(if is_text {
                    OwnedItem::Text(payload)
                } else {
                    OwnedItem::Binary(payload)
                });
                if dice.roll(5) == 0 {
                    stream.extend(frame(0x8A, b""));
                    said.push(OwnedItem::Pong);
                }
            }
            let expected = (said, None, 0);
            assert_eq!(
                read_all(&stream, MAX, || stream.len()),
                expected,
                "seed {seed}, whole"
            );
            for most in [4, 200, 100_000] {
                let torn = read_all(&stream, MAX, || dice.roll(most));
                assert_eq!(torn, expected, "seed {seed}, torn up to {most}");
            }
        }
    }

    #[test]
    fn any_bytes_keep_the_invariants() {
        let mut dice = Dice(7);
        for _ in 0..20_000 {
            let mut bytes = vec![dice.roll(256) as u8, dice.roll(256) as u8];
            for _ in 0..dice.roll(6) {
                let first = [0x01, 0x81, 0x00, 0x80, 0x89, 0x02, 0x88, 0xC1][dice.roll(8)];
                let payload: Vec<u8> = (0..dice.roll(9))
                    .map(|_| [b'a', 0xC3, 0xA9, 0xF0, 0x9F, 0xA6, 0x80][dice.roll(7)])
                    .collect();
                bytes.extend(frame(first, &payload));
            }
            bytes.truncate(bytes.len() - dice.roll(3).min(bytes.len()));
            fuzz(&bytes);
        }
    }
}
