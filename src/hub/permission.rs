//! May this be done: whether the authorizer is asked, what it is asked, and what its answer does.
//!
//! Owns: the questions, and what a refusal and a failure lead to. Knows: settings, identities. Never knows: how a question
//! travels, or how what is allowed is done: it is handed back to the caller.
//!
//! A refused join is decided here ([`answer`]), and its error is written by [`super::replies`].

use super::questions;
use super::replies;
use super::report;
use super::settle::{close, settle};
use super::state::Hub;
use crate::config::AuthorizerFailure;
use crate::connection::{Awaits, Ending, Exchange, Stream, Suspended};
use crate::effect::{Answer, ConnId, Question, Verdict};
use crate::wire::answer::Code;
use crate::wire::answer_fields::Asked;
use crate::wire::command::Command;
use crate::wire::handshake::Upgrade;
use crate::wire::http::{self, Head, Refusal, Status};
use crate::wire::question;

/// Questions given up between two polls.
const GIVEN_UP: usize = 64;

/// An upgrade that is allowed.
pub struct AllowedUpgrade {
    pub exchange: Exchange,
    pub upgrade: Upgrade,
    /// The query that later questions show.
    pub query: Box<str>,
    /// The state that the authorizer has given.
    pub state: Option<Box<str>>,
}

/// What an answer of the authorizer allows.
pub enum Allowed {
    Upgrade(AllowedUpgrade),
    /// A command, and the message that it was parsed from.
    Command(Command, Box<[u8]>),
}

/// Asks about a command. Returns it when it is allowed without asking.
pub fn for_command<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: Command,
    message: &[u8],
) -> Option<Command> {
    if !hub.settings.authorizer {
        return Some(command);
    }
    let verb = command.verb.as_str();
    report::asked(hub, id, verb, Some(command.channel(message)));
    let body = command_question(hub, id, &command, message);
    let asked = command.verb.into();
    if let Some(connection) = hub.roster.get(id) {
        let message = message.into();
        connection.suspend(Awaits::Verdict, Suspended::Command { command, message });
    }
    ask(hub, id, asked, body);
    None
}

/// Asks about an upgrade. Returns it when it is allowed without asking.
pub fn for_upgrade<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    upgrade: Upgrade,
    head: &Head,
) -> Option<(Exchange, Upgrade)> {
    if !hub.settings.authorizer {
        return Some((exchange, upgrade));
    }
    if let Some(connection) = hub.roster.get(id) {
        let query = head.query().into();
        let work = Suspended::Upgrade {
            exchange,
            upgrade,
            query,
        };
        connection.suspend(Awaits::Verdict, work);
    }
    report::asked(hub, id, "connect", None);
    let body = connect_question(hub, id, head);
    ask(hub, id, Asked::Connect, body);
    None
}

/// Has the authorizer asked about a connection, which waits for the answer already. It asks nothing else meanwhile, and nothing
/// at all once it was reset: a late answer can be taken for no other one's.
fn ask<S: Stream>(hub: &mut Hub<S>, from: ConnId, asked: Asked, body: Vec<u8>) {
    if let Some(connection) = hub.roster.get(from)
        && !connection.was_reset()
    {
        connection.set_asking(true);
        let question = Question {
            from,
            asked,
            body,
            alone: false,
        };
        if !questions::put(hub, question) {
            give_up_one(hub, from);
        }
    }
}

/// Gives up questions that have waited too long for an authorizer that is down, those whose time is over.
pub fn give_up<S: Stream>(hub: &mut Hub<S>) {
    for _ in 0..GIVEN_UP {
        let Some(id) = hub.outage.next_given_up(hub.clock.now) else {
            return;
        };
        give_up_one(hub, id);
        // The question is forgotten, whatever the connection has waited for.
        questions::withdraw(hub, id);
        settle(hub, id);
    }
}

/// What waits for an answer is not done, as the authorizer is down.
fn give_up_one<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    // The answer may still come. The connection ends, so that it is taken for no other one's.
    let closing = hub.outage.is_asked(id);
    let now = hub.clock.now;
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    connection.set_asking(false);
    match connection.resume(Awaits::Verdict, now) {
        Some(Suspended::Upgrade { exchange, .. }) => {
            refuse_upgrade_for_now(hub, id, exchange, closing);
        }
        Some(Suspended::Command { command, message }) => abandon(hub, id, &command, &message),
        Some(Suspended::Post { .. }) | None => {}
    }
}

