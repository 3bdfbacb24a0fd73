//! What all handles of a cache share: the shards, and what every call needs before it takes a lock.

use std::{
    hash::{BuildHasher, Hash},
    time::Duration,
};

use crate::{
    clock::{Clock, Tick},
    expiry::Expiry,
    flight::{Flight, Place},
    shard::{Garbage, Shard},
    store::Entry,
    sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, Padded, lock},
    weigh::entry_weight,
};

/// How a cache weighs a key with its value.
pub(crate) type WeighFn<K, V> = dyn Fn(&K, &V) -> usize + Send + Sync;

type LockedShard<K, V> = Padded<Mutex<Shard<K, V>>>;

pub(crate) struct Inner<K, V, S> {
    /// A power of two of them.
    shards: Box<[LockedShard<K, V>]>,
    hasher: S,
    weigher: Arc<WeighFn<K, V>>,
    clock: Box<dyn Clock>,
    default_ttl: Option<Duration>,
    epoch: AtomicU64,
    /// The capacity; its lock is held while the shards are told a new one, so that two of those do not mix.
    pub(crate) capacity: Mutex<u64>,
}

impl<K, V, S> Inner<K, V, S> {
    pub(crate) fn new(
        capacity: u64,
        shards: usize,
        default_ttl: Option<Duration>,
        weigher: Arc<WeighFn<K, V>>,
        clock: Box<dyn Clock>,
        hasher: S,
    ) -> Self {
        let shard = |at| Padded(Mutex::new(Shard::new(share(capacity, shards, at))));
        Self {
            shards: (0..shards).map(shard).collect(),
            hasher,
            weigher,
            clock,
            default_ttl,
            epoch: AtomicU64::new(0),
            capacity: Mutex::new(capacity),
        }
    }

    /// Locks a shard and brings it up to date with the epoch.
    pub(crate) fn shard(&self, at: usize) -> MutexGuard<'_, Shard<K, V>> {
        let mut shard = lock(&self.shards[at].0);
        shard.sync(self.epoch());
        shard
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the part of `capacity` that a shard gets. The parts add up.
    pub(crate) fn share(&self, capacity: u64, shard: usize) -> u64 {
        share(capacity, self.shards.len(), shard)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn now(&self) -> Tick {
        self.clock.now()
    }

    pub(crate) fn deadline(&self, expiry: Expiry, now: Tick) -> Tick {
        expiry.deadline(now, self.default_ttl)
    }

    /// Weighs an entry. Runs user code, so it is called before the lock.
    pub(crate) fn entry(&self, place: Place, key: K, value: V, deadline: Tick) -> Entry<K, V> {
        let weight = entry_weight::<K, V>((self.weigher)(&key, &value));
        Entry { tag: place.tag, key, value, weight, deadline }
    }

    /// Gives a flight whose leader went away to whoever waits for it, or ends it if nobody does.
    pub(crate) fn abandon(&self, flight: &Arc<Flight<K, V>>) {
        let mut garbage = Garbage::new();
        let mut shard = self.shard(flight.place.shard);
        // Under the shard's lock, so that nobody joins a flight that ends unanswered.
        let waker = match flight.hand_on() {
            Some(waker) => {
                shard.note_handover();
                waker
            }
            None => {
                shard.detach(flight, &mut garbage);
                None
            }
        };
        drop(shard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<K, V, S: BuildHasher> Inner<K, V, S> {
    /// Hashes a key, once, outside any lock.
    pub(crate) fn place<Q: Hash + ?Sized>(&self, key: &Q) -> Place {
        let hash = self.hasher.hash_one(key);
        // A multiplication spreads weak hashes: the top bits, which pick the shard, depend on all others.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(GOLDEN_RATIO);
        Place { shard: (mixed >> 48) as usize & (self.shards.len() - 1), tag: (mixed >> 16) as u32 }
    }
}

fn share(capacity: u64, shards: usize, at: usize) -> u64 {
    let (shards, at) = (shards as u64, at as u64);
    capacity / shards + u64::from(at < capacity % shards)
}

/// 2^64 divided by the golden ratio: Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;
