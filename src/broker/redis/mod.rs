//! Redis as the broker that several servers share (`docs/scaling.md`).
//!
//! Owns: two links, what is said on them, and what the log says of them. Knows: sockets, time. Never knows: the hub, or
//! redis' commands, which are the [`Dialogue`]'s.
//!
//! Decision: each link comes back by itself: the loss of the publishing one loses no message of others. Only a redis that
//! is found to be a replica is left by both.

mod dialogue;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mio::event::Event;
use mio::{Registry, Token, Waker};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

pub use self::dialogue::{Dialogue, Duty, Fault, Identity, Notice, Step};
use super::link::{Advance, RedisLink};
use super::news::{Message, News};
use super::socket::Place;
use crate::clock::Millis;
use crate::config::{RedisAddress, RedisDsn};
use crate::effect::ShardId;
use crate::log::{Log, Seldom, Value};

/// Replies, messages and news of both links in one turn: a flood gets its share, and when a link breaks much may be
/// outstanding.
const STEPS: usize = 2048;
/// The pause between two lines about the same trouble, in milliseconds.
const SAY_AGAIN: Millis = 60_000;

/// What the driver is started with.
#[derive(Debug)]
pub struct RedisSettings {
    pub dsn: RedisDsn,
    pub prefix: String,
    /// For `rediss://`.
    pub tls: Option<Arc<ClientConfig>>,
    /// The tokens of the publishing and of the listening link.
    pub tokens: [Token; 2],
    pub seed: u64,
}

pub struct Redis {
    dsn: RedisDsn,
    publisher: RedisLink,
    listener: RedisLink,
    pub(super) dialogue: Dialogue,
    /// What the dialogue does not know.
    news: VecDeque<News>,
    /// What may still be done in this turn.
    budget: usize,
    /// The hub cannot take the next message in this turn.
    put_off: bool,
    log: Log,
    /// Since when it is down, and what was last said of it.
    down: Option<Millis>,
    said: String,
    /// It has been up.
    known: bool,
    /// A link has broken since all was well.
    broke: bool,
    not_json: Seldom,
    refused_channels: Seldom,
    refused_publications: Seldom,
}

impl Redis {
    /// Makes everything ready; the first turn begins to connect.
    ///
    /// # Errors
    /// With TLS: the host is no name that a certificate could bear.
    pub fn new(
        settings: RedisSettings,
        waker: Arc<Waker>,
        log: Log,
        now: Millis,
    ) -> io::Result<Redis> {
        let RedisSettings {
            dsn,
            prefix,
            tls,
            tokens: [publisher, listener],
            seed,
        } = settings;
        let place = Arc::new(place(&dsn.address, tls, waker)?);
        let identity = Identity {
            credentials: dsn.credentials.clone(),
            db: dsn.db,
            prefix,
            shard: ShardId(0),
        };
        let name = match &dsn.address {
            RedisAddress::Tcp { host, port, .. } => format!("{host}:{port}"),
            RedisAddress::Unix(path) => path.display().to_string(),
        };
        let shard = News::Shard(identity.shard, name.into());
        let slots = News::Slots(0..=0, Some(identity.shard));
        Ok(Redis {
            publisher: RedisLink::new(Arc::clone(&place), publisher, seed),
            listener: RedisLink::new(place, listener, seed.rotate_left(32)),
            dialogue: Dialogue::new(identity),
            news: VecDeque::from([shard, slots]),
            dsn,
            budget: 0,
            put_off: false,
            log,
            down: Some(now),
            said: String::new(),
            known: false,
            broke: false,
            not_json: Seldom::once_in(SAY_AGAIN),
            refused_channels: Seldom::once_in(SAY_AGAIN),
            refused_publications: Seldom::once_in(SAY_AGAIN),
        })
    }

    fn link(&mut self, duty: Duty) -> &mut RedisLink {
        match duty {
            Duty::Publish => &mut self.publisher,
            Duty::Listen => &mut self.listener,
        }
    }

    pub fn ready(&mut self, duty: Duty, event: &Event) {
        self.link(duty).ready(event);
    }

    pub fn trouble(&self) -> &str {
        &self.said
    }

    pub fn has_work(&self) -> bool {
        self.dialogue.has_news() || self.publisher.has_work() || self.listener.has_work()
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        let links = [self.publisher.deadline(), self.listener.deadline()];
        let dialogue = self.dialogue.next_deadline();
        links.into_iter().chain([dialogue]).flatten().min()
    }

    pub fn turn(&mut self, registry: &Registry, buffer: &mut [u8], now: Millis) {
        (self.budget, self.put_off) = (STEPS, false);
        for duty in Duty::BOTH {
            match self.link(duty).advance(registry, now) {
                Advance::Nothing => {}
                Advance::Opened => self.dialogue.opened(duty, now),
                Advance::Failed(why) => self.broken(duty, &why, now),
            }
            if let Err(why) = self.link(duty).fill(buffer) {
                self.broken(duty, &why, now);
            }
            let link = self.link(duty);
            if link.is_open()
                && !link.has_work()
                && let Err(fault) = self.dialogue.tick(duty, now)
            {
                self.fault(duty, &fault, now);
            }
        }
        self.dialogue.give_up(now);
    }

