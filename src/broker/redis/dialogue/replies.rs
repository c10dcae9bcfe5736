//! What redis' replies mean: the greeting, and the answers to what is outstanding longest.
//!
//! Owns: the words for the log. Knows: what was asked. Never knows: bytes beyond one reply.

use std::rc::Rc;

use super::values::Greeting;
use super::{Dialogue, Duty, Notice, Published, RedisKind, SentPublication, What};
use crate::broker::news::News;
use crate::broker::redis::conversation::{LinkFault, Outstanding};
use crate::broker::redis::meaning::{self, Meaning, Role};
use crate::clock::Millis;
use crate::effect::{Receipt, Subscription};
use crate::wire::channel_name::ChannelName;
use crate::wire::resp::RedisReply;

pub(super) const REPLICA: &str = "it is a replica: what is published there reaches no other server; give the master's address to --broker-dsn";
pub(super) const SENTINEL: &str = "it is a sentinel and no master: give the master's address to --broker-dsn, or use redis-sentinel://";
/// The same of a master that sentinels or a cluster have named: another one will be.
pub(super) const FORMER_MASTER: &str = "it is a replica";

impl Dialogue {
    /// The answer to what is outstanding longest.
    pub(super) fn replied(
        &mut self,
        duty: Duty,
        reply: &RedisReply,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), LinkFault> {
        if self.ended_unasked(duty, reply, bytes) {
            return Ok(());
        }
        let meaning = Meaning::new(reply, bytes);
        if !self.half(duty).up {
            meaning::check_turned_away(&meaning)?;
        }
        let Some(Outstanding { at, what }) = self.half(duty).talk.asked.pop_front() else {
            return Err(LinkFault::of_one(match meaning {
                Meaning::Error(why) => why,
                _ => meaning::UNASKED.to_owned(),
            }));
        };
        match (what, meaning) {
            (What::Greeting(step), meaning) => self.greeted(duty, step, meaning, now)?,
            (What::Role, meaning) => self.judge_role(&meaning)?,
            (What::Ping(position), Meaning::Done) => {
                while self.heard < position && !self.published.is_empty() {
                    self.finish_first(Receipt::Confirmed);
                }
            }
            (What::Ping(_), Meaning::Error(why)) => return Err(LinkFault::of_one(why)),
            (What::Publish(sent), Meaning::Done) => self.published(at, sent),
            (What::Publish(sent), Meaning::Error(why)) => self.refuse_publication(sent, &why)?,
            (What::Subscribe(channels, confirmed), Meaning::Subscribed) => {
                self.subscribed(at, channels, confirmed);
            }
            (What::Subscribe(channels, 0), Meaning::Error(why)) => {
                self.refuse_channels(channels, &why, now)?;
            }
            (What::Unsubscribe(channels, _), meaning) if self.is_sharded() => {
                // Only the answer to the PING behind it is the end of it.
                match meaning {
                    Meaning::Done => self.end_subscriptions(channels.into_iter()),
                    _ => self.still_awaits(at, What::Unsubscribe(channels, 0)),
                }
            }
            (What::Unsubscribe(channels, ended), Meaning::Unsubscribed) => {
                self.unsubscribed(at, channels, ended);
            }
            (What::Unsubscribe(channels, ended), Meaning::Error(_)) => {
                self.end_subscriptions(channels.into_iter().skip(ended));
            }
            _ => return Err(LinkFault::of_one(meaning::OTHER)),
        }
        Ok(())
    }

    /// Sends the credentials. `named`: with a user.
    pub(super) fn authenticate(&mut self, duty: Duty, named: bool, now: Millis) {
        let Some(credentials) = self.identity.credentials.clone() else {
            return;
        };
        let alone_next = named && credentials.user.is_none();
        let what = What::Greeting(Greeting::Auth { alone_next });
        let talk = &mut self.half(duty).talk;
        meaning::log_in(talk, what, &credentials, named, now);
    }

    /// Selects the database, names the link and asks for the role. The answer to the last command says that the link can
    /// be used.
    pub(super) fn introduce(&mut self, duty: Duty, now: Millis) {
        let (db, probe) = (self.identity.db, self.identity.probe);
        let name: &[u8] = match duty {
            Duty::Publish => b"wsify-publishes",
            Duty::Listen => b"wsify-listens",
        };
        let half = self.half(duty);
        if db != 0 {
            let what = What::Greeting(Greeting::Select);
            half.talk
                .ask(what, &[b"SELECT", db.to_string().as_bytes()], now);
        }
        let what = What::Greeting(Greeting::Name);
        half.talk.ask(what, &[b"CLIENT", b"SETNAME", name], now);
        half.talk.ask(What::Role, &[b"ROLE"], now);
        if probe {
            half.talk.ask(What::Info, &[b"INFO", b"server"], now);
        }
        half.talk
            .ask(What::Greeting(Greeting::Ping), &[b"PING"], now);
    }

