//! What redis' driver is configured with.

use std::sync::Arc;

use mio::Token;
use rustls::ClientConfig;

use crate::config::RedisDsn;

/// What the driver is started with.
#[derive(Debug)]
pub struct RedisSettings {
    pub dsn: RedisDsn,
    pub prefix: String,
    /// Bytes of the largest content that clients may send.
    pub largest_content: usize,
    /// For TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The tokens of the links are these [`MOST_LINKS`](super::MOST_LINKS), from this one on.
    pub first_token: Token,
    pub seed: u64,
    /// To find out about the servers, for `--check`.
    pub probe: bool,
}
