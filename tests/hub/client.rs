//! A scripted client: writes requests and masked frames, and reads what it gets as lines of a transcript. Compressed
//! messages are lines as any other, and are counted.
//!
//! Lines: `101`, `201`, `403 not_authorized, close` (an answer: status, the error's code or the whole body, whether the
//! connection ends), the text of a message as it is, `ping`, `pong …`, `close CODE`, and `end` once nothing more comes.

use std::cell::RefCell;
use std::net::SocketAddr;

use wsify::connection::Peer;
use wsify::effect::ConnId;
use wsify::wire::deflate::Inflater;
use zlib_rs::{Deflate, DeflateFlush};

use super::pipe::Far;

pub const TEXT: u8 = 0x81;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8A;
pub const CLOSE: u8 = 0x88;
/// A compressed text (RFC 7692 section 6).
pub const COMPRESSED: u8 = 0xC1;

/// The header of an upgrade that offers compression.
pub const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

thread_local! {
    /// For all clients of a test: it is large.
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// The payload of a compressed message (RFC 7692 section 7.2.1).
pub fn compress(message: &[u8]) -> Vec<u8> {
    let mut stream = Deflate::new(6, false, 15);
    let mut out = vec![0; message.len() + message.len() / 8 + 64];
    stream
        .compress(message, &mut out, DeflateFlush::SyncFlush)
        .expect("a message");
    // Without the four bytes that every message would end with.
    out.truncate(stream.total_out() as usize - 4);
    out
}

/// A client's frame: `first` is FIN, the reserved bits and the opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    wsify::wire::frame::unmask(&mut bytes[start..], mask);
    bytes
}

pub fn text(message: &str) -> Vec<u8> {
    frame(TEXT, message.as_bytes())
}

pub fn close(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}

