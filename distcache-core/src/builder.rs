//! How a cache is set up.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    marker::PhantomData,
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{
    cache::Cache,
    clock::{Clock, MonotonicClock},
    error::BuildError,
    inner::{Inner, WeighFn},
    weigh::Weigh,
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
pub struct CacheBuilder<K, V, S = RandomState, W = ByWeigh> {
    capacity: u64,
    shards: Option<usize>,
    default_ttl: Option<Duration>,
    clock: Box<dyn Clock>,
    hasher: S,
    weigher: W,
    entries: PhantomData<fn() -> (K, V)>,
}

/// Marks a [`CacheBuilder`] whose cache weighs entries by [`Weigh`].
#[derive(Debug, Clone, Copy)]
pub struct ByWeigh(());

/// Marks a [`CacheBuilder`] whose cache weighs entries by a function of its user.
pub struct ByFunction<K, V>(Arc<WeighFn<K, V>>);

impl<K, V> CacheBuilder<K, V> {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            shards: None,
            default_ttl: None,
            clock: Box::new(MonotonicClock::new()),
            hasher: RandomState::new(),
            weigher: ByWeigh(()),
            entries: PhantomData,
        }
    }
}

impl<K, V, S, W> CacheBuilder<K, V, S, W> {
    /// Sets the number of shards, rounded up to a power of two; at most 65,536.
    ///
    /// Each shard has its own lock and its equal part of the capacity, and no entry can be larger than that part. Too few
    /// shards make threads wait for one another; too many refuse large entries and evict unevenly. Defaults to four per
    /// processor, or fewer, so that a shard has at least 4 MiB.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Sets how long entries live that do not say themselves. Defaults to no end.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Sets the clock by which entries expire. Defaults to [`MonotonicClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Sets how keys are hashed. Defaults to the standard library's [`RandomState`], which keeps its speed when an adversary
    /// chooses the keys. A hasher without a secret may be faster, and is safe only where nobody does.
    pub fn hasher<T>(self, hasher: T) -> CacheBuilder<K, V, T, W> {
        CacheBuilder {
            capacity: self.capacity,
            shards: self.shards,
            default_ttl: self.default_ttl,
            clock: self.clock,
            hasher,
            weigher: self.weigher,
            entries: PhantomData,
        }
    }

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
            clock: self.clock,
            hasher: self.hasher,
            weigher: ByFunction(Arc::new(weigher)),
            entries: PhantomData,
        }
    }
}

impl<K, V, S, W> CacheBuilder<K, V, S, W>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn build_with(self, weigher: impl FnOnce(W) -> Arc<WeighFn<K, V>>) -> Result<Cache<K, V, S>, BuildError> {
        if self.capacity == 0 {
            return Err(BuildError::ZeroCapacity);
        }
        if self.shards == Some(0) {
            return Err(BuildError::ZeroShards);
        }
        if self.default_ttl == Some(Duration::ZERO) {
            return Err(BuildError::ZeroTtl);
        }
        let shards = self.shards.map_or_else(|| default_shards(self.capacity, processors()), round_up);
        let weigher = weigher(self.weigher);
        let inner = Inner::new(self.capacity, shards, self.default_ttl, weigher, self.clock, self.hasher);
        Ok(Cache { inner: Arc::new(inner) })
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
        self.build_with(|_| Arc::new(|key: &K, value: &V| key.weight().saturating_add(value.weight())))
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
        self.build_with(|ByFunction(weigher)| weigher)
    }
}

impl<K, V, S, W> fmt::Debug for CacheBuilder<K, V, S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards)
            .field("default_ttl", &self.default_ttl)
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

/// Returns the largest power of two that leaves a shard enough bytes and a processor not too many shards.
fn default_shards(capacity: u64, processors: usize) -> usize {
    let by_capacity = usize::try_from(capacity / MIN_SHARD_BYTES).unwrap_or(usize::MAX);
    let most = by_capacity.min(processors.saturating_mul(SHARDS_A_PROCESSOR)).clamp(1, MAX_SHARDS);
    1 << most.ilog2()
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The bits of a hash that pick a shard.
const MAX_SHARDS: usize = 1 << 16;
/// A value of 1 MiB, a common limit, then takes at most a quarter of a shard.
const MIN_SHARD_BYTES: u64 = 4 * 1024 * 1024;
/// So that two of them rarely want the same one.
const SHARDS_A_PROCESSOR: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_number_of_shards_follows_capacity_and_processors() {
        const MIB: u64 = 1024 * 1024;
        for (capacity, processors, shards) in [
            (1, 8, 1),
            (4 * MIB, 8, 1),
            (8 * MIB - 1, 8, 1),
            (8 * MIB, 8, 2),
            (15 * MIB, 8, 2),
            (1024 * MIB, 8, 32),
            (1024 * MIB, 6, 16),
            (1024 * MIB, 1, 4),
            (u64::MAX, usize::MAX, MAX_SHARDS),
        ] {
            assert_eq!(default_shards(capacity, processors), shards, "{capacity} bytes, {processors} processors");
        }
    }

    #[test]
    fn a_given_number_of_shards_is_rounded_up() {
        for (given, shards) in [(1, 1), (3, 4), (64, 64), (usize::MAX, MAX_SHARDS)] {
            assert_eq!(round_up(given), shards);
        }
    }
}
