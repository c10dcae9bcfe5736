//! May this be done: whether the authorizer is asked, what it is asked, and what its answer does.
//!
//! Owns: the questions, and what a refusal and a failure lead to. Knows: settings, identities, grants. Never knows: how a
//! question travels, or how what is allowed is done: it is handed back to the caller.
//!
//! A refused join is decided here ([`answer`]), and its error is written by [`super::replies`].

use std::borrow::Cow;

use super::failure;
use super::grants::{Known, Remembrance};
use super::questions;
use super::replies::{self, AfterReply};
use super::report::{self, asking};
use super::settle::close_with_reason;
use super::state::Hub;
use crate::clock::Millis;
use crate::connection::{Awaits, Connection, Ending, Exchange, PendingUpgrade, Stream, Suspended};
use crate::effect::{Answer, ConnId, Question, Verdict};
use crate::wire::answer_fields::{Allow, AnswerFields, Asked, CloseWith, NewState};
use crate::wire::command::Command;
use crate::wire::handshake::Upgrade;
use crate::wire::http::{self, Head, Refusal, Status};
use crate::wire::question;
use crate::wire::server_message::Code;

/// What a client is told of a refusal of which the authorizer says no more.
const DENIED_MESSAGE: &str = "the authorizer says no";
/// The code with which a connection is closed that may not go on (`docs/protocol.md#closing`).
const MAY_NOT_GO_ON: u16 = 4403;

/// What an answer of the authorizer allows.
pub enum Allowed {
    /// An upgrade, and what the authorizer has said besides.
    Upgrade(PendingUpgrade, Box<AnswerFields>),
    /// A command, and the message that it was parsed from.
    Command(Command, Box<[u8]>),
}

/// Asks about a command, unless the answer is known. Returns it when it is allowed without asking.
pub fn for_command<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: Command,
    message: &[u8],
) -> Option<Command> {
    if !hub.settings.authorizer {
        return Some(command);
    }
    let (verb, channel) = (command.verb, command.channel(message));
    if let Some(known) = hub.grants.known(id.slot, verb, channel, hub.clock.now) {
        asking::known(hub, id, verb, channel, &known);
        let Known::Remembered(Remembrance::No(why)) = known else {
            return Some(command);
        };
        refuse_command(hub, id, &command, message, why.as_deref());
        return None;
    }
    let body = body(hub, id, verb.as_str(), command.args(message));
    if let Some(connection) = hub.roster.get(id) {
        let (command, message) = (command.clone(), message.into());
        connection.suspend(Awaits::Verdict, Suspended::Command { command, message });
    }
    ask(hub, id, verb.into(), Some(channel), body);
    None
}

/// Asks whether a connection may go on, if it is time and no question about it is open. Its grants are over then. Returns
/// whether it was asked: nothing further is understood before the answer.
pub fn refresh<S: Stream>(hub: &mut Hub<S>, id: ConnId) -> bool {
    if !hub.grants.is_due(id.slot, hub.clock.now) {
        return false;
    }
    let due = |connection: &mut Connection<S>| connection.is_open() && connection.is_listening();
    if !hub.roster.get(id).is_some_and(due) {
        return false;
    }
    hub.grants.lapse(id.slot);
    let body = body(hub, id, Asked::Refresh.as_str(), b"{}");
    if let Some(connection) = hub.roster.get(id) {
        connection.suspend(Awaits::Verdict, Suspended::Refresh);
    }
    ask(hub, id, Asked::Refresh, None, body);
    true
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
        let pending = PendingUpgrade {
            exchange,
            upgrade,
            query: head.query().into(),
        };
        connection.suspend(Awaits::Verdict, Suspended::Upgrade(pending, None));
    }
    hub.disconnects.begin(id.slot);
    let body = connect_body(hub, id, head);
    ask(hub, id, Asked::Connect, None, body);
    None
}

/// Has the authorizer asked about a connection, which waits for the answer already. Meanwhile no other question about
/// it is asked, and none once it was reset. So a late answer is never taken for another question's.
fn ask<S: Stream>(
    hub: &mut Hub<S>,
    from: ConnId,
    asked: Asked,
    channel: Option<&str>,
    body: Vec<u8>,
) {
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
        if !questions::put(hub, question, channel) {
            failure::give_up(hub, from);
        }
    }
}

/// Takes an answer of the authorizer. What is refused, or fails, is answered here. A late answer is ignored.
pub fn answer<S: Stream>(hub: &mut Hub<S>, answer: Answer) -> Option<Allowed> {
    asking::verdict(hub, &answer);
    questions::note_answer(hub, &answer);
    let id = answer.to;
    let now = hub.clock.now;
    let connection = hub.roster.get(id)?;
    // A question that was withdrawn may have been answered all the same.
    if !connection.set_asking(false) || !connection.awaits_verdict() {
        return None;
    }
    let mut answer = questions::hold(hub, answer)?;
    let fields = answer.fields.take().unwrap_or_default();
    match hub.roster.get(id)?.resume(Awaits::Verdict, now)? {
        Suspended::Upgrade(pending, _) => {
            report::decided(hub, &answer, "connect", None);
            match answer.verdict {
                Verdict::Allow => return Some(Allowed::Upgrade(pending, fields)),
                Verdict::Deny => refuse_upgrade(hub, id, pending.exchange, fields.message),
                Verdict::Unavailable => {
                    failure::refuse_upgrade(hub, id, pending.exchange, AfterReply::GoOn);
                }
            }
            None
        }
        Suspended::Command { command, message } => {
            answer_command(hub, &answer, *fields, command, message)
        }
        Suspended::Refresh => {
            answer_refresh(hub, &answer, *fields);
            None
        }
        // No question is asked about it.
        Suspended::Post { .. } | Suspended::Backend { .. } => None,
    }
}

