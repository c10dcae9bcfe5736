//! Memory that nobody uses any more, given back to the kernel.
//!
//! Owns: when that is done. Knows: the C library's allocator. Never knows: who has used it.
//!
//! Decision: pages in which nothing lies are given back some seconds after something has happened, over leaving that to the
//! allocator. Because glibc's gives back what lies at a heap's end only: where connections come and go (`tests/soak.py`) the
//! process grew by a quarter within eight minutes, all of it free memory between the used. And over another allocator:
//! jemalloc and mimalloc take 110 bytes more for each connection. It takes 0.7 ms where 7,500 holes lie between 7,500
//! pieces that are used (170 MB), and 8 ms when the holes (100 MB) are new. Reconsider when turns take longer because of
//! it (the metric `wsify_loop_turn_longest_seconds`).

use crate::clock::Millis;

/// How long after something has happened. By then an idle worker has ended, too, unless the authorizer's `Keep-Alive` lets
/// it rest longer.
const REST: Millis = 5_000;

/// Heaps for all threads together.
#[cfg(target_env = "gnu")]
const HEAPS: i32 = 2;

/// When to give back next.
#[derive(Debug, Default)]
pub struct Heap {
    at: Option<Millis>,
    /// Something has happened since that was planned.
    again: bool,
}

impl Heap {
    /// A turn is over. `happened`: something was done in it that may have left memory.
    pub fn turn(&mut self, now: Millis, happened: bool) {
        self.again |= happened && self.at.is_some();
        if self.at.is_some_and(|at| at <= now) {
            give_back();
            self.at = std::mem::take(&mut self.again).then_some(now + REST);
        } else if happened && self.at.is_none() {
            self.at = Some(now + REST);
        }
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.at
    }
}

/// To be called before there are threads: each would get a heap of its own, up to eight for each processor, and what crosses
/// between the loop and the authorizer's workers would keep pages of all of them.
#[cfg(target_env = "gnu")]
pub fn share() {
    // SAFETY: mallopt(3) takes two numbers, and no other thread is there.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn share() {}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, keeps none, and may be called by any thread at any time (it is MT-Safe): it
    // locks each heap as malloc does, and only takes pages in which nothing is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// musl's gives back by itself.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_until_all_has_rested() {
        let mut heap = Heap::default();
        heap.turn(0, false);
        assert_eq!(heap.next_deadline(), None);
        heap.turn(5, true);
        assert_eq!(heap.next_deadline(), Some(5 + REST));
        heap.turn(5 + REST, false);
        assert_eq!(heap.next_deadline(), None);

        let begun = 6 + REST;
        heap.turn(begun, true);
        heap.turn(begun + 1, true);
        assert_eq!(heap.next_deadline(), Some(begun + REST));
        heap.turn(begun + REST, false);
        let last = heap.next_deadline().expect("something happened meanwhile");
        assert!(last >= begun + 2 * REST);
        heap.turn(last, false);
        assert_eq!(heap.next_deadline(), None);
    }
}
