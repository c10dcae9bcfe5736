//! The authorizer's side of the house: questions go out to worker threads, verdicts come home in batches.
//!
//! Owns: the workers, the queue of questions that wait for one, the kept-alive connections to the authorizer, the
//! answers that the loop has not taken yet, and the type of `--authorizer-url`.
//! Knows: HTTP through ureq, the verdict table of CONTRACT §6.
//! Never knows: a client's socket, what a question means, who logs. It logs nothing: trouble travels in the `Answer`.
//!
//! Decisions
//! - **Workers come with the load and go with their connection.** A worker is born when a question finds nobody idle
//!   (up to the limit) and ends when its connection has been idle for too long. Chosen over 32 threads from the start
//!   because a quiet server then holds no thread, no socket and no timer for its authorizer; a birth costs less than
//!   the TCP handshake that follows it anyway. Reconsider if workers share connections (HTTP/2).
//! - **A foreman starts the workers**, a thread that does nothing else and is apart (apart.rs): so their connections are in a
//!   table of descriptors that the loop does not use.
//! - **The worker that rested least gets the next question** (a stack, not a queue), so that under light load few
//!   connections stay warm instead of many growing old, and the rest can end.
//! - **An idle connection is given up before the authorizer would.** Every pooled connection is probed before use
//!   (ureq reads it without blocking: closed, or bytes nobody asked for, and it is dropped), but a close that is still
//!   on its way cannot be seen, and a question written into it is lost: it may have been read, so it is never asked
//!   again. `Keep-Alive: timeout=N` is therefore believed (less a fifth); without it a connection rests 1.5 s at most,
//!   below the 2 s of gunicorn and the 5 s of Node, Apache and uvicorn.
//! - **The head decides, and goes home at once**; the body is read afterwards, a little and briefly, only so that the
//!   connection can be used again. A `connect` whose `state` may be in the body waits for the whole body: one that
//!   breaks off or comes too late is no answer (`Unavailable`), since a connection let in without its state would be
//!   somebody else for the rest of its life.
//! - **No proxy from the environment.** The authorizer is part of the deployment; `HTTP_PROXY` is meant for the world.
//! - **Nothing waits for the workers at the end**: a dropped `Authorizer` tells the idle ones, the busy ones find out.

mod dial;
mod fuzz;
mod url;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{HeaderMap, HeaderValue, header};

use self::dial::{Dialer, Later};
#[doc(hidden)]
pub use self::fuzz::fuzz;
pub use self::url::Url;
use crate::apart;
use crate::effect::{Answer, ConnId, Question, Verdict};
use crate::wire::http;
use crate::wire::question::parse_state;

/// How long a connection may rest when the authorizer does not say: see the header.
const REST: Duration = Duration::from_millis(1500);
/// The longest rest that is believed: what stands between (NAT, balancers) forgets silently, too.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A body with a `state` (CONTRACT §6).
const STATE_LIMIT: u64 = 4 * 1024;
/// What is read of a body that nobody wants: beyond it a new connection is cheaper.
const DRAIN_LIMIT: u64 = 64 * 1024;
/// And for how long. It follows its head at once, or something is wrong with it.
const DRAIN_TIME: Duration = Duration::from_millis(250);
/// An answer's head. Generous: what an authorizer says fits in one line.
const HEAD_LIMIT: usize = 16 * 1024;
/// ureq's buffer for what comes, of which each worker has one: the head has to fit.
const INPUT: usize = HEAD_LIMIT;
/// And for what goes, besides the URL and its credentials: the head has to fit, and so does the usual question.
const OUTPUT: usize = 8 * 1024;
/// Tells the authorizer that a question comes from `wsify --check`, and that nobody waits to be let in.
const PROBE: &str = "X-Wsify-Probe";
/// A worker's stack: most of what it needs is TLS.
const STACK: usize = 512 * 1024;

/// What an [`Authorizer`] is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub url: Url,
    /// For one whole call: name, connection, TLS, question and answer.
    pub timeout: Duration,
    /// Calls in flight at most; 0 counts as 1.
    pub workers: usize,
    /// Questions that may wait for a worker.
    pub queue: usize,
    /// A PEM file of roots that are trusted besides the system's: what `SSL_CERT_FILE` names (empty: none).
    pub cert_file: Option<PathBuf>,
}

