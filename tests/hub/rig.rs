//! A test rig for the hub: drives it as `server/` does, with scripted clients, time, edges and verdicts.
//!
//! Owns: the hub, the clients' streams and the open questions. [`Rig::tick`] is one turn of the loop; [`Rig::run`] runs
//! it until nothing is left to do.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use wsify::clock::{Clock, Millis};
use wsify::config::AccessLog;
use wsify::connection::{Limits, Peer};
use wsify::effect::{Answer, ConnId, Effect, Question, Verdict};
use wsify::hub::{FailurePolicy, Hub, Settings};
use wsify::log::{Level, Log};
use wsify::metrics::Metrics;
use wsify::wire::answer_fields::AnswerFields;
use wsify::wire::event_batch::EventBatch;
use wsify::wire::forwarded::Proxies;
use wsify::wire::origins::Origins;

use super::client::{Client, local, upgrade};
use super::facts::Fact;
use super::pipe::{Far, Pipe, pipe};

/// Turns after which a loop that never comes to rest counts as spinning.
const SPIN: usize = 20_000;

/// What the receiver of events does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// It takes every batch at once.
    Takes,
    /// A batch is under way to it, and others wait.
    Hangs,
    /// The test plays it.
    IsPlayed,
}

/// What is done to a rig now and then.
pub type Between = Box<dyn FnMut(&mut Rig)>;

pub struct Rig {
    pub hub: Hub<Pipe>,
    pub log: Log,
    pub buffer: Vec<u8>,
    /// The streams of all connections.
    pub wires: Vec<(ConnId, Far)>,
    /// Open questions to the authorizer, oldest first.
    pub questions: VecDeque<Question>,
    /// How often the questions that were not put were wanted back, since the test last looked.
    pub recalled: usize,
    /// Connections whose questions were withdrawn since the test last looked.
    pub withdrawn: Vec<ConnId>,
    /// Effects for the broker, oldest first.
    pub effects: VecDeque<Effect>,
    /// Verdicts on their way.
    answers: Vec<Answer>,
    /// Events that the receiver has taken, oldest first.
    pub events: Vec<serde_json::Value>,
    pub receiver: Receiver,
    under_way: Option<EventBatch>,
    calls: u64,
    /// How many connections to evict in each turn.
    pub wanted: usize,
    pub settings: Settings,
    /// What a snapshot forgets.
    pub forgotten: Option<Fact>,
    /// What is done between any two doors of the hub.
    pub between_doors: Option<Between>,
    clients: usize,
    pub ticks: usize,
}

pub fn settings() -> Settings {
    Settings {
        limits: Limits {
            handshake_timeout: 10_000,
            ping_interval: 25_000,
            max_message: 1 << 20,
            max_queue: 1 << 20,
        },
        max_connections: 10_000,
        max_connections_per_ip: 0,
        max_message_rate: 0,
        compression: None,
        max_total_queue: 1 << 30,
        playground: false,
        max_channels: 1000,
        key: None,
        origins: Origins::parse("*").expect("any origin"),
        proxies: Proxies::default(),
        proxy_protocol: false,
        authorizer: false,
        authorizer_url: "http://authorizer/".to_owned(),
        failure: FailurePolicy::default(),
        access_log: AccessLog::All,
        events: None,
        slots: 0,
        instance: 1,
    }
}

/// The HTTP status that usually leads to a verdict.
fn status(verdict: Verdict) -> Option<u16> {
    match verdict {
        Verdict::Allow => Some(200),
        Verdict::Deny => Some(403),
        Verdict::Unavailable => None,
    }
}

/// The events of a call that has the first `count` of a batch.
pub fn events(batch: &EventBatch, count: usize) -> Vec<serde_json::Value> {
    let mut body = Vec::new();
    batch.push_body(settings().instance, count, &mut body);
    let mut body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["node"], "0000000000000001");
    let events = std::mem::take(body["events"].as_array_mut().expect("events"));
    assert_eq!(events.len(), count);
    events
}

/// The same question, as it comes back from a driver.
fn copy(question: &Question) -> Question {
    Question {
        body: question.body.clone(),
        ..*question
    }
}

impl Rig {
    /// Without an authorizer.
    pub fn new() -> Rig {
        Rig::with(settings())
    }

    /// With an authorizer, which the test plays.
    pub fn with_authorizer() -> Rig {
        Rig::with(Settings {
            authorizer: true,
            ..settings()
        })
    }

