//! A simulation of three nodes on one broker: backends ask any of them, while clients come and go, links break, nodes hang,
//! another program publishes what it likes, and
//! programs are replaced.
//!
//! Invariants:
//!
//! 1. A client hears contents for its user and for itself in the order of the broker, each once.
//! 2. A `wsify.v1` client that has missed one hears of a gap before the next. One that heard of no gap has missed none.
//! 3. `joined` and `left` alternate, and at rest the lists of any node agree with what clients were told.
//! 4. Every request is answered once. If all nodes have answered a disconnect, no connection is left that was open before.
//! 5. What was said before, or is not signed, changes nothing.
//! 6. When all have gone, nothing is left on any node.

use std::collections::BTreeSet;

use serde_json::Value;
use wsify::effect::{Receipt, Verdict};
use wsify::wire::answer_fields::AnswerFields;
use wsify::wire::node_message::ALL_NODES;

use crate::client::{Client, get};
use crate::nodes::Fleet;
use crate::seeds::{self, Dice, sum};

const SEEDS: u64 = 12;
const STEPS: usize = 2_000;
const NODES: usize = 3;
const USERS: usize = 2;
const CHANNELS: usize = 3;
const MOST_CLIENTS: usize = 30;

#[test]
fn simulation() {
    let Some(sum) = seeds::run(module_path!(), SEEDS, Sim::play) else {
        return;
    };
    assert!(sum.heard > 1_000 && sum.gaps > 100, "{sum:?}");
    assert!(sum.complete > 100 && sum.partial > 100, "{sum:?}");
    assert!(sum.closed > 100 && sum.unavailable > 100, "{sum:?}");
    assert!(sum.dropped > 1_000, "{sum:?}");
}

sum! {
    /// What a seed has exercised.
    struct Counts {
        heard: usize,
        gaps: usize,
        /// Answers of all nodes, and of some.
        complete: usize,
        partial: usize,
        unavailable: usize,
        /// Clients that a backend has disconnected.
        closed: usize,
        /// Messages that were not believed.
        dropped: usize,
    }
}

/// Content on its way: for which user or connection, and its number.
struct Sent {
    to: String,
    content: u64,
}

struct Actor {
    client: Client,
    node: usize,
    user: String,
    v1: bool,
    /// What was sent before it was open.
    opened: usize,
    opened_at: usize,
    /// Behind what it has heard, for its user and for itself.
    place: [usize; 2],
    /// It has heard of a gap since.
    gap: [bool; 2],
    channels: BTreeSet<String>,
    over: bool,
}

impl Actor {
    fn id(&self) -> String {
        let id = self.client.welcome["connection"].as_str();
        id.unwrap_or_default().to_owned()
    }

    /// The targets by which it is reached.
    fn names(&self) -> [String; 2] {
        [self.user.clone(), self.id()]
    }
}

/// A request that may not have been answered yet.
struct Asked {
    client: Client,
    step: usize,
    disconnects: Option<String>,
}

struct Sim {
    fleet: Fleet,
    dice: Dice,
    step: usize,
    actors: Vec<Actor>,
    asked: Vec<Asked>,
    contents: u64,
    sent: Vec<Sent>,
    /// What of the fleet's messages was looked at.
    looked_at: usize,
    broken: [bool; NODES],
    /// What was said before all nodes listened; a node may have missed it, and would take it for late.
    missed: usize,
    sum: Counts,
}

impl Sim {
    fn play(seed: u64) -> Counts {
        let fleet = Fleet::with(NODES, Some("key"), |it| {
            it.max_channels = 2;
            it.limits.ping_interval = 0;
        });
        let looked_at = fleet.said.len();
        let mut sim = Sim {
            fleet,
            dice: Dice(seed),
            step: 0,
            actors: Vec::new(),
            asked: Vec::new(),
            contents: 0,
            sent: Vec::new(),
            looked_at,
            broken: [false; NODES],
            missed: 0,
            sum: Counts::default(),
        };
        for step in 1..=STEPS {
            sim.step = step;
            sim.act();
            sim.turn();
            if sim.dice.chance(1) && sim.dice.chance(40) {
                sim.rest();
            }
        }
        sim.step += 1;
        sim.rest();
        sim.end();
        sim.sum
    }