/// The pool of workers that ask the authorizer.
pub struct Authorizer {
    house: Arc<House>,
    /// To the foreman: the numbers of workers that are to be started.
    births: Sender<usize>,
    queue: usize,
}

impl Authorizer {
    /// Prepares the pool; no worker is started and nothing is sent before the first question. `waker` is woken when
    /// answers have come home.
    ///
    /// # Errors
    /// For an `https` URL: no root certificate could be read. Or the foreman's thread cannot start.
    pub fn start(settings: Settings, waker: Arc<mio::Waker>) -> io::Result<Authorizer> {
        let workers = settings.workers.max(1);
        let house = Arc::new(House {
            workers,
            line: LineMaker::new(settings.url, settings.timeout, settings.cert_file)?,
            work: Mutex::new(Work {
                waiting: VecDeque::new(),
                idle: Vec::new(),
                vacant: (1..=workers).rev().collect(),
                unborn: 0,
                closed: false,
            }),
            home: Mutex::new(Vec::new()),
            waker,
        });
        let (births, wanted) = channel();
        let foreman = Arc::clone(&house);
        apart::spawn("authorizer", move || {
            wanted
                .into_iter()
                .for_each(|number| House::employ(&foreman, number));
        })?;
        Ok(Authorizer {
            house,
            births,
            queue: settings.queue,
        })
    }

    /// Hands a question to a worker, or to the queue. Never blocks.
    ///
    /// # Errors
    /// The question comes back when all workers are busy and the queue is full: the authorizer counts as down.
    pub fn ask(&self, question: Question) -> Result<(), Question> {
        let mut task = Task {
            question,
            asked: Instant::now(),
        };
        let mut work = self.house.work();
        while let Some(idle) = work.idle.pop() {
            match idle.tasks.send(task) {
                Ok(()) => return Ok(()),
                Err(refused) => task = refused.0,
            }
        }
        if let Some(number) = work.vacant.pop() {
            match self.births.send(number) {
                Ok(()) => {
                    work.unborn += 1;
                    work.waiting.push_back(task);
                    return Ok(());
                }
                Err(_) => work.vacant.push(number),
            }
        }
        let somebody_works = work.vacant.len() < self.house.workers;
        if somebody_works && work.waiting.len() < self.queue + work.unborn {
            work.waiting.push_back(task);
            return Ok(());
        }
        Err(task.question)
    }

    /// Takes all answers that have come home. To be called at every wake: only the first answer since the last call
    /// wakes the loop.
    pub fn answers(&self, into: &mut Vec<Answer>) {
        into.append(&mut lock(&self.house.home));
    }

    /// Questions that a worker is busy with.
    pub fn in_flight(&self) -> usize {
        let work = self.house.work();
        let workers = self.house.workers;
        workers.saturating_sub(work.vacant.len() + work.idle.len())
    }

    /// Questions that wait for a worker.
    pub fn waiting(&self) -> usize {
        let work = self.house.work();
        work.waiting.len().saturating_sub(work.unborn)
    }
}

impl Drop for Authorizer {
    /// Idle workers end now (their sender is gone), busy ones when their call is over.
    fn drop(&mut self) {
        let mut work = self.house.work();
        work.closed = true;
        work.idle.clear();
        work.waiting.clear();
    }
}

/// What the workers share with the loop.
struct House {
    /// How many there may be.
    workers: usize,
    line: LineMaker,
    work: Mutex<Work>,
    home: Mutex<Vec<Answer>>,
    waker: Arc<mio::Waker>,
}

/// Who does what. While a question waits nobody is idle: both sides change it under the one lock.
struct Work {
    /// Questions that wait for a worker, which may be about to be started for them.
    waiting: VecDeque<Task>,
    /// The last one rested least.
    idle: Vec<Idle>,
    /// Numbers of the workers that are not there.
    vacant: Vec<usize>,
    /// Workers that are being started, and have not looked for a question yet.
    unborn: usize,
    closed: bool,
}

