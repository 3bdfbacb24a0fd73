//! What leaves a cache: gathered under the lock, told to the listener and dropped after it.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
};

use crate::{flight::Flight, store::Entry, sync::Arc};

/// Why an entry left a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The space was wanted.
    Evicted,
    /// Its time to live or to idle was over.
    Expired,
    /// Another value was stored under its key.
    Replaced,
    /// A call took it out: `remove`, `retain`, `invalidate_where`, or an insert that stores nothing.
    Removed,
    /// The cache was cleared.
    Cleared,
}

/// Who hears of entries that leave.
pub(crate) type ListenFn<K, V> = dyn Fn(&K, &V, Cause) + Send + Sync;

/// What is to be dropped after the lock, since dropping a key or a value is user code.
#[must_use = "dropping garbage under a lock runs user code under it"]
pub(crate) struct Garbage<K, V> {
    /// Most calls leave one entry at most, which then costs no allocation.
    first: Option<Gone<K, V>>,
    others: Vec<Gone<K, V>>,
    /// Values that were never stored, and keys.
    unused: Vec<(K, V)>,
    flights: Vec<Arc<Flight<K, V>>>,
}

struct Gone<K, V> {
    key: K,
    value: V,
    cause: Cause,
}

impl<K, V> Garbage<K, V> {
    pub(crate) const fn new() -> Self {
        Self { first: None, others: Vec::new(), unused: Vec::new(), flights: Vec::new() }
    }

    pub(crate) fn entry(&mut self, entry: Entry<K, V>, cause: Cause) {
        self.pair(entry.key, entry.value, cause);
    }

    pub(crate) fn pair(&mut self, key: K, value: V, cause: Cause) {
        let gone = Gone { key, value, cause };
        if self.first.is_none() {
            self.first = Some(gone);
        } else {
            self.others.push(gone);
        }
    }

    /// Takes what was never in the cache.
    pub(crate) fn unused(&mut self, key: K, value: V) {
        self.unused.push((key, value));
    }

    pub(crate) fn flight(&mut self, flight: Arc<Flight<K, V>>) {
        self.flights.push(flight);
    }

    /// Tells the listener of every entry, in the order they left, and drops all. Called under no lock.
    ///
    /// Should the listener panic, it is still told of the others; then the panic goes on.
    pub(crate) fn discard(self, listener: Option<&ListenFn<K, V>>) {
        let Some(listener) = listener else { return };
        let mut panicked = None;
        for gone in self.first.iter().chain(&self.others) {
            let told = panic::catch_unwind(AssertUnwindSafe(|| listener(&gone.key, &gone.value, gone.cause)));
            panicked = panicked.or_else(|| told.err());
        }
        drop(self);
        if let Some(panic) = panicked {
            panic::resume_unwind(panic);
        }
    }
}

impl<K, V> fmt::Debug for Garbage<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = usize::from(self.first.is_some()) + self.others.len();
        f.debug_struct("Garbage")
            .field("entries", &entries)
            .field("flights", &self.flights.len())
            .finish_non_exhaustive()
    }
}
