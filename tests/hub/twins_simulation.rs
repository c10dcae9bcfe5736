//! Twins: the same clients, verdicts and times are played twice, and one of the two hubs is replaced now and then while it
//! rests. A replacement cannot be noticed: whatever leaves the two hubs is the same, step by step.
//!
//! This finds what a snapshot forgets: a snapshot that forgets the same fact again is the same snapshot. A test of its own
//! has each fact forgotten in turn, and prints those that nothing has missed, which takes minutes:
//! `cargo test --test hub every_fact -- --ignored --nocapture`.
//!
//! Owns: what is compared: all that clients, backends and other nodes are sent, questions, events, log lines, lists, and in
//! the end `/metrics`. Left out is what may differ: slots in ids, as a restored hub takes other vacant ones; the order
//! within a step of what happens at the same time; measured times, and the memory of the process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use wsify::config::{AccessLog, AuthorizerFailure};
use wsify::connection::Limits;
use wsify::effect::{Question, Receipt, Verdict};
use wsify::hub::{EventSettings, FailurePolicy, Settings};
use wsify::log::Level;
use wsify::wire::answer_fields::{
    Allow, AnswerField, AnswerFields, CloseWith, NewState, WrongField,
};
use wsify::wire::channel_name::ChannelName;
use wsify::wire::event::EventKinds;
use wsify::wire::node_message::ALL_NODES;
use wsify::wire::node_message::envelope::NodeSeal;

use crate::client::{
    Client, DEFLATE, PING, PONG, TEXT, broadcast, close, frame, get, join, leave, text, upgrade,
    with_id,
};
use crate::facts::{Fact, facts};
use crate::nodes::Fleet;
use crate::rig::{self, Rig, settings};
use crate::seeds::{self, Dice};

const SEEDS: u64 = 60;
const STEPS: usize = 120;
const MOST_CLIENTS: usize = 14;
const CHANNELS: usize = 4;
const USERS: usize = 3;
/// All times are multiples of this many milliseconds. A deadline is kept a step of the deadline wheel earlier if a
/// connection had an earlier one before, which another hub does not know: no deadlines are to be so near to each other.
const GRAIN: u64 = 64;
/// More than the access log has room for in a second.
const CROWD: usize = 130;
/// What the nodes sign their messages with, if there are two.
const KEY: Option<&str> = Some("key");
/// How a message between nodes begins that the second one has sent.
const OF_THE_SECOND: &[u8] = br#"{"node":"0000000000000002""#;
/// The last messages of a node, one of which may come again.
const RECENT: usize = 6;

/// What happens in a life more often than in others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Nothing.
    Usual,
    /// The authorizer is down, or answers as it should not.
    Answers,
    /// Another node and the broker come and go.
    Nodes,
    /// Clients read slowly, and there is little memory.
    Memory,
}

impl Theme {
    /// What passes at once.
    fn grains(self) -> &'static [u64] {
        match self {
            Theme::Usual => &[0, 0, 1, 5, 5, 32, 320, 1_000],
            Theme::Answers | Theme::Nodes => &[0, 0, 1, 5, 5, 32, 160, 320],
            Theme::Memory => &[0, 0, 1, 1, 5, 5, 32, 320],
        }
    }
}

#[test]
fn simulation() {
    if let Some(sum) = seeds::run(module_path!(), SEEDS, play) {
        assert!(sum.replaced > 2_000 && sum.compared > 80_000, "{sum:?}");
        assert!(sum.questions > 1_200 && sum.events > 600, "{sum:?}");
    }
}

// What lives bring about too seldom.

