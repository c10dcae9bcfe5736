//! The one way to publish, and the one way to wait for it: for clients, backends and what the broker brings.
//!
//! Owns: whether something is published now, later or not at all, and the answer to its publisher. Knows: channels, and
//! whether the broker takes what is published. Never knows: whether it was allowed (that was decided before), or redis.
//!
//! Decision: publishing is refused unless the channel's shard takes what is published and brings what is subscribed, and a
//! channel with members here is subscribed. Chosen over accepting whenever the shard takes it, because members here
//! would silently miss an acknowledged message. A channel without members here is not refused because of others.
//!
//! Decision: without a shared broker a broadcast is delivered here at once, rather than sending it out as an effect and
//! taking it back in, because then nothing waits for a receipt, and what is read in one turn becomes one run.

use std::borrow::Cow;

use super::replies;
use super::report;
use super::state::Hub;
use super::waiter::WaiterId;
use crate::connection::{Awaits, Exchange, Stream, Suspended};
use crate::effect::{ConnId, Effect, Publication, PublishedBy, Receipt};
use crate::wire::channel_name::ChannelName;
use crate::wire::command::{Command, Post};
use crate::wire::http::{Refusal, Reply, Status};
use crate::wire::server_message::Code;

const DOWN: &str = "the broker is down: nothing was published; try again later";
const LOST: &str =
    "the broker did not confirm: nothing is known to have been published; try again later";

/// A client or a backend that publishes, and the text in which channel and content lie.
pub enum Publisher<'m> {
    Client(Command, &'m [u8]),
    Backend(Exchange, Post, &'m [u8]),
}

impl Publisher<'_> {
    fn channel(&self) -> &str {
        match self {
            Publisher::Client(command, message) => command.channel(message),
            Publisher::Backend(_, post, body) => post.channel(body),
        }
    }

    fn content(&self) -> &[u8] {
        match self {
            Publisher::Client(command, message) => command.content(message),
            Publisher::Backend(_, post, body) => post.content(body),
        }
    }

    /// What waits: with the text, until it has been handed to the broker. A client's answer is made from its message.
    fn suspend(self, awaits: Awaits) -> Suspended {
        match self {
            Publisher::Client(command, message) => Suspended::Command {
                command,
                message: message.into(),
            },
            Publisher::Backend(exchange, post, body) => Suspended::Post {
                exchange,
                post,
                body: match awaits {
                    Awaits::Receipt => Box::default(),
                    _ => body.into(),
                },
            },
        }
    }
}

/// What has become of content that was to be published.
pub enum PublishResult {
    /// It is on its way to the members here, which are all.
    Delivered,
    /// The broker has it, and is going to answer.
    AwaitsReceipt,
    /// Too much is on its way to the channel. The publisher is resumed once there is room.
    Congested,
    /// It cannot be published, for this reason.
    Refused(Cow<'static, str>),
}

/// Publishes content, unless its channel's shard is away or too much is on its way to it.
pub fn send<S: Stream>(
    hub: &mut Hub<S>,
    from: WaiterId,
    channel: &str,
    content: &[u8],
) -> PublishResult {
    if let Some(why) = refusal_reason(hub, channel) {
        return PublishResult::Refused(why);
    }
    if hub.channels.is_congested(channel, from, &hub.runs) {
        return PublishResult::Congested;
    }
    report::published(hub, from.connection(), Some(channel), content);
    if hub.channels.subscriptions.is_shared() {
        hand_out(hub, from.into(), channel, content.into());
        return PublishResult::AwaitsReceipt;
    }
    deliver(hub, channel, content);
    PublishResult::Delivered
}

/// Has the broker publish something: content, or a message between nodes.
pub fn hand_out<S: Stream>(hub: &mut Hub<S>, from: PublishedBy, channel: &str, content: Box<[u8]>) {
    hub.effects.push_back(Effect::Publish(Publication {
        from,
        since: hub.clock.now,
        channel: ChannelName::checked(channel),
        content,
    }));
}

/// Publishes content, or suspends the publisher, or answers with an error.
pub fn publish<S: Stream>(hub: &mut Hub<S>, id: ConnId, publisher: Publisher) {
    let (channel, content) = (publisher.channel(), publisher.content());
    let awaits = match send(hub, id.into(), channel, content) {
        PublishResult::Delivered => return answer(hub, id, publisher, None),
        PublishResult::Refused(why) => return answer(hub, id, publisher, Some(why)),
        PublishResult::Congested => Awaits::Channel,
        PublishResult::AwaitsReceipt => Awaits::Receipt,
    };
    let now = hub.clock.now;
    let ending = hub.drain.as_ref().is_some_and(|plan| plan.is_ending(now));
    let publisher = match publisher {
        Publisher::Backend(exchange, ..) if ending => return refuse_waiting(hub, id, exchange),
        publisher => publisher,
    };
    if let Some(connection) = hub.roster.get(id) {
        connection.suspend(awaits, publisher.suspend(awaits));
    }
}

/// Handles the broker's answer to a publication that this connection waits for.
pub fn confirmed<S: Stream>(hub: &mut Hub<S>, id: ConnId, receipt: Receipt) {
    let now = hub.clock.now;
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    let why = lost(&receipt);
    match connection.resume(Awaits::Receipt, now) {
        Some(Suspended::Command { command, message }) => {
            answer(hub, id, Publisher::Client(command, &message), why);
        }
        Some(Suspended::Post {
            exchange,
            post,
            body,
        }) => answer(hub, id, Publisher::Backend(exchange, post, &body), why),
        Some(Suspended::Upgrade(..) | Suspended::Refresh | Suspended::Backend { .. }) | None => {}
    }
}

/// Why nothing is known to have been published, if so.
pub fn lost(receipt: &Receipt) -> Option<Cow<'static, str>> {
    match receipt {
        Receipt::Confirmed => None,
        Receipt::Refused(why) => Some(refused("to publish", why)),
        Receipt::Failed => Some(LOST.into()),
    }
}

