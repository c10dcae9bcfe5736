//! Tables of what is said to redis and what its replies mean.

use super::*;
use crate::effect::{Publication, SubscriptionId};
use crate::secret::Secret;

const OK: &str = "+OK\r\n";
const PONG: &str = "+PONG\r\n";
const MASTER: &str = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
const REPLICA: &str = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$7\r\nconnect\r\n:-1\r\n";

/// What waits to be sent, one command a line.
fn said(dialogue: &mut Dialogue, duty: Duty) -> Vec<String> {
    let out = std::mem::take(dialogue.out(duty));
    let text = String::from_utf8(out).unwrap();
    let mut lines = text.lines();
    let mut commands = Vec::new();
    while let Some(count) = lines.next().and_then(|line| line.strip_prefix('*')) {
        let parts = (0..count.parse().unwrap()).map(|_| lines.nth(1).unwrap());
        commands.push(parts.collect::<Vec<_>>().join(" "));
    }
    commands
}

/// redis replies; what the hub is told, and what is wrong with the link.
fn replies(dialogue: &mut Dialogue, duty: Duty, replies: &[&str], now: Millis) -> Vec<String> {
    let mut told = Vec::new();
    let bytes = replies.concat();
    let mut rest = bytes.as_bytes();
    while !rest.is_empty() {
        match dialogue.understand(duty, rest, now) {
            Ok(Step::Starved) => panic!("half a reply"),
            Ok(Step::Understood(count)) => rest = &rest[count..],
            Ok(Step::Message(message)) => {
                let text = |range: std::ops::Range<usize>| str::from_utf8(&rest[range]).unwrap();
                let (channel, content) = (message.channel, message.content);
                told.push(format!("message {} {}", text(channel), text(content)));
                rest = &rest[message.size..];
            }
            Err(fault) => {
                let links = if fault.both { "both" } else { "one" };
                told.push(format!("{links}: {}", fault.why));
                return told;
            }
        }
        told.extend(news(dialogue));
    }
    told
}

fn news(dialogue: &mut Dialogue) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(news) = dialogue.news() {
        let receipt = |receipt: Receipt| match receipt {
            Receipt::Confirmed => "confirmed".to_owned(),
            Receipt::Refused(why) => format!("refused: {why}"),
            Receipt::Failed => "failed".to_owned(),
        };
        told.push(match news {
            News::Publishing(_, up) => format!("publishing {up}"),
            News::Listening(_, up) => format!("listening {up}"),
            News::Published(by, what) => format!("{} {}", by.slot, receipt(what)),
            News::Subscribed(id, what) => format!("channel {} {}", id.serial, receipt(what)),
            News::Dropped(why) => format!("dropped {why}"),
            News::Shard(..) | News::Slots(..) | News::Message(_) => unreachable!("{news:?}"),
        });
    }
    told
}

/// A dialogue whose links are both up.
fn up(prefix: &str) -> Dialogue {
    let mut dialogue = Dialogue::new(Identity {
        prefix: prefix.to_owned(),
        ..Identity::default()
    });
    for (duty, told) in Duty::BOTH.into_iter().zip(["publishing", "listening"]) {
        dialogue.opened(duty, 0);
        let told = format!("{told} true");
        assert_eq!(replies(&mut dialogue, duty, &[OK, MASTER, PONG], 0), [told]);
        said(&mut dialogue, duty);
    }
    dialogue
}

fn publication(by: u32, channel: &str) -> Publication {
    Publication {
        from: ConnId {
            slot: by,
            generation: 0,
        },
        channel: ChannelName::checked(channel),
        content: b"1".as_slice().into(),
    }
}

fn subscription(serial: u64, channel: &str) -> Subscription {
    let id = SubscriptionId { channel: 0, serial };
    let channel = ChannelName::checked(channel);
    Subscription { id, channel }
}

fn subscribed(channel: &str) -> String {
    let length = channel.len();
    format!("*3\r\n$9\r\nsubscribe\r\n${length}\r\n{channel}\r\n:1\r\n")
}

fn unsubscribed(channel: &str) -> String {
    let length = channel.len();
    format!("*3\r\n$11\r\nunsubscribe\r\n${length}\r\n{channel}\r\n:0\r\n")
}

fn message(channel: &str, content: &str) -> String {
    let (name, length) = (channel.len(), content.len());
    format!("*3\r\n$7\r\nmessage\r\n${name}\r\n{channel}\r\n${length}\r\n{content}\r\n")
}

