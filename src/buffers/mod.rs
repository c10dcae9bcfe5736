//! Bytes on their way: in (not yet understood) and out (not yet taken by the kernel).
//!
//! Owns: [`Inbox`], [`Outbox`], and [`Runs`], the store of encoded bytes that many connections share.
//! Knows: how much waits, and where it begins. Never knows: what the bytes mean, or whose they are.
//!
//! Decision: a shared run is named by its index in [`Runs`] and counted by hand, over `Rc<[u8]>`. Because a run can then
//! still grow at its end while a slow member holds its beginning, and what one member has to be sent of a channel stays
//! one piece of twelve bytes, however many messages it is: a thousand stalled members cost the unique bytes, not a
//! reference for each message. The price, that every holder must let go by hand, is paid in one place ([`Outbox`]) and
//! checked by the simulation: no connections, no runs. Reconsider when a second kind of holder appears.

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
mod runs;

pub use self::inbox::{Inbox, Taken};
pub use self::outbox::{Outbox, Sent};
pub use self::runs::{Runs, Slice, Waits};
