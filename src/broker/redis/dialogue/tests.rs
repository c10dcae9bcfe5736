//! Tables of what is said to redis and what its replies mean.

use std::cell::Cell;

use super::*;
use crate::broker::redis::tests::{facts_without_effect, forgetting, goes_on};
use crate::config::Credentials;
use crate::effect::{ConnId, Publication, PublishedBy, ShardId, SubscriptionId};
use crate::secret::Secret;
use crate::wire::cluster_view::ViewForm;

const OK: &str = "+OK\r\n";
const PONG: &str = "+PONG\r\n";
const MASTER: &str = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
const REPLICA: &str = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$7\r\nconnect\r\n:-1\r\n";

thread_local! {
    /// Whether the program is replaced at every step, and at every byte of a reply.
    static REPLACED: Cell<bool> = const { Cell::new(false) };
}

/// Hands the dialogue over to the next program, if that is tested. What the hub and the log have to take before that goes
/// on beside it.
fn hand_over(dialogue: &mut Dialogue) {
    if !REPLACED.get() {
        return;
    }
    let (news, notices) = (
        std::mem::take(&mut dialogue.news),
        std::mem::take(&mut dialogue.notices),
    );
    let hints = std::mem::take(&mut dialogue.hints);
    let bytes = minicbor::to_vec(dialogue.save()).unwrap();
    let bytes = forgetting(&bytes, &[]);
    let saved = minicbor::decode(&bytes).unwrap();
    let identity = dialogue.identity.clone();
    let facts = dialogue.facts.clone();
    *dialogue = Dialogue {
        news,
        notices,
        hints,
        facts,
        ..Dialogue::restore(identity, saved, Millis::MAX).unwrap()
    };
}

/// What waits to be sent, one command a line.
fn said(dialogue: &mut Dialogue, duty: Duty) -> Vec<String> {
    hand_over(dialogue);
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
        match handle_reply(dialogue, duty, rest, now) {
            Ok(Progress::Starved) => panic!("half a reply"),
            Ok(Progress::Handled(count)) => rest = &rest[count..],
            Ok(Progress::Message(message)) => {
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

/// Understands what comes first, as it comes in.
fn handle_reply(
    dialogue: &mut Dialogue,
    duty: Duty,
    bytes: &[u8],
    now: Millis,
) -> Result<Progress, LinkFault> {
    let pieces = if REPLACED.get() { bytes.len() } else { 0 };
    for end in 0..pieces {
        hand_over(dialogue);
        let step = dialogue.handle_reply(duty, &bytes[..end], now);
        if step != Ok(Progress::Starved) {
            hand_over(dialogue);
            return step;
        }
    }
    let step = dialogue.handle_reply(duty, bytes, now);
    hand_over(dialogue);
    step
}

fn news(dialogue: &mut Dialogue) -> Vec<String> {
    hand_over(dialogue);
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
            News::Published(by, what) => format!("{} {}", by.slot().unwrap(), receipt(what)),
            News::Subscribed(id, what) => format!("channel {} {}", id.serial, receipt(what)),
            News::Unsubscribed(channel) => format!("{channel} ended"),
            News::Dropped(why) => format!("dropped {why}"),
            News::Returned(publication) => format!("{} returned", publication.from.slot().unwrap()),
            News::Shard(..) | News::Slots(..) | News::Message(_) => unreachable!("{news:?}"),
        });
    }
    told
}

