//! One event as JSON, for the receiver of events (`docs/events.md#events`).
//!
//! Owns: the kinds of events, and the JSON of each. Knows: which fields a kind has. Never knows: when something happens, or
//! how an event travels ([`super::event_batch`] puts events together).

use super::channel_name::ChannelName;
use super::json;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An upgrade was granted.
    Connected,
    /// A channel has its first member on this node.
    Occupied,
    /// A channel's last member on this node has left.
    Vacated,
    /// A connection is gone.
    Disconnected,
}

impl EventKind {
    pub const ALL: [EventKind; 4] = [
        EventKind::Connected,
        EventKind::Occupied,
        EventKind::Vacated,
        EventKind::Disconnected,
    ];

    /// The kind's name in flags, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Connected => "connected",
            EventKind::Occupied => "occupied",
            EventKind::Vacated => "vacated",
            EventKind::Disconnected => "disconnected",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventKinds(u8);

impl EventKinds {
    /// What `--events` accepts.
    pub const ACCEPTED: &str =
        "a comma-separated list of connected, disconnected, occupied and vacated";

    /// Reads the value of `--events`.
    ///
    /// # Errors
    /// The item that is not a kind of event; empty if there are no items.
    pub fn parse(text: &str) -> Result<EventKinds, String> {
        let mut kinds = EventKinds::default();
        for item in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let is_named = |kind: &EventKind| kind.as_str().eq_ignore_ascii_case(item);
            let kind = EventKind::ALL.into_iter().find(is_named).ok_or(item)?;
            kinds.0 |= kind.bit();
        }
        match kinds {
            EventKinds(0) => Err(String::new()),
            kinds => Ok(kinds),
        }
    }

    /// All of them.
    pub fn all() -> EventKinds {
        EventKinds(EventKind::ALL.iter().fold(0, |kinds, it| kinds | it.bit()))
    }

    #[inline]
    pub fn has(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }
}

/// What every event begins with.
#[derive(Clone, Copy, Debug)]
pub struct EventHead<'t> {
    pub seq: u64,
    pub kind: EventKind,
    /// RFC 3339, in UTC.
    pub time: &'t str,
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionEnd<'n> {
    pub code: u16,
    /// A word, in which nothing has to be escaped.
    pub reason: &'static str,
    pub duration_ms: u64,
    /// In byte order.
    pub channels: &'n [ChannelName],
}

/// Appends an event about a channel.
pub fn push_channel_event(out: &mut Vec<u8>, head: EventHead, channel: &str) {
    push_head(out, head);
    out.extend_from_slice(br#","channel":"#);
    json::push_string(out, channel);
    out.push(b'}');
}

/// Appends an event about a connection; `connection` appends what the server says of it.
pub fn push_connection_event(
    out: &mut Vec<u8>,
    head: EventHead,
    connection: impl FnOnce(&mut Vec<u8>),
    end: Option<ConnectionEnd>,
) {
    push_head(out, head);
    out.extend_from_slice(br#","connection":"#);
    connection(out);
    if let Some(end) = end {
        out.extend_from_slice(br#","code":"#);
        json::push_number(out, end.code.into());
        out.extend_from_slice(br#","reason":""#);
        out.extend_from_slice(end.reason.as_bytes());
        out.extend_from_slice(br#"","duration_ms":"#);
        json::push_number(out, end.duration_ms);
        out.extend_from_slice(br#","channels":["#);
        for (nth, channel) in end.channels.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            json::push_string(out, channel.as_str());
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn push_head(out: &mut Vec<u8>, head: EventHead) {
    out.extend_from_slice(br#"{"seq":"#);
    json::push_number(out, head.seq);
    out.extend_from_slice(br#","event":""#);
    out.extend_from_slice(head.kind.as_str().as_bytes());
    out.extend_from_slice(br#"","time":""#);
    out.extend_from_slice(head.time.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64, kind: EventKind) -> EventHead<'static> {
        EventHead {
            seq,
            kind,
            time: "2026-01-01T12:00:00.000Z",
        }
    }

    fn written(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn kinds_are_read_in_any_order_and_case() {
        let only = |kinds: &[EventKind]| EventKinds(kinds.iter().fold(0, |all, it| all | it.bit()));
        for (text, kinds) in [
            ("disconnected", &[EventKind::Disconnected][..]),
            (
                " Vacated ,occupied,vacated",
                &[EventKind::Occupied, EventKind::Vacated],
            ),
            (
                "connected,disconnected,occupied,vacated",
                &EventKind::ALL[..],
            ),
        ] {
            let read = EventKinds::parse(text).unwrap();
            assert_eq!(read, only(kinds), "{text}");
            for kind in EventKind::ALL {
                assert_eq!(read.has(kind), kinds.contains(&kind), "{text}");
            }
        }
        assert_eq!(EventKinds::all(), only(&EventKind::ALL));
        for (text, item) in [
            ("", ""),
            (" , ", ""),
            ("connect", "connect"),
            ("occupied,all", "all"),
            ("connected disconnected", "connected disconnected"),
        ] {
            assert_eq!(EventKinds::parse(text), Err(item.to_owned()));
        }
    }

    #[test]
    fn an_event_about_a_channel_names_it() {
        assert_eq!(
            written(|out| push_channel_event(out, head(18, EventKind::Occupied), "a\"é\n")),
            r#"{"seq":18,"event":"occupied","time":"2026-01-01T12:00:00.000Z","channel":"a\"é\n"}"#
        );
        assert_eq!(
            written(|out| push_channel_event(out, head(u64::MAX, EventKind::Vacated), "b")),
            r#"{"seq":18446744073709551615,"event":"vacated","time":"2026-01-01T12:00:00.000Z","channel":"b"}"#
        );
    }

    #[test]
    fn an_event_about_a_connection_shows_it_and_how_it_ended() {
        let connection = |out: &mut Vec<u8>| out.extend_from_slice(br#"{"id":"c"}"#);
        assert_eq!(
            written(|out| {
                push_connection_event(out, head(1, EventKind::Connected), connection, None)
            }),
            r#"{"seq":1,"event":"connected","time":"2026-01-01T12:00:00.000Z","connection":{"id":"c"}}"#
        );
        let channels = ["a", "b\\"].map(ChannelName::checked);
        for (channels, shown) in [(&channels[..], r#"["a","b\\"]"#), (&[], "[]")] {
            let end = Some(ConnectionEnd {
                code: 1001,
                reason: "closed",
                duration_ms: 61_034,
                channels,
            });
            assert_eq!(
                written(|out| {
                    push_connection_event(out, head(20, EventKind::Disconnected), connection, end)
                }),
                format!(
                    r#"{{"seq":20,"event":"disconnected","time":"2026-01-01T12:00:00.000Z","connection":{{"id":"c"}},"code":1001,"reason":"closed","duration_ms":61034,"channels":{shown}}}"#
                )
            );
        }
    }
}
