//! What all threads that call have in common: a stack, and how a lock is taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The stack of a thread that calls. Most of what it needs is TLS, and a head's lines.
pub const STACK: usize = 512 * 1024;

/// Takes a lock, even if it is poisoned. Nothing panics while it holds one of these locks, and if it did, the values would
/// still be whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
