//! What the authorizer has granted to a connection: commands that need no question, answers that are remembered, and until
//! when (`docs/authorizer.md#grants`).
//!
//! Owns: the grants of all connections, in tables by slot. Knows: commands, channels, and the time as an argument. Never
//! knows: connections, or what a refusal leads to. A connection without grants costs nothing here.
//!
//! Decision: a table for each kind of grant rather than a field of the connection or one record for all kinds. Most
//! servers use one kind, which takes 4 to 8 bytes per connection. An `allow` that many connections have is kept once.

mod remembered;
pub mod saved;

use std::collections::HashMap;

use self::remembered::Remembered;
pub use self::remembered::Remembrance;
use crate::clock::Millis;
use crate::hub::outage::BACKOFF;
use crate::hub::slots::Slots;
use crate::interned::{Interned, Name};
use crate::random::Random;
use crate::wire::answer_fields::Allow;
use crate::wire::command::Verb;

/// Why a command needs no question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// A pattern of `allow` matches.
    Allow,
    /// The authorizer has answered before, and wanted that remembered.
    Remembered(Remembrance),
}

/// The grants of all connections.
#[derive(Debug, Default)]
pub struct Grants {
    allows: Interned<Allow>,
    allow: Slots<Option<Name>>,
    remembered: Slots<Option<Box<Remembered>>>,
    /// When the connection is asked about again; 0 is never.
    refresh: Slots<Millis>,
    /// How often in a row that could not be answered, of the few connections of which it could not.
    refresh_failures: HashMap<u32, u32>,
}

impl Grants {
    /// Puts new grants in the place of all that a connection has.
    pub fn grant(&mut self, slot: u32, allow: Option<Allow>, refresh: Option<Millis>) {
        self.end(slot);
        if let Some(name) = allow.and_then(|allow| self.allows.keep(allow))
            && let Some(entry) = self.allow.entry(slot)
        {
            *entry = Some(name);
        }
        if let Some(at) = refresh
            && let Some(entry) = self.refresh.entry(slot)
        {
            *entry = at;
        }
    }

    /// Whether a connection may go on could not be answered: it is asked about again after a pause, which grows.
    pub fn postpone(&mut self, slot: u32, now: Millis, random: &mut Random) {
        let failures = self.refresh_failures.entry(slot).or_default();
        *failures = failures.saturating_add(1);
        let at = now.saturating_add(BACKOFF.pause(*failures, random));
        if let Some(entry) = self.refresh.entry(slot) {
            *entry = at;
        }
    }

    /// Ends all grants of a connection, and forgets when it is asked about again.
    pub fn end(&mut self, slot: u32) {
        self.lapse(slot);
        self.refresh_failures.remove(&slot);
    }

    /// Ends all grants of a connection, as it is about to be asked about again.
    pub fn lapse(&mut self, slot: u32) {
        if let Some(name) = self.allow.take(slot).flatten() {
            self.allows.release(name);
        }
        self.remembered.take(slot);
        self.refresh.take(slot);
    }

    /// When a connection is to be asked about again.
    #[inline]
    pub fn refresh_at(&self, slot: u32) -> Option<Millis> {
        self.refresh.get(slot).copied().filter(|at| *at > 0)
    }

    /// Whether it is time to ask about a connection again.
    #[inline]
    pub fn is_due(&self, slot: u32, now: Millis) -> bool {
        self.refresh_at(slot).is_some_and(|at| at <= now)
    }

    /// The pattern that allows a command.
    pub fn pattern(&self, slot: u32, verb: Verb, channel: &str) -> Option<&str> {
        let name = (*self.allow.get(slot)?)?;
        self.allows.get(name)?.pattern_for(verb, channel)
    }

    /// Why a command needs no question, if it needs none.
    pub fn known(&self, slot: u32, verb: Verb, channel: &str, now: Millis) -> Option<Known> {
        if self.pattern(slot, verb, channel).is_some() {
            return Some(Known::Allow);
        }
        let remembered = self.remembered.get(slot)?.as_ref()?;
        let remembrance = remembered.get(verb, channel, now)?;
        Some(Known::Remembered(remembrance.clone()))
    }

