//! The start of a program that replaces another one: it goes on with what a snapshot says.
//!
//! Owns: the order in which the parts are restored. Knows: each part's own way to be restored. Never knows: how the program
//! came to run ([`crate::handover`]).
//!
//! Decision: what has been restored is kept by the caller ([`Restored`]) rather than values that are dropped with an
//! error. A socket that is closed on the way cannot be handed back to the old program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::Registry;

use super::parts::{
    LoopParts, OwnParts, find_manager, meet_nodes, redis_settings, start_authorizer, start_events,
};
use crate::acceptor;
use crate::broker::Broker;
use crate::clock::{Clock, Millis, millis};
use crate::config::{Config, Stop};
use crate::fd_table;
use crate::handover::Program;
use crate::handover::{Inherited, TakeoverState, monotonic};
use crate::hub::{Hub, Settings};
use crate::listener::{ClientSocket, Listener, SavedListener};
use crate::log::{Log, SavedLog};
use crate::metrics::Metrics;
use crate::server::{Pause, SavedProcess, Server};
use crate::snapshot::{SnapshotError, SnapshotReader};

/// A snapshot that is read.
pub(super) type SnapshotReading = SnapshotReader<BufReader<File>>;

/// What has been restored so far.
#[derive(Default)]
pub struct Restored {
    listeners: Vec<Listener>,
    broker: Option<Broker>,
    hub: Option<Hub<ClientSocket>>,
    /// The other program's file, and the snapshot.
    files: Vec<File>,
}

/// When this program takes over.
pub(super) struct TakeoverClock {
    /// When the clock began.
    pub started: Instant,
    pub now: Millis,
}

impl TakeoverClock {
    /// The time is now. `began` is when the clock began, in nanoseconds of the kernel's monotonic clock.
    ///
    /// # Errors
    /// It has not begun yet.
    pub fn of(began: u64) -> Result<TakeoverClock, SnapshotError> {
        let passed = monotonic().checked_sub(Duration::from_nanos(began));
        let started = passed.and_then(|passed| Instant::now().checked_sub(passed));
        match (passed, started) {
            (Some(passed), Some(started)) => Ok(TakeoverClock {
                started,
                now: millis(passed),
            }),
            _ => Err(SnapshotError::new("the clock begins in the future")),
        }
    }

    pub fn for_hub(&self) -> Clock {
        Clock {
            now: self.now,
            ..Clock::default()
        }
    }
}

/// Begins to read a snapshot from a file.
///
/// # Errors
/// It is not a snapshot, or this release cannot read it.
pub(super) fn open(mut file: File) -> Result<SnapshotReading, SnapshotError> {
    let failed = |error| SnapshotError::new(format!("the snapshot cannot be read: {error}"));
    let size = file.metadata().map_err(failed)?.len();
    file.rewind().map_err(failed)?;
    SnapshotReader::new(BufReader::with_capacity(64 * 1024, file), size)
}

/// Reads to the end: all is there.
///
/// # Errors
/// It is not.
pub(super) fn end(from: &mut SnapshotReading) -> Result<(), SnapshotError> {
    while from.read_next()?.is_some() {}
    Ok(())
}

/// A server that has been restored, and does not serve yet.
pub struct PendingServer {
    server: Server,
    stop_at: Option<Millis>,
    log: SavedLog,
}

impl PendingServer {
    /// The server, which serves from now on. No rollback is possible any more.
    pub fn begin(self, pause: &Pause) -> Server {
        fd_table::set_inherited(Vec::new());
        let mut server = self.server;
        server.resume(self.stop_at, self.log, pause);
        server
    }
}

