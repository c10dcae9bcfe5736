//! The broker that several servers share (CONTRACT §7).
//!
//! Owns: two links, one that publishes and one that listens, what is outstanding on each, and what the log says of them.
//! Knows: redis' commands; the hub's doors for a broker. Never knows: a client, or why something is published.
//!
//! Decisions
//! - **A broadcast is confirmed when the members here have it, too.** redis' answer to `PUBLISH` says that the message is
//!   on its way to our listening link, which may break before it comes. So a `PING` follows there: its answer comes behind
//!   the message. One `PING` covers all that was published before it. What is outstanding when the listening link breaks
//!   is answered as failed: it may have been published, but nobody knows who has heard it. Chosen over waiting for the
//!   message itself, which others may have published as well, and over trusting redis' answer alone, at the price of one
//!   more round trip. Reconsider when somebody needs the time more than the promise.
//! - **Whatever is outstanding for [`PATIENCE`] breaks the link**: a redis that hangs is as good as none, and answers
//!   carry no name but their order. Time in which we do not read, because too much is on its way to members, does not
//!   count: then only what waits for its confirmation is given up.
//! - **Each link comes back by itself**: the loss of the publishing one loses no message of others.
//! - The hub keeps what is subscribed, and asks for it again when the link is back.

mod link;

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::event::Event;
use mio::{Registry, Token, Waker};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use self::link::{Advance, Filled, Link, Place};
use crate::clock::Millis;
use crate::config::{RedisAddress, RedisDsn};
use crate::connection::Stream;
use crate::effect::{ConnId, Publication, Receipt, Subscription, SubscriptionId};
use crate::hub::Hub;
use crate::log::{Log, Seldom, Value};
use crate::wire::channel_name::ChannelName;
use crate::wire::json;
use crate::wire::resp::{self, Reply};

/// How long redis may take to answer (CONTRACT §5).
const PATIENCE: Millis = 5_000;
/// Silence after which it is asked whether it is still there.
const SILENCE: Millis = 5_000;
/// Reads from one link in one turn, each of the whole buffer: a flood gets its share.
const READS: usize = 4;
/// Replies and messages of one link in one turn.
const REPLIES: usize = 1024;
/// What the hub is told in one turn: when a link breaks much may be outstanding.
const NEWS: usize = 1024;
/// Channels in one command.
const BATCH: usize = 256;
/// A reply that has not ended by then has no end; the messages of servers with a larger `--max-message-size` fit.
const LARGEST_REPLY: usize = 64 * 1024 * 1024;
/// Bytes that redis has not taken: with more it is as good as down.
const MOST_UNSENT: usize = 64 * 1024 * 1024;
/// The pause between two lines about the same trouble with messages.
const SAY_AGAIN: Millis = 60_000;
/// Of what redis says is wrong.
const LONGEST_REASON: usize = 200;

/// The user that a password without a user belongs to.
const DEFAULT_USER: &str = "default";
/// What a redis without users (before 6) answers to `AUTH user password`.
const NO_USERS: &str = "ERR wrong number of arguments";

const REPLICA: &str = "it is a replica: what is published there reaches no other server; give the master's address to --broker-dsn";
const SENTINEL: &str = "it is a sentinel and no master: give the master's address to --broker-dsn";

/// What the broker is started with.
#[derive(Debug)]
pub struct Settings {
    pub dsn: RedisDsn,
    pub prefix: String,
    /// For `rediss://`.
    pub tls: Option<Arc<ClientConfig>>,
    /// The tokens of the publishing and of the listening link.
    pub tokens: [Token; 2],
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Publishes,
    Listens,
}

/// One link and what is outstanding on it.
struct Side {
    link: Link,
    /// It has been let in.
    up: bool,
    /// When it was last asked whether it is a master.
    checked: Millis,
    asked: VecDeque<Asked>,
}

struct Asked {
    at: Millis,
    what: What,
}

/// What a reply is awaited to.
enum What {
    /// Another form is left to try.
    Auth {
        again: bool,
    },
    Select,
    Name,
    /// Whether it is a master.
    Role,
    /// The last word of the greeting.
    Hello,
    /// The answer says that what was published before this position has come.
    Ping(u64),
    /// `None`: nobody waits for it any more.
    Publish(Option<ConnId>),
    /// The first so many are confirmed.
    Subscribe(Vec<Subscription>, usize),
    /// The same.
    Unsubscribe(Vec<ChannelName>, usize),
}

