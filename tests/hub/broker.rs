//! redis and the two links to it, moved step by step by the test.
//!
//! Owns: what is on its way in each direction, and what redis knows. Behaves as redis and `src/redis.rs` do together: each
//! link keeps its order, a message comes before the receipt of who published it, and what is outstanding when a link
//! breaks fails some time later.

use std::collections::{BTreeSet, VecDeque};

use wsify::effect::{ConnId, Effect, Publication, Receipt, Subscription, SubscriptionId};

use super::house::House;

/// What redis refuses something with.
pub const NO: &str = "NOPERM not for you";

/// What redis is asked for on the listening link.
#[derive(Debug)]
enum Change {
    Subscribe(Subscription),
    Unsubscribe(String),
}

/// What comes on the listening link.
#[derive(Debug)]
enum Coming {
    Subscribed(SubscriptionId),
    /// redis would not subscribe it.
    Refused(SubscriptionId),
    Message(String, String),
    /// All that this connection has published has come.
    Heard(ConnId),
}

#[derive(Debug)]
enum Failed {
    Published(ConnId),
    /// redis would not publish it.
    Refused(ConnId),
    Subscribed(SubscriptionId),
}

#[derive(Debug, Default)]
pub struct Broker {
    pub publishing: bool,
    pub listening: bool,
    /// On their way to redis. Nobody waits any more for what has no publisher.
    publications: VecDeque<(Option<ConnId>, String, String)>,
    changes: VecDeque<Change>,
    pub subscribed: BTreeSet<String>,
    coming: VecDeque<Coming>,
    failed: VecDeque<Failed>,
    /// Refused subscriptions that the hub was told of.
    pub refusals: usize,
}

impl Broker {
    /// A house that shares its channels, with both links up.
    pub fn up(house: &mut House) -> Broker {
        house.hub.share();
        let mut broker = Broker::default();
        broker.mend_publishing(house);
        broker.mend_listening(house);
        broker.settle(house);
        assert!(house.hub.is_broker_up());
        broker
    }

    /// Goes on with the house, and takes what it wants.
    pub fn run(&mut self, house: &mut House) {
        house.run();
        self.take(house);
    }

    pub fn take(&mut self, house: &mut House) {
        for effect in house.effects.drain(..) {
            match effect {
                Effect::Ask(_) | Effect::Withdraw(_) => unreachable!("the house keeps questions"),
                Effect::Publish(publication) => self.publish(publication),
                Effect::Subscribe(wanted) if self.listening => {
                    self.changes.push_back(Change::Subscribe(wanted));
                }
                Effect::Subscribe(wanted) => self.failed.push_back(Failed::Subscribed(wanted.id)),
                Effect::Unsubscribe(channel) if self.listening => {
                    let name = channel.as_str().to_owned();
                    self.changes.push_back(Change::Unsubscribe(name));
                }
                Effect::Unsubscribe(_) => {}
            }
        }
    }

    fn publish(&mut self, publication: Publication) {
        let Publication {
            from,
            channel,
            content,
        } = publication;
        if !self.publishing || !self.listening {
            return self.failed.push_back(Failed::Published(from));
        }
        let content = String::from_utf8(content.into()).expect("JSON is UTF-8");
        let name = channel.as_str().to_owned();
        self.publications.push_back((Some(from), name, content));
    }

    /// redis publishes what it has got next. Returns it.
    pub fn execute_publication(&mut self) -> Option<(String, String)> {
        let (by, channel, content) = self.publications.pop_front()?;
        self.foreign(&channel, &content);
        self.coming.extend(by.map(Coming::Heard));
        Some((channel, content))
    }

    /// redis publishes for somebody else.
    pub fn foreign(&mut self, channel: &str, content: &str) {
        if self.listening && self.subscribed.contains(channel) {
            let message = Coming::Message(channel.to_owned(), content.to_owned());
            self.coming.push_back(message);
        }
    }

