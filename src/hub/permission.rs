//! May this be done: whether the authorizer is asked, what it is asked, and what its answer does.
//!
//! Owns: the questions, and what a refusal and a failure lead to. Knows: settings, identities. Never knows: how a question
//! travels, or how what is allowed is done: it is handed back to the caller.
//!
//! A refused join is decided here ([`answer`]), and its error is written by [`super::replies`].

use super::replies;
use super::report;
use super::settle::close;
use super::state::Hub;
use crate::connection::{Awaits, Ending, Exchange, Stream, Suspended};
use crate::effect::{Answer, ConnId, Effect, Question, Verdict};
use crate::wire::answer::Code;
use crate::wire::answer_fields::Asked;
use crate::wire::command::Command;
use crate::wire::handshake::Upgrade;
use crate::wire::http::{self, Head, Refusal, Status};
use crate::wire::question;

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
    ask(hub, id, command.verb.into(), body);
    if let Some(connection) = hub.roster.get(id) {
        let message = message.into();
        connection.suspend(Awaits::Verdict, Suspended::Command { command, message });
    }
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

/// Has the authorizer asked about a connection, which then waits for the answer. It asks nothing else meanwhile, and nothing
/// at all once it was reset: a late answer can be taken for no other one's.
fn ask<S: Stream>(hub: &mut Hub<S>, from: ConnId, asked: Asked, body: Vec<u8>) {
    if let Some(connection) = hub.roster.get(from)
        && !connection.was_reset()
    {
        connection.set_asking(true);
        hub.effects.push_back(Effect::Ask(Question {
            from,
            asked,
            body,
            alone: false,
        }));
    }
}

/// Takes an answer of the authorizer. What is refused, or fails, is answered here. A late answer is ignored.
pub fn answer<S: Stream>(hub: &mut Hub<S>, answer: Answer) -> Option<Allowed> {
    report::verdict(hub, &answer);
    let id = answer.to;
    let now = hub.clock.now;
    let connection = hub.roster.get(id)?;
    // A question that was withdrawn may have been answered all the same.
    if !connection.set_asking(false) || !connection.awaits_verdict() {
        return None;
    }
    match connection.resume(Awaits::Verdict, now)? {
        Suspended::Upgrade {
            exchange,
            upgrade,
            query,
        } => {
            report::decided(hub, &answer, "connect", None);
            let (outcome, refusal) = match answer.verdict {
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
                    ("denied", refusal)
                }
                Verdict::Unavailable => {
                    let message = "the authorizer is down: come back later";
                    let refusal = Refusal::new(Status::Unavailable, "authorizer_down", message);
                    ("authorizer_down", refusal)
                }
            };
            report::upgrade_refused(hub, outcome);
            match answer.verdict {
                Verdict::Unavailable => replies::refuse_for_now(hub, id, exchange, refusal),
                _ => replies::refuse(hub, id, exchange, refusal),
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
        Verdict::Unavailable => {
            report::command_abandoned(hub, command.verb);
            close(hub, id, Ending::AuthorizerDown);
        }
    }
    None
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
