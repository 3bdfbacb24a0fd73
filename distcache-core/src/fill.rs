//! The leader's side of a load: [`Fill`].

use std::{any::Any, fmt};

use crate::{
    error::Failure, expiry::Expiry, flight::Flight, follower::Follower, garbage::Garbage, hash::SecretState,
    inner::Inner, shard::Shard, sync::Arc,
};

/// The duty to load a key, of which the cache gives out one at a time.
///
/// It ends with [`install`](Self::install), [`deliver`](Self::deliver) or [`fail`](Self::fail). If it is dropped before, by a
/// cancelled future or a panic, the duty passes to the follower that has waited longest; if there is none, the
/// next lookup starts anew. So nobody waits for a leader that is gone.
///
/// It is a fence, too: the flight was registered before this guard was given out, so whatever the leader reads from now on is at
/// least as new as the registration. If the key is written, removed or cleared in between, what was read
/// is handed to those who waited, and is not stored.
///
/// # Examples
///
/// ```
/// use distcache_core::{Cache, Expiry, Installed, Lookup};
///
/// let cache = Cache::<String, String>::builder(1 << 20).build()?;
/// let Lookup::Lead(fill) = cache.lookup("user") else { panic!("nothing is cached yet") };
/// let read = String::from("alice, as of now");
///
/// // Someone deletes the user meanwhile: the value that was read must not stay.
/// cache.remove("user");
/// assert_eq!(fill.install(read, Expiry::Default), Installed::Poisoned);
/// assert_eq!(cache.get("user"), None);
/// # Ok::<_, distcache_core::BuildError>(())
/// ```
#[must_use = "dropping a fill passes the load on to another caller"]
pub struct Fill<K, V, S = SecretState> {
    inner: Arc<Inner<K, V, S>>,
    flight: Arc<Flight<K, V>>,
    ended: bool,
}

/// What became of a loaded value. Those who waited have it in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Installed {
    /// It is in the cache.
    Stored,
    /// Its key was written or removed since the load began.
    Poisoned,
    /// The cache was cleared since the load began.
    Stale,
    /// It is larger than what one shard may hold. Nothing was evicted.
    TooLarge,
    /// It was given no time to live.
    Expired,
}

impl<K, V, S> Fill<K, V, S> {
    pub(crate) fn new(inner: Arc<Inner<K, V, S>>, flight: Arc<Flight<K, V>>) -> Self {
        Self { inner, flight, ended: false }
    }

    /// Returns the key to be loaded.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.flight.key
    }

    /// Says whether the key was written, removed or cleared since the load began, so that its value will not be stored.
    ///
    /// `false` may be out of date when it is returned; only [`install`](Self::install) decides.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.flight.is_poisoned() || self.flight.epoch != self.inner.epoch()
    }

    /// Joins the load that this fill leads, so that the leader can have another task load and wait like anyone.
    pub fn follower(&self) -> Follower<K, V, S> {
        Follower::new(Arc::clone(&self.inner), Arc::clone(&self.flight), self.flight.join())
    }

    /// Hands a value to all who wait, and stores nothing.
    pub fn deliver(mut self, value: V) {
        self.detach(|_| {});
        self.end(Ok(value));
    }

    /// Hands an error to all who wait. The next lookup loads again.
    pub fn fail<E: Any + Send + Sync>(self, error: E) {
        self.fail_with(Failure::new(error));
    }

    pub(crate) fn fail_with(mut self, failure: Failure) {
        self.detach(Shard::note_failure);
        self.end(Err(failure));
    }

    fn detach(&self, note: impl FnOnce(&mut Shard<K, V>)) {
        let mut garbage = Garbage::new();
        let mut shard = self.inner.write(self.flight.place.shard);
        shard.detach(&self.flight, &mut garbage);
        note(&mut shard);
        drop(shard);
        self.inner.discard(garbage);
    }

    fn end(&mut self, outcome: Result<V, Failure>) {
        // First, so that a waker that panics does not make the drop hand on what has ended.
        self.ended = true;
        self.flight.end(outcome);
    }
}

impl<K: Eq + Clone, V: Clone, S> Fill<K, V, S> {
    /// Hands a value to all who wait, and stores it unless that is forbidden by now.
    ///
    /// The time to live counts from this call.
    ///
    /// # Panics
    ///
    /// Panics if the weigher, or cloning the key or the value, does. The load then passes on, as if the fill had been dropped.
    pub fn install(mut self, value: V, expiry: Expiry) -> Installed {
        let place = self.flight.place;
        let (now, deadline) = self.inner.write_time(expiry);
        let entry = self.inner.entry(place, self.flight.key.clone(), value.clone(), deadline);
        let mut garbage = Garbage::new();
        let installed = self.inner.write(place.shard).install(&self.flight, entry, now, &mut garbage);
        self.end(Ok(value));
        self.inner.discard(garbage);
        installed
    }
}

impl<K, V, S> Drop for Fill<K, V, S> {
    fn drop(&mut self) {
        if !self.ended {
            self.inner.abandon(&self.flight);
        }
    }
}

impl<K: fmt::Debug, V, S> fmt::Debug for Fill<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("key", self.key()).field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}
