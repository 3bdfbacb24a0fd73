//! How well this node itself is doing, seen from how late its timers fire.
//!
//! The local health multiplier of Lifeguard (Dadgar, Phillips and Currey, DSN-W 2018): a node that was starved of processor time
//! mistakes its own lateness for the silence of others, so while it is late it gives those it suspects more time to refute.

use std::time::{Duration, Instant};

/// Grows with late timers, shrinks by one for each calm period.
#[derive(Debug)]
pub(crate) struct LocalHealth {
    /// How many times the normal time to wait is added to it.
    score: u32,
    /// A timer that is later than this says that the node is not well.
    tolerance: Duration,
    /// How long it takes to recover by one.
    period: Duration,
    calm_since: Option<Instant>,
}

impl LocalHealth {
    pub(crate) const fn new(tolerance: Duration, period: Duration) -> Self {
        Self { score: 0, tolerance, period, calm_since: None }
    }

    /// Takes note of a timer that was due at `due` and fires now. Says whether that changed the factor.
    pub(crate) fn timer_fired(&mut self, due: Instant, now: Instant) -> bool {
        let before = self.score;
        let late = now.saturating_duration_since(due);
        if late > self.tolerance {
            let times = late.as_nanos() / self.tolerance.as_nanos().max(1);
            self.score = self.score.saturating_add(u32::try_from(times).unwrap_or(u32::MAX)).min(MAX_SCORE);
            self.calm_since = Some(now);
        } else if self.score > 0 {
            let calm_since = *self.calm_since.get_or_insert(now);
            if now.saturating_duration_since(calm_since) >= self.period {
                self.score -= 1;
                self.calm_since = Some(now);
            }
        }
        self.score != before
    }

    /// Returns by what the time in which a suspect may refute is to be multiplied.
    pub(crate) const fn factor(&self) -> u32 {
        1 + self.score
    }
}

/// As in Lifeguard: nine times the normal time at most, or a node that is always late would never call anyone dead.
const MAX_SCORE: u32 = 8;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be made by reading the clock; the tests step it themselves"
)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn health() -> (LocalHealth, Instant) {
        (LocalHealth::new(200 * MS, 500 * MS), Instant::now())
    }

    #[test]
    fn timers_in_time_leave_the_factor_at_one() {
        let (mut health, now) = health();
        for n in 0..100 {
            assert!(!health.timer_fired(now + n * 100 * MS, now + n * 100 * MS + 200 * MS));
        }
        assert_eq!(health.factor(), 1);
    }

    #[test]
    fn lateness_raises_it_in_proportion_and_up_to_a_limit() {
        let (mut health, now) = health();
        assert!(health.timer_fired(now, now + 500 * MS));
        assert_eq!(health.factor(), 3);
        assert!(health.timer_fired(now, now + 60_000 * MS));
        assert_eq!(health.factor(), 9);
    }

    #[test]
    fn calm_brings_it_down_by_one_a_period() {
        let (mut health, start) = health();
        health.timer_fired(start, start + 10_000 * MS);
        let mut now = start + 10_000 * MS;
        for expected in (1..9).rev() {
            for _ in 0..5 {
                assert_eq!(health.factor(), expected + 1);
                now += 100 * MS;
                health.timer_fired(now, now);
            }
            assert_eq!(health.factor(), expected);
        }
    }
}
