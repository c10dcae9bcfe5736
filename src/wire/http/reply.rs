//! Replies: statuses, error answers, and their bytes (RFC 9110 15, RFC 9112 4 and 6).

use std::borrow::Cow;
use std::io::Write;

use super::{Version, is_text};

/// A header line of a reply.
pub type Field = (&'static str, Cow<'static, str>);

/// The statuses of wsify's answers.
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

/// A reply's content. How it is sent follows from the request: see [`ReplyOptions`].
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

    /// The reply with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

/// A refused request: every error answer is made of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: Status,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people: what was wrong, and what to do.
    pub message: Cow<'static, str>,
    /// Further headers that the status requires.
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

    /// The refusal with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }

    /// The reply `{"error":{"code":"…","message":"…"}}` (`docs/api.md#errors`).
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

pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Status::BadRequest, "bad_request", message)
}

/// How a reply is sent, by its request: see `Head::reply_options`. Small, so that the head need not be kept until the
/// reply is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyOptions {
    pub version: Version,
    /// Whether this is the connection's last reply.
    pub close: bool,
    /// Whether the request was `HEAD`: the headers as for `GET`, and no body.
    pub head_only: bool,
}

impl ReplyOptions {
    /// For the reply to input that is not a request.
    pub const LAST: ReplyOptions = ReplyOptions {
        version: Version::Http11,
        close: true,
        head_only: false,
    };
}

/// Bytes reserved for a reply's head, so that the usual one is not moved while it is written.
const USUAL_HEAD: usize = 256;

/// Writes a reply. `date` is the text of the Date header (RFC 9110 5.6.7). Control characters in header values are
/// left out, so that no value can begin a line of its own.
pub fn respond(out: &mut Vec<u8>, reply: &Reply, options: ReplyOptions, date: Option<&str>) {
    out.reserve(USUAL_HEAD.saturating_add(reply.body.len()));
    out.extend_from_slice(reply.status.line().as_bytes());
    if let Some(date) = date {
        field(out, "Date", date);
    }
    if let Some(content_type) = reply.content_type {
        field(out, "Content-Type", content_type);
    }
    // A 204 has no content, and must not have a Content-Length (RFC 9110 8.6).
    let has_content = reply.status != Status::NoContent;
    if has_content {
        match reply.body.len() {
            0 => out.extend_from_slice(b"Content-Length: 0\r\n"),
            // Writing to a Vec cannot fail.
            len => drop(write!(out, "Content-Length: {len}\r\n")),
        }
    }
    // Upgrade has to be named in Connection (RFC 9110 7.8).
    let upgrade = reply.headers.iter().any(|(name, _)| *name == "Upgrade");
    let connection: &[u8] = match (options.close, options.version, upgrade) {
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
    if has_content && !options.head_only {
        out.extend_from_slice(&reply.body);
    }
}

/// Writes the head of an answer of unknown length, whose body ends with the connection (RFC 9112 6.3).
pub fn begin_stream(out: &mut Vec<u8>, content_type: &str, headers: &[Field], date: Option<&str>) {
    out.extend_from_slice(Status::Ok.line().as_bytes());
    if let Some(date) = date {
        field(out, "Date", date);
    }
    field(out, "Content-Type", content_type);
    field(out, "Cache-Control", "no-store");
    // Without it, nginx would hold back data until a buffer is full.
    field(out, "X-Accel-Buffering", "no");
    field(out, "Connection", "close");
    for (name, value) in headers {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one header line.
pub(in crate::wire) fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    // No early exit, so that many bytes are compared at once.
    if value.bytes().fold(true, |fit, byte| fit & is_text(byte)) {
        out.extend_from_slice(value.as_bytes());
    } else {
        out.extend(value.bytes().filter(|&byte| is_text(byte)));
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(reply: &Reply, options: ReplyOptions, date: Option<&str>) -> String {
        let mut out = b"before".to_vec();
        respond(&mut out, reply, options, date);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before").unwrap().to_owned()
    }

    const KEPT: ReplyOptions = ReplyOptions {
        version: Version::Http11,
        close: false,
        head_only: false,
    };

    #[test]
    fn replies_are_written() {
        let kept10 = ReplyOptions {
            version: Version::Http10,
            ..KEPT
        };
        let head_only = ReplyOptions {
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
                ReplyOptions::LAST,
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
                ReplyOptions::LAST,
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
        for (reply, options, date, expected) in table {
            assert_eq!(sent(&reply, options, date), expected);
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
}
