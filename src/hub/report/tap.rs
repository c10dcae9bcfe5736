//! Taps: events as lines, to find out why nothing arrives.
//!
//! Owns: the taps, the filter of each, and lines on their way to them. Knows: events. Never knows: why something
//! happens, or how a tap's connection is written to ([`crate::hub::endpoints::tap`] does).
//!
//! A tap shows everything, or only what fits its filter: a channel, a connection, a query parameter, or several of
//! these. The connections that it watches are a bit for each slot. It is set when a connection asks for an upgrade, and
//! for older connections by a walk. So a delivery costs one lookup of a bit, and without taps one comparison.
//!
//! Decisions
//! - A tap never slows anything down. It gets at most [`PENDING`] bytes per turn, and at most [`OUTBOX`] wait to be
//!   sent. Further lines are lost, and a line reports how many.
//! - Values of queries are hidden, except for the parameter that is filtered by: they may be tokens, and a screen may
//!   be shared. The first [`CONTENT`] bytes of the content are shown, because that is the purpose.
//! - A tap shows nothing of its own connection.

use std::io::Write;
use std::time::Duration;

use crate::clock::{Millis, rfc3339};
use crate::effect::ConnId;
use crate::hub::roster::{PublicId, Subject};
use crate::hub::slots::{SlotSet, Walk};
use crate::log;
use crate::wire::channel_name::ChannelName;
use crate::wire::http;

/// Taps at the same time.
pub const TAPS: usize = 10;
/// Bytes of lines that one turn may bring to one tap; the last line may go beyond.
pub const PENDING: usize = 16 * 1024;
/// Bytes that may wait to be sent to one tap.
pub const OUTBOX: usize = 256 * 1024;
/// Bytes of content that a line shows.
const CONTENT: usize = 200;

/// The filter of a tap: all that is set must fit.
#[derive(Debug, Default)]
pub struct Filter {
    pub channel: Option<ChannelName>,
    connection: Option<PublicId>,
    /// A parameter of the query, and its value if that matters.
    query: Option<(String, Option<String>)>,
}

impl Filter {
    pub fn parse(query: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, values) in http::query_pairs(query) {
            let [value] = values.as_slice() else {
                return Err(format!("{name} is given twice: give it once"));
            };
            match name.as_str() {
                "key" => {}
                "channel" => {
                    let channel = ChannelName::check(value).map_err(|bad| bad.to_string())?;
                    filter.channel = Some(ChannelName::checked(channel));
                }
                "connection" => {
                    let id = PublicId::parse(value).ok_or(
                        "connection is an id as in connection.id of the authorizer's questions, \
                         such as a265abcda4514c6f-00000000000000000001",
                    )?;
                    filter.connection = Some(id);
                }
                "query" => {
                    let (name, value) = match value.split_once(':') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (value.as_str(), None),
                    };
                    filter.query = Some((name.to_owned(), value));
                }
                other => {
                    let other: String = other.chars().take(40).collect();
                    return Err(format!(
                        "unknown parameter {other:?}: use channel=NAME, connection=ID or query=NAME:VALUE"
                    ));
                }
            }
        }
        Ok(filter)
    }

    /// Whether it picks connections.
    pub fn picks(&self) -> bool {
        self.connection.is_some() || self.query.is_some()
    }

    /// The slot of the one connection that it picks, if it picks one.
    pub fn slot(&self) -> Option<u32> {
        self.connection.map(|id| id.slot)
    }

    /// Whether it picks this connection.
    pub fn fits(&self, id: PublicId, query: &str) -> bool {
        let fits = |(wanted, value): &(String, Option<String>)| {
            let pairs = http::query_pairs(query);
            let found = pairs.iter().find(|(name, _)| name == wanted);
            found.is_some_and(|(_, values)| value.as_ref().is_none_or(|v| values.contains(v)))
        };
        self.connection.is_none_or(|wanted| wanted == id) && self.query.as_ref().is_none_or(fits)
    }

    /// Whether the values of a parameter may be shown.
    pub fn shows(&self, name: &str) -> bool {
        self.query
            .as_ref()
            .is_some_and(|(wanted, _)| wanted == name)
    }
}

#[derive(Debug)]
pub struct Tap {
    pub id: ConnId,
    pub filter: Filter,
    /// The connections that it watches, if it does not watch all.
    pub watched: SlotSet,
    /// The walk over the connections that were there before it, and how many were found.
    pub walk: Walk,
    pub found: u64,
    /// Lines of this turn, or those that found no room in the outbox.
    pub pending: Vec<u8>,
    /// The outbox has no room.
    pub stuck: bool,
    /// Lines that were lost since the last line that reports it.
    lost: u64,
    lost_ever: u64,
}

/// A line that is being written: the fields of one JSON object.
pub struct TapLine<'a>(&'a mut Vec<u8>);

