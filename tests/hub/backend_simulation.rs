//! A simulation of backends that say things to users and connections, several at once, while clients come and go.
//!
//! All clients use `wsify.v1`, and only backends make them join and leave. So each client's transcript is a second account of
//! what the hub holds.
//!
//! Invariants:
//!
//! 1. `joined` and `left` alternate for each channel. At rest a client is in the channels that it was told of last, by the
//!    lists of connections and of channels alike.
//! 2. Content of a channel comes only between its `joined` and its `left`.
//! 3. What is sent to a user reaches those connections that were open all the while, in the same order, each once.
//! 4. Every request is answered once. A disconnect leaves no connection that was open before it was sent, and none that the
//!    authorizer was asked about before.
//! 5. When all have gone, nothing is left in the hub.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wsify::effect::{Question, Verdict};
use wsify::wire::answer_fields::AnswerFields;

use crate::client::{Client, broadcast, get, upgrade};
use crate::rig::Rig;
use crate::seeds::{self, Dice};

const SEEDS: u64 = 30;
const STEPS: usize = 2_500;
const USERS: usize = 2;
const CHANNELS: usize = 4;

#[test]
fn simulation() {
    if let Some(closed) = seeds::run(module_path!(), SEEDS, Sim::play) {
        assert!(closed > 100, "{closed} were disconnected");
    }
}

struct Actor {
    client: Client,
    user: usize,
    /// The step at which the authorizer was asked about it.
    asked: Option<usize>,
    opened: Option<usize>,
    /// The channels that it was told of last.
    channels: BTreeSet<String>,
    /// Contents for its user, in order.
    heard: Vec<u64>,
    /// It ends, or has ended.
    over: bool,
}

/// A request that may not have been answered yet.
struct Asked {
    client: Client,
    sent: usize,
    disconnects: Option<usize>,
    /// To which user content is sent, and its number.
    content: Option<(usize, u64)>,
}

struct Sim {
    rig: Rig,
    dice: Dice,
    step: usize,
    actors: Vec<Actor>,
    asked: Vec<Asked>,
    questions: Vec<Question>,
    contents: u64,
    /// Contents that were sent to each user and answered: the step of the request and of the answer.
    published: Vec<(usize, u64, usize, usize)>,
    /// Disconnects of a user: the step of the request and of the answer.
    disconnects: Vec<(usize, usize, usize)>,
}

impl Sim {
    fn play(seed: u64) -> usize {
        let mut sim = Sim {
            rig: Rig::with_authorizer(),
            dice: Dice(seed),
            step: 0,
            actors: Vec::new(),
            asked: Vec::new(),
            questions: Vec::new(),
            contents: 0,
            published: Vec::new(),
            disconnects: Vec::new(),
        };
        seeds::hand_over_now_and_then(&mut sim.rig, seed);
        for step in 1..=STEPS {
            sim.step = step;
            sim.act();
            if sim.dice.chance(70) {
                sim.rig.tick();
                sim.hear();
            }
            if sim.dice.chance(2) {
                sim.rest();
            }
        }
        sim.step += 1;
        sim.rest();
        for actor in &sim.actors {
            actor.client.far.reset();
        }
        sim.rig.run();
        sim.rig.pass(6_000);
        sim.rig.assert_empty();
        sim.disconnects.len()
    }

