//! One shard: entries, flights and counters under one limit, single-threaded. [`Cache`](crate::Cache) puts a lock around it.
//!
//! Time and the cache's epoch are arguments. Whatever must be dropped goes into a [`Garbage`], for the caller to
//! drop when the lock is released, since dropping a key or a value is user code.

use std::{borrow::Borrow, sync::Arc, time::Duration};

use crate::{
    clock::Tick,
    error::InsertError,
    expiry::is_over,
    fill::Installed,
    flight::{Flight, Flights, Place},
    stats::Stats,
    store::{Cursor, Entry, Store},
    weigh::ENTRY_OVERHEAD,
};

#[derive(Debug)]
pub(crate) struct Shard<K, V> {
    store: Store<K, V>,
    flights: Flights<K, V>,
    /// Bytes that entries may count.
    limit: u64,
    /// The last epoch the shard has seen.
    epoch: u64,
    counters: Stats,
}

/// What is to be dropped after the lock.
#[derive(Debug)]
pub(crate) struct Garbage<K, V> {
    pairs: Vec<(K, V)>,
    flights: Vec<Arc<Flight<K, V>>>,
}

impl<K, V> Garbage<K, V> {
    pub(crate) fn new() -> Self {
        Self { pairs: Vec::new(), flights: Vec::new() }
    }
}

/// What a lookup found, or began.
#[derive(Debug)]
pub(crate) enum Joined<K, V> {
    Hit(V),
    Lead(Arc<Flight<K, V>>),
    /// A flight, and the seat in it.
    Follow(Arc<Flight<K, V>>, u64),
}

impl<K, V> Shard<K, V> {
    pub(crate) fn new(share: u64) -> Self {
        Self {
            store: Store::new(),
            flights: Flights::new(),
            limit: limit_of(share),
            epoch: 0,
            counters: Stats::default(),
        }
    }

    /// Takes note of the cache's epoch. Called first thing under the lock; every other method relies on it.
    pub(crate) fn sync(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.store.clear();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.store.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.store.weight()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { entries: self.store.len() as u64, weight: self.store.weight(), ..self.counters }
    }

    /// Ends a flight's registration, however it ended.
    pub(crate) fn detach(&mut self, flight: &Arc<Flight<K, V>>, garbage: &mut Garbage<K, V>) {
        garbage.flights.extend(self.flights.remove(flight));
    }

    pub(crate) fn note_failure(&mut self) {
        self.counters.load_failures += 1;
    }

    pub(crate) fn note_handover(&mut self) {
        self.counters.loads += 1;
    }

    /// Returns all flights that can be joined.
    pub(crate) fn flights(&self) -> Vec<Arc<Flight<K, V>>> {
        self.flights.iter().map(Arc::clone).collect()
    }

    /// Sets the bytes that entries may count, and makes room if there are more, at most `count` entries at a time. Returns
    /// whether that was enough.
    pub(crate) fn resize(&mut self, share: u64, count: usize, now: Tick, garbage: &mut Garbage<K, V>) -> bool {
        self.limit = limit_of(share);
        for _ in 0..count {
            if self.store.weight() <= self.limit {
                break;
            }
            self.make_room_once(now, garbage);
        }
        self.store.weight() <= self.limit
    }

    /// Takes out up to `count` entries that cannot be served any more. Returns how many.
    pub(crate) fn reclaim(&mut self, count: usize, now: Tick, garbage: &mut Garbage<K, V>) -> usize {
        (0..count).take_while(|_| self.reclaim_once(now, garbage)).count()
    }

    /// Gives the memory of free slots back, if they are many.
    pub(crate) fn compact(&mut self) {
        self.store.compact();
    }

    /// Makes room after a write: gives back a little of what is dead, then as much as the limit wants.
    fn make_room(&mut self, now: Tick, garbage: &mut Garbage<K, V>) {
        self.reclaim(RECLAIMED_A_WRITE, now, garbage);
        while self.store.weight() > self.limit {
            self.make_room_once(now, garbage);
        }
    }

    fn make_room_once(&mut self, now: Tick, garbage: &mut Garbage<K, V>) {
        if !self.reclaim_once(now, garbage) {
            let oldest = self.store.oldest().expect("a shard over its limit has an entry");
            garbage.pairs.push(self.store.take(oldest));
            self.counters.evictions += 1;
        }
    }

