//! One shard: entries, flights and counters under one limit, single-threaded. [`Cache`](crate::Cache) puts a lock around it.
//!
//! Time and the cache's epoch are arguments. Whatever must be dropped goes into a [`Garbage`], for the caller to
//! discard when the lock is released, since dropping a key or a value is user code.

use std::{borrow::Borrow, time::Duration};

use crate::{
    clock::Tick,
    defects::{Defect, planted},
    error::InsertError,
    expiry::is_over,
    fill::Installed,
    flight::{Flight, Flights, Place},
    garbage::{Cause, Garbage},
    policy::{Eviction, Policy},
    stats::Stats,
    store::{Cursor, Graves, MAX_WEIGHT, NewEntry, Store, WriteId},
    sync::Arc,
};

#[derive(Debug)]
pub(crate) struct Shard<K, V> {
    store: Store<K, V>,
    /// The last epoch the shard has seen.
    epoch: u64,
    /// Whether the policy takes note of hits under a lock that others share.
    shares_hits: bool,
    /// Bytes that all entries may count.
    limit: u64,
    flights: Flights<K, V>,
    /// What was cleared and is not dropped yet, the oldest first.
    graves: Vec<Graves<K, V>>,
    counters: Stats,
}

/// What a reader sees who shares the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// An entry that may be served, in this slot.
    Alive(u32),
    Absent,
    /// An entry whose time is over.
    Dead,
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
    pub(crate) fn new(limit: u64, eviction: Eviction, idle: Option<Duration>) -> Self {
        let mut store = Store::new(eviction, idle);
        store.set_limit(limit);
        let shares_hits = !Policy::orders_hits(eviction);
        Self {
            store,
            epoch: 0,
            shares_hits,
            limit,
            flights: Flights::new(),
            graves: Vec::new(),
            counters: Stats::default(),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether [`read`](Self::read) will do: nothing is to be learnt from a hit but that it was one, and no entry has an end.
    #[inline]
    pub(crate) fn is_plain(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.shares_hits && self.store.is_endless()
    }

    /// Takes note of the cache's epoch. Called first thing under the exclusive lock; every other method relies on it.
    pub(crate) fn sync(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            let graves = self.store.clear();
            self.store.set_limit(self.limit);
            if graves.len > 0 {
                self.graves.push(graves);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.store.len()
    }

    /// Bytes counted for all entries, cleared ones too.
    pub(crate) fn weight(&self) -> u64 {
        self.store.weight() + self.graves.iter().map(|graves| graves.weight).sum::<u64>()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { entries: self.store.len() as u64, weight: self.weight(), ..self.counters }
    }

    /// Ends a flight's registration, however it ended.
    pub(crate) fn detach(&mut self, flight: &Arc<Flight<K, V>>, garbage: &mut Garbage<K, V>) {
        if let Some(flight) = self.flights.remove(flight) {
            garbage.flight(flight);
        }
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
    pub(crate) fn resize(&mut self, limit: u64, count: usize, now: Tick, garbage: &mut Garbage<K, V>) -> bool {
        self.limit = limit;
        self.store.set_limit(limit);
        for _ in 0..count {
            if self.weight() <= self.limit {
                break;
            }
            self.make_room_once(now, garbage);
        }
        self.weight() <= self.limit
    }

    /// Takes out up to `count` entries that cannot be served any more. Returns how many.
    pub(crate) fn reclaim(&mut self, count: usize, now: Tick, garbage: &mut Garbage<K, V>) -> usize {
        (0..count).take_while(|_| self.reclaim_once(now, garbage)).count()
    }

    /// Whether [`reclaim`](Self::reclaim) has something left to do at that time.
    pub(crate) fn has_dead(&self, now: Tick) -> bool {
        !self.graves.is_empty() || self.store.is_any_due(now)
    }

    /// Gives the memory of free slots back, if they are many.
    pub(crate) fn compact(&mut self) {
        self.store.compact();
    }

    /// Makes room after a write: gives back a little of what is dead, then as much as the limit wants.
    fn make_room(&mut self, now: Tick, garbage: &mut Garbage<K, V>) {
        self.reclaim(RECLAIMED_A_WRITE, now, garbage);
        while self.weight() > self.limit {
            self.make_room_once(now, garbage);
        }
        // Values that became larger, or fewer, must not leave the slots of many small ones behind.
        self.store.compact();
    }

    fn make_room_once(&mut self, now: Tick, garbage: &mut Garbage<K, V>) {
        if !self.reclaim_once(now, garbage) {
            garbage.entry(self.store.evict(), Cause::Evicted);
            self.counters.evictions += 1;
        }
    }

    /// Takes out an entry that was cleared, or one whose time is over. Says whether there was one.
    fn reclaim_once(&mut self, now: Tick, garbage: &mut Garbage<K, V>) -> bool {
        if let Some(graves) = self.graves.first_mut()
            && let Some(entry) = graves.next()
        {
            garbage.entry(entry, Cause::Cleared);
            self.counters.removals += 1;
            // With the last entry, the memory of its table goes too: nobody may ever come back for it.
            if graves.len == 0 {
                self.graves.remove(0);
                if self.graves.is_empty() {
                    self.graves = Vec::new();
                }
            }
            return true;
        }
        if let Some(at) = self.store.first_over(now) {
            self.bury(at, garbage);
            return true;
        }
        false
    }

    /// Takes an entry out whose time is over.
    fn bury(&mut self, at: u32, garbage: &mut Garbage<K, V>) {
        self.counters.expired += 1;
        garbage.entry(self.store.take(at), Cause::Expired);
    }
}

impl<K: Eq, V> Shard<K, V> {
    /// Looks a key up, under a lock that others share.
    pub(crate) fn sight<Q>(&self, tag: u32, key: &Q, now: Tick) -> Sight
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        match self.store.find(tag, key) {
            None => Sight::Absent,
            Some(at) if is_over(self.store.deadline(at), now) => Sight::Dead,
            Some(at) => Sight::Alive(at),
        }
    }

    #[inline]
    pub(crate) fn value(&self, at: u32) -> &V {
        &self.store.entry(at).value
    }

    /// Notes a use, under a lock that others share.
    pub(crate) fn touch(&self, at: u32, now: Tick) {
        self.store.touch_shared(at, now);
    }

    /// Stores a value over whatever is there or being loaded.
    pub(crate) fn insert(
        &mut self,
        entry: NewEntry<K, V>,
        now: Tick,
        garbage: &mut Garbage<K, V>,
    ) -> Result<(), InsertError> {
        self.fence(entry.tag, &entry.key, garbage);
        let (weight, limit) = (entry.weight, self.largest());
        let too_large = weight > limit && !is_over(entry.deadline, now);
        if too_large || is_over(entry.deadline, now) {
            self.discard(entry.tag, &entry.key, now, garbage);
            garbage.unused(entry.key, entry.value);
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
        entry: NewEntry<K, V>,
        now: Tick,
        garbage: &mut Garbage<K, V>,
    ) -> Installed {
        self.detach(flight, garbage);
        let installed = if flight.is_poisoned() && !planted(Defect::PoisonIgnored) {
            Installed::Poisoned
        } else if flight.epoch != self.epoch {
            Installed::Stale
        } else if is_over(entry.deadline, now) {
            Installed::Expired
        } else if entry.weight > self.largest() {
            Installed::TooLarge
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
        garbage.unused(entry.key, entry.value);
        installed
    }

    /// Takes an entry out and fences the flight of its key: the invalidation (R1). Returns the entry if it was alive.
    pub(crate) fn remove<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.fence(tag, key, garbage);
        self.take_live(tag, key, now, garbage)
    }

    /// Takes an entry out if it is still of that write. The flight of its key is left alone.
    pub(crate) fn remove_write(
        &mut self,
        tag: u32,
        key: &K,
        write: WriteId,
        now: Tick,
        garbage: &mut Garbage<K, V>,
    ) -> bool {
        let same = self.store.find(tag, key).is_some_and(|at| self.store.write_id(at) == write);
        same && self.discard(tag, key, now, garbage)
    }

    /// Bytes that one entry may count.
    fn largest(&self) -> u64 {
        self.limit.min(MAX_WEIGHT)
    }

    fn put(&mut self, entry: NewEntry<K, V>, now: Tick, garbage: &mut Garbage<K, V>) {
        self.store.expect_insert(entry.tag);
        match self.find_live(entry.tag, &entry.key, now, garbage) {
            Some(at) => {
                let (key, value) = self.store.replace(at, entry, now);
                garbage.pair(key, value, Cause::Replaced);
                self.counters.updates += 1;
            }
            None => {
                self.store.push(entry, now);
                self.counters.inserts += 1;
            }
        }
        self.make_room(now, garbage);
        self.store.expect_eviction();
    }

    /// Poisons the flight of a key and detaches it, so that the next lookup starts a new one.
    fn fence<Q>(&mut self, tag: u32, key: &Q, garbage: &mut Garbage<K, V>)
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if let Some(flight) = self.flights.find(tag, key).map(Arc::clone) {
            flight.poison();
            if !planted(Defect::NotDetached) {
                self.detach(&flight, garbage);
            }
            garbage.flight(flight);
        }
    }

    /// Takes an entry out that nobody asked for. Says whether it was alive.
    fn discard(&mut self, tag: u32, key: &K, now: Tick, garbage: &mut Garbage<K, V>) -> bool {
        let taken = self.take_live(tag, key, now, garbage);
        let alive = taken.is_some();
        if let Some((key, value)) = taken {
            garbage.pair(key, value, Cause::Removed);
        }
        alive
    }

    fn take_live<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let at = self.find_live(tag, key, now, garbage)?;
        self.counters.removals += 1;
        let entry = self.store.take(at);
        Some((entry.key, entry.value))
    }

    /// Returns the slot of a key. An entry that is met and whose time is over is taken out.
    fn find_live<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let at = self.store.find(tag, key)?;
        if is_over(self.store.deadline(at), now) {
            self.bury(at, garbage);
            return None;
        }
        Some(at)
    }
}