#[test]
fn connections_keep_their_own_of_several_shared_states() {
    let mut rig = Rig::with_authorizer();
    let clients = [40, 40, 50, 50].map(|long| {
        let state = format!(r#"{{"roles":"{}"}}"#, "x".repeat(long));
        (rig.granted(*AnswerFields::with_state(&state)), long)
    });
    assert_eq!(rig.hub.inventory().shared_states, 2);
    rig.hand_over();
    for (client, long) in &clients {
        client.say(&join("c"));
        rig.run();
        let shown = rig.connection_shown();
        assert_eq!(shown["state"]["roles"].as_str().map(str::len), Some(*long));
        rig.answer(Verdict::Allow);
    }
}

#[test]
fn a_client_that_was_reset_before_a_replacement_is_not_asked_about_behind_it() {
    let mut fleet = Fleet::of(1);
    let rig = fleet.rig(0);
    let client = rig.websocket();
    client.say(&broadcast("a", "1"));
    rig.run();
    rig.answer(Verdict::Allow);
    // While the broker has not confirmed it.
    client.say(&join("b"));
    client.far.reset();
    rig.run();
    assert_eq!(rig.hub.inventory().websockets, 1);
    fleet.hand_over(0);
    fleet.settle();
    assert_eq!(fleet.rig(0).asked(), [""; 0]);
    assert!(client.far.is_dropped());
}

#[test]
fn what_waits_for_a_slow_client_is_released_behind_a_replacement_if_memory_is_short() {
    let mut rig = Rig::with(Settings {
        limits: Limits {
            max_queue: 4_000,
            ..settings().limits
        },
        max_total_queue: 20_000,
        ..settings()
    });
    let mut sender = rig.websocket();
    let content = format!(r#""{}""#, "x".repeat(3_000));
    let readers = ["a", "b", "c"].map(|channel| {
        let reader = rig.member(channel);
        reader.far.narrow(0);
        reader
    });
    for channel in ["a", "a", "b", "c"] {
        rig.says(&mut sender, &broadcast(channel, &content));
    }
    assert!(!readers[0].far.is_dropped());
    rig.hand_over();
    rig.run();
    assert!(readers[0].far.is_dropped());
    assert!(!readers[1].far.is_dropped());
}

seeds::sum! {
    /// What was played.
    struct Sum {
        replaced: usize,
        compared: usize,
        questions: usize,
        events: usize,
    }
}

fn play(seed: u64) -> Sum {
    let expected = Twin::new(seed).live();
    let found = Twin::replaced(seed).live_like(&expected.steps);
    for (step, (expected, found)) in expected.steps.iter().zip(&found.steps).enumerate() {
        let differs = |(one, other): (&String, &String)| one != other;
        let both = expected.iter().zip(found);
        let at = both.clone().position(differs).unwrap_or(both.len());
        let (expected, found) = (expected.get(at), found.get(at));
        assert_eq!(found, expected, "step {step}: a replacement was noticed");
    }
    found.sum
}

/// Seeds that are played for one fact at most: those in which most snapshots have it.
const TRIES: usize = 12;

#[test]
#[ignore = "it plays the twins for each fact, which takes minutes"]
fn nearly_every_fact_of_a_snapshot_is_missed_if_it_is_forgotten() {
    let mut lives = Vec::new();
    let mut seeds: BTreeMap<Fact, Vec<(Reverse<usize>, usize)>> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut twin = Twin::replaced(seed);
        twin.facts = Some(BTreeMap::new());
        let mut lived = twin.live();
        for (fact, snapshots) in lived.facts.take().into_iter().flatten() {
            let seeds = seeds.entry(fact).or_default();
            seeds.push((Reverse(snapshots), lives.len()));
        }
        lives.push(lived.steps);
    }
    seeds.values_mut().for_each(|seeds| seeds.sort_unstable());
    let is_noticed = |fact: &Fact, seed: usize| {
        let lived = catch_unwind(|| {
            let mut twin = Twin::replaced(seed as u64);
            twin.rig().forgotten = Some(fact.clone());
            twin.live_like(&lives[seed]).steps
        });
        lived.ok().as_ref() != Some(&lives[seed])
    };
    let seeds: Vec<_> = seeds.into_iter().collect();
    let (next, unnoticed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((fact, seeds)) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut tried = seeds.iter().take(TRIES);
            let name = fact.join(" ");
            if !tried.any(|(_, seed)| is_noticed(fact, *seed)) {
                println!("unnoticed in {} of {SEEDS} seeds: {name}", seeds.len());
                unnoticed.lock().unwrap().push(name);
            }
        }
    };
    // Most of them panic: that is what is looked for.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    std::panic::set_hook(hook);
    let (count, unnoticed) = (seeds.len(), unnoticed.into_inner().unwrap().len());
    println!("{unnoticed} of {count} facts are unnoticed");
    assert!(count > 100 && unnoticed * 4 < count);
}

struct Actor {
    client: Client,
    /// Bytes of which the client has not sent any.
    unsent: Vec<u8>,
    /// It answers no pings.
    silent: bool,
    /// Its kernel does not take everything at once.
    narrow: bool,
    over: bool,
}

