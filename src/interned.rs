//! Values that many connections share, kept once.
//!
//! Owns: the values, and how many hold each. Knows: equality and hashes. Never knows: what a value is for, or what holds it.
//!
//! Decision: 32-bit hashes in a tree rather than a hash table of the values. A table that has to grow is rehashed in
//! one step, which with a million values delays the loop. If two values have one hash, about one pair in 4 billion, the
//! second is not shared.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;

use slab::Slab;

/// A value's name in its [`Interned`]: one holder of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(NonZeroU32);

impl Name {
    fn of(index: usize) -> Option<Name> {
        let index = u32::try_from(index).ok()?;
        NonZeroU32::new(index.checked_add(1)?).map(Name)
    }

    fn index(self) -> usize {
        self.0.get().saturating_sub(1) as usize
    }

    pub fn to_bytes(self) -> [u8; 4] {
        self.0.get().to_le_bytes()
    }

    /// What [`Name::to_bytes`] has given.
    pub fn from_bytes(bytes: [u8; 4]) -> Option<Name> {
        NonZeroU32::new(u32::from_le_bytes(bytes)).map(Name)
    }
}

#[derive(Debug)]
struct Kept<T> {
    value: T,
    holders: u32,
    hash: u32,
}

/// Values of one kind.
#[derive(Debug)]
pub struct Interned<T> {
    kept: Slab<Kept<T>>,
    by_hash: BTreeMap<u32, u32>,
    hasher: RandomState,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Interned {
            kept: Slab::new(),
            by_hash: BTreeMap::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<T: Eq + Hash> Interned<T> {
    /// A hash that only this process knows.
    pub fn hash<Q: Hash + ?Sized>(&self, value: &Q) -> u32 {
        self.hasher.hash_one(value) as u32
    }

    /// Has one more holder for a value, if it is there.
    pub fn hold<Q>(&mut self, value: &Q) -> Option<Name>
    where
        T: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let index = *self.by_hash.get(&self.hash(value))?;
        let kept = self.kept.get_mut(index as usize)?;
        if kept.value.borrow() != value {
            return None;
        }
        kept.holders = kept.holders.saturating_add(1);
        Name::of(index as usize)
    }

    /// Has one more holder for the value of this name, if it is there.
    pub fn hold_again(&mut self, name: Name) -> Option<Name> {
        let kept = self.kept.get_mut(name.index())?;
        kept.holders = kept.holders.saturating_add(1);
        Some(name)
    }

    /// Keeps a value, for one holder. `None`: there are more than can be named.
    pub fn keep(&mut self, value: T) -> Option<Name> {
        if let Some(name) = self.hold(&value) {
            return Some(name);
        }
        let hash = self.hash(&value);
        let index = self.kept.vacant_key();
        let name = Name::of(index)?;
        self.kept.insert(Kept {
            value,
            holders: 1,
            hash,
        });
        if let Entry::Vacant(entry) = self.by_hash.entry(hash) {
            entry.insert(index as u32);
        }
        Some(name)
    }

    pub fn get(&self, name: Name) -> Option<&T> {
        self.kept.get(name.index()).map(|kept| &kept.value)
    }

    /// All values, and their names.
    pub fn iter(&self) -> impl Iterator<Item = (Name, &T)> {
        let kept = self.kept.iter();
        kept.filter_map(|(index, kept)| Some((Name::of(index)?, &kept.value)))
    }

    /// One holder fewer; with the last one the value goes.
    pub fn release(&mut self, name: Name) {
        let Some(kept) = self.kept.get_mut(name.index()) else {
            return;
        };
        kept.holders = kept.holders.saturating_sub(1);
        if kept.holders > 0 {
            return;
        }
        let hash = kept.hash;
        self.kept.try_remove(name.index());
        if let Entry::Occupied(entry) = self.by_hash.entry(hash)
            && *entry.get() as usize == name.index()
        {
            entry.remove();
        }
    }

    /// The number of different values.
    pub fn count(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_goes_with_its_last_holder() {
        let mut interned: Interned<Box<str>> = Interned::default();
        assert_eq!(interned.hold("a"), None);
        let first = interned.keep("a".into()).unwrap();
        let second = interned.keep("a".into()).unwrap();
        let other = interned.keep("b".into()).unwrap();
        assert_eq!((first, interned.hold("a")), (second, Some(first)));
        assert_ne!(first, other);
        assert_eq!(interned.count(), 2);
        assert_eq!(Name::from_bytes(first.to_bytes()), Some(first));
        for _ in 0..2 {
            interned.release(first);
            assert_eq!(interned.get(first).map(|it| &**it), Some("a"));
        }
        interned.release(first);
        assert_eq!(interned.get(first), None);
        assert_eq!(interned.hold("a"), None);
        assert_eq!(interned.get(other).map(|it| &**it), Some("b"));
        interned.release(other);
        assert_eq!((interned.count(), interned.by_hash.len()), (0, 0));
    }

    /// A value whose hash is that of all others.
    #[derive(Debug, PartialEq, Eq)]
    struct Same(u8);

    impl Hash for Same {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
    }

    #[test]
    fn values_with_one_hash_are_told_apart() {
        let mut interned = Interned::default();
        let names = [1, 2, 2].map(|n| interned.keep(Same(n)).unwrap());
        assert_eq!(interned.count(), 3);
        let values = names.map(|name| interned.get(name).map(|Same(n)| *n));
        assert_eq!(values, [Some(1), Some(2), Some(2)]);
        interned.release(names[1]);
        assert_eq!(interned.hold(&Same(1)), Some(names[0]));
        for name in [names[0], names[0], names[2]] {
            interned.release(name);
        }
        assert_eq!((interned.count(), interned.by_hash.len()), (0, 0));
    }
}
