//! One call: a question goes out as a `POST`, and its answer is judged.
//!
//! Owns: a worker's one kept-alive connection. Knows: HTTP through ureq, and which answer means which verdict
//! (docs/authorizer.md#answers). Never knows: other workers, the queue.
//!
//! Decisions
//! - **A question that may have been read is never asked twice.** A kept-alive connection is probed before anything is
//!   written to it. A close that is still on its way cannot be seen, and a question written into it is lost. The one
//!   exception is a `408` on a kept-alive connection, which says that nothing was read (RFC 9110 15.5.9).
//! - **An idle connection is given up before the authorizer would close it.** `Keep-Alive: timeout=N` is believed, less a
//!   fifth. Without it a connection rests 1.5 s at most, below the 2 s of gunicorn and the 5 s of Node, Apache and uvicorn.
//! - **An agent for each worker**, over one for all: its pool holds this worker's connection and nothing else, so that no
//!   lock is shared, and dropping the agent is how the connection ends.
//! - **The head decides.** The body is read afterwards, a little and briefly, only so that the connection can be used
//!   again. A `connect` whose `state` may be in the body waits for the whole body: a client let in without its state
//!   would have another identity for the rest of its life.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{HeaderMap, HeaderValue, Response, header};

use super::dial::{Dialer, Later};
use super::settings::AuthorizerSettings;
use super::signature::Signer;
use super::traffic::Traffic;
use super::url::Url;
use crate::effect::{Question, Verdict};
use crate::wire::answer_fields::{AnswerFields, Asked, WrongField};
use crate::wire::http;
use crate::wire::question::read_state;

/// How long a connection may rest when the authorizer does not say: see the header.
const REST: Duration = Duration::from_millis(1500);
/// The longest rest that is believed: NAT and load balancers forget silently, too.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A body with a `state`: room for what else an authorizer puts beside it.
const MAX_BODY: usize = 64 * 1024;
/// What is read of a body that nobody wants: beyond it a new connection is cheaper.
const DRAIN_LIMIT: usize = 64 * 1024;
/// An answer's head. Far more than any framework sends; cookies and policies that a proxy adds count too. (ureq takes 128
/// header lines at most.)
const MAX_HEAD: usize = 100 * 1024;
/// ureq's receive buffer: the head has to fit. The pages that no answer reaches are never touched.
const INPUT: usize = 2 * MAX_HEAD;
/// And for what goes, besides the URL and its credentials: the head has to fit, and so does the usual question.
const OUTPUT: usize = 8 * 1024;
/// Tells the authorizer that a question comes from `wsify --check`, and that no client waits for its answer.
const PROBE: &str = "x-wsify-probe";

/// What came of a call.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    pub(super) fields: Option<Box<AnswerFields>>,
    pub(super) unreadable: Option<String>,
    pub(super) wrong: Vec<WrongField>,
    pub(super) trouble: Option<String>,
    /// Its status is 5xx, or there was no HTTP answer.
    pub(super) call_failed: bool,
}

impl Outcome {
    /// There was no answer, for this reason.
    pub(super) fn nothing(trouble: String) -> Outcome {
        Outcome {
            verdict: Verdict::Unavailable,
            status: None,
            fields: None,
            unreadable: None,
            wrong: Vec::new(),
            trouble: Some(trouble),
            call_failed: true,
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
            fields: None,
            unreadable: None,
            wrong: Vec::new(),
            trouble: down.then(|| format!("status {status}")),
            call_failed: down,
        }
    }
}

/// What all workers' clients have in common.
#[derive(Debug)]
pub(super) struct ClientFactory {
    url: Url,
    timeout: Duration,
    config: Config,
    dialer: Dialer,
    signer: Option<Signer>,
    probes: bool,
}

impl ClientFactory {
    /// `probes`: its questions are marked as made up.
    ///
    /// # Errors
    /// For an `https` URL: no root certificate can be read.
    pub(super) fn new(settings: &AuthorizerSettings, probes: bool) -> io::Result<ClientFactory> {
        let (url, cert_file) = (&settings.url, settings.cert_file.as_ref());
        let credentials = url.credentials.as_ref().map_or(0, HeaderValue::len);
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("wsify/", env!("CARGO_PKG_VERSION")))
            .accept_encoding(AutoHeaderValue::None)
            .timeout_global(Some(settings.timeout))
            .max_response_header_size(MAX_HEAD)
            .input_buffer_size(INPUT)
            .output_buffer_size(OUTPUT + url.uri.to_string().len() + credentials)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            // The worker watches the age: it ends, and its connection with it.
            .max_idle_age(2 * LONGEST_REST)
            .build();
        Ok(ClientFactory {
            url: url.clone(),
            timeout: settings.timeout,
            config,
            dialer: Dialer::new(url, cert_file.map(PathBuf::as_path))?,
            signer: Signer::new(&settings.keys),
            probes,
        })
    }

    pub(super) fn client(self: &Arc<Self>) -> Client {
        let traffic = Arc::default();
        Client {
            agent: self.agent(&traffic),
            shared: Arc::clone(self),
            traffic,
            unread: None,
            rest: REST,
        }
    }

    fn agent(&self, traffic: &Arc<Traffic>) -> ureq::Agent {
        let dialer = self.dialer.counting(Arc::clone(traffic));
        ureq::Agent::with_parts(self.config.clone(), dialer, Later)
    }
}

