//! wsify: a WebSocket pub/sub server, driven by a webhook.

pub mod authorizer;
pub mod config;
pub mod effect;
pub mod log;
pub mod metrics;
pub mod wire;
