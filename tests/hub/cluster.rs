//! A cluster as a script, with the driver's real [`Topology`] in between, moved step by step by the test.
//!
//! Owns: what each node believes and has subscribed, and what is on its way on each link. A node executes what it believes to
//! be its own, as redis does: it learns late that a slot has moved, and then ends its subscriptions. Sockets are left out:
//! bytes move when the test says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use wsify::broker::News;
use wsify::broker::redis::{LinkId, Order, Progress, Topology};
use wsify::config::{RedisAddress, RedisDsn, RedisServers};
use wsify::effect::{Effect, Receipt};
use wsify::snapshot::{SnapshotHeader, SnapshotReader, SnapshotWriter};
use wsify::wire::hash_slot::{HASH_SLOTS, hash_slot};

use super::broker::{array, commands, text};
use super::rig::Rig;

pub const NODES: usize = 4;

/// One link: commands on their way to a node, and replies on their way back, each in whole.
#[derive(Debug)]
struct Wire {
    node: usize,
    open: bool,
    commands: VecDeque<Vec<Vec<u8>>>,
    replies: VecDeque<Vec<u8>>,
    subscribed: BTreeSet<String>,
}

#[derive(Debug)]
struct Node {
    alive: bool,
    /// Which node has which channel, as this one sees it.
    believes: Vec<usize>,
}

/// What happened to messages, in order; the test keeps the account.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// A node has published it, and it is on its way here or not.
    Published { content: String, comes: bool },
    /// It was on its way here, and is lost.
    Lost(String),
    /// It was brought.
    Brought(String),
}

pub struct Cluster {
    topology: Topology,
    dsn: RedisDsn,
    wires: BTreeMap<LinkId, Wire>,
    nodes: Vec<Node>,
    channels: Vec<String>,
    /// Which node really has which channel.
    owners: Vec<usize>,
    /// What a node has not learned yet: the node, a channel, and the node that has it.
    unlearned: Vec<(usize, usize, usize)>,
    pub fates: Vec<Fate>,
    /// Something has happened because of which a publication may be refused.
    pub disturbed: bool,
    pub moves: usize,
}

fn address(node: usize) -> RedisAddress {
    let (host, port) = (String::from("n"), 1 + node as u16);
    RedisAddress::Tcp { host, port }
}

impl Cluster {
    /// A rig that shares its channels, with a cluster of which nothing is known but two nodes.
    pub fn new(rig: &mut Rig, channels: Vec<String>, seed: u64) -> Cluster {
        rig.hub.share(Some(String::new()));
        let dsn = RedisDsn {
            servers: RedisServers::Cluster(vec![address(0), address(1)]),
            tls: false,
            credentials: None,
            db: 0,
            unused: Vec::new(),
        };
        let believes: Vec<usize> = (0..channels.len()).map(|at| at % NODES).collect();
        let node = |_| Node {
            alive: true,
            believes: believes.clone(),
        };
        Cluster {
            topology: Topology::new(&dsn, String::new(), false, seed, rig.hub.clock.now),
            dsn,
            wires: BTreeMap::new(),
            nodes: (0..NODES).map(node).collect(),
            channels,
            owners: believes,
            unlearned: Vec::new(),
            fates: Vec::new(),
            disturbed: false,
            moves: 0,
        }
    }

    /// Gives the topology its turn, and what the hub wants.
    pub fn take(&mut self, rig: &mut Rig) {
        let now = rig.hub.clock.now;
        self.topology.turn(now);
        self.tell(rig);
        for effect in rig.effects.drain(..) {
            match effect {
                Effect::Publish(publication) => self.topology.publish(publication, now),
                Effect::Subscribe(wanted) => self.topology.subscribe(wanted, now),
                Effect::Unsubscribe(channel) => self.topology.unsubscribe(channel, now),
                other => unreachable!("the rig keeps {other:?}"),
            }
        }
        self.send(rig);
    }

    /// Carries out orders, and puts what is said on its way.
    fn send(&mut self, rig: &mut Rig) {
        self.topology.finish(rig.hub.clock.now);
        while let Some(order) = self.topology.order() {
            match order {
                Order::Close(id) => {
                    if let Some(wire) = self.wires.remove(&id) {
                        self.lose(wire.replies);
                    }
                }
                Order::Open(id, RedisAddress::Tcp { port, .. }) => {
                    let wire = Wire {
                        node: usize::from(port) - 1,
                        open: false,
                        commands: VecDeque::new(),
                        replies: VecDeque::new(),
                        subscribed: BTreeSet::new(),
                    };
                    self.wires.insert(id, wire);
                }
                Order::Open(..) => unreachable!("there are no sockets here"),
            }
        }
        for (id, wire) in &mut self.wires {
            if let Some(out) = self.topology.out(*id)
                && wire.open
            {
                wire.commands.extend(commands(&std::mem::take(out)));
            }
        }
    }

