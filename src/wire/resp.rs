//! Commands to redis and its replies: RESP2.
//!
//! Owns: which replies mean something to a publisher or a subscriber. Knows: the protocol, through a codec. Never
//! knows: to which command a reply belongs.
//!
//! Decisions
//! - The codec of `redis-protocol` rather than our own, for one value at a time. Arrays are taken apart here, because
//!   the codec follows nested ones on the stack to any depth. A subscriber is sent no nested arrays.
//! - Version 2 of the protocol rather than 3: every redis and compatible server supports it.

use std::ops::Range;

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::{BorrowedFrame, RangeFrame};

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// Items of an array. The supported ones have three at most.
const MAX_ITEMS: usize = 8;
/// Values in an answer to `ROLE`, which lists all replicas of a master.
const MAX_VALUES: usize = 4096;
/// A line: a reply that is not a bulk string, or the length of one. Error messages are the longest.
const MAX_LINE: usize = 64 * 1024;

/// A reply, or a message of a subscription. Ranges lie in the bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisReply {
    /// Success: OK, PONG, a number, a string.
    Done,
    /// An error, and its message.
    Error(Range<usize>),
    /// One channel is subscribed.
    Subscribed,
    /// One channel is no longer subscribed: its name, where there is one.
    Unsubscribed(Range<usize>),
    Message {
        channel: Range<usize>,
        content: Range<usize>,
    },
    Role {
        /// The server's role: `master`, `slave` or `sentinel`.
        name: Range<usize>,
        /// How many replicas follow a master.
        replicas: usize,
    },
}

/// A value of any reply. Ranges lie in the bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisValue {
    /// This many values follow.
    Array(usize),
    Text(Range<usize>),
    Number(i64),
    Null,
    Error(Range<usize>),
}

/// The input is not a supported reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads the reply at the start of `bytes`, and how long it is. `None`: more bytes are needed.
///
/// # Errors
/// It is not the protocol, or a reply that no publisher or subscriber gets.
pub fn read(bytes: &[u8]) -> Result<Option<(RedisReply, usize)>, Malformed> {
    if bytes.first() != Some(&b'*') {
        let Some((item, used)) = read_item(bytes, 0)? else {
            return Ok(None);
        };
        let reply = match item {
            RangeFrame::Error((from, to)) => RedisReply::Error(from..to),
            _ => RedisReply::Done,
        };
        return Ok(Some((reply, used)));
    }
    let Some((count, mut used)) = read_count(bytes)? else {
        return Ok(None);
    };
    if let Some((RangeFrame::BulkString((from, to)), end)) = read_item(bytes, used)?
        && matches!(
            bytes.get(from..to),
            Some(b"master" | b"slave" | b"sentinel")
        )
    {
        let name = from..to;
        let replicas = replicas(bytes, end);
        let rest = skip(bytes, end, count.saturating_sub(1), MAX_VALUES)?;
        return Ok(rest.map(|used| (RedisReply::Role { name, replicas }, used)));
    }
    let mut items = [const { RangeFrame::Null }; MAX_ITEMS];
    for place in items.get_mut(..count).ok_or(Malformed)? {
        let Some((item, end)) = read_item(bytes, used)? else {
            return Ok(None);
        };
        (*place, used) = (item, end);
    }
    let text = |(from, to): (usize, usize)| bytes.get(from..to).unwrap_or_default();
    let reply = match &items {
        [RangeFrame::BulkString(kind), rest @ ..] => match (text(*kind), rest) {
            (
                b"message" | b"smessage",
                [
                    RangeFrame::BulkString((from, to)),
                    RangeFrame::BulkString((start, end)),
                    ..,
                ],
            ) => RedisReply::Message {
                channel: *from..*to,
                content: *start..*end,
            },
            (b"subscribe" | b"ssubscribe", _) => RedisReply::Subscribed,
            (b"unsubscribe" | b"sunsubscribe", [RangeFrame::BulkString((from, to)), ..]) => {
                RedisReply::Unsubscribed(*from..*to)
            }
            (b"unsubscribe" | b"sunsubscribe", _) => RedisReply::Unsubscribed(0..0),
            // What a subscriber's PING is answered with.
            (b"pong", _) => RedisReply::Done,
            _ => return Err(Malformed),
        },
        _ => return Err(Malformed),
    };
    Ok(Some((reply, used)))
}

/// How many replicas the answer of a master to `ROLE` lists, of which `at` is the end of its first item.
fn replicas(bytes: &[u8], at: usize) -> usize {
    let Ok(Some((_, at))) = value(bytes, at) else {
        return 0;
    };
    match value(bytes, at) {
        Ok(Some((RedisValue::Array(count), _))) => count,
        _ => 0,
    }
}

