//! Values of the moment at which the metrics are rendered.
//!
//! Owns: the values. Never knows: how they came about.

use std::rc::Rc;
use std::time::Duration;

/// Values at the time when the text is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Connections that have been upgraded.
    pub websockets: u64,
    /// All other connections.
    pub http_connections: u64,
    /// Channels with a member here.
    pub channels: u64,
    /// Members of all channels, a connection counting once for each that it is in.
    pub memberships: u64,
    /// Bytes that wait to be sent, of all connections together; what many of them share counts for each.
    pub queued_bytes: u64,
    /// Connections whose other side has to read before more can be sent.
    pub laggards: u64,
    /// Open taps.
    pub taps: u64,
    /// Lines dropped because a tap was too slow.
    pub lost_tap_lines: u64,
    /// Questions that a worker is asking.
    pub questions_in_flight: u64,
    /// Questions that wait for a worker.
    pub questions_waiting: u64,
    pub authorizer_up: bool,
    /// Questions that are held.
    pub questions_held: u64,
    pub broker_up: bool,
    /// Times that the broker was lost and found again.
    pub broker_reconnections: u64,
    pub broker_shards: Vec<ShardGauge>,
    /// Log lines dropped because stdout was blocked.
    pub dropped_log_lines: u64,
    pub longest_turn: Duration,
    pub process: Process,
}

/// What is known of a shard of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardGauge {
    /// Its address.
    pub name: Rc<str>,
    /// Whether both links to it are there. `None`: it is no shard any more.
    pub up: Option<bool>,
    /// Times that it was lost and found again.
    pub reconnections: u64,
    /// Of [`Metrics::broker_gaps`], those in its channels.
    pub gaps: u64,
}

/// What the kernel reports of this process. Unknown values are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// In user and system mode, since the start.
    pub cpu: Option<Duration>,
    /// Bytes.
    pub resident_memory: Option<u64>,
    /// Bytes.
    pub virtual_memory: Option<u64>,
    pub threads: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
}
