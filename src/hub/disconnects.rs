//! Upgrades under way, and the users that were disconnected meanwhile (`docs/api.md#disconnect`).
//!
//! Owns: how many disconnects there were before each upgrade's question, and of which users. Knows: slots, names of
//! users. Never knows: connections, or when an upgrade is allowed.
//!
//! Decision: disconnects are numbered, and the number at the beginning of each upgrade is kept. Chosen over looking for
//! upgrades of the user: the user of an upgrade is known only with the answer. A disconnect is forgotten when no
//! upgrade is left that began before it.

pub mod saved;

use std::collections::{HashMap, VecDeque};

/// Disconnects that are remembered. An upgrade that is older than what is forgotten is refused for now.
const MAX_REMEMBERED_DISCONNECTS: usize = 100_000;

/// Whether an upgrade survives the disconnects of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    Survives,
    Disconnected,
    /// There were too many disconnects meanwhile.
    Unknown,
}

#[derive(Debug, Default)]
pub struct Disconnects {
    /// The number of the last disconnect.
    last: u64,
    /// Upgrades under way by slot, each with the last disconnect before it.
    begun: HashMap<u32, u64>,
    /// How many upgrades under way began after each disconnect, in order.
    counts: VecDeque<(u64, u32)>,
    /// The last disconnect of each user.
    users: HashMap<Box<str>, u64>,
    order: VecDeque<(u64, Box<str>)>,
    /// The last disconnect that was forgotten too early.
    forgotten: u64,
}

impl Disconnects {
    /// The authorizer is asked about an upgrade.
    pub fn begin(&mut self, slot: u32) {
        self.end(slot);
        self.enter(slot, self.last);
    }

    /// An upgrade is under way in `slot`, where none was; `began`: the last disconnect before it.
    fn enter(&mut self, slot: u32, began: u64) {
        self.begun.insert(slot, began);
        match self.at(began) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => self.counts.insert(at, (began, 1)),
        }
    }

    /// Where upgrades that began after this disconnect are counted, or would be.
    fn at(&self, began: u64) -> Result<usize, usize> {
        self.counts.binary_search_by_key(&began, |(last, _)| *last)
    }

    /// An upgrade is no longer under way.
    pub fn end(&mut self, slot: u32) {
        if self.begun.is_empty() {
            return;
        }
        let Some(began) = self.begun.remove(&slot) else {
            return;
        };
        let at = self.at(began);
        if let Some((_, count)) = at.ok().and_then(|at| self.counts.get_mut(at)) {
            *count = count.saturating_sub(1);
        }
        while self.counts.front().is_some_and(|(_, count)| *count == 0) {
            self.counts.pop_front();
        }
        let oldest = self.counts.front().map_or(u64::MAX, |(last, _)| *last);
        while self
            .order
            .front()
            .is_some_and(|(number, _)| *number <= oldest)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) -> u64 {
        let Some((number, user)) = self.order.pop_front() else {
            return 0;
        };
        if self.users.get(&user) == Some(&number) {
            self.users.remove(&user);
        }
        number
    }

    /// A user is disconnected.
    pub fn note(&mut self, user: &str) {
        if self.begun.is_empty() {
            return;
        }
        self.last = self.last.saturating_add(1);
        self.users.insert(user.into(), self.last);
        self.order.push_back((self.last, user.into()));
        if self.order.len() > MAX_REMEMBERED_DISCONNECTS {
            self.forgotten = self.forget_first();
        }
    }

    /// Whether the upgrade in `slot`, which is the user's, survives.
    pub fn survival(&self, slot: u32, user: &str) -> Survival {
        let Some(began) = self.begun.get(&slot) else {
            return Survival::Survives;
        };
        if self.users.get(user).is_some_and(|number| number > began) {
            Survival::Disconnected
        } else if self.forgotten > *began {
            Survival::Unknown
        } else {
            Survival::Survives
        }
    }

    /// Upgrades under way.
    pub fn upgrades(&self) -> usize {
        self.begun.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_survives_what_was_before_it() {
        let mut disconnects = Disconnects::default();
        disconnects.note("a");
        disconnects.begin(1);
        assert_eq!(disconnects.survival(1, "a"), Survival::Survives);
        disconnects.note("a");
        disconnects.begin(2);
        disconnects.note("b");
        let survival = [(1, "a"), (2, "a"), (1, "b"), (2, "b"), (3, "a"), (1, "c")]
            .map(|(slot, user)| disconnects.survival(slot, user) == Survival::Survives);
        assert_eq!(survival, [false, true, false, false, true, true]);
    }

    #[test]
    fn disconnects_older_than_every_upgrade_are_forgotten() {
        let mut disconnects = Disconnects::default();
        for slot in 0..3 {
            disconnects.begin(slot);
            disconnects.note("a");
            disconnects.note("b");
        }
        assert_eq!((disconnects.order.len(), disconnects.users.len()), (6, 2));
        disconnects.end(1);
        assert_eq!(disconnects.order.len(), 6);
        disconnects.end(0);
        assert_eq!((disconnects.order.len(), disconnects.users.len()), (2, 2));
        assert_eq!(disconnects.survival(2, "b"), Survival::Disconnected);
        // The slot has another connection, which starts from scratch.
        disconnects.begin(2);
        assert_eq!((disconnects.order.len(), disconnects.users.len()), (0, 0));
        disconnects.end(2);
        assert_eq!((disconnects.upgrades(), disconnects.counts.len()), (0, 0));
    }

    #[test]
    fn too_many_disconnects_leave_an_old_upgrade_in_doubt() {
        let mut disconnects = Disconnects::default();
        disconnects.begin(1);
        for n in 0..=MAX_REMEMBERED_DISCONNECTS {
            disconnects.note(&n.to_string());
        }
        disconnects.begin(2);
        assert_eq!(disconnects.survival(1, "0"), Survival::Unknown);
        assert_eq!(disconnects.survival(1, "7"), Survival::Disconnected);
        assert_eq!(disconnects.survival(2, "0"), Survival::Survives);
    }
}
