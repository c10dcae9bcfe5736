//! Fuzzing: what must hold for any bytes as a request. The target in `fuzz/` and the replayed corpus call it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken promise is to panic"
)]

use super::*;

/// Panics if a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    let whole = parse_head(bytes);
    // The same head or the same refusal, however the input is cut.
    for size in [1, 7, 100] {
        let mut seen = 0;
        let mut found = Ok(None);
        for piece in bytes.chunks(size) {
            let arrived = &bytes[..seen + piece.len()];
            if worth_parsing(arrived, seen) {
                found = parse_head(arrived);
                if !matches!(found, Ok(None)) {
                    break;
                }
            }
            seen = arrived.len();
        }
        match (&whole, &found) {
            (Ok(Some((a, used))), Ok(Some((b, same)))) => {
                assert_eq!((used, format!("{a:?}")), (same, format!("{b:?}")));
            }
            (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
            // A line that no request begins with may be refused at its end only.
            (Err(_), Ok(None)) => assert!(parse_head(&[bytes, b"\n"].concat()).is_err()),
            (whole, found) => panic!("whole {whole:?}, in pieces of {size} {found:?}"),
        }
    }
    fuzz_body(Framing::Chunked, bytes);
    match whole {
        Ok(None) => assert!(bytes.len() < MAX_HEAD),
        Ok(Some((head, used))) => {
            assert!(
                used <= bytes.len() && used <= MAX_HEAD && head.headers().count() <= MAX_HEADERS
            );
            fuzz_body(head.framing, &bytes[used..]);
            for (_, values) in query_pairs(head.query()) {
                assert!(!values.is_empty());
            }
            let mut out = Vec::new();
            match crate::wire::handshake::judge(&head, true) {
                Ok(upgrade) => crate::wire::handshake::switching(&mut out, &upgrade, None),
                Err(refusal) => respond(&mut out, &refusal.reply(), head.reply_options(), None),
            }
            fuzz_reply(&out);
        }
        Err(refusal) => {
            assert!(refusal.status.code() >= 400 && !refusal.message.is_empty());
            let mut out = Vec::new();
            respond(&mut out, &refusal.reply(), ReplyOptions::LAST, None);
            fuzz_reply(&out);
        }
    }
}

/// The same body, however the input is cut.
fn fuzz_body(framing: Framing, bytes: &[u8]) {
    const LIMIT: u64 = 1000;
    let read = |size: usize| {
        let (mut body, mut kept, mut used) = (Body::new(framing), Vec::new(), 0);
        // Feeding nothing changes nothing.
        let mut fed = body.feed(&[], Some(&mut kept), LIMIT)?;
        for piece in bytes.chunks(size) {
            if fed.complete {
                break;
            }
            fed = body.feed(piece, Some(&mut kept), LIMIT)?;
            assert!(fed.complete || fed.used == piece.len());
            used += fed.used;
        }
        assert!(kept.len() as u64 <= LIMIT);
        Ok::<_, Refusal>((fed.complete, used, kept))
    };
    let whole = read(bytes.len().max(1));
    for size in [1, 7, 100] {
        assert_eq!(read(size), whole);
    }
    match (framing.whole(bytes, LIMIT), whole) {
        (Some(content), Ok((true, _, kept))) => assert_eq!(content, kept),
        (Some(content), other) => panic!("{content:?}, {other:?}"),
        (None, _) => {}
    }
}

/// What is sent is one reply, whatever was asked for.
fn fuzz_reply(bytes: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 20];
    let mut reply = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(used)) = reply.parse(bytes) else {
        panic!("{}", bytes.escape_ascii());
    };
    let length = reply.headers.iter().find(|h| h.name == "Content-Length");
    let length = length.and_then(|h| str::from_utf8(h.value).ok()?.parse().ok());
    // Its length is not that of what follows it where there is no body: to HEAD.
    assert!(bytes.len() == used || Some(bytes.len() - used) == length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutated_requests_keep_the_promises() {
        let seeds: [&[u8]; 4] = [
            b"\r\nPOST http://h:1/b?k=1 HTTP/1.1\r\nHost: [::1]:3\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            b"GET /ws?a=b HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nContent-Length: 12\r\nOrigin: https://a:1\r\n\r\n",
            b"5;a=b\r\nhello\r\n1f\r\n0123456789012345678901234567890\r\n0\r\nA: b\r\n\r\n",
            b"OPTIONS * HTTP/1.0\r\nContent-Length: 99999999999999999999\n\n",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for round in 0..20_000 {
            let mut bytes = seeds[round % seeds.len()].to_vec();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = b"\r\n\0 :;,#*[]%/?\x7f\xff0fg"[random(19)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"\r\n\0 :;,#*[]%/?\x7f\xff0fg"[random(19)]),
                }
            }
            fuzz(&bytes);
            let text = String::from_utf8_lossy(&bytes);
            query_pairs(&text);
            canonical_name(&text);
        }
    }
}
