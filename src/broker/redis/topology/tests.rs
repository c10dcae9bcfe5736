//! What follows for links and for the hub from what sentinels and nodes say, in tables.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::ops::RangeInclusive;

use super::*;
use crate::broker::news::News;
use crate::broker::redis::tests::{facts_without_effect, forgetting_in_each_record, goes_on};
use crate::config::{Credentials, RedisDsn};
use crate::effect::{ConnId, Publication, PublishedBy, Subscription, SubscriptionId};
use crate::secret::Secret;
use crate::snapshot::{SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::wire::channel_name::ChannelName;

const OK: &str = "+OK\r\n";
const PONG: &str = "+PONG\r\n";
const MASTER: &str = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
const REPLICA: &str = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$7\r\nconnect\r\n:-1\r\n";

fn at(host: &str, port: u16) -> RedisAddress {
    let host = host.to_owned();
    RedisAddress::Tcp { host, port }
}

thread_local! {
    /// Whether the program is replaced at every step, and at every byte of a reply.
    static REPLACED: Cell<bool> = const { Cell::new(false) };
    /// What the last topology was made of.
    static DSN: RefCell<Option<RedisDsn>> = const { RefCell::new(None) };
}

/// A time behind all others here.
const LATER: Millis = 100_000;
/// Pieces that a reply comes in, at most: one for each of its bytes if it is a short one. With a long one too much is to
/// be read again.
const PIECES: usize = 40;
const LONG: usize = 10_000;

fn saved(topology: &Topology) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(Vec::new(), &SnapshotHeader::new(0)).unwrap();
    topology.save(&mut writer).unwrap();
    writer.finish().unwrap()
}

fn restored(bytes: &[u8]) -> Result<Topology, SnapshotError> {
    let dsn = DSN.with_borrow(|dsn| dsn.clone().unwrap());
    let mut reader = SnapshotReader::new(bytes, bytes.len() as u64)?;
    let topology = Topology::restore(&dsn, String::new(), 1, &mut reader, LATER)?;
    match reader.read_next()? {
        None => Ok(topology),
        Some(_) => Err(SnapshotError::new("something is left")),
    }
}

/// Hands the topology over to the next program, if that is tested. What links and the log have to take before that goes on
/// beside it.
fn hand_over(topology: &mut Topology) {
    if !REPLACED.get() {
        return;
    }
    let (orders, notices) = (
        std::mem::take(&mut topology.orders),
        std::mem::take(&mut topology.notices),
    );
    let snapshot = forgetting_in_each_record(&saved(topology));
    *topology = Topology {
        orders,
        notices,
        random: topology.random.clone(),
        ..restored(&snapshot).unwrap()
    };
}

fn topology(servers: RedisServers, tls: bool) -> Topology {
    let credentials = None;
    let dsn = RedisDsn {
        servers,
        tls,
        credentials,
        db: 0,
        unused: Vec::new(),
    };
    DSN.set(Some(dsn.clone()));
    Topology::new(&dsn, String::new(), false, 1, 0)
}

/// A cluster that is known by two seeds.
fn cluster() -> Topology {
    let seeds = vec![at("s", 1), at("s", 2)];
    let mut topology = topology(RedisServers::Cluster(seeds), false);
    topology.turn(0);
    topology
}

fn watched(sentinels: u16) -> Topology {
    topology(
        RedisServers::Sentinel {
            sentinels: (1..=sentinels).map(|port| at("s", port)).collect(),
            master: "mymaster".into(),
            credentials: Some(Credentials {
                user: Some("ann".into()),
                password: Secret::new("pw"),
            }),
        },
        false,
    )
}

fn link(id: LinkId) -> String {
    match id {
        LinkId::Master(shard, duty) => format!("{}-{}", shard.0, duty.name()),
        LinkId::Scout(nth) => format!("scout{nth}"),
    }
}

/// What is to be done with links.
fn orders(topology: &mut Topology) -> Vec<String> {
    hand_over(topology);
    let mut all = Vec::new();
    while let Some(order) = topology.order() {
        all.push(match order {
            Order::Open(id, address) => format!("open {} {address}", link(id)),
            Order::Close(id) => format!("close {}", link(id)),
        });
    }
    all
}

/// What the hub is told.
fn news(topology: &mut Topology) -> Vec<String> {
    hand_over(topology);
    let mut all = Vec::new();
    while let Some(news) = topology.news() {
        all.push(match news {
            News::Shard(id, name) => format!("{} is {}", id.0, name.as_deref().unwrap_or("gone")),
            News::Slots(slots, shard) => {
                let shard = shard.map_or("none".to_owned(), |id| id.0.to_string());
                format!("{}-{} at {shard}", slots.start(), slots.end())
            }
            News::Publishing(id, up) => format!("{} publishing {up}", id.0),
            News::Listening(id, up) => format!("{} listening {up}", id.0),
            News::Published(by, receipt) => format!("{} {receipt:?}", by.slot().unwrap()),
            News::Returned(publication) => {
                assert_eq!(*publication.content, *b"1");
                format!("{} returned", publication.from.slot().unwrap())
            }
            News::Subscribed(id, receipt) => format!("channel {} {receipt:?}", id.serial),
            News::Unsubscribed(channel) => format!("{channel} ended"),
            News::Dropped(_) | News::Message(_) => unreachable!("{news:?}"),
        });
    }
    all
}

/// What waits to be sent on a link, the words of commands.
fn said(topology: &mut Topology, id: LinkId) -> Vec<String> {
    hand_over(topology);
    let out = std::mem::take(topology.out(id).expect("a link"));
    let text = String::from_utf8(out).unwrap();
    let mut lines = text.lines();
    let mut commands = Vec::new();
    while let Some(count) = lines.next().and_then(|line| line.strip_prefix('*')) {
        let parts = (0..count.parse().unwrap()).map(|_| lines.nth(1).unwrap());
        commands.push(parts.collect::<Vec<_>>().join(" "));
    }
    commands
}

