//! Calls to webhooks: a `POST` over a connection that is kept alive, perhaps signed. The authorizer and the receiver of events
//! are called in this way.
//!
//! Owns: what a call needs. Knows: HTTP through ureq, TLS through rustls. Never knows: what is said in a body.
//!
//! Decision: no proxy from the environment. A webhook is part of the deployment, and `HTTP_PROXY` is meant for the world.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod caller;
mod dial;
mod link;
mod signature;
mod threads;
mod traffic;
mod transport;
mod unfold;
mod url;

pub use self::caller::{Caller, ReadBody, Webhook, WebhookSettings};
pub use self::threads::{STACK, lock};
#[doc(hidden)]
pub use self::unfold::fuzz;
pub use self::url::Url;
