//! TinyUFO, in the form that is faster and larger. It keeps no keys but their hashes, and weights of 16 bits.

use std::hint::black_box;

use super::{Bound, Key, Peer, Value, as_size};

pub(super) struct TinyUfo<K, V> {
    cache: tinyufo::TinyUfo<K, V>,
    weigh: Option<fn(&V) -> u32>,
}

impl<K: Key, V: Value> TinyUfo<K, V> {
    pub(super) fn new(bound: Bound<V>) -> Self {
        let weigh = bound.weigh();
        let total = if weigh.is_some() { bound.total() / WEIGHT_UNIT } else { bound.total() };
        Self { cache: tinyufo::TinyUfo::new(as_size(total), as_size(bound.entries())), weigh }
    }
}

impl<K: Key, V: Value> Peer<K, V> for TinyUfo<K, V> {
    #[inline]
    fn get(&self, key: &K) -> bool {
        black_box(self.cache.get(key)).is_some()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        let weight = self.weigh.map_or(1, |weigh| in_units(weigh(&value)));
        drop(self.cache.put(key, value, weight));
    }
}

fn in_units(weight: u32) -> u16 {
    u16::try_from(u64::from(weight).div_ceil(WEIGHT_UNIT)).unwrap_or(u16::MAX).max(1)
}

/// In 16 bits of these goes an object of 4 MiB, the largest of the trace that has sizes.
const WEIGHT_UNIT: u64 = 64;
