//! The encodings in which a member can be sent what is broadcast: the subprotocol, with compression and without.
//!
//! Owns: the list of them, and their index. Never knows: how an encoding is agreed on ([`super::handshake`] does).

use crate::snapshot::SnapshotError;

/// How a member is sent content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The content alone, as in v3.
    Raw,
    /// `{"channel":…,"content":…}`, agreed on as the subprotocol `wsify.v1` (`docs/protocol.md#wsifyv1`).
    V1,
    /// The content alone, compressed where that is worth it (`docs/protocol.md#compression`).
    RawDeflated,
    /// `{"channel":…,"content":…}`, compressed where that is worth it.
    V1Deflated,
}

impl Encoding {
    /// All of them, each at its index.
    pub const ALL: [Encoding; 4] = [
        Encoding::Raw,
        Encoding::V1,
        Encoding::RawDeflated,
        Encoding::V1Deflated,
    ];

    /// The encoding for these features. `v1`: with the subprotocol. `deflated`: compressed where that is worth it.
    pub fn of(v1: bool, deflated: bool) -> Encoding {
        match (v1, deflated) {
            (false, false) => Encoding::Raw,
            (true, false) => Encoding::V1,
            (false, true) => Encoding::RawDeflated,
            (true, true) => Encoding::V1Deflated,
        }
    }

    /// The encoding as `/tap` shows it (`docs/observing.md#tap`).
    pub fn shown(self) -> &'static str {
        match self {
            Encoding::Raw => "contents alone",
            Encoding::V1 => "wsify.v1",
            Encoding::RawDeflated => "contents alone, compressed",
            Encoding::V1Deflated => "wsify.v1, compressed",
        }
    }

    /// The encoding with this index.
    ///
    /// # Errors
    /// There is none.
    pub fn restore(index: u8) -> Result<Encoding, SnapshotError> {
        let encoding = Encoding::ALL.get(usize::from(index)).copied();
        encoding.ok_or(SnapshotError::new("unknown encoding"))
    }

    /// A small number, for tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether content comes with its channel.
    pub fn is_v1(self) -> bool {
        matches!(self, Encoding::V1 | Encoding::V1Deflated)
    }

    /// Whether content is compressed where that is worth it.
    pub fn is_deflated(self) -> bool {
        matches!(self, Encoding::RawDeflated | Encoding::V1Deflated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_stands_at_its_index() {
        for (index, encoding) in Encoding::ALL.into_iter().enumerate() {
            assert_eq!(encoding.index(), index);
            assert_eq!(Encoding::restore(index as u8), Ok(encoding));
            let (v1, deflated) = (encoding.is_v1(), encoding.is_deflated());
            assert_eq!(Encoding::of(v1, deflated), encoding);
        }
        assert!(Encoding::restore(4).is_err());
    }
}
