//! moka, with its own hasher, and room for all entries from the start.

use std::hint::black_box;

use moka::sync::Cache;

use super::{Bound, Key, Peer, Value, as_size};

pub(super) struct Moka<K, V>(Cache<K, V>);

impl<K: Key, V: Value> Moka<K, V> {
    pub(super) fn new(bound: Bound<V>) -> Self {
        let builder = Cache::builder().max_capacity(bound.total()).initial_capacity(as_size(bound.entries()));
        let cache = match bound.weigh() {
            None => builder.build(),
            Some(weigh) => builder.weigher(move |_, value| weigh(value)).build(),
        };
        Self(cache)
    }
}

impl<K: Key, V: Value> Peer<K, V> for Moka<K, V> {
    #[inline]
    fn get(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }
}
