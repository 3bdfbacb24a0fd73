//! How a cache is set up.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
    num::NonZeroUsize,
    thread,
    time::Duration,
};

use crate::{
    cache::Cache,
    clock::{Clock, MonotonicClock},
    error::BuildError,
    garbage::{Cause, ListenFn},
    hash::SecretState,
    inner::{Inner, Parts},
    policy::Eviction,
    sync::Arc,
    weigh::{Scale, Weigh, WeighFn},
};

/// The settings of a cache to be.
///
/// Entries are weighed by [`Weigh`], or by a function given to [`weigher`](Self::weigher): `W` says which.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use distcache_core::Cache;
///
/// let cache = Cache::<u64, [f32; 64]>::builder(16 * 1024 * 1024)
///     .weigher(|_, _| 0) // Nothing lies behind pointers.
///     .default_ttl(Duration::from_secs(300))
///     .build()?;
/// assert!(cache.is_empty());
/// # Ok::<_, distcache_core::BuildError>(())
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct CacheBuilder<K, V, S = SecretState, W = ByWeigh> {
    capacity: u64,
    shards: Option<usize>,
    default_ttl: Option<Duration>,
    time_to_idle: Option<Duration>,
    eviction: Eviction,
    clock: Box<dyn Clock>,
    hasher: S,
    listener: Option<Box<ListenFn<K, V>>>,
    weigher: W,
    entries: PhantomData<fn() -> (K, V)>,
}

/// Marks a [`CacheBuilder`] whose cache weighs entries by [`Weigh`].
#[derive(Debug, Clone, Copy)]
pub struct ByWeigh(());

/// Marks a [`CacheBuilder`] whose cache weighs entries by a function of its user.
pub struct ByFunction<K, V>(Box<WeighFn<K, V>>);

/// Marks a [`CacheBuilder`] whose cache counts entries: see [`Cache::bounded_by_entries`].
#[derive(Debug, Clone, Copy)]
pub struct ByCount(());

impl ByWeigh {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl ByCount {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl<K, V, W> CacheBuilder<K, V, SecretState, W> {
    pub(crate) fn new(capacity: u64, weigher: W) -> Self {
        Self {
            capacity,
            shards: None,
            default_ttl: None,
            time_to_idle: None,
            eviction: Eviction::default(),
            clock: Box::new(MonotonicClock::new()),
            hasher: SecretState::new(),
            listener: None,
            weigher,
            entries: PhantomData,
        }
    }
}

impl<K, V, S, W> CacheBuilder<K, V, S, W> {
    /// Sets the number of shards, rounded up to a power of two; at most 65,536.
    ///
    /// Each shard has its own lock and its equal part of the capacity, and no entry can be larger than that part. Too few
    /// shards make threads wait for one another; too many refuse large entries and evict unevenly. Defaults to 32 per
    /// processor, or fewer, so that a shard has at least 2 MiB, or 1,024 entries where entries are counted.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Sets how long entries live that do not say themselves. Defaults to no end.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Sets how long entries are kept that nobody reads, whatever their time to live. Defaults to no end.
    ///
    /// A read (`get`, `get_many`, a lookup that hits) or a write of an entry starts its time anew; `peek`, `contains` and walks do
    /// not. Each read then notes the time, so that hits on one entry by several threads cost more.
    pub fn time_to_idle(mut self, span: Duration) -> Self {
        self.time_to_idle = Some(span);
        self
    }

    /// Sets which entries go when space is wanted. See [`Eviction`] for the choice and the default.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// Sets who hears of every entry that leaves the cache, once, with the [`Cause`]. Defaults to nobody.
    ///
    /// It runs in the call that made the entry leave, after that took effect, and under no lock; so it may call the cache, and a slow
    /// listener makes that call slow. Two calls at once may tell of one key in either order. What expired or was cleared leaves when it
    /// is met, or when its space is given back. Entries that are there when the cache is dropped are not told of. If it
    /// panics, the panic reaches the caller once all that left with it was told.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use distcache_core::{Cache, Cause};
    ///
    /// let left = Arc::new(Mutex::new(Vec::new()));
    /// let seen = Arc::clone(&left);
    /// let cache = Cache::<&str, u64>::bounded_by_entries(100)
    ///     .listener(move |key, value, cause| seen.lock().unwrap().push((*key, *value, cause)))
    ///     .build()?;
    /// cache.insert("a", 1)?;
    /// cache.insert("a", 2)?;
    /// cache.remove("a");
    /// assert_eq!(*left.lock().unwrap(), [("a", 1, Cause::Replaced), ("a", 2, Cause::Removed)]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn listener(mut self, listener: impl Fn(&K, &V, Cause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Sets the clock by which entries expire. Defaults to [`MonotonicClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Sets how keys are hashed. Defaults to [`SecretState`], which is fast and keeps its speed when an adversary chooses the keys.
    /// A hasher without a secret is safe only where nobody does.
    pub fn hasher<T>(self, hasher: T) -> CacheBuilder<K, V, T, W> {
        CacheBuilder {
            capacity: self.capacity,
            shards: self.shards,
            default_ttl: self.default_ttl,
            time_to_idle: self.time_to_idle,
            eviction: self.eviction,
            clock: self.clock,
            hasher,
            listener: self.listener,
            weigher: self.weigher,
            entries: PhantomData,
        }
    }

