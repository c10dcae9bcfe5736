//! Links with real sockets, to a redis that the test plays: they are handed over from one program to the next.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use minicbor::Decoder;
use minicbor::data::Type as Datatype;
use mio::{Events, Poll};
use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::effect::{ConnId, Publication, PublishedBy, ShardId, Subscription, SubscriptionId};
use crate::log::Level;
use crate::snapshot::tests::cbor::Part;
use crate::snapshot::{RecordKind, SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::wire::channel_name::ChannelName;

const OK: &str = "+OK\r\n";
const PONG: &str = "+PONG\r\n";
const MASTER: &str = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
const DEADLINE: Duration = Duration::from_secs(20);

/// Everything of a program but its hub.
struct Program {
    poll: Poll,
    log: Log,
    redis: Redis,
    started: Instant,
    told: Vec<String>,
}

fn settings(port: u16, tls: bool) -> RedisSettings {
    let host = "127.0.0.1".to_owned();
    let config = || crate::tls::client_config(None, "redis").expect("roots");
    RedisSettings {
        dsn: RedisDsn {
            servers: RedisServers::One(RedisAddress::Tcp { host, port }),
            tls,
            credentials: None,
            db: 0,
            unused: Vec::new(),
        },
        prefix: "app:".to_owned(),
        largest_content: 1024,
        tls: tls.then(|| Arc::new(config())),
        first_token: Token(100),
        seed: 1,
        probe: false,
    }
}

impl Program {
    fn start(settings: RedisSettings) -> Program {
        let (poll, log) = (Poll::new().unwrap(), Log::in_memory(Level::Info));
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        Program {
            redis: Redis::new(settings, waker, log.clone(), 0).unwrap(),
            poll,
            log,
            started: Instant::now(),
            told: Vec::new(),
        }
    }

    fn now(&self) -> Millis {
        crate::clock::millis(self.started.elapsed())
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(16);
        let pause = Some(Duration::from_millis(10));
        self.poll.poll(&mut events, pause).unwrap();
        for event in &events {
            if let Some(nth) = event.token().0.checked_sub(100) {
                self.redis.ready(nth, event);
            }
        }
        let now = self.now();
        let mut buffer = vec![0; 4096];
        self.redis.turn(self.poll.registry(), &mut buffer, now);
        while let Some(news) = self.redis.next(now) {
            self.told.push(match news {
                News::Published(by, receipt) => format!("{} {receipt:?}", by.slot().unwrap()),
                News::Subscribed(id, receipt) => format!("channel {} {receipt:?}", id.serial),
                News::Unsubscribed(channel) => format!("{channel} ended"),
                News::Publishing(_, up) => format!("publishing {up}"),
                News::Listening(_, up) => format!("listening {up}"),
                News::Message(message) => {
                    let (channel, content) = self.redis.content(&message);
                    let told = format!("{channel}: {}", str::from_utf8(content).unwrap());
                    self.redis.take(&message);
                    told
                }
                News::Shard(..) | News::Slots(..) => continue,
                other => panic!("{other:?}"),
            });
        }
        self.redis.flush(now);
    }

    fn publish(&mut self, by: u32) {
        self.publish_content(by, b"1");
    }

    fn publish_content(&mut self, by: u32, content: &[u8]) {
        let now = self.now();
        let publication = Publication {
            from: PublishedBy::Connection(ConnId {
                slot: by,
                generation: 0,
            }),
            since: now,
            channel: ChannelName::checked("a"),
            content: content.into(),
        };
        self.redis.topology.publish(publication, now);
    }

    fn subscribe(&mut self, serial: u64, name: &str) {
        let now = self.now();
        let id = SubscriptionId { channel: 0, serial };
        let channel = ChannelName::checked(name);
        self.redis
            .topology
            .subscribe(Subscription { id, channel }, now);
    }

    fn snapshot(&mut self) -> Vec<u8> {
        let mut writer = SnapshotWriter::new(Vec::new(), &SnapshotHeader::new(0)).unwrap();
        self.redis.save(&mut writer).unwrap();
        writer.finish().unwrap()
    }

    /// What has the number of a descriptor in the next program.
    fn descriptor(&self, number: u64) -> Result<Option<OwnedFd>, SnapshotError> {
        let mut open = self.redis.descriptors();
        let found = open.find(|open| open.as_raw_fd() as u64 == number);
        let found = found.ok_or_else(|| SnapshotError::new("it was not kept"))?;
        Ok(Some(found.try_clone_to_owned().unwrap()))
    }

    /// The next program, which goes on; this one is gone.
    fn replaced(mut self, settings: RedisSettings) -> Program {
        let snapshot = self.snapshot();
        let (poll, log) = (Poll::new().unwrap(), Log::in_memory(Level::Info));
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut reader = SnapshotReader::new(&*snapshot, snapshot.len() as u64).unwrap();
        let redis = Redis::restore(
            settings,
            waker,
            log.clone(),
            self.now(),
            &mut reader,
            poll.registry(),
            |number| self.descriptor(number),
        );
        Program {
            poll,
            redis: redis.unwrap(),
            log,
            started: self.started,
            told: self.told,
        }
    }

    fn wait(&mut self, what: &str, is: impl Fn(&Program) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.told);
            self.turn();
        }
    }
}

