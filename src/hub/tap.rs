//! `GET /tap`: what happens, as server-sent events, to those who ask why nothing arrives.
//!
//! Owns: the taps, what each looks at, and lines on their way to them. Knows: what is told by the other rooms of the hub.
//! Never knows: why it happens.
//!
//! A tap looks at everything, or at a channel, at a connection, at those whose upgrade had a certain query value, or at
//! all of these together. Whom it watches is a bit for each slot, set when a connection arrives and by a walk over those
//! that were there before; so a delivery costs one look at a bit, and without a tap nothing but the look whether there is
//! one.
//!
//! Decisions
//! - A tap never slows anybody down: a turn brings it [`PENDING`] bytes at most, and no more is put into its outbox than
//!   [`OUTBOX`]. What is over that is lost, and it is told how much.
//! - Values of queries are not shown, except of the parameter that is looked for: they hold tokens, and whoever looks on
//!   may show the screen to others. Contents are, since they are what it is about; their first [`CONTENT`] bytes.
//! - The connection a tap itself lives on is nobody's: nothing is told of it.

use std::io::Write;
use std::time::{Duration, SystemTime};

use super::Hub;
use super::channels::{Channels, Place};
use super::registry::Name;
use crate::clock::Millis;
use crate::connection::{Ending, Exchange, Peer, Stream};
use crate::effect::{Answer, ConnId};
use crate::log;
use crate::wire::channel_name::ChannelName;
use crate::wire::command::Verb;
use crate::wire::handshake::Dialect;
use crate::wire::http::{self, Head, Method, Refusal, Reply, Status};

/// Taps at the same time.
const TAPS: usize = 10;
/// Bytes of lines that one turn may bring to one tap; the last line may go beyond.
const PENDING: usize = 16 * 1024;
/// Bytes that may wait for somebody who looks on.
const OUTBOX: usize = 256 * 1024;
/// Of a content, in bytes.
const CONTENT: usize = 200;
/// Slots that a new tap's walk looks at between two polls.
const WALK: u32 = 512;
/// Connections that a new tap is told of, of those that were there before.
const FOUND: u64 = 100;
/// Channels of a connection that a line names.
const CHANNELS: usize = 20;

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// What a tap looks at: all that is set must fit.
#[derive(Debug, Default)]
pub struct Filter {
    channel: Option<ChannelName>,
    connection: Option<Name>,
    /// A parameter of the query, and its value if that matters.
    query: Option<(String, Option<String>)>,
}

impl Filter {
    fn parse(query: &str) -> Result<Filter, String> {
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
                    let name = Name::parse(value).ok_or(
                        "connection is an id as in connection.id of the authorizer's questions, \
                         such as a265abcda4514c6f-1",
                    )?;
                    filter.connection = Some(name);
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
                        "{other:?} is nothing to look at: use channel=NAME, connection=ID or query=NAME:VALUE"
                    ));
                }
            }
        }
        Ok(filter)
    }

    /// Whether it picks connections.
    fn picks(&self) -> bool {
        self.connection.is_some() || self.query.is_some()
    }

    /// Whether it picks this one.
    fn fits(&self, name: Name, query: &str) -> bool {
        let fits = |(wanted, value): &(String, Option<String>)| {
            let pairs = http::query_pairs(query);
            let found = pairs.iter().find(|(name, _)| name == wanted);
            found.is_some_and(|(_, values)| value.as_ref().is_none_or(|v| values.contains(v)))
        };
        self.connection.is_none_or(|wanted| wanted == name) && self.query.as_ref().is_none_or(fits)
    }

    /// Whether the values of a parameter may be shown.
    fn shows(&self, name: &str) -> bool {
        self.query
            .as_ref()
            .is_some_and(|(wanted, _)| wanted == name)
    }
}

/// Bits, one for each slot.
#[derive(Debug, Default)]
struct Slots(Vec<u64>);

