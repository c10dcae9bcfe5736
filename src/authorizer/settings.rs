//! What the authorizer's driver is configured with.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::webhook::Url;
use crate::wire::answer_fields::AnswerLimits;

/// What an [`Authorizer`](super::Authorizer) is started with.
#[derive(Clone, Debug)]
pub struct AuthorizerSettings {
    pub url: Url,
    /// For one whole call: name, connection, TLS, question and answer; and once more for the wait before it.
    pub timeout: Duration,
    /// Calls in flight at most; 0 counts as 1.
    pub workers: usize,
    /// Questions that may wait for a worker.
    pub queue: usize,
    /// Questions in one call at most. With more than 1 every call posts an array.
    pub batch: usize,
    /// What an answer's fields may hold.
    pub limits: AnswerLimits,
    /// A PEM file of roots that are trusted besides the system's: what `SSL_CERT_FILE` names (empty: none).
    pub cert_file: Option<PathBuf>,
    /// Every call is signed with each of them; without one, none is.
    pub keys: Vec<Secret>,
}
