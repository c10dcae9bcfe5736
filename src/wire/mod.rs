//! Bytes to values and back, pure.
//!
//! Owns: nothing but the values it makes. Knows: HTTP/1.1, WebSocket, JSON and the redis protocol as they stand on the
//! wire. Never knows: sockets, the poll, time, threads, logging, or which connection the bytes came from. One shape
//! throughout: "not yet" is a value, malformed is an error, and no input can cause a panic. The lints below refuse code
//! that could panic, except in tests and in fuzzing, which report by panics.

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

pub mod answer_fields;
pub mod authority;
pub mod backend;
pub mod channel_name;
pub mod cluster_view;
pub mod command;
pub mod deflate;
pub mod encoding;
pub mod endpoint;
pub mod event;
pub mod event_batch;
pub mod extensions;
pub mod forwarded;
pub mod frame;
pub mod handshake;
pub mod hash_slot;
pub mod http;
pub mod json;
pub mod message;
pub mod node_message;
pub mod nodes;
pub mod origins;
pub mod proxy_protocol;
pub mod question;
pub mod resp;
pub mod server_message;
