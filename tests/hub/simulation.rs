//! Random clients, chunkings, short writes, edges, verdicts and time, held against a naive model.
//!
//! What holds, whatever happens:
//!
//! 1. Of each channel every member gets a contiguous stretch of one and the same sequence, in either dialect, each
//!    content byte for byte.
//! 2. The stretch begins behind the answer to the join and ends before the answer to the leave. Nothing is in it that
//!    was known to be published before the join was sent, and nothing is missing that was published before the leave
//!    was sent, or, while one stays, at all.
//! 3. What a member publishes itself is in its stretch exactly when it said so between its join and its leave.
//! 4. What was answered as published, by `ok` or `201`, or allowed without an id, is in the sequence exactly once; what
//!    was denied is not.
//! 5. Everything said is answered in order, with what the verdict, the limits and its form make of it; nothing is
//!    answered before its verdict.
//! 6. One question at a time about each connection, about its next command; a verdict about nobody changes nothing.
//! 7. Who said something whole and left, closed or broke off is still heard.
//! 8. A reader is closed as too slow only if it was slow, as silent only if it was silent.
//! 9. After a stop everybody has been told with 1012; when all have gone, nothing is left: no connection, membership,
//!    channel, run.
//! 10. The loop never spins.
//!
//! `WSIFY_SEED=123 cargo test simulation` repeats one seed, `WSIFY_SEEDS=10000` tries more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use wsify::connection::Limits;
use wsify::effect::{ConnId, Question, Verdict};
use wsify::hub::Settings;

use crate::client::{
    CLOSE, Client, PING, PONG, broadcast, close, frame, join, leave, post, text, upgrade, with_id,
};
use crate::house::{House, settings};

const SEEDS: u64 = 300;

#[test]
fn simulation() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|n| n.parse().expect("a number"))
    };
    let (from, count) = match number("WSIFY_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("WSIFY_SEEDS").unwrap_or(SEEDS)),
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let next = AtomicU64::new(from);
    let play = || {
        let mut sum = Sum::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return sum;
            }
            match catch_unwind(|| Sim::play(seed)) {
                Ok(one) => sum.add(&one),
                Err(panic) => {
                    eprintln!("seed {seed}: WSIFY_SEED={seed} cargo test simulation");
                    resume_unwind(panic);
                }
            }
        }
    };
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(play)).collect();
        for player in players {
            match player.join() {
                Ok(one) => sum.add(&one),
                Err(panic) => resume_unwind(panic),
            }
        }
    });
    println!("{count} seeds: {sum:?}");
    // That a simulation finds nothing says something only if it does something.
    if count >= SEEDS {
        let seen = |reason: &str| sum.endings.contains_key(reason);
        for reason in [
            "left",
            "reset",
            "closed",
            "too_slow",
            "silent",
            "stopping",
            "authorizer_down",
        ] {
            assert!(seen(reason), "nobody ended as {reason}");
        }
        assert!(sum.heard > 10_000 && sum.stretches > 500 && sum.published > 3_000);
    }
}

/// What was played.
#[derive(Debug, Default)]
struct Sum {
    ticks: usize,
    published: usize,
    heard: usize,
    stretches: usize,
    questions: usize,
    endings: BTreeMap<String, usize>,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        self.ticks += other.ticks;
        self.published += other.published;
        self.heard += other.heard;
        self.stretches += other.stretches;
        self.questions += other.questions;
        for (reason, count) in &other.endings {
            *self.endings.entry(reason.clone()).or_default() += count;
        }
    }
}

/// A generator that is told its seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What an actor has said, or asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Join(usize),
    Leave(usize),
    Broadcast(usize, usize),
    Ping(String),
    Bad,
    Close(u16),
    /// By HTTP.
    Post(usize, usize),
    BadPost,
}

#[derive(Debug)]
struct Said {
    what: What,
    id: Option<u64>,
    /// When it was said, in steps.
    at: usize,
    /// Where it ends in the actor's stream of bytes.
    end: usize,
    verdict: Option<Verdict>,
}

/// The time between a join and a leave.
#[derive(Debug)]
struct Stretch {
    channel: usize,
    /// The join in the actor's log, and the leave.
    from: usize,
    to: Option<usize>,
    /// When the answers were heard.
    joined: usize,
    left: Option<usize>,
    heard: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its upgrade is not answered.
    Asking,
    Open,
    Backend,
    /// It does no more.
    Done,
}

