//! One call: a question goes out as a `POST`, and its answer is judged.
//!
//! Owns: a worker's one kept-alive connection, and its buffers. Knows: which answer means which verdict
//! (docs/authorizer.md#answers). Never knows: other workers, the queue.
//!
//! Decisions
//! - **A question that may have been read is never asked twice.** A kept-alive connection is probed before anything is
//!   written to it. A close that is still on its way cannot be seen, and a question written into it is lost. The one
//!   exception is a `408` on a kept-alive connection, which says that nothing was read (RFC 9110 15.5.9).
//! - **An idle connection is given up before the authorizer would close it.** `Keep-Alive: timeout=N` is believed, less a
//!   fifth. Without it a connection rests 1.5 s at most, below the 2 s of gunicorn and the 5 s of Node, Apache and uvicorn.
//! - **The head decides.** The body is read afterwards, a little and briefly, only so that the connection can be used
//!   again. A `connect` whose `state` may be in the body waits for the whole body: a client let in without its state
//!   would have another identity for the rest of its life.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Settings;
use super::dial::{Dialer, Link};
use super::signature::Signer;
use crate::effect::{Question, Verdict};
use crate::wire::question::read_state;
use crate::wire::response::{self, Body, Head};

/// How long a connection may rest when the authorizer does not say: see the header.
const REST: Duration = Duration::from_millis(1500);
/// The longest rest that is believed: NAT and load balancers forget silently, too.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A body with a `state`: room for what else an authorizer puts beside it.
const MAX_BODY: usize = 64 * 1024;
/// What is read of a body that nobody wants: beyond it a new connection is cheaper.
const DRAIN_LIMIT: usize = 64 * 1024;
/// A worker's receive buffer at rest: the usual answer fits.
const INPUT: usize = 4 * 1024;
/// What is kept of a send buffer that a large question made grow.
const OUTPUT: usize = 64 * 1024;
/// Tells the authorizer that a question comes from `wsify --check`, and that no client waits for its answer.
const PROBE: &str = "x-wsify-probe: 1\r\n";
const CLOSED: &str = "it closed the connection before its answer was complete";

/// What came of a call.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    pub(super) state: Option<Box<str>>,
    pub(super) unreadable: Option<String>,
    pub(super) trouble: Option<String>,
}

impl Outcome {
    /// There was no answer, for this reason.
    pub(super) fn nothing(trouble: String) -> Outcome {
        Outcome {
            verdict: Verdict::Unavailable,
            status: None,
            state: None,
            unreadable: None,
            trouble: Some(trouble),
        }
    }

    /// What a status means by itself.
    pub(super) fn of(status: u16) -> Outcome {
        let verdict = match status {
            200 => Verdict::Allow,
            500..=599 => Verdict::Unavailable,
            _ => Verdict::Deny,
        };
        let down = verdict == Verdict::Unavailable;
        Outcome {
            verdict,
            status: Some(status),
            state: None,
            unreadable: None,
            trouble: down.then(|| format!("status {status}")),
        }
    }
}

/// What all workers' clients have in common.
#[derive(Debug)]
pub(super) struct ClientFactory {
    dialer: Dialer,
    timeout: Duration,
    /// The request up to the digits of its Content-Length.
    request: Vec<u8>,
    signer: Option<Signer>,
}

