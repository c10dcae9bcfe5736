//! What all threads that call have in common: a stack, and how a lock is taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The stack of a thread that calls. TLS and a head's lines need less than a third of it. glibc keeps up to 40 MiB of stacks of
/// threads that have ended, each with 28 KiB of memory in use. Of larger stacks it keeps fewer. At 2 MiB they could become huge pages.
pub const STACK: usize = 1536 * 1024;

/// Takes a lock, even if it is poisoned. Nothing panics while it holds one of these locks, and if it did, the values would
/// still be whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
