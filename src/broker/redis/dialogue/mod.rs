//! What is said to redis on two links, one that publishes and one that listens, and what its replies mean.
//!
//! Owns: what is outstanding on each link, and the bytes to be sent. Knows: redis' commands. Never knows: sockets, clocks,
//! a client, or why something is published. Bytes and commands come in, bytes and [`News`] go out, and time is an
//! argument.
//!
//! Decisions
//! - **A publication is confirmed when the members here have it, too.** redis' answer to `PUBLISH` says that the message is
//!   on its way to our listening link, which may break before it comes. So a `PING` follows there: its answer comes behind
//!   the message. One `PING` covers all that was published before it. What is outstanding when the listening link breaks
//!   fails: it may have been published, but it is not known what has heard it. Chosen over waiting for the message itself,
//!   which others may have published as well, and over trusting redis' answer alone, at the price of one more round trip.
//!   Reconsider when the time matters more than the promise.
//! - **Whatever is outstanding for [`PATIENCE`] breaks the link**: a redis that hangs is as good as none, and replies
//!   carry no name but their order. Time in which replies are not looked at, because too much is on its way to members,
//!   does not count: then only what waits for its confirmation is given up.
//! - **The role is asked on the publishing link however busy it is**, over asking when it is silent: a demoted redis goes on
//!   confirming what is published. A subscribed link may not ask, in version 2 of the protocol.

mod commands;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

use crate::broker::news::{Message, News};
use crate::clock::Millis;
use crate::config::Credentials;
use crate::effect::{ConnId, Receipt, ShardId, Subscription};
use crate::wire::channel_name::ChannelName;
use crate::wire::json;
use crate::wire::resp::{self, RedisReply};

/// How long redis may take to answer, in milliseconds (`docs/api.md#broadcast`).
const PATIENCE: Millis = 5_000;
/// How often the role is asked, and the silence after which a link is asked whether it is still there.
const SILENCE: Millis = 5_000;

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    Publish,
    Listen,
}

impl Duty {
    pub const BOTH: [Duty; 2] = [Duty::Publish, Duty::Listen];

    pub fn other(self) -> Duty {
        match self {
            Duty::Publish => Duty::Listen,
            Duty::Listen => Duty::Publish,
        }
    }

    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Duty::Publish => "publishing",
            Duty::Listen => "listening",
        }
    }
}

/// How a link introduces itself.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub credentials: Option<Credentials>,
    pub db: u32,
    /// Before every channel's name.
    pub prefix: String,
    /// Which shard this is.
    pub shard: ShardId,
}

/// Why a link is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For the log.
    pub why: String,
    /// The other link is of no use either.
    pub both: bool,
}

impl Fault {
    fn of_one(why: impl Into<String>) -> Fault {
        let (why, both) = (why.into(), false);
        Fault { why, both }
    }
}

/// How far [`Dialogue::understand`] came.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    Starved,
    /// So many bytes are understood; there may be news.
    Understood(usize),
    /// A message. Its bytes are to be kept until it is taken.
    Message(Message),
}

/// Something for the log, which the hub need not know.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    NotJson { channel: String },
    RefusedChannel { channel: ChannelName, why: Rc<str> },
    RefusedPublication { why: Rc<str> },
}

/// One link, as far as words go.
#[derive(Debug, Default)]
struct Half {
    /// It has been let in.
    up: bool,
    /// When a reply last came.
    heard: Millis,
    /// When the role was last asked.
    checked: Millis,
    /// Bytes to be sent.
    out: Vec<u8>,
    asked: VecDeque<Asked>,
}

#[derive(Debug)]
struct Asked {
    at: Millis,
    what: What,
}

/// What a reply is awaited to.
#[derive(Debug)]
enum What {
    Greeting(Greeting),
    /// Whether it is a master.
    Role,
    /// The answer says that what was published before this position has come.
    Ping(u64),
    /// `None`: nothing waits for it any more.
    Publish(Option<ConnId>),
    /// The first so many are confirmed.
    Subscribe(Vec<Subscription>, usize),
    /// The same.
    Unsubscribe(Vec<ChannelName>, usize),
}

#[derive(Clone, Copy, Debug)]
enum Greeting {
    /// `alone_next`: if redis knows no users, the password is sent alone.
    Auth {
        alone_next: bool,
    },
    Select,
    Name,
    /// The last one: the link can be used.
    Ping,
}

/// Published, but perhaps not yet heard here.
#[derive(Debug)]
struct Published {
    at: Millis,
    by: ConnId,
}

#[derive(Debug, Default)]
pub struct Dialogue {
    identity: Identity,
    publisher: Half,
    listener: Half,
    /// In the order of publishing. The first has the position `heard`.
    published: VecDeque<Published>,
    heard: u64,
    /// Before this position a ping is under way for all.
    covered: u64,
    /// To be subscribed and unsubscribed with the next command; at most one of them is not empty.
    subscribing: Vec<Subscription>,
    unsubscribing: Vec<ChannelName>,
    news: VecDeque<News>,
    notices: VecDeque<Notice>,
    /// What redis last refused something with: many channels may be refused with the same words.
    words: Option<Rc<str>>,
}

