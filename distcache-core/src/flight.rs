//! Single flight: [`Flight`] is one load and those who wait for it, [`Flights`] are the loads that a shard's lookups can join.
//!
//! A flight always has someone to answer for it: a leader (a [`Fill`](crate::Fill)), or a waiting seat that was handed the
//! lead. When the answer is there, it is set once and for all, and everybody is woken.
//!
//! Locks: a flight's own lock is the inner one. It may be taken under the shard's, never the other way round, and
//! no user code runs under it.

use std::{borrow::Borrow, collections::BTreeMap, panic, task::Waker};

use crate::{
    error::Failure,
    sync::{Arc, AtomicBool, Mutex, OnceLock, Ordering, lock},
    table::{Table, Tagged},
};

/// Where a key lives: its shard, and its tag within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: usize,
    pub(crate) tag: u32,
}

#[derive(Debug)]
pub(crate) struct Flight<K, V> {
    pub(crate) key: K,
    pub(crate) place: Place,
    /// The epoch of the cache when the flight began.
    pub(crate) epoch: u64,
    /// Set under the shard's lock, and read under it by whoever stores.
    poisoned: AtomicBool,
    outcome: OnceLock<Result<V, Failure>>,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    /// In the order they came; without a waker until they are polled.
    waiting: BTreeMap<u64, Option<Waker>>,
    /// The seat that was handed the lead and has not taken it yet. It does not wait any more.
    handed: Option<u64>,
}

/// What a follower finds when it looks.
pub(crate) enum Sight<'a, V> {
    Ended(&'a Result<V, Failure>),
    Lead,
    Pending,
}

impl<K, V> Flight<K, V> {
    pub(crate) fn new(key: K, place: Place, epoch: u64) -> Self {
        Self { key, place, epoch, poisoned: AtomicBool::new(false), outcome: OnceLock::new(), seats: Mutex::default() }
    }

    /// Fences the flight: what it loads must not be stored. Called under the shard's lock.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Takes a seat. The caller holds the shard's lock or the lead, so that the flight cannot end unseen.
    pub(crate) fn join(&self) -> u64 {
        let mut seats = lock(&self.seats);
        let seat = seats.next;
        seats.next += 1;
        seats.waiting.insert(seat, None);
        seat
    }

    /// Looks whether the wait is over; if not, has `waker` woken when it is.
    pub(crate) fn poll(&self, seat: u64, waker: &Waker) -> Sight<'_, V> {
        if let Some(outcome) = self.outcome.get() {
            return Sight::Ended(outcome);
        }
        // Cloned before the lock and the old one dropped after it: both are the executor's code.
        let fresh = waker.clone();
        let mut seats = lock(&self.seats);
        // Again, since the outcome may have come, and its wakers been called, before the lock.
        if let Some(outcome) = self.outcome.get() {
            return Sight::Ended(outcome);
        }
        if seats.handed == Some(seat) {
            seats.handed = None;
            return Sight::Lead;
        }
        let stale = seats.waiting.insert(seat, Some(fresh));
        drop(seats);
        drop(stale);
        Sight::Pending
    }

    /// Leaves a seat. Returns whether it had been handed the lead, which must then be passed on.
    pub(crate) fn leave(&self, seat: u64) -> bool {
        let mut seats = lock(&self.seats);
        let waker = seats.waiting.remove(&seat);
        let led = seats.handed == Some(seat);
        if led {
            seats.handed = None;
        }
        drop(seats);
        drop(waker);
        led
    }

    /// Hands the lead to whoever has waited longest. Returns whom to wake, once no lock is held, or `None` if nobody waits.
    ///
    /// Called by the former leader, under the shard's lock.
    pub(crate) fn hand_on(&self) -> Option<Option<Waker>> {
        let mut seats = lock(&self.seats);
        let (seat, waker) = seats.waiting.pop_first()?;
        seats.handed = Some(seat);
        Some(waker)
    }

    /// Sets the outcome and wakes all who wait. Called by the leader, under no lock.
    pub(crate) fn end(&self, outcome: Result<V, Failure>) {
        let twice = self.outcome.set(outcome).is_err();
        debug_assert!(!twice, "a flight has one leader, and ending it ends the lead");
        let waiting = std::mem::take(&mut lock(&self.seats).waiting);
        wake_all(waiting.into_values().flatten());
    }
}

/// Wakes everybody, even if one of them panics; then the panic goes on.
fn wake_all(wakers: impl Iterator<Item = Waker>) {
    let mut panicked = None;
    for waker in wakers {
        if let Err(panic) = panic::catch_unwind(panic::AssertUnwindSafe(|| waker.wake())) {
            panicked = Some(panic);
        }
    }
    if let Some(panic) = panicked {
        panic::resume_unwind(panic);
    }
}

/// The flights that can be joined, by key.
#[derive(Debug)]
pub(crate) struct Flights<K, V> {
    table: Table<Arc<Flight<K, V>>>,
}

impl<K, V> Tagged for Arc<Flight<K, V>> {
    fn tag(&self) -> u32 {
        self.place.tag
    }
}

impl<K, V> Flights<K, V> {
    pub(crate) const fn new() -> Self {
        Self { table: Table::new() }
    }

    pub(crate) fn find<Q>(&self, tag: u32, key: &Q) -> Option<&Arc<Flight<K, V>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.table.get(self.table.find(tag, |flight| flight.key.borrow() == key)?)
    }

    /// Adds a flight whose key has none.
    pub(crate) fn insert(&mut self, flight: Arc<Flight<K, V>>) {
        if self.table.is_full() {
            self.table.grow(None);
        }
        self.table.insert(flight);
    }

    /// Detaches this very flight, if it is still there. The caller drops it after the lock.
    pub(crate) fn remove(&mut self, flight: &Arc<Flight<K, V>>) -> Option<Arc<Flight<K, V>>> {
        let at = self.table.find(flight.place.tag, |other| Arc::ptr_eq(other, flight))?;
        Some(self.table.remove(at))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Flight<K, V>>> {
        self.table.iter().map(|(_, flight)| flight)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn validate(&self) {
        self.table.validate();
    }
}
