//! What a keyspace did on this node, in counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one keyspace on one node since it was defined, and its present size.
///
/// `reads` = `local_hits` + `near_hits` + `peer_hits` + `peer_loads` + `peer_fills` + `local_loads` + `fallbacks` + `stale` + `missing` + `failures` once no read is
/// in flight. A read that waited for another caller's load counts as that load's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct KeySpaceStats {
    /// Keys asked for at this node.
    pub reads: u64,
    /// Answered from this node's memory.
    pub local_hits: u64,
    /// Answered from this node's copy of what another owns, by the owner's leave.
    pub near_hits: u64,
    /// Answered by the owner from its memory.
    pub peer_hits: u64,
    /// Answered by the owner, which loaded the value for it.
    pub peer_loads: u64,
    /// Answered by this node as the owner, which had the value from the one before it.
    pub peer_fills: u64,
    /// Answered by this node as the owner, which loaded the value for it.
    pub local_loads: u64,
    /// Answered by this node for an owner that was out of reach.
    pub fallbacks: u64,
    /// Answered with a value whose time was up, because a new one could not be loaded.
    pub stale: u64,
    /// The data source has no such key.
    pub missing: u64,
    /// Ended with an error.
    pub failures: u64,
    /// Keys that peers asked of this node.
    pub peer_reads: u64,
    /// Keys this node asked its data source for: for itself and for peers, found or not.
    pub source_loads: u64,
    /// Those of them that were made because an owner was out of reach.
    pub fallback_loads: u64,
    /// Loads that the data source failed.
    pub source_failures: u64,
    /// Entries held.
    pub entries: u64,
    /// Copies held of others' values, in case they die.
    pub reserve_entries: u64,
    /// Bytes held: keys, values and overhead.
    pub bytes: u64,
    /// Entries that had to go for want of room.
    pub evictions: u64,
    /// Entries that went because their time was up.
    pub expired: u64,
}

/// The counters behind [`KeySpaceStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: Counter,
    pub(crate) local_hits: Counter,
    pub(crate) near_hits: Counter,
    pub(crate) peer_hits: Counter,
    pub(crate) peer_loads: Counter,
    pub(crate) peer_fills: Counter,
    pub(crate) local_loads: Counter,
    pub(crate) fallbacks: Counter,
    pub(crate) stale: Counter,
    pub(crate) missing: Counter,
    pub(crate) failures: Counter,
    pub(crate) peer_reads: Counter,
    pub(crate) source_loads: Counter,
    pub(crate) fallback_loads: Counter,
    pub(crate) source_failures: Counter,
}

impl Counters {
    /// Returns the counts; sizes are the caller's to fill in.
    pub(crate) fn snapshot(&self) -> KeySpaceStats {
        KeySpaceStats {
            reads: self.reads.get(),
            local_hits: self.local_hits.get(),
            near_hits: self.near_hits.get(),
            peer_hits: self.peer_hits.get(),
            peer_loads: self.peer_loads.get(),
            peer_fills: self.peer_fills.get(),
            local_loads: self.local_loads.get(),
            fallbacks: self.fallbacks.get(),
            stale: self.stale.get(),
            missing: self.missing.get(),
            failures: self.failures.get(),
            peer_reads: self.peer_reads.get(),
            source_loads: self.source_loads.get(),
            fallback_loads: self.fallback_loads.get(),
            source_failures: self.source_failures.get(),
            ..KeySpaceStats::default()
        }
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
