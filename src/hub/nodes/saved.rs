//! The other nodes in a snapshot: a node that another program takes over keeps its name, its count and what it has heard.
//!
//! Owns: [`SavedNodes`]. Knows: that commands under way are answered before a snapshot. The key is the configuration's.

use std::rc::Rc;

use minicbor::{Decode, Encode};

use super::Nodes;
use super::missed::MissedWalk;
use super::peers::{NodePeer, Peers};
use crate::clock::Millis;
use crate::hub::backend::jobs::saved_values::SavedRecipient;
use crate::hub::subscriptions::Subscriptions;
use crate::hub::subscriptions::saved::SavedSubscribed;
use crate::snapshot::SnapshotError;
use crate::wire::node_message::envelope::NodeSeal;
use crate::wire::node_message::replay::ReplayWindow;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedNodes<'b> {
    /// Messages sent.
    #[n(0)]
    count: u64,
    /// When it began, in Unix milliseconds.
    #[n(1)]
    since: Option<Millis>,
    #[n(2)]
    peers: Vec<SavedNodePeer>,
    /// The channel of all nodes, and its own.
    #[n(3)]
    channels: Vec<SavedSubscribed>,
    #[cbor(n(4), default)]
    known: bool,
    #[cbor(n(5), default)]
    ticket: u32,
    #[n(6)]
    next_here: Option<Millis>,
    #[n(7)]
    settled_at: Option<Millis>,
    /// Clients that were open then are being told of a gap.
    #[n(8)]
    missed_at: Option<Millis>,
    /// Content that waits for that.
    #[cbor(b(9), default)]
    held: Vec<SavedHeldContent<'b>>,
}

/// What is known of another node.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedNodePeer {
    #[n(0)]
    node: u64,
    #[n(1)]
    heard: Millis,
    #[n(2)]
    there: bool,
    #[n(3)]
    newest: u64,
    #[n(4)]
    highest: u64,
    /// Which of the last numbers have come.
    #[n(5)]
    seen: Vec<u64>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedHeldContent<'b> {
    #[b(0)]
    recipient: SavedRecipient<'b>,
    #[cbor(b(1), with = "minicbor::bytes")]
    content: &'b [u8],
}

impl From<(u64, &NodePeer)> for SavedNodePeer {
    fn from((node, peer): (u64, &NodePeer)) -> SavedNodePeer {
        let NodePeer {
            heard,
            there,
            window,
        } = peer;
        SavedNodePeer {
            node,
            heard: *heard,
            there: *there,
            newest: window.newest,
            highest: window.highest,
            seen: window.seen.to_vec(),
        }
    }
}

impl From<SavedNodePeer> for (u64, NodePeer) {
    fn from(saved: SavedNodePeer) -> (u64, NodePeer) {
        let mut window = ReplayWindow {
            newest: saved.newest,
            highest: saved.highest,
            ..ReplayWindow::default()
        };
        for (word, seen) in window.seen.iter_mut().zip(saved.seen) {
            *word = seen;
        }
        let peer = NodePeer {
            heard: saved.heard,
            there: saved.there,
            window,
        };
        (saved.node, peer)
    }
}

impl Nodes {
    pub fn save(&self) -> SavedNodes<'_> {
        let Nodes {
            id: _,
            seal: _,
            count,
            since,
            peers,
            channels,
            missed,
            asked: _,
            deadlines: _,
            ticket,
            held,
            backlog: _,
            left: _,
            next_here,
            settled_at,
        } = self;
        let peers = peers.all.iter();
        let peers = peers.map(|(node, peer)| (*node, peer).into());
        let held = held.iter().map(|(recipient, content)| SavedHeldContent {
            recipient: recipient.into(),
            content,
        });
        SavedNodes {
            count: *count,
            since: *since,
            peers: peers.collect(),
            channels: channels.subscribed().map(|it| it.save()).collect(),
            known: channels.known,
            ticket: *ticket,
            next_here: *next_here,
            settled_at: *settled_at,
            missed_at: missed.is_under_way().then_some(missed.at),
            held: held.collect(),
        }
    }

    /// Restores what is known of other nodes. `slots`: those that a walk over all clients visits.
    ///
    /// # Errors
    /// It has other channels.
    pub fn restore(
        id: u64,
        saved: SavedNodes,
        slots: u32,
        subscriptions: &mut Subscriptions,
    ) -> Result<Nodes, SnapshotError> {
        let mut nodes = Nodes::new(id, NodeSeal::default(), subscriptions);
        nodes.count = saved.count;
        nodes.since = saved.since;
        nodes.peers = Peers {
            all: saved.peers.into_iter().map(Into::into).collect(),
        };
        nodes
            .channels
            .restore(&saved.channels, saved.known, subscriptions)?;
        nodes.ticket = saved.ticket;
        nodes.next_here = saved.next_here;
        nodes.settled_at = saved.settled_at;
        if let Some(at) = saved.missed_at {
            nodes.missed = MissedWalk::below(slots, at);
        }
        for SavedHeldContent { recipient, content } in saved.held {
            nodes.backlog = nodes.backlog.saturating_add(content.len());
            let content: Rc<[u8]> = content.into();
            nodes.held.push_back((recipient.into(), content));
        }
        Ok(nodes)
    }
}
