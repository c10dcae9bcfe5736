//! The wire as a floor and the load client need it: frames, the accept key, the commands' bytes.
//!
//! Owns: how the benches build and cut bytes, and the one shape of command they speak.
//! Never knows: sockets. Uses nothing of `wsify`: a fault there must not hide behind the same fault here.
//!
//! Decision: channels are named `room-NNNNNNNN` and every id has nine digits, rather than free names, because a floor
//! may then cut a message at fixed places and spend nothing on parsing, while wsify sees ordinary JSON.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

pub const TEXT: u8 = 1;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const JOIN: &str = r#"{"command":"join","args":{"channel":"room-"#;
const SAY: &str = r#"{"command":"broadcast","args":{"channel":"room-"#;
const POST: &str = r#"{"channel":"room-"#;
const CONTENT: &str = r#"","content":"#;
const ROOM_DIGITS: usize = 8;
const ID: &str = r#","id":"#;
const ID_DIGITS: usize = 9;
const SEQUENCE_DIGITS: usize = 12;

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 s.4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// The `n`-th client's key: 16 bytes that differ from client to client.
pub fn client_key(n: u64) -> String {
    let mut bytes = [0x5a; 16];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    STANDARD.encode(bytes)
}

/// The header of one whole frame of this kind.
fn header(opcode: u8, len: usize, masked: u8, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match len {
        0..=125 => out.push(masked | len as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends what a server sends.
pub fn server_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    header(opcode, payload.len(), 0, out);
    out.extend_from_slice(payload);
}

/// What makes a server's compressed frames (RFC 7692 section 7.2.1).
pub struct Squeezer(Deflate);

impl Default for Squeezer {
    fn default() -> Self {
        // As wsify compresses.
        Self(Deflate::new_with_config(DeflateConfig {
            level: 3,
            window_bits: -15,
            mem_level: 5,
            ..DeflateConfig::default()
        }))
    }
}

impl Squeezer {
    /// Appends the frame of a text; it is plain if it would not be smaller.
    pub fn frame(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let mut squeezed = vec![0; payload.len() + payload.len() / 8 + 64];
        self.0.reset();
        let done = self
            .0
            .compress(payload, &mut squeezed, DeflateFlush::SyncFlush);
        // Without the four bytes that all end with.
        let len = self.0.total_out() as usize - 4;
        if done.is_err() || len >= payload.len() {
            return server_frame(TEXT, payload, out);
        }
        header(0x40 | TEXT, len, 0, out);
        out.extend_from_slice(&squeezed[..len]);
    }
}

/// Appends what a client sends, masked with `mask`.
pub fn client_frame(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    header(opcode, payload.len(), 0x80, out);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask);
}

/// Masks or unmasks in place, eight bytes at a time so that the compiler makes vectors of it.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let word = u64::from(word) << 32 | u64::from(word);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Where one frame lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    /// Where its payload begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// The frame that begins at `from`, once all of it has come.
pub fn frame(bytes: &[u8], from: usize) -> Option<Frame> {
    let head = bytes.get(from..)?;
    let second = *head.get(1)?;
    let (len, mut at) = match second & 0x7f {
        126 => (
            u64::from(u16::from_be_bytes(*head.get(2..)?.first_chunk()?)),
            4,
        ),
        127 => (u64::from_be_bytes(*head.get(2..)?.first_chunk()?), 10),
        short => (u64::from(short), 2),
    };
    let mask = if second & 0x80 != 0 {
        at += 4;
        Some(*head.get(at - 4..)?.first_chunk()?)
    } else {
        None
    };
    let start = from + at;
    let end = start + len as usize;
    (bytes.len() >= end).then_some(Frame {
        opcode: head[0] & 15,
        mask,
        start,
        end,
    })
}

/// Where the head of an HTTP message ends (behind its empty line), once it has come.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header in a head; `name` in lower case.
pub fn header_value<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        line[..colon]
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| line[colon + 1..].trim_ascii())
    })
}