    pub fn with(settings: Settings) -> Rig {
        Rig::with_level(settings, Level::Debug)
    }

    pub fn with_level(settings: Settings, level: Level) -> Rig {
        let log = Log::in_memory(level);
        let clock = Clock {
            now: 1_000,
            date: "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            ..Clock::default()
        };
        let metrics = Metrics::new(SystemTime::UNIX_EPOCH);
        Rig {
            hub: Hub::new(settings.clone(), clock, metrics, log.clone()),
            settings,
            forgotten: None,
            between_doors: None,
            log,
            buffer: vec![0; 64 * 1024],
            wires: Vec::new(),
            questions: VecDeque::new(),
            recalled: 0,
            withdrawn: Vec::new(),
            effects: VecDeque::new(),
            answers: Vec::new(),
            events: Vec::new(),
            receiver: Receiver::Takes,
            under_way: None,
            calls: 0,
            wanted: 0,
            clients: 0,
            ticks: 0,
        }
    }

    /// A client that has connected and sent nothing.
    pub fn client(&mut self) -> Client {
        let peer = local(self.clients);
        self.client_from(peer)
    }

    pub fn client_from(&mut self, peer: Peer) -> Client {
        self.clients += 1;
        let (near, far) = pipe();
        let id = self.hub.accept(near, peer).expect("a name");
        self.wires.push((id, far.clone()));
        Client::new(far, id)
    }

    /// A client that has asked for an upgrade.
    pub fn upgrading(&mut self, more: &str) -> Client {
        let client = self.client();
        client.send(&upgrade("/ws", more));
        self.run();
        client
    }

    /// A client with an open WebSocket. All open questions are answered with yes.
    pub fn websocket(&mut self) -> Client {
        self.websocket_with("")
    }

    pub fn websocket_with(&mut self, more: &str) -> Client {
        let mut client = self.upgrading(more);
        self.allow_all();
        assert_eq!(client.hear(), ["101"]);
        client
    }

    /// A member of `channel`.
    pub fn member(&mut self, channel: &str) -> Client {
        let mut client = self.websocket();
        assert_eq!(
            self.says(&mut client, &super::client::join(channel)),
            [""; 0]
        );
        client
    }

    /// What a client hears after it has sent a text message. All open questions are answered with yes.
    pub fn says(&mut self, client: &mut Client, message: &str) -> Vec<String> {
        client.say(message);
        self.run();
        self.allow_all();
        client.hear()
    }