/// Published, but perhaps not yet heard here.
struct Published {
    at: Millis,
    by: ConnId,
}

/// What the hub is to be told, in order.
enum News {
    Publishing(bool),
    Listening(bool),
    Published(ConnId, Receipt),
    Subscribed(SubscriptionId, Receipt),
}

pub struct Redis {
    dsn: RedisDsn,
    prefix: String,
    publisher: Side,
    listener: Side,
    /// In the order of publishing. The first has the position `heard`.
    published: VecDeque<Published>,
    heard: u64,
    /// Before this position a ping is under way for all.
    covered: u64,
    /// To be subscribed and unsubscribed with the next command; at most one of them is not empty.
    subscribing: Vec<Subscription>,
    unsubscribing: Vec<ChannelName>,
    news: VecDeque<News>,
    /// A name with its prefix.
    name: String,
    log: Log,
    /// Since when it is down, and what was last said of it.
    down: Option<Millis>,
    said: String,
    /// It has been up.
    known: bool,
    /// Lines about messages that are not JSON, and about refusals.
    not_json: Seldom,
    refused_channels: Seldom,
    refused_publications: Seldom,
    /// What redis last refused a channel with.
    last_words: Rc<str>,
    /// A link has broken since all was well.
    broke: bool,
    /// A link has learned that redis is no master.
    demoted: bool,
}

impl Redis {
    /// Makes everything ready; the first turn begins to connect.
    ///
    /// # Errors
    /// With TLS: the host is no name that a certificate could bear.
    pub fn new(settings: Settings, waker: Arc<Waker>, log: Log, now: Millis) -> io::Result<Redis> {
        let Settings {
            dsn,
            prefix,
            tls,
            tokens: [publisher, listener],
            seed,
        } = settings;
        let place = Arc::new(match &dsn.address {
            RedisAddress::Unix(path) => Place::Unix(path.clone()),
            RedisAddress::Tcp { host, port, .. } => {
                let tls = match tls {
                    None => None,
                    Some(config) => {
                        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                        Some((config, name))
                    }
                };
                let (host, port) = (host.clone(), *port);
                Place::Tcp {
                    host,
                    port,
                    tls,
                    waker,
                }
            }
        });
        let side = |token: Token, seed| Side {
            link: Link::new(Arc::clone(&place), token, seed),
            up: false,
            checked: 0,
            asked: VecDeque::new(),
        };
        Ok(Redis {
            publisher: side(publisher, seed),
            listener: side(listener, seed.rotate_left(32)),
            dsn,
            prefix,
            published: VecDeque::new(),
            heard: 0,
            covered: 0,
            subscribing: Vec::new(),
            unsubscribing: Vec::new(),
            news: VecDeque::new(),
            name: String::new(),
            log,
            down: Some(now),
            said: String::new(),
            known: false,
            not_json: Seldom::once_in(SAY_AGAIN),
            refused_channels: Seldom::once_in(SAY_AGAIN),
            refused_publications: Seldom::once_in(SAY_AGAIN),
            last_words: Rc::from(""),
            broke: false,
            demoted: false,
        })
    }