/// A dialogue whose links are both up.
fn up(prefix: &str) -> Dialogue {
    let mut dialogue = Dialogue::new(LinkIdentity {
        prefix: prefix.to_owned(),
        ..LinkIdentity::default()
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
        from: PublishedBy::Connection(ConnId {
            slot: by,
            generation: 0,
        }),
        since: 0,
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
fn greeting_with_auth_select_and_setname() {
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
        let mut dialogue = Dialogue::new(LinkIdentity {
            credentials,
            db,
            ..LinkIdentity::default()
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
        (
            None,
            vec![OK, "-NOAUTH no\r\n"],
            "it requires a password: set one in --broker-dsn",
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
            "it requires a password: set one in --broker-dsn",
        ),
        (
            None,
            vec![OK, OK, OK, MASTER, "-LOADING dataset\r\n"],
            "LOADING dataset",
        ),
        (
            None,
            vec!["HTTP/1.1 400\r\n"],
            "it does not speak the protocol of redis",
        ),
        (None, vec![&subscribed("a")], meaning::OTHER),
        (None, vec![OK, OK, OK, &unsubscribed("a")], meaning::OTHER),
    ] {
        let mut dialogue = Dialogue::new(LinkIdentity {
            credentials: Some(Credentials {
                user: user.map(str::to_owned),
                password: Secret::new("pw"),
            }),
            db: 1,
            ..LinkIdentity::default()
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
    // In place of the first answer, whatever was asked.
    for why in [
        "ERR max number of clients reached",
        "DENIED Redis is running in protected mode",
    ] {
        for password in [None, Some("pw")] {
            let credentials = password.map(|password| Credentials {
                user: None,
                password: Secret::new(password),
            });
            let mut dialogue = Dialogue::new(LinkIdentity {
                credentials,
                ..LinkIdentity::default()
            });
            dialogue.opened(Duty::Listen, 0);
            let answer = format!("-{why}\r\n");
            let told = replies(&mut dialogue, Duty::Listen, &[&answer], 0);
            assert_eq!(told, [format!("one: {why}")]);
        }
    }
    let told = replies(&mut up(""), Duty::Listen, &[OK], 0);
    assert_eq!(told, [format!("one: {}", meaning::UNASKED)]);
}

#[test]
fn a_publication_is_confirmed_behind_the_message() {
    let mut dialogue = up("app:");
    for by in 1..=3 {
        dialogue.publish(publication(by, "a"), 0);
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
    dialogue.finish(0);
    assert!(said(&mut dialogue, Duty::Listen).is_empty(), "once");
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
    let step = dialogue.handle_reply(Duty::Listen, invalid, 0);
    assert_eq!(step, Ok(Progress::Handled(invalid.len())));
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
        "a ended",
        "channel 3 confirmed",
    ];
    assert_eq!(told, expected);
    for name in ["a", "b", "c"] {
        dialogue.unsubscribe(ChannelName::checked(name), 0);
    }
    dialogue.finish(0);
    assert_eq!(said(&mut dialogue, Duty::Listen), ["UNSUBSCRIBE a b c"]);
    let came = ["a", "b", "c"].map(unsubscribed);
    let came: Vec<&str> = came.iter().map(String::as_str).collect();
    let told = replies(&mut dialogue, Duty::Listen, &came, 0);
    assert_eq!(told, ["a ended", "b ended", "c ended"]);
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
    let expected = [
        "c ended",
        "channel 1 confirmed",
        "channel 2 refused: NOPERM no",
    ];
    assert_eq!(told, expected);
    // It stays subscribed, and what waits for the end goes on.
    dialogue.unsubscribe(ChannelName::checked("a"), 0);
    dialogue.finish(0);
    assert_eq!(replies(&mut dialogue, Duty::Listen, &[no], 0), ["a ended"]);
    let channel = ChannelName::checked("b");
    let why = Rc::from("NOPERM no");
    let notice = Some(Notice::RefusedChannel { channel, why });
    assert_eq!(dialogue.notice(), notice);
    assert_eq!(dialogue.notice(), None);
}

#[test]
fn outstanding_commands_fail_when_a_link_breaks() {
    let mut dialogue = up("");
    dialogue.publish(publication(1, "a"), 0);
    dialogue.publish(publication(2, "a"), 0);
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
    dialogue.publish(publication(3, "a"), 0);
    assert_eq!(news(&mut dialogue), ["3 failed"]);

    let mut dialogue = up("");
    dialogue.subscribe(subscription(1, "a"), 0);
    dialogue.subscribe(subscription(2, "b"), 0);
    dialogue.finish(0);
    dialogue.unsubscribe(ChannelName::checked("d"), 0);
    dialogue.finish(0);
    dialogue.unsubscribe(ChannelName::checked("e"), 0);
    dialogue.subscribe(subscription(3, "c"), 0);
    dialogue.publish(publication(4, "a"), 0);
    dialogue.publish(publication(5, "a"), 0);
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 0).is_empty());
    let told = replies(&mut dialogue, Duty::Listen, &[&subscribed("a")], 0);
    assert_eq!(told, ["channel 1 confirmed"]);
    dialogue.closed(Duty::Listen);
    let expected = [
        "listening false",
        "channel 2 failed",
        "d ended",
        "e ended",
        "channel 3 failed",
        "4 failed",
        "5 failed",
    ];
    assert_eq!(news(&mut dialogue), expected);
    // Its answer comes all the same, and says nothing to anything.
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 0).is_empty());
    dialogue.subscribe(subscription(6, "a"), 0);
    dialogue.unsubscribe(ChannelName::checked("a"), 0);
    assert_eq!(news(&mut dialogue), ["channel 6 failed", "a ended"]);
    assert!(dialogue.out(Duty::Listen).is_empty());
}

#[test]
fn a_link_without_a_reply_times_out() {
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
    dialogue.publish(publication(1, "a"), 9_000);
    assert_eq!(dialogue.tick(Duty::Publish, 10_000), Ok(()));
    assert_eq!(said(&mut dialogue, Duty::Publish), ["PUBLISH a 1", "ROLE"]);
    let told = replies(&mut dialogue, Duty::Publish, &[":1\r\n", REPLICA], 10_000);
    assert_eq!(told, [format!("both: {}", replies::REPLICA)]);

    // What was published and is not heard here is given up, counted from when it was said.
    let mut dialogue = up("");
    dialogue.publish(publication(1, "a"), 1_000);
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 2_000).is_empty());
    dialogue.fail_overdue(5_999);
    assert!(news(&mut dialogue).is_empty());
    dialogue.fail_overdue(6_000);
    assert_eq!(news(&mut dialogue), ["1 failed"]);

    // So is what is not answered although something else comes without end. Time alone may be our own delay.
    dialogue.publish(publication(2, "a"), 7_000);
    dialogue.fail_overdue(12_000);
    let pushed = message("b", "1");
    replies(&mut dialogue, Duty::Publish, &[&pushed], 11_999);
    dialogue.fail_overdue(12_000);
    assert!(news(&mut dialogue).is_empty());
    replies(&mut dialogue, Duty::Publish, &[&pushed], 12_000);
    dialogue.fail_overdue(12_000);
    assert_eq!(news(&mut dialogue), ["2 failed"]);
    dialogue.fail_overdue(13_000);
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 13_000).is_empty());
}

