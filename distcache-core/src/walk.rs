//! Looking at a whole cache, a few entries at a time: [`Iter`].

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    iter::FusedIterator,
    vec,
};

use crate::{
    cache::Cache,
    hash::SecretState,
    store::{Cursor, WriteId},
};

/// Copies of a cache's entries, made by [`Cache::iter`].
#[must_use = "an iterator does nothing until it is asked"]
pub struct Iter<'a, K, V, S = SecretState> {
    cache: &'a Cache<K, V, S>,
    shard: usize,
    /// Where the shard is to be gone on with, if it is.
    next: Option<Cursor>,
    batch: vec::IntoIter<(K, WriteId, V)>,
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns copies of all entries that are alive, in no order. It counts no reads and no uses.
    ///
    /// Entries are copied in batches, each under a lock that reads share, so the cache goes on meanwhile. Every entry that is
    /// there during the whole walk and is not written is met at least once, and more than once only if its shard gave memory back
    /// meanwhile. For a snapshot in a vector, `collect` it.
    ///
    /// # Examples
    ///
    /// ```
    /// use distcache_core::Cache;
    ///
    /// let cache = Cache::bounded_by_entries(1_000).build()?;
    /// (1..=3).for_each(|n| cache.insert(n, n * n).expect("an entry counts one"));
    /// assert_eq!(cache.iter().map(|(_, square)| square).sum::<u64>(), 14);
    /// # Ok::<_, distcache_core::BuildError>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, K, V, S> {
        Iter { cache: self, shard: 0, next: Some(Cursor::default()), batch: Vec::new().into_iter() }
    }

    /// Calls `visit` for copies of a shard's entries, outside the lock.
    pub(crate) fn walk<T>(&self, shard: usize, also: impl Fn(&V) -> T, mut visit: impl FnMut(K, WriteId, T)) {
        let mut next = Some(Cursor::default());
        while let Some(cursor) = next {
            let batch;
            (batch, next) = self.copy(shard, cursor, &also);
            batch.into_iter().for_each(|(key, write, copy)| visit(key, write, copy));
        }
    }

    /// Copies the next entries of a shard. Returns where to go on.
    fn copy<T>(&self, shard: usize, cursor: Cursor, also: impl Fn(&V) -> T) -> (Vec<(K, WriteId, T)>, Option<Cursor>) {
        let (mut copies, now) = (Vec::new(), self.inner.now());
        let next = self.inner.view(shard, |shard| shard.copy(cursor, BATCH, now, also, &mut copies));
        (copies, next)
    }
}

impl<K, V, S> Iterator for Iter<'_, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some((key, _, value)) = self.batch.next() {
                return Some((key, value));
            }
            let Some(cursor) = self.next else {
                if self.shard + 1 >= self.cache.inner.shards() {
                    return None;
                }
                self.shard += 1;
                self.next = Some(Cursor::default());
                continue;
            };
            let (batch, next) = self.cache.copy(self.shard, cursor, V::clone);
            (self.batch, self.next) = (batch.into_iter(), next);
        }
    }
}

impl<K, V, S> FusedIterator for Iter<'_, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
}

impl<'a, K, V, S> IntoIterator for &'a Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    type Item = (K, V);
    type IntoIter = Iter<'a, K, V, S>;

    fn into_iter(self) -> Iter<'a, K, V, S> {
        self.iter()
    }
}

impl<K, V, S> fmt::Debug for Iter<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Small enough that a writer who meets the lock waits for microseconds, large enough that taking it costs nothing in comparison.
pub(crate) const BATCH: usize = 256;
