//! How long to wait before the next dial.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::config::TransportConfig;

/// Exponential back-off with full jitter: each wait is a random part of a ceiling that doubles, so that the nodes of a
/// cluster do not all dial a restarted peer at once.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
    rng: StdRng,
}

impl Backoff {
    pub(super) fn new(config: &TransportConfig) -> Self {
        let mut seed = [0; 32];
        // Without randomness the waits are still waits.
        let _ = config.entropy.fill(&mut seed);
        let (min, max) = (config.backoff_min, config.backoff_max.max(config.backoff_min));
        Self { min, max, ceiling: min, rng: StdRng::from_seed(seed) }
    }

    /// Returns the next wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(self.rng.random_range(0.0..=1.0));
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        wait
    }

    /// Returns a random part of a time, for what many nodes should not do at once.
    pub(super) fn part_of(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.random_range(0.0..=1.0))
    }

    /// Returns a time that differs from this one by at most a tenth.
    pub(super) fn about(&mut self, time: Duration) -> Duration {
        (time / 10 * 9).saturating_add(self.part_of(time / 5))
    }

    /// Starts over, if the connection that just ended lasted: one that is accepted and dropped again and again is a failure like
    /// any other.
    pub(super) fn connection_lasted(&mut self, lasted: Duration) {
        if lasted >= self.max {
            self.ceiling = self.min;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(&TransportConfig::default())
    }

    #[test]
    fn ceiling_doubles_up_to_the_maximum() {
        let mut backoff = backoff();
        let mut ceilings = Vec::new();
        for _ in 0..8 {
            ceilings.push(backoff.ceiling.as_millis());
            let ceiling = backoff.ceiling;
            assert!(backoff.next() <= ceiling);
        }
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut backoff = backoff();
        for _ in 0..10 {
            backoff.next();
        }
        let waits: Vec<_> = (0..200).map(|_| backoff.next().as_millis()).collect();
        assert!(waits.iter().any(|wait| *wait < 1000));
        assert!(waits.iter().any(|wait| *wait > 4000));
    }

    #[test]
    fn about_a_time_is_within_a_tenth_of_it() {
        let mut backoff = backoff();
        let times: Vec<_> = (0..200).map(|_| backoff.about(Duration::from_secs(100)).as_secs()).collect();
        assert!(times.iter().all(|time| (90..=110).contains(time)), "{times:?}");
        assert!(times.iter().any(|time| *time < 95) && times.iter().any(|time| *time > 105), "{times:?}");
        assert!(backoff.about(Duration::MAX) > Duration::MAX / 2);
    }

    #[test]
    fn only_a_connection_that_lasted_starts_it_over() {
        let mut backoff = backoff();
        backoff.next();
        backoff.connection_lasted(Duration::from_millis(10));
        assert_eq!(backoff.ceiling, Duration::from_millis(200));
        backoff.connection_lasted(Duration::from_secs(10));
        assert_eq!(backoff.ceiling, Duration::from_millis(100));
    }
}
