//! The thread that sends, against servers on loopback that say anything.

use super::*;
use crate::authorizer::tests::{FORBIDDEN, OK, Peer, Server, TEST_TIMEOUT, until};
use crate::log::Level;

/// The loop's side: a clock that the test sets, and the waker.
struct Loop {
    sender: EventSender,
    poll: mio::Poll,
    log: Log,
    now: Millis,
}

impl Loop {
    fn new(url: &str, timeout: Duration) -> Loop {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let log = Log::in_memory(Level::Debug);
        let settings = settings(url, timeout);
        let sender = EventSender::start(settings, 7, Arc::new(waker), log.clone()).unwrap();
        Loop {
            sender,
            poll,
            log,
            now: 0,
        }
    }

    /// Begins with a batch of this many events, and makes its first call.
    fn begin(&mut self, count: usize) {
        let mut batch = EventBatch::default();
        for _ in 0..count {
            batch.push(self.now, b"{}");
        }
        assert!(self.sender.is_free());
        self.sender.begin(batch);
        self.sender.call(self.now);
    }

    /// Waits for the result of the call by the waker alone.
    fn result(&mut self) -> (CallResult, usize) {
        let mut events = mio::Events::with_capacity(4);
        self.poll.poll(&mut events, Some(TEST_TIMEOUT)).unwrap();
        assert!(!events.is_empty(), "no wake");
        let result = self.sender.take_result(3, self.now).expect("a result");
        assert!(self.sender.take_result(3, self.now).is_none());
        result
    }

    /// Makes the next call when it is due.
    fn next(&mut self) {
        self.now = self.sender.next_deadline().expect("a call is due");
        self.sender.call(self.now);
    }

    fn logged(&self) -> Vec<String> {
        let lines = self.log.take();
        let messages = lines.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let message = line["message"].as_str().unwrap().to_owned();
            match line["reason"].as_str() {
                Some(reason) => format!("{message}, {reason}"),
                None => message,
            }
        });
        messages.collect()
    }
}

fn settings(url: &str, timeout: Duration) -> WebhookSettings {
    WebhookSettings {
        url: url.parse().unwrap(),
        timeout,
        cert_file: None,
        keys: Vec::new(),
        probes: false,
        called_for: "a test",
    }
}

/// Answers its requests with these, one after the other, and then with 200.
fn server(answers: Vec<&'static str>) -> Server {
    let answers = Mutex::new(answers.into_iter());
    Server::new(move |peer: &mut Peer| {
        while peer.request().is_some() {
            let next = answers.lock().unwrap().next();
            peer.say(next.unwrap_or(OK));
        }
    })
}

fn bodies(server: &Server) -> Vec<String> {
    let requests = server.seen.requests.lock().unwrap();
    let body = |it: &String| it.split_once("\r\n\r\n").unwrap().1.to_owned();
    requests.iter().map(body).collect()
}

const DOWN: &str =
    "the receiver of events is down: events wait, and beyond --events-queue the oldest are dropped";
const UP: &str = "the receiver of events is up again";

