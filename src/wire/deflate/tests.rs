//! Tables of payloads and the messages in them; bombs; what is written is read.

use super::fuzz::inflated;
use super::*;

const MAX: usize = 1 << 20;

/// What a payload holds, read by an inflater that has just been used for something else.
fn read(payload: &[u8], text: bool, max: usize) -> Result<Vec<u8>, Violation> {
    let mut inflater = Inflater::default();
    let _ = inflated(&mut inflater, b"\xFF\xFF", false, MAX);
    inflated(&mut inflater, payload, text, max)
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// What a client compresses: the payload without its tail, `level` 0 to 9.
fn deflated(content: &[u8], level: i32) -> Vec<u8> {
    let mut stream = Deflate::new(level, false, WINDOW_BITS);
    let mut out = vec![0; bound(content.len())];
    stream
        .compress(content, &mut out, DeflateFlush::SyncFlush)
        .unwrap();
    out.truncate(stream.total_out() as usize);
    out.strip_suffix(&TAIL).unwrap().to_vec()
}

fn json(len: usize) -> Vec<u8> {
    let mut text = String::from("[");
    for nth in 0.. {
        if text.len() >= len {
            break;
        }
        text += &format!(
            r#"{{"id":{nth},"name":"user-{}","on":{}}},"#,
            nth * 7 % 100,
            nth % 3 == 0
        );
    }
    text.into_bytes()
}

/// Bytes that cannot be compressed.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 7u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // RFC 7692 section 7.2.3.
    let table = [
        ("one block", "f2 48 cd c9 c9 07 00", Ok("Hello")),
        // The second message of one window: context takeover, which was not agreed to.
        (
            "a shared window",
            "f2 00 11 00 00",
            Err(Violation::BadDeflate),
        ),
        (
            "a stored block",
            "00 05 00 fa ff 48 65 6c 6c 6f 00",
            Ok("Hello"),
        ),
        (
            "a block marked as the last",
            "f3 48 cd c9 c9 07 00 00",
            Ok("Hello"),
        ),
        (
            "two blocks",
            "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
            Ok("Hello"),
        ),
        ("an empty message", "00", Ok("")),
        ("an empty message in a fixed block", "02 00", Ok("")),
    ];
    for (name, payload, message) in table {
        let expected = message.map(|message| message.as_bytes().to_vec());
        for text in [true, false] {
            assert_eq!(read(&bytes(payload), text, 5), expected, "{name}");
        }
    }
}

#[test]
fn malformed_or_truncated_deflate_data_is_refused() {
    use Violation::*;
    let table = [
        ("nothing at all", "", CutDeflate),
        ("a reserved kind of block", "06", BadDeflate),
        (
            "a stored block of two lengths",
            "00 05 00 fa fe 48 65 6c 6c 6f 00",
            BadDeflate,
        ),
        ("garbage", "ff ff ff ff", BadDeflate),
        ("without its last byte", "f2 48 cd c9 c9 07", CutDeflate),
        ("within a code", "f2 48 cd", CutDeflate),
        ("within a stored block", "00 05 00 fa ff 48 65", CutDeflate),
        // What is appended would be taken for its last four bytes.
        (
            "four bytes before a stored block's end",
            "00 05 00 fa ff 48",
            CutDeflate,
        ),
        ("within the head of a stored block", "00 05 00", CutDeflate),
        (
            "with the tail that is to be left out",
            "f2 48 cd c9 c9 07 00 00 00 ff ff",
            CutDeflate,
        ),
        (
            "garbage behind a last block",
            "f3 48 cd c9 c9 07 00 ff",
            BadDeflate,
        ),
        (
            "a last block, then half of one",
            "f3 48 cd c9 c9 07 00 f2 48",
            CutDeflate,
        ),
    ];
    for (name, payload, violation) in table {
        assert_eq!(read(&bytes(payload), false, MAX), Err(violation), "{name}");
        assert_eq!(violation.code(), 1007);
    }
}

