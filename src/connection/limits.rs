//! What one connection may take, and how long it may take for it.

use crate::clock::Millis;

/// What one connection may take, and how long it may take for it (`docs/limits.md`).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--handshake-timeout`, in milliseconds.
    pub handshake_timeout: Millis,
    /// `--ping-interval`, in milliseconds; 0 is never.
    pub ping_interval: Millis,
    /// `--max-message-size`, in bytes.
    pub max_message: usize,
    /// `--max-queue-size`, in bytes.
    pub max_queue: usize,
}
