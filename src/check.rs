//! `--check`: tries everything that a start needs, and reports it, without serving clients
//! (docs/operating.md#checking).
//!
//! Owns: what is tried, and the report. Knows: the addresses, the authorizer and the broker as the server uses them.
//! Never knows: their protocols.
//!
//! Decision: it uses the server's own code for each part rather than code of its own: a check that passes means that
//! the start passes.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use crate::authorizer::{self, Probed};
use crate::config::{BrokerChoice, Config, EventsConfig};
use crate::effect::{Answer, Verdict};
use crate::events;
use crate::listener;
use crate::log::{Level, Log};
use crate::start;
use crate::wire::question;

/// How long the broker may take: name lookup, connection, TLS and greeting.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);

/// Tries everything and prints a line for each part. Returns whether everything works.
pub fn run(config: &Config) -> bool {
    let mut report = Report { ok: true };
    report.result(true, "the flags and variables are valid");
    addresses(config, &mut report);
    authorizer(config, &mut report);
    receiver_of_events(config, &mut report);
    broker(config, &mut report);
    if config.broadcasting_key.is_none() {
        report.note(
            "there is no key: /broadcast and the other backend endpoints answer programs on this machine only",
        );
    }
    report.note(if report.ok {
        "everything works: start without --check"
    } else {
        "something is wrong: see the lines marked BAD"
    });
    report.ok
}

struct Report {
    ok: bool,
}

impl Report {
    fn result(&mut self, ok: bool, what: impl Display) {
        self.ok &= ok;
        write_line(if ok { "ok " } else { "BAD" }, what);
    }

    fn note(&self, what: impl Display) {
        write_line("-- ", what);
    }
}

/// A failed write is ignored: the exit status still has the result.
fn write_line(mark: &str, what: impl Display) {
    let _ = writeln!(io::stdout(), "{mark} {what}");
}

fn addresses(config: &Config, report: &mut Report) {
    if config.listen_fds > 0 {
        return report
            .note("the sockets come from the service manager: --listen-addr has no effect");
    }
    for listen in &config.listen_addr {
        match listener::open(listen, config.reuse_port) {
            Ok(_) => report.result(true, format_args!("can listen on {listen}")),
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::AddrInUse => ": is wsify running already?",
                    io::ErrorKind::PermissionDenied => {
                        ": the user lacks permission; ports below 1024 need CAP_NET_BIND_SERVICE"
                    }
                    _ => "",
                };
                report.result(
                    false,
                    format_args!("cannot listen on {listen}: {error}{hint}"),
                );
            }
        }
    }
}

fn authorizer(config: &Config, report: &mut Report) {
    let Some(settings) = config.authorizer(usize::MAX) else {
        return report
            .note("there is no authorizer: every client may connect, join, leave and broadcast");
    };
    let url = settings.url.clone();
    let clients = ["check-1", "check-2"].map(made_up_client);
    let probed = match authorizer::probe(&settings, clients.into()) {
        Ok(probed) => probed,
        Err(error) => {
            return report.result(
                false,
                format_args!("the authorizer at {url} cannot be called: {error}"),
            );
        }
    };
    // Of a batch, the one that is wrong.
    let is_wrong = |it: &&Answer| it.verdict == Verdict::Unavailable || !it.wrong.is_empty();
    let found = probed.answers.iter().find(is_wrong);
    let Some(answer) = found.or(probed.answers.first()) else {
        return;
    };
    verdict(&url, answer, report);
    if let Some(hint) = hint(answer.status.unwrap_or_default()) {
        report.note(hint);
    }
    if let Some(why) = &answer.unreadable {
        report.result(
            false,
            format_args!("the JSON in its answer cannot be read: {why}"),
        );
    }
    for wrong in &answer.wrong {
        report.result(false, format_args!("its answer has a wrong field: {wrong}"));
    }
    fields(&probed, settings.batch, report);
}

/// Reports whether the authorizer answers, and what.
fn verdict(url: &impl Display, answer: &Answer, report: &mut Report) {
    let took = answer.took.as_millis();
    match answer.verdict {
        Verdict::Allow => report.result(
            true,
            format_args!(
                "the authorizer at {url} answers in {took} ms: it allows a made-up client"
            ),
        ),
        Verdict::Deny => report.result(
            true,
            format_args!(
                "the authorizer at {url} answers in {took} ms: it denies a made-up client (status {})",
                answer.status.unwrap_or_default()
            ),
        ),
        Verdict::Unavailable => {
            let trouble = answer.trouble.as_deref().unwrap_or_default();
            let what = match answer.status {
                Some(200) => "answers 200, but counts as down",
                _ => "is down",
            };
            report.result(
                false,
                format_args!("the authorizer at {url} {what}: {trouble}"),
            );
        }
    }
}

