//! An HTTP/1 answer as a client reads it: the head, and where its body ends (RFC 9112).
//!
//! Owns: what of a head matters to a client that sends one `POST` after the other. Knows: RFC 9112 sections 4 to 6 and 9.
//! Never knows: the connection, time, or what a status means.
//!
//! Decision: httparse and our own body reader, over an HTTP client library. Because the loop's side reads its requests with
//! the same two, because folded lines and the limits below are then ours to choose, and because a client that follows no
//! redirect, keeps no cookie and decompresses nothing needs little more. Reconsider when HTTP/2 is wanted.

mod fuzz;

use std::borrow::Cow;
use std::mem::MaybeUninit;

#[doc(hidden)]
pub use self::fuzz::fuzz;
use super::http::{self, Framing};

/// Bytes of one head, its status line and empty line included. Far more than any framework sends; cookies and policies
/// that a proxy adds count too.
pub const MAX_HEAD: usize = 100 * 1024;
/// Header lines of one head. httparse wants a place for each, of 32 bytes, on the stack.
pub const MAX_LINES: usize = 1000;

/// Why the bytes are no answer.
pub type Malformed = Cow<'static, str>;

/// An answer's head.
#[derive(Debug)]
pub struct Head {
    /// From 100 to 999.
    pub status: u16,
    pub body: Body,
    /// Whether the connection may serve another request once the body is over (RFC 9112 9.3).
    pub keeps_alive: bool,
    /// Seconds of idleness after which the server closes the connection, if it says so: `Keep-Alive: timeout=5`.
    pub idle_timeout: Option<u32>,
    /// Whether the body is `application/json`.
    pub is_json: bool,
}

impl Head {
    /// Whether another head follows: an interim answer, which a client passes over (RFC 9110 15.2). After `101` the
    /// connection speaks something else, so that is final.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }
}

/// Reads one head from the start of `bytes`: the head and how many bytes it took, or `None` if it is not all there yet.
/// `seen` bytes of it were shown before, so that a head that arrives byte by byte is not parsed once per byte.
///
/// # Errors
/// It is not HTTP/1, or over a limit. Nothing can be read from the connection any more.
pub fn parse_head(bytes: &[u8], seen: usize) -> Result<Option<(Head, usize)>, Malformed> {
    if !begins_like_http(bytes) {
        return Err("the answer does not begin with HTTP/1".into());
    }
    if !has_empty_line(bytes, seen) {
        return match bytes.len() > MAX_HEAD {
            true => Err(over_the_limit()),
            false => Ok(None),
        };
    }
    let mut parser = httparse::ParserConfig::default();
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let mut places = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut response = httparse::Response::new(&mut []);
    let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut places);
    let used = match parsed {
        Ok(httparse::Status::Complete(used)) if used <= MAX_HEAD => used,
        Ok(httparse::Status::Complete(_)) => return Err(over_the_limit()),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(format!("the answer has more than {MAX_LINES} header lines").into());
        }
        Err(error) => return Err(format!("the answer's head is malformed: {error}").into()),
    };
    let minor = response.version.unwrap_or_default();
    match response.code {
        Some(status @ 100..) => Ok(Some((judge(status, minor, response.headers)?, used))),
        _ => Err("the answer's status is not between 100 and 999".into()),
    }
}

fn over_the_limit() -> Malformed {
    format!("the answer's head is over {} KiB", MAX_HEAD / 1024).into()
}

/// Whether `bytes`, less empty lines before them (RFC 9112 2.2), are or may become an answer of HTTP/1.
fn begins_like_http(bytes: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte));
    let bytes = bytes
        .get(start.unwrap_or(bytes.len())..)
        .unwrap_or_default();
    let common = bytes.len().min(START.len());
    bytes.get(..common) == START.get(..common)
}

/// Whether an empty line ends in the part of `bytes` that was not seen before.
fn has_empty_line(bytes: &[u8], seen: usize) -> bool {
    // Three bytes before it may belong to the line's end.
    let from = seen.saturating_sub(3);
    let fresh = bytes.get(from..).unwrap_or_default();
    memchr::memchr_iter(b'\n', fresh).any(|at| {
        let after = fresh.get(at..).unwrap_or_default();
        after.starts_with(b"\n\n") || after.starts_with(b"\n\r\n")
    })
}