    fn reclaim_once(&mut self, now: Tick, garbage: &mut Garbage<K, V>) -> bool {
        let dead = [self.store.oldest(), self.store.first_over()];
        match dead.into_iter().flatten().find(|at| self.is_dead(*at, now)) {
            Some(at) => self.bury(at, garbage),
            None => return false,
        }
        true
    }

    /// Says whether the entry may not be served any more.
    fn is_dead(&self, at: u32, now: Tick) -> bool {
        self.store.is_cleared(at) || is_over(self.store.deadline(at), now)
    }

    /// Takes a dead entry out.
    fn bury(&mut self, at: u32, garbage: &mut Garbage<K, V>) {
        if self.store.is_cleared(at) {
            self.counters.removals += 1;
        } else {
            self.counters.expired += 1;
        }
        garbage.pairs.push(self.store.take(at));
    }
}

impl<K: Eq, V> Shard<K, V> {
    /// Stores a value over whatever is there or being loaded.
    pub(crate) fn insert(
        &mut self,
        entry: Entry<K, V>,
        now: Tick,
        garbage: &mut Garbage<K, V>,
    ) -> Result<(), InsertError> {
        self.fence(entry.tag, &entry.key, garbage);
        let (weight, limit) = (entry.weight, self.limit);
        let too_large = weight > limit;
        if too_large || is_over(entry.deadline, now) {
            self.discard(entry.tag, &entry.key, now, garbage);
            garbage.pairs.push((entry.key, entry.value));
            self.counters.rejected += u64::from(too_large);
            return if too_large { Err(InsertError::TooLarge { weight, limit }) } else { Ok(()) };
        }
        self.put(entry, now, garbage);
        Ok(())
    }

    /// Ends a flight with a value, which is stored if nothing happened to the key since the flight began.
    pub(crate) fn install(
        &mut self,
        flight: &Arc<Flight<K, V>>,
        entry: Entry<K, V>,
        now: Tick,
        garbage: &mut Garbage<K, V>,
    ) -> Installed {
        self.detach(flight, garbage);
        let installed = if flight.is_poisoned() {
            Installed::Poisoned
        } else if flight.epoch != self.epoch {
            Installed::Stale
        } else if entry.weight > self.limit {
            Installed::TooLarge
        } else if is_over(entry.deadline, now) {
            Installed::Expired
        } else {
            Installed::Stored
        };
        match installed {
            Installed::Stored => {
                self.put(entry, now, garbage);
                return installed;
            }
            Installed::Poisoned | Installed::Stale => self.counters.poisoned += 1,
            Installed::TooLarge => self.counters.rejected += 1,
            Installed::Expired => {}
        }
        garbage.pairs.push((entry.key, entry.value));
        installed
    }

    /// Takes an entry out and fences the flight of its key: the invalidation (R1). Returns the value if it was alive.
    pub(crate) fn remove<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.fence(tag, key, garbage);
        self.take_live(tag, key, now, garbage)
    }

    /// Takes an entry out if it is the one with that serial. The flight of its key is left alone.
    pub(crate) fn remove_write(
        &mut self,
        tag: u32,
        key: &K,
        serial: u64,
        now: Tick,
        garbage: &mut Garbage<K, V>,
    ) -> bool {
        let same = self.store.find(tag, key).is_some_and(|at| self.store.serial(at) == serial);
        let taken = if same { self.take_live(tag, key, now, garbage) } else { None };
        let removed = taken.is_some();
        garbage.pairs.extend(taken);
        removed
    }

    fn put(&mut self, entry: Entry<K, V>, now: Tick, garbage: &mut Garbage<K, V>) {
        match self.find_live(entry.tag, &entry.key, now, garbage) {
            Some(at) => {
                garbage.pairs.push(self.store.replace(at, entry));
                self.counters.updates += 1;
            }
            None => {
                self.store.push(entry);
                self.counters.inserts += 1;
            }
        }
        self.make_room(now, garbage);
    }

    /// Poisons the flight of a key and detaches it, so that the next lookup starts a new one.
    fn fence<Q>(&mut self, tag: u32, key: &Q, garbage: &mut Garbage<K, V>)
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if let Some(flight) = self.flights.find(tag, key).map(Arc::clone) {
            flight.poison();
            self.detach(&flight, garbage);
            garbage.flights.push(flight);
        }
    }

    fn discard(&mut self, tag: u32, key: &K, now: Tick, garbage: &mut Garbage<K, V>) {
        let taken = self.take_live(tag, key, now, garbage);
        garbage.pairs.extend(taken);
    }

    fn take_live<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let at = self.find_live(tag, key, now, garbage)?;
        self.counters.removals += 1;
        Some(self.store.take(at))
    }

    /// Returns the slot of a key. A dead entry that is met is taken out.
    fn find_live<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let at = self.store.find(tag, key)?;
        if self.is_dead(at, now) {
            self.bury(at, garbage);
            return None;
        }
        Some(at)
    }
}

