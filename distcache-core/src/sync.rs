//! The one place where the crate takes its synchronisation from, so that a model checker can take its place.

pub(crate) use crate::lane::Lane;

pub(crate) use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use std::sync::PoisonError;

/// Locks `mutex`, whether or not a thread panicked while it held it.
///
/// The few calls of user code under a lock (`Eq`, `Clone`) are made while the guarded state is whole, so a panic in one of
/// them leaves nothing half done.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` for reading, beside other readers. See [`lock`].
pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` for writing. See [`lock`].
pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps `T` on cache lines of its own, so that threads at work on neighbours do not slow one another.
///
/// 128 bytes, because processors fetch cache lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);
