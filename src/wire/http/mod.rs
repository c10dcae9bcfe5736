//! HTTP/1.1 on the server's side: request heads, bodies, replies, query strings.
//!
//! Owns: the rules of RFC 9112 for one request and one reply, their limits, and how a request that breaks them is
//! answered ([`Refusal`]). Knows: bytes. Never knows: which paths exist, permissions, the time, whether more bytes
//! follow.

mod body;
mod facts;
mod fuzz;
mod head;
mod reply;
mod target;

pub use body::{Body, BodyStep, CONTINUE, Framing, MAX_ASIDE, SavedBody, SavedFraming};
#[doc(hidden)]
pub use fuzz::fuzz;
pub use head::{
    Head, MAX_HEADERS, Method, canonical_name, is_json, is_type, parse_head, worth_parsing,
};
pub(super) use reply::field;
pub use reply::{Field, Refusal, Reply, ReplyOptions, Status, begin_stream, respond};
pub use target::query_pairs;

/// Bytes that a request's head may take, its empty line included; over it the answer is `431` (`docs/limits.md#fixed-limits`).
pub const MAX_HEAD: usize = 16 * 1024;

/// The supported versions. Any other is refused with `505`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// Bytes that a client sent, for an error message: on one line and cut to 64 bytes.
pub(super) fn shown(bytes: &[u8]) -> String {
    match bytes.get(..64) {
        Some(start) if bytes.len() > 64 => format!("{}…", start.escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// `field-vchar`, space or tab (RFC 9110 5.5).
fn is_text(byte: u8) -> bool {
    (byte == b'\t') | ((byte >= b' ') & (byte != 0x7f))
}

/// Whether a header may have this value.
pub fn is_value(value: &[u8]) -> bool {
    value.iter().copied().all(is_text)
}

/// `tchar` (RFC 9110 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether this is a `token` (RFC 9110 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

/// The elements of a comma-separated list (RFC 9110 5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}
