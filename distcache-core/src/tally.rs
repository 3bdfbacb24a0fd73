//! Counting hits without making readers wait for one another.
//!
//! A counter that all threads add to costs each of them an exclusive cache line. Here every thread has a *lane* of its own to count
//! in, which needs no atomic addition, and whoever wants the sum adds the lanes up. The sum is exact.

use crate::sync::{AtomicU64, Lane, Ordering, Padded};

/// Hits and misses of a cache.
#[derive(Debug)]
pub(crate) struct Tally {
    lanes: Box<[Padded<Counts>]>,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { lanes: (0..=Lane::OWN).map(|_| Padded::default()).collect() }
    }

    /// Counts a read.
    #[inline]
    pub(crate) fn count(&self, hit: bool) {
        let lane = Lane::current();
        let counts = &self.lanes[lane.number()].0;
        add(if hit { &counts.hits } else { &counts.misses }, 1, lane);
    }

    /// Counts many reads at once.
    pub(crate) fn add(&self, hits: u64, misses: u64) {
        let lane = Lane::current();
        let counts = &self.lanes[lane.number()].0;
        add(&counts.hits, hits, lane);
        add(&counts.misses, misses, lane);
    }

    /// Returns all hits and all misses.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let sum = |which: fn(&Counts) -> &AtomicU64| {
            self.lanes.iter().map(|lane| which(&lane.0).load(Ordering::Relaxed)).sum()
        };
        (sum(|counts| &counts.hits), sum(|counts| &counts.misses))
    }
}

#[inline]
fn add(counter: &AtomicU64, count: u64, lane: Lane) {
    if lane.is_shared() {
        counter.fetch_add(count, Ordering::Relaxed);
    } else {
        // Nobody else writes here, so nothing can come between the two.
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}
