//! How much a node holds of what must not grow without end, beside what it may: for a simulation, which compares the two.

use crate::{cluster::Cluster, coherence::MAX_MARKS, driver::links::MAX_PEERS, recent::CAPACITY, standing::HISTORY};

/// One thing that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Size {
    /// What it is.
    pub of: &'static str,
    /// How much of it there is.
    pub held: usize,
    /// How much there may be.
    pub bound: usize,
}

impl Cluster {
    /// Returns all that is bounded on this node.
    #[must_use]
    pub fn sizes(&self) -> Vec<Size> {
        let shared = self.shared();
        let config = &shared.config;
        let (events, bytes) = shared.invalidations.log().held();
        let size = |(of, held, bound)| Size { of, held, bound };
        let sizes = [
            ("events in the log", events, config.invalidation_log),
            ("bytes in the log", bytes, config.invalidation_log_bytes),
            ("tombstones", shared.tombstones.held(), config.tombstones),
            ("recent writes", shared.recent.held(), CAPACITY),
            // Those of all keyspaces count apart.
            ("marks of epochs", shared.ledger.held(), 2 * MAX_MARKS),
            ("sessions", shared.sessions.held(), MAX_PEERS),
            ("views", shared.standing.held(), HISTORY),
        ];
        sizes.into_iter().map(size).collect()
    }
}
