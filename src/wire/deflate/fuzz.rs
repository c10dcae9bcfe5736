//! Fuzzing: what must hold for any compressed message, and for any content. The target in `fuzz/` and the replayed corpus
//! call it.

use std::cell::RefCell;

use super::*;

thread_local! {
    /// What has compressed and inflated everything that came before.
    static USED: RefCell<(Deflater, Inflater)> = RefCell::default();
}

/// The message that a payload holds, or how it breaks a rule.
pub(super) fn inflated(
    inflater: &mut Inflater,
    payload: &[u8],
    text: bool,
    max: usize,
) -> Result<Vec<u8>, Violation> {
    let message = inflater.inflate(payload, text, max)?;
    let bytes = message.bytes().to_vec();
    inflater.keep(message);
    assert!(
        inflater.out.capacity() <= KEPT,
        "a large message is remembered"
    );
    Ok(bytes)
}

/// Panics if a promise is broken.
///
/// The first two bytes choose how large a message may be; the rest is taken for a payload, and for content.
pub fn fuzz(bytes: &[u8]) {
    let Some((max, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let max = usize::from(u16::from_le_bytes(*max));
    USED.with_borrow_mut(|(deflater, inflater)| {
        inflate_any(inflater, bytes, max);
        deflate_any(deflater, inflater, bytes);
    });
}

/// Any payload is a message within its limit, or one of four faults, whatever was inflated before.
fn inflate_any(inflater: &mut Inflater, bytes: &[u8], max: usize) {
    let binary = inflated(inflater, bytes, false, max);
    let text = inflated(inflater, bytes, true, max);
    let alone = inflated(&mut Inflater::default(), bytes, false, max);
    assert_eq!(binary, alone, "an earlier message has left a trace");
    match (&binary, &text) {
        (Ok(binary), Ok(text)) => {
            assert!(binary == text && binary.len() <= max);
            assert!(std::str::from_utf8(text).is_ok());
        }
        (Ok(binary), Err(violation)) => {
            assert_eq!(*violation, Violation::BadText);
            assert!(std::str::from_utf8(binary).is_err());
        }
        (Err(violation), Err(with_text)) => {
            assert!(with_text == violation || *with_text == Violation::BadText);
            assert!(matches!(
                violation,
                Violation::TooBig | Violation::BadDeflate | Violation::CutDeflate
            ));
        }
        (Err(_), Ok(_)) => unreachable!("a text is no easier than a binary"),
    }
    if let Ok(message) = &binary {
        // The limit is exact.
        let exact = inflated(inflater, bytes, false, message.len());
        assert_eq!(exact.as_ref(), Ok(message));
        if let Some(less) = message.len().checked_sub(1) {
            let over = inflated(inflater, bytes, false, less);
            assert_eq!(over, Err(Violation::TooBig));
        }
    }
}

/// Any content that is deflated is smaller and is inflated to itself, within an envelope too, whatever was deflated before.
fn deflate_any(deflater: &mut Deflater, inflater: &mut Inflater, bytes: &[u8]) {
    for content in [bytes, &bytes.repeat(9)] {
        let alone = Deflater::default().deflate(content).map(<[u8]>::to_vec);
        let deflated = deflater.deflate(content);
        assert_eq!(
            deflated,
            alone.as_deref(),
            "an earlier content has left a trace"
        );
        let Some(deflated) = deflated else {
            continue;
        };
        assert!(deflated.len() < content.len() && !deflated.ends_with(&TAIL));
        let back = inflated(inflater, deflated, false, content.len());
        assert_eq!(back.as_deref(), Ok(content));
        let (before, behind) = bytes.split_at(bytes.len() / 2);
        let Some(enveloped) = Enveloped::new(before, deflated, behind) else {
            assert!(bytes.len() > MAX_STORED);
            continue;
        };
        let mut payload = Vec::new();
        enveloped.push(&mut payload);
        assert_eq!(payload.len(), enveloped.size());
        let whole = [before, content, behind].concat();
        let back = inflated(inflater, &payload, false, whole.len());
        assert_eq!(back, Ok(whole));
        deflater.rest();
    }
}
