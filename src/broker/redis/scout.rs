//! A link that asks where redis is: a sentinel for the master, or a node of a cluster for its view.
//!
//! Owns: what is outstanding on that link, and the bytes to be sent. Knows: the commands of sentinels, and how a view is
//! asked for. Never knows: sockets, clocks, or what is done with the answers.
//!
//! Decision: a sentinel is asked and listened to on one link, rather than two. A subscribed link may not ask in version
//! 2 of the protocol, so the subscription is ended for each question. What is announced meanwhile is in the answer.

mod saved;

use std::collections::VecDeque;

pub use self::saved::SavedScout;
use super::conversation::{Conversation, LinkFault, Outstanding};
use super::dialogue::Progress;
use super::meaning::{self, Meaning};
use crate::clock::Millis;
use crate::config::Credentials;
use crate::wire::cluster_view::{self, ViewAnswer, ViewForm};
use crate::wire::nodes::{self, MasterAnswer, NodeAddress};
use crate::wire::resp::{self, Malformed, RedisReply};

/// What sentinels announce a new master on.
const ANNOUNCEMENTS: &[u8] = b"+switch-master";
/// The silence after which a sentinel is asked whether it is still there.
const SILENCE: Millis = 5_000;

/// What a scout asks for.
#[derive(Clone, Debug)]
pub enum Inquiry {
    /// Where the master of this name is, now and whenever that changes.
    Master(String),
    /// How a node sees its cluster.
    View(ViewForm),
}

/// What it has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    Master(MasterAnswer),
    /// There is a new master.
    Switched(NodeAddress),
    View(ViewAnswer),
}

#[derive(Debug)]
enum Awaited {
    Login {
        alone_next: bool,
    },
    /// An answer that changes nothing.
    Aside,
    Master,
    View(ViewForm),
    /// Whether it is still there. Any answer says so, an error of an ACL too.
    Ping,
}

#[derive(Debug)]
pub struct Scout {
    inquiry: Inquiry,
    credentials: Option<Credentials>,
    talk: Conversation<Awaited>,
    /// Its handshake is complete.
    up: bool,
    subscribed: bool,
    findings: VecDeque<Finding>,
}

