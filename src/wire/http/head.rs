//! A request's head: its bytes and its lines (RFC 9112 2 to 5).
//!
//! Decisions
//! - `httparse` splits a head into its parts rather than a parser of our own, because that needs SIMD and years of
//!   fuzzing. The rules of RFC 9112 about the parts' meaning are checked here. Reconsider when httparse accepts what
//!   section 5 forbids.
//! - A [`Head`] owns one copy of its bytes and spans into it, rather than borrowing from the input, because it is part
//!   of an `Input`. That is two allocations per request, a twentieth of the cost of a `POST`.
//! - A lone LF ends no line, although RFC 9112 2.2 permits that it does. A proxy that takes it for a part of a value
//!   would see other headers, which allows request smuggling. No library writes it.

use std::mem::MaybeUninit;

use super::body::Framing;
use super::facts::HeaderFacts;
use super::reply::{Refusal, ReplyOptions, Status, bad_request};
use super::target::RequestTarget;
use super::{MAX_HEAD, Version, elements, is_token, shown};

mod saved;

/// Header lines that a request may have; over it the answer is `431` (`docs/limits.md#fixed-limits`).
pub const MAX_HEADERS: usize = 100;

/// A request's method. Methods are case-sensitive (RFC 9110 9.1), so `get` is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Other,
}

/// A place in a head's bytes. [`MAX_HEAD`] fits in 16 bits.
#[derive(Clone, Copy, Debug, Default)]
struct HeadSpan {
    at: u16,
    len: u16,
}

impl HeadSpan {
    /// Where `part`, a slice of `whole`, lies in it.
    fn of(part: &[u8], whole: &[u8]) -> HeadSpan {
        let at = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        HeadSpan {
            at: at as u16,
            len: part.len() as u16,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: HeadSpan,
    value: HeadSpan,
}

/// A request's head, complete and well-formed.
#[derive(Debug)]
pub struct Head {
    bytes: Box<[u8]>,
    lines: Box<[Line]>,
    path: HeadSpan,
    query: HeadSpan,
    pub method: Method,
    pub version: Version,
    pub framing: Framing,
    /// Whether the connection stays open for another request (RFC 9112 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for [`CONTINUE`](super::CONTINUE) before it sends the body. Always false without a body
    /// and for HTTP/1.0.
    pub expects_continue: bool,
}

impl Head {
    /// Bytes that it takes in memory.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The target's path, as sent: `/ws`. Of an absolute target (RFC 9112 3.2.2) its path, `/` if it has none. For
    /// `OPTIONS *` it is `*`, for `CONNECT` the authority. UTF-8.
    pub fn path(&self) -> &[u8] {
        match self.slice(self.path) {
            b"" => b"/",
            path => path,
        }
    }

    /// The target's query, as sent, without its `?`; empty when there is none.
    pub fn query(&self) -> &str {
        self.text(self.query)
    }

    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers_named(name).next()
    }

    /// Every value of a header, in the order of its lines.
    pub fn headers_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.lines
            .iter()
            // Most names already differ in length.
            .filter(move |line| usize::from(line.name.len) == name.len())
            .filter(move |line| self.slice(line.name).eq_ignore_ascii_case(name.as_bytes()))
            .map(|line| self.slice(line.value))
    }

    /// Every header line, in order, its name in the case that was sent, its value without the white space around it.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines
            .iter()
            .map(|line| (self.text(line.name), self.slice(line.value)))
    }

    /// The elements of a comma-separated header, its lines taken as one list, empty elements ignored (RFC 9110 5.6.1).
    pub fn list(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers_named(name).flat_map(elements)
    }

    /// Whether the list that a header holds has this element, whatever its case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// How the reply to this request is to be sent.
    pub fn reply_options(&self) -> ReplyOptions {
        ReplyOptions {
            version: self.version,
            close: !self.keep_alive,
            head_only: self.method == Method::Head,
        }
    }

    fn slice(&self, span: HeadSpan) -> &[u8] {
        let (at, len) = (usize::from(span.at), usize::from(span.len));
        let rest = self.bytes.get(at..).unwrap_or_default();
        rest.get(..len).unwrap_or_default()
    }

    fn text(&self, span: HeadSpan) -> &str {
        str::from_utf8(self.slice(span)).unwrap_or_default()
    }
}

/// Whether [`parse_head`] can yield more for `bytes` than for the first `already_seen` of them. It can when the first
/// line has begun, a line has ended, or the limit is reached. So a head that arrives byte by byte is not parsed once
/// per byte.
pub fn worth_parsing(bytes: &[u8], already_seen: usize) -> bool {
    let (seen, new) = bytes.split_at_checked(already_seen).unwrap_or((bytes, &[]));
    if new.is_empty() {
        return false;
    }
    bytes.len() >= MAX_HEAD
        || seen.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
        || memchr::memchr(b'\n', new).is_some()
}

