//! What all handles of a cache share: the shards with their locks, and what every call needs before it takes one.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    time::Duration,
};

use crate::{
    clock::{Clock, Tick},
    expiry::Expiry,
    flight::{Flight, Place},
    garbage::{Cause, Garbage, ListenFn},
    policy::{Eviction, Policy},
    shard::{Shard, Sight},
    store::NewEntry,
    sync::{
        Arc, AtomicBool, AtomicU64, Mutex, Ordering, Padded, RwLock, RwLockReadGuard, RwLockWriteGuard, read, write,
    },
    tally::Tally,
    weigh::Scale,
};

/// What a cache is built with, besides its capacity and its shards.
pub(crate) struct Parts<K, V, S> {
    pub(crate) eviction: Eviction,
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) scale: Scale<K, V>,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) hasher: S,
    pub(crate) listener: Option<Box<ListenFn<K, V>>>,
}

type LockedShard<K, V> = Padded<RwLock<Shard<K, V>>>;

pub(crate) struct Inner<K, V, S> {
    /// A power of two of them, each behind its lock.
    shards: Box<[LockedShard<K, V>]>,
    parts: Parts<K, V, S>,
    pub(crate) tally: Tally,
    epoch: AtomicU64,
    /// Whether any entry ever had an end. Until then no call needs to know the time.
    mortal: AtomicBool,
    /// The capacity; its lock is held while the shards are told a new one, so that two of those do not mix.
    pub(crate) capacity: Mutex<u64>,
}

impl<K, V, S> Inner<K, V, S> {
    pub(crate) fn new(capacity: u64, shards: usize, parts: Parts<K, V, S>) -> Self {
        let shard = |at| {
            let limit = parts.scale.limit(share(capacity, shards, at));
            Padded(RwLock::new(Shard::new(limit, parts.eviction, parts.idle)))
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            tally: Tally::new(),
            epoch: AtomicU64::new(0),
            mortal: AtomicBool::new(parts.idle.is_some() || parts.default_ttl.is_some()),
            capacity: Mutex::new(capacity),
            parts,
        }
    }

    /// Locks a shard beside other readers, and hands it to `look` once it is up to date with the epoch.
    pub(crate) fn view<T>(&self, at: usize, look: impl FnOnce(&Shard<K, V>) -> T) -> T {
        loop {
            if let Some(shard) = self.read(at) {
                return look(&shard);
            }
            drop(self.write(at));
        }
    }

    /// Locks a shard beside other readers. `None` if it has not heard of the present epoch, which takes the exclusive lock.
    #[inline]
    fn read(&self, at: usize) -> Option<RwLockReadGuard<'_, Shard<K, V>>> {
        let shard = read(&self.shards[at].0);
        (shard.epoch() == self.epoch()).then_some(shard)
    }

    /// Locks a shard exclusively, and brings it up to date with the epoch.
    pub(crate) fn write(&self, at: usize) -> RwLockWriteGuard<'_, Shard<K, V>> {
        let mut shard = write(&self.shards[at].0);
        shard.sync(self.epoch());
        shard
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the limit of a shard if all together have `capacity`.
    pub(crate) fn limit(&self, capacity: u64, shard: usize) -> u64 {
        self.parts.scale.limit(share(capacity, self.shards.len(), shard))
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn now(&self) -> Tick {
        self.parts.clock.now()
    }

    /// Returns the time of a write, and when what it writes is over.
    pub(crate) fn write_time(&self, expiry: Expiry) -> (Tick, Tick) {
        if matches!(expiry, Expiry::After(_)) {
            self.mortal.store(true, Ordering::Relaxed);
        }
        // If nothing has an end, any time will do; and reading the clock costs as much as the rest of a short call.
        let now = if self.mortal.load(Ordering::Relaxed) { self.now() } else { Tick::default() };
        (now, expiry.deadline(now, self.parts.default_ttl))
    }

    /// Weighs an entry. Runs user code, so it is called before the lock.
    pub(crate) fn entry(&self, place: Place, key: K, value: V, deadline: Tick) -> NewEntry<K, V> {
        let mortal = deadline != Tick::MAX;
        let weight = self.parts.scale.weigh(&key, &value, mortal, self.parts.idle.is_some());
        NewEntry { tag: place.tag, key, value, weight, deadline }
    }

    /// Tells the listener of what left, and drops it. Called under no lock.
    pub(crate) fn discard(&self, garbage: Garbage<K, V>) {
        garbage.discard(self.parts.listener.as_deref());
    }

    /// Tells the listener of an entry that its caller is given.
    pub(crate) fn tell_removed(&self, key: &K, value: &V) {
        if let Some(listener) = &self.parts.listener {
            listener(key, value, Cause::Removed);
        }
    }

    /// Gives a flight whose leader went away to whoever waits for it, or ends it if nobody does.
    pub(crate) fn abandon(&self, flight: &Arc<Flight<K, V>>) {
        let mut garbage = Garbage::new();
        let mut shard = self.write(flight.place.shard);
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
        self.discard(garbage);
    }
}