// -- a shard of a cluster

/// A dialogue with a shard whose links are both up.
fn shard(prefix: &str) -> Dialogue {
    let mut dialogue = Dialogue::new(LinkIdentity {
        prefix: prefix.to_owned(),
        kind: RedisKind::Shard,
        ..LinkIdentity::default()
    });
    for duty in Duty::BOTH {
        dialogue.opened(duty, 0);
        replies(&mut dialogue, duty, &[OK, MASTER, PONG], 0);
        said(&mut dialogue, duty);
    }
    dialogue
}

fn hints(dialogue: &mut Dialogue) -> Vec<String> {
    hand_over(dialogue);
    let mut all = Vec::new();
    while let Some(hint) = dialogue.hint() {
        all.push(match hint {
            Hint::Ended(slot) => format!("ended {slot}"),
            Hint::Moved(moved) => {
                let to = moved.to.map_or("?".to_owned(), |to| {
                    format!("{}:{}", to.host.as_deref().unwrap_or("same"), to.port)
                });
                let by = moved.publication.and_then(|it| it.from.slot());
                let channels: Vec<u64> =
                    moved.subscriptions.iter().map(|it| it.id.serial).collect();
                format!("{} moved to {to}: {by:?} {channels:?}", moved.slot)
            }
            Hint::Again(publication) => format!("{} again", publication.from.slot().unwrap()),
            Hint::Doubt => "doubt".to_owned(),
            Hint::View(view) => format!("{view:?}"),
        });
    }
    all
}

