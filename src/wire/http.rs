//! HTTP/1.1 on the server's side: request heads, bodies, replies, query strings.
//!
//! Owns: the rules of RFC 9112 for one request and one reply, their limits, and what a request that breaks them
//! is told ([`Refusal`]). Knows: bytes. Never knows: which paths exist, who may do what, what time it is, whether
//! more bytes will come.
//!
//! Decisions
//! - `httparse` splits a head into its parts, over a parser of our own, because that is the part which wants SIMD
//!   and fuzzing years; everything that RFC 9112 says about the parts' meaning is judged here. Reconsider when
//!   httparse starts to forgive what section 5 forbids.
//! - A [`Head`] owns one copy of its bytes and spans into it, over borrowing from the input, because then it can be handed
//!   on in an event as any other value. That is two allocations a request, a twentieth of what a `POST` costs here.
//! - A lone LF ends no line, though RFC 9112 2.2 permits that it does: a proxy in front that takes it for a part of a
//!   value would see other headers than we do, and that is how requests are smuggled. Nobody's library writes it.
//! - A path is compared as it was sent, not percent-decoded: a proxy's rule about `/metrics` must not be dodged by
//!   spelling it `/%6detrics`.
//! - A target may hold bytes that RFC 3986 wants encoded (`{`, `"`, `|`, UTF-8), because clients send them in
//!   queries; `#` may not, because a fragment is never sent and two parsers would differ on where the query ends.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::mem::MaybeUninit;

use super::authority;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// Bytes that a request's head may take, its empty line included; over it the answer is `431` (CONTRACT §3).
pub const MAX_HEAD: usize = 16 * 1024;

/// Header lines that a request may have; over it the answer is `431` (CONTRACT §3).
pub const MAX_HEADERS: usize = 100;

/// Bytes that the chunk extensions and trailers of one body may take. They are read and thrown away, so the limit
/// only bounds what a client can make us read for nothing; it is the head's, which carries the same sort of thing.
pub const MAX_ASIDE: usize = MAX_HEAD;

/// What a client that sent `Expect: 100-continue` waits for (RFC 9110 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A header line of a reply.
pub type Field = (&'static str, Cow<'static, str>);

// ---------------------------------------------------------------------------------------------- request heads

/// What a request wants done. Methods are case-sensitive (RFC 9110 9.1), so `get` is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Other,
}

/// The versions that are spoken here; any other is refused with `505`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How the end of a request's body is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes. A number that no `u64` holds is `u64::MAX`: well-formed, and over any limit.
    Length(u64),
    Chunked,
}

impl Framing {
    /// Whether a body is announced that is longer than nothing.
    pub fn announces_body(self) -> bool {
        !matches!(self, Framing::None | Framing::Length(0))
    }

    /// The body, where it lies wholly in `rest` (what follows the head) in one piece and within `limit` bytes: the
    /// common case, which needs no copy. `None` is "use a [`Body`]", which also says what is wrong.
    pub fn whole(self, rest: &[u8], limit: u64) -> Option<&[u8]> {
        match self {
            Framing::None => rest.get(..0),
            Framing::Length(length) if length <= limit => rest.get(..usize::try_from(length).ok()?),
            Framing::Length(_) | Framing::Chunked => None,
        }
    }
}

/// A place in a head's bytes. [`MAX_HEAD`] fits in 16 bits.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    at: u16,
    len: u16,
}

impl Span {
    /// Where `part`, a slice of `whole`, lies in it.
    fn of(part: &[u8], whole: &[u8]) -> Span {
        let at = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Span {
            at: at as u16,
            len: part.len() as u16,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Span,
    value: Span,
}

/// A request's head, complete and well-formed.
#[derive(Debug)]
pub struct Head {
    bytes: Box<[u8]>,
    lines: Box<[Line]>,
    path: Span,
    query: Span,
    pub method: Method,
    pub version: Version,
    pub framing: Framing,
    /// Whether the client wants to use the connection again (RFC 9112 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for [`CONTINUE`] before it sends the body. Never without a body, never for HTTP/1.0.
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
            // Most differ in length already.
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
    pub fn manner(&self) -> Manner {
        Manner {
            version: self.version,
            close: !self.keep_alive,
            head_only: self.method == Method::Head,
        }
    }

    fn slice(&self, span: Span) -> &[u8] {
        let (at, len) = (usize::from(span.at), usize::from(span.len));
        let rest = self.bytes.get(at..).unwrap_or_default();
        rest.get(..len).unwrap_or_default()
    }

    fn text(&self, span: Span) -> &str {
        str::from_utf8(self.slice(span)).unwrap_or_default()
    }
}

fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether [`parse_head`] can say anything about `bytes` that it could not say about the first `already_seen` of them:
/// something other than empty lines began, a line ended, or the limit is reached. Asking first keeps a head that
/// arrives byte by byte from being parsed once per byte.
pub fn worth_parsing(bytes: &[u8], already_seen: usize) -> bool {
    let (seen, new) = bytes.split_at_checked(already_seen).unwrap_or((bytes, &[]));
    if new.is_empty() {
        return false;
    }
    bytes.len() >= MAX_HEAD
        || seen.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
        || memchr::memchr(b'\n', new).is_some()
}

/// Reads a request's head from the start of `bytes`: the head and how many bytes it took, or `None` if it is not all
/// there yet. Empty lines before it are skipped (RFC 9112 2.2) and count to [`MAX_HEAD`].
///
/// What can be no request is known as early as can be: by its first byte, by its first line, by the line that breaks
/// the rules.
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
    let target = Target::parse(name, target)?;
    let httparse::Status::Complete(used) = parsed else {
        return not_yet(within);
    };

    let version = match minor {
        0 => Version::Http10,
        _ => Version::Http11,
    };
    let told = Told::by(request.headers, version)?;
    let copied = within.get(..used).unwrap_or(within);
    let head = Head {
        bytes: copied.into(),
        lines: request
            .headers
            .iter()
            .map(|header| Line {
                name: Span::of(header.name.as_bytes(), copied),
                value: Span::of(header.value, copied),
            })
            .collect(),
        path: Span::of(target.path.as_bytes(), copied),
        query: Span::of(target.query.as_bytes(), copied),
        method: match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        },
        version,
        framing: told.framing,
        keep_alive: told.keep_alive,
        expects_continue: told.expects_continue,
    };
    Ok(Some((head, used)))
}

/// Looks at all of it, wherever one is found: so many bytes are compared at once.
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
                "this looks like TLS, but plain HTTP is spoken here: use http:// or ws://, or put a TLS proxy in front",
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
                    "\"{}\" is not spoken here: use HTTP/1.1 or HTTP/1.0",
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

