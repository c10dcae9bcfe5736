//! Fuzzing: what must hold for any bytes from redis. The target in `fuzz/` and the replayed corpus call it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a broken promise is to panic"
)]

use super::*;

/// Panics if a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((reply, used))) = read(rest) {
        assert!(used > 0 && used <= rest.len());
        if let RedisReply::Message { channel, content } = &reply {
            let parts = [
                b"message".as_slice(),
                &rest[channel.clone()],
                &rest[content.clone()],
            ];
            let mut again = Vec::new();
            push_command(&mut again, &parts);
            let whole = again.len();
            assert!(
                matches!(read(&again), Ok(Some((RedisReply::Message { channel, content }, length)))
                    if length == whole && again[channel.clone()] == *parts[1] && again[content.clone()] == *parts[2]),
                "what was written cannot be read"
            );
        }
        // No prefix is a reply, and what follows does not change it.
        assert_eq!(read(&rest[..used - 1]), Ok(None));
        assert_eq!(read(&rest[..used]), Ok(Some((reply, used))));
        rest = &rest[used..];
    }
}
