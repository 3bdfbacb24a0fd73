//! How long a peer usually takes: the 95th percentile of its answers, estimated on the fly.

use std::time::Duration;

/// An estimate that moves up by nineteen parts for an answer that took longer, and down by one for one that did not (stochastic
/// approximation after Robbins and Monro, 1951): it rests where one in twenty takes longer. Two numbers, no samples kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percentile95 {
    micros: f64,
}

impl Percentile95 {
    pub(crate) const fn new() -> Self {
        Self { micros: 0.0 }
    }

    pub(crate) fn observe(&mut self, took: Duration) {
        let took = took.as_secs_f64() * 1e6;
        // Steps in proportion, so that it finds its level on any network within a hundred answers.
        let step = (self.micros * STEP).max(1.0);
        self.micros = if took > self.micros { self.micros + 19.0 * step } else { (self.micros - step).max(0.0) };
    }

    pub(crate) fn estimate(self) -> Duration {
        Duration::from_micros(self.micros as u64)
    }
}

/// Small enough to rest, large enough to follow a network that changed within seconds.
const STEP: f64 = 0.002;

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn estimate_rests_where_one_answer_in_twenty_takes_longer() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut percentile = Percentile95::new();
        let mut slower = 0;
        for n in 0..40_000 {
            let took = Duration::from_micros(rng.random_range(100..1_100));
            slower += u32::from(n >= 20_000 && took > percentile.estimate());
            percentile.observe(took);
        }
        assert!((600..1_400).contains(&slower), "{slower} of 20,000");
    }

    #[test]
    fn estimate_follows_a_network_that_changed() {
        let mut percentile = Percentile95::new();
        for level in [200, 20_000, 200] {
            (0..5_000).for_each(|_| percentile.observe(Duration::from_micros(level)));
            let estimate = percentile.estimate().as_micros();
            assert!((level as u128 * 9 / 10..=level as u128 * 12 / 10).contains(&estimate), "{estimate} of {level}");
        }
    }
}
