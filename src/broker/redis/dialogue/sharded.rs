//! Replies that only a node of a cluster sends: redirections, subscriptions that it has ended, its view of the cluster.
//!
//! Owns: what follows for what is outstanding. Knows: slots. Never knows: which other nodes there are.
//!
//! Decision: a slot that is about to move (`ASK`, `TRYAGAIN`) is asked again a little later, rather than asking its
//! next node. A message that is published there reaches no member, because members listen here.

use std::rc::Rc;

use super::{Dialogue, Duty, Hint, Moved, RedisKind, SentPublication, What};
use crate::broker::news::News;
use crate::broker::redis::conversation::LinkFault;
use crate::broker::redis::meaning;
use crate::clock::Millis;
use crate::effect::{Receipt, Subscription};
use crate::wire::cluster_view::{self, ViewForm};
use crate::wire::nodes::ClusterError;
use crate::wire::resp::{self, Malformed, RedisReply, RedisValue};

/// What the version stands behind in the answer to `INFO`.
const VERSIONS: [(&str, &str); 2] = [("valkey_version:", "valkey "), ("redis_version:", "redis ")];

impl Dialogue {
    /// Asks the node how it sees its cluster; the answer is a [`Hint`]. Returns whether it can be asked.
    pub fn ask_view(&mut self, form: ViewForm, now: Millis) -> bool {
        if self.publisher.up {
            let what = What::View(form);
            self.publisher.talk.ask(what, &form.question(), now);
        }
        self.publisher.up
    }

    /// Handles an answer that is read in a way of its own, and how long it is. `None`: no such answer is awaited.
    pub(super) fn handle_sharded_reply(
        &mut self,
        duty: Duty,
        bytes: &[u8],
    ) -> Option<Result<Option<usize>, LinkFault>> {
        let read = match self.half(duty).talk.asked.front()?.what {
            What::View(form) => cluster_view::read_view(form, bytes).map(|read| {
                let (answer, size) = read?;
                self.hints.push_back(Hint::View(answer));
                Some(size)
            }),
            What::Info => resp::value(bytes, 0).map(|read| {
                let (value, size) = read?;
                if let RedisValue::Text(range) = value {
                    let text = String::from_utf8_lossy(bytes.get(range).unwrap_or_default());
                    self.facts.version = version(&text);
                }
                Some(size)
            }),
            _ => return None,
        };
        Some(match read {
            Ok(None) => Ok(None),
            Ok(size) => {
                self.half(duty).talk.asked.pop_front();
                Ok(size)
            }
            Err(Malformed) => Err(LinkFault::of_one(meaning::OTHER)),
        })
    }

    /// Whether redis has ended a subscription by itself with this reply. Then its slot has another node, and it is not known
    /// whether the members here hear what was published meanwhile.
    pub(super) fn ended_unasked(&mut self, duty: Duty, reply: &RedisReply, bytes: &[u8]) -> bool {
        let RedisReply::Unsubscribed(range) = reply else {
            return false;
        };
        if !self.is_sharded() || duty == Duty::Publish {
            return false;
        }
        let name = self.unprefixed(bytes.get(range.clone()).unwrap_or_default());
        let name = name.unwrap_or_default();
        if let Some(What::Unsubscribe(channels, _)) =
            self.listener.talk.asked.front().map(|asked| &asked.what)
            && channels.iter().any(|channel| channel.as_str() == name)
        {
            return false;
        }
        let slot = self.slot(name);
        for published in self.published.iter_mut().filter(|it| it.slot == slot) {
            let by = published.by.take();
            self.news
                .extend(by.map(|by| News::Published(by, Receipt::Failed)));
        }
        for asked in &mut self.publisher.talk.asked {
            if let What::Publish(sent) = &mut asked.what
                && sent.slot == slot
            {
                sent.doubtful = true;
            }
        }
        self.hints.push_back(Hint::Ended(slot));
        true
    }

    /// What is to be done with a publication that was refused with these words, unless that is a hint. `Some`: it is refused.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub(super) fn redirect_publication(
        &mut self,
        mut sent: SentPublication,
        words: &str,
    ) -> Result<Option<SentPublication>, LinkFault> {
        if !self.is_sharded() {
            return Ok(Some(sent));
        }
        // What nothing waits for has been given up.
        let kept = sent.kept.take().filter(|_| sent.by.is_some());
        match (ClusterError::parse(words), kept) {
            (ClusterError::Moved(slot, to), publication) => {
                let words = self.words(words);
                self.hints.push_back(Hint::Moved(Moved {
                    slot,
                    to,
                    publication,
                    subscriptions: Vec::new(),
                    words,
                }));
                Ok(None)
            }
            (ClusterError::Again, kept) => {
                self.hints.extend(kept.map(Hint::Again));
                Ok(None)
            }
            (ClusterError::Down, _) => {
                self.hints.push_back(Hint::Doubt);
                Ok(Some(sent))
            }
            (ClusterError::Replica, _) => {
                if let Some(by) = sent.by {
                    let receipt = Receipt::Refused(self.words(words));
                    self.news.push_back(News::Published(by, receipt));
                }
                Err(self.is_a_replica())
            }
            (ClusterError::Other, _) => Ok(Some(sent)),
        }
    }

    /// The same for channels to be subscribed, all of one slot.
    ///
    /// # Errors
    /// Why the link has to be closed.
    pub(super) fn redirect_channels(
        &mut self,
        channels: Vec<Subscription>,
        words: &str,
    ) -> Result<Option<Vec<Subscription>>, LinkFault> {
        if !self.is_sharded() {
            return Ok(Some(channels));
        }
        match ClusterError::parse(words) {
            ClusterError::Moved(slot, to) => {
                let words = self.words(words);
                self.hints.push_back(Hint::Moved(Moved {
                    slot,
                    to,
                    publication: None,
                    subscriptions: channels,
                    words,
                }));
                Ok(None)
            }
            // Their slot is what is refused: none of them would be taken alone.
            ClusterError::Again | ClusterError::Down => {
                self.hints.push_back(Hint::Doubt);
                let words = self.words(words);
                for channel in channels {
                    let receipt = Receipt::Refused(Rc::clone(&words));
                    self.news.push_back(News::Subscribed(channel.id, receipt));
                }
                Ok(None)
            }
            ClusterError::Replica => {
                self.fail_subscriptions(channels.into_iter());
                Err(self.is_a_replica())
            }
            ClusterError::Other => Ok(Some(channels)),
        }
    }

    fn is_a_replica(&self) -> LinkFault {
        debug_assert_eq!(self.identity.kind, RedisKind::Shard);
        LinkFault {
            why: super::replies::FORMER_MASTER.to_owned(),
            both: true,
        }
    }
}

/// The server's name and version in its answer to `INFO`.
fn version(info: &str) -> Option<String> {
    VERSIONS.into_iter().find_map(|(before, name)| {
        let version = info.lines().find_map(|line| line.strip_prefix(before))?;
        Some(format!("{name}{}", meaning::shortened(version.trim())))
    })
}
