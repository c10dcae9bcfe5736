//! Several nodes on one scripted broker.
//!
//! Owns: the nodes' rigs, what each has subscribed, and what is on its way to each, in order. Messages move when the test
//! moves them. A receipt comes behind the message that it is for, as in the driver.

use std::collections::{BTreeSet, VecDeque};

use wsify::clock::Millis;
use wsify::effect::{Effect, PublishedBy, Receipt, ShardId};
use wsify::hub::Settings;
use wsify::metrics::Counters;
use wsify::wire::node_message::envelope::NodeSeal;

use super::client::{Client, get};
use super::rig::{Rig, settings};

pub const SHARD: ShardId = ShardId(0);
/// Turns after which nodes that never come to rest count as spinning.
const SPIN: usize = 100_000;

/// What is on its way to a node.
#[derive(Debug)]
enum Coming {
    Message(String, Vec<u8>),
    Receipt(PublishedBy, Receipt),
    /// The end of a subscription.
    Unsubscribed(String),
}

pub struct Node {
    pub rig: Rig,
    /// `None`: it has no broker.
    seal: Option<NodeSeal>,
    pub subscribed: BTreeSet<String>,
    coming: VecDeque<Coming>,
    /// It gets no turn.
    pub hangs: bool,
    /// The broker does nothing for it.
    pub waits: bool,
    /// The broker answers this to subscriptions and publications.
    pub subscribing: Receipt,
    /// Only for this channel. `None`: for all.
    pub subscribing_to: Option<String>,
    pub publishing: Receipt,
}

#[derive(Default)]
pub struct Fleet {
    pub nodes: Vec<Node>,
    /// What was published on the channels of the nodes.
    pub said: Vec<(String, Vec<u8>)>,
}

impl Node {
    fn new(rig: Rig, seal: Option<NodeSeal>) -> Node {
        Node {
            rig,
            seal,
            subscribed: BTreeSet::new(),
            coming: VecDeque::new(),
            hangs: false,
            waits: false,
            subscribing: Receipt::Confirmed,
            subscribing_to: None,
            publishing: Receipt::Confirmed,
        }
    }
}

impl Fleet {
    /// This many nodes with the same key, which know each other.
    pub fn of(count: usize) -> Fleet {
        Fleet::with(count, Some("key"), |_| {})
    }

    /// The same with this key, and with settings that `change` has changed.
    pub fn with(count: usize, key: Option<&str>, change: impl Fn(&mut Settings)) -> Fleet {
        let mut fleet = Fleet::default();
        for _ in 0..count {
            fleet.add_with(key, &change);
        }
        fleet.pass(600);
        fleet
    }

    /// Another node, which is up.
    pub fn add(&mut self, key: Option<&str>) -> usize {
        self.add_with(key, |_| {})
    }

    fn add_with(&mut self, key: Option<&str>, change: impl Fn(&mut Settings)) -> usize {
        let mut settings = Settings {
            instance: self.nodes.len() as u64 + 1,
            authorizer: true,
            ..settings()
        };
        change(&mut settings);
        self.add_rig(key, Rig::with(settings))
    }

    pub fn add_rig(&mut self, key: Option<&str>, mut rig: Rig) -> usize {
        if let Some(first) = self.nodes.first() {
            rig.hub.clock.now = first.rig.hub.clock.now;
        }
        rig.hub.share(None);
        let seal = NodeSeal::new(key, "");
        rig.hub.meet_nodes(seal.clone());
        rig.hub.name_shard(SHARD, Some("redis".into()));
        rig.hub.assign_slots(0..=0, Some(SHARD));
        rig.hub.set_publishing(SHARD, true);
        rig.hub.set_listening(SHARD, true);
        self.nodes.push(Node::new(rig, Some(seal)));
        self.settle();
        self.nodes.len() - 1
    }

    /// One node, without a broker.
    pub fn alone(rig: Rig) -> Fleet {
        Fleet {
            nodes: vec![Node::new(rig, None)],
            said: Vec::new(),
        }
    }

    pub fn rig(&mut self, node: usize) -> &mut Rig {
        &mut self.nodes[node].rig
    }

    /// Another program takes over a node.
    pub fn hand_over(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.rig.hand_over();
        if let Some(seal) = &node.seal {
            node.rig.hub.meet_nodes(seal.clone());
        }
    }

    /// Another program, or a node, publishes.
    pub fn publish(&mut self, channel: &str, content: &[u8]) {
        if channel.starts_with("wsify:") {
            self.said.push((channel.to_owned(), content.to_vec()));
        }
        for node in &mut self.nodes {
            if node.subscribed.contains(channel) {
                let message = Coming::Message(channel.to_owned(), content.to_vec());
                node.coming.push_back(message);
            }
        }
    }

    /// The listening link of a node breaks, and what was on its way is lost.
    pub fn break_listening(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.subscribed.clear();
        node.coming.retain(|it| !matches!(it, Coming::Message(..)));
        for coming in &mut node.coming {
            if let Coming::Receipt(_, receipt) = coming {
                *receipt = Receipt::Failed;
            }
        }
        node.rig.hub.set_listening(SHARD, false);
    }

    pub fn mend_listening(&mut self, node: usize) {
        self.nodes[node].rig.hub.set_listening(SHARD, true);
    }