/// A request's target, taken apart (RFC 9112 3.2). Its parts are slices of it.
struct Target<'a> {
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Result<Target<'a>, Refusal> {
        let malformed = |what: &str| {
            bad_request(format!(
                "the target \"{}\" {what}",
                shown(target.as_bytes())
            ))
        };
        if memchr::memchr(b'#', target.as_bytes()).is_some() {
            return Err(malformed("holds a '#': write it as %23, or leave it out"));
        }
        if target.starts_with('/') {
            return Ok(Target::split(target));
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Target {
                path: target,
                query: "",
            });
        }
        if method == "CONNECT" {
            return match authority::split(target.as_bytes()) {
                Some((host, Some(_))) if !host.is_empty() => Ok(Target {
                    path: target,
                    query: "",
                }),
                _ => Err(malformed("is not host:port, as CONNECT wants it")),
            };
        }
        let (scheme, rest) = target
            .split_once("://")
            .ok_or_else(|| malformed("is no path: let it begin with '/'"))?;
        let known = ["http", "https", "ws", "wss"];
        if !known.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(malformed("has an unknown scheme: use http or https"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
        match authority::split(authority.as_bytes()) {
            Some((host, _)) if !host.is_empty() => Ok(Target::split(rest)),
            _ => Err(malformed("has no valid host: write http://host/path")),
        }
    }

    fn split(target: &'a str) -> Target<'a> {
        let end = target.bytes().position(|byte| byte == b'?');
        let end = end.unwrap_or(target.len());
        let (path, query) = target.split_at_checked(end).unwrap_or((target, ""));
        Target {
            path,
            query: query.strip_prefix('?').unwrap_or_default(),
        }
    }
}

/// A request's transfer codings, counted.
#[derive(Default)]
struct Codings {
    all: usize,
    chunked: usize,
    last_is_chunked: bool,
}

/// What a request's headers say about the request itself.
struct Told {
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
}

impl Told {
    fn by(headers: &[httparse::Header], version: Version) -> Result<Told, Refusal> {
        let mut hosts = 0_usize;
        let mut length = None;
        let mut codings = None;
        let (mut close, mut keep_alive, mut expects_continue) = (false, false, false);

        for header in headers {
            let (name, value) = (header.name, header.value);
            // The lengths of the names that matter here differ, so that most headers cost one comparison.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    hosts = hosts.saturating_add(1);
                    if authority::split(value).is_none() {
                        return Err(bad_request(format!(
                            "the Host \"{}\" is malformed: send host or host:port",
                            shown(value)
                        )));
                    }
                }
                6 if name.eq_ignore_ascii_case("expect") && version == Version::Http11 => {
                    for expectation in elements(value) {
                        if !expectation.eq_ignore_ascii_case(b"100-continue") {
                            return Err(Refusal::new(
                                Status::ExpectationFailed,
                                "expectation_failed",
                                format!(
                                    "the expectation \"{}\" cannot be met: only 100-continue is known",
                                    shown(expectation)
                                ),
                            ));
                        }
                        expects_continue = true;
                    }
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    for option in elements(value) {
                        close |= option.eq_ignore_ascii_case(b"close");
                        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    if length.is_some() {
                        return Err(bad_request("Content-Length is given twice: send it once"));
                    }
                    length = Some(content_length(value)?);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    let codings: &mut Codings = codings.get_or_insert_default();
                    for coding in elements(value) {
                        codings.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                        let chunked = usize::from(codings.last_is_chunked);
                        codings.chunked = codings.chunked.saturating_add(chunked);
                        codings.all = codings.all.saturating_add(1);
                    }
                }
                _ => {}
            }
        }

        // RFC 9112 3.2.
        match hosts {
            1 => {}
            0 if version == Version::Http10 => {}
            0 => return Err(bad_request("there is no Host header: send one")),
            _ => return Err(bad_request("Host is given twice: send it once")),
        }
        // RFC 9112 6.1 and 6.3.
        let framing = match (codings, length) {
            (None, None) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
            (Some(_), Some(_)) => {
                return Err(bad_request(
                    "there is both a Content-Length and a Transfer-Encoding: send one of them",
                ));
            }
            (Some(_), None) if version == Version::Http10 => {
                return Err(bad_request(
                    "HTTP/1.0 has no Transfer-Encoding: send a Content-Length, or use HTTP/1.1",
                ));
            }
            (Some(codings), None) if codings.chunked != 1 || !codings.last_is_chunked => {
                return Err(bad_request(
                    "the Transfer-Encoding does not end in one chunked: send `Transfer-Encoding: chunked`",
                ));
            }
            (Some(codings), None) if codings.all != 1 => {
                return Err(Refusal::new(
                    Status::NotImplemented,
                    "not_implemented",
                    "a transfer coding other than chunked is not understood here: send chunked alone",
                ));
            }
            (Some(_), None) => Framing::Chunked,
        };
        Ok(Told {
            framing,
            keep_alive: !close && (keep_alive || version == Version::Http11),
            expects_continue: expects_continue && framing.announces_body(),
        })
    }
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad_request(format!(
            "the Content-Length \"{}\" is not a number: send the body's bytes in decimal digits",
            shown(value)
        )));
    }
    Ok(value.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit.wrapping_sub(b'0')))
    }))
}

