//! A simulation of channels shared through a broker, with the driver's real dialogue.
//!
//! Clients and backends are random, and redis executes in any interleaving with them. It refuses commands, publishes
//! messages of other servers, and its links break and come back at any moment. Replies are read late. The program is
//! replaced between any two steps.
//!
//! Invariants:
//!
//! 1. Every member hears a contiguous stretch of a channel's messages, in the broker's order. It begins after the answer
//!    to the join and ends before the answer to the leave.
//! 2. The stretch has every message that the broker brought between the answer to the join and the leave.
//! 3. A message answered with `ok` or `201` has been brought, if the channel had a member here all the while.
//! 4. Redis has the channels of all members subscribed whenever the hub says that the broker is up, and from the answer
//!    to a join or the `101` on if the broker was listening then: every message published is brought.
//! 5. `unavailable` is answered only if a link was down meanwhile or redis refused a command; to a join, and to an
//!    upgrade with channels, only if redis refused a subscription.
//! 6. Every command is answered once, in order. At rest redis has exactly the channels subscribed that have members
//!    here. When all connections have gone there are none, and nothing is left in the hub.
//! 7. A member that speaks `wsify.v1` is told of a gap if it was a member while the broker did not listen: once the channel
//!    is subscribed again, before any message from after that, and never otherwise.

use std::collections::{BTreeSet, HashMap, VecDeque};

use wsify::effect::{ConnId, Verdict};
use wsify::wire::answer_fields::AnswerFields;
use wsify::wire::channel_name::ChannelName;

use crate::broker::Broker;
use crate::client::{Client, broadcast, close, join, leave, post, with_id};
use crate::ledger::{Ledger, Stretch};
use crate::rig::Rig;
use crate::seeds::{self, Dice};

const SEEDS: u64 = 300;
const STEPS: usize = 1_000;
const CHANNELS: usize = 3;
const MOST_CLIENTS: usize = 8;

#[test]
fn simulation() {
    if let Some(sum) = seeds::run(module_path!(), SEEDS, Sim::play) {
        assert!(sum.heard > 20_000 && sum.confirmed > 5_000 && sum.unavailable > 3_000);
        assert!(sum.gaps > 500);
        assert!(sum.checked > 15_000 && sum.breaks > 800 && sum.refusals > 500);
        assert!(sum.joined_with_101 > 500 && sum.refused_upgrades > 50);
    }
}

