//! The authorizer against servers on loopback that say anything: verdicts, kept-alive connections, the pool.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::effect::Verdict;
use crate::wire::answer_fields::{AnswerLimits, Asked};

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
pub(crate) const FORBIDDEN: &str = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// An authorizer on loopback: a thread per connection runs the script it was made with.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    stop: AtomicBool,
    connections: AtomicUsize,
    /// Connections whose script has ended; their sockets are closed.
    closed: AtomicUsize,
    pub(crate) requests: Mutex<Vec<String>>,
    /// The connection that each of them came on.
    via: Mutex<Vec<usize>>,
}

pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    /// Which connection this is, from 1.
    pub(crate) number: usize,
    pub(crate) seen: Arc<Seen>,
    pub(crate) inbox: Vec<u8>,
}

impl Server {
    pub(crate) fn new(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
        Server::on("127.0.0.1:0", script)
    }

    pub(crate) fn on(addr: &str, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(addr).unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let script = Arc::new(script);
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.stop.load(SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = shared.connections.fetch_add(1, SeqCst) + 1;
                let (seen, script) = (Arc::clone(&shared), Arc::clone(&script));
                thread::spawn(move || {
                    let mut peer = Peer {
                        stream,
                        number,
                        seen,
                        inbox: Vec::new(),
                    };
                    script(&mut peer);
                    let Peer { stream, seen, .. } = peer;
                    // Another test's spawner may have begun meanwhile, and have a copy of it.
                    let _ = stream.shutdown(Shutdown::Write);
                    drop(stream);
                    seen.closed.fetch_add(1, SeqCst);
                });
            }
        });
        Server { addr, seen }
    }

    /// Answers every question on a kept-alive connection with the same bytes.
    pub(crate) fn always(answer: impl Into<Vec<u8>>) -> Server {
        let answer = answer.into();
        Server::new(move |peer| {
            while peer.request().is_some() {
                peer.say(&answer);
            }
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/ask", self.addr)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    pub(crate) fn closed(&self) -> usize {
        self.seen.closed.load(SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.seen.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

impl<S: Read + Write> Peer<S> {
    /// The next request, head and body. `None`: the other side is gone.
    pub(crate) fn request(&mut self) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(&self.inbox).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length: usize = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if body.len() >= length {
                    self.inbox.drain(..head.len() + 4 + length);
                    let request = text[..head.len() + 4 + length].to_string();
                    self.seen.requests.lock().unwrap().push(request.clone());
                    self.seen.via.lock().unwrap().push(self.number);
                    return Some(request);
                }
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.inbox.extend_from_slice(&chunk[..n]),
            }
        }
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Waits for the other side to close.
    pub(crate) fn stay(&mut self) {
        while self.request().is_some() {}
    }
}

/// The loop's side.
pub(crate) struct Desk {
    pub(crate) authorizer: Authorizer,
    poll: mio::Poll,
    answers: Vec<Answer>,
}

impl Desk {
    pub(crate) fn new(url: &str) -> Desk {
        Desk::with(settings(url))
    }

    pub(crate) fn with(settings: AuthorizerSettings) -> Desk {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        Desk {
            authorizer: Authorizer::start(settings, Arc::new(waker)).unwrap(),
            poll,
            answers: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, slot: u32, asked: Asked) -> bool {
        self.authorizer.ask(question(slot, asked)).is_ok()
    }

    /// What the pool is busy with; answers that have come are kept.
    pub(crate) fn load(&mut self) -> (usize, usize) {
        let load = self.authorizer.answers(&mut self.answers);
        (load.in_flight, load.waiting)
    }

    /// Waits for `count` answers by the waker alone.
    pub(crate) fn hear(&mut self, count: usize) -> Vec<Answer> {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut events = mio::Events::with_capacity(4);
        while self.answers.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} answers", self.answers.len());
            self.poll.poll(&mut events, Some(left)).unwrap();
            self.authorizer.answers(&mut self.answers);
        }
        std::mem::take(&mut self.answers)
    }

    pub(crate) fn ask(&mut self) -> Answer {
        assert!(self.put(1, Asked::Join));
        self.hear(1).remove(0)
    }

    pub(crate) fn connect(&mut self) -> Answer {
        assert!(self.put(1, Asked::Connect));
        self.hear(1).remove(0)
    }

    /// Until every worker rests: the last connection is kept, or dropped.
    pub(crate) fn settled(&self) {
        until(|| self.authorizer.pool.is_at_rest());
    }
}

pub(crate) fn settings(url: &str) -> AuthorizerSettings {
    AuthorizerSettings {
        url: url.parse().unwrap(),
        timeout: TEST_TIMEOUT,
        workers: 1,
        queue: 100,
        batch: 1,
        limits: AnswerLimits {
            channels: 3,
            content: 1000,
        },
        cert_file: None,
        keys: Vec::new(),
    }
}

pub(crate) fn question(slot: u32, asked: Asked) -> Question {
    Question {
        from: ConnId {
            slot,
            generation: 7,
        },
        asked,
        alone: false,
        body: format!("{{\"command\":\"{slot}\"}}").into_bytes(),
    }
}

pub(crate) fn until(mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !reached() {
        assert!(Instant::now() < deadline, "not reached in time");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn statuses_become_verdicts() {
    use Verdict::{Allow, Deny, Unavailable};
    let table: &[(&str, Verdict)] = &[
        (OK, Allow),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Allow),
        ("HTTP/1.0 200 OK\r\n\r\nbody", Allow),
        ("HTTP/1.1 200 OK\r\n\r\n", Allow),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
            Allow,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Allow,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Allow,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            Allow,
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n", Deny),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Deny),
        ("HTTP/1.1 201 Created\r\n\r\n", Deny),
        ("HTTP/1.1 204 No Content\r\n\r\n", Deny),
        (
            "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            Deny,
        ),
        ("HTTP/1.1 302 Found\r\n\r\n", Deny),
        ("HTTP/1.1 303 See\r\nLocation: \x01\r\n\r\n", Unavailable),
        (
            "HTTP/1.1 307 Temporary\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
            Deny,
        ),
        ("HTTP/1.1 400 Bad\r\n\r\n", Deny),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", Deny),
        ("HTTP/1.1 404 Where\r\n\r\n", Deny),
        (FORBIDDEN, Deny),
        ("HTTP/1.1 499 Odd\r\n\r\n", Deny),
        ("HTTP/1.1 500 Oh\r\n\r\n", Unavailable),
        ("HTTP/1.1 502 Oh\r\n\r\n", Unavailable),
        (
            "HTTP/1.1 503 Oh\r\nContent-Length: 2\r\n\r\nno",
            Unavailable,
        ),
        ("HTTP/1.1 599 Oh\r\n\r\n", Unavailable),
        ("HTTP/1.1 600 Odd\r\n\r\n", Deny),
        ("HTTP/1.1 999 Odd\r\n\r\n", Deny),
        // Not HTTP, or not all of it.
        ("", Unavailable),
        ("\r\n", Unavailable),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Unavailable),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", Unavailable),
        ("SSH-2.0-OpenSSH_9.2\r\n", Unavailable),
        ("<html>200 OK</html>", Unavailable),
        ("HTTP/1.1 2000 OK\r\n\r\n", Unavailable),
        ("HTTP/1.1 020 OK\r\n\r\n", Unavailable),
        ("HTTP/2 200 OK\r\n\r\n", Unavailable),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Unavailable),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Unavailable),
        ("\x15\x03\x01\x00\x02\x02\x16", Unavailable),
    ];
    for (bytes, verdict) in table {
        // Whole, and byte by byte; then the connection ends.
        for whole in [true, false] {
            let server = Server::new(move |peer| {
                peer.request();
                if whole {
                    peer.say(bytes);
                } else {
                    bytes.as_bytes().chunks(1).all(|byte| peer.say(byte));
                }
            });
            let mut desk = Desk::new(&server.url());
            let answer = desk.ask();
            assert_eq!(answer.verdict, *verdict, "{bytes:?} whole: {whole}");
            assert_eq!(
                answer.trouble.is_some(),
                *verdict == Unavailable,
                "{bytes:?}"
            );
            assert_eq!(answer.to, question(1, Asked::Join).from);
            assert_eq!(answer.state(), None);
            desk.settled();
            assert_eq!(server.requests(), 1, "{bytes:?}: asked once");
        }
    }
}

