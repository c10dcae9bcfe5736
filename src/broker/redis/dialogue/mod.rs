//! The dialogue with one redis on two links, one that publishes and one that listens: commands, and what replies mean.
//!
//! Owns: what is outstanding on each link, and the bytes to be sent. Knows: redis' commands. Never knows: sockets, clocks,
//! a client, or why something is published. Bytes and commands come in, bytes and [`News`] go out, and time is an
//! argument.
//!
//! Decisions
//! - **A publication is confirmed when the members here have it, too.** redis' answer to `PUBLISH` says that the
//!   message is on its way to our listening link, which may break before it comes. So a `PING` follows there: its
//!   answer comes behind the message. One `PING` covers all that was published before it. What is outstanding when the
//!   listening link breaks fails: it may have been published, and may have missed the members here. Chosen over waiting
//!   for the message itself, which others may have published as well, and over trusting redis' answer alone. It costs
//!   one more round trip. Reconsider when the time matters more than the promise.
//! - **Whatever is outstanding for [`REPLY_TIMEOUT`] breaks the link**: a redis that hangs counts as down. Replies carry no
//!   id, so a missing one cannot be skipped. While replies are not read, because too much is on its way to members,
//!   time does not count. Then only publications that wait for their confirmation are given up.
//! - **The role is asked on the publishing link however busy it is** rather than asking when it is silent. A demoted
//!   redis goes on confirming what is published. A subscribed link may not ask, in version 2 of the protocol.
//! - **In a cluster the end of a subscription is confirmed by a `PING` behind it** rather than its own answer. When a
//!   slot moves, redis ends subscriptions by itself with the same reply, and then answers ours with an error.

mod commands;
mod replies;
mod saved;
mod sharded;
mod values;

use std::collections::VecDeque;
use std::rc::Rc;

pub use self::saved::SavedDialogue;
pub use self::values::{Duty, Hint, LinkIdentity, Moved, Notice, Progress, RedisKind, ServerFacts};
use self::values::{Half, Published, SentPublication, What};
use super::conversation::{LinkFault, REPLY_TIMEOUT};
use super::meaning;
use crate::broker::news::{Message, News};
use crate::clock::Millis;
use crate::effect::{Receipt, Subscription};
use crate::wire::channel_name::{ChannelName, RESERVED};
use crate::wire::hash_slot;
use crate::wire::json;
use crate::wire::resp::{self, RedisReply};

/// When an answer is late enough to ask others whether this is still a master, in milliseconds.
const SLOW: Millis = 1_000;
/// How often the role is asked, and the silence after which a link is asked whether it is still there.
const SILENCE: Millis = 5_000;

#[derive(Debug, Default)]
pub struct Dialogue {
    identity: LinkIdentity,
    publisher: Half,
    listener: Half,
    /// In the order of publishing. The first has the position `heard`.
    published: VecDeque<Published>,
    heard: u64,
    /// Before this position a ping is under way for all.
    covered: u64,
    /// To be subscribed and unsubscribed with the next command; at most one of them is not empty. In a cluster all are of one
    /// slot.
    subscribing: Vec<Subscription>,
    unsubscribing: Vec<ChannelName>,
    news: VecDeque<News>,
    notices: VecDeque<Notice>,
    hints: VecDeque<Hint>,
    facts: ServerFacts,
    /// The last error message of redis: many channels may be refused with the same one.
    words: Option<Rc<str>>,
}

impl Dialogue {
    pub fn new(identity: LinkIdentity) -> Dialogue {
        Dialogue {
            identity,
            ..Dialogue::default()
        }
    }

    fn half(&mut self, duty: Duty) -> &mut Half {
        match duty {
            Duty::Publish => &mut self.publisher,
            Duty::Listen => &mut self.listener,
        }
    }

    fn is_sharded(&self) -> bool {
        self.identity.kind == RedisKind::Shard
    }

    /// The slot of a channel; all have the same one outside a cluster.
    fn slot(&self, channel: &str) -> u16 {
        let prefix = self.identity.prefix.as_bytes();
        if self.is_sharded() {
            hash_slot::hash_slot(prefix, channel.as_bytes())
        } else {
            0
        }
    }

