//! `--check`: whether everything that a start needs is there, in plain words, without serving anybody.
//!
//! Owns: what is tried, and how it is told. Knows: the addresses, the authorizer and the broker as the server uses them.
//! Never knows: how any of them is spoken to.
//!
//! Decision: it starts what the server would start, and nothing like it: what is right here is right there.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use crate::authorizer;
use crate::config::{Broker, Config};
use crate::effect::Verdict;
use crate::listener;
use crate::log::{Level, Log};
use crate::server::Server;
use crate::wire::question;

/// How long the broker may take to let us in: name, connection, TLS and greeting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries it all, and says so line by line. Returns whether all is right.
pub fn run(config: &Config) -> bool {
    let mut report = Report { right: true };
    report.say(true, "the flags and variables can be used");
    addresses(config, &mut report);
    authorizer(config, &mut report);
    broker(config, &mut report);
    if config.broadcasting_key.is_none() {
        report
            .note("there is no key: /broadcast and /metrics answer programs on this machine only");
    }
    report.note(if report.right {
        "all is well: start it without --check"
    } else {
        "not all is well: see above"
    });
    report.right
}

struct Report {
    right: bool,
}

impl Report {
    fn say(&mut self, right: bool, what: impl Display) {
        self.right &= right;
        write_line(if right { "ok " } else { "BAD" }, what);
    }

    fn note(&self, what: impl Display) {
        write_line("-- ", what);
    }
}

/// That nobody may be there to read it changes nothing: there is still the status.
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
            Ok(_) => report.say(true, format_args!("{listen} can be listened on")),
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::AddrInUse => ": is wsify running already?",
                    io::ErrorKind::PermissionDenied => {
                        ": who starts it may not; ports below 1024 need CAP_NET_BIND_SERVICE"
                    }
                    _ => "",
                };
                report.say(
                    false,
                    format_args!("{listen} cannot be listened on: {error}{hint}"),
                );
            }
        }
    }
}

fn authorizer(config: &Config, report: &mut Report) {
    let Some(settings) = config.authorizer(usize::MAX) else {
        return report.note("there is no authorizer: everyone may do everything");
    };
    let url = settings.url.clone();
    let answer = match authorizer::probe(&settings, made_up_client()) {
        Ok(answer) => answer,
        Err(error) => {
            return report.say(
                false,
                format_args!("the authorizer at {url} cannot be asked: {error}"),
            );
        }
    };
    let took = answer.took.as_millis();
    match answer.verdict {
        Verdict::Allow => report.say(
            true,
            format_args!(
                "the authorizer at {url} answers, in {took} ms; it lets a made-up client in"
            ),
        ),
        Verdict::Deny => report.say(
            true,
            format_args!(
                "the authorizer at {url} answers, in {took} ms; it keeps a made-up client out (status {})",
                answer.status.unwrap_or_default()
            ),
        ),
        Verdict::Unavailable => {
            let trouble = answer.trouble.unwrap_or_default();
            report.say(
                false,
                format_args!("the authorizer at {url} is down: {trouble}"),
            );
        }
    }
    if let Some(why) = answer.unreadable {
        report.say(
            false,
            format_args!("the JSON that the authorizer answers with cannot be read: {why}"),
        );
    }
}

/// A `connect` of somebody who is not there.
fn made_up_client() -> Vec<u8> {
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
    question::push_question(
        &mut body,
        "connect",
        &args,
        "check",
        "127.0.0.1:1",
        &[],
        None,
    );
    body
}

fn broker(config: &Config, report: &mut Report) {
    let Broker::Redis(dsn) = &config.broker else {
        return report.note("the broker is this process's memory: servers share no channels");
    };
    // A server that listens nowhere and asks nobody has only its broker left.
    let alone = Config {
        listen_addr: Vec::new(),
        listen_fds: 0,
        notify_socket: None,
        watchdog: None,
        authorizer_url: None,
        ..config.clone()
    };
    let let_in = Server::start(alone, Log::in_memory(Level::Error))
        .map_err(|stop| stop.text)
        .and_then(|server| server.try_broker(PATIENCE));
    match let_in {
        Ok(()) => report.say(true, format_args!("the broker at {dsn} lets us in")),
        Err(trouble) => report.say(false, format_args!("the broker at {dsn}: {trouble}")),
    }
}
