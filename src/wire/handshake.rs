//! RFC 6455 section 4: may this request become a WebSocket, and with what answer.
//!
//! Owns: the judgement of an upgrade request and the bytes of the `101`. Knows: [`Head`]. Never knows: whether the
//! authorizer agrees, whether there is room, which origins are allowed ([`super::origins`] does).
//!
//! Decisions
//! - An unknown subprotocol offered alone is confirmed unread (`docs/protocol.md#subprotocols`), as browsers drop a connection whose only
//!   offer was not taken.

use std::borrow::Cow;

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{Engine, alphabet};
use sha1::{Digest, Sha1};

use super::encoding::Encoding;
use super::extensions::{self, Agreement};
use super::http::{Framing, Head, Method, Refusal, Status, Version, field, is_token, shown};

mod fuzz;
mod saved;

#[doc(hidden)]
pub use fuzz::fuzz;
pub use saved::SavedUpgrade;

/// The subprotocol in which content is told apart from answers (`docs/protocol.md#wsifyv1`).
pub const V1: &str = "wsify.v1";

/// What a key is hashed with (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A correct upgrade request, and what the `101` will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Sec-WebSocket-Accept.
    pub accept: [u8; 28],
    /// The subprotocol to confirm; a token.
    pub protocol: Option<Box<str>>,
    /// The extension to confirm, if it was agreed to: messages of the client may be compressed.
    pub deflate: Option<Agreement>,
    /// How it is sent content, as follows from both.
    pub encoding: Encoding,
}

/// Judges an upgrade request (RFC 6455 4.2.1). Its Origin is the caller's to judge, and whether a chunked body is empty.
/// `compression`: permessage-deflate may be agreed to.
///
/// # Errors
/// `426` what is not an upgrade, and another version; `400` a malformed key, a malformed offer of subprotocols, a body.
pub fn judge(head: &Head, compression: bool) -> Result<Upgrade, Refusal> {
    // HTTP/1.0 knows no Upgrade, and one in it is to be ignored (RFC 9110 7.8).
    let upgrades = head.method == Method::Get
        && head.version == Version::Http11
        && head.has_token("upgrade", "websocket")
        && head.has_token("connection", "upgrade");
    if !upgrades {
        return Err(upgrade_required(
            "upgrade_required",
            "this is a WebSocket endpoint: send GET over HTTP/1.1 with Connection: Upgrade and Upgrade: websocket; \
             a proxy in between must pass both on",
        ));
    }
    if only(head, "sec-websocket-version") != Some(b"13") {
        return Err(upgrade_required(
            "unsupported_version",
            "the version of the WebSocket protocol is not 13: send one Sec-WebSocket-Version: 13",
        )
        .with("Sec-WebSocket-Version", "13"));
    }
    let key = only(head, "sec-websocket-key").filter(|key| is_key(key));
    let key = key.ok_or_else(|| {
        bad_request(
            "bad_key",
            "the Sec-WebSocket-Key is missing or malformed: send one of 16 random bytes in base64",
        )
    })?;
    if let Framing::Length(1..) = head.framing {
        return Err(has_body());
    }
    let protocol = choose(head)?;
    let deflate = if compression {
        extensions::agree(head.headers_named("sec-websocket-extensions"))
    } else {
        None
    };
    Ok(Upgrade {
        accept: accept(key),
        encoding: encoding(protocol.as_deref(), deflate),
        protocol,
        deflate,
    })
}

/// How a client is sent content.
fn encoding(protocol: Option<&str>, deflate: Option<Agreement>) -> Encoding {
    let is_deflated = deflate.is_some_and(Agreement::compresses);
    Encoding::of(protocol == Some(V1), is_deflated)
}

/// The answer to an upgrade request with a body.
pub fn has_body() -> Refusal {
    bad_request(
        "bad_request",
        "an upgrade request must not have a body: send neither Content-Length nor Transfer-Encoding",
    )
}

/// Writes the `101` (RFC 6455 4.2.2). `date` is the text of the Date header.
pub fn switching(out: &mut Vec<u8>, upgrade: &Upgrade, date: Option<&str>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Upgrade: websocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&upgrade.accept);
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = &upgrade.protocol {
        field(out, "Sec-WebSocket-Protocol", protocol);
    }
    if let Some(deflate) = upgrade.deflate {
        field(out, "Sec-WebSocket-Extensions", &deflate.answer());
    }
    if let Some(date) = date {
        field(out, "Date", date);
    }
    out.extend_from_slice(b"\r\n");
}