    fn lose(&mut self, replies: VecDeque<Vec<u8>>) {
        for reply in replies {
            let words = String::from_utf8(reply).expect("UTF-8");
            if let Some((_, rest)) = words.split_once("smessage\r\n") {
                let content = rest.lines().nth(3).expect("a content").to_owned();
                self.fates.push(Fate::Lost(content));
            }
        }
    }

    /// The hub is told what the topology knows.
    fn tell(&mut self, rig: &mut Rig) {
        while let Some(news) = self.topology.news() {
            match news {
                News::Shard(shard, name) => rig.hub.name_shard(shard, name),
                News::Slots(slots, shard) => {
                    self.disturbed = true;
                    rig.hub.assign_slots(slots, shard);
                }
                News::Publishing(shard, up) => rig.hub.set_publishing(shard, up),
                News::Listening(shard, up) => rig.hub.set_listening(shard, up),
                News::Published(by, receipt) => {
                    self.disturbed |= matches!(receipt, Receipt::Refused(_));
                    rig.hub.receipt(by, receipt);
                }
                News::Returned(publication) => {
                    self.disturbed = true;
                    rig.hub.returned(publication);
                }
                News::Subscribed(id, receipt) => rig.hub.subscribed(id, receipt),
                News::Unsubscribed(channel) => rig.hub.unsubscribed(channel.as_str()),
                News::Message(_) | News::Dropped(_) => unreachable!("{news:?}"),
            }
        }
        while self.topology.notice().is_some() {}
    }

    /// Replaces the topology by one that knows nothing of it but a snapshot. What is on its way stays there.
    pub fn hand_over(&mut self, rig: &mut Rig) {
        self.send(rig);
        while self.topology.notice().is_some() {}
        let snapshot = self.snapshot();
        let mut from = SnapshotReader::new(&*snapshot, snapshot.len() as u64).expect("a snapshot");
        let (prefix, now) = (String::new(), rig.hub.clock.now);
        let restored = Topology::restore(&self.dsn, prefix, now, &mut from, now);
        self.topology = restored.expect("a snapshot");
        let again = self.snapshot();
        assert!(again == snapshot, "a snapshot of the same facts differs");
    }

    fn snapshot(&self) -> Vec<u8> {
        let header = SnapshotHeader::new(0);
        let mut to = SnapshotWriter::new(Vec::new(), &header).expect("memory");
        self.topology.save(&mut to).expect("memory");
        to.finish().expect("memory")
    }

    /// All links, by name, of which something holds.
    fn of(&self, holds: impl Fn(&Wire) -> bool) -> Vec<LinkId> {
        let wires = self.wires.iter();
        wires
            .filter(|(_, wire)| holds(wire))
            .map(|(id, _)| *id)
            .collect()
    }

    /// A link that is not there is established, if its node is there. `choice` is any number.
    pub fn open(&mut self, choice: usize, rig: &mut Rig) -> bool {
        let nodes = &self.nodes;
        let closed = self.of(|wire| !wire.open && nodes[wire.node].alive);
        let Some(&id) = closed.get(choice % closed.len().max(1)) else {
            return false;
        };
        self.wires.get_mut(&id).expect("it is there").open = true;
        self.topology.opened(id, rig.hub.clock.now);
        self.send(rig);
        true
    }

    /// A link breaks.
    pub fn break_one(&mut self, choice: usize, rig: &mut Rig) {
        let open = self.of(|wire| wire.open);
        if let Some(&id) = open.get(choice % open.len().max(1)) {
            self.break_link(id, rig);
        }
    }

    fn break_link(&mut self, id: LinkId, rig: &mut Rig) {
        self.disturbed = true;
        let wire = self.wires.get_mut(&id).expect("it is there");
        wire.open = false;
        wire.commands.clear();
        wire.subscribed.clear();
        let replies = std::mem::take(&mut wire.replies);
        self.lose(replies);
        self.tell(rig);
        self.topology.closed(id, rig.hub.clock.now);
        self.tell(rig);
        self.send(rig);
    }

    /// The node that has a channel.
    pub fn owner(&self, channel: usize) -> usize {
        self.owners[channel]
    }

    /// A slot moves to another node, which knows it at once. It does not move on before all know.
    pub fn move_slot(&mut self, channel: usize, choice: usize) {
        let settled = self.unlearned.iter().all(|(_, it, _)| *it != channel);
        let from = self.owner(channel);
        if settled && self.nodes[from].alive {
            let others: Vec<usize> = (0..NODES)
                .filter(|&it| it != from && self.nodes[it].alive)
                .collect();
            if let Some(&to) = others.get(choice % others.len().max(1)) {
                self.give(channel, to);
                self.moves += 1;
            }
        }
    }