/// What the author of an authorizer may not expect of a status.
fn hint(status: u16) -> Option<&'static str> {
    match status {
        201..=299 => Some("a 2xx other than 200 counts as a no: answer 200 to allow"),
        300..=399 => Some(
            "redirects are not followed and count as a no: set --authorizer-url to the URL that answers",
        ),
        _ => None,
    }
}

/// Reports which names in an answer have an effect, and whether a batch was understood.
fn fields(probed: &Probed, batch: usize, report: &mut Report) {
    let status = probed.answers.first().and_then(|answer| answer.status);
    let is_array = probed.body.is_some() && probed.answers.iter().all(|it| it.status.is_some());
    if batch == 1 {
        report.note("batches are off: --authorizer-batch 2 or more would try one");
    } else if is_array {
        let count = probed.answers.len();
        report.result(
            true,
            format_args!("it understands batches: {count} questions in one call"),
        );
    } else if status.is_some_and(|status| status != 200) {
        report.note(
            "its status is that of the whole call: whether it understands batches is not known",
        );
    }
    let Some(body) = &probed.body else {
        return;
    };
    let wrong = |name: &String| {
        let mut fields = probed.answers.iter().flat_map(|answer| &answer.wrong);
        fields.any(|wrong| wrong.field.as_str() == name)
    };
    let used: Vec<_> = body.used.iter().filter(|name| !wrong(name)).collect();
    if !used.is_empty() {
        let names = used.iter().map(|name| name.as_str()).collect::<Vec<_>>();
        let names = names.join(", ");
        report.result(
            true,
            format_args!("fields in its answer that are understood: {names}"),
        );
    }
    if !body.ignored.is_empty() {
        let names = body.ignored.join(", ");
        let why = if body.has_fields {
            "they mean nothing in an answer of this status to a connect"
        } else {
            "application/json has `state` only; application/vnd.wsify+json has all fields"
        };
        report.note(format_args!(
            "fields in its answer that are ignored: {names} ({why})"
        ));
    }
}

/// The question about a `connect` of a client that does not exist.
fn made_up_client(id: &str) -> Vec<u8> {
    let headers: [(&str, &[u8]); 5] = [
        ("Connection", b"Upgrade"),
        ("Host", b"localhost"),
        ("Sec-Websocket-Key", b"d3NpZnkgLS1jaGVjayEhIQ=="),
        ("Sec-Websocket-Version", b"13"),
        ("Upgrade", b"websocket"),
    ];
    let mut args = Vec::new();
    question::push_connect_args(&mut args, headers.into_iter(), &[]);
    let mut body = Vec::new();
    question::push_question(&mut body, "connect", &args, |body| {
        question::push_connection(body, id.as_bytes(), b"127.0.0.1:1", None, &[], None);
    });
    body
}

fn receiver_of_events(config: &Config, report: &mut Report) {
    let Some(settings) = config.events_webhook() else {
        return;
    };
    let url = settings.url.clone();
    match events::probe(settings) {
        Ok((status @ 200..=299, took)) => report.result(
            true,
            format_args!(
                "the receiver of events at {url} answers in {} ms (status {status})",
                took.as_millis()
            ),
        ),
        Ok((status, _)) => report.result(
            false,
            format_args!(
                "the receiver of events at {url} does not take a batch without events: status {status}, and not 2xx"
            ),
        ),
        Err(trouble) => report.result(
            false,
            format_args!("the receiver of events at {url} is down: {trouble}"),
        ),
    }
}

fn broker(config: &Config, report: &mut Report) {
    let BrokerChoice::Redis(dsn) = &config.broker else {
        return report.note("the broker is this process's memory: servers do not share channels");
    };
    // Without listeners, webhooks and service manager only the broker is left of the server.
    let alone = Config {
        listen_addr: Vec::new(),
        listen_fds: 0,
        notify_socket: None,
        watchdog: None,
        authorizer_url: None,
        events: EventsConfig {
            url: None,
            ..config.events.clone()
        },
        ..config.clone()
    };
    let up = start::build(alone, Log::in_memory(Level::Error))
        .map_err(|stop| stop.text)
        .and_then(|server| server.try_broker(BROKER_TIMEOUT));
    match up {
        Ok(found) => {
            let accepts = format_args!("the broker at {dsn} accepts the connection");
            report.result(true, accepts);
            for line in found {
                report.note(format_args!("the broker: {line}"));
            }
        }
        Err(trouble) => report.result(false, format_args!("the broker at {dsn}: {trouble}")),
    }
}
