//! A simulation of an authorizer that goes down twice, once so that calls fail at once and once so that they hang, with each
//! value of `--authorizer-failure`, single calls and batches, and clients that come, leave and break off at any time.
//!
//! What holds, whatever happens:
//!
//! 1. With `reject` every command is answered once and in order, and no client is closed.
//! 2. With `hold` every command is carried out or refused by the authorizer, once and in order, unless it came up longer ago
//!    than the hold: then its client is closed with 1013.
//! 3. What was answered with `ok` is published once, in the order of its client, and what was answered with an error is not.
//! 4. While the authorizer is down at most one question is out besides those from before.
//! 5. In a slow start fewer questions go out than twice as many as were answered, until all workers are busy.
//! 6. With `hold` a question that is asked again is the same, byte for byte; no other has its id.
//! 7. A client that answers pings is never ended as silent. When all have gone nothing is left.
//! 8. With `hold` a client's pings are answered while its only command is held.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use wsify::clock::Millis;
use wsify::config::AuthorizerFailure::{self, Close, Hold, Reject};
use wsify::connection::Limits;
use wsify::effect::{ConnId, Question, Verdict};
use wsify::hub::{FailurePolicy, Settings};

use crate::client::{Client, PING, PONG, broadcast, close, frame, join, upgrade, with_id};
use crate::rig::{Rig, settings};
use crate::seeds::{self, Dice};

const SEEDS: u64 = 96;
const CLIENTS: usize = 10;
const TIMEOUT: Millis = 1_000;
const SLOW_START: Millis = 60_000;
/// Turns in which a pong comes, even if the hub is replaced in one of them.
const PONG_TURNS: usize = 4;

#[test]
fn simulation() {
    if let Some(sum) = seeds::run(module_path!(), SEEDS, Sim::play) {
        assert!(
            sum.ok > 6_000 && sum.rejected > 500 && sum.closed > 300,
            "{sum:?}"
        );
        assert!(
            sum.outages > 90 && sum.probes > 300 && sum.again > 1_000,
            "{sum:?}"
        );
    }
}

seeds::sum! {
    /// What was played.
    struct Sum {
        ok: usize,
        rejected: usize,
        closed: usize,
        outages: usize,
        probes: usize,
        again: usize,
    }
}

/// How the authorizer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Answers,
    Fails,
    Hangs,
}

struct Call {
    number: u64,
    /// Each with the time at which the hub has asked it.
    questions: Vec<(Question, Millis)>,
    due: Millis,
    hangs: bool,
}

/// What the hub should know about the authorizer.
#[derive(Debug)]
enum Known {
    Up,
    Down,
    SlowStart {
        sent: usize,
        answered: usize,
        until: Millis,
    },
}

struct Said {
    id: usize,
    publishes: bool,
    at: Millis,
}

struct Actor {
    client: Client,
    asked_at: Millis,
    is_open: bool,
    said: VecDeque<Said>,
    ids: usize,
    /// Numbers of what was published, as it was answered.
    published: Vec<usize>,
    refused: HashSet<usize>,
    leaving: bool,
    /// Pings that are not answered, and turns in which one should have been.
    pings: usize,
    unanswered: usize,
}

struct Sim {
    dice: Dice,
    rig: Rig,
    failure: AuthorizerFailure,
    hold: Millis,
    workers: usize,
    queue: usize,
    batch: usize,
    condition: Condition,
    /// Out of a hundred answers this many are wrong for their question alone.
    bad: usize,
    waiting: VecDeque<(Question, Millis)>,
    calls: Vec<Call>,
    numbers: u64,
    known: Known,
    /// Questions asked since it went down, or since it is back, that are not answered.
    out: Vec<ConnId>,
    /// Answers that the hub gets next, and whether their call failed, if they had one.
    coming: Vec<(ConnId, Option<bool>)>,
    ids: HashMap<String, (ConnId, Vec<u8>)>,
    actors: Vec<Actor>,
    witness: Client,
    witnessed: Vec<String>,
    sum: Sum,
}

impl Sim {
    fn play(seed: u64) -> Sum {
        let mut sim = Sim::new(seed);
        let (first, second) = (
            sim.dice.below(8_000) as Millis,
            sim.dice.below(8_000) as Millis,
        );
        for (condition, time) in [
            (Condition::Answers, 1_000),
            (Condition::Fails, first),
            (Condition::Answers, 2_000),
            (Condition::Hangs, second),
            (Condition::Answers, 3_000),
        ] {
            sim.condition = condition;
            let until = sim.now() + time;
            while sim.now() < until {
                sim.act();
                sim.turn();
                sim.rig.hub.clock.now += sim.dice.below(40) as Millis;
            }
        }
        sim.come_to_rest();
        sim.judge();
        sim.all_leave();
        sim.sum
    }

