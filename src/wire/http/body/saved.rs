//! A body on its way in, in a snapshot.

use minicbor::{Decode, Encode};

use super::{Body, Framing, Next};
use crate::snapshot::{self, SnapshotError};

/// How the end of a request's body is found.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub enum SavedFraming {
    #[n(0)]
    None,
    #[n(1)]
    Length(#[n(0)] u64),
    #[n(2)]
    Chunked,
}

impl SavedFraming {
    pub fn of(framing: Framing) -> SavedFraming {
        match framing {
            Framing::None => SavedFraming::None,
            Framing::Length(length) => SavedFraming::Length(length),
            Framing::Chunked => SavedFraming::Chunked,
        }
    }

    pub fn restore(self) -> Framing {
        match self {
            SavedFraming::None => Framing::None,
            SavedFraming::Length(length) => Framing::Length(length),
            SavedFraming::Chunked => Framing::Chunked,
        }
    }
}

/// A body on its way in.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedBody {
    #[n(0)]
    next: SavedNext,
    #[n(1)]
    announced: u64,
    #[n(2)]
    aside: u64,
}

/// What must come next (RFC 9112 7.1).
#[derive(Clone, Copy, Debug, Encode, Decode)]
enum SavedNext {
    #[n(0)]
    Content(#[n(0)] u64),
    #[n(1)]
    Size(#[n(0)] u8, #[n(1)] u64),
    #[n(2)]
    Gap(#[n(0)] u64),
    #[n(3)]
    Extension(#[n(0)] u64),
    #[n(4)]
    SizeLf(#[n(0)] u64),
    #[n(5)]
    Chunk(#[n(0)] u64),
    #[n(6)]
    ChunkCr,
    #[n(7)]
    ChunkLf,
    #[n(8)]
    TrailerLine,
    #[n(9)]
    TrailerName,
    #[n(10)]
    TrailerValue,
    #[n(11)]
    TrailerLf,
    #[n(12)]
    LastLf,
    #[n(13)]
    Nothing,
}

impl SavedNext {
    fn of(next: Next) -> SavedNext {
        match next {
            Next::Content(left) => SavedNext::Content(left),
            Next::Size { digits, size } => SavedNext::Size(digits, size),
            Next::Gap(size) => SavedNext::Gap(size),
            Next::Extension(size) => SavedNext::Extension(size),
            Next::SizeLf(size) => SavedNext::SizeLf(size),
            Next::Chunk(left) => SavedNext::Chunk(left),
            Next::ChunkCr => SavedNext::ChunkCr,
            Next::ChunkLf => SavedNext::ChunkLf,
            Next::TrailerLine => SavedNext::TrailerLine,
            Next::TrailerName => SavedNext::TrailerName,
            Next::TrailerValue => SavedNext::TrailerValue,
            Next::TrailerLf => SavedNext::TrailerLf,
            Next::LastLf => SavedNext::LastLf,
            Next::Nothing => SavedNext::Nothing,
        }
    }

    fn restore(self) -> Next {
        match self {
            SavedNext::Content(left) => Next::Content(left),
            SavedNext::Size(digits, size) => Next::Size { digits, size },
            SavedNext::Gap(size) => Next::Gap(size),
            SavedNext::Extension(size) => Next::Extension(size),
            SavedNext::SizeLf(size) => Next::SizeLf(size),
            SavedNext::Chunk(left) => Next::Chunk(left),
            SavedNext::ChunkCr => Next::ChunkCr,
            SavedNext::ChunkLf => Next::ChunkLf,
            SavedNext::TrailerLine => Next::TrailerLine,
            SavedNext::TrailerName => Next::TrailerName,
            SavedNext::TrailerValue => Next::TrailerValue,
            SavedNext::TrailerLf => Next::TrailerLf,
            SavedNext::LastLf => Next::LastLf,
            SavedNext::Nothing => Next::Nothing,
        }
    }
}

impl Body {
    pub fn save(&self) -> SavedBody {
        SavedBody {
            next: SavedNext::of(self.next),
            announced: self.announced,
            aside: self.aside as u64,
        }
    }

    /// # Errors
    /// More is left of it than was announced.
    pub fn restore(saved: &SavedBody) -> Result<Body, SnapshotError> {
        let body = Body {
            next: saved.next.restore(),
            announced: saved.announced,
            aside: snapshot::size(saved.aside),
        };
        match body.come() {
            Some(_) => Ok(body),
            None => Err(SnapshotError::new(
                "a body of which more is left than was announced",
            )),
        }
    }

    /// Bytes of content that have come, if that can be.
    pub fn come(&self) -> Option<u64> {
        let left = match self.next {
            Next::Content(left) | Next::Chunk(left) => left,
            _ => 0,
        };
        self.announced.checked_sub(left)
    }
}