impl Slots {
    fn has(&self, slot: u32) -> bool {
        let word = self.0.get(slot as usize / 64);
        word.is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    fn set(&mut self, slot: u32, bit: bool) {
        let at = slot as usize / 64;
        if bit && at >= self.0.len() {
            self.0.resize(at.saturating_add(1), 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word = *word & !(1 << (slot % 64)) | u64::from(bit) << (slot % 64);
        }
    }
}

#[derive(Debug)]
struct Tap {
    id: ConnId,
    filter: Filter,
    /// Whom it watches, if it does not watch everybody.
    watched: Slots,
    /// The walk over those that were there before: the next slot, the end, and how many were found.
    walk: u32,
    walk_end: u32,
    found: u64,
    /// Lines of this turn, or those that found no room in the outbox.
    pending: Vec<u8>,
    /// The outbox has no room.
    stuck: bool,
    /// Lines that were lost, and are still to be told of.
    lost: u64,
    lost_ever: u64,
}

/// A line that is being written: the fields of one JSON object.
pub struct Line<'a>(&'a mut Vec<u8>);

// Writing to memory cannot fail.
impl Line<'_> {
    pub fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    /// JSON may hold characters that a terminal obeys, or hides: they are escaped, as people will look at it on one.
    fn string(&mut self, text: &str) {
        if text.chars().all(log::is_visible) {
            let _ = serde_json::to_writer(&mut *self.0, text);
            return;
        }
        for c in serde_json::to_string(text).unwrap_or_default().chars() {
            match log::is_visible(c) {
                true => self.0.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                false => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.0, "\\u{unit:04x}");
                    }
                }
            }
        }
    }

    pub fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.0, &number);
    }

    fn milliseconds(&mut self, name: &str, time: Duration) {
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.0, &(time.as_micros() as f64 / 1e3));
    }

    fn texts(&mut self, name: &str, texts: &[&str]) {
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

    /// A content: what it begins with, and its length.
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

/// Whom an event is about.
#[derive(Clone, Copy)]
struct Who {
    slot: u32,
    name: Name,
    peer: Peer,
}

impl Tap {
    /// Whether something that happens to `who` in `channel` is looked at.
    fn looks_at(&self, who: Option<Who>, channel: Option<&str>) -> bool {
        let filter = &self.filter;
        let of_channel = |wanted: &ChannelName| channel == Some(wanted.as_str());
        let watched = |who: Who| self.watched.has(who.slot);
        filter.channel.as_ref().is_none_or(of_channel)
            && (!filter.picks() || who.is_some_and(watched))
    }

    /// Puts a line behind those that wait, or counts it as lost.
    fn line(
        &mut self,
        event: &str,
        at: Millis,
        who: Option<Who>,
        channel: Option<&str>,
        fields: impl Fn(&mut Line, &Filter),
    ) {
        if self.pending.len() >= PENDING {
            self.lost = self.lost.saturating_add(1);
            self.lost_ever = self.lost_ever.saturating_add(1);
            return;
        }
        self.tell_lost();
        let mut line = self.begin(event);
        // As the log writes it; a clock before 1970 or beyond all bounds is not worth a panic.
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at));
        if let Some(time) = time.filter(|_| at < 1 << 47) {
            let time = humantime::format_rfc3339_millis(time).to_string();
            line.text("time", &time);
        }
        if let Some(who) = who {
            line.text("connection", &who.name.to_string());
            line.text("remote_addr", &who.peer.to_string());
        }
        if let Some(channel) = channel {
            line.text("channel", channel);
        }
        let end = {
            let Tap {
                pending, filter, ..
            } = self;
            fields(&mut Line(pending), filter);
            pending
        };
        end.extend_from_slice(b"}\n\n");
    }

    fn begin(&mut self, event: &str) -> Line<'_> {
        let begin = ["event: ", event, "\ndata: {"].concat();
        self.pending.extend_from_slice(begin.as_bytes());
        Line(&mut self.pending)
    }

    /// Says how many lines are missing where they are.
    fn tell_lost(&mut self) {
        match std::mem::take(&mut self.lost) {
            0 => {}
            lost => {
                self.begin("lost").number("lines", lost);
                self.pending.extend_from_slice(b"}\n\n");
            }
        }
    }

    fn is_walking(&self) -> bool {
        self.walk < self.walk_end
    }
}

