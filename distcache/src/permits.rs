//! How many loads a keyspace makes at once: its data source must survive a cluster that starts cold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
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
}

impl LoadPermits {
    pub(crate) fn new(count: usize, max_queued: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(count)), count, queued: AtomicUsize::new(0), max_queued }
    }

    /// Waits for a place, which is given back when the permit is dropped.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(permit);
        }
        let _queued = Queued::enter(self).ok_or_else(|| self.overloaded())?;
        match timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::timeout("the wait for the data source")),
        }
    }

    fn overloaded(&self) -> Error {
        let message = format!("{} loads run and {} wait already", self.count, self.max_queued);
        Error::new(ErrorKind::Overloaded, message)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    async fn what_waits_past_its_deadline_is_not_started_and_leaves_the_queue() {
        let permits = LoadPermits::new(1, 1);
        let _held = permits.acquire(soon()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(permits.acquire(soon()).await.unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert_eq!(permits.queued.load(Ordering::Relaxed), 0);
    }
}
