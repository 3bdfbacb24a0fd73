//! The cache that users hold: a handle to shards, each behind its own lock.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
};

use crate::{
    builder::{ByCount, ByWeigh, CacheBuilder},
    error::InsertError,
    expiry::Expiry,
    fill::Fill,
    flight::Place,
    follower::Follower,
    garbage::Garbage,
    hash::SecretState,
    inner::Inner,
    key::ToKey,
    shard::{Joined, Shard, Sight},
    stats::Stats,
    sync::{Arc, lock},
};

/// A cache that holds entries up to a number of bytes, for use by many threads and tasks at once.
///
/// Keys are spread over shards. A hit takes one shard's lock for a moment, beside other readers, and writes nothing but a count;
/// the key is hashed once, before that. When a shard is full, what is dead goes first, then what the
/// [eviction policy](crate::Eviction) can do without.
///
/// A handle is cheap to clone, and all clones are the same cache.
///
/// # Concurrent calls on the same key
///
/// Each call takes effect at one moment between its begin and its end. So a read that begins after a write or a removal
/// returned sees it, on every thread. Of two writes at once, the one that takes effect last stays. Look-ups that load
/// are told apart from plain reads: any number of them on one key make one load, and a write or a removal that comes during it wins
/// over what it loads.
///
/// # What runs where
///
/// Under a lock, the cache calls no code of its user but `Eq` of keys, `Clone` of values (make them cheap to clone: an
/// `Arc`, or `Bytes`) and, in the calls that walk through the cache, `Clone` of keys. These must not call
/// the cache. Hashing, weighing, loading, judging, listening and dropping happen outside. If any of them panics, the cache
/// stays whole.
///
/// # What an entry costs
///
/// 24 bytes beside key and value in its slot, 2 of tags, and 4 for the memory of evicted keys; of the slots of a growing shard 6 to 24
/// in a hundred are free, of a full one some 7. An entry that expires takes 24 bytes more.
/// [`ENTRY_OVERHEAD`](crate::ENTRY_OVERHEAD) is what is counted.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use distcache_core::{Cache, Expiry};
///
/// let cache = Cache::<String, Vec<u8>>::builder(64 * 1024 * 1024).build()?;
/// cache.insert("a".into(), vec![1, 2, 3])?;
/// cache.insert_with("b".into(), vec![4], Expiry::After(Duration::from_secs(60)))?;
///
/// assert_eq!(cache.get("a"), Some(vec![1, 2, 3]));
/// assert_eq!(cache.remove("b"), Some(vec![4]));
/// assert_eq!(cache.get("b"), None);
/// assert_eq!((cache.stats().hits, cache.stats().misses), (1, 1));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Cache<K, V, S = SecretState> {
    pub(crate) inner: Arc<Inner<K, V, S>>,
}

/// What [`Cache::lookup`] found.
#[must_use = "a lookup that leads a load must load, or drop the lead"]
pub enum Lookup<K, V, S = SecretState> {
    /// The value is there.
    Hit(V),
    /// It is not, and nobody loads it: this caller does.
    Lead(Fill<K, V, S>),
    /// It is not, and another caller loads it: this caller waits.
    Follow(Follower<K, V, S>),
}

