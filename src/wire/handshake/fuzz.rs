//! Fuzzing: what must hold for any upgrade request. The target in `fuzz/` and the replayed corpus call it.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken promise is to panic"
)]

use super::*;

/// Panics if a promise is broken.
///
/// Each line is a header's value, and its first byte chooses which header's: random requests are seldom upgrades.
pub fn fuzz(bytes: &[u8]) {
    let mut request = b"GET /ws HTTP/1.1\r\nHost: h\r\n".to_vec();
    for line in bytes.split(|&byte| byte == b'\n') {
        let Some((which, value)) = line.split_first() else {
            continue;
        };
        let name = match which {
            b'u' => "Upgrade",
            b'c' => "Connection",
            b'v' => "Sec-WebSocket-Version",
            b'k' => "Sec-WebSocket-Key",
            b'p' => "Sec-WebSocket-Protocol",
            b'l' => "Content-Length",
            b'e' => "Sec-WebSocket-Extensions",
            _ => "Origin",
        };
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let Ok(Some((head, _))) = crate::wire::http::parse_head(&request) else {
        return;
    };

    let mut out = Vec::new();
    match judge(&head, true) {
        Ok(upgrade) => {
            let key = only(&head, "sec-websocket-key").expect("one key");
            assert!(key.len() == 24 && key.ends_with(b"=="));
            assert_eq!(only(&head, "sec-websocket-version"), Some(&b"13"[..]));
            let offers: Vec<&[u8]> = head.list("sec-websocket-protocol").collect();
            match upgrade.protocol.as_deref() {
                Some(V1) if upgrade.encoding.is_v1() => {}
                Some(alone) => assert_eq!(offers, [alone.as_bytes()]),
                None => assert_ne!(offers.len(), 1),
            }
            assert_eq!(upgrade.encoding.is_v1(), offers.contains(&V1.as_bytes()));
            assert!(upgrade.deflate.is_some() || !upgrade.encoding.is_deflated());
            let off = judge(&head, false).expect("an upgrade");
            assert!(off.deflate.is_none() && !off.encoding.is_deflated());
            switching(&mut out, &upgrade, None);
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut reply = httparse::Response::new(&mut headers);
            assert_eq!(reply.parse(&out), Ok(httparse::Status::Complete(out.len())));
            assert_eq!(reply.code, Some(101));
            // Nothing that a client offers makes a header of its own.
            let confirmed = [upgrade.protocol.is_some(), upgrade.deflate.is_some()];
            let confirmed = confirmed.into_iter().filter(|it| *it).count();
            assert_eq!(reply.headers.len(), confirmed.saturating_add(3));
        }
        Err(refusal) => match refusal.status {
            Status::UpgradeRequired => {
                assert!(refusal.headers.iter().any(|(name, _)| *name == "Upgrade"));
            }
            Status::BadRequest => assert!(!refusal.message.is_empty()),
            other => panic!("{other:?}"),
        },
    }
}
