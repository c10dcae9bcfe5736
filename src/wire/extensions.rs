//! The one supported extension, permessage-deflate (RFC 7692): how it is negotiated (`docs/protocol.md#compression`).
//!
//! Owns: how an offer is read (RFC 6455 section 9.1, RFC 7692 section 7.1), and the answer to it. Never knows: whether
//! compression is switched on, or how anything is compressed ([`super::deflate`] does).
//!
//! Decisions
//! - Both sides give up context takeover rather than a window for each connection. So content is compressed once for
//!   all members, and a connection owns no window. Reconsider when a client cannot do without.
//! - A malformed offer is ignored, rather than failing the handshake as RFC 6455 section 9.1 says. So a client that
//!   works without the extension keeps working when compression is switched on.
//! - Names are case-sensitive, as in other servers. A client that offered `Permessage-Deflate` would fail the
//!   connection if the answer were `permessage-deflate`.

use super::http::is_token;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The name that is registered for it (RFC 7692 section 7).
const NAME: &[u8] = b"permessage-deflate";

/// The largest window, in bits, and the default.
const MAX_WINDOW_BITS: u8 = 15;

/// permessage-deflate was agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The window that the client asked the server to compress with, in bits: 8 to 15. `None`: it did not ask.
    server_max_window_bits: Option<u8>,
}

impl Agreement {
    /// Whether the client is sent compressed content. A client that asks for a smaller window gets all content plain,
    /// because its window would need a second compression. RFC 7692 section 6 leaves that to the sender.
    pub fn compresses(self) -> bool {
        self.server_max_window_bits
            .is_none_or(|bits| bits == MAX_WINDOW_BITS)
    }

    /// The `server_max_window_bits` of the agreement. `None`: the client did not ask.
    pub fn server_max_window_bits(self) -> Option<u8> {
        self.server_max_window_bits
    }

    /// The agreement with these window bits. `None`: no window has this many bits.
    pub fn of(server_max_window_bits: Option<u8>) -> Option<Agreement> {
        let bits = server_max_window_bits;
        let legal = bits.is_none_or(|bits| (8..=MAX_WINDOW_BITS).contains(&bits));
        legal.then_some(Agreement {
            server_max_window_bits,
        })
    }

    /// The value of the header that confirms it.
    pub fn answer(self) -> String {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        // RFC 7692 section 7.1.2.1: an offer with this parameter is accepted by including it.
        if let Some(bits) = self.server_max_window_bits {
            answer += &format!("; server_max_window_bits={bits}");
        }
        answer
    }
}

/// Takes the first legal offer of permessage-deflate in the lines of `Sec-WebSocket-Extensions`.
pub fn agree<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Agreement> {
    lines
        .into_iter()
        .flat_map(|line| split(line, b','))
        .find_map(judge)
}

/// Judges one offer. `None`: it is another extension, or one of its parameters is unknown, doubled or malformed.
fn judge(offer: &[u8]) -> Option<Agreement> {
    let mut parts = split(offer, b';');
    if parts.next()? != NAME {
        return None;
    }
    let mut seen: [bool; 4] = [false; 4];
    let mut server_max_window_bits = None;
    for part in parts {
        let (name, value) = parameter(part)?;
        let at = match (name, value) {
            (b"server_no_context_takeover", None) => 0,
            (b"client_no_context_takeover", None) => 1,
            (b"server_max_window_bits", Some(value)) => {
                server_max_window_bits = Some(window_bits(&value)?);
                2
            }
            // A parameter about the client's own window needs no answer: any window can be inflated.
            (b"client_max_window_bits", None) => 3,
            (b"client_max_window_bits", Some(value)) => {
                window_bits(&value)?;
                3
            }
            _ => return None,
        };
        if std::mem::replace(seen.get_mut(at)?, true) {
            return None;
        }
    }
    Some(Agreement {
        server_max_window_bits,
    })
}

/// RFC 7692 section 7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit.saturating_sub(b'0')),
        [b'1', digit @ b'0'..=b'5'] => Some(digit.saturating_sub(b'0').saturating_add(10)),
        _ => None,
    }
}

/// A parameter's name, and its value if it has one: a token, bare or as a quoted string.
fn parameter(part: &[u8]) -> Option<(&[u8], Option<Vec<u8>>)> {
    let Some(equals) = part.iter().position(|&byte| byte == b'=') else {
        return is_token(part).then_some((part, None));
    };
    let (name, value) = part.split_at_checked(equals)?;
    let (name, value) = (name.trim_ascii_end(), value.get(1..)?.trim_ascii_start());
    let value = match value {
        [b'"', quoted @ .., b'"'] => unquote(quoted)?,
        bare => bare.to_vec(),
    };
    (is_token(name) && is_token(&value)).then_some((name, Some(value)))
}

/// The text between the quotes, without the backslashes. `None`: it has a quote in the middle.
fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        value.push(match byte {
            b'\\' => *bytes.next()?,
            b'"' => return None,
            byte => byte,
        });
    }
    Some(value)
}

