//! Events on their way to the receiver.
mod delivery;

pub use self::delivery::{BatchDelivery, CallResult};