#[test]
fn a_head_without_end_is_not_http() {
    let server = Server::new(|peer| {
        peer.request();
        peer.say("HTTP/1.1 200 OK\r\n");
        while peer.say(format!("X: {}\r\n", "x".repeat(1000))) {}
    });
    let answer = Desk::new(&server.url()).ask();
    assert_eq!(answer.verdict, Verdict::Unavailable);
}

#[test]
fn a_question_is_sent_as_a_post() {
    let server = Server::always(OK);
    let mut desk = Desk::new(&format!("http://{}/ask/me?key=a%20b#f", server.addr));
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    assert_eq!(
        server.seen.requests.lock().unwrap()[0],
        format!(
            "POST /ask/me?key=a%20b HTTP/1.1\r\ncontent-length: 15\r\nuser-agent: wsify/{}\r\n\
             accept: */*\r\nhost: {}\r\ncontent-type: application/json\r\n\r\n{{\"command\":\"1\"}}",
            env!("CARGO_PKG_VERSION"),
            server.addr,
        )
    );
}

#[test]
fn credentials_of_the_url_are_sent_decoded() {
    let server = Server::always(OK);
    let mut desk = Desk::new(&format!("http://us%3Aer:p%40:s@{}/", server.addr));
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    let requests = server.seen.requests.lock().unwrap();
    let expected = format!("authorization: Basic {}\r\n", BASE64.encode("us:er:p@:s"));
    assert!(requests[0].contains(&expected), "{}", requests[0]);
    assert!(requests[0].contains(&format!("host: {}\r\n", server.addr)));
}

