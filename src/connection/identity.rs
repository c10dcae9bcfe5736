//! What questions about a connection show: the query of its upgrade request, and the user and the state that the authorizer
//! gave it (`docs/authorizer.md#questions`).
//!
//! Owns: [`Identities`], the texts of all connections. Knows: bytes. Never knows: connections, or what the texts mean.
//!
//! Decision: size classes of equal pieces, one for each 16 bytes of size, rather than an allocation for each identity.
//! During a rush of clients, separate identities would lie between questions that are freed a moment later. Their pages
//! could not be returned, which costs 80 bytes per connection with a query of 60. The price is that a size class is
//! freed only with its last identity.
//!
//! Decision: a state is shared from its second sighting on, rather than sharing each one from the start. Most states
//! belong to one connection, and an index of all states would cost 40 bytes for each. The price is that the first
//! connection with a state keeps a copy of its own.

use slab::Slab;

use crate::interned::{Interned, Name};

mod saved;

pub use saved::{SavedIdentity, SavedState, SharedStates, StateNumbers};

/// What questions about one connection show, as a place in [`Identities`]; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    place: u32,
    query: u16,
    /// Bytes behind the query: if there are any, the length of the user in one byte, the user, and the state.
    rest: u16,
}

const _: () = assert!(size_of::<Identity>() == 8);

impl Identity {
    fn len(self) -> usize {
        usize::from(self.query).saturating_add(usize::from(self.rest))
    }
}

/// Pieces of one size class are this much larger than those of the one before.
const STEP: usize = 16;
/// What is larger than a piece of the last size class, which is rare, is an allocation of its own.
const SIZE_CLASSES: usize = 16;

/// In place of a state, before its [`Name`] among the shared ones. No JSON begins with it.
const SHARED: u8 = 0;
/// Shorter states are not worth sharing.
const WORTH_SHARING: usize = 16;
/// Hashes of states that are remembered, to know one that comes a second time: more than there are kinds of clients at most
/// sites. A state that is one of more kinds may be taken for a new one.
const SEEN: usize = 1024;

/// The identities of all connections.
#[derive(Debug, Default)]
pub struct Identities {
    size_classes: [SizeClass; SIZE_CLASSES],
    large: Slab<Box<[u8]>>,
    shared: Interned<Box<str>>,
    /// Empty until there is a state.
    seen: Vec<u32>,
}

#[derive(Debug, Default)]
struct SizeClass {
    pieces: Vec<u8>,
    vacant: Vec<u32>,
}

impl Identities {
    /// Keeps a query as it was sent, a user, and a state as JSON text.
    pub fn put(&mut self, query: &str, user: Option<&str>, state: Option<&str>) -> Identity {
        let state = state.unwrap_or_default();
        match self.share(state) {
            Some(name) => self.put_shared(query, user, name),
            None => self.put_text(query, user, state.as_bytes()),
        }
    }

    /// Likewise, with a state that is shared: the identity is the holder that `name` stands for.
    fn put_shared(&mut self, query: &str, user: Option<&str>, name: Name) -> Identity {
        let [a, b, c, d] = name.to_bytes();
        self.put_text(query, user, &[SHARED, a, b, c, d])
    }

    /// Likewise; `state` is what is kept beside the user.
    fn put_text(&mut self, query: &str, user: Option<&str>, state: &[u8]) -> Identity {
        let user = user.unwrap_or_default();
        let rest = match user.len().saturating_add(state.len()) {
            0 => 0,
            len => len.saturating_add(1),
        };
        let (Ok(query_len), Ok(user_len), Ok(_)) = (
            u16::try_from(query.len()),
            u8::try_from(user.len()),
            u16::try_from(rest),
        ) else {
            // No head is so long, and no user or state.
            return Identity::default();
        };
        let user_len = [user_len];
        let user_len = user_len.get(..rest.min(1)).unwrap_or_default();
        let text = [query.as_bytes(), user_len, user.as_bytes(), state];
        let [_, rest @ ..] = text.map(<[u8]>::len);
        let mut identity = Identity {
            place: 0,
            query: query_len,
            rest: rest.into_iter().fold(0, usize::saturating_add) as u16,
        };
        identity.place = match size_class(identity.len()) {
            None => return Identity::default(),
            Some(at) => match self.size_classes.get_mut(at) {
                Some(size_class) => size_class.put(piece(at), text),
                None => self.large.insert(text.concat().into()) as u32,
            },
        };
        identity
    }