    /// redis subscribes or unsubscribes what it was asked for next.
    pub fn execute_change(&mut self) -> bool {
        match self.changes.pop_front() {
            None => return false,
            Some(Change::Subscribe(wanted)) => {
                self.subscribed.insert(wanted.channel.as_str().to_owned());
                self.coming.push_back(Coming::Subscribed(wanted.id));
            }
            Some(Change::Unsubscribe(channel)) => {
                self.subscribed.remove(&channel);
            }
        }
        true
    }

    /// redis refuses what it was asked for next, if that is a subscription. Returns whether it was.
    pub fn refuse_change(&mut self) -> bool {
        match self.changes.front() {
            Some(Change::Subscribe(wanted)) => {
                self.coming.push_back(Coming::Refused(wanted.id));
                self.changes.pop_front();
                true
            }
            _ => false,
        }
    }

    /// redis refuses to publish what it has got next. Returns whether there was something.
    pub fn refuse_publication(&mut self) -> bool {
        let Some((by, ..)) = self.publications.pop_front() else {
            return false;
        };
        self.failed.extend(by.map(Failed::Refused));
        true
    }

    /// The hub is told what comes next. Returns the message, if it was one.
    pub fn bring(&mut self, house: &mut House) -> Option<(String, String)> {
        match self.coming.pop_front()? {
            Coming::Subscribed(id) => house.hub.subscribed(id, Receipt::Confirmed),
            Coming::Refused(id) => {
                self.refusals += 1;
                house.hub.subscribed(id, Receipt::Refused(NO.into()));
            }
            Coming::Heard(by) => house.hub.receipt(by, Receipt::Confirmed),
            Coming::Message(channel, content) => {
                if house.hub.arrived(&channel, content.as_bytes()) {
                    return Some((channel, content));
                }
                let message = Coming::Message(channel, content);
                self.coming.push_front(message);
            }
        }
        None
    }

    /// The hub is told of one of the things that have failed.
    pub fn fail(&mut self, house: &mut House, which: usize) {
        let which = which % self.failed.len().max(1);
        match self.failed.remove(which) {
            None => {}
            Some(Failed::Published(by)) => house.hub.receipt(by, Receipt::Failed),
            Some(Failed::Refused(by)) => house.hub.receipt(by, Receipt::Refused(NO.into())),
            Some(Failed::Subscribed(id)) => house.hub.subscribed(id, Receipt::Failed),
        }
    }

    pub fn break_publishing(&mut self, house: &mut House) {
        if std::mem::take(&mut self.publishing) {
            let lost = self.publications.drain(..).filter_map(|(by, ..)| by);
            self.failed.extend(lost.map(Failed::Published));
            house.hub.set_publishing(false);
        }
    }

    pub fn break_listening(&mut self, house: &mut House) {
        if std::mem::take(&mut self.listening) {
            self.subscribed.clear();
            for coming in self.coming.drain(..) {
                match coming {
                    Coming::Subscribed(id) | Coming::Refused(id) => {
                        self.failed.push_back(Failed::Subscribed(id))
                    }
                    Coming::Heard(by) => self.failed.push_back(Failed::Published(by)),
                    Coming::Message(..) => {}
                }
            }
            for change in self.changes.drain(..) {
                if let Change::Subscribe(wanted) = change {
                    self.failed.push_back(Failed::Subscribed(wanted.id));
                }
            }
            for (by, ..) in &mut self.publications {
                self.failed.extend(by.take().map(Failed::Published));
            }
            house.hub.set_listening(false);
        }
    }

    pub fn mend_publishing(&mut self, house: &mut House) {
        if !std::mem::replace(&mut self.publishing, true) {
            house.hub.set_publishing(true);
        }
    }

    pub fn mend_listening(&mut self, house: &mut House) {
        if !std::mem::replace(&mut self.listening, true) {
            house.hub.set_listening(true);
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.publications.is_empty()
            && self.changes.is_empty()
            && self.coming.is_empty()
            && self.failed.is_empty()
    }

    /// Everything takes its course, until nothing is under way. Returns what was published on the way.
    pub fn settle(&mut self, house: &mut House) {
        loop {
            self.run(house);
            if self.is_quiet() {
                return;
            }
            while self.execute_change() || self.execute_publication().is_some() {}
            self.fail(house, 0);
            self.bring(house);
        }
    }
}
