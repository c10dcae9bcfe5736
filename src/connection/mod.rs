//! One connection: its stream, what waits in both directions, and its session.
//!
//! Owns: [`Connection`] with its private fields, and the values that it takes and returns. Never knows: another
//! connection, channels, the broker, the authorizer.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod closing;
mod ending;
mod exchange;
mod identity;
mod input;
mod limits;
mod peer;
mod phase;
mod refusal;
mod session;
mod state;
mod stream;
mod suspended;
mod traffic;
mod websocket;

pub use ending::{Ending, SavedEnding};
pub use exchange::Exchange;
pub use identity::{Identities, Identity, SavedState, SharedStates, StateNumbers};
pub use input::{Input, NextInput};
pub use limits::Limits;
pub use peer::{Network, Peer, SavedPeer};
pub use phase::Evictable;

pub use state::{Connection, Marks, RestoreContext, SaveContext, SavedConnection, Standing};
pub use stream::{Filled, Readiness, Stream};
pub use suspended::{Awaits, PendingUpgrade, Suspended};
