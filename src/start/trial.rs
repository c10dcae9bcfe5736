//! Whether this program could take over, tried as a child of the one that runs.
//!
//! Owns: what is tried. Knows: each part's own way to be restored. Never knows: sockets, and what follows from the result.
//!
//! Decision: the parts are built as they would be rather than a check of their settings. Nothing is called and nothing
//! listens, because neither a question nor a socket is there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::SystemTime;

use super::parts::{LoopParts, redis_settings, settings, start_authorizer, start_events};
use super::take_over::{TakeoverClock, end, open};
use crate::broker::Broker;
use crate::broker::redis::RedisSettings;
use crate::config::{Config, Stop};
use crate::connection::Stream;
use crate::events::EventSender;
use crate::hub::Hub;
use crate::log::{Level, Log};
use crate::metrics::Metrics;
use crate::server::SavedProcess;
use crate::snapshot::SnapshotError;

/// A socket of which only the number is known.
struct Unopened;

impl Read for Unopened {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Unopened {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Unopened {
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn was_reset(&mut self) -> bool {
        false
    }
}

/// The parts that need no snapshot.
struct TrialParts {
    loop_parts: LoopParts,
    workers: usize,
    events: Option<EventSender>,
    redis: Option<RedisSettings>,
    log: Log,
}

impl TrialParts {
    fn build(config: &Config) -> Result<TrialParts, Stop> {
        let log = Log::in_memory(Level::Error);
        let loop_parts = LoopParts::open()?;
        let (_, workers) = start_authorizer(config, &loop_parts)?;
        let events = start_events(config, 0, &loop_parts.waker, &log)?;
        let redis = redis_settings(config, 0)?;
        Ok(TrialParts {
            loop_parts,
            workers,
            events,
            redis,
            log,
        })
    }
}

/// Tries whether this program could start with the configuration.
///
/// # Errors
/// Why it could not.
pub fn probe(config: &Config) -> Result<(), Stop> {
    TrialParts::build(config).map(|_| ())
}

/// Tries whether this program can restore the snapshot on its standard input.
///
/// # Errors
/// Why it cannot.
pub fn check(config: &Config) -> Result<(), Stop> {
    let parts = TrialParts::build(config)?;
    let input = io::stdin().as_fd().try_clone_to_owned();
    let failed = |error: io::Error| Stop::failed(format_args!("there is no snapshot: {error}"));
    let input = File::from(input.map_err(failed)?);
    restore(config, parts, input).map_err(Stop::failed)
}

/// Restores everything but sockets.
fn restore(config: &Config, parts: TrialParts, input: File) -> Result<(), SnapshotError> {
    let mut from = open(input)?;
    let clock = TakeoverClock::of(from.header().started)?;
    let process = SavedProcess::read(&mut from)?;
    if let (Some(mut events), Some(saved)) = (parts.events, process.events) {
        events.restore(saved, process.node, clock.now)?;
    }
    let seed = process.node;
    let redis = parts.redis.map(|redis| RedisSettings { seed, ..redis });
    let (waker, registry) = (
        Arc::clone(&parts.loop_parts.waker),
        parts.loop_parts.poll.registry(),
    );
    let log = &parts.log;
    let none = |_| Ok(None);
    Broker::restore(
        redis,
        waker,
        log.clone(),
        clock.now,
        &mut from,
        registry,
        none,
    )?;
    // As many connections as there are: a lowered limit closes none.
    let settings = settings(config, usize::MAX, parts.workers, process.node);
    let metrics = Metrics::new(SystemTime::now());
    let unopened = |_| Ok(Unopened);
    Hub::restore(
        settings,
        clock.for_hub(),
        metrics,
        log.clone(),
        &mut from,
        unopened,
    )?;
    end(&mut from)
}