    fn greeted(
        &mut self,
        duty: Duty,
        step: Greeting,
        meaning: Meaning,
        now: Millis,
    ) -> Result<(), LinkFault> {
        match (step, meaning) {
            (Greeting::Auth { alone_next }, meaning) => {
                if meaning::logged_in(meaning, alone_next, "the user and the password")? {
                    self.introduce(duty, now)
                } else {
                    self.authenticate(duty, false, now)
                }
            }
            (Greeting::Select | Greeting::Ping, Meaning::Error(why))
                if why.starts_with("NOAUTH") =>
            {
                let why = "it requires a password: set one in --broker-dsn";
                return Err(LinkFault::of_one(why));
            }
            (Greeting::Select, Meaning::Error(why)) => {
                let why = format!("it refuses the database of --broker-dsn: {why}");
                return Err(LinkFault::of_one(why));
            }
            (Greeting::Ping, Meaning::Error(why)) => return Err(LinkFault::of_one(why)),
            (Greeting::Select | Greeting::Name, Meaning::Done)
            | (Greeting::Name, Meaning::Error(_)) => {}
            (Greeting::Ping, Meaning::Done) => {
                let half = self.half(duty);
                (half.up, half.checked) = (true, now);
                self.say_up(duty, true);
            }
            _ => return Err(LinkFault::of_one(meaning::OTHER)),
        }
        Ok(())
    }

    /// It is published. The members here have it once what the listening link has brought so far is read.
    fn published(&mut self, at: Millis, sent: SentPublication) {
        let (by, slot) = (sent.by, sent.slot);
        match by {
            Some(by) if sent.doubtful => {
                self.news.push_back(News::Published(by, Receipt::Failed));
            }
            Some(_) => self.published.push_back(Published { at, by, slot }),
            None => {}
        }
    }

    fn refuse_publication(&mut self, sent: SentPublication, why: &str) -> Result<(), LinkFault> {
        let Some(sent) = self.redirect_publication(sent, why)? else {
            return Ok(());
        };
        let why = self.words(why);
        if let Some(by) = sent.by {
            let receipt = Receipt::Refused(Rc::clone(&why));
            self.news.push_back(News::Published(by, receipt));
        }
        self.notices.push_back(Notice::RefusedPublication { why });
        Ok(())
    }

    /// The next channel of a command is subscribed.
    fn subscribed(&mut self, at: Millis, channels: Vec<Subscription>, confirmed: usize) {
        if let Some(channel) = channels.get(confirmed) {
            let news = News::Subscribed(channel.id, Receipt::Confirmed);
            self.news.push_back(news);
        }
        let confirmed = confirmed.saturating_add(1);
        if confirmed < channels.len() {
            self.still_awaits(at, What::Subscribe(channels, confirmed));
        }
    }

    /// The subscription of the next channel of a command has ended.
    fn unsubscribed(&mut self, at: Millis, channels: Vec<ChannelName>, ended: usize) {
        let channel = channels.get(ended).cloned();
        self.end_subscriptions(channel.into_iter());
        let ended = ended.saturating_add(1);
        if ended < channels.len() {
            self.still_awaits(at, What::Unsubscribe(channels, ended));
        }
    }

    /// Another reply is awaited to what was asked at this time, before all others.
    fn still_awaits(&mut self, at: Millis, what: What) {
        let asked = Outstanding { at, what };
        self.listener.talk.asked.push_front(asked);
    }

    /// A command to subscribe is refused. One refused channel refuses the whole command: which one it is shows when each is
    /// asked for alone.
    fn refuse_channels(
        &mut self,
        channels: Vec<Subscription>,
        why: &str,
        now: Millis,
    ) -> Result<(), LinkFault> {
        let Some(channels) = self.redirect_channels(channels, why)? else {
            return Ok(());
        };
        if let [one] = channels.as_slice() {
            let why = self.words(why);
            let receipt = Receipt::Refused(Rc::clone(&why));
            self.news.push_back(News::Subscribed(one.id, receipt));
            let channel = one.channel.clone();
            self.notices
                .push_back(Notice::RefusedChannel { channel, why });
            return Ok(());
        }
        for channel in channels {
            // Outstanding for now, it would come behind its end.
            if self.is_unwanted(&channel.channel) {
                let news = News::Subscribed(channel.id, Receipt::Failed);
                self.news.push_back(news);
            } else {
                self.subscribe_all(vec![channel], now)
            }
        }
        Ok(())
    }

    /// Whether the end of this channel's subscription is asked for, and not answered.
    fn is_unwanted(&self, channel: &ChannelName) -> bool {
        let asked = self.listener.talk.asked.iter();
        let ends = asked.filter_map(|asked| match &asked.what {
            What::Unsubscribe(channels, _) => Some(channels),
            _ => None,
        });
        ends.flatten()
            .chain(&self.unsubscribing)
            .any(|unwanted| unwanted == channel)
    }

    /// An error message, stored once while it stays the same.
    pub(super) fn words(&mut self, why: &str) -> Rc<str> {
        match &self.words {
            Some(words) if **words == *why => Rc::clone(words),
            _ => Rc::clone(self.words.insert(why.into())),
        }
    }
    /// A server that refuses `ROLE`, or does not have it, counts as a master.
    fn judge_role(&mut self, meaning: &Meaning) -> Result<(), LinkFault> {
        match meaning {
            Meaning::Role(Role::Replica) => Err(LinkFault {
                why: match self.identity.kind {
                    RedisKind::Alone => REPLICA.to_owned(),
                    RedisKind::Watched | RedisKind::Shard => FORMER_MASTER.to_owned(),
                },
                both: true,
            }),
            Meaning::Role(Role::Sentinel) => Err(LinkFault::of_one(SENTINEL)),
            Meaning::Role(Role::Master(replicas)) => {
                self.facts.replicas = Some(*replicas);
                Ok(())
            }
            Meaning::Error(_) | Meaning::Done => Ok(()),
            Meaning::Subscribed | Meaning::Unsubscribed => Err(LinkFault::of_one(meaning::OTHER)),
        }
    }
}