    /// The name of a state among the shared ones, if it is shared from now on.
    fn share(&mut self, state: &str) -> Option<Name> {
        if state.len() < WORTH_SHARING {
            return None;
        }
        if let Some(name) = self.shared.hold(state) {
            return Some(name);
        }
        let hash = self.shared.hash(state);
        self.seen.resize(SEEN, 0);
        let seen = self.seen.get_mut(hash as usize % SEEN)?;
        if std::mem::replace(seen, hash) == hash {
            self.shared.keep(state.into())
        } else {
            None
        }
    }

    /// Puts another state in the place of an identity's. The identity is of no use any more; it is the one that is returned.
    pub fn with_state(&mut self, identity: Identity, state: Option<&str>) -> Identity {
        let query = self.query(identity).to_owned();
        let user = self.user(identity).map(str::to_owned);
        self.remove(identity);
        self.put(&query, user.as_deref(), state)
    }

    /// Forgets an identity.
    pub fn remove(&mut self, identity: Identity) {
        if let Some(name) = self.shared_state(identity) {
            self.shared.release(name);
        }
        let Some(at) = size_class(identity.len()) else {
            return;
        };
        match self.size_classes.get_mut(at) {
            Some(size_class) => size_class.remove(piece(at), identity.place),
            None => drop(self.large.try_remove(identity.place as usize)),
        }
    }

    pub fn query(&self, identity: Identity) -> &str {
        let text = self.text(identity).get(..usize::from(identity.query));
        str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }

    /// The user and the state, as they are kept.
    fn rest(&self, identity: Identity) -> Option<(&[u8], &[u8])> {
        let rest = self.text(identity).get(usize::from(identity.query)..)?;
        let (user, rest) = rest.split_first()?;
        rest.split_at_checked(usize::from(*user))
    }

    pub fn user(&self, identity: Identity) -> Option<&str> {
        let (user, _) = self.rest(identity)?;
        str::from_utf8(user).ok().filter(|user| !user.is_empty())
    }

    pub fn state(&self, identity: Identity) -> Option<&str> {
        if let Some(name) = self.shared_state(identity) {
            return self.shared.get(name).map(|state| &**state);
        }
        let (_, state) = self.rest(identity)?;
        str::from_utf8(state).ok().filter(|state| !state.is_empty())
    }

    fn shared_state(&self, identity: Identity) -> Option<Name> {
        let (_, state) = self.rest(identity)?;
        let name = state.strip_prefix(&[SHARED])?;
        Name::from_bytes(name.try_into().ok()?)
    }

    fn text(&self, identity: Identity) -> &[u8] {
        let text = size_class(identity.len()).and_then(|at| match self.size_classes.get(at) {
            Some(size_class) => size_class.piece(piece(at), identity.place),
            None => self.large.get(identity.place as usize).map(|text| &**text),
        });
        text.and_then(|text| text.get(..identity.len()))
            .unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let size_classes = self.size_classes.iter().enumerate();
        let classed = size_classes.map(|(at, size_class)| size_class.count(piece(at)));
        classed.fold(self.large.len(), usize::saturating_add)
    }

    /// How many states are shared.
    pub fn shared(&self) -> usize {
        self.shared.count()
    }
}

impl SizeClass {
    fn put(&mut self, size: usize, text: [&[u8]; 4]) -> u32 {
        let place = self.vacant.pop().unwrap_or_else(|| {
            let end = self.pieces.len();
            self.pieces.resize(end.saturating_add(size), 0);
            end.checked_div(size).unwrap_or_default() as u32
        });
        let at = (place as usize).saturating_mul(size);
        let piece = self.pieces.get_mut(at..).unwrap_or_default();
        for (to, from) in piece.iter_mut().zip(text.into_iter().flatten()) {
            *to = *from;
        }
        place
    }

    fn piece(&self, size: usize, place: u32) -> Option<&[u8]> {
        let at = (place as usize).saturating_mul(size);
        self.pieces.get(at..)?.get(..size)
    }

    fn remove(&mut self, size: usize, place: u32) {
        self.vacant.push(place);
        if self.count(size) == 0 {
            *self = SizeClass::default();
        }
    }

