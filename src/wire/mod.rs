//! Bytes and values, either way round: HTTP, WebSocket frames and messages, JSON commands, redis.
//!
//! Owns: nothing that lasts. Knows: the formats and their RFCs.
//! Never knows: sockets, readiness, time, threads, logging, or which connection it works for.

pub mod command;
pub mod json;
pub mod question;