#[test]
fn a_big_question_arrives_whole() {
    let server = Server::always(OK);
    let mut desk = Desk::new(&server.url());
    let mut big = question(1, Asked::Join);
    big.body = "x".repeat(1 << 20).into_bytes();
    desk.authorizer.ask(big).unwrap();
    assert_eq!(desk.hear(1)[0].verdict, Verdict::Allow);
    let requests = server.seen.requests.lock().unwrap();
    assert!(requests[0].ends_with(&"x".repeat(1 << 20)));
}

#[test]
fn one_connection_serves_many_questions() {
    for answer in [
        OK,
        FORBIDDEN,
        "HTTP/1.1 503 Oh\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 302 F\r\nLocation: /\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"state\":1}",
    ] {
        let server = Server::always(answer);
        let mut desk = Desk::new(&server.url());
        for round in 0..10 {
            assert!(desk.put(1, [Asked::Join, Asked::Connect][round % 2]));
            desk.hear(1);
        }
        assert_eq!(
            (server.connections(), server.requests()),
            (1, 10),
            "{answer}"
        );
    }
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_not_used() {
    let server = Server::new(|peer| {
        peer.request();
        peer.say(OK);
    });
    let mut desk = Desk::new(&server.url());
    for round in 1..=10 {
        assert_eq!(desk.ask().verdict, Verdict::Allow);
        until(|| server.closed() == round);
    }
    assert_eq!((server.connections(), server.requests()), (10, 10));
}

#[test]
fn an_announced_close_is_believed() {
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 403 No\r\nConnection: foo, close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::always(head);
        let mut desk = Desk::new(&server.url());
        desk.ask();
        desk.settled();
        until(|| server.closed() == 1);
        desk.ask();
        assert_eq!(server.connections(), 2, "{head}");
    }
}

#[test]
fn a_question_that_may_have_been_read_is_not_asked_twice() {
    // On a new connection, and on one that was kept alive.
    for served in [0, 1] {
        let server = Server::new(move |peer| {
            for _ in 0..served {
                peer.request();
                peer.say(OK);
            }
            peer.request();
        });
        let mut desk = Desk::new(&server.url());
        for _ in 0..served {
            assert_eq!(desk.ask().verdict, Verdict::Allow);
        }
        let answer = desk.ask();
        assert_eq!(answer.verdict, Verdict::Unavailable);
        let trouble = answer.trouble.unwrap();
        assert!(trouble.contains("closed the connection"), "{trouble}");
        desk.settled();
        assert_eq!((server.connections(), server.requests()), (1, 1 + served));
    }
}