#[test]
fn greetings() {
    let introduction = ["CLIENT SETNAME wsify-publishes", "ROLE", "PING"];
    for (user, password, db, rounds) in [
        // Each round: what is said, and the replies to it.
        (
            None,
            None,
            0,
            vec![(introduction.to_vec(), vec![OK, MASTER, PONG])],
        ),
        // Neither CLIENT nor ROLE need be allowed.
        (
            None,
            None,
            0,
            vec![(
                introduction.to_vec(),
                vec!["-NOPERM no\r\n", "-NOPERM no\r\n", PONG],
            )],
        ),
        (
            None,
            None,
            7,
            vec![(
                [&["SELECT 7"], introduction.as_slice()].concat(),
                vec![OK, OK, MASTER, PONG],
            )],
        ),
        (
            Some("ann"),
            Some("pw"),
            0,
            vec![
                (vec!["AUTH ann pw"], vec![OK]),
                (introduction.to_vec(), vec![OK, MASTER, PONG]),
            ],
        ),
        (
            None,
            Some("pw"),
            0,
            vec![
                (vec!["AUTH default pw"], vec![OK]),
                (introduction.to_vec(), vec![OK, MASTER, PONG]),
            ],
        ),
        // Before version 6.
        (
            None,
            Some("pw"),
            0,
            vec![
                (
                    vec!["AUTH default pw"],
                    vec!["-ERR wrong number of arguments for 'auth' command\r\n"],
                ),
                (vec!["AUTH pw"], vec![OK]),
                (introduction.to_vec(), vec![OK, MASTER, PONG]),
            ],
        ),
    ] {
        let credentials = password.map(|password| Credentials {
            user: user.map(str::to_owned),
            password: Secret::new(password),
        });
        let mut dialogue = Dialogue::new(Identity {
            credentials,
            db,
            ..Identity::default()
        });
        dialogue.opened(Duty::Publish, 0);
        let mut told = Vec::new();
        for (expected, answers) in rounds {
            assert_eq!(said(&mut dialogue, Duty::Publish), expected);
            assert!(told.is_empty());
            told = replies(&mut dialogue, Duty::Publish, &answers, 0);
        }
        assert_eq!(told, ["publishing true"]);
    }
}

#[test]
fn why_a_link_is_of_no_use() {
    let wrong = "it refuses the user and the password of --broker-dsn (WRONGPASS)";
    for (user, answers, fault) in [
        (Some("ann"), vec!["-WRONGPASS pw\r\n"], wrong),
        (
            Some("ann"),
            vec!["-ERR wrong number of arguments\r\n"],
            "it refuses the user and the password of --broker-dsn (ERR)",
        ),
        (
            None,
            vec![
                "-ERR wrong number of arguments\r\n",
                "-ERR invalid password\r\n",
            ],
            "it refuses the user and the password of --broker-dsn (ERR)",
        ),
        (
            None,
            vec![OK, "-ERR DB index is out of range\r\n"],
            "it refuses the database of --broker-dsn: ERR DB index is out of range",
        ),
        (None, vec![OK, OK, OK, REPLICA], replies::REPLICA),
        (
            None,
            vec![OK, OK, OK, "*1\r\n$8\r\nsentinel\r\n"],
            replies::SENTINEL,
        ),
        (
            None,
            vec![OK, OK, OK, MASTER, "-NOAUTH no\r\n"],
            "it wants a password: give it one in --broker-dsn",
        ),
        (
            None,
            vec![OK, OK, OK, MASTER, "-LOADING dataset\r\n"],
            "LOADING dataset",
        ),
        (
            None,
            vec!["HTTP/1.1 400\r\n"],
            "it does not speak as redis does",
        ),
        (None, vec![&subscribed("a")], replies::OTHER),
        (None, vec![OK, OK, OK, &unsubscribed("a")], replies::OTHER),
    ] {
        let mut dialogue = Dialogue::new(Identity {
            credentials: Some(Credentials {
                user: user.map(str::to_owned),
                password: Secret::new("pw"),
            }),
            db: 1,
            ..Identity::default()
        });
        dialogue.opened(Duty::Publish, 0);
        let links = if fault == replies::REPLICA {
            "both"
        } else {
            "one"
        };
        let told = replies(&mut dialogue, Duty::Publish, &answers, 0);
        assert_eq!(told, [format!("{links}: {fault}")], "{answers:?}");
        assert!(!told[0].contains("pw"));
    }
    // Before anything was asked: protected mode, too many clients.
    let mut dialogue = Dialogue::default();
    let full = ["-ERR max number of clients reached\r\n"];
    let told = replies(&mut dialogue, Duty::Listen, &full, 0);
    assert_eq!(told, ["one: ERR max number of clients reached"]);
    let told = replies(&mut up(""), Duty::Listen, &[OK], 0);
    assert_eq!(told, [format!("one: {}", replies::UNASKED)]);
}