seeds::sum! {
    /// How often each thing happened.
    struct Sum {
        heard: usize,
        confirmed: usize,
        unavailable: usize,
        breaks: usize,
        refusals: usize,
        /// Channels joined together with a `101`, and upgrades that redis refused a channel of.
        joined_with_101: usize,
        refused_upgrades: usize,
        /// Members whose channel had to be subscribed.
        checked: usize,
        gaps: usize,
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Join(usize),
    Leave(usize),
    Publish(usize),
    /// An upgrade that the authorizer allows with these channels, a bit for each.
    Open(usize),
}

#[derive(Debug)]
struct Said {
    what: What,
    id: u64,
    at: usize,
}

/// What is known of a membership. It has missed something if the broker has not listened all the while.
#[derive(Debug)]
struct Membership {
    stretch: Stretch,
    /// The epoch of the listening link in which the join was answered, if that link was up.
    listening: Option<usize>,
    /// It may be told of this many gaps: one may be on its way when the link breaks again.
    gaps: usize,
}

struct Actor {
    client: Client,
    backend: bool,
    v1: bool,
    said: VecDeque<Said>,
    memberships: HashMap<usize, Membership>,
    gone: bool,
}

impl Actor {
    fn is_opening(&self) -> bool {
        let first = self.said.front().map(|said| said.what);
        matches!(first, Some(What::Open(_)))
    }
}

struct Sim {
    dice: Dice,
    rig: Rig,
    broker: Broker,
    actors: Vec<Actor>,
    ledger: Ledger,
    /// How often the listening link has come up.
    epoch: usize,
    /// When it was last lost.
    lost: usize,
    /// When a link was last down, a channel was not subscribed, or redis refused to publish.
    trouble: usize,
    /// When a refused subscription was last reported to the hub.
    refused: usize,
    /// How often redis refuses, in percent.
    refuses: usize,
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
        let mut rig = match seed % 3 {
            0 => Rig::with_authorizer(),
            _ => Rig::new(),
        };
        seeds::hand_over_now_and_then(&mut rig, seed);
        let broker = Broker::up(&mut rig);
        let mut sim = Sim {
            dice: Dice(seed),
            rig,
            broker,
            actors: Vec::new(),
            ledger: Ledger::new(CHANNELS),
            epoch: 0,
            lost: 0,
            trouble: 0,
            refused: 0,
            refuses: [0, 10, 60][(seed / 3 % 3) as usize],
            step: 0,
            next_id: 0,
            sum: Sum::default(),
        };
        for _ in 0..STEPS {
            sim.step += 1;
            sim.act();
        }
        sim.come_to_rest();
        sim.judge();
        sim.all_leave();
        sim.sum
    }

    fn act(&mut self) {
        if self.dice.below(40) == 0 {
            self.broker.hand_over(&mut self.rig);
        }
        match self.dice.below(100) {
            0..3 => self.arrive(),
            3..25 => self.say(),
            25..27 => self.leave(),
            27..42 => self.tick(),
            42..52 => {
                let refuses = self.dice.below(100) < self.refuses;
                if !refuses || !self.broker.refuse_change() {
                    self.broker.execute_change();
                }
                // Refused channels are asked for again after a while.
                if self.refuses > 0 && self.dice.below(4) == 0 {
                    self.rig.hub.clock.now += 200;
                }
            }
            52..54 if self.dice.below(100) < self.refuses => {
                if self.broker.refuse_publication() {
                    self.trouble = self.step;
                }
            }
            52..62 => {
                if let Some((_, content)) = self.broker.execute_publication() {
                    self.executed(number(&content));
                }
            }
            62..66 => {
                let channel = self.dice.below(CHANNELS);
                let n = self.message(channel);
                self.broker.foreign(&name(channel), &n.to_string());
                self.executed(n);
            }
            66..86 => self.bring(),
            86..92 => self.broker.read_publisher(&mut self.rig),
            92..97 => {
                let deny = self.dice.below(8) == 0;
                if !self.rig.questions.is_empty() {
                    let verdict = if deny { Verdict::Deny } else { Verdict::Allow };
                    self.rig.answer(verdict);
                    self.tick();
                }
            }
            _ => {
                let up = self.broker.publishing && self.broker.listening;
                if !up || self.dice.below(6) == 0 {
                    self.links();
                }
            }
        }
        if !self.broker.listening || !self.broker.publishing || !self.rig.hub.is_broker_up() {
            self.trouble = self.step;
        }
    }

    fn hears_of_a_gap(&mut self, at: usize, told: &serde_json::Value) {
        let channel = (0..CHANNELS).find(|channel| told["channel"] == name(*channel));
        let channel = channel.expect("a channel");
        assert!(self.actors[at].v1);
        let membership = self.actors[at].memberships.get_mut(&channel);
        let membership = membership.expect("a member is told");
        assert!(
            membership.gaps > 0,
            "{at} has missed nothing: {membership:?}"
        );
        membership.gaps -= 1;
        membership.stretch.missed = false;
        self.sum.gaps += 1;
    }

    /// A link breaks or comes back.
    fn links(&mut self) {
        let (broker, rig) = (&mut self.broker, &mut self.rig);
        match (broker.publishing, broker.listening) {
            (false, _) => broker.mend_publishing(rig),
            (_, false) => {
                self.epoch += 1;
                broker.mend_listening(rig);
            }
            _ => {
                self.sum.breaks += 1;
                match self.dice.below(3) {
                    0 => self.broker.break_publishing(&mut self.rig),
                    _ => {
                        self.broker.break_listening(&mut self.rig);
                        self.lost = self.step;
                        let actors = self.actors.iter_mut();
                        for membership in actors.flat_map(|a| a.memberships.values_mut()) {
                            membership.gaps += 1;
                            membership.stretch.missed = true;
                        }
                    }
                }
            }
        }
        self.trouble = self.step;
    }

    fn arrive(&mut self) {
        if self.actors.iter().filter(|a| !a.gone).count() >= MOST_CLIENTS {
            return;
        }
        let (backend, v1) = (self.dice.below(4) == 0, self.dice.below(2) == 0);
        let client = self.rig.client();
        let mut said = VecDeque::new();
        if !backend {
            let protocol = if v1 {
                "Sec-WebSocket-Protocol: wsify.v1\r\n"
            } else {
                ""
            };
            client.send(&crate::client::upgrade("/ws", protocol));
            self.tick();
            let joined = self.allow_upgrade(client.id);
            said.push_back(Said {
                what: What::Open(joined),
                id: 0,
                at: self.step,
            });
        }
        self.actors.push(Actor {
            client,
            backend,
            v1,
            said,
            memberships: HashMap::new(),
            gone: false,
        });
    }

    /// Allows the upgrade of a client, with some channels if it is asked about. Returns which.
    fn allow_upgrade(&mut self, id: ConnId) -> usize {
        let questions = &mut self.rig.questions;
        let Some(nth) = questions.iter().position(|question| question.from == id) else {
            return 0;
        };
        let question = questions.remove(nth).expect("a question");
        let joined = match self.dice.below(2) {
            0 => 0,
            _ => self.dice.below(1 << CHANNELS),
        };
        let names = (0..CHANNELS).filter(|channel| joined & 1 << channel != 0);
        let fields = AnswerFields {
            channels: names.map(|c| ChannelName::checked(&name(c))).collect(),
            ..AnswerFields::default()
        };
        let answer = self.rig.send_verdict(&question, Verdict::Allow, None);
        answer.fields = Some(Box::new(fields));
        joined
    }

    fn message(&mut self, channel: usize) -> usize {
        self.ledger.message(channel, self.step)
    }

    fn say(&mut self) {
        let at = self.dice.below(self.actors.len());
        let channel = self.dice.below(CHANNELS);
        let choice = self.dice.below(10);
        if self
            .actors
            .get(at)
            .is_none_or(|a| a.gone || a.said.len() > 5 || a.is_opening())
        {
            return;
        }
        let backend = self.actors[at].backend;
        let what = match choice {
            _ if backend => What::Publish(self.message(channel)),
            0..4 => What::Join(channel),
            4..6 => What::Leave(channel),
            _ => What::Publish(self.message(channel)),
        };
        self.next_id += 1;
        let id = self.next_id;
        let actor = &mut self.actors[at];
        let command = match what {
            What::Join(channel) => join(&name(channel)),
            What::Leave(channel) => {
                if let Some(membership) = actor.memberships.get_mut(&channel) {
                    membership.stretch.leave_said.get_or_insert(self.step);
                }
                leave(&name(channel))
            }
            What::Publish(n) => broadcast(&name(channel), &n.to_string()),
            What::Open(_) => unreachable!("an upgrade is no command"),
        };
        match (backend, what) {
            (true, What::Publish(n)) => {
                let body = format!(r#"{{"channel":"{}","content":{n}}}"#, name(channel));
                actor.client.send(&post(&body));
            }
            _ => actor.client.say(&with_id(id, &command)),
        }
        actor.said.push_back(Said {
            what,
            id,
            at: self.step,
        });
    }

    fn leave(&mut self) {
        let at = self.dice.below(self.actors.len());
        let how = self.dice.below(4);
        if let Some(actor) = self.actors.get_mut(at).filter(|a| !a.gone) {
            actor.gone = true;
            match how {
                0 => actor.client.send(&close(1000)),
                1 => actor.client.far.leave(),
                2 => actor.client.far.vanish(),
                _ => actor.client.far.reset(),
            }
        }
    }

    fn tick(&mut self) {
        self.rig.tick();
        self.broker.take(&mut self.rig);
        for at in 0..self.actors.len() {
            if !self.actors[at].gone {
                for line in self.actors[at].client.hear() {
                    self.hears(at, &line);
                }
            }
        }
    }

    /// redis has published: every channel that has to be subscribed is.
    fn executed(&mut self, n: usize) {
        let channel = self.ledger.channel(n);
        let up = self.rig.hub.is_broker_up();
        for actor in self.actors.iter().filter(|a| !a.gone) {
            let Some(membership) = actor.memberships.get(&channel) else {
                continue;
            };
            let listened = membership.listening == Some(self.epoch) && self.broker.listening;
            if membership.stretch.leave_said.is_none() && (up || listened) {
                let is = self.broker.subscribed.contains(&name(channel));
                assert!(is, "{channel} is not subscribed: {membership:?}");
                self.sum.checked += 1;
            }
        }
    }

    fn bring(&mut self) {
        let before = self.broker.refusals;
        let brought = self.broker.read_listener(&mut self.rig);
        if self.broker.refusals > before {
            self.refused = self.step;
            self.sum.refusals += 1;
        }
        if let Some((_, content)) = brought {
            self.ledger.brings(number(&content), self.step);
        }
    }

    fn hears(&mut self, at: usize, line: &str) {
        let content = match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) if value["gap"] == true => return self.hears_of_a_gap(at, &value),
            Ok(value) if self.actors[at].v1 => value["content"].as_u64(),
            Ok(value) => value.as_u64(),
            Err(_) => None,
        };
        if let Some(n) =
            content.filter(|_| !self.actors[at].backend && !self.actors[at].is_opening())
        {
            let n = n as usize;
            let Actor {
                memberships, v1, ..
            } = &mut self.actors[at];
            let membership = memberships.get_mut(&self.ledger.channel(n));
            let membership = membership.expect("a member hears it");
            let brought = self.ledger.hears(&mut membership.stretch, n);
            let told = !*v1 || !membership.stretch.missed || brought <= self.lost;
            assert!(told, "{at} is not told of a gap: {membership:?}");
            self.sum.heard += 1;
            return;
        }
        let said = self.actors[at].said.pop_front();
        let said = said.unwrap_or_else(|| panic!("an answer to nothing: {line}"));
        let prefix = format!(r#"{{"id":{},"#, said.id);
        let line = match line {
            "101" | "201" => "ok",
            "503 unavailable" => "unavailable",
            line => {
                let rest = line.strip_prefix(&prefix);
                let rest = rest.unwrap_or_else(|| panic!("{line} answers {said:?}"));
                let codes = ["unavailable", "not_authorized"];
                let code = codes.into_iter().find(|code| rest.contains(code));
                code.unwrap_or_else(|| {
                    assert_eq!(rest, r#""ok":true}"#);
                    "ok"
                })
            }
        };
        match (said.what, line) {
            (_, "not_authorized") => {}
            (What::Publish(_), "unavailable") => {
                assert!(self.trouble >= said.at, "nothing was wrong: {said:?}");
                self.sum.unavailable += 1;
            }
            (What::Publish(n), _) => {
                self.sum.confirmed += 1;
                let channel = self.ledger.channel(n);
                let actors = self.actors.iter().filter(|actor| !actor.gone);
                let memberships = actors.filter_map(|actor| actor.memberships.get(&channel));
                self.ledger
                    .is_confirmed(n, memberships.map(|it| &it.stretch));
            }
            (What::Join(_), "unavailable") => {
                assert!(self.refused >= said.at, "nothing refuses {said:?}");
            }
            (What::Open(_), "unavailable") => {
                assert!(self.refused >= said.at, "nothing refuses {said:?}");
                self.sum.refused_upgrades += 1;
                self.actors[at].gone = true;
                self.actors[at].client.far.leave();
            }
            (_, "unavailable") => panic!("nothing refuses {said:?}"),
            (What::Open(joined), _) => {
                for channel in (0..CHANNELS).filter(|channel| joined & 1 << channel != 0) {
                    self.sum.joined_with_101 += 1;
                    self.joined(at, channel, said.at);
                }
            }
            (What::Join(channel), _) => self.joined(at, channel, said.at),
            (What::Leave(channel), _) => {
                if let Some(Membership { stretch, .. }) =
                    self.actors[at].memberships.remove(&channel)
                {
                    self.ledger
                        .is_complete(channel, &stretch, stretch.leave_said);
                }
            }
        }
    }

    /// A join that was sent at that step has taken effect.
    fn joined(&mut self, at: usize, channel: usize, join_said: usize) {
        let listening = self.broker.listening;
        let actor = &mut self.actors[at];
        let behind = actor.said.iter().find_map(|s| match s.what {
            What::Leave(c) if c == channel => Some(s.at),
            _ => None,
        });
        let membership = actor.memberships.entry(channel);
        let membership = membership.or_insert_with(|| Membership {
            stretch: Stretch::new(join_said, self.step, !listening),
            listening: listening.then_some(self.epoch),
            gaps: usize::from(!listening),
        });
        membership.stretch.leave_said = behind;
    }

    /// Brings both links back, and runs until nothing is in transit.
    fn come_to_rest(&mut self) {
        for _ in 0..100_000 {
            self.step += 1;
            while !self.broker.publishing || !self.broker.listening {
                self.links();
            }
            if !self.rig.questions.is_empty() {
                self.rig.answer(Verdict::Allow);
            }
            self.tick();
            self.broker.execute_change();
            if let Some((_, content)) = self.broker.execute_publication() {
                self.executed(number(&content));
            }
            self.broker.read_publisher(&mut self.rig);
            self.bring();
            if self.broker.is_quiet() && !self.rig.has_work() && self.rig.questions.is_empty() {
                if self.rig.hub.is_broker_up() {
                    return;
                }
                // Refused channels are asked for again.
                self.rig.hub.clock.now += 100;
            }
        }
        panic!("it does not come to rest");
    }

    fn judge(&mut self) {
        self.tick();
        assert!(self.rig.hub.is_broker_up());
        let mut members = BTreeSet::new();
        for (at, actor) in self.actors.iter().enumerate().filter(|(_, a)| !a.gone) {
            assert!(actor.said.is_empty(), "{at}: {:?}", actor.said);
            for (channel, Membership { stretch, .. }) in &actor.memberships {
                members.insert(name(*channel));
                assert!(!actor.v1 || !stretch.missed, "{at} is not told of a gap");
                self.ledger.is_complete(*channel, stretch, None);
            }
        }
        for actor in self.actors.iter().filter(|a| a.gone) {
            actor.client.far.reset();
        }
        self.come_to_rest();
        assert_eq!(self.broker.subscribed, members);
    }

    fn all_leave(&mut self) {
        for actor in &mut self.actors {
            actor.gone = true;
            actor.client.far.reset();
        }
        self.come_to_rest();
        self.rig.pass(100_000);
        self.come_to_rest();
        assert!(self.broker.subscribed.is_empty());
        self.rig.assert_empty();
    }
}