/// A worker's one connection to the authorizer, kept alive between its calls.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<ClientFactory>,
    agent: ureq::Agent,
    traffic: Arc<Traffic>,
    /// The last answer's body, as far as it has not been read.
    unread: Option<ureq::Body>,
    /// How long the connection may rest before the next call.
    pub(super) rest: Duration,
}

impl Client {
    /// One call, and what its answer means.
    pub(super) fn ask(&mut self, question: &Question) -> Outcome {
        let deadline = Instant::now() + self.shared.timeout;
        self.traffic.wait_until(None);
        self.unread = None;
        let connections = self.traffic.connections();
        let mut response = self.call(question, None);
        let reused = self.traffic.connections() == connections;
        if reused && response.as_ref().is_ok_and(|it| it.status() == 408) {
            self.hang_up();
            let left = deadline.saturating_duration_since(Instant::now());
            response = self.call(question, Some(left));
        }
        match response {
            Ok(response) => self.judge(question, response),
            Err(error) => Outcome::nothing(describe(&error, self.shared.timeout)),
        }
    }

    /// Sends the question, on a new connection if there is none, and reads the head of its answer. `left`: of the call's
    /// time, if it is not all of it.
    fn call(
        &self,
        question: &Question,
        left: Option<Duration>,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let shared = &self.shared;
        let mut request = self
            .agent
            .post(shared.url.uri.clone())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(credentials) = &shared.url.credentials {
            request = request.header(header::AUTHORIZATION, credentials.clone());
        }
        if shared.probes {
            request = request.header(PROBE, "1");
        }
        if let Some(signer) = &shared.signer {
            let signature = signer.sign(unix_seconds(), &question.body);
            request = request.header("x-wsify-signature", signature);
        }
        if let Some(left) = left {
            request = request.config().timeout_global(Some(left)).build();
        }
        request.send(&question.body[..])
    }

    fn judge(&mut self, question: &Question, response: Response<ureq::Body>) -> Outcome {
        self.rest = rest(response.headers());
        let status = response.status().as_u16();
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_json = kind.is_some_and(|kind| http::is_json(kind.as_bytes()));
        let body = response.into_body();
        let outcome = Outcome::of(status);
        if status == 200 && question.asked == Asked::Connect && is_json {
            return self.with_state(outcome, body);
        }
        match body.content_length() {
            // Its connection is free already.
            Some(0) => {}
            Some(length) if length > DRAIN_LIMIT as u64 => drop(body),
            _ => self.unread = Some(body),
        }
        outcome
    }

    /// Reads a body that may hold a `state`, as a whole.
    fn with_state(&mut self, mut outcome: Outcome, mut body: ureq::Body) -> Outcome {
        let mut text = Vec::new();
        let announced = body.content_length().unwrap_or_default();
        if announced <= MAX_BODY as u64 {
            let most = MAX_BODY as u64 + 1;
            if let Err(error) = body.as_reader().take(most).read_to_end(&mut text) {
                // The call itself had its answer.
                return Outcome {
                    status: outcome.status,
                    call_failed: false,
                    ..Outcome::nothing(describe(&error.into(), self.shared.timeout))
                };
            }
        }
        if announced > MAX_BODY as u64 || text.len() > MAX_BODY {
            outcome.unreadable = Some(format!("it is over {} KiB", MAX_BODY / 1024));
            return outcome;
        }
        match read_state(&text) {
            Ok(state) => outcome.fields = state.as_deref().map(AnswerFields::with_state),
            Err(why) => outcome.unreadable = Some(why),
        }
        outcome
    }

    /// Whether nothing is left to be read of the last answer.
    pub(super) fn finish_at_hand(&mut self) -> bool {
        self.unread.is_none()
    }

    /// Waits for the rest of the last answer's body, so that its connection can be used again. Returns false when it has
    /// not come within `patience`.
    pub(super) fn finish(&mut self, patience: Duration) -> bool {
        let Some(body) = &mut self.unread else {
            return true;
        };
        self.traffic.wait_until(Some(Instant::now() + patience));
        let mut reader = body.as_reader();
        let mut scratch = [0; 1024];
        let mut drained = 0;
        loop {
            match reader.read(&mut scratch) {
                Ok(0) => break,
                Ok(count) => drained += count,
                Err(error) => match ureq::Error::from(error) {
                    ureq::Error::Timeout(_) => return false,
                    _ => break,
                },
            }
            if drained > DRAIN_LIMIT {
                break;
            }
        }
        // Where it has not been read to its end, the connection ends with it.
        self.unread = None;
        true
    }

    /// Ends the connection. What has come on it belongs to no later call.
    pub(super) fn hang_up(&mut self) {
        self.unread = None;
        self.agent = self.shared.agent(&self.traffic);
    }
}

/// How long the connection may rest: `Keep-Alive: timeout=5` (what Node and Apache say) less a fifth, so that the next
/// question and the authorizer's close do not meet on the way.
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

/// The time at which a call is signed. A repeated call is signed again.
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
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
        ureq::Error::LargeResponseHeader(..) => {
            format!(
                "not HTTP: the head of its answer is over {} KiB",
                MAX_HEAD / 1024
            )
        }
        ureq::Error::Other(error) => error.to_string(),
        error => error.to_string(),
    }
}