    fn build_with(
        self,
        default_shards: usize,
        scale: impl FnOnce(W) -> Scale<K, V>,
    ) -> Result<Cache<K, V, S>, BuildError> {
        if self.capacity == 0 {
            return Err(BuildError::ZeroCapacity);
        }
        if self.shards == Some(0) {
            return Err(BuildError::ZeroShards);
        }
        if self.default_ttl == Some(Duration::ZERO) || self.time_to_idle == Some(Duration::ZERO) {
            return Err(BuildError::ZeroTtl);
        }
        let shards = self.shards.map_or(default_shards, round_up);
        let parts = Parts {
            eviction: self.eviction,
            default_ttl: self.default_ttl,
            idle: self.time_to_idle,
            scale: scale(self.weigher),
            clock: self.clock,
            hasher: self.hasher,
            listener: self.listener,
        };
        Ok(Cache { inner: Arc::new(Inner::new(self.capacity, shards, parts)) })
    }
}

impl<K, V, S> CacheBuilder<K, V, S, ByWeigh> {
    /// Sets how entries are weighed, in bytes behind the pointers of the key and the value. Required unless both implement
    /// [`Weigh`]. [`ENTRY_OVERHEAD`](crate::ENTRY_OVERHEAD) is added to it.
    ///
    /// It runs once a write, under no lock.
    pub fn weigher<F>(self, weigher: F) -> CacheBuilder<K, V, S, ByFunction<K, V>>
    where
        F: Fn(&K, &V) -> usize + Send + Sync + 'static,
    {
        CacheBuilder {
            capacity: self.capacity,
            shards: self.shards,
            default_ttl: self.default_ttl,
            time_to_idle: self.time_to_idle,
            eviction: self.eviction,
            clock: self.clock,
            hasher: self.hasher,
            listener: self.listener,
            weigher: ByFunction(Box::new(weigher)),
            entries: PhantomData,
        }
    }
}

impl<K, V, S> CacheBuilder<K, V, S, ByWeigh>
where
    K: Weigh + Hash + Eq + Clone + Send + Sync + 'static,
    V: Weigh + Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Builds the cache.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if a setting is zero.
    pub fn build(self) -> Result<Cache<K, V, S>, BuildError> {
        let shards = shards_of(self.capacity, MIN_SHARD_BYTES, processors());
        self.build_with(shards, |_| {
            Scale::Bytes(Box::new(|key: &K, value: &V| key.weight().saturating_add(value.weight())))
        })
    }
}

impl<K, V, S> CacheBuilder<K, V, S, ByFunction<K, V>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Builds the cache.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if a setting is zero.
    pub fn build(self) -> Result<Cache<K, V, S>, BuildError> {
        let shards = shards_of(self.capacity, MIN_SHARD_BYTES, processors());
        self.build_with(shards, |ByFunction(weigher)| Scale::Bytes(weigher))
    }
}

impl<K, V, S> CacheBuilder<K, V, S, ByCount>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Builds the cache.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if a setting is zero.
    pub fn build(self) -> Result<Cache<K, V, S>, BuildError> {
        let shards = shards_of(self.capacity, MIN_SHARD_ENTRIES, processors());
        self.build_with(shards, |_| Scale::Entries)
    }
}

impl<K, V, S, W> fmt::Debug for CacheBuilder<K, V, S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards)
            .field("default_ttl", &self.default_ttl)
            .field("time_to_idle", &self.time_to_idle)
            .field("eviction", &self.eviction)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<K, V> fmt::Debug for ByFunction<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByFunction").finish_non_exhaustive()
    }
}

fn round_up(shards: usize) -> usize {
    shards.min(MAX_SHARDS).next_power_of_two()
}

/// Returns the largest power of two that leaves a shard enough capacity and a processor not too many shards.
fn shards_of(capacity: u64, least: u64, processors: usize) -> usize {
    let by_capacity = usize::try_from(capacity / least).unwrap_or(usize::MAX);
    let most = by_capacity.min(processors.saturating_mul(SHARDS_A_PROCESSOR)).clamp(1, MAX_SHARDS);
    1 << most.ilog2()
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The bits of a hash that pick a shard.
const MAX_SHARDS: usize = 1 << 16;
/// A value of 1 MiB, a common limit, then takes at most half of a shard.
const MIN_SHARD_BYTES: u64 = 2 * 1024 * 1024;
/// Keys spread over shards by chance; with a thousand in each, hardly any shard is short of its part.
const MIN_SHARD_ENTRIES: u64 = 1_024;
/// So that two threads rarely want the same one, and a writer that loses its processor holds up few.
const SHARDS_A_PROCESSOR: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_number_of_shards_follows_capacity_and_processors() {
        const MIB: u64 = 1024 * 1024;
        for (capacity, processors, shards) in [
            (1, 8, 1),
            (2 * MIB, 8, 1),
            (4 * MIB - 1, 8, 1),
            (4 * MIB, 8, 2),
            (1024 * MIB, 8, 256),
            (1024 * MIB, 6, 128),
            (1024 * MIB, 1, 32),
            (u64::MAX, usize::MAX, MAX_SHARDS),
        ] {
            let got = shards_of(capacity, MIN_SHARD_BYTES, processors);
            assert_eq!(got, shards, "{capacity} bytes, {processors} processors");
        }
        assert_eq!(shards_of(1_000_000, MIN_SHARD_ENTRIES, 2), 64);
    }

    #[test]
    fn a_given_number_of_shards_is_rounded_up() {
        for (given, shards) in [(1, 1), (3, 4), (64, 64), (usize::MAX, MAX_SHARDS)] {
            assert_eq!(round_up(given), shards);
        }
    }
}
