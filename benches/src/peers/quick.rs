//! quick_cache, with its own hasher, in its own number of shards or in another.

use std::hint::black_box;

use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::{Bound, Key, Peer, Value, as_size};

pub(super) struct Quick<K, V, W>(Cache<K, V, W>);

/// Weighs entries by the value alone.
pub(super) struct ByFunction<V>(pub(super) fn(&V) -> u32);

impl<K: Key, V: Value, W: Weighter<K, V> + Clone> Quick<K, V, W> {
    pub(super) fn new(bound: Bound<V>, shards: Option<usize>, weighter: W) -> Self {
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(as_size(bound.entries())).weight_capacity(bound.total());
        if let Some(shards) = shards {
            options.shards(shards);
        }
        let options = options.build().expect("both capacities are set");
        Self(Cache::with_options(options, weighter, DefaultHashBuilder::default(), DefaultLifecycle::default()))
    }
}

impl<V> Clone for ByFunction<V> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<K, V> Weighter<K, V> for ByFunction<V> {
    fn weight(&self, _: &K, value: &V) -> u64 {
        (self.0)(value).into()
    }
}

impl<K: Key, V: Value, W: Weighter<K, V> + Clone + Send + Sync + 'static> Peer<K, V> for Quick<K, V, W> {
    #[inline]
    fn get(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}
