//! A script language of events for the hub, in which any bytes are a script. The fuzzer and the corpus use it.
//!
//! ```text
//! n        a client connects               (C below: which client, by one byte; X: which of four channels)
//! u C      it asks for an upgrade          1 C    with the subprotocol wsify.v1    2 C  with it and compression
//! j C X    it joins     l C X  leaves      b C X  broadcasts, each with an id       z C X  broadcasts, compressed
//! p C X    it posts     g C    GET /health m C    GET /metrics   t C    GET /tap
//! r C N …  it sends N bytes as they are    f C F N …  a frame whose first byte is F, with N bytes
//! c C      it closes    e C    ends its stream    x C  resets it    v C  vanishes
//! s C N    it takes N*8 more bytes         w C    it takes what comes
//! a Q      question Q is allowed           d Q    denied            o Q  the authorizer is out
//! A Q F    allowed with fields, R Q F  refused with fields: a bit of F for each kind
//! + N      time passes: N*N ms             i N    reads are of N+1 bytes at most
//! D        a graceful stop begins
//! ```
//!
//! Any other byte is a turn of the loop. At the end all connections are reset, and nothing may be left.

use wsify::effect::Verdict;
use wsify::hub::Settings;
use wsify::wire::answer_fields::{Allow, AnswerFields, CloseWith, NewState};
use wsify::wire::channel_name::ChannelName;

use super::client::{
    COMPRESSED, Client, DEFLATE, broadcast, close, compress, frame, get, join, leave, post, text,
    upgrade, with_id,
};
use super::rig::{Rig, settings};

const CHANNELS: [&str; 4] = ["a", "b", "é", "\\u0061"];
/// How many bytes of a script are played. A script without an open WebSocket by then is not worth the time.
const LONGEST: usize = 2_000;

struct Script<'s> {
    bytes: &'s [u8],
    rig: Rig,
    clients: Vec<Client>,
}

/// Plays `bytes`, and panics if the hub breaks one of its promises.
pub fn play(bytes: &[u8]) {
    let mut settings = Settings {
        authorizer: bytes.first().is_some_and(|b| b % 2 == 0),
        max_channels: 3,
        max_connections: 8,
        max_connections_per_ip: 6,
        max_message_rate: 20,
        max_total_queue: 3_000,
        compression: Some(60),
        playground: false,
        ..settings()
    };
    settings.limits.max_queue = 300;
    settings.limits.max_message = 1_000;
    let mut script = Script {
        bytes: &bytes[..bytes.len().min(LONGEST)],
        rig: Rig::with(settings),
        clients: Vec::new(),
    };
    while !script.bytes.is_empty() {
        script.event();
    }
    script.end();
}

/// Fields of an answer, whether they belong to it or not: a bit for each kind.
fn fields(bits: u8) -> AnswerFields {
    let has = |bit: u8| bits & 1 << bit != 0;
    let patterns: Box<[Box<str>]> = Box::new(["a".into(), "é*".into()]);
    AnswerFields {
        user: has(0).then(|| "42".into()),
        state: has(1).then(|| {
            if has(2) {
                NewState::Removed
            } else {
                NewState::Json("\"a state that many have\"".into())
            }
        }),
        channels: if has(2) {
            vec![ChannelName::checked("a"), ChannelName::checked("b")]
        } else {
            Vec::new()
        },
        allow: has(3).then(|| Allow {
            join: patterns.clone(),
            leave: patterns.clone(),
            broadcast: patterns,
        }),
        expires_in: has(4).then_some(1),
        max_age: has(5).then_some(60),
        content: has(6).then(|| (*b"[1]").into()),
        message: has(0).then(|| "no".into()),
        close: has(7).then_some(CloseWith {
            code: 4000,
            reason: None,
        }),
    }
}