impl<K: Eq, V: Clone> Shard<K, V> {
    /// Reads a key of a [plain](Self::is_plain) shard, under a lock that others share.
    #[inline]
    pub(crate) fn read<Q>(&self, tag: u32, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let entry = self.store.entry(self.store.find(tag, key)?);
        entry.node.touch();
        Some(entry.value.clone())
    }

    /// Reads a key under a lock of the reader's own: what is over is taken out, and policies that order hits learn of this one.
    pub(crate) fn get<Q>(&mut self, tag: u32, key: &Q, now: Tick, garbage: &mut Garbage<K, V>) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let at = self.find_live(tag, key, now, garbage)?;
        let value = self.value(at).clone();
        self.store.touch(at, now);
        Some(value)
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
    /// Copies up to `count` slots' worth of entries that are alive, from `cursor` on: their keys, which writes they are of and what
    /// `also` makes of their values. Returns where to go on.
    pub(crate) fn copy<T>(
        &self,
        cursor: Cursor,
        count: usize,
        now: Tick,
        also: impl Fn(&V) -> T,
        copies: &mut Vec<(K, WriteId, T)>,
    ) -> Option<Cursor> {
        self.store.walk(cursor, count, |at| {
            if !is_over(self.store.deadline(at), now) {
                let entry = self.store.entry(at);
                copies.push((entry.key.clone(), self.store.write_id(at), also(&entry.value)));
            }
        })
    }
}

