//! An upgrade that waits for an answer, in a snapshot.

use minicbor::{Decode, Encode};

use super::{Upgrade, encoding};
use crate::snapshot::{SnapshotError, is_default};
use crate::wire::extensions::Agreement;
use crate::wire::http::is_token;

/// A correct upgrade request, and what the `101` will say.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedUpgrade {
    /// Sec-WebSocket-Accept.
    #[n(0)]
    accept: Box<str>,
    #[n(1)]
    protocol: Option<Box<str>>,
    /// permessage-deflate was agreed to.
    #[cbor(n(2), default, skip_if = "is_default")]
    deflate: bool,
    /// The window that the client asked the server to compress with, in bits.
    #[n(3)]
    server_max_window_bits: Option<u8>,
}

impl Upgrade {
    pub fn save(&self) -> SavedUpgrade {
        let bits = self.deflate.and_then(Agreement::server_max_window_bits);
        SavedUpgrade {
            accept: String::from_utf8_lossy(&self.accept).into(),
            protocol: self.protocol.clone(),
            deflate: self.deflate.is_some(),
            server_max_window_bits: bits,
        }
    }

    /// # Errors
    /// It could not be answered with a `101`.
    pub fn restore(saved: SavedUpgrade) -> Result<Upgrade, SnapshotError> {
        let malformed = || SnapshotError::new("invalid upgrade: its accept, subprotocol or window");
        let accept: [u8; 28] = saved
            .accept
            .as_bytes()
            .try_into()
            .map_err(|_| malformed())?;
        let deflate = if saved.deflate {
            Some(Agreement::of(saved.server_max_window_bits).ok_or_else(malformed)?)
        } else {
            None
        };
        let protocol = saved.protocol;
        let is_legal = protocol.as_ref().is_none_or(|it| is_token(it.as_bytes()));
        if !is_legal || !accept.iter().all(u8::is_ascii_graphic) {
            return Err(malformed());
        }
        Ok(Upgrade {
            accept,
            encoding: encoding(protocol.as_deref(), deflate),
            protocol,
            deflate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encoding::Encoding;

    #[test]
    fn upgrades_come_back_with_the_encoding_that_follows() {
        let upgrade = |protocol: Option<&str>, deflate| Upgrade {
            accept: *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            protocol: protocol.map(Into::into),
            deflate,
            encoding: encoding(protocol, deflate),
        };
        for (protocol, deflate, expected) in [
            (None, None, Encoding::Raw),
            (Some("other"), Agreement::of(None), Encoding::RawDeflated),
            (
                Some("wsify.v1"),
                Agreement::of(Some(15)),
                Encoding::V1Deflated,
            ),
            (Some("wsify.v1"), Agreement::of(Some(9)), Encoding::V1),
        ] {
            let upgrade = upgrade(protocol, deflate);
            let saved = minicbor::to_vec(upgrade.save()).unwrap();
            let restored = Upgrade::restore(minicbor::decode(&saved).unwrap());
            assert_eq!(restored.as_ref(), Ok(&upgrade));
            assert_eq!(upgrade.encoding, expected);
        }
        let alterations: [fn(&mut SavedUpgrade); 4] = [
            |it| it.accept = "short".into(),
            |it| it.accept = "s3pPLMBiTxaQ9kYGzzh\r\nX-A: b".into(),
            |it| it.protocol = Some("a\r\nb: c".into()),
            |it| it.server_max_window_bits = Some(16),
        ];
        for (nth, alter) in alterations.into_iter().enumerate() {
            let mut saved = upgrade(Some("x"), Agreement::of(None)).save();
            alter(&mut saved);
            assert!(Upgrade::restore(saved).is_err(), "{nth}");
        }
    }
}
