//! The encodings in which a member can be sent what is broadcast.
//!
//! Owns: the list of them, and their index. Never knows: how an encoding is agreed on ([`super::handshake`] does).

/// How a member is sent a content (`docs/protocol.md#wsifyv1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The content alone, as in v3.
    Raw,
    /// `{"channel":…,"content":…}`, agreed on as the subprotocol `wsify.v1`.
    V1,
}

impl Encoding {
    /// All of them, each at its index.
    pub const ALL: [Encoding; 2] = [Encoding::Raw, Encoding::V1];

    /// A small number, for tables.
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_stands_at_its_index() {
        for (index, encoding) in Encoding::ALL.into_iter().enumerate() {
            assert_eq!(encoding.index(), index);
        }
    }
}