/// What the header lines say, as far as it matters here.
fn judge(status: u16, minor: u8, lines: &[httparse::Header<'_>]) -> Result<Head, Malformed> {
    let mut length: Option<u64> = None;
    let mut codings: Option<bool> = None;
    let (mut close, mut keep) = (false, false);
    let mut idle_timeout = None;
    let mut content_type: Option<Cow<'_, [u8]>> = None;
    for line in lines {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        match line.name.len() {
            14 if is("content-length") => {
                for element in elements(&unfold(line.value)) {
                    let announced = http_length(element)?;
                    if length.is_some_and(|before| before != announced) {
                        return Err("the answer has two lengths".into());
                    }
                    length = Some(announced);
                }
            }
            17 if is("transfer-encoding") => {
                let value = unfold(line.value);
                let last = elements(&value).last();
                codings = Some(last.is_some_and(|it| it.eq_ignore_ascii_case(b"chunked")));
            }
            10 if is("connection") => {
                for option in elements(&unfold(line.value)) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            10 if is("keep-alive") && idle_timeout.is_none() => {
                idle_timeout = elements(&unfold(line.value)).find_map(timeout);
            }
            12 if is("content-type") && content_type.is_none() => {
                content_type = Some(unfold(line.value));
            }
            _ => {}
        }
    }
    let body = match (status, codings, length) {
        (100..=199 | 204 | 304, _, _) => Body::framed(Framing::None),
        (_, Some(true), _) => Body::framed(Framing::Chunked),
        (_, None, Some(length)) => Body::framed(Framing::Length(length)),
        (_, Some(false), _) | (_, None, None) => Body(Kind::UntilEnd),
    };
    // With both, somebody on the way may have understood the other one (RFC 9112 6.3).
    let ambiguous = codings.is_some() && length.is_some();
    let persists = !close && (minor >= 1 || keep);
    Ok(Head {
        status,
        keeps_alive: persists && !ambiguous && status != 101 && !body.is_until_end(),
        body,
        idle_timeout,
        is_json: content_type.is_some_and(|kind| http::is_json(&kind)),
    })
}

/// A header's value in one line: each fold becomes spaces (RFC 9112 5.2).
fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let space = |byte: &u8| if b"\r\n".contains(byte) { b' ' } else { *byte };
    let line: Vec<u8> = value.iter().map(space).collect();
    Cow::Owned(line.trim_ascii().to_vec())
}

fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}

fn http_length(digits: &[u8]) -> Result<u64, Malformed> {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    match digits.iter().all(u8::is_ascii_digit) {
        // A number that no `u64` holds is over any limit all the same.
        true => Ok(text.parse().unwrap_or(u64::MAX)),
        false => Err("the answer's Content-Length is not a number".into()),
    }
}

fn timeout(parameter: &[u8]) -> Option<u32> {
    let (name, seconds) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
    let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
    seconds.trim().parse().ok().filter(|_| is_timeout)
}

/// A body on its way in.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Framed {
        framing: Framing,
        reader: http::Body,
    },
    /// It ends with the connection.
    UntilEnd,
}

/// What [`Body::feed`] made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes of the input that belong to the body.
    pub used: usize,
    /// Whether the body is all there.
    pub complete: bool,
}

impl Body {
    fn framed(framing: Framing) -> Body {
        Body(Kind::Framed {
            framing,
            reader: http::Body::new(framing),
        })
    }

    /// Whether only the end of the connection tells where it ends.
    pub fn is_until_end(&self) -> bool {
        matches!(self.0, Kind::UntilEnd)
    }

    /// How long it is, if the head says so.
    pub fn announced(&self) -> Option<u64> {
        match &self.0 {
            Kind::Framed { framing, .. } => match framing {
                Framing::None => Some(0),
                Framing::Length(length) => Some(*length),
                Framing::Chunked => None,
            },
            Kind::UntilEnd => None,
        }
    }

