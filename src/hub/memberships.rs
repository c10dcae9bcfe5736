//! The memberships of one connection.
//!
//! Owns: [`AudienceId`] and [`Memberships`]. Knows: indices. Never knows: names, or what a channel is.

use std::collections::HashMap;

use crate::wire::encoding::Encoding;

/// One audience of one channel, in 32 bits: the channel's index and the encoding's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AudienceId(u32);

/// Audiences of a channel.
const ENCODINGS: u32 = Encoding::ALL.len() as u32;

impl AudienceId {
    pub fn new(channel: usize, encoding: Encoding) -> AudienceId {
        // A channel takes more memory than would let 30 bits overflow.
        let first = (channel as u32).wrapping_mul(ENCODINGS);
        AudienceId(first.wrapping_add(encoding.index() as u32))
    }

    /// The index of its channel.
    pub fn channel(self) -> usize {
        (self.0 / ENCODINGS) as usize
    }

    /// The index of its encoding.
    pub fn encoding(self) -> usize {
        (self.0 % ENCODINGS) as usize
    }
}

/// The memberships of one connection: where, and at which position in that audience. Most are in one channel, and that
/// costs no allocation.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "a map takes 48 bytes, and every connection would pay for them"
)]
pub enum Memberships {
    #[default]
    Nowhere,
    One(AudienceId, u32),
    Many(Box<HashMap<AudienceId, u32>>),
}

const _: () = assert!(size_of::<Memberships>() == 16);

impl Memberships {
    /// Its position in an audience, if it is in it.
    pub fn at(&self, audience: AudienceId) -> Option<u32> {
        match self {
            Memberships::One(p, at) if *p == audience => Some(*at),
            Memberships::Many(map) => map.get(&audience).copied(),
            _ => None,
        }
    }

    /// Notes its position in an audience.
    pub fn put(&mut self, audience: AudienceId, at: u32) {
        match self {
            Memberships::Nowhere => *self = Memberships::One(audience, at),
            Memberships::One(p, old) if *p == audience => *old = at,
            Memberships::One(p, old) => {
                *self = Memberships::Many(Box::new(HashMap::from([(*p, *old), (audience, at)])))
            }
            Memberships::Many(map) => {
                map.insert(audience, at);
            }
        }
    }

    /// Removes it from an audience.
    pub fn take(&mut self, audience: AudienceId) {
        match self {
            Memberships::One(p, _) if *p == audience => *self = Memberships::Nowhere,
            Memberships::Many(map) => {
                map.remove(&audience);
                if map.is_empty() {
                    *self = Memberships::Nowhere;
                }
            }
            _ => {}
        }
    }

    /// Audiences that it is in.
    pub fn len(&self) -> usize {
        match self {
            Memberships::Nowhere => 0,
            Memberships::One(..) => 1,
            Memberships::Many(map) => map.len(),
        }
    }

    /// The audiences that it is in, and its position in each.
    pub fn audiences(&self) -> impl Iterator<Item = (AudienceId, u32)> {
        let (one, many) = match self {
            Memberships::Nowhere => (None, None),
            Memberships::One(audience, at) => (Some((*audience, *at)), None),
            Memberships::Many(map) => (
                None,
                Some(map.iter().map(|(audience, at)| (*audience, *at))),
            ),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