fn sharded(verb: &str, channel: &str) -> String {
    let (verb_length, length) = (verb.len(), channel.len());
    format!("*3\r\n${verb_length}\r\n{verb}\r\n${length}\r\n{channel}\r\n:1\r\n")
}

#[test]
fn channels_of_one_slot_go_into_one_command() {
    let mut dialogue = shard("app:");
    // {x}a and {x}b have one slot.
    for (serial, name) in [(1, "{x}a"), (2, "{x}b"), (3, "c"), (4, "{x}d")] {
        dialogue.subscribe(subscription(serial, name), 0);
    }
    dialogue.unsubscribe(ChannelName::checked("{x}a"), 0);
    dialogue.unsubscribe(ChannelName::checked("c"), 0);
    dialogue.finish(0);
    let expected = [
        "SSUBSCRIBE app:{x}a app:{x}b",
        "SSUBSCRIBE app:c",
        "SSUBSCRIBE app:{x}d",
        "SUNSUBSCRIBE app:{x}a",
        "PING",
        "SUNSUBSCRIBE app:c",
        "PING",
    ];
    assert_eq!(said(&mut dialogue, Duty::Listen), expected);
    let came = ["{x}a", "{x}b", "c", "{x}d"].map(|it| sharded("ssubscribe", &format!("app:{it}")));
    let came: Vec<&str> = came.iter().map(String::as_str).collect();
    let told = replies(&mut dialogue, Duty::Listen, &came, 0);
    let expected = [1, 2, 3, 4].map(|serial| format!("channel {serial} confirmed"));
    assert_eq!(told, expected);
    let content = message("app:c", "[1]").replace("$7\r\nmessage", "$8\r\nsmessage");
    let told = replies(&mut dialogue, Duty::Listen, &[&content], 0);
    assert_eq!(told, ["message c [1]"]);
    dialogue.publish(publication(1, "c"), 0);
    assert_eq!(said(&mut dialogue, Duty::Publish), ["SPUBLISH app:c 1"]);
}

#[test]
fn the_end_of_a_subscription_is_told_from_one_that_redis_has_ended() {
    let ended = sharded("sunsubscribe", "a");
    let moved = "-MOVED 15495 h:1\r\n";
    for came in [
        // Ours alone; ours and its own; its own and an error for ours; an error alone.
        vec![ended.as_str(), PONG],
        vec![&ended, &ended, PONG],
        vec![&ended, moved, PONG],
        vec![moved, PONG],
    ] {
        let mut dialogue = shard("");
        dialogue.unsubscribe(ChannelName::checked("a"), 0);
        dialogue.subscribe(subscription(1, "b"), 0);
        dialogue.finish(0);
        let told = replies(&mut dialogue, Duty::Listen, &came, 0);
        assert_eq!(told, ["a ended"], "{came:?}");
        assert!(hints(&mut dialogue).is_empty(), "{came:?}");
        let subscribed = sharded("ssubscribe", "b");
        let told = replies(&mut dialogue, Duty::Listen, &[&subscribed], 0);
        assert_eq!(told, ["channel 1 confirmed"], "{came:?}");
        // Now it is not asked for, whatever else is outstanding.
        dialogue.subscribe(subscription(2, "c"), 0);
        dialogue.unsubscribe(ChannelName::checked("d"), 0);
        dialogue.finish(0);
        let told = replies(
            &mut dialogue,
            Duty::Listen,
            &[&sharded("sunsubscribe", "b")],
            0,
        );
        assert!(told.is_empty());
        assert_eq!(hints(&mut dialogue), ["ended 3300"]);
        let came = [&*sharded("ssubscribe", "c"), &sharded("sunsubscribe", "b")];
        let told = replies(&mut dialogue, Duty::Listen, &came, 0);
        assert_eq!(told, ["channel 2 confirmed"]);
        assert_eq!(hints(&mut dialogue), ["ended 3300"]);
    }
}

