//! How much extra work may be asked of a peer: a retry budget, as Finagle and gRPC (proposal A6) have it.

use std::time::{Duration, Instant};

/// Earns a tenth of a request for each request, and some per second without any; each retry or hedge spends one.
///
/// While all is well it is full. When everything fails, retries add a tenth to the load, and do not double it.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    tenths: u32,
    filled: Instant,
}

impl RetryBudget {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { tenths: MAX_TENTHS, filled: now }
    }

    /// Counts a request that was made anyway.
    pub(crate) fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(MAX_TENTHS);
    }

    /// Spends for one more, if there is enough.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        let earned = u32::try_from(since.as_millis() * u128::from(TENTHS_PER_SECOND) / 1000).unwrap_or(MAX_TENTHS);
        if earned > 0 {
            self.tenths = self.tenths.saturating_add(earned).min(MAX_TENTHS);
            // What is less than a tenth is kept for the next time.
            self.filled = now.checked_sub(left_over(since)).unwrap_or(now);
        }
        let may = self.tenths >= ONE;
        if may {
            self.tenths -= ONE;
        }
        may
    }
}

fn left_over(since: Duration) -> Duration {
    Duration::from_millis(u64::try_from(since.as_millis() % u128::from(1000 / TENTHS_PER_SECOND)).unwrap_or(0))
}

/// The cost of one, in tenths.
const ONE: u32 = 10;
/// Ten a second even where nobody asks for anything: a rare request may always be tried twice.
const TENTHS_PER_SECOND: u32 = 100;
/// A hundred saved at most, or a burst of failures would be a burst of retries.
const MAX_TENTHS: u32 = 100 * ONE;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be made by reading the clock; the tests step it themselves"
)]
mod tests {
    use super::*;

    fn empty(now: Instant) -> RetryBudget {
        let mut budget = RetryBudget::new(now);
        while budget.spend(now) {}
        budget
    }

    #[test]
    fn a_tenth_of_the_requests_may_be_made_twice() {
        let now = Instant::now();
        let mut budget = empty(now);
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.earn();
            retries += u32::from(budget.spend(now));
        }
        assert_eq!(retries, 100);
    }

    #[test]
    fn ten_a_second_come_without_any_however_the_time_is_cut() {
        let start = Instant::now();
        for step in [1, 7, 10, 99, 250] {
            let mut budget = empty(start);
            let times = (1..=2_000 / step).map(|n| start + Duration::from_millis(n * step));
            let granted = times.filter(|now| budget.spend(*now)).count();
            let most = usize::try_from(2_000 / step).unwrap().min(20);
            assert!(
                (most.min(19)..=20).contains(&granted) || granted == most,
                "{granted} of {most} in steps of {step} ms"
            );
        }
    }

    #[test]
    fn what_is_saved_has_a_limit() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        let later = start + Duration::from_secs(3_600);
        assert_eq!((0..1_000).filter(|_| budget.spend(later)).count(), 100);
    }
}