impl<'s> Script<'s> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn client(&mut self) -> Option<&Client> {
        let at = usize::from(self.byte()?) % self.clients.len().max(1);
        self.clients.get(at)
    }

    fn channel(&mut self) -> &'static str {
        CHANNELS[usize::from(self.byte().unwrap_or_default() % 4)]
    }

    fn some(&mut self) -> &'s [u8] {
        let count = usize::from(self.byte().unwrap_or_default()).min(self.bytes.len());
        let (some, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        some
    }

    /// The next event. `None` if there is no connection to which it could happen.
    fn event(&mut self) -> Option<()> {
        let event = self.byte()?;
        match event {
            b'n' => {
                let client = self.rig.client();
                self.clients.push(client);
            }
            b'u' => self.client()?.send(&upgrade("/ws?a=b", "")),
            b'1' => {
                let more = "Sec-WebSocket-Protocol: wsify.v1\r\n";
                self.client()?.send(&upgrade("/ws", more));
            }
            b'2' => {
                let more = format!("Sec-WebSocket-Protocol: wsify.v1\r\n{DEFLATE}");
                self.client()?.send(&upgrade("/ws", &more));
            }
            b'z' => {
                let far = self.client()?.far.clone();
                let command = broadcast(self.channel(), &format!("\"{}\"", "z".repeat(100)));
                far.send(&frame(COMPRESSED, &compress(command.as_bytes())));
            }
            b'j' | b'l' | b'b' => {
                let far = self.client()?.far.clone();
                let channel = self.channel();
                let command = match event {
                    b'j' => join(channel),
                    b'l' => leave(channel),
                    _ => broadcast(channel, &format!("\"{}\"", "x".repeat(100))),
                };
                far.send(&text(&with_id(7, &command)));
            }
            b'p' => {
                let far = self.client()?.far.clone();
                let body = format!(r#"{{"channel":"{}","content":[]}}"#, self.channel());
                far.send(&post(&body));
            }
            b'g' => self.client()?.send(&get("/health")),
            b'm' => self.client()?.send(&get("/metrics")),
            b't' => self.client()?.send(&get("/tap?query=a:b")),
            b'r' => {
                let far = self.client()?.far.clone();
                far.send(self.some());
            }
            b'f' => {
                let far = self.client()?.far.clone();
                let first = self.byte()?;
                far.send(&frame(first, self.some()));
            }
            b'c' => self.client()?.send(&close(1000)),
            b'e' => self.client()?.far.leave(),
            b'x' => self.client()?.far.reset(),
            b'v' => self.client()?.far.vanish(),
            b's' => {
                let far = self.client()?.far.clone();
                far.narrow(usize::from(self.byte()?) * 8);
            }
            b'w' => self.client()?.far.widen(1 << 20),
            b'a' | b'd' | b'o' => {
                let which = usize::from(self.byte()?) % self.rig.questions.len().max(1);
                let question = self.rig.questions.remove(which)?;
                let verdict = match event {
                    b'a' => Verdict::Allow,
                    b'd' => Verdict::Deny,
                    _ => Verdict::Unavailable,
                };
                self.rig.send_verdict(&question, verdict, Some("{}"));
            }
            b'A' | b'R' => {
                let which = usize::from(self.byte()?) % self.rig.questions.len().max(1);
                let question = self.rig.questions.remove(which)?;
                let verdict = match event {
                    b'A' => Verdict::Allow,
                    _ => Verdict::Deny,
                };
                let fields = fields(self.byte().unwrap_or_default());
                self.rig.send_verdict(&question, verdict, None).fields = Some(Box::new(fields));
            }
            b'+' => {
                let root = u64::from(self.byte()?);
                self.rig.hub.clock.now += root * root;
            }
            b'i' => {
                let size = usize::from(self.byte()?) + 1;
                self.rig.buffer.truncate(size);
            }
            b'D' => self.rig.hub.drain(10_000),
            _ => self.rig.tick(),
        }
        Some(())
    }

    fn end(mut self) {
        self.rig.run();
        for client in &self.clients {
            client.far.widen(1 << 30);
            client.far.reset();
        }
        self.rig.run();
        while let Some(question) = self.rig.questions.pop_front() {
            self.rig.send_verdict(&question, Verdict::Allow, None);
            self.rig.run();
        }
        self.rig.pass(100_000);
        self.rig.assert_empty();
    }
}
