//! Counters, histograms and recent maxima in a snapshot.
//!
//! Owns: the labels that only a snapshot has named. Never knows: what is counted.
//!
//! A counter is saved with its labels as texts. A label that no code of this release names, because another release has
//! counted it, is kept for as long as the process runs. There are few, and no more than [`LABELS`].

use std::sync::Mutex;
use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::metrics::{Counters, Histogram, Longest};

/// Labels that are kept.
const LABELS: usize = 1_000;
/// A count beyond this one is not a count: behind it is room for what is counted on top of it, and for sums.
const MAX_COUNT: u64 = 1 << 58;
/// A sum of what was observed likewise: 146 years in nanoseconds.
const MAX_SUM: u64 = 1 << 62;

/// Texts of labels that came with a snapshot, each once.
static KEPT: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// A label to count by. `None`: there are too many.
fn label(text: &str) -> Option<&'static str> {
    let mut kept = KEPT.lock().ok()?;
    if let Some(found) = kept.iter().find(|it| ***it == *text) {
        return Some(found);
    }
    if kept.len() >= LABELS || text.len() > 64 {
        return None;
    }
    let text: &'static str = String::leak(text.to_owned());
    kept.push(text);
    Some(text)
}

/// What is counted by: one label, or two.
pub trait CounterKey: Copy + PartialEq {
    fn texts(self) -> Vec<String>;
    fn parse(texts: &[&'static str]) -> Option<Self>;
}

impl CounterKey for &'static str {
    fn texts(self) -> Vec<String> {
        vec![self.to_owned()]
    }

    fn parse(texts: &[&'static str]) -> Option<Self> {
        match texts {
            [text] => Some(text),
            _ => None,
        }
    }
}

impl CounterKey for [&'static str; 2] {
    fn texts(self) -> Vec<String> {
        self.map(str::to_owned).into()
    }

    fn parse(texts: &[&'static str]) -> Option<Self> {
        texts.try_into().ok()
    }
}

impl CounterKey for (&'static str, u16) {
    fn texts(self) -> Vec<String> {
        vec![self.0.to_owned(), self.1.to_string()]
    }

    fn parse(texts: &[&'static str]) -> Option<Self> {
        match texts {
            [text, number] => Some((text, number.parse().ok()?)),
            _ => None,
        }
    }
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedCounter {
    #[cbor(n(0), default)]
    labels: Vec<String>,
    #[cbor(n(1), default)]
    count: u64,
}

impl<K: CounterKey> Counters<K> {
    pub fn save(&self) -> Vec<SavedCounter> {
        let saved = |(key, count): (K, u64)| SavedCounter {
            labels: key.texts(),
            count,
        };
        self.iter().map(saved).collect()
    }

    pub fn restore(&mut self, saved: &[SavedCounter]) {
        for SavedCounter { labels, count } in saved {
            let count = (*count).min(MAX_COUNT);
            let mut keys = self.iter().map(|(key, _)| key);
            let known = keys.find(|key| key.texts() == *labels);
            drop(keys);
            let kept = || {
                let labels: Option<Vec<_>> = labels.iter().map(|it| label(it)).collect();
                K::parse(&labels?)
            };
            if let Some(key) = known.or_else(kept) {
                self.set(key, count);
            }
        }
    }
}

/// What a histogram observes, as a number.
pub trait Measure: Copy + Ord {
    fn number(self) -> u64;
    fn of(number: u64) -> Self;
}

impl Measure for u64 {
    fn number(self) -> u64 {
        self
    }

    fn of(number: u64) -> u64 {
        number
    }
}

/// In nanoseconds.
impl Measure for Duration {
    fn number(self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn of(number: u64) -> Duration {
        Duration::from_nanos(number)
    }
}

#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedHistogram {
    #[cbor(n(0), default)]
    bounds: Vec<u64>,
    /// One for each bound, and one for what exceeds them all.
    #[cbor(n(1), default)]
    counts: Vec<u64>,
    #[cbor(n(2), default)]
    sum: u64,
}

impl<T: Measure> Histogram<T> {
    pub fn save(&self) -> SavedHistogram {
        let Histogram {
            bounds,
            counts,
            sum,
        } = self;
        SavedHistogram {
            bounds: bounds.iter().map(|bound| bound.number()).collect(),
            counts: counts.clone(),
            sum: sum.number(),
        }
    }

    /// Where the bounds are other ones than those of the release that has counted, each value counts as its old bound.
    pub fn restore(&mut self, saved: &SavedHistogram) {
        self.counts.fill(0);
        for (at, count) in saved.counts.iter().enumerate() {
            let value = saved.bounds.get(at).map_or(u64::MAX, |bound| *bound);
            let bucket = self.bounds.partition_point(|bound| bound.number() < value);
            if let Some(sum) = self.counts.get_mut(bucket) {
                *sum = sum.saturating_add(*count).min(MAX_COUNT);
            }
        }
        self.sum = T::of(saved.sum.min(MAX_SUM));
    }
}

#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedLongest {
    #[cbor(n(0), default)]
    minute: u64,
    /// In nanoseconds.
    #[cbor(n(1), default)]
    this: u64,
    /// In nanoseconds.
    #[cbor(n(2), default)]
    last: u64,
}

impl Longest {
    pub fn save(&self) -> SavedLongest {
        let Longest { minute, this, last } = self;
        SavedLongest {
            minute: *minute,
            this: this.number(),
            last: last.number(),
        }
    }

    pub fn restore(saved: &SavedLongest) -> Longest {
        Longest {
            minute: saved.minute,
            this: Duration::from_nanos(saved.this),
            last: Duration::from_nanos(saved.last),
        }
    }
}
