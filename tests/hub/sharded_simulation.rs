//! A simulation of channels shared through a cluster whose slots move at any time, with the driver's real topology.
//!
//! Clients and backends are random. Slots move, nodes learn of it late, die and come back, links break, other servers publish,
//! and everything is read in any order.
//!
//! Invariants:
//!
//! 1. Every member hears each message at most once, in the order in which the cluster brought them, and all that was brought
//!    between the answer to its join and its leave.
//! 2. A message answered with `ok` or `201` has been brought, if the channel had a member here all the while.
//! 3. A message that was published anywhere while a connection was a member, and never brought, makes a gap: a member that
//!    speaks `wsify.v1` is told of it afterwards. Nothing happened, no gap.
//! 4. `unavailable` is answered only if something happened to the cluster meanwhile.
//! 5. Every command is answered once, in order. At rest each channel with members is subscribed where its slot is, and
//!    nowhere else; there are two links to each node with a slot, and no others.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::client::{Client, broadcast, join, leave, post, with_id};
use crate::cluster::{Cluster, Fate, NODES};
use crate::ledger::{Ledger, Stretch};
use crate::rig::{Rig, settings};
use crate::seeds::{self, Dice};

const SEEDS: u64 = 60;
const STEPS: usize = 1_500;
const CHANNELS: usize = 5;
const MOST_CLIENTS: usize = 8;

#[test]
fn simulation() {
    if let Some(sum) = seeds::run(module_path!(), SEEDS, Sim::play) {
        assert!(sum.heard > 2_000 && sum.confirmed > 700 && sum.unavailable > 1_000);
        assert!(sum.gaps > 500 && sum.missed > 1_000 && sum.moves > 300);
    }
}

