//! Which shard of the broker has a channel, and what each shard can do.
//!
//! Owns: the slots, the shards' links as far as the hub knows them, and what is counted by shard. Knows: how names are
//! spread over slots. Never knows: redis, or which channels there are.
//!
//! One redis is one shard with one slot. A cluster has 16,384 slots, which move between its shards. What changes for a
//! slot (its shard, or that shard's listening link) makes the subscriptions of its channels void, and no other ones.

pub mod saved;

use std::ops::RangeInclusive;
use std::rc::Rc;

use crate::effect::ShardId;
use crate::metrics::ShardGauge;
use crate::wire::hash_slot;

/// Names of shards that are counted. A cluster that names more has invented most of them.
const MOST_NAMES: usize = 4_096;

#[derive(Clone, Copy, Debug, Default)]
struct HashSlot {
    shard: Option<ShardId>,
    /// Subscriptions of its channels below this one are void.
    since: u64,
    /// Channels with members that miss what is published.
    missing: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shard {
    /// It takes what is published.
    publishing: bool,
    /// It brings what is subscribed.
    listening: bool,
    /// Where it is counted.
    name: Option<usize>,
}

impl Shard {
    fn is_up(self) -> bool {
        self.publishing && self.listening
    }
}

/// What is counted for all shards that had this name, one after another.
#[derive(Debug)]
struct Named {
    name: Rc<str>,
    /// It has been up.
    known: bool,
    up: bool,
    reconnections: u64,
    gaps: u64,
}

/// The shards of a broker that is shared with other servers.
#[derive(Debug)]
pub struct Shards {
    /// What stands before each name where they are spread over slots. `None`: there is one slot for all.
    prefix: Option<String>,
    slots: Vec<HashSlot>,
    shards: Vec<Shard>,
    names: Vec<Named>,
    /// Slots whose channels cannot be published to, or are not listened to.
    away: usize,
    /// Channels with members that miss what is published, in all slots.
    missing: usize,
}

impl Shards {
    /// All slots are no shard's yet. `prefix`: as names are spread over the slots of a cluster; `None` for one redis.
    pub fn new(prefix: Option<String>) -> Shards {
        let slots = match prefix {
            Some(_) => usize::from(hash_slot::HASH_SLOTS),
            None => 1,
        };
        Shards {
            prefix,
            slots: vec![HashSlot::default(); slots],
            shards: Vec::new(),
            names: Vec::new(),
            away: slots,
            missing: 0,
        }
    }

    /// The slot of a channel.
    pub fn slot_of(&self, channel: &str) -> u16 {
        let prefix = self.prefix.as_ref();
        prefix.map_or(0, |prefix| {
            hash_slot::hash_slot(prefix.as_bytes(), channel.as_bytes())
        })
    }

    /// A shard is counted under this name from now on, and its links are away; or it exists no more.
    pub fn name(&mut self, id: ShardId, name: Option<Rc<str>>) {
        let Some(name) = name else {
            return self.change(id, |shard| *shard = Shard::default());
        };
        let known = self.names.iter().position(|named| named.name == name);
        let at = known.or_else(|| {
            let room = self.names.len() < MOST_NAMES;
            room.then(|| {
                self.names.push(Named {
                    name,
                    known: false,
                    up: false,
                    reconnections: 0,
                    gaps: 0,
                });
                self.names.len().saturating_sub(1)
            })
        });
        self.change(id, |shard| shard.name = at);
    }

    /// A shard takes what is published from now on, or not.
    pub fn set_publishing(&mut self, id: ShardId, up: bool) {
        self.change(id, |shard| shard.publishing = up);
    }

    /// A shard brings what is subscribed from now on, or not. In either case nothing is; `since` is the first subscription
    /// that is not void.
    pub fn set_listening(&mut self, id: ShardId, up: bool, since: u64) {
        self.change(id, |shard| shard.listening = up);
        for slot in self.slots.iter_mut().filter(|it| it.shard == Some(id)) {
            self.missing = self.missing.saturating_sub(slot.missing as usize);
            (slot.since, slot.missing) = (since, 0);
        }
    }

