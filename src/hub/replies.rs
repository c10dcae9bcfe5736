//! Answers to clients and backends: HTTP replies, and messages about commands.
//!
//! Owns: how an answer is put into its connection's outbox and reported. Knows: exchanges, and commands with their
//! messages. Never knows: why an answer is the one it is.

use super::report;
use super::state::Hub;
use crate::connection::{Exchange, Stream};
use crate::effect::ConnId;
use crate::wire::channel_name::ChannelName;
use crate::wire::command::Command;
use crate::wire::encoding::Encoding;
use crate::wire::endpoint::Endpoint;
use crate::wire::http::{Refusal, Reply};
use crate::wire::server_message::{self, Code, Rejected};

/// What becomes of a connection once its request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterReply {
    /// It takes the next request, unless its client or a stop ends it.
    GoOn,
    Close,
}

/// Answers a request.
pub fn reply<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, reply: Reply) {
    send(hub, id, exchange, reply, AfterReply::GoOn);
}

/// Answers a request with an error.
pub fn refuse<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange, refusal: Refusal) {
    report::refused(hub, id, &exchange, &refusal);
    send(hub, id, exchange, refusal.reply(), AfterReply::GoOn);
}

/// Answers a request with a temporary error and `Retry-After`.
pub fn refuse_for_now<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    refusal: Refusal,
) {
    let refusal = refusal.with("Retry-After", hub.retry_after());
    refuse(hub, id, exchange, refusal);
}

/// Answers a request with an error, and ends the connection with the answer.
pub fn refuse_and_close<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    refusal: Refusal,
) {
    report::refused(hub, id, &exchange, &refusal);
    send(hub, id, exchange, refusal.reply(), AfterReply::Close);
}

fn send<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    exchange: Exchange,
    mut reply: Reply,
    after: AfterReply,
) {
    report::replied(hub, exchange.endpoint, reply.status);
    if let Some(origin) = exchange.origin.as_deref()
        && exchange.endpoint != Endpoint::Preflight
    {
        let headers = hub.settings.origins.cors(Some(origin));
        reply.headers.extend(headers);
    }
    if let Some(connection) = hub.roster.get(id) {
        let closing = after == AfterReply::Close || hub.drain.is_some();
        connection.prepare(&mut hub.runs);
        connection.answer(exchange, &reply, closing, &hub.clock, &hub.limits);
    }
}

/// Answers that a command was done, if it has an `id`.
pub fn done<S: Stream>(hub: &mut Hub<S>, id: ConnId, command: &Command, message: &[u8]) {
    report::command_done(hub, id, command, message);
    if let Some(answer_to) = command.id(message) {
        push(hub, id, |out| server_message::push_ok(out, answer_to));
    }
}

/// Answers that a command was not done.
pub fn failed<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: &Command,
    message: &[u8],
    code: Code,
    why: &str,
) {
    report::command_failed(hub, id, command, message, code, why);
    let (answer_to, channel) = (command.id(message), command.channel(message));
    let verb = command.verb.as_str();
    push(hub, id, |out| {
        server_message::push_error(out, answer_to, code, why, Some(verb), Some(channel));
    });
}

/// Answers that a message was not a valid command.
pub fn rejected<S: Stream>(hub: &mut Hub<S>, id: ConnId, rejected: &Rejected) {
    report::message_rejected(hub, id, rejected);
    push(hub, id, |out| rejected.push(out));
}

/// Sends the first message to a client that uses `wsify.v1`: behind the `101`, in the same write.
pub fn welcome<S: Stream>(hub: &mut Hub<S>, id: ConnId, channels: &[ChannelName]) {
    let subject = hub.roster.subject(id);
    let (public, user) = (subject.id.to_string(), subject.user.as_deref());
    if let Some(connection) = hub.roster.get(id) {
        connection.greet(|out| server_message::push_welcome(out, &public, user, channels));
        hub.listeners.answered(id.slot);
    }
}

/// Tells a client that uses `wsify.v1` that a backend has made it join a channel, or leave it.
pub fn moved<S: Stream>(hub: &mut Hub<S>, id: ConnId, joined: bool, channel: &str) {
    let encoding = hub.roster.get(id).map(|c| c.encoding());
    if encoding.is_some_and(Encoding::is_v1) {
        push(hub, id, |out| {
            server_message::push_moved(out, joined, channel)
        });
    }
}

/// Tells a client that uses `wsify.v1` that it may have missed what goes to users and connections.
pub fn gap<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    push(hub, id, server_message::push_gap);
}

/// Sends a text message to one connection; `write` appends its payload.
fn push<S: Stream>(hub: &mut Hub<S>, id: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
    if let Some(connection) = hub.roster.get(id) {
        connection.prepare(&mut hub.runs);
        if connection.tell(&hub.limits, write) {
            hub.listeners.answered(id.slot);
        }
    }
}
