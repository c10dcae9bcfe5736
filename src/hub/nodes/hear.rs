//! Messages that came on the channels of the nodes: judged, then done.
//!
//! Owns: which messages are used, and how many of them in a turn. Knows: what follows from each. Never knows: redis.
//!
//! Decision: what is not used is counted and logged, and changes nothing. Chosen over ending the link, because any program
//! with access to redis could then keep this node away from it.

use crate::connection::Stream;
use crate::hub::audience::CONGESTED;
use crate::hub::backend;
use crate::hub::backend::jobs::Asker;
use crate::hub::nodes::peers::Admittance;
use crate::hub::nodes::{gap, say};
use crate::hub::report;
use crate::hub::state::Hub;
use crate::wire::backend::Recipient;
use crate::wire::node_message::envelope::Envelope;
use crate::wire::node_message::{NodeMessage, NodeMessageError, read};

/// Bytes that are heard in one turn, and for how many of them each message counts besides its own. What is not a command
/// costs a hash and a look-up, or a write to one client.
const BYTES: usize = 256 * 1024;
const BESIDES: usize = 4 * 1024;
/// Bytes of a message besides the content, which is as large as a client's may be, or the page in it.
const ENVELOPE: usize = 64 * 1024;
const PAGE: usize = 1024 * 1024;
/// Commands under way. With more, those of other nodes are not done.
const JOBS: usize = 10_000;

/// Begins a turn.
pub fn begin_turn<S: Stream>(hub: &mut Hub<S>) {
    if let Some(nodes) = &mut hub.nodes {
        nodes.left = BYTES;
    }
}

/// Handles a message. Returns false if it cannot be taken yet.
pub fn heard<S: Stream>(hub: &mut Hub<S>, channel: &str, bytes: &[u8]) -> bool {
    let Some(nodes) = &mut hub.nodes else {
        return true;
    };
    // What makes no progress may wait for what comes behind this message.
    let progress = hub.jobs.has_work() || nodes.has_work();
    let many = hub.jobs.len().saturating_add(nodes.held.len()) >= JOBS;
    if nodes.left == 0 || ((nodes.backlog > CONGESTED || many) && progress) {
        return false;
    }
    nodes.left = nodes
        .left
        .saturating_sub(bytes.len().saturating_add(BESIDES));
    if let Err(why) = take(hub, channel, bytes) {
        report::nodes::hostile(hub, channel, &why);
    }
    true
}

fn take<S: Stream>(hub: &mut Hub<S>, channel: &str, bytes: &[u8]) -> Result<(), NodeMessageError> {
    let most = hub.limits.max_message.max(PAGE);
    if bytes.len() > most.saturating_add(ENVELOPE) {
        return Err(NodeMessageError::TooLarge);
    }
    let Some(nodes) = &mut hub.nodes else {
        return Ok(());
    };
    let envelope = nodes.seal.open(channel, bytes)?;
    if nodes.seal.signs() {
        admit(hub, &envelope)?;
    }
    let Envelope { node, message, .. } = envelope;
    read::message(message, |message| act(hub, node, message))?
}

/// Judges a signed message by its time and its number.
fn admit<S: Stream>(hub: &mut Hub<S>, envelope: &Envelope) -> Result<(), NodeMessageError> {
    let unix = report::unix_time(hub);
    let Some(nodes) = &mut hub.nodes else {
        return Ok(());
    };
    let since = nodes.since.unwrap_or_default();
    match nodes.peers.admit(envelope, unix, since) {
        Admittance::Admitted => Ok(()),
        Admittance::Refused(why) => Err(why),
        Admittance::Missed => {
            let content = |message: NodeMessage| matches!(message, NodeMessage::Content(..));
            if read::message(envelope.message, content) == Ok(true) {
                gap::begin_once(hub);
            }
            Err(NodeMessageError::Old)
        }
    }
}

/// Does what a node has said.
fn act<S: Stream>(
    hub: &mut Hub<S>,
    node: u64,
    message: NodeMessage,
) -> Result<(), NodeMessageError> {
    let now = hub.clock.now;
    let Some(nodes) = &mut hub.nodes else {
        return Ok(());
    };
    let is_own = node == nodes.id;
    if !is_own {
        nodes.peers.heard(node, now)?;
    }
    match message {
        NodeMessage::Here { new } if new && !is_own => {
            say::to_one(hub, node, &NodeMessage::Here { new: false });
        }
        NodeMessage::Here { .. } => {}
        NodeMessage::Gone => {
            nodes.peers.gone(node);
            backend::gather::gone(hub, node);
        }
        NodeMessage::Content(recipient, content) => hear_content(hub, recipient, content),
        NodeMessage::Request { number, command } => {
            if hub.jobs.len() >= JOBS {
                return Err(NodeMessageError::TooMany);
            }
            backend::begin_for(hub, Asker { node, number }, command);
        }
        NodeMessage::Answer { number, answer } => {
            return backend::gather::answered(hub, node, number, answer);
        }
    }
    Ok(())
}

fn hear_content<S: Stream>(hub: &mut Hub<S>, recipient: Recipient, content: &str) {
    let Some(nodes) = &mut hub.nodes else {
        return;
    };
    if nodes.has_work() {
        nodes.backlog = nodes.backlog.saturating_add(content.len());
        let content = content.as_bytes().into();
        return nodes.held.push_back((recipient, content));
    }
    backend::deliver(hub, recipient, content.as_bytes().into());
}