impl Dialogue {
    pub fn new(identity: Identity) -> Dialogue {
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

    /// Bytes to be sent. Who sends them removes them.
    pub fn out(&mut self, duty: Duty) -> &mut Vec<u8> {
        &mut self.half(duty).out
    }

    /// What the hub is to be told next.
    pub fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// A link can be used: it introduces itself.
    pub fn opened(&mut self, duty: Duty, now: Millis) {
        self.half(duty).heard = now;
        match self.identity.credentials.is_some() {
            true => self.authenticate(duty, true, now),
            false => self.introduce(duty, now),
        }
    }

    /// Understands the reply at the start of `bytes`.
    ///
    /// # Errors
    /// The link is of no use.
    pub fn understand(&mut self, duty: Duty, bytes: &[u8], now: Millis) -> Result<Step, Fault> {
        let (reply, size) = match resp::read(bytes) {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(Step::Starved),
            Err(resp::Malformed) => return Err(Fault::of_one("it does not speak as redis does")),
        };
        self.half(duty).heard = now;
        let RedisReply::Message { channel, content } = reply else {
            self.replied(duty, &reply, bytes, now)?;
            return Ok(Step::Understood(size));
        };
        let name = bytes.get(channel.clone()).unwrap_or_default();
        let name = name.strip_prefix(self.identity.prefix.as_bytes());
        let Some(name) = name.and_then(|name| str::from_utf8(name).ok()) else {
            self.news.push_back(News::Dropped("unknown"));
            return Ok(Step::Understood(size));
        };
        if !json::is_json(bytes.get(content.clone()).unwrap_or_default()) {
            self.news.push_back(News::Dropped("not_json"));
            let channel = name.to_owned();
            self.notices.push_back(Notice::NotJson { channel });
            return Ok(Step::Understood(size));
        }
        let channel = channel.end.saturating_sub(name.len())..channel.end;
        Ok(Step::Message(Message {
            channel,
            content,
            size,
        }))
    }

    /// Gives up what has waited too long, and asks a silent redis whether it is still there. Not to be called while there
    /// are replies to be understood.
    ///
    /// # Errors
    /// The link is of no use.
    pub fn tick(&mut self, duty: Duty, now: Millis) -> Result<(), Fault> {
        let position = self.heard;
        let half = self.half(duty);
        let late = |asked: &Asked| now >= asked.at.saturating_add(PATIENCE);
        if half.asked.front().is_some_and(late) {
            return Err(Fault::of_one("it does not answer"));
        }
        match duty {
            Duty::Publish if half.up && now >= half.checked.saturating_add(SILENCE) => {
                half.checked = now;
                half.ask(What::Role, &[b"ROLE"], now);
            }
            Duty::Listen
                if half.up
                    && half.asked.is_empty()
                    && now >= half.heard.saturating_add(SILENCE) =>
            {
                half.ask(What::Ping(position), &[b"PING"], now);
            }
            _ => {}
        }
        Ok(())
    }

    /// Fails what was published too long ago and was not heard here.
    pub fn give_up(&mut self, now: Millis) {
        let late = |p: &Published| now >= p.at.saturating_add(PATIENCE);
        while self.published.front().is_some_and(late) {
            self.heard_one(Receipt::Failed);
        }
    }

    /// When [`Dialogue::tick`] or [`Dialogue::give_up`] has something to do, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let front = |half: &Half| half.asked.front().map(|a| a.at.saturating_add(PATIENCE));
        let (publisher, listener) = (&self.publisher, &self.listener);
        let check = publisher
            .up
            .then(|| publisher.checked.saturating_add(SILENCE));
        let silent = listener.up && listener.asked.is_empty();
        let silence = silent.then(|| listener.heard.saturating_add(SILENCE));
        let published = self.published.front();
        let heard = published.map(|p| p.at.saturating_add(PATIENCE));
        let all = [front(publisher), front(listener), check, silence, heard];
        all.into_iter().flatten().min()
    }

    /// A link is broken: what is outstanding fails.
    pub fn closed(&mut self, duty: Duty) {
        let half = std::mem::take(self.half(duty));
        if half.up {
            self.say_up(duty, false);
        }
        for asked in half.asked {
            match asked.what {
                What::Publish(Some(by)) => {
                    self.news.push_back(News::Published(by, Receipt::Failed));
                }
                What::Subscribe(channels, confirmed) => {
                    self.fail_subscriptions(channels.into_iter().skip(confirmed));
                }
                _ => {}
            }
        }
        if duty == Duty::Publish {
            return;
        }
        let subscribing = std::mem::take(&mut self.subscribing);
        self.fail_subscriptions(subscribing.into_iter());
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

    /// What was published first is done with.
    fn heard_one(&mut self, receipt: Receipt) {
        if let Some(published) = self.published.pop_front() {
            self.heard = self.heard.saturating_add(1);
            self.news.push_back(News::Published(published.by, receipt));
        }
    }
}

impl Half {
    fn ask(&mut self, what: What, parts: &[&[u8]], at: Millis) {
        resp::push_command(&mut self.out, parts);
        self.asked.push_back(Asked { at, what });
    }
}
