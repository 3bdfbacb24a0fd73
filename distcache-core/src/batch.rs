//! Reading many keys at once.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
};

use crate::cache::Cache;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns the values of many keys, in their order. Each counts as one read.
    ///
    /// It hashes all keys first and then locks each shard once, which is cheaper than as many [`get`](Self::get)s. It is no
    /// snapshot: writes that come during the call may be seen for some keys and not for others.
    ///
    /// # Examples
    ///
    /// ```
    /// use distcache_core::Cache;
    ///
    /// let cache = Cache::<String, u64>::bounded_by_entries(1_000).build()?;
    /// cache.insert("a".into(), 1)?;
    /// cache.insert("c".into(), 3)?;
    /// assert_eq!(cache.get_many(["a", "b", "c"]), [Some(1), None, Some(3)]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Vec<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized + 'a,
    {
        let keys: Vec<_> = keys.into_iter().map(|key| (self.inner.place(key), key)).collect();
        let mut order: Vec<_> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|at| keys[*at].0.shard);
        let mut values = vec![None; keys.len()];
        for of_shard in order.chunk_by(|a, b| keys[*a].0.shard == keys[*b].0.shard) {
            self.inner.get_many(of_shard.iter().map(|at| keys[*at]), |nth, value| values[of_shard[nth]] = value);
        }
        values
    }
}