/// Where `values` values end that begin at `at`, arrays among them; more than `most` are malformed. `None`: more bytes are
/// needed.
///
/// # Errors
/// It is not the protocol.
pub fn skip(
    bytes: &[u8],
    mut at: usize,
    mut values: usize,
    most: usize,
) -> Result<Option<usize>, Malformed> {
    for _ in 0..=most {
        if values == 0 {
            return Ok(Some(at));
        }
        values = values.saturating_sub(1);
        let Some((found, end)) = value(bytes, at)? else {
            return Ok(None);
        };
        if let RedisValue::Array(more) = found {
            values = values.saturating_add(more);
        }
        at = end;
    }
    Err(Malformed)
}

/// The value `at` bytes behind the start, and where it ends; the items of an array follow as values of their own. `None`:
/// more bytes are needed.
///
/// # Errors
/// It is not the protocol.
pub fn value(bytes: &[u8], at: usize) -> Result<Option<(RedisValue, usize)>, Malformed> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.first() == Some(&b'*') {
        if let Some(b"-1\r\n") = rest.get(1..5) {
            return Ok(Some((RedisValue::Null, at.saturating_add(5))));
        }
        if b"*-1\r\n".starts_with(rest) {
            return Ok(None);
        }
        let head = read_count(rest)?;
        return Ok(head.map(|(count, used)| (RedisValue::Array(count), at.saturating_add(used))));
    }
    let item = read_item(bytes, at)?;
    Ok(item.map(|(item, end)| {
        let value = match item {
            RangeFrame::SimpleString((from, to)) | RangeFrame::BulkString((from, to)) => {
                RedisValue::Text(from..to)
            }
            RangeFrame::Error((from, to)) => RedisValue::Error(from..to),
            RangeFrame::Integer(number) => RedisValue::Number(number),
            RangeFrame::Null | RangeFrame::Array(_) => RedisValue::Null,
        };
        (value, end)
    }))
}

/// The head of an array: how many items follow, and where.
fn read_count(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let line = bytes.get(..16.min(bytes.len())).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if line.len() < 16 {
            Ok(None)
        } else {
            Err(Malformed)
        };
    };
    let digits = line.get(1..end).and_then(|d| d.strip_suffix(b"\r"));
    let digits = digits.and_then(|d| str::from_utf8(d).ok());
    let count: usize = digits.and_then(|d| d.parse().ok()).ok_or(Malformed)?;
    Ok(Some((count, end.saturating_add(1))))
}

/// One value that is not an array, `at` bytes behind the start, and where it ends.
fn read_item(bytes: &[u8], at: usize) -> Result<Option<(RangeFrame, usize)>, Malformed> {
    let rest = bytes.get(at..).unwrap_or_default();
    let line = rest.get(..MAX_LINE.min(rest.len())).unwrap_or_default();
    match rest.first() {
        None => return Ok(None),
        Some(b'*') => return Err(Malformed),
        Some(_) if memchr::memchr(b'\n', line).is_none() => {
            // The codec would search for its end again and again.
            return if line.len() < MAX_LINE {
                Ok(None)
            } else {
                Err(Malformed)
            };
        }
        Some(_) => {}
    }
    let Some((item, used)) = decode_range(rest).map_err(|_| Malformed)? else {
        return Ok(None);
    };
    if !rest.get(..used).is_some_and(|item| item.ends_with(b"\r\n")) {
        return Err(Malformed);
    }
    let shift = |(from, to): (usize, usize)| (from.saturating_add(at), to.saturating_add(at));
    let item = match item {
        RangeFrame::Error(range) => RangeFrame::Error(shift(range)),
        RangeFrame::BulkString(range) => RangeFrame::BulkString(shift(range)),
        RangeFrame::SimpleString(range) => RangeFrame::SimpleString(shift(range)),
        other => other,
    };
    Ok(Some((item, used.saturating_add(at))))
}

