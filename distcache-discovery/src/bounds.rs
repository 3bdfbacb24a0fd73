//! How much of an answer a node will try, whoever gave it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Seed;

/// Cuts answers to [`MAX_SEEDS`], and says so when that begins to matter.
#[derive(Debug)]
pub(crate) struct Bounds {
    provider: &'static str,
    overflowing: AtomicBool,
}

impl Bounds {
    pub(crate) const fn of(provider: &'static str) -> Self {
        Self { provider, overflowing: AtomicBool::new(false) }
    }

    /// Keeps the first [`MAX_SEEDS`].
    pub(crate) fn keep(&self, seeds: BTreeSet<Seed>) -> Vec<Seed> {
        let found = seeds.len();
        let overflows = found > MAX_SEEDS;
        if overflows && !self.overflowing.load(Ordering::Relaxed) {
            tracing::warn!(provider = self.provider, found, kept = MAX_SEEDS, "more seeds than a node will try");
        }
        self.overflowing.store(overflows, Ordering::Relaxed);
        seeds.into_iter().take(MAX_SEEDS).collect()
    }
}

/// Seeds only lead to the cluster, so a handful is enough; the limit keeps a wrong file or a hostile answer from becoming a
/// million dials.
pub(crate) const MAX_SEEDS: usize = 1024;