#[test]
fn a_publication_during_an_unsubscription_by_redis_is_unconfirmed() {
    let mut dialogue = shard("");
    for (by, channel) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b")] {
        dialogue.publish(publication(by, channel), 0);
    }
    // Two are published, and may have been before or behind the end.
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n", ":1\r\n"], 0).is_empty());
    dialogue.finish(0);
    let told = replies(
        &mut dialogue,
        Duty::Listen,
        &[&sharded("sunsubscribe", "a")],
        0,
    );
    assert_eq!(told, ["1 failed"]);
    assert_eq!(hints(&mut dialogue), ["ended 15495"]);
    // One that is refused is published elsewhere; one that is published is not known to be heard.
    let came = ["-MOVED 15495 h:2\r\n", ":0\r\n", ":1\r\n"];
    let told = replies(&mut dialogue, Duty::Publish, &came, 0);
    assert_eq!(told, ["4 failed"]);
    assert_eq!(hints(&mut dialogue), ["15495 moved to h:2: Some(3) []"]);
    dialogue.finish(0);
    let told = replies(&mut dialogue, Duty::Listen, &[PONG, PONG], 0);
    assert_eq!(told, ["2 confirmed", "5 confirmed"]);
}

#[test]
fn cluster_replies_to_a_publication() {
    for (error, told, hint) in [
        (
            "MOVED 15495 h:1",
            vec![],
            vec!["15495 moved to h:1: Some(1) []"],
        ),
        (
            "MOVED 15495 :1",
            vec![],
            vec!["15495 moved to same:1: Some(1) []"],
        ),
        (
            "MOVED 15495 ?:1",
            vec![],
            vec!["15495 moved to ?: Some(1) []"],
        ),
        ("ASK 15495 h:1", vec![], vec!["1 again"]),
        ("TRYAGAIN no", vec![], vec!["1 again"]),
        (
            "CLUSTERDOWN no",
            vec!["1 refused: CLUSTERDOWN no"],
            vec!["doubt"],
        ),
        (
            "MASTERDOWN no",
            vec!["1 refused: MASTERDOWN no"],
            vec!["doubt"],
        ),
        ("NOREPLICAS no", vec!["1 refused: NOREPLICAS no"], vec![]),
        ("NOPERM no", vec!["1 refused: NOPERM no"], vec![]),
        ("READONLY no", vec!["both: it is a replica"], vec![]),
    ] {
        let mut dialogue = shard("");
        dialogue.publish(publication(1, "a"), 0);
        let error = format!("-{error}\r\n");
        assert_eq!(
            replies(&mut dialogue, Duty::Publish, &[&error], 0),
            told,
            "{error}"
        );
        assert_eq!(hints(&mut dialogue), hint, "{error}");
        news(&mut dialogue);
        // What nothing waits for any more is not published again.
        dialogue.publish(publication(2, "a"), 0);
        dialogue.closed(Duty::Listen);
        assert_eq!(news(&mut dialogue), ["listening false", "2 failed"]);
        assert!(
            replies(&mut dialogue, Duty::Publish, &[&error], 0)
                .iter()
                .all(|it| !it.starts_with('2'))
        );
        assert!(
            hints(&mut dialogue).iter().all(|it| !it.contains("Some")),
            "{error}"
        );
        // One redis alone is not a cluster: it only refuses.
        let mut dialogue = up("");
        dialogue.publish(publication(1, "a"), 0);
        let told = replies(&mut dialogue, Duty::Publish, &[&error], 0);
        let words = error.trim().trim_start_matches('-');
        assert_eq!(told, [format!("1 refused: {words}")]);
        assert!(hints(&mut dialogue).is_empty());
    }
}

