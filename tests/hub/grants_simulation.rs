//! A simulation of what the authorizer's answers leave behind: random clients whose questions are answered with any fields
//! at any time, also late and for clients that have gone, held against an exact model.
//!
//! What holds, whatever happens:
//!
//! 1. A command is done or refused without a question only if the client's `allow` or an answer that is remembered says so,
//!    and every other command is asked about: with its user and state of that moment, in the order sent.
//! 2. A refresh is asked between nine tenths and the whole of `expires_in`, when no question is open, and before the next
//!    message. From then on nothing of what was granted before holds.
//! 3. Everything sent is answered in order: with the refusal's message, and behind it the close that came with it.
//! 4. What is published is what the answer says; what was refused is not published.
//! 5. Fields that do not belong to an answer change nothing.
//! 6. Nothing is left of a client to the next in its slot, and nothing at all when all have gone.

use std::collections::{BTreeSet, HashMap, VecDeque};

use serde_json::{Value, json};
use wsify::clock::Millis;
use wsify::effect::{ConnId, Question, Verdict};
use wsify::hub::Settings;
use wsify::wire::answer_fields::{Allow, AnswerFields, Asked, CloseWith, NewState};
use wsify::wire::channel_name::ChannelName;

use crate::broker::Broker;
use crate::client::{Client, broadcast, join, leave, upgrade, with_id};
use crate::rig::{Rig, settings};
use crate::seeds::{self, Dice};

const SEEDS: u64 = 100;
const STEPS: usize = 250;
const MOST_CLIENTS: usize = 6;
/// How long after its time an idle client may be asked about: two steps of the deadline wheel.
const SLACK: Millis = 40;
const VERBS: [&str; 3] = ["join", "leave", "broadcast"];
const DENIED_MESSAGE: &str = "the authorizer says no";

#[test]
fn simulation() {
    if let Some(sum) = seeds::run(module_path!(), SEEDS, Sim::play) {
        assert!(sum.asked > 10_000 && sum.granted > 1_500 && sum.remembered > 500);
        assert!(sum.refreshes > 1_000 && sum.replaced > 500 && sum.closed > 500);
    }
}

seeds::sum! {
    /// What was played.
    struct Sum {
        asked: usize,
        granted: usize,
        remembered: usize,
        refreshes: usize,
        replaced: usize,
        closed: usize,
    }
}

#[derive(Clone, Debug)]
struct Cmd {
    verb: usize,
    channel: usize,
    n: usize,
}

/// The question that the hub has asked about a client.
#[derive(Debug)]
enum Open {
    Connect,
    Command(Cmd),
    Refresh,
}

#[derive(Debug)]
struct Remembered {
    verb: usize,
    channel: usize,
    until: Millis,
    /// `None` is a yes.
    refusal: Option<String>,
}

/// What the hub should know about a client's permissions.
#[derive(Debug, Default)]
struct Grants {
    allow: [Vec<String>; 3],
    remembered: VecDeque<Remembered>,
    /// The first and the last moment at which the refresh may be asked.
    refresh: Option<(Millis, Millis)>,
}

struct Actor {
    client: Client,
    /// Sent, and not handled.
    queue: VecDeque<Cmd>,
    open: Option<(Open, Question)>,
    is_open: bool,
    user: Option<String>,
    state: Option<String>,
    grants: Grants,
    members: BTreeSet<usize>,
    /// Lines that it must have heard, besides contents.
    expected: Vec<String>,
    heard: Vec<String>,
    gone: bool,
}

struct Sim {
    dice: Dice,
    rig: Rig,
    broker: Option<Broker>,
    channels: usize,
    actors: Vec<Actor>,
    by_id: HashMap<ConnId, usize>,
    /// Questions about clients that have gone.
    late: Vec<Question>,
    /// A member of every channel.
    witness: Client,
    /// Contents that it must hear, of each client.
    published: Vec<(usize, String)>,
    next: usize,
    sum: Sum,
}

fn name(channel: usize) -> String {
    format!("room:{}:{channel}", channel % 2)
}