    /// What a client hears after it has sent these bytes.
    pub fn sends(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<String> {
        client.send(bytes);
        self.run();
        client.hear()
    }

    fn allow_all(&mut self) {
        while !self.questions.is_empty() {
            self.answer(Verdict::Allow);
        }
    }

    /// What the open questions are about, oldest first: `join hello`.
    pub fn asked(&self) -> Vec<String> {
        self.questions
            .iter()
            .map(|question| {
                let body: serde_json::Value = serde_json::from_slice(&question.body).expect("JSON");
                let command = body["command"].as_str().expect("a command").to_owned();
                match body["args"]["channel"].as_str() {
                    Some(channel) => format!("{command} {channel}"),
                    None => command,
                }
            })
            .collect()
    }

    /// Answers the oldest open question, and runs the loop.
    pub fn answer(&mut self, verdict: Verdict) {
        self.answer_with(verdict, None);
    }

    pub fn answer_with(&mut self, verdict: Verdict, state: Option<&str>) {
        let question = self.questions.pop_front().expect("an open question");
        self.send_verdict(&question, verdict, state);
        self.run();
    }

    /// Answers the oldest open question with fields, and runs the loop.
    pub fn answer_fields(&mut self, verdict: Verdict, fields: AnswerFields) {
        let question = self.questions.pop_front().expect("an open question");
        self.send_verdict(&question, verdict, None).fields = Some(Box::new(fields));
        self.run();
    }

    /// A client whose upgrade was allowed with these fields.
    pub fn granted(&mut self, fields: AnswerFields) -> Client {
        let mut client = self.upgrading("");
        self.answer_fields(Verdict::Allow, fields);
        assert_eq!(client.hear(), ["101"]);
        client
    }

    /// The `connection` of the oldest open question.
    pub fn connection_shown(&self) -> serde_json::Value {
        let question = self.questions.front().expect("an open question");
        let body: serde_json::Value = serde_json::from_slice(&question.body).expect("JSON");
        body["connection"].clone()
    }

    /// Puts a verdict on its way. The caller may change the answer's other fields.
    pub fn send_verdict(
        &mut self,
        question: &Question,
        verdict: Verdict,
        state: Option<&str>,
    ) -> &mut Answer {
        self.calls += 1;
        self.answers.push(Answer {
            to: question.from,
            verdict,
            status: status(verdict),
            fields: state.map(AnswerFields::with_state),
            unreadable: None,
            wrong: Vec::new(),
            trouble: None,
            call: Some(self.calls),
            questions_in_call: 1,
            call_failed: verdict == Verdict::Unavailable,
            question: (verdict == Verdict::Unavailable).then(|| copy(question)),
            took: Duration::from_millis(1),
        });
        self.answers.last_mut().expect("just put there")
    }

    /// One turn of the loop. `arrives` decides for each pending edge whether the poll returns it in this turn.
    pub fn tick_some(&mut self, mut arrives: impl FnMut() -> bool) {
        self.ticks += 1;
        self.hub.clock.micros = self.hub.clock.now * 1000;
        self.wires.retain(|(_, far)| !far.is_dropped());
        for nth in 0..self.wires.len() {
            let (id, far) = &self.wires[nth];
            if far.has_edge() && arrives() {
                let edge = far.take_edge();
                self.hub.ready(*id, edge, &mut self.buffer);
                self.between();
            }
        }
        for answer in std::mem::take(&mut self.answers) {
            self.hub.verdict(answer);
            self.between();
        }
        self.hub.turns(&mut self.buffer);
        self.between();
        while let Some(effect) = self.hub.effect() {
            match effect {
                Effect::Ask(question) => self.questions.push_back(question),
                Effect::Withdraw(from) => self.withdrawn.push(from),
                Effect::Recall => self.recalled += 1,
                other => self.effects.push_back(other),
            }
            self.between();
        }
        self.hub.expire();
        self.between();
        self.hub.fan_out();
        self.between();
        if self.wanted > 0 {
            self.hub.evict(self.wanted, &mut self.buffer);
            self.between();
        }
        self.hub.flush();
        self.between();
        self.hub.reap();
        self.between();
        self.send_events();
        self.hub
            .turn_over(Duration::from_millis(self.hub.clock.now));
    }

    /// One call to the receiver of events is under way at most, as in the program.
    fn send_events(&mut self) {
        loop {
            if self.receiver == Receiver::IsPlayed {
                return;
            }
            if self.under_way.is_none() {
                self.under_way = self.hub.take_events();
            }
            if self.receiver == Receiver::Hangs || self.under_way.is_none() {
                return;
            }
            let batch = self.under_way.take().expect("there is one");
            self.events.extend(events(&batch, batch.len()));
        }
    }

    /// Between any two doors of the hub.
    fn between(&mut self) {
        if let Some(mut between) = self.between_doors.take() {
            between(self);
            self.between_doors = Some(between);
        }
    }

    pub fn tick(&mut self) {
        self.tick_some(|| true);
    }

    /// Whether the loop would not sleep.
    pub fn has_work(&self) -> bool {
        let now = self.hub.clock.now;
        self.hub.has_work()
            || !self.answers.is_empty()
            || self.hub.next_deadline().is_some_and(|at| at <= now)
            || self
                .wires
                .iter()
                .any(|(_, far)| far.has_edge() && !far.is_dropped())
    }

    /// Runs the loop until it would sleep.
    pub fn run(&mut self) {
        for _ in 0..SPIN {
            if !self.has_work() {
                return;
            }
            self.tick();
        }
        panic!("the loop spins");
    }

    /// Lets time pass as the loop does: from deadline to deadline.
    pub fn pass(&mut self, time: Millis) {
        let until = self.hub.clock.now + time;
        self.run();
        while let Some(next) = self.hub.next_deadline().filter(|next| *next <= until) {
            self.hub.clock.now = next.max(self.hub.clock.now);
            self.run();
        }
        self.hub.clock.now = until;
        self.run();
    }

    /// The log lines since the last call, without their time.
    pub fn logged(&self) -> Vec<serde_json::Value> {
        let lines = self.log.take();
        let line = |line| serde_json::from_str(line).expect("a JSON line");
        lines.lines().map(line).collect()
    }

    /// Asserts that the hub holds nothing of any connection.
    pub fn assert_empty(&self) {
        assert_eq!(self.hub.inventory(), wsify::hub::Inventory::default());
    }
}
