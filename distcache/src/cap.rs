//! How long values may still be served whose node was taken for dead: [`Cap`].

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A limit to the time of all values that were kept under a view or an earlier one.
///
/// A node that was declared down and did not know may have missed what the others did meanwhile. To drop everything would send all its
/// keys to the data source at once, and after a split those of all nodes; so each value goes at a time of its own.
#[derive(Debug, Default)]
pub(crate) struct Cap {
    /// The number of the last such view; zero for none.
    view: AtomicU32,
    limit: Mutex<Option<Limit>>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    from: Instant,
    ttl: Duration,
}

impl Cap {
    /// Limits what was kept under that view and before to `ttl` from now, give or take half of it.
    ///
    /// What an earlier limit has ended must be gone by then.
    pub(crate) fn set(&self, view: u32, ttl: Duration) {
        let now = Instant::now();
        let mut limit = self.lock();
        // One that is running still ends as it would have.
        *limit = Some(limit.filter(|limit| now < limit.end()).unwrap_or(Limit { from: now, ttl }));
        self.view.store(view, Ordering::Release);
    }

    /// Whether a value may be served that was kept under that view. `hash` is any number of its key's.
    pub(crate) fn allows(&self, view: u32, hash: impl FnOnce() -> u64) -> bool {
        if !self.doubts(view) {
            return true;
        }
        let limit = *self.lock();
        limit.is_none_or(|limit| {
            // Uniform from one half to three halves.
            let share = 0.5 + (hash() >> 32) as f64 / f64::from(u32::MAX);
            Instant::now() < limit.from + limit.ttl.mul_f64(share)
        })
    }

    /// Whether a value that was kept under that view is limited, or was.
    pub(crate) fn doubts(&self, view: u32) -> bool {
        view != 0 && view <= self.view.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Limit>> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limit {
    /// When the last value goes.
    fn end(&self) -> Instant {
        self.from + self.ttl.mul_f64(1.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn values_of_before_go_one_after_another_and_those_of_after_stay() {
        let cap = Cap::default();
        let hashes = || (0..1_000u64).map(|n| n << 54);
        let left = |view| hashes().filter(|hash| cap.allows(view, || *hash)).count();
        assert_eq!(left(1), 1_000, "nothing is limited yet");
        cap.set(3, TTL);
        assert_eq!((left(3), left(4)), (1_000, 1_000));
        tokio::time::advance(TTL / 2).await;
        assert!(left(3) > 990);
        tokio::time::advance(TTL / 2).await;
        assert!((400..600).contains(&left(3)), "{}", left(3));
        tokio::time::advance(TTL / 2 + Duration::from_millis(1)).await;
        assert_eq!((left(1), left(3), left(4)), (0, 0, 1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn second_limit_does_not_give_the_values_of_the_first_more_time() {
        let cap = Cap::default();
        cap.set(3, TTL);
        tokio::time::advance(TTL).await;
        cap.set(5, TTL);
        tokio::time::advance(TTL / 2 + Duration::from_millis(1)).await;
        assert!(!cap.allows(3, || u64::MAX) && !cap.allows(5, || u64::MAX) && cap.allows(6, || 0));
    }
}
