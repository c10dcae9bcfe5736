//! Allocations in a steady state: none (M0).
//!
//! The counting allocator (`allocation_counter`) counts for each thread, so tests may run side by side.

#[path = "../../benches/million/puppet.rs"]
#[expect(dead_code, reason = "the bench needs more of it")]
mod puppet;

use std::time::{Duration, SystemTime};

use puppet::{Puppet, TEXT, UPGRADE, frame, say};
use wsify::clock::Clock;
use wsify::config::AccessLog;
use wsify::connection::{Limits, Peer};
use wsify::effect::{Answer, ConnId, Effect, Verdict};
use wsify::hub::{FailurePolicy, Hub, Settings};
use wsify::log::{Level, Log};
use wsify::metrics::Metrics;
use wsify::wire::answer_fields::{Allow, AnswerFields};
use wsify::wire::deflate::Deflater;
use wsify::wire::forwarded::Proxies;
use wsify::wire::origins::Origins;

const MEMBERS: u32 = 300;
const BROADCAST: &str = r#"{"command":"broadcast","args":{"channel":"a","content":"a content for every member of it"}}"#;

struct PuppetHub {
    hub: Hub<Puppet>,
    buffer: Vec<u8>,
    members: Vec<ConnId>,
    /// What the authorizer allows everything with, if there is one.
    fields: Option<AnswerFields>,
}

impl PuppetHub {
    /// Members whose handshake has `header`.
    fn of_members(header: &str) -> PuppetHub {
        PuppetHub::with(header, None)
    }

    fn with(header: &str, fields: Option<AnswerFields>) -> PuppetHub {
        let settings = Settings {
            limits: Limits {
                handshake_timeout: 10_000,
                ping_interval: 25_000,
                max_message: 1 << 20,
                max_queue: 1 << 20,
            },
            max_connections: usize::MAX,
            max_connections_per_ip: 0,
            max_message_rate: 0,
            compression: Some(64),
            max_total_queue: 1 << 30,
            playground: false,
            max_channels: 1000,
            key: None,
            origins: Origins::parse("*").unwrap(),
            proxies: Proxies::default(),
            proxy_protocol: false,
            authorizer: fields.is_some(),
            authorizer_url: String::new(),
            failure: FailurePolicy::default(),
            access_log: AccessLog::Errors,
            events: None,
            slots: 0,
            instance: 1,
        };
        let clock = Clock {
            now: 1_000,
            date: "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            ..Clock::default()
        };
        let metrics = Metrics::new(SystemTime::UNIX_EPOCH);
        let mut puppets = PuppetHub {
            hub: Hub::new(settings, clock, metrics, Log::in_memory(Level::Info)),
            buffer: vec![0; 64 * 1024],
            members: Vec::new(),
            fields,
        };
        for number in 0..MEMBERS {
            let peer = Peer::new(([127, 0, 0, 1], 1).into());
            let id = puppets.hub.accept(Puppet::new(number), peer).unwrap();
            puppets.hears(id, format!("{UPGRADE}{header}\r\n").as_bytes());
            let join = r#"{"command":"join","args":{"channel":"a"}}"#;
            puppets.hears(id, &frame(TEXT, join));
            puppets.members.push(id);
        }
        puppets
    }

    /// Handles a client's message, and everything that follows from it.
    fn hears(&mut self, id: ConnId, bytes: &[u8]) {
        say(&mut self.hub, &mut self.buffer, id, bytes);
        while self.hub.has_work() {
            while let Some(effect) = self.hub.effect() {
                if let (Effect::Ask(question), Some(fields)) = (effect, &self.fields) {
                    let time = Duration::from_millis(1);
                    let mut answer = Answer::unavailable(question.from, String::new(), time);
                    answer.verdict = Verdict::Allow;
                    answer.status = Some(200);
                    answer.fields = Some(Box::new(fields.clone()));
                    self.hub.verdict(answer);
                }
            }
            self.hub.turns(&mut self.buffer);
            self.hub.expire();
            self.hub.fan_out();
            self.hub.flush();
            self.hub.reap();
        }
    }

    /// Allocations while the first member sends `message` again, and the number of sends to the last member.
    fn allocations(&mut self, bytes: &[u8]) -> (u64, u32) {
        for _ in 0..3 {
            self.hears(self.members[0], bytes);
        }
        let last = self.members[MEMBERS as usize - 1];
        self.hub.stream(last).unwrap().sends = 0;
        let first = self.members[0];
        let counted = allocation_counter::measure(|| self.hears(first, bytes));
        let sends = self.hub.stream(last).unwrap().sends;
        (counted.count_total, sends)
    }
}