impl<K: Eq, V: Clone> Shard<K, V> {
    /// Reads a key, and makes it the most recently used one.
    pub(crate) fn get<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Some(at) = self.find_live(tag, key, now, garbage) else {
            self.counters.misses += 1;
            return None;
        };
        let value = self.store.pair(at).1.clone();
        self.store.touch(at);
        self.counters.hits += 1;
        Some(value)
    }

    /// Reads a key and leaves no trace.
    pub(crate) fn peek<Q>(&self, tag: u32, key: &Q, now: Tick) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let at = self.store.find(tag, key).filter(|at| !self.is_dead(*at, now))?;
        Some(&self.store.pair(at).1)
    }

    /// Reads a key, or joins its flight. If there is neither, the caller [leads](Self::lead), under the same lock.
    pub(crate) fn join(&mut self, tag: u32, key: &K, now: Tick, garbage: &mut Garbage<K, V>) -> Option<Joined<K, V>> {
        if let Some(value) = self.get(tag, key, now, garbage) {
            return Some(Joined::Hit(value));
        }
        let flight = self.flights.find(tag, key)?;
        if flight.epoch != self.epoch {
            // It reads what was cleared: whoever comes later must not join it.
            self.fence(tag, key, garbage);
            return None;
        }
        self.counters.coalesced += 1;
        Some(Joined::Follow(Arc::clone(flight), flight.join()))
    }

    /// Starts a flight of a key that has none.
    pub(crate) fn lead(&mut self, place: Place, key: K) -> Arc<Flight<K, V>> {
        let flight = Arc::new(Flight::new(key, place, self.epoch));
        self.flights.insert(Arc::clone(&flight));
        self.counters.loads += 1;
        flight
    }
}

impl<K: Clone, V> Shard<K, V> {
    /// Copies up to `count` slots' worth of entries, from `cursor` on: their keys, the numbers of their writes and what `also`
    /// makes of their values. Returns where to go on.
    pub(crate) fn copy<T>(
        &self,
        cursor: Cursor,
        count: usize,
        also: impl Fn(&V) -> T,
        copies: &mut Vec<(K, u64, T)>,
    ) -> Option<Cursor> {
        self.store.walk(cursor, count, |at| {
            let (key, value) = self.store.pair(at);
            copies.push((key.clone(), self.store.serial(at), also(value)));
        })
    }
}

impl<K: Clone, V: Clone> Shard<K, V> {
    /// Copies the `count` most recently used entries that are alive, with the time they have left.
    pub(crate) fn hottest(&self, count: usize, now: Tick) -> Vec<(K, V, Option<Duration>)> {
        let alive = self.store.by_recency().filter(|at| !self.is_dead(*at, now));
        let copy = |at| {
            let ((key, value), deadline) = (self.store.pair(at), self.store.deadline(at));
            (key.clone(), value.clone(), (deadline != Tick::MAX).then(|| deadline.saturating_since(now)))
        };
        alive.take(count).map(copy).collect()
    }
}

#[cfg(test)]
impl<K: Eq, V> Shard<K, V> {
    /// Recomputes everything that can be.
    pub(crate) fn validate(&self) {
        self.store.validate();
        self.flights.validate();
        assert!(self.store.weight() <= self.limit, "{} bytes in a shard of {}", self.store.weight(), self.limit);
        assert!(self.flights.iter().all(|flight| !flight.is_poisoned()), "a poisoned flight can be joined");
        let counters = &self.counters;
        let gone = counters.evictions + counters.expired + counters.removals;
        let all = self.store.len() as u64 + self.store.cleared() as u64;
        assert_eq!(counters.inserts - gone, all, "an entry came or went uncounted: {counters:?}");
    }
}

/// Every entry counts at least the overhead, so this limit keeps the entries of a shard below 2^32 minus a few: slots have
/// numbers of 32 bits.
fn limit_of(share: u64) -> u64 {
    share.min(u64::from(u32::MAX - 2) * ENTRY_OVERHEAD as u64)
}

/// More than one, so that dead entries go faster than writes can add to them; few, so that no write pays for the others.
const RECLAIMED_A_WRITE: usize = 4;

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