/// The upgrade request of a client.
pub fn upgrade(key: &str, query: &str, deflate: bool) -> Vec<u8> {
    let offer = if deflate {
        "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    } else {
        ""
    };
    format!(
        "GET /ws{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// `join` with an id, so that it is answered.
pub fn join(room: usize, id: u32) -> Vec<u8> {
    let mut text = JOIN.as_bytes().to_vec();
    digits(room as u64, ROOM_DIGITS, &mut text);
    text.extend_from_slice(b"\"}");
    text.extend_from_slice(ID.as_bytes());
    digits(u64::from(id), ID_DIGITS, &mut text);
    text.push(b'}');
    text
}

/// The answer to a command with this id (docs/protocol.md#replies).
pub fn ack(id: u32) -> Vec<u8> {
    let mut text = br#"{"id":"#.to_vec();
    digits(u64::from(id), ID_DIGITS, &mut text);
    text.extend_from_slice(br#","ok":true}"#);
    text
}

/// A broadcast without id.
pub fn say(room: usize, content: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(SAY.len() + content.len() + 32);
    text.extend_from_slice(SAY.as_bytes());
    digits(room as u64, ROOM_DIGITS, &mut text);
    text.extend_from_slice(CONTENT.as_bytes());
    text.extend_from_slice(content);
    text.extend_from_slice(b"}}");
    text
}

/// Appends a `POST /broadcast`.
pub fn post(room: usize, content: &[u8], out: &mut Vec<u8>) {
    let length = POST.len() + ROOM_DIGITS + CONTENT.len() + content.len() + 1;
    out.extend_from_slice(
        b"POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ",
    );
    out.extend_from_slice(length.to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(POST.as_bytes());
    digits(room as u64, ROOM_DIGITS, out);
    out.extend_from_slice(CONTENT.as_bytes());
    out.extend_from_slice(content);
    out.push(b'}');
}

/// Content of exactly `size` bytes of JSON (24 or more) that no other (room, sequence) has.
pub fn content(room: usize, sequence: u64, size: usize) -> Vec<u8> {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(noise);
    let mut text = Vec::with_capacity(size);
    text.push(b'"');
    digits(room as u64, ROOM_DIGITS, &mut text);
    text.push(b'.');
    digits(sequence, SEQUENCE_DIGITS, &mut text);
    text.push(b'.');
    // What follows differs from message to message, too: a stale buffer would not pass.
    let mut from = (sequence as usize)
        .wrapping_mul(1_000_003)
        .wrapping_add(room);
    while text.len() + 1 < size {
        let noise = &NOISE[from % (NOISE.len() / 2)..];
        let more = (size - 1 - text.len()).min(noise.len());
        text.extend_from_slice(&noise[..more]);
        from += 1;
    }
    text.push(b'"');
    text
}

/// Content of exactly `size` bytes of JSON (120 or more) as applications send it, that no other (room, sequence) has.
pub fn objects(room: usize, sequence: u64, size: usize) -> Vec<u8> {
    let mut text = format!(r#"[{{"room":{room},"sequence":{sequence}}}"#);
    let mut state = sequence
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(room as u64);
    loop {
        let mut below = |most: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        let status = ["moving", "parked", "offline"][below(3) as usize];
        let object = format!(
            r#",{{"id":{},"user":"user-{}","lat":{}.{:05},"lng":{}.{:05},"speed":{},"status":"{status}"}}"#,
            below(1 << 24),
            below(1000),
            40 + below(20),
            below(100_000),
            below(20),
            below(100_000),
            below(120),
        );
        if text.len() + object.len() + 1 > size {
            let padding = size.saturating_sub(text.len() + 1);
            text.extend(std::iter::repeat_n(' ', padding));
            text.push(']');
            return text.into_bytes();
        }
        text += &object;
    }
}

/// The room (or backend) and the sequence that content names.
pub fn named(content: &[u8]) -> Option<(usize, u64)> {
    let sequence = 1 + ROOM_DIGITS + 1;
    Some((
        number(content, 1, ROOM_DIGITS)? as usize,
        number(content, sequence, SEQUENCE_DIGITS)?,
    ))
}

/// 64 KiB of letters without a pattern, the same in every run.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letters = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'a' + (state >> 60) as u8
    });
    letters.take(64 * 1024).collect()
}

/// Appends a number with leading zeros: `format!` would be most of the client's work on a small message.
fn digits(mut number: u64, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + count, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
}

/// What a floor understands of a message.
#[derive(Debug, PartialEq)]
pub enum Command<'a> {
    /// With the digits of its id.
    Join {
        room: usize,
        id: &'a [u8],
    },
    Say {
        room: usize,
        content: &'a [u8],
    },
}

/// A command of the fixed shape above, cut at fixed places.
pub fn command(text: &[u8]) -> Option<Command<'_>> {
    if text.get(12) == Some(&JOIN.as_bytes()[12]) {
        let digits_end = text.len() - 1;
        Some(Command::Join {
            room: room(text, JOIN.len())?,
            id: text.get(digits_end - ID_DIGITS..digits_end)?,
        })
    } else {
        let start = SAY.len() + ROOM_DIGITS + CONTENT.len();
        Some(Command::Say {
            room: room(text, SAY.len())?,
            content: text.get(start..text.len() - 2)?,
        })
    }
}

/// The room and the content of a `POST`'s body of the fixed shape above.
pub fn posted(body: &[u8]) -> Option<(usize, &[u8])> {
    let start = POST.len() + ROOM_DIGITS + CONTENT.len();
    Some((room(body, POST.len())?, body.get(start..body.len() - 1)?))
}

fn room(text: &[u8], at: usize) -> Option<usize> {
    number(text, at, ROOM_DIGITS).map(|room| room as usize)
}

fn number(text: &[u8], at: usize, count: usize) -> Option<u64> {
    let digits = text.get(at..at + count)?;
    digits.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'9' => Some(sum * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}