struct Actor {
    client: Client,
    stage: Stage,
    /// The authorizer is to let it in: it has said things behind its upgrade request.
    sure: bool,
    v1: bool,
    /// Reads when it likes.
    slow: bool,
    /// Answers no pings.
    silent: bool,
    outgoing: Vec<u8>,
    queued: usize,
    transmitted: usize,
    log: Vec<Said>,
    /// So much of the log has been answered.
    answered: usize,
    joined: BTreeSet<usize>,
    /// So much of the log the authorizer has been asked about; what the actor is in when all of that is done.
    asked: usize,
    asked_joined: BTreeSet<usize>,
    stretches: Vec<Stretch>,
    lines: Vec<String>,
    /// It ended its stream itself, or said that it would close.
    leaving: bool,
    gone: bool,
    reason: Option<String>,
}

#[derive(Debug)]
struct Published {
    channel: usize,
    content: String,
    said: usize,
    /// When it was first known to be published.
    known: Option<usize>,
    must: bool,
    must_not: bool,
}

struct Sim {
    dice: Dice,
    house: House,
    authorizer: bool,
    max_channels: usize,
    channels: usize,
    large: usize,
    ping_interval: u64,
    actors: Vec<Actor>,
    by_id: HashMap<ConnId, usize>,
    published: Vec<Published>,
    /// Of each channel, what its witnesses have heard.
    truth: Vec<Vec<usize>>,
    step: usize,
    /// A long time has passed since the last turn.
    slept: bool,
    stopping: bool,
    most_actors: usize,
    next_id: u64,
    sum: Sum,
}

const WITNESSES: usize = 2;

/// Contents of up to this size are so large that a channel can be congested.
const LARGE: usize = 400_000;

/// Turns after which a loop that has always something to do is taken for one that spins.
const REST: usize = 20_000;

fn name(channel: usize) -> String {
    format!("channel {channel}")
}

impl Sim {
    fn play(seed: u64) -> Sum {
        let mut sim = Sim::new(seed);
        sim.open_witnesses();
        let steps = match sim.actors.len() + sim.large {
            0..100 => sim.dice.of(&[30, 100, 150]),
            _ => sim.dice.of(&[20, 40]),
        };
        for _ in 0..steps {
            sim.act();
            sim.tick();
        }
        sim.come_to_rest();
        sim.judge();
        // The end: everybody goes, or is told to.
        for _ in 0..20 {
            sim.act();
            sim.tick();
        }
        if sim.dice.chance(50) {
            sim.stop();
        }
        sim.all_leave();
        sim.sum.ticks = sim.house.ticks;
        sim.sum.published = sim.truth.iter().map(Vec::len).sum();
        sim.sum
    }

    fn new(seed: u64) -> Sim {
        let mut dice = Dice(seed);
        let authorizer = dice.chance(60);
        let large = if dice.chance(2) {
            LARGE
        } else {
            dice.of(&[1, 60, 60, 2_000])
        };
        let max_channels = dice.of(&[1, 2, 1000]);
        let ping_interval = dice.of(&[0, 5_000, 25_000]);
        let max_queue = match large {
            LARGE => 64 << 20,
            large => dice.of(&[large * 3 + 300, large * 10 + 1000, 1 << 20]),
        };
        let mut house = House::with(Settings {
            limits: Limits {
                ping_interval,
                max_queue,
                ..settings().limits
            },
            authorizer,
            max_channels,
            ..settings()
        });
        house.buffer = match large {
            0..100 => vec![0; dice.of(&[7, 200, 65_536])],
            100..10_000 => vec![0; dice.of(&[1_000, 65_536])],
            _ => vec![0; 4 << 20],
        };
        let channels = dice.of(&[1, 2, 4]);
        Sim {
            dice,
            house,
            authorizer,
            max_channels,
            channels,
            large,
            ping_interval,
            actors: Vec::new(),
            by_id: HashMap::new(),
            published: Vec::new(),
            truth: vec![Vec::new(); channels],
            step: 0,
            slept: false,
            stopping: false,
            most_actors: 0,
            next_id: 0,
            sum: Sum::default(),
        }
    }

    /// Of each channel one member in each dialect, who hears everything from the beginning to the end; and, sometimes, a
    /// crowd, so that a broadcast takes many turns.
    fn open_witnesses(&mut self) {
        let witnesses = self.channels * WITNESSES;
        let crowd = if self.large < 100 && self.dice.chance(8) {
            150
        } else {
            0
        };
        self.most_actors = witnesses + crowd + 40;
        for nth in 0..witnesses + crowd {
            let at = self.arrive(true, nth % 2 == 1);
            let actor = &mut self.actors[at];
            if std::mem::take(&mut actor.slow) {
                actor.client.far.narrow(usize::MAX);
                actor.client.far.wire_mut().largest_write = usize::MAX;
            }
            actor.silent = false;
            let channel = if nth < witnesses { nth / WITNESSES } else { 0 };
            self.say(at, What::Join(channel), true);
        }
        self.come_to_rest_allowing();
        assert!(self.actors.iter().all(|actor| actor.joined.len() == 1));
    }