/// redis' side of a link.
struct Peer {
    stream: TcpStream,
    came: String,
}

impl Peer {
    /// Waits for a command, and forgets it with all before it.
    fn expect(&mut self, command: &str, program: &mut Program) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.came.find(command) {
                self.came.drain(..at + command.len());
                return;
            }
            assert!(Instant::now() < deadline, "{command}: {:?}", self.came);
            program.turn();
            let mut buffer = vec![0; 1 << 20];
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("{command}: the link is closed"),
                Ok(count) => self.came += str::from_utf8(&buffer[..count]).unwrap(),
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    fn reply(&mut self, replies: &[&str]) {
        self.stream.write_all(replies.concat().as_bytes()).unwrap();
    }
}

/// Waits for a link.
fn accept(listener: &TcpListener, program: &mut Program) -> Peer {
    let deadline = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < deadline, "no link comes");
        program.turn();
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true).unwrap();
                let came = String::new();
                return Peer { stream, came };
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
    }
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A program whose links are up: the publishing one and the listening one.
fn up(listener: &TcpListener, port: u16) -> (Program, Peer, Peer) {
    let mut program = Program::start(settings(port, false));
    let mut links = Vec::new();
    for _ in 0..2 {
        let mut peer = accept(listener, &mut program);
        peer.expect("$4\r\nPING\r\n", &mut program);
        peer.reply(&[OK, MASTER, PONG]);
        links.push(peer);
    }
    program.wait("both links", |it| it.told.len() == 2);
    program.told.clear();
    let listening = links.pop().unwrap();
    (program, links.pop().unwrap(), listening)
}

#[test]
fn links_go_on_in_the_next_program() {
    let (listener, port) = listen();
    let (mut program, mut publishing, mut listening) = up(&listener, port);
    program.subscribe(1, "a");
    program.publish(1);
    program.publish(2);
    publishing.expect("PUBLISH", &mut program);
    listening.expect("SUBSCRIBE", &mut program);
    // Half of a reply is read, and half of a message behind a reply; something waits to be sent.
    publishing.reply(&[":1\r\n", ":"]);
    listening.reply(&[
        "*3\r\n$9\r\nsubscribe\r\n$5\r\napp:a\r\n:1\r\n",
        "*3\r\n$7\r\nmess",
    ]);
    program.wait("halves", |it| {
        let mut links = it.redis.links.iter();
        it.told.len() == 1 && links.all(|(_, it)| !it.link.input().is_empty())
    });
    program.publish(3);
    program.subscribe(2, "b");
    for (_, connected) in &program.redis.links {
        assert!(connected.link.is_open());
    }
    let mut program = program.replaced(settings(port, false));
    publishing.expect("PUBLISH", &mut program);
    listening.expect("app:b", &mut program);
    publishing.reply(&["1\r\n", ":1\r\n"]);
    let message = "age\r\n$5\r\napp:a\r\n$3\r\n[7]\r\n";
    listening.reply(&[message, PONG]);
    listening.expect("$4\r\nPING\r\n", &mut program);
    listening.reply(&["*3\r\n$9\r\nsubscribe\r\n$5\r\napp:b\r\n:2\r\n", PONG]);
    program.wait("all of it", |it| it.told.len() == 6);
    let mut told = program.told.clone();
    told[2..].sort();
    let expected = [
        "channel 1 Confirmed",
        "a: [7]",
        "1 Confirmed",
        "2 Confirmed",
        "3 Confirmed",
        "channel 2 Confirmed",
    ];
    assert_eq!(told, expected);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(program.log.take(), "", "there is nothing to be said");
}