fn refuse_upgrade<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    message: Option<Box<str>>,
) {
    let usual = "the authorizer says no: connect with what it asks for";
    let message = message.map_or(usual.into(), |message| Cow::Owned(message.into()));
    let refusal = Refusal::new(Status::Forbidden, "not_authorized", message);
    report::upgrade_refused(hub, "denied");
    replies::refuse(hub, id, exchange, refusal);
}

fn answer_command<S: Stream>(
    hub: &mut Hub<S>,
    answer: &Answer,
    fields: AnswerFields,
    command: Command,
    message: Box<[u8]>,
) -> Option<Allowed> {
    let (id, now) = (answer.to, hub.clock.now);
    let (verb, channel) = (command.verb, command.channel(&message));
    report::decided(hub, answer, verb.as_str(), Some(channel));
    let seconds = fields.max_age.unwrap_or_default();
    match answer.verdict {
        Verdict::Allow => {
            set_state(hub, id, fields.state);
            let yes = Remembrance::Yes;
            hub.grants
                .remember(id.slot, (verb, channel), yes, seconds, now);
            let (command, message) = match fields.content {
                Some(content) => command.with_content(&message, &content),
                None => (command, message),
            };
            return Some(Allowed::Command(command, message));
        }
        Verdict::Deny => {
            hub.grants.forget(id.slot, channel);
            let no = Remembrance::No(fields.message.clone());
            hub.grants
                .remember(id.slot, (verb, channel), no, seconds, now);
            refuse_command(hub, id, &command, &message, fields.message.as_deref());
            if let Some(CloseWith { code, reason }) = fields.close {
                close_with_reason(hub, id, Ending::Refused(code), reason.as_deref());
            }
        }
        Verdict::Unavailable => failure::abandon_command(hub, id, &command, &message),
    }
    None
}

fn refuse_command<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: &Command,
    message: &[u8],
    why: Option<&str>,
) {
    let why = why.unwrap_or(DENIED_MESSAGE);
    replies::failed(hub, id, command, message, Code::NotAuthorized, why);
}

/// The authorizer has said whether a connection may go on.
fn answer_refresh<S: Stream>(hub: &mut Hub<S>, answer: &Answer, fields: AnswerFields) {
    let id = answer.to;
    report::decided(hub, answer, Asked::Refresh.as_str(), None);
    match answer.verdict {
        Verdict::Allow => {
            set_state(hub, id, fields.state);
            grant(hub, id, fields.allow, fields.expires_in);
        }
        Verdict::Deny => {
            let (code, reason) = match fields.close {
                Some(close) => (close.code, close.reason),
                // There is no other answer that the message could be in.
                None => (MAY_NOT_GO_ON, fields.message),
            };
            close_with_reason(hub, id, Ending::Refused(code), reason.as_deref());
        }
        Verdict::Unavailable => failure::postpone_refresh(hub, id),
    }
}

/// Gives a connection grants in the place of those that it has. `expires_in` is in seconds. Up to a tenth of it is left
/// out at random, so that clients that came together do not return together.
pub fn grant<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    allow: Option<Allow>,
    expires_in: Option<u32>,
) {
    let refresh = expires_in.map(|seconds| {
        let longest = Millis::from(seconds).saturating_mul(1000);
        let shortest = longest.saturating_sub(longest / 10);
        let time = hub.random.within(shortest..=longest);
        hub.clock.now.saturating_add(time)
    });
    hub.grants.grant(id.slot, allow, refresh);
}

/// Gives a connection another state, if there is one.
fn set_state<S: Stream>(hub: &mut Hub<S>, id: ConnId, state: Option<NewState>) {
    if let Some(state) = state
        && let Some(connection) = hub.roster.get(id)
    {
        let before = connection.identity();
        let identity = hub.roster.identities.with_state(before, state.json());
        if let Some(connection) = hub.roster.get(id) {
            connection.set_identity(identity);
        }
    }
}

/// What the authorizer is asked about an upgrade.
fn connect_body<S: Stream>(hub: &mut Hub<S>, id: ConnId, head: &Head) -> Vec<u8> {
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
    let subject = hub.roster.subject(id);
    question::push_question(&mut body, Asked::Connect.as_str(), &args, |body| {
        let (id, peer) = (subject.id.text(), subject.peer.text());
        question::push_connection(body, id.as_bytes(), peer.as_bytes(), None, &query, None);
    });
    body
}

/// What the authorizer is asked about a command, or about the connection itself.
fn body<S: Stream>(hub: &mut Hub<S>, id: ConnId, command: &str, args: &[u8]) -> Vec<u8> {
    // The usual message, query and state find room, so that the body grows once.
    let mut body = Vec::with_capacity(args.len().saturating_add(320));
    question::push_question(&mut body, command, args, |body| {
        hub.roster.push_connection(id, body);
    });
    body
}
