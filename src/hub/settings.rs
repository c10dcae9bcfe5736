//! What the hub is configured with, and what its drivers report for `/metrics`.
//!
//! Owns: the values. Knows: checked types only. Never knows: flags.

use crate::clock::Millis;
use crate::config::{AccessLog, AuthorizerFailure};
use crate::connection::Limits;
use crate::secret::Secret;
use crate::wire::event::EventKinds;
use crate::wire::forwarded::Proxies;
use crate::wire::origins::Origins;

/// What the hub is configured with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub limits: Limits,
    /// WebSockets, and upgrades under way.
    pub max_connections: usize,
    /// WebSockets from one address, and upgrades under way; 0: no limit.
    pub max_connections_per_ip: usize,
    /// Bytes buffered for all connections, in both directions.
    pub max_total_queue: usize,
    /// Channels that one connection may be in.
    pub max_channels: usize,
    /// Messages that one connection may send in a second; 0 means no limit.
    pub max_message_rate: u64,
    /// `--compression-min-size`, in bytes; `None`: no compression is agreed to.
    pub compression: Option<usize>,
    /// Whether `GET /` is the playground.
    pub playground: bool,
    /// The key that backend endpoints ask for.
    pub key: Option<Secret>,
    pub origins: Origins,
    /// The proxies that are trusted to name a client's address.
    pub proxies: Proxies,
    /// Whether they, and clients on a unix socket, begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Whether there is an authorizer; without one everything is allowed.
    pub authorizer: bool,
    /// Its URL for the log, without secrets; empty if there is none.
    pub authorizer_url: String,
    pub failure: FailurePolicy,
    pub access_log: AccessLog,
    /// `None`: events have no receiver.
    pub events: Option<EventSettings>,
    /// Connections of all kinds for which room is reserved.
    pub slots: usize,
    /// This process's name in connections' ids, and the seed of its random numbers.
    pub instance: u64,
}

/// What the receiver of events is told.
#[derive(Clone, Copy, Debug)]
pub struct EventSettings {
    pub kinds: EventKinds,
    /// Events that may wait.
    pub queue: usize,
}

/// What becomes of questions when the authorizer fails (`docs/authorizer.md#failure`).
#[derive(Clone, Copy, Debug)]
pub struct FailurePolicy {
    pub failure: AuthorizerFailure,
    /// How long a question is held after it came up.
    pub hold: Millis,
    /// Calls in flight at most.
    pub workers: usize,
    /// Questions in one call at most.
    pub batch: usize,
    /// Questions that may wait for a worker.
    pub queue: usize,
    /// How long a question may wait for a worker.
    pub authorizer_timeout: Millis,
}

impl Default for FailurePolicy {
    /// The defaults of the flags.
    fn default() -> Self {
        FailurePolicy {
            failure: AuthorizerFailure::Close,
            hold: 45_000,
            workers: 256,
            batch: 1,
            queue: 10_000,
            authorizer_timeout: 5_000,
        }
    }
}

/// Gauges that come from the drivers.
#[derive(Debug, Default)]
pub struct DriverGauges {
    /// Events of the batch that is under way to their receiver.
    pub events_under_way: u64,
    /// When the oldest of them happened.
    pub oldest_event: Option<Millis>,
    pub questions_in_flight: u64,
    pub questions_waiting: u64,
    pub broker_reconnections: u64,
}

/// What the hub holds: nothing, when all connections have gone.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub connections: usize,
    pub websockets: usize,
    pub channels: usize,
    pub memberships: usize,
    /// Addresses with a WebSocket.
    pub addresses: usize,
    /// Queries, users and states.
    pub identities: usize,
    /// Different states that connections share.
    pub shared_states: usize,
    /// Connections with a grant.
    pub grants: usize,
    /// Different `allow`s.
    pub allows: usize,
    /// Connections that have a user.
    pub users: usize,
    /// Upgrades that may be hit by a disconnect.
    pub upgrades: usize,
    /// Commands of backends under way.
    pub jobs: usize,
    /// Upgrades that wait with channels.
    pub reservations: usize,
    /// Channels of which the broker has been asked to end the subscription.
    pub unsubscriptions: usize,
    /// Questions that wait in the hub.
    pub held: usize,
    /// Buffers of what was published.
    pub runs: usize,
    /// Bytes that wait, in both directions; what is shared counts once.
    pub waiting: usize,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Connections whose client has to read before more can be sent.
    pub laggards: usize,
    pub taps: usize,
}