/// Everybody who looks on.
#[derive(Debug, Default)]
pub struct Taps {
    taps: Vec<Tap>,
    /// Lines lost by those who look on no more.
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

    /// Whether somebody watches the connection in `slot` in particular.
    pub fn watches(&self, slot: u32) -> bool {
        self.taps.iter().any(|tap| tap.watched.has(slot))
    }

    /// Somebody lives in `slot` no more.
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
        let has_work = |tap: &Tap| !tap.stuck && (!tap.pending.is_empty() || tap.is_walking());
        self.taps.iter().any(has_work)
    }
}

impl<S: Stream> Hub<S> {
    /// `GET /tap`: the key, then what is to be looked at.
    pub(super) fn open_tap(&mut self, id: ConnId, exchange: Exchange, head: &Head) {
        if let Some(refusal) = self.refuse_backend(id, head) {
            return self.refuse(id, "tap", exchange, refusal, false);
        }
        let filter = match Filter::parse(head.query()) {
            Ok(filter) => filter,
            Err(why) => {
                let refusal = Refusal::new(Status::BadRequest, "bad_request", why);
                return self.refuse(id, "tap", exchange, refusal, false);
            }
        };
        let unavailable = match (self.drain.is_some(), self.taps.len() >= TAPS) {
            (true, _) => Some(("draining", "the server is stopping: come back later")),
            (_, true) => Some((
                "too_many_taps",
                "there are ten taps already: close one of them first",
            )),
            _ => None,
        };
        if let Some((code, message)) = unavailable {
            let refusal = Refusal::new(Status::Unavailable, code, message).with("Retry-After", "5");
            return self.refuse(id, "tap", exchange, refusal, false);
        }
        if head.method == Method::Head {
            let reply = Reply {
                content_type: Some(EVENT_STREAM),
                ..Reply::empty(Status::Ok)
            };
            return self.reply(id, "tap", exchange, reply);
        }
        self.metrics.answers.add(("tap", Status::Ok.code()));
        let origin = exchange.origin.as_deref();
        let headers = origin.map(|origin| self.settings.origins.cors(Some(origin)));
        if let Some(connection) = self.registry.get(id) {
            let headers = headers.unwrap_or_default();
            connection.stream(EVENT_STREAM, &headers, &self.clock);
        }
        let members = filter.channel.as_ref();
        let members = members.map(|channel| self.channels.members(channel.as_str()) as u64);
        let mut tap = Tap {
            id,
            walk: 0,
            walk_end: match filter.picks() {
                true => self.registry.slots(),
                false => 0,
            },
            filter,
            watched: Slots::default(),
            found: 0,
            pending: Vec::new(),
            stuck: false,
            lost: 0,
            lost_ever: 0,
        };
        let websockets = self.websockets as u64;
        tap.line("tap", self.unix_time(), None, None, |line, filter| {
            if let Some(channel) = &filter.channel {
                line.text("channel", channel.as_str());
            }
            line.number("connected", websockets);
            if let Some(members) = members {
                line.number("members", members);
            }
        });
        self.taps.taps.push(tap);
    }

    /// Tells those who look on what has happened to a connection, or in a channel.
    #[inline]
    pub(super) fn tap(
        &mut self,
        event: &str,
        id: Option<ConnId>,
        channel: Option<&str>,
        fields: impl Fn(&mut Line),
    ) {
        if !self.taps.is_empty() {
            let who = id.map(|id| self.who(id));
            self.tap_with(event, id, who, channel, |line, _| fields(line));
        }
    }

    fn tap_with(
        &mut self,
        event: &str,
        id: Option<ConnId>,
        who: Option<Who>,
        channel: Option<&str>,
        fields: impl Fn(&mut Line, &Filter),
    ) {
        let at = self.unix_time();
        for tap in &mut self.taps.taps {
            if id != Some(tap.id) && tap.looks_at(who, channel) {
                tap.line(event, at, who, channel, &fields);
            }
        }
    }

    fn who(&mut self, id: ConnId) -> Who {
        let (name, peer) = self.subject(id);
        Who {
            slot: id.slot,
            name,
            peer,
        }
    }

