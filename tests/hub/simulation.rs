//! Random clients, kernels, verdicts and times, compared with a naive model.
//!
//! Invariants:
//!
//! 1. Order: all members of a channel hear stretches of the same sequence, each content byte for byte.
//! 2. Bounds: a stretch begins after the join's answer, ends before the leave's, and has no gap.
//! 3. Own messages: a member hears what it publishes exactly if it did so between its join and its leave.
//! 4. Once: a message answered with `ok` or `201` is published exactly once; a denied one is not.
//! 5. Answers: every command is answered in order, according to verdict, limits and form, and not before its verdict.
//! 6. Questions: at most one is open for each connection, about its next command, with its own id, query and state.
//! 7. Stray verdicts: a verdict for a connection that is gone changes nothing.
//! 8. Last messages: a whole message is still handled if the client then leaves, closes or breaks the protocol, but not if
//!    the client is reset before the authorizer has answered.
//! 9. Reasons: only slow readers end as `too_slow`, only silent clients as `silent`, only violations as violations.
//! 10. Limits: there are never too many WebSockets, and no client is in too many channels. What is over a limit is refused.
//! 11. Stopping: after a stop every WebSocket has been closed with 1012.
//! 12. Nothing stays: when all clients have gone there is no connection, membership, channel or run.
//! 13. Eviction: only connections that are no WebSockets and wait for no verdict are evicted. Their requests have no effect.
//! 14. Rest: a loop in which nothing happens comes to rest.
//! 15. Places: a client that was reset while its question was open is gone at once, whatever the authorizer does; so is
//!     one that left with nothing behind its upgrade request.
//! 16. Events: a receiver that is slow, fails, reads what it then refuses, or takes little at a time, learns each event once
//!     and in order: exactly one end for each connection that was opened, with its reason, code and channels, and the
//!     first and last member of each channel. What is missing was dropped, and counted.

mod knobs;
mod receiver;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wsify::effect::{ConnId, Question, Verdict};
use wsify::wire::answer_fields::Asked;

use self::knobs::{Knobs, LARGE};
use self::receiver::Receiver;
use crate::client::{
    CLOSE, COMPRESSED, Client, PING, PONG, TEXT, broadcast, close, compress, frame, get, join,
    leave, post, text, upgrade, with_id,
};
use crate::rig::{self, Rig};
use crate::seeds::{self, Dice};

const SEEDS: u64 = 300;

#[test]
fn simulation() {
    if let Some(sum) = seeds::run(module_path!(), SEEDS, Sim::play) {
        let seen = |reason: &str| sum.endings.contains_key(reason);
        for reason in [
            "left",
            "reset",
            "closed",
            "too_slow",
            "silent",
            "stopping",
            "authorizer_down",
            "protocol_error",
            "invalid_text",
            "invalid_data",
            "too_big",
            "no_room",
        ] {
            assert!(seen(reason), "no connection ended as {reason}");
        }
        assert!(sum.withdrawn > 300, "{} questions withdrawn", sum.withdrawn);
        assert!(sum.events > 3_000 && sum.dropped > 500 && sum.calls > 2_000);
        assert!(
            sum.compressed > 3_000 && sum.deflated > 1_000,
            "{} heard and {} said compressed",
            sum.compressed,
            sum.deflated
        );
        assert!(sum.heard > 10_000 && sum.stretches > 500 && sum.published > 3_000);
    }
}

seeds::sum! {
    /// How often each thing happened.
    struct Sum {
        ticks: usize,
        published: usize,
        heard: usize,
        /// Heard compressed.
        compressed: usize,
        /// Said compressed.
        deflated: usize,
        stretches: usize,
        questions: usize,
        withdrawn: usize,
        events: usize,
        dropped: usize,
        calls: usize,
        endings: BTreeMap<String, usize>,
    }
}

/// What an actor has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Join(usize),
    Leave(usize),
    Broadcast(usize, usize),
    Ping(String),
    Bad,
    Close(u16),
    /// A message that ends the connection with this code.
    Violation(u16),
    /// `POST /broadcast`.
    Post(usize, usize),
    BadPost,
    HugePost,
    Health,
}

#[derive(Debug)]
struct Said {
    what: What,
    id: Option<u64>,
    /// When it was sent, in steps.
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
    /// Its upgrade was refused.
    Refused,
    /// It does no more.
    Done,
}

