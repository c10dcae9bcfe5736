//! Bytes that wait: received and not yet used, or not yet taken by the kernel.
//!
//! Owns: [`Inbox`], [`Outbox`], and [`Runs`], the store of encoded bytes that many connections share. Knows: how much
//! waits, and where it begins. Never knows: what the bytes mean, or to which connection they belong.
//!
//! Decision: a shared run is named by its index in [`Runs`] and counted by hand, rather than `Rc<[u8]>`. A run can then
//! grow at its end while a slow member holds its beginning. However many messages of a channel wait for a member, they
//! are one piece of twelve bytes. So a thousand stalled members cost the bytes once, and no reference for each message.
//! The price is that each holder must release by hand, which is done in one place ([`Outbox`]) and checked by the
//! simulation. Reconsider when a second kind of holder appears.

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
#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

mod inbox;
mod outbox;
mod queued;
mod runs;
mod slice;

pub use self::inbox::{Inbox, Taken};
pub use self::outbox::{Outbox, SavedOutbox, Sent};
pub use self::runs::{RunNumbers, Runs, SavedRun, SavedSlice};
pub use self::slice::{Slice, Waits};
