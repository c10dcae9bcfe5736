//! Tables of streams and the messages in them.

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
    assert_eq!(read_all(stream, MAX, false, || stream.len()), calm, "whole");
    assert_eq!(read_all(stream, MAX, false, || 1), calm, "byte by byte");
    let closed = matches!(expected.last(), Some(OwnedItem::Close(_)));
    let trailed = [stream, &frame(0x89, b"behind")].concat();
    let mut expected = expected.to_vec();
    expected.extend((!closed).then(|| OwnedItem::Ping(b"behind".to_vec())));
    assert_eq!(
        read_all(&trailed, MAX, false, || trailed.len()),
        (expected, None, 0),
        "with bytes behind"
    );
}

/// A stream whose last byte is the first to be wrong: no earlier byte is blamed, and none behind it is needed.
#[track_caller]
fn breaks(stream: &[u8], max: usize, heard: &[OwnedItem], code: u16) {
    let calm = &stream[..stream.len() - 1];
    assert_eq!(read_all(calm, max, false, || 1).1, None, "blamed too early");
    for (name, stream, step) in [
        ("whole", stream.to_vec(), stream.len()),
        ("byte by byte", stream.to_vec(), 1),
        (
            "with bytes behind",
            [stream, &[0; 20]].concat(),
            stream.len() + 20,
        ),
    ] {
        let (before, violation, _) = read_all(&stream, max, false, || step);
        assert_eq!(before, heard, "{name}");
        assert_eq!(violation.map(|it| it.code()), Some(code), "{name}");
    }
}

fn text(text: &str) -> OwnedItem {
    OwnedItem::Text(text.into())
}

#[test]
fn frames_become_messages() {
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
fn masked_hello_of_rfc_6455_is_read() {
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
        read_all(&frame(0x82, &exact), 200, false, || 1000).0,
        [OwnedItem::Binary(exact.to_vec())]
    );
    let header = &frame(0x82, &[7; 201])[..4];
    breaks(header, 200, &[], 1009);
    // The limit is the message's, not the frame's, and is the next message's again.
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
        let whole = read_all(&frame(0x81, cut), MAX, false, || 1000);
        assert_eq!(whole.1.map(|it| it.code()), Some(1007));
        breaks(&frame(0x81, cut), MAX, &[], 1007);
        // An empty last fragment ends it with its header.
        breaks(&frames(&[(0x01, cut), (0x80, b"")]), MAX, &[], 1007);
    }
}

#[test]
fn compressed_messages_come_out_as_they_are() {
    let compressed = |kind, bytes: &[u8]| OwnedItem::Compressed(kind, bytes.to_vec());
    let ping = |bytes: &[u8]| OwnedItem::Ping(bytes.to_vec());
    #[rustfmt::skip]
    let table: &[(Frames, &[OwnedItem])] = &[
        // RFC 7692 section 7.2.3.1, whole and in fragments.
        (&[(0xC1, b"\xF2\x48\xCD\xC9\xC9\x07\x00")],
            &[compressed(Opcode::Text, b"\xF2\x48\xCD\xC9\xC9\x07\x00")]),
        (&[(0x41, b"\xF2\x48\xCD"), (0x80, b"\xC9\xC9\x07\x00")],
            &[compressed(Opcode::Text, b"\xF2\x48\xCD\xC9\xC9\x07\x00")]),
        (&[(0xC2, b"")], &[compressed(Opcode::Binary, b"")]),
        // What is not UTF-8 is none of a compressed message's.
        (&[(0x41, b"\xFF"), (0x89, b"p"), (0x00, b""), (0x80, b"\xFF")],
            &[ping(b"p"), compressed(Opcode::Text, b"\xFF\xFF")]),
        // Plain ones between them.
        (&[(0xC1, b"\xFF"), (0x81, b"a"), (0x02, b"b"), (0x80, b"c"), (0xC2, b"\xFF")],
            &[compressed(Opcode::Text, b"\xFF"), text("a"), OwnedItem::Binary(b"bc".to_vec()),
              compressed(Opcode::Binary, b"\xFF")]),
    ];
    for (stream, expected) in table {
        let stream = frames(stream);
        for step in [stream.len(), 1] {
            let heard = read_all(&stream, MAX, true, || step);
            assert_eq!(heard, (expected.to_vec(), None, 0), "{step} at a time");
        }
    }
}