impl Actor {
    fn send(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.unsent);
        all.extend_from_slice(bytes);
        self.client.send(&all);
    }
}

struct Twin {
    theme: Theme,
    dice: Dice,
    fleet: Fleet,
    /// Decides when the hub is replaced. `None`: never.
    replacing: Option<Dice>,
    /// The facts of its snapshots, and how many of these have each, if they are collected.
    facts: Option<BTreeMap<Fact, usize>>,
    actors: Vec<Actor>,
    /// Questions that are not answered, the oldest connection's first.
    open: Vec<Question>,
    /// The authorizer fails.
    down: bool,
    /// The last call that has failed since then.
    failed_call: Option<u64>,
    /// Messages between nodes that were looked at.
    overheard: usize,
    /// What is seen in this step, and in each one before.
    seen: Vec<String>,
    steps: Vec<Vec<String>>,
    said: usize,
    sum: Sum,
}

/// Ids without their slots.
fn without_slots(text: &str) -> String {
    let mut shown = text.to_owned();
    let is_hex = |part: Option<&[u8]>| part.is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
    for (at, _) in text.match_indices('-') {
        let bytes = text.as_bytes();
        let node = at.checked_sub(16).and_then(|from| bytes.get(from..at));
        if is_hex(node) && is_hex(bytes.get(at + 1..at + 21)) {
            shown.replace_range(at + 1..at + 9, "........");
        }
    }
    shown
}

/// Whether a line of `/metrics` is the same for the same events: no measured time, and no number of turns.
fn is_exact(line: &str) -> bool {
    let measured = ["wsify_loop_", "wsify_compression_seconds"];
    line.starts_with("wsify_") && !measured.iter().any(|it| line.starts_with(it))
}