#[test]
fn a_publication_is_confirmed_behind_the_message() {
    let mut dialogue = up("app:");
    for by in 1..=3 {
        dialogue.publish(&publication(by, "a"), 0);
    }
    dialogue.finish(0);
    assert_eq!(said(&mut dialogue, Duty::Publish), ["PUBLISH app:a 1"; 3]);
    assert!(said(&mut dialogue, Duty::Listen).is_empty());
    let refusal = "-NOPERM not that one\r\n";
    let told = replies(&mut dialogue, Duty::Publish, &[":1\r\n", refusal], 0);
    assert_eq!(told, ["2 refused: NOPERM not that one"]);
    let why = Rc::from("NOPERM not that one");
    let notice = Some(Notice::RefusedPublication { why });
    assert_eq!(dialogue.notice(), notice);
    dialogue.finish(0);
    assert_eq!(said(&mut dialogue, Duty::Listen), ["PING"]);
    // What is published meanwhile needs a ping of its own.
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 0).is_empty());
    dialogue.finish(0);
    assert_eq!(said(&mut dialogue, Duty::Listen), ["PING"]);
    let came = [&message("app:a", "1"), PONG];
    let told = replies(&mut dialogue, Duty::Listen, &came, 0);
    assert_eq!(told, ["message a 1", "1 confirmed"]);
    let told = replies(&mut dialogue, Duty::Listen, &[PONG], 0);
    assert_eq!(told, ["3 confirmed"]);
}

#[test]
fn messages_that_are_nothing_for_us() {
    let mut dialogue = up("app:");
    let came = [
        message("other:a", "1"),
        message("app:a", "no"),
        message("app:", "[1]"),
        message("app:ä", "{}"),
    ];
    let came: Vec<&str> = came.iter().map(String::as_str).collect();
    let told = replies(&mut dialogue, Duty::Listen, &came, 0);
    let expected = [
        "dropped unknown",
        "dropped not_json",
        "message  [1]",
        "message ä {}",
    ];
    assert_eq!(told, expected);
    let channel = "a".to_owned();
    assert_eq!(dialogue.notice(), Some(Notice::NotJson { channel }));
    let invalid = b"*3\r\n$7\r\nmessage\r\n$5\r\napp:\xff\r\n$1\r\n1\r\n";
    let step = dialogue.understand(Duty::Listen, invalid, 0);
    assert_eq!(step, Ok(Step::Understood(invalid.len())));
    assert_eq!(news(&mut dialogue), ["dropped unknown"]);
}

#[test]
fn channels_go_into_one_command_in_order() {
    let mut dialogue = up("");
    dialogue.subscribe(subscription(1, "a"), 0);
    dialogue.subscribe(subscription(2, "b"), 0);
    dialogue.unsubscribe(ChannelName::checked("a"), 0);
    dialogue.subscribe(subscription(3, "a"), 0);
    dialogue.finish(0);
    let expected = ["SUBSCRIBE a b", "UNSUBSCRIBE a", "SUBSCRIBE a"];
    assert_eq!(said(&mut dialogue, Duty::Listen), expected);
    let came = [
        &subscribed("a"),
        &*subscribed("b"),
        &unsubscribed("a"),
        &subscribed("a"),
    ];
    let told = replies(&mut dialogue, Duty::Listen, &came, 0);
    let expected = [
        "channel 1 confirmed",
        "channel 2 confirmed",
        "channel 3 confirmed",
    ];
    assert_eq!(told, expected);
    for serial in 0..300 {
        dialogue.subscribe(subscription(serial, "x"), 0);
    }
    dialogue.finish(0);
    let commands = said(&mut dialogue, Duty::Listen);
    assert_eq!(commands.len(), 2, "not more than fit into one command");
}

