//! What counts and measures: counters by label, histograms, recent maxima.

use std::ops::AddAssign;
use std::time::Duration;

/// Counters, one for each key.
#[derive(Debug)]
pub struct Counters<K>(Vec<(K, u64)>);

impl<K: Copy + PartialEq> Counters<K> {
    /// Counters of zero for `keys`, the frequent ones in front.
    pub(super) fn of(keys: &[K]) -> Counters<K> {
        Counters(keys.iter().map(|&key| (key, 0)).collect())
    }

    /// Begins at zero for `keys` that are not there.
    pub fn preset(&mut self, keys: &[K]) {
        for &key in keys {
            if !self.0.iter().any(|(known, _)| *known == key) {
                self.0.push((key, 0));
            }
        }
    }

    /// Counts one more. A key that was not there begins at zero. Keys must be few: none may come from a client.
    pub fn add(&mut self, key: K) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => self.0.push((key, 1)),
        }
    }

    /// Goes on from this count of `key`.
    pub(super) fn set(&mut self, key: K, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, now)) => *now = count,
            None => self.0.push((key, count)),
        }
    }

    /// The count of `key`.
    pub fn get(&self, key: K) -> u64 {
        self.iter()
            .find(|(known, _)| *known == key)
            .map_or(0, |(_, count)| count)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.0.iter().copied()
    }
}

/// The longest of the last minute or two: of this minute and the one before it.
#[derive(Debug, Default)]
pub struct Longest {
    pub(super) minute: u64,
    pub(super) this: Duration,
    pub(super) last: Duration,
}

impl Longest {
    /// Observes a duration. `now` is on any clock that began with the process.
    pub fn observe(&mut self, now: Duration, duration: Duration) {
        let minute = now.as_secs() / 60;
        if minute != self.minute {
            self.last = match minute.saturating_sub(self.minute) {
                1 => self.this,
                _ => Duration::ZERO,
            };
            (self.minute, self.this) = (minute, Duration::ZERO);
        }
        self.this = self.this.max(duration);
    }

    /// The longest duration of this minute and the one before, at `now`.
    pub fn at(&self, now: Duration) -> Duration {
        match (now.as_secs() / 60).saturating_sub(self.minute) {
            0 => self.this.max(self.last),
            1 => self.this,
            _ => Duration::ZERO,
        }
    }
}

/// Values, durations or sizes, counted by the first bound that they do not exceed.
#[derive(Debug)]
pub struct Histogram<T: 'static = Duration> {
    pub(super) bounds: &'static [T],
    /// One for each bound, and one for what exceeds them all.
    pub(super) counts: Vec<u64>,
    pub(super) sum: T,
}

impl<T: Copy + Default + Ord + AddAssign> Histogram<T> {
    /// `bounds` ascend.
    pub(super) fn new(bounds: &'static [T]) -> Histogram<T> {
        Histogram {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: T::default(),
        }
    }

    pub fn observe(&mut self, value: T) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
    }

    /// Values observed.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> T {
        self.sum
    }
}