struct Task {
    question: Question,
    asked: Instant,
}

/// A worker that waits for its next question, and the one-place channel to hand it over.
struct Idle {
    number: usize,
    tasks: SyncSender<Task>,
}

impl House {
    fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }

    /// Starts worker `number`, as the foreman. If nobody is there and nobody can be started, what waits is answered.
    fn employ(house: &Arc<House>, number: usize) {
        let theirs = Arc::clone(house);
        let started = thread::Builder::new()
            .name(format!("authorizer-{number}"))
            .stack_size(STACK)
            .spawn(move || theirs.serve(number));
        let Err(error) = started else { return };
        let mut work = house.work();
        work.unborn -= 1;
        work.vacant.push(number);
        if work.vacant.len() < house.workers {
            return;
        }
        let orphans = std::mem::take(&mut work.waiting);
        drop(work);
        for Task { question, asked } in orphans {
            let trouble = format!("no thread can be started to ask it: {error}");
            house.bring_home(Answer {
                to: question.from,
                verdict: Verdict::Unavailable,
                state: None,
                state_too_long: false,
                trouble: Some(trouble),
                took: asked.elapsed(),
            });
        }
    }

    /// A worker's life.
    fn serve(&self, number: usize) {
        let mut line = self.line.make();
        let mut work = self.work();
        // With its first question, or none: until then that does not count as waiting.
        work.unborn -= 1;
        let mut next = self.next(work, number, line.rest);
        while let Some(Task { question, asked }) = next {
            // A panic in there would be a defect of a library; it costs this connection and no question.
            let heard = catch_unwind(AssertUnwindSafe(|| line.ask(&question)));
            let heard = heard.unwrap_or_else(|_| {
                line = self.line.make();
                Heard::nothing("the call failed inside the server".into())
            });
            self.bring_home(Answer {
                to: question.from,
                verdict: heard.verdict,
                state: heard.state,
                state_too_long: heard.state_too_long,
                trouble: heard.trouble,
                took: asked.elapsed(),
            });
            if let Some(rest) = heard.rest
                && catch_unwind(AssertUnwindSafe(|| drain(rest))).is_err()
            {
                line = self.line.make();
            }
            next = self.next(self.work(), number, line.rest);
        }
    }

    /// The next question for worker `number`, which may wait for it as long as its connection is worth keeping.
    /// `None`: the worker is to end, and its number is vacant.
    fn next(&self, mut work: MutexGuard<Work>, number: usize, rest: Duration) -> Option<Task> {
        if work.closed {
            return None;
        }
        if let Some(task) = work.waiting.pop_front() {
            return Some(task);
        }
        let (tasks, mine) = sync_channel(1);
        work.idle.push(Idle { number, tasks });
        drop(work);
        match mine.recv_timeout(rest) {
            Ok(task) => return Some(task),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut work = self.work();
        if let Some(at) = work.idle.iter().position(|idle| idle.number == number) {
            work.idle.remove(at);
            work.vacant.push(number);
            return None;
        }
        // Somebody took it off the list just now, and has sent a question under the same lock.
        mine.try_recv().ok()
    }

    fn bring_home(&self, answer: Answer) {
        let mut home = lock(&self.home);
        home.push(answer);
        let first_of_batch = home.len() == 1;
        drop(home);
        if first_of_batch {
            // It fails only when the poll is gone, and with it whoever waited for the answer.
            let _ = self.waker.wake();
        }
    }
}

/// Nothing panics while it holds one of our locks; were it otherwise, the values would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call brought.
struct Heard {
    verdict: Verdict,
    state: Option<Box<str>>,
    state_too_long: bool,
    trouble: Option<String>,
    /// The body, as far as it has not been read.
    rest: Option<ureq::Body>,
}

impl Heard {
    fn said(verdict: Verdict, rest: ureq::Body) -> Heard {
        Heard {
            verdict,
            state: None,
            state_too_long: false,
            trouble: None,
            rest: Some(rest),
        }
    }

    fn nothing(trouble: String) -> Heard {
        Heard {
            verdict: Verdict::Unavailable,
            state: None,
            state_too_long: false,
            trouble: Some(trouble),
            rest: None,
        }
    }
}

