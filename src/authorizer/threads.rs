//! What all threads of the authorizer have in common: a stack, and how a lock is taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A worker's stack. Most of what it needs is TLS, and a head's lines.
pub(super) const STACK: usize = 512 * 1024;

/// Nothing panics while it holds one of these locks. If it did, the values would still be whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