#[test]
fn a_reset_that_crosses_the_question_is_unavailable_and_not_asked_twice() {
    let server = Server::new(|peer| {
        if peer.number == 1 {
            peer.request();
            peer.say(OK);
            // Closing with bytes unread is a reset: what a server does whose close was under way.
            let _ = peer.stream.peek(&mut [0]);
        } else {
            peer.request();
            peer.say(FORBIDDEN);
        }
    });
    let mut desk = Desk::new(&server.url());
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    assert_eq!(desk.ask().verdict, Verdict::Unavailable);
    assert_eq!(server.connections(), 1);
    assert_eq!(desk.ask().verdict, Verdict::Deny);
    assert_eq!((server.connections(), server.requests()), (2, 2));
}

#[test]
fn bytes_that_nobody_asked_for_end_the_connection() {
    // Right behind the answer, and later: an answer that was smuggled in must not meet the next question.
    for later in [false, true] {
        let go = Arc::new(AtomicBool::new(false));
        let said = Arc::new(AtomicBool::new(false));
        let (gate, done) = (Arc::clone(&go), Arc::clone(&said));
        let server = Server::new(move |peer| {
            peer.request();
            if peer.number > 1 {
                peer.say(FORBIDDEN);
                return;
            }
            if later {
                peer.say(OK);
                until(|| gate.load(SeqCst));
                peer.say(OK);
            } else {
                peer.say([OK, OK].concat());
            }
            done.store(true, SeqCst);
            peer.stay();
        });
        let mut desk = Desk::new(&server.url());
        assert_eq!(desk.ask().verdict, Verdict::Allow);
        desk.settled();
        go.store(true, SeqCst);
        until(|| said.load(SeqCst));
        assert_eq!(desk.ask().verdict, Verdict::Deny, "later: {later}");
        assert_eq!(server.connections(), 2);
    }
}

#[test]
fn a_worker_ends_when_its_connection_has_rested_long_enough() {
    let server =
        Server::always("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 0\r\n\r\n");
    let mut desk = Desk::new(&server.url());
    for round in 1..=3 {
        assert_eq!(desk.ask().verdict, Verdict::Allow);
        until(|| desk.authorizer.pool.running() == 0);
        until(|| server.closed() == round);
    }
    assert_eq!((server.connections(), server.requests()), (3, 3));
    assert_eq!(desk.load(), (0, 0));
}

/// A server that answers when it is told to.
pub(crate) fn gated(answer: &'static str) -> (Server, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let server = Server::new(move |peer| {
        while peer.request().is_some() {
            until(|| gate.load(SeqCst) || peer.seen.stop.load(SeqCst));
            peer.say(answer);
        }
    });
    (server, open)
}

#[test]
fn as_many_calls_at_once_as_there_are_workers() {
    let (server, open) = gated(OK);
    let mut desk = Desk::with(AuthorizerSettings {
        workers: 32,
        ..settings(&server.url())
    });
    assert!((0..100).all(|slot| desk.put(slot, Asked::Join)));
    until(|| server.requests() == 32);
    assert_eq!(desk.load(), (32, 68));
    assert_eq!(server.connections(), 32);
    open.store(true, SeqCst);
    let mut slots: Vec<u32> = desk.hear(100).iter().map(|answer| answer.to.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..100).collect::<Vec<u32>>());
    desk.settled();
    assert_eq!(server.requests(), 100);
    assert_eq!(server.connections(), 32);
}

#[test]
fn a_question_over_authorizer_queue_is_refused() {
    for queue in [0, 2] {
        let (server, open) = gated(OK);
        let mut desk = Desk::with(AuthorizerSettings {
            queue,
            ..settings(&server.url())
        });
        for slot in 0..=queue {
            assert!(desk.put(slot as u32, Asked::Join));
        }
        let refused = desk.authorizer.ask(question(99, Asked::Join)).unwrap_err();
        assert_eq!(refused.from.slot, 99);
        assert_eq!(desk.load(), (1, queue));
        open.store(true, SeqCst);
        // First come, first served.
        let slots: Vec<_> = desk
            .hear(queue + 1)
            .iter()
            .map(|answer| answer.to.slot)
            .collect();
        assert_eq!(slots, (0..=queue as u32).collect::<Vec<_>>());
        desk.settled();
        assert!(desk.put(100, Asked::Join), "and there is room again");
        desk.hear(1);
    }
}