    fn side(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Publishes => &mut self.publisher,
            Role::Listens => &mut self.listener,
        }
    }

    /// The poll had something to say of the publishing link, or of the listening one.
    pub fn ready(&mut self, listens: bool, event: &Event) {
        match listens {
            false => self.publisher.link.ready(event),
            true => self.listener.link.ready(event),
        }
    }

    /// Why it is down, as it was last said; nothing while there is nothing to say.
    pub fn trouble(&self) -> &str {
        &self.said
    }

    /// Whether a turn would do something although nothing happens.
    pub fn has_work(&self) -> bool {
        !self.news.is_empty() || self.publisher.link.has_work() || self.listener.link.has_work()
    }

    /// When a turn is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let of_sides = [
            self.publisher.deadline(Role::Publishes),
            self.listener.deadline(Role::Listens),
        ];
        let of_sides = of_sides.into_iter().flatten().min();
        let heard = self
            .published
            .front()
            .map(|p| p.at.saturating_add(PATIENCE));
        of_sides.into_iter().chain(heard).min()
    }

    /// Brings what has come to the hub: bounded.
    pub fn turn<S: Stream>(&mut self, hub: &mut Hub<S>, registry: &Registry, buffer: &mut [u8]) {
        let now = hub.clock.now;
        for role in [Role::Publishes, Role::Listens] {
            match self.side(role).link.advance(registry, now) {
                Advance::Nothing => {}
                Advance::Opened => self.greet(role, now),
                Advance::Failed(why) => self.broken(role, &why, now),
            }
            if let Err(why) = self.hear(role, hub, buffer, now) {
                self.broken(role, &why, now);
                // A demoted redis is of no use to either link, and only the publishing one learns of it.
                if std::mem::take(&mut self.demoted) {
                    let other = match role {
                        Role::Publishes => Role::Listens,
                        Role::Listens => Role::Publishes,
                    };
                    if self.side(other).link.is_open() {
                        self.broken(other, &why, now);
                    }
                }
            }
            self.watch(role, now);
        }
        while self
            .published
            .front()
            .is_some_and(|p| now >= p.at.saturating_add(PATIENCE))
        {
            self.heard_one(Receipt::Failed);
        }
        for _ in 0..NEWS {
            let Some(news) = self.news.pop_front() else {
                break;
            };
            match news {
                News::Publishing(up) => hub.set_publishing(up),
                News::Listening(up) => hub.set_listening(up),
                News::Published(by, receipt) => hub.receipt(by, receipt),
                News::Subscribed(id, receipt) => hub.subscribed(id, receipt),
            }
        }
        self.judge(hub, now);
    }

    /// Says so when everything is there, or something no longer.
    fn judge<S: Stream>(&mut self, hub: &mut Hub<S>, now: Millis) {
        match (self.down, hub.is_broker_up()) {
            (None, false) => self.down = Some(now),
            (Some(since), true) => {
                self.down = None;
                self.said.clear();
                let fields = [
                    ("broker", Value::Shown(&self.dsn)),
                    ("down_ms", Value::Number(now.saturating_sub(since))),
                ];
                let again = std::mem::replace(&mut self.known, true);
                let line = match (again, std::mem::take(&mut self.broke)) {
                    (false, _) => "the broker is up",
                    (true, false) => "all channels are subscribed again",
                    (true, true) => {
                        hub.drivers.broker_reconnections += 1;
                        "the broker is up again"
                    }
                };
                self.log.info(line, &fields);
            }
            _ => {}
        }
    }

    /// Sends the credentials, if there are any; what follows them is sent once they are accepted.
    fn greet(&mut self, role: Role, now: Millis) {
        match self.dsn.password.is_some() {
            true => self.authenticate(role, true, now),
            false => self.introduce(role, now),
        }
    }

    /// `named`: with a user. A password alone is the user `default`'s. It is sent with that name first, which a redis
    /// that has no password accepts, too; before version 6 there are no users, and it is sent alone.
    fn authenticate(&mut self, role: Role, named: bool, now: Millis) {
        let (user, password) = (self.dsn.user.clone(), self.dsn.password.clone());
        let again = named && user.is_none();
        let user = user.unwrap_or_else(|| DEFAULT_USER.to_owned());
        let password = password.as_ref().map_or("", |password| password.expose());
        let parts = [b"AUTH", user.as_bytes(), password.as_bytes()];
        let side = self.side(role);
        match named {
            true => side.ask(What::Auth { again }, &parts, now),
            false => side.ask(What::Auth { again }, &[b"AUTH", password.as_bytes()], now),
        }
    }

    /// Selects the database and names the link. The answer to the last command says that the link can be used.
    fn introduce(&mut self, role: Role, now: Millis) {
        let db = self.dsn.db;
        let (side, name) = match role {
            Role::Publishes => (&mut self.publisher, "wsify-publishes"),
            Role::Listens => (&mut self.listener, "wsify-listens"),
        };
        if db != 0 {
            side.ask(What::Select, &[b"SELECT", db.to_string().as_bytes()], now);
        }
        side.ask(What::Name, &[b"CLIENT", b"SETNAME", name.as_bytes()], now);
        side.ask(What::Role, &[b"ROLE"], now);
        side.ask(What::Hello, &[b"PING"], now);
    }

    /// Reads and understands what has come on a link.
    fn hear<S: Stream>(
        &mut self,
        role: Role,
        hub: &mut Hub<S>,
        buffer: &mut [u8],
        now: Millis,
    ) -> Result<(), String> {
        let mut budget = REPLIES;
        for _ in 0..READS {
            if !self.side(role).link.starved {
                let mut waiting = self.side(role).link.inbox.take();
                let used = self.understand(role, hub, waiting.bytes(), now, &mut budget)?;
                self.side(role).link.inbox.put_back(waiting, used);
                if !self.side(role).link.starved {
                    return Ok(());
                }
            }
            let count = match self.side(role).link.fill(buffer, now) {
                Filled::Bytes(count) => count,
                Filled::Nothing => return Ok(()),
                Filled::Broken(why) => return Err(why),
            };
            let fresh = buffer.get(..count).unwrap_or_default();
            let used = match self.side(role).link.inbox.is_empty() {
                true => self.understand(role, hub, fresh, now, &mut budget)?,
                false => {
                    self.side(role).link.starved = false;
                    0
                }
            };
            let link = &mut self.side(role).link;
            link.inbox.append(fresh.get(used..).unwrap_or_default());
            if link.inbox.len() > LARGEST_REPLY {
                return Err("a reply of it has no end".to_owned());
            }
        }
        Ok(())
    }

    /// Understands as many replies as there are, or as may be in one turn. Returns how many bytes that was.
    fn understand<S: Stream>(
        &mut self,
        role: Role,
        hub: &mut Hub<S>,
        bytes: &[u8],
        now: Millis,
        budget: &mut usize,
    ) -> Result<usize, String> {
        let mut used = 0_usize;
        self.side(role).link.starved = false;
        while *budget > 0 {
            let rest = bytes.get(used..).unwrap_or_default();
            let (reply, size) = match resp::read(rest) {
                Ok(Some(reply)) => reply,
                Ok(None) => {
                    self.side(role).link.starved = true;
                    break;
                }
                Err(resp::Malformed) => return Err("it does not speak as redis does".to_owned()),
            };
            if let Reply::Message { channel, content } = reply {
                let channel = rest.get(channel).unwrap_or_default();
                let content = rest.get(content).unwrap_or_default();
                if !self.message(hub, channel, content, now) {
                    break;
                }
            } else {
                self.replied(role, reply, rest, now)?;
            }
            used = used.saturating_add(size);
            *budget = budget.saturating_sub(1);
        }
        Ok(used)
    }

    /// A message for a channel. Returns false if it cannot be taken yet.
    fn message<S: Stream>(
        &mut self,
        hub: &mut Hub<S>,
        channel: &[u8],
        content: &[u8],
        now: Millis,
    ) -> bool {
        let name = channel.strip_prefix(self.prefix.as_bytes());
        let Some(channel) = name.and_then(|name| str::from_utf8(name).ok()) else {
            hub.metrics_mut().broker_messages.add("unknown");
            return true;
        };
        if !json::is_json(content) {
            hub.metrics_mut().broker_messages.add("not_json");
            if let Some(left_out) = self.not_json.admit(now) {
                let fields = [
                    ("channel", Value::Text(channel)),
                    ("dropped", Value::Number(left_out.saturating_add(1))),
                ];
                let line = "a message from the broker is not JSON: it is dropped";
                self.log.warn(line, &fields);
            }
            return true;
        }
        let taken = hub.arrived(channel, content);
        if taken {
            hub.metrics_mut().broker_messages.add("delivered");
        }
        taken
    }

    /// The answer to what is outstanding longest.
    fn replied(
        &mut self,
        role: Role,
        reply: Reply,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), String> {
        let text =
            |range| String::from_utf8_lossy(bytes.get(range).unwrap_or_default()).into_owned();
        let Some(mut front) = self.side(role).asked.pop_front() else {
            return Err(match reply {
                // Why it will not have us, said before anything was asked: too many clients, protected mode.
                Reply::Error(why) => shorten(&text(why)),
                _ => "it answers what was not asked".to_owned(),
            });
        };
        match (&mut front.what, reply) {
            (What::Auth { again: true }, Reply::Error(why))
                if text(why.clone()).starts_with(NO_USERS) =>
            {
                self.authenticate(role, false, now);
            }
            (What::Auth { .. }, Reply::Error(why)) => {
                // Only the code: some servers repeat in the rest what they were sent.
                let why = text(why);
                let code = why.split(' ').next().unwrap_or_default();
                return Err(format!(
                    "it refuses the user and the password of --broker-dsn ({})",
                    shorten(code)
                ));
            }
            (What::Select, Reply::Error(why)) => {
                let why = shorten(&text(why));
                return Err(format!("it refuses the database of --broker-dsn: {why}"));
            }
            (What::Hello, Reply::Error(why)) => {
                let why = shorten(&text(why));
                return Err(match why.starts_with("NOAUTH") {
                    true => "it wants a password: give it one in --broker-dsn".to_owned(),
                    false => why,
                });
            }
            (What::Auth { .. }, Reply::Done) => self.introduce(role, now),
            (What::Select | What::Name, Reply::Done) | (What::Name, Reply::Error(_)) => {}
            // Where the user may not ask, or a relative of redis knows no roles, it is taken for a master.
            (What::Role, Reply::Error(_) | Reply::Done) => {}
            (What::Role, Reply::Role(is)) => match bytes.get(is) {
                Some(b"master") => {}
                Some(b"slave") => {
                    self.demoted = true;
                    return Err(REPLICA.to_owned());
                }
                _ => return Err(SENTINEL.to_owned()),
            },
            (What::Hello, Reply::Done) => {
                let side = self.side(role);
                (side.up, side.checked) = (true, now);
                self.news.push_back(match role {
                    Role::Publishes => News::Publishing(true),
                    Role::Listens => News::Listening(true),
                });
            }
            (What::Ping(position), Reply::Done) => {
                while self.heard < *position && !self.published.is_empty() {
                    self.heard_one(Receipt::Confirmed);
                }
            }
            (What::Publish(by), Reply::Done) => {
                if let Some(by) = *by {
                    self.published.push_back(Published { at: front.at, by });
                }
            }
            (What::Publish(by), Reply::Error(why)) => {
                let why = text(why);
                if let Some(by) = *by {
                    let receipt = Receipt::Refused(shorten(&why).into());
                    self.news.push_back(News::Published(by, receipt));
                }
                self.refused("the broker refuses to publish", None, &why, now);
            }
            (What::Subscribe(channels, confirmed), Reply::Subscribed) => {
                if let Some(channel) = channels.get(*confirmed) {
                    let news = News::Subscribed(channel.id, Receipt::Confirmed);
                    self.news.push_back(news);
                }
                *confirmed = confirmed.saturating_add(1);
                if *confirmed < channels.len() {
                    self.side(role).asked.push_front(front);
                }
            }
            (What::Subscribe(channels, 0), Reply::Error(why)) => match channels.as_slice() {
                [one] => {
                    let why = text(why);
                    let receipt = Receipt::Refused(self.words(&why));
                    self.news.push_back(News::Subscribed(one.id, receipt));
                    let line =
                        "the broker refuses a channel: it is asked for again while it has members";
                    self.refused(line, Some(one.channel.as_str()), &why, now);
                }
                // One refused channel refuses the whole command: which one it is shows when each is asked for alone.
                _ => {
                    for channel in std::mem::take(channels) {
                        // Asked for now, it would come behind its end.
                        match self.is_unwanted(&channel.channel) {
                            true => {
                                let news = News::Subscribed(channel.id, Receipt::Failed);
                                self.news.push_back(news);
                            }
                            false => self.subscribe(vec![channel], now),
                        }
                    }
                }
            },
            (What::Unsubscribe(channels, ended), Reply::Unsubscribed) => {
                *ended = ended.saturating_add(1);
                if *ended < channels.len() {
                    self.side(role).asked.push_front(front);
                }
            }
            (What::Unsubscribe(..), Reply::Error(_)) => {}
            (What::Ping(_), Reply::Error(why)) => return Err(shorten(&text(why))),
            _ => return Err("it answers something else than it was asked".to_owned()),
        }
        Ok(())
    }

    /// Whether the end of this channel's subscription is asked for, and not answered.
    fn is_unwanted(&self, channel: &ChannelName) -> bool {
        let asked = self
            .listener
            .asked
            .iter()
            .filter_map(|asked| match &asked.what {
                What::Unsubscribe(channels, _) => Some(channels),
                _ => None,
            });
        asked
            .flatten()
            .chain(&self.unsubscribing)
            .any(|unwanted| unwanted == channel)
    }

    /// The words of a refusal, in one place in memory while they stay the same: many channels may be refused.
    fn words(&mut self, why: &str) -> Rc<str> {
        let why = shorten(why);
        if *self.last_words != *why {
            self.last_words = why.into();
        }
        Rc::clone(&self.last_words)
    }

    fn refused(&mut self, line: &str, channel: Option<&str>, why: &str, now: Millis) {
        let seldom = match channel {
            Some(_) => &mut self.refused_channels,
            None => &mut self.refused_publications,
        };
        if let Some(left_out) = seldom.admit(now) {
            let why = shorten(why);
            let mut fields = vec![
                ("reason", Value::Text(&why)),
                ("refusals", Value::Number(left_out.saturating_add(1))),
            ];
            fields.extend(channel.map(|channel| ("channel", Value::Text(channel))));
            self.log.error(line, &fields);
        }
    }

    /// What was published first is done with.
    fn heard_one(&mut self, receipt: Receipt) {
        if let Some(published) = self.published.pop_front() {
            self.heard = self.heard.saturating_add(1);
            self.news.push_back(News::Published(published.by, receipt));
        }
    }

    /// Breaks a link that does not answer in time, and asks one that has been silent whether it is still there.
    fn watch(&mut self, role: Role, now: Millis) {
        let position = self.heard;
        let side = self.side(role);
        if side.link.has_work() || !side.link.is_open() {
            return;
        }
        match side.asked.front() {
            Some(asked) if now >= asked.at.saturating_add(PATIENCE) => {
                self.broken(role, "it does not answer", now);
            }
            // However much is published: a demoted redis goes on confirming it. A subscriber may not ask.
            _ if role == Role::Publishes
                && side.up
                && now >= side.checked.saturating_add(SILENCE) =>
            {
                side.checked = now;
                side.ask(What::Role, &[b"ROLE"], now);
            }
            None if side.up && now >= side.link.heard.saturating_add(SILENCE) => {
                side.ask(What::Ping(position), &[b"PING"], now);
            }
            _ => {}
        }
    }

    /// A link is broken, or did not come about.
    fn broken(&mut self, role: Role, why: &str, now: Millis) {
        self.broke = true;
        let side = self.side(role);
        side.link.close(now);
        let was_up = std::mem::take(&mut side.up);
        let lost = std::mem::take(&mut side.asked);
        if was_up {
            self.news.push_back(match role {
                Role::Publishes => News::Publishing(false),
                Role::Listens => News::Listening(false),
            });
        }
        for asked in lost {
            match asked.what {
                What::Publish(Some(by)) => {
                    self.news.push_back(News::Published(by, Receipt::Failed));
                }
                What::Subscribe(channels, confirmed) => {
                    for channel in channels.into_iter().skip(confirmed) {
                        let news = News::Subscribed(channel.id, Receipt::Failed);
                        self.news.push_back(news);
                    }
                }
                _ => {}
            }
        }
        if role == Role::Listens {
            for channel in self.subscribing.drain(..) {
                let news = News::Subscribed(channel.id, Receipt::Failed);
                self.news.push_back(news);
            }
            self.unsubscribing.clear();
            while !self.published.is_empty() {
                self.heard_one(Receipt::Failed);
            }
            self.covered = self.heard;
            for asked in &mut self.publisher.asked {
                if let What::Publish(by) = &mut asked.what
                    && let Some(by) = by.take()
                {
                    self.news.push_back(News::Published(by, Receipt::Failed));
                }
            }
        }
        if self.said != why {
            self.said = why.to_owned();
            let link = match role {
                Role::Publishes => "publishing",
                Role::Listens => "listening",
            };
            let fields = [
                ("broker", Value::Shown(&self.dsn)),
                ("link", Value::Text(link)),
                ("reason", Value::Text(why)),
            ];
            self.log.error("the broker is down", &fields);
        }
    }

    /// Has something published; its receipt goes to the hub.
    pub fn publish(&mut self, publication: &Publication, now: Millis) {
        let side = &mut self.publisher;
        let unsent = side.link.unsent();
        if !side.up || !self.listener.up || unsent > MOST_UNSENT {
            let news = News::Published(publication.from, Receipt::Failed);
            return self.news.push_back(news);
        }
        self.name.clear();
        self.name.push_str(&self.prefix);
        self.name.push_str(publication.channel.as_str());
        let parts = [b"PUBLISH", self.name.as_bytes(), &publication.content];
        side.ask(What::Publish(Some(publication.from)), &parts, now);
    }

    /// Has a channel subscribed; the receipt goes to the hub.
    pub fn want(&mut self, subscription: Subscription, now: Millis) {
        if !self.listener.up {
            let news = News::Subscribed(subscription.id, Receipt::Failed);
            return self.news.push_back(news);
        }
        self.unsubscribe_batch(now);
        self.subscribing.push(subscription);
        if self.subscribing.len() >= BATCH {
            self.subscribe_batch(now);
        }
    }

    /// Has a channel subscribed no longer.
    pub fn unwant(&mut self, channel: ChannelName, now: Millis) {
        if self.listener.up {
            self.subscribe_batch(now);
            self.unsubscribing.push(channel);
            if self.unsubscribing.len() >= BATCH {
                self.unsubscribe_batch(now);
            }
        }
    }

    fn subscribe_batch(&mut self, now: Millis) {
        if !self.subscribing.is_empty() {
            let channels = std::mem::take(&mut self.subscribing);
            self.subscribe(channels, now);
        }
    }

    fn subscribe(&mut self, channels: Vec<Subscription>, now: Millis) {
        let names: Vec<String> = channels
            .iter()
            .map(|c| format!("{}{}", self.prefix, c.channel.as_str()))
            .collect();
        let mut parts: Vec<&[u8]> = vec![b"SUBSCRIBE"];
        parts.extend(names.iter().map(String::as_bytes));
        self.listener.ask(What::Subscribe(channels, 0), &parts, now);
    }

    fn unsubscribe_batch(&mut self, now: Millis) {
        if self.unsubscribing.is_empty() {
            return;
        }
        let channels = std::mem::take(&mut self.unsubscribing);
        let names: Vec<String> = channels
            .iter()
            .map(|channel| format!("{}{}", self.prefix, channel.as_str()))
            .collect();
        let mut parts: Vec<&[u8]> = vec![b"UNSUBSCRIBE"];
        parts.extend(names.iter().map(String::as_bytes));
        self.listener
            .ask(What::Unsubscribe(channels, 0), &parts, now);
    }

    /// Sends what was asked for.
    pub fn flush(&mut self, now: Millis) {
        self.subscribe_batch(now);
        self.unsubscribe_batch(now);
        let position = self.heard.saturating_add(self.published.len() as u64);
        if position > self.covered {
            self.covered = position;
            self.listener.ask(What::Ping(position), &[b"PING"], now);
        }
        for role in [Role::Publishes, Role::Listens] {
            if let Err(why) = self.side(role).link.flush() {
                self.broken(role, &why, now);
            }
        }
    }
}

impl Side {
    fn ask(&mut self, what: What, parts: &[&[u8]], at: Millis) {
        resp::push_command(self.link.out(), parts);
        self.asked.push_back(Asked { at, what });
    }

    fn deadline(&self, role: Role) -> Option<Millis> {
        let answer = self.asked.front().map(|a| a.at.saturating_add(PATIENCE));
        let silence =
            (self.up && self.asked.is_empty()).then(|| self.link.heard.saturating_add(SILENCE));
        let check =
            (self.up && role == Role::Publishes).then(|| self.checked.saturating_add(SILENCE));
        [self.link.deadline(), answer, silence, check]
            .into_iter()
            .flatten()
            .min()
    }
}

/// What redis says is wrong, short enough for a log line.
fn shorten(why: &str) -> String {
    why.chars().take(LONGEST_REASON).collect()
}
