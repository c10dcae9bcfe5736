//! The name of what waits inside the hub: a connection, or a job that belongs to none.
//!
//! Owns: its form in a snapshot. Knows: how a connection is named. Never knows: what is waited for.

use crate::effect::{ConnId, PublishedBy, SavedConnId};

/// What waits: for a channel, or for its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaiterId {
    /// A connection with its command or its request; and the job that its request has begun.
    Connection(ConnId),
    /// A job that no request here has begun, by its number.
    Ticket(u32),
}

impl WaiterId {
    /// The connection, if it is one.
    pub fn connection(self) -> Option<ConnId> {
        match self {
            WaiterId::Connection(id) => Some(id),
            WaiterId::Ticket(_) => None,
        }
    }
}

impl From<ConnId> for WaiterId {
    fn from(id: ConnId) -> WaiterId {
        WaiterId::Connection(id)
    }
}

impl From<WaiterId> for PublishedBy {
    fn from(waiter: WaiterId) -> PublishedBy {
        match waiter {
            WaiterId::Connection(id) => PublishedBy::Connection(id),
            // Other nodes have connections joined, listed and so on: such a job publishes nothing that it waits for.
            WaiterId::Ticket(_) => PublishedBy::Nothing,
        }
    }
}

impl From<WaiterId> for SavedConnId {
    fn from(waiter: WaiterId) -> SavedConnId {
        match waiter {
            WaiterId::Connection(id) => id.into(),
            WaiterId::Ticket(number) => SavedConnId::of_no_connection(number),
        }
    }
}

impl From<SavedConnId> for WaiterId {
    fn from(saved: SavedConnId) -> WaiterId {
        match saved.number() {
            Some(number) => WaiterId::Ticket(number),
            None => WaiterId::Connection(saved.into()),
        }
    }
}
