//! How a simulation is run: which seeds are played, on how many threads, and what is reported of those that fail.
//!
//! `WSIFY_SEEDS=10000 cargo test --profile checked --test hub simulation` plays more seeds of every simulation.
//! `WSIFY_SEED=123 cargo test --test hub grants_simulation` repeats one seed of one of them. `tests/source/mutants.rs` shows
//! that the simulations find faults.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rig::Rig;

/// No more seeds are played after so many that fail.
const FAILURES: usize = 5;

/// Plays `usual` seeds, or those that the environment asks for. Panics if seeds fail, and says how to repeat one.
///
/// Returns the sum of what was counted, if at least the usual number was played: a simulation that finds nothing means
/// something only if it has exercised every case.
pub fn run<S: Sum>(module: &str, usual: u64, play: fn(u64) -> S) -> Option<S> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number"))
    };
    let (from, count) = match number("WSIFY_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("WSIFY_SEEDS").unwrap_or(usual)),
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let next = AtomicU64::new(from);
    let sum = Mutex::new(S::default());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while failed.lock().unwrap().len() < FAILURES {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return;
            }
            match catch_unwind(|| play(seed)) {
                Ok(one) => sum.lock().unwrap().add(one),
                Err(_) => {
                    eprintln!("seed {seed}");
                    failed.lock().unwrap().push(seed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    if let Some(seed) = failed.iter().min() {
        let tried = next.into_inner().min(from + count) - from;
        let name = module.trim_start_matches("hub::");
        panic!(
            "{failed:?} of {tried} seeds fail; again: WSIFY_SEED={seed} cargo test --test hub -- --exact {name}::simulation"
        );
    }
    let sum = sum.into_inner().unwrap();
    println!("{count} seeds: {sum:?}");
    (count >= usual).then_some(sum)
}

/// What a seed counts, which is added up over all seeds.
pub trait Sum: Debug + Default + Send {
    fn add(&mut self, other: Self);
}

impl Sum for usize {
    fn add(&mut self, other: usize) {
        *self += other;
    }
}

impl Sum for BTreeMap<String, usize> {
    fn add(&mut self, other: BTreeMap<String, usize>) {
        for (name, count) in other {
            *self.entry(name).or_default() += count;
        }
    }
}

/// Makes a struct of sums a [`Sum`].
macro_rules! sum {
    ($(#[$about:meta])* struct $name:ident { $($(#[$doc:meta])* $field:ident: $sum:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        struct $name { $($(#[$doc])* $field: $sum,)* }

        impl $crate::seeds::Sum for $name {
            fn add(&mut self, other: $name) {
                $($crate::seeds::Sum::add(&mut self.$field, other.$field);)*
            }
        }
    };
}
pub(crate) use sum;

/// A seeded random generator (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Has the hub replaced between any two of its doors: with one half of all seeds never, with the others now and then, or
/// often.
pub fn hand_over_now_and_then(rig: &mut Rig, seed: u64) {
    let mut dice = Dice(!seed);
    let share = dice.of(&[0, 0, 1, 5]);
    if share > 0 {
        rig.between_doors = Some(Box::new(move |rig| {
            if dice.chance(share) {
                rig.hand_over();
            }
        }));
    }
}
