//! The masters of a cluster: found through its nodes' views, followed through what they say.
//!
//! Owns: what follows from views and redirections for masters and links. Knows: the [`Cluster`](super::cluster::Cluster).
//! Never knows: how a link is made.
//!
//! Decisions
//! - **A view without any slot is ignored**: it comes from a node that was reset, or is not in its cluster yet.
//! - **A master whose last slot has moved is left a little later**: until it learns of the move, it goes on publishing
//!   to its subscribers.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::cluster::{Cluster, Due, MOST_SHARDS};
use super::hash_slots::Change;
use super::links::{LinkId, Order};
use super::{Discovery, Master, Topology};
use crate::broker::news::News;
use crate::broker::redis::dialogue::{Hint, Moved, Notice};
use crate::broker::redis::scout::{Inquiry, Scout};
use crate::clock::Millis;
use crate::config::RedisAddress;
use crate::effect::{Receipt, ShardId};
use crate::wire::cluster_view::{ClusterView, Node, ViewAnswer, ViewForm};
use crate::wire::hash_slot::HASH_SLOTS;

/// How long links to a master without slots stay, in milliseconds.
const LINGER: Millis = 3_000;
/// The only scout at a time.
const SCOUT: usize = 0;
const NO_SLOTS: &str =
    "it names no master with a slot: it is in no cluster, or in one that is not complete";

