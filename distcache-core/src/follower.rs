//! The waiting side of a load: [`Follower`].

use std::{
    fmt,
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use crate::{
    error::Failure,
    fill::Fill,
    flight::{Flight, Sight},
    hash::SecretState,
    inner::Inner,
    sync::{Arc, Condvar, Mutex, lock},
};

/// A wait for a load that another caller leads.
///
/// It is a future for any executor; threads call [`wait`](Self::wait). It ends with what the leader got, or with the lead itself
/// if the leader went away: then this caller loads.
///
/// It waits as long as the leader works. A caller with less patience puts its own limit around it, and drops it then: a
/// follower that is kept without being polled may have been handed the lead, and holds up all others.
///
/// # Cancel safety
///
/// Dropping a follower, at any time, leaves no trace. If it had just been handed the lead, the lead passes on.
///
/// # Examples
///
/// ```
/// use distcache_core::{Cache, Expiry, Lookup, Outcome};
///
/// let cache = Cache::<String, u64>::builder(1 << 20).build()?;
/// let Lookup::Lead(fill) = cache.lookup("answer") else { panic!("nothing is cached yet") };
/// let Lookup::Follow(follower) = cache.lookup("answer") else { panic!("a load is under way") };
///
/// let loader = std::thread::spawn(move || fill.install(42, Expiry::Default));
/// let Some(Outcome::Value(answer)) = follower.wait(None) else { panic!("the leader has the answer") };
/// assert_eq!(answer, 42);
/// # loader.join().unwrap();
/// # Ok::<_, distcache_core::BuildError>(())
/// ```
#[must_use = "a follower waits only while it is polled or waited on"]
pub struct Follower<K, V, S = SecretState> {
    inner: Arc<Inner<K, V, S>>,
    flight: Arc<Flight<K, V>>,
    seat: u64,
    done: bool,
}

/// How a wait ended.
pub enum Outcome<K, V, S = SecretState> {
    /// The leader has the value.
    Value(V),
    /// The load failed, with the same error for all who waited.
    Failed(Failure),
    /// The former leader went away: this caller leads now.
    Lead(Fill<K, V, S>),
}

impl<K, V, S> Follower<K, V, S> {
    pub(crate) fn new(inner: Arc<Inner<K, V, S>>, flight: Arc<Flight<K, V>>, seat: u64) -> Self {
        Self { inner, flight, seat, done: false }
    }

    fn poll_with(&mut self, waker: &Waker) -> Poll<Outcome<K, V, S>>
    where
        V: Clone,
    {
        assert!(!self.done, "a follower is not polled again once its wait is over");
        let outcome = match self.flight.poll(self.seat, waker) {
            Sight::Pending => return Poll::Pending,
            Sight::Ended(Ok(value)) => Outcome::Value(value.clone()),
            Sight::Ended(Err(failure)) => Outcome::Failed(failure.clone()),
            Sight::Lead => Outcome::Lead(Fill::new(Arc::clone(&self.inner), Arc::clone(&self.flight))),
        };
        self.done = true;
        Poll::Ready(outcome)
    }
}

impl<K, V: Clone, S> Follower<K, V, S> {
    /// Blocks the thread until the wait ends, at most for `timeout`. Returns `None` if the time was not enough.
    ///
    /// The time is the system's, not that of the cache's clock. Never call this where the leader's progress depends on this very
    /// thread, as it does on an executor of one thread.
    #[must_use]
    pub fn wait(mut self, timeout: Option<Duration>) -> Option<Outcome<K, V, S>> {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        loop {
            if let Poll::Ready(outcome) = self.poll_with(&waker) {
                drop(self);
                return Some(outcome);
            }
            // It rings only when the wait is over, so the loop does not wait twice.
            if !bell.wait(timeout) {
                return None;
            }
        }
    }
}

impl<K, V: Clone, S> Future for Follower<K, V, S> {
    type Output = Outcome<K, V, S>;

    /// # Panics
    ///
    /// Panics if it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(context.waker())
    }
}

impl<K, V, S> Drop for Follower<K, V, S> {
    fn drop(&mut self) {
        if !self.done && self.flight.leave(self.seat) {
            self.inner.abandon(&self.flight);
        }
    }
}

impl<K: fmt::Debug, V, S> fmt::Debug for Follower<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("key", &self.flight.key).field("done", &self.done).finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for Outcome<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.debug_tuple("Value").field(value).finish(),
            Self::Failed(failure) => f.debug_tuple("Failed").field(failure).finish(),
            Self::Lead(fill) => f.debug_tuple("Lead").field(fill).finish(),
        }
    }
}

/// Wakes a thread.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Returns whether it rang in time.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let (silent, rung) = (|rung: &mut bool| !*rung, lock(&self.rung));
        let mut rung = match timeout {
            None => self.changed.wait_while(rung, silent).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.changed.wait_timeout_while(rung, timeout, silent).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        std::mem::take(&mut *rung)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }
}
