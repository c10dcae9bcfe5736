//! The hub driven as `server.rs` drives it, with scripted time, edges and verdicts.
//!
//! Owns: the hub, the clients and the questions that are open. [`House::tick`] is one turn of the loop;
//! [`House::run`] goes on until nothing is left to do.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use wsify::clock::{Clock, Millis};
use wsify::config::AccessLog;
use wsify::connection::{Limits, Peer};
use wsify::effect::{Answer, ConnId, Effect, Question, Verdict};
use wsify::hub::{Hub, Settings};
use wsify::log::{Level, Log};
use wsify::metrics::Metrics;
use wsify::wire::answer_fields::AnswerFields;
use wsify::wire::forwarded::Proxies;
use wsify::wire::origins::Origins;

use super::client::{Client, local, upgrade};
use super::pipe::{Far, Pipe, pipe};

/// Turns after which a loop that has always something to do is taken for one that spins.
const SPIN: usize = 20_000;

pub struct House {
    pub hub: Hub<Pipe>,
    pub log: Log,
    pub buffer: Vec<u8>,
    wires: Vec<(ConnId, Far)>,
    /// Questions that were not answered, oldest first.
    pub questions: VecDeque<Question>,
    /// Connections that want no answer any more, since the test last looked.
    pub withdrawn: Vec<ConnId>,
    /// What a broker was asked for, oldest first.
    pub effects: VecDeque<Effect>,
    /// Verdicts on their way.
    answers: Vec<Answer>,
    /// How many are to make way in each turn, as others wait to be accepted.
    pub wanted: usize,
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
        access_log: AccessLog::All,
        instance: 1,
    }
}

/// The status that a verdict usually comes of.
fn status(verdict: Verdict) -> Option<u16> {
    match verdict {
        Verdict::Allow => Some(200),
        Verdict::Deny => Some(403),
        Verdict::Unavailable => None,
    }
}

impl House {
    /// Without an authorizer.
    pub fn open() -> House {
        House::with(settings())
    }

    /// With an authorizer, who is the test.
    pub fn asking() -> House {
        House::with(Settings {
            authorizer: true,
            ..settings()
        })
    }

    pub fn with(settings: Settings) -> House {
        House::with_level(settings, Level::Debug)
    }

    pub fn with_level(settings: Settings, level: Level) -> House {
        let log = Log::in_memory(level);
        let clock = Clock {
            now: 1_000,
            date: "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            ..Clock::default()
        };
        let metrics = Metrics::new(SystemTime::UNIX_EPOCH);
        House {
            hub: Hub::new(settings, clock, metrics, log.clone()),
            log,
            buffer: vec![0; 64 * 1024],
            wires: Vec::new(),
            questions: VecDeque::new(),
            withdrawn: Vec::new(),
            effects: VecDeque::new(),
            answers: Vec::new(),
            wanted: 0,
            clients: 0,
            ticks: 0,
        }
    }

    /// A client that has connected and said nothing.
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

    /// A client that speaks WebSocket; whatever the authorizer is asked meanwhile is allowed.
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

    /// What a client hears after it has said something, whatever the authorizer is asked being allowed.
    pub fn says(&mut self, client: &mut Client, message: &str) -> Vec<String> {
        client.say(message);
        self.run();
        self.allow_all();
        client.hear()
    }

    /// What a client hears after it has sent something.
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

    /// Answers the oldest open question, and goes on.
    pub fn answer(&mut self, verdict: Verdict) {
        self.answer_with(verdict, None);
    }

    pub fn answer_with(&mut self, verdict: Verdict, state: Option<&str>) {
        let question = self.questions.pop_front().expect("an open question");
        self.send_verdict(&question, verdict, state);
        self.run();
    }

    /// Puts a verdict on its way. What else there is to an answer may be changed.
    pub fn send_verdict(
        &mut self,
        question: &Question,
        verdict: Verdict,
        state: Option<&str>,
    ) -> &mut Answer {
        self.answers.push(Answer {
            to: question.from,
            verdict,
            status: status(verdict),
            fields: state.map(AnswerFields::with_state),
            unreadable: None,
            trouble: None,
            call: None,
            call_failed: verdict == Verdict::Unavailable,
            took: Duration::from_millis(1),
        });
        self.answers.last_mut().expect("just put there")
    }

    /// One turn of the loop. `arrives` says for which connections the poll has its edge in this turn already.
    pub fn tick_some(&mut self, mut arrives: impl FnMut() -> bool) {
        self.ticks += 1;
        self.hub.clock.micros = self.hub.clock.now * 1000;
        self.wires.retain(|(_, far)| !far.is_dropped());
        for (id, far) in &self.wires {
            if far.has_edge() && arrives() {
                let edge = far.take_edge();
                self.hub.ready(
                    *id,
                    edge.readable,
                    edge.closed,
                    edge.reset,
                    edge.writable,
                    &mut self.buffer,
                );
            }
        }
        for answer in self.answers.drain(..) {
            self.hub.verdict(answer);
        }
        self.hub.turns(&mut self.buffer);
        while let Some(effect) = self.hub.effect() {
            match effect {
                Effect::Ask(question) => self.questions.push_back(question),
                Effect::Withdraw(from) => self.withdrawn.push(from),
                other => self.effects.push_back(other),
            }
        }
        self.hub.expire();
        self.hub.fan_out();
        if self.wanted > 0 {
            self.hub.evict(self.wanted, &mut self.buffer);
        }
        self.hub.flush();
        self.hub.reap();
        self.hub
            .turn_over(Duration::from_millis(self.hub.clock.now));
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

    /// Goes on until the loop would sleep.
    pub fn run(&mut self) {
        for _ in 0..SPIN {
            if !self.has_work() {
                return;
            }
            self.tick();
        }
        panic!("the loop spins");
    }

    /// Lets time pass, as the loop would: from deadline to deadline.
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

    /// The log since the last call: each line's message, and its fields but for the time.
    pub fn logged(&self) -> Vec<serde_json::Value> {
        let lines = self.log.take();
        let line = |line| serde_json::from_str(line).expect("a JSON line");
        lines.lines().map(line).collect()
    }

    /// Holds that nothing is left of anybody.
    pub fn assert_empty(&self) {
        assert_eq!(self.hub.inventory(), wsify::hub::Inventory::default());
    }
}