impl Sim {
    fn play(seed: u64) -> Sum {
        let mut settings = Settings {
            authorizer: true,
            ..settings()
        };
        settings.limits.ping_interval = 0;
        let mut rig = Rig::with(settings);
        seeds::hand_over_now_and_then(&mut rig, seed);
        let mut broker = seed.is_multiple_of(3).then(|| Broker::up(&mut rig));
        let channels = [3, 40][(seed / 3 % 2) as usize];
        let witness = rig.upgrading("");
        rig.answer_fields(
            Verdict::Allow,
            AnswerFields {
                channels: (0..channels)
                    .map(|c| ChannelName::checked(&name(c)))
                    .collect(),
                ..AnswerFields::default()
            },
        );
        if let Some(broker) = &mut broker {
            broker.settle(&mut rig);
        }
        let mut sim = Sim {
            dice: Dice(seed),
            rig,
            broker,
            channels,
            actors: Vec::new(),
            by_id: HashMap::new(),
            late: Vec::new(),
            witness,
            published: Vec::new(),
            next: 0,
            sum: Sum::default(),
        };
        assert_eq!(sim.witness.hear(), ["101"]);
        for _ in 0..STEPS {
            for _ in 0..1 + sim.dice.below(4) {
                sim.act();
                sim.rig.tick();
            }
            sim.rest();
            sim.judge();
            let time = [0, 0, 30, 300, 2_000][sim.dice.below(5)];
            sim.pass(time);
        }
        sim.end();
        sim.sum
    }

    fn now(&self) -> Millis {
        self.rig.hub.clock.now
    }

    // -- what happens

    fn act(&mut self) {
        match self.dice.below(100) {
            0..8 => self.arrive(),
            8..50 => self.say(),
            50..52 => self.reset(),
            52..55 => self.answer_late(),
            _ => self.answer(),
        }
    }

    fn arrive(&mut self) {
        if self.actors.iter().filter(|a| !a.gone).count() >= MOST_CLIENTS {
            return;
        }
        let client = self.rig.client();
        client.send(&upgrade("/ws", ""));
        self.by_id.insert(client.id, self.actors.len());
        self.actors.push(Actor {
            client,
            queue: VecDeque::new(),
            open: None,
            is_open: false,
            user: None,
            state: None,
            grants: Grants::default(),
            members: BTreeSet::new(),
            expected: Vec::new(),
            heard: Vec::new(),
            gone: false,
        });
    }

    /// A client sends a few commands.
    fn say(&mut self) {
        let at = self.dice.below(self.actors.len());
        for _ in 0..1 + self.dice.below(4) {
            let cmd = Cmd {
                verb: self.dice.below(3),
                channel: self.dice.below(self.channels),
                n: self.next,
            };
            let Some(actor) = self.actors.get_mut(at).filter(|a| !a.gone) else {
                return;
            };
            self.next += 1;
            let channel = name(cmd.channel);
            let text = match cmd.verb {
                0 => join(&channel),
                1 => leave(&channel),
                _ => broadcast(&channel, &content(&cmd)),
            };
            actor.client.say(&with_id(cmd.n as u64, &text));
            actor.queue.push_back(cmd);
        }
    }

    fn reset(&mut self) {
        let at = self.dice.below(self.actors.len());
        if self.actors.get(at).is_some_and(|a| !a.gone) {
            self.lose(at);
        }
    }

    /// A client goes. Whatever it was asked about may be answered later.
    fn lose(&mut self, at: usize) {
        // What it has sent before is handled first, so that the model knows how far the hub came.
        self.rest();
        let actor = &mut self.actors[at];
        if std::mem::replace(&mut actor.gone, true) {
            return;
        }
        self.late
            .extend(actor.open.take().map(|(_, question)| question));
        actor.members.clear();
        actor.client.far.reset();
    }

    fn answer_late(&mut self) {
        if let Some(question) = self.late.pop() {
            let fields = self.fields(question.asked, Verdict::Allow);
            self.rig
                .send_verdict(&question, Verdict::Allow, None)
                .fields = Some(Box::new(fields));
        }
    }

    fn answer(&mut self) {
        let asked: Vec<usize> = (0..self.actors.len())
            .filter(|at| self.actors[*at].open.is_some())
            .collect();
        if asked.is_empty() {
            return;
        }
        let at = asked[self.dice.below(asked.len())];
        let Some((open, question)) = self.actors[at].open.take() else {
            return;
        };
        let verdict = match self.dice.below(100) {
            0..2 => Verdict::Unavailable,
            2..25 => Verdict::Deny,
            _ => Verdict::Allow,
        };
        let fields = self.fields(question.asked, verdict);
        self.rig.send_verdict(&question, verdict, None).fields = Some(Box::new(fields.clone()));
        match open {
            Open::Connect => self.connected(at, verdict, fields),
            Open::Command(cmd) => self.decided(at, cmd, verdict, fields),
            Open::Refresh => self.refreshed(at, verdict, fields),
        }
    }