    fn new(seed: u64) -> Sim {
        let failure = [Close, Reject, Hold, Hold][(seed % 4) as usize];
        let hold = [1_500, 45_000][(seed / 4 % 2) as usize];
        let workers = [1, 4, 16][(seed / 8 % 3) as usize];
        let queue = [3, 1_000][(seed / 24 % 2) as usize];
        let batch = [1, 4][(seed / 48 % 2) as usize];
        let mut rig = Rig::with(Settings {
            authorizer: true,
            limits: Limits {
                ping_interval: 2_000,
                ..settings().limits
            },
            failure: FailurePolicy {
                failure,
                hold,
                workers,
                batch,
                queue,
                authorizer_timeout: TIMEOUT,
            },
            ..settings()
        });
        seeds::hand_over_now_and_then(&mut rig, seed);
        let mut witness = rig.member("c");
        witness.hear();
        Sim {
            dice: Dice(seed),
            rig,
            failure,
            hold,
            workers,
            queue,
            batch,
            condition: Condition::Answers,
            bad: [0, 10][(seed / 3 % 2) as usize],
            waiting: VecDeque::new(),
            calls: Vec::new(),
            numbers: 1_000_000,
            known: Known::Up,
            out: Vec::new(),
            coming: Vec::new(),
            ids: HashMap::new(),
            actors: Vec::new(),
            witness,
            witnessed: Vec::new(),
            sum: Sum::default(),
        }
    }

    fn now(&self) -> Millis {
        self.rig.hub.clock.now
    }

    /// A client does something.
    fn act(&mut self) {
        let here = self.actors.iter().filter(|actor| !actor.leaving).count();
        if here < CLIENTS {
            let client = self.rig.client();
            client.send(&upgrade("/ws", ""));
            self.actors.push(Actor {
                client,
                asked_at: self.now(),
                is_open: false,
                said: VecDeque::new(),
                ids: 0,
                published: Vec::new(),
                refused: HashSet::new(),
                leaving: false,
                pings: 0,
                unanswered: 0,
            });
        }
        for _ in 0..self.dice.below(4) {
            let at = self.dice.below(self.actors.len());
            let (publishes, roll, now) = (self.dice.below(4) > 0, self.dice.below(200), self.now());
            let actor = &mut self.actors[at];
            if actor.leaving || !actor.is_open {
                continue;
            }
            match roll {
                0 => actor.client.far.leave(),
                1 => actor.client.far.reset(),
                2 => actor.client.send(&close(1000)),
                3..20 => {
                    actor.client.send(&frame(PING, b""));
                    actor.pings += 1;
                }
                _ if actor.said.len() < 6 => {
                    actor.ids += 1;
                    let id = actor.ids;
                    let content = format!("[{at},{id}]");
                    let command = if publishes {
                        broadcast("c", &content)
                    } else {
                        join("d")
                    };
                    actor.client.say(&with_id(id as u64, &command));
                    actor.said.push_back(Said {
                        id,
                        publishes,
                        at: now,
                    });
                }
                _ => {}
            }
            actor.leaving |= roll < 3;
        }
    }

    /// A turn of the loop, and what the pool of workers does in between.
    fn turn(&mut self) {
        self.rig.tick();
        // What was asked in this turn may have been decided before its answers came, or after.
        let was_down = matches!(self.known, Known::Down);
        let is_answered = self.coming.iter().any(|(_, failed)| *failed == Some(false));
        if was_down {
            self.take_answers();
        }
        let asked: Vec<Question> = self.rig.questions.drain(..).collect();
        for question in asked {
            self.take(question);
        }
        if !was_down {
            self.take_answers();
        }
        if let Known::SlowStart { sent, answered, .. } = self.known {
            assert!(sent < 2 * answered, "{sent} for {answered} answers");
        }
        if std::mem::take(&mut self.rig.recalled) > 0 {
            self.sum.outages += 1;
            // An answer of the same turn may have ended the outage already: then nothing is known for sure.
            self.known = if is_answered { Known::Up } else { Known::Down };
            self.out.clear();
            while let Some((question, asked)) = self.waiting.pop_front() {
                self.is_not_put(&question, asked);
            }
        }
        for from in std::mem::take(&mut self.rig.withdrawn) {
            self.waiting.retain(|(question, _)| question.from != from);
        }
        let now = self.now();
        while let Some((question, asked)) = self.waiting.pop_front() {
            if now < asked + TIMEOUT {
                self.waiting.push_front((question, asked));
                break;
            }
            self.is_not_put(&question, asked);
        }
        self.put();
        self.answer();
        for at in 0..self.actors.len() {
            for line in self.actors[at].client.hear() {
                self.hears(at, &line);
            }
        }
        for line in self.witness.hear() {
            match line.as_str() {
                "ping" => self.witness.send(&frame(PONG, b"")),
                _ => self.witnessed.push(line),
            }
        }
        self.check_pongs();
    }