struct Actor {
    client: Client,
    /// When it came, in steps.
    arrived: usize,
    stage: Stage,
    /// The authorizer has to allow it: it has sent messages behind its upgrade request.
    sure: bool,
    v1: bool,
    /// Compression was agreed to.
    deflate: bool,
    /// Reads when it likes.
    slow: bool,
    /// Answers no pings.
    silent: bool,
    /// The reason with which it ends once it has broken the protocol.
    bad: Option<&'static str>,
    /// Its id in questions to the authorizer.
    introduced: Option<String>,
    /// Its state in questions to the authorizer.
    state: Option<String>,
    outgoing: Vec<u8>,
    queued: usize,
    transmitted: usize,
    log: Vec<Said>,
    /// This much of the log has been answered.
    answered: usize,
    joined: BTreeSet<usize>,
    /// How much of the log the authorizer has been asked about; the actor's channels when all of that is done.
    asked: usize,
    asked_joined: BTreeSet<usize>,
    stretches: Vec<Stretch>,
    lines: Vec<String>,
    /// It ended its stream, or sent a close frame.
    leaving: bool,
    /// It reset the connection.
    reset: bool,
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
    knobs: Knobs,
    rig: Rig,
    /// What the receiver of events has taken.
    receiver: Receiver,
    actors: Vec<Actor>,
    by_id: HashMap<ConnId, usize>,
    /// Questions that the authorizer does not answer in time.
    lost: Vec<Question>,
    published: Vec<Published>,
    /// What the witnesses of each channel have heard.
    truth: Vec<Vec<usize>>,
    step: usize,
    /// Turns in which every edge comes, after a long time has passed.
    slept: usize,
    /// When there were last more clients than the limit on WebSockets.
    crowded: Option<usize>,
    /// When connections last waited to be accepted without a free descriptor.
    knocked: Option<usize>,
    stopping: bool,
    /// When a graceful stop is to be over.
    stops_at: Option<u64>,
    /// Until this step the authorizer answers nothing.
    hangs_until: usize,
    most_actors: usize,
    next_id: u64,
    sum: Sum,
}

/// Members of each channel that hear everything from the beginning to the end, one in each encoding.
const WITNESSES: usize = 4;

/// What clients offer: compression, compression with a small window (whose contents are plain), or nothing.
const OFFERS: [&str; 4] = [
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
    "",
    "",
];

/// Clients that may come later, or try to.
const GUESTS: usize = 40;

/// Turns after which a loop that never comes to rest counts as spinning.
const REST: usize = 20_000;

fn name(channel: usize) -> String {
    format!("channel {channel}")
}

impl Sim {
    fn play(seed: u64) -> Sum {
        let mut sim = Sim::new(seed);
        sim.open_witnesses();
        for _ in 0..sim.knobs.steps {
            sim.act();
            sim.tick();
        }
        sim.come_to_rest();
        sim.judge();
        // The end: all clients leave, or a stop closes them.
        for _ in 0..20 {
            sim.act();
            sim.tick();
        }
        if sim.knobs.stops {
            sim.stop();
        }
        sim.all_leave();
        sim.sum.ticks = sim.rig.ticks;
        sim.sum.compressed = sim.actors.iter().map(|a| a.client.compressed).sum();
        sim.sum.published = sim.truth.iter().map(Vec::len).sum();
        sim.sum
    }

    fn new(seed: u64) -> Sim {
        let mut dice = Dice(seed);
        let knobs = Knobs::draw(&mut dice);
        let regulars = knobs.channels * WITNESSES + knobs.crowd;
        let mut rig = Rig::with(knobs.settings(regulars));
        rig.buffer = vec![0; knobs.read_buffer];
        rig.receiver = rig::Receiver::IsPlayed;
        seeds::hand_over_now_and_then(&mut rig, seed);
        Sim {
            dice,
            rig,
            receiver: Receiver::new(seed),
            actors: Vec::new(),
            by_id: HashMap::new(),
            lost: Vec::new(),
            published: Vec::new(),
            truth: vec![Vec::new(); knobs.channels + knobs.fringe],
            step: 0,
            slept: 0,
            crowded: None,
            knocked: None,
            stopping: false,
            stops_at: None,
            hangs_until: 0,
            most_actors: regulars + GUESTS,
            next_id: 0,
            sum: Sum::default(),
            knobs,
        }
    }

