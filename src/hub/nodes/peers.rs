//! Other nodes: which of them are there, and which of their messages have come.
//!
//! Owns: each node's last announcement, and the numbers of its messages. Knows: names and times. Never knows: what a
//! message says.
//!
//! Decision: a message is in time if its time differs from this node's clock by [`AGE`] at most, in either direction. A clock
//! that is ahead would otherwise sign messages that can be repeated for as long as it is. So clocks have to agree.
//!
//! Decision: a message that this node has missed is accepted if it comes late, in whatever way it comes. To refuse it would
//! lose what is published again after a slot has moved.

use std::collections::BTreeMap;

use crate::clock::Millis;
use crate::wire::node_message::NodeMessageError;
use crate::wire::node_message::envelope::Envelope;
use crate::wire::node_message::replay::ReplayWindow;

/// The age of a message that is still accepted (`docs/scaling.md#the-key-of-the-nodes`).
pub const AGE: Millis = 30_000;
/// A node that has been silent for so long is not asked any more.
pub const SILENCE: Millis = 10_000;
/// Nodes that are kept. Without a key any program may invent some.
const MAX_PEERS: usize = 1_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePeer {
    /// When it last said something.
    pub heard: Millis,
    /// It is asked.
    pub there: bool,
    pub window: ReplayWindow,
}

/// Whether a signed message is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admittance {
    Admitted,
    /// It comes too late, and for the first time.
    Missed,
    Refused(NodeMessageError),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    pub all: BTreeMap<u64, NodePeer>,
}

impl Peers {
    /// Judges a signed message by its time and its number. `now` and `since` are in Unix milliseconds; nothing that was sent
    /// before `since` is accepted.
    pub fn admit(&mut self, envelope: &Envelope, now: Millis, since: Millis) -> Admittance {
        let Envelope {
            node, time, count, ..
        } = *envelope;
        let is_new = time >= since && now.abs_diff(time) <= AGE;
        if !is_new {
            let peer = self.all.get_mut(&node).filter(|peer| peer.there);
            let missed = peer.filter(|peer| time >= since && count > peer.window.highest);
            return match missed {
                Some(peer) => {
                    peer.window.admit(count, time);
                    Admittance::Missed
                }
                None => Admittance::Refused(NodeMessageError::Old),
            };
        }
        if !self.has_room(node) {
            return Admittance::Refused(NodeMessageError::TooMany);
        }
        let peer = self.all.entry(node).or_default();
        if peer.window.admit(count, time) {
            Admittance::Admitted
        } else {
            Admittance::Refused(NodeMessageError::Replayed)
        }
    }

    fn has_room(&self, node: u64) -> bool {
        self.all.len() < MAX_PEERS || self.all.contains_key(&node)
    }

    /// A node is there.
    ///
    /// # Errors
    /// There are too many.
    pub fn heard(&mut self, node: u64, now: Millis) -> Result<(), NodeMessageError> {
        if !self.has_room(node) {
            return Err(NodeMessageError::TooMany);
        }
        let peer = self.all.entry(node).or_default();
        (peer.heard, peer.there) = (now, true);
        Ok(())
    }

    /// A node has stopped.
    pub fn gone(&mut self, node: u64) {
        if let Some(peer) = self.all.get_mut(&node) {
            peer.there = false;
        }
    }

    /// This node could hear none of them until now: their silence begins again.
    pub fn refresh(&mut self, now: Millis) {
        for peer in self.all.values_mut() {
            peer.heard = now;
        }
    }

    /// Forgets nodes that have been silent for too long. What they have sent is remembered until it is too old to be
    /// accepted.
    pub fn forget(&mut self, now: Millis, unix: Millis) {
        self.all.retain(|_, peer| {
            peer.there = peer.there && now < peer.heard.saturating_add(SILENCE);
            peer.there || unix <= peer.window.newest.saturating_add(AGE)
        });
    }

