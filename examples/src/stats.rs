//! What a node counted, as it tells it.

use serde::{Deserialize, Serialize};

/// What a node counted since it started: [`distcache::KeySpaceStats`], and the database's own count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStats {
    /// Keys asked of the database by this process, counted by the data source itself.
    pub fetches: u64,
    /// Keys asked for at this node.
    pub reads: u64,
    /// Answered from its memory.
    pub local_hits: u64,
    /// Answered from its copy of what another owns.
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
    /// Not in the database.
    pub missing: u64,
    /// Ended with an error.
    pub failures: u64,
    /// Keys the node asked its data source for, as the node counts them.
    pub source_loads: u64,
    /// Those of them made because an owner was out of reach.
    pub fallback_loads: u64,
    /// Keys that peers asked of this node.
    pub peer_reads: u64,
    /// Entries held.
    pub entries: u64,
    /// Copies held of others' values, in case they die.
    pub reserve_entries: u64,
    /// Bytes held.
    pub bytes: u64,
}

impl NodeStats {
    /// Returns what was counted since `earlier`. Entries and bytes are as they are now.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            fetches: self.fetches - earlier.fetches,
            reads: self.reads - earlier.reads,
            local_hits: self.local_hits - earlier.local_hits,
            near_hits: self.near_hits - earlier.near_hits,
            peer_hits: self.peer_hits - earlier.peer_hits,
            peer_loads: self.peer_loads - earlier.peer_loads,
            peer_fills: self.peer_fills - earlier.peer_fills,
            local_loads: self.local_loads - earlier.local_loads,
            fallbacks: self.fallbacks - earlier.fallbacks,
            missing: self.missing - earlier.missing,
            failures: self.failures - earlier.failures,
            source_loads: self.source_loads - earlier.source_loads,
            fallback_loads: self.fallback_loads - earlier.fallback_loads,
            peer_reads: self.peer_reads - earlier.peer_reads,
            entries: self.entries,
            reserve_entries: self.reserve_entries,
            bytes: self.bytes,
        }
    }

    /// Whether every read is accounted for by exactly one way it ended.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        let hits = self.local_hits + self.near_hits + self.peer_hits;
        let served = hits + self.peer_loads + self.peer_fills + self.local_loads + self.fallbacks;
        self.reads == served + self.missing + self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_ended_in_no_way_does_not_add_up() {
        let stats = NodeStats { reads: 6, local_hits: 1, peer_hits: 2, missing: 3, ..NodeStats::default() };
        assert!(stats.adds_up());
        assert!(!NodeStats { reads: 7, ..stats }.adds_up());
    }
}