/// Restores the server that another program has left. The caller keeps what is in `restored` until it serves.
///
/// # Errors
/// What failed, and why.
pub fn take_over(
    config: &Config,
    takeover: &TakeoverState,
    restored: &mut Restored,
) -> Result<PendingServer, String> {
    let mut inherited = Inherited::new([takeover.snapshot, takeover.program]);
    for number in [takeover.program, takeover.snapshot] {
        let descriptor = inherited.take(number as u64).map_err(text)?;
        restored.files.push(descriptor.into());
    }
    let snapshot = restored.files.last().map(File::try_clone);
    let snapshot = snapshot.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
    let snapshot = snapshot.map_err(text)?;
    let mut here = vec![takeover.program, takeover.snapshot, snapshot.as_raw_fd()];
    let mut from = open(snapshot).map_err(text)?;
    let mut process = SavedProcess::read(&mut from).map_err(text)?;
    here.extend(&process.descriptors);
    fd_table::set_inherited(here);
    let log = Log::to_stdout(config.log_level, config.log_format, config.colours)
        .map_err(|e| format!("the log cannot be started: {e}"))?;
    let (stop_at, lines) = (process.stop_at, std::mem::take(&mut process.log));
    Ok(PendingServer {
        server: rebuild(config, process, &log, &mut from, restored)?,
        stop_at,
        log: lines,
    })
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn rebuild(
    config: &Config,
    process: SavedProcess,
    log: &Log,
    from: &mut SnapshotReading,
    restored: &mut Restored,
) -> Result<Server, String> {
    let stopped = |stop: Stop| stop.text;
    let clock = TakeoverClock::of(from.header().started).map_err(text)?;
    let mut inherited = Inherited::new(process.descriptors);
    let loop_parts = LoopParts::open().map_err(stopped)?;
    let (authorizer, workers) = start_authorizer(config, &loop_parts).map_err(stopped)?;
    let node = process.node;
    let mut events = start_events(config, node, &loop_parts.waker, log).map_err(stopped)?;
    if let (Some(events), Some(saved)) = (&mut events, process.events) {
        events.restore(saved, node, clock.now).map_err(text)?;
    }
    let registry = loop_parts.poll.registry();
    restore_listeners(process.listeners, &mut inherited, registry, restored)?;
    let redis = redis_settings(config, node).map_err(stopped)?;
    let (waker, now) = (Arc::clone(&loop_parts.waker), clock.now);
    let socket = |number| inherited.take(number).map(Some);
    let broker = Broker::restore(redis, waker, log.clone(), now, from, registry, socket);
    restored.broker = Some(broker.map_err(text)?);

    let beside = (restored.listeners.len(), workers);
    let (capacity, settings) = loop_parts.divide(config, beside, node, log);
    restore_hub(settings, &clock, log, inherited, from, registry, restored)?;
    if let Some(hub) = &mut restored.hub {
        meet_nodes(config, hub);
    }
    end(from).map_err(text)?;
    let (Some(hub), Some(broker)) = (restored.hub.take(), restored.broker.take()) else {
        return Err("a part is missing".to_owned());
    };
    let listeners = std::mem::take(&mut restored.listeners);
    let path = process.path.map(|path| OsString::from_vec(path.into()));
    let own = OwnParts {
        listeners,
        hub,
        authorizer,
        broker,
        events,
        manager: find_manager(config, log),
        program: Program::running(path.map(PathBuf::from)),
        node,
        started: clock.started,
    };
    Ok(loop_parts.server(config, capacity, log.clone(), own))
}

fn restore_listeners(
    listeners: Vec<SavedListener>,
    inherited: &mut Inherited,
    registry: &Registry,
    restored: &mut Restored,
) -> Result<(), String> {
    for (nth, saved) in listeners.into_iter().enumerate() {
        let listener = Listener::restore(saved, |number| inherited.take(number)).map_err(text)?;
        let registered = listener.register(registry, acceptor::listener_token(nth));
        let failed = |e| format!("cannot listen on {}: {e}", listener.address);
        let registered = registered.map_err(failed);
        restored.listeners.push(listener);
        registered?;
    }
    Ok(())
}

fn restore_hub(
    settings: Settings,
    clock: &TakeoverClock,
    log: &Log,
    mut inherited: Inherited,
    from: &mut SnapshotReading,
    registry: &Registry,
    restored: &mut Restored,
) -> Result<(), String> {
    let metrics = Metrics::new(SystemTime::now());
    let socket = |number| inherited.take(number).map(ClientSocket::from);
    let hub = Hub::restore(
        settings,
        clock.for_hub(),
        metrics,
        log.clone(),
        from,
        socket,
    );
    let hub = restored.hub.insert(hub.map_err(text)?);
    for (id, socket) in hub.streams() {
        acceptor::register(registry, id, socket).map_err(text)?;
    }
    Ok(())
}
