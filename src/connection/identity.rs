//! What questions about a connection show: the query of its upgrade request, and the state that the authorizer gave it
//! (`docs/authorizer.md#state`).
//!
//! Owns: [`Identities`], the texts of all connections. Knows: bytes. Never knows: connections, or what the texts mean.
//!
//! Decision: shelves of equal pieces, one for each 16 bytes of size, over an allocation for each identity. During a
//! rush of clients, separate identities would lie between questions that are freed a moment later. Their pages could
//! not be returned, which costs 80 bytes per connection with a query of 60. The price is that a shelf is freed only
//! with its last identity.

use slab::Slab;

/// What questions about one connection show, as a place in [`Identities`]; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    place: u32,
    query: u16,
    state: u16,
}

const _: () = assert!(size_of::<Identity>() == 8);

impl Identity {
    fn len(self) -> usize {
        usize::from(self.query).saturating_add(usize::from(self.state))
    }
}

/// Pieces of one shelf are so much larger than those of the one before.
const STEP: usize = 16;
/// What is larger than a piece of the last shelf, which is rare, is an allocation of its own.
const SHELVES: usize = 16;

/// The identities of all connections.
#[derive(Debug, Default)]
pub struct Identities {
    shelves: [Shelf; SHELVES],
    large: Slab<Box<[u8]>>,
}

#[derive(Debug, Default)]
struct Shelf {
    pieces: Vec<u8>,
    vacant: Vec<u32>,
}

impl Identities {
    /// Keeps a query as it was sent, and a state as JSON text, either of which may be empty.
    pub fn put(&mut self, query: &str, state: &str) -> Identity {
        let (Ok(query_len), Ok(state_len)) =
            (u16::try_from(query.len()), u16::try_from(state.len()))
        else {
            // Neither a head nor a state is so long.
            return Identity::default();
        };
        let mut identity = Identity {
            place: 0,
            query: query_len,
            state: state_len,
        };
        let text = [query.as_bytes(), state.as_bytes()];
        identity.place = match shelf(identity.len()) {
            None => return Identity::default(),
            Some(at) => match self.shelves.get_mut(at) {
                Some(shelf) => shelf.put(piece(at), text),
                None => self.large.insert(text.concat().into()) as u32,
            },
        };
        identity
    }

    /// Forgets an identity.
    pub fn remove(&mut self, identity: Identity) {
        let Some(at) = shelf(identity.len()) else {
            return;
        };
        match self.shelves.get_mut(at) {
            Some(shelf) => shelf.remove(piece(at), identity.place),
            None => drop(self.large.try_remove(identity.place as usize)),
        }
    }

    pub fn query(&self, identity: Identity) -> &str {
        let text = self.text(identity).get(..usize::from(identity.query));
        str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }

    pub fn state(&self, identity: Identity) -> Option<&str> {
        let text = self.text(identity).get(usize::from(identity.query)..)?;
        str::from_utf8(text).ok().filter(|state| !state.is_empty())
    }

    fn text(&self, identity: Identity) -> &[u8] {
        let text = shelf(identity.len()).and_then(|at| match self.shelves.get(at) {
            Some(shelf) => shelf.piece(piece(at), identity.place),
            None => self.large.get(identity.place as usize).map(|text| &**text),
        });
        text.and_then(|text| text.get(..identity.len()))
            .unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let shelves = self.shelves.iter().enumerate();
        let shelved = shelves.map(|(at, shelf)| shelf.count(piece(at)));
        shelved.fold(self.large.len(), usize::saturating_add)
    }
}

impl Shelf {
    fn put(&mut self, size: usize, text: [&[u8]; 2]) -> u32 {
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
            *self = Shelf::default();
        }
    }

    fn count(&self, size: usize) -> usize {
        let places = self.pieces.len().checked_div(size).unwrap_or_default();
        places.saturating_sub(self.vacant.len())
    }
}

/// The shelf for so many bytes, or one beyond the last; none for nothing.
fn shelf(len: usize) -> Option<usize> {
    Some(len.checked_sub(1)? / STEP)
}

/// The size of a shelf's pieces.
fn piece(shelf: usize) -> usize {
    shelf.saturating_add(1).saturating_mul(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_come_back_whatever_their_sizes() {
        let mut identities = Identities::default();
        let long = "é".repeat(SHELVES * STEP / 2);
        let texts: Vec<(String, String)> = (0..=long.len())
            .filter(|len| long.is_char_boundary(*len))
            .flat_map(|len| [(len, 0), (0, len), (len, 3), (2, len)])
            .map(|(query, state)| (long[..query].to_owned(), "x".repeat(state)))
            .collect();
        for _ in 0..2 {
            let put: Vec<Identity> = texts.iter().map(|(q, s)| identities.put(q, s)).collect();
            for round in 0..2 {
                for (nth, identity) in put.iter().enumerate().filter(|(nth, _)| nth % 2 == round) {
                    let (query, state) = &texts[nth];
                    let shown = Some(state.as_str()).filter(|state| !state.is_empty());
                    assert_eq!(identities.query(*identity), query);
                    assert_eq!(identities.state(*identity), shown);
                    identities.remove(*identity);
                }
            }
            assert_eq!(identities.count(), 0);
        }
        assert!(
            identities
                .shelves
                .iter()
                .all(|shelf| shelf.pieces.capacity() == 0)
        );
    }

    #[test]
    fn a_place_is_used_again() {
        let mut identities = Identities::default();
        let [one, two] = [identities.put("one", ""), identities.put("two", "{}")];
        identities.remove(one);
        assert_eq!(identities.put("three", "").place, one.place);
        assert_eq!(
            (identities.query(two), identities.state(two)),
            ("two", Some("{}"))
        );
        assert_eq!(identities.count(), 2);
        assert_eq!(identities.put("", ""), Identity::default());
    }
}