    /// One of those who hear everything.
    fn is_witness(&self, at: usize) -> bool {
        at < self.channels * WITNESSES
    }

    fn arrive(&mut self, sure: bool, v1: bool) -> usize {
        let client = self.house.client();
        let at = self.actors.len();
        self.by_id.insert(client.id, at);
        let slow = self.dice.chance(20);
        if slow && self.dice.chance(50) {
            client.far.narrow(self.dice.below(200) + 1);
        } else if slow {
            let most = 1 + self.dice.below(50) + self.large / 10;
            client.far.wire_mut().largest_write = most;
        }
        let mut actor = Actor {
            client,
            stage: Stage::Asking,
            sure,
            v1,
            slow,
            silent: self.dice.chance(20),
            outgoing: Vec::new(),
            queued: 0,
            transmitted: 0,
            log: Vec::new(),
            answered: 0,
            joined: BTreeSet::new(),
            asked: 0,
            asked_joined: BTreeSet::new(),
            stretches: Vec::new(),
            lines: Vec::new(),
            leaving: false,
            gone: false,
            reason: None,
        };
        let more = if v1 {
            "Sec-WebSocket-Protocol: wsify.v1\r\n"
        } else {
            ""
        };
        actor.send(&upgrade("/ws?a=b", more));
        self.actors.push(actor);
        at
    }

    fn arrive_as_backend(&mut self) {
        let at = self.arrive(true, false);
        let actor = &mut self.actors[at];
        actor.outgoing.clear();
        actor.queued = 0;
        actor.stage = Stage::Backend;
    }

