//! A scripted redis behind the driver's real dialogue; the test moves it step by step.
//!
//! Owns: the bytes in transit on each link, and redis' subscriptions. Each link keeps its order; the two links interleave
//! in any way. There are no sockets: bytes move when the test moves them.

use std::collections::{BTreeSet, VecDeque};

use wsify::broker::News;
use wsify::broker::redis::{Dialogue, Duty, LinkIdentity, Notice, Progress, SavedDialogue};
use wsify::effect::{Effect, ShardId};

use super::rig::Rig;

/// The error with which redis refuses a command.
pub const BROKER_REFUSAL: &str = "NOPERM not for you";

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

    /// Answers commands that change nothing, up to the next one that does.
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
    /// Refused subscriptions that were reported to the hub.
    pub refusals: usize,
}

impl Broker {
    /// A rig that shares its channels, with both links up.
    pub fn up(rig: &mut Rig) -> Broker {
        rig.hub.share(None);
        rig.hub.name_shard(ShardId(0), Some("redis".into()));
        rig.hub.assign_slots(0..=0, Some(ShardId(0)));
        let mut broker = Broker::default();
        broker.mend_publishing(rig);
        broker.mend_listening(rig);
        broker.settle(rig);
        assert!(rig.hub.is_broker_up());
        broker
    }

    /// Runs the loop, and takes the effects that are for the broker.
    pub fn run(&mut self, rig: &mut Rig) {
        rig.run();
        self.take(rig);
    }

    pub fn take(&mut self, rig: &mut Rig) {
        let now = rig.hub.clock.now;
        for effect in rig.effects.drain(..) {
            match effect {
                Effect::Publish(publication) => self.dialogue.publish(publication, now),
                Effect::Subscribe(wanted) => self.dialogue.subscribe(wanted, now),
                Effect::Unsubscribe(channel) => self.dialogue.unsubscribe(channel, now),
                other => unreachable!("the rig keeps {other:?}"),
            }
        }
        self.send(rig);
    }