    /// Adds the witnesses and sometimes a crowd, so that a broadcast takes many turns.
    fn open_witnesses(&mut self) {
        let witnesses = self.knobs.channels * WITNESSES;
        for nth in 0..witnesses + self.knobs.crowd {
            let offer = if nth / 2 % 2 == 1 { OFFERS[0] } else { "" };
            let at = self.arrive(true, nth % 2 == 1, offer);
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

    /// Adds a witness.
    fn is_witness(&self, at: usize) -> bool {
        at < self.knobs.channels * WITNESSES
    }

    fn arrive(&mut self, sure: bool, v1: bool, offer: &str) -> usize {
        let client = self.rig.client();
        let at = self.actors.len();
        self.by_id.insert(client.id, at);
        {
            let mut wire = client.far.wire_mut();
            wire.interrupted = self.knobs.interrupted;
            wire.refused = self.knobs.refused;
        }
        let slow = self.dice.chance(self.knobs.slow);
        if slow && self.dice.chance(50) {
            client.far.narrow(self.dice.below(200) + 1);
        } else if slow {
            let most = 1 + self.dice.below(50) + self.knobs.large / 10;
            client.far.wire_mut().largest_write = most;
        }
        let mut actor = Actor {
            client,
            arrived: self.step,
            stage: Stage::Asking,
            sure,
            v1,
            deflate: false,
            slow,
            silent: self.dice.chance(self.knobs.silent),
            bad: None,
            introduced: None,
            state: None,
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
            reset: false,
            gone: false,
            reason: None,
        };
        let protocol = if v1 {
            "Sec-WebSocket-Protocol: wsify.v1\r\n"
        } else {
            ""
        };
        actor.send(&upgrade("/ws?a=b", &format!("{protocol}{offer}")));
        self.actors.push(actor);
        at
    }

    fn arrive_as_backend(&mut self) {
        let at = self.arrive(true, false, "");
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
            What::Violation(1007) if self.actors[at].bad == Some("invalid_data") => {
                let whole = compress(b"what is cut off");
                frame(COMPRESSED, &whole[..self.dice.below(whole.len())])
            }
            What::Violation(1007) => frame(TEXT, b"\xC3("),
            What::Violation(1009) if self.actors[at].deflate && self.dice.chance(50) => {
                let bomb = compress(&vec![b' '; self.knobs.max_message + 1]);
                frame(COMPRESSED, &bomb)
            }
            What::Violation(1009) => {
                // The header alone, without the payload that it announces.
                let more = vec![b' '; self.knobs.max_message + 1];
                frame(TEXT, &more)[..14].to_vec()
            }
            What::Violation(_) if self.actors[at].deflate => {
                let first = self.dice.of(&[0xA1, 0xC0, 0xC9]);
                frame(first, b"")
            }
            What::Violation(_) if self.actors[at].stage == Stage::Open => {
                let first = self.dice.of(&[0xB1, COMPRESSED]);
                frame(first, b"")
            }
            What::Violation(_) => frame(0xB1, b""),
            What::HugePost => {
                let more = " ".repeat(self.knobs.max_message + 1);
                let whole = post(&more);
                whole[..whole.len() - more.len()].to_vec()
            }
            What::Health => get("/health"),
            What::Post(channel, n) => post(&format!(
                r#"{{"channel":"{}","content":{}}}"#,
                name(*channel),
                self.published[*n].content
            )),
            What::BadPost => post("{}"),
            _ => self.torn(at, command.as_bytes()),
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

    /// A message, whole or in fragments, plain or compressed.
    fn torn(&mut self, at: usize, message: &[u8]) -> Vec<u8> {
        let smaller = self.actors[at].deflate && self.dice.chance(50);
        let smaller = smaller.then(|| compress(message));
        self.sum.deflated += usize::from(smaller.is_some());
        let (first, payload) = match &smaller {
            Some(smaller) => (COMPRESSED, &smaller[..]),
            None => (TEXT, message),
        };
        if payload.len() > 1000 || !self.dice.chance(self.knobs.torn) {
            return frame(first, payload);
        }
        let cut = self.dice.below(payload.len());
        let mut bytes = frame(first & 0x7F, &payload[..cut]);
        if self.dice.chance(30) {
            bytes.extend(frame(PONG, b""));
        }
        bytes.extend(frame(0x80, &payload[cut..]));
        bytes
    }

    fn publish(&mut self) -> (usize, usize) {
        let channel = self.dice.below(self.knobs.channels);
        let n = self.published.len();
        let size = self.dice.below(self.knobs.large);
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

    /// One random event.
    fn act(&mut self) {
        if self.knobs.large == LARGE && self.dice.chance(10) {
            // Enough at once that publishers have to wait.
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
                    let offer = self.dice.of(&OFFERS);
                    let at = self.arrive(sure, v1, offer);
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
        if self.dice.chance(self.knobs.leaving) {
            let at = self.dice.below(self.actors.len());
            if !self.is_witness(at) {
                self.end_somehow(at);
            }
        }
        for _ in 0..self.dice.of(&[1, 5]) {
            if self.dice.chance(self.knobs.nudged) {
                let at = self.dice.below(self.actors.len());
                self.actors[at].client.far.nudge();
            }
        }
        self.transmit();
        if self.dice.chance(self.knobs.hanging) {
            self.hangs_until = self.step + self.dice.of(&[5, 20, 60]);
        }
        if self.step == self.hangs_until {
            // Some questions have waited too long.
            let overdue = self.dice.below(self.rig.questions.len() + 1);
            for question in self.rig.questions.drain(..overdue).collect::<Vec<_>>() {
                self.decide(question, Verdict::Unavailable);
            }
        }
        // Verdicts arrive in any order, some late, and some for no connection.
        let hangs = self.step < self.hangs_until;
        while !hangs && !self.rig.questions.is_empty() && self.dice.chance(self.knobs.prompt) {
            let at = self.dice.below(self.rig.questions.len());
            let question = self.rig.questions.remove(at).expect("a question");
            if self.dice.chance(self.knobs.lost) {
                self.lost.push(question);
                continue;
            }
            let (down, no) = (self.knobs.unavailable, self.knobs.denied);
            let verdict = match self.dice.below(100) {
                roll if roll < down => Verdict::Unavailable,
                roll if roll < down + no => Verdict::Deny,
                _ => Verdict::Allow,
            };
            self.decide(question, verdict);
        }
        if self.dice.chance(5) {
            self.give_up_lost();
        }
        if self.dice.chance(self.knobs.strange) {
            let stray = ConnId {
                slot: self.dice.below(20) as u32,
                generation: self.actors.len() as u32 + 1,
            };
            let question = Question {
                from: stray,
                asked: Asked::Join,
                body: Vec::new(),
                alone: false,
            };
            self.rig.send_verdict(&question, Verdict::Allow, None);
        }
        if self.dice.chance(self.knobs.sleeping) {
            let most = self.dice.of(&[20, 500, self.knobs.longest_sleep]);
            self.rig.hub.clock.now += self.dice.below(most) as u64;
            self.slept = usize::from(most > 500);
        }
    }

    /// Questions that the authorizer never answers time out.
    fn give_up_lost(&mut self) {
        for question in std::mem::take(&mut self.lost) {
            self.decide(question, Verdict::Unavailable);
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
            Stage::Done | Stage::Refused => {}
            Stage::Asking if !actor.sure => {}
            Stage::Backend => {
                for _ in 0..self.dice.of(&[1, 1, 5]) {
                    let roll = self.dice.below(100);
                    let (bad, huge) = (self.knobs.bad * 2, self.knobs.violating * 2);
                    let what = match roll {
                        roll if roll < bad => What::BadPost,
                        roll if roll < bad + 5 => What::Health,
                        roll if roll < bad + 5 + huge => What::HugePost,
                        _ => {
                            let (channel, n) = self.publish();
                            What::Post(channel, n)
                        }
                    };
                    let last = what == What::HugePost;
                    self.say(at, what, false);
                    if last {
                        self.actors[at].leaving = true;
                        break;
                    }
                }
            }
            Stage::Asking | Stage::Open => {
                if !witness && self.dice.chance(self.knobs.violating) {
                    return self.violate(at);
                }
                for _ in 0..self.dice.of(&[1, 1, 1, 4]) {
                    let channels = self.knobs.channels + self.knobs.fringe;
                    let channel = self.dice.below(channels);
                    let what = match self.dice.below(100) {
                        roll if roll < self.knobs.bad => What::Bad,
                        15..22 => What::Ping(self.step.to_string()),
                        22..40 if !witness => What::Join(channel),
                        40..55 if !witness => What::Leave(channel),
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
            1 => {
                actor.reset = true;
                actor.client.far.reset();
            }
            2 => actor.client.far.vanish(),
            3 => actor.client.far.close(),
            _ => actor.client.far.leave(),
        }
    }

    fn violate(&mut self, at: usize) {
        let (code, reason) = if self.actors[at].deflate && self.dice.chance(50) {
            (1007, "invalid_data")
        } else {
            self.dice.of(&[
                (1002, "protocol_error"),
                (1007, "invalid_text"),
                (1009, "too_big"),
            ])
        };
        self.actors[at].bad = Some(reason);
        self.say(at, What::Violation(code), false);
        self.actors[at].leaving = true;
    }

    fn close(&mut self, at: usize, code: u16) {
        self.say(at, What::Close(code), false);
        self.actors[at].leaving = true;
    }

    /// Sends bytes in chunks, and reads.
    fn transmit(&mut self) {
        for at in 0..self.actors.len() {
            if self.actors[at].outgoing.is_empty() && !self.actors[at].slow {
                continue;
            }
            let most = if self.dice.chance(self.knobs.chunked) {
                let some = self.dice.below(40);
                self.dice.of(&[0, 1, some])
            } else {
                usize::MAX
            };
            let witness = self.is_witness(at);
            let widens = self
                .dice
                .chance(30)
                .then(|| self.dice.below(500 + self.knobs.large));
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
        // A client that has answered a ping must not wait for a second sleep until its pong is read.
        let alive = self.actors.iter().filter(|a| a.reason.is_none());
        if alive.filter(|a| a.stage != Stage::Backend).count() > self.most_websockets() {
            self.crowded = Some(self.step);
        }
        self.rig.wanted = if self.dice.chance(self.knobs.knocking) {
            1 + self.dice.below(3)
        } else {
            0
        };
        if self.rig.wanted > 0 {
            self.knocked = Some(self.step);
        }
        let alert = self.slept > 0;
        self.slept = self.slept.saturating_sub(1);
        let lazy = self.dice.chance(self.knobs.lazy) && !alert;
        let dice = &mut self.dice;
        let open = self.rig.questions.len();
        self.rig.tick_some(|| !lazy || dice.chance(60));
        self.receiver
            .turn(&mut self.rig, &self.knobs, &mut self.dice);
        self.match_questions(open);
        self.take_back_questions();
        assert!(self.rig.hub.inventory().websockets <= self.most_websockets());
        for at in 0..self.actors.len() {
            self.hear(at);
        }
        self.read_log();
    }

    /// Every question behind the first `open` is about the next command of its connection (6).
    fn match_questions(&mut self, open: usize) {
        for question in self.rig.questions.iter().skip(open) {
            let at = self.by_id[&question.from];
            let actor = &mut self.actors[at];
            let body: serde_json::Value = serde_json::from_slice(&question.body).expect("JSON");
            let command = body["command"].as_str().expect("a command");
            if command == "connect" {
                let id = body["connection"]["id"].as_str().expect("an id");
                assert!(actor.introduced.replace(id.to_owned()).is_none());
                continue;
            }
            assert_eq!(body["connection"]["query"]["a"][0], "b");
            let id = body["connection"]["id"].as_str().expect("an id");
            assert_eq!(actor.introduced.as_deref(), Some(id));
            let state = actor.state.as_deref().map(serde_json::Value::from);
            assert_eq!(body["connection"].get("state"), state.as_ref());
            let next = loop {
                let said = &actor.log[actor.asked];
                let full = actor.asked_joined.len() >= self.knobs.max_channels;
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
        let mut about: Vec<ConnId> = self.rig.questions.iter().map(|q| q.from).collect();
        about.extend(self.lost.iter().map(|q| q.from));
        let count = about.len();
        about.sort_unstable();
        about.dedup();
        assert_eq!(about.len(), count, "one question at a time");
    }

    /// Withdraws a question that has not been put to the authorizer yet (15).
    fn take_back_questions(&mut self) {
        for from in std::mem::take(&mut self.rig.withdrawn) {
            self.sum.withdrawn += 1;
            if self.dice.chance(self.knobs.unput) {
                self.rig.questions.retain(|question| question.from != from);
            }
        }
        for question in self.rig.questions.iter().chain(&self.lost) {
            let actor = &self.actors[self.by_id[&question.from]];
            let far = &actor.client.far;
            let says_nothing = actor.queued == actor.transmitted && actor.log.is_empty();
            let left =
                actor.gone && question.asked == Asked::Connect && far.has_left() && says_nothing;
            // A crowd that leaves at once is dropped in several turns.
            if (actor.reset || left) && !far.has_edge() && !self.rig.hub.has_work() {
                assert!(far.is_dropped(), "it keeps its place: {question:?}");
            }
        }
    }

    fn decide(&mut self, question: Question, verdict: Verdict) {
        self.sum.questions += 1;
        let at = self.by_id[&question.from];
        let witness = self.is_witness(at);
        let actor = &mut self.actors[at];
        let connects = question.asked == Asked::Connect;
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
        let gives = connects && verdict == Verdict::Allow && self.dice.chance(self.knobs.states);
        if gives {
            self.actors[at].state = Some(format!("actor {at}"));
        }
        let state = gives.then(|| format!(r#""actor {at}""#));
        self.rig.send_verdict(&question, verdict, state.as_deref());
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
                "101" => {
                    let agreed = actor.client.header("Sec-WebSocket-Extensions");
                    assert!(agreed.is_none() || self.knobs.compression.is_some());
                    actor.deflate = agreed.is_some();
                    Stage::Open
                }
                refused => {
                    let expected = match refused.trim_end_matches(", close") {
                        "503 draining" => self.stopping,
                        "503 full" => self.crowded.max(self.knocked) >= Some(actor.arrived),
                        "403 not_authorized" | "503 authorizer_down" => !actor.sure,
                        _ => false,
                    };
                    assert!(expected, "{refused}");
                    actor.leaving = true;
                    actor.fall_silent();
                    actor.client.far.leave();
                    Stage::Refused
                }
            };
            return;
        }
        // The frames behind its upgrade request are no HTTP.
        if actor.stage == Stage::Refused {
            assert!(line.starts_with("400"), "{line}");
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

    fn most_websockets(&self) -> usize {
        self.knobs.channels * WITNESSES + self.knobs.crowd + self.knobs.guests
    }

    /// A member hears a published message.
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

    /// A command is answered (5).
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
        if line == "503 full, close" {
            assert!(actor.stage == Stage::Backend && self.knocked >= Some(actor.arrived));
            for said in &actor.log[actor.answered..] {
                if let What::Post(_, n) = said.what {
                    self.published[n].must_not = true;
                }
            }
            (actor.stage, actor.leaving) = (Stage::Done, true);
            actor.fall_silent();
            actor.client.far.leave();
            return;
        }
        // During a stop an answer is a connection's last.
        let line = match line.strip_suffix(", close") {
            Some(line) => {
                let huge = actor.log.get(actor.answered).map(|s| &s.what) == Some(&What::HugePost);
                assert!(self.stopping || huge);
                (actor.stage, actor.leaving) = (Stage::Done, true);
                actor.fall_silent();
                actor.client.far.leave();
                line
            }
            None => line,
        };
        let index = actor.answered;
        let expected = actor.expected(index, &self.knobs);
        let said = &actor.log[index];
        let prefix = said
            .id
            .map_or("{".to_owned(), |id| format!(r#"{{"id":{id},"#));
        let right = match expected {
            Outcome::Ok => line == format!("{prefix}\"ok\":true}}"),
            // At the end of a stop no request waits any more for what is under way to its channel.
            Outcome::Line(_) if line == "503 draining" && matches!(said.what, What::Post(..)) => {
                self.stops_at.is_some_and(|at| self.rig.hub.clock.now >= at)
            }
            Outcome::Line(expected) => line == expected,
            Outcome::Error(code) => {
                line.starts_with(&format!("{prefix}\"error\":{{\"code\":\"{code}\""))
            }
            Outcome::Health if self.stopping && line.starts_with("503") => {
                line == r#"503 {"status":"draining"}"#
            }
            Outcome::Health => line == r#"200 {"status":"ok"}"#,
            Outcome::Pending | Outcome::Silent => false,
        };
        assert!(right, "{line} answers {said:?}");
        actor.take_effect(index, step, line, &mut self.published);
        self.skip_silent(at);
    }

    /// Skips commands that are known to have succeeded without an answer.
    fn skip_silent(&mut self, at: usize) {
        let step = self.step;
        let actor = &mut self.actors[at];
        while actor.expected(actor.answered, &self.knobs) == Outcome::Silent {
            let index = actor.answered;
            actor.take_effect(index, step, "", &mut self.published);
        }
    }

    fn read_log(&mut self) {
        for line in self.rig.log.take().lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            if line["message"] != "connection ended" && line["msg"] != "connection ended" {
                continue;
            }
            let address = line["remote_addr"].as_str().expect("an address");
            let (_, port) = address.rsplit_once(':').expect("a port");
            let at = port.parse::<usize>().expect("a number") - 1;
            let reason = line["reason"].as_str().expect("a word").to_owned();
            *self.sum.endings.entry(reason.clone()).or_default() += 1;
            let actor = &mut self.actors[at];
            match reason.as_str() {
                "too_slow" => assert!(actor.slow),
                "silent" => assert!(actor.silent || actor.slow || actor.leaving),
                "no_room" => {
                    assert!(self.knocked >= Some(actor.arrived) && !actor.client.is_websocket());
                    let asked = self.rig.questions.iter().chain(&self.lost);
                    let id = actor.client.id;
                    assert!(asked.into_iter().all(|question| question.from != id));
                }
                "protocol_error" | "too_big" | "invalid_text" | "invalid_data" => {
                    assert_eq!(actor.bad, Some(reason.as_str()));
                }
                _ => {}
            }
            assert!(actor.reason.replace(reason).is_none(), "it ended twice");
            actor.stage = Stage::Done;
        }
    }

    fn come_to_rest_allowing(&mut self) {
        for _ in 0..REST {
            while let Some(question) = self.rig.questions.pop_front() {
                self.decide(question, Verdict::Allow);
            }
            self.transmit();
            if !self.rig.has_work() && self.actors.iter().all(|a| a.outgoing.is_empty()) {
                return;
            }
            self.tick();
        }
        panic!("it does not come to rest");
    }

    /// Transmits all bytes, answers all questions and lets all clients read, until nothing happens any more.
    fn come_to_rest(&mut self) {
        for _ in 0..REST {
            self.give_up_lost();
            while let Some(question) = self.rig.questions.pop_front() {
                let deny = self.dice.chance(10);
                self.decide(question, if deny { Verdict::Deny } else { Verdict::Allow });
            }
            for actor in &mut self.actors {
                actor.transmit(usize::MAX);
                actor.client.far.widen(1 << 24);
            }
            if !self.rig.has_work() {
                for at in 0..self.actors.len() {
                    self.hear(at);
                    self.skip_silent(at);
                }
                if !self.rig.has_work() && self.rig.questions.is_empty() {
                    return;
                }
            }
            self.tick();
        }
        panic!("it does not come to rest");
    }

    /// Compares the model with what was heard (1 to 8).
    fn judge(&mut self) {
        let is: BTreeSet<usize> = self.truth.iter().flatten().copied().collect();
        let channels = self.truth.iter().take(self.knobs.channels);
        for (channel, truth) in channels.enumerate() {
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
        // The last messages of a client that left by itself were handled (8).
        if let Some("left" | "reset" | "closed") = actor.reason.as_deref()
            && actor.client.is_websocket()
        {
            let heard = actor.log.iter().take_while(|said| {
                said.end <= actor.transmitted
                    && said.verdict != Some(Verdict::Unavailable)
                    && !matches!(said.what, What::Close(_) | What::Violation(_))
            });
            for said in heard {
                let What::Broadcast(_, n) = said.what else {
                    continue;
                };
                let verdict = said.verdict(&self.knobs);
                let is = published.contains(&n);
                if actor.reset && self.knobs.authorizer {
                    assert!(!is || verdict == Some(Verdict::Allow), "{at}: {said:?}");
                    continue;
                }
                assert!(verdict.is_some(), "{at}: no question about {said:?}");
                assert_eq!(verdict == Some(Verdict::Allow), is, "{at}: {said:?}");
            }
        }
        for stretch in &actor.stretches {
            self.sum.stretches += 1;
            let truth = &self.truth[stretch.channel];
            let known = |n: &usize| self.published[*n].known.unwrap_or(usize::MAX);
            let join_said = actor.log[stretch.from].at;
            let leave_said = stretch.to.map(|to| actor.log[to].at);
            // Messages that were certainly published after the join took effect and before the leave did.
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
        // Its own messages (3).
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

    /// A graceful stop (11).
    fn stop(&mut self) {
        let time = self.dice.of(&[0, 1_000, 10_000]);
        let open: Vec<usize> = (0..self.actors.len())
            .filter(|at| {
                let actor = &self.actors[*at];
                actor.stage == Stage::Open && !actor.leaving && !actor.slow && !actor.silent
            })
            .collect();
        self.rig.hub.drain(time);
        self.stopping = true;
        let until = self.rig.hub.clock.now + time;
        self.stops_at = Some(until);
        for _ in 0..30 {
            self.act_without_time();
            self.tick();
            self.rig.hub.clock.now += time / 30;
        }
        self.rig.hub.clock.now = until.max(self.rig.hub.clock.now);
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
        assert!(!waiting, "a connection was forgotten");
    }

    /// Compares what happened with what the receiver was told (16).
    fn judge_events(&mut self) {
        self.sum.events = self.receiver.taken();
        self.sum.dropped = self.rig.hub.metrics().events_dropped as usize;
        self.sum.calls = self.receiver.calls;
        if self.knobs.events_queue == 0 {
            return assert_eq!(self.receiver.taken(), 0);
        }
        self.receiver.judge_gaps(self.sum.dropped as u64);
        if self.sum.dropped > 0 {
            return;
        }
        for (at, actor) in self.actors.iter().enumerate() {
            let Some(end) = self.receiver.end_of(at) else {
                assert!(!actor.client.is_websocket(), "{at} is not told of");
                continue;
            };
            assert_eq!(actor.reason.as_deref(), end["reason"].as_str(), "{at}");
            let code = end["code"].as_u64().expect("a number");
            let codes = actor.close_codes(end["reason"].as_str().expect("a word"));
            assert!(codes.contains(&code), "{at}: {code}, not {codes:?}");
            let channels: BTreeSet<&str> = texts(&end["channels"]).collect();
            let could_be = actor.memberships_at_end(&self.knobs);
            let could_be = could_be
                .iter()
                .any(|set| channels.iter().copied().eq(set.iter().map(String::as_str)));
            assert!(could_be, "{at} was in {channels:?}");
        }
        assert!(
            self.receiver.is_quiet(),
            "a channel or a connection is left"
        );
    }

    fn act_without_time(&mut self) {
        let now = self.rig.hub.clock.now;
        self.act();
        self.rig.hub.clock.now = now;
    }

    fn all_leave(&mut self) {
        for at in 0..self.actors.len() {
            if !self.actors[at].leaving {
                self.end_somehow(at);
            }
        }
        self.come_to_rest();
        // Vanished clients are noticed at their next deadline; lingering connections end at theirs.
        for actor in &mut self.actors {
            actor.client.far.reset();
        }
        self.come_to_rest();
        self.rig.pass(100_000);
        self.read_log();
        self.receiver.take_all(&mut self.rig, &self.knobs);
        self.rig.assert_empty();
        let nameless = self.actors.iter().filter(|a| a.reason.is_none()).count();
        assert_eq!(nameless, 0, "every end is logged");
        self.judge_events();
    }
}

/// The answer that is due to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing yet.
    Pending,
    /// Nothing at all.
    Silent,
    Ok,
    Error(&'static str),
    Line(String),
    Health,
}

impl Said {
    fn verdict(&self, knobs: &Knobs) -> Option<Verdict> {
        if knobs.authorizer {
            self.verdict
        } else {
            Some(Verdict::Allow)
        }
    }
}

fn texts(list: &serde_json::Value) -> impl Iterator<Item = &str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("a text"))
}

impl Actor {
    /// The close codes that may be told of its end.
    fn close_codes(&self, reason: &str) -> Vec<u64> {
        // What it has heard first is what was said first.
        let heard = self.lines.iter().find_map(|it| it.strip_prefix("close "));
        if let Some(heard) = heard {
            return vec![heard.parse().expect("a code")];
        }
        let sent = self.log.iter().find_map(|said| match said.what {
            What::Close(code) => Some(u64::from(code)),
            _ => None,
        });
        let violated = self.log.iter().find_map(|said| match said.what {
            What::Violation(code) => Some(u64::from(code)),
            _ => None,
        });
        let own = sent.into_iter().chain(violated);
        let by_server: &[u64] = match reason {
            "closed" | "protocol_error" | "too_big" | "invalid_text" => &[],
            "too_slow" => &[1008, 1006],
            "stopping" => &[1012],
            "authorizer_down" => &[1013],
            // The write has failed before the close frame was read, or before the server said its own.
            "reset" => &[1006, 1008, 1012, 1013],
            _ => &[1006],
        };
        own.chain(by_server.iter().copied()).collect()
    }

    /// The channels that it may have been in at its end: all that it has sent was done up to some command.
    fn memberships_at_end(&self, knobs: &Knobs) -> Vec<BTreeSet<String>> {
        let named = |joined: &BTreeSet<usize>| joined.iter().map(|it| name(*it)).collect();
        let mut joined = self.joined.clone();
        let mut all = vec![named(&joined)];
        for said in &self.log[self.answered..] {
            if said.verdict(knobs) == Some(Verdict::Allow) {
                match said.what {
                    What::Join(channel) if joined.len() < knobs.max_channels => {
                        joined.insert(channel);
                    }
                    What::Leave(channel) => drop(joined.remove(&channel)),
                    _ => {}
                }
                all.push(named(&joined));
            }
        }
        all
    }

    /// It sends nothing more, not even the rest of what it had begun.
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

    fn expected(&self, index: usize, knobs: &Knobs) -> Outcome {
        let Some(said) = self.log.get(index) else {
            return Outcome::Pending;
        };
        // A violation is seen at its first wrong byte.
        if said.end > self.transmitted && !matches!(said.what, What::Violation(_)) {
            return Outcome::Pending;
        }
        let full = self.joined.len() >= knobs.max_channels;
        let verdict = said.verdict(knobs);
        match &said.what {
            What::Ping(payload) => Outcome::Line(format!("pong {payload}")),
            What::Bad => Outcome::Error("bad_message"),
            What::Close(code) | What::Violation(code) => Outcome::Line(format!("close {code}")),
            What::HugePost => Outcome::Line("413 body_too_large".to_owned()),
            What::Health => Outcome::Health,
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

    /// Records whether the command answered with `line` has taken effect.
    fn take_effect(&mut self, index: usize, step: usize, line: &str, published: &mut [Published]) {
        self.answered += 1;
        let said = &self.log[index];
        let done = line.is_empty() || line.contains(r#""ok":true"#) || line == "201";
        match said.what {
            What::Broadcast(_, n) | What::Post(_, n) => {
                // Without an answer it may still take effect.
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
            What::Close(_) | What::Violation(_) => {
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