const DIALECTS: [&str; 2] = ["", "Sec-WebSocket-Protocol: wsify.v1\r\n"];

#[test]
fn a_broadcast_takes_none() {
    for header in DIALECTS {
        let mut puppets = PuppetHub::of_members(header);
        let one = frame(TEXT, BROADCAST);
        assert_eq!(puppets.allocations(&one), (0, 1), "{header}");
        assert_eq!(puppets.allocations(&one.repeat(40)), (0, 1), "{header}");
    }
}

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// A client's compressed frame, which is short, as its message repeats itself.
fn compressed(message: &[u8]) -> Vec<u8> {
    let mut deflater = Deflater::default();
    let payload = deflater.deflate(message).expect("it gets smaller");
    let len = u8::try_from(payload.len()).ok().filter(|len| *len < 126);
    [
        &[0xC1, 0x80 | len.expect("a short frame"), 0, 0, 0, 0],
        payload,
    ]
    .concat()
}

#[test]
fn a_compressed_broadcast_takes_none() {
    for dialect in DIALECTS {
        let mut puppets = PuppetHub::of_members(&format!("{dialect}{DEFLATE}"));
        for len in [100, 2_000, 16_000] {
            let content = "x".repeat(len);
            let said = BROADCAST.replace("a content for every member of it", &content);
            assert!(said.len() > len);
            let one = compressed(said.as_bytes());
            assert_eq!(puppets.allocations(&one), (0, 1), "{dialect}{len}");
        }
        // What is not worth it takes none either.
        let small = frame(
            TEXT,
            r#"{"command":"broadcast","args":{"channel":"a","content":1}}"#,
        );
        assert_eq!(puppets.allocations(&small), (0, 1), "{dialect}");
    }
}

#[test]
fn a_command_that_needs_no_question_takes_none() {
    let patterns: Box<[Box<str>]> = Box::new(["news".into(), "a*".into()]);
    let allow = AnswerFields {
        allow: Some(Allow {
            join: patterns.clone(),
            leave: patterns.clone(),
            broadcast: patterns,
        }),
        expires_in: Some(1_000),
        ..AnswerFields::default()
    };
    let max_age = AnswerFields {
        max_age: Some(1_000),
        ..AnswerFields::default()
    };
    for fields in [allow, max_age] {
        let mut puppets = PuppetHub::with("", Some(fields));
        for (command, sends) in [
            (r#"{"command":"join","args":{"channel":"a"}}"#, 0),
            (r#"{"command":"leave","args":{"channel":"ab"}}"#, 0),
            (BROADCAST, 1),
        ] {
            let message = frame(TEXT, command);
            assert_eq!(puppets.allocations(&message), (0, sends), "{command}");
        }
    }
}

#[test]
fn a_payload_is_copied_once() {
    let mut puppets = PuppetHub::of_members("");
    puppets.allocations(&frame(TEXT, BROADCAST));
    let said = BROADCAST.replace("content for", &"x".repeat(60_000));
    let message = frame(TEXT, &said);
    let first = puppets.members[0];
    // There is no buffer of this size before, so each copy allocates one.
    let counted = allocation_counter::measure(|| puppets.hears(first, &message));
    assert!(
        (60_000..120_000).contains(&counted.bytes_total),
        "{counted:?}"
    );
}

#[test]
fn a_command_without_id_takes_none() {
    let mut puppets = PuppetHub::of_members("");
    for (command, taken) in [
        (r#"{"command":"join","args":{"channel":"a"}}"#, 0),
        (r#"{"command":"leave","args":{"channel":"b"}}"#, 0),
        (r#"{"command":"broadcast","args":{"channel":"b"}}"#, 0),
        (
            r#"{"command":"broadcast","args":{"channel":"b","content":{"a":1}}}"#,
            0,
        ),
        // serde_json's own, for a value nested in two others (see `wire/json.rs`).
        (
            r#"{"command":"broadcast","args":{"channel":"b","content":[{"a":1}]}}"#,
            1,
        ),
    ] {
        let message = frame(TEXT, command);
        assert_eq!(puppets.allocations(&message), (taken, 0), "{command}");
    }
}

#[test]
fn an_answer_takes_none() {
    let mut puppets = PuppetHub::of_members("");
    for command in [
        r#"{"id":"1","command":"join","args":{"channel":"a"}}"#,
        r#"{"id":"1","command":"leave","args":{"channel":"b"}}"#,
    ] {
        let message = frame(TEXT, command);
        assert_eq!(puppets.allocations(&message), (0, 0), "{command}");
        assert_eq!(puppets.allocations(&message.repeat(9)), (0, 0), "{command}");
    }
}

#[test]
fn allocations_are_counted() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1);
}
