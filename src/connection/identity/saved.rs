//! Identities in a snapshot: each with its connection, and states that are shared once.
//!
//! Owns: the numbers by which identities refer to shared states. Never knows: connections.

use std::collections::BTreeMap;
use std::io::{self, Write};

use minicbor::{Decode, Encode};

use super::{Identities, Identity};
use crate::interned::Name;
use crate::snapshot::{RecordKind, SnapshotError, SnapshotWriter, is_default};
use crate::wire::question::{is_state, is_user};

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
    /// It is no state.
    pub fn restore(
        &mut self,
        shared: &mut SharedStates,
        saved: &SavedState,
    ) -> Result<(), SnapshotError> {
        let name = match is_state(saved.state) {
            true => self.shared.keep(saved.state.into()),
            false => None,
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

    /// `None`: it shows nothing.
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
    /// It is longer than one can be, or its state is no state.
    pub fn restore_one(
        &mut self,
        saved: &SavedIdentity,
        shared: &SharedStates,
    ) -> Result<Identity, SnapshotError> {
        let state: Option<Box<str>> = match saved.shared {
            None => saved.state.clone(),
            Some(number) => {
                let name = shared.0.get(number as usize).copied();
                let state = name.and_then(|name| self.shared.get(name));
                Some(state.ok_or_else(no_state)?.clone())
            }
        };
        let legal = saved.user.as_deref().is_none_or(is_user)
            && state.as_deref().is_none_or(is_state)
            && saved.query.len() <= usize::from(u16::MAX);
        match legal {
            true => {
                let (user, sharing) = (saved.user.as_deref(), saved.shared.is_some());
                Ok(self.put_sharing(&saved.query, user, state.as_deref(), sharing))
            }
            false => Err(no_state()),
        }
    }
}

fn no_state() -> SnapshotError {
    SnapshotError::new("a query, a user or a state that cannot be one")
}