#[test]
fn one_refused_channel_does_not_cost_the_others() {
    let mut dialogue = up("");
    for (serial, name) in [(1, "a"), (2, "b"), (3, "c")] {
        dialogue.subscribe(subscription(serial, name), 0);
    }
    dialogue.finish(0);
    // The end of one is asked for before the refusal comes.
    dialogue.unsubscribe(ChannelName::checked("c"), 0);
    dialogue.finish(0);
    said(&mut dialogue, Duty::Listen);
    let no = "-NOPERM no\r\n";
    let told = replies(&mut dialogue, Duty::Listen, &[no], 0);
    assert_eq!(told, ["channel 3 failed"]);
    assert_eq!(
        said(&mut dialogue, Duty::Listen),
        ["SUBSCRIBE a", "SUBSCRIBE b"]
    );
    let came = [&unsubscribed("c"), &*subscribed("a"), no];
    let told = replies(&mut dialogue, Duty::Listen, &came, 0);
    assert_eq!(
        told,
        ["channel 1 confirmed", "channel 2 refused: NOPERM no"]
    );
    let channel = ChannelName::checked("b");
    let why = Rc::from("NOPERM no");
    let notice = Some(Notice::RefusedChannel { channel, why });
    assert_eq!(dialogue.notice(), notice);
    assert_eq!(dialogue.notice(), None);
}

#[test]
fn what_is_outstanding_when_a_link_breaks_fails() {
    let mut dialogue = up("");
    dialogue.publish(&publication(1, "a"), 0);
    dialogue.publish(&publication(2, "a"), 0);
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 0).is_empty());
    dialogue.finish(0);
    dialogue.closed(Duty::Publish);
    assert_eq!(news(&mut dialogue), ["publishing false", "2 failed"]);
    assert!(dialogue.out(Duty::Publish).is_empty());
    // The first has come, and is confirmed on the other link.
    assert_eq!(
        replies(&mut dialogue, Duty::Listen, &[PONG], 0),
        ["1 confirmed"]
    );
    dialogue.publish(&publication(3, "a"), 0);
    assert_eq!(news(&mut dialogue), ["3 failed"]);

    let mut dialogue = up("");
    dialogue.subscribe(subscription(1, "a"), 0);
    dialogue.subscribe(subscription(2, "b"), 0);
    dialogue.finish(0);
    dialogue.subscribe(subscription(3, "c"), 0);
    dialogue.publish(&publication(4, "a"), 0);
    dialogue.publish(&publication(5, "a"), 0);
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 0).is_empty());
    let told = replies(&mut dialogue, Duty::Listen, &[&subscribed("a")], 0);
    assert_eq!(told, ["channel 1 confirmed"]);
    dialogue.closed(Duty::Listen);
    let expected = [
        "listening false",
        "channel 2 failed",
        "channel 3 failed",
        "4 failed",
        "5 failed",
    ];
    assert_eq!(news(&mut dialogue), expected);
    // Its answer comes all the same, and says nothing to anything.
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 0).is_empty());
    dialogue.subscribe(subscription(6, "a"), 0);
    dialogue.unsubscribe(ChannelName::checked("a"), 0);
    assert_eq!(news(&mut dialogue), ["channel 6 failed"]);
    assert!(dialogue.out(Duty::Listen).is_empty());
}

#[test]
fn silence_and_patience() {
    let mut dialogue = up("");
    for duty in Duty::BOTH {
        assert_eq!(dialogue.tick(duty, 4_999), Ok(()));
        assert!(said(&mut dialogue, duty).is_empty());
    }
    assert_eq!(dialogue.next_deadline(), Some(5_000));
    for (duty, expected) in Duty::BOTH.into_iter().zip(["ROLE", "PING"]) {
        assert_eq!(dialogue.tick(duty, 5_000), Ok(()));
        assert_eq!(said(&mut dialogue, duty), [expected]);
        assert_eq!(dialogue.tick(duty, 5_001), Ok(()));
        assert!(said(&mut dialogue, duty).is_empty());
    }
    assert_eq!(dialogue.next_deadline(), Some(10_000));
    assert!(dialogue.tick(Duty::Listen, 10_000).is_err());
    // However much is published, the role is asked.
    assert!(replies(&mut dialogue, Duty::Publish, &[MASTER], 9_000).is_empty());
    dialogue.publish(&publication(1, "a"), 9_000);
    assert_eq!(dialogue.tick(Duty::Publish, 10_000), Ok(()));
    assert_eq!(said(&mut dialogue, Duty::Publish), ["PUBLISH a 1", "ROLE"]);
    let told = replies(&mut dialogue, Duty::Publish, &[":1\r\n", REPLICA], 10_000);
    assert_eq!(told, [format!("both: {}", replies::REPLICA)]);

    // What was published and is not heard here is given up, counted from when it was said.
    let mut dialogue = up("");
    dialogue.publish(&publication(1, "a"), 1_000);
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 2_000).is_empty());
    dialogue.give_up(5_999);
    assert!(news(&mut dialogue).is_empty());
    dialogue.give_up(6_000);
    assert_eq!(news(&mut dialogue), ["1 failed"]);
}
