//! Fuzzing: what must hold for any offers. The target in `fuzz/` and the replayed corpus call it.

#![expect(clippy::expect_used, reason = "a broken promise is to panic")]

use super::*;

/// Panics if a promise is broken. Each line of `bytes` is one of the header's.
pub fn fuzz(bytes: &[u8]) {
    let lines = || bytes.split(|&byte| byte == b'\n');
    let Some(agreed) = agree(lines()) else {
        return;
    };

    // Something in it was an offer, and what is answered is a legal offer itself, which means the same.
    assert!(bytes.windows(NAME.len()).any(|window| window == NAME));
    let answer = agreed.answer();
    assert_eq!(agree([answer.as_bytes()]), Some(agreed));
    assert!(
        answer
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    );

    // The line that holds it suffices, and what stands behind it in other lines changes nothing.
    let line = lines()
        .find(|line| agree([*line]).is_some())
        .expect("the line with the offer");
    assert_eq!(agree([line]), Some(agreed));
    assert_eq!(agree(lines().chain([NAME])), Some(agreed));
}
