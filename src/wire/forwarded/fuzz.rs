//! Fuzzing: what must hold for any flag and any header. The target in `fuzz/` and the replayed corpus call it.

use super::*;

/// Panics if a promise is broken.
///
/// The first line is the flag's value, the rest is the header.
pub fn fuzz(bytes: &[u8]) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let (flag, header) = bytes.split_at(end);
    let Some(Ok(proxies)) = str::from_utf8(flag).ok().map(Proxies::parse) else {
        return;
    };
    let hops = || header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let client = proxies.client(hops());
    assert_eq!(
        client.map(|c| SocketAddr::new(c.ip().to_canonical(), c.port())),
        client
    );
    assert!(client.is_none_or(|client| !client.ip().is_unspecified()));
    let behind = |hop: &'static str| proxies.client(hops().chain([hop.as_bytes()]));
    // What a proxy appends behind all this takes precedence.
    assert_eq!(behind("garbage"), None);
    let last = SocketAddr::from(([203, 0, 113, 7], 0));
    if proxies.trusts(Some(last.ip())) {
        assert_eq!(behind("203.0.113.7"), client.or(Some(last)))
    } else {
        assert_eq!(behind("203.0.113.7"), Some(last))
    }
}
