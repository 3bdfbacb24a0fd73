//! The calls that change a whole cache. Where they can, they hold a shard's lock for a few entries at a time.

use std::{
    hash::{BuildHasher, Hash},
    time::Duration,
};

use crate::{cache::Cache, garbage::Garbage, shard::Shard, sync::lock, walk::BATCH};

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Removes the entries for which `keep` returns `false`, and returns how many there were.
    ///
    /// `keep` runs under no lock and sees copies. An entry that is written while the call runs may not be judged; what was not
    /// judged is not removed, unless exactly a multiple of 65,536 writes to its shard lie between: writes are told apart by 16 bits.
    /// Loads under way are left alone: see [`invalidate_where`](Self::invalidate_where).
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) -> usize {
        let mut removed = 0;
        for at in 0..self.inner.shards() {
            self.walk(at, V::clone, |key, write, value| {
                if keep(&key, &value) {
                    return;
                }
                let (place, now, mut garbage) = (self.inner.place(&key), self.inner.now(), Garbage::new());
                let gone = self.inner.write(at).remove_write(place.tag, &key, write, now, &mut garbage);
                self.inner.discard(garbage);
                removed += usize::from(gone);
            });
        }
        removed
    }

    /// Removes the entries and fences the loads whose keys `matches`, and returns how many entries there were.
    ///
    /// As if [`remove`](Self::remove) were called for each such key that is in the cache or being loaded when the call begins.
    /// `matches` runs under no lock. Entries and loads that begin while the call runs may be missed: change what makes
    /// them begin first.
    pub fn invalidate_where(&self, mut matches: impl FnMut(&K) -> bool) -> usize {
        let mut removed = 0;
        for at in 0..self.inner.shards() {
            // Flights first: one that lands in between is met as an entry.
            let flights = self.inner.view(at, Shard::flights);
            for flight in flights {
                if matches(&flight.key) {
                    removed += usize::from(self.remove(&flight.key).is_some());
                }
            }
            self.walk(
                at,
                |_| (),
                |key, _, ()| {
                    if matches(&key) {
                        removed += usize::from(self.remove(&key).is_some());
                    }
                },
            );
        }
        removed
    }

    /// Fences the loads under way, and returns how many there were: those who wait get their values, and nothing is stored.
    ///
    /// As if [`remove`](Self::remove) were called for each key that is being loaded when the call begins. Loads that begin while it runs may
    /// be missed.
    pub fn fence_loads(&self) -> usize {
        let mut fenced = 0;
        for at in 0..self.inner.shards() {
            let flights = self.inner.view(at, Shard::flights);
            fenced += flights.len();
            flights.iter().for_each(|flight| _ = self.remove(&flight.key));
        }
        fenced
    }

    /// Removes what cannot be served any more, because its time is over or it was cleared, and gives the memory back. Returns
    /// the number of entries.
    ///
    /// Writes do the same for a few entries each, so this is for caches that are not written to any more, and to have
    /// the space now. A shard of which less than half is left lays its table out anew, under its lock.
    pub fn purge_expired(&self) -> usize {
        let now = self.inner.now();
        let mut purged = 0;
        for at in 0..self.inner.shards() {
            loop {
                let mut garbage = Garbage::new();
                let mut shard = self.inner.write(at);
                purged += shard.reclaim(BATCH, now, &mut garbage);
                let done = !shard.has_dead(now);
                if done {
                    shard.compact();
                }
                drop(shard);
                self.inner.discard(garbage);
                if done {
                    break;
                }
            }
        }
        purged
    }

    /// Changes the capacity. If it shrinks, what is dead goes first, then what was used least recently.
    ///
    /// The number of shards stays. A capacity of zero makes a cache that stores nothing. A shard of which less than half is left
    /// lays its table out anew, under its lock.
    pub fn resize(&self, capacity_bytes: u64) {
        let now = self.inner.now();
        // Shards are only locked while this lock is held, and no user code runs: garbage is kept until the end.
        let mut garbage = Vec::new();
        let mut capacity = lock(&self.inner.capacity);
        *capacity = capacity_bytes;
        for at in 0..self.inner.shards() {
            let limit = self.inner.limit(capacity_bytes, at);
            loop {
                let mut batch = Garbage::new();
                let mut shard = self.inner.write(at);
                let enough = shard.resize(limit, BATCH, now, &mut batch);
                if enough {
                    shard.compact();
                }
                drop(shard);
                garbage.push(batch);
                if enough {
                    break;
                }
            }
        }
        drop(capacity);
        garbage.into_iter().for_each(|batch| self.inner.discard(batch));
    }

    /// Returns copies of up to `max_entries` entries that are alive, those first that would be evicted last, each with the time
    /// it has left (`None` for no end).
    ///
    /// The order is exact within a shard. Across shards, entries of the same rank in their shards come together. Each shard's
    /// lock is held while its part is copied.
    #[must_use]
    pub fn hottest(&self, max_entries: usize) -> Vec<(K, V, Option<Duration>)> {
        let now = self.inner.now();
        let depth = self.depth(max_entries);
        let shards = (0..self.inner.shards()).map(|at| self.inner.view(at, |shard| shard.hottest(depth, now)));
        let mut ranked: Vec<_> = shards.flat_map(|hottest| hottest.into_iter().enumerate()).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.truncate(max_entries);
        ranked.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Returns how many entries each shard must give, so that they are `wanted` together if there are so many.
    fn depth(&self, wanted: usize) -> usize {
        let mut lens: Vec<_> = (0..self.inner.shards()).map(|at| self.inner.view(at, Shard::len)).collect();
        lens.sort_unstable();
        let mut missing = wanted;
        let mut shards = lens.len();
        for len in lens {
            let share = missing.div_ceil(shards);
            if len >= share {
                return share;
            }
            missing -= len;
            shards -= 1;
        }
        wanted
    }
}