/// What the log is to say next, but for masters.
fn notice(topology: &mut Topology) -> Option<Notice> {
    loop {
        match topology.notice()? {
            Notice::Master { .. } => {}
            other => return Some(other),
        }
    }
}

/// A server replies on a link. Returns what is wrong with it.
fn reply(topology: &mut Topology, id: LinkId, replies: &[&str], now: Millis) -> Option<String> {
    let bytes = replies.concat();
    let mut rest = bytes.as_bytes();
    while !rest.is_empty() {
        match handle_reply(topology, id, rest, now) {
            Ok(Progress::Starved) => panic!("half a reply: {}", rest.escape_ascii()),
            Ok(Progress::Handled(count)) => rest = &rest[count..],
            Ok(Progress::Message(message)) => rest = &rest[message.size..],
            Err(fault) => return Some(fault.why),
        }
    }
    None
}

/// Understands what comes first, as it comes in.
fn handle_reply(
    topology: &mut Topology,
    id: LinkId,
    bytes: &[u8],
    now: Millis,
) -> Result<Progress, LinkFault> {
    let (size, most) = match REPLACED.get() {
        true if bytes.len() > LONG => (bytes.len(), 2),
        true => (bytes.len(), PIECES),
        false => (0, 1),
    };
    for end in (0..size).step_by(size / most + 1) {
        hand_over(topology);
        let step = topology.handle_reply(id, &bytes[..end], now);
        if step != Ok(Progress::Starved) {
            hand_over(topology);
            return step;
        }
    }
    let step = topology.handle_reply(id, bytes, now);
    hand_over(topology);
    step
}