impl<K, V, S: BuildHasher> Inner<K, V, S> {
    /// Hashes a key, once, outside any lock.
    #[inline]
    pub(crate) fn place<Q: Hash + ?Sized>(&self, key: &Q) -> Place {
        let hash = self.parts.hasher.hash_one(key);
        // A multiplication spreads weak hashes: the top bits, which pick the shard, depend on all others.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(GOLDEN_RATIO);
        Place { shard: (mixed >> 48) as usize & (self.shards.len() - 1), tag: (mixed >> 16) as u32 }
    }
}

impl<K: Eq, V: Clone, S> Inner<K, V, S> {
    /// Reads a key, and counts the read.
    #[inline]
    pub(crate) fn get<Q>(&self, place: Place, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let value = self.find(place, key);
        self.tally.count(value.is_some());
        value
    }

    /// Looks a key up: the hit path. One lock that readers share, no clock, and nothing is written but the entry's small counter.
    #[inline]
    pub(crate) fn find<Q>(&self, place: Place, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = read(&self.shards[place.shard].0);
        if !shard.is_plain(self.epoch()) {
            drop(shard);
            return self.find_by_time(place, key);
        }
        shard.read(place.tag, key)
    }

    /// Reads keys of one shard, and gives each value with the number of its key.
    pub(crate) fn get_many<'a, Q>(
        &self,
        keys: impl Iterator<Item = (Place, &'a Q)>,
        mut give: impl FnMut(usize, Option<V>),
    ) where
        K: Borrow<Q>,
        Q: Eq + ?Sized + 'a,
    {
        let mut keys = keys.enumerate().peekable();
        let Some((_, (place, _))) = keys.peek() else { return };
        let shard = read(&self.shards[place.shard].0);
        if !shard.is_plain(self.epoch()) {
            drop(shard);
            return keys.for_each(|(nth, (place, key))| give(nth, self.get(place, key)));
        }
        let (mut hits, mut reads) = (0, 0);
        for (nth, (place, key)) in keys {
            let value = shard.read(place.tag, key);
            hits += u64::from(value.is_some());
            reads += 1;
            give(nth, value);
        }
        drop(shard);
        self.tally.add(hits, reads - hits);
    }

    /// Looks a key up where entries may have an end, or a hit or an epoch that has passed changes the shard.
    #[inline(never)]
    fn find_by_time<Q>(&self, place: Place, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let now = self.now();
        if !Policy::orders_hits(self.parts.eviction)
            && let Some(shard) = self.read(place.shard)
        {
            match shard.sight(place.tag, key, now) {
                Sight::Alive(at) => {
                    let value = shard.value(at).clone();
                    shard.touch(at, now);
                    return Some(value);
                }
                Sight::Absent => return None,
                // It is to be taken out.
                Sight::Dead => {}
            }
        }
        let mut garbage = Garbage::new();
        let value = self.write(place.shard).get(place.tag, key, now, &mut garbage);
        self.discard(garbage);
        value
    }
}

fn share(capacity: u64, shards: usize, at: usize) -> u64 {
    let (shards, at) = (shards as u64, at as u64);
    capacity / shards + u64::from(at < capacity % shards)
}

/// 2^64 divided by the golden ratio: Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;