#[test]
fn few_questions_need_few_workers() {
    let server = Server::always(OK);
    let mut desk = Desk::with(AuthorizerSettings {
        workers: 32,
        ..settings(&server.url())
    });
    for _ in 0..50 {
        desk.ask();
        desk.settled();
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn the_connection_that_rested_least_is_used_next() {
    let (server, open) = gated(OK);
    let mut desk = Desk::with(AuthorizerSettings {
        workers: 4,
        ..settings(&server.url())
    });
    assert!((0..4).all(|slot| desk.put(slot, Asked::Join)));
    until(|| server.requests() == 4);
    open.store(true, SeqCst);
    desk.hear(4);
    desk.settled();
    for _ in 0..10 {
        desk.ask();
        desk.settled();
    }
    let via = server.seen.via.lock().unwrap();
    assert!(via[4..].iter().all(|number| *number == via[4]), "{via:?}");
}

#[test]
fn a_batch_of_answers_wakes_the_loop_once() {
    let server = Server::always(OK);
    let mut desk = Desk::new(&server.url());
    let mut events = mio::Events::with_capacity(4);
    for _ in 0..2 {
        assert!(desk.put(1, Asked::Join));
        desk.poll.poll(&mut events, Some(TEST_TIMEOUT)).unwrap();
        assert!(!events.is_empty());
        assert!(desk.put(2, Asked::Join));
        desk.settled();
        desk.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "the batch was announced already");
        desk.authorizer.answers(&mut desk.answers);
        assert_eq!(desk.answers.len(), 2);
        desk.answers.clear();
    }
}

#[test]
fn a_call_without_an_answer_times_out() {
    let drips = |peer: &mut Peer| {
        peer.request();
        while peer.say("HTTP/1.1 103 Wait\r\n\r\n") {
            thread::park_timeout(Duration::from_millis(5));
        }
    };
    for server in [
        Server::new(|peer| peer.stay()),
        Server::new(|_| thread::park_timeout(TEST_TIMEOUT)),
        Server::new(drips),
    ] {
        let mut desk = Desk::with(AuthorizerSettings {
            timeout: Duration::from_millis(100),
            ..settings(&server.url())
        });
        let answer = desk.ask();
        assert_eq!(answer.verdict, Verdict::Unavailable);
        assert_eq!(answer.trouble.as_deref(), Some("timed out after 100ms"));
        assert!(answer.took >= Duration::from_millis(100));
    }
}

#[test]
fn a_state_that_comes_too_late_or_not_whole_is_no_answer() {
    for head in ["Content-Length: 11", "Transfer-Encoding: chunked"] {
        for closes in [true, false] {
            let server = Server::new(move |peer| {
                peer.request();
                peer.say(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
                ));
                peer.say("{\"");
                if !closes {
                    peer.stay();
                }
            });
            let mut desk = Desk::with(AuthorizerSettings {
                timeout: Duration::from_millis(300),
                ..settings(&server.url())
            });
            assert_eq!(
                desk.connect().verdict,
                Verdict::Unavailable,
                "{head} {closes}"
            );
            // Without a state to read, the head is enough.
            assert_eq!(desk.ask().verdict, Verdict::Allow, "{head} {closes}");
            assert_eq!(desk.ask().verdict, Verdict::Allow, "{head} {closes}");
            assert_eq!(
                server.connections(),
                3,
                "a broken answer ends its connection"
            );
        }
    }
}

