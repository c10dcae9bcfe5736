//! The hub's part of a snapshot, read.
//!
//! Owns: [`Hub::restore`], and what is kept only until all is there. Knows: which record is whose. Each record is checked
//! against those before it.

use std::io::Read;

use super::facts::{SavedHub, SavedHubEnd, SavedSlot};
use super::rebuild;
use crate::buffers::SavedRun;
use crate::clock::Clock;
use crate::connection::{
    Connection, RestoreContext, SavedConnection, SavedState, SharedStates, Stream,
};
use crate::effect::{Effect, Publication, restore_channel};
use crate::hub::backend;
use crate::hub::channel::Channel;
use crate::hub::channel::saved::SavedChannel;
use crate::hub::disconnects::Disconnects;
use crate::hub::drain_plan::DrainPlan;
use crate::hub::effects::saved::SavedEffect;
use crate::hub::nodes::Nodes;
use crate::hub::settings::Settings;
use crate::hub::state::Hub;
use crate::hub::subscriptions::Subscriptions;
use crate::interned::Name;
use crate::log::Log;
use crate::metrics::{Metrics, SavedMetrics};
use crate::random::Random;
use crate::snapshot::{Record, RecordKind, SnapshotError, SnapshotReader};
use crate::wire::answer_fields::Allow;

/// A hub that is being restored.
struct Restoring<S> {
    hub: Hub<S>,
    accepted: u64,
    shared: SharedStates,
    /// Connections by slot, until the roster has them.
    connections: Option<Vec<(u32, Connection<S>)>>,
    /// Channels by index, until the hub has them.
    channels: Option<Vec<(usize, Channel)>>,
    allows: Vec<Name>,
}

impl<S: Stream> Hub<S> {
    /// Reads what [`Hub::save`] has written, up to the end of the hub's part. `stream`: gives the stream with this number.
    /// The clock goes on from where the snapshot was made.
    ///
    /// # Errors
    /// Something in it is malformed, contradicts itself, or means nothing to this release.
    pub fn restore<R: Read>(
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        from: &mut SnapshotReader<R>,
        mut stream: impl FnMut(u64) -> Result<S, SnapshotError>,
    ) -> Result<Hub<S>, SnapshotError> {
        let missing = || SnapshotError::new("expected record Hub");
        let first = from.read_next()?.ok_or_else(missing)?;
        if first.kind != RecordKind::Hub {
            return Err(missing().within(first.kind));
        }
        let saved: SavedHub = first.decode()?;
        let instance = saved.instance;
        let settings = Settings {
            instance,
            ..settings
        };
        let hub = Hub::new(settings, clock, metrics, log);
        let mut restoring = Restoring::new(hub, &saved);
        match restoring.read(from, &mut stream) {
            Ok(()) => Ok(restoring.hub),
            Err(error) => {
                // Its streams stay open: another program may go on with them.
                std::mem::forget(restoring);
                Err(error)
            }
        }
    }
}

impl<S: Stream> Restoring<S> {
    fn new(mut hub: Hub<S>, saved: &SavedHub) -> Restoring<S> {
        hub.random = Random::restored(saved.random);
        hub.runs.taken = saved.sent;
        hub.usage.eviction = saved.eviction.into();
        hub.usage.evicted_none = saved.evicted_none;
        Restoring {
            hub,
            accepted: saved.accepted,
            shared: SharedStates::default(),
            connections: Some(Vec::new()),
            channels: None,
            allows: Vec::new(),
        }
    }

    /// Takes all records, up to the end of the hub's part.
    fn read<R: Read>(
        &mut self,
        from: &mut SnapshotReader<R>,
        stream: &mut impl FnMut(u64) -> Result<S, SnapshotError>,
    ) -> Result<(), SnapshotError> {
        loop {
            let record = from.read_next()?;
            let record = record
                .ok_or_else(|| SnapshotError::new("the snapshot ends before record HubEnd"))?;
            let kind = record.kind;
            if kind == RecordKind::HubEnd {
                let end = record.decode()?;
                return self.end(&end).map_err(|error| error.within(kind));
            }
            let taken = self.take(&record, stream);
            taken.map_err(|error| error.within(kind))?;
        }
    }

    fn take(
        &mut self,
        record: &Record,
        stream: &mut impl FnMut(u64) -> Result<S, SnapshotError>,
    ) -> Result<(), SnapshotError> {
        match record.kind {
            RecordKind::Run => self.hub.runs.restore(&record.decode::<SavedRun>()?),
            RecordKind::SharedState => {
                let identities = &mut self.hub.roster.identities;
                identities.restore(&mut self.shared, &record.decode::<SavedState>()?)
            }
            RecordKind::Connection => self.connection(record.decode()?, stream),
            kind => {
                self.all_connected()?;
                match kind {
                    RecordKind::Channel => self.channel(record.decode()?),
                    RecordKind::Subscriptions => self.subscriptions(record),
                    RecordKind::SubscriptionChange => self.subscription_change(record),
                    _ => {
                        self.all_channels()?;
                        self.others(record)
                    }
                }
            }
        }
    }

    fn connection(
        &mut self,
        saved: SavedConnection,
        stream: &mut impl FnMut(u64) -> Result<S, SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let Some(connections) = &mut self.connections else {
            return Err(SnapshotError::new(
                "out of order: connections come before channels",
            ));
        };
        let (slot, socket) = (saved.slot, saved.socket);
        let mut context = RestoreContext {
            runs: &mut self.hub.runs,
            identities: &mut self.hub.roster.identities,
            shared: &self.shared,
            limits: self.hub.limits,
            now: self.hub.clock.now,
        };
        let connection = Connection::restore(saved, || stream(socket), &mut context)?;
        connections.push((slot, connection));
        Ok(())
    }