#[test]
fn what_the_kernel_has_not_taken_is_sent_once() {
    let (listener, port) = listen();
    let (mut program, mut publishing, _listening) = up(&listener, port);
    let long = [b"[", "1,".repeat(500_000).as_bytes(), b"1]"].concat();
    for by in 1..=9 {
        program.publish_content(by, &long);
        program.turn();
    }
    let publisher = LinkId::Master(ShardId(0), Duty::Publish);
    let unsent = program.redis.topology.out(publisher).unwrap().len();
    assert!(unsent > 0, "it is more than the kernel takes");
    let mut program = program.replaced(settings(port, false));
    for _ in 1..=9 {
        publishing.expect("PUBLISH\r\n$5\r\napp:a\r\n$1000003\r\n[", &mut program);
        publishing.expect(",1]\r\n", &mut program);
    }
    assert_eq!(publishing.came, "");
}

#[test]
fn a_link_that_is_not_there_yet_begins_again() {
    // A port that is taken, and where nothing listens.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&address.into()).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    let mut program = Program::start(settings(port, false));
    program.wait("a refusal", |it| it.log.take().contains("is down"));
    let tries = |program: &Program| -> Vec<Option<Millis>> {
        let links = program.redis.links.iter();
        links.map(|(_, it)| it.link.deadline()).collect()
    };
    let before = tries(&program);
    let mut program = program.replaced(settings(port, false));
    assert_eq!(tries(&program), before, "the back-off goes on");
    SockRef::from(&listener).listen(2).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut peers = [(); 2].map(|()| accept(&listener, &mut program));
    for peer in &mut peers {
        peer.expect("$4\r\nPING\r\n", &mut program);
    }
    assert_eq!(program.log.take(), "", "that it is down has been said");
}

#[test]
fn a_link_over_tls_is_made_anew() {
    let (listener, port) = listen();
    let mut program = Program::start(settings(port, true));
    let before = [(); 2].map(|()| accept(&listener, &mut program));
    let talking = |it: &Program| {
        let links = it.redis.topology.links();
        links.into_iter().all(|id| it.redis.topology.is_talking(id))
    };
    program.wait("both links", talking);
    program.redis.judge(true, program.now());
    assert!(program.log.take().contains("the broker is up"));
    assert_eq!(program.redis.descriptors().count(), 0);
    let mut program = program.replaced(settings(port, true));
    let line = "links to the broker over TLS cannot be handed over: they are made anew";
    let log = program.log.take();
    assert!(log.contains(line) && log.contains("\"links\":2"), "{log}");
    drop(before);
    let _after = [(); 2].map(|()| accept(&listener, &mut program));
    program.wait("both links", talking);
    assert!(program.redis.judge(true, program.now()), "they are back");
    assert!(program.log.take().contains("the broker is up again"));
}

#[test]
fn a_snapshot_of_another_redis_is_refused() {
    let (listener, port) = listen();
    let (mut program, ..) = up(&listener, port);
    let snapshot = program.snapshot();
    let restore = |settings: RedisSettings, bytes: &[u8], sockets: bool| {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let log = Log::in_memory(Level::Info);
        let mut reader = SnapshotReader::new(bytes, bytes.len() as u64)?;
        let now = program.now();
        let registry = poll.registry();
        let redis = Redis::restore(settings, waker, log, now, &mut reader, registry, |number| {
            if sockets {
                program.descriptor(number)
            } else {
                Ok(None)
            }
        });
        redis.map(|redis| redis.descriptors().count())
    };
    assert_eq!(restore(settings(port, false), &snapshot, true), Ok(2));
    // To check it no socket is needed.
    assert_eq!(restore(settings(port, false), &snapshot, false), Ok(0));
    let mut other = settings(port, false);
    other.prefix.clear();
    let mut database = settings(port, false);
    database.dsn.db = 1;
    for settings in [
        settings(port ^ 1, false),
        settings(port, true),
        other,
        database,
    ] {
        let error = restore(settings, &snapshot, true).unwrap_err().to_string();
        assert!(error.contains("another redis"), "{error}");
    }
    // Whatever is wrong with it, and whichever sockets it names.
    let mut restored = 0;
    for at in 0..snapshot.len() {
        let mut hostile = snapshot.clone();
        hostile[at] ^= [1, 0xff, 0x20][at % 3];
        restored += usize::from(restore(settings(port, false), &hostile, at % 2 == 0).is_ok());
    }
    assert!(restored > 0);
}

// -- facts that are forgotten

/// Which fact of a record: the fields, variants and elements on the way to it.
pub type FactPath = Vec<String>;