/// The header's value, if it has one line.
fn only<'a>(head: &'a Head, name: &str) -> Option<&'a [u8]> {
    let mut values = head.headers_named(name);
    values.next().filter(|_| values.next().is_none())
}

/// What a key is read with: padded. The 4 bits behind the 16th byte may be anything, because deployed clients send 24
/// random characters of which they make the last two `==`.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Whether this is 16 bytes in base64, so 24 characters.
fn is_key(key: &[u8]) -> bool {
    // 24 characters may hold 18 bytes; more of them do not fit, and are an error too.
    KEY.decode_slice(key, &mut [0; 18]) == Ok(16)
}

fn accept(key: &[u8]) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let mut accept = [0; 28];
    // 20 bytes are 28 characters: it fits.
    let _ = STANDARD.encode_slice(hash.finalize(), &mut accept);
    accept
}

/// Chooses the subprotocol (docs/protocol.md#subprotocols). Names are case-sensitive (RFC 6455 11.5).
fn choose(head: &Head) -> Result<Option<Box<str>>, Refusal> {
    let mut alone = None;
    let mut v1 = false;
    for (place, offer) in head.list("sec-websocket-protocol").enumerate() {
        let text = str::from_utf8(offer).ok().filter(|_| is_token(offer));
        let text = text.ok_or_else(|| {
            bad_request(
                "bad_protocol",
                format!(
                    "the Sec-WebSocket-Protocol \"{}\" is no token: use letters, digits and !#$%&'*+-.^_`|~",
                    shown(offer)
                ),
            )
        })?;
        v1 |= text == V1;
        alone = (place == 0).then_some(text);
    }
    Ok(if v1 {
        Some(V1.into())
    } else {
        alone.map(Box::from)
    })
}

fn upgrade_required(code: &'static str, message: &'static str) -> Refusal {
    // RFC 9110 15.5.22: a 426 names the protocol that is required.
    Refusal::new(Status::UpgradeRequired, code, message).with("Upgrade", "websocket")
}

fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Status::BadRequest, code, message)
}

#[cfg(test)]
mod tests {
    use super::super::http::parse_head;
    use super::*;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

    fn head(line: &str, headers: &[&str]) -> Head {
        let text = format!("{line}\r\nHost: h\r\n{}\r\n", headers.concat());
        let (head, used) = parse_head(text.as_bytes()).unwrap().unwrap();
        assert_eq!(used, text.len());
        head
    }

