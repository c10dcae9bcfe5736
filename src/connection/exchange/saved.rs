//! Requests on their way in, in a snapshot.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{BodyReader, Exchange, HeadReader, Wait};
use crate::clock::Millis;
use crate::connection::peer::SavedPeer;
use crate::connection::{Limits, Peer};
use crate::snapshot::{SnapshotError, is_default};
use crate::wire::endpoint::Endpoint;
use crate::wire::http::{Body, Head, ReplyOptions, SavedBody, SavedFraming, Version, is_value};

/// A request that was not answered yet.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedExchange {
    #[n(0)]
    from: SavedPeer,
    /// The endpoint's label.
    #[n(1)]
    endpoint: Box<str>,
    #[n(2)]
    origin: Option<ByteVec>,
    #[cbor(n(3), default, skip_if = "is_default")]
    http10: bool,
    #[cbor(n(4), default, skip_if = "is_default")]
    close: bool,
    #[cbor(n(5), default, skip_if = "is_default")]
    head_only: bool,
    #[n(6)]
    framing: SavedFraming,
    #[cbor(n(7), default, skip_if = "is_default")]
    expects_continue: bool,
    #[n(8)]
    since: Millis,
    #[cbor(n(9), default, skip_if = "is_default")]
    read: bool,
}

/// A request's head on its way in. Its bytes are in the inbox.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedHeadReader {
    #[n(0)]
    since: Millis,
    #[n(1)]
    wait: SavedWait,
    #[cbor(n(2), default, skip_if = "is_default")]
    seen: u32,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(index_only)]
enum SavedWait {
    #[n(0)]
    Proxy,
    #[n(1)]
    First,
    #[n(2)]
    Next,
    #[n(3)]
    Rest,
}

/// A request's body on its way in.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedBodyReader {
    #[n(0)]
    since: Millis,
    #[n(1)]
    body: SavedBody,
    /// `None`: the request was answered, and the body is skipped.
    #[n(2)]
    exchange: Option<Box<SavedExchange>>,
    /// The bytes of the head of an upgrade request.
    #[n(3)]
    upgrade: Option<ByteVec>,
    #[cbor(n(4), with = "minicbor::bytes", default, skip_if = "is_default")]
    kept: Vec<u8>,
    #[cbor(n(5), default, skip_if = "is_default")]
    expected: bool,
}

impl Exchange {
    pub fn save(&self) -> SavedExchange {
        let ReplyOptions {
            version,
            close,
            head_only,
        } = self.options;
        SavedExchange {
            from: self.from.save(),
            endpoint: self.endpoint.label().into(),
            origin: self.origin.as_ref().map(|it| it.to_vec().into()),
            http10: version == Version::Http10,
            close,
            head_only,
            framing: SavedFraming::of(self.framing),
            expects_continue: self.expects_continue,
            since: self.since,
            read: self.read,
        }
    }

    /// # Errors
    /// It is for nothing that this release knows, or its origin is not valid.
    pub fn restore(saved: SavedExchange) -> Result<Exchange, SnapshotError> {
        let origin = saved.origin.map(|it| Vec::from(it).into_boxed_slice());
        if !origin.as_deref().is_none_or(is_value) {
            return Err(SnapshotError::new("invalid Origin"));
        }
        let version = if saved.http10 {
            Version::Http10
        } else {
            Version::Http11
        };
        Ok(Exchange {
            from: Peer::restore(saved.from),
            endpoint: Endpoint::restore(&saved.endpoint)?,
            origin,
            options: ReplyOptions {
                version,
                close: saved.close,
                head_only: saved.head_only,
            },
            framing: saved.framing.restore(),
            expects_continue: saved.expects_continue,
            since: saved.since,
            read: saved.read,
        })
    }
}

impl HeadReader {
    pub fn save(&self) -> SavedHeadReader {
        SavedHeadReader {
            since: self.since,
            wait: match self.wait {
                Wait::Proxy => SavedWait::Proxy,
                Wait::First => SavedWait::First,
                Wait::Next => SavedWait::Next,
                Wait::Rest => SavedWait::Rest,
            },
            seen: self.seen,
        }
    }

    /// Restores a reader. `input`: how many bytes are in the inbox.
    pub fn restore(saved: &SavedHeadReader, input: usize) -> HeadReader {
        HeadReader {
            since: saved.since,
            wait: match saved.wait {
                SavedWait::Proxy => Wait::Proxy,
                SavedWait::First => Wait::First,
                SavedWait::Next => Wait::Next,
                SavedWait::Rest => Wait::Rest,
            },
            seen: saved.seen.min(input.min(u32::MAX as usize) as u32),
        }
    }
}

impl BodyReader {
    pub fn save(&self) -> SavedBodyReader {
        let upgrade = self.upgrade.as_ref();
        SavedBodyReader {
            since: self.since,
            body: self.body.save(),
            exchange: self.exchange.as_ref().map(|it| Box::new(it.save())),
            upgrade: upgrade.map(|head| head.bytes().to_vec().into()),
            kept: self.kept.clone(),
            expected: self.expected,
        }
    }

    /// # Errors
    /// It is malformed, or what is kept is not what has come.
    pub fn restore(saved: SavedBodyReader, limits: &Limits) -> Result<BodyReader, SnapshotError> {
        let upgrade = saved.upgrade;
        let upgrade = upgrade.map(|bytes| Head::restore(&bytes)).transpose()?;
        let exchange = saved
            .exchange
            .map(|it| Exchange::restore(*it))
            .transpose()?;
        let body = Body::restore(&saved.body)?;
        let expected = match exchange {
            Some(_) => body.come(),
            None => Some(0),
        };
        if expected != Some(saved.kept.len() as u64) || exchange.is_none() && upgrade.is_some() {
            return Err(SnapshotError::new(
                "the kept bytes of a body are not those that were received",
            ));
        }
        Ok(BodyReader {
            since: saved.since,
            body,
            limit: match upgrade {
                Some(_) => 0,
                None => limits.max_message as u64,
            },
            exchange,
            upgrade,
            kept: saved.kept,
            expected: saved.expected,
        })
    }
}