    /// The nodes that are there.
    pub fn there(&self) -> impl Iterator<Item = u64> {
        let there = self.all.iter().filter(|(_, peer)| peer.there);
        there.map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = 1_000_000;

    fn envelope(node: u64, time: Millis, count: u64) -> Envelope<'static> {
        Envelope {
            node,
            time,
            count,
            message: b"{}",
        }
    }

    #[test]
    fn messages_are_admitted_once_and_in_time() {
        let mut peers = Peers::default();
        let refused = Admittance::Refused;
        let now = START + 100_000;
        let table = [
            (envelope(1, now, 1), Admittance::Admitted),
            (envelope(1, now, 1), refused(NodeMessageError::Replayed)),
            (envelope(1, now - 30_000, 3), Admittance::Admitted),
            (envelope(1, now - 30_001, 4), refused(NodeMessageError::Old)),
            (envelope(1, now + 30_000, 2), Admittance::Admitted),
            (envelope(1, now + 30_001, 5), refused(NodeMessageError::Old)),
            (envelope(2, now, 3), Admittance::Admitted),
        ];
        for (envelope, expected) in table {
            assert_eq!(peers.admit(&envelope, now, START), expected, "{envelope:?}");
        }
        // Sent before this node began.
        let early = peers.admit(&envelope(3, START - 1, 1), START + 5, START);
        assert_eq!(early, refused(NodeMessageError::Old));
        assert_eq!(peers.there().count(), 0);
    }

    #[test]
    fn late_node_messages_differ_from_repeated_ones() {
        let mut peers = Peers::default();
        let now = START + 10_000;
        assert_eq!(
            peers.admit(&envelope(1, now, 7), now, START),
            Admittance::Admitted
        );
        peers.heard(1, 5).unwrap();
        let late = envelope(1, now + 1_000, 8);
        let later = now + 60_000;
        assert_eq!(peers.admit(&late, later, START), Admittance::Missed);
        let old = Admittance::Refused(NodeMessageError::Old);
        assert_eq!(peers.admit(&late, later, START), old);
        assert_eq!(peers.admit(&envelope(1, now, 6), later, START), old);
        peers.gone(1);
        assert_eq!(peers.admit(&envelope(1, now, 9), later, START), old);
    }

    #[test]
    fn a_silent_node_is_not_asked_and_its_messages_cannot_be_repeated() {
        let mut peers = Peers::default();
        for node in [1, 2, 3] {
            let admitted = peers.admit(&envelope(node, START, 1), START, START);
            assert_eq!(admitted, Admittance::Admitted);
            peers.heard(node, 0).unwrap();
        }
        peers.gone(3);
        let there = |peers: &Peers| peers.there().collect::<Vec<_>>();
        assert_eq!(there(&peers), [1, 2]);
        peers.heard(2, 5_000).unwrap();
        peers.forget(9_999, START + 9_999);
        assert_eq!(there(&peers), [1, 2]);
        peers.forget(10_000, START + 10_000);
        assert_eq!(there(&peers), [2]);
        let again = peers.admit(&envelope(1, START, 1), START + 10_000, START);
        assert_eq!(again, Admittance::Refused(NodeMessageError::Replayed));
        peers.refresh(20_000);
        peers.forget(29_999, START + 30_001);
        // The others are forgotten, and what they have sent is too old.
        assert_eq!((there(&peers), peers.all.len()), (vec![2], 1));
    }

    #[test]
    fn nodes_cannot_be_invented_without_end() {
        let mut peers = Peers::default();
        for node in 0..MAX_PEERS as u64 {
            peers.heard(node, 0).unwrap();
        }
        assert_eq!(peers.heard(5_000, 0), Err(NodeMessageError::TooMany));
        assert_eq!(peers.heard(7, 1), Ok(()));
        let refused = peers.admit(&envelope(5_000, START, 1), START, START);
        assert_eq!(refused, Admittance::Refused(NodeMessageError::TooMany));
        // Without a signature nothing of them is remembered.
        peers.forget(SILENCE + 1, START);
        assert_eq!(peers.all.len(), 0);
    }
}