    fn give(&mut self, channel: usize, to: usize) {
        self.disturbed = true;
        self.unlearned.retain(|(_, it, _)| *it != channel);
        self.nodes[to].believes[channel] = to;
        self.owners[channel] = to;
        let others = (0..NODES).filter(|it| *it != to);
        self.unlearned
            .extend(others.map(|node| (node, channel, to)));
    }

    /// A node learns which node has a slot. If the slot was its own, its subscriptions end.
    pub fn learn(&mut self, choice: usize) -> bool {
        let ready: Vec<usize> = (0..self.unlearned.len())
            .filter(|&it| self.nodes[self.unlearned[it].0].alive)
            .collect();
        let Some(&at) = ready.get(choice % ready.len().max(1)) else {
            return false;
        };
        let (node, channel, to) = self.unlearned.swap_remove(at);
        self.disturbed = true;
        let before = std::mem::replace(&mut self.nodes[node].believes[channel], to);
        let name = &self.channels[channel];
        for wire in self
            .wires
            .values_mut()
            .filter(|wire| wire.node == node && before == node)
        {
            if wire.subscribed.remove(name) {
                wire.replies
                    .push_back(array(&["sunsubscribe", name], ":0\r\n").into());
            }
        }
        true
    }

    /// A node dies, and others have its slots. Two stay alive, and the first one, which has all other slots.
    pub fn kill(&mut self, node: usize, choice: usize, rig: &mut Rig) {
        let alive = self.nodes.iter().filter(|node| node.alive).count();
        if node == 0 || alive < 3 || !self.nodes[node].alive {
            return;
        }
        self.nodes[node].alive = false;
        for id in self.of(|wire| wire.open && wire.node == node) {
            self.break_link(id, rig);
        }
        for channel in 0..self.channels.len() {
            if (0..NODES).any(|it| self.nodes[it].alive && self.nodes[it].believes[channel] == it) {
                continue;
            }
            let heirs: Vec<usize> = (0..NODES).filter(|&it| self.nodes[it].alive).collect();
            self.give(channel, heirs[choice % heirs.len()]);
        }
    }

