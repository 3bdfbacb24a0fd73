//! Everything that was measured, read back.

use std::path::Path;

use crate::{
    clean_build::CleanBuild,
    collide::{Choice, Spread},
    contest::Workload,
    flight::{Loader, Storms},
    hit_ratio::Row,
    latency::Tail,
    memory::{Overhead, Shape},
    peers::Candidate,
    records, stats,
    throughput::Speed,
};

/// What all measurements stored. What was not measured is empty.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// Hits on traces.
    pub hit_ratio: Vec<Row>,
    /// Operations per second.
    pub throughput: Vec<Speed>,
    /// The time of single gets.
    pub latency: Vec<Tail>,
    /// Bytes of memory.
    pub memory: Vec<Overhead>,
    /// Storms on one key.
    pub flight: Vec<Storms>,
    /// Chosen keys.
    pub collide: Vec<Spread>,
    /// Builds from nothing.
    pub clean_build: Vec<CleanBuild>,
}

impl Results {
    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or holds something else.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            hit_ratio: records::read(folder, records::HIT_RATIO)?,
            throughput: records::read(folder, records::THROUGHPUT)?,
            latency: records::read(folder, records::LATENCY)?,
            memory: records::read(folder, records::MEMORY)?,
            flight: records::read(folder, records::FLIGHT)?,
            collide: records::read(folder, records::COLLIDE)?,
            clean_build: records::read(folder, records::CLEAN_BUILD)?,
        })
    }

    /// Returns how fast a cache was in each round.
    #[must_use]
    pub fn speed(&self, workload: Workload, threads: usize, cache: Candidate) -> Option<&[f64]> {
        let is_it = |speed: &&Speed| (speed.workload, speed.threads, speed.cache) == (workload, threads, cache);
        Some(&self.throughput.iter().find(is_it)?.rounds)
    }

    /// Returns how long the gets of a cache took.
    #[must_use]
    pub fn tail(&self, threads: usize, cache: Candidate) -> Option<&Tail> {
        self.latency.iter().find(|tail| (tail.threads, tail.cache) == (threads, cache))
    }

    /// Returns what an entry of a cache costs.
    #[must_use]
    pub fn overhead(&self, shape: Shape, cache: Candidate) -> Option<&Overhead> {
        self.memory.iter().find(|overhead| (overhead.shape, overhead.cache) == (shape, cache))
    }

    /// Returns how storms on a cache went.
    #[must_use]
    pub fn storms(&self, cache: Loader) -> Option<&Storms> {
        self.flight.iter().find(|storms| storms.cache == cache)
    }

    /// Returns the 99th percentiles of gets of some keys.
    #[must_use]
    pub fn spread(&self, keys: Choice) -> Option<&[f64]> {
        Some(&self.collide.iter().find(|spread| spread.keys == keys)?.p99)
    }
}

/// Returns the median of the ratios of two caches, round by round: what disturbed the machine in a round disturbed both.
#[must_use]
pub fn paired_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    stats::median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_was_slow_for_both_does_not_change_their_ratio() {
        assert_eq!(paired_ratio(&[2.0, 4.0, 0.2], &[1.0, 2.0, 0.1]), 2.0);
        assert!(paired_ratio(&[], &[]).is_nan());
    }

    #[test]
    fn what_was_not_measured_is_empty() {
        let results = Results::read(Path::new("no/such/folder")).unwrap();
        assert!(results.throughput.is_empty() && results.clean_build.is_empty());
        assert_eq!(results.speed(Workload::GetHit, 1, Candidate::Ours), None);
    }
}