#[test]
fn a_message_may_end_in_a_block_marked_as_the_last() {
    // Without the empty block that RFC 7692 section 7.2.3.4 puts behind it: nothing is missing.
    let hello = bytes("f3 48 cd c9 c9 07 00");
    assert_eq!(read(&hello, true, MAX), Ok(b"Hello".to_vec()));
    let twice = [&hello[..], &hello, &[0]].concat();
    assert_eq!(read(&twice, true, MAX), Ok(b"HelloHello".to_vec()));
}

#[test]
fn no_cut_of_a_message_is_taken_for_another() {
    let content = json(300);
    for level in [1, 3, 6, 9] {
        let payload = deflated(&content, level);
        assert_eq!(read(&payload, true, MAX).as_ref(), Ok(&content));
        for end in 0..payload.len() {
            let cut = read(&payload[..end], true, MAX);
            assert_eq!(cut, Err(Violation::CutDeflate), "level {level}, {end}");
        }
    }
}

#[test]
fn text_is_checked_as_it_is_inflated() {
    for wrong in [
        &b"\xFF"[..],
        b"abc\xC3(",
        b"\xED\xA0\x80",
        b"ok\xF0\x9F\xA6",
    ] {
        let payload = deflated(wrong, 6);
        assert_eq!(read(&payload, true, MAX), Err(Violation::BadText));
        assert_eq!(read(&payload, false, MAX), Ok(wrong.to_vec()));
    }
    // Characters that lie across the places where the buffer grows.
    for shift in 0..4 {
        let text = "x".repeat(shift) + &"🦀é€".repeat(30_000);
        let payload = deflated(text.as_bytes(), 6);
        assert_eq!(read(&payload, true, MAX).as_deref(), Ok(text.as_bytes()));
    }
    // So does the first fault of any kind, whatever the buffer holds.
    let mut late = deflated(&vec![b'a'; 5000], 1);
    late.extend([0xFF; 8]);
    for before in [1, 60_000] {
        let mut inflater = Inflater::default();
        let _ = inflated(&mut inflater, &deflated(&vec![0; before], 6), false, MAX);
        let over = inflated(&mut inflater, &late, true, 4999);
        assert_eq!(over, Err(Violation::TooBig));
        let bad = inflated(&mut inflater, &late, true, 5000);
        assert_eq!(bad, Err(Violation::BadDeflate));
    }
    // The first wrong byte ends it, before the message is known to be too big, or to end early.
    let mut large = vec![b'a'; 100_000];
    large[10] = 0xFF;
    let payload = deflated(&large, 6);
    assert_eq!(read(&payload, true, 50_000), Err(Violation::BadText));
    assert_eq!(
        read(&payload[..payload.len() - 3], true, MAX),
        Err(Violation::BadText)
    );
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let payload = deflated(&vec![0; 16 << 20], 9);
    assert!(payload.len() < 20_000);
    let mut inflater = Inflater::default();
    for max in [0, 1, 4095, 4096, 65_536, 70_000, MAX] {
        let over = inflater.inflate(&payload, false, max);
        assert_eq!(over.map(|_| ()), Err(Violation::TooBig));
        let most = (max + 1).max(KEPT) as u64;
        assert!(inflater.stream.total_out() <= most, "{max}");
        assert!(inflater.out.capacity() <= KEPT);
    }
}

#[test]
fn the_limit_is_exact() {
    for len in [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000] {
        for content in [vec![b'x'; len], json(len), noise(len)] {
            let payload = deflated(&content, 6);
            assert!(payload.len() <= bound(content.len()), "{len}");
            let exact = read(&payload, false, content.len());
            assert!(exact.as_ref() == Ok(&content), "{len}");
            if !content.is_empty() {
                let over = read(&payload, false, content.len() - 1);
                assert_eq!(over, Err(Violation::TooBig), "{len}");
            }
        }
    }
}

#[test]
fn what_does_not_become_smaller_is_not_compressed() {
    let mut deflater = Deflater::default();
    for len in [0, 1, 5, 100, 512, 5000, 100_000] {
        assert_eq!(deflater.deflate(&noise(len)), None, "{len}");
    }
    // Whatever was in vain leaves no trace.
    let content = json(2000);
    let first = deflater.deflate(&content).unwrap().to_vec();
    assert!(first.len() < content.len() / 3);
    assert_eq!(deflater.deflate(&noise(3000)), None);
    assert_eq!(deflater.deflate(&content), Some(&first[..]));
    assert_eq!(Deflater::default().deflate(&content), Some(&first[..]));
}

