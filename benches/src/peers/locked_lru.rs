//! `lru` behind mutexes: what one writes by hand. Each lock has a pair of cache lines for itself.

use std::{
    hash::BuildHasher,
    hint::black_box,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard},
};

use lru::{DefaultHasher, LruCache};

use super::{Bound, Key, Peer, Value, as_size};

pub(super) struct LockedLru<K, V> {
    shards: Box<[Padded<K, V>]>,
    hasher: DefaultHasher,
    weigh: Option<fn(&V) -> u32>,
}

#[repr(align(128))]
struct Padded<K, V>(Mutex<Shard<K, V>>);

struct Shard<K, V> {
    entries: LruCache<K, V>,
    weight: u64,
    capacity: u64,
}

impl<K: Key, V: Value> LockedLru<K, V> {
    pub(super) fn new(bound: Bound<V>, shards: u64) -> Self {
        // A cache of fewer entries than shards would hold more than it may.
        let shards = shards.min(bound.total());
        let weigh = bound.weigh();
        let shard = |at| {
            let capacity = bound.total() / shards + u64::from(at < bound.total() % shards);
            let entries = match weigh {
                None => {
                    LruCache::new(NonZeroUsize::new(as_size(capacity)).expect("there are no more shards than entries"))
                }
                Some(_) => LruCache::unbounded(),
            };
            Padded(Mutex::new(Shard { entries, weight: 0, capacity }))
        };
        Self { shards: (0..shards).map(shard).collect(), hasher: DefaultHasher::default(), weigh }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        // From the upper half: the map within takes the lower bits of the same hash.
        let at = (self.hasher.hash_one(key) >> 32) % self.shards.len() as u64;
        self.shards[as_size(at)].0.lock().expect("nothing panics under the lock")
    }
}

impl<K: Key, V: Value> Peer<K, V> for LockedLru<K, V> {
    #[inline]
    fn get(&self, key: &K) -> bool {
        let value = self.shard(key).entries.get(key).cloned();
        black_box(value).is_some()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        let Some(weigh) = self.weigh else {
            let evicted = self.shard(&key).entries.push(key, value);
            // After the lock.
            drop(evicted);
            return;
        };
        let mut shard = self.shard(&key);
        if u64::from(weigh(&value)) <= shard.capacity {
            shard.insert_weighed(key, value, weigh);
        }
    }
}

impl<K: Key, V: Value> Shard<K, V> {
    fn insert_weighed(&mut self, key: K, value: V, weigh: fn(&V) -> u32) {
        self.weight += u64::from(weigh(&value));
        if let Some((_, old)) = self.entries.push(key, value) {
            self.weight -= u64::from(weigh(&old));
        }
        while self.weight > self.capacity {
            let (_, evicted) = self.entries.pop_lru().expect("what weighs something is there");
            self.weight -= u64::from(weigh(&evicted));
        }
    }
}
