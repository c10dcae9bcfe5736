//! Every connection in a snapshot, by its slot.
//!
//! Owns: the bound on slots. Knows: that a public id and late answers name slots and serial numbers, which therefore stay
//! the same. How many connections there are of each kind follows from them.

use slab::Slab;

use super::Roster;
use crate::connection::{Connection, Stream};
use crate::snapshot::SnapshotError;

/// Slots that a snapshot may have: more than a process has file descriptors. Vacant ones take memory, too.
const MOST_SLOTS: usize = 1 << 22;

impl<S: Stream> Roster<S> {
    /// Every connection, with its slot.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Connection<S>)> {
        let all = self.slab.iter();
        all.map(|(slot, connection)| (slot as u32, connection))
    }

    /// Connections that were accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Puts connections, in the order of their slots, in the place of those that are there: none. `accepted`: connections
    /// that were accepted since the start.
    ///
    /// # Errors
    /// There is no such slot, two connections have one, or a connection is yet to be accepted.
    pub fn restore_all(
        &mut self,
        connections: Vec<(u32, Connection<S>)>,
        accepted: u64,
    ) -> Result<(), SnapshotError> {
        let mut free = 0;
        for (slot, connection) in &connections {
            let slot = *slot as usize;
            if slot < free || slot >= MOST_SLOTS {
                return Err(SnapshotError::new(format!("slot {slot} is out of order")));
            }
            if connection.serial() == 0 || connection.serial() > accepted {
                let serial = connection.serial();
                let problem = format!("connection {serial} of {accepted} that were accepted");
                return Err(SnapshotError::new(problem));
            }
            free = slot.saturating_add(1);
        }
        self.accepted = accepted;
        let connections = connections.into_iter();
        let by_slot = connections.map(|(slot, connection)| (slot as usize, connection));
        self.slab = by_slot.collect::<Slab<Connection<S>>>();
        Ok(())
    }
}