/// Appends a command, of its name and its arguments.
pub fn push_command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let parts: Vec<_> = parts.iter().map(|p| BorrowedFrame::BulkString(p)).collect();
    let command = BorrowedFrame::Array(&parts);
    let start = out.len();
    out.resize(start.saturating_add(command.encode_len(false)), 0);
    let place = out.get_mut(start..).unwrap_or_default();
    let written = encode_borrowed(place, &command, false);
    debug_assert!(
        written.is_ok(),
        "there is exactly as much room as it asked for"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply whole, cut anywhere, and with more behind it.
    fn reads(bytes: &[u8]) -> Result<RedisReply, Malformed> {
        for cut in 0..bytes.len() {
            match read(&bytes[..cut]) {
                Ok(None) => {}
                Err(Malformed) => return Err(Malformed),
                Ok(Some(early)) => panic!("{early:?} after {cut} bytes"),
            }
        }
        let (reply, used) = read(bytes)?.expect("it is whole");
        assert_eq!(used, bytes.len());
        let more = [bytes, b"+OK\r\n"].concat();
        assert_eq!(read(&more), Ok(Some((reply.clone(), used))));
        Ok(reply)
    }

    fn role(name: Range<usize>, replicas: usize) -> RedisReply {
        RedisReply::Role { name, replicas }
    }

    #[test]
    fn resp_replies_are_read() {
        for (bytes, reply) in [
            (&b"+OK\r\n"[..], RedisReply::Done),
            (b"+PONG\r\n", RedisReply::Done),
            (b":3\r\n", RedisReply::Done),
            (b"$4\r\nping\r\n", RedisReply::Done),
            (b"$-1\r\n", RedisReply::Done),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", RedisReply::Done),
            (b"-ERR no\r\n", RedisReply::Error(1..7)),
            (
                b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
                RedisReply::Subscribed,
            ),
            (
                b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
                RedisReply::Unsubscribed(26..27),
            ),
            (
                b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
                RedisReply::Unsubscribed(0..0),
            ),
            (
                b"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n",
                RedisReply::Subscribed,
            ),
            (
                b"*3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n",
                RedisReply::Unsubscribed(27..28),
            ),
            (
                b"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$2\r\n{}\r\n",
                RedisReply::Message {
                    channel: 22..23,
                    content: 29..31,
                },
            ),
            (
                b"*3\r\n$7\r\nmessage\r\n$2\r\na\n\r\n$4\r\n\r\n\r\n\r\n",
                RedisReply::Message {
                    channel: 21..23,
                    content: 29..33,
                },
            ),
            (b"*3\r\n$6\r\nmaster\r\n:9\r\n*0\r\n", role(8..14, 0)),
            (
                b"*3\r\n$6\r\nmaster\r\n:9\r\n*2\r\n*3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\n2\r\n\
                  *3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\n2\r\n",
                role(8..14, 2),
            ),
            (
                b"*5\r\n$5\r\nslave\r\n$1\r\na\r\n:6379\r\n$7\r\nconnect\r\n:-1\r\n",
                role(8..13, 0),
            ),
            (b"*2\r\n$8\r\nsentinel\r\n*1\r\n$1\r\na\r\n", role(8..16, 0)),
            (
                b"*3\r\n$7\r\nmessage\r\n$0\r\n\r\n$0\r\n\r\n",
                RedisReply::Message {
                    channel: 21..21,
                    content: 27..27,
                },
            ),
        ] {
            assert_eq!(reads(bytes), Ok(reply), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn malformed_resp_replies_are_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"*-1\r\n",
            b"*0\r\n",
            b"*9\r\n",
            b"*1000000000\r\n",
            b"*99999999999999999999999\r\n",
            b"*+1\r\n+a\r\n",
            b"*3\n",
            b"*1\r\n$4\r\nwhat\r\n",
            b"*2\r\n$7\r\nmessage\r\n$1\r\na\r\n",
            b"*1\r\n*1\r\n+a\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n",
            b"$-2\r\n",
            b"$x\r\n",
            b"$1\r\nabc\r\n",
            b":1.5\r\n",
        ] {
            assert_eq!(reads(bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
        // Neither stack nor time grows with hostile input.
        assert_eq!(read(&b"*1\r\n".repeat(1_000_000)), Err(Malformed));
        let role = [
            b"*2\r\n$6\r\nmaster\r\n".as_slice(),
            &b"*1\r\n".repeat(1_000_000),
        ]
        .concat();
        assert_eq!(read(&role), Err(Malformed));
        assert_eq!(read(&b"+".repeat(MAX_LINE - 1)), Ok(None));
        assert_eq!(read(&b"+".repeat(MAX_LINE)), Err(Malformed));
    }

    #[test]
    fn a_resp_reply_is_read_once_it_is_complete() {
        for bytes in [
            &b"$9223372036854775807\r\nabc"[..],
            b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1073741824\r\n{",
        ] {
            assert_eq!(read(bytes), Ok(None));
        }
    }

    #[test]
    fn resp_commands_are_written() {
        let mut out = b"before".to_vec();
        push_command(&mut out, &[b"PUBLISH", "é".as_bytes(), b"", b"{\r\n}"]);
        let expected = "before*4\r\n$7\r\nPUBLISH\r\n$2\r\né\r\n$0\r\n\r\n$4\r\n{\r\n}\r\n";
        assert_eq!(out, expected.as_bytes());
    }
}