#[test]
fn a_reserved_bit_is_for_first_frames_of_messages_where_it_was_negotiated() {
    #[rustfmt::skip]
    let table: &[(Frames, u8, Violation)] = &[
        // (frames before it, the first byte of the frame that breaks a rule, how)
        (&[], 0xA1, Violation::ReservedBit),
        (&[], 0x91, Violation::ReservedBit),
        (&[], 0xE1, Violation::ReservedBit),
        (&[], 0xF2, Violation::ReservedBit),
        (&[], 0xC9, Violation::StrayCompression),
        (&[], 0xC8, Violation::StrayCompression),
        (&[], 0xCA, Violation::StrayCompression),
        (&[], 0xC0, Violation::StrayCompression),
        (&[(0x41, b"a")], 0xC0, Violation::StrayCompression),
        (&[(0x41, b"a")], 0x40, Violation::StrayCompression),
        (&[(0x01, b"a")], 0xC0, Violation::StrayCompression),
        (&[(0x41, b"a")], 0xC9, Violation::StrayCompression),
        (&[(0x41, b"a")], 0xC1, Violation::Interleaved),
        (&[(0x41, b"a")], 0x41, Violation::Interleaved),
        (&[], 0xC3, Violation::ReservedOpcode),
        (&[], 0xCB, Violation::ReservedOpcode),
    ];
    for (before, first, violation) in table {
        let stream = [&frames(before), &[*first, 0x80][..]].concat();
        for step in [stream.len(), 1] {
            let heard = read_all(&stream, MAX, true, || step);
            assert_eq!(heard, (vec![], Some(*violation), 0), "{first:#x}");
        }
        assert!(matches!(violation.code(), 1002));
    }
    // Where it was not, it is for none.
    for first in [0xC1, 0xC2, 0x41, 0xC0, 0xC9] {
        let heard = read_all(&[first, 0x80], MAX, false, || 2);
        assert_eq!(heard, (vec![], Some(Violation::ReservedBit), 0));
    }
}

#[test]
fn a_compressed_message_may_be_a_little_larger_than_a_plain_one() {
    // What cannot be compressed grows.
    let most = deflate::bound(200);
    assert!((205..300).contains(&most));
    let exact = vec![7; most];
    for stream in [
        frame(0xC2, &exact),
        frames(&[(0x42, &exact[..100]), (0x80, &exact[100..])]),
    ] {
        let heard = read_all(&stream, 200, true, || 64);
        let expected = OwnedItem::Compressed(Opcode::Binary, exact.clone());
        assert_eq!(heard, (vec![expected], None, 0));
    }
    for stream in [
        frame(0xC2, &vec![7; most + 1]),
        frames(&[(0x42, &exact[..100]), (0x80, &exact[99..])]),
        // A plain one may not.
        frame(0x82, &[7; 201]),
    ] {
        let (heard, violation, _) = read_all(&stream, 200, true, || 1);
        assert_eq!((heard, violation), (vec![], Some(Violation::TooBig)));
    }
}

#[test]
fn close_codes_and_reasons_are_validated() {
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
    let step = reader.next(&mut input, MAX, false).unwrap();
    assert_eq!(
        step,
        Step {
            used: 11,
            item: Some(Item::Text(Payload::In(6..11)))
        }
    );
    assert_eq!(&input[6..11], b"Hello");
    let step = reader.next(&mut input[11..], MAX, false).unwrap();
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
    let step = reader.next(&mut input, MAX, false).unwrap();
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
    let step = reader.next(&mut input[..114], MAX, false).unwrap();
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
    assert_eq!(read_all(&stream, MAX, false, || 1 << 16).0, expected);

    let stream = frame(0x81, &[b'a'; MAX]);
    let mut reader = Reader::default();
    let mut heard = None;
    let mut inbox = Vec::new();
    for byte in stream {
        inbox.push(byte);
        let step = reader.next(&mut inbox, MAX, false).unwrap();
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
            read_all(&stream, MAX, false, || stream.len()),
            expected,
            "seed {seed}, whole"
        );
        for most in [4, 200, 100_000] {
            let torn = read_all(&stream, MAX, false, || dice.roll(most));
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
            let first = [0x01, 0x81, 0x00, 0x80, 0x89, 0x02, 0x88, 0xC1, 0x41][dice.roll(9)];
            let payload: Vec<u8> = (0..dice.roll(9))
                .map(|_| [b'a', 0xC3, 0xA9, 0xF0, 0x9F, 0xA6, 0x80][dice.roll(7)])
                .collect();
            bytes.extend(frame(first, &payload));
        }
        bytes.truncate(bytes.len() - dice.roll(3).min(bytes.len()));
        fuzz(&bytes);
    }
}