impl ClientFactory {
    /// `probes`: its questions are marked as made up.
    ///
    /// # Errors
    /// For an `https` URL: no root certificate can be read.
    pub(super) fn new(settings: &Settings, probes: bool) -> io::Result<ClientFactory> {
        let (url, cert_file) = (&settings.url, settings.cert_file.as_ref());
        let uri = &url.uri;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nhost: {}\r\nuser-agent: wsify/{}\r\naccept: */*\r\n\
             content-type: application/json\r\n",
            uri.authority().map_or("", |place| place.as_str()),
            env!("CARGO_PKG_VERSION"),
        )
        .into_bytes();
        if let Some(credentials) = &url.credentials {
            request.extend_from_slice(b"authorization: ");
            request.extend_from_slice(credentials.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        if probes {
            request.extend_from_slice(PROBE.as_bytes());
        }
        request.extend_from_slice(b"content-length: ");
        Ok(ClientFactory {
            dialer: Dialer::new(url, cert_file.map(PathBuf::as_path))?,
            timeout: settings.timeout,
            request,
            signer: Signer::new(&settings.keys),
        })
    }

    pub(super) fn client(self: &Arc<Self>) -> Client {
        Client {
            shared: Arc::clone(self),
            link: None,
            unread: None,
            rest: REST,
            input: Input::default(),
            output: Vec::new(),
        }
    }
}

/// A worker's one connection to the authorizer, kept alive between its calls.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<ClientFactory>,
    /// `None`: the next call makes one.
    link: Option<Link>,
    /// The last answer's body, as far as it has not been read.
    unread: Option<Body>,
    /// How long the connection may rest before the next call.
    pub(super) rest: Duration,
    input: Input,
    output: Vec<u8>,
}

impl Client {
    /// One call, and what its answer means.
    pub(super) fn ask(&mut self, question: &Question) -> Outcome {
        let deadline = Instant::now() + self.shared.timeout;
        let outcome = self.exchange(question, deadline);
        if self.output.capacity() > OUTPUT {
            self.output = Vec::new();
        }
        if self.input.bytes().is_empty() {
            self.input.clear();
        }
        outcome.unwrap_or_else(|trouble| {
            self.hang_up();
            Outcome::nothing(trouble)
        })
    }

    fn exchange(&mut self, question: &Question, deadline: Instant) -> Result<Outcome, String> {
        if self.unread.is_some() || !self.link.as_mut().is_some_and(Link::is_quiet) {
            self.hang_up();
        }
        let reused = self.link.is_some();
        let mut head = self.call(question, deadline)?;
        if reused && head.status == 408 {
            self.hang_up();
            head = self.call(question, deadline)?;
        }
        self.rest = rest(head.idle_timeout);
        let outcome = Outcome::of(head.status);
        if head.status == 200 && question.wants_state && head.is_json {
            return self.with_state(outcome, head, deadline);
        }
        let too_long = |body: &Body| body.announced().is_some_and(|it| it > DRAIN_LIMIT as u64);
        if !head.keeps_alive || too_long(&head.body) {
            self.hang_up();
        } else {
            self.unread = Some(head.body);
        }
        Ok(outcome)
    }

    /// Sends the question, on a new connection if there is none, and reads the head of its answer.
    fn call(&mut self, question: &Question, deadline: Instant) -> Result<Head, String> {
        let failed = |error: io::Error| describe(&error, self.shared.timeout);
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(self.shared.dialer.connect(deadline).map_err(failed)?),
        };
        let body = &question.body;
        self.output.clear();
        self.output.extend_from_slice(&self.shared.request);
        self.output
            .extend_from_slice(format!("{}\r\n", body.len()).as_bytes());
        if let Some(signer) = &self.shared.signer {
            signer.push_header(&mut self.output, unix_seconds(), body);
        }
        self.output.extend_from_slice(b"\r\n");
        self.output.extend_from_slice(body);
        link.write_all(&self.output, deadline).map_err(failed)?;
        let mut seen = 0;
        loop {
            match response::parse_head(self.input.bytes(), seen) {
                Ok(Some((head, used))) => {
                    self.input.consume(used);
                    seen = 0;
                    if !head.is_interim() {
                        return Ok(head);
                    }
                }
                Ok(None) => {
                    seen = self.input.bytes().len();
                    if self.read(deadline)? == 0 {
                        return Err(CLOSED.into());
                    }
                }
                Err(why) => return Err(format!("not HTTP: {why}")),
            }
        }
    }

    /// Reads a body that may hold a `state`, as a whole.
    fn with_state(
        &mut self,
        mut outcome: Outcome,
        head: Head,
        deadline: Instant,
    ) -> Result<Outcome, String> {
        let mut body = head.body;
        let mut text = Vec::new();
        let mut complete = false;
        while !complete && text.len() <= MAX_BODY {
            let fed = body.feed(self.input.bytes(), Some(&mut text));
            let fed = fed.map_err(|why| format!("not HTTP: {why}"))?;
            self.input.consume(fed.used);
            complete = fed.complete;
            let announced = body.announced().unwrap_or_default();
            if complete || announced > MAX_BODY as u64 {
                break;
            }
            match self.read(deadline) {
                Ok(0) if body.is_until_end() => complete = true,
                Ok(0) => return Err(CLOSED.into()),
                Ok(_) => {}
                Err(why) => return Err(why),
            }
        }
        if !complete || text.len() > MAX_BODY {
            self.hang_up();
            outcome.unreadable = Some(format!("it is over {} KiB", MAX_BODY / 1024));
            return Ok(outcome);
        }
        if !head.keeps_alive || !self.input.bytes().is_empty() {
            self.hang_up();
        }
        match read_state(&text) {
            Ok(state) => outcome.state = state,
            Err(why) => outcome.unreadable = Some(why),
        }
        Ok(outcome)
    }

    /// Takes what has come of the last answer's body, without waiting. Returns whether nothing is left to be waited for.
    pub(super) fn finish_at_hand(&mut self) -> bool {
        let Some(body) = &mut self.unread else {
            return true;
        };
        let fed = body.feed(self.input.bytes(), None);
        match fed {
            Ok(fed) if !fed.complete => {
                self.input.consume(fed.used);
                return false;
            }
            // What follows the answer was not asked for, and must not be taken for the next one.
            Ok(fed) if fed.used == self.input.bytes().len() => self.input.consume(fed.used),
            _ => self.hang_up(),
        }
        self.unread = None;
        true
    }

    /// Waits for the rest of the last answer's body, so that its connection can be used again. Returns false when it has
    /// not come within `patience`.
    pub(super) fn finish(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut drained = 0;
        while !self.finish_at_hand() {
            match self.read_until(deadline) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return false,
                Ok(count @ 1..) if drained < DRAIN_LIMIT => drained += count,
                _ => self.hang_up(),
            }
        }
        true
    }

    /// Ends the connection. What has come on it belongs to no later call.
    pub(super) fn hang_up(&mut self) {
        self.link = None;
        self.unread = None;
        self.input.clear();
    }

    fn read(&mut self, deadline: Instant) -> Result<usize, String> {
        let read = self.read_until(deadline);
        read.map_err(|error| describe(&error, self.shared.timeout))
    }

    fn read_until(&mut self, deadline: Instant) -> io::Result<usize> {
        let Some(link) = &mut self.link else {
            return Ok(0);
        };
        let read = match link.read(self.input.room(), deadline) {
            // TLS was not ended as it should be; the body's own framing says whether anything is missing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        self.input.filled(read);
        Ok(read)
    }
}

/// Bytes that have come and were not understood. A worker keeps them in one place for all its calls.
#[derive(Debug, Default)]
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Where the next bytes go; never empty.
    fn room(&mut self) -> &mut [u8] {
        if self.end == self.buffer.len() {
            self.buffer.drain(..self.start);
            self.end -= self.start;
            self.start = 0;
            let more = self.buffer.len().max(INPUT);
            self.buffer.resize(self.end + more, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    fn filled(&mut self, count: usize) {
        self.end = self.buffer.len().min(self.end + count);
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        if self.buffer.len() > INPUT {
            self.buffer = Vec::new();
        }
    }
}

/// How long a connection may rest after an answer: less than the authorizer says, so that the next question and the
/// authorizer's close do not meet on the way.
fn rest(idle_timeout: Option<u32>) -> Duration {
    idle_timeout.map_or(REST, |seconds| {
        LONGEST_REST.min(Duration::from_millis(u64::from(seconds) * 800))
    })
}

/// The time at which a call is signed. A repeated call is signed again.
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Why there is no answer, for the log. Never with the URL, which may hold a secret.
fn describe(error: &io::Error, timeout: Duration) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            format!("timed out after {}", humantime::format_duration(timeout))
        }
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => CLOSED.into(),
        _ => error.to_string(),
    }
}