/// Words in a random order: matches of a few bytes, far apart, which take the most bits for each.
fn words(len: usize) -> Vec<u8> {
    let order = noise(len);
    let words = order
        .iter()
        .map(|at| format!("{:03x}", u32::from(*at) * 7919 % 4096));
    let mut text: Vec<u8> = words.collect::<String>().into_bytes();
    text.truncate(len);
    text
}

#[test]
fn earlier_messages_do_not_change_how_a_message_is_compressed() {
    // Each of these ends its compression in another way: in room to spare, at its very end, in vain.
    let mut deflater = Deflater::default();
    let sizes = [1, 7, 100, 2047, 2048, 3000, 8191, 20_000, 70_000];
    let contents = sizes.map(|len| [noise(len), words(len), json(len)]);
    let contents: Vec<Vec<u8>> = contents.into_iter().flatten().collect();
    let alone: Vec<Option<Vec<u8>>> = contents
        .iter()
        .map(|content| Deflater::default().deflate(content).map(<[u8]>::to_vec))
        .collect();
    for before in &contents {
        for (content, alone) in contents.iter().zip(&alone) {
            deflater.deflate(before);
            let smaller = deflater.deflate(content);
            assert!(
                smaller == alone.as_deref(),
                "{} then {}",
                before.len(),
                content.len()
            );
        }
    }
}

#[test]
fn many_contents_in_vain_leave_no_trace() {
    let (mut deflater, content) = (Deflater::default(), words(20_000));
    let alone = deflater.deflate(&content).map(<[u8]>::to_vec);
    for len in [1, 100, 512, 5000] {
        for _ in 0..300 {
            assert_eq!(deflater.deflate(&noise(len)), None);
        }
        assert!(deflater.deflate(&content) == alone.as_deref(), "{len}");
    }
}

#[test]
fn deflate_round_trip() {
    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
    for len in [200, 512, 2048, 16_384, 65_535, 65_536, 400_000] {
        let content = json(len);
        let smaller = deflater.deflate(&content).unwrap();
        let back = inflated(&mut inflater, smaller, true, content.len());
        assert!(back.as_ref() == Ok(&content), "{len}");
        deflater.rest();
        assert!(deflater.out.capacity() <= KEPT);
    }
}

#[test]
fn an_envelope_goes_around_what_is_deflated() {
    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
    let content = json(2000);
    let smaller = deflater.deflate(&content).unwrap();
    let long = vec![b'p'; MAX_STORED];
    for before in [&b""[..], b"{\"channel\":\"a\",\"content\":", &long] {
        for behind in [&b""[..], b"}", &long] {
            let enveloped = Enveloped::new(before, smaller, behind).unwrap();
            let mut payload = b"before".to_vec();
            enveloped.push(&mut payload);
            let payload = &payload[6..];
            assert_eq!(payload.len(), enveloped.size());
            let around = payload.len() - before.len() - smaller.len() - behind.len();
            assert_eq!(around, 15);
            let whole = [before, &content, behind].concat();
            let back = inflated(&mut inflater, payload, true, MAX);
            assert!(back == Ok(whole));
        }
    }
    let longer = vec![b'p'; MAX_STORED + 1];
    assert!(Enveloped::new(&longer, smaller, b"").is_none());
    assert!(Enveloped::new(b"", smaller, &longer).is_none());
}

#[test]
fn any_bytes_keep_the_invariants() {
    let noise = noise(200_000);
    let content = json(400);
    for round in 0..3000 {
        let at = round * 61 % (noise.len() - 200);
        let mut bytes = noise[at..][..round % 90].to_vec();
        if round % 3 > 0 {
            // Nearly a message: something in it is another, or is missing.
            bytes = [&noise[at..at + 2], &deflated(&content, (round % 10) as i32)].concat();
            let len = bytes.len();
            bytes[2 + round % (len - 2)] ^= noise[at];
            bytes.truncate(len - round % 3 + 1);
        }
        fuzz(&bytes);
    }
}