    fn change(&mut self, id: ShardId, change: impl FnOnce(&mut Shard)) {
        let at = usize::from(id.0);
        if at >= self.shards.len() {
            let more = at.saturating_add(1);
            self.shards.resize(more, Shard::default());
        }
        let Some(shard) = self.shards.get_mut(at) else {
            return;
        };
        let before = *shard;
        change(shard);
        let now = *shard;
        if let Some(named) = now.name.and_then(|name| self.names.get_mut(name)) {
            let back = now.is_up() && !before.is_up() && named.known;
            named.reconnections = named.reconnections.saturating_add(u64::from(back));
            named.up = now.is_up();
            named.known |= named.up;
        }
        if before.is_up() != now.is_up() {
            let slots = self.slots.iter().filter(|slot| slot.shard == Some(id));
            self.away = if now.is_up() {
                self.away.saturating_sub(slots.count())
            } else {
                self.away.saturating_add(slots.count())
            };
        }
    }

    /// These slots are this shard's from now on, or no shard's, and nothing of them is subscribed.
    pub fn assign(&mut self, slots: RangeInclusive<u16>, shard: Option<ShardId>, since: u64) {
        let (first, last) = (usize::from(*slots.start()), usize::from(*slots.end()));
        let last = last.min(self.slots.len().saturating_sub(1));
        for at in first..=last {
            let before = self.is_up(at);
            if let Some(slot) = self.slots.get_mut(at) {
                self.missing = self.missing.saturating_sub(slot.missing as usize);
                let missing = 0;
                *slot = HashSlot {
                    shard,
                    since,
                    missing,
                };
            }
            self.away = match (before, self.is_up(at)) {
                (true, false) => self.away.saturating_add(1),
                (false, true) => self.away.saturating_sub(1),
                _ => self.away,
            };
        }
    }

    fn shard(&self, slot: usize) -> Option<Shard> {
        let id = self.slots.get(slot)?.shard?;
        self.shards.get(usize::from(id.0)).copied()
    }

    fn is_up(&self, slot: usize) -> bool {
        self.shard(slot).is_some_and(Shard::is_up)
    }

    /// Whether the channels of a slot can be published to, and are listened to.
    pub fn is_available(&self, slot: u16) -> bool {
        self.is_up(slot.into())
    }

    /// Whether the channels of a slot are brought once they are subscribed.
    pub fn is_listening(&self, slot: u16) -> bool {
        self.shard(slot.into()).is_some_and(|shard| shard.listening)
    }

    /// The first subscription of the slot's channels that is not void.
    pub fn since(&self, slot: u16) -> u64 {
        self.slots.get(usize::from(slot)).map_or(0, |it| it.since)
    }

    /// The members of a channel of this slot missed what is published before, or not, and do now, or not.
    pub fn count_missing(&mut self, slot: u16, before: bool, now: bool) {
        let (before, now) = (u32::from(before), u32::from(now));
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            self.missing = self.missing.saturating_sub(slot.missing as usize);
            slot.missing = slot.missing.saturating_sub(before).saturating_add(now);
            self.missing = self.missing.saturating_add(slot.missing as usize);
        }
    }

    /// The members of a channel of this slot may have missed messages.
    pub fn count_gap(&mut self, slot: u16) {
        let name = self.shard(slot.into()).and_then(|shard| shard.name);
        if let Some(named) = name.and_then(|name| self.names.get_mut(name)) {
            named.gaps = named.gaps.saturating_add(1);
        }
    }

    /// Whether all slots are available, and no members miss what is published.
    pub fn are_complete(&self) -> bool {
        self.away == 0 && self.missing == 0
    }

