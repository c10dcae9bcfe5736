//! Fuzzing: what must hold for any bytes before a request. The target in `fuzz/` and the replayed corpus call it.

use super::*;

/// Panics if a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    let whole = parse(bytes);
    // More input does not change an early result.
    for end in 0..bytes.len() {
        let early = parse(bytes.get(..end).unwrap_or_default());
        assert!(
            early == Ok(None) || early == whole,
            "{end} bytes {early:?}, all {whole:?}"
        );
    }
    match whole {
        Ok(Some((client, used))) => {
            assert!(used <= bytes.len() && used <= MAX_HEADER);
            assert!(client.is_none_or(|client| !client.ip().is_unspecified()));
        }
        Ok(None) => assert!(bytes.len() < MAX_HEADER),
        Err(refusal) => assert_eq!(refusal.status, Status::BadRequest),
    }
}