    pub fn next(&mut self, now: Millis) -> Option<News> {
        loop {
            self.budget = self.budget.checked_sub(1)?;
            if let Some(news) = self.news.pop_front().or_else(|| self.dialogue.news()) {
                return Some(news);
            }
            let fed = |link: &RedisLink| link.is_open() && link.is_fed();
            let duty = match (fed(&self.publisher), fed(&self.listener)) {
                (true, _) => Duty::Publish,
                (_, true) if !self.put_off => Duty::Listen,
                _ => return None,
            };
            let link = match duty {
                Duty::Publish => &mut self.publisher,
                Duty::Listen => &mut self.listener,
            };
            match self.dialogue.understand(duty, link.input(), now) {
                Ok(Step::Starved) => link.starve(),
                Ok(Step::Understood(count)) => link.consume(count),
                Ok(Step::Message(message)) => return Some(News::Message(message)),
                Err(fault) => self.fault(duty, &fault, now),
            }
            while let Some(notice) = self.dialogue.notice() {
                self.log_notice(&notice, now);
            }
        }
    }

    pub fn content(&self, message: &Message) -> (&str, &[u8]) {
        let input = self.listener.input();
        let at = |range: &std::ops::Range<usize>| input.get(range.clone()).unwrap_or_default();
        let channel = str::from_utf8(at(&message.channel)).unwrap_or_default();
        (channel, at(&message.content))
    }

    pub fn take(&mut self, message: &Message) {
        self.listener.consume(message.size);
    }

    pub fn put_off(&mut self) {
        self.put_off = true;
    }

    pub fn flush(&mut self, now: Millis) {
        self.dialogue.finish(now);
        for duty in Duty::BOTH {
            let link = match duty {
                Duty::Publish => &mut self.publisher,
                Duty::Listen => &mut self.listener,
            };
            if let Err(why) = link.flush(self.dialogue.out(duty)) {
                self.broken(duty, &why, now);
            }
        }
    }

    fn fault(&mut self, duty: Duty, fault: &Fault, now: Millis) {
        self.broken(duty, &fault.why, now);
        if fault.both && self.link(duty.other()).is_open() {
            self.broken(duty.other(), &fault.why, now);
        }
    }

    /// A link is broken, or did not come about.
    fn broken(&mut self, duty: Duty, why: &str, now: Millis) {
        self.link(duty).close(now);
        self.dialogue.closed(duty);
        self.broke = true;
        if self.said != why {
            self.said = why.to_owned();
            let fields = [
                ("broker", Value::Shown(&self.dsn)),
                ("link", Value::Text(duty.name())),
                ("reason", Value::Text(why)),
            ];
            self.log.error("the broker is down", &fields);
        }
    }

    pub fn judge(&mut self, up: bool, now: Millis) -> bool {
        let since = match (self.down, up) {
            (None, false) => {
                self.down = Some(now);
                return false;
            }
            (Some(since), true) => since,
            _ => return false,
        };
        self.down = None;
        self.said.clear();
        let fields = [
            ("broker", Value::Shown(&self.dsn)),
            ("down_ms", Value::Number(now.saturating_sub(since))),
        ];
        let known = std::mem::replace(&mut self.known, true);
        let broke = std::mem::take(&mut self.broke);
        let line = match (known, broke) {
            (false, _) => "the broker is up",
            (true, false) => "all channels are subscribed again",
            (true, true) => "the broker is up again",
        };
        self.log.info(line, &fields);
        known && broke
    }

    fn log_notice(&mut self, notice: &Notice, now: Millis) {
        let seldom = match notice {
            Notice::NotJson { .. } => &mut self.not_json,
            Notice::RefusedChannel { .. } => &mut self.refused_channels,
            Notice::RefusedPublication { .. } => &mut self.refused_publications,
        };
        let Some(left_out) = seldom.admit(now) else {
            return;
        };
        let count = Value::Number(left_out.saturating_add(1));
        match notice {
            Notice::NotJson { channel } => {
                let line = "a message from the broker is not JSON: it is dropped";
                let fields = [("channel", Value::Text(channel)), ("dropped", count)];
                self.log.warn(line, &fields);
            }
            Notice::RefusedChannel { channel, why } => {
                let line =
                    "the broker refuses a channel: it is asked for again while it has members";
                let fields = [
                    ("channel", Value::Text(channel.as_str())),
                    ("reason", Value::Text(why)),
                    ("refusals", count),
                ];
                self.log.error(line, &fields);
            }
            Notice::RefusedPublication { why } => {
                let fields = [("reason", Value::Text(why)), ("refusals", count)];
                self.log.error("the broker refuses to publish", &fields);
            }
        }
    }
}

fn place(
    address: &RedisAddress,
    tls: Option<Arc<ClientConfig>>,
    waker: Arc<Waker>,
) -> io::Result<Place> {
    Ok(match address {
        RedisAddress::Unix(path) => Place::Unix(path.clone()),
        RedisAddress::Tcp { host, port, .. } => {
            let name = || ServerName::try_from(host.clone()).map_err(io::Error::other);
            let tls = tls.map(|config| Ok::<_, io::Error>((config, name()?)));
            Place::Tcp {
                host: host.clone(),
                port: *port,
                tls: tls.transpose()?,
                waker,
            }
        }
    })
}