    /// Remembers an answer for `seconds`.
    pub fn remember(
        &mut self,
        slot: u32,
        (verb, channel): (Verb, &str),
        answer: Remembrance,
        seconds: u32,
        now: Millis,
    ) {
        if seconds > 0
            && let Some(entry) = self.remembered.entry(slot)
        {
            let until = now.saturating_add(Millis::from(seconds).saturating_mul(1000));
            let remembered = entry.get_or_insert_default();
            remembered.put(verb, channel, answer, until, now);
        }
    }

    /// Forgets what was answered about a channel.
    pub fn forget(&mut self, slot: u32, channel: &str) {
        if let Some(entry) = self.remembered.get_mut(slot)
            && let Some(remembered) = entry
            && remembered.forget(channel)
        {
            *entry = None;
        }
    }

    /// How many different `allow`s there are.
    pub fn allows(&self) -> usize {
        self.allows.count()
    }

    /// Connections that have a grant of some kind.
    pub fn holders(&self) -> usize {
        let slots = self.allow.len().max(self.remembered.len());
        let slots = slots.max(self.refresh.len()) as u32;
        let has = |slot: &u32| {
            let allow = self.allow.get(*slot).is_some_and(Option::is_some);
            let remembered = self.remembered.get(*slot).is_some_and(Option::is_some);
            allow || remembered || self.refresh_at(*slot).is_some()
        };
        (0..slots).filter(has).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(patterns: &[&str]) -> Option<Allow> {
        Some(Allow {
            join: patterns.iter().map(|it| (*it).into()).collect(),
            ..Allow::default()
        })
    }

    #[test]
    fn an_allow_is_kept_once_and_ends_with_its_last_connection() {
        let mut grants = Grants::default();
        for slot in 0..1_000 {
            grants.grant(slot, allow(&["news", "user:*"]), None);
        }
        assert_eq!((grants.allows(), grants.holders()), (1, 1_000));
        let pattern = grants.pattern(7, Verb::Join, "user:42");
        assert_eq!(pattern, Some("user:*"));
        assert_eq!(grants.known(7, Verb::Join, "news", 0), Some(Known::Allow));
        for (verb, channel) in [(Verb::Join, "newsletter"), (Verb::Leave, "news")] {
            assert_eq!(grants.known(7, verb, channel, 0), None);
        }
        grants.grant(7, allow(&["other"]), None);
        assert_eq!(grants.pattern(7, Verb::Join, "news"), None);
        for slot in 0..1_000 {
            grants.lapse(slot);
        }
        assert_eq!((grants.allows(), grants.holders()), (0, 0));
    }

    #[test]
    fn without_grants_nothing_is_held() {
        let mut grants = Grants::default();
        grants.grant(1_000_000, None, None);
        grants.remember(1_000_000, (Verb::Join, "a"), Remembrance::Yes, 0, 0);
        grants.forget(1_000_000, "a");
        assert!(!grants.is_due(1_000_000, 1));
        assert_eq!(grants.known(1_000_000, Verb::Join, "a", 0), None);
        let capacities = [
            grants.allow.capacity(),
            grants.remembered.capacity(),
            grants.refresh.capacity(),
        ];
        assert_eq!(capacities, [0; 3]);
    }

    #[test]
    fn new_grants_end_what_is_remembered() {
        let mut grants = Grants::default();
        grants.grant(3, None, Some(500));
        grants.remember(3, (Verb::Join, "a"), Remembrance::Yes, 60, 0);
        let yes = Known::Remembered(Remembrance::Yes);
        assert_eq!(grants.known(3, Verb::Join, "a", 0), Some(yes));
        let due = [499, 500].map(|now| grants.is_due(3, now));
        assert_eq!(due, [false, true]);
        grants.grant(3, allow(&["b"]), None);
        assert_eq!(grants.known(3, Verb::Join, "a", 0), None);
        assert_eq!(grants.refresh_at(3), None);
    }
}