/// Asks one question here and now, marked as a probe. Returns the verdict, what is the matter if it is `Unavailable`,
/// and how long it took.
///
/// # Errors
/// The settings cannot be used.
pub fn probe(settings: Settings, body: Vec<u8>) -> io::Result<(Verdict, Option<String>, Duration)> {
    let maker = LineMaker::new(settings.url, settings.timeout, settings.cert_file)?;
    let mut line = Line {
        probes: true,
        ..maker.make()
    };
    let question = Question {
        from: ConnId {
            slot: 0,
            generation: 0,
        },
        wants_state: true,
        body,
    };
    let asked = Instant::now();
    let heard = line.ask(&question);
    Ok((heard.verdict, heard.trouble, asked.elapsed()))
}

/// A worker's one connection to the authorizer, kept alive between its calls.
struct Line {
    agent: ureq::Agent,
    /// Whether its questions are marked as nobody's.
    probes: bool,
    url: Url,
    timeout: Duration,
    /// How long the connection may rest before the next call.
    rest: Duration,
}

impl Line {
    /// One call, and what its answer means (CONTRACT §6). Nothing is ever sent twice: ureq has no retry, and a
    /// connection is probed before anything is written to it.
    fn ask(&mut self, question: &Question) -> Heard {
        let mut request = self
            .agent
            .post(self.url.uri.clone())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(credentials) = &self.url.credentials {
            request = request.header(header::AUTHORIZATION, credentials.clone());
        }
        if self.probes {
            request = request.header(PROBE, "1");
        }
        if !question.wants_state {
            let config = request.config().timeout_recv_body(Some(DRAIN_TIME));
            request = config.build();
        }
        let response = match request.send(&question.body[..]) {
            Ok(response) => response,
            Err(error) => return Heard::nothing(describe(&error, self.timeout)),
        };
        self.rest = rest(response.headers());
        let status = response.status().as_u16();
        let may_hold_state = question.wants_state
            && response
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| http::is_json(kind.as_bytes()));
        let body = response.into_body();
        match status {
            200 if may_hold_state => self.with_state(body),
            200 => Heard::said(Verdict::Allow, body),
            500..=599 => Heard {
                trouble: Some(format!("status {status}")),
                ..Heard::said(Verdict::Unavailable, body)
            },
            _ => Heard::said(Verdict::Deny, body),
        }
    }

    fn with_state(&self, mut body: ureq::Body) -> Heard {
        let too_long = |body| Heard {
            state_too_long: true,
            ..Heard::said(Verdict::Allow, body)
        };
        if body.content_length().is_some_and(|it| it > STATE_LIMIT) {
            return too_long(body);
        }
        let mut text = Vec::new();
        let read = body
            .as_reader()
            .take(STATE_LIMIT + 1)
            .read_to_end(&mut text);
        match read {
            Err(error) => Heard::nothing(describe(&error.into(), self.timeout)),
            Ok(_) if text.len() as u64 > STATE_LIMIT => too_long(body),
            Ok(_) => Heard {
                state: parse_state(&text),
                ..Heard::said(Verdict::Allow, body)
            },
        }
    }
}

/// Reads what is left of an answer, so that its connection can be used again. Failing costs the connection only.
fn drain(mut body: ureq::Body) {
    if body.content_length().is_none_or(|it| it <= DRAIN_LIMIT) {
        let _ = io::copy(&mut body.as_reader().take(DRAIN_LIMIT + 1), &mut io::sink());
    }
}

/// How long the connection may rest: `Keep-Alive: timeout=5` (what Node and Apache say) less a fifth, so that our
/// next question and the authorizer's close do not meet on the way.
fn rest(head: &HeaderMap) -> Duration {
    head.get_all("keep-alive")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
        .and_then(|(_, seconds)| seconds.trim().parse::<u32>().ok())
        .map_or(REST, |seconds| {
            LONGEST_REST.min(Duration::from_millis(u64::from(seconds) * 800))
        })
}