/// Slots and the nodes that have them, the master first.
type Stretch<'n> = (RangeInclusive<u16>, &'n [(&'n str, u16)]);

/// An answer to `CLUSTER SLOTS` or `SHARDS`: of each shard its slots and its nodes, the master first.
fn view(shards: &[Stretch]) -> String {
    let mut view = format!("*{}\r\n", shards.len());
    for (slots, nodes) in shards {
        let (first, last) = (slots.start(), slots.end());
        let _ = write!(view, "*4\r\n$5\r\nslots\r\n*2\r\n:{first}\r\n:{last}\r\n");
        let _ = write!(view, "$5\r\nnodes\r\n*{}\r\n", nodes.len());
        for (nth, (host, port)) in nodes.iter().enumerate() {
            let role = if nth == 0 { "master" } else { "replica" };
            let _ = write!(
                view,
                "*8\r\n$4\r\nport\r\n:{port}\r\n$8\r\nendpoint\r\n${}\r\n{host}\r\n$4\r\nrole\r\n${}\r\n{role}\r\n\
                 $6\r\nhealth\r\n$6\r\nonline\r\n",
                host.len(),
                role.len()
            );
        }
    }
    view
}

/// Both links to a shard are up.
fn up(topology: &mut Topology, shard: u16, now: Millis) {
    for duty in Duty::BOTH {
        let id = LinkId::Master(ShardId(shard), duty);
        topology.opened(id, now);
        said(topology, id);
        assert_eq!(reply(topology, id, &[OK, MASTER, PONG], now), None);
    }
}

fn publishing(shard: u16) -> LinkId {
    LinkId::Master(ShardId(shard), Duty::Publish)
}

fn listening(shard: u16) -> LinkId {
    LinkId::Master(ShardId(shard), Duty::Listen)
}

/// Two masters, `m:1` with the first half of the slots and `m:2` with the rest, both up.
fn two_masters() -> Topology {
    // This is tested by itself.
    let replaced = REPLACED.replace(false);
    let mut topology = cluster();
    topology.opened(LinkId::Scout(0), 0);
    let halves: &[_] = &[(0..=8_191, &[("m", 1)][..]), (8_192..=16_383, &[("m", 2)])];
    assert_eq!(
        reply(&mut topology, LinkId::Scout(0), &[OK, &view(halves)], 0),
        None
    );
    orders(&mut topology);
    up(&mut topology, 0, 0);
    up(&mut topology, 1, 0);
    // While they were not up it was going to be asked again soon.
    topology.turn(250);
    assert_eq!(
        reply(&mut topology, publishing(0), &[&view(halves)], 250),
        None
    );
    said(&mut topology, publishing(0));
    news(&mut topology);
    REPLACED.set(replaced);
    topology
}

/// Of the slot 15495 the channel `a`, of the slot 3300 the channel `b`.
fn publication(by: u32, channel: &str) -> Publication {
    let generation = 0;
    Publication {
        from: PublishedBy::Connection(ConnId {
            slot: by,
            generation,
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

#[test]
fn one_redis_is_one_shard() {
    let mut topology = topology(RedisServers::One(at("h", 6_379)), false);
    assert_eq!(news(&mut topology), ["0 is h:6379", "0-0 at 0"]);
    let expected = ["open 0-publishing h:6379", "open 0-listening h:6379"];
    assert_eq!(orders(&mut topology), expected);
    up(&mut topology, 0, 0);
    assert_eq!(
        news(&mut topology),
        ["0 publishing true", "0 listening true"]
    );
    topology.publish(publication(1, "a"), 0);
    assert_eq!(said(&mut topology, publishing(0)), ["PUBLISH a 1"]);
    topology.closed(publishing(0), 0);
    topology.turn(60_000);
    assert!(
        orders(&mut topology).is_empty(),
        "the link comes back by itself"
    );
    assert!(topology.is_lost());
}

// -- a cluster

#[test]
fn a_cluster_is_found_through_its_seeds() {
    let mut topology = cluster();
    assert_eq!(orders(&mut topology), ["open scout0 s:1"]);
    // One is not there, one refuses, one speaks something else, one is not a cluster; a round of them takes a pause.
    topology.closed(LinkId::Scout(0), 10);
    assert_eq!(orders(&mut topology), ["close scout0"]);
    topology.turn(10);
    assert_eq!(orders(&mut topology), ["open scout0 s:2"]);
    topology.opened(LinkId::Scout(0), 10);
    let expected = ["CLIENT SETNAME wsify-scouts", "CLUSTER SHARDS"];
    assert_eq!(said(&mut topology, LinkId::Scout(0)), expected);
    let refused = "-ERR This instance has cluster support disabled\r\n";
    assert_eq!(
        reply(&mut topology, LinkId::Scout(0), &[OK, refused], 20),
        None
    );
    let notice = notice(&mut topology);
    assert!(
        matches!(&notice, Some(Notice::RefusedView { node, why }) if node == "s:2" && why.contains("disabled")),
        "{notice:?}"
    );
    assert_eq!(orders(&mut topology), ["close scout0"]);
    assert!(topology.is_lost());
    topology.turn(20);
    assert!(orders(&mut topology).is_empty());
    let again = topology.next_deadline().expect("they are asked again");
    assert!((70..=120).contains(&again), "{again}");
    topology.turn(again);
    assert_eq!(orders(&mut topology), ["open scout0 s:1"]);
    topology.opened(LinkId::Scout(0), again);
    // It is asked in the other way, too.
    assert_eq!(
        said(&mut topology, LinkId::Scout(0)).pop().unwrap(),
        "CLUSTER SLOTS"
    );
    let slots = "*1\r\n*4\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:7\r\n*2\r\n$1\r\nr\r\n:8\r\n";
    assert_eq!(
        reply(&mut topology, LinkId::Scout(0), &[OK, slots], again),
        None
    );
    // Without a host it is the one that was asked.
    let expected = [
        "open 0-publishing s:7",
        "open 0-listening s:7",
        "close scout0",
    ];
    assert_eq!(orders(&mut topology), expected);
    assert_eq!(news(&mut topology), ["0 is s:7", "0-16383 at 0"]);
    assert!(!topology.is_lost());
}

#[test]
fn a_node_that_hangs_does_not_keep_the_others_from_being_asked() {
    let mut topology = cluster();
    orders(&mut topology);
    topology.opened(LinkId::Scout(0), 10);
    // Half of a view has come.
    let whole = view(&[(0..=16_383, &[("m", 1)])]);
    assert_eq!(reply(&mut topology, LinkId::Scout(0), &[OK], 20), None);
    let half = &whole.as_bytes()[..whole.len() / 2];
    assert_eq!(
        topology.handle_reply(LinkId::Scout(0), half, 20),
        Ok(Progress::Starved)
    );
    topology.turn(1_999);
    assert!(orders(&mut topology).is_empty());
    assert_eq!(topology.next_deadline(), Some(2_000));
    topology.turn(2_000);
    assert_eq!(orders(&mut topology), ["close scout0", "open scout0 s:2"]);
}

#[test]
fn hostile_views_change_nothing() {
    let addresses: Vec<(&str, u16)> = (1..=1_001).map(|port| ("m", port)).collect();
    let many: Vec<Stretch> = addresses
        .iter()
        .map(|address| (address.1..=address.1, std::slice::from_ref(address)))
        .collect();
    let crowd: Vec<(&str, u16)> = (1..=9_999).map(|port| ("n", port)).collect();
    let node = "*6\r\n$4\r\nport\r\n:1\r\n$2\r\nip\r\n$1\r\nn\r\n$4\r\nrole\r\n$7\r\nreplica\r\n";
    let flood = format!(
        "*1\r\n*2\r\n$5\r\nnodes\r\n*10000\r\n{}",
        node.repeat(10_000)
    );
    for (hostile, why) in [
        (view(&[]), "names no master with a slot"),
        (view(&[(0..=16_383, &[])]), "names no master with a slot"),
        (
            view(&[(0..=16_383, &[("a/b", 1)])]),
            "names no master with a slot",
        ),
        (view(&many), "names 1001 masters"),
        (
            view(&[(0..=16_383, &crowd)]).replace("master", "what??"),
            "unexpected reply",
        ),
        (flood, "unexpected reply"),
        ("+OK\r\n".to_owned(), "unexpected reply"),
        (
            "*1\r\n*2\r\n$5\r\nslots\r\n*2\r\n:9\r\n:8\r\n".to_owned(),
            "unexpected reply",
        ),
    ] {
        let mut topology = two_masters();
        topology.turn(10_250);
        assert_eq!(said(&mut topology, publishing(1)), ["CLUSTER SHARDS"]);
        let fault = reply(&mut topology, publishing(1), &[&hostile], 10_250);
        let said = match notice(&mut topology) {
            Some(Notice::RefusedView { why, .. }) => why,
            _ => fault.unwrap_or_default(),
        };
        assert!(said.contains(why), "{said}, {why}");
        assert!(news(&mut topology).is_empty() && orders(&mut topology).is_empty());
    }
}

#[test]
fn addresses_that_do_not_exist_take_only_their_slots() {
    let mut topology = two_masters();
    topology.turn(10_250);
    let new: &[_] = &[
        (0..=8_191, &[("m", 1)][..]),
        (8_192..=16_383, &[("nowhere", 9)]),
    ];
    assert_eq!(
        reply(&mut topology, publishing(1), &[&view(new)], 10_250),
        None
    );
    let expected = ["2 is nowhere:9", "8192-16383 at 2"];
    assert_eq!(news(&mut topology), expected);
    let expected = ["open 2-publishing nowhere:9", "open 2-listening nowhere:9"];
    assert_eq!(orders(&mut topology), expected);
    topology.closed(publishing(2), 10_250);
    topology.closed(listening(2), 10_250);
    topology.publish(publication(1, "a"), 10_250);
    topology.publish(publication(2, "b"), 10_250);
    assert_eq!(news(&mut topology), ["1 Failed"]);
    assert_eq!(
        said(&mut topology, publishing(0)).pop().unwrap(),
        "SPUBLISH b 1"
    );
    // The one that is there is asked again soon.
    topology.turn(10_500);
    assert_eq!(said(&mut topology, publishing(0)), ["CLUSTER SHARDS"]);
}

#[test]
fn a_master_without_slots_is_left_a_little_later() {
    let mut topology = two_masters();
    topology.subscribe(subscription(1, "a"), 300);
    topology.finish(300);
    let subscribed = "*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n";
    let came = reply(&mut topology, listening(1), &[subscribed], 300);
    assert_eq!(came, None);
    topology.publish(publication(1, "a"), 10_200);
    news(&mut topology);
    topology.turn(10_250);
    said(&mut topology, publishing(1));
    let all = view(&[(0..=16_383, &[("m", 1)])]);
    // The answer to the publication comes before the view; the member here has not heard it yet.
    let came = reply(&mut topology, publishing(1), &[":1\r\n", &all], 10_250);
    assert_eq!(came, None);
    assert_eq!(news(&mut topology), ["8192-16383 at 0"]);
    assert!(orders(&mut topology).is_empty());
    topology.finish(10_250);
    let pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    assert_eq!(reply(&mut topology, listening(1), &[pong], 10_260), None);
    assert_eq!(news(&mut topology), ["1 Confirmed"]);
    assert!(topology.next_deadline() <= Some(13_250));
    topology.turn(13_249);
    assert!(orders(&mut topology).is_empty());
    topology.turn(13_250);
    let expected = ["close 1-publishing", "close 1-listening"];
    assert_eq!(orders(&mut topology), expected);
    let expected = ["1 publishing false", "1 listening false", "1 is gone"];
    assert_eq!(news(&mut topology), expected);
    // One that has slots again stays.
    let mut topology = two_masters();
    topology.turn(10_250);
    assert_eq!(reply(&mut topology, publishing(1), &[&all], 10_250), None);
    topology.publish(publication(1, "a"), 10_300);
    let moved = "-MOVED 15495 m:2\r\n";
    assert_eq!(reply(&mut topology, publishing(0), &[moved], 10_300), None);
    topology.turn(13_250);
    assert!(orders(&mut topology).is_empty());
}

#[test]
fn a_publication_follows_its_slot() {
    let mut topology = two_masters();
    topology.publish(publication(1, "a"), 0);
    said(&mut topology, publishing(1));
    assert_eq!(
        reply(&mut topology, publishing(1), &["-MOVED 15495 m:1\r\n"], 0),
        None
    );
    assert_eq!(news(&mut topology), ["15495-15495 at 0", "1 returned"]);
    topology.publish(publication(1, "a"), 0);
    assert_eq!(said(&mut topology, publishing(0)), ["SPUBLISH a 1"]);
    // To a master that was not known.
    assert_eq!(
        reply(&mut topology, publishing(0), &["-MOVED 15495 :3\r\n"], 0),
        None
    );
    assert_eq!(
        news(&mut topology),
        ["2 is m:3", "15495-15495 at 2", "1 returned"]
    );
    let expected = ["open 2-publishing m:3", "open 2-listening m:3"];
    assert_eq!(orders(&mut topology), expected);
    // A late answer of the first one changes nothing.
    topology.publish(publication(2, "b"), 0);
    assert_eq!(
        reply(&mut topology, publishing(0), &["-MOVED 15495 m:1\r\n"], 0),
        None
    );
    assert_eq!(news(&mut topology), ["2 returned"]);
}

#[test]
fn subscriptions_follow_their_slot() {
    let mut topology = two_masters();
    topology.subscribe(subscription(1, "{a}1"), 0);
    topology.subscribe(subscription(2, "{a}2"), 0);
    topology.finish(0);
    assert_eq!(said(&mut topology, listening(1)), ["SSUBSCRIBE {a}1 {a}2"]);
    assert_eq!(
        reply(&mut topology, listening(1), &["-MOVED 15495 m:1\r\n"], 0),
        None
    );
    let expected = ["15495-15495 at 0", "channel 1 Failed", "channel 2 Failed"];
    assert_eq!(news(&mut topology), expected);
    topology.subscribe(subscription(3, "{a}1"), 0);
    topology.finish(0);
    assert_eq!(said(&mut topology, listening(0)), ["SSUBSCRIBE {a}1"]);
}

#[test]
fn nodes_that_name_each_other_or_themselves_are_not_followed_for_ever() {
    let mut topology = two_masters();
    let now = 6_000;
    for turn in 0..5 {
        topology.publish(publication(1, "a"), now);
        let (from, to) = if turn % 2 == 0 { (1, 1) } else { (0, 2) };
        let moved = format!("-MOVED 15495 m:{to}\r\n");
        assert_eq!(reply(&mut topology, publishing(from), &[&moved], now), None);
        assert_eq!(news(&mut topology).last().unwrap(), "1 returned");
    }
    topology.publish(publication(1, "a"), now);
    let moved = ["-MOVED 15495 m:2\r\n"];
    assert_eq!(reply(&mut topology, publishing(0), &moved, now), None);
    assert_eq!(news(&mut topology), [r#"1 Refused("MOVED 15495 m:2")"#]);
    // Itself: nothing is known of the slot any more, until a view comes.
    let mut topology = two_masters();
    topology.publish(publication(1, "a"), 0);
    assert_eq!(
        reply(&mut topology, publishing(1), &["-MOVED 15495 m:2\r\n"], 0),
        None
    );
    assert_eq!(news(&mut topology), ["15495-15495 at none", "1 returned"]);
    topology.publish(publication(1, "a"), 0);
    assert_eq!(news(&mut topology), ["1 Failed"]);
}

#[test]
fn a_slot_that_is_about_to_move_is_tried_again_a_little_later() {
    for error in ["ASK 15495 m:1", "TRYAGAIN no"] {
        let mut topology = two_masters();
        topology.publish(publication(1, "a"), 0);
        let error = format!("-{error}\r\n");
        assert_eq!(reply(&mut topology, publishing(1), &[&error], 1_000), None);
        topology.turn(1_099);
        assert!(news(&mut topology).is_empty());
        assert!(topology.next_deadline() <= Some(1_100));
        topology.turn(1_100);
        assert_eq!(news(&mut topology), ["1 returned"]);
    }
}

#[test]
fn a_slot_without_owner_is_looked_for_and_a_masters_own_view_wins() {
    let mut topology = two_masters();
    for _ in 0..3 {
        let ended = "*3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n";
        assert_eq!(reply(&mut topology, listening(1), &[ended], 1_000), None);
    }
    assert_eq!(news(&mut topology), ["15495-15495 at none"]);
    // It knows best.
    topology.turn(1_000);
    assert_eq!(said(&mut topology, publishing(1)), ["CLUSTER SHARDS"]);
    let moved: &[_] = &[
        (0..=8_191, &[("m", 1)][..]),
        (15_495..=15_495, &[("m", 1)]),
        (8_192..=15_494, &[("m", 2)]),
        (15_496..=16_383, &[("m", 2)]),
    ];
    assert_eq!(
        reply(&mut topology, publishing(1), &[&view(moved)], 1_000),
        None
    );
    assert_eq!(news(&mut topology), ["15495-15495 at 0"]);
    // The other one is late.
    topology.turn(11_000);
    assert_eq!(
        said(&mut topology, publishing(0)).pop().unwrap(),
        "CLUSTER SHARDS"
    );
    let halves: &[_] = &[(0..=8_191, &[("m", 1)][..]), (8_192..=16_383, &[("m", 2)])];
    assert_eq!(
        reply(&mut topology, publishing(0), &[&view(halves)], 3_900),
        None
    );
    assert!(news(&mut topology).is_empty());
    topology.turn(20_000);
    said(&mut topology, publishing(0));
    said(&mut topology, publishing(1));
    assert_eq!(
        reply(&mut topology, publishing(1), &[&view(halves)], 20_000),
        None
    );
    assert_eq!(news(&mut topology), ["15495-15495 at 1"]);
}

#[test]
fn a_master_that_hangs_has_the_others_asked() {
    let mut topology = two_masters();
    topology.publish(publication(1, "a"), 3_000);
    assert_eq!(topology.next_deadline(), Some(4_000));
    topology.turn(4_000);
    // Not the one that hangs, however often.
    for now in [4_000, 4_250, 4_500] {
        topology.turn(now);
        assert_eq!(
            said(&mut topology, publishing(0)),
            ["CLUSTER SHARDS"],
            "{now}"
        );
        let halves: &[_] = &[(0..=8_191, &[("m", 1)][..]), (8_192..=16_383, &[("m", 2)])];
        assert_eq!(
            reply(&mut topology, publishing(0), &[&view(halves)], now),
            None
        );
        assert!(topology.next_deadline() > Some(now), "it sleeps");
    }
    // Another one has its slots.
    topology.turn(4_750);
    let other: &[_] = &[(0..=8_191, &[("m", 1)][..]), (8_192..=16_383, &[("m", 3)])];
    assert_eq!(
        reply(&mut topology, publishing(0), &[&view(other)], 4_750),
        None
    );
    let expected = [
        "2 is m:3",
        "8192-16383 at 2",
        "1 publishing false",
        "1 Failed",
        "1 listening false",
        "1 is gone",
    ];
    assert_eq!(news(&mut topology), expected);
}

#[test]
fn a_view_that_will_not_come_is_asked_for_elsewhere_and_not_too_often() {
    let mut topology = two_masters();
    topology.turn(10_250);
    assert_eq!(said(&mut topology, publishing(1)), ["CLUSTER SHARDS"]);
    topology.closed(publishing(1), 10_300);
    topology.turn(10_300);
    assert_eq!(said(&mut topology, publishing(0)), ["CLUSTER SHARDS"]);
    // The last view came at 250.
    let mut topology = two_masters();
    topology.publish(publication(1, "a"), 300);
    let down = ["-CLUSTERDOWN no\r\n"];
    assert_eq!(reply(&mut topology, publishing(1), &down, 300), None);
    for (now, asked) in [(349, 0), (350, 1)] {
        topology.turn(now);
        let mut said = said(&mut topology, publishing(1));
        said.retain(|command| command.starts_with("CLUSTER"));
        assert_eq!(said.len(), asked, "{now}");
    }
}

#[test]
fn nodes_of_the_last_view_are_asked_when_no_master_can_be() {
    let mut topology = cluster();
    topology.opened(LinkId::Scout(0), 0);
    let nodes: &[(&str, u16)] = &[("m", 1), ("r", 2), ("s", 2)];
    let only = view(&[(0..=16_383, nodes)]);
    assert_eq!(
        reply(&mut topology, LinkId::Scout(0), &[OK, &only], 0),
        None
    );
    orders(&mut topology);
    for duty in Duty::BOTH {
        topology.closed(LinkId::Master(ShardId(0), duty), 0);
    }
    let mut asked = Vec::new();
    let mut now = 0;
    while asked.len() < 5 {
        now = topology.next_deadline().expect("it goes on").max(now);
        topology.turn(now);
        let opened = orders(&mut topology);
        asked.extend(opened.into_iter().filter(|order| order.starts_with("open")));
        topology.closed(LinkId::Scout(0), now);
    }
    let expected = ["s:1", "s:2", "m:1", "r:2", "s:1"].map(|it| format!("open scout0 {it}"));
    assert_eq!(asked, expected);
}

#[test]
fn with_tls_the_other_port_counts() {
    for (tls, port) in [(true, 7), (false, 6)] {
        let mut topology = topology(RedisServers::Cluster(vec![at("s", 1)]), tls);
        topology.turn(0);
        topology.opened(LinkId::Scout(0), 0);
        let view = view(&[(0..=16_383, &[("m", 6)])]);
        let view = view.replace(
            "*8\r\n$4\r\nport",
            "*10\r\n$8\r\ntls-port\r\n:7\r\n$4\r\nport",
        );
        assert_eq!(
            reply(&mut topology, LinkId::Scout(0), &[OK, &view], 0),
            None
        );
        assert_eq!(news(&mut topology)[0], format!("0 is m:{port}"));
    }
}

// -- sentinels

fn named(port: u16) -> String {
    let port = port.to_string();
    format!("*2\r\n$1\r\nm\r\n${}\r\n{port}\r\n", port.len())
}

fn event(kind: &str, content: &str) -> String {
    let (length, size) = (kind.len(), content.len());
    format!("*3\r\n${length}\r\n{kind}\r\n$14\r\n+switch-master\r\n${size}\r\n{content}\r\n")
}

/// A sentinel lets us in, and names this master.
fn names(topology: &mut Topology, nth: usize, port: u16, now: Millis) -> Option<String> {
    let subscribed = event("subscribe", "x").replace("$1\r\nx", ":1");
    reply(
        topology,
        LinkId::Scout(nth),
        &[OK, &named(port), &subscribed],
        now,
    )
}

#[test]
fn the_master_is_found_through_sentinels() {
    let mut topology = watched(2);
    let expected = ["open scout0 s:1", "open scout1 s:2"];
    assert_eq!(orders(&mut topology), expected);
    assert_eq!(news(&mut topology), ["0-0 at 0"]);
    topology.publish(publication(1, "a"), 0);
    assert_eq!(news(&mut topology), ["1 Failed"]);
    for nth in 0..2 {
        let id = LinkId::Scout(nth);
        topology.opened(id, 10);
        assert_eq!(said(&mut topology, id), ["AUTH ann pw"]);
        assert_eq!(reply(&mut topology, id, &[OK], 10), None);
        let expected = [
            "CLIENT SETNAME wsify-scouts",
            "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster",
            "SUBSCRIBE +switch-master",
        ];
        assert_eq!(said(&mut topology, id), expected);
    }
    assert_eq!(names(&mut topology, 0, 1, 20), None);
    assert!(
        orders(&mut topology).is_empty(),
        "the other one is waited for"
    );
    assert_eq!(names(&mut topology, 1, 1, 30), None);
    let expected = ["open 0-publishing m:1", "open 0-listening m:1"];
    assert_eq!(orders(&mut topology), expected);
    assert_eq!(news(&mut topology), ["0 is m:1"]);
    up(&mut topology, 0, 30);
    // They are asked again now and then, on the same link.
    said(&mut topology, LinkId::Scout(0));
    topology.turn(10_029);
    assert!(said(&mut topology, LinkId::Scout(0)).is_empty());
    topology.turn(10_030);
    let expected = [
        "UNSUBSCRIBE +switch-master",
        "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster",
        "SUBSCRIBE +switch-master",
    ];
    assert_eq!(said(&mut topology, LinkId::Scout(0)), expected);
}

#[test]
fn a_sentinel_that_hangs_is_not_waited_for_long() {
    let mut topology = watched(2);
    orders(&mut topology);
    for nth in 0..2 {
        topology.opened(LinkId::Scout(nth), 10);
        assert_eq!(reply(&mut topology, LinkId::Scout(nth), &[OK], 10), None);
    }
    assert_eq!(names(&mut topology, 0, 1, 20), None);
    topology.turn(319);
    assert!(orders(&mut topology).is_empty());
    topology.turn(320);
    assert_eq!(orders(&mut topology).len(), 2);
}

#[test]
fn a_master_that_most_sentinels_do_not_name_any_more_is_left() {
    let mut topology = found(3);
    topology.turn(10_000);
    for (nth, port) in [(0, 2), (1, 1), (2, 2)] {
        assert_eq!(again(&mut topology, nth, port, 10_010), None);
    }
    assert_eq!(orders(&mut topology)[2], "open 0-publishing m:2");
}

/// A sentinel that was asked once more names this master.
fn again(topology: &mut Topology, nth: usize, port: u16, now: Millis) -> Option<String> {
    let (end, begin) = (event("unsubscribe", "x"), event("subscribe", "x"));
    let [end, begin] = [end, begin].map(|it| it.replace("$1\r\nx", ":1"));
    let replies = [&*end, &named(port), &begin];
    reply(topology, LinkId::Scout(nth), &replies, now)
}

/// The master `m:1` is up, and so are this many sentinels.
fn found(sentinels: u16) -> Topology {
    let mut topology = watched(sentinels);
    for nth in 0..usize::from(sentinels) {
        topology.opened(LinkId::Scout(nth), 0);
        assert_eq!(reply(&mut topology, LinkId::Scout(nth), &[OK], 0), None);
    }
    for nth in 0..usize::from(sentinels) {
        names(&mut topology, nth, 1, 0);
        said(&mut topology, LinkId::Scout(nth));
    }
    up(&mut topology, 0, 0);
    orders(&mut topology);
    news(&mut topology);
    topology
}

#[test]
fn a_new_master_is_followed_when_it_is_announced() {
    let mut topology = found(2);
    topology.publish(publication(1, "a"), 0);
    for other in ["other m 1 m 2", "mymaster m 1 m", ""] {
        let other = event("message", other);
        assert_eq!(reply(&mut topology, LinkId::Scout(0), &[&other], 0), None);
        assert!(orders(&mut topology).is_empty());
    }
    let announced = event("message", "mymaster m 1 m 2");
    assert_eq!(
        reply(&mut topology, LinkId::Scout(0), &[&announced], 0),
        None
    );
    let expected = [
        "close 0-publishing",
        "close 0-listening",
        "open 0-publishing m:2",
        "open 0-listening m:2",
    ];
    assert_eq!(orders(&mut topology), expected);
    let expected = [
        "0 publishing false",
        "1 Failed",
        "0 listening false",
        "0 is gone",
        "0 is m:2",
    ];
    assert_eq!(news(&mut topology), expected);
    // The other one says the same.
    assert_eq!(
        reply(&mut topology, LinkId::Scout(1), &[&announced], 0),
        None
    );
    assert!(orders(&mut topology).is_empty() && news(&mut topology).is_empty());
}

#[test]
fn sentinels_are_asked_when_a_link_breaks_and_what_is_no_master_is_left() {
    let mut topology = found(2);
    topology.closed(publishing(0), 100);
    topology.turn(100);
    for nth in 0..2 {
        assert_eq!(said(&mut topology, LinkId::Scout(nth)).len(), 3);
    }
    assert_eq!(again(&mut topology, 0, 1, 110), None);
    assert_eq!(again(&mut topology, 1, 2, 110), None);
    // The one that was not tried comes first.
    assert_eq!(orders(&mut topology)[2], "open 0-publishing m:2");
    topology.opened(publishing(0), 120);
    let fault = reply(&mut topology, publishing(0), &[OK, REPLICA], 120);
    assert_eq!(fault.unwrap(), "it is a replica");
    topology.closed(publishing(0), 120);
    topology.turn(120);
    assert_eq!(again(&mut topology, 0, 1, 130), None);
    assert_eq!(again(&mut topology, 1, 2, 130), None);
    assert_eq!(orders(&mut topology)[2], "open 0-publishing m:1");
}

#[test]
fn a_sentinel_that_refuses_or_knows_nothing_is_named() {
    let mut topology = watched(1);
    topology.opened(LinkId::Scout(0), 0);
    let fault = reply(&mut topology, LinkId::Scout(0), &["-WRONGPASS pw\r\n"], 0);
    let expected = "it refuses sentinel_user and sentinel_password of --broker-dsn (WRONGPASS)";
    assert_eq!(fault.unwrap(), expected);
    topology.closed(LinkId::Scout(0), 0);
    assert!(topology.is_lost());
    for (answer, expected) in [
        ("*-1\r\n", "it knows no master of that name"),
        ("-NOAUTH no\r\n", "NOAUTH no"),
    ] {
        let mut topology = watched(1);
        topology.opened(LinkId::Scout(0), 0);
        assert_eq!(
            reply(&mut topology, LinkId::Scout(0), &[OK, OK, answer], 0),
            None
        );
        let Some(Notice::NoMaster { sentinel, why }) = notice(&mut topology) else {
            panic!("nothing is said");
        };
        assert_eq!((sentinel.as_str(), why.as_str()), ("s:1", expected));
    }
    // What a sentinel says that makes no sense.
    let mut topology = watched(1);
    topology.opened(LinkId::Scout(0), 0);
    let fault = reply(
        &mut topology,
        LinkId::Scout(0),
        &[OK, OK, "*1\r\n$1\r\nm\r\n"],
        0,
    );
    assert!(fault.is_some());
}

#[test]
fn a_silent_sentinel_is_asked_whether_it_is_there() {
    let mut topology = found(1);
    let id = LinkId::Scout(0);
    assert_eq!(topology.tick(id, 4_999), Ok(()));
    assert!(said(&mut topology, id).is_empty());
    assert_eq!(topology.tick(id, 5_000), Ok(()));
    assert_eq!(said(&mut topology, id), ["PING"]);
    // An ACL that forbids the question proves it, too.
    let refused = "-NOPERM no permissions to run 'ping'\r\n";
    assert_eq!(reply(&mut topology, id, &[refused], 7_000), None);
    assert_eq!(topology.tick(id, 11_999), Ok(()));
    assert!(said(&mut topology, id).is_empty());
    assert_eq!(topology.tick(id, 12_000), Ok(()));
    assert_eq!(said(&mut topology, id), ["PING"]);
    assert_eq!(topology.tick(id, 16_999), Ok(()));
    assert!(topology.tick(id, 17_000).is_err());
    topology.closed(id, 17_000);
    assert!(topology.is_lost());
    topology.opened(id, 17_000);
    assert!(!topology.is_lost());
    assert_eq!(said(&mut topology, id), ["AUTH ann pw"]);
}

// -- a program that is replaced

/// Every table above.
const TABLES: &[fn()] = &[
    one_redis_is_one_shard,
    a_cluster_is_found_through_its_seeds,
    a_node_that_hangs_does_not_keep_the_others_from_being_asked,
    hostile_views_change_nothing,
    addresses_that_do_not_exist_take_only_their_slots,
    a_master_without_slots_is_left_a_little_later,
    a_publication_follows_its_slot,
    subscriptions_follow_their_slot,
    nodes_that_name_each_other_or_themselves_are_not_followed_for_ever,
    a_slot_that_is_about_to_move_is_tried_again_a_little_later,
    a_slot_without_owner_is_looked_for_and_a_masters_own_view_wins,
    a_master_that_hangs_has_the_others_asked,
    a_view_that_will_not_come_is_asked_for_elsewhere_and_not_too_often,
    nodes_of_the_last_view_are_asked_when_no_master_can_be,
    with_tls_the_other_port_counts,
    the_master_is_found_through_sentinels,
    a_sentinel_that_hangs_is_not_waited_for_long,
    a_master_that_most_sentinels_do_not_name_any_more_is_left,
    a_new_master_is_followed_when_it_is_announced,
    sentinels_are_asked_when_a_link_breaks_and_what_is_no_master_is_left,
    a_sentinel_that_refuses_or_knows_nothing_is_named,
    a_silent_sentinel_is_asked_whether_it_is_there,
];

#[test]
fn a_topology_cut_anywhere_goes_on_in_the_next_program() {
    REPLACED.set(true);
    goes_on(include_str!("tests.rs"), TABLES, 3);
}

/// A cluster of which everything is under way, what sentinels have named, and one redis.
fn busy() -> [(Topology, Option<RedisDsn>); 3] {
    let dsn = || DSN.with_borrow(Clone::clone);
    let mut one = topology(RedisServers::One(at("h", 6_379)), false);
    up(&mut one, 0, 0);
    one.subscribe(subscription(1, "a"), 10);
    one.publish(publication(2, "a"), 10);
    one.finish(10);
    one.unsubscribe(ChannelName::checked("b"), 10);
    let one = (one, dsn());
    let mut watched = found(2);
    watched.publish(publication(1, "a"), 0);
    watched.closed(listening(0), 100);
    watched.unsubscribe(ChannelName::checked("b"), 100);
    watched.turn(100);
    let watched = (watched, dsn());
    let mut cluster = two_masters();
    for (by, channel) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        cluster.publish(publication(by, channel), 1_000);
    }
    cluster.subscribe(subscription(1, "a"), 1_000);
    cluster.unsubscribe(ChannelName::checked("b"), 1_000);
    let replies = ["-ASK 15495 m:1\r\n", "-MOVED 15495 m:3\r\n"];
    assert_eq!(reply(&mut cluster, publishing(1), &replies, 1_000), None);
    assert_eq!(reply(&mut cluster, publishing(0), &[":1\r\n"], 1_000), None);
    cluster.finish(1_000);
    cluster.turn(1_000);
    let mut all = [one, watched, (cluster, dsn())];
    for (topology, _) in &mut all {
        topology.orders.clear();
        topology.notices.clear();
    }
    all
}

#[test]
fn a_hostile_snapshot_causes_no_panic() {
    let mut restarted = 0;
    for (topology, dsn) in busy() {
        DSN.set(dsn);
        let bytes = saved(&topology);
        assert!(restored(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut hostile = bytes.clone();
            // In turn a neighbour, the greatest value, another type.
            hostile[at] ^= [1, 0xff, 0x20][at % 3];
            let Ok(mut topology) = restored(&hostile) else {
                continue;
            };
            restarted += 1;
            topology.turn(LATER);
            topology.publish(publication(9, "a"), LATER);
            topology.subscribe(subscription(9, "b"), LATER);
            for id in topology.links() {
                for reply in [OK, ":1\r\n", "-MOVED 15495 m:1\r\n"] {
                    let _ = topology.handle_reply(id, reply.as_bytes(), LATER);
                }
                let _ = topology.tick(id, LATER);
                topology.closed(id, LATER);
            }
            topology.finish(LATER);
            topology.turn(LATER + 10_000);
            topology.next_deadline();
        }
    }
    assert!(restarted > 100, "{restarted}");
}

#[test]
fn a_snapshot_of_other_servers_is_refused() {
    let all = busy();
    let snapshots = all.each_ref().map(|(topology, _)| saved(topology));
    for (nth, (_, dsn)) in all.iter().enumerate() {
        DSN.set(dsn.clone());
        for (other, snapshot) in snapshots.iter().enumerate() {
            assert_eq!(restored(snapshot).is_ok(), nth == other);
        }
    }
    // One sentinel more, another address of one redis.
    let mut dsn = all[1].1.clone().unwrap();
    if let RedisServers::Sentinel { sentinels, .. } = &mut dsn.servers {
        sentinels.push(at("s", 3));
    }
    DSN.set(Some(dsn));
    let error = restored(&snapshots[1]).unwrap_err().to_string();
    assert!(
        error.contains("names 3 sentinels, the snapshot 2"),
        "{error}"
    );
    let mut dsn = all[0].1.clone().unwrap();
    dsn.servers = RedisServers::One(at("h", 6_380));
    DSN.set(Some(dsn));
    let error = restored(&snapshots[0]).unwrap_err().to_string();
    assert!(error.contains("another master"), "{error}");
}

#[test]
#[ignore = "it plays all tables for each fact, which takes a minute"]
fn every_fact_of_a_topology_snapshot_has_an_effect() {
    REPLACED.set(true);
    let mut missed = facts_without_effect(TABLES);
    // The dialogue has a test of its own.
    missed.retain(|fact| !fact.starts_with("RedisMaster 3 "));
    assert_eq!(missed, [""; 0]);
}
