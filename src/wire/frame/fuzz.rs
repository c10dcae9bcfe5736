//! Fuzzing: what must hold for any bytes as a frame. The target in `fuzz/` and the replayed corpus call it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken promise is to panic"
)]

use super::*;

/// Panics if a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    let Some(header) = parse(bytes) else {
        assert!(bytes.len() < 2);
        return;
    };

    // What is known early never changes, and is known as soon as its bytes are there.
    for end in 2..bytes.len().min(header.size) {
        let early = parse(&bytes[..end]).expect("two bytes are there");
        assert_eq!(
            (early.size, early.mask),
            (header.size, header.mask.filter(|_| end >= header.size))
        );
        assert!(early.len.is_none() || early.len == header.len);
        for (within, deflate) in [(false, false), (true, false), (false, true), (true, true)] {
            if let Err(violation) = judge(&early, within, 1000, deflate) {
                assert!((1..=MAX_CONTROL - 2).contains(&violation.reason().len()));
                assert_eq!(
                    judge(&header, within, 1000, deflate).map_err(|late| late.code()),
                    Err(violation.code())
                );
            }
        }
    }
    assert_eq!(header.mask.is_some(), bytes.len() >= header.size);
    let (Some(len), Some(mask)) = (header.len, header.mask) else {
        return;
    };

    // What we would write is what we read, and nothing else is in its shortest form.
    if let Some(opcode) = Opcode::from_bits(header.opcode)
        && header.fin
        && header.rsv == 0
        && !header.masked
    {
        let mut ours = Vec::new();
        push_header(&mut ours, opcode, len as usize);
        assert_eq!(header.is_minimal(), ours == bytes[..header.size]);
    }

    // What is written one behind the other is counted one by one.
    let payload = &bytes[header.size..];
    let mut frames = Vec::new();
    for part in [payload, b"", payload] {
        push_frame(&mut frames, Opcode::Text, part);
    }
    assert_eq!(count(&frames), 3);

    // Unmasking is what the RFC says, wherever the payload was torn.
    let expected: Vec<u8> = payload
        .iter()
        .enumerate()
        .map(|(i, byte)| byte ^ mask[i % 4])
        .collect();
    for torn in [0, payload.len() / 3, payload.len()] {
        let mut pieces = payload.to_vec();
        let (left, right) = pieces.split_at_mut(torn);
        let is_ascii = unmask(left, mask) & unmask(right, advance(mask, torn));
        assert_eq!(is_ascii, expected.is_ascii());
        assert_eq!(pieces, expected);
    }
}