/// Takes an answer of the authorizer. What is refused, or fails, is answered here. A late answer is ignored.
pub fn answer<S: Stream>(hub: &mut Hub<S>, answer: Answer) -> Option<Allowed> {
    report::verdict(hub, &answer);
    questions::heard(hub, &answer);
    let id = answer.to;
    let now = hub.clock.now;
    let connection = hub.roster.get(id)?;
    // A question that was withdrawn may have been answered all the same.
    if !connection.set_asking(false) || !connection.awaits_verdict() {
        return None;
    }
    let answer = questions::hold(hub, answer)?;
    match hub.roster.get(id)?.resume(Awaits::Verdict, now)? {
        Suspended::Upgrade {
            exchange,
            upgrade,
            query,
        } => {
            report::decided(hub, &answer, "connect", None);
            match answer.verdict {
                Verdict::Allow => {
                    return Some(Allowed::Upgrade(AllowedUpgrade {
                        exchange,
                        upgrade,
                        query,
                        state: answer.state().map(Into::into),
                    }));
                }
                Verdict::Deny => {
                    let message = "the authorizer says no: connect with what it asks for";
                    let refusal = Refusal::new(Status::Forbidden, "not_authorized", message);
                    report::upgrade_refused(hub, "denied");
                    replies::refuse(hub, id, exchange, refusal);
                }
                Verdict::Unavailable => refuse_upgrade_for_now(hub, id, exchange, false),
            }
            None
        }
        Suspended::Command { command, message } => answer_command(hub, &answer, command, message),
        // No question is asked about it.
        Suspended::Post { .. } => None,
    }
}

fn answer_command<S: Stream>(
    hub: &mut Hub<S>,
    answer: &Answer,
    command: Command,
    message: Box<[u8]>,
) -> Option<Allowed> {
    let id = answer.to;
    let channel = Some(command.channel(&message));
    report::decided(hub, answer, command.verb.as_str(), channel);
    match answer.verdict {
        Verdict::Allow => return Some(Allowed::Command(command, message)),
        Verdict::Deny => {
            let why = "the authorizer says no";
            replies::failed(hub, id, &command, &message, Code::NotAuthorized, why);
        }
        Verdict::Unavailable => abandon(hub, id, &command, &message),
    }
    None
}

/// The authorizer is down, and a command is not done.
fn abandon<S: Stream>(hub: &mut Hub<S>, id: ConnId, command: &Command, message: &[u8]) {
    if hub.outage.failure() == AuthorizerFailure::Reject {
        let why = "the authorizer is down, and the command is not carried out: send it again later";
        replies::failed(hub, id, command, message, Code::AuthorizerDown, why);
    } else {
        report::outage::command_abandoned(hub, command.verb);
        close(hub, id, Ending::AuthorizerDown);
    }
}

/// The authorizer is down, and an upgrade is refused. `closing`: the connection ends with it.
fn refuse_upgrade_for_now<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    closing: bool,
) {
    let message = "the authorizer is down: come back later";
    let refusal = Refusal::new(Status::Unavailable, "authorizer_down", message);
    report::upgrade_refused(hub, "authorizer_down");
    match closing {
        true => {
            let refusal = refusal.with("Retry-After", hub.retry_after());
            replies::refuse_and_close(hub, id, exchange, refusal);
        }
        false => replies::refuse_for_now(hub, id, exchange, refusal),
    }
}

/// What the authorizer is asked about an upgrade.
fn connect_question<S: Stream>(hub: &mut Hub<S>, id: ConnId, head: &Head) -> Vec<u8> {
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
    let who = hub.roster.subject(id);
    question::push_question(
        &mut body,
        "connect",
        &args,
        &who.id.to_string(),
        &who.peer.to_string(),
        &query,
        None,
    );
    body
}

/// What the authorizer is asked about a command.
fn command_question<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: &Command,
    message: &[u8],
) -> Vec<u8> {
    // The usual query and state find room, so that the body grows once.
    let mut body = Vec::with_capacity(message.len().saturating_add(256));
    let who = hub.roster.subject(id);
    if let Some(identity) = hub.roster.get(id).map(|c| c.identity()) {
        let identities = &hub.roster.identities;
        question::push_question(
            &mut body,
            command.verb.as_str(),
            command.args(message),
            &who.id.to_string(),
            &who.peer.to_string(),
            &http::query_pairs(identities.query(identity)),
            identities.state(identity),
        );
    }
    body
}
