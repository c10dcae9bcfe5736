//! redis as a script, with the driver's real dialogue in between, moved step by step by the test.
//!
//! Owns: what is on its way on each link, and what redis knows. Each link keeps its order; between the two anything may
//! happen. Sockets are left out: bytes move when the test says so.

use std::collections::{BTreeSet, VecDeque};

use wsify::broker::News;
use wsify::broker::redis::{Dialogue, Duty, Notice, Step};
use wsify::effect::{Effect, ShardId};

use super::house::House;

/// What redis refuses something with.
pub const NO: &str = "NOPERM not for you";

/// One link: commands on their way to redis, and replies on their way back, each in whole.
#[derive(Debug, Default)]
struct Way {
    commands: VecDeque<Vec<Vec<u8>>>,
    replies: VecDeque<Vec<u8>>,
}

impl Way {
    fn reply(&mut self, bytes: impl Into<Vec<u8>>) {
        self.replies.push_back(bytes.into());
    }

    /// Answers what changes nothing, up to the next command that does.
    fn answer_questions(&mut self) {
        while let Some(command) = self.commands.pop_front() {
            match command[0].as_slice() {
                b"PING" => self.reply("+PONG\r\n"),
                b"ROLE" => self.reply("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
                b"CLIENT" => self.reply("+OK\r\n"),
                _ => return self.commands.push_front(command),
            }
        }
    }

    fn next(&mut self) -> Option<Vec<Vec<u8>>> {
        self.answer_questions();
        self.commands.pop_front()
    }
}

#[derive(Debug, Default)]
pub struct Broker {
    dialogue: Dialogue,
    pub publishing: bool,
    pub listening: bool,
    publisher: Way,
    listener: Way,
    pub subscribed: BTreeSet<String>,
    /// Refused subscriptions that the hub was told of.
    pub refusals: usize,
}

impl Broker {
    /// A house that shares its channels, with both links up.
    pub fn up(house: &mut House) -> Broker {
        house.hub.share(None);
        house.hub.name_shard(ShardId(0), Some("redis".into()));
        house.hub.assign_slots(0..=0, Some(ShardId(0)));
        let mut broker = Broker::default();
        broker.mend_publishing(house);
        broker.mend_listening(house);
        broker.settle(house);
        assert!(house.hub.is_broker_up());
        broker
    }

    /// Goes on with the house, and takes what it wants.
    pub fn run(&mut self, house: &mut House) {
        house.run();
        self.take(house);
    }

    pub fn take(&mut self, house: &mut House) {
        let now = house.hub.clock.now;
        for effect in house.effects.drain(..) {
            match effect {
                Effect::Publish(publication) => self.dialogue.publish(publication, now),
                Effect::Subscribe(wanted) => self.dialogue.subscribe(wanted, now),
                Effect::Unsubscribe(channel) => self.dialogue.unsubscribe(channel, now),
                other => unreachable!("the house keeps {other:?}"),
            }
        }
        self.send(house);
    }

    /// What the dialogue says is on its way.
    fn send(&mut self, house: &House) {
        self.dialogue.finish(house.hub.clock.now);
        for duty in Duty::BOTH {
            let out = std::mem::take(self.dialogue.out(duty));
            let commands = commands(&out);
            self.way(duty).commands.extend(commands);
        }
    }

    fn way(&mut self, duty: Duty) -> &mut Way {
        match duty {
            Duty::Publish => &mut self.publisher,
            Duty::Listen => &mut self.listener,
        }
    }

    /// redis publishes what it has got next. Returns it.
    pub fn execute_publication(&mut self) -> Option<(String, String)> {
        let command = self.publisher.next()?;
        let [verb, channel, content] = command.try_into().expect("three words");
        assert_eq!(verb, b"PUBLISH");
        let (channel, content) = (text(channel), text(content));
        self.foreign(&channel, &content);
        self.publisher.reply(":1\r\n");
        Some((channel, content))
    }

    /// redis publishes for another server.
    pub fn foreign(&mut self, channel: &str, content: &str) {
        if self.listening && self.subscribed.contains(channel) {
            self.listener
                .reply(array(&["message", channel, content], ""));
        }
    }

    /// redis subscribes or unsubscribes what it was asked for next.
    pub fn execute_change(&mut self) -> bool {
        let Some(command) = self.listener.next() else {
            return false;
        };
        let mut words = command.into_iter().map(text);
        let verb = words.next().expect("a verb").to_ascii_lowercase();
        for channel in words {
            self.listener.reply(array(&[&verb, &channel], ":1\r\n"));
            match verb.as_str() {
                "subscribe" => self.subscribed.insert(channel),
                _ => self.subscribed.remove(&channel),
            };
        }
        true
    }

    /// redis refuses what it was asked for next, if that is a subscription. Returns whether it was.
    pub fn refuse_change(&mut self) -> bool {
        self.listener.answer_questions();
        let next = self.listener.commands.front();
        let refuses = next.is_some_and(|command| command[0] == b"SUBSCRIBE");
        if refuses {
            self.listener.commands.pop_front();
            self.listener.reply(format!("-{NO}\r\n"));
        }
        refuses
    }

