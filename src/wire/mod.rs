//! Bytes <-> values, pure.
//!
//! Owns: the formats. Knows: the RFCs and the contract's JSON.
//! Never knows: sockets, mio, time, threads, logging, who is connected.

pub mod frame;
pub mod message;