#[test]
fn a_returned_publication_is_unchanged() {
    let mut dialogue = shard("");
    let publication = || Publication {
        since: 7,
        ..publication(1, "a")
    };
    dialogue.publish(publication(), 9);
    let told = replies(&mut dialogue, Duty::Publish, &["-TRYAGAIN no\r\n"], 9);
    assert!(told.is_empty());
    let Some(Hint::Again(again)) = dialogue.hint() else {
        panic!("it is gone");
    };
    assert_eq!(format!("{again:?}"), format!("{:?}", publication()));
}

#[test]
fn cluster_replies_to_a_subscription() {
    for (error, told, hint) in [
        (
            "MOVED 16287 h:1",
            vec![],
            vec!["16287 moved to h:1: None [1, 2]"],
        ),
        (
            "ASK 16287 h:1",
            vec![
                "channel 1 refused: ASK 16287 h:1",
                "channel 2 refused: ASK 16287 h:1",
            ],
            vec!["doubt"],
        ),
        (
            "CLUSTERDOWN no",
            vec![
                "channel 1 refused: CLUSTERDOWN no",
                "channel 2 refused: CLUSTERDOWN no",
            ],
            vec!["doubt"],
        ),
        ("READONLY no", vec!["both: it is a replica"], vec![]),
    ] {
        let mut dialogue = shard("");
        dialogue.subscribe(subscription(1, "{x}a"), 0);
        dialogue.subscribe(subscription(2, "{x}b"), 0);
        dialogue.finish(0);
        said(&mut dialogue, Duty::Listen);
        let error = format!("-{error}\r\n");
        assert_eq!(
            replies(&mut dialogue, Duty::Listen, &[&error], 0),
            told,
            "{error}"
        );
        assert_eq!(hints(&mut dialogue), hint, "{error}");
        assert!(said(&mut dialogue, Duty::Listen).is_empty(), "{error}");
    }
    // What is refused for other reasons is asked for alone, as ever.
    let mut dialogue = shard("");
    dialogue.subscribe(subscription(1, "{x}a"), 0);
    dialogue.subscribe(subscription(2, "{x}b"), 0);
    dialogue.finish(0);
    said(&mut dialogue, Duty::Listen);
    assert!(replies(&mut dialogue, Duty::Listen, &["-NOPERM no\r\n"], 0).is_empty());
    let alone = ["SSUBSCRIBE {x}a", "SSUBSCRIBE {x}b"];
    assert_eq!(said(&mut dialogue, Duty::Listen), alone);
}

