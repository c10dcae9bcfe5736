//! Identities in a snapshot: each with its connection, and states that are shared once.
//!
//! Owns: the numbers by which identities refer to shared states. Never knows: connections.

use std::collections::BTreeMap;
use std::io::{self, Write};

use minicbor::{Decode, Encode};

use super::{Identities, Identity};
use crate::interned::Name;
use crate::snapshot::{RecordKind, SnapshotError, SnapshotWriter, is_default};
use crate::wire::answer_fields::{is_state, is_user};

/// A state that several connections share. Its number is how many were before it.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedState<'s> {
    /// JSON.
    #[n(0)]
    state: &'s str,
}

/// What questions about one connection show.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedIdentity {
    #[cbor(n(0), default, skip_if = "is_default")]
    query: Box<str>,
    #[n(1)]
    user: Option<Box<str>>,
    /// JSON, unless it is shared.
    #[n(2)]
    state: Option<Box<str>>,
    /// The number of a state that is shared.
    #[n(3)]
    shared: Option<u32>,
}

/// The numbers of all shared states in a snapshot.
#[derive(Debug)]
pub struct StateNumbers(BTreeMap<Name, u32>);

/// Shared states that were restored, by their numbers. Each is kept until all identities are restored.
#[derive(Debug, Default)]
pub struct SharedStates(Vec<Name>);

impl Identities {
    /// Writes a record for each state that is shared.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn save(&self, to: &mut SnapshotWriter<impl Write>) -> io::Result<StateNumbers> {
        let mut numbers = BTreeMap::new();
        for (number, (name, state)) in self.shared.iter().enumerate() {
            to.write(RecordKind::SharedState, &SavedState { state })?;
            numbers.insert(name, number as u32);
        }
        Ok(StateNumbers(numbers))
    }

    /// Restores a state that is shared, before the identities.
    ///
    /// # Errors
    /// It is not state.
    pub fn restore(
        &mut self,
        shared: &mut SharedStates,
        saved: &SavedState,
    ) -> Result<(), SnapshotError> {
        let name = if is_state(saved.state) {
            self.shared.keep(saved.state.into())
        } else {
            None
        };
        shared.0.push(name.ok_or_else(no_state)?);
        Ok(())
    }

    /// All identities are restored: shared states that none of them has go.
    pub fn end_restore(&mut self, shared: SharedStates) {
        for name in shared.0 {
            self.shared.release(name);
        }
    }

    /// An identity in a snapshot. `None`: it shows nothing.
    pub fn save_one(&self, identity: Identity, states: &StateNumbers) -> Option<SavedIdentity> {
        if identity == Identity::default() {
            return None;
        }
        let shared = self.shared_state(identity);
        let shared = shared.and_then(|name| states.0.get(&name).copied());
        let state = match shared {
            None => self.state(identity),
            Some(_) => None,
        };
        Some(SavedIdentity {
            query: self.query(identity).into(),
            user: self.user(identity).map(Into::into),
            state: state.map(Into::into),
            shared,
        })
    }

    /// # Errors
    /// It is longer than one can be, or its state is not state.
    pub fn restore_one(
        &mut self,
        saved: &SavedIdentity,
        shared: &SharedStates,
    ) -> Result<Identity, SnapshotError> {
        let (query, user) = (&*saved.query, saved.user.as_deref());
        let state = saved.state.as_deref();
        if !user.is_none_or(is_user)
            || !state.is_none_or(is_state)
            || query.len() > usize::from(u16::MAX)
        {
            return Err(no_state());
        }
        let Some(number) = saved.shared else {
            let state = state.unwrap_or_default();
            return Ok(self.put_text(query, user, state.as_bytes()));
        };
        // It was read once, whatever the number of identities that share it.
        let name = shared.0.get(number as usize).copied();
        let name = name.and_then(|name| self.shared.hold_again(name));
        Ok(self.put_shared(query, user, name.ok_or_else(no_state)?))
    }
}

fn no_state() -> SnapshotError {
    SnapshotError::new("invalid query, user or state")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{SnapshotHeader, SnapshotReader};

    #[test]
    fn a_shared_state_is_saved_once_and_shared_again() {
        let mut before = Identities::default();
        let state = format!("{{\"roles\":\"{}\"}}", "x".repeat(3_000));
        let put: Vec<Identity> = (0..100)
            .map(|n| before.put("a=1", Some(&n.to_string()), Some(&state)))
            .collect();
        let own = before.put("", Some("eve"), Some("{}"));
        let mut to = SnapshotWriter::new(Vec::new(), &SnapshotHeader::new(0)).unwrap();
        let numbers = before.save(&mut to).unwrap();
        let snapshot = to.finish().unwrap();

        let mut after = Identities::default();
        let mut shared = SharedStates::default();
        let mut from = SnapshotReader::new(&*snapshot, snapshot.len() as u64).unwrap();
        while let Some(record) = from.read_next().unwrap() {
            after
                .restore(&mut shared, &record.decode().unwrap())
                .unwrap();
        }
        let mut bytes = snapshot.len();
        let mut restored = Vec::new();
        for identity in put.iter().chain([&own]) {
            let saved = minicbor::to_vec(before.save_one(*identity, &numbers)).unwrap();
            bytes += saved.len();
            let saved: SavedIdentity = minicbor::decode(&saved).unwrap();
            restored.push(after.restore_one(&saved, &shared).unwrap());
        }
        // One copy that is shared, and that of the first connection.
        assert!(bytes < 2 * state.len() + 2_000, "{bytes}");
        after.end_restore(shared);
        assert_eq!((after.count(), after.shared()), (101, 1));
        for (before_it, after_it) in put.iter().chain([&own]).zip(&restored) {
            assert_eq!(before.query(*before_it), after.query(*after_it));
            assert_eq!(before.user(*before_it), after.user(*after_it));
            assert_eq!(before.state(*before_it), after.state(*after_it));
        }
        for identity in restored {
            after.remove(identity);
        }
        assert_eq!((after.count(), after.shared()), (0, 0));
        assert!(before.save_one(Identity::default(), &numbers).is_none());
    }

    #[test]
    fn invalid_identities_in_a_snapshot_are_refused() {
        let long = "x".repeat(70_000);
        let identity = |query: &str, user: Option<&str>, state: Option<&str>| SavedIdentity {
            query: query.into(),
            user: user.map(Into::into),
            state: state.map(Into::into),
            shared: None,
        };
        let mut identities = Identities::default();
        let shared = SharedStates::default();
        for saved in [
            identity(&long, None, None),
            identity("", Some(""), None),
            identity("", Some(&long[..256]), None),
            identity("", None, Some("")),
            identity("", None, Some("{")),
            identity("", None, Some("null")),
            // In the place of a state that is shared.
            identity("", None, Some("\0\u{1}\0\0\0")),
            SavedIdentity {
                shared: Some(0),
                ..identity("a=1", None, None)
            },
        ] {
            let refused = identities.restore_one(&saved, &shared);
            assert!(refused.is_err(), "{saved:?}");
        }
        let mut shared = SharedStates::default();
        for state in ["", "null", "{}x"] {
            let refused = identities.restore(&mut shared, &SavedState { state });
            assert!(refused.is_err(), "{state}");
        }
        assert_eq!((identities.count(), identities.shared()), (0, 0));
    }
}