seeds::sum! {
    struct Sum {
        heard: usize,
        confirmed: usize,
        unavailable: usize,
        gaps: usize,
        /// Messages that were published and did not come here.
        missed: usize,
        moves: usize,
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Join(usize),
    Leave(usize),
    Publish(usize),
    /// Two contents in one call of a backend: this one and the next.
    PublishTwo(usize),
}

#[derive(Debug)]
struct Said {
    what: What,
    id: u64,
    at: usize,
}

struct Actor {
    client: Client,
    backend: bool,
    v1: bool,
    said: VecDeque<Said>,
    stretches: HashMap<usize, Stretch>,
    gone: bool,
}

struct Sim {
    dice: Dice,
    rig: Rig,
    cluster: Cluster,
    actors: Vec<Actor>,
    ledger: Ledger,
    /// When something last happened to the cluster, or the hub did not say that all is well.
    trouble: usize,
    step: usize,
    next_id: u64,
    sum: Sum,
}

fn name(channel: usize) -> String {
    format!("channel {channel}")
}

fn number(content: &str) -> usize {
    content.parse().expect("a message's number")
}

impl Sim {
    fn play(seed: u64) -> Sum {
        // Time passes while nothing is said.
        let mut settings = settings();
        settings.limits.handshake_timeout = 1_000_000;
        settings.limits.ping_interval = 0;
        let mut rig = Rig::with(settings);
        seeds::hand_over_now_and_then(&mut rig, seed);
        let names = (0..CHANNELS).map(name).collect();
        let cluster = Cluster::new(&mut rig, names, seed);
        let mut sim = Sim {
            dice: Dice(seed),
            rig,
            cluster,
            actors: Vec::new(),
            ledger: Ledger::new(CHANNELS),
            trouble: 0,
            step: 0,
            next_id: 0,
            sum: Sum::default(),
        };
        // Some are found at once, some only in the end.
        if !seed.is_multiple_of(4) {
            sim.come_to_rest();
        }
        for _ in 0..STEPS {
            sim.step += 1;
            sim.act(seed % 3);
        }
        sim.come_to_rest();
        sim.judge();
        sim.all_leave();
        sim.sum.moves += sim.cluster.moves;
        sim.sum
    }

    /// `harshness`: how often something happens to the cluster.
    fn act(&mut self, harshness: u64) {
        let choice = self.dice.below(1 << 16);
        if self.dice.below(100) == 0 {
            self.cluster.hand_over(&mut self.rig);
        }
        match self.dice.below(100) {
            0..3 => self.arrive(),
            3..20 => self.say(),
            20..22 => self.leave(),
            22..36 => self.tick(),
            36..56 => _ = self.cluster.execute(choice),
            56..60 => {
                let channel = choice % CHANNELS;
                let n = self.message(channel);
                self.cluster.foreign(channel, &n.to_string());
            }
            60..82 => _ = self.cluster.read(choice, &mut self.rig),
            82..86 => _ = self.cluster.open(choice, &mut self.rig),
            86..90 => self.rig.hub.clock.now += choice as u64 % 40,
            90..93 => _ = self.cluster.learn(choice),
            _ if harshness == 0 && self.dice.below(3) > 0 => {}
            93..96 => self.cluster.move_slot(choice % CHANNELS, choice / CHANNELS),
            96..98 if harshness > 1 || self.dice.below(3) == 0 => {
                self.cluster.break_one(choice, &mut self.rig)
            }
            98 => self
                .cluster
                .kill(choice % NODES, choice / NODES, &mut self.rig),
            _ => self.cluster.revive(choice % NODES),
        }
        self.account();
    }

    /// Takes into account what has become of messages, and whether something has happened to the cluster.
    fn account(&mut self) {
        if std::mem::take(&mut self.cluster.disturbed) || !self.rig.hub.is_broker_up() {
            self.trouble = self.step;
        }
        for fate in std::mem::take(&mut self.cluster.fates) {
            match fate {
                Fate::Published { comes: true, .. } => {}
                Fate::Published {
                    content,
                    comes: false,
                }
                | Fate::Lost(content) => {
                    let channel = self.ledger.channel(number(&content));
                    self.sum.missed += 1;
                    let actors = self.actors.iter_mut().filter(|actor| !actor.gone);
                    for stretch in actors.filter_map(|actor| actor.stretches.get_mut(&channel)) {
                        stretch.missed = true;
                    }
                }
                Fate::Brought(content) => self.ledger.brings(number(&content), self.step),
            }
        }
    }

    fn message(&mut self, channel: usize) -> usize {
        self.ledger.message(channel, self.step)
    }

    fn arrive(&mut self) {
        if self.actors.iter().filter(|a| !a.gone).count() >= MOST_CLIENTS {
            return;
        }
        let (backend, v1) = (self.dice.below(4) == 0, self.dice.below(3) > 0);
        let client = match (backend, v1) {
            (true, _) => self.rig.client(),
            (false, true) => self
                .rig
                .websocket_with("Sec-WebSocket-Protocol: wsify.v1\r\n"),
            (false, false) => self.rig.websocket(),
        };
        self.cluster.take(&mut self.rig);
        self.actors.push(Actor {
            client,
            backend,
            v1: v1 && !backend,
            said: VecDeque::new(),
            stretches: HashMap::new(),
            gone: false,
        });
    }

    fn say(&mut self) {
        let at = self.dice.below(self.actors.len());
        let (channel, choice) = (self.dice.below(CHANNELS), self.dice.below(10));
        if self
            .actors
            .get(at)
            .is_none_or(|a| a.gone || a.said.len() > 5)
        {
            return;
        }
        let what = match choice {
            0..4 if self.actors[at].backend => {
                let first = self.message(channel);
                self.message((channel + choice) % CHANNELS);
                What::PublishTwo(first)
            }
            _ if self.actors[at].backend => What::Publish(self.message(channel)),
            0..4 => What::Join(channel),
            4..6 => What::Leave(channel),
            _ => What::Publish(self.message(channel)),
        };
        self.next_id += 1;
        let (id, step) = (self.next_id, self.step);
        let actor = &mut self.actors[at];
        match what {
            What::Join(channel) => actor.client.say(&with_id(id, &join(&name(channel)))),
            What::Leave(channel) => {
                if let Some(stretch) = actor.stretches.get_mut(&channel) {
                    stretch.leave_said.get_or_insert(step);
                }
                actor.client.say(&with_id(id, &leave(&name(channel))));
            }
            What::PublishTwo(n) => {
                let body = [n, n + 1].map(|n| {
                    let channel = name(self.ledger.channel(n));
                    format!(r#"{{"channel":"{channel}","content":{n}}}"#)
                });
                actor.client.send(&post(&format!("[{}]", body.join(","))));
            }
            What::Publish(n) if actor.backend => {
                let body = format!(r#"{{"channel":"{}","content":{n}}}"#, name(channel));
                actor.client.send(&post(&body));
            }
            What::Publish(n) => {
                let command = broadcast(&name(channel), &n.to_string());
                actor.client.say(&with_id(id, &command));
            }
        }
        actor.said.push_back(Said { what, id, at: step });
    }

    fn leave(&mut self) {
        let at = self.dice.below(self.actors.len());
        if let Some(actor) = self.actors.get_mut(at).filter(|a| !a.gone) {
            actor.gone = true;
            actor.client.far.reset();
        }
    }

    fn tick(&mut self) {
        self.rig.tick();
        self.cluster.take(&mut self.rig);
        self.account();
        for at in 0..self.actors.len() {
            if !self.actors[at].gone {
                for line in self.actors[at].client.hear() {
                    self.hears(at, &line);
                }
            }
        }
    }

    fn hears(&mut self, at: usize, line: &str) {
        let v1 = self.actors[at].v1;
        let value = serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
        let channel = (0..CHANNELS).find(|channel| value["channel"] == name(*channel));
        if value["gap"] == true {
            let stretch = channel.and_then(|it| self.actors[at].stretches.get_mut(&it));
            let stretch = stretch.expect("a member is told");
            assert!(v1 && self.trouble > 0, "nothing has ever happened");
            stretch.missed = false;
            self.sum.gaps += 1;
            return;
        }
        let content = if v1 { &value["content"] } else { &value };
        if let Some(n) = content.as_u64().filter(|_| !self.actors[at].backend) {
            return self.hears_content(at, n as usize);
        }
        let said = self.actors[at].said.pop_front();
        let said = said.unwrap_or_else(|| panic!("an answer to nothing: {line}"));
        let ok = match line {
            "201" => true,
            "503 unavailable" => false,
            _ => {
                assert_eq!(value["id"], said.id, "{line} answers {said:?}");
                assert!(
                    value["ok"] == true || value["error"]["code"] == "unavailable",
                    "{line}"
                );
                value["ok"] == true
            }
        };
        match said.what {
            What::Publish(_) | What::PublishTwo(_) if !ok => {
                assert!(
                    self.trouble >= said.at,
                    "nothing was wrong: {said:?} {line}"
                );
                self.sum.unavailable += 1;
            }
            What::Publish(n) => self.is_confirmed(n),
            What::PublishTwo(n) => {
                self.is_confirmed(n);
                self.is_confirmed(n + 1);
            }
            What::Join(channel) => {
                if !ok {
                    // A slot that moves too often is not followed for a while.
                    assert!(line.contains("MOVED"), "nothing refuses {said:?}: {line}");
                    return;
                }
                let actor = &mut self.actors[at];
                let behind = actor.said.iter().find_map(|s| match s.what {
                    What::Leave(c) if c == channel => Some(s.at),
                    _ => None,
                });
                let stretch = Stretch::new(said.at, self.step, false);
                let stretch = actor.stretches.entry(channel).or_insert(stretch);
                stretch.leave_said = behind;
            }
            What::Leave(channel) => {
                if let Some(stretch) = self.actors[at].stretches.remove(&channel) {
                    self.ledger
                        .is_complete(channel, &stretch, stretch.leave_said);
                }
            }
        }
    }

    fn is_confirmed(&mut self, n: usize) {
        self.sum.confirmed += 1;
        let channel = self.ledger.channel(n);
        let actors = self.actors.iter().filter(|actor| !actor.gone);
        let stretches = actors.filter_map(|actor| actor.stretches.get(&channel));
        self.ledger.is_confirmed(n, stretches);
    }

    fn hears_content(&mut self, at: usize, n: usize) {
        let stretches = &mut self.actors[at].stretches;
        let stretch = stretches.get_mut(&self.ledger.channel(n));
        self.ledger.hears(stretch.expect("a member hears it"), n);
        self.sum.heard += 1;
    }

    /// Nothing more happens to the cluster, and everything takes its course.
    fn come_to_rest(&mut self) {
        for _ in 0..20_000 {
            self.step += 1;
            for node in 0..NODES {
                self.cluster.revive(node);
            }
            let mut works = self.cluster.learn(0);
            works |= self.cluster.open(0, &mut self.rig);
            while self.cluster.execute(0) {
                works = true;
            }
            while self.cluster.read(0, &mut self.rig) {
                works = true;
            }
            self.account();
            self.tick();
            works |= self.rig.has_work() || !self.cluster.is_at_rest();
            if works {
                continue;
            }
            if self.rig.hub.is_broker_up() {
                return;
            }
            let deadlines = [self.cluster.next_deadline(), self.rig.hub.next_deadline()];
            let next = deadlines.into_iter().flatten().min().expect("it goes on");
            self.rig.hub.clock.now = next.max(self.rig.hub.clock.now + 1);
        }
        panic!("it does not come to rest");
    }

    fn judge(&mut self) {
        self.trouble = self.step;
        self.tick();
        let mut members = BTreeSet::new();
        for (at, actor) in self.actors.iter().enumerate().filter(|(_, a)| !a.gone) {
            assert!(actor.said.is_empty(), "{at}: {:?}", actor.said);
            for (channel, stretch) in &actor.stretches {
                members.insert((self.cluster.owner(*channel), name(*channel)));
                self.ledger.is_complete(*channel, stretch, None);
                assert!(
                    !actor.v1 || !stretch.missed,
                    "{at} does not know that it has missed something: {stretch:?}"
                );
            }
        }
        for actor in self.actors.iter_mut().filter(|a| a.gone || a.backend) {
            actor.gone = true;
            actor.client.far.reset();
        }
        self.come_to_rest();
        assert_eq!(self.cluster.subscribed(), members);
        let mut masters = vec![0; NODES];
        masters[0] = 2;
        for channel in 0..CHANNELS {
            masters[self.cluster.owner(channel)] = 2;
        }
        // Views are asked for now and then: what nothing was published to may have moved unnoticed until then.
        for _ in 0..20 {
            self.rig.hub.clock.now += 10_000;
            self.come_to_rest();
        }
        assert_eq!(self.cluster.links(), masters);
    }

    fn all_leave(&mut self) {
        for actor in &mut self.actors {
            actor.gone = true;
            actor.client.far.reset();
        }
        self.come_to_rest();
        self.rig.pass(100_000);
        self.come_to_rest();
        assert!(self.cluster.subscribed().is_empty());
        self.rig.assert_empty();
    }
}