/// Answers a publisher. `why` is set if nothing is known to have been published.
fn answer<S: Stream>(
    hub: &mut Hub<S>,
    id: ConnId,
    publisher: Publisher,
    why: Option<Cow<'static, str>>,
) {
    match (publisher, why) {
        (Publisher::Client(command, message), None) => {
            replies::done(hub, id, &command, message);
        }
        (Publisher::Client(command, message), Some(why)) => {
            replies::failed(hub, id, &command, message, Code::Unavailable, &why);
        }
        (Publisher::Backend(exchange, ..), None) => {
            replies::reply(hub, id, exchange, Reply::empty(Status::Created));
        }
        (Publisher::Backend(exchange, ..), Some(why)) => {
            let refusal = Refusal::new(Status::Unavailable, "unavailable", why);
            replies::refuse(hub, id, exchange, refusal);
        }
    }
}

/// Answers a request that would have to wait for longer than the server does.
pub fn refuse_waiting<S: Stream>(hub: &mut Hub<S>, id: ConnId, exchange: Exchange) {
    let message =
        "the server is stopping: nothing is known to have been published; try again later";
    let refusal = Refusal::new(Status::Unavailable, "draining", message);
    replies::refuse_and_close(hub, id, exchange, refusal);
}

/// Why nothing can be published to a channel now, if so.
pub fn refusal_reason<S: Stream>(hub: &Hub<S>, channel: &str) -> Option<Cow<'static, str>> {
    if !hub.channels.subscriptions.is_available(channel) {
        return Some(DOWN.into());
    }
    Some(match hub.channels.why_missing(channel)? {
        None => DOWN.into(),
        Some(why) => refused("this channel", &why),
    })
}

/// The answer to a publisher when the broker refuses `what`.
fn refused(what: &str, why: &str) -> Cow<'static, str> {
    format!("the broker refuses {what} ({why}): nothing was published; try again later").into()
}

/// Delivers JSON that the broker has brought. Returns false if it cannot be taken yet, because too much is on its way
/// to the members.
pub fn arrived<S: Stream>(hub: &mut Hub<S>, channel: &str, content: &[u8]) -> bool {
    let room = !hub.channels.is_full(channel);
    if room {
        deliver(hub, channel, content);
    }
    room
}

/// Puts content on its way to the members here. The only way in which anything reaches a channel.
pub fn deliver<S: Stream>(hub: &mut Hub<S>, channel: &str, content: &[u8]) {
    report::fanned_out(hub, channel, content);
    let (now, agenda) = (hub.clock.micros, &mut hub.agenda);
    hub.channels.publish(
        channel,
        content,
        now,
        &mut hub.runs,
        &mut hub.compression,
        &mut agenda.serving,
    );
    agenda.count(hub.compression.take_cost());
}

/// The members of a channel may have missed messages: those that speak `wsify.v1` are told, behind all that was published
/// to it before (`docs/scaling.md#gaps`). What is told to all of them, whatever their channels, belongs here too.
pub fn gap<S: Stream>(hub: &mut Hub<S>, channel: usize) {
    report::gap::gap(hub, channel);
    let (now, serving) = (hub.clock.micros, &mut hub.agenda.serving);
    hub.channels
        .publish_gap(channel, now, &mut hub.runs, serving);
}