/// The parts between separators that stand in no quoted string, without the white space around them.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |&byte| {
        let separates = byte == separator && !quoted;
        match byte {
            b'\\' if quoted && !escaped => escaped = true,
            b'"' if !escaped => quoted = !quoted,
            _ => escaped = false,
        }
        separates
    })
    .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to lines of offers.
    fn answer(lines: &[&str]) -> Option<String> {
        agree(lines.iter().map(|line| line.as_bytes())).map(Agreement::answer)
    }

    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn every_legal_offer_is_agreed_to_without_context_takeover() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate;client_max_window_bits",
            // RFC 7692 section 7.1, the examples.
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=\"10\"",
            "permessage-deflate; client_max_window_bits=\"1\\0\"",
            "permessage-deflate; client_max_window_bits = 8",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover",
            "\tpermessage-deflate ;server_no_context_takeover\t; client_no_context_takeover;client_max_window_bits=15 ",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(BOTH), "{offer}");
            assert!(agree([offer.as_bytes()]).unwrap().compresses(), "{offer}");
        }
    }

    #[test]
    fn a_window_is_told_back_and_a_small_one_means_plain_contents() {
        for bits in 8..=15 {
            for quote in ["", "\""] {
                let offer = format!(
                    "permessage-deflate; server_max_window_bits={quote}{bits}{quote}; client_max_window_bits"
                );
                let agreed = agree([offer.as_bytes()]).unwrap();
                let told = format!("{BOTH}; server_max_window_bits={bits}");
                assert_eq!(agreed.answer(), told);
                assert_eq!(agreed.compresses(), bits == 15, "{offer}");
            }
        }
    }

    #[test]
    fn an_offer_that_is_not_legal_is_passed_over() {
        for offer in [
            "",
            ",",
            ";",
            "x-webkit-deflate-frame",
            "Permessage-Deflate",
            "permessage-deflat",
            "\"permessage-deflate\"",
            "permessage-deflate=1",
            "permessage-deflate;",
            "permessage-deflate; ;client_max_window_bits",
            // Unknown.
            "permessage-deflate; unknown",
            "permessage-deflate; Client_Max_Window_Bits",
            "permessage-deflate; client_max_window_bits; unknown=1",
            // Doubled.
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            // With a value, or without one.
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=\"\"",
            "permessage-deflate; server_max_window_bits",
            // Out of range, or no number.
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=9.0",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=100",
            "permessage-deflate; client_max_window_bits=-9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits==9",
            "permessage-deflate; =9",
            // Quotes that end early, late or never.
            "permessage-deflate; client_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=9\"",
            "permessage-deflate; client_max_window_bits=\"9\"9\"",
            "permessage-deflate; client_max_window_bits=\"9\\\"",
            "permessage-deflate; client_max_window_bits=\"9 \"",
            "permessage-deflate; client_max_window_bits 9",
            // What stands within quotes is not an offer.
            "x; y=\"a, permessage-deflate, b\"",
            "x; y=\"a\\\", permessage-deflate, b\"",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
    }

    #[test]
    fn the_first_legal_offer_is_taken() {
        let table: &[(&[&str], &str)] = &[
            (
                &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
                "10",
            ),
            (
                &["permessage-deflate, permessage-deflate; server_max_window_bits=10"],
                "",
            ),
            // RFC 7692 section 7: a fallback without the parameter that may not be known.
            (
                &[
                    "permessage-deflate; use_y; server_max_window_bits=9, permessage-deflate; server_max_window_bits=12",
                ],
                "12",
            ),
            (
                &["a, b; c=d", ",permessage-deflate; server_max_window_bits=9"],
                "9",
            ),
            (
                &["x; y=\"a,b;\\\"c\" , permessage-deflate; server_max_window_bits=9,"],
                "9",
            ),
            // A quoted string ends with its line.
            (
                &["x; y=\"", "permessage-deflate; server_max_window_bits=9"],
                "9",
            ),
        ];
        for (lines, bits) in table {
            let told = match *bits {
                "" => BOTH.to_owned(),
                bits => format!("{BOTH}; server_max_window_bits={bits}"),
            };
            assert_eq!(answer(lines), Some(told), "{lines:?}");
        }
        assert_eq!(answer(&[]), None);
    }

    #[test]
    fn any_bytes_keep_the_invariants() {
        let parts: &[&str] = &[
            "permessage-deflate",
            "server_max_window_bits",
            "client_max_window_bits",
            "client_no_context_takeover",
            "=",
            ";",
            ",",
            "\"",
            "\\",
            "9",
            "15",
            " ",
            "\n",
            "é",
        ];
        let mut seed = 1u64;
        for round in 0..20_000 {
            let bytes: String = (0..round % 12)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    parts[(seed >> 33) as usize % parts.len()]
                })
                .collect();
            fuzz(bytes.as_bytes());
        }
    }
}