#[test]
fn a_state_is_read_from_a_json_answer() {
    let json = "application/json";
    let table: &[(&str, &str, Option<&str>, Option<&str>)] = &[
        (
            json,
            r#"{"state":{"user":42}}"#,
            Some(r#"{"user":42}"#),
            None,
        ),
        (json, r#" {"a":1,"state": 1.50 } "#, Some("1.50"), None),
        (
            "Application/JSON ; charset=utf-8",
            r#"{"state":"x"}"#,
            Some(r#""x""#),
            None,
        ),
        ("text/plain", r#"{"state":1}"#, None, None),
        ("application/jsonp", r#"{"state":1}"#, None, None),
        ("", r#"{"state":1}"#, None, None),
        (json, r#"{"other":1}"#, None, None),
        (json, r#"{"state":null}"#, None, None),
        (json, "", None, None),
        (json, r#"{"state":1,"state":2}"#, None, Some("twice")),
        (json, "[1]", None, Some("not an object")),
        (json, r#"{"state":1"#, None, Some("not JSON")),
    ];
    for (kind, body, state, unreadable) in table {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
        let last = if length > 0 { "0\r\n\r\n" } else { "\r\n" };
        for answer in [
            format!("{head}Content-Length: {length}\r\n\r\n{body}"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n{last}")
                .replace("0\r\n\r\n\r\n", "0\r\n\r\n"),
        ] {
            let server = Server::always(answer.clone());
            let mut desk = Desk::new(&server.url());
            let heard = desk.connect();
            assert_eq!(
                (heard.verdict, heard.status),
                (Verdict::Allow, Some(200)),
                "{answer}"
            );
            assert_eq!(heard.state(), *state, "{answer}");
            let why = heard.unreadable.as_deref();
            match unreadable {
                None => assert_eq!(why, None, "{answer}"),
                Some(word) => assert!(why.unwrap().contains(word), "{answer}: {why:?}"),
            }
            assert_eq!(heard.trouble, None);
            let heard = desk.ask();
            assert_eq!(
                (heard.state(), &heard.unreadable),
                (None, &None),
                "{answer}"
            );
            desk.settled();
            assert_eq!(server.connections(), 1, "{answer}");
        }
    }
    // The connection's end is the body's.
    let server = Server::new(|peer| {
        peer.request();
        peer.say("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"state\":1}");
    });
    assert_eq!(Desk::new(&server.url()).connect().state(), Some("1"));
    // Only a yes may set one.
    let server = Server::always(
        "HTTP/1.1 403 No\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"state\":1}",
    );
    let heard = Desk::new(&server.url()).connect();
    assert_eq!((heard.verdict, heard.state()), (Verdict::Deny, None));
}

#[test]
fn a_state_of_up_to_4_kib_in_a_body_of_up_to_64_kib() {
    let state = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    for (state, around, why) in [
        (state(4096), 0, None),
        (state(4097), 0, Some("its state is over 4 KiB")),
        (state(4096), 60_000, None),
        (state(10), 64 * 1024 - 26, None),
        (state(10), 64 * 1024 - 25, Some("it is over 64 KiB")),
        (state(10), 1 << 20, Some("it is over 64 KiB")),
    ] {
        let body = format!("{{\"state\":{state},\"x\":{}1}}", " ".repeat(around));
        let length = body.len();
        for framed in [
            format!("Content-Length: {length}\r\n\r\n{body}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
        ] {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            let server = Server::always(format!("{head}{framed}"));
            let mut desk = Desk::new(&server.url());
            for _ in 0..2 {
                let heard = desk.connect();
                assert_eq!(heard.verdict, Verdict::Allow);
                assert_eq!(heard.unreadable.as_deref(), why, "{length}");
                let kept = heard.state() == Some(&*state);
                assert_eq!(kept, why.is_none(), "{length}");
            }
        }
    }
}

#[test]
fn a_body_without_end_holds_no_worker() {
    for (head, chunk) in [
        ("Content-Length: 99999999999", "x".repeat(1000)),
        (
            "Transfer-Encoding: chunked",
            format!("3e8\r\n{}\r\n", "x".repeat(1000)),
        ),
        ("Connection: close", "x".repeat(1000)),
    ] {
        for asked in [Asked::Join, Asked::Connect] {
            let chunk = chunk.clone();
            let server = Server::new(move |peer| {
                peer.request();
                peer.say(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
                ));
                while peer.say(&chunk) {}
            });
            let mut desk = Desk::new(&server.url());
            assert!(desk.put(1, asked));
            let heard = desk.hear(1).remove(0);
            assert_eq!(heard.verdict, Verdict::Allow);
            assert_eq!(heard.unreadable.is_some(), asked == Asked::Connect);
            desk.settled();
            until(|| server.closed() == 1);
        }
    }
}

#[test]
fn a_body_that_stalls_holds_its_worker_only_for_a_moment() {
    let server = Server::new(|peer| {
        peer.request();
        peer.say("HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n");
        peer.stay();
    });
    // A call may take an hour; the rest of this body may not.
    let mut desk = Desk::with(AuthorizerSettings {
        timeout: Duration::from_secs(3600),
        ..settings(&server.url())
    });
    assert_eq!(desk.ask().verdict, Verdict::Deny);
    desk.settled();
    until(|| server.closed() == 1);
}

#[test]
fn a_refused_connection_is_unavailable() {
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let answer = Desk::new(&format!("http://{addr}/")).ask();
    assert_eq!(answer.verdict, Verdict::Unavailable);
    assert_eq!(answer.trouble.as_deref(), Some("connection refused"));
}

#[test]
fn host_names_and_ipv6_addresses_are_called() {
    let server = Server::always(OK);
    let mut desk = Desk::new(&format!("http://localhost:{}/", server.addr.port()));
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    assert_eq!(server.connections(), 1);

    let server = Server::on("[::1]:0", |peer| {
        while peer.request().is_some() {
            peer.say(OK);
        }
    });
    let mut desk = Desk::new(&server.url());
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    assert!(
        server.seen.requests.lock().unwrap()[0].contains(&format!("host: {}\r\n", server.addr))
    );

    let mut desk = Desk::with(AuthorizerSettings {
        timeout: Duration::from_secs(1),
        ..settings("http://nobody.invalid/")
    });
    assert_eq!(desk.ask().verdict, Verdict::Unavailable);
}

#[test]
fn a_dropped_pool_waits_for_no_worker() {
    let server = Server::new(|peer| peer.stay());
    let mut desk = Desk::with(AuthorizerSettings {
        timeout: Duration::from_secs(3600),
        ..settings(&server.url())
    });
    assert!(desk.put(1, Asked::Join));
    assert!(desk.put(2, Asked::Join));
    until(|| server.requests() == 1);
    drop(desk);

    let server =
        Server::always("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3600\r\nContent-Length: 0\r\n\r\n");
    let mut desk = Desk::new(&server.url());
    desk.ask();
    desk.settled();
    drop(desk);
    until(|| server.closed() == 1);
}

#[test]
fn folded_header_lines_and_long_heads_are_read() {
    let many = "X-Policy: x\r\n".repeat(125);
    let long = format!("X-Long: {}\r\n", "x".repeat(90 * 1024));
    for lines in ["X-Folded: a\r\n b\r\n\tc\r\n", &many, &long] {
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok");
        let server = Server::always(answer);
        let mut desk = Desk::new(&server.url());
        for _ in 0..3 {
            let heard = desk.ask();
            assert_eq!(heard.verdict, Verdict::Allow, "{:?}", heard.trouble);
            desk.settled();
        }
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn a_408_on_a_kept_alive_connection_is_asked_once_more_on_a_new_one() {
    const LATE: &str = "HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\n";
    let server = Server::new(|peer| {
        if peer.number == 1 {
            peer.request();
            peer.say(OK);
            peer.request();
            peer.say(LATE);
            return;
        }
        while peer.request().is_some() {
            peer.say(OK);
        }
    });
    let mut desk = Desk::new(&server.url());
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    desk.settled();
    let answer = desk.ask();
    assert_eq!((answer.verdict, answer.status), (Verdict::Allow, Some(200)));
    assert_eq!((server.connections(), server.requests()), (2, 3));

    // On a fresh connection it is a no; and once more is once.
    let server = Server::new(|peer| {
        if peer.number == 1 {
            peer.request();
            peer.say(OK);
        }
        peer.request();
        peer.say(LATE);
    });
    let mut desk = Desk::new(&server.url());
    assert_eq!(desk.ask().verdict, Verdict::Allow);
    desk.settled();
    for asked in [3, 4] {
        let answer = desk.ask();
        assert_eq!((answer.verdict, answer.status), (Verdict::Deny, Some(408)));
        assert_eq!(server.requests(), asked);
    }
}

#[test]
fn a_withdrawn_question_is_not_put() {
    let (server, open) = gated(OK);
    let mut desk = Desk::new(&server.url());
    assert!((0..10).all(|slot| desk.put(slot, Asked::Join)));
    until(|| server.requests() == 1);
    // The first is with the worker, and is answered all the same.
    for slot in (0..10).filter(|slot| *slot != 7) {
        desk.authorizer.withdraw(question(slot, Asked::Join).from);
    }
    assert_eq!(desk.load(), (1, 1));
    open.store(true, SeqCst);
    let slots: Vec<u32> = desk.hear(2).iter().map(|answer| answer.to.slot).collect();
    assert_eq!(slots, [0, 7]);
    desk.settled();
    assert_eq!((desk.load(), server.requests()), ((0, 0), 2));
    // Another tenant of a slot is another one.
    desk.authorizer.withdraw(ConnId {
        slot: 7,
        generation: 1,
    });
    assert_eq!(desk.ask().verdict, Verdict::Allow);
}

#[test]
fn recalled_questions_are_not_put_and_come_back_a_part_at_a_time() {
    let (server, open) = gated(OK);
    let mut desk = Desk::with(AuthorizerSettings {
        queue: 200,
        ..settings(&server.url())
    });
    assert!((0..151).all(|slot| desk.put(slot, Asked::Join)));
    until(|| server.requests() == 1);
    desk.authorizer.recall();
    let mut back = Vec::new();
    for count in [64, 64, 22] {
        assert!(desk.authorizer.has_recalled());
        let mut answers = Vec::new();
        desk.authorizer.answers(&mut answers);
        assert_eq!(answers.len(), count);
        back.extend(answers);
    }
    assert!(!desk.authorizer.has_recalled());
    for (answer, slot) in back.iter().zip(1..) {
        assert_eq!((answer.to.slot, answer.call), (slot, None));
        assert_eq!(answer.verdict, Verdict::Unavailable);
        assert_eq!(answer.failure(), Some("not_put"));
        let returned = answer.question.as_ref().unwrap();
        assert_eq!(returned.body, question(slot, Asked::Join).body);
    }
    // The one with the worker is answered, and the pool goes on.
    open.store(true, SeqCst);
    let answer = desk.hear(1).remove(0);
    assert_eq!((answer.to.slot, answer.verdict), (0, Verdict::Allow));
    assert!(answer.question.is_none());
    desk.settled();
    assert_eq!((desk.load(), server.requests()), ((0, 0), 1));
    assert_eq!(desk.ask().verdict, Verdict::Allow);
}

#[test]
fn a_failed_question_comes_back_with_its_answer() {
    let server = Server::always("HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n");
    let mut desk = Desk::new(&server.url());
    let answer = desk.ask();
    assert_eq!(answer.failure(), Some("5xx"));
    let returned = answer.question.unwrap();
    assert_eq!(returned.body, question(1, Asked::Join).body);
}

#[test]
fn a_question_waits_for_a_worker_no_longer_than_a_call_may_take() {
    let server = Server::new(|peer| peer.stay());
    let timeout = Duration::from_millis(300);
    let mut desk = Desk::with(AuthorizerSettings {
        timeout,
        ..settings(&server.url())
    });
    // One that is never put, because the only worker is stuck.
    assert!((0..3).all(|slot| desk.put(slot, Asked::Join)));
    let due = desk.authorizer.due().unwrap();
    let mut answers = Vec::new();
    until(|| {
        desk.authorizer.answers(&mut answers);
        answers.len() >= 2
    });
    assert!(Instant::now() >= due, "not before its time");
    for answer in &answers {
        assert_eq!(answer.verdict, Verdict::Unavailable);
        assert!(answer.took >= timeout);
    }
    let waited = |answer: &&Answer| answer.trouble.as_deref().unwrap().contains("has waited");
    assert!(answers.iter().any(|answer| waited(&answer)));
    until(|| {
        desk.authorizer.answers(&mut answers);
        answers.len() == 3
    });
    assert_eq!(desk.authorizer.due(), None, "nothing waits");
    desk.settled();
    assert!(
        server.requests() <= 2,
        "at most one got the worker after the first"
    );
}

#[test]
fn no_more_workers_are_started_than_questions_are_under_way() {
    // Whole answers, and answers whose body comes a moment after the head.
    let torn = |peer: &mut Peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            thread::yield_now();
            peer.say("ok");
        }
    };
    // The rest of an answer may be late on a busy machine: such a call is still under way, and another worker may start.
    for (server, late) in [(Server::always(OK), 0), (Server::new(torn), 20)] {
        let mut desk = Desk::with(AuthorizerSettings {
            workers: 512,
            queue: 0,
            ..settings(&server.url())
        });
        const CLIENTS: u32 = 20;
        assert!((0..CLIENTS).all(|slot| desk.put(slot, Asked::Join)));
        // Each client asks again as soon as it is answered.
        for _ in 0..100 {
            for answer in desk.hear(1) {
                assert_eq!(answer.verdict, Verdict::Allow);
                assert!(desk.put(answer.to.slot, Asked::Join));
            }
        }
        let most = CLIENTS as usize + late;
        assert!(desk.authorizer.pool.running() <= most);
        assert!(server.connections() <= most);
    }
}
