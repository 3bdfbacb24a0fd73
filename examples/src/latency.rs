//! How long reads took.

use std::time::Duration;

/// The times of a number of reads, for exact percentiles: every time is kept.
///
/// ```
/// use std::time::Duration;
/// use distcache_examples::Latencies;
///
/// let times: Latencies = (1..=100).map(Duration::from_micros).collect();
/// assert_eq!(times.percentile(50.0), Duration::from_micros(50));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    ascending: Vec<Duration>,
}

impl Latencies {
    /// Returns the smallest time that at least `percent` of all times do not exceed (the nearest-rank method); zero when there
    /// are none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let count = self.ascending.len();
        let rank = (percent / 100.0 * count as f64).ceil() as usize;
        self.ascending.get(rank.clamp(1, count.max(1)) - 1).copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut ascending: Vec<_> = times.into_iter().collect();
        ascending.sort_unstable();
        Self { ascending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: &[u64]) -> Latencies {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = millis(&[30, 10, 20, 40]);
        assert_eq!(times.percentile(50.0), Duration::from_millis(20));
        assert_eq!(times.percentile(51.0), Duration::from_millis(30));
        assert_eq!(times.percentile(99.0), Duration::from_millis(40));
    }

    #[test]
    fn the_ends_are_the_fastest_and_the_slowest() {
        let times = millis(&[3, 1, 2]);
        assert_eq!(times.percentile(0.0), Duration::from_millis(1));
        assert_eq!(times.percentile(100.0), Duration::from_millis(3));
    }

    #[test]
    fn no_reads_take_no_time() {
        assert_eq!(Latencies::default().percentile(99.0), Duration::ZERO);
    }
}
