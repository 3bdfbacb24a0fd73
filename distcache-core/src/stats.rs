//! What a cache counted.

use std::ops::AddAssign;

/// What a cache counted since it was built. Every counter only grows, but for `entries` and `weight`, which say what is there
/// now.
///
/// Shards are read one after another, so counters of a busy cache may be a moment apart; at rest they are exact:
/// `hits + misses` is the number of `get`s and lookups, and
/// `inserts - evictions - expired - removals` is the number of `entries`, once cleared entries have given their space back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none, among them the ones that then led or joined a load.
    pub misses: u64,
    /// Values stored under a key that had none.
    pub inserts: u64,
    /// Values stored over another one.
    pub updates: u64,
    /// Entries dropped for want of space; nothing else counts here.
    pub evictions: u64,
    /// Entries dropped because their time was over.
    pub expired: u64,
    /// Entries taken out by a call: `remove`, `retain`, `invalidate_where`, an insert that stores nothing, or `clear` (counted when
    /// the space is given back).
    pub removals: u64,
    /// Values refused because they are larger than a shard.
    pub rejected: u64,
    /// How often a caller was told to load, a lead handed on by another one included.
    pub loads: u64,
    /// Loads that ended with an error.
    pub load_failures: u64,
    /// Lookups that joined a load already under way.
    pub coalesced: u64,
    /// Loaded values that were not stored, because their key was written, removed or cleared during the load.
    pub poisoned: u64,
    /// Entries there now. Counts those that expired but were not met yet; does not count cleared ones.
    pub entries: u64,
    /// Bytes counted against the capacity now, by all entries whose space is not given back yet.
    pub weight: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.evictions += other.evictions;
        self.expired += other.expired;
        self.removals += other.removals;
        self.rejected += other.rejected;
        self.loads += other.loads;
        self.load_failures += other.load_failures;
        self.coalesced += other.coalesced;
        self.poisoned += other.poisoned;
        self.entries += other.entries;
        self.weight += other.weight;
    }
}
