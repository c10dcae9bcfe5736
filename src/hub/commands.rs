//! join, leave and broadcast, once they are allowed; and what is refused without asking.
//!
//! Owns: what a command does. Knows: channels and limits. Never knows: whether a command is allowed
//! ([`super::permission`] decides), or how a broadcast is published ([`super::publish`]).

use super::publish::{self, Publisher};
use super::replies;
use super::report;
use super::settle;
use super::state::Hub;
use super::subscriptions::BrokerStanding;
use crate::connection::{Awaits, Stream, Suspended};
use crate::effect::{ConnId, Receipt};
use crate::wire::command::{self, Command, Verb};
use crate::wire::encoding::Encoding;
use crate::wire::server_message::{Code, Fault};

const TOO_FAST: &str = "this connection exceeds its message rate: send less often";

/// Reads a client's message. A message that is not a valid command, and a command that is refused without asking the
/// authorizer, are answered here.
pub fn read<S: Stream>(hub: &mut Hub<S>, id: ConnId, message: &[u8]) -> Option<Command> {
    hub.listeners.message(id.slot);
    let admitted = hub.usage.message_rate.admit(id.slot, hub.clock.now);
    let command = match command::parse(message) {
        Ok(command) => command,
        Err(mut rejected) => {
            if !admitted {
                rejected.fault = Fault {
                    code: Code::RateLimited,
                    message: TOO_FAST.into(),
                };
            }
            replies::rejected(hub, id, &rejected);
            return None;
        }
    };
    let refused = if !admitted {
        (Code::RateLimited, TOO_FAST.into())
    } else if has_too_many_channels(hub, id, &command, message) {
        let why = "this connection is in the maximum number of channels: leave one first";
        (Code::TooManyChannels, why.into())
    } else if command.verb == Verb::Broadcast
        && let Some(why) = publish::refusal_reason(hub, command.channel(message))
    {
        // Whatever the authorizer says would change nothing (`docs/protocol.md#errors`).
        (Code::Unavailable, why)
    } else {
        return Some(command);
    };
    replies::failed(hub, id, &command, message, refused.0, &refused.1);
    None
}

fn has_too_many_channels<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: &Command,
    message: &[u8],
) -> bool {
    let Some(connection) = hub.roster.get(id).filter(|_| command.verb == Verb::Join) else {
        return false;
    };
    let (channel, encoding) = (command.channel(message), connection.encoding());
    is_one_too_many(hub, id.slot, channel, encoding)
}

/// Whether the connection in `slot` is in as many channels as it may be, and this one is another.
pub fn is_one_too_many<S: Stream>(
    hub: &Hub<S>,
    slot: u32,
    channel: &str,
    encoding: Encoding,
) -> bool {
    hub.channels.joined(slot) >= hub.settings.max_channels
        && !hub.channels.is_member(slot, channel, encoding)
}

/// Does what was allowed.
pub fn perform<S: Stream>(hub: &mut Hub<S>, id: ConnId, command: Command, message: &[u8]) {
    match command.verb {
        Verb::Join => join(hub, id, command, message),
        Verb::Leave => {
            leave(hub, id, command.channel(message));
            replies::done(hub, id, &command, message);
        }
        Verb::Broadcast => publish::publish(hub, id, Publisher::Client(command, message)),
    }
}

/// Goes on with a command that has waited for its channel; `receipt` is what became of the subscription, if it waited for
/// that.
pub fn resume<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    command: Command,
    message: &[u8],
    receipt: Option<Receipt>,
) {
    if command.verb == Verb::Join
        && let Some(Receipt::Refused(why)) = receipt
    {
        let why = format!("the broker refuses this channel ({why}): join it again later");
        return replies::failed(hub, id, &command, message, Code::Unavailable, &why);
    }
    perform(hub, id, command, message);
}

fn join<S: Stream>(hub: &mut Hub<S>, id: ConnId, command: Command, message: &[u8]) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    let channel = command.channel(message);
    match hub.channels.subscribe(channel, id.into()) {
        BrokerStanding::Ready => {
            let first = hub.channels.join(id.slot, channel, connection.encoding());
            report::events::joined(hub, channel, first);
            replies::done(hub, id, &command, message);
        }
        BrokerStanding::Waiting | BrokerStanding::Unasked => {
            let message = message.into();
            connection.suspend(Awaits::Channel, Suspended::Command { command, message });
        }
    }
}

/// Ends a membership. What was published before goes into the outbox first. Returns whether there was one.
pub fn leave<S: Stream>(hub: &mut Hub<S>, id: ConnId, channel: &str) -> bool {
    let Some(encoding) = hub.roster.get(id).map(|c| c.encoding()) else {
        return false;
    };
    if !hub.channels.is_member(id.slot, channel, encoding) {
        return false;
    }
    let slices = hub.channels.pending(id.slot, channel, encoding);
    settle::enqueue(hub, id, slices);
    let last = hub
        .channels
        .leave(id.slot, channel, encoding, &mut hub.runs);
    report::events::left(hub, channel, last);
    true
}