    /// Bytes to be sent. The caller removes what it has sent.
    pub fn out(&mut self, duty: Duty) -> &mut Vec<u8> {
        &mut self.half(duty).talk.out
    }

    /// Whether the handshake of a link is complete.
    pub fn is_up(&self, duty: Duty) -> bool {
        match duty {
            Duty::Publish => self.publisher.up,
            Duty::Listen => self.listener.up,
        }
    }

    /// Whether something was published of which nothing is known yet.
    pub fn is_publishing(&self) -> bool {
        let mut asked = self.publisher.talk.asked.iter();
        let publishing =
            |what: &What| matches!(what, What::Publish(SentPublication { by: Some(_), .. }));
        !self.published.is_empty() || asked.any(|asked| publishing(&asked.what))
    }

    /// The next news for the hub.
    pub fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// What the node has said of its cluster next.
    pub fn hint(&mut self) -> Option<Hint> {
        self.hints.pop_front()
    }

    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// A link was opened: sends its handshake.
    pub fn opened(&mut self, duty: Duty, now: Millis) {
        self.half(duty).talk.heard = now;
        if self.identity.credentials.is_some() {
            self.authenticate(duty, true, now)
        } else {
            self.introduce(duty, now)
        }
    }

    /// Handles the reply at the start of `bytes`.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub fn handle_reply(
        &mut self,
        duty: Duty,
        bytes: &[u8],
        now: Millis,
    ) -> Result<Progress, LinkFault> {
        if let Some(read) = self.handle_sharded_reply(duty, bytes) {
            self.half(duty).talk.heard = now;
            return read.map(|size| size.map_or(Progress::Starved, Progress::Handled));
        }
        let (reply, size) = match resp::read(bytes) {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(Progress::Starved),
            Err(resp::Malformed) => return Err(LinkFault::of_one(meaning::NO_REDIS)),
        };
        self.half(duty).talk.heard = now;
        let RedisReply::Message { channel, content } = reply else {
            self.replied(duty, &reply, bytes, now)?;
            return Ok(Progress::Handled(size));
        };
        let name = bytes.get(channel.clone()).unwrap_or_default();
        let Some(name) = self.unprefixed(name) else {
            self.news.push_back(News::Dropped("unknown"));
            return Ok(Progress::Handled(size));
        };
        // What nodes say to each other is checked where it is read.
        if !name.starts_with(RESERVED)
            && !json::is_json(bytes.get(content.clone()).unwrap_or_default())
        {
            let channel = name.to_owned();
            self.news.push_back(News::Dropped("not_json"));
            self.notices.push_back(Notice::NotJson { channel });
            return Ok(Progress::Handled(size));
        }
        let channel = channel.end.saturating_sub(name.len())..channel.end;
        Ok(Progress::Message(Message {
            link: 0,
            channel,
            content,
            size,
        }))
    }

    /// The name of a channel of ours.
    fn unprefixed<'n>(&self, name: &'n [u8]) -> Option<&'n str> {
        let name = name.strip_prefix(self.identity.prefix.as_bytes())?;
        str::from_utf8(name).ok()
    }

    /// Gives up what has waited too long, and asks a silent redis whether it is still there. Not to be called while there
    /// are replies to be handled.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub fn tick(&mut self, duty: Duty, now: Millis) -> Result<(), LinkFault> {
        let position = self.heard;
        let half = self.half(duty);
        half.talk.check_timeout(now)?;
        match duty {
            Duty::Publish if half.up && now >= half.checked.saturating_add(SILENCE) => {
                half.checked = now;
                half.talk.ask(What::Role, &[b"ROLE"], now);
            }
            Duty::Listen
                if half.up
                    && half.talk.asked.is_empty()
                    && now >= half.talk.heard.saturating_add(SILENCE) =>
            {
                half.talk.ask(What::Ping(position), &[b"PING"], now);
            }
            _ => {}
        }
        Ok(())
    }

    /// When its answers are late.
    pub fn slow_at(&self) -> Option<Millis> {
        let fronts = [&self.publisher, &self.listener].map(|half| half.talk.asked.front());
        let first = fronts.into_iter().flatten().map(|asked| asked.at).min();
        first.map(|at| at.saturating_add(SLOW))
    }

    /// Fails what was published too long ago and was not heard here, or is not answered although something else comes.
    pub fn fail_overdue(&mut self, now: Millis) {
        let late = |p: &Published| now >= p.at.saturating_add(REPLY_TIMEOUT);
        while self.published.front().is_some_and(late) {
            self.finish_first(Receipt::Failed);
        }
        let heard = self.publisher.talk.heard;
        let late = |at: Millis| heard >= at.saturating_add(REPLY_TIMEOUT);
        let asked = self.publisher.talk.asked.iter_mut();
        for asked in asked.take_while(|asked| late(asked.at)) {
            if let What::Publish(sent) = &mut asked.what
                && let Some(by) = sent.by.take()
            {
                self.news.push_back(News::Published(by, Receipt::Failed));
            }
        }
    }

    /// When [`Dialogue::tick`] or [`Dialogue::fail_overdue`] has something to do, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let (publisher, listener) = (&self.publisher, &self.listener);
        let check = publisher
            .up
            .then(|| publisher.checked.saturating_add(SILENCE));
        let silent = listener.up && listener.talk.asked.is_empty();
        let silence = silent.then(|| listener.talk.heard.saturating_add(SILENCE));
        let published = self.published.front();
        let heard = published.map(|p| p.at.saturating_add(REPLY_TIMEOUT));
        let late = [publisher.talk.late_at(), listener.talk.late_at()];
        let all = late.into_iter().chain([check, silence, heard]);
        all.flatten().min()
    }

    /// A link is broken: what is outstanding fails.
    pub fn closed(&mut self, duty: Duty) {
        let half = std::mem::take(self.half(duty));
        if half.up {
            self.say_up(duty, false);
        }
        for asked in half.talk.asked {
            match asked.what {
                What::Publish(SentPublication { by: Some(by), .. }) => {
                    self.news.push_back(News::Published(by, Receipt::Failed));
                }
                What::Subscribe(channels, confirmed) => {
                    self.fail_subscriptions(channels.into_iter().skip(confirmed));
                }
                What::Unsubscribe(channels, ended) => {
                    self.end_subscriptions(channels.into_iter().skip(ended));
                }
                _ => {}
            }
        }
        if duty == Duty::Publish {
            return;
        }
        let subscribing = std::mem::take(&mut self.subscribing);
        self.fail_subscriptions(subscribing.into_iter());
        let unsubscribing = std::mem::take(&mut self.unsubscribing);
        self.end_subscriptions(unsubscribing.into_iter());
        while !self.published.is_empty() {
            self.finish_first(Receipt::Failed);
        }
        self.covered = self.heard;
        for asked in &mut self.publisher.talk.asked {
            if let What::Publish(sent) = &mut asked.what
                && let Some(by) = sent.by.take()
            {
                self.news.push_back(News::Published(by, Receipt::Failed));
            }
        }
    }

    /// The link can be used from now on, or not.
    fn say_up(&mut self, duty: Duty, up: bool) {
        let shard = self.identity.shard;
        self.news.push_back(match duty {
            Duty::Publish => News::Publishing(shard, up),
            Duty::Listen => News::Listening(shard, up),
        });
    }

    fn fail_subscriptions(&mut self, channels: impl Iterator<Item = Subscription>) {
        let failed = channels.map(|channel| News::Subscribed(channel.id, Receipt::Failed));
        self.news.extend(failed);
    }

    /// Requests to end subscriptions are answered.
    fn end_subscriptions(&mut self, channels: impl Iterator<Item = ChannelName>) {
        self.news.extend(channels.map(News::Unsubscribed));
    }

    /// What was published first is done with.
    fn finish_first(&mut self, receipt: Receipt) {
        if let Some(published) = self.published.pop_front() {
            self.heard = self.heard.saturating_add(1);
            let by = published.by.into_iter();
            self.news
                .extend(by.map(|by| News::Published(by, receipt.clone())));
        }
    }
}

#[cfg(test)]
mod tests;