/// How often a cache was cleared. Fills that began in an earlier epoch are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Returns the number of times the cache was cleared.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl<K, V> Cache<K, V> {
    /// Starts to set up a cache whose entries may count `capacity_bytes` bytes in all.
    ///
    /// They are weighed by [`Weigh`](crate::Weigh), or by a function: see [`CacheBuilder::weigher`].
    pub fn builder(capacity_bytes: u64) -> CacheBuilder<K, V> {
        CacheBuilder::new(capacity_bytes, ByWeigh::new())
    }

    /// Starts to set up a cache that holds up to `max_entries` entries, whatever their size.
    ///
    /// Prefer [`builder`](Self::builder) where sizes differ or are not yours to choose: only bytes bound memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use distcache_core::Cache;
    ///
    /// let cache = Cache::bounded_by_entries(2).build()?;
    /// (0..10).for_each(|n| cache.insert(n, n * n).expect("an entry counts one"));
    /// assert_eq!((cache.len(), cache.get(&9)), (2, Some(81)));
    /// # Ok::<_, distcache_core::BuildError>(())
    /// ```
    pub fn bounded_by_entries(max_entries: u64) -> CacheBuilder<K, V, SecretState, ByCount> {
        CacheBuilder::new(max_entries, ByCount::new())
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns the value of a key, and counts the read as a use of the entry.
    #[must_use]
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.get(self.inner.place(key), key)
    }

    /// Returns the value of a key, without counting the read as a use or in the statistics.
    #[must_use]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.look(key, |shard, at| shard.value(at).clone())
    }

    /// Says whether a key has a value, without counting the read as a use or in the statistics.
    #[must_use]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.look(key, |_, _| ()).is_some()
    }

    fn look<Q, T>(&self, key: &Q, seen: impl FnOnce(&Shard<K, V>, u32) -> T) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (place, now) = (self.inner.place(key), self.inner.now());
        self.inner.view(place.shard, |shard| match shard.sight(place.tag, key, now) {
            Sight::Alive(at) => Some(seen(shard, at)),
            Sight::Absent | Sight::Dead => None,
        })
    }

    /// Stores a value for as long as the cache's default says. See [`insert_with`](Self::insert_with).
    ///
    /// # Errors
    ///
    /// As [`insert_with`](Self::insert_with).
    pub fn insert(&self, key: K, value: V) -> Result<(), InsertError> {
        self.insert_with(key, value, Expiry::Default)
    }

    /// Stores a value, over whatever is stored or being loaded.
    ///
    /// A load of the key that is under way goes on for those who wait for it, but what it gets will not be stored: an older
    /// read never overwrites a newer write. A time to live of zero stores nothing, and still removes what was there.
    ///
    /// # Errors
    ///
    /// [`InsertError::TooLarge`] if the entry alone is over the limit of a shard. It evicts nothing. What was stored under
    /// the key is removed all the same, because an old value must not outlive a write.
    ///
    /// # Panics
    ///
    /// Panics if the weigher does. Nothing is changed then.
    pub fn insert_with(&self, key: K, value: V, expiry: Expiry) -> Result<(), InsertError> {
        let (place, mut garbage) = (self.inner.place(&key), Garbage::new());
        let (now, deadline) = self.inner.write_time(expiry);
        let entry = self.inner.entry(place, key, value, deadline);
        let inserted = self.inner.write(place.shard).insert(entry, now, &mut garbage);
        self.inner.discard(garbage);
        inserted
    }

    /// Removes a key, and returns the value it had: the invalidation.
    ///
    /// A load of the key that is under way goes on for those who wait for it, but what it gets will not be stored, and whoever
    /// looks the key up after this call starts a new load. So once this returns, no value from before it is served to a
    /// read that begins after it.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (place, now, mut garbage) = (self.inner.place(key), self.inner.now(), Garbage::new());
        let removed = self.inner.write(place.shard).remove(place.tag, key, now, &mut garbage);
        self.inner.discard(garbage);
        let (key, value) = removed?;
        self.inner.tell_removed(&key, &value);
        drop(key);
        Some(value)
    }

    /// Removes everything, at once and at the same small cost for any number of entries.
    ///
    /// No entry of before is served again, and no load that began before is stored. The space is given back little by little,
    /// by the writes that follow, or by [`purge_expired`](Self::purge_expired); until then it counts as
    /// [`weight`](Self::weight).
    pub fn clear(&self) {
        self.inner.next_epoch();
    }

    /// Returns the present epoch, which [`clear`](Self::clear) ends.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.inner.epoch())
    }

    /// Reads a key; if it is not there, makes this caller load it, or wait for the one who does.
    ///
    /// Of any number of callers, one leads. The load is registered before this returns, so no write or removal that comes later
    /// can be undone by what the leader is about to read.
    ///
    /// The key may be given as anything that makes a `K`, such as `&str` for a `String` (see [`ToKey`]). It is made only if the
    /// value is not there, and before the lock is taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use distcache_core::{Cache, Expiry, Lookup, Outcome};
    ///
    /// fn read(cache: &Cache<String, u64>, key: &str) -> Option<u64> {
    ///     match cache.lookup(key) {
    ///         Lookup::Hit(value) => Some(value),
    ///         Lookup::Lead(fill) => {
    ///             let value = key.len() as u64; // Stands for a slow read.
    ///             fill.install(value, Expiry::Default);
    ///             Some(value)
    ///         }
    ///         Lookup::Follow(follower) => match follower.wait(None)? {
    ///             Outcome::Value(value) => Some(value),
    ///             _ => None, // The load failed or was given up.
    ///         },
    ///     }
    /// }
    ///
    /// let cache = Cache::builder(1 << 20).build()?;
    /// assert_eq!(read(&cache, "key"), Some(3));
    /// assert_eq!(cache.get("key"), Some(3));
    /// # Ok::<_, distcache_core::BuildError>(())
    /// ```
    pub fn lookup<Q>(&self, key: &Q) -> Lookup<K, V, S>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToKey<K> + ?Sized,
    {
        let place = self.inner.place(key);
        let found = match self.inner.find(place, key) {
            Some(value) => Lookup::Hit(value),
            None => self.join(place, key.to_key()),
        };
        self.inner.tally.count(matches!(found, Lookup::Hit(_)));
        found
    }

    /// Goes on where a look-up found nothing: under the exclusive lock, what was stored meanwhile is found after all.
    fn join(&self, place: Place, key: K) -> Lookup<K, V, S> {
        let (now, mut garbage) = (self.inner.now(), Garbage::new());
        let mut shard = self.inner.write(place.shard);
        let (joined, unused) = match shard.join(place.tag, &key, now, &mut garbage) {
            Some(joined) => (joined, Some(key)),
            None => (Joined::Lead(shard.lead(place, key)), None),
        };
        drop(shard);
        let found = match joined {
            Joined::Hit(value) => Lookup::Hit(value),
            Joined::Lead(flight) => Lookup::Lead(Fill::new(Arc::clone(&self.inner), flight)),
            Joined::Follow(flight, seat) => Lookup::Follow(Follower::new(Arc::clone(&self.inner), flight, seat)),
        };
        // Only now, when what was found is safe in a guard: should one of these panic, the lead or the seat is passed on.
        self.inner.discard(garbage);
        drop(unused);
        found
    }

    /// Returns the number of entries. Those that expired count until they are met; cleared ones do not.
    #[must_use]
    pub fn len(&self) -> usize {
        (0..self.inner.shards()).map(|at| self.inner.view(at, Shard::len)).sum()
    }

    /// Says whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        (0..self.inner.shards()).all(|at| self.inner.view(at, Shard::len) == 0)
    }

    /// Returns the bytes counted for all entries whose space is not given back yet. Never more than the capacity.
    #[must_use]
    pub fn weight(&self) -> u64 {
        (0..self.inner.shards()).map(|at| self.inner.view(at, Shard::weight)).sum()
    }

    /// Returns the bytes that entries may count in all.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        *lock(&self.inner.capacity)
    }

    /// Returns what the cache counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (hits, misses) = self.inner.tally.sum();
        (0..self.inner.shards()).fold(Stats { hits, misses, ..Stats::default() }, |mut sum, at| {
            sum += self.inner.view(at, Shard::stats);
            sum
        })
    }
}

#[cfg(any(test, fuzzing))]
impl<K: Eq, V, S> Cache<K, V, S> {
    /// Recomputes every counter, list and sum of every shard, and panics if one is wrong. For tests and fuzzing only.
    pub fn validate(&self) {
        (0..self.inner.shards()).for_each(|at| self.inner.view(at, |shard| _ = shard.validate()));
    }
}

impl<K, V, S> Clone for Cache<K, V, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V, S> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &*lock(&self.inner.capacity))
            .field("shards", &self.inner.shards())
            .field("epoch", &self.inner.epoch())
            .finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for Lookup<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit(value) => f.debug_tuple("Hit").field(value).finish(),
            Self::Lead(fill) => f.debug_tuple("Lead").field(fill).finish(),
            Self::Follow(follower) => f.debug_tuple("Follow").field(follower).finish(),
        }
    }
}