    fn unix_time(&self) -> Millis {
        self.clock.unix.saturating_add(self.clock.now)
    }

    /// Somebody asks for an upgrade, who is `from` there.
    pub(super) fn tap_connect(&mut self, id: ConnId, from: Peer, query: &str) {
        if self.taps.is_empty() {
            return;
        }
        let who = Who {
            peer: from,
            ..self.who(id)
        };
        for tap in &mut self.taps.taps {
            let watched = tap.filter.picks() && tap.filter.fits(who.name, query);
            tap.watched.set(id.slot, watched);
        }
        let pairs = http::query_pairs(query);
        self.tap_with("connect", Some(id), Some(who), None, |line, filter| {
            let shown = |(name, values): &(String, Vec<String>)| match filter.shows(name) {
                true => format!("{name}={}", values.join(",")),
                false => format!("{name}=***"),
            };
            let pairs: Vec<String> = pairs.iter().map(shown).collect();
            line.text("query", &pairs.join("&"));
        });
    }

    /// An upgrade has been granted.
    pub(super) fn tap_open(&mut self, id: ConnId, dialect: Dialect) {
        self.tap("open", Some(id), None, |line| {
            line.text("hears", spoken(dialect))
        });
    }

    /// Somebody is a member now, or no more.
    pub(super) fn tap_membership(&mut self, id: ConnId, verb: Verb, channel: &str) {
        if !self.taps.is_empty() {
            let members = self.channels.members(channel) as u64;
            self.tap(verb.as_str(), Some(id), Some(channel), |line| {
                line.number("members", members);
            });
        }
    }

    /// Something is published to the members here.
    pub(super) fn tap_fanout(&mut self, channel: &str, content: &[u8]) {
        if !self.taps.is_empty() {
            let members = self.channels.members(channel) as u64;
            self.tap("fanout", None, Some(channel), |line| {
                line.content(content);
                line.number("members", members);
            });
        }
    }

    /// Without an authorizer nobody needs a connection's query but a tap, which may come to look for it.
    pub(super) fn keep_query(&mut self, id: ConnId, query: &str) {
        if !self.taps.is_empty()
            && let Some(connection) = self.registry.get(id)
        {
            connection.badge = self.badges.put(query, "");
        }
    }

    /// A WebSocket has ended; its memberships are about to.
    pub(super) fn tap_end(&mut self, id: ConnId, ending: Ending) {
        if self.taps.is_empty() {
            return;
        }
        let who = self.who(id);
        let at = self.unix_time();
        let dialect = self.registry.get(id).map_or(Dialect::Raw, |c| c.dialect);
        let Hub { taps, channels, .. } = self;
        for tap in &mut taps.taps {
            let channel = tap.filter.channel.clone();
            let channel = channel.as_ref().map(ChannelName::as_str);
            if channel.is_none_or(|channel| channels.is_member(id.slot, channel, dialect))
                && tap.looks_at(Some(who), channel)
            {
                tap.line("end", at, Some(who), None, |line, _| {
                    line.text("reason", ending.label());
                    if let (Some(code), _) = ending.close() {
                        line.number("code", code.into());
                    }
                });
            }
        }
    }

    /// Watched connections were given something of a channel.
    pub(super) fn tap_deliveries(&mut self, place: Place, deliveries: &[Delivery]) {
        let at = self.unix_time();
        for delivery in deliveries {
            let who = self.who(delivery.id);
            let Hub {
                taps,
                registry,
                channels,
                ..
            } = self;
            let Some(connection) = registry.get(delivery.id) else {
                continue;
            };
            let channel = channels.name(place);
            for tap in &mut taps.taps {
                if tap.filter.picks() && tap.looks_at(Some(who), channel) {
                    tap.line("deliver", at, Some(who), channel, |line, _| {
                        line.number("messages", delivery.messages.into());
                        line.number("bytes", delivery.bytes);
                        line.number("queued_bytes", connection.outbox.len() as u64);
                    });
                }
            }
        }
    }