    fn act(&mut self) {
        let node = self.dice.below(NODES);
        let user = format!("u{}", self.dice.below(USERS));
        let channel = format!("c{}", self.dice.below(CHANNELS));
        match self.dice.below(20) {
            0 | 1 => self.arrive(node, &user),
            2 if self.dice.chance(30) => {
                let at = self.dice.below(self.actors.len());
                if let Some(actor) = self.actors.get_mut(at) {
                    actor.over = true;
                    actor.client.far.reset();
                }
            }
            3..=7 => self.publish(node, user),
            8 | 9 => {
                let body = format!(r#"{{"user":"{user}","channel":"{channel}"}}"#);
                let path = self.dice.of(&["/join", "/join", "/leave"]);
                self.post(node, path, &body, None);
            }
            10 if self.dice.chance(15) => {
                let body = format!(r#"{{"user":"{user}","code":4000}}"#);
                self.post(node, "/disconnect", &body, Some(user));
            }
            11 => {
                let backend = self.fleet.begins(node, &get("/connections?limit=2"));
                self.await_answer(backend, None);
            }
            12 if self.dice.chance(20) => self.change_link(node),
            13 if self.dice.chance(20) => {
                let hangs = &mut self.fleet.nodes[node].hangs;
                *hangs = !*hangs;
            }
            14 if self.dice.chance(20) => {
                let refused = Receipt::Refused("NOPERM".into());
                let publishing = self.dice.of(&[0, 0, 1, 2]);
                self.fleet.nodes[node].publishing = match publishing {
                    1 => refused,
                    2 => Receipt::Failed,
                    _ => Receipt::Confirmed,
                };
            }
            15 => self.forge(),
            19 if self.dice.chance(20) => self.fleet.hand_over(node),
            16..=18 => {
                let time = self.dice.below(60) as u64;
                for node in &mut self.fleet.nodes {
                    node.rig.hub.clock.now += time;
                }
            }
            _ => {}
        }
    }

    /// A node gets a turn, and some of what is on its way to it.
    fn turn(&mut self) {
        let before = self.all_listen();
        for node in 0..NODES {
            if self.fleet.nodes[node].hangs || self.dice.chance(30) {
                continue;
            }
            self.fleet.rig(node).tick();
            self.fleet.take(node);
            self.look_at_sent();
            for _ in 0..self.dice.below(6) {
                self.fleet.bring(node);
            }
        }
        if !(before && self.all_listen()) {
            self.missed = self.fleet.said.len();
        }
        self.hear();
    }

    fn all_listen(&self) -> bool {
        let mut nodes = self.fleet.nodes.iter();
        nodes.all(|node| node.subscribed.contains(ALL_NODES))
    }

    /// Notes which contents nodes have published, in the order of the broker.
    fn look_at_sent(&mut self) {
        for (_, message) in &self.fleet.said[self.looked_at..] {
            let message: Value = serde_json::from_slice(message).expect("nodes speak JSON");
            let message = &message["message"];
            if message["command"] == "content" {
                let to = message["user"].as_str().or(message["connection"].as_str());
                self.sent.push(Sent {
                    to: to.expect("a recipient").to_owned(),
                    content: message["content"].as_u64().expect("a number"),
                });
            }
        }
        self.looked_at = self.fleet.said.len();
    }

    fn arrive(&mut self, node: usize, user: &str) {
        let there = self.actors.iter().filter(|actor| !actor.over).count();
        if self.fleet.nodes[node].hangs || there >= MOST_CLIENTS {
            return;
        }
        let v1 = self.dice.chance(80);
        let more = if v1 {
            "Sec-WebSocket-Protocol: wsify.v1\r\n"
        } else {
            ""
        };
        let rig = self.fleet.rig(node);
        let mut client = rig.upgrading(more);
        rig.answer_fields(
            Verdict::Allow,
            AnswerFields {
                user: Some(user.into()),
                ..AnswerFields::default()
            },
        );
        assert_eq!(client.hear()[0], "101");
        // It had turns meanwhile.
        self.fleet.take(node);
        self.look_at_sent();
        self.actors.push(Actor {
            client,
            node,
            user: user.to_owned(),
            v1,
            opened: self.sent.len(),
            opened_at: self.step,
            place: [0; 2],
            gap: [false; 2],
            channels: BTreeSet::new(),
            over: false,
        });
    }

    fn publish(&mut self, node: usize, user: String) {
        self.contents += 1;
        let content = self.contents;
        let at = self.dice.below(self.actors.len());
        let actor = self.actors.get(at).filter(|actor| actor.v1);
        let target = match actor {
            Some(actor) if self.dice.chance(30) => format!(r#""connection":"{}""#, actor.id()),
            _ => format!(r#""user":"{user}""#),
        };
        let body = format!(r#"{{{target},"content":{content}}}"#);
        self.post(node, "/broadcast", &body, None);
    }

    fn post(&mut self, node: usize, path: &str, body: &str, disconnects: Option<String>) {
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let backend = self.fleet.begins(node, text.as_bytes());
        self.await_answer(backend, disconnects);
    }

    fn await_answer(&mut self, client: Client, disconnects: Option<String>) {
        self.asked.push(Asked {
            client,
            step: self.step,
            disconnects,
        });
    }

    fn change_link(&mut self, node: usize) {
        if self.broken[node] {
            self.fleet.mend_listening(node)
        } else {
            self.fleet.break_listening(node)
        }
        self.broken[node] = !self.broken[node];
        self.missed = self.fleet.said.len();
    }

    /// Another program repeats what was said, or makes something up.
    fn forge(&mut self) {
        let at = self.dice.below(self.fleet.said.len());
        let (channel, message) = self.fleet.said[at].clone();
        match self.dice.below(3) {
            0 if at >= self.missed => self.fleet.publish(&channel, &message),
            0 => {}
            1 => {
                let mut message = message;
                let at = self.dice.below(message.len());
                message[at] ^= 1 << self.dice.below(8);
                self.fleet.publish(&channel, &message);
            }
            _ => {
                let junk = [
                    &b"{}"[..],
                    b"hello",
                    br#"{"command":"disconnect","number":1,"user":"u0"}"#,
                ];
                let junk = self.dice.of(&junk);
                self.fleet.publish(ALL_NODES, junk);
            }
        }
        // What was made up, or repeated, is not repeated again.
        self.fleet.said.truncate(self.looked_at);
    }

    fn hear(&mut self) {
        let Sim {
            actors, sent, sum, ..
        } = self;
        for actor in actors.iter_mut() {
            for line in actor.client.hear() {
                actor.hears(&line, sent, sum);
            }
        }
        let mut waiting = Vec::new();
        for mut asked in std::mem::take(&mut self.asked) {
            match asked.client.hear().as_slice() {
                [] => waiting.push(asked),
                [line] => {
                    let line = line.clone();
                    asked.client.far.reset();
                    self.answered(&asked, &line);
                }
                lines => panic!("{lines:?}"),
            }
        }
        self.asked = waiting;
    }

    fn answered(&mut self, asked: &Asked, line: &str) {
        let Some(body) = line.strip_prefix("200 ") else {
            assert!(line == "201" || line == "503 unavailable", "{line}");
            self.sum.unavailable += usize::from(line != "201");
            return;
        };
        let answer: Value = serde_json::from_str(body).expect("JSON");
        let count = |name: &str| answer["nodes"][name].as_u64().expect("a number");
        let (of, answered) = (count("asked"), count("answered"));
        assert!(
            0 < answered && answered <= of && of <= NODES as u64,
            "{line}"
        );
        if answered < NODES as u64 {
            self.sum.partial += 1;
            return;
        }
        self.sum.complete += 1;
        if let Some(user) = &asked.disconnects {
            for actor in self.actors.iter().filter(|it| it.user == *user) {
                let older = actor.opened_at < asked.step;
                assert!(!older || actor.over, "it was open before");
            }
        }
    }

    /// Lets everything come to rest, and compares the nodes with what clients were told.
    fn rest(&mut self) {
        for node in 0..NODES {
            self.fleet.nodes[node].hangs = false;
            self.fleet.nodes[node].publishing = Receipt::Confirmed;
            if self.broken[node] {
                self.change_link(node);
            }
        }
        for _ in 0..5 {
            self.fleet.pass(1_200);
            self.look_at_sent();
            self.hear();
        }
        self.missed = self.fleet.said.len();
        assert!(self.asked.is_empty(), "every request is answered");
        for actor in self.actors.iter().filter(|actor| !actor.over && actor.v1) {
            for (of, name) in actor.names().into_iter().enumerate() {
                let from = actor.place[of].max(actor.opened);
                let missed = self.sent[from..].iter().find(|sent| sent.to == name);
                let missed = missed.filter(|_| !actor.gap[of]);
                let shown = missed.map(|sent| sent.content);
                assert_eq!(shown, None, "missed by {} on {}", actor.id(), actor.node);
            }
        }
        let node = self.dice.below(NODES);
        let mut listed = Vec::new();
        let mut after = String::new();
        loop {
            let target = format!("/connections?limit=7&after={after}");
            let page = self.fleet.lists(node, &target);
            assert_eq!(page["nodes"]["answered"], NODES);
            listed.extend(page["connections"].as_array().expect("a list").clone());
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => break,
            }
        }
        let there: Vec<&Actor> = self.actors.iter().filter(|it| !it.over).collect();
        assert_eq!(listed.len(), there.len());
        for actor in there.iter().filter(|actor| actor.v1) {
            let id = actor.id();
            let shown = listed
                .iter()
                .find(|it| it["id"] == id)
                .expect("it is listed");
            let channels = shown["channels"].as_array().expect("a list").iter();
            let channels: BTreeSet<String> = channels
                .map(|name| name.as_str().expect("a name").to_owned())
                .collect();
            assert_eq!(channels, actor.channels);
        }
        self.look_at_sent();
        self.actors.retain(|actor| !actor.over);
    }

    fn end(&mut self) {
        for actor in &self.actors {
            actor.client.far.reset();
        }
        self.fleet.pass(7_000);
        for node in 0..NODES {
            let dropped = self.fleet.hostile(node);
            self.sum.dropped += dropped
                .iter()
                .map(|(_, count)| *count as usize)
                .sum::<usize>();
            self.fleet.rig(node).assert_empty();
        }
    }
}

impl Actor {
    fn hears(&mut self, line: &str, sent: &[Sent], sum: &mut Counts) {
        match line {
            "close 4000" => {
                sum.closed += 1;
                self.over = true;
                return;
            }
            "end" => {
                self.over = true;
                return;
            }
            _ => {}
        }
        let message: Value = serde_json::from_str(line).expect("JSON");
        let content = match &message {
            Value::Number(content) => content.as_u64(),
            message if message["gap"] == true => {
                let alone = message.as_object().is_some_and(|it| it.len() == 1);
                assert!(
                    self.v1 && (alone || message["channel"].is_string()),
                    "{line}"
                );
                self.gap = if message["channel"].is_null() {
                    [true; 2]
                } else {
                    self.gap
                };
                sum.gaps += 1;
                return;
            }
            message => message["content"].as_u64(),
        };
        if let Some(channel) = message["joined"].as_str() {
            assert!(self.channels.insert(channel.to_owned()), "{line}");
        } else if let Some(channel) = message["left"].as_str() {
            assert!(self.channels.remove(channel), "{line}");
        } else {
            self.hears_content(content.expect(line), sent, sum);
        }
    }

    fn hears_content(&mut self, content: u64, sent: &[Sent], sum: &mut Counts) {
        sum.heard += 1;
        let at = sent.iter().rposition(|sent| sent.content == content);
        let at = at.expect("it was sent");
        let names = self.names();
        let of = names.iter().position(|name| *name == sent[at].to);
        // A client without a welcome does not know its id.
        let Some(of) = of.or((!self.v1).then_some(1)) else {
            panic!("{content} is not for {names:?}");
        };
        let place = &mut self.place[of];
        assert!(at >= *place, "{content} comes twice, or too late");
        let from = std::mem::replace(place, at + 1).max(self.opened);
        let told = std::mem::take(&mut self.gap[of]);
        if self.v1 && !told {
            let between = sent.get(from..at).unwrap_or_default();
            let missed = between.iter().find(|sent| sent.to == names[of]);
            let missed = missed.map(|sent| sent.content);
            assert_eq!(missed, None, "missed before {content}, and told of no gap");
        }
    }
}
