//! Time as an argument: [`Clock`] gives it, [`Tick`] measures it.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use crate::sync::{Arc, AtomicU64, Ordering};

/// A point in time: nanoseconds since the origin of the clock that gave it.
///
/// Ticks of different clocks must not be compared. Arithmetic saturates, so any [`Duration`] is safe to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The end of time, 584 years after the origin. An entry that expires then never does.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the tick `span` later, or [`Tick::MAX`] if there is none.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// Returns the time from `earlier` to this tick, or zero if `earlier` is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Tells the time to a cache.
///
/// A clock must never go back. It is read once a call, before any lock is taken.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// use distcache_core::{Cache, Clock, Tick};
///
/// #[derive(Debug)]
/// struct SinceStart(Instant);
///
/// impl Clock for SinceStart {
///     fn now(&self) -> Tick {
///         Tick::default().saturating_add(self.0.elapsed())
///     }
/// }
///
/// let cache = Cache::<String, u64>::builder(1 << 20).clock(SinceStart(Instant::now())).build()?;
/// # Ok::<_, distcache_core::BuildError>(())
/// ```
pub trait Clock: Send + Sync + Debug + 'static {
    /// Returns the present tick.
    fn now(&self) -> Tick;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Tick {
        (**self).now()
    }
}

/// The system's monotonic clock: the default. Changes of the wall clock do not move it.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    origin: Instant,
}

impl MonotonicClock {
    /// Creates a clock whose origin is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock that reads the system's time")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Tick {
        Tick(nanos(self.origin.elapsed()))
    }
}

/// A clock that stands still until it is told otherwise, for tests and simulations. Clones show the same time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use distcache_core::{Cache, ManualClock};
///
/// let clock = ManualClock::new();
/// let ttl = Duration::from_secs(60);
/// let cache = Cache::builder(1 << 20).default_ttl(ttl).clock(clock.clone()).build()?;
/// cache.insert("answer", 42_u64)?;
///
/// clock.advance(ttl - Duration::from_nanos(1));
/// assert_eq!(cache.get("answer"), Some(42));
/// clock.advance(Duration::from_nanos(1));
/// assert_eq!(cache.get("answer"), None);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    ticks: Arc<AtomicU64>,
}

impl ManualClock {
    /// Creates a clock that stands at its origin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward by `span`, at most to [`Tick::MAX`].
    pub fn advance(&self, span: Duration) {
        let later = |ticks: u64| Some(ticks.saturating_add(nanos(span)));
        self.ticks.fetch_update(Ordering::AcqRel, Ordering::Acquire, later).expect("`later` never declines");
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Tick {
        Tick(self.ticks.load(Ordering::Acquire))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Tick(5).saturating_add(Duration::MAX), Tick::MAX);
        assert_eq!(Tick::MAX.saturating_add(Duration::from_nanos(1)), Tick::MAX);
        assert_eq!(Tick(5).saturating_since(Tick(7)), Duration::ZERO);
        assert_eq!(Tick(7).saturating_since(Tick(5)), Duration::from_nanos(2));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told_and_stops_at_the_end_of_time() {
        let clock = ManualClock::new();
        let same = clock.clone();
        assert_eq!(clock.now(), Tick(0));
        clock.advance(Duration::from_nanos(3));
        assert_eq!(same.now(), Tick(3));
        clock.advance(Duration::MAX);
        assert_eq!(same.now(), Tick::MAX);
    }

    #[test]
    fn the_monotonic_clock_moves_on() {
        let clock = MonotonicClock::new();
        let first = clock.now();
        while clock.now() == first {
            std::hint::spin_loop();
        }
        assert!(clock.now() > first);
    }
}
