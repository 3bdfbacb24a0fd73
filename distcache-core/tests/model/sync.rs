//! What `src/sync.rs` is to the library, in the hands of the scheduler that explores interleavings.

pub(crate) use std::sync::OnceLock;

use shuttle::sync::PoisonError;
pub(crate) use shuttle::sync::{
    Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
pub(crate) struct Padded<T>(pub(crate) T);

/// All simulated threads share one lane: they are one thread to the operating system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane;

impl Lane {
    pub(crate) const OWN: usize = 0;

    pub(crate) fn current() -> Self {
        Self
    }

    pub(crate) fn number(self) -> usize {
        0
    }

    pub(crate) fn is_shared(self) -> bool {
        true
    }
}
