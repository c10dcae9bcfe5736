//! A simulation of channels shared through a broker, with the driver's real dialogue: random clients and backends, what
//! redis does in any interleaving with them, refusals at any moment, foreign messages, and links that break and come back
//! at any moment, each link's replies read late.
//!
//! What holds, whatever happens:
//!
//! 1. Of what the broker brings for a channel, every member hears a contiguous stretch, in that order, that begins behind
//!    the answer to its join and ends before the answer to its leave.
//! 2. Nothing is missing in it of what was brought after that answer and before the leave was said, or at all.
//! 3. What was answered with `ok` or `201` has been brought, if somebody here was a member all the while.
//! 4. After the answer to a join given while the broker listens, and whenever the broker is said to be up, redis has the
//!    channels of all members subscribed: what anybody publishes then is brought.
//! 5. `unavailable` is answered only if a link was away meanwhile or redis refused something; to a join only if redis
//!    refused one.
//! 6. Everything said is answered once, in order. When all is quiet redis has exactly the channels subscribed that have
//!    members here, and when all have gone, none; and nothing is left in the hub.
//! 7. A member that speaks `wsify.v1` is told of a gap when it was a member while the broker did not listen, once the channel
//!    is subscribed again and before it hears anything of that, and never otherwise.
//!
//! `WSIFY_SEED=123 cargo test shared` repeats one seed, `WSIFY_SEEDS=10000` tries more.

use std::collections::{BTreeSet, HashMap, VecDeque};

use wsify::effect::Verdict;

use crate::broker::Broker;
use crate::client::{Client, broadcast, close, join, leave, post, with_id};
use crate::house::House;

const SEEDS: u64 = 300;
const STEPS: usize = 1_000;
const CHANNELS: usize = 3;
const MOST_CLIENTS: usize = 8;

#[test]
fn shared() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number"))
    };
    let seeds = match number("WSIFY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WSIFY_SEEDS").unwrap_or(SEEDS),
    };
    let all = seeds.end - seeds.start >= SEEDS;
    let mut sum = Sum::default();
    for seed in seeds {
        // Shown only where it fails.
        println!("WSIFY_SEED={seed} cargo test shared");
        sum = Sim::play(seed, sum);
    }
    println!("{sum:?}");
    // That a simulation finds nothing says something only if it does something.
    if all {
        assert!(sum.heard > 20_000 && sum.confirmed > 5_000 && sum.unavailable > 3_000);
        assert!(sum.gaps > 500);
        assert!(sum.checked > 15_000 && sum.breaks > 800 && sum.refusals > 500);
    }
}

/// What was played.
#[derive(Debug, Default)]
struct Sum {
    heard: usize,
    confirmed: usize,
    unavailable: usize,
    breaks: usize,
    refusals: usize,
    /// Members for whom a subscription had to be there.
    checked: usize,
    gaps: usize,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Join(usize),
    Leave(usize),
    Publish(usize),
}

#[derive(Debug)]
struct Said {
    what: What,
    id: u64,
    at: usize,
}

/// The time between the answer to a join and the answer to a leave.
#[derive(Debug)]
struct Stretch {
    join_said: usize,
    joined: usize,
    /// The broker listened when the join was answered, for the so-many-eth time.
    listening: Option<usize>,
    leave_said: Option<usize>,
    /// Where what was heard last stands in what was brought.
    heard: Vec<usize>,
    /// The broker has not listened since it was joined, and it has not been told of a gap.
    missed: bool,
    /// So many gaps it may be told of: one may be on its way when the link breaks again.
    gaps: usize,
}

struct Actor {
    client: Client,
    backend: bool,
    v1: bool,
    said: VecDeque<Said>,
    stretches: HashMap<usize, Stretch>,
    gone: bool,
}

#[derive(Debug)]
struct Message {
    channel: usize,
    said: usize,
    brought: Option<usize>,
}

