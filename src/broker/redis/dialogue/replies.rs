//! What redis' replies mean: the greeting, and the answers to what is outstanding longest.
//!
//! Owns: the words for the log. Knows: what was asked. Never knows: bytes beyond one reply.

use std::rc::Rc;

use super::{Asked, Dialogue, Duty, Fault, Greeting, Notice, Published, What};
use crate::broker::news::News;
use crate::clock::Millis;
use crate::effect::{ConnId, Receipt, Subscription};
use crate::wire::channel_name::ChannelName;
use crate::wire::resp::RedisReply;

/// Characters of redis' words that are passed on: what fits into a log line.
const LONGEST_REASON: usize = 200;
/// The user that a password without a user belongs to.
const DEFAULT_USER: &str = "default";
/// What a redis without users (before 6) answers to `AUTH user password`.
const NO_USERS: &str = "ERR wrong number of arguments";

pub(super) const REPLICA: &str = "it is a replica: what is published there reaches no other server; give the master's address to --broker-dsn";
pub(super) const SENTINEL: &str =
    "it is a sentinel and no master: give the master's address to --broker-dsn";
pub(super) const UNASKED: &str = "it answers what was not asked";
pub(super) const OTHER: &str = "it answers something else than it was asked";

/// A reply that is no message.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Done,
    /// What redis says is wrong, shortened.
    Error(String),
    Subscribed,
    Unsubscribed,
    Role(Role),
}

#[derive(Debug, PartialEq, Eq)]
enum Role {
    Master,
    Replica,
    Sentinel,
}

impl Meaning {
    fn new(reply: &RedisReply, bytes: &[u8]) -> Meaning {
        match reply {
            RedisReply::Error(range) => {
                let text = bytes.get(range.clone()).unwrap_or_default();
                let text = String::from_utf8_lossy(text);
                Meaning::Error(text.chars().take(LONGEST_REASON).collect())
            }
            RedisReply::Subscribed => Meaning::Subscribed,
            RedisReply::Unsubscribed(_) => Meaning::Unsubscribed,
            RedisReply::Role { name, .. } => Meaning::Role(match bytes.get(name.clone()) {
                Some(b"master") => Role::Master,
                Some(b"slave") => Role::Replica,
                _ => Role::Sentinel,
            }),
            RedisReply::Done | RedisReply::Message { .. } => Meaning::Done,
        }
    }
}

impl Dialogue {
    /// The answer to what is outstanding longest.
    pub(super) fn replied(
        &mut self,
        duty: Duty,
        reply: &RedisReply,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), Fault> {
        let meaning = Meaning::new(reply, bytes);
        let Some(Asked { at, what }) = self.half(duty).asked.pop_front() else {
            return Err(Fault::of_one(match meaning {
                // Why it does not let us in, said before anything was asked: too many clients, protected mode.
                Meaning::Error(why) => why,
                _ => UNASKED.to_owned(),
            }));
        };
        match (what, meaning) {
            (What::Greeting(step), meaning) => self.greeted(duty, step, meaning, now)?,
            (What::Role, meaning) => judge_role(&meaning)?,
            (What::Ping(position), Meaning::Done) => {
                while self.heard < position && !self.published.is_empty() {
                    self.heard_one(Receipt::Confirmed);
                }
            }
            (What::Ping(_), Meaning::Error(why)) => return Err(Fault::of_one(why)),
            (What::Publish(by), Meaning::Done) => {
                self.published.extend(by.map(|by| Published { at, by }));
            }
            (What::Publish(by), Meaning::Error(why)) => self.refuse_publication(by, &why),
            (What::Subscribe(channels, confirmed), Meaning::Subscribed) => {
                self.subscribed(at, channels, confirmed);
            }
            (What::Subscribe(channels, 0), Meaning::Error(why)) => {
                self.refuse_channels(channels, &why, now);
            }
            (What::Unsubscribe(channels, ended), Meaning::Unsubscribed) => {
                let ended = ended.saturating_add(1);
                if ended < channels.len() {
                    let what = What::Unsubscribe(channels, ended);
                    self.listener.asked.push_front(Asked { at, what });
                }
            }
            (What::Unsubscribe(..), Meaning::Error(_)) => {}
            _ => return Err(Fault::of_one(OTHER)),
        }
        Ok(())
    }

    /// Sends the credentials. `named`: with a user. A password without one is the user `default`'s, and it is sent with
    /// that name first, which a redis that has no password accepts, too; where there are no users it is sent alone.
    pub(super) fn authenticate(&mut self, duty: Duty, named: bool, now: Millis) {
        let Some(credentials) = self.identity.credentials.clone() else {
            return;
        };
        let alone_next = named && credentials.user.is_none();
        let what = What::Greeting(Greeting::Auth { alone_next });
        let user = credentials.user.as_deref().unwrap_or(DEFAULT_USER);
        let password = credentials.password.expose().as_bytes();
        match named {
            true => {
                let parts = [b"AUTH", user.as_bytes(), password];
                self.half(duty).ask(what, &parts, now);
            }
            false => self.half(duty).ask(what, &[b"AUTH", password], now),
        }
    }