    /// A dead node comes back, and knows what has happened.
    pub fn revive(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].alive, true) {
            return;
        }
        self.disturbed = true;
        let missed: Vec<_> = self
            .unlearned
            .iter()
            .filter(|it| it.0 == node)
            .copied()
            .collect();
        self.unlearned.retain(|it| it.0 != node);
        for (_, channel, to) in missed {
            self.nodes[node].believes[channel] = to;
        }
    }

    /// A node executes what it was asked for next on one of its links.
    pub fn execute(&mut self, choice: usize) -> bool {
        let ready = self.of(|wire| wire.open && !wire.commands.is_empty());
        let Some(&id) = ready.get(choice % ready.len().max(1)) else {
            return false;
        };
        let wire = self.wires.get_mut(&id).expect("it is there");
        let node = wire.node;
        let command = wire.commands.pop_front().expect("a command");
        let mut words = command.into_iter().map(text);
        let verb = words.next().expect("a verb");
        let rest: Vec<String> = words.collect();
        let replies: Vec<String> = match (verb.as_str(), rest.as_slice()) {
            ("PING", _) => vec![if wire.subscribed.is_empty() {
                "+PONG\r\n".into()
            } else {
                "*2\r\n$4\r\npong\r\n$0\r\n\r\n".into()
            }],
            ("ROLE", _) => vec!["*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".into()],
            ("CLIENT", _) => vec!["+OK\r\n".into()],
            ("CLUSTER", _) => vec![self.view(node)],
            ("SPUBLISH", [channel, content]) => match self.moved(node, channel) {
                None => {
                    self.publish(node, channel, content);
                    vec![":1\r\n".into()]
                }
                Some(moved) => vec![moved],
            },
            ("SSUBSCRIBE" | "SUNSUBSCRIBE", channels) => {
                let moved = self.moved(node, &channels[0]);
                let wire = self.wires.get_mut(&id).expect("it is there");
                let kind = verb.to_ascii_lowercase();
                match moved {
                    Some(moved) => vec![moved],
                    None => channels
                        .iter()
                        .map(|channel| {
                            if verb.starts_with("SS") {
                                wire.subscribed.insert(channel.clone())
                            } else {
                                wire.subscribed.remove(channel)
                            };
                            array(&[&kind, channel], ":1\r\n")
                        })
                        .collect(),
                }
            }
            other => unreachable!("{other:?}"),
        };
        let wire = self.wires.get_mut(&id).expect("it is there");
        wire.replies
            .extend(replies.into_iter().map(String::into_bytes));
        true
    }

    fn moved(&mut self, node: usize, channel: &str) -> Option<String> {
        let at = self
            .channels
            .iter()
            .position(|it| it == channel)
            .expect("a channel");
        let owner = self.nodes[node].believes[at];
        (owner != node).then(|| {
            self.disturbed = true;
            let slot = hash_slot(b"", channel.as_bytes());
            format!("-MOVED {slot} n:{}\r\n", 1 + owner)
        })
    }

    /// Another server publishes at the node that has the channel.
    pub fn foreign(&mut self, channel: usize, content: &str) {
        let node = self.owner(channel);
        let name = self.channels[channel].clone();
        if self.nodes[node].alive {
            self.publish(node, &name, content);
        }
    }

    fn publish(&mut self, node: usize, channel: &str, content: &str) {
        let mut comes = false;
        for wire in self.wires.values_mut().filter(|wire| wire.node == node) {
            if wire.subscribed.contains(channel) {
                comes = true;
                wire.replies
                    .push_back(array(&["smessage", channel, content], "").into());
            }
        }
        // A former owner that has not learned of it yet publishes for those that are still subscribed there.
        let at = self.channels.iter().position(|it| it == channel);
        let current = at.is_some_and(|at| self.owners[at] == node);
        let content = content.to_owned();
        if comes || current {
            self.fates.push(Fate::Published { content, comes });
        }
    }

    /// How a node sees the cluster. The first one has all slots but those of the channels.
    fn view(&self, node: usize) -> String {
        let mut owners = vec![0; usize::from(HASH_SLOTS)];
        for (channel, name) in self.channels.iter().enumerate() {
            owners[usize::from(hash_slot(b"", name.as_bytes()))] =
                self.nodes[node].believes[channel];
        }
        let mut shards = Vec::new();
        let mut from = 0;
        for at in 1..=owners.len() {
            if at == owners.len() || owners[at] != owners[from] {
                shards.push((from, at - 1, owners[from]));
                from = at;
            }
        }
        let mut view = format!("*{}\r\n", shards.len());
        for (first, last, owner) in shards {
            let port = 1 + owner;
            let _ = write!(
                view,
                "*4\r\n$5\r\nslots\r\n*2\r\n:{first}\r\n:{last}\r\n$5\r\nnodes\r\n*1\r\n*8\r\n$4\r\nport\r\n:{port}\r\n\
                 $2\r\nip\r\n$1\r\nn\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$6\r\nhealth\r\n$6\r\nonline\r\n"
            );
        }
        view
    }

    /// What comes next on one of the links is read.
    pub fn read(&mut self, choice: usize, rig: &mut Rig) -> bool {
        let ready = self.of(|wire| wire.open && !wire.replies.is_empty());
        let Some(&id) = ready.get(choice % ready.len().max(1)) else {
            return false;
        };
        self.tell(rig);
        let now = rig.hub.clock.now;
        let Some(reply) = self
            .wires
            .get_mut(&id)
            .and_then(|wire| wire.replies.pop_front())
        else {
            return true;
        };
        match self
            .topology
            .handle_reply(id, &reply, now)
            .expect("nodes speak as they should")
        {
            Progress::Starved => unreachable!("replies come whole"),
            Progress::Handled(size) => assert_eq!(size, reply.len()),
            Progress::Message(message) => {
                let (channel, content) = (&reply[message.channel], &reply[message.content]);
                let (channel, content) = (text(channel.to_vec()), text(content.to_vec()));
                assert!(rig.hub.arrived(&channel, content.as_bytes()));
                self.fates.push(Fate::Brought(content));
            }
        }
        self.tell(rig);
        self.send(rig);
        true
    }

    /// Whether nothing is on its way, and all is as it should be: two links to each master that has a slot, and no others.
    pub fn is_at_rest(&self) -> bool {
        let quiet = |wire: &Wire| wire.open && wire.commands.is_empty() && wire.replies.is_empty();
        self.unlearned.is_empty()
            && self.nodes.iter().all(|node| node.alive)
            && self.wires.values().all(quiet)
    }

    /// The channels that are subscribed, and where.
    pub fn subscribed(&self) -> BTreeSet<(usize, String)> {
        let wires = self.wires.values();
        wires
            .flat_map(|wire| wire.subscribed.iter().map(|name| (wire.node, name.clone())))
            .collect()
    }

    /// How many links there are to each node.
    pub fn links(&self) -> Vec<usize> {
        let count = |node| self.wires.values().filter(|wire| wire.node == node).count();
        (0..NODES).map(count).collect()
    }

    /// When the topology has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        self.topology.next_deadline()
    }
}