    /// The authorizer's word about an upgrade, or about a command in a channel.
    pub(super) fn tap_verdict(&mut self, answer: &Answer, command: &str, channel: Option<&str>) {
        self.tap("verdict", Some(answer.to), channel, |line| {
            line.text("command", command);
            line.text("verdict", answer.verdict.as_str());
            line.milliseconds("took_ms", answer.took);
            if let Some(status) = answer.status.filter(|status| *status != 200) {
                line.number("status", status.into());
            }
            if let Some(trouble) = &answer.trouble {
                line.text("trouble", trouble);
            }
        });
    }

    /// Goes on with the walks of new taps over those that were there before.
    fn walk_taps(&mut self) {
        let at = self.unix_time();
        let instance = self.settings.instance;
        let Hub {
            taps,
            registry,
            channels,
            badges,
            ..
        } = self;
        for tap in taps.taps.iter_mut().filter(|tap| tap.is_walking()) {
            let end = tap.walk.saturating_add(WALK).min(tap.walk_end);
            while tap.walk < end && tap.pending.len() < PENDING / 2 {
                let slot = tap.walk;
                tap.walk = slot.saturating_add(1);
                let Some(connection) = registry.tenant(slot).filter(|c| c.session.is_open()) else {
                    continue;
                };
                let who = Who {
                    slot,
                    name: Name {
                        instance,
                        serial: connection.serial(),
                    },
                    peer: connection.client(),
                };
                if !tap.filter.fits(who.name, badges.query(connection.badge)) {
                    continue;
                }
                tap.watched.set(slot, true);
                tap.found = tap.found.saturating_add(1);
                if tap.found <= FOUND {
                    let queued = connection.outbox.len() as u64;
                    let dialect = connection.dialect;
                    let asking = connection.session.is_parked();
                    tap.line("found", at, Some(who), None, |line, _| {
                        line.text("hears", spoken(dialect));
                        tell_channels(line, channels, slot);
                        line.number("queued_bytes", queued);
                        if asking {
                            line.text("waits_for", "its last command, which is being asked about");
                        }
                    });
                }
            }
            if !tap.is_walking() {
                let found = tap.found;
                tap.line("watching", at, None, None, |line, _| {
                    line.number("connections", found);
                });
            }
        }
    }

    /// Hands lines on to the connections of those who look on.
    pub(super) fn pump_taps(&mut self) {
        if self.taps.is_empty() {
            return;
        }
        self.walk_taps();
        for nth in 0..self.taps.len() {
            let Hub { taps, registry, .. } = self;
            let Some(tap) = taps.taps.get_mut(nth) else {
                return;
            };
            let Some(connection) = registry.get(tap.id) else {
                continue;
            };
            tap.stuck = connection.outbox.len() > OUTBOX;
            if tap.stuck || tap.pending.is_empty() {
                continue;
            }
            tap.tell_lost();
            connection.outbox.own(|out| out.append(&mut tap.pending));
            let id = tap.id;
            self.settle(id);
        }
    }

    /// The server stops: who looks on is told, and that nothing follows.
    pub(super) fn end_taps(&mut self) {
        let at = self.unix_time();
        for mut tap in std::mem::take(&mut self.taps.taps) {
            let id = tap.id;
            if let Some(connection) = self.registry.get(id) {
                connection.outbox.own(|out| out.append(&mut tap.pending));
                tap.line("bye", at, None, None, |line, _| {
                    line.text("reason", Ending::Stopping.label());
                });
                connection.outbox.own(|out| out.append(&mut tap.pending));
                let now = self.clock.now;
                connection.session.end_stream(Ending::Stopping, now);
                self.settle(id);
            }
        }
    }
}

/// What a watched connection was given.
pub struct Delivery {
    pub id: ConnId,
    pub messages: u32,
    pub bytes: u64,
}

fn spoken(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Raw => "contents alone",
        Dialect::V1 => "wsify.v1",
    }
}

/// The channels that the connection in `slot` is in.
fn tell_channels(line: &mut Line, channels: &Channels, slot: u32) {
    let names: Vec<&str> = channels.names_of(slot).take(CHANNELS).collect();
    line.texts("channels", &names);
    let more = channels.joined(slot).saturating_sub(names.len());
    if more > 0 {
        line.number("more_channels", more as u64);
    }
}
