//! One caller of a webhook: a body goes out as a `POST`, and as much of the answer is read as is asked for.
//!
//! Owns: one kept-alive connection. Knows: HTTP through ureq. Never knows: what a body or an answer means, other callers.
//!
//! Decisions
//! - **A body that may have been read is not sent twice by this file.** A kept-alive connection is probed before anything is
//!   written to it. A close that is still on its way cannot be seen, and a body written into it is lost. The one exception
//!   is a `408` on a kept-alive connection, which says that nothing was read (RFC 9110 15.5.9).
//! - **An idle connection is closed before the other side would close it.** `Keep-Alive: timeout=N` is kept, less a
//!   fifth. Without it a connection rests 1.5 s at most, below the 2 s of gunicorn and the 5 s of Node, Apache and
//!   uvicorn.
//! - **An agent for each caller** rather than one for all. Its pool holds this caller's connection only, so that no
//!   lock is shared. Dropping the agent ends the connection.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{HeaderMap, HeaderValue, Response, header};

use super::dial::{Dialer, Later};
use super::signature::Signer;
use super::traffic::Traffic;
use super::url::Url;
use crate::secret::Secret;

/// How long a connection may rest when the receiver's `Keep-Alive` gives no timeout: see the header.
const REST: Duration = Duration::from_millis(1500);
/// The longest rest, whatever the header says: NAT and load balancers drop idle connections silently.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// What is read of a body that does not matter: beyond it a new connection is cheaper.
const DRAIN_LIMIT: usize = 64 * 1024;
/// An answer's head. Far more than any framework sends; cookies and policies that a proxy adds count too. (ureq takes 128
/// header lines at most.)
const MAX_HEAD: usize = 100 * 1024;
/// ureq's receive buffer: the head has to fit. The pages that no answer reaches are never touched.
const INPUT: usize = 2 * MAX_HEAD;
/// And for what goes, besides the URL and its credentials: the head has to fit, and so does the usual question.
const OUTPUT: usize = 8 * 1024;
/// Marks a call of `wsify --check`, which is about a made-up client.
const PROBE: &str = "x-wsify-probe";

/// What a webhook is called with.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    pub url: Url,
    /// For one whole call: name, connection, TLS, body and the head of the answer.
    pub timeout: Duration,
    /// A PEM file of roots that are trusted besides the system's: what `SSL_CERT_FILE` names (empty: none).
    pub cert_file: Option<PathBuf>,
    /// Every call is signed with each of them; without one, none is.
    pub keys: Vec<Secret>,
    /// Every call is marked as made up.
    pub probes: bool,
    /// What it is called for, as an error names it.
    pub called_for: &'static str,
}

/// What all callers of a webhook have in common.
#[derive(Debug)]
pub struct Webhook {
    url: Url,
    timeout: Duration,
    config: Config,
    dialer: Dialer,
    signer: Option<Signer>,
    probes: bool,
}

impl Webhook {
    /// # Errors
    /// For an `https` URL: no root certificate can be read.
    pub fn new(settings: WebhookSettings) -> io::Result<Webhook> {
        let url = settings.url;
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
            // The caller watches the age.
            .max_idle_age(2 * LONGEST_REST)
            .build();
        Ok(Webhook {
            timeout: settings.timeout,
            config,
            dialer: Dialer::new(&url, settings.cert_file.as_deref(), settings.called_for)?,
            signer: Signer::new(&settings.keys),
            probes: settings.probes,
            url,
        })
    }