/// Bytes that a client sent, fit to be shown to it: on one line, and not at length.
pub(super) fn shown(bytes: &[u8]) -> String {
    match bytes.get(..64) {
        Some(start) if bytes.len() > 64 => format!("{}…", start.escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
}

// --------------------------------------------------------------------------------------------- request bodies

/// A body on its way in: how much of it has come, and what must come next.
#[derive(Debug)]
pub struct Body {
    next: Next,
    /// Bytes of content known to be coming, or come.
    announced: u64,
    /// Bytes of chunk extensions and trailers so far.
    aside: usize,
}

/// What must come next (RFC 9112 7.1). A number is a chunk's size, or what is left of it.
#[derive(Clone, Copy, Debug)]
enum Next {
    Content(u64),
    Size { digits: u8, size: u64 },
    Gap(u64),
    Extension(u64),
    SizeLf(u64),
    Chunk(u64),
    ChunkCr,
    ChunkLf,
    TrailerLine,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Nothing,
}

/// What [`Body::feed`] made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes of the input that belong to the body. Less than all of it only where the body is complete.
    pub used: usize,
    /// Whether the body is all there.
    pub complete: bool,
}

impl Body {
    pub fn new(framing: Framing) -> Body {
        let (next, announced) = match framing {
            Framing::None => (Next::Nothing, 0),
            Framing::Length(length) => (Next::Content(length), length),
            Framing::Chunked => (Next::Size { digits: 0, size: 0 }, 0),
        };
        Body {
            next,
            announced,
            aside: 0,
        }
    }

    /// Takes what belongs to the body from the start of `input`. Its content is put at the end of `keep`, or thrown
    /// away. No memory is taken for what was only announced. Feeding nothing tells whether an announced length is
    /// too much, before a client is told to [`CONTINUE`].
    ///
    /// # Errors
    /// `413` when more than `limit` bytes of content are announced, `400` when the chunks are malformed or carry over
    /// [`MAX_ASIDE`] bytes of extensions and trailers. After either the end of the body cannot be found any more.
    pub fn feed(
        &mut self,
        input: &[u8],
        mut keep: Option<&mut Vec<u8>>,
        limit: u64,
    ) -> Result<Fed, Refusal> {
        let mut rest = input;
        let complete = loop {
            if self.announced > limit {
                return Err(Refusal::new(
                    Status::ContentTooLarge,
                    "body_too_large",
                    format!("the body is over {limit} bytes: send less at a time"),
                ));
            }
            match (self.next, rest) {
                (Next::Nothing, _) | (Next::Content(0), _) => break true,
                (_, []) => break false,
                (Next::Content(left) | Next::Chunk(left), _) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX);
                    let (content, after) = rest.split_at_checked(here).unwrap_or((rest, &[]));
                    if let Some(keep) = keep.as_deref_mut() {
                        keep.extend_from_slice(content);
                    }
                    rest = after;
                    let left = left.saturating_sub(content.len() as u64);
                    self.next = match self.next {
                        Next::Content(_) => Next::Content(left),
                        _ if left == 0 => Next::ChunkCr,
                        _ => Next::Chunk(left),
                    };
                }
                (_, [byte, after @ ..]) => {
                    rest = after;
                    self.next = self.step(*byte)?;
                }
            }
        };
        Ok(Fed {
            used: input.len().saturating_sub(rest.len()),
            complete,
        })
    }

    /// One byte between the chunks.
    fn step(&mut self, byte: u8) -> Result<Next, Refusal> {
        let next = match (self.next, byte) {
            // 16 digits fill a u64, and no more of them are taken, zeros or not.
            (Next::Size { digits: 0..16, .. }, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (Next::Size { digits: 1.., size }, b'\r') => Next::SizeLf(size),
            (Next::Size { digits: 1.., size } | Next::Gap(size), b';') => Next::Extension(size),
            (Next::Size { digits: 1.., size } | Next::Gap(size), b' ' | b'\t') => Next::Gap(size),
            (Next::Extension(size), b'\r') => Next::SizeLf(size),
            (Next::Extension(size), _) if is_text(byte) => Next::Extension(size),
            (Next::SizeLf(0), b'\n') => Next::TrailerLine,
            (Next::SizeLf(size), b'\n') => {
                self.announced = self.announced.saturating_add(size);
                Next::Chunk(size)
            }
            (Next::ChunkCr, b'\r') => Next::ChunkLf,
            (Next::ChunkLf, b'\n') => Next::Size { digits: 0, size: 0 },
            (Next::TrailerLine, b'\r') => Next::LastLf,
            (Next::TrailerLine | Next::TrailerName, _) if is_token_byte(byte) => Next::TrailerName,
            (Next::TrailerName, b':') => Next::TrailerValue,
            (Next::TrailerValue, b'\r') => Next::TrailerLf,
            (Next::TrailerValue, _) if is_text(byte) => Next::TrailerValue,
            (Next::TrailerLf, b'\n') => Next::TrailerLine,
            (Next::LastLf, b'\n') => Next::Nothing,
            _ => return Err(self.malformed(byte)),
        };
        if let Next::Gap(_) | Next::Extension(_) | Next::TrailerName | Next::TrailerValue = next {
            self.aside = self.aside.saturating_add(1);
            if self.aside > MAX_ASIDE {
                return Err(bad_request(
                    "the body's chunk extensions and trailers are over 16 KiB: leave them out",
                ));
            }
        }
        Ok(next)
    }

    fn digit(&self, byte: u8) -> Next {
        let value = char::from(byte).to_digit(16).unwrap_or_default();
        match self.next {
            Next::Size { digits, size } => Next::Size {
                digits: digits.saturating_add(1),
                size: size << 4 | u64::from(value),
            },
            other => other,
        }
    }

    fn malformed(&self, byte: u8) -> Refusal {
        let wanted = match self.next {
            Next::Size { digits: 0, .. } => "a chunk's size in hexadecimal digits",
            Next::Size { .. } => "the end of a chunk's size, of 16 digits at most",
            Next::Gap(_) => "';' or the end of the line, without white space before it",
            Next::Extension(_) => "a chunk extension",
            Next::ChunkCr => "the CR LF behind a chunk, whose size may be wrong",
            Next::TrailerLine | Next::TrailerName | Next::TrailerValue => "a trailer line",
            _ => "the LF of CR LF",
        };
        bad_request(format!(
            "the chunked body has '{}' in the place of {wanted}",
            byte.escape_ascii()
        ))
    }
}

/// `field-vchar`, space or tab (RFC 9110 5.5).
fn is_text(byte: u8) -> bool {
    (byte == b'\t') | ((byte >= b' ') & (byte != 0x7f))
}

/// `tchar` (RFC 9110 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether this is a `token` (RFC 9110 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

// ---------------------------------------------------------------------------------------------------- replies

/// The statuses that wsify answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 200,
    Created = 201,
    NoContent = 204,
    BadRequest = 400,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    UnsupportedMediaType = 415,
    ExpectationFailed = 417,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    HeadTooLarge = 431,
    NotImplemented = 501,
    Unavailable = 503,
    VersionNotSupported = 505,
}

impl Status {
    /// The number, as in `404`.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// A server answers in its own version, HTTP/1.1, whatever the request's (RFC 9110 2.5).
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "HTTP/1.1 200 OK\r\n",
            Status::Created => "HTTP/1.1 201 Created\r\n",
            Status::NoContent => "HTTP/1.1 204 No Content\r\n",
            Status::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Status::Forbidden => "HTTP/1.1 403 Forbidden\r\n",
            Status::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Status::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Status::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Status::ContentTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Status::UnsupportedMediaType => "HTTP/1.1 415 Unsupported Media Type\r\n",
            Status::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Status::UpgradeRequired => "HTTP/1.1 426 Upgrade Required\r\n",
            Status::TooManyRequests => "HTTP/1.1 429 Too Many Requests\r\n",
            Status::HeadTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Status::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Status::Unavailable => "HTTP/1.1 503 Service Unavailable\r\n",
            Status::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        }
    }
}

