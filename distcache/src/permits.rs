//! How many loads a keyspace makes at once: its data source must survive a cluster that starts cold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::error::{Error, ErrorKind, Result};

/// Places for loads, and a bounded queue before them. What finds the queue full is turned away at once, with the time after which to
/// come again; what waits past its deadline is never started.
#[derive(Debug)]
pub(crate) struct LoadPermits {
    places: Arc<Semaphore>,
    count: usize,
    queued: AtomicUsize,
    max_queued: usize,
    /// How long a load takes, in microseconds: a mean that forgets.
    load_us: Arc<AtomicU64>,
}

/// A place for a load, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _place: OwnedSemaphorePermit,
    since: Instant,
    load_us: Arc<AtomicU64>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mean = self.load_us.load(Ordering::Relaxed);
        let next = if mean == 0 { took } else { mean - mean / MEMORY + took / MEMORY };
        // Of two that end at once one may go uncounted.
        self.load_us.store(next, Ordering::Relaxed);
    }
}

impl LoadPermits {
    pub(crate) fn new(count: usize, max_queued: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        let (queued, load_us) = (AtomicUsize::new(0), Arc::default());
        Self { places: Arc::new(Semaphore::new(count)), count, queued, max_queued, load_us }
    }

    /// Waits for a place, which is given back when the permit is dropped.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<Permit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(self.permit(place));
        }
        let _queued = Queued::enter(self).ok_or_else(|| self.overloaded())?;
        match timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(self.permit(place)),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::timeout("the wait for the data source")),
        }
    }

    fn permit(&self, place: OwnedSemaphorePermit) -> Permit {
        Permit { _place: place, since: Instant::now(), load_us: Arc::clone(&self.load_us) }
    }

    fn overloaded(&self) -> Error {
        let message = format!("{} loads run and {} wait already", self.count, self.max_queued);
        Error::new(ErrorKind::Overloaded, message).after(Some(self.drained_in()))
    }

    /// About how long it takes until those that wait have had their turn.
    fn drained_in(&self) -> Duration {
        let turns = (self.max_queued / self.count + 1) as u64;
        let us = self.load_us.load(Ordering::Relaxed).saturating_mul(turns);
        Duration::from_micros(us).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
}

/// A place in the queue.
struct Queued<'a>(&'a LoadPermits);

impl<'a> Queued<'a> {
    fn enter(permits: &'a LoadPermits) -> Option<Self> {
        let queued = Self(permits);
        let before = permits.queued.fetch_add(1, Ordering::Relaxed);
        // One that is dropped here leaves again.
        (before < permits.max_queued).then_some(queued)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The mean is one of about so many loads.
const MEMORY: u64 = 8;
/// Sooner is not worth the message.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// Whoever waits longer may as well ask.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_neither_a_place_nor_room_to_wait_is_turned_away_at_once() {
        let permits = Arc::new(LoadPermits::new(2, 1));
        let first = permits.acquire(soon()).await.unwrap();
        let _second = permits.acquire(soon()).await.unwrap();
        let waiting = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { permits.acquire(soon()).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        let started = Instant::now();
        assert_eq!(permits.acquire(soon()).await.unwrap_err().kind(), ErrorKind::Overloaded);
        assert_eq!(started.elapsed(), Duration::ZERO);
        drop(first);
        assert!(waiting.await.unwrap().is_ok());
        assert_eq!(permits.queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_turned_away_is_told_to_come_when_the_queue_will_have_gone_through() {
        let permits = LoadPermits::new(2, 6);
        for _ in 0..20 {
            let permit = permits.acquire(soon()).await.unwrap();
            tokio::time::advance(Duration::from_millis(100)).await;
            drop(permit);
        }
        let wait = permits.overloaded().retry_after().unwrap();
        assert!((350..=450).contains(&wait.as_millis()), "{wait:?} for four turns of 100 ms");
        assert_eq!(LoadPermits::new(1, 0).overloaded().retry_after(), Some(SHORTEST_WAIT), "nothing is known yet");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_past_its_deadline_is_not_started_and_leaves_the_queue() {
        let permits = LoadPermits::new(1, 1);
        let _held = permits.acquire(soon()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(permits.acquire(soon()).await.unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert_eq!(permits.queued.load(Ordering::Relaxed), 0);
    }
}
