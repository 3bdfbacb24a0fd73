//! foyer-memory, with its own hasher and its own number of shards. What it hands out is a handle on the entry, no copy of the value.

use std::hint::black_box;

use foyer_memory::{Cache, EvictionConfig};

use super::{Bound, Key, Peer, Value, as_size};

pub(super) struct Foyer<K: Key, V: Value>(Cache<K, V>);

impl<K: Key, V: Value> Foyer<K, V> {
    pub(super) fn new(bound: Bound<V>, eviction: impl Into<EvictionConfig>) -> Self {
        let builder = Cache::builder(as_size(bound.total())).with_eviction_config(eviction);
        let cache = match bound.weigh() {
            None => builder.build(),
            Some(weigh) => builder.with_weighter(move |_: &K, value: &V| weigh(value) as usize).build(),
        };
        Self(cache)
    }
}

impl<K: Key, V: Value> Peer<K, V> for Foyer<K, V> {
    #[inline]
    fn get(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        drop(self.0.insert(key, value));
    }
}