/// Why there is no answer, for the log. Never with the URL, which may hold a secret.
fn describe(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => {
            format!("timed out after {}", humantime::format_duration(timeout))
        }
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".into(),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => {
                "it closed the connection before its answer was complete".into()
            }
            _ => error.to_string(),
        },
        ureq::Error::Protocol(error) => format!("not HTTP: {error}"),
        ureq::Error::Other(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// What all workers' lines have in common.
struct LineMaker {
    url: Url,
    timeout: Duration,
    config: Config,
    dialer: Dialer,
}

impl LineMaker {
    fn new(url: Url, timeout: Duration, cert_file: Option<PathBuf>) -> io::Result<LineMaker> {
        let dialer = Dialer::new(&url, cert_file.as_deref())?;
        let credentials = url.credentials.as_ref().map_or(0, HeaderValue::len);
        let said = url.uri.to_string().len() + credentials;
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("wsify/", env!("CARGO_PKG_VERSION")))
            .accept_encoding(AutoHeaderValue::None)
            .timeout_global(Some(timeout))
            .max_response_header_size(HEAD_LIMIT)
            .input_buffer_size(INPUT)
            .output_buffer_size(OUTPUT + said)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            // The worker watches the age: it ends, and its connection with it.
            .max_idle_age(2 * LONGEST_REST)
            .build();
        Ok(LineMaker {
            url,
            timeout,
            config,
            dialer,
        })
    }

    fn make(&self) -> Line {
        Line {
            agent: ureq::Agent::with_parts(self.config.clone(), self.dialer.clone(), Later),
            probes: false,
            url: self.url.clone(),
            timeout: self.timeout,
            rest: REST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use std::io::Write;
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    pub(super) const NO: &str = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";
    pub(super) const PATIENCE: Duration = Duration::from_secs(20);

    /// An authorizer on loopback: a thread per connection runs the script it was made with.
    pub(super) struct Server {
        pub(super) addr: SocketAddr,
        pub(super) seen: Arc<Seen>,
    }

    #[derive(Default)]
    pub(super) struct Seen {
        stop: AtomicBool,
        connections: AtomicUsize,
        /// Connections whose script has ended; their sockets are closed.
        closed: AtomicUsize,
        pub(super) requests: Mutex<Vec<String>>,
        /// The connection that each of them came on.
        via: Mutex<Vec<usize>>,
    }

    pub(super) struct Peer<S = TcpStream> {
        pub(super) stream: S,
        /// Which connection this is, from 1.
        pub(super) number: usize,
        pub(super) seen: Arc<Seen>,
        pub(super) inbox: Vec<u8>,
    }

    impl Server {
        pub(super) fn new(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
            Server::on("127.0.0.1:0", script)
        }

        pub(super) fn on(addr: &str, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
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
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
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
                        // Another test's foreman may have begun meanwhile, and have a copy of it.
                        let _ = stream.shutdown(Shutdown::Write);
                        drop(stream);
                        seen.closed.fetch_add(1, SeqCst);
                    });
                }
            });
            Server { addr, seen }
        }

        /// Answers every question on a kept-alive connection with the same bytes.
        pub(super) fn always(answer: impl Into<Vec<u8>>) -> Server {
            let answer = answer.into();
            Server::new(move |peer| {
                while peer.request().is_some() {
                    peer.say(&answer);
                }
            })
        }

        pub(super) fn url(&self) -> String {
            format!("http://{}/ask", self.addr)
        }

        pub(super) fn connections(&self) -> usize {
            self.seen.connections.load(SeqCst)
        }

        pub(super) fn closed(&self) -> usize {
            self.seen.closed.load(SeqCst)
        }

        pub(super) fn requests(&self) -> usize {
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
        pub(super) fn request(&mut self) -> Option<String> {
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

        pub(super) fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
            self.stream.write_all(bytes.as_ref()).is_ok()
        }

        /// Waits for the other side to close.
        pub(super) fn stay(&mut self) {
            while self.request().is_some() {}
        }
    }

    /// The loop's side.
    pub(super) struct Desk {
        authorizer: Authorizer,
        poll: mio::Poll,
        home: Vec<Answer>,
    }

    impl Desk {
        pub(super) fn new(url: &str) -> Desk {
            Desk::with(settings(url))
        }

        pub(super) fn with(settings: Settings) -> Desk {
            let poll = mio::Poll::new().unwrap();
            let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
            Desk {
                authorizer: Authorizer::start(settings, Arc::new(waker)).unwrap(),
                poll,
                home: Vec::new(),
            }
        }

        pub(super) fn put(&self, slot: u32, wants_state: bool) -> bool {
            self.authorizer.ask(question(slot, wants_state)).is_ok()
        }

        /// Waits for `count` answers by the waker alone.
        pub(super) fn hear(&mut self, count: usize) -> Vec<Answer> {
            let deadline = Instant::now() + PATIENCE;
            let mut events = mio::Events::with_capacity(4);
            while self.home.len() < count {
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "{} of {count} answers", self.home.len());
                self.poll.poll(&mut events, Some(left)).unwrap();
                self.authorizer.answers(&mut self.home);
            }
            std::mem::take(&mut self.home)
        }

        pub(super) fn ask(&mut self) -> Answer {
            assert!(self.put(1, false));
            self.hear(1).remove(0)
        }

        pub(super) fn connect(&mut self) -> Answer {
            assert!(self.put(1, true));
            self.hear(1).remove(0)
        }

        /// Until every worker rests: the last connection is back in its pool, or dropped.
        pub(super) fn settled(&self) {
            until(|| self.authorizer.in_flight() == 0);
        }
    }

    pub(super) fn settings(url: &str) -> Settings {
        Settings {
            url: url.parse().unwrap(),
            timeout: PATIENCE,
            workers: 1,
            queue: 100,
            cert_file: None,
        }
    }

    fn question(slot: u32, wants_state: bool) -> Question {
        Question {
            from: ConnId {
                slot,
                generation: 7,
            },
            wants_state,
            body: format!("{{\"command\":\"{slot}\"}}").into_bytes(),
        }
    }

    pub(super) fn until(mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            assert!(Instant::now() < deadline, "not reached in time");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn verdicts() {
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
            ("HTTP/1.1 401 Who\r\n\r\n", Deny),
            ("HTTP/1.1 404 Where\r\n\r\n", Deny),
            (NO, Deny),
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
                assert_eq!(answer.to, question(1, false).from);
                assert_eq!(answer.state, None);
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
    fn what_is_sent() {
        let server = Server::always(OK);
        let mut desk = Desk::new(&format!("http://{}/ask/me?key=a%20b#f", server.addr));
        assert_eq!(desk.ask().verdict, Verdict::Allow);
        assert_eq!(
            server.seen.requests.lock().unwrap()[0],
            format!(
                "POST /ask/me?key=a%20b HTTP/1.1\r\ncontent-length: 15\r\nuser-agent: wsify/{}\r\n\
                 accept: */*\r\nhost: {}\r\ncontent-type: application/json\r\n\r\n{{\"command\":\"1\"}}",
                env!("CARGO_PKG_VERSION"),
                server.addr
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
        let mut big = question(1, false);
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
            NO,
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
                assert!(desk.put(1, round % 2 == 0));
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
                peer.say(NO);
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
                    peer.say(NO);
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
            until(|| desk.authorizer.house.work().vacant.len() == 1);
            until(|| server.closed() == round);
        }
        assert_eq!((server.connections(), server.requests()), (3, 3));
        assert_eq!(desk.authorizer.in_flight(), 0);
    }

    #[test]
    fn how_long_a_connection_rests() {
        for (value, millis) in [
            ("timeout=5", 4000),
            ("timeout=5, max=100", 4000),
            ("max=100,Timeout = 2", 1600),
            ("timeout=0", 0),
            ("timeout=75", 60_000),
            ("timeout=4294967295", 60_000),
            ("timeout=99999999999", 1500),
            ("timeout=-1", 1500),
            ("timeout", 1500),
            ("", 1500),
        ] {
            let mut head = HeaderMap::new();
            head.insert("keep-alive", HeaderValue::from_static(value));
            assert_eq!(rest(&head), Duration::from_millis(millis), "{value}");
        }
        assert_eq!(rest(&HeaderMap::new()), REST);

        let server =
            Server::always("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n");
        let mut line = Desk::new(&server.url()).authorizer.house.line.make();
        line.ask(&question(1, false));
        assert_eq!(line.rest, Duration::from_secs(4));
    }

    /// A server that answers when it is told to.
    fn gated(answer: &'static str) -> (Server, Arc<AtomicBool>) {
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
        let mut desk = Desk::with(Settings {
            workers: 32,
            ..settings(&server.url())
        });
        assert!((0..100).all(|slot| desk.put(slot, false)));
        until(|| server.requests() == 32);
        assert_eq!(
            (desk.authorizer.in_flight(), desk.authorizer.waiting()),
            (32, 68)
        );
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
    fn the_queue_is_full() {
        for queue in [0, 2] {
            let (server, open) = gated(OK);
            let mut desk = Desk::with(Settings {
                queue,
                ..settings(&server.url())
            });
            for slot in 0..=queue {
                assert!(desk.put(slot as u32, false));
            }
            let refused = desk.authorizer.ask(question(99, false)).unwrap_err();
            assert_eq!(refused.from.slot, 99);
            assert_eq!(
                (desk.authorizer.in_flight(), desk.authorizer.waiting()),
                (1, queue)
            );
            open.store(true, SeqCst);
            // First come, first served.
            let slots: Vec<_> = desk
                .hear(queue + 1)
                .iter()
                .map(|answer| answer.to.slot)
                .collect();
            assert_eq!(slots, (0..=queue as u32).collect::<Vec<_>>());
            desk.settled();
            assert!(desk.put(100, false), "and there is room again");
            desk.hear(1);
        }
    }

    #[test]
    fn few_questions_need_few_workers() {
        let server = Server::always(OK);
        let mut desk = Desk::with(Settings {
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
        let mut desk = Desk::with(Settings {
            workers: 4,
            ..settings(&server.url())
        });
        assert!((0..4).all(|slot| desk.put(slot, false)));
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
    fn one_wake_per_batch() {
        let server = Server::always(OK);
        let mut desk = Desk::new(&server.url());
        let mut events = mio::Events::with_capacity(4);
        for _ in 0..2 {
            assert!(desk.put(1, false));
            desk.poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty());
            assert!(desk.put(2, false));
            desk.settled();
            desk.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty(), "the batch was announced already");
            desk.authorizer.answers(&mut desk.home);
            assert_eq!(desk.home.len(), 2);
            desk.home.clear();
        }
    }

    #[test]
    fn no_answer_in_time() {
        let drips = |peer: &mut Peer| {
            peer.request();
            while peer.say("HTTP/1.1 103 Wait\r\n\r\n") {
                thread::park_timeout(Duration::from_millis(5));
            }
        };
        for server in [
            Server::new(|peer| peer.stay()),
            Server::new(|_| thread::park_timeout(PATIENCE)),
            Server::new(drips),
        ] {
            let mut desk = Desk::with(Settings {
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
                let mut desk = Desk::with(Settings {
                    timeout: Duration::from_millis(300),
                    ..settings(&server.url())
                });
                assert_eq!(
                    desk.connect().verdict,
                    Verdict::Unavailable,
                    "{head} {closes}"
                );
                // Who wants no state has heard enough.
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
    fn states() {
        let long = format!("{{\"state\":\"{}\"}}", "x".repeat(4096 - 12));
        let longer = format!("{{\"state\":\"{}\"}}", "x".repeat(4097 - 12));
        assert_eq!((long.len(), longer.len()), (4096, 4097));
        let json = "application/json";
        let table: &[(&str, &str, Option<&str>, bool)] = &[
            (
                json,
                r#"{"state":{"user":42}}"#,
                Some(r#"{"user":42}"#),
                false,
            ),
            (json, r#" {"a":1,"state": 1.50 } "#, Some("1.50"), false),
            (
                "Application/JSON ; charset=utf-8",
                r#"{"state":"x"}"#,
                Some(r#""x""#),
                false,
            ),
            ("text/plain", r#"{"state":1}"#, None, false),
            ("application/jsonp", r#"{"state":1}"#, None, false),
            ("", r#"{"state":1}"#, None, false),
            (json, r#"{"other":1}"#, None, false),
            (json, r#"{"state":null}"#, None, false),
            (json, r#"{"state":1,"state":2}"#, None, false),
            (json, "[1]", None, false),
            (json, "", None, false),
            (json, r#"{"state":1"#, None, false),
            (json, &long, Some(&long[9..4095]), false),
            (json, &longer, None, true),
        ];
        for (kind, body, state, too_long) in table {
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
            for answer in [
                format!("{head}Content-Length: {length}\r\n\r\n{body}"),
                format!(
                    "{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
                )
                .replace("\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n"),
            ] {
                let server = Server::always(answer.clone());
                let mut desk = Desk::new(&server.url());
                let heard = desk.connect();
                assert_eq!(heard.verdict, Verdict::Allow, "{answer}");
                assert_eq!(heard.state.as_deref(), *state, "{answer}");
                assert_eq!(heard.state_too_long, *too_long, "{answer}");
                assert_eq!(heard.trouble, None);
                let heard = desk.ask();
                assert_eq!(
                    (heard.state, heard.state_too_long),
                    (None, false),
                    "{answer}"
                );
                desk.settled();
                if length > 0 {
                    assert_eq!(server.connections(), 1, "{answer}");
                }
            }
        }
        // The connection's end is the body's.
        let server = Server::new(|peer| {
            peer.request();
            peer.say("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"state\":1}");
        });
        assert_eq!(
            Desk::new(&server.url()).connect().state.as_deref(),
            Some("1")
        );
        // Only a yes may set one.
        let server = Server::always(
            "HTTP/1.1 403 No\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"state\":1}",
        );
        let heard = Desk::new(&server.url()).connect();
        assert_eq!((heard.verdict, heard.state), (Verdict::Deny, None));
    }

    #[test]
    fn a_body_without_end_holds_nobody() {
        for (head, chunk) in [
            ("Content-Length: 99999999999", "x".repeat(1000)),
            (
                "Transfer-Encoding: chunked",
                format!("3e8\r\n{}\r\n", "x".repeat(1000)),
            ),
            ("Connection: close", "x".repeat(1000)),
        ] {
            for wants_state in [false, true] {
                let chunk = chunk.clone();
                let server = Server::new(move |peer| {
                    peer.request();
                    peer.say(format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
                    ));
                    while peer.say(&chunk) {}
                });
                let mut desk = Desk::new(&server.url());
                assert!(desk.put(1, wants_state));
                let heard = desk.hear(1).remove(0);
                assert_eq!(heard.verdict, Verdict::Allow);
                assert_eq!(heard.state_too_long, wants_state);
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
        let mut desk = Desk::with(Settings {
            timeout: Duration::from_secs(3600),
            ..settings(&server.url())
        });
        assert_eq!(desk.ask().verdict, Verdict::Deny);
        desk.settled();
        until(|| server.closed() == 1);
    }

    #[test]
    fn nobody_listens() {
        let addr = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let answer = Desk::new(&format!("http://{addr}/")).ask();
        assert_eq!(answer.verdict, Verdict::Unavailable);
        assert_eq!(answer.trouble.as_deref(), Some("connection refused"));
    }

    #[test]
    fn names_and_ipv6() {
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

        let mut desk = Desk::with(Settings {
            timeout: Duration::from_secs(1),
            ..settings("http://nobody.invalid/")
        });
        assert_eq!(desk.ask().verdict, Verdict::Unavailable);
    }

    #[test]
    fn the_end_waits_for_nobody() {
        let server = Server::new(|peer| peer.stay());
        let desk = Desk::with(Settings {
            timeout: Duration::from_secs(3600),
            ..settings(&server.url())
        });
        assert!(desk.put(1, false));
        assert!(desk.put(2, false));
        until(|| server.requests() == 1);
        drop(desk);

        let server = Server::always(
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3600\r\nContent-Length: 0\r\n\r\n",
        );
        let mut desk = Desk::new(&server.url());
        desk.ask();
        desk.settled();
        drop(desk);
        until(|| server.closed() == 1);
    }
}