    /// Puts the dialogue's output on its way.
    fn send(&mut self, rig: &Rig) {
        self.dialogue.finish(rig.hub.clock.now);
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

    /// redis executes the next PUBLISH. Returns its channel and content.
    pub fn execute_publication(&mut self) -> Option<(String, String)> {
        let command = self.publisher.next()?;
        let [verb, channel, content] = command.try_into().expect("three words");
        assert_eq!(verb, b"PUBLISH");
        let (channel, content) = (text(channel), text(content));
        self.foreign(&channel, &content);
        self.publisher.reply(":1\r\n");
        Some((channel, content))
    }

    /// redis publishes a message of another server.
    pub fn foreign(&mut self, channel: &str, content: &str) {
        if self.listening && self.subscribed.contains(channel) {
            self.listener
                .reply(array(&["message", channel, content], ""));
        }
    }

    /// redis executes the next SUBSCRIBE or UNSUBSCRIBE.
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

    /// redis refuses the next command if it is a subscription. Returns whether it was.
    pub fn refuse_change(&mut self) -> bool {
        self.listener.answer_questions();
        let next = self.listener.commands.front();
        let refuses = next.is_some_and(|command| command[0] == b"SUBSCRIBE");
        if refuses {
            self.listener.commands.pop_front();
            self.listener.reply(format!("-{BROKER_REFUSAL}\r\n"));
        }
        refuses
    }

    /// redis refuses the next PUBLISH. Returns whether there was one.
    pub fn refuse_publication(&mut self) -> bool {
        let refuses = self.publisher.next().is_some();
        if refuses {
            self.publisher.reply(format!("-{BROKER_REFUSAL}\r\n"));
        }
        refuses
    }

    /// Hands the dialogue's news to the hub.
    fn tell(&mut self, rig: &mut Rig) {
        while let Some(news) = self.dialogue.news() {
            match news {
                News::Publishing(shard, up) => rig.hub.set_publishing(shard, up),
                News::Listening(shard, up) => rig.hub.set_listening(shard, up),
                News::Published(by, receipt) => rig.hub.receipt(by, receipt),
                News::Subscribed(id, receipt) => rig.hub.subscribed(id, receipt),
                News::Unsubscribed(channel) => rig.hub.unsubscribed(channel.as_str()),
                other => unreachable!("nothing is hostile here: {other:?}"),
            }
        }
        while let Some(notice) = self.dialogue.notice() {
            self.refusals += usize::from(matches!(notice, Notice::RefusedChannel { .. }));
        }
    }

    /// Reads the next reply on a link, after all earlier news. Returns the message if it is one.
    fn read(&mut self, duty: Duty, rig: &mut Rig) -> Option<(String, String)> {
        self.tell(rig);
        let now = rig.hub.clock.now;
        let reply = self.way(duty).replies.pop_front()?;
        let step = self.dialogue.handle_reply(duty, &reply, now);
        let step = step.expect("redis speaks as it should");
        let mut brought = None;
        match step {
            Progress::Starved => unreachable!("replies come whole"),
            Progress::Handled(size) => assert_eq!(size, reply.len()),
            Progress::Message(message) => {
                let (channel, content) = (&reply[message.channel], &reply[message.content]);
                let (channel, content) = (text(channel.to_vec()), text(content.to_vec()));
                if rig.hub.arrived(&channel, content.as_bytes()) {
                    brought = Some((channel, content));
                } else {
                    self.way(duty).replies.push_front(reply)
                }
            }
        }
        self.tell(rig);
        self.send(rig);
        brought
    }

    /// Reads the replies on the publishing link.
    pub fn read_publisher(&mut self, rig: &mut Rig) {
        self.publisher.answer_questions();
        while !self.publisher.replies.is_empty() {
            self.read(Duty::Publish, rig);
        }
        self.tell(rig);
    }

    /// Hands the next reply on the listening link to the hub. Returns the message if it is one.
    pub fn bring(&mut self, rig: &mut Rig) -> Option<(String, String)> {
        self.read_publisher(rig);
        self.listener.answer_questions();
        self.read(Duty::Listen, rig)
    }

    /// The same, with replies left unread on the other link.
    pub fn read_listener(&mut self, rig: &mut Rig) -> Option<(String, String)> {
        self.read(Duty::Listen, rig)
    }

    pub fn break_publishing(&mut self, rig: &mut Rig) {
        if std::mem::take(&mut self.publishing) {
            self.publisher = Way::default();
            self.close(Duty::Publish, rig);
        }
    }

    pub fn break_listening(&mut self, rig: &mut Rig) {
        if std::mem::take(&mut self.listening) {
            self.subscribed.clear();
            self.listener = Way::default();
            self.close(Duty::Listen, rig);
        }
    }

    fn close(&mut self, duty: Duty, rig: &mut Rig) {
        self.tell(rig);
        self.dialogue.closed(duty);
        self.tell(rig);
    }

    pub fn mend_publishing(&mut self, rig: &mut Rig) {
        if !std::mem::replace(&mut self.publishing, true) {
            self.open(Duty::Publish, rig);
        }
    }

    pub fn mend_listening(&mut self, rig: &mut Rig) {
        if !std::mem::replace(&mut self.listening, true) {
            self.open(Duty::Listen, rig);
        }
    }

    fn open(&mut self, duty: Duty, rig: &mut Rig) {
        self.dialogue.opened(duty, rig.hub.clock.now);
        self.send(rig);
        self.way(duty).answer_questions();
        while !self.way(duty).replies.is_empty() {
            self.read(duty, rig);
        }
    }

    /// Replaces the dialogue by one that knows nothing of it but a snapshot. What is on its way stays there.
    pub fn hand_over(&mut self, rig: &mut Rig) {
        self.tell(rig);
        let snapshot = minicbor::to_vec(self.dialogue.save()).expect("memory");
        let saved: SavedDialogue = minicbor::decode(&snapshot).expect("a snapshot");
        let now = rig.hub.clock.now;
        let restored = Dialogue::restore(LinkIdentity::default(), saved, now);
        self.dialogue = restored.expect("a snapshot");
        let again = minicbor::to_vec(self.dialogue.save()).expect("memory");
        assert!(again == snapshot, "a snapshot of the same facts differs");
    }

    pub fn is_quiet(&self) -> bool {
        let ways = [&self.publisher, &self.listener];
        let quiet = |way: &Way| way.commands.is_empty() && way.replies.is_empty();
        ways.into_iter().all(quiet)
    }

    /// Moves everything along until nothing is in transit.
    pub fn settle(&mut self, rig: &mut Rig) {
        loop {
            self.run(rig);
            if self.is_quiet() {
                return;
            }
            while self.execute_change() || self.execute_publication().is_some() {}
            self.bring(rig);
        }
    }
}

pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

pub fn array(words: &[&str], more: &str) -> String {
    let count = words.len() + usize::from(!more.is_empty());
    let words = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{count}\r\n{}{more}", words.collect::<String>())
}

/// Splits whole commands into their words.
pub fn commands(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
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