    /// The broker takes what a node wants.
    pub fn take(&mut self, at: usize) {
        let effects: Vec<Effect> = self.nodes[at].rig.effects.drain(..).collect();
        for effect in effects {
            let node = &mut self.nodes[at];
            match effect {
                Effect::Subscribe(wanted) => {
                    let only = node.subscribing_to.as_deref();
                    let receipt = if only.is_none_or(|only| only == wanted.channel.as_str()) {
                        node.subscribing.clone()
                    } else {
                        Receipt::Confirmed
                    };
                    if receipt == Receipt::Confirmed {
                        node.subscribed.insert(wanted.channel.to_string());
                    }
                    node.rig.hub.subscribed(wanted.id, receipt);
                }
                Effect::Unsubscribe(channel) => {
                    node.subscribed.remove(channel.as_str());
                    let unsubscribed = Coming::Unsubscribed(channel.to_string());
                    node.coming.push_back(unsubscribed);
                }
                Effect::Publish(publication) => {
                    let receipt = node.publishing.clone();
                    if receipt == Receipt::Confirmed {
                        self.publish(publication.channel.as_str(), &publication.content);
                    }
                    let receipt = Coming::Receipt(publication.from, receipt);
                    self.nodes[at].coming.push_back(receipt);
                }
                other => unreachable!("the rig keeps {other:?}"),
            }
        }
    }

    /// Brings the next message or receipt to a node, if it takes it.
    pub fn bring(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        match node.coming.pop_front() {
            None => false,
            Some(Coming::Receipt(from, receipt)) => {
                node.rig.hub.receipt(from, receipt);
                true
            }
            Some(Coming::Unsubscribed(channel)) => {
                node.rig.hub.unsubscribed(&channel);
                true
            }
            Some(Coming::Message(channel, content)) => {
                let taken = node.rig.hub.arrived(&channel, &content);
                if !taken {
                    node.coming.push_front(Coming::Message(channel, content));
                }
                taken
            }
        }
    }

    /// What is on its way to a node.
    pub fn coming(&self, at: usize) -> usize {
        self.nodes[at].coming.len()
    }

    /// Moves everything along until nothing is on its way, but to nodes that hang or wait.
    pub fn settle(&mut self) {
        for _ in 0..SPIN {
            let mut moved = false;
            for at in 0..self.nodes.len() {
                if !self.nodes[at].hangs {
                    self.nodes[at].rig.run();
                    // What was put off comes in another turn.
                    self.nodes[at].rig.tick();
                    if !self.nodes[at].waits {
                        moved |= !self.nodes[at].rig.effects.is_empty();
                        self.take(at);
                        while self.bring(at) {
                            moved = true;
                        }
                    }
                }
            }
            let quiet = |node: &Node| {
                let all_came = node.rig.effects.is_empty() && node.coming.is_empty();
                node.hangs || !node.rig.has_work() && (node.waits || all_came)
            };
            // What has come is followed by a turn.
            if !moved && self.nodes.iter().all(quiet) {
                return;
            }
        }
        panic!("the nodes do not come to rest");
    }

    /// Lets time pass on all nodes, from deadline to deadline.
    pub fn pass(&mut self, time: Millis) {
        let until = self.now() + time;
        loop {
            self.settle();
            let awake = self.nodes.iter().filter(|node| !node.hangs);
            let next = awake.filter_map(|node| node.rig.hub.next_deadline()).min();
            let now = next.unwrap_or(until).clamp(self.now(), until);
            for node in &mut self.nodes {
                node.rig.hub.clock.now = now;
            }
            if now >= until {
                return self.settle();
            }
        }
    }

    pub fn now(&self) -> Millis {
        self.nodes[0].rig.hub.clock.now
    }

    /// The only answer to a request at a node.
    pub fn asks(&mut self, node: usize, request: &[u8]) -> String {
        let mut backend = self.begins(node, request);
        self.settle();
        self.ends(node, &mut backend)
    }

    /// A backend that has sent a request.
    pub fn begins(&mut self, node: usize, request: &[u8]) -> Client {
        let backend = self.rig(node).client();
        backend.send(request);
        backend
    }

    pub fn ends(&mut self, node: usize, backend: &mut Client) -> String {
        let mut lines = backend.hear();
        assert_eq!(lines.len(), 1, "{lines:?}");
        backend.far.reset();
        self.rig(node).run();
        lines.remove(0)
    }

    /// The body of the answer to a `GET`.
    pub fn lists(&mut self, node: usize, target: &str) -> serde_json::Value {
        let line = self.asks(node, &get(target));
        let body = line
            .strip_prefix("200 ")
            .unwrap_or_else(|| panic!("{line}"));
        serde_json::from_str(body).expect("JSON")
    }

    pub fn rig_metrics(&self, node: usize) -> &Counters<&'static str> {
        &self.nodes[node].rig.hub.metrics().broker_hostile
    }

    /// How many messages a node has dropped, by reason; those that it has dropped none of are left out.
    pub fn hostile(&self, node: usize) -> Vec<(&'static str, u64)> {
        let counts = &self.nodes[node].rig.hub.metrics().broker_hostile;
        let labels = wsify::wire::node_message::NodeMessageError::LABELS;
        let found = labels.map(|label| (label, counts.get(label)));
        found.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}
