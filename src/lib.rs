//! wsify: a WebSocket pub/sub server, driven by a webhook.

pub mod authorizer;
pub mod buffers;
pub mod config;
pub mod connection;
pub mod effect;
pub mod hub;
pub mod log;
pub mod metrics;
pub mod server;
pub mod wire;
