//! join, leave, broadcast (CONTRACT §4).
//!
//! Owns: what a command does once it is allowed, and what is answered. Knows: channels. Never knows: how a verdict comes
//! about.

use super::Hub;
use super::subscriptions::Standing;
use crate::connection::{Awaits, Parked, Stream};
use crate::effect::{ConnId, Receipt};
use crate::wire::answer::{self, Code, Fault};
use crate::wire::command::{self, Command, Verb};
use crate::wire::{frame, http, question};

const TOO_FAST: &str = "this connection has said more in a second than it may: send less often";

impl<S: Stream> Hub<S> {
    /// A client said something.
    pub(super) fn said(&mut self, id: ConnId, message: &[u8]) {
        self.access.said(id.slot);
        let admitted = self.rates.admit(id.slot, self.clock.now);
        let command = match command::parse(message) {
            Ok(command) if admitted => command,
            Ok(command) => {
                return self.answer_error(id, &command, message, Code::RateLimited, TOO_FAST);
            }
            Err(mut rejected) => {
                if !admitted {
                    rejected.fault = Fault {
                        code: Code::RateLimited,
                        message: TOO_FAST.into(),
                    };
                }
                self.metrics
                    .commands
                    .add(["other", rejected.fault.code.as_str()]);
                self.tap("refused", Some(id), None, |line| {
                    line.text("code", rejected.fault.code.as_str());
                    line.text("message", &rejected.fault.message);
                });
                return self.tell(id, |out| rejected.push(out));
            }
        };
        if command.verb == Verb::Join && self.has_too_many_channels(id, command.channel(message)) {
            let why = "this connection is in as many channels as it may be: leave one first";
            return self.answer_error(id, &command, message, Code::TooManyChannels, why);
        }
        // Without asking: what the authorizer says would change nothing (CONTRACT §4).
        if command.verb == Verb::Broadcast
            && let Some(why) = self.why_unpublishable(command.channel(message))
        {
            return self.answer_error(id, &command, message, Code::Unavailable, &why);
        }
        if !self.settings.authorizer {
            return self.perform(id, command, message);
        }
        self.tap(
            "question",
            Some(id),
            Some(command.channel(message)),
            |line| {
                line.text("command", command.verb.as_str());
            },
        );
        let body = self.command_question(id, &command, message);
        self.ask(id, false, body);
        self.park(id, Awaits::Verdict, command, message);
    }

    /// Does what was allowed.
    pub(super) fn perform(&mut self, id: ConnId, command: Command, message: &[u8]) {
        let Some(dialect) = self.registry.get(id).map(|c| c.dialect) else {
            return;
        };
        let channel = command.channel(message);
        match command.verb {
            Verb::Join => match self.channels.standing(channel, id) {
                Standing::Ready => self.channels.join(id.slot, channel, dialect),
                Standing::Waiting => return self.park(id, Awaits::Channel, command, message),
            },
            Verb::Leave => {
                let owed = self.channels.owed(id.slot, channel, dialect);
                if let Some(connection) = self.registry.get(id) {
                    for slice in owed {
                        let messages = frame::count(self.runs.slice(slice));
                        self.metrics.delivered(messages);
                        self.access.told(id.slot, messages);
                        connection.owe(slice, &mut self.runs, &self.settings.limits);
                    }
                }
                self.channels
                    .leave(id.slot, channel, dialect, &mut self.runs);
            }
            Verb::Broadcast => {
                if let Some(why) = self.why_unpublishable(channel) {
                    return self.answer_error(id, &command, message, Code::Unavailable, &why);
                }
                if self.channels.is_congested(channel, id, &self.runs) {
                    return self.park(id, Awaits::Channel, command, message);
                }
                if self.channels.link.is_shared() {
                    self.publish(id, channel, command.content(message));
                    return self.park(id, Awaits::Receipt, command, message);
                }
                self.tap("broadcast", Some(id), Some(channel), |line| {
                    line.content(command.content(message))
                });
                self.deliver(channel, command.content(message));
            }
        }
        self.done(id, &command, message);
    }