thread_local! {
    /// The facts that records had, and the one that is forgotten.
    static FACTS: RefCell<BTreeSet<FactPath>> = const { RefCell::new(BTreeSet::new()) };
    static FORGOTTEN: RefCell<Option<FactPath>> = const { RefCell::new(None) };
}

/// The same snapshot, with what [`forgetting`] leaves of each record.
pub fn forgetting_in_each_record(mut snapshot: &[u8]) -> Vec<u8> {
    let mut copy = Vec::new();
    while let Some((number, rest)) = snapshot.split_first_chunk::<4>() {
        let (length, rest) = rest.split_first_chunk::<8>().unwrap();
        let (content, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let kind = RecordKind::numbered(u32::from_le_bytes(*number)).unwrap();
        let content = match kind {
            RecordKind::Header | RecordKind::End => content.to_vec(),
            _ => forgetting(content, &[&format!("{kind:?}")]),
        };
        copy.extend(number);
        copy.extend((content.len() as u64).to_le_bytes());
        copy.extend(content);
        snapshot = rest;
    }
    copy
}

/// The same record without the fact that is to be forgotten: it is 0, false or empty. `within`: the way to the record.
pub fn forgetting(record: &[u8], within: &[&str]) -> Vec<u8> {
    let mut record = Part::of(record);
    forget(
        &mut record,
        &mut within.iter().map(ToString::to_string).collect(),
    );
    record.bytes()
}

/// Plays `tables`, which are all tests of `source` but `apart`. The caller has the program replaced at every step.
pub fn goes_on(source: &str, tables: &[fn()], apart: usize) {
    let tests = source.matches("#[test]\nfn ").count();
    assert_eq!(tables.len() + apart, tests, "each table is in the list");
    for table in tables {
        table();
    }
}

/// Plays `tables`, and plays them again for each fact that is forgotten. Returns those that nothing has missed.
pub fn facts_without_effect(tables: &[fn()]) -> Vec<String> {
    FACTS.take();
    let all_hold = || tables.iter().all(|table| catch_unwind(table).is_ok());
    assert!(all_hold());
    let facts = FACTS.take();
    assert!(!facts.is_empty());
    let missed = facts.into_iter().filter(|fact| {
        FORGOTTEN.set(Some(fact.clone()));
        let missed = all_hold();
        FORGOTTEN.take();
        missed
    });
    missed.map(|fact| fact.join(" ")).collect()
}

/// Forgets the fact that is to be forgotten, if it is in this part. `path`: the way to it.
fn forget(part: &mut Part, path: &mut FactPath) {
    match part {
        Part::Map(entries) => {
            for (key, part) in entries {
                forget_below(part, key.to_string(), path);
            }
        }
        Part::Array(parts) => {
            // The variant of an enum, and its fields.
            if let [Part::Leaf(variant), Part::Array(fields)] = parts.as_mut_slice()
                && let Ok(variant) = minicbor::decode::<u64>(variant)
            {
                for (nth, field) in fields.iter_mut().enumerate() {
                    forget_below(field, format!("variant {variant} field {nth}"), path);
                }
            } else if forgets(path, !parts.is_empty()) {
                parts.clear();
            } else {
                for part in parts {
                    forget_below(part, "each".to_owned(), path);
                }
            }
        }
        Part::Leaf(bytes) => {
            let mut from = Decoder::new(bytes);
            let (telling, nothing) = match from.datatype().unwrap() {
                Datatype::String | Datatype::Null => return,
                Datatype::Bool => (from.bool().unwrap(), minicbor::to_vec(false)),
                Datatype::Bytes => {
                    let nothing = minicbor::to_vec(minicbor::bytes::ByteVec::from(vec![]));
                    (!from.bytes().unwrap().is_empty(), nothing)
                }
                _ => (from.u64().unwrap() != 0, minicbor::to_vec(0)),
            };
            if forgets(path, telling) {
                *bytes = nothing.unwrap();
            }
        }
    }
}

fn forget_below(part: &mut Part, step: String, path: &mut FactPath) {
    path.push(step);
    forget(part, path);
    path.pop();
}

/// Whether this fact is to be forgotten. `telling`: it is not 0 or empty already.
fn forgets(path: &FactPath, telling: bool) -> bool {
    if telling {
        FACTS.with_borrow_mut(|facts| facts.insert(path.clone()));
    }
    FORGOTTEN.with_borrow(|forgotten| forgotten.as_ref() == Some(path))
}
