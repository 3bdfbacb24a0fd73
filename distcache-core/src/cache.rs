//! The cache that users hold: a handle to shards, each behind its own lock.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
};

use crate::{
    builder::CacheBuilder,
    error::InsertError,
    expiry::Expiry,
    fill::Fill,
    follower::Follower,
    inner::Inner,
    shard::{Garbage, Joined},
    stats::Stats,
    sync::{Arc, lock},
};

/// A cache that holds entries up to a number of bytes, for use by many threads and tasks at once.
///
/// Keys are spread over shards. A read takes one shard's lock, for a moment, and hashes the key once, before that. When a shard
/// is full, what is dead goes first, then what was used least recently.
///
/// A handle is cheap to clone, and all clones are the same cache.
///
/// # What runs where
///
/// Under a lock, the cache calls no code of its user but `Eq` of keys, `Clone` of values (make them cheap to clone: an
/// `Arc`, or `Bytes`) and, in the calls that walk through the cache, `Clone` of keys. These must not call
/// the cache. Hashing, weighing, loading, judging and dropping happen outside. If any of them panics, the cache
/// stays whole.
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
pub struct Cache<K, V, S = RandomState> {
    pub(crate) inner: Arc<Inner<K, V, S>>,
}

/// What [`Cache::lookup`] found.
#[must_use = "a lookup that leads a load must load, or drop the lead"]
pub enum Lookup<K, V, S = RandomState> {
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
    pub fn builder(capacity_bytes: u64) -> CacheBuilder<K, V> {
        CacheBuilder::new(capacity_bytes)
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns the value of a key, and makes the entry the most recently used one of its shard.
    ///
    /// Whether the entry is over is judged by the time at which the call began.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (place, now, mut garbage) = (self.inner.place(key), self.inner.now(), Garbage::new());
        let value = self.inner.shard(place.shard).get(place.tag, key, now, &mut garbage);
        drop(garbage);
        value
    }

    /// Returns the value of a key, without counting the read or marking the entry as used.
    #[must_use]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (place, now) = (self.inner.place(key), self.inner.now());
        self.inner.shard(place.shard).peek(place.tag, key, now).cloned()
    }

    /// Says whether a key has a value, without counting the read or marking the entry as used.
    #[must_use]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (place, now) = (self.inner.place(key), self.inner.now());
        self.inner.shard(place.shard).peek(place.tag, key, now).is_some()
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
        let (place, now, mut garbage) = (self.inner.place(&key), self.inner.now(), Garbage::new());
        let entry = self.inner.entry(place, key, value, self.inner.deadline(expiry, now));
        let inserted = self.inner.shard(place.shard).insert(entry, now, &mut garbage);
        drop(garbage);
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
        let removed = self.inner.shard(place.shard).remove(place.tag, key, now, &mut garbage);
        drop(garbage);
        let (key, value) = removed.unzip();
        drop(key);
        value
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
    /// The key may be given as anything that makes a `K`, such as `&str` for a `String`. It is made before the lock is taken.
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
    pub fn lookup(&self, key: impl Into<K>) -> Lookup<K, V, S> {
        let key = key.into();
        let (place, now, mut garbage) = (self.inner.place(&key), self.inner.now(), Garbage::new());
        let mut shard = self.inner.shard(place.shard);
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
        drop((garbage, unused));
        found
    }

    /// Returns the number of entries. Those that expired count until they are met; cleared ones do not.
    #[must_use]
    pub fn len(&self) -> usize {
        (0..self.inner.shards()).map(|at| self.inner.shard(at).len()).sum()
    }

    /// Says whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        (0..self.inner.shards()).all(|at| self.inner.shard(at).len() == 0)
    }

    /// Returns the bytes counted for all entries whose space is not given back yet. Never more than the capacity.
    #[must_use]
    pub fn weight(&self) -> u64 {
        (0..self.inner.shards()).map(|at| self.inner.shard(at).weight()).sum()
    }

    /// Returns the bytes that entries may count in all.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        *lock(&self.inner.capacity)
    }

    /// Returns what the cache counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        (0..self.inner.shards()).fold(Stats::default(), |mut sum, at| {
            sum += self.inner.shard(at).stats();
            sum
        })
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