    fn judged(line: &str, headers: &[&str]) -> Result<Upgrade, Refusal> {
        judge(&head(line, headers), true)
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_in_the_rfc() {
        // RFC 6455 1.3.
        let upgrade = judged("GET /ws HTTP/1.1", &[UPGRADE, KEY, VERSION]).unwrap();
        assert_eq!(&upgrade.accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(upgrade.protocol, None);
        assert_eq!(upgrade.encoding, Encoding::Raw);
        let mut out = Vec::new();
        switching(&mut out, &upgrade, None);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
    }

    #[test]
    fn the_101_confirms_the_subprotocol_and_tells_the_date() {
        let offer = "Sec-WebSocket-Protocol: token.abc\r\n";
        let upgrade = judged("GET /ws HTTP/1.1", &[UPGRADE, KEY, VERSION, offer]).unwrap();
        let mut out = Vec::new();
        switching(&mut out, &upgrade, Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with(
                "\r\nSec-WebSocket-Protocol: token.abc\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
            ),
            "{text}"
        );
        assert!(!text.contains("Content-Length"));
    }

    #[test]
    fn order_case_and_company_of_the_headers_do_not_matter() {
        let same = [
            &[
                VERSION,
                KEY,
                "connection: upgrade\r\nupgrade: WebSocket\r\n",
            ][..],
            &[
                KEY,
                "CONNECTION: keep-alive, Upgrade\r\nUPGRADE: websocket\r\n",
                VERSION,
            ],
            &[
                "Connection: keep-alive\r\nConnection: ,UPGRADE\r\nUpgrade: h2c, websocket\r\n",
                KEY,
                VERSION,
            ],
            &[UPGRADE, KEY, VERSION, "Content-Length: 0\r\n"],
            &[
                UPGRADE,
                KEY,
                VERSION,
                "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            ],
        ];
        for headers in same {
            let upgrade = judged("GET /ws?token=abc HTTP/1.1", headers);
            assert_eq!(
                upgrade.map(|upgrade| upgrade.accept),
                Ok(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_malformed_upgrade_is_refused_with_what_is_required() {
        const GET: &str = "GET /ws HTTP/1.1";
        let table: &[(&str, &[&str])] = &[
            (GET, &[]),
            (GET, &[KEY, VERSION]),
            (GET, &["Upgrade: websocket\r\n", KEY, VERSION]),
            (GET, &["Connection: Upgrade\r\n", KEY, VERSION]),
            (
                GET,
                &[
                    "Connection: keep-alive\r\nUpgrade: websocket\r\n",
                    KEY,
                    VERSION,
                ],
            ),
            (
                GET,
                &["Connection: Upgrade\r\nUpgrade: h2c\r\n", KEY, VERSION],
            ),
            (
                GET,
                &[
                    "Connection: Upgrade\r\nUpgrade: websockets\r\n",
                    KEY,
                    VERSION,
                ],
            ),
            ("GET /ws HTTP/1.0", &[UPGRADE, KEY, VERSION]),
            ("HEAD /ws HTTP/1.1", &[UPGRADE, KEY, VERSION]),
            ("POST /ws HTTP/1.1", &[UPGRADE, KEY, VERSION]),
            // The first of several faults is told.
            (GET, &["Sec-WebSocket-Version: 8\r\n"]),
        ];
        for (line, headers) in table {
            let refusal = judged(line, headers).unwrap_err();
            assert_eq!(
                refusal.status,
                Status::UpgradeRequired,
                "{line} {headers:?}"
            );
            assert_eq!(refusal.code, "upgrade_required", "{line} {headers:?}");
            assert_eq!(refusal.headers, [("Upgrade", "websocket".into())]);
        }
    }

    #[test]
    fn another_version_or_none_is_told_13() {
        for version in [
            "",
            "Sec-WebSocket-Version: 8\r\n",
            "Sec-WebSocket-Version: 013\r\n",
            "Sec-WebSocket-Version: 13, 8\r\n",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n",
            "Sec-WebSocket-Version:\r\n",
        ] {
            // The key is missing too: the version is judged first.
            let refusal = judged("GET /ws HTTP/1.1", &[UPGRADE, version]).unwrap_err();
            assert_eq!(refusal.status, Status::UpgradeRequired, "{version}");
            assert_eq!(refusal.code, "unsupported_version", "{version}");
            assert!(
                refusal
                    .headers
                    .contains(&("Sec-WebSocket-Version", "13".into()))
            );
            assert!(refusal.headers.contains(&("Upgrade", "websocket".into())));
        }
    }

    #[test]
    fn a_key_is_16_bytes_of_base64_given_once() {
        for key in [
            "",
            "Sec-WebSocket-Key:\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n",
            // 15, 17, 18 and 32 bytes.
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXRoZSBzYW1wbGUgbm9uY2U=\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWVl\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25*ZQ==\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25_ZQ==\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ] {
            let refusal = judged("GET /ws HTTP/1.1", &[UPGRADE, VERSION, key]).unwrap_err();
            assert_eq!(refusal.status, Status::BadRequest, "{key}");
            assert_eq!(refusal.code, "bad_key", "{key}");
        }
    }

    #[test]
    fn unused_bits_of_a_key_may_be_set() {
        for last in ['Q', 'R', 'Z', 'f'] {
            let key = format!("dGhlIHNhbXBsZSBub25jZ{last}==");
            let line = format!("Sec-WebSocket-Key: {key}\r\n");
            let upgrade = judged("GET /ws HTTP/1.1", &[UPGRADE, VERSION, &line]).unwrap();
            // What is hashed is the text, not the bytes (RFC 6455 4.2.2).
            assert_eq!(upgrade.accept, accept(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn an_upgrade_with_a_body_is_refused() {
        for body in [
            "Content-Length: 1\r\n",
            "Content-Length: 99999999999999999999\r\n",
        ] {
            let refusal = judged("GET /ws HTTP/1.1", &[UPGRADE, VERSION, KEY, body]).unwrap_err();
            assert_eq!(refusal.status, Status::BadRequest, "{body}");
        }
    }

    #[test]
    fn subprotocol_negotiation() {
        let table: &[(&str, Option<&str>, Encoding)] = &[
            ("", None, Encoding::Raw),
            (
                "Sec-WebSocket-Protocol: wsify.v1\r\n",
                Some(V1),
                Encoding::V1,
            ),
            (
                "Sec-WebSocket-Protocol: a, wsify.v1\r\n",
                Some(V1),
                Encoding::V1,
            ),
            (
                "Sec-WebSocket-Protocol: wsify.v1\r\nSec-WebSocket-Protocol: a\r\n",
                Some(V1),
                Encoding::V1,
            ),
            (
                "Sec-WebSocket-Protocol: secret-token\r\n",
                Some("secret-token"),
                Encoding::Raw,
            ),
            (
                "Sec-WebSocket-Protocol: , a ,\r\n",
                Some("a"),
                Encoding::Raw,
            ),
            ("Sec-WebSocket-Protocol: a, b\r\n", None, Encoding::Raw),
            ("Sec-WebSocket-Protocol: a, b, c\r\n", None, Encoding::Raw),
            (
                "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n",
                None,
                Encoding::Raw,
            ),
            (
                "Sec-WebSocket-Protocol: WSIFY.V1\r\n",
                Some("WSIFY.V1"),
                Encoding::Raw,
            ),
            ("Sec-WebSocket-Protocol:\r\n", None, Encoding::Raw),
        ];
        for (offer, protocol, encoding) in table {
            let upgrade = judged("GET /ws HTTP/1.1", &[UPGRADE, KEY, VERSION, offer]).unwrap();
            assert_eq!(upgrade.protocol.as_deref(), *protocol, "{offer}");
            assert_eq!(upgrade.encoding, *encoding, "{offer}");
        }
    }

    #[test]
    fn compression_is_agreed_to_only_where_it_may_be() {
        let table: &[(&str, Option<&str>, bool)] = &[
            ("", None, false),
            (
                "Sec-WebSocket-Extensions: permessage-deflate; unknown\r\n",
                None,
                false,
            ),
            (
                "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n",
                Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
                true,
            ),
            (
                "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n",
                Some(
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
                ),
                false,
            ),
        ];
        for (offer, answer, deflated) in table {
            for (protocol, is_v1) in [("", false), ("Sec-WebSocket-Protocol: wsify.v1\r\n", true)] {
                let head = head(
                    "GET /ws HTTP/1.1",
                    &[UPGRADE, KEY, VERSION, protocol, offer],
                );
                let upgrade = judge(&head, true).unwrap();
                let told = upgrade.deflate.map(Agreement::answer);
                assert_eq!(told.as_deref(), *answer, "{offer}");
                assert_eq!(upgrade.encoding, Encoding::of(is_v1, *deflated), "{offer}");
                let mut out = Vec::new();
                switching(&mut out, &upgrade, None);
                let out = String::from_utf8(out).unwrap();
                let line =
                    answer.map(|answer| format!("\r\nSec-WebSocket-Extensions: {answer}\r\n"));
                assert_eq!(out.contains("Extensions"), line.is_some());
                assert!(line.is_none_or(|line| out.contains(&line)), "{out}");

                let off = judge(&head, false).unwrap();
                assert_eq!(off.deflate, None);
                assert_eq!(off.encoding, Encoding::of(is_v1, false));
            }
        }
    }

    #[test]
    fn a_subprotocol_that_is_no_token_is_refused() {
        for offer in ["a b", "a/b", "wsify.v1, \"a\"", "a;b", "ü"] {
            let line = format!("Sec-WebSocket-Protocol: {offer}\r\n");
            let refusal = judged("GET /ws HTTP/1.1", &[UPGRADE, KEY, VERSION, &line]).unwrap_err();
            assert_eq!(refusal.status, Status::BadRequest, "{offer}");
            assert_eq!(refusal.code, "bad_protocol", "{offer}");
        }
    }
}