    /// Takes what belongs to the body from the start of `input`, and puts its content at the end of `keep`.
    ///
    /// # Errors
    /// The chunks are malformed: its end cannot be found any more.
    pub fn feed(&mut self, input: &[u8], keep: Option<&mut Vec<u8>>) -> Result<Fed, Malformed> {
        match &mut self.0 {
            Kind::UntilEnd => {
                if let Some(keep) = keep {
                    keep.extend_from_slice(input);
                }
                Ok(Fed {
                    used: input.len(),
                    complete: false,
                })
            }
            Kind::Framed { reader, .. } => match reader.feed(input, keep, u64::MAX) {
                Ok(fed) => Ok(Fed {
                    used: fed.used,
                    complete: fed.complete,
                }),
                Err(refusal) => Err(refusal.message),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of `text`, read whole and byte by byte.
    fn head(text: &str) -> Result<Option<Head>, Malformed> {
        let bytes = text.as_bytes();
        let whole = parse_head(bytes, 0);
        let mut torn = Ok(None);
        for length in 0..=bytes.len() {
            torn = parse_head(&bytes[..length], length.saturating_sub(1));
            if !matches!(torn, Ok(None)) {
                break;
            }
        }
        match (&whole, &torn) {
            (Ok(Some((one, used))), Ok(Some((other, again)))) => {
                assert_eq!((one.status, used), (other.status, again), "{text:?}");
            }
            (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
            _ => panic!("{text:?} whole {whole:?}, torn {torn:?}"),
        }
        whole.map(|found| found.map(|(head, _)| head))
    }

    fn complete(text: &str) -> Head {
        head(text).unwrap().expect(text)
    }

    #[test]
    fn where_a_body_ends() {
        for (lines, announced, until_end) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Some(5),
                false,
            ),
            ("HTTP/1.1 200 OK\nContent-Length:5\n\n", Some(5), false),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\ncontent-length: 5\r\n\r\n",
                Some(5),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
                Some(u64::MAX),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                None,
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 5\r\n\r\n",
                None,
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                None,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", None, true),
            (
                "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n",
                Some(0),
                false,
            ),
            (
                "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n",
                Some(0),
                false,
            ),
            ("HTTP/1.1 103 Hints\r\n\r\n", Some(0), false),
        ] {
            let body = complete(lines).body;
            assert_eq!(
                (body.announced(), body.is_until_end()),
                (announced, until_end),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn whether_a_connection_is_kept() {
        for (start, lines, kept) in [
            ("HTTP/1.1 200 OK", "Content-Length: 0", true),
            (
                "HTTP/1.1 200 OK",
                "Content-Length: 0\r\nConnection: foo, Close",
                false,
            ),
            (
                "HTTP/1.1 200 OK",
                "Content-Length: 0\r\nConnection: foo,\r\n close",
                false,
            ),
            ("HTTP/1.0 200 OK", "Content-Length: 0", false),
            (
                "HTTP/1.0 200 OK",
                "Content-Length: 0\r\nconnection: Keep-Alive",
                true,
            ),
            ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", true),
            (
                "HTTP/1.1 200 OK",
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                false,
            ),
            ("HTTP/1.1 200 OK", "X: y", false),
            ("HTTP/1.1 204 No", "X: y", true),
            ("HTTP/1.1 101 Switching", "X: y", false),
        ] {
            let text = format!("{start}\r\n{lines}\r\n\r\n");
            assert_eq!(complete(&text).keeps_alive, kept, "{text:?}");
        }
    }

    #[test]
    fn folded_lines_are_read_as_spaces() {
        let text = "HTTP/1.1 200 OK\r\nX-Long: a\r\n b\r\n\tc\r\nContent-Length:\r\n 5\r\nContent-Type: application/json;\r\n charset=utf-8\r\n\r\n";
        let head = complete(text);
        assert_eq!((head.body.announced(), head.is_json), (Some(5), true));
        assert_eq!(*unfold(b"a\r\n b\r\n\tc"), *b"a   b  \tc");
        // There is nothing that the first line could belong to.
        assert!(self::head("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n").is_err());
    }

    #[test]
    fn what_is_not_http() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "<html>",
            "HTTP/2 200 OK\r\n",
            "\x15\x03\x01",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 020 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ] {
            assert!(head(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            "\r\n",
            "HT",
            "HTTP/1.1 200 OK\r\n",
            "\r\n\r\nHTTP/1.1 200",
        ] {
            assert!(head(text).unwrap().is_none(), "{text:?}");
        }
        assert_eq!(complete("\r\nHTTP/1.1 200\r\n\r\n").status, 200);
    }

    #[test]
    fn a_head_of_up_to_100_kib_and_1000_lines() {
        let line = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert!(parse_head(line(1000).as_bytes(), 0).unwrap().is_some());
        let why = parse_head(line(1001).as_bytes(), 0).unwrap_err();
        assert_eq!(why, "the answer has more than 1000 header lines");
        let long = |size: usize| {
            let around = "HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
            format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                "x".repeat(size - around)
            )
        };
        assert!(parse_head(long(MAX_HEAD).as_bytes(), 0).unwrap().is_some());
        let why = parse_head(long(MAX_HEAD + 1).as_bytes(), 0).unwrap_err();
        assert_eq!(why, "the answer's head is over 100 KiB");
        let unfinished = &long(MAX_HEAD + 100)[..MAX_HEAD + 1];
        assert!(parse_head(unfinished.as_bytes(), 0).is_err());
    }

    #[test]
    fn how_long_a_server_keeps_an_idle_connection() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=100", Some(5)),
            ("max=100,Timeout = 2", Some(2)),
            ("timeout=0", Some(0)),
            ("timeout=4294967295", Some(u32::MAX)),
            ("timeout=99999999999", None),
            ("timeout=-1", None),
            ("timeout", None),
            ("", None),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\n\r\n");
            assert_eq!(complete(&text).idle_timeout, seconds, "{value}");
        }
    }
}