    fn count(&self, size: usize) -> usize {
        let places = self.pieces.len().checked_div(size).unwrap_or_default();
        places.saturating_sub(self.vacant.len())
    }
}

/// The size class for this many bytes, or one beyond the last; none for nothing.
fn size_class(len: usize) -> Option<usize> {
    Some(len.checked_sub(1)? / STEP)
}

/// The size of a size class's pieces.
fn piece(size_class: usize) -> usize {
    size_class.saturating_add(1).saturating_mul(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_come_back_whatever_their_sizes() {
        let mut identities = Identities::default();
        let long = "é".repeat(SIZE_CLASSES * STEP / 2);
        let texts: Vec<(String, String, String)> = (0..=long.len())
            .filter(|len| long.is_char_boundary(*len))
            .flat_map(|len| [(len, 0, 0), (0, 0, len), (len, 2, 3), (2, len, 0)])
            .filter(|(_, user, _)| *user < 256)
            .map(|(query, user, state)| {
                let part = |len| long[..len].to_owned();
                (part(query), part(user), "x".repeat(state))
            })
            .collect();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for _ in 0..2 {
            let put: Vec<Identity> = texts
                .iter()
                .map(|(q, u, s)| identities.put(q, some(u).as_deref(), some(s).as_deref()))
                .collect();
            for round in 0..2 {
                for (nth, identity) in put.iter().enumerate().filter(|(nth, _)| nth % 2 == round) {
                    let (query, user, state) = &texts[nth];
                    assert_eq!(identities.query(*identity), query);
                    assert_eq!(identities.user(*identity), some(user).as_deref());
                    assert_eq!(identities.state(*identity), some(state).as_deref());
                    identities.remove(*identity);
                }
            }
            assert_eq!((identities.count(), identities.shared()), (0, 0));
        }
        assert!(
            identities
                .size_classes
                .iter()
                .all(|size_class| size_class.pieces.capacity() == 0)
        );
    }

    #[test]
    fn a_freed_identity_is_reused() {
        let mut identities = Identities::default();
        let one = identities.put("one", None, None);
        let two = identities.put("two", None, Some("{}"));
        identities.remove(one);
        assert_eq!(identities.put("three", None, None).place, one.place);
        assert_eq!(
            (identities.query(two), identities.state(two)),
            ("two", Some("{}"))
        );
        assert_eq!(identities.count(), 2);
        assert_eq!(identities.put("", None, None), Identity::default());
    }

    #[test]
    fn a_state_that_comes_again_is_kept_once() {
        let mut identities = Identities::default();
        let state = format!(r#"{{"roles":"{}"}}"#, "x".repeat(4_000));
        let bytes = |identities: &Identities| -> usize {
            identities.large.iter().map(|(_, text)| text.len()).sum()
        };
        let first = identities.put("a=1", None, Some(&state));
        let alone = bytes(&identities);
        let mut others: Vec<Identity> = (0..100)
            .map(|n| identities.put("a=1", Some(&n.to_string()), Some(&state)))
            .collect();
        assert_eq!((identities.shared(), bytes(&identities)), (1, alone));
        for (n, other) in others.iter().enumerate() {
            let user = n.to_string();
            assert_eq!(identities.user(*other), Some(user.as_str()));
            assert_eq!(identities.state(*other), Some(state.as_str()));
        }
        // One gets another state, and one none.
        others[0] = identities.with_state(others[0], Some("1"));
        others[1] = identities.with_state(others[1], None);
        let shown = [0, 1, 2].map(|n| identities.state(others[n]).map(str::len));
        assert_eq!(shown, [Some(1), None, Some(state.len())]);
        assert_eq!(identities.user(others[1]), Some("1"));
        others.push(first);
        for other in others {
            identities.remove(other);
        }
        assert_eq!((identities.count(), identities.shared()), (0, 0));
    }

    #[test]
    fn a_user_and_a_state_cost_little_beside_their_bytes() {
        let mut identities = Identities::default();
        for n in 0..10_000 {
            let state = format!(r#"{{"n":{n:054}}}"#);
            assert_eq!(state.len(), 60);
            identities.put(&"q".repeat(60), Some("user-12345"), Some(&state));
        }
        let pieces = identities
            .size_classes
            .iter()
            .map(|size_class| size_class.pieces.len());
        assert_eq!(pieces.sum::<usize>(), 10_000 * 144);
        assert!(identities.shared() < 10);
    }
}
