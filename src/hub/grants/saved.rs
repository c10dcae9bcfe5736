//! Grants in a snapshot.
//!
//! Owns: [`SavedGrants`], the grants of one connection. Knows: that an `allow` which many connections have is saved once,
//! and named by a number.

use std::collections::HashMap;

use minicbor::{Decode, Encode};

use super::Grants;
use super::remembered::Remembered;
use super::remembered::saved::SavedRemembered;
use crate::clock::Millis;
use crate::interned::Name;
use crate::snapshot::SnapshotError;
use crate::wire::answer_fields::Allow;

/// The grants of one connection.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedGrants<'b> {
    /// How many were saved before its own.
    #[n(0)]
    allow: Option<u32>,
    #[cbor(b(1), default)]
    remembered: Vec<SavedRemembered<'b>>,
    #[n(2)]
    refresh: Option<Millis>,
    #[n(3)]
    refresh_failures: Option<u32>,
}

/// The numbers of those `allow`s that were saved.
#[derive(Debug, Default)]
pub struct AllowNumbers(HashMap<[u8; 4], u32>);

impl Grants {
    /// The `allow` of the connection in `slot`, if it has one that was not saved yet. It has a number from now on.
    pub fn next_allow(&self, slot: u32, numbers: &mut AllowNumbers) -> Option<&Allow> {
        let name = (*self.allow.get(slot)?)?;
        let next = numbers.0.len() as u32;
        let number = *numbers.0.entry(name.to_bytes()).or_insert(next);
        (number == next).then(|| self.allows.get(name))?
    }

    /// The grants of the connection in `slot`, if it has any.
    pub fn save(&self, slot: u32, numbers: &AllowNumbers) -> Option<SavedGrants<'_>> {
        let Grants {
            allows: _,
            allow,
            remembered,
            refresh: _,
            refresh_failures,
        } = self;
        let name = allow.get(slot).copied().flatten();
        let remembered = remembered.get(slot).and_then(Option::as_deref);
        let saved = SavedGrants {
            allow: name.and_then(|name| numbers.0.get(&name.to_bytes()).copied()),
            remembered: remembered.map(Remembered::save).unwrap_or_default(),
            refresh: self.refresh_at(slot),
            refresh_failures: refresh_failures.get(&slot).copied(),
        };
        let SavedGrants {
            allow: None,
            refresh: None,
            refresh_failures: None,
            ..
        } = &saved
        else {
            return Some(saved);
        };
        (!saved.remembered.is_empty()).then_some(saved)
    }

    /// Keeps an `allow`, which has this name until [`Grants::end_restoring`].
    ///
    /// # Errors
    /// There are too many.
    pub fn restore_allow(&mut self, allow: Allow) -> Result<Name, SnapshotError> {
        let name = self.allows.keep(allow);
        name.ok_or_else(|| SnapshotError::new("too many different lists of grants"))
    }

    /// Gives the connection in `slot`, which has none, its grants. `allows`: those that were restored, in their order.
    ///
    /// # Errors
    /// Its `allow` is not among them; or what it remembers means nothing.
    pub fn restore(
        &mut self,
        slot: u32,
        saved: &SavedGrants,
        allows: &[Name],
    ) -> Result<(), SnapshotError> {
        if let Some(number) = saved.allow {
            let name = allows.get(number as usize).copied();
            let name = name.and_then(|name| self.allows.hold_again(name));
            let unknown = || SnapshotError::new(format!("unknown number of an allow: {number}"));
            let name = name.ok_or_else(unknown)?;
            if let Some(entry) = self.allow.entry(slot) {
                *entry = Some(name);
            }
        }
        if !saved.remembered.is_empty()
            && let Some(entry) = self.remembered.entry(slot)
        {
            *entry = Some(Box::new(Remembered::restore(&saved.remembered)?));
        }
        if let Some(at) = saved.refresh
            && let Some(entry) = self.refresh.entry(slot)
        {
            *entry = at;
        }
        if let Some(failures) = saved.refresh_failures {
            self.refresh_failures.insert(slot, failures);
        }
        Ok(())
    }

    /// All connections have their grants.
    pub fn end_restoring(&mut self, allows: &[Name]) {
        for name in allows {
            self.allows.release(*name);
        }
    }
}