    /// All connections are there, if they were not before.
    fn all_connected(&mut self) -> Result<(), SnapshotError> {
        match self.connections.take() {
            Some(connections) => self.hub.roster.restore_all(connections, self.accepted),
            None => Ok(()),
        }
    }

    fn subscriptions(&mut self, record: &Record) -> Result<(), SnapshotError> {
        if self.channels.is_some() {
            return Err(SnapshotError::new("duplicate record"));
        }
        self.channels = Some(Vec::new());
        self.hub.channels.subscriptions = Subscriptions::restore(&record.decode()?)?;
        Ok(())
    }

    fn subscription_change(&mut self, record: &Record) -> Result<(), SnapshotError> {
        let change = Effect::try_from(record.decode::<SavedEffect>()?)?;
        self.hub.channels.subscriptions.restore_change(change)
    }

    fn channel(&mut self, saved: SavedChannel) -> Result<(), SnapshotError> {
        let behind =
            || SnapshotError::new("out of order: channels come right after record Subscriptions");
        let channels = self.channels.as_mut().ok_or_else(behind)?;
        let index = saved.index as usize;
        let subscriptions = &mut self.hub.channels.subscriptions;
        channels.push((index, Channel::restore(saved, subscriptions)?));
        Ok(())
    }

    /// All channels are there, if they were not before.
    fn all_channels(&mut self) -> Result<(), SnapshotError> {
        let Some(channels) = self.channels.take() else {
            return Ok(());
        };
        let Hub {
            channels: all,
            roster,
            ..
        } = &mut self.hub;
        all.restore_all(channels, |slot, encoding| {
            let member = roster.in_slot(slot);
            member.is_some_and(|(_, c)| c.is_open() && !c.is_over() && c.encoding() == encoding)
        })
    }

    fn others(&mut self, record: &Record) -> Result<(), SnapshotError> {
        let hub = &mut self.hub;
        let now = hub.clock.now;
        match record.kind {
            RecordKind::Disconnects => hub.disconnects = Disconnects::restore(&record.decode()?)?,
            RecordKind::Allow => {
                let allow = Allow::restore(record.decode()?)?;
                self.allows.push(hub.grants.restore_allow(allow)?);
            }
            RecordKind::Slot => self.slot(record.decode()?)?,
            RecordKind::Nodes => {
                let (id, slots) = (hub.settings.instance, hub.roster.slots());
                let subscriptions = &mut hub.channels.subscriptions;
                let nodes = Nodes::restore(id, record.decode()?, slots, subscriptions)?;
                hub.nodes = Some(nodes);
            }
            RecordKind::Released => {
                let released = hub.channels.restore_released(record.decode()?)?;
                hub.agenda.released.push_back(released);
            }
            RecordKind::Job => backend::restore(hub, record.decode()?)?,
            RecordKind::JobQueue => hub.jobs.restore_queue(record.decode()?)?,
            RecordKind::Outage => hub.outage.restore(record.decode()?),
            RecordKind::HeldQuestion => hub.outage.restore_held(record.decode()?)?,
            RecordKind::Effect => hub.effects.restore(record.decode()?)?,
            RecordKind::Returned => {
                hub.returned.push(Publication::restore(record.decode()?)?);
            }
            RecordKind::Metrics => {
                let saved: SavedMetrics = record.decode()?;
                hub.listeners.metrics.restore(&saved);
                hub.compression.counts = saved.compression();
            }
            RecordKind::Report => hub.listeners.restore(record.decode()?, now),
            RecordKind::Events => {
                let queue = &mut hub.listeners.events.queue;
                queue.restore_events(&record.decode()?, now)?;
            }
            RecordKind::Drain => hub.drain = Some(DrainPlan::restore(record.decode()?)),
            _ => return Err(SnapshotError::new("not a record of the hub")),
        }
        Ok(())
    }

    fn slot(&mut self, saved: SavedSlot) -> Result<(), SnapshotError> {
        let (hub, slot) = (&mut self.hub, saved.slot);
        if hub.roster.in_slot(slot).is_none() {
            let problem = format!("there is no connection in slot {slot}");
            return Err(SnapshotError::new(problem));
        }
        if let Some(opened) = saved.opened {
            hub.roster.open(slot, opened.min(hub.clock.now));
        }
        if let Some(paid) = saved.paid {
            hub.usage.message_rate.restore(slot, paid);
        }
        if let Some(counts) = &saved.counts {
            hub.listeners.access_log.restore_counts(slot, counts);
        }
        if let Some(grants) = &saved.grants {
            hub.grants.restore(slot, grants, &self.allows)?;
        }
        if let Some(began) = saved.upgrade_began {
            hub.disconnects.restore_begun(slot, began)?;
        }
        if let Some(reserved) = saved.reserved {
            let names = reserved.into_iter().map(restore_channel);
            let names = names.collect::<Result<_, SnapshotError>>()?;
            hub.channels.restore_reserved(slot, names)?;
        }
        Ok(())
    }

    fn end(&mut self, saved: &SavedHubEnd) -> Result<(), SnapshotError> {
        self.all_connected()?;
        self.all_channels()?;
        let all = (self.hub.roster.len(), self.hub.channels.len());
        if (all.0 as u64, all.1 as u64) != (saved.connections, saved.channels) {
            let problem = format!(
                "expected {} connections and {} channels, found {} and {}",
                saved.connections, saved.channels, all.0, all.1
            );
            return Err(SnapshotError::new(problem));
        }
        let hub = &mut self.hub;
        hub.runs.end_restore();
        let shared = std::mem::take(&mut self.shared);
        hub.roster.identities.end_restore(shared);
        hub.grants.end_restoring(&self.allows);
        rebuild::rebuild(hub);
        Ok(())
    }
}