    /// redis refuses to publish what it has got next. Returns whether there was something.
    pub fn refuse_publication(&mut self) -> bool {
        let refuses = self.publisher.next().is_some();
        if refuses {
            self.publisher.reply(format!("-{NO}\r\n"));
        }
        refuses
    }

    /// The hub is told what the dialogue knows.
    fn tell(&mut self, house: &mut House) {
        while let Some(news) = self.dialogue.news() {
            match news {
                News::Publishing(shard, up) => house.hub.set_publishing(shard, up),
                News::Listening(shard, up) => house.hub.set_listening(shard, up),
                News::Published(by, receipt) => house.hub.receipt(by, receipt),
                News::Subscribed(id, receipt) => house.hub.subscribed(id, receipt),
                other => unreachable!("nothing is hostile here: {other:?}"),
            }
        }
        while let Some(notice) = self.dialogue.notice() {
            self.refusals += usize::from(matches!(notice, Notice::RefusedChannel { .. }));
        }
    }

    /// The next reply on a link is read, behind all that was known before. Returns the message, if it was one.
    fn read(&mut self, duty: Duty, house: &mut House) -> Option<(String, String)> {
        self.tell(house);
        let now = house.hub.clock.now;
        let reply = self.way(duty).replies.pop_front()?;
        let step = self.dialogue.understand(duty, &reply, now);
        let step = step.expect("redis speaks as it should");
        let mut brought = None;
        match step {
            Step::Starved => unreachable!("replies come whole"),
            Step::Understood(size) => assert_eq!(size, reply.len()),
            Step::Message(message) => {
                let (channel, content) = (&reply[message.channel], &reply[message.content]);
                let (channel, content) = (text(channel.to_vec()), text(content.to_vec()));
                match house.hub.arrived(&channel, content.as_bytes()) {
                    true => brought = Some((channel, content)),
                    false => self.way(duty).replies.push_front(reply),
                }
            }
        }
        self.tell(house);
        self.send(house);
        brought
    }

    /// What redis says on the publishing link is read.
    pub fn read_publisher(&mut self, house: &mut House) {
        self.publisher.answer_questions();
        while !self.publisher.replies.is_empty() {
            self.read(Duty::Publish, house);
        }
        self.tell(house);
    }

    /// The hub is told what comes next on the listening link. Returns the message, if it was one.
    pub fn bring(&mut self, house: &mut House) -> Option<(String, String)> {
        self.read_publisher(house);
        self.listener.answer_questions();
        self.read(Duty::Listen, house)
    }

    /// The same, whatever there is on the other link.
    pub fn read_listener(&mut self, house: &mut House) -> Option<(String, String)> {
        self.read(Duty::Listen, house)
    }

    pub fn break_publishing(&mut self, house: &mut House) {
        if std::mem::take(&mut self.publishing) {
            self.publisher = Way::default();
            self.close(Duty::Publish, house);
        }
    }

    pub fn break_listening(&mut self, house: &mut House) {
        if std::mem::take(&mut self.listening) {
            self.subscribed.clear();
            self.listener = Way::default();
            self.close(Duty::Listen, house);
        }
    }

    fn close(&mut self, duty: Duty, house: &mut House) {
        self.tell(house);
        self.dialogue.closed(duty);
        self.tell(house);
    }

    pub fn mend_publishing(&mut self, house: &mut House) {
        if !std::mem::replace(&mut self.publishing, true) {
            self.open(Duty::Publish, house);
        }
    }

    pub fn mend_listening(&mut self, house: &mut House) {
        if !std::mem::replace(&mut self.listening, true) {
            self.open(Duty::Listen, house);
        }
    }

    fn open(&mut self, duty: Duty, house: &mut House) {
        self.dialogue.opened(duty, house.hub.clock.now);
        self.send(house);
        self.way(duty).answer_questions();
        while !self.way(duty).replies.is_empty() {
            self.read(duty, house);
        }
    }

    pub fn is_quiet(&self) -> bool {
        let ways = [&self.publisher, &self.listener];
        let quiet = |way: &Way| way.commands.is_empty() && way.replies.is_empty();
        ways.into_iter().all(quiet)
    }

    /// Everything takes its course, until nothing is under way.
    pub fn settle(&mut self, house: &mut House) {
        loop {
            self.run(house);
            if self.is_quiet() {
                return;
            }
            while self.execute_change() || self.execute_publication().is_some() {}
            self.bring(house);
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

fn array(words: &[&str], more: &str) -> String {
    let count = words.len() + usize::from(!more.is_empty());
    let words = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{count}\r\n{}{more}", words.collect::<String>())
}

/// Commands in whole, each of its words.
fn commands(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    fn number(bytes: &mut &[u8]) -> usize {
        let end = bytes.iter().position(|b| *b == b'\r').expect("a line");
        let digits = str::from_utf8(&bytes[1..end]).expect("digits");
        *bytes = &bytes[end + 2..];
        digits.parse().expect("a number")
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let count = number(&mut bytes);
        let word = |_| {
            let length = number(&mut bytes);
            let word = bytes[..length].to_vec();
            bytes = &bytes[length + 2..];
            word
        };
        all.push((0..count).map(word).collect());
    }
    all
}
