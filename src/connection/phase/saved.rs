//! The phase of a connection in a snapshot.

use minicbor::{Decode, Encode};

use super::Phase;
use crate::clock::Millis;
use crate::connection::Limits;
use crate::connection::exchange::{BodyReader, HeadReader, SavedBodyReader, SavedHeadReader};
use crate::connection::suspended::{SavedSuspended, Suspended};
use crate::connection::websocket::{Closing, Open, SavedClosing, SavedOpen};
use crate::snapshot::SnapshotError;

/// The phase of a connection.
#[derive(Debug, Encode, Decode)]
pub enum SavedPhase {
    #[n(0)]
    Request(#[n(0)] SavedHeadReader),
    #[n(1)]
    Body(#[n(0)] Box<SavedBodyReader>),
    #[n(2)]
    Suspended(#[n(0)] Box<SavedSuspended>),
    #[n(3)]
    Open(#[n(0)] Box<SavedOpen>),
    /// Since when nothing was sent.
    #[n(4)]
    Streaming(#[n(0)] Millis),
    #[n(5)]
    Closing(#[n(0)] Box<SavedClosing>),
}

impl Phase {
    pub fn save(&self, now: Millis) -> SavedPhase {
        match self {
            Phase::Request(head) => SavedPhase::Request(head.save()),
            Phase::Body(body) => SavedPhase::Body(Box::new(body.save())),
            Phase::Suspended(suspended) => {
                SavedPhase::Suspended(Box::new(suspended.1.save(suspended.0)))
            }
            Phase::Open(open) => SavedPhase::Open(Box::new(open.save(now))),
            Phase::Streaming { beat } => SavedPhase::Streaming(*beat),
            Phase::Closing(closing) => SavedPhase::Closing(Box::new(closing.save(now))),
        }
    }

    /// Restores a phase. `input`: how many bytes are in the inbox.
    ///
    /// # Errors
    /// It is malformed, or has begun in the future.
    pub fn restore(
        saved: SavedPhase,
        input: usize,
        now: Millis,
        limits: &Limits,
    ) -> Result<Phase, SnapshotError> {
        let phase = match saved {
            SavedPhase::Request(head) => Phase::Request(HeadReader::restore(&head, input)),
            SavedPhase::Body(body) => Phase::Body(Box::new(BodyReader::restore(*body, limits)?)),
            SavedPhase::Suspended(suspended) => {
                let suspended = Suspended::restore(*suspended, false, limits)?;
                Phase::Suspended(Box::new(suspended))
            }
            SavedPhase::Open(open) => Phase::Open(Open::restore(*open, now, limits)?),
            SavedPhase::Streaming(beat) => Phase::Streaming { beat },
            SavedPhase::Closing(closing) => {
                Phase::Closing(Closing::restore(*closing, now, limits)?)
            }
        };
        let since = match &phase {
            Phase::Request(head) => head.since(),
            Phase::Body(body) => body.since(),
            Phase::Streaming { beat } => *beat,
            Phase::Suspended(_) | Phase::Open(_) | Phase::Closing(_) => 0,
        };
        if since <= now {
            Ok(phase)
        } else {
            Err(SnapshotError::new("the phase begins in the future"))
        }
    }
}