    /// Those whose only command is held get their pongs (8).
    fn check_pongs(&mut self) {
        let waiting = self.waiting.iter().map(|(question, _)| question.from);
        let questions = self.calls.iter().flat_map(|call| &call.questions);
        let called = questions.map(|(question, _)| question.from);
        let coming = self.coming.iter().map(|(from, _)| *from);
        let outside: HashSet<ConnId> = waiting.chain(called).chain(coming).collect();
        for actor in &mut self.actors {
            let is_held = self.failure == Hold
                && actor.said.len() == 1
                && !actor.leaving
                && !outside.contains(&actor.client.id);
            if !is_held || actor.pings == 0 {
                actor.unanswered = 0;
                continue;
            }
            actor.unanswered += 1;
            assert!(actor.unanswered < PONG_TURNS, "a ping is not answered");
        }
    }

    /// The hub asks (4 to 6).
    fn take(&mut self, question: Question) {
        let body: serde_json::Value = serde_json::from_slice(&question.body).expect("JSON");
        match (self.failure, body["question"].as_str()) {
            (Hold, Some(id)) => {
                let known = (question.from, question.body.clone());
                let again = self.ids.insert(id.to_owned(), known.clone());
                self.sum.again += usize::from(again.is_some());
                assert!(again.is_none_or(|again| again == known));
            }
            (Hold, None) => panic!("a question without an id"),
            (_, id) => assert_eq!(id, None),
        }
        match &mut self.known {
            Known::Up => {}
            Known::Down => {
                assert!(self.out.is_empty(), "more than one probe");
                self.sum.probes += 1;
                self.out.push(question.from);
            }
            Known::SlowStart { sent, until, .. } => {
                self.out.push(question.from);
                *sent += 1;
                if self.out.len() >= self.workers || self.rig.hub.clock.now >= *until {
                    self.known = Known::Up;
                }
            }
        }
        let now = self.now();
        if self.waiting.len() >= self.queue && self.calls.len() >= self.workers {
            self.is_not_put(&question, now);
        } else {
            self.waiting.push_back((question, now));
        }
    }

    fn is_not_put(&mut self, question: &Question, asked: Millis) {
        let took = Duration::from_millis(self.now() - asked);
        self.coming.push((question.from, None));
        let answer = self.rig.send_verdict(question, Verdict::Unavailable, None);
        (answer.call, answer.call_failed, answer.took) = (None, false, took);
    }

    /// Workers that are free make calls.
    fn put(&mut self) {
        while self.calls.len() < self.workers && !self.waiting.is_empty() {
            let mut questions = Vec::new();
            while questions.len() < self.batch
                && let Some((question, _)) = self.waiting.front()
                && (questions.is_empty() || !question.alone)
            {
                let alone = question.alone;
                questions.extend(self.waiting.pop_front());
                if alone {
                    break;
                }
            }
            self.numbers += 1;
            let hangs = self.condition == Condition::Hangs;
            let takes = if hangs {
                TIMEOUT
            } else {
                self.dice.below(60) as Millis
            };
            self.calls.push(Call {
                number: self.numbers,
                questions,
                due: self.now() + takes,
                hangs,
            });
        }
    }

    /// Calls come to an end.
    fn answer(&mut self) {
        let now = self.now();
        let due = |call: &mut Call| call.due <= now;
        for call in self.calls.extract_if(.., due).collect::<Vec<_>>() {
            let fails = call.hangs || self.condition != Condition::Answers;
            let alone_bad: Vec<bool> = (0..call.questions.len())
                .map(|_| self.dice.below(100) < self.bad)
                .collect();
            for ((question, asked), bad) in call.questions.iter().zip(alone_bad) {
                let verdict = match self.dice.below(10) {
                    _ if fails || bad => Verdict::Unavailable,
                    0 => Verdict::Deny,
                    _ => Verdict::Allow,
                };
                let answer = self.rig.send_verdict(question, verdict, None);
                (answer.call, answer.call_failed) = (Some(call.number), fails);
                answer.took = Duration::from_millis(now - asked);
                if bad && !fails {
                    answer.status = Some(200);
                }
                self.coming.push((question.from, Some(fails)));
            }
        }
    }