    /// Selects the database, names the link and asks for the role. The answer to the last command says that the link can
    /// be used.
    pub(super) fn introduce(&mut self, duty: Duty, now: Millis) {
        let db = self.identity.db;
        let name: &[u8] = match duty {
            Duty::Publish => b"wsify-publishes",
            Duty::Listen => b"wsify-listens",
        };
        let half = self.half(duty);
        if db != 0 {
            let what = What::Greeting(Greeting::Select);
            half.ask(what, &[b"SELECT", db.to_string().as_bytes()], now);
        }
        let what = What::Greeting(Greeting::Name);
        half.ask(what, &[b"CLIENT", b"SETNAME", name], now);
        half.ask(What::Role, &[b"ROLE"], now);
        half.ask(What::Greeting(Greeting::Ping), &[b"PING"], now);
    }

    fn greeted(
        &mut self,
        duty: Duty,
        step: Greeting,
        meaning: Meaning,
        now: Millis,
    ) -> Result<(), Fault> {
        match (step, meaning) {
            (Greeting::Auth { .. }, Meaning::Done) => self.introduce(duty, now),
            (Greeting::Auth { alone_next: true }, Meaning::Error(why))
                if why.starts_with(NO_USERS) =>
            {
                self.authenticate(duty, false, now);
            }
            (Greeting::Auth { .. }, Meaning::Error(why)) => {
                // Only the code: some servers repeat in the rest what they were sent.
                let code = why.split(' ').next().unwrap_or_default();
                return Err(Fault::of_one(format!(
                    "it refuses the user and the password of --broker-dsn ({code})"
                )));
            }
            (Greeting::Select, Meaning::Error(why)) => {
                let why = format!("it refuses the database of --broker-dsn: {why}");
                return Err(Fault::of_one(why));
            }
            (Greeting::Ping, Meaning::Error(why)) if why.starts_with("NOAUTH") => {
                let why = "it wants a password: give it one in --broker-dsn";
                return Err(Fault::of_one(why));
            }
            (Greeting::Ping, Meaning::Error(why)) => return Err(Fault::of_one(why)),
            (Greeting::Select | Greeting::Name, Meaning::Done)
            | (Greeting::Name, Meaning::Error(_)) => {}
            (Greeting::Ping, Meaning::Done) => {
                let half = self.half(duty);
                (half.up, half.checked) = (true, now);
                self.say_up(duty, true);
            }
            _ => return Err(Fault::of_one(OTHER)),
        }
        Ok(())
    }

    fn refuse_publication(&mut self, by: Option<ConnId>, why: &str) {
        let why = self.words(why);
        if let Some(by) = by {
            let receipt = Receipt::Refused(Rc::clone(&why));
            self.news.push_back(News::Published(by, receipt));
        }
        self.notices.push_back(Notice::RefusedPublication { why });
    }

    /// The next channel of a command is subscribed.
    fn subscribed(&mut self, at: Millis, channels: Vec<Subscription>, confirmed: usize) {
        if let Some(channel) = channels.get(confirmed) {
            let news = News::Subscribed(channel.id, Receipt::Confirmed);
            self.news.push_back(news);
        }
        let confirmed = confirmed.saturating_add(1);
        if confirmed < channels.len() {
            let what = What::Subscribe(channels, confirmed);
            self.listener.asked.push_front(Asked { at, what });
        }
    }

    /// A command to subscribe is refused. One refused channel refuses the whole command: which one it is shows when each is
    /// asked for alone.
    fn refuse_channels(&mut self, channels: Vec<Subscription>, why: &str, now: Millis) {
        if let [one] = channels.as_slice() {
            let why = self.words(why);
            let receipt = Receipt::Refused(Rc::clone(&why));
            self.news.push_back(News::Subscribed(one.id, receipt));
            let channel = one.channel.clone();
            self.notices
                .push_back(Notice::RefusedChannel { channel, why });
            return;
        }
        for channel in channels {
            // Asked for now, it would come behind its end.
            match self.is_unwanted(&channel.channel) {
                true => {
                    let news = News::Subscribed(channel.id, Receipt::Failed);
                    self.news.push_back(news);
                }
                false => self.subscribe_all(vec![channel], now),
            }
        }
    }

    /// Whether the end of this channel's subscription is asked for, and not answered.
    fn is_unwanted(&self, channel: &ChannelName) -> bool {
        let asked = self.listener.asked.iter();
        let ends = asked.filter_map(|asked| match &asked.what {
            What::Unsubscribe(channels, _) => Some(channels),
            _ => None,
        });
        ends.flatten()
            .chain(&self.unsubscribing)
            .any(|unwanted| unwanted == channel)
    }

    /// The words of a refusal, in one place in memory while they stay the same.
    fn words(&mut self, why: &str) -> Rc<str> {
        match &self.words {
            Some(words) if **words == *why => Rc::clone(words),
            _ => Rc::clone(self.words.insert(why.into())),
        }
    }
}

/// Where the user may not ask, or a relative of redis knows no roles, it is taken for a master.
fn judge_role(meaning: &Meaning) -> Result<(), Fault> {
    match meaning {
        Meaning::Role(Role::Replica) => Err(Fault {
            why: REPLICA.to_owned(),
            both: true,
        }),
        Meaning::Role(Role::Sentinel) => Err(Fault::of_one(SENTINEL)),
        Meaning::Role(Role::Master) | Meaning::Error(_) | Meaning::Done => Ok(()),
        Meaning::Subscribed | Meaning::Unsubscribed => Err(Fault::of_one(OTHER)),
    }
}