    pub fn caller(self: &Arc<Self>) -> Caller {
        let traffic = Arc::default();
        Caller {
            agent: self.agent(&traffic),
            webhook: Arc::clone(self),
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

/// One connection to a webhook, kept alive between calls.
#[derive(Debug)]
pub struct Caller {
    webhook: Arc<Webhook>,
    agent: ureq::Agent,
    traffic: Arc<Traffic>,
    /// The last answer's body, as far as it has not been read.
    unread: Option<ureq::Body>,
    /// How long the connection may rest before the next call.
    pub rest: Duration,
}

impl Caller {
    /// Posts a body, twice if the first answer says that it was not read.
    ///
    /// # Errors
    /// Why there is no answer, for the log.
    pub fn post(&mut self, body: &[u8]) -> Result<Response<ureq::Body>, String> {
        let deadline = Instant::now() + self.webhook.timeout;
        self.traffic.wait_until(None);
        self.unread = None;
        let connections = self.traffic.connections();
        let mut response = self.call(body, None);
        let reused = self.traffic.connections() == connections;
        if reused && response.as_ref().is_ok_and(|it| it.status() == 408) {
            self.hang_up();
            let left = deadline.saturating_duration_since(Instant::now());
            response = self.call(body, Some(left));
        }
        let response = response.map_err(|error| describe(&error, self.webhook.timeout))?;
        self.rest = rest(response.headers());
        Ok(response)
    }

    /// Sends a body, on a new connection if there is none, and reads the head of its answer. `left`: of the call's
    /// time, if it is not all of it.
    fn call(
        &self,
        body: &[u8],
        left: Option<Duration>,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let webhook = &self.webhook;
        let mut request = self
            .agent
            .post(webhook.url.uri.clone())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(credentials) = &webhook.url.credentials {
            request = request.header(header::AUTHORIZATION, credentials.clone());
        }
        if webhook.probes {
            request = request.header(PROBE, "1");
        }
        if let Some(signer) = &webhook.signer {
            let signature = signer.sign(unix_seconds(), body);
            request = request.header("x-wsify-signature", signature);
        }
        if let Some(left) = left {
            request = request.config().timeout_global(Some(left)).build();
        }
        request.send(body)
    }

    /// Discards a body that does not matter: it is read later, or never.
    pub fn discard(&mut self, body: ureq::Body) {
        match body.content_length() {
            // Its connection is free already.
            Some(0) => {}
            Some(length) if length > DRAIN_LIMIT as u64 => drop(body),
            _ => self.unread = Some(body),
        }
    }

    /// Reads a body as a whole, if it has no more than `most` bytes.
    pub fn read(&self, mut body: ureq::Body, most: usize) -> ReadBody {
        let announced = usize::try_from(body.content_length().unwrap_or_default());
        let announced = announced.unwrap_or(usize::MAX);
        if announced > most {
            return ReadBody::TooLong(announced);
        }
        let mut text = Vec::new();
        let limit = (most as u64).saturating_add(1);
        match body.as_reader().take(limit).read_to_end(&mut text) {
            Err(error) => ReadBody::Broken {
                len: text.len(),
                why: describe(&error.into(), self.webhook.timeout),
            },
            Ok(_) if text.len() > most => ReadBody::TooLong(text.len()),
            Ok(_) => ReadBody::Whole(text),
        }
    }

    /// Whether nothing is left to be read of the last answer.
    pub fn finish_at_hand(&mut self) -> bool {
        self.unread.is_none()
    }

    /// Waits for the rest of the last answer's body, so that its connection can be used again. Returns false when it has
    /// not come within `timeout`.
    pub fn finish(&mut self, timeout: Duration) -> bool {
        let Some(body) = &mut self.unread else {
            return true;
        };
        self.traffic.wait_until(Some(Instant::now() + timeout));
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
    pub fn hang_up(&mut self) {
        self.unread = None;
        self.agent = self.webhook.agent(&self.traffic);
    }
}

/// A body as far as it has come.
#[derive(Clone, Debug)]
pub enum ReadBody {
    Whole(Vec<u8>),
    /// It has this many bytes, or more.
    TooLong(usize),
    Broken {
        len: usize,
        why: String,
    },
}

/// How long the connection may rest: `Keep-Alive: timeout=5` (Node and Apache) less a fifth. So the next call does not
/// cross the other side's close.
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