#[test]
fn batches_are_sent_one_after_the_other_on_one_connection() {
    let server = server(Vec::new());
    let mut turns = Loop::new(&server.url(), TEST_TIMEOUT);
    for count in [1, 3] {
        turns.begin(count);
        assert_eq!(turns.sender.under_way(), (count, Some(0)));
        assert_eq!(turns.sender.next_deadline(), None);
        assert_eq!(turns.result(), (CallResult::Taken, 0));
        turns.sender.call(turns.now);
        assert_eq!(turns.sender.under_way(), (0, None));
    }
    let body = |events| format!(r#"{{"node":"0000000000000007","events":[{events}]}}"#);
    assert_eq!(bodies(&server), [body("{}"), body("{},{},{}")]);
    assert_eq!(server.connections(), 1);
    assert_eq!(turns.logged(), [""; 0]);
}

#[test]
fn failed_event_calls_are_repeated_and_logged_once() {
    let server = server(vec![
        FORBIDDEN,
        "HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n",
        "?",
    ]);
    let mut turns = Loop::new(&server.url(), TEST_TIMEOUT);
    turns.begin(2);
    for _ in 0..3 {
        assert_eq!(turns.result(), (CallResult::Failed, 0));
        turns.next();
        assert_eq!(turns.sender.under_way(), (2, Some(0)));
    }
    assert_eq!(turns.result(), (CallResult::Taken, 0));
    let sent = bodies(&server);
    assert!(sent.len() == 4 && sent.iter().all(|it| *it == sent[0]));
    assert_eq!(
        turns.logged(),
        [format!("{DOWN}, status 403"), UP.to_owned()]
    );
}

#[test]
fn an_event_refused_with_413_alone_is_dropped_and_logged() {
    let large = "HTTP/1.1 413 L\r\nContent-Length: 0\r\n\r\n";
    let server = server(vec![large, large]);
    let mut turns = Loop::new(&server.url(), TEST_TIMEOUT);
    turns.begin(2);
    assert_eq!(turns.result(), (CallResult::TooLarge, 0));
    turns.next();
    assert_eq!(turns.result(), (CallResult::TooLarge, 1));
    turns.next();
    assert_eq!(turns.result(), (CallResult::Taken, 0));
    let lines = turns.logged();
    assert!(lines.len() == 1 && lines[0].contains("413"), "{lines:?}");
}

#[test]
fn a_receiver_that_hangs_fails_after_the_timeout() {
    let server = Server::new(|peer| peer.stay());
    let mut turns = Loop::new(&server.url(), Duration::from_millis(50));
    turns.begin(1);
    assert_eq!(turns.result(), (CallResult::Failed, 0));
    assert_eq!(turns.logged(), [format!("{DOWN}, timed out after 50ms")]);
}

#[test]
fn a_connection_is_given_up_when_it_has_rested_and_with_the_sender() {
    let short = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 0\r\n\r\n";
    let server = server(vec![short]);
    let mut turns = Loop::new(&server.url(), TEST_TIMEOUT);
    turns.begin(1);
    turns.result();
    until(|| server.closed() == 1);
    turns.begin(1);
    turns.result();
    assert_eq!((server.connections(), server.closed()), (2, 1));
    drop(turns);
    until(|| server.closed() == 2);
}

#[test]
fn a_probe_posts_no_events() {
    let server = server(vec![OK, FORBIDDEN]);
    let settings = || WebhookSettings {
        probes: true,
        ..settings(&server.url(), TEST_TIMEOUT)
    };
    assert_eq!(probe(settings()).unwrap().0, 200);
    assert_eq!(probe(settings()).unwrap().0, 403);
    let body = r#"{"node":"0000000000000000","events":[]}"#;
    assert_eq!(bodies(&server), [body, body]);
    let requests = server.seen.requests.lock().unwrap();
    assert!(
        requests
            .iter()
            .all(|it| it.contains("x-wsify-probe: 1\r\n"))
    );
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let refused = probe(super::tests::settings(&url, TEST_TIMEOUT));
    assert_eq!(refused.unwrap_err(), "connection refused");
}

#[test]
fn an_outage_and_its_batch_go_on_in_the_next_program() {
    let server = server(vec![FORBIDDEN]);
    let mut turns = Loop::new(&server.url(), TEST_TIMEOUT);
    turns.begin(2);
    assert!(!turns.sender.is_quiet());
    assert_eq!(turns.result(), (CallResult::Failed, 0));
    assert!(turns.sender.is_quiet());
    let saved = minicbor::to_vec(turns.sender.save()).unwrap();

    let mut next = Loop::new(&server.url(), TEST_TIMEOUT);
    let saved = minicbor::decode(&saved).unwrap();
    next.sender.restore(saved, 7, 0).unwrap();
    assert_eq!(next.sender.next_deadline(), turns.sender.next_deadline());
    next.next();
    assert_eq!(next.result(), (CallResult::Taken, 0));
    assert_eq!(next.logged(), ["the receiver of events is up again"]);
    let bodies = bodies(&server);
    assert_eq!(bodies[0], bodies[1]);
}