/// An upgrade request; `more` are further header lines, each with its end.
pub fn upgrade(target: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

pub fn post(body: &str) -> Vec<u8> {
    format!(
        "POST /broadcast HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub fn join(channel: &str) -> String {
    format!(r#"{{"command":"join","args":{{"channel":"{channel}"}}}}"#)
}

pub fn leave(channel: &str) -> String {
    format!(r#"{{"command":"leave","args":{{"channel":"{channel}"}}}}"#)
}

pub fn broadcast(channel: &str, content: &str) -> String {
    format!(r#"{{"command":"broadcast","args":{{"channel":"{channel}","content":{content}}}}}"#)
}

/// The same command, with an id.
pub fn with_id(id: u64, command: &str) -> String {
    command.replacen('{', &format!(r#"{{"id":{id},"#), 1)
}

/// The peer address of the `nth` client: loopback, with its number plus one as the port.
pub fn local(nth: usize) -> Peer {
    Peer::new(SocketAddr::from(([127, 0, 0, 1], nth as u16 + 1)))
}

pub struct Client {
    pub far: Far,
    pub id: ConnId,
    /// Received bytes that are not yet a whole line.
    inbox: Vec<u8>,
    websocket: bool,
    ended: bool,
    /// Messages that came compressed.
    pub compressed: usize,
    /// The next answer is to a `HEAD` request.
    pub bodiless: bool,
    /// The head of the last answer, for stories about headers.
    pub head: String,
    /// The reason in the last close frame.
    pub reason: String,
    /// What a client that uses `wsify.v1` is told first; it is no line.
    pub welcome: serde_json::Value,
    expects_welcome: bool,
}

impl Client {
    pub fn new(far: Far, id: ConnId) -> Client {
        Client {
            far,
            id,
            inbox: Vec::new(),
            websocket: false,
            ended: false,
            compressed: 0,
            bodiless: false,
            head: String::new(),
            reason: String::new(),
            welcome: serde_json::Value::Null,
            expects_welcome: false,
        }
    }

    pub fn send(&self, bytes: &[u8]) {
        self.far.send(bytes);
    }

    /// Sends a text message.
    pub fn say(&self, message: &str) {
        self.send(&text(message));
    }

    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// Whether [`Client::hear`] may return something.
    pub fn has_news(&self) -> bool {
        !self.ended && (self.far.is_ended() || self.far.has_arrived())
    }

    /// Everything received since the last call, line by line.
    pub fn hear(&mut self) -> Vec<String> {
        self.inbox.extend(self.far.receive());
        let mut lines = Vec::new();
        let mut used = 0;
        while let Some((count, line)) = self.line(&self.inbox[used..]) {
            let answer = self.inbox[used..used + count].to_vec();
            self.compressed += usize::from(self.websocket && answer[0] == COMPRESSED);
            if !self.websocket {
                self.head = String::from_utf8(answer).expect("a text");
                self.websocket = line == "101";
                let v1 = self.header("Sec-WebSocket-Protocol") == Some("wsify.v1");
                self.expects_welcome = self.websocket && v1;
            } else if std::mem::take(&mut self.expects_welcome) {
                let message: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                self.welcome = message["welcome"].clone();
                assert!(self.welcome.is_object(), "{line} is no welcome");
                used += count;
                continue;
            } else if line.starts_with("close ") {
                self.reason = String::from_utf8(answer[4..].to_vec()).expect("UTF-8");
            }
            used += count;
            lines.push(line);
        }
        self.inbox.drain(..used);
        if self.far.is_ended() && !self.ended {
            self.ended = true;
            let whole = self.inbox.is_empty() || self.far.wire().may_be_torn();
            assert!(whole, "torn, {} bytes from its end", self.inbox.len());
            lines.push("end".to_owned());
        }
        lines
    }

    /// A header of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn line(&self, bytes: &[u8]) -> Option<(usize, String)> {
        if self.websocket {
            message(bytes)
        } else {
            answer(bytes, self.bodiless)
        }
    }
}

/// A server's frame.
fn message(bytes: &[u8]) -> Option<(usize, String)> {
    let [first, second, rest @ ..] = bytes else {
        return None;
    };
    let (size, len) = match second {
        127 => (
            10,
            u64::from_be_bytes(rest.first_chunk().copied()?) as usize,
        ),
        126 => (4, u16::from_be_bytes(rest.first_chunk().copied()?).into()),
        len => (2, usize::from(*len)),
    };
    assert!(*second < 128, "a server's frames are not masked");
    let payload = bytes.get(size..size + len)?;
    let shown = || String::from_utf8(payload.to_vec()).expect("UTF-8");
    let line = match *first {
        TEXT => shown(),
        COMPRESSED => INFLATER.with_borrow_mut(|inflater| {
            let message = inflater.inflate(payload, true, 1 << 30).expect("a text");
            assert!(message.bytes().len() > payload.len(), "not worth it");
            let line = String::from_utf8(message.bytes().to_vec()).expect("UTF-8");
            inflater.keep(message);
            line
        }),
        PING => "ping".to_owned(),
        PONG => format!("pong {}", shown()),
        CLOSE => match payload.split_first_chunk() {
            Some((code, reason)) => {
                let code = u16::from_be_bytes(*code);
                // An authorizer may want none.
                assert!(
                    !reason.is_empty() || code >= 4000,
                    "every close carries a reason"
                );
                format!("close {code}")
            }
            None => "close".to_owned(),
        },
        other => panic!("a frame that begins with {other:#x}"),
    };
    Some((size + len, line))
}

/// An HTTP answer.
fn answer(bytes: &[u8], bodiless: bool) -> Option<(usize, String)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a text");
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let mut line = head["HTTP/1.1 ".len()..][..3].to_owned();
    let mut size = header("Content-Length").map_or(0, |len| len.parse().expect("a number"));
    if bodiless {
        size = 0;
    }
    let body = std::str::from_utf8(bytes.get(end..end + size)?).expect("a text");
    if header("Content-Type") == Some("application/json") && size > 0 {
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        match body["error"]["code"].as_str() {
            Some(code) => line += &format!(" {code}"),
            None => line += &format!(" {body}"),
        }
    }
    if header("Connection").is_some_and(|value| value.starts_with("close")) {
        line += ", close";
    }
    Some((end + size, line))
}