    /// What `/metrics` shows of each shard. One that is gone has only its counters left.
    pub fn gauges(&self) -> Vec<ShardGauge> {
        let current: Vec<usize> = self.shards.iter().filter_map(|s| s.name).collect();
        let gauge = |(at, named): (usize, &Named)| ShardGauge {
            name: Rc::clone(&named.name),
            up: current.contains(&at).then_some(named.up),
            reconnections: named.reconnections,
            gaps: named.gaps,
        };
        self.names.iter().enumerate().map(gauge).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ShardId = ShardId(0);
    const TWO: ShardId = ShardId(1);

    /// Two shards, up, with half of the slots each.
    fn cluster() -> Shards {
        let mut shards = Shards::new(Some("app:".into()));
        for (id, slots) in [(ONE, 0..=8_191), (TWO, 8_192..=16_383)] {
            shards.name(id, Some(format!("node {}", id.0).into()));
            shards.assign(slots, Some(id), 1);
            shards.set_publishing(id, true);
            assert!(!shards.are_complete());
            shards.set_listening(id, true, 1);
        }
        assert!(shards.are_complete());
        shards
    }

    #[test]
    fn a_shard_that_is_away_takes_only_its_slots_with_it() {
        let mut shards = cluster();
        shards.count_missing(1, false, true);
        shards.count_missing(9_000, false, true);
        assert!(!shards.are_complete());
        shards.count_missing(9_000, true, false);
        shards.set_listening(ONE, false, 7);
        assert!(!shards.is_available(8_191) && shards.is_available(8_192));
        assert_eq!((shards.since(0), shards.since(8_192)), (7, 1));
        shards.set_listening(ONE, true, 9);
        // Its channels are asked for again.
        assert!(shards.are_complete());
        shards.set_publishing(TWO, false);
        assert!(shards.is_listening(9_000) && !shards.is_available(9_000));
        shards.set_publishing(TWO, true);
        let gauges = shards.gauges();
        let reconnections: Vec<u64> = gauges.iter().map(|it| it.reconnections).collect();
        assert_eq!(reconnections, [1, 1]);
    }

    #[test]
    fn slots_move() {
        let mut shards = cluster();
        shards.count_missing(5, false, true);
        shards.assign(5..=6, None, 3);
        assert!(!shards.are_complete() && !shards.is_listening(5) && shards.is_available(7));
        shards.assign(5..=6, Some(TWO), 4);
        assert!(shards.are_complete());
        assert_eq!(
            (shards.since(4), shards.since(5), shards.since(7)),
            (1, 4, 1)
        );
        shards.count_gap(5);
        assert_eq!(shards.gauges()[1].gaps, 1);
        // Nonsense harms nothing.
        shards.assign(16_000..=u16::MAX, Some(ShardId(9)), 5);
        assert!(!shards.is_available(16_000));
    }

    #[test]
    fn one_redis_is_one_slot() {
        let mut shards = Shards::new(None);
        assert_eq!(shards.slot_of("hello"), 0);
        assert!(!shards.are_complete());
        shards.assign(0..=0, Some(ONE), 1);
        shards.set_publishing(ONE, true);
        shards.set_listening(ONE, true, 1);
        assert!(shards.are_complete());
    }

    #[test]
    fn a_shard_that_changes_its_name_is_counted_under_the_new_one() {
        let mut shards = Shards::new(None);
        shards.assign(0..=0, Some(ONE), 1);
        for name in ["a", "b", "a"] {
            shards.set_publishing(ONE, false);
            shards.set_listening(ONE, false, 1);
            shards.name(ONE, Some(name.into()));
            shards.set_publishing(ONE, true);
            shards.set_listening(ONE, true, 1);
        }
        let gauges = shards.gauges();
        let shown: Vec<_> = gauges
            .iter()
            .map(|it| (&*it.name, it.up, it.reconnections))
            .collect();
        assert_eq!(shown, [("a", Some(true), 1), ("b", None, 0)]);
        for number in 0..MOST_NAMES * 2 {
            shards.name(ONE, Some(number.to_string().into()));
        }
        assert_eq!(shards.gauges().len(), MOST_NAMES);
    }
}