impl<K: Clone, V: Clone> Shard<K, V> {
    /// Copies the `count` entries that are alive and would be evicted last, with the time they have left.
    pub(crate) fn hottest(&self, count: usize, now: Tick) -> Vec<(K, V, Option<Duration>)> {
        let slots = self.store.hottest(count, |at| !is_over(self.store.deadline(at), now));
        let copy = |at| {
            let (entry, deadline) = (self.store.entry(at), self.store.deadline(at));
            let left = (deadline != Tick::MAX).then(|| deadline.saturating_since(now));
            (entry.key.clone(), entry.value.clone(), left)
        };
        slots.into_iter().map(copy).collect()
    }
}

#[cfg(any(test, fuzzing))]
impl<K: Eq, V> Shard<K, V> {
    /// Recomputes everything that can be. Returns the slots, those first that would be evicted last.
    pub(crate) fn validate(&self) -> Vec<u32> {
        let slots = self.store.validate();
        self.flights.validate();
        assert!(self.weight() <= self.limit, "{} bytes in a shard of {}", self.weight(), self.limit);
        assert!(self.flights.iter().all(|flight| !flight.is_poisoned()), "a poisoned flight can be joined");
        let counters = &self.counters;
        let gone = counters.evictions + counters.expired + counters.removals;
        let all = self.store.len() + self.graves.iter().map(|graves| graves.len).sum::<usize>();
        assert_eq!(counters.inserts - gone, all as u64, "an entry came or went uncounted: {counters:?}");
        slots
    }
}

/// More than one, so that dead entries go faster than writes can add to them; few, so that no write pays for the others.
const RECLAIMED_A_WRITE: usize = 4;

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
