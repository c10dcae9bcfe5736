//! The endpoints: what each request is answered (CONTRACT §3, §5).
//!
//! Owns: which paths and methods there are, and who may use the backend's. Knows: requests and replies. Never knows: how
//! they are written on the wire.

use std::borrow::Cow;

use subtle::ConstantTimeEq;

use super::Hub;
use super::access::Subject;
use super::registry::Name;
use crate::connection::{Authorizing, Awaits, Exchange, Peer, Publishing, Stream};
use crate::effect::{ConnId, Receipt, Verdict};
use crate::log::Value;
use crate::metrics;
use crate::playground;
use crate::wire::answer::Fault;
use crate::wire::command;
use crate::wire::handshake::{self, Upgrade};
use crate::wire::http::{self, Head, Method, Refusal, Reply, Status};
use crate::wire::question;

/// Headers by which a request shows that it came through a proxy (CONTRACT §5).
const FORWARDED: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

impl<S: Stream> Hub<S> {
    /// A request's head has come, and perhaps its body: it is answered, or asked about, or its body is read.
    pub(super) fn request(
        &mut self,
        id: ConnId,
        mut exchange: Exchange,
        head: Head,
        body: Option<&[u8]>,
    ) {
        let proxies = &self.settings.proxies;
        if proxies.trusts(exchange.from.ip())
            && let Some(client) = proxies.client(head.list("x-forwarded-for"))
        {
            exchange.from = Peer::new(client);
        }
        let reading = matches!(head.method, Method::Get | Method::Head);
        match head.path() {
            _ if head.method == Method::Options => {
                let reply = self.settings.origins.preflight(
                    head.header("origin"),
                    head.list("access-control-request-headers"),
                );
                self.reply(id, "options", exchange, reply);
            }
            b"/ws" if reading => self.upgrade(id, exchange, head),
            b"/broadcast" if head.method == Method::Post => {
                self.broadcast(id, exchange, &head, body)
            }
            b"/health" if reading => {
                let (status, body): (_, &[u8]) = match self.drain {
                    Some(_) => (Status::Unavailable, br#"{"status":"draining"}"#),
                    None if !self.is_broker_up() => (
                        Status::Unavailable,
                        br#"{"status":"degraded","broker":"down"}"#,
                    ),
                    None => (Status::Ok, br#"{"status":"ok"}"#),
                };
                let reply = Reply::json(status, body);
                self.reply(
                    id,
                    "health",
                    exchange,
                    reply.with("Cache-Control", "no-store"),
                );
            }
            b"/metrics" if reading => match self.refuse_backend(id, &head) {
                Some(refusal) => self.refuse(id, "metrics", exchange, refusal, false),
                None => {
                    let mut text = String::new();
                    self.metrics.sent = self.runs.taken;
                    self.metrics.render(&self.gauges(), &mut text);
                    let reply = Reply {
                        content_type: Some(metrics::CONTENT_TYPE),
                        ..Reply::json(Status::Ok, text.into_bytes())
                    };
                    self.reply(id, "metrics", exchange, reply);
                }
            },
            b"/tap" if reading => self.open_tap(id, exchange, &head),
            b"/" if self.settings.playground && reading => {
                self.reply(id, "playground", exchange, playground::page());
            }
            b"/" if self.settings.playground => {
                self.refuse_method(id, exchange, "GET, HEAD, OPTIONS")
            }
            b"/ws" | b"/health" | b"/metrics" | b"/tap" => {
                self.refuse_method(id, exchange, "GET, HEAD, OPTIONS")
            }
            b"/broadcast" => self.refuse_method(id, exchange, "POST, OPTIONS"),
            _ => {
                let message =
                    "there is nothing here: use /ws, /broadcast, /health, /metrics or /tap";
                self.refuse(
                    id,
                    "other",
                    exchange,
                    Refusal::new(Status::NotFound, "not_found", message),
                    false,
                );
            }
        }
    }

    /// `GET /ws`: the handshake, the origin, whether there is room; then the authorizer.
    fn upgrade(&mut self, id: ConnId, exchange: Exchange, head: Head) {
        let judged = handshake::judge(&head);
        if judged.is_ok() && !exchange.is_read() {
            if let Some(connection) = self.registry.get(id) {
                connection
                    .session
                    .read_empty_body(exchange, head, &self.settings.limits);
            }
            return;
        }
        self.tap_connect(id, exchange.from, head.query());
        let upgrade = match judged {
            Ok(upgrade) => upgrade,
            Err(refusal) => {
                self.metrics.handshakes.add("malformed");
                return self.refuse(id, "ws", exchange, refusal, false);
            }
        };
        if !self.settings.origins.admit(&head) {
            self.metrics.handshakes.add("origin");
            let message = "pages of this origin may not connect: add it to --allowed-origins";
            let refusal = Refusal::new(Status::Forbidden, "origin_not_allowed", message);
            return self.refuse(id, "ws", exchange, refusal, false);
        }
        if self.drain.is_some() {
            return self.refuse_stopping(id, exchange);
        }
        if self.websockets >= self.settings.max_connections {
            if !std::mem::replace(&mut self.said_full, true) {
                let most = Value::Number(self.settings.max_connections as u64);
                let full = "the server is full: upgrades get 503 until a connection ends; see --max-connections";
                self.log.warn(full, &[("connections", most)]);
            }
            let message = "the server is full: come back later";
            return self.refuse_upgrade_for_now(id, exchange, "full", message);
        }
        if !self.addresses.has_room(exchange.from.network()) {
            let (code, message) = (
                "too_many_connections",
                "there are as many connections from your address as there may be: close one, or come back later",
            );
            let refusal = Refusal::new(Status::TooManyRequests, code, message);
            return self.refuse_upgrade_by(id, exchange, refusal);
        }
        if !self.settings.authorizer {
            self.keep_query(id, head.query());
            return self.open(id, exchange.from, &upgrade);
        }
        if let Some(connection) = self.registry.get(id) {
            connection.session.authorize(Authorizing {
                exchange,
                upgrade,
                query: head.query().into(),
            });
        }
        self.tap("question", Some(id), None, |line| {
            line.text("command", "connect")
        });
        let body = self.connect_question(id, &head);
        self.ask(id, true, body);
    }

    /// The authorizer's word about an upgrade.
    pub(super) fn authorized(
        &mut self,
        id: ConnId,
        authorizing: Authorizing,
        verdict: Verdict,
        state: Option<&str>,
    ) {
        let Authorizing {
            exchange,
            upgrade,
            query,
        } = authorizing;
        match verdict {
            Verdict::Allow if self.drain.is_some() => self.refuse_stopping(id, exchange),
            Verdict::Allow => {
                if let Some(connection) = self.registry.get(id) {
                    connection.badge = self.badges.put(&query, state.unwrap_or_default());
                }
                self.open(id, exchange.from, &upgrade);
            }
            Verdict::Deny => {
                self.metrics.handshakes.add("denied");
                let message = "the authorizer says no: connect with what it asks for";
                let refusal = Refusal::new(Status::Forbidden, "not_authorized", message);
                self.refuse(id, "ws", exchange, refusal, false);
            }
            Verdict::Unavailable => {
                let message = "the authorizer is down: come back later";
                self.refuse_upgrade_for_now(id, exchange, "authorizer_down", message);
            }
        }
    }

    fn open(&mut self, id: ConnId, from: Peer, upgrade: &Upgrade) {
        self.metrics.handshakes.add("accepted");
        if let Some(connection) = self.registry.get(id) {
            connection.open(from, upgrade, &self.clock);
        }
        self.tap_open(id, upgrade.dialect);
        // Counted at once: the next request of this turn must find the room taken.
        self.settle(id);
    }

    /// Refuses an upgrade because the server stops.
    pub(super) fn refuse_stopping(&mut self, id: ConnId, exchange: Exchange) {
        let message = "the server is stopping: come back later";
        self.refuse_upgrade_for_now(id, exchange, "draining", message);
    }

    /// `503` with `Retry-After`.
    fn refuse_upgrade_for_now(
        &mut self,
        id: ConnId,
        exchange: Exchange,
        code: &'static str,
        message: &'static str,
    ) {
        let refusal = Refusal::new(Status::Unavailable, code, message);
        self.refuse_upgrade_by(id, exchange, refusal);
    }

    /// Refuses what may be granted later: with `Retry-After`.
    fn refuse_upgrade_by(&mut self, id: ConnId, exchange: Exchange, refusal: Refusal) {
        self.metrics.handshakes.add(refusal.code);
        let refusal = refusal.with("Retry-After", self.retry_after());
        self.refuse(id, "ws", exchange, refusal, false);
    }

    /// `POST /broadcast`: the key, then the type, then the body.
    fn broadcast(&mut self, id: ConnId, exchange: Exchange, head: &Head, body: Option<&[u8]>) {
        if let Some(refusal) = self.refuse_backend(id, head) {
            return self.refuse(id, "broadcast", exchange, refusal, false);
        }
        if !head.header("content-type").is_some_and(http::is_json) {
            let message = "the body has another type: send it with Content-Type: application/json";
            let refusal = Refusal::new(
                Status::UnsupportedMediaType,
                "unsupported_media_type",
                message,
            );
            return self.refuse(id, "broadcast", exchange, refusal, false);
        }
        if let Some(body) = body {
            self.body(id, exchange, body);
        } else if let Some(connection) = self.registry.get(id) {
            connection
                .session
                .read_body(exchange, &self.settings.limits);
        }
    }

    /// The body of a `POST /broadcast`.
    pub(super) fn body(&mut self, id: ConnId, exchange: Exchange, body: &[u8]) {
        let post = match command::parse_post(body) {
            Ok(post) => post,
            Err(Fault { code, message }) => {
                let refusal = Refusal::new(Status::BadRequest, code.as_str(), message);
                return self.refuse(id, "broadcast", exchange, refusal, false);
            }
        };
        let (channel, content) = (post.channel(body), post.content(body));
        if let Some(why) = self.why_unpublishable(channel) {
            self.answer_broadcast(id, exchange, Some(why));
        } else if self.channels.is_congested(channel, id, &self.runs) {
            self.publish_later(id, Awaits::Channel, exchange, body.into());
        } else if self.channels.link.is_shared() {
            self.publish(id, channel, content);
            self.publish_later(id, Awaits::Receipt, exchange, Box::default());
        } else {
            self.tap("broadcast", Some(id), Some(channel), |line| {
                line.content(content)
            });
            self.deliver(channel, content);
            self.answer_broadcast(id, exchange, None);
        }
    }

    fn publish_later(&mut self, id: ConnId, awaits: Awaits, exchange: Exchange, body: Box<[u8]>) {
        let drain = self.drain.as_ref();
        if drain.is_some_and(|drain| drain.is_ending(self.clock.now)) {
            return self.refuse_waiting(id, exchange);
        }
        if let Some(connection) = self.registry.get(id) {
            connection.session.publish_later(Publishing {
                awaits,
                exchange,
                body,
            });
        }
    }

    /// Answers a `POST /broadcast`; `unpublished` says why nothing is known to have been published, if so.
    fn answer_broadcast(
        &mut self,
        id: ConnId,
        exchange: Exchange,
        unpublished: Option<Cow<'static, str>>,
    ) {
        match unpublished {
            None => self.reply(id, "broadcast", exchange, Reply::empty(Status::Created)),
            Some(why) => {
                let refusal = Refusal::new(Status::Unavailable, "unavailable", why);
                self.refuse(id, "broadcast", exchange, refusal, false);
            }
        }
    }

    /// What became of what was published for this connection.
    pub fn receipt(&mut self, id: ConnId, receipt: Receipt) {
        let now = self.clock.now;
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        connection.starved = false;
        if let Some(publishing) = connection.session.take_publishing(Awaits::Receipt) {
            let unpublished = Self::unconfirmed(&receipt);
            self.answer_broadcast(id, publishing.exchange, unpublished);
        } else if let Some(parked) = connection.session.unpark(Awaits::Receipt, now) {
            self.published(id, &parked, &receipt);
        }
        self.settle(id);
    }

    /// A connection that has waited for a channel tries again; `receipt` as in [`Hub::proceed`].
    pub(super) fn resume(&mut self, id: ConnId, receipt: Option<&Receipt>) {
        let now = self.clock.now;
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        connection.starved = false;
        if let Some(Publishing { exchange, body, .. }) =
            connection.session.take_publishing(Awaits::Channel)
        {
            self.body(id, exchange, &body);
        } else if let Some(parked) = connection.session.unpark(Awaits::Channel, now) {
            self.proceed(id, parked, receipt);
        }
        self.settle(id);
    }

    /// Why this request may not use a backend endpoint, if it may not (CONTRACT §5).
    pub(super) fn refuse_backend(&mut self, id: ConnId, head: &Head) -> Option<Refusal> {
        let Some(key) = &self.settings.key else {
            let connection = self.registry.get(id);
            let local = connection.is_some_and(|c| c.peer.is_local() && !c.session.is_relayed());
            let relayed = FORWARDED.iter().any(|name| head.header(name).is_some());
            let browser = head.header("origin").is_some();
            return (!local || relayed || browser).then(|| {
                let message = "without a key only programs on this machine may do this: set --broadcasting-key \
                               (or WSIFY_BROADCASTING_KEY) and send it as Authorization: Bearer KEY or ?key=KEY";
                Refusal::new(Status::Forbidden, "forbidden", message)
            });
        };
        let fits = |given: &[u8]| bool::from(given.ct_eq(key.expose().as_bytes()));
        let bearer = head
            .header("authorization")
            .and_then(bearer)
            .is_some_and(fits);
        let query = http::query_pairs(head.query());
        let query = query
            .iter()
            .filter(|(name, _)| name == "key")
            .flat_map(|(_, values)| values);
        let allowed = bearer || query.map(|value| value.as_bytes()).any(fits);
        (!allowed).then(|| {
            let message =
                "the key is wrong or missing: send it as Authorization: Bearer KEY or ?key=KEY";
            Refusal::new(Status::Forbidden, "forbidden", message)
        })
    }

    fn refuse_method(&mut self, id: ConnId, exchange: Exchange, allow: &'static str) {
        let message = "this path has other methods: see Allow";
        let refusal = Refusal::new(Status::MethodNotAllowed, "method_not_allowed", message)
            .with("Allow", allow);
        self.refuse(id, "other", exchange, refusal, false);
    }

    /// Turns a request down. `closing`: the connection ends with the answer.
    pub(super) fn refuse(
        &mut self,
        id: ConnId,
        endpoint: &'static str,
        exchange: Exchange,
        refusal: Refusal,
        closing: bool,
    ) {
        let (name, _) = self.subject(id);
        let who = Subject {
            slot: id.slot,
            name: &name,
            peer: exchange.from,
        };
        let status = refusal.status.code();
        self.tap("refused", Some(id), None, |line| {
            line.text("endpoint", endpoint);
            line.number("status", status.into());
            line.text("code", refusal.code);
            line.text("message", &refusal.message);
        });
        self.access
            .refused(&who, endpoint, status, refusal.code, self.clock.now);
        self.send(id, endpoint, exchange, refusal.reply(), closing);
    }

    pub(super) fn reply(
        &mut self,
        id: ConnId,
        endpoint: &'static str,
        exchange: Exchange,
        reply: Reply,
    ) {
        self.send(id, endpoint, exchange, reply, false);
    }

    fn send(
        &mut self,
        id: ConnId,
        endpoint: &'static str,
        exchange: Exchange,
        mut reply: Reply,
        closing: bool,
    ) {
        self.metrics.answers.add((endpoint, reply.status.code()));
        if let Some(origin) = exchange.origin.as_deref()
            && endpoint != "options"
        {
            reply
                .headers
                .extend(self.settings.origins.cors(Some(origin)));
        }
        if let Some(connection) = self.registry.get(id) {
            let closing = closing || self.drain.is_some();
            connection.answer(
                exchange,
                &reply,
                closing,
                &self.clock,
                &self.settings.limits,
            );
        }
    }

    /// What the authorizer is asked about an upgrade.
    fn connect_question(&mut self, id: ConnId, head: &Head) -> Vec<u8> {
        let query = http::query_pairs(head.query());
        let names: Vec<(String, &[u8])> = head
            .headers()
            .map(|(name, value)| (http::canonical_name(name), value))
            .collect();
        let mut args = Vec::new();
        question::push_connect_args(
            &mut args,
            names.iter().map(|(name, value)| (name.as_str(), *value)),
            &query,
        );
        let mut body = Vec::new();
        let (connection, address) = self.introduce(id);
        question::push_question(
            &mut body,
            "connect",
            &args,
            &connection,
            &address,
            &query,
            None,
        );
        body
    }

    /// A connection's name and who is at its other end.
    pub(super) fn subject(&mut self, id: ConnId) -> (Name, Peer) {
        let instance = self.settings.instance;
        let (serial, peer) = self
            .registry
            .get(id)
            .map_or((0, Peer::UNIX), |c| (c.serial(), c.client()));
        (Name { instance, serial }, peer)
    }

    /// The id and the address under which the authorizer knows a connection.
    pub(super) fn introduce(&mut self, id: ConnId) -> (String, String) {
        let (name, peer) = self.subject(id);
        (name.to_string(), peer.to_string())
    }
}

/// The credentials of `Authorization: Bearer …` (RFC 6750 2.1), whose scheme may be in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(key.trim_ascii())
}
