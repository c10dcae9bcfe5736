//! The limits that hold for all connections together, or between them.
//!
//! Owns: nothing. One file for each limit: WebSockets per address, messages per second, bytes buffered in total, and
//! file descriptors, for which idle connections are evicted.

pub mod eviction;
pub mod memory;
pub mod message_rate;
pub mod per_address;