/// Reads a request's head from the start of `bytes`: the head and its length, or `None` if it is incomplete. Empty
/// lines before it are skipped (RFC 9112 2.2) and count to [`MAX_HEAD`].
///
/// What cannot be a request is refused as early as possible: by its first byte, its first line, or the line that breaks
/// a rule.
///
/// # Errors
/// `400` what RFC 9112 calls malformed, `417` an unknown expectation, `431` over [`MAX_HEAD`] or [`MAX_HEADERS`],
/// `501` an unknown transfer coding, `505` another version. After any of them the connection has no next request.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let within = bytes.get(..MAX_HEAD).unwrap_or(bytes);
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request
        .parse_with_uninit_headers(within, &mut headers)
        .map_err(|error| not_a_request(error, within))?;

    let extent = match parsed {
        httparse::Status::Complete(used) => within.get(..used).unwrap_or(within),
        httparse::Status::Partial => within,
    };
    if has_lone_lf(extent) {
        return Err(bad_request(
            "a line ends in a LF alone: end each line with CR LF",
        ));
    }

    let (Some(name), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return not_yet(within);
    };
    let target = RequestTarget::parse(name, target)?;
    let httparse::Status::Complete(used) = parsed else {
        return not_yet(within);
    };

    let version = match minor {
        0 => Version::Http10,
        _ => Version::Http11,
    };
    let facts = HeaderFacts::read(request.headers, version)?;
    let framing = facts.framing(version)?;
    let copied = within.get(..used).unwrap_or(within);
    let head = Head {
        bytes: copied.into(),
        lines: request
            .headers
            .iter()
            .map(|header| Line {
                name: HeadSpan::of(header.name.as_bytes(), copied),
                value: HeadSpan::of(header.value, copied),
            })
            .collect(),
        path: HeadSpan::of(target.path.as_bytes(), copied),
        query: HeadSpan::of(target.query.as_bytes(), copied),
        method: match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        },
        version,
        framing,
        keep_alive: !facts.close && (facts.keep_alive || version == Version::Http11),
        expects_continue: facts.expects_continue && framing.announces_body(),
    };
    Ok(Some((head, used)))
}

/// Checks all of it, wherever one is found, so that many bytes are compared at once.
fn has_lone_lf(head: &[u8]) -> bool {
    let first = head.first() == Some(&b'\n');
    let pairs = head.iter().zip(head.get(1..).unwrap_or_default());
    pairs.fold(first, |found, (&before, &byte)| {
        found | ((byte == b'\n') & (before != b'\r'))
    })
}

fn not_yet(within: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    if within.len() < MAX_HEAD {
        return Ok(None);
    }
    Err(Refusal::new(
        Status::HeadTooLarge,
        "head_too_large",
        "the request's head is over 16 KiB: send a shorter URL, or fewer or shorter headers",
    ))
}

fn not_a_request(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(
            Status::HeadTooLarge,
            "head_too_large",
            "the request has over 100 header lines: send fewer",
        ),
        httparse::Error::Version => other_version(bytes),
        httparse::Error::HeaderName => bad_request(
            "a header line is malformed: send `Name: value`, with no space before the colon and not folded over lines",
        ),
        httparse::Error::HeaderValue => bad_request(
            "a header's value holds a control character: send text, and end each line with CR LF",
        ),
        httparse::Error::NewLine => {
            bad_request("a line ends in a CR alone: end each line with CR LF")
        }
        httparse::Error::Token | httparse::Error::Status => match bytes.first() {
            // A TLS record of type handshake (RFC 8446 5.1).
            Some(0x16) => bad_request(
                "this looks like TLS, but this port speaks plain HTTP: use http:// or ws://, or put a TLS proxy in front",
            ),
            _ => bad_request(
                "this is not HTTP/1.1: send a request line like `GET /ws HTTP/1.1`, its parts one space apart",
            ),
        },
    }
}

fn other_version(bytes: &[u8]) -> Refusal {
    let word = bytes.split(|&byte| byte == b' ').nth(2).unwrap_or_default();
    let word = word.split(|byte| b"\r\n".contains(byte)).next();
    let word = word.unwrap_or_default();
    match word.strip_prefix(b"HTTP/") {
        Some([b'0'..=b'9'] | [b'0'..=b'9', b'.'] | [b'0'..=b'9', b'.', b'0'..=b'9', ..]) => {
            Refusal::new(
                Status::VersionNotSupported,
                "version_not_supported",
                format!(
                    "\"{}\" is not supported: use HTTP/1.1 or HTTP/1.0",
                    shown(word)
                ),
            )
        }
        _ => bad_request(format!(
            "the request line ends in \"{}\": end it with HTTP/1.1",
            shown(word)
        )),
    }
}

/// Whether a Content-Type is `application/json`, whatever its parameters.
pub fn is_json(content_type: &[u8]) -> bool {
    is_type(content_type, "application/json")
}

/// Whether a Content-Type is of this type, whatever its parameters (RFC 9110 8.3.1).
pub fn is_type(content_type: &[u8], expected: &str) -> bool {
    let Some((kind, rest)) = content_type.split_at_checked(expected.len()) else {
        return false;
    };
    let rest = rest.trim_ascii_start();
    kind.eq_ignore_ascii_case(expected.as_bytes()) && (rest.is_empty() || rest.starts_with(b";"))
}

/// A header's name as Go's `textproto.CanonicalMIMEHeaderKey` writes it: `user-agent` is `User-Agent`; what is no
/// token is left as it is.
pub fn canonical_name(name: &str) -> String {
    if !is_token(name.as_bytes()) {
        return name.to_owned();
    }
    let mut upper = true;
    name.chars()
        .map(|c| {
            let c = if upper {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            upper = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests;
