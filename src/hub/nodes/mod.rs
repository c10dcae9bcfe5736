//! The nodes that share a broker: which of them there are, and what this one says to them (`docs/scaling.md#nodes`).
//!
//! Owns: what this node knows of the others, the commands it has asked all of them for, and the contents that wait.
//! Knows: messages between nodes, as values. Never knows: redis, requests, or how a command is carried out.
//!
//! The files, from the top down: `hear` takes messages of nodes, `rounds` is what is due in each turn. `say` publishes
//! messages, and `gap` tells clients what they have missed. `peers`, `standing`, `gathering` and `missed` are the state.
//!
//! Decision: nodes announce themselves every [`HERE`](rounds::HERE) milliseconds, rather than counting redis'
//! subscribers. Other programs may subscribe too, and a node with another key is none of ours. The price: a node that
//! has crashed is asked until it has been silent for [`peers::SILENCE`].
//!
//! Decision: a node does what it has asked for itself when its own message comes back, rather than doing it at once. So
//! all nodes do everything in the order of the broker, and nothing is done if the broker refuses the message.

pub mod gap;
pub mod gathering;
pub mod hear;
pub mod missed;
pub mod peers;
pub mod rounds;
pub mod saved;
pub mod say;
pub mod standing;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use self::missed::MissedWalk;
use self::peers::Peers;
use self::standing::NodeChannels;
use super::subscriptions::Subscriptions;
use crate::clock::Millis;
use crate::hub::waiter::WaiterId;
use crate::wire::backend::Recipient;
use crate::wire::node_message::envelope::NodeSeal;

/// The other nodes, as this one sees them.
#[derive(Debug)]
pub struct Nodes {
    /// This node's name.
    pub id: u64,
    pub seal: NodeSeal,
    /// Messages that it has sent under this name.
    pub count: u64,
    /// When it began to have it, in Unix milliseconds. What was sent before is not for it.
    pub since: Option<Millis>,
    pub peers: Peers,
    pub channels: NodeChannels,
    /// Clients are being told that they may have missed what goes to users and connections.
    pub missed: MissedWalk,
    /// Commands that all nodes were asked for, by their number: the connections that wait for the answer.
    pub asked: HashMap<u32, WaiterId>,
    /// When each of them is answered at the latest; some may have been answered.
    pub deadlines: VecDeque<(Millis, u32)>,
    /// The last number for a command.
    ticket: u32,
    /// Content that waits until clients are told what they have missed, in their order.
    pub held: VecDeque<(Recipient, Rc<[u8]>)>,
    /// Bytes of content that has come and is not sent.
    pub backlog: usize,
    /// What may still be heard in this turn.
    pub left: usize,
    /// It has announced itself since it listens, and does so again at this time.
    pub next_here: Option<Millis>,
    /// Until then others may announce themselves that are there already.
    pub settled_at: Option<Millis>,
}

impl Nodes {
    pub fn new(id: u64, seal: NodeSeal, subscriptions: &Subscriptions) -> Nodes {
        Nodes {
            id,
            seal,
            count: 0,
            since: None,
            peers: Peers::default(),
            channels: NodeChannels::new(id, subscriptions),
            missed: MissedWalk::default(),
            asked: HashMap::new(),
            deadlines: VecDeque::new(),
            ticket: 0,
            held: VecDeque::new(),
            backlog: 0,
            left: 0,
            next_here: None,
            settled_at: None,
        }
    }

    /// A number for a command, or for a job that belongs to no connection.
    pub fn next_ticket(&mut self) -> u32 {
        self.ticket = self.ticket.wrapping_add(1).max(1);
        self.ticket
    }

    /// Whether something is left to be done before anything else happens.
    pub fn has_work(&self) -> bool {
        self.missed.is_under_way() || !self.held.is_empty()
    }

    /// When something is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let answer = self.deadlines.front().map(|(at, _)| *at);
        let all = [self.next_here, self.settled_at, answer];
        all.into_iter().flatten().min()
    }

    /// Nodes that are there, this one included.
    pub fn len(&self) -> usize {
        self.peers.there().count().saturating_add(1)
    }
}
