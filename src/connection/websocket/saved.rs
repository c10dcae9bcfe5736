//! A WebSocket in a snapshot, while it is open and while it closes.

use minicbor::{Decode, Encode};

use super::{CLOSING, Close, Closing, Open};
use crate::clock::Millis;
use crate::connection::Limits;
use crate::connection::suspended::{SavedSuspended, Suspended};
use crate::snapshot::{SnapshotError, is_default};
use crate::wire::message::{Reader, SavedMessage};

/// An open WebSocket.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedOpen {
    /// When a byte last came, or a ping was sent.
    #[n(0)]
    active: Millis,
    #[cbor(n(1), default, skip_if = "is_default")]
    pinged: bool,
    /// permessage-deflate was agreed to.
    #[cbor(n(2), default, skip_if = "is_default")]
    deflate: bool,
    /// The message that has begun.
    #[n(3)]
    message: Option<SavedMessage>,
    #[n(4)]
    suspended: Option<Box<SavedSuspended>>,
}

/// A connection that has begun to end.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedClosing {
    #[n(0)]
    until: Millis,
    #[n(1)]
    close: SavedClose,
    /// permessage-deflate was agreed to.
    #[cbor(n(2), default, skip_if = "is_default")]
    deflate: bool,
    /// The message that has begun.
    #[n(3)]
    message: Option<SavedMessage>,
    /// The sending side is shut down.
    #[cbor(n(4), default, skip_if = "is_default")]
    finished: bool,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(index_only)]
enum SavedClose {
    #[n(0)]
    Echo,
    #[n(1)]
    Sent,
    #[n(2)]
    Linger,
}

impl Open {
    pub fn save(&self, now: Millis) -> SavedOpen {
        let silence = Millis::from((now as u32).wrapping_sub(self.active));
        let suspended = self.suspended.as_deref();
        SavedOpen {
            active: now.saturating_sub(silence),
            pinged: self.pinged,
            deflate: self.deflate,
            message: self.reader.save(),
            suspended: suspended.map(|(awaits, work)| Box::new(work.save(*awaits))),
        }
    }

    /// # Errors
    /// It is malformed, or begins in the future.
    pub fn restore(saved: SavedOpen, now: Millis, limits: &Limits) -> Result<Open, SnapshotError> {
        if saved.active > now {
            return Err(SnapshotError::new(
                "the last byte was received in the future",
            ));
        }
        let suspended = saved.suspended;
        let suspended = suspended.map(|it| Suspended::restore(*it, true, limits));
        Ok(Open {
            active: saved.active as u32,
            pinged: saved.pinged,
            deflate: saved.deflate,
            reader: Reader::restore(saved.message, limits.max_message)?,
            suspended: suspended.transpose()?.map(Box::new),
        })
    }
}

impl Closing {
    pub fn save(&self, now: Millis) -> SavedClosing {
        SavedClosing {
            until: self.until(now),
            close: match self.close {
                Close::Echo => SavedClose::Echo,
                Close::Sent => SavedClose::Sent,
                Close::Linger => SavedClose::Linger,
            },
            deflate: self.deflate,
            message: self.reader.save(),
            finished: self.finished,
        }
    }

    /// # Errors
    /// It is malformed, or takes longer than one takes.
    pub fn restore(
        saved: SavedClosing,
        now: Millis,
        limits: &Limits,
    ) -> Result<Closing, SnapshotError> {
        if saved.until > now.saturating_add(CLOSING) {
            return Err(SnapshotError::new("the close takes longer than it may"));
        }
        Ok(Closing {
            until: saved.until as u32,
            close: match saved.close {
                SavedClose::Echo => Close::Echo,
                SavedClose::Sent => Close::Sent,
                SavedClose::Linger => Close::Linger,
            },
            deflate: saved.deflate,
            reader: Reader::restore(saved.message, limits.max_message)?,
            finished: saved.finished,
        })
    }
}