    /// Any fields, whether they belong to such an answer or not.
    fn fields(&mut self, asked: Asked, verdict: Verdict) -> AnswerFields {
        let mut fields = AnswerFields::default();
        let n = self.dice.below(3);
        if self.dice.chance(30) {
            fields.user = Some(format!("user {n}").into());
        }
        if self.dice.chance(30) {
            // One that is shared, one that is not, and none.
            fields.state = Some(match n {
                0 => NewState::Removed,
                1 => NewState::Json(r#""the state that many have""#.into()),
                _ => NewState::Json(format!("\"{}\"", self.next).into()),
            });
        }
        if self.dice.chance(30) {
            let some = 1 + self.dice.below(2);
            let names: BTreeSet<String> = (0..some)
                .map(|_| name(self.dice.below(self.channels)))
                .collect();
            let names = names.iter().map(|it| ChannelName::checked(it));
            fields.channels = names.collect();
        }
        if self.dice.chance(50) {
            fields.allow = Some(Allow {
                join: self.patterns(),
                leave: self.patterns(),
                broadcast: self.patterns(),
            });
        }
        if self.dice.chance(60) {
            fields.expires_in = Some(1 + self.dice.below(8) as u32);
        }
        if self.dice.chance(40) {
            fields.max_age = Some([0, 1, 3, 600][self.dice.below(4)]);
        }
        if self.dice.chance(30) && fields.max_age.unwrap_or_default() == 0 {
            fields.content = Some(format!(r#"{{"new": {n}.00}}"#).into_bytes().into());
        }
        if self.dice.chance(50) {
            fields.message = Some(format!("no {n}").into());
        }
        let often = if asked == Asked::Refresh { 50 } else { 10 };
        if self.dice.chance(often) && verdict == Verdict::Deny {
            let reason = ["", "bye"][self.dice.below(2)];
            fields.close = Some(CloseWith {
                code: 4000 + n as u16,
                reason: self.dice.chance(50).then(|| reason.into()),
            });
        }
        fields
    }

    fn patterns(&mut self) -> Box<[Box<str>]> {
        let count = [0, 0, 1, 2][self.dice.below(4)];
        let mut pattern = || match self.dice.below(8) {
            0 => "*".into(),
            1 | 2 => format!("room:{}:*", self.dice.below(2)).into(),
            _ => name(self.dice.below(self.channels)).into(),
        };
        (0..count).map(|_| pattern()).collect()
    }

    // -- what the model makes of an answer

    fn connected(&mut self, at: usize, verdict: Verdict, fields: AnswerFields) {
        let actor = &mut self.actors[at];
        match verdict {
            Verdict::Allow => {
                actor.is_open = true;
                actor.expected.push("101".to_owned());
                actor.user = fields.user.clone().map(Into::into);
                for channel in &fields.channels {
                    let number = channel.as_str().rsplit(':').next().expect("a number");
                    actor.members.insert(number.parse().expect("a number"));
                }
                self.grant(at, fields);
            }
            Verdict::Deny => self.refused(at, "403 not_authorized"),
            Verdict::Unavailable => self.refused(at, "503 authorizer_down"),
        }
    }

    /// Its upgrade was refused; what it has sent behind it is no HTTP.
    fn refused(&mut self, at: usize, line: &str) {
        let actor = &mut self.actors[at];
        actor.queue.clear();
        actor.expected.push(line.to_owned());
        self.lose_later(at);
    }

    /// It is closed by the server, and goes as soon as it has heard why.
    fn lose_later(&mut self, at: usize) {
        self.sum.closed += 1;
        self.rig.run();
        if let Some(broker) = &mut self.broker {
            broker.settle(&mut self.rig);
        }
        self.hear();
        let actor = &mut self.actors[at];
        // Whatever is behind a refusal is no HTTP.
        let heard = actor.heard.len().min(actor.expected.len());
        assert_eq!(actor.heard[..heard], actor.expected[..], "{at}");
        actor.heard.clear();
        actor.expected.clear();
        actor.queue.clear();
        actor.members.clear();
        actor.gone = true;
        actor.client.far.reset();
    }

    fn grant(&mut self, at: usize, fields: AnswerFields) {
        let now = self.now();
        let actor = &mut self.actors[at];
        set_state(&mut actor.state, fields.state);
        let list = |patterns: Box<[Box<str>]>| patterns.iter().map(|it| it.to_string()).collect();
        let allow = fields.allow.unwrap_or_default();
        actor.grants = Grants {
            allow: [list(allow.join), list(allow.leave), list(allow.broadcast)],
            remembered: VecDeque::new(),
            refresh: fields.expires_in.map(|seconds| {
                let whole = Millis::from(seconds) * 1_000;
                (now + whole * 9 / 10, now + whole)
            }),
        };
    }

    fn decided(&mut self, at: usize, cmd: Cmd, verdict: Verdict, fields: AnswerFields) {
        let now = self.now();
        let age = Millis::from(fields.max_age.unwrap_or_default()) * 1_000;
        let grants = &mut self.actors[at].grants;
        let entry = |refusal| Remembered {
            verb: cmd.verb,
            channel: cmd.channel,
            until: now + age,
            refusal,
        };
        match verdict {
            Verdict::Allow => {
                if age > 0 {
                    grants.remember(entry(None), now);
                }
                set_state(&mut self.actors[at].state, fields.state);
                let content = fields.content.filter(|_| cmd.verb == 2);
                self.sum.replaced += usize::from(content.is_some());
                let content = content.map(|it| String::from_utf8(it.into_vec()).expect("UTF-8"));
                self.done(at, &cmd, content);
            }
            Verdict::Deny => {
                let message = fields.message.map_or(DENIED_MESSAGE.to_owned(), Into::into);
                grants.remembered.retain(|it| it.channel != cmd.channel);
                if age > 0 {
                    grants.remember(entry(Some(message.clone())), now);
                }
                self.failed(at, &cmd, &message);
                if let Some(close) = fields.close {
                    let line = format!("close {}", close.code);
                    self.actors[at].expected.push(line);
                    self.lose_later(at);
                }
            }
            Verdict::Unavailable => {
                self.actors[at].expected.push("close 1013".to_owned());
                self.lose_later(at);
            }
        }
    }

    fn refreshed(&mut self, at: usize, verdict: Verdict, fields: AnswerFields) {
        let code = match verdict {
            Verdict::Allow => return self.grant(at, fields),
            Verdict::Deny => fields.close.map_or(4403, |close| close.code),
            Verdict::Unavailable => 1013,
        };
        let line = format!("close {code}");
        self.actors[at].expected.push(line);
        self.lose_later(at);
    }

    fn done(&mut self, at: usize, cmd: &Cmd, replaced: Option<String>) {
        let actor = &mut self.actors[at];
        match cmd.verb {
            0 => drop(actor.members.insert(cmd.channel)),
            1 => drop(actor.members.remove(&cmd.channel)),
            _ => self
                .published
                .push((at, replaced.unwrap_or_else(|| content(cmd)))),
        }
        let line = format!(r#"{{"id":{},"ok":true}}"#, cmd.n);
        self.actors[at].expected.push(line);
    }

    fn failed(&mut self, at: usize, cmd: &Cmd, message: &str) {
        let (n, verb, channel) = (cmd.n, VERBS[cmd.verb], name(cmd.channel));
        self.actors[at].expected.push(format!(
            r#"{{"id":{n},"error":{{"code":"not_authorized","message":"{message}","command":"{verb}","channel":"{channel}"}}}}"#
        ));
    }

    // -- the hub against the model

    /// The loop comes to rest, and the model with it.
    fn rest(&mut self) {
        self.rig.run();
        if let Some(broker) = &mut self.broker {
            broker.settle(&mut self.rig);
        }
        self.rig.withdrawn.clear();
        let mut asked: HashMap<usize, Question> = HashMap::new();
        for question in std::mem::take(&mut self.rig.questions) {
            let at = self.by_id[&question.from];
            let other = asked.insert(at, question);
            assert!(other.is_none(), "one question at a time");
        }
        for at in 0..self.actors.len() {
            let question = asked.remove(&at);
            self.advance(at, question);
        }
        assert!(asked.is_empty());
    }

    /// Does what the hub should have done for a client, which has asked `question` last.
    fn advance(&mut self, at: usize, mut question: Option<Question>) {
        let now = self.now();
        loop {
            let actor = &mut self.actors[at];
            if actor.gone || actor.open.is_some() {
                assert!(question.is_none(), "{at}: {question:?}");
                return;
            }
            let asks = question.as_ref().map(|question| question.asked);
            if !actor.is_open {
                assert_eq!(asks, Some(Asked::Connect));
                actor.open = question.take().map(|question| (Open::Connect, question));
                return;
            }
            let refreshes = asks == Some(Asked::Refresh);
            match actor.grants.refresh {
                None => assert!(!refreshes, "{at}: it does not expire"),
                Some((first, last)) => {
                    assert!(!refreshes || now >= first, "{at}: too early");
                    let slack = if actor.queue.is_empty() { SLACK } else { 0 };
                    assert!(refreshes || now < last + slack, "{at}: too late");
                }
            }
            if refreshes {
                let question = question.take().expect("a question");
                self.sum.refreshes += 1;
                actor.grants = Grants::default();
                actor.is_shown_in(&question, "refresh", &json!({}));
                actor.open = Some((Open::Refresh, question));
                return;
            }
            let Some(cmd) = actor.queue.pop_front() else {
                assert!(question.is_none(), "{at}: {question:?}");
                return;
            };
            if actor.grants.covers(&cmd) {
                self.sum.granted += 1;
                self.done(at, &cmd, None);
            } else if let Some(refusal) = actor.grants.recalls(&cmd, now) {
                self.sum.remembered += 1;
                match refusal {
                    None => self.done(at, &cmd, None),
                    Some(message) => self.failed(at, &cmd, &message),
                }
            } else {
                let question = question.take();
                let question = question.unwrap_or_else(|| panic!("{at}: {cmd:?} is not asked"));
                self.sum.asked += 1;
                let mut args = json!({"channel": name(cmd.channel)});
                if cmd.verb == 2 {
                    args["content"] = serde_json::from_str(&content(&cmd)).expect("JSON");
                }
                let actor = &mut self.actors[at];
                actor.is_shown_in(&question, VERBS[cmd.verb], &args);
                actor.open = Some((Open::Command(cmd), question));
            }
        }
    }

    fn hear(&mut self) {
        for actor in &mut self.actors {
            if actor.client.has_news() {
                let lines = actor.client.hear().into_iter();
                let answers = lines.filter(|line| !is_content(line) && line != "end");
                actor.heard.extend(answers);
            }
        }
    }

    fn judge(&mut self) {
        self.hear();
        for (at, actor) in self.actors.iter_mut().enumerate().filter(|(_, a)| !a.gone) {
            assert_eq!(actor.heard, actor.expected, "{at}");
            actor.heard.clear();
            actor.expected.clear();
        }
        let members: usize = self.actors.iter().map(|a| a.members.len()).sum();
        let inventory = self.rig.hub.inventory();
        assert_eq!(inventory.memberships, members + self.channels);
        let mut heard = self.witness.hear();
        let mut published: Vec<String> = self.published.drain(..).map(|(_, it)| it).collect();
        heard.sort();
        published.sort();
        assert_eq!(heard, published);
    }

    /// Time passes, and each connection that is due is asked about.
    fn pass(&mut self, time: Millis) {
        let until = self.now() + time;
        while self.now() < until {
            let step = (until - self.now()).min(20);
            self.rig.pass(step);
            self.rest();
        }
    }

    fn end(&mut self) {
        for at in 0..self.actors.len() {
            self.lose(at);
        }
        self.witness.far.reset();
        self.rest();
        while !self.late.is_empty() {
            self.answer_late();
            self.rest();
        }
        self.pass(10_000);
        self.rig.assert_empty();
    }
}

fn content(cmd: &Cmd) -> String {
    format!(r#"{{"n":{}}}"#, cmd.n)
}

fn is_content(line: &str) -> bool {
    line.starts_with(r#"{"n":"#) || line.starts_with(r#"{"new":"#)
}

fn set_state(state: &mut Option<String>, new: Option<NewState>) {
    if let Some(new) = new {
        *state = new.json().map(str::to_owned);
    }
}

impl Actor {
    /// A question shows the client as it is now.
    fn is_shown_in(&self, question: &Question, command: &str, args: &Value) {
        let body: Value = serde_json::from_slice(&question.body).expect("JSON");
        assert_eq!((&body["command"], &body["args"]), (&json!(command), args));
        let shown = |field: &str| body["connection"].get(field).cloned();
        assert_eq!(shown("user"), self.user.as_deref().map(Value::from));
        let state = self.state.as_deref();
        let state = state.map(|it| serde_json::from_str::<Value>(it).expect("JSON"));
        assert_eq!(shown("state"), state);
    }
}

impl Grants {
    fn covers(&self, cmd: &Cmd) -> bool {
        let channel = name(cmd.channel);
        self.allow[cmd.verb]
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => channel.starts_with(prefix),
                None => *pattern == channel,
            })
    }

    /// The refusal that is remembered, if it is one.
    fn recalls(&self, cmd: &Cmd, now: Millis) -> Option<Option<String>> {
        let same = |it: &&Remembered| it.verb == cmd.verb && it.channel == cmd.channel;
        let found = self.remembered.iter().find(same)?;
        (now < found.until).then(|| found.refusal.clone())
    }

    fn remember(&mut self, entry: Remembered, now: Millis) {
        let same = |it: &Remembered| it.verb == entry.verb && it.channel == entry.channel;
        self.remembered.retain(|it| now < it.until && !same(it));
        if self.remembered.len() == 64 {
            self.remembered.pop_front();
        }
        self.remembered.push_back(entry);
    }
}
