//! Ours.

use std::hint::black_box;

use distcache_core::{Cache, ENTRY_OVERHEAD, Eviction};

use super::{Bound, Key, Peer, Value};

pub(super) struct Ours<K, V>(Cache<K, V>);

impl<K: Key, V: Value> Ours<K, V> {
    pub(super) fn new(bound: Bound<V>, eviction: Eviction) -> Self {
        let built = match bound {
            Bound::Entries(entries) => Cache::bounded_by_entries(entries).eviction(eviction).build(),
            // No other cache counts what it costs itself. Taken off here, ours holds the same values in the same weight.
            Bound::Weight { total, weigh, .. } => Cache::builder(total)
                .weigher(move |_, value| (weigh(value) as usize).saturating_sub(ENTRY_OVERHEAD))
                .eviction(eviction)
                .build(),
        };
        Self(built.expect("no setting is zero"))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Ours<K, V> {
    #[inline]
    fn get(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        // What is too large for it is not cached.
        let _ = self.0.insert(key, value);
    }
}