/// What is answered. How it is sent is the request's affair: see [`Manner`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: Status,
    /// The body's type; `None` when there is no body.
    pub content_type: Option<&'static str>,
    /// Further headers. Not among them: Content-Type, Content-Length, Connection and Date, which [`respond`] writes.
    pub headers: Vec<Field>,
    pub body: Cow<'static, [u8]>,
}

impl Reply {
    /// A reply without content.
    pub fn empty(status: Status) -> Reply {
        Reply {
            status,
            content_type: None,
            headers: Vec::new(),
            body: Cow::Borrowed(&[]),
        }
    }

    /// A reply whose body is JSON text.
    pub fn json(status: Status, body: impl Into<Cow<'static, [u8]>>) -> Reply {
        Reply {
            content_type: Some("application/json"),
            body: body.into(),
            ..Reply::empty(status)
        }
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request turned down, and what its sender is told: every error answer is made of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: Status,
    /// One word for programs.
    pub code: &'static str,
    /// A sentence for people: what was wrong, and what to do.
    pub message: Cow<'static, str>,
    /// Further headers that the status wants.
    pub headers: Vec<Field>,
}

impl Refusal {
    pub fn new(
        status: Status,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }

    /// `{"error":{"code":"…","message":"…"}}` (CONTRACT §3).
    pub fn reply(self) -> Reply {
        let message = serde_json::Value::from(self.message);
        let body = format!(
            r#"{{"error":{{"code":"{}","message":{message}}}}}"#,
            self.code
        );
        Reply {
            headers: self.headers,
            ..Reply::json(self.status, body.into_bytes())
        }
    }
}

fn bad_request(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Status::BadRequest, "bad_request", message)
}

/// How a reply is sent: what its request, not its content, decides. [`Head::manner`] makes it; small, so that the
/// head need not be kept until the reply is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub version: Version,
    /// Whether this is the connection's last reply.
    pub close: bool,
    /// Whether the request was `HEAD`: the headers as for `GET`, and no body.
    pub head_only: bool,
}

impl Manner {
    /// To what was no request.
    pub const LAST: Manner = Manner {
        version: Version::Http11,
        close: true,
        head_only: false,
    };
}

/// Room made for a reply's head, so that the usual one is not moved while it is written.
const USUAL_HEAD: usize = 256;

