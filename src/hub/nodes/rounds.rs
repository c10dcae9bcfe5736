//! What is due between nodes in each turn: announcements, subscriptions, answers that are late, contents that have waited.
//!
//! Owns: when a node announces itself. Knows: the clock. Never knows: redis.

use crate::clock::Millis;
use crate::connection::Stream;
use crate::effect::{PublishedBy, Receipt, SubscriptionId};
use crate::hub::backend;
use crate::hub::nodes::{gap, hear, say};
use crate::hub::report;
use crate::hub::state::Hub;
use crate::wire::node_message::NodeMessage;

/// How often a node says that it is there, in milliseconds. Three of them may be lost before it is not asked any more.
pub const HERE: Millis = 2_000;
/// How long after this node has announced itself others are waited for that it does not know, in milliseconds.
const SETTLES: Millis = 500;
/// Pieces of content that have waited and are sent in one turn.
const CONTENTS: usize = 64;

/// Goes on with what is due.
pub fn advance<S: Stream>(hub: &mut Hub<S>) {
    if hub.nodes.is_none() {
        return;
    }
    hear::begin_turn(hub);
    subscribe(hub);
    announce(hub);
    gap::advance(hub);
    deliver_held(hub);
    finish_overdue(hub);
}

fn subscribe<S: Stream>(hub: &mut Hub<S>) {
    let unix = report::unix_time(hub);
    if let Some(nodes) = &mut hub.nodes {
        nodes.since.get_or_insert(unix);
        nodes.channels.ask(&mut hub.channels.subscriptions);
    }
}

/// Asks for refused channels again.
pub fn ask_again<S: Stream>(hub: &mut Hub<S>, refused: Vec<SubscriptionId>) {
    if let Some(nodes) = &mut hub.nodes {
        for id in refused {
            nodes
                .channels
                .ask_again(id, &mut hub.channels.subscriptions);
        }
    }
}

/// Handles the result of a subscription. Returns whether it is of a channel of the nodes.
pub fn subscribed<S: Stream>(hub: &mut Hub<S>, id: SubscriptionId, receipt: &Receipt) -> bool {
    let Some(nodes) = &mut hub.nodes else {
        return false;
    };
    let subscriptions = &mut hub.channels.subscriptions;
    let now = (hub.clock.now, &mut hub.random);
    let answered = nodes.channels.answered(id, receipt, subscriptions, now);
    if answered == Some(true) {
        gap::begin(hub);
    }
    answered.is_some()
}

/// Says that this node is there: as soon as it hears the others, and from time to time.
fn announce<S: Stream>(hub: &mut Hub<S>) {
    let (now, unix) = (hub.clock.now, report::unix_time(hub));
    let is_heard = say::is_heard(hub);
    let Some(nodes) = &mut hub.nodes else {
        return;
    };
    if !is_heard {
        nodes.next_here = None;
        return;
    }
    let due = nodes.next_here;
    if due.is_some_and(|at| now < at) {
        return;
    }
    nodes.next_here = Some(now.saturating_add(HERE));
    let new = due.is_none();
    if new {
        nodes.settled_at = Some(now.saturating_add(SETTLES));
    }
    // If this node had no turn for a while, or could hear none of the others, their silence says nothing.
    if due.is_none_or(|at| now > at.saturating_add(HERE)) {
        nodes.peers.refresh(now);
    }
    nodes.peers.forget(now, unix);
    say::to_all(hub, PublishedBy::Nothing, &NodeMessage::Here { new });
}

/// Sends content that has waited until clients were told what they have missed.
fn deliver_held<S: Stream>(hub: &mut Hub<S>) {
    for _ in 0..CONTENTS {
        let nodes = hub.nodes.as_mut().filter(|it| !it.missed.is_under_way());
        let Some(nodes) = nodes else {
            return;
        };
        let Some((recipient, content)) = nodes.held.pop_front() else {
            return;
        };
        nodes.backlog = nodes.backlog.saturating_sub(content.len());
        backend::deliver(hub, recipient, content);
    }
}

/// Has commands answered whose time is over, or for which no other node is waited any longer.
fn finish_overdue<S: Stream>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    let Some(nodes) = &mut hub.nodes else {
        return;
    };
    if nodes.settled_at.is_some_and(|at| now >= at) {
        nodes.settled_at = None;
        for id in nodes.asked.values() {
            hub.jobs.make_ready(*id);
        }
    }
    while let Some((at, number)) = nodes.deadlines.front().copied()
        && now >= at
    {
        nodes.deadlines.pop_front();
        if let Some(id) = nodes.asked.get(&number) {
            hub.jobs.make_ready(*id);
        }
    }
}

/// Tells the other nodes that this one stops.
pub fn announce_gone<S: Stream>(hub: &mut Hub<S>) {
    if say::refusal_reason(hub).is_none() {
        say::to_all(hub, PublishedBy::Nothing, &NodeMessage::Gone);
    }
}
