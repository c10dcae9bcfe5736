//! The hub's state: the facts about all connections, and what follows from them.
//!
//! Owns: the fields; [`Hub`]'s doors are in `hub/mod.rs`. Facts (roster, channels, runs, the limits' tables) are
//! separate from what can be derived (the agenda) and from what leaves (effects, listeners). Knows: how the parts fit
//! together. Never knows: what is done with them.

use super::agenda::Agenda;
use super::backend::jobs::Jobs;
use super::channels::Channels;
use super::compression::Compression;
use super::disconnects::Disconnects;
use super::drain_plan::DrainPlan;
use super::effects::Effects;
use super::grants::Grants;
use super::limits::memory::Memory;
use super::limits::message_rate::MessageRate;
use super::limits::per_address::PerAddress;
use super::nodes::Nodes;
use super::outage::Outage;
use super::report::listeners::Listeners;
use super::returned::Returned;
use super::roster::Roster;
use super::settings::{DriverGauges, Settings};
use super::slots::Walk;
use super::users::Users;
use crate::buffers::Runs;
use crate::clock::Clock;
use crate::connection::{Limits, Stream};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::random::Random;

/// All connections.
pub struct Hub<S> {
    pub(super) settings: Settings,
    /// What a connection may take now: less may wait for a slow one when the memory budget is short.
    pub(super) limits: Limits,
    pub clock: Clock,
    pub(super) roster: Roster<S>,
    pub(super) channels: Channels,
    pub(super) grants: Grants,
    pub(super) users: Users,
    pub(super) disconnects: Disconnects,
    /// Commands of backends under way.
    pub(super) jobs: Jobs,
    pub(super) runs: Runs,
    pub(super) compression: Compression,
    pub(super) usage: Usage,
    pub(super) agenda: Agenda,
    /// Whether the authorizer is down, and the questions that wait for it.
    pub(super) outage: Outage,
    pub(super) effects: Effects,
    /// What is to be published once its channel's shard is there again.
    pub(super) returned: Returned,
    /// Other nodes that share the broker, if there is one.
    pub(super) nodes: Option<Nodes>,
    pub(super) listeners: Listeners,
    /// A graceful stop is under way.
    pub(super) drain: Option<DrainPlan>,
    pub drivers: DriverGauges,
    pub(super) random: Random,
}

/// What the limits count.
#[derive(Debug)]
pub(super) struct Usage {
    pub per_address: PerAddress,
    pub message_rate: MessageRate,
    pub memory: Memory,
    /// Where the search for connections to evict continues.
    pub eviction: Walk,
    /// Connections checked since one was evicted.
    pub evicted_none: u32,
}

impl<S: Stream> Hub<S> {
    pub fn new(settings: Settings, clock: Clock, metrics: Metrics, log: Log) -> Hub<S> {
        Hub {
            clock,
            roster: Roster::new(settings.instance, settings.slots),
            channels: Channels::default(),
            grants: Grants::default(),
            users: Users::default(),
            disconnects: Disconnects::default(),
            jobs: Jobs::default(),
            runs: Runs::default(),
            compression: Compression::new(settings.compression),
            usage: Usage {
                per_address: PerAddress::new(settings.max_connections_per_ip),
                message_rate: MessageRate::new(settings.max_message_rate),
                memory: Memory::new(settings.max_total_queue, settings.limits.max_queue),
                eviction: Walk::default(),
                evicted_none: 0,
            },
            agenda: Agenda::default(),
            outage: Outage::new(settings.failure),
            effects: Effects::default(),
            returned: Returned::default(),
            nodes: None,
            listeners: Listeners::new(&settings, metrics, log),
            drain: None,
            drivers: DriverGauges::default(),
            random: Random::new(settings.instance),
            limits: settings.limits,
            settings,
        }
    }

    /// The value of `Retry-After`, in seconds: 1 to 5 at random, so that not all clients retry at once. Every answer
    /// uses it.
    pub(super) fn retry_after(&mut self) -> String {
        self.random.within(1..=5).to_string()
    }
}