impl Scout {
    pub fn new(inquiry: Inquiry, credentials: Option<Credentials>) -> Scout {
        Scout {
            inquiry,
            credentials,
            talk: Conversation::default(),
            up: false,
            subscribed: false,
            findings: VecDeque::new(),
        }
    }

    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.talk.out
    }

    /// What it has found next.
    pub fn finding(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// Whether it may be asked.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// The link can be used.
    pub fn opened(&mut self, now: Millis) {
        self.talk.heard = now;
        match &self.credentials {
            Some(credentials) => {
                let alone_next = credentials.user.is_none();
                let what = Awaited::Login { alone_next };
                meaning::log_in(&mut self.talk, what, credentials, true, now);
            }
            None => self.introduce(now),
        }
    }

    /// The link is broken.
    pub fn closed(&mut self) {
        self.talk = Conversation::default();
        (self.up, self.subscribed) = (false, false);
    }

    fn introduce(&mut self, now: Millis) {
        self.up = true;
        let name = [b"CLIENT".as_slice(), b"SETNAME", b"wsify-scouts"];
        self.talk.ask(Awaited::Aside, &name, now);
        self.ask(now);
    }

    /// Asks what it is out for, again.
    pub fn ask(&mut self, now: Millis) {
        match &self.inquiry {
            Inquiry::Master(name) => {
                if std::mem::replace(&mut self.subscribed, true) {
                    let end = [b"UNSUBSCRIBE".as_slice(), ANNOUNCEMENTS];
                    self.talk.ask(Awaited::Aside, &end, now);
                }
                let question = [
                    b"SENTINEL".as_slice(),
                    b"GET-MASTER-ADDR-BY-NAME",
                    name.as_bytes(),
                ];
                self.talk.ask(Awaited::Master, &question, now);
                let watch = [b"SUBSCRIBE".as_slice(), ANNOUNCEMENTS];
                self.talk.ask(Awaited::Aside, &watch, now);
            }
            Inquiry::View(form) => {
                self.talk.ask(Awaited::View(*form), &form.question(), now);
            }
        }
    }

    /// Handles the reply at the start of `bytes`.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub fn handle_reply(&mut self, bytes: &[u8], now: Millis) -> Result<Progress, LinkFault> {
        let front = self.talk.asked.front().map(|asked| &asked.what);
        let step = match front {
            Some(Awaited::View(form)) => cluster_view::read_view(*form, bytes)
                .map(|read| read.map(|(answer, size)| (Finding::View(answer), size))),
            Some(Awaited::Master) => nodes::read_master(bytes)
                .map(|read| read.map(|(answer, size)| (Finding::Master(answer), size))),
            _ => return self.handle_plain_reply(bytes, now),
        };
        let (finding, size) = match step {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Progress::Starved),
            Err(Malformed) => return Err(LinkFault::of_one(meaning::OTHER)),
        };
        self.talk.heard = now;
        self.talk.asked.pop_front();
        self.findings.push_back(finding);
        Ok(Progress::Handled(size))
    }

    fn handle_plain_reply(&mut self, bytes: &[u8], now: Millis) -> Result<Progress, LinkFault> {
        let (reply, size) = match resp::read(bytes) {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(Progress::Starved),
            Err(Malformed) => return Err(LinkFault::of_one(meaning::NO_REDIS)),
        };
        self.talk.heard = now;
        let step = Ok(Progress::Handled(size));
        if let RedisReply::Message { content, .. } = &reply {
            if let Inquiry::Master(name) = &self.inquiry {
                let content = bytes.get(content.clone()).unwrap_or_default();
                let switched = nodes::switched(name, content);
                self.findings.extend(switched.map(Finding::Switched));
            }
            return step;
        }
        let meaning = Meaning::new(&reply, bytes);
        meaning::check_turned_away(&meaning)?;
        let Some(Outstanding { what, .. }) = self.talk.asked.pop_front() else {
            return Err(LinkFault::of_one(match meaning {
                Meaning::Error(why) => why,
                _ => meaning::UNASKED.to_owned(),
            }));
        };
        if let Awaited::Login { alone_next } = what {
            self.logged_in(meaning, alone_next, now)?;
        }
        step
    }

    fn logged_in(
        &mut self,
        meaning: Meaning,
        alone_next: bool,
        now: Millis,
    ) -> Result<(), LinkFault> {
        let whose = match self.inquiry {
            Inquiry::Master(_) => "sentinel_user and sentinel_password",
            Inquiry::View(_) => "the user and the password",
        };
        match (
            meaning::logged_in(meaning, alone_next, whose)?,
            &self.credentials,
        ) {
            (false, Some(credentials)) => {
                let what = Awaited::Login { alone_next: false };
                meaning::log_in(&mut self.talk, what, credentials, false, now);
            }
            _ => self.introduce(now),
        }
        Ok(())
    }

    /// Gives up what is too late, and asks a silent sentinel whether it is still there.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub fn tick(&mut self, now: Millis) -> Result<(), LinkFault> {
        self.talk.check_timeout(now)?;
        if self.silent_at().is_some_and(|at| now >= at) {
            self.talk.ask(Awaited::Ping, &[b"PING"], now);
        }
        Ok(())
    }

    fn silent_at(&self) -> Option<Millis> {
        let silent = self.up && self.talk.asked.is_empty();
        silent.then(|| self.talk.heard.saturating_add(SILENCE))
    }

    /// When [`Scout::tick`] has something to do, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.talk
            .late_at()
            .into_iter()
            .chain(self.silent_at())
            .min()
    }
}