struct Sim {
    dice: u64,
    house: House,
    broker: Broker,
    actors: Vec<Actor>,
    messages: Vec<Message>,
    /// Of each channel: what was brought, and when.
    brought: Vec<Vec<(usize, usize)>>,
    /// How often the listening link has come up.
    epoch: usize,
    /// When it was last lost.
    lost: usize,
    /// When a link was last away, or a channel's members missed what is published, or redis refused to publish.
    trouble: usize,
    /// When the hub was last told of a refused subscription.
    refused: usize,
    /// Out of a hundred times redis refuses so many.
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
    fn play(seed: u64, sum: Sum) -> Sum {
        let mut house = match seed % 3 {
            0 => House::asking(),
            _ => House::open(),
        };
        let broker = Broker::up(&mut house);
        let mut sim = Sim {
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            house,
            broker,
            actors: Vec::new(),
            messages: Vec::new(),
            brought: vec![Vec::new(); CHANNELS],
            epoch: 0,
            lost: 0,
            trouble: 0,
            refused: 0,
            refuses: [0, 10, 60][(seed / 3 % 3) as usize],
            step: 0,
            next_id: 0,
            sum,
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

    fn below(&mut self, sides: usize) -> usize {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        let random = self.dice.wrapping_mul(0x2545_F491_4F6C_DD1D);
        (random >> 33) as usize % sides.max(1)
    }

    fn act(&mut self) {
        match self.below(100) {
            0..3 => self.arrive(),
            3..25 => self.say(),
            25..27 => self.leave(),
            27..42 => self.tick(),
            42..52 => {
                let refuses = self.below(100) < self.refuses;
                if !refuses || !self.broker.refuse_change() {
                    self.broker.execute_change();
                }
                // Refused channels are asked for again after a while.
                if self.refuses > 0 && self.below(4) == 0 {
                    self.house.hub.clock.now += 200;
                }
            }
            52..54 if self.below(100) < self.refuses => {
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
                let channel = self.below(CHANNELS);
                let n = self.message(channel);
                self.broker.foreign(&name(channel), &n.to_string());
                self.executed(n);
            }
            66..86 => self.bring(),
            86..92 => self.broker.read_publisher(&mut self.house),
            92..97 => {
                let deny = self.below(8) == 0;
                if !self.house.questions.is_empty() {
                    let verdict = if deny { Verdict::Deny } else { Verdict::Allow };
                    self.house.answer(verdict);
                    self.tick();
                }
            }
            _ => {
                let up = self.broker.publishing && self.broker.listening;
                if !up || self.below(6) == 0 {
                    self.links();
                }
            }
        }
        if !self.broker.listening || !self.broker.publishing || !self.house.hub.is_broker_up() {
            self.trouble = self.step;
        }
    }

    fn hears_of_a_gap(&mut self, at: usize, told: &serde_json::Value) {
        let channel = (0..CHANNELS).find(|channel| told["channel"] == name(*channel));
        let channel = channel.expect("a channel");
        assert!(self.actors[at].v1);
        let stretch = self.actors[at].stretches.get_mut(&channel);
        let stretch = stretch.expect("a member is told");
        assert!(stretch.gaps > 0, "{at} has missed nothing: {stretch:?}");
        stretch.gaps -= 1;
        stretch.missed = false;
        self.sum.gaps += 1;
    }

    /// A link breaks or comes back.
    fn links(&mut self) {
        let (broker, house) = (&mut self.broker, &mut self.house);
        match (broker.publishing, broker.listening) {
            (false, _) => broker.mend_publishing(house),
            (_, false) => {
                self.epoch += 1;
                broker.mend_listening(house);
            }
            _ => {
                self.sum.breaks += 1;
                match self.below(3) {
                    0 => self.broker.break_publishing(&mut self.house),
                    _ => {
                        self.broker.break_listening(&mut self.house);
                        self.lost = self.step;
                        let actors = self.actors.iter_mut();
                        for stretch in actors.flat_map(|a| a.stretches.values_mut()) {
                            stretch.gaps += 1;
                            stretch.missed = true;
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
        let (backend, v1) = (self.below(4) == 0, self.below(2) == 0);
        let mut client = self.house.client();
        if !backend {
            let protocol = match v1 {
                true => "Sec-WebSocket-Protocol: wsify.v1\r\n",
                false => "",
            };
            client.send(&crate::client::upgrade("/ws", protocol));
            loop {
                self.tick();
                match client.hear().first().map(String::as_str) {
                    Some("101") => break,
                    Some(other) => panic!("{other}"),
                    None if self.house.questions.is_empty() => {}
                    None => self.house.answer(Verdict::Allow),
                }
            }
        }
        self.actors.push(Actor {
            client,
            backend,
            v1,
            said: VecDeque::new(),
            stretches: HashMap::new(),
            gone: false,
        });
    }

    fn message(&mut self, channel: usize) -> usize {
        self.messages.push(Message {
            channel,
            said: self.step,
            brought: None,
        });
        self.messages.len() - 1
    }

    fn say(&mut self) {
        let at = self.below(self.actors.len());
        let channel = self.below(CHANNELS);
        let choice = self.below(10);
        if self
            .actors
            .get(at)
            .is_none_or(|a| a.gone || a.said.len() > 5)
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
                if let Some(stretch) = actor.stretches.get_mut(&channel) {
                    stretch.leave_said.get_or_insert(self.step);
                }
                leave(&name(channel))
            }
            What::Publish(n) => broadcast(&name(channel), &n.to_string()),
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
        let at = self.below(self.actors.len());
        let how = self.below(4);
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
        self.house.tick();
        self.broker.take(&mut self.house);
        for at in 0..self.actors.len() {
            if !self.actors[at].gone {
                for line in self.actors[at].client.hear() {
                    self.hears(at, &line);
                }
            }
        }
    }

    /// redis has published: who has to be subscribed is.
    fn executed(&mut self, n: usize) {
        let channel = self.messages[n].channel;
        let up = self.house.hub.is_broker_up();
        for actor in self.actors.iter().filter(|a| !a.gone) {
            let Some(stretch) = actor.stretches.get(&channel) else {
                continue;
            };
            let listened = stretch.listening == Some(self.epoch) && self.broker.listening;
            if stretch.leave_said.is_none() && (up || listened) {
                let is = self.broker.subscribed.contains(&name(channel));
                assert!(is, "{channel} is not subscribed: {stretch:?}");
                self.sum.checked += 1;
            }
        }
    }

    fn bring(&mut self) {
        let before = self.broker.refusals;
        let brought = self.broker.read_listener(&mut self.house);
        if self.broker.refusals > before {
            self.refused = self.step;
            self.sum.refusals += 1;
        }
        if let Some((_, content)) = brought {
            let n = number(&content);
            let message = &mut self.messages[n];
            assert!(message.brought.replace(self.step).is_none());
            self.brought[message.channel].push((n, self.step));
        }
    }

    fn hears(&mut self, at: usize, line: &str) {
        let content = match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) if value["gap"] == true => return self.hears_of_a_gap(at, &value),
            Ok(value) if self.actors[at].v1 => value["content"].as_u64(),
            Ok(value) => value.as_u64(),
            Err(_) => None,
        };
        if let Some(n) = content.filter(|_| !self.actors[at].backend) {
            let n = n as usize;
            let channel = self.messages[n].channel;
            let place = self.brought[channel].iter().position(|(m, _)| *m == n);
            let place = place.expect("it was brought");
            let (_, brought) = self.brought[channel][place];
            let (v1, lost) = (self.actors[at].v1, self.lost);
            let stretch = self.actors[at].stretches.get_mut(&channel);
            let stretch = stretch.expect("a member hears it");
            let expected = stretch.heard.last().map_or(place, |last| last + 1);
            assert_eq!(place, expected, "{at} misses something: {stretch:?}");
            assert!(brought >= stretch.join_said);
            let told = !v1 || !stretch.missed || brought <= lost;
            assert!(told, "{at} is not told of a gap: {stretch:?}");
            stretch.heard.push(place);
            self.sum.heard += 1;
            return;
        }
        let said = self.actors[at].said.pop_front();
        let said = said.unwrap_or_else(|| panic!("nobody asked: {line}"));
        let prefix = format!(r#"{{"id":{},"#, said.id);
        let line = match line {
            "201" => "ok",
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
                let message = &self.messages[n];
                let heard = self.actors.iter().any(|other| {
                    let stretch = other.stretches.get(&message.channel);
                    stretch.is_some_and(|s| {
                        s.joined < message.said && s.leave_said.is_none() && !other.gone
                    })
                });
                assert!(message.brought.is_some() || !heard, "{n} is lost");
            }
            (What::Join(_), "unavailable") => {
                assert!(self.refused >= said.at, "nothing refuses {said:?}");
            }
            (_, "unavailable") => panic!("nothing refuses {said:?}"),
            (What::Join(channel), _) => {
                let stretch = Stretch {
                    join_said: said.at,
                    joined: self.step,
                    listening: self.broker.listening.then_some(self.epoch),
                    leave_said: None,
                    heard: Vec::new(),
                    missed: !self.broker.listening,
                    gaps: usize::from(!self.broker.listening),
                };
                let actor = &mut self.actors[at];
                let behind = actor.said.iter().find_map(|s| match s.what {
                    What::Leave(c) if c == channel => Some(s.at),
                    _ => None,
                });
                let stretch = actor.stretches.entry(channel).or_insert(stretch);
                stretch.leave_said = behind;
            }
            (What::Leave(channel), _) => {
                if let Some(stretch) = self.actors[at].stretches.remove(&channel) {
                    self.is_complete(at, channel, &stretch, stretch.leave_said);
                }
            }
        }
    }

    /// All that was brought in the meantime was heard.
    fn is_complete(&self, at: usize, channel: usize, stretch: &Stretch, until: Option<usize>) {
        for (place, (n, brought)) in self.brought[channel].iter().enumerate() {
            if *brought > stretch.joined && until.is_none_or(|until| *brought < until) {
                assert!(
                    stretch.heard.contains(&place),
                    "{at} misses {n}: {stretch:?}"
                );
            }
        }
    }

    /// Both links come back, and everything takes its course.
    fn come_to_rest(&mut self) {
        for _ in 0..100_000 {
            self.step += 1;
            while !self.broker.publishing || !self.broker.listening {
                self.links();
            }
            if !self.house.questions.is_empty() {
                self.house.answer(Verdict::Allow);
            }
            self.tick();
            self.broker.execute_change();
            if let Some((_, content)) = self.broker.execute_publication() {
                self.executed(number(&content));
            }
            self.broker.read_publisher(&mut self.house);
            self.bring();
            if self.broker.is_quiet() && !self.house.has_work() && self.house.questions.is_empty() {
                if self.house.hub.is_broker_up() {
                    return;
                }
                // What was refused is asked for again.
                self.house.hub.clock.now += 100;
            }
        }
        panic!("it does not come to rest");
    }

    fn judge(&mut self) {
        self.tick();
        assert!(self.house.hub.is_broker_up());
        let mut members = BTreeSet::new();
        for (at, actor) in self.actors.iter().enumerate().filter(|(_, a)| !a.gone) {
            assert!(actor.said.is_empty(), "{at}: {:?}", actor.said);
            for (channel, stretch) in &actor.stretches {
                members.insert(name(*channel));
                assert!(!actor.v1 || !stretch.missed, "{at} is not told of a gap");
                self.is_complete(at, *channel, stretch, None);
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
        self.house.pass(100_000);
        self.come_to_rest();
        assert!(self.broker.subscribed.is_empty());
        self.house.assert_empty();
    }
}
