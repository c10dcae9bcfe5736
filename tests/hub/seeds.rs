//! How a simulation is run: which seeds are played, on how many threads, and what is reported of those that fail.
//!
//! `WSIFY_SEEDS=10000 cargo test --profile checked --test hub simulation` plays more seeds of every simulation.
//! `WSIFY_SEED=123 cargo test --test hub grants_simulation` repeats one seed of one of them. With `WSIFY_FAILURES=1` all of
//! them end once one seed has failed. `tests/source/mutants.rs` shows that the simulations find faults.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::rig::Rig;

/// No more seeds of a simulation are played after so many that fail.
const FAILURES: usize = 5;
/// Seeds of all simulations that have failed.
static FAILED: AtomicUsize = AtomicUsize::new(0);

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
    let most = number("WSIFY_FAILURES").map_or(usize::MAX, |most| most as usize);
    let goes_on = |failed: usize| failed < FAILURES && FAILED.load(Ordering::Relaxed) < most;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let next = AtomicU64::new(from);
    let sum = Mutex::new(S::default());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while goes_on(failed.lock().unwrap().len()) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return;
            }
            match catch_unwind(|| play(seed)) {
                Ok(one) => sum.lock().unwrap().add(one),
                Err(_) => {
                    eprintln!("seed {seed}");
                    FAILED.fetch_add(1, Ordering::Relaxed);
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
    let tried = next.into_inner().min(from + count) - from;
    if let Some(seed) = failed.iter().min() {
        let name = module.trim_start_matches("hub::");
        panic!(
            "{failed:?} of {tried} seeds fail; again: WSIFY_SEED={seed} cargo test --test hub -- --exact {name}::simulation"
        );
    }
    let sum = sum.into_inner().unwrap();
    println!("{tried} seeds: {sum:?}");
    (tried >= usual).then_some(sum)
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

/// Handovers of one seed at most: each is checked, which takes its time.
const HANDOVERS: usize = 50;

/// Has the hub replaced between any two of its doors now and then, with every second seed.
pub fn hand_over_now_and_then(rig: &mut Rig, seed: u64) {
    let mut dice = Dice(!seed);
    if dice.chance(50) {
        return;
    }
    let mut left = HANDOVERS;
    rig.between_doors = Some(Box::new(move |rig| {
        if left > 0 && dice.chance(1) {
            left -= 1;
            rig.hand_over();
        }
    }));
}