fn is_gap(line: &str) -> bool {
    line.contains(r#","gap":true"#)
}

fn request(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn name(channel: usize) -> String {
    format!("room:{}:{channel}", channel % 2)
}

impl Twin {
    /// One that is never replaced.
    fn new(seed: u64) -> Twin {
        let mut dice = Dice(seed);
        let theme = dice.of(&[
            Theme::Usual,
            Theme::Usual,
            Theme::Answers,
            Theme::Nodes,
            Theme::Nodes,
            Theme::Memory,
            Theme::Memory,
        ]);
        let settings = draw(&mut dice, theme);
        let level = dice.of(&[Level::Info, Level::Debug]);
        let second = Settings {
            instance: 2,
            ..settings.clone()
        };
        let rig = Rig::with_level(settings, level);
        let mut fleet = if theme != Theme::Nodes && dice.chance(50) {
            Fleet::alone(rig)
        } else {
            let mut fleet = Fleet::default();
            fleet.add_rig(KEY, rig);
            fleet.add_rig(KEY, Rig::with(second));
            fleet.pass(600);
            fleet
        };
        let now = fleet.now();
        fleet.pass(now.next_multiple_of(GRAIN) - now);
        Twin {
            theme,
            dice,
            fleet,
            replacing: None,
            facts: None,
            actors: Vec::new(),
            open: Vec::new(),
            down: false,
            failed_call: None,
            overheard: 0,
            seen: Vec::new(),
            steps: Vec::new(),
            said: 0,
            sum: Sum::default(),
        }
    }

    /// One that is replaced now and then.
    fn replaced(seed: u64) -> Twin {
        Twin {
            replacing: Some(Dice(!seed)),
            ..Twin::new(seed)
        }
    }

    /// To the end, or to the first step that differs from `expected`.
    fn live_like(self, expected: &[Vec<String>]) -> Twin {
        self.live_while(|steps| steps.last() == expected.get(steps.len() - 1))
    }

    /// To the end.
    fn live(self) -> Twin {
        self.live_while(|_| true)
    }

    fn live_while(mut self, goes_on: impl Fn(&[Vec<String>]) -> bool) -> Twin {
        for _ in 0..STEPS {
            self.end_pauses();
            for _ in 0..self.dice.of(&[1, 2, 5]) {
                self.act();
            }
            self.rest();
            self.replace();
            let grains = self.dice.of(self.theme.grains());
            self.fleet.pass(grains * GRAIN);
            self.rest();
            if self.dice.chance(25) {
                self.observe(&["/connections?limit=1000", "/channels?limit=1000"]);
                self.rest();
            }
            self.end_step();
            if !goes_on(&self.steps) {
                return self;
            }
        }
        self.observe(&["/metrics"]);
        self.end_step();
        self
    }

    /// Has the hub replaced, perhaps. Commands that other nodes are asked for are answered before, so there must be none. One
    /// that is not replaced looks at all its connections all the same, as a restored one does.
    fn replace(&mut self) {
        let wants = self.replacing.as_mut().is_some_and(|dice| dice.chance(40));
        let is_alone = self.fleet.nodes.len() == 1;
        if wants && (is_alone || self.rig().hub.inventory().jobs == 0) {
            if let Some(all) = &mut self.facts {
                for fact in facts(&self.fleet.rig(0).snapshot()) {
                    *all.entry(fact).or_default() += 1;
                }
            }
            self.fleet.hand_over(0);
            self.sum.replaced += 1;
        } else {
            self.rig().hub.stood_still();
        }
    }

    fn end_step(&mut self) {
        self.sum.compared += self.seen.len();
        self.steps.push(std::mem::take(&mut self.seen));
    }

    fn rig(&mut self) -> &mut Rig {
        self.fleet.rig(0)
    }

    fn saw(&mut self, what: &str) {
        self.seen.push(without_slots(what));
    }

    // -- what happens

    fn act(&mut self) {
        match self.theme {
            Theme::Answers if self.dice.chance(5) => self.down = !self.down,
            // Clients leave while the broker is slow.
            Theme::Nodes if self.fleet.nodes[0].waits && self.dice.chance(35) => {
                return self.end_somehow();
            }
            Theme::Nodes if self.dice.chance(30) => return self.disturb_broker(),
            Theme::Memory if self.dice.chance(20) => return self.narrow_or_widen(),
            _ => {}
        }
        match self.dice.below(100) {
            0..10 => self.arrive(),
            10..40 => self.say(),
            40..44 => self.tear(),
            44..49 => self.end_somehow(),
            49..53 => self.narrow_or_widen(),
            53..60 => self.ask_as_backend(),
            60..64 => self.disturb_broker(),
            64 => self.down = !self.down,
            65 => self.hurry(),
            66 => self.tap(),
            67..69 => {
                let receiver = self.dice.of(&[rig::Receiver::Takes, rig::Receiver::Hangs]);
                self.rig().receiver = receiver;
            }
            _ => self.answer(),
        }
    }

    fn arrive(&mut self) {
        if self.actors.iter().filter(|it| !it.over).count() >= MOST_CLIENTS {
            return;
        }
        let mut more = String::new();
        if self.dice.chance(50) {
            more += "Sec-WebSocket-Protocol: wsify.v1\r\n";
        }
        if self.dice.chance(30) {
            more += DEFLATE;
        }
        let with_body = self.dice.chance(5);
        if with_body {
            more += "Content-Length: 3\r\n";
        }
        let target = self.dice.of(&["/ws", "/ws?a=b", "/ws?token=t%20t&n=1"]);
        let client = self.rig().client();
        let silent = self.dice.chance(10);
        self.actors.push(Actor {
            client,
            unsent: Vec::new(),
            silent,
            narrow: false,
            over: false,
        });
        let at = self.actors.len() - 1;
        self.send(at, &upgrade(target, &more));
        if with_body {
            self.send(at, b"abc");
        }
    }

    /// Sends bytes, or a part of them for now.
    fn send(&mut self, at: usize, bytes: &[u8]) {
        let cut = if self.dice.chance(10) {
            self.dice.below(bytes.len())
        } else {
            bytes.len()
        };
        let actor = &mut self.actors[at];
        actor.send(&bytes[..cut]);
        actor.unsent.extend_from_slice(&bytes[cut..]);
    }

    /// A client that is not over, if the one at random is not.
    fn someone(&mut self) -> Option<usize> {
        let at = self.dice.below(self.actors.len());
        self.actors.get(at).is_some_and(|it| !it.over).then_some(at)
    }

    fn content(&mut self) -> String {
        self.said += 1;
        let size = self.dice.of(&[0, 5, 60, 3_000]);
        format!(r#"{{"n":{},"x":"{}"}}"#, self.said, "x".repeat(size))
    }

    fn say(&mut self) {
        if let Some(at) = self.someone() {
            self.speak(at);
        }
    }

    fn speak(&mut self, at: usize) {
        for _ in 0..self.dice.of(&[1, 1, 3, 8]) {
            let channel = name(self.dice.below(CHANNELS));
            let command = match self.dice.below(10) {
                0..3 => join(&channel),
                3 => leave(&channel),
                4 => r#"{"command":"dance"}"#.to_owned(),
                5 => {
                    self.send(at, &frame(PING, b"hello"));
                    continue;
                }
                _ => {
                    let content = self.content();
                    broadcast(&channel, &content)
                }
            };
            let id = self.said as u64;
            let bytes = if self.dice.chance(60) {
                text(&with_id(id, &command))
            } else {
                text(&command)
            };
            self.send(at, &bytes);
        }
    }

    /// The first fragment of a message, or all that is left.
    fn tear(&mut self) {
        let Some(at) = self.someone() else {
            return;
        };
        let message = join(&name(self.dice.below(CHANNELS)));
        let cut = self.dice.below(message.len());
        let (first, rest) = message.as_bytes().split_at(cut);
        let actor = &mut self.actors[at];
        actor.send(&frame(TEXT & 0x7F, first));
        actor.unsent.extend(frame(0x80, rest));
    }

    fn end_somehow(&mut self) {
        let Some(at) = self.someone() else {
            return;
        };
        let (how, code) = (self.dice.below(5), self.dice.of(&[1000, 4001]));
        // What it has said before its end is served.
        if self.dice.chance(50) {
            self.speak(at);
        }
        let actor = &mut self.actors[at];
        match how {
            0 => actor.send(&close(code)),
            1 => actor.client.far.leave(),
            2 => actor.client.far.close(),
            3 => actor.client.far.reset(),
            _ => actor.send(&frame(0xB1, b"")),
        }
        // Behind a close frame or a violation the client may still send something.
        actor.over = (1..=3).contains(&how);
    }

    fn narrow_or_widen(&mut self) {
        let Some(at) = self.someone() else {
            return;
        };
        let room = self.dice.of(&[0, 50, 1_000]);
        let actor = &mut self.actors[at];
        if std::mem::replace(&mut actor.narrow, true) {
            actor.client.far.widen(room + 2_000)
        } else {
            actor.client.far.narrow(room)
        }
    }

    fn ask_as_backend(&mut self) {
        let (user, channel) = (self.dice.below(USERS), name(self.dice.below(CHANNELS)));
        let content = self.content();
        let (path, body) = match self.dice.below(8) {
            0 => ("/disconnect", format!(r#"{{"user":"user {user}"}}"#)),
            1 => (
                "/join",
                format!(r#"{{"user":"user {user}","channel":"{channel}"}}"#),
            ),
            2 => (
                "/leave",
                format!(r#"{{"user":"user {user}","channel":"{channel}"}}"#),
            ),
            3 => (
                "/broadcast",
                format!(r#"{{"user":"user {user}","content":{content}}}"#),
            ),
            4 => ("/broadcast", "{}".to_owned()),
            _ => (
                "/broadcast",
                format!(r#"{{"channel":"{channel}","content":{content}}}"#),
            ),
        };
        let node = self.dice.below(self.fleet.nodes.len());
        let client = self.fleet.rig(node).client();
        self.actors.push(Actor {
            client,
            unsent: Vec::new(),
            silent: true,
            narrow: false,
            over: false,
        });
        let at = self.actors.len() - 1;
        self.send(at, &request(path, &body));
    }

    fn disturb_broker(&mut self) {
        if self.fleet.nodes.len() < 2 {
            return;
        }
        let receipts = [Receipt::Confirmed, Receipt::Refused("NOPERM".into())];
        let channel = name(self.dice.below(CHANNELS));
        let content = self.content();
        let receipt = receipts[self.dice.below(receipts.len())].clone();
        let recent = self.dice.below(RECENT);
        match self.dice.below(10) {
            0 => self.fleet.break_listening(0),
            1 => self.fleet.mend_listening(0),
            2 => self.fleet.nodes[0].publishing = receipt,
            // Of several at once each would have another random pause.
            3 => {
                let is_nodes = self.dice.chance(30);
                let node = &mut self.fleet.nodes[0];
                node.subscribing = receipt;
                node.subscribing_to = Some(if is_nodes { ALL_NODES.into() } else { channel });
            }
            4 => self.fleet.publish(ALL_NODES, b"{}"),
            // A message that has come already.
            5 | 6 => {
                let said = self.fleet.said.iter().rev();
                let mut said = said.filter(|(_, message)| message.starts_with(OF_THE_SECOND));
                if let Some((channel, message)) = said.nth(recent).cloned() {
                    self.fleet.publish(&channel, &message);
                }
            }
            7 => self.fleet.nodes[1].hangs = true,
            8 => self.fleet.nodes[0].waits = true,
            _ => self.fleet.publish(&channel, content.as_bytes()),
        }
    }

    /// A node hangs or waits for a while.
    fn end_pauses(&mut self) {
        for at in 0..self.fleet.nodes.len() {
            let node = &mut self.fleet.nodes[at];
            if (node.hangs || node.waits) && self.dice.chance(25) {
                (node.hangs, node.waits) = (false, false);
            }
        }
    }

    /// More bad requests than the access log has room for.
    fn hurry(&mut self) {
        for _ in 0..CROWD {
            let client = self.rig().client();
            client.send(b"GET\r\n\r\n");
            client.far.leave();
        }
        self.fleet.settle();
    }

    /// A tap that gets more than it has room for. It ends before the hub is replaced: taps are not handed over.
    fn tap(&mut self) {
        let tap = self.rig().client();
        tap.send(&get("/tap"));
        self.fleet.settle();
        let one = format!(
            r#"{{"channel":"{}","content":"{}"}}"#,
            name(0),
            "x".repeat(150)
        );
        let backend = self.rig().client();
        backend.send(&request(
            "/broadcast",
            &format!("[{}]", vec![one; 100].join(",")),
        ));
        self.fleet.settle();
        tap.far.reset();
        backend.far.leave();
        self.fleet.settle();
    }

    /// The authorizer answers a question, or fails to.
    fn answer(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let question = self.open.remove(self.dice.below(self.open.len()));
        let is_odd = self.theme == Theme::Answers && self.dice.chance(60);
        let roll = self.dice.below(if is_odd { 24 } else { 100 });
        let verdict = match roll {
            _ if self.down => Verdict::Unavailable,
            0..4 => Verdict::Unavailable,
            4..20 => Verdict::Deny,
            _ => Verdict::Allow,
        };
        let fields = self.fields();
        let wrong = WrongField {
            field: self.dice.of(&[AnswerField::User, AnswerField::Allow]),
            value: "7".into(),
            why: "a text".into(),
        };
        let down = self.down;
        // A call may have been for several questions.
        let same_call = self.failed_call.filter(|_| down && self.dice.chance(50));
        let answer = self.rig().send_verdict(&question, verdict, None);
        answer.call = same_call.or(answer.call);
        let failed_call = answer.call.filter(|_| down);
        answer.trouble = (verdict == Verdict::Unavailable).then(|| "trouble".to_owned());
        match verdict {
            // It alone is not answered as it should be.
            Verdict::Unavailable if !down => {
                (answer.status, answer.call_failed) = (Some(200), false);
                answer.wrong.push(wrong);
            }
            Verdict::Unavailable => {}
            Verdict::Deny if roll < 8 => answer.status = Some(204),
            Verdict::Allow if roll < 24 => answer.unreadable = Some("no JSON".to_owned()),
            Verdict::Allow | Verdict::Deny => answer.fields = fields.boxed(),
        }
        self.failed_call = failed_call;
        self.fleet.settle();
    }

    /// A question that was never put.
    fn is_not_put(&mut self, question: &Question) {
        let answer = self
            .rig()
            .send_verdict(question, Verdict::Unavailable, None);
        (answer.call, answer.call_failed) = (None, false);
    }

    fn fields(&mut self) -> AnswerFields {
        let mut fields = AnswerFields::default();
        let n = self.dice.below(USERS);
        if self.dice.chance(60) {
            fields.user = Some(format!("user {n}").into());
        }
        if self.dice.chance(50) {
            let long = 40 + self.dice.below(2);
            // None, one of its own, and two that many have.
            fields.state = Some(match self.dice.below(5) {
                0 => NewState::Removed,
                1 => NewState::Json(self.said.to_string().into()),
                _ => NewState::Json(format!(r#"{{"roles":"{}"}}"#, "x".repeat(long)).into()),
            });
        }
        if self.dice.chance(40) {
            let channel = name(self.dice.below(CHANNELS));
            fields.channels = vec![ChannelName::checked(&channel)];
        }
        if self.dice.chance(30) {
            let all: Box<[Box<str>]> = Box::new(["room:1:*".into()]);
            fields.allow = Some(Allow {
                join: all.clone(),
                leave: all.clone(),
                broadcast: all,
            });
        }
        if self.dice.chance(30) {
            fields.expires_in = Some(self.dice.of(&[1, 30]));
        }
        if self.dice.chance(30) {
            fields.max_age = Some(self.dice.of(&[1, 600]));
        }
        if self.dice.chance(20) && fields.max_age.is_none() {
            fields.content = Some(b"\"another\"".as_slice().into());
        }
        if self.dice.chance(50) {
            fields.message = Some(format!("no {n}").into());
        }
        if self.dice.chance(10) {
            fields.close = Some(CloseWith {
                code: 4000 + n as u16,
                reason: None,
            });
        }
        fields
    }

    // -- what is seen

    /// Runs the loop until nothing is left to do, and looks at what has come out.
    fn rest(&mut self) {
        loop {
            self.fleet.settle();
            let answers = self.hear();
            if !answers {
                break;
            }
        }
        self.take_questions();
        self.overhear();
        let mut logged = self.rig().logged();
        for line in &mut logged {
            line["time"] = Value::Null;
            // How much was buffered in the middle of a step depends on the order in it.
            if line.get("limit").is_some() {
                line["bytes"] = Value::Null;
            }
        }
        let shown = logged.iter().map(|line| without_slots(&line.to_string()));
        let mut lines: Vec<String> = shown.collect();
        lines.sort_unstable();
        self.seen.append(&mut lines);
        self.take_events();
    }

    /// Looks at what the node has told the others. In which order it has numbered what it says in a step is no difference.
    fn overhear(&mut self) {
        let instance = self.rig().settings.instance;
        let seal = NodeSeal::new(KEY, "");
        let (mut shown, mut numbers) = (Vec::new(), Vec::new());
        for (channel, message) in &self.fleet.said[self.overheard..] {
            let Ok(envelope) = seal.open(channel, message) else {
                continue;
            };
            if envelope.node != instance {
                continue;
            }
            let mut message: Value = serde_json::from_slice(envelope.message).expect("JSON");
            numbers.push((envelope.count, message["number"].take().as_u64()));
            shown.push(format!("to {channel} at {}: {message}", envelope.time));
        }
        self.overheard = self.fleet.said.len();
        shown.sort_unstable();
        numbers.sort_unstable();
        if !numbers.is_empty() {
            shown.push(format!("numbers {numbers:?}"));
        }
        for shown in shown {
            self.saw(&shown);
        }
    }

    fn take_events(&mut self) {
        let mut events = std::mem::take(&mut self.rig().events);
        self.sum.events += events.len();
        let last = events.last().map(|event| event["seq"].clone());
        self.saw(&format!("{} events, up to {last:?}", events.len()));
        // Of those that happen at the same time the first are dropped.
        if self.rig().settings.events.is_some_and(|it| it.queue < 100) {
            return;
        }
        for event in &mut events {
            event["seq"] = Value::Null;
        }
        let shown = events.iter().map(|event| without_slots(&event.to_string()));
        let mut shown: Vec<String> = shown.collect();
        shown.sort_unstable();
        self.seen.append(&mut shown);
    }

    /// Reads what clients are sent. Returns whether one has answered to it.
    fn hear(&mut self) -> bool {
        let mut answers = false;
        for at in 0..self.actors.len() {
            let actor = &mut self.actors[at];
            if !actor.client.has_news() {
                continue;
            }
            let was_http = !actor.client.is_websocket();
            let lines = actor.client.hear();
            let mut shown = if was_http {
                vec![actor.client.head.clone()]
            } else {
                Vec::new()
            };
            for line in &lines {
                match line.as_str() {
                    "ping" if !actor.silent && !actor.over => {
                        actor.send(&frame(PONG, b""));
                        answers = true;
                    }
                    "end" => actor.over = true,
                    _ => {}
                }
            }
            shown.extend(lines);
            // Gaps in several channels come in any order.
            for gaps in shown.chunk_by_mut(|one, other| is_gap(one) && is_gap(other)) {
                gaps.sort_unstable();
            }
            for line in shown {
                self.saw(&format!("client {at}: {line}"));
            }
        }
        answers
    }

    fn take_questions(&mut self) {
        let rig = self.rig();
        let mut withdrawn: Vec<u32> = rig.withdrawn.drain(..).map(|it| it.generation).collect();
        let recalled = std::mem::take(&mut rig.recalled);
        let asked = std::mem::take(&mut rig.questions);
        let mut asked: VecDeque<Question> = asked;
        asked
            .make_contiguous()
            .sort_by_key(|question| question.from.generation);
        self.sum.questions += asked.len();
        for question in asked {
            let body = String::from_utf8_lossy(&question.body).into_owned();
            self.saw(&format!("question {body} {}", question.alone));
            self.open.push(question);
        }
        self.open.sort_by_key(|question| question.from.generation);
        withdrawn.sort_unstable();
        self.saw(&format!("withdrawn {withdrawn:?}, recalled {recalled}"));
        self.open
            .retain(|question| !withdrawn.contains(&question.from.generation));
        if recalled > 0 {
            for question in self.open.split_off(self.open.len() / 2) {
                self.is_not_put(&question);
            }
            self.fleet.settle();
        }
    }

    /// Looks at the metrics, or at lists.
    fn observe(&mut self, targets: &[&str]) {
        let mut backend = self.rig().client();
        for target in targets {
            backend.send(&get(target));
            self.fleet.settle();
            let answered = !backend.hear().is_empty();
            let body = backend.head.split_once("\r\n\r\n");
            let Some((_, body)) = body.filter(|_| answered) else {
                self.saw(&format!("{target} is not answered"));
                break;
            };
            match serde_json::from_str::<Value>(body) {
                Ok(list) => {
                    for (name, value) in list.as_object().expect("an object") {
                        let value = value.as_array().cloned().unwrap_or(vec![value.clone()]);
                        let mut items: Vec<String> = value.iter().map(Value::to_string).collect();
                        items = items.iter().map(|it| without_slots(it)).collect();
                        items.sort_unstable();
                        self.saw(&format!("{target} {name} {items:?}"));
                    }
                }
                Err(_) => {
                    for line in body.lines().filter(|line| is_exact(line)) {
                        self.saw(line);
                    }
                }
            }
        }
        backend.far.leave();
    }
}

fn draw(dice: &mut Dice, theme: Theme) -> Settings {
    let events = dice.of(&[0, 3, 1_000]);
    let (queue, total_queue) = if theme == Theme::Memory {
        (4_000, dice.of(&[20_000, 28_000]))
    } else {
        let queue = dice.of(&[4_000, 1 << 20]);
        (queue, dice.of(&[60_000, 1 << 30]))
    };
    let failures = [
        AuthorizerFailure::Reject,
        AuthorizerFailure::Hold,
        AuthorizerFailure::Close,
    ];
    let failure = if theme == Theme::Answers {
        dice.of(&failures[..2])
    } else {
        dice.of(&failures)
    };
    Settings {
        limits: Limits {
            ping_interval: dice.of(&[0, 40, 400]) * GRAIN,
            // Not near to where input of an answered request is discarded until.
            handshake_timeout: 160 * GRAIN + 44,
            max_queue: queue,
            ..settings().limits
        },
        authorizer: theme == Theme::Answers || dice.chance(75),
        max_connections: dice.of(&[4, 1_000]),
        max_connections_per_ip: dice.of(&[0, 0, 6]),
        max_channels: dice.of(&[2, 1_000]),
        max_message_rate: dice.of(&[0, 2, 10]),
        max_total_queue: total_queue,
        compression: dice.of(&[None, Some(1), Some(60)]),
        access_log: dice.of(&[AccessLog::All, AccessLog::Errors]),
        events: (events > 0).then(|| EventSettings {
            kinds: EventKinds::all(),
            queue: events,
        }),
        failure: FailurePolicy {
            failure,
            hold: dice.of(&[50, 700]) * GRAIN,
            workers: dice.of(&[1, 4]),
            ..FailurePolicy::default()
        },
        ..settings()
    }
}