#[test]
fn a_cluster_view_may_arrive_in_pieces_behind_other_replies() {
    let mut dialogue = shard("");
    dialogue.publish(publication(1, "a"), 0);
    assert!(dialogue.ask_view(ViewForm::Slots, 0));
    dialogue.publish(publication(2, "b"), 0);
    let expected = ["SPUBLISH a 1", "CLUSTER SLOTS", "SPUBLISH b 1"];
    assert_eq!(said(&mut dialogue, Duty::Publish), expected);
    assert!(replies(&mut dialogue, Duty::Publish, &[":1\r\n"], 0).is_empty());
    let view = b"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:7\r\n";
    for cut in 0..view.len() {
        let step = dialogue.handle_reply(Duty::Publish, &view[..cut], 0);
        assert_eq!(step, Ok(Progress::Starved));
    }
    let step = dialogue.handle_reply(Duty::Publish, view, 0);
    assert_eq!(step, Ok(Progress::Handled(view.len())));
    let hint = hints(&mut dialogue).pop().expect("a view");
    assert!(hint.contains("0..=1") && hint.contains("port: 7"), "{hint}");
    let refused = ["-MOVED 3300 h:1\r\n"];
    assert!(replies(&mut dialogue, Duty::Publish, &refused, 0).is_empty());
    assert_eq!(hints(&mut dialogue), ["3300 moved to h:1: Some(2) []"]);
    // What is not a view breaks the link, and a refusal does not.
    assert!(dialogue.ask_view(ViewForm::Shards, 0));
    let told = replies(&mut dialogue, Duty::Publish, &["-ERR unknown\r\n"], 0);
    assert!(told.is_empty());
    assert_eq!(hints(&mut dialogue), [r#"Refused("ERR unknown")"#]);
    assert!(dialogue.ask_view(ViewForm::Shards, 0));
    let told = replies(&mut dialogue, Duty::Publish, &[OK], 0);
    assert_eq!(told, [format!("one: {}", meaning::OTHER)]);
    dialogue.closed(Duty::Publish);
    assert!(
        !dialogue.ask_view(ViewForm::Shards, 0),
        "it cannot be asked"
    );
}

#[test]
fn the_version_and_the_replicas_are_found_out() {
    let master = "*3\r\n$6\r\nmaster\r\n:9\r\n*1\r\n*3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\n2\r\n";
    for (info, version) in [
        (
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n",
            Some("redis 7.0.15"),
        ),
        (
            "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n",
            Some("valkey 8.0.1"),
        ),
        ("", None),
    ] {
        let mut dialogue = Dialogue::new(LinkIdentity {
            probe: true,
            ..LinkIdentity::default()
        });
        dialogue.opened(Duty::Publish, 0);
        let expected = [
            "CLIENT SETNAME wsify-publishes",
            "ROLE",
            "INFO server",
            "PING",
        ];
        assert_eq!(said(&mut dialogue, Duty::Publish), expected);
        let info = format!("${}\r\n{info}\r\n", info.len());
        let told = replies(&mut dialogue, Duty::Publish, &[OK, master, &info, PONG], 0);
        assert_eq!(told, ["publishing true"]);
        let version = version.map(str::to_owned);
        let replicas = Some(1);
        assert_eq!(*dialogue.facts(), ServerFacts { version, replicas });
    }
    // It need not be allowed.
    let mut dialogue = Dialogue::new(LinkIdentity {
        probe: true,
        ..LinkIdentity::default()
    });
    dialogue.opened(Duty::Publish, 0);
    let no = "-NOPERM no\r\n";
    let told = replies(&mut dialogue, Duty::Publish, &[OK, no, no, PONG], 0);
    assert_eq!(told, ["publishing true"]);
    assert_eq!(*dialogue.facts(), ServerFacts::default());
}

#[test]
fn a_master_that_has_become_a_replica_is_left_without_advice() {
    for kind in [RedisKind::Watched, RedisKind::Shard] {
        let mut dialogue = Dialogue::new(LinkIdentity {
            kind,
            shard: ShardId(3),
            ..LinkIdentity::default()
        });
        dialogue.opened(Duty::Publish, 0);
        let told = replies(&mut dialogue, Duty::Publish, &[OK, REPLICA], 0);
        assert_eq!(told, ["both: it is a replica"]);
    }
}

// -- a program that is replaced

/// Every table above.
const TABLES: &[fn()] = &[
    greeting_with_auth_select_and_setname,
    why_a_link_is_of_no_use,
    a_publication_is_confirmed_behind_the_message,
    messages_that_are_nothing_for_us,
    channels_go_into_one_command_in_order,
    one_refused_channel_does_not_cost_the_others,
    outstanding_commands_fail_when_a_link_breaks,
    a_link_without_a_reply_times_out,
    channels_of_one_slot_go_into_one_command,
    the_end_of_a_subscription_is_told_from_one_that_redis_has_ended,
    a_publication_during_an_unsubscription_by_redis_is_unconfirmed,
    cluster_replies_to_a_publication,
    a_returned_publication_is_unchanged,
    cluster_replies_to_a_subscription,
    a_cluster_view_may_arrive_in_pieces_behind_other_replies,
    the_version_and_the_replicas_are_found_out,
    a_master_that_has_become_a_replica_is_left_without_advice,
];

#[test]
fn a_dialogue_cut_anywhere_goes_on_in_the_next_program() {
    REPLACED.set(true);
    goes_on(include_str!("tests.rs"), TABLES, 2);
}

#[test]
fn every_fact_of_a_dialogue_snapshot_has_an_effect() {
    REPLACED.set(true);
    assert_eq!(facts_without_effect(TABLES), [""; 0]);
}