    fn act(&mut self) {
        let (user, channel) = (self.dice.below(USERS), self.dice.below(CHANNELS));
        match self.dice.below(12) {
            0 | 1 if self.actors.len() < 300 => self.arrive(user),
            2 | 3 if !self.questions.is_empty() => {
                let at = self.dice.below(self.questions.len());
                self.answer(at);
            }
            4 if self.dice.chance(30) => {
                let at = self.dice.below(self.actors.len());
                if let Some(actor) = self.actors.get_mut(at) {
                    actor.over = true;
                    actor.client.far.reset();
                }
            }
            5 | 6 => self.post(
                "/join",
                &format!(r#"{{"user":"u{user}","channel":"c{channel}"}}"#),
            ),
            7 => self.post(
                "/leave",
                &format!(r#"{{"user":"u{user}","channel":"c{channel}"}}"#),
            ),
            8 => {
                let body = format!(
                    r#"[{{"channel":"c{channel}","content":0}},{{"channels":["c0","c1"]}}]"#
                );
                self.post("/broadcast", &body);
            }
            9 | 10 => {
                self.contents += 1;
                let content = self.contents;
                let body = format!(r#"{{"user":"u{user}","content":{content}}}"#);
                self.post("/broadcast", &body);
                self.asked.last_mut().unwrap().content = Some((user, content));
            }
            _ if self.dice.chance(3) => {
                self.post(
                    "/disconnect",
                    &format!(r#"{{"user":"u{user}","code":4000}}"#),
                );
                self.asked.last_mut().unwrap().disconnects = Some(user);
            }
            // A client asks whether it may say something, and is not answered.
            _ => {
                let at = self.dice.below(self.actors.len());
                if let Some(actor) = self.actors.get(at).filter(|it| it.client.is_websocket()) {
                    actor.client.say(&broadcast("elsewhere", "1"));
                }
            }
        }
    }

    fn arrive(&mut self, user: usize) {
        let client = self.rig.client();
        client.send(&upgrade("/ws", "Sec-WebSocket-Protocol: wsify.v1\r\n"));
        self.actors.push(Actor {
            client,
            user,
            asked: None,
            opened: None,
            channels: BTreeSet::new(),
            heard: Vec::new(),
            over: false,
        });
    }

    fn post(&mut self, path: &str, body: &str) {
        let client = self.rig.client();
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        client.send(text.as_bytes());
        self.asked.push(Asked {
            client,
            sent: self.step,
            disconnects: None,
            content: None,
        });
    }

    fn answer(&mut self, at: usize) {
        let question = self.questions.remove(at);
        let actor = self.actors.iter().find(|it| it.client.id == question.from);
        let Some(actor) = actor else { return };
        let user = Some(format!("u{}", actor.user).into());
        let answer = self.rig.send_verdict(&question, Verdict::Allow, None);
        answer.fields = Some(Box::new(AnswerFields {
            user,
            ..AnswerFields::default()
        }));
    }

    fn hear(&mut self) {
        let step = self.step;
        for question in std::mem::take(&mut self.rig.questions) {
            let mut actors = self.actors.iter_mut();
            if let Some(actor) = actors.find(|it| it.client.id == question.from)
                && actor.opened.is_none()
            {
                actor.asked.get_or_insert(step);
            }
            self.questions.push(question);
        }
        for actor in &mut self.actors {
            for line in actor.client.hear() {
                actor.hears(&line, step);
                if line == "101" {
                    let asked = actor.asked.unwrap();
                    let survived = |(user, sent, answered): &&(usize, usize, usize)| {
                        *user == actor.user && asked < *sent && *answered < step
                    };
                    assert_eq!(
                        self.disconnects.iter().find(survived),
                        None,
                        "asked in {asked}"
                    );
                }
            }
        }
        self.actors
            .retain(|actor| !(actor.over && actor.client.far.is_dropped()));
        let mut waiting = Vec::new();
        for mut asked in std::mem::take(&mut self.asked) {
            let lines = asked.client.hear();
            match &lines[..] {
                [] => {
                    waiting.push(asked);
                    continue;
                }
                [line] if line == "201" || line.starts_with("200 ") => {}
                lines => panic!("{lines:?}"),
            }
            asked.client.far.reset();
            if let Some((user, content)) = asked.content {
                self.published.push((user, content, asked.sent, step));
            }
            if let Some(user) = asked.disconnects {
                self.disconnects.push((user, asked.sent, step));
                for actor in &self.actors {
                    let older = actor.opened.is_some_and(|at| at < asked.sent);
                    assert!(
                        !older || actor.over || actor.user != user,
                        "it was open before"
                    );
                }
            }
        }
        self.asked = waiting;
    }

    /// Lets everything come to rest, and compares the hub with the transcripts.
    fn rest(&mut self) {
        self.rig.run();
        self.hear();
        assert!(self.asked.is_empty(), "every request is answered");
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        let mut connections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for actor in self
            .actors
            .iter()
            .filter(|it| it.opened.is_some() && !it.over)
        {
            let id = actor.client.welcome["connection"]
                .as_str()
                .unwrap()
                .to_owned();
            connections.insert(id, actor.channels.iter().cloned().collect());
            for channel in &actor.channels {
                *told.entry(channel.clone()).or_default() += 1;
            }
            let due: BTreeSet<u64> = self
                .published
                .iter()
                .filter(|(user, _, sent, _)| *user == actor.user && actor.opened.unwrap() < *sent)
                .map(|(_, content, ..)| *content)
                .collect();
            let heard: BTreeSet<u64> = actor.heard.iter().copied().collect();
            assert_eq!(heard.len(), actor.heard.len(), "each once");
            assert!(heard.is_superset(&due), "{due:?} are due, {heard:?} came");
        }
        for user in 0..USERS {
            self.compare_orders(user);
        }
        let listed = self.list("/connections?limit=7", "connections");
        let listed: BTreeMap<String, Vec<String>> = listed
            .iter()
            .map(|it| {
                let channels = it["channels"].as_array().unwrap().iter();
                let channels = channels.map(|name| name.as_str().unwrap().to_owned());
                (it["id"].as_str().unwrap().to_owned(), channels.collect())
            })
            .collect();
        assert_eq!(listed, connections);
        let listed = self.list("/channels?limit=3", "channels");
        let listed: BTreeMap<String, usize> = listed
            .iter()
            .map(|it| {
                let name = it["channel"].as_str().unwrap().to_owned();
                (name, it["members"].as_u64().unwrap() as usize)
            })
            .collect();
        assert_eq!(listed, told);
    }

    /// All connections of a user have heard what both heard in the same order.
    fn compare_orders(&self, user: usize) {
        let mut before: BTreeSet<(u64, u64)> = BTreeSet::new();
        for actor in self.actors.iter().filter(|it| it.user == user) {
            for pair in actor.heard.windows(2) {
                assert!(!before.contains(&(pair[1], pair[0])), "{pair:?}");
                before.insert((pair[0], pair[1]));
            }
        }
    }

    /// All pages of a list.
    fn list(&mut self, target: &str, name: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let mut backend = self.rig.client();
            backend.send(&get(&format!("{target}&after={after}")));
            self.rig.run();
            let line = backend.hear().remove(0);
            backend.far.reset();
            let page: Value = serde_json::from_str(line.strip_prefix("200 ").unwrap()).unwrap();
            all.extend(page[name].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => return all,
            }
        }
    }
}

impl Actor {
    fn hears(&mut self, line: &str, step: usize) {
        match line {
            "101" => self.opened = Some(step),
            "403 disconnected" | "close 4000" | "end" => self.over = true,
            line => {
                let message: Value = serde_json::from_str(line).expect("JSON");
                if let Some(channel) = message["joined"].as_str() {
                    assert!(self.channels.insert(channel.to_owned()), "{line}");
                } else if let Some(channel) = message["left"].as_str() {
                    assert!(self.channels.remove(channel), "{line}");
                } else if let Some(channel) = message["channel"].as_str() {
                    assert!(self.channels.contains(channel), "{line}");
                } else {
                    assert_eq!(message["user"], format!("u{}", self.user));
                    self.heard.push(message["content"].as_u64().unwrap());
                }
            }
        }
    }
}