    /// The hub has got answers.
    fn take_answers(&mut self) {
        for (from, failed) in std::mem::take(&mut self.coming) {
            let place = self.out.iter().position(|out| *out == from);
            let was_out = place.map(|place| self.out.swap_remove(place)).is_some();
            match &mut self.known {
                Known::Down if failed == Some(false) => {
                    self.known = Known::SlowStart {
                        sent: self.out.len(),
                        answered: 1,
                        until: self.rig.hub.clock.now + SLOW_START,
                    };
                }
                Known::SlowStart { answered, .. } if failed == Some(false) && was_out => {
                    *answered += 1;
                }
                Known::Up | Known::Down | Known::SlowStart { .. } => {}
            }
        }
    }

    fn hears(&mut self, at: usize, line: &str) {
        let now = self.now();
        let actor = &mut self.actors[at];
        match line {
            "ping" => actor.client.send(&frame(PONG, b"")),
            "pong " => actor.pings -= 1,
            "101" => actor.is_open = true,
            "end" => actor.leaving = true,
            "close 1013" => {
                let since = actor.said.front().map_or(now, |said| said.at);
                let in_time = self.failure == Hold && now < since + self.hold;
                assert!(
                    self.failure != Reject && !in_time,
                    "closed after {}",
                    now - since
                );
                self.sum.closed += 1;
                actor.leaving = true;
                actor.client.send(&close(1013));
                actor.client.far.leave();
            }
            "close 1000" | "403 not_authorized" => actor.leaving = true,
            line if line.starts_with("503 authorizer_down") => {
                let in_time = self.failure == Hold && now < actor.asked_at + self.hold;
                assert!(!in_time, "refused after {}", now - actor.asked_at);
                actor.leaving = true;
            }
            line => {
                let said = actor.said.pop_front().expect("a command");
                let answer = line.strip_prefix(&format!(r#"{{"id":{},"#, said.id));
                let answer = answer.unwrap_or_else(|| panic!("{line} answers {}", said.id));
                if answer == r#""ok":true}"# {
                    self.sum.ok += 1;
                    if said.publishes {
                        actor.published.push(said.id);
                    }
                    return;
                }
                let down = answer.contains(r#""code":"authorizer_down""#);
                assert!(down && self.failure == Reject || answer.contains("not_authorized"));
                self.sum.rejected += usize::from(down);
                actor.refused.insert(said.id);
            }
        }
    }

    /// Until every question is answered and nothing happens any more.
    fn come_to_rest(&mut self) {
        self.bad = 0;
        for _ in 0..20_000 {
            self.turn();
            let quiet = self.waiting.is_empty() && self.calls.is_empty();
            if quiet && self.rig.hub.inventory().held == 0 && !self.rig.has_work() {
                return;
            }
            self.rig.hub.clock.now += 5;
        }
        panic!("it does not come to rest: {:?}", self.rig.hub.inventory());
    }

    /// Compares what was answered with what was published (1 to 3).
    fn judge(&mut self) {
        let mut heard: HashMap<usize, Vec<usize>> = HashMap::new();
        for line in &self.witnessed {
            let [at, id]: [usize; 2] = serde_json::from_str(line).expect("a content");
            heard.entry(at).or_default().push(id);
        }
        for (at, actor) in self.actors.iter().enumerate() {
            let heard = heard.remove(&at).unwrap_or_default();
            assert!(
                heard.is_sorted_by(|one, other| one < other),
                "{at}: {heard:?}"
            );
            for id in &actor.published {
                assert!(heard.contains(id), "{at}: {id} is lost: {heard:?}");
            }
            for id in &actor.refused {
                assert!(!heard.contains(id), "{at}: {id} is published: {heard:?}");
            }
            if !actor.leaving {
                let left = actor.said.len();
                assert_eq!(left, 0, "{at}: {left} commands are not answered");
            }
        }
    }

    fn all_leave(&mut self) {
        for actor in &self.actors {
            actor.client.far.reset();
        }
        self.witness.far.reset();
        self.come_to_rest();
        self.rig.pass(100_000);
        self.come_to_rest();
        for line in self.rig.logged() {
            assert_ne!(line["reason"], "silent", "{line}");
        }
        self.rig.assert_empty();
    }
}