    /// The broker has published, or not.
    pub(super) fn published(&mut self, id: ConnId, parked: &Parked, receipt: &Receipt) {
        let Parked {
            command, message, ..
        } = parked;
        match Self::unconfirmed(receipt) {
            None => self.done(id, command, message),
            Some(why) => self.answer_error(id, command, message, Code::Unavailable, &why),
        }
    }

    /// Goes on with a command that has waited for its channel; `receipt` is what became of the subscription, if it waited
    /// for that.
    pub(super) fn proceed(&mut self, id: ConnId, parked: Parked, receipt: Option<&Receipt>) {
        let Parked {
            command, message, ..
        } = parked;
        if command.verb == Verb::Join
            && let Some(Receipt::Refused(why)) = receipt
        {
            let why = format!("the broker refuses this channel ({why}): join it again later");
            return self.answer_error(id, &command, &message, Code::Unavailable, &why);
        }
        self.perform(id, command, &message);
    }

    /// Says that it is done.
    fn done(&mut self, id: ConnId, command: &Command, message: &[u8]) {
        self.metrics.commands.add([command.verb.as_str(), "ok"]);
        if command.verb != Verb::Broadcast {
            self.tap_membership(id, command.verb, command.channel(message));
        }
        if let Some(answer_to) = command.id(message) {
            self.tell(id, |out| answer::push_ok(out, answer_to));
        }
    }

    /// Puts a text message on its way to one connection; `write` appends its payload.
    fn tell(&mut self, id: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(connection) = self.registry.get(id)
            && connection.tell(&self.settings.limits, write)
        {
            self.access.told(id.slot, 1);
        }
    }

    /// Says that the authorizer said no.
    pub(super) fn deny(&mut self, id: ConnId, command: &Command, message: &[u8]) {
        self.answer_error(
            id,
            command,
            message,
            Code::NotAuthorized,
            "the authorizer says no",
        );
    }

    /// Publishes to the members here. The one way in which anything reaches a channel.
    pub(super) fn deliver(&mut self, channel: &str, content: &[u8]) {
        self.tap_fanout(channel, content);
        self.metrics.fanouts = self.metrics.fanouts.saturating_add(1);
        self.channels.publish(
            channel,
            content,
            self.clock.micros,
            &mut self.runs,
            &mut self.serving,
        );
    }

    fn has_too_many_channels(&mut self, id: ConnId, channel: &str) -> bool {
        let Some(dialect) = self.registry.get(id).map(|c| c.dialect) else {
            return false;
        };
        self.channels.joined(id.slot) >= self.settings.max_channels
            && !self.channels.is_member(id.slot, channel, dialect)
    }

    fn park(&mut self, id: ConnId, awaits: Awaits, command: Command, message: &[u8]) {
        if let Some(connection) = self.registry.get(id) {
            connection.session.park(Parked {
                awaits,
                command,
                message: message.into(),
            });
        }
    }

    fn answer_error(
        &mut self,
        id: ConnId,
        command: &Command,
        message: &[u8],
        code: Code,
        why: &str,
    ) {
        let verb = command.verb.as_str();
        self.metrics.commands.add([verb, code.as_str()]);
        self.tap(
            "refused",
            Some(id),
            Some(command.channel(message)),
            |line| {
                line.text("command", verb);
                line.text("code", code.as_str());
                line.text("message", why);
            },
        );
        let (answer_to, channel) = (command.id(message), command.channel(message));
        self.tell(id, |out| {
            answer::push_error(out, answer_to, code, why, Some(verb), Some(channel));
        });
    }

    /// What the authorizer is asked about a command.
    fn command_question(&mut self, id: ConnId, command: &Command, message: &[u8]) -> Vec<u8> {
        let (connection, address) = self.introduce(id);
        let mut body = Vec::new();
        if let Some(asking) = self.registry.get(id) {
            let query = http::query_pairs(self.badges.query(asking.badge));
            let (verb, args, state) = (
                command.verb.as_str(),
                command.args(message),
                self.badges.state(asking.badge),
            );
            question::push_question(&mut body, verb, args, &connection, &address, &query, state);
        }
        body
    }
}