// Writing to memory cannot fail.
impl TapLine<'_> {
    pub fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    /// Also escapes control characters and invisible ones.
    fn string(&mut self, text: &str) {
        if text.chars().all(log::is_visible) {
            let _ = serde_json::to_writer(&mut *self.0, text);
            return;
        }
        for c in serde_json::to_string(text).unwrap_or_default().chars() {
            if log::is_visible(c) {
                self.0.extend(c.encode_utf8(&mut [0; 4]).bytes())
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(self.0, "\\u{unit:04x}");
                }
            }
        }
    }

    pub fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.0, &number);
    }

    pub fn milliseconds(&mut self, name: &str, time: Duration) {
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.0, &(time.as_micros() as f64 / 1e3));
    }

    pub fn texts(&mut self, name: &str, texts: &[&str]) {
        self.name(name);
        self.0.push(b'[');
        for (nth, text) in texts.iter().enumerate() {
            if nth > 0 {
                self.0.push(b',');
            }
            self.string(text);
        }
        self.0.push(b']');
    }

    /// Content: its beginning, and its length.
    pub fn content(&mut self, content: &[u8]) {
        let begin = content.get(..CONTENT).unwrap_or(content);
        let begin = match str::from_utf8(begin) {
            Ok(text) => text,
            Err(error) => {
                let valid = begin.get(..error.valid_up_to()).unwrap_or_default();
                str::from_utf8(valid).unwrap_or_default()
            }
        };
        self.text("content", begin);
        self.number("content_bytes", content.len() as u64);
    }

    fn name(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        let _ = serde_json::to_writer(&mut *self.0, name);
        self.0.push(b':');
    }
}

impl Tap {
    /// A tap. `walk` is over the connections that are there.
    pub fn new(id: ConnId, filter: Filter, walk: Walk) -> Tap {
        Tap {
            id,
            filter,
            watched: SlotSet::default(),
            walk,
            found: 0,
            pending: Vec::new(),
            stuck: false,
            lost: 0,
            lost_ever: 0,
        }
    }

    /// Whether something that happens to the connection in `slot`, or in `channel`, is shown.
    pub fn looks_at(&self, slot: Option<u32>, channel: Option<&str>) -> bool {
        let filter = &self.filter;
        let of_channel = |wanted: &ChannelName| channel == Some(wanted.as_str());
        let watched = |slot| self.watched.has(slot);
        filter.channel.as_ref().is_none_or(of_channel)
            && (!filter.picks() || slot.is_some_and(watched))
    }

    /// Appends a line to those that wait, or counts it as lost.
    pub fn line(
        &mut self,
        event: &str,
        at: Millis,
        subject: Option<&Subject>,
        channel: Option<&str>,
        fields: impl Fn(&mut TapLine, &Filter),
    ) {
        if self.pending.len() >= PENDING {
            self.lost = self.lost.saturating_add(1);
            self.lost_ever = self.lost_ever.saturating_add(1);
            return;
        }
        self.push_lost();
        let mut line = self.begin(event);
        line.text("time", &rfc3339(at));
        if let Some(subject) = subject {
            line.text("connection", &subject.id.to_string());
            line.text("remote_addr", &subject.peer.to_string());
            if let Some(user) = &subject.user {
                line.text("user", user);
            }
        }
        if let Some(channel) = channel {
            line.text("channel", channel);
        }
        let end = {
            let Tap {
                pending, filter, ..
            } = self;
            fields(&mut TapLine(pending), filter);
            pending
        };
        end.extend_from_slice(b"}\n\n");
    }

    fn begin(&mut self, event: &str) -> TapLine<'_> {
        let begin = ["event: ", event, "\ndata: {"].concat();
        self.pending.extend_from_slice(begin.as_bytes());
        TapLine(&mut self.pending)
    }

    /// Inserts the number of lines that are missing here.
    pub fn push_lost(&mut self) {
        match std::mem::take(&mut self.lost) {
            0 => {}
            lost => {
                self.begin("lost").number("lines", lost);
                self.pending.extend_from_slice(b"}\n\n");
            }
        }
    }
}

/// All taps.
#[derive(Debug, Default)]
pub struct Taps {
    pub taps: Vec<Tap>,
    /// Lines lost by taps that are gone.
    lost: u64,
}

impl Taps {
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Lines lost since the start.
    pub fn lost(&self) -> u64 {
        let lost = self.taps.iter().map(|tap| tap.lost_ever);
        lost.fold(self.lost, u64::saturating_add)
    }

    /// Takes all taps, which end. The lines that they have lost stay counted.
    pub fn take_all(&mut self) -> Vec<Tap> {
        self.lost = self.lost();
        std::mem::take(&mut self.taps)
    }

    /// Lines that were lost before this program took over.
    pub fn restore_lost(&mut self, lost: u64) {
        self.lost = lost;
    }

    /// Whether a tap watches the connection in `slot` in particular.
    pub fn watches(&self, slot: u32) -> bool {
        self.taps.iter().any(|tap| tap.watched.has(slot))
    }

    /// A connection was dropped, and with it its tap, if it has one.
    pub fn forget(&mut self, id: ConnId) {
        if let Some(nth) = self.taps.iter().position(|tap| tap.id == id) {
            let tap = self.taps.swap_remove(nth);
            self.lost = self.lost.saturating_add(tap.lost_ever);
        }
        for tap in &mut self.taps {
            tap.watched.set(id.slot, false);
        }
    }

    /// Whether something is left to be done before anything else happens.
    pub fn has_work(&self) -> bool {
        let has_work = |tap: &Tap| !tap.stuck && (!tap.pending.is_empty() || !tap.walk.is_over());
        self.taps.iter().any(has_work)
    }
}
