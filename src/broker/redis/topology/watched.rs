//! The master that sentinels name: asked for, followed, left.
//!
//! Owns: a scout at each sentinel. Knows: what follows from their answers ([`Sentinels`]). Never knows: how a link is made.

use super::links::LinkId;
use super::sentinels::Sentinels;
use super::{Discovery, Topology};
use crate::broker::news::News;
use crate::broker::redis::dialogue::Notice;
use crate::broker::redis::meaning;
use crate::broker::redis::scout::{Finding, Inquiry, Scout};
use crate::clock::Millis;
use crate::config::{Credentials, RedisAddress};
use crate::effect::ShardId;
use crate::wire::nodes::{MasterAnswer, NodeAddress};

/// The shard of the current master, whichever server that is.
const MASTER: ShardId = ShardId(0);

impl Topology {
    /// Sends out a scout to each sentinel.
    pub(super) fn watch(
        &mut self,
        addresses: &[RedisAddress],
        master: &str,
        credentials: Option<&Credentials>,
        now: Millis,
    ) {
        let sentinels = Sentinels::new(addresses.to_vec(), now);
        self.discovery = Discovery::Sentinels(Box::new(sentinels));
        self.news.push_back(News::Slots(0..=0, Some(MASTER)));
        for (nth, address) in addresses.iter().enumerate() {
            let inquiry = Inquiry::Master(master.to_owned());
            let scout = Scout::new(inquiry, credentials.cloned());
            self.send_out(nth, scout, address.clone());
        }
    }

    /// Asks the sentinels if that is due, and follows what they have answered.
    pub(super) fn turn_sentinels(&mut self, now: Millis) {
        let Discovery::Sentinels(sentinels) = &mut self.discovery else {
            return;
        };
        if sentinels.is_to_ask(now) {
            for (nth, scout) in self.scouts.iter_mut().enumerate() {
                if let Some(scout) = scout.as_mut().filter(|scout| scout.is_up()) {
                    scout.ask(now);
                    sentinels.asked(nth);
                }
            }
        }
        if let Some(master) = sentinels.decide(now) {
            self.follow(master, now);
        }
    }

    /// Takes what a scout has found.
    pub(super) fn take_findings(&mut self, nth: usize, now: Millis) {
        while let Some(finding) = self.scout_mut(nth).and_then(Scout::finding) {
            match finding {
                Finding::View(answer) => self.view_found(answer, now),
                Finding::Master(answer) => self.named(nth, answer, now),
                Finding::Switched(address) => {
                    let announced = self.reached(nth, &address);
                    if let (Discovery::Sentinels(sentinels), Some(address)) =
                        (&mut self.discovery, announced)
                        && let Some(master) = sentinels.announced(address)
                    {
                        self.follow(master, now);
                    }
                }
            }
        }
    }

    fn named(&mut self, nth: usize, answer: MasterAnswer, now: Millis) {
        let why = match &answer {
            MasterAnswer::At(_) => None,
            MasterAnswer::Unknown => Some("it knows no master of that name".to_owned()),
            MasterAnswer::Refused(why) => Some(meaning::shortened(why)),
        };
        if let Some(why) = why {
            let sentinel = self.address(LinkId::Scout(nth));
            let sentinel = sentinel.map_or(String::new(), RedisAddress::to_string);
            self.notices.push_back(Notice::NoMaster { sentinel, why });
        }
        let named = match answer {
            MasterAnswer::At(address) => self.reached(nth, &address),
            MasterAnswer::Unknown | MasterAnswer::Refused(_) => None,
        };
        if let Discovery::Sentinels(sentinels) = &mut self.discovery {
            sentinels.answer(nth, named, now);
            if let Some(master) = sentinels.decide(now) {
                self.follow(master, now);
            }
        }
    }

    /// An address as the sentinel has named it.
    fn reached(&self, nth: usize, address: &NodeAddress) -> Option<RedisAddress> {
        Topology::resolved(address, address.port, self.address(LinkId::Scout(nth)))
    }

    /// Leaves the former master for a new one.
    fn follow(&mut self, master: RedisAddress, now: Millis) {
        if self.master(MASTER).is_some() {
            self.remove(MASTER, now);
        }
        let added = self.add(master);
        debug_assert_eq!(added, Some(MASTER), "there is one at a time");
    }
}
