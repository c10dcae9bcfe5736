//! Why a connection ends, in a snapshot.

use minicbor::{Decode, Encode};

use super::Ending;
use crate::snapshot::SnapshotError;
use crate::wire::frame::Violation;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub enum SavedEnding {
    #[n(0)]
    Closed(#[n(0)] Option<u16>),
    #[n(1)]
    Left,
    #[n(2)]
    Reset,
    /// Its place among all.
    #[n(3)]
    Violation(#[n(0)] u8),
    #[n(4)]
    TooSlow,
    #[n(5)]
    Stopping,
    #[n(6)]
    AuthorizerDown,
    #[n(7)]
    Refused(#[n(0)] u16),
    #[n(8)]
    Disconnected(#[n(0)] u16),
    #[n(9)]
    Overloaded,
    #[n(10)]
    Silent,
    #[n(11)]
    HandshakeTimeout,
    #[n(12)]
    Idle,
    #[n(13)]
    NoRoom,
    #[n(14)]
    Answered,
    #[n(15)]
    BadRequest,
}

impl Ending {
    pub fn save(self) -> SavedEnding {
        match self {
            Ending::Closed(code) => SavedEnding::Closed(code),
            Ending::Left => SavedEnding::Left,
            Ending::Reset => SavedEnding::Reset,
            Ending::Violation(violation) => SavedEnding::Violation(violation.save()),
            Ending::TooSlow => SavedEnding::TooSlow,
            Ending::Stopping => SavedEnding::Stopping,
            Ending::AuthorizerDown => SavedEnding::AuthorizerDown,
            Ending::Refused(code) => SavedEnding::Refused(code),
            Ending::Disconnected(code) => SavedEnding::Disconnected(code),
            Ending::Overloaded => SavedEnding::Overloaded,
            Ending::Silent => SavedEnding::Silent,
            Ending::HandshakeTimeout => SavedEnding::HandshakeTimeout,
            Ending::Idle => SavedEnding::Idle,
            Ending::NoRoom => SavedEnding::NoRoom,
            Ending::Answered => SavedEnding::Answered,
            Ending::BadRequest => SavedEnding::BadRequest,
        }
    }

    /// # Errors
    /// A violation of which this release does not know.
    pub fn restore(saved: SavedEnding) -> Result<Ending, SnapshotError> {
        Ok(match saved {
            SavedEnding::Closed(code) => Ending::Closed(code),
            SavedEnding::Left => Ending::Left,
            SavedEnding::Reset => Ending::Reset,
            SavedEnding::Violation(index) => Ending::Violation(Violation::restore(index)?),
            SavedEnding::TooSlow => Ending::TooSlow,
            SavedEnding::Stopping => Ending::Stopping,
            SavedEnding::AuthorizerDown => Ending::AuthorizerDown,
            SavedEnding::Refused(code) => Ending::Refused(code),
            SavedEnding::Disconnected(code) => Ending::Disconnected(code),
            SavedEnding::Overloaded => Ending::Overloaded,
            SavedEnding::Silent => Ending::Silent,
            SavedEnding::HandshakeTimeout => Ending::HandshakeTimeout,
            SavedEnding::Idle => Ending::Idle,
            SavedEnding::NoRoom => Ending::NoRoom,
            SavedEnding::Answered => Ending::Answered,
            SavedEnding::BadRequest => Ending::BadRequest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::ending::tests::EVERY;

    #[test]
    fn every_ending_comes_back() {
        for ending in EVERY {
            let saved = minicbor::to_vec(ending.save()).unwrap();
            let saved = minicbor::decode(&saved).unwrap();
            assert_eq!(Ending::restore(saved), Ok(ending));
        }
        assert!(Ending::restore(SavedEnding::Violation(16)).is_err());
    }
}
