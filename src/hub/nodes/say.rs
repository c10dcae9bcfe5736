//! What this node says to the others.
//!
//! Owns: the envelope of its messages. Knows: how something is handed to the broker. Never knows: why something is said.

use std::borrow::Cow;

use crate::connection::Stream;
use crate::effect::PublishedBy;
use crate::hub::publish;
use crate::hub::report;
use crate::hub::state::Hub;
use crate::wire::node_message::envelope::Envelope;
use crate::wire::node_message::{ALL_NODES, NodeMessage, channel_of};

/// The answer to a backend while the broker is away.
pub const AWAY: &str = "the broker is down: nothing is known to have been done; try again later";

/// Why other nodes cannot be asked now, if so.
pub fn refusal_reason<S: Stream>(hub: &Hub<S>) -> Option<Cow<'static, str>> {
    let subscriptions = &hub.channels.subscriptions;
    if !subscriptions.is_available(ALL_NODES) {
        return Some(AWAY.into());
    }
    let nodes = hub.nodes.as_ref()?;
    Some(match nodes.channels.why_missing(subscriptions)? {
        None => AWAY.into(),
        Some(why) => {
            let refused = "the broker refuses the channels of the nodes";
            format!("{refused} ({why}): nothing is known to have been done; try again later").into()
        }
    })
}

/// Whether this node hears what it says to all.
pub fn is_heard<S: Stream>(hub: &Hub<S>) -> bool {
    let subscriptions = &hub.channels.subscriptions;
    let channels = hub.nodes.as_ref().map(|nodes| &nodes.channels);
    channels.is_none_or(|it| it.why_missing(subscriptions).is_none())
        && subscriptions.is_available(ALL_NODES)
}

/// Says something to all nodes, this one included. `from` is answered when the broker has published it.
pub fn to_all<S: Stream>(hub: &mut Hub<S>, from: PublishedBy, message: &NodeMessage) {
    say(hub, from, ALL_NODES, message);
}

/// Says something to one node. Whether it comes there shows when it says something.
pub fn to_one<S: Stream>(hub: &mut Hub<S>, node: u64, message: &NodeMessage) {
    say(hub, PublishedBy::Nothing, &channel_of(node), message);
}

fn say<S: Stream>(hub: &mut Hub<S>, from: PublishedBy, channel: &str, message: &NodeMessage) {
    let time = report::unix_time(hub);
    let Some(nodes) = &mut hub.nodes else {
        return;
    };
    nodes.count = nodes.count.saturating_add(1);
    let envelope = Envelope {
        node: nodes.id,
        time,
        count: nodes.count,
        message: &message.json(),
    };
    let content = nodes.seal.seal(channel, &envelope).into();
    publish::hand_out(hub, from, channel, content);
}
