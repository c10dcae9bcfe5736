//! Returns free memory to the kernel.
//!
//! Owns: when the heap is trimmed. Knows: the C library's allocator. Never knows: what the memory was used for.
//!
//! Decision: free pages are returned a few seconds after the last activity, rather than leaving it to the allocator.
//! glibc returns only memory at the end of a heap. When connections come and go (`tests/load/soak.py`), free pages
//! between used ones accumulate. Chosen over another allocator, because jemalloc and mimalloc need more memory per
//! connection. Trimming takes milliseconds at most. Empty buffers that are kept for later are freed first: after a rush
//! they would hold 100 bytes per connection in pages that contain nothing else. The same goes for the allocations that glibc
//! keeps for this thread, 40 bytes per connection. Reconsider when it makes turns longer (the metric
//! `wsify_loop_turn_longest_seconds`).

#[cfg(target_env = "gnu")]
use std::thread;

use crate::clock::Millis;

/// Time from an activity to trimming. Idle workers have ended by then, unless the authorizer's `Keep-Alive` is longer.
const DELAY: Millis = 5_000;

/// Time from emptying the cache to trimming. The thread that empties it has ended long before.
const EMPTYING: Millis = 100;

/// Heaps shared by all threads.
#[cfg(target_env = "gnu")]
const HEAPS: i32 = 2;

/// Sizes of allocations that glibc keeps for each thread when they are freed, and how many of each at most (malloc(3), "tcache").
#[cfg(target_env = "gnu")]
const CACHED_SIZES: std::ops::RangeInclusive<usize> = 24..=1032;
#[cfg(target_env = "gnu")]
const CACHED: usize = 16;

/// When to trim the heap next.
#[derive(Debug, Default)]
pub struct Heap {
    at: Option<Millis>,
    /// There was activity since `at` was set.
    again: bool,
    /// What is free is out of all caches, so that trimming is next.
    is_emptied: bool,
}

impl Heap {
    /// Notes the end of a turn. `active`: it may have freed memory. `free_spares` is called before the heap is trimmed.
    pub fn turn(&mut self, now: Millis, active: bool, free_spares: impl FnOnce()) {
        self.again |= active && self.at.is_some();
        if self.at.is_some_and(|at| at <= now) {
            self.at = if std::mem::take(&mut self.is_emptied) {
                trim();
                std::mem::take(&mut self.again).then_some(now + DELAY)
            } else {
                free_spares();
                empty_cache();
                self.is_emptied = true;
                Some(now + EMPTYING)
            };
        } else if active && self.at.is_none() {
            self.at = Some(now + DELAY);
        }
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.at
    }
}

/// Makes all threads share a few heaps. To be called before the first thread starts.
///
/// Otherwise each thread gets its own heap, up to eight for each processor. Values that cross between the loop and the
/// authorizer's workers would then keep pages of all heaps in use.
#[cfg(target_env = "gnu")]
pub fn share() {
    // SAFETY: mallopt(3) takes two numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn share() {}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim(3) takes and keeps no pointer, and is MT-Safe. It locks each heap as malloc does, and
    // releases only pages in which nothing is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Empties the cache of this thread, whose allocations keep their pages in use. Only the end of a thread empties its cache.
/// So what is in this thread's is allocated, and freed by one that ends. Nothing waits for that one.
#[cfg(target_env = "gnu")]
fn empty_cache() {
    let sizes = CACHED_SIZES.step_by(16);
    let allocated: Vec<Vec<u8>> = sizes
        .flat_map(|size| std::iter::repeat_with(move || Vec::with_capacity(size)).take(CACHED))
        .collect();
    let thread = thread::Builder::new().name("heap".into());
    // If no thread can be started, the cache stays as it is.
    let _ = thread.spawn(move || drop(allocated));
}

/// musl's allocator returns free memory by itself.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(not(target_env = "gnu"))]
fn empty_cache() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_trimmed_until_activity_has_ceased() {
        let mut heap = Heap::default();
        let mut trims = 0;
        let mut turn = |heap: &mut Heap, now, active| heap.turn(now, active, || trims += 1);
        turn(&mut heap, 0, false);
        assert_eq!(heap.next_deadline(), None);
        turn(&mut heap, 5, true);
        assert_eq!(heap.next_deadline(), Some(5 + DELAY));
        turn(&mut heap, 5 + DELAY, false);
        assert_eq!(heap.next_deadline(), Some(5 + DELAY + EMPTYING));
        turn(&mut heap, 5 + DELAY + EMPTYING, false);
        assert_eq!(heap.next_deadline(), None);

        let begun = 1_000 + DELAY;
        turn(&mut heap, begun, true);
        turn(&mut heap, begun + 1, true);
        assert_eq!(heap.next_deadline(), Some(begun + DELAY));
        turn(&mut heap, begun + DELAY, false);
        let trimmed = begun + DELAY + EMPTYING;
        assert_eq!(heap.next_deadline(), Some(trimmed));
        turn(&mut heap, trimmed, false);
        let last = heap.next_deadline().expect("there was activity meanwhile");
        assert_eq!(last, trimmed + DELAY);
        turn(&mut heap, last, false);
        turn(&mut heap, last + EMPTYING, false);
        assert_eq!(heap.next_deadline(), None);
        assert_eq!(trims, 3);
    }
}