impl Topology {
    fn cluster(&mut self) -> Option<&mut Cluster> {
        match &mut self.discovery {
            Discovery::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// Publishes again what has waited for that, and asks for a view if that is due.
    pub(super) fn turn_cluster(&mut self, now: Millis) {
        let Discovery::Cluster(cluster) = &mut self.discovery else {
            return;
        };
        while let Some(publication) = cluster.next_again(now) {
            self.news.push_back(News::Returned(publication));
        }
        let masters = self.masters.iter().flatten();
        let slow = masters.filter_map(|master| master.dialogue.slow_at());
        if let Some(at) = slow.filter(|at| now >= *at).max() {
            cluster.master_is_slow(at);
        }
        if cluster.due(now) == Due::NextCandidate {
            self.next_candidate(now);
        }
        self.leave_masters(now);
        if self.cluster().is_some_and(|it| it.due(now) == Due::Ask) {
            self.ask_view(now);
        }
    }

    /// Leaves masters that have had no slot for a while, or have none and are away or do not answer.
    fn leave_masters(&mut self, now: Millis) {
        for at in 0..self.masters.len() {
            if let Some(Some(master)) = self.masters.get(at)
                && let Some(leave_at) = master.leave_at
                && (now >= leave_at || !master.is_up() || master.is_slow(now))
            {
                self.remove(ShardId(at as u16), now);
            }
        }
    }

    /// Asks a master for its view, or sends out a scout.
    fn ask_view(&mut self, now: Millis) {
        let Discovery::Cluster(cluster) = &mut self.discovery else {
            return;
        };
        for at in cluster.turns(self.masters.len()) {
            if let Some(Some(master)) = self.masters.get_mut(at)
                && !master.is_slow(now)
                && master.leave_at.is_none()
                && master.dialogue.ask_view(cluster.form, now)
            {
                return cluster.shard_asked(at, now);
            }
        }
        let Some(address) = cluster.candidate().cloned() else {
            return;
        };
        cluster.scout_sent(LinkId::Scout(SCOUT), now);
        let inquiry = Inquiry::View(cluster.form);
        let scout = Scout::new(inquiry, self.identity.credentials.clone());
        self.send_out(SCOUT, scout, address);
    }

    /// Whether a slot has no master, or a master is away or does not answer.
    fn is_troubled(&mut self, now: Millis) -> bool {
        let well =
            |master: &Master| master.leave_at.is_some() || master.is_up() && !master.is_slow(now);
        let up = self.masters.iter().flatten().all(well);
        !up || self.cluster().is_none_or(|it| !it.slots.is_whole())
    }

    /// Closes the scout's link.
    fn call_back(&mut self) {
        if self.scouts.get_mut(SCOUT).and_then(Option::take).is_some() {
            self.orders.push_back(Order::Close(LinkId::Scout(SCOUT)));
        }
    }

    /// A scout got no view.
    pub(super) fn next_candidate(&mut self, now: Millis) {
        self.call_back();
        if let Discovery::Cluster(cluster) = &mut self.discovery {
            cluster.in_vain(&mut self.random, now);
        }
    }

    /// A scout has a node's view.
    pub(super) fn view_found(&mut self, answer: ViewAnswer, now: Millis) {
        let asked = self.address(LinkId::Scout(SCOUT)).cloned();
        if self.take_view(answer, asked.as_ref(), None, now) {
            self.call_back()
        } else {
            self.next_candidate(now)
        }
    }

    /// What a node has said of its cluster.
    pub(super) fn heed_node(&mut self, id: ShardId, hint: Hint, now: Millis) {
        let Discovery::Cluster(cluster) = &mut self.discovery else {
            return;
        };
        match hint {
            Hint::Ended(slot) => {
                let lost = cluster.slots.lost(slot, id, now);
                cluster.want_view(Some(id), now);
                self.push_slot_news(lost);
            }
            Hint::Moved(moved) => self.redirect(id, moved, now),
            Hint::Again(publication) => cluster.postpone(publication, now),
            Hint::Doubt => cluster.want_view(None, now),
            Hint::View(answer) => {
                let asked = self.master(id).map(|master| master.address.clone());
                self.take_view(answer, asked.as_ref(), Some(id), now);
            }
        }
    }

    fn push_slot_news(&mut self, changes: impl IntoIterator<Item = Change>) {
        let news = changes.into_iter();
        self.news
            .extend(news.map(|(slots, shard)| News::Slots(slots, shard)));
    }

    /// Something was refused as another node has the slot. It is asked for again there, within limits.
    fn redirect(&mut self, id: ShardId, moved: Moved, now: Millis) {
        let Discovery::Cluster(cluster) = &mut self.discovery else {
            return;
        };
        let follow = cluster.slots.may_move(moved.slot, id, now);
        // A late answer of a former owner says nothing new.
        let current = cluster.slots.owner(moved.slot).is_none_or(|it| it == id);
        cluster.want_view(None, now);
        if follow && current {
            let asked = self.master(id).map(|master| master.address.clone());
            let to = moved.to.as_ref();
            let to = to.and_then(|node| Topology::resolved(node, node.port, asked.as_ref()));
            let to = to.and_then(|address| self.find_or_add(address));
            let change = self.cluster().and_then(|cluster| match to {
                Some(to) if to != id => cluster.slots.assign(moved.slot, to),
                _ => cluster.slots.lost(moved.slot, id, now),
            });
            self.push_slot_news(change);
        }
        let receipt = || {
            if follow {
                Receipt::Failed
            } else {
                Receipt::Refused(Rc::clone(&moved.words))
            }
        };
        if let Some(publication) = moved.publication {
            self.news.push_back(if follow {
                News::Returned(*publication)
            } else {
                News::Published(publication.from, receipt())
            });
        }
        for channel in moved.subscriptions {
            self.news.push_back(News::Subscribed(channel.id, receipt()));
        }
    }

    fn find_or_add(&mut self, address: RedisAddress) -> Option<ShardId> {
        let same = |it: &Option<Master>| it.as_ref().is_some_and(|it| it.address == address);
        match self.masters.iter().position(same) {
            Some(at) => {
                if let Some(Some(master)) = self.masters.get_mut(at) {
                    master.leave_at = None;
                }
                Some(ShardId(at as u16))
            }
            None => self.add(address),
        }
    }

    /// Takes the answer of a node, which is at `asked` and perhaps a shard. Returns whether it was of use.
    fn take_view(
        &mut self,
        answer: ViewAnswer,
        asked: Option<&RedisAddress>,
        from: Option<ShardId>,
        now: Millis,
    ) -> bool {
        let why = match answer {
            ViewAnswer::View(view) => self.apply(&view, asked, from, now),
            ViewAnswer::Refused(why) => {
                if let Some(cluster) = self.cluster() {
                    // It may know, or allow, only the other question.
                    cluster.form = match cluster.form {
                        ViewForm::Shards => ViewForm::Slots,
                        ViewForm::Slots => ViewForm::Shards,
                    };
                }
                Err(why)
            }
        };
        let troubled = self.is_troubled(now);
        if let Discovery::Cluster(cluster) = &mut self.discovery {
            cluster.answered(why.is_ok(), troubled, &mut self.random, now);
        }
        let useful = why.is_ok();
        if let Err(why) = why {
            let node = asked.map_or(String::new(), RedisAddress::to_string);
            self.notices.push_back(Notice::RefusedView { node, why });
        }
        useful
    }

    /// Follows a view.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn apply(
        &mut self,
        view: &ClusterView,
        asked: Option<&RedisAddress>,
        from: Option<ShardId>,
        now: Millis,
    ) -> Result<(), String> {
        let tls = self.cluster().is_some_and(|cluster| cluster.tls);
        let place = |node: &Node| {
            let tls_port = node.tls_port.filter(|_| tls);
            let port = tls_port.unwrap_or(node.address.port);
            Topology::resolved(&node.address, port, asked)
        };
        let mut owners: BTreeMap<RedisAddress, Vec<usize>> = BTreeMap::new();
        for (nth, shard) in view.iter().enumerate() {
            if let Some(address) = shard.master.as_ref().and_then(place)
                && !shard.slots.is_empty()
            {
                owners.entry(address).or_default().push(nth);
            }
        }
        match owners.len() {
            0 => return Err(NO_SLOTS.to_owned()),
            1..=MOST_SHARDS => {}
            count => {
                let why = format!("it names {count} masters: at most {MOST_SHARDS} are supported");
                return Err(why);
            }
        }
        let table = self.table(view, owners);
        let nodes = view
            .iter()
            .flat_map(|it| it.master.iter().chain(&it.replicas));
        let Some(cluster) = self.cluster() else {
            return Ok(());
        };
        cluster.remember(nodes.filter_map(place));
        let changes = cluster.slots.view(&table, from, now);
        let needed = cluster.slots.shards();
        self.push_slot_news(changes);
        for (at, master) in self.masters.iter_mut().enumerate() {
            let Some(master) = master else {
                continue;
            };
            let leave_at = now.saturating_add(LINGER);
            master.leave_at = if needed.contains(&ShardId(at as u16)) {
                None
            } else {
                Some(master.leave_at.unwrap_or(leave_at))
            };
        }
        self.leave_masters(now);
        Ok(())
    }

    /// The shard of each slot in a view, of which `owners` are the masters and their places in it. New ones are added.
    fn table(
        &mut self,
        view: &ClusterView,
        owners: BTreeMap<RedisAddress, Vec<usize>>,
    ) -> Vec<Option<ShardId>> {
        let masters = self.masters.iter().enumerate();
        let known = masters.filter_map(|(at, master)| {
            let address = master.as_ref()?.address.clone();
            Some((address, ShardId(at as u16)))
        });
        let known: BTreeMap<RedisAddress, ShardId> = known.collect();
        let mut table = vec![None; usize::from(HASH_SLOTS)];
        for (address, places) in owners {
            let id = known.get(&address).copied();
            let id = id.or_else(|| self.add(address));
            let shards = places.iter().filter_map(|&nth| view.get(nth));
            for slot in shards
                .flat_map(|shard| shard.slots.iter().cloned())
                .flatten()
            {
                if let Some(owner) = table.get_mut(usize::from(slot)) {
                    *owner = id;
                }
            }
        }
        table
    }
}