/// Writes a reply. `date` is the text of the Date header (RFC 9110 5.6.7). Control characters in header values are
/// left out, so that no value can begin a line of its own.
pub fn respond(out: &mut Vec<u8>, reply: &Reply, manner: Manner, date: Option<&str>) {
    out.reserve(USUAL_HEAD.saturating_add(reply.body.len()));
    out.extend_from_slice(reply.status.line().as_bytes());
    if let Some(date) = date {
        field(out, "Date", date);
    }
    if let Some(content_type) = reply.content_type {
        field(out, "Content-Type", content_type);
    }
    // A 204 has no content, and must not say how long it is (RFC 9110 8.6).
    let has_content = reply.status != Status::NoContent;
    if has_content {
        match reply.body.len() {
            0 => out.extend_from_slice(b"Content-Length: 0\r\n"),
            // Writing to a Vec cannot fail.
            len => drop(write!(out, "Content-Length: {len}\r\n")),
        }
    }
    // Who sends Upgrade must say so in Connection (RFC 9110 7.8).
    let upgrade = reply.headers.iter().any(|(name, _)| *name == "Upgrade");
    let connection: &[u8] = match (manner.close, manner.version, upgrade) {
        (true, _, false) => b"Connection: close\r\n",
        (true, _, true) => b"Connection: close, Upgrade\r\n",
        (false, Version::Http10, false) => b"Connection: keep-alive\r\n",
        (false, Version::Http10, true) => b"Connection: keep-alive, Upgrade\r\n",
        (false, Version::Http11, true) => b"Connection: Upgrade\r\n",
        (false, Version::Http11, false) => b"",
    };
    out.extend_from_slice(connection);
    for (name, value) in &reply.headers {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    if has_content && !manner.head_only {
        out.extend_from_slice(&reply.body);
    }
}

/// Writes the head of an answer whose body ends with the connection, as nobody knows how long it will be
/// (RFC 9112 6.3).
pub fn begin_stream(out: &mut Vec<u8>, content_type: &str, headers: &[Field], date: Option<&str>) {
    out.extend_from_slice(Status::Ok.line().as_bytes());
    if let Some(date) = date {
        field(out, "Date", date);
    }
    field(out, "Content-Type", content_type);
    field(out, "Cache-Control", "no-store");
    // nginx would keep back what is not a whole buffer.
    field(out, "X-Accel-Buffering", "no");
    field(out, "Connection", "close");
    for (name, value) in headers {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one header line.
pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    // No short cut, so that many bytes are compared at once.
    if value.bytes().fold(true, |fit, byte| fit & is_text(byte)) {
        out.extend_from_slice(value.as_bytes());
    } else {
        out.extend(value.bytes().filter(|&byte| is_text(byte)));
    }
    out.extend_from_slice(b"\r\n");
}

// ------------------------------------------------------------------------------------ what the authorizer is told

/// A query string's parameters, grouped by name in the order of first appearance, percent-decoded, `+` a space; bytes
/// that are no UTF-8 become U+FFFD (CONTRACT §6).
pub fn query_pairs(raw: &str) -> Vec<(String, Vec<String>)> {
    let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
    // Keyed by the standard library's hash: names are the client's choice, and a head has room for thousands.
    let mut places = HashMap::new();
    for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
        match places.entry(name) {
            Entry::Vacant(entry) => {
                let name = entry.key().clone().into_owned();
                entry.insert(pairs.len());
                pairs.push((name, vec![value.into_owned()]));
            }
            Entry::Occupied(entry) => {
                if let Some((_, values)) = pairs.get_mut(*entry.get()) {
                    values.push(value.into_owned());
                }
            }
        }
    }
    pairs
}

/// Whether a Content-Type is `application/json`, whatever its parameters (RFC 9110 8.3.1).
pub fn is_json(content_type: &[u8]) -> bool {
    const JSON: &[u8] = b"application/json";
    let Some((kind, rest)) = content_type.split_at_checked(JSON.len()) else {
        return false;
    };
    let rest = rest.trim_ascii_start();
    kind.eq_ignore_ascii_case(JSON) && (rest.is_empty() || rest.starts_with(b";"))
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
            let c = match upper {
                true => c.to_ascii_uppercase(),
                false => c.to_ascii_lowercase(),
            };
            upper = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the tables below compare of a head.
    fn summary(head: &Head) -> String {
        let headers: Vec<String> = head
            .headers()
            .map(|(name, value)| format!("{name}={}", value.escape_ascii()))
            .collect();
        format!(
            "{:?} {} ?{} {:?} {:?} keep={} continue={} [{}]",
            head.method,
            head.path().escape_ascii(),
            head.query(),
            head.version,
            head.framing,
            head.keep_alive,
            head.expects_continue,
            headers.join("|")
        )
    }

    type Outcome = Result<Option<(String, usize)>, Status>;

    fn outcome(bytes: &[u8]) -> Outcome {
        match parse_head(bytes) {
            Ok(found) => Ok(found.map(|(head, used)| (summary(&head), used))),
            Err(refusal) => Err(refusal.status),
        }
    }

    /// As a session does it: what has arrived is looked at only when that is worth it.
    fn in_pieces(bytes: &[u8], size: usize) -> Outcome {
        let mut seen = 0;
        for piece in bytes.chunks(size) {
            let arrived = &bytes[..seen + piece.len()];
            if worth_parsing(arrived, seen) {
                let found = outcome(arrived);
                if found != Ok(None) {
                    return found;
                }
            }
            seen = arrived.len();
        }
        Ok(None)
    }

    fn three_ways(bytes: &[u8]) -> Outcome {
        let whole = outcome(bytes);
        assert_eq!(in_pieces(bytes, 1), whole, "byte by byte: {}", shown(bytes));
        if whole != Ok(None) {
            let trailing = [bytes, b"\x16 anything\r\n\r\n\0"].concat();
            assert_eq!(
                outcome(&trailing),
                whole,
                "with trailing bytes: {}",
                shown(bytes)
            );
        }
        whole
    }

    fn parsed(text: &str) -> Head {
        parse_head(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn heads_are_read() {
        let table = [
            (
                "GET /ws HTTP/1.1\r\nHost: h\r\n\r\n",
                "Get /ws ? Http11 None keep=true continue=false [Host=h]",
            ),
            (
                "POST /broadcast?key=a%20b&x=1?2 HTTP/1.1\r\nhost:h:3000\r\nContent-Length: 12\r\n\r\n",
                "Post /broadcast ?key=a%20b&x=1?2 Http11 Length(12) keep=true continue=false [host=h:3000|Content-Length=12]",
            ),
            (
                "HEAD /health HTTP/1.0\r\n\r\n",
                "Head /health ? Http10 None keep=false continue=false []",
            ),
            (
                "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                "Get / ? Http10 None keep=true continue=false [Connection=Keep-Alive]",
            ),
            (
                "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
                "Get / ? Http10 None keep=false continue=false [Connection=keep-alive, close]",
            ),
            (
                "GET / HTTP/1.1\r\nHost:\r\nConnection: foo\r\nConnection: bar, CLOSE\r\n\r\n",
                "Get / ? Http11 None keep=false continue=false [Host=|Connection=foo|Connection=bar, CLOSE]",
            ),
            (
                "OPTIONS * HTTP/1.1\r\nHost: [::1]:3000\r\n\r\n",
                "Options * ? Http11 None keep=true continue=false [Host=[::1]:3000]",
            ),
            (
                "GET http://example.com:80/ws?x HTTP/1.1\r\nHost: a\r\n\r\n",
                "Get /ws ?x Http11 None keep=true continue=false [Host=a]",
            ),
            (
                "GET WS://example.com?x HTTP/1.1\r\nHost: a\r\n\r\n",
                "Get / ?x Http11 None keep=true continue=false [Host=a]",
            ),
            (
                "OPTIONS http://[::1] HTTP/1.1\r\nHost: a\r\n\r\n",
                "Options / ? Http11 None keep=true continue=false [Host=a]",
            ),
            (
                "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
                "Other example.com:443 ? Http11 None keep=true continue=false [Host=example.com:443]",
            ),
            // RFC 9112 2.2: empty lines before.
            (
                "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
                "Get / ? Http11 None keep=true continue=false [Host=h]",
            ),
            (
                "get / HTTP/1.1\r\nHost: h\r\n\r\n",
                "Other / ? Http11 None keep=true continue=false [Host=h]",
            ),
            // White space around a value, none in it, and bytes that are no UTF-8 (RFC 9110 5.5).
            (
                "PUT /?{\"a\":[1|2]}ü HTTP/1.1\r\nHost: h\r\nA:\t b  c \t\r\nB:\r\nC: \u{fc}\r\n\r\n",
                "Other / ?{\"a\":[1|2]}ü Http11 None keep=true continue=false [Host=h|A=b  c|B=|C=\\xc3\\xbc]",
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: , Chunked\r\nExpect: 100-Continue\r\n\r\n",
                "Post / ? Http11 Chunked keep=true continue=true [Host=h|Transfer-Encoding=, Chunked|Expect=100-Continue]",
            ),
            // Nothing to wait for; nothing that HTTP/1.0 knows.
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
                "Post / ? Http11 Length(0) keep=true continue=false [Host=h|Content-Length=0|Expect=100-continue]",
            ),
            (
                "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue, x\r\n\r\n",
                "Post / ? Http10 Length(1) keep=false continue=false [Content-Length=1|Expect=100-continue, x]",
            ),
            // More than a u64 holds, and zeros in front.
            (
                "POST / HTTP/1.0\r\nContent-Length: 18446744073709551616\r\n\r\n",
                "Post / ? Http10 Length(18446744073709551615) keep=false continue=false [Content-Length=18446744073709551616]",
            ),
            (
                "POST / HTTP/1.0\r\nContent-Length: 00000000000000000000007\r\n\r\n",
                "Post / ? Http10 Length(7) keep=false continue=false [Content-Length=00000000000000000000007]",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a-b_c.d~%41!$&'()*+,;=:\r\n\r\n",
                "Get / ? Http11 None keep=true continue=false [Host=a-b_c.d~%41!$&\\'()*+,;=:]",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(
                three_ways(text.as_bytes()),
                Ok(Some((expected.to_owned(), text.len()))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_all_there_is_not_yet() {
        for text in [
            "",
            "\r",
            "\r\n",
            "\r\n\r\n",
            "G",
            "GET /",
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\r",
        ] {
            assert_eq!(three_ways(text.as_bytes()), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        let lines: &[&[u8]] = &[
            // Not HTTP, known by the first byte or the first line.
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            b"\0",
            b" GET / HTTP/1.1\r\n",
            b"\rGET",
            // A LF alone, wherever it stands.
            b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"EHLO example.com\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"GET\r\n",
            b"GET /\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET / HTTP/1.1 \r\n",
            b"GET /  HTTP/1.1\r\n",
            b"GET\t/ HTTP/1.1\r\n",
            b"GET / http/1.1\r\n",
            b"GET / HTTP/1.10\r\n",
            b"GET / HTTP/1x1\r\n",
            b"GET / FTP/1.1\r\n",
            b"GET /\x7f HTTP/1.1\r\n",
            b"GET /\xff HTTP/1.1\r\n",
            b"G(T / HTTP/1.1\r\n",
            // Targets.
            b"GET ws HTTP/1.1\r\n",
            b"GET * HTTP/1.1\r\n",
            b"GET /a#b HTTP/1.1\r\n",
            b"GET ftp://h/ HTTP/1.1\r\n",
            b"GET http:/h/ HTTP/1.1\r\n",
            b"GET http:///ws HTTP/1.1\r\n",
            b"GET http://user@h/ws HTTP/1.1\r\n",
            b"GET http://h:x/ws HTTP/1.1\r\n",
            b"GET example.com:443 HTTP/1.1\r\n",
            b"CONNECT example.com HTTP/1.1\r\n",
            b"CONNECT :443 HTTP/1.1\r\n",
            // Header lines, known before the head is complete.
            b"GET / HTTP/1.1\r\nHost : h\r\n",
            b"GET / HTTP/1.1\r\nHost\r\n",
            b"GET / HTTP/1.1\r\n: h\r\n",
            b"GET / HTTP/1.1\r\n Host: h\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\tfolded\r\n",
            b"GET / HTTP/1.1\r\nA: b\rc\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\rc\r\n",
            b"GET / HTTP/1.1\r\nA: b\0\r\n",
            b"GET / HTTP/1.1\r\nA\0: b\r\n",
            b"GET / HTTP/1.1\r\nA: \x01\r\n",
            b"GET / HTTP/1.1\r\nA: \x7f\r\n",
            b"GET / HTTP/1.1\r\nA\xfc: b\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\rX\r\n",
            // Host (RFC 9112 3.2).
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET http://h/ HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: %4\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: []\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: \xc3\xbc\r\n\r\n",
            // Lengths (RFC 9112 6).
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1.0\r\n\r\n",
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        ];
        for bytes in lines {
            assert_eq!(
                three_ways(bytes),
                Err(Status::BadRequest),
                "{}",
                shown(bytes)
            );
        }
    }

    #[test]
    fn other_refusals_of_a_head() {
        let table: &[(&str, Status)] = &[
            ("GET / HTTP/2.0\r\n", Status::VersionNotSupported),
            ("GET / HTTP/0.9\r\n", Status::VersionNotSupported),
            ("GET / HTTP/1.2\r\n", Status::VersionNotSupported),
            (
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                Status::VersionNotSupported,
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Status::NotImplemented,
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
                Status::NotImplemented,
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue, tea\r\n\r\n",
                Status::ExpectationFailed,
            ),
        ];
        for (text, status) in table {
            assert_eq!(three_ways(text.as_bytes()), Err(*status), "{text}");
        }
    }

    #[test]
    fn a_tls_hello_is_told_so() {
        let refusal = parse_head(b"\x16").unwrap_err();
        assert!(refusal.message.contains("TLS"), "{}", refusal.message);
    }

    #[test]
    fn a_head_has_its_limits() {
        // Padded to a length with a header, or with empty lines before it.
        let start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
        let long = |len: usize| format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4));
        let late = |len: usize| {
            let host = if len.is_multiple_of(2) { "hh" } else { "h" };
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            format!("{}{head}", "\r\n".repeat((len - head.len()) / 2))
        };
        for text in [long(MAX_HEAD), late(MAX_HEAD)] {
            assert_eq!(text.len(), MAX_HEAD);
            assert!(matches!(outcome(text.as_bytes()), Ok(Some((_, MAX_HEAD)))));
        }
        for text in [
            long(MAX_HEAD + 1),
            late(MAX_HEAD + 1),
            "\r\n".repeat(MAX_HEAD / 2),
            "A".repeat(MAX_HEAD),
            format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_HEAD)),
        ] {
            assert_eq!(outcome(text.as_bytes()), Err(Status::HeadTooLarge));
            assert_eq!(in_pieces(text.as_bytes(), 97), Err(Status::HeadTooLarge));
            // Not before the limit is reached.
            assert_eq!(outcome(&text.as_bytes()[..MAX_HEAD - 1]), Ok(None));
        }
        let many = |lines: usize| {
            let more = "a:\r\n".repeat(lines - 1);
            format!("GET / HTTP/1.1\r\nHost: h\r\n{more}\r\n")
        };
        assert!(matches!(three_ways(many(100).as_bytes()), Ok(Some(_))));
        assert_eq!(three_ways(many(101).as_bytes()), Err(Status::HeadTooLarge));
    }

    #[test]
    fn only_news_is_worth_parsing() {
        let table: &[(&[u8], usize, bool)] = &[
            (b"", 0, false),
            (b"G", 0, true),
            (b"GE", 1, false),
            (b"GET", 3, false),
            (b"GET", 9, false),
            (b"GET / HTTP/1.1\r\nHo", 10, true),
            (b"GET / HTTP/1.1\r\nHo", 16, false),
            // The first byte behind empty lines.
            (b"\r\n\x16", 2, true),
            (b"\r\n\x16\x03", 3, false),
        ];
        for (bytes, seen, expected) in table {
            assert_eq!(worth_parsing(bytes, *seen), *expected, "{}", shown(bytes));
        }
        let long = [b'A'; MAX_HEAD];
        assert!(!worth_parsing(&long[..MAX_HEAD - 1], MAX_HEAD - 2));
        assert!(worth_parsing(&long, MAX_HEAD - 1));
    }

    #[test]
    fn headers_are_found() {
        let head = parsed(
            "GET / HTTP/1.1\r\nhOST: h\r\nConnection: keep-alive, Upgrade\r\nX-A: 1\r\nconnection: Foo\r\nx-a: 2\r\n\r\n",
        );
        assert_eq!(head.header("Host"), Some(&b"h"[..]));
        assert_eq!(head.header("x-A"), Some(&b"1"[..]));
        assert_eq!(head.header("x"), None);
        assert_eq!(head.headers_named("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
        for (token, expected) in [
            ("upgrade", true),
            ("KEEP-ALIVE", true),
            ("foo", true),
            ("keep", false),
            ("", false),
        ] {
            assert_eq!(head.has_token("Connection", token), expected, "{token}");
        }
        assert!(!head.has_token("Upgrade", "websocket"));
    }

    /// Feeds `bytes` in pieces of a length: the content and how many bytes were used, `None` while it is incomplete.
    fn fed(
        framing: Framing,
        bytes: &[u8],
        piece: usize,
        limit: u64,
    ) -> Result<Option<(Vec<u8>, usize)>, Status> {
        let mut body = Body::new(framing);
        let mut thrown_away = Body::new(framing);
        let mut content = Vec::new();
        let mut used = 0;
        for piece in std::iter::once(&b""[..]).chain(bytes.chunks(piece)) {
            let kept = body.feed(piece, Some(&mut content), limit);
            assert_eq!(thrown_away.feed(piece, None, limit), kept);
            let kept = kept.map_err(|refusal| refusal.status)?;
            used += kept.used;
            if kept.complete {
                return Ok(Some((content, used)));
            }
            assert_eq!(kept.used, piece.len());
        }
        Ok(None)
    }

    fn fed_three_ways(
        framing: Framing,
        bytes: &[u8],
        limit: u64,
    ) -> Result<Option<(Vec<u8>, usize)>, Status> {
        let whole = fed(framing, bytes, usize::MAX, limit);
        assert_eq!(fed(framing, bytes, 1, limit), whole, "{}", shown(bytes));
        if whole != Ok(None) {
            let trailing = [bytes, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(fed(framing, &trailing, usize::MAX, limit), whole);
            assert_eq!(fed(framing, &trailing, 7, limit), whole);
        }
        whole
    }

    #[test]
    fn bodies_are_read() {
        let table: &[(Framing, &str, &str)] = &[
            (Framing::None, "", ""),
            (Framing::Length(0), "", ""),
            (Framing::Length(5), "hello", "hello"),
            (Framing::Chunked, "0\r\n\r\n", ""),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n\r\n", "hello"),
            (
                Framing::Chunked,
                "3\r\nhel\r\n02\r\nlo\r\n00\r\n\r\n",
                "hello",
            ),
            (
                Framing::Chunked,
                "a\r\n0123456789\r\nA\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
                "0123456789\r\n\r\n\r\n\r\n\r\n",
            ),
            (
                Framing::Chunked,
                "0000000000000005\r\nhello\r\n0\r\n\r\n",
                "hello",
            ),
            (
                Framing::Chunked,
                "5;a=b;c=\"d e\"\r\nhello\r\n0 \t;x\r\n\r\n",
                "hello",
            ),
            (
                Framing::Chunked,
                "5\r\nhello\r\n0\r\nA: b\r\nX-Sum:\t1 \r\n\r\n",
                "hello",
            ),
        ];
        for (framing, bytes, content) in table {
            assert_eq!(
                fed_three_ways(*framing, bytes.as_bytes(), 20),
                Ok(Some((content.as_bytes().to_vec(), bytes.len()))),
                "{bytes:?}"
            );
        }
        for (framing, bytes) in [
            (Framing::Length(6), "hello"),
            (Framing::Chunked, ""),
            (Framing::Chunked, "5"),
            (Framing::Chunked, "5\r\nhello"),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n"),
            (Framing::Chunked, "0\r\nA: b\r\n\r"),
        ] {
            assert_eq!(
                fed_three_ways(framing, bytes.as_bytes(), 20),
                Ok(None),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bytes in [
            "\r\n",
            "x",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            ";a\r\n",
            "1\n",
            "1 \r\n",
            "1 1\r\n",
            "1\rx",
            "1;a\nx",
            "1;\0",
            "1;a\x7f",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rx",
            "1\r\na\r\n\r\n",
            "00000000000000000\r\n",
            "0\r\n\n",
            "0\r\n folded: x\r\n",
            "0\r\nA : x\r\n",
            "0\r\nA\r\n",
            "0\r\n: x\r\n",
            "0\r\nA: x\n",
            "0\r\nA: x\rx",
            "0\r\nA: \0",
            "0\r\n\rx",
        ] {
            assert_eq!(
                fed_three_ways(Framing::Chunked, bytes.as_bytes(), 20),
                Err(Status::BadRequest),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_body_has_its_limits() {
        let large = Err(Status::ContentTooLarge);
        // Known by the announcement, before anything of it comes.
        assert_eq!(fed_three_ways(Framing::Length(21), b"", 20), large);
        assert_eq!(fed_three_ways(Framing::Length(u64::MAX), b"", 20), large);
        for bytes in [
            "15\r\n",
            "a\r\n0123456789\r\nb\r\n",
            "ffffffffffffffff\r\n",
            "1\r\na\r\nffffffffffffffff\r\n",
        ] {
            assert_eq!(
                fed_three_ways(Framing::Chunked, bytes.as_bytes(), 20),
                large,
                "{bytes:?}"
            );
        }
        // Nothing is too large to be thrown away, nor makes a sum overflow.
        let two = "1\r\na\r\nffffffffffffffff\r\n";
        assert_eq!(fed(Framing::Chunked, two.as_bytes(), 1, u64::MAX), Ok(None));
        assert_eq!(
            fed(Framing::Length(u64::MAX), b"abc", 1, u64::MAX),
            Ok(None)
        );

        let extension = |len: usize| format!("0;{}\r\n\r\n", "x".repeat(len - 1));
        assert!(fed_three_ways(Framing::Chunked, extension(MAX_ASIDE).as_bytes(), 20).is_ok());
        for bytes in [
            extension(MAX_ASIDE + 1),
            "1;x\r\na\r\n".repeat(MAX_ASIDE / 2 + 1),
            format!("0\r\n{}", "a:\r\n".repeat(MAX_ASIDE / 2 + 1)),
        ] {
            assert_eq!(
                fed_three_ways(Framing::Chunked, bytes.as_bytes(), 1 << 20),
                Err(Status::BadRequest)
            );
        }
    }

    #[test]
    fn what_is_announced_takes_no_memory() {
        let mut content = Vec::new();
        let mut body = Body::new(Framing::Length(1 << 62));
        body.feed(b"abc", Some(&mut content), u64::MAX).unwrap();
        assert!(content.capacity() < 64);
    }

    #[test]
    fn a_body_in_one_piece_is_taken_where_it_lies() {
        let table: &[(Framing, &str, Option<&str>)] = &[
            (Framing::None, "GET /", Some("")),
            (Framing::Length(0), "GET /", Some("")),
            (Framing::Length(3), "abcGET /", Some("abc")),
            (Framing::Length(3), "abc", Some("abc")),
            (Framing::Length(3), "ab", None),
            (Framing::Length(21), "012345678901234567890", None),
            (Framing::Length(u64::MAX), "abc", None),
            (Framing::Chunked, "0\r\n\r\n", None),
        ];
        for (framing, rest, expected) in table {
            let expected = expected.map(str::as_bytes);
            assert_eq!(
                framing.whole(rest.as_bytes(), 20),
                expected,
                "{framing:?} {rest}"
            );
        }
    }

    fn sent(reply: &Reply, manner: Manner, date: Option<&str>) -> String {
        let mut out = b"before".to_vec();
        respond(&mut out, reply, manner, date);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before").unwrap().to_owned()
    }

    const KEPT: Manner = Manner {
        version: Version::Http11,
        close: false,
        head_only: false,
    };

    #[test]
    fn replies_are_written() {
        let kept10 = Manner {
            version: Version::Http10,
            ..KEPT
        };
        let head_only = Manner {
            head_only: true,
            ..KEPT
        };
        let ok = Reply::json(Status::Ok, &br#"{"status":"ok"}"#[..]);
        let upgrade = Reply::empty(Status::UpgradeRequired).with("Upgrade", "websocket");
        let table = [
            (
                Reply::empty(Status::Created),
                KEPT,
                Some("Sun, 06 Nov 1994 08:49:37 GMT"),
                "HTTP/1.1 201 Created\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                ok.clone(),
                kept10,
                None,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: keep-alive\r\n\r\n{\"status\":\"ok\"}",
            ),
            (
                ok.clone(),
                head_only,
                None,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n",
            ),
            (
                ok.with("Retry-After", "3"),
                Manner::LAST,
                None,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\nRetry-After: 3\r\n\r\n{\"status\":\"ok\"}",
            ),
            (
                Reply::empty(Status::NoContent),
                KEPT,
                None,
                "HTTP/1.1 204 No Content\r\n\r\n",
            ),
            (
                upgrade.clone(),
                KEPT,
                None,
                "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            (
                upgrade.clone(),
                kept10,
                None,
                "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            (
                upgrade,
                Manner::LAST,
                None,
                "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            // No value begins a line of its own.
            (
                Reply::empty(Status::Created).with("A", "b\r\nC: d\0\té"),
                KEPT,
                None,
                "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nA: bC: d\té\r\n\r\n",
            ),
        ];
        for (reply, manner, date, expected) in table {
            assert_eq!(sent(&reply, manner, date), expected);
        }
    }

    #[test]
    fn a_refusal_is_json_whatever_its_message_holds() {
        let refusal = Refusal::new(Status::Forbidden, "forbidden", "say \"please\"\n")
            .with("Retry-After", "1");
        let text = sent(&refusal.reply(), KEPT, None);
        assert_eq!(
            text,
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 59\r\nRetry-After: 1\r\n\r\n\
             {\"error\":{\"code\":\"forbidden\",\"message\":\"say \\\"please\\\"\\n\"}}"
        );
    }

    #[test]
    fn status_lines_carry_their_numbers() {
        for status in [
            Status::Ok,
            Status::Created,
            Status::NoContent,
            Status::BadRequest,
            Status::Forbidden,
            Status::NotFound,
            Status::MethodNotAllowed,
            Status::RequestTimeout,
            Status::ContentTooLarge,
            Status::UnsupportedMediaType,
            Status::ExpectationFailed,
            Status::UpgradeRequired,
            Status::HeadTooLarge,
            Status::NotImplemented,
            Status::Unavailable,
            Status::VersionNotSupported,
        ] {
            let line = status.line();
            assert!(
                line.starts_with(&format!("HTTP/1.1 {} ", status.code())),
                "{line}"
            );
            assert!(line.ends_with("\r\n"), "{line}");
        }
    }

    #[test]
    fn the_manner_of_a_reply_follows_its_request() {
        let head = parsed("HEAD / HTTP/1.0\r\n\r\n");
        assert_eq!(
            head.manner(),
            Manner {
                version: Version::Http10,
                close: true,
                head_only: true
            }
        );
        assert_eq!(parsed("GET / HTTP/1.1\r\nHost: h\r\n\r\n").manner(), KEPT);
    }

    #[test]
    fn queries_are_decoded_and_grouped() {
        type Pairs<'a> = &'a [(&'a str, &'a [&'a str])];
        let table: &[(&str, Pairs)] = &[
            ("", &[]),
            ("token=abc", &[("token", &["abc"])]),
            ("b=1&a=2&b=3", &[("b", &["1", "3"]), ("a", &["2"])]),
            ("a+b=c+d%20e", &[("a b", &["c d e"])]),
            ("a&b=&=c&&", &[("a", &[""]), ("b", &[""]), ("", &["c"])]),
            ("a=b=c?d", &[("a", &["b=c?d"])]),
            ("%61=1&a=2", &[("a", &["1", "2"])]),
            ("a=%ff%zz%", &[("a", &["\u{fffd}%zz%"])]),
        ];
        for (raw, expected) in table {
            let expected: Vec<(String, Vec<String>)> = expected
                .iter()
                .map(|(name, values)| {
                    (
                        name.to_string(),
                        values.iter().map(ToString::to_string).collect(),
                    )
                })
                .collect();
            assert_eq!(query_pairs(raw), expected, "{raw}");
        }
    }

    #[test]
    fn names_are_written_as_textproto_writes_them() {
        for (name, expected) in [
            ("user-agent", "User-Agent"),
            ("USER-AGENT", "User-Agent"),
            ("User-Agent", "User-Agent"),
            ("sec-webSocket-KEY", "Sec-Websocket-Key"),
            ("x--y-", "X--Y-"),
            ("etag", "Etag"),
            ("1a_b.c", "1a_b.c"),
            ("foo bar", "foo bar"),
            ("foo-bär", "foo-bär"),
            ("", ""),
        ] {
            assert_eq!(canonical_name(name), expected, "{name}");
        }
    }

    #[test]
    fn no_input_panics_and_chunking_changes_nothing() {
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
            let whole = outcome(&bytes);
            if let Ok(Some(_)) = whole {
                assert_eq!(in_pieces(&bytes, 1), whole, "{}", bytes.escape_ascii());
            }
            let piece = 1 + random(9);
            assert_eq!(
                fed(Framing::Chunked, &bytes, piece, 40),
                fed(Framing::Chunked, &bytes, usize::MAX, 40),
                "{}",
                bytes.escape_ascii()
            );
            let text = String::from_utf8_lossy(&bytes);
            query_pairs(&text);
            canonical_name(&text);
        }
    }
}