    fn say(&mut self, at: usize, what: What, with: bool) {
        let id = with.then(|| {
            self.next_id += 1;
            self.next_id
        });
        let command = match &what {
            What::Join(channel) => join(&name(*channel)),
            What::Leave(channel) => leave(&name(*channel)),
            What::Broadcast(channel, n) => broadcast(&name(*channel), &self.published[*n].content),
            _ => String::new(),
        };
        let command = id.map_or(command.clone(), |id| with_id(id, &command));
        let bytes = match &what {
            What::Ping(payload) => frame(PING, payload.as_bytes()),
            What::Bad => text(r#"{"command":"join","args":[]}"#),
            What::Close(code) => close(*code),
            What::Post(channel, n) => post(&format!(
                r#"{{"channel":"{}","content":{}}}"#,
                name(*channel),
                self.published[*n].content
            )),
            What::BadPost => post("{}"),
            _ => self.torn(command.as_bytes()),
        };
        let step = self.step;
        let actor = &mut self.actors[at];
        actor.send(&bytes);
        actor.log.push(Said {
            what,
            id,
            at: step,
            end: actor.queued,
            verdict: None,
        });
    }

    /// A message, whole or in fragments.
    fn torn(&mut self, message: &[u8]) -> Vec<u8> {
        if message.len() > 1000 || self.dice.chance(85) {
            return frame(0x81, message);
        }
        let cut = self.dice.below(message.len());
        let mut bytes = frame(0x01, &message[..cut]);
        if self.dice.chance(30) {
            bytes.extend(frame(PONG, b""));
        }
        bytes.extend(frame(0x80, &message[cut..]));
        bytes
    }

    fn publish(&mut self) -> (usize, usize) {
        let channel = self.dice.below(self.channels);
        let n = self.published.len();
        let size = self.dice.below(self.large);
        let content = format!(r#"{{"c":{channel},"n":{n},"x":"{}"}}"#, "x".repeat(size));
        self.published.push(Published {
            channel,
            content,
            said: self.step,
            known: None,
            must: false,
            must_not: false,
        });
        (channel, n)
    }

    /// Somebody does something.
    fn act(&mut self) {
        if self.large == LARGE && self.dice.chance(10) {
            // So much at once that publishers have to wait.
            for _ in 0..40 {
                let (at, (channel, n)) = (self.dice.below(self.actors.len()), self.publish());
                if self.actors[at].stage == Stage::Open && !self.actors[at].leaving {
                    self.say(at, What::Broadcast(channel, n), n % 2 == 0);
                }
            }
        }
        for _ in 0..self.dice.of(&[0, 1, 1, 3, 10]) {
            match self.dice.below(100) {
                0..10 if self.actors.len() < self.most_actors => {
                    let (sure, v1) = (self.dice.chance(30), self.dice.chance(40));
                    let at = self.arrive(sure, v1);
                    if sure {
                        self.say_something(at);
                    }
                }
                10..14 if self.actors.len() < self.most_actors => self.arrive_as_backend(),
                _ => {
                    let at = self.dice.below(self.actors.len());
                    self.say_something(at);
                }
            }
        }
        if self.dice.chance(30) {
            let at = self.dice.below(self.actors.len());
            if !self.is_witness(at) {
                self.end_somehow(at);
            }
        }
        self.transmit();
        // Verdicts come home in any order, some late, and some to nobody.
        while !self.house.questions.is_empty() && self.dice.chance(60) {
            let at = self.dice.below(self.house.questions.len());
            let question = self.house.questions.remove(at).expect("a question");
            let verdict = match self.dice.below(100) {
                0..3 => Verdict::Unavailable,
                3..15 => Verdict::Deny,
                _ => Verdict::Allow,
            };
            self.decide(question, verdict);
        }
        if self.dice.chance(10) {
            let nobody = ConnId {
                slot: self.dice.below(20) as u32,
                generation: 1_000_000,
            };
            let question = Question {
                from: nobody,
                wants_state: false,
                body: Vec::new(),
            };
            self.house.send_verdict(&question, Verdict::Allow, None);
        }
        if self.dice.chance(20) {
            let most = match self.ping_interval {
                0 => 15_000,
                interval => interval * 8 / 10,
            };
            let most = self.dice.of(&[20, 500, most as usize]);
            self.house.hub.clock.now += self.dice.below(most) as u64;
            self.slept = most > 500;
        }
    }

    fn say_something(&mut self, at: usize) {
        let witness = self.is_witness(at);
        let actor = &self.actors[at];
        if actor.leaving {
            return;
        }
        let with = self.dice.chance(60);
        match actor.stage {
            Stage::Done => {}
            Stage::Asking if !actor.sure => {}
            Stage::Backend => {
                for _ in 0..self.dice.of(&[1, 1, 5]) {
                    if self.dice.chance(10) {
                        self.say(at, What::BadPost, false);
                    } else {
                        let (channel, n) = self.publish();
                        self.say(at, What::Post(channel, n), false);
                    }
                }
            }
            Stage::Asking | Stage::Open => {
                for _ in 0..self.dice.of(&[1, 1, 1, 4]) {
                    let channel = self.dice.below(self.channels);
                    let what = match self.dice.below(100) {
                        0..5 => What::Bad,
                        5..12 => What::Ping(self.step.to_string()),
                        12..35 if !witness => What::Join(channel),
                        35..50 if !witness => What::Leave(channel),
                        _ => {
                            let (channel, n) = self.publish();
                            What::Broadcast(channel, n)
                        }
                    };
                    let always = matches!(what, What::Join(_) | What::Leave(_));
                    let never = matches!(what, What::Bad | What::Ping(_));
                    self.say(at, what, always || with && !never);
                }
            }
        }
    }

    fn end_somehow(&mut self, at: usize) {
        let how = self.dice.below(5);
        let code = self.dice.of(&[1000, 1001, 4000]);
        if self.actors[at].leaving {
            return;
        }
        if how == 0 && self.actors[at].stage == Stage::Open {
            return self.close(at, code);
        }
        let cut = self.dice.chance(20);
        let actor = &mut self.actors[at];
        actor.leaving = true;
        if !cut {
            actor.transmit(usize::MAX);
        }
        actor.fall_silent();
        match how {
            1 => actor.client.far.reset(),
            2 => actor.client.far.vanish(),
            _ => actor.client.far.leave(),
        }
    }

    fn close(&mut self, at: usize, code: u16) {
        self.say(at, What::Close(code), false);
        self.actors[at].leaving = true;
    }

    /// Bytes go on the wire in chunks, and come off it.
    fn transmit(&mut self) {
        for at in 0..self.actors.len() {
            if self.actors[at].outgoing.is_empty() && !self.actors[at].slow {
                continue;
            }
            let most = match self.dice.below(10) {
                0 => 0,
                1 => 1,
                2 => self.dice.below(40),
                _ => usize::MAX,
            };
            let witness = self.is_witness(at);
            let widens = self
                .dice
                .chance(30)
                .then(|| self.dice.below(500 + self.large));
            let actor = &mut self.actors[at];
            actor.transmit(if witness { usize::MAX } else { most });
            if let Some(more) = widens
                && actor.slow
            {
                actor.client.far.widen(more);
            }
        }
    }

    fn tick(&mut self) {
        self.step += 1;
        // Who has answered a ping is not to wait for a second sleep to be heard.
        let lazy = self.dice.chance(20) && !std::mem::take(&mut self.slept);
        let dice = &mut self.dice;
        let open = self.house.questions.len();
        self.house.tick_some(|| !lazy || dice.chance(60));
        self.match_questions(open);
        for at in 0..self.actors.len() {
            self.hear(at);
        }
        self.read_log();
    }

    /// Every question behind the first `open` is about the next command of its connection (6).
    fn match_questions(&mut self, open: usize) {
        for question in self.house.questions.iter().skip(open) {
            let at = self.by_id[&question.from];
            let actor = &mut self.actors[at];
            let body: serde_json::Value = serde_json::from_slice(&question.body).expect("JSON");
            let command = body["command"].as_str().expect("a command");
            if command == "connect" {
                continue;
            }
            assert_eq!(body["connection"]["query"]["a"][0], "b");
            let next = loop {
                let said = &actor.log[actor.asked];
                let full = actor.asked_joined.len() >= self.max_channels;
                match said.what {
                    What::Join(channel) if full && !actor.asked_joined.contains(&channel) => {}
                    What::Join(_) | What::Leave(_) | What::Broadcast(..) => break said,
                    _ => {}
                }
                actor.asked += 1;
            };
            let (verb, channel) = match next.what {
                What::Join(channel) => ("join", channel),
                What::Leave(channel) => ("leave", channel),
                What::Broadcast(channel, n) => {
                    assert_eq!(body["args"]["content"]["n"], n);
                    ("broadcast", channel)
                }
                _ => unreachable!(),
            };
            assert_eq!(command, verb);
            assert_eq!(body["args"]["channel"], name(channel));
        }
        let mut about: Vec<ConnId> = self.house.questions.iter().map(|q| q.from).collect();
        about.sort_unstable_by_key(|id| id.slot);
        about.dedup();
        assert_eq!(
            about.len(),
            self.house.questions.len(),
            "one question at a time"
        );
    }

    fn decide(&mut self, question: Question, verdict: Verdict) {
        self.sum.questions += 1;
        let at = self.by_id[&question.from];
        let witness = self.is_witness(at);
        let actor = &mut self.actors[at];
        let connects = question.wants_state;
        let verdict = match verdict {
            Verdict::Unavailable if witness => Verdict::Deny,
            _ if connects && actor.sure => Verdict::Allow,
            other => other,
        };
        if !connects {
            let said = &mut actor.log[actor.asked];
            assert_eq!(said.verdict, None);
            said.verdict = Some(verdict);
            actor.asked += 1;
            if verdict == Verdict::Allow {
                match said.what {
                    What::Join(channel) => drop(actor.asked_joined.insert(channel)),
                    What::Leave(channel) => drop(actor.asked_joined.remove(&channel)),
                    _ => {}
                }
            }
        }
        self.house.send_verdict(&question, verdict, None);
    }

    fn hear(&mut self, at: usize) {
        if !self.actors[at].client.has_news() {
            return;
        }
        let lines = self.actors[at].client.hear();
        for line in lines {
            self.heard(at, &line);
            self.actors[at].lines.push(line);
        }
    }

    fn heard(&mut self, at: usize, line: &str) {
        let actor = &mut self.actors[at];
        if line == "end" {
            actor.stage = Stage::Done;
            return;
        }
        if line == "408 request_timeout, close" {
            assert!(!actor.client.is_websocket());
            (actor.stage, actor.leaving) = (Stage::Done, true);
            actor.fall_silent();
            actor.client.far.leave();
            return;
        }
        if actor.stage == Stage::Asking {
            actor.stage = match line {
                "101" => Stage::Open,
                refused => {
                    assert!(
                        !actor.sure || refused.starts_with("503 draining"),
                        "{refused}"
                    );
                    assert!(
                        refused.starts_with("403") || refused.starts_with("503"),
                        "{refused}"
                    );
                    actor.leaving = true;
                    actor.client.far.leave();
                    Stage::Done
                }
            };
            return;
        }
        if line == "ping" {
            if !actor.silent {
                actor.send(&frame(PONG, b""));
                actor.transmit(usize::MAX);
            }
            return;
        }
        let content = match line.strip_prefix(r#"{"channel":"channel "#) {
            Some(rest) => {
                assert!(actor.v1);
                let (channel, rest) = rest.split_once(r#"","content":"#).expect("a content");
                let content = rest.strip_suffix('}').expect("an end");
                assert!(content.starts_with(&format!(r#"{{"c":{channel},"#)));
                Some(content)
            }
            None => line.starts_with(r#"{"c":"#).then(|| {
                assert!(!actor.v1);
                line
            }),
        };
        match content {
            Some(content) => self.got(at, content),
            None => self.answered(at, line),
        }
    }

    /// A member gets something that was published.
    fn got(&mut self, at: usize, content: &str) {
        self.sum.heard += 1;
        let (_, rest) = content.split_once(r#""n":"#).expect("a number");
        let (n, _) = rest.split_once(',').expect("its end");
        let n: usize = n.parse().expect("a number");
        let step = self.step;
        let witness = self.is_witness(at);
        let published = &mut self.published[n];
        assert!(content == published.content, "a content was changed");
        let channel = published.channel;
        if witness && at.is_multiple_of(WITNESSES) {
            published.known.get_or_insert(step);
            self.truth[channel].push(n);
        }
        let actor = &mut self.actors[at];
        let stretch = actor
            .stretches
            .iter_mut()
            .rev()
            .find(|s| s.channel == channel);
        let stretch = stretch.filter(|s| s.left.is_none());
        stretch.expect("it is a member").heard.push(n);
    }

    /// What was said is answered (5).
    fn answered(&mut self, at: usize, line: &str) {
        let stops = line == "close 1012" || line == "close 1008";
        if stops {
            self.actors[at].stage = Stage::Done;
            let answer = close(line[6..].parse().expect("a code"));
            let actor = &mut self.actors[at];
            if !actor.leaving {
                actor.leaving = true;
                actor.fall_silent();
                actor.client.send(&answer);
            }
            return;
        }
        self.skip_silent(at);
        let step = self.step;
        let actor = &mut self.actors[at];
        // During a stop an answer is a connection's last.
        let line = match line.strip_suffix(", close") {
            Some(line) => {
                assert!(self.stopping);
                (actor.stage, actor.leaving) = (Stage::Done, true);
                actor.fall_silent();
                actor.client.far.leave();
                line
            }
            None => line,
        };
        let index = actor.answered;
        let expected = actor.expected(index, self.authorizer, self.max_channels);
        let said = &actor.log[index];
        let prefix = said
            .id
            .map_or("{".to_owned(), |id| format!(r#"{{"id":{id},"#));
        let right = match expected {
            Outcome::Ok => line == format!("{prefix}\"ok\":true}}"),
            Outcome::Line(expected) => line == expected,
            Outcome::Error(code) => {
                line.starts_with(&format!("{prefix}\"error\":{{\"code\":\"{code}\""))
            }
            Outcome::Pending | Outcome::Silent => false,
        };
        assert!(right, "{line} answers {said:?}");
        actor.take_effect(index, step, line, &mut self.published);
        self.skip_silent(at);
    }

    /// Goes past what has succeeded in silence, as far as that is known.
    fn skip_silent(&mut self, at: usize) {
        let (step, authorizer, max) = (self.step, self.authorizer, self.max_channels);
        let actor = &mut self.actors[at];
        while actor.expected(actor.answered, authorizer, max) == Outcome::Silent {
            let index = actor.answered;
            actor.take_effect(index, step, "", &mut self.published);
        }
    }

    fn read_log(&mut self) {
        for line in self.house.log.take().lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            if line["message"] != "connection ended" && line["msg"] != "connection ended" {
                continue;
            }
            let address = line["remote_addr"].as_str().expect("an address");
            let (_, port) = address.rsplit_once(':').expect("a port");
            let at: usize = port.parse().expect("a number");
            let reason = line["reason"].as_str().expect("a word").to_owned();
            *self.sum.endings.entry(reason.clone()).or_default() += 1;
            let actor = &mut self.actors[at];
            match reason.as_str() {
                "too_slow" => assert!(actor.slow),
                "silent" => assert!(actor.silent || actor.slow || actor.leaving),
                "protocol_error" | "too_big" | "invalid_text" => panic!("nobody is that bad"),
                _ => {}
            }
            assert!(actor.reason.replace(reason).is_none(), "it ended twice");
            actor.stage = Stage::Done;
        }
    }

    fn come_to_rest_allowing(&mut self) {
        for _ in 0..REST {
            while let Some(question) = self.house.questions.pop_front() {
                self.decide(question, Verdict::Allow);
            }
            self.transmit();
            if !self.house.has_work() && self.actors.iter().all(|a| a.outgoing.is_empty()) {
                return;
            }
            self.tick();
        }
        panic!("it does not come to rest");
    }

    /// Everything said is transmitted, every question answered, everybody reads; until nothing happens any more.
    fn come_to_rest(&mut self) {
        for _ in 0..REST {
            while let Some(question) = self.house.questions.pop_front() {
                let deny = self.dice.chance(10);
                self.decide(question, if deny { Verdict::Deny } else { Verdict::Allow });
            }
            for actor in &mut self.actors {
                actor.transmit(usize::MAX);
                actor.client.far.widen(1 << 24);
            }
            if !self.house.has_work() {
                for at in 0..self.actors.len() {
                    self.hear(at);
                    self.skip_silent(at);
                }
                if !self.house.has_work() && self.house.questions.is_empty() {
                    return;
                }
            }
            self.tick();
        }
        panic!("it does not come to rest");
    }

    /// Holds the model against what was heard (1 to 7).
    fn judge(&mut self) {
        let is: BTreeSet<usize> = self.truth.iter().flatten().copied().collect();
        for (channel, truth) in self.truth.iter().enumerate() {
            let once: BTreeSet<usize> = truth.iter().copied().collect();
            assert_eq!(once.len(), truth.len(), "something was published twice");
            for member in 0..WITNESSES {
                let stretches = &self.actors[channel * WITNESSES + member].stretches;
                assert_eq!(stretches.len(), 1);
                assert!(stretches[0].heard == *truth, "witnesses differ");
            }
            for (n, published) in self.published.iter().enumerate() {
                if published.channel == channel {
                    let is = once.contains(&n);
                    assert!(is || !published.must, "{n} was accepted and is lost");
                    assert!(
                        !is || !published.must_not,
                        "{n} was denied and is published"
                    );
                }
            }
        }
        for at in 0..self.actors.len() {
            self.judge_actor(at, &is);
        }
    }

    fn judge_actor(&mut self, at: usize, published: &BTreeSet<usize>) {
        let actor = &self.actors[at];
        let stays = actor.reason.is_none() && !actor.leaving && actor.stage != Stage::Done;
        if stays {
            assert_eq!(
                actor.answered,
                actor.log.len(),
                "{at}: not all is answered: {:?}",
                actor.log[actor.answered]
            );
        }
        // Who left by itself was heard (7).
        if let Some("left" | "reset" | "closed") = actor.reason.as_deref()
            && actor.client.is_websocket()
        {
            let heard = actor.log.iter().take_while(|said| {
                said.end <= actor.transmitted
                    && said.verdict != Some(Verdict::Unavailable)
                    && !matches!(said.what, What::Close(_))
            });
            for said in heard {
                let What::Broadcast(_, n) = said.what else {
                    continue;
                };
                let verdict = if self.authorizer {
                    said.verdict
                } else {
                    Some(Verdict::Allow)
                };
                let is = published.contains(&n);
                assert!(verdict.is_some(), "{at}: nobody asked about {said:?}");
                assert_eq!(verdict == Some(Verdict::Allow), is, "{at}: {said:?}");
            }
        }
        for stretch in &actor.stretches {
            self.sum.stretches += 1;
            let truth = &self.truth[stretch.channel];
            let known = |n: &usize| self.published[*n].known.unwrap_or(usize::MAX);
            let join_said = actor.log[stretch.from].at;
            let leave_said = stretch.to.map(|to| actor.log[to].at);
            // All that was surely published after the join took effect, and surely before the leave did.
            let stays_until = match leave_said {
                Some(said) => said,
                None if stays => usize::MAX,
                None => 0,
            };
            let surely =
                |n: &usize| self.published[*n].said > stretch.joined && known(n) < stays_until;
            let Some(first) = stretch.heard.first() else {
                let missed = truth.iter().find(|n| surely(n));
                assert_eq!(missed, None, "{at}: missed in {stretch:?}");
                continue;
            };
            let start = truth
                .iter()
                .position(|n| n == first)
                .expect("it was published");
            let end = start + stretch.heard.len();
            assert!(
                truth.get(start..end) == Some(&stretch.heard[..]),
                "{at}: no contiguous stretch: {stretch:?} of {truth:?}"
            );
            let before = stretch.heard.iter().find(|n| known(n) < join_said);
            assert_eq!(before, None, "{at}: published before the join: {stretch:?}");
            let missed = truth[..start]
                .iter()
                .chain(&truth[end..])
                .find(|n| surely(n));
            assert_eq!(missed, None, "{at}: missed in {stretch:?} of {truth:?}");
            if stays && stretch.to.is_none() {
                assert_eq!(end, truth.len(), "{at}: the end is missing: {stretch:?}");
            }
        }
        // What it published itself (3).
        for (index, said) in actor.log.iter().enumerate().take(actor.answered) {
            let What::Broadcast(channel, n) = said.what else {
                continue;
            };
            if !published.contains(&n) {
                continue;
            }
            let member = actor.stretches.iter().find(|s| {
                s.channel == channel && s.from < index && s.to.is_none_or(|to| index < to)
            });
            let heard = actor.stretches.iter().any(|s| s.heard.contains(&n));
            match member {
                None => assert!(!heard, "{at}: {said:?} came back though it was no member"),
                Some(s) if s.to.is_some() || stays => {
                    assert!(heard, "{at}: {said:?} did not come back")
                }
                Some(_) => {}
            }
        }
    }

    /// A graceful stop (9).
    fn stop(&mut self) {
        let time = self.dice.of(&[0, 1_000, 10_000]);
        let open: Vec<usize> = (0..self.actors.len())
            .filter(|at| {
                let actor = &self.actors[*at];
                actor.stage == Stage::Open && !actor.leaving && !actor.slow && !actor.silent
            })
            .collect();
        self.house.hub.drain(time);
        self.stopping = true;
        let until = self.house.hub.clock.now + time;
        for _ in 0..30 {
            self.act_without_time();
            self.tick();
            self.house.hub.clock.now += time / 30;
        }
        self.house.hub.clock.now = until.max(self.house.hub.clock.now);
        self.come_to_rest();
        for at in open {
            let actor = &self.actors[at];
            let told = actor.lines.iter().any(|line| line == "close 1012");
            let down = actor.lines.iter().any(|line| line == "close 1013");
            assert!(told || down || actor.leaving, "{at} was not told");
        }
        let waiting = self
            .actors
            .iter()
            .any(|a| a.stage == Stage::Open && a.reason.is_none());
        assert!(!waiting, "somebody was forgotten");
    }

    fn act_without_time(&mut self) {
        let now = self.house.hub.clock.now;
        self.act();
        self.house.hub.clock.now = now;
    }

    fn all_leave(&mut self) {
        for at in 0..self.actors.len() {
            if !self.actors[at].leaving {
                self.end_somehow(at);
            }
        }
        self.come_to_rest();
        // Those who vanished are noticed when they are looked at; those who linger, at their time.
        for actor in &mut self.actors {
            actor.client.far.reset();
        }
        self.come_to_rest();
        self.house.pass(100_000);
        self.read_log();
        self.house.assert_empty();
        let nameless = self.actors.iter().filter(|a| a.reason.is_none()).count();
        assert_eq!(nameless, 0, "everybody's end is logged");
    }
}

/// What has to be heard about something said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing yet.
    Pending,
    /// Nothing at all.
    Silent,
    Ok,
    Error(&'static str),
    Line(String),
}

impl Actor {
    /// It says nothing more, not even what it had begun.
    fn fall_silent(&mut self) {
        self.outgoing.clear();
        self.gone = true;
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.gone {
            return;
        }
        self.outgoing.extend_from_slice(bytes);
        self.queued += bytes.len();
    }

    fn transmit(&mut self, most: usize) {
        let count = self.outgoing.len().min(most);
        self.client.send(&self.outgoing[..count]);
        self.outgoing.drain(..count);
        self.transmitted += count;
    }

    fn expected(&self, index: usize, authorizer: bool, max_channels: usize) -> Outcome {
        let Some(said) = self.log.get(index) else {
            return Outcome::Pending;
        };
        if said.end > self.transmitted {
            return Outcome::Pending;
        }
        let full = self.joined.len() >= max_channels;
        let verdict = if authorizer {
            said.verdict
        } else {
            Some(Verdict::Allow)
        };
        match &said.what {
            What::Ping(payload) => Outcome::Line(format!("pong {payload}")),
            What::Bad => Outcome::Error("bad_message"),
            What::Close(code) => Outcome::Line(format!("close {code}")),
            What::Post(..) => Outcome::Line("201".to_owned()),
            What::BadPost => Outcome::Line("400 bad_channel".to_owned()),
            What::Join(channel) if full && !self.joined.contains(channel) => {
                Outcome::Error("too_many_channels")
            }
            _ => match (verdict, said.id) {
                (None, _) => Outcome::Pending,
                (Some(Verdict::Allow), None) => Outcome::Silent,
                (Some(Verdict::Allow), Some(_)) => Outcome::Ok,
                (Some(Verdict::Deny), _) => Outcome::Error("not_authorized"),
                (Some(Verdict::Unavailable), _) => Outcome::Line("close 1013".to_owned()),
            },
        }
    }

    /// What was answered with `line` is done, or not to be done.
    fn take_effect(&mut self, index: usize, step: usize, line: &str, published: &mut [Published]) {
        self.answered += 1;
        let said = &self.log[index];
        let done = line.is_empty() || line.contains(r#""ok":true"#) || line == "201";
        match said.what {
            What::Broadcast(_, n) | What::Post(_, n) => {
                // In silence it may be about to be done.
                let published = &mut published[n];
                if done && !line.is_empty() {
                    published.known.get_or_insert(step);
                    published.must = true;
                }
                published.must_not |= !done;
            }
            What::Join(channel) if done && self.joined.insert(channel) => {
                self.stretches.push(Stretch {
                    channel,
                    from: index,
                    to: None,
                    joined: step,
                    left: None,
                    heard: Vec::new(),
                });
            }
            What::Leave(channel) if done && self.joined.remove(&channel) => {
                let stretch = self
                    .stretches
                    .iter_mut()
                    .rev()
                    .find(|s| s.channel == channel);
                let stretch = stretch.expect("it had joined");
                (stretch.to, stretch.left) = (Some(index), Some(step));
            }
            What::Close(_) => {
                self.client.far.leave();
                self.stage = Stage::Done;
            }
            _ => {}
        }
        if line == "close 1013" {
            self.stage = Stage::Done;
            if !self.leaving {
                self.leaving = true;
                self.fall_silent();
                self.client.send(&frame(CLOSE, &1013u16.to_be_bytes()));
            }
        }
    }
}
