//! How long to wait before the next attempt.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Spaces attempts that fail: each wait is drawn from the upper half of a bound that doubles.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    random: RandomState,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { failures: 0, random: RandomState::new() }
    }

    /// Returns how long to wait after one more failure.
    pub(super) fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let bound = FIRST.saturating_mul(2_u32.saturating_pow(self.failures - 1)).min(LONGEST);
        bound / 2 + self.below(bound / 2)
    }

    /// Notes a success: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns whether the last attempt failed.
    pub(super) fn failed_before(&self) -> bool {
        self.failures > 0
    }

    /// Draws a duration below `bound`, which spreads what all nodes would else do at once.
    pub(super) fn below(&self, bound: Duration) -> Duration {
        // Seeded by the operating system, which is all the chance that a wait needs.
        let drawn = self.random.hash_one((self.failures, std::time::Instant::now()));
        let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(drawn % millis)
    }
}

/// A watch that was cut is open again before anybody misses it.
const FIRST: Duration = Duration::from_millis(100);
/// An API server that comes back is met by all nodes within half a minute, and not by all at once.
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new();
        for failure in 0..100 {
            let (delay, bound) = (backoff.next_delay(), FIRST.saturating_mul(1 << failure.min(20)).min(LONGEST));
            assert!(delay >= bound / 2 && delay < bound, "{delay:?} after {failure} failures");
        }
        backoff.reset();
        assert!(backoff.next_delay() < FIRST);
    }

    #[test]
    fn waits_differ() {
        let delays: std::collections::HashSet<_> = (0..64)
            .map(|_| {
                let mut backoff = Backoff::new();
                (0..9).for_each(|_| _ = backoff.next_delay());
                backoff.next_delay()
            })
            .collect();
        assert!(delays.len() > 32, "{delays:?}");
    }
}
