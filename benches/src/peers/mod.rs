//! The caches under test, behind one small trait: ours, and those a user would pick instead.

mod foyer;
mod locked_lru;
mod moka;
mod ours;
mod quick;
mod tiny_ufo;

use std::{fmt, hash::Hash};

use clap::ValueEnum;
use distcache_core::Eviction;
use foyer_memory::{LfuConfig, LruConfig, S3FifoConfig};
use serde::{Deserialize, Serialize};

use self::{foyer::Foyer, locked_lru::LockedLru, moka::Moka, ours::Ours, quick::Quick, tiny_ufo::TinyUfo};

/// A cache under test, used as its documentation says.
pub trait Peer<K, V>: Send + Sync + 'static {
    /// Says whether the key is cached. If it is, its value was handed out in the owned form that this cache has, and dropped.
    fn get(&self, key: &K) -> bool;

    /// Stores a value.
    fn insert(&self, key: K, value: V);

    /// Does the work that the cache has put off, if it is of the kind that does.
    fn settle(&self) {}
}

/// What a key must be for every cache under test.
pub trait Key: Hash + Eq + Clone + Send + Sync + 'static {}

/// What a value must be for every cache under test.
pub trait Value: Clone + Send + Sync + 'static {}

/// What is done with a cache under test. The code is compiled once for each, so that no call to one is dynamic.
pub trait Visit<K, V> {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<P: Peer<K, V>>(self, peer: P) -> Self::Output;
}

/// What bounds a cache under test.
#[derive(Debug, Clone, Copy)]
pub enum Bound<V> {
    /// A number of entries.
    Entries(u64),
    /// The sum of the weights of its entries.
    Weight {
        /// The largest sum.
        total: u64,
        /// About how many entries that is: some caches want to know.
        entries: u64,
        /// Weighs a value.
        weigh: fn(&V) -> u32,
    },
}

/// A cache and how it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidate {
    /// Ours, as it comes.
    Ours,
    /// Ours, in exact order of use.
    OursLru,
    /// moka's `sync::Cache`, as it comes.
    Moka,
    /// quick_cache, as it comes.
    Quick,
    /// quick_cache in 64 shards.
    Quick64,
    /// foyer-memory with S3-FIFO.
    FoyerS3fifo,
    /// foyer-memory with W-TinyLFU.
    FoyerLfu,
    /// foyer-memory with LRU.
    FoyerLru,
    /// lru in 16 mutexes.
    Lru16,
    /// lru in 64 mutexes.
    Lru64,
    /// TinyUFO, in its fast form.
    TinyUfo,
}

impl Candidate {
    /// Every candidate, ours first.
    pub const ALL: &[Self] = &[
        Self::Ours,
        Self::OursLru,
        Self::Moka,
        Self::Quick,
        Self::Quick64,
        Self::FoyerS3fifo,
        Self::FoyerLfu,
        Self::FoyerLru,
        Self::Lru16,
        Self::Lru64,
        Self::TinyUfo,
    ];

    /// Returns the name that tables and plots show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "DistCache",
            Self::OursLru => "DistCache LRU",
            Self::Moka => "moka",
            Self::Quick => "quick_cache",
            Self::Quick64 => "quick_cache/64",
            Self::FoyerS3fifo => "foyer s3fifo",
            Self::FoyerLfu => "foyer lfu",
            Self::FoyerLru => "foyer lru",
            Self::Lru16 => "lru/16 mutexes",
            Self::Lru64 => "lru/64 mutexes",
            Self::TinyUfo => "TinyUFO",
        }
    }

    /// Says whether it is the work of others.
    #[must_use]
    pub const fn is_peer(self) -> bool {
        !matches!(self, Self::Ours | Self::OursLru)
    }

    /// Returns those that were chosen, which is every candidate if none was.
    #[must_use]
    pub const fn chosen(some: &[Self]) -> &[Self] {
        if some.is_empty() { Self::ALL } else { some }
    }

    /// Builds the cache, and does something with it.
    pub fn build<K: Key, V: Value, T: Visit<K, V>>(self, bound: Bound<V>, visit: T) -> T::Output {
        match self {
            Self::Ours => visit.visit(Ours::new(bound, Eviction::default())),
            Self::OursLru => visit.visit(Ours::new(bound, Eviction::Lru)),
            Self::Moka => visit.visit(Moka::new(bound)),
            Self::Quick => build_quick(bound, None, visit),
            Self::Quick64 => build_quick(bound, Some(64), visit),
            Self::FoyerS3fifo => visit.visit(Foyer::new(bound, S3FifoConfig::default())),
            Self::FoyerLfu => visit.visit(Foyer::new(bound, LfuConfig::default())),
            Self::FoyerLru => visit.visit(Foyer::new(bound, LruConfig::default())),
            Self::Lru16 => visit.visit(LockedLru::new(bound, 16)),
            Self::Lru64 => visit.visit(LockedLru::new(bound, 64)),
            Self::TinyUfo => visit.visit(TinyUfo::new(bound)),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl<T: Hash + Eq + Clone + Send + Sync + 'static> Key for T {}

impl<T: Clone + Send + Sync + 'static> Value for T {}

impl<V> Bound<V> {
    /// Returns about how many entries there will be.
    fn entries(&self) -> u64 {
        match *self {
            Self::Entries(entries) | Self::Weight { entries, .. } => entries,
        }
    }

    /// Returns what the weights may add up to, where an entry of a cache bounded in entries weighs one.
    fn total(&self) -> u64 {
        match *self {
            Self::Entries(total) | Self::Weight { total, .. } => total,
        }
    }

    fn weigh(&self) -> Option<fn(&V) -> u32> {
        match *self {
            Self::Entries(_) => None,
            Self::Weight { weigh, .. } => Some(weigh),
        }
    }
}

/// Builds a quick_cache, whose weigher is part of its type.
fn build_quick<K: Key, V: Value, T: Visit<K, V>>(bound: Bound<V>, shards: Option<usize>, visit: T) -> T::Output {
    match bound.weigh() {
        None => visit.visit(Quick::new(bound, shards, quick_cache::UnitWeighter)),
        Some(weigh) => visit.visit(Quick::new(bound, shards, quick::ByFunction(weigh))),
    }
}

/// Returns a number of entries or a weight as a size in memory.
fn as_size(number: u64) -> usize {
    usize::try_from(number).expect("a cache that is measured fits in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Overfill;

    impl Visit<u64, u32> for Overfill {
        type Output = u64;

        fn visit<P: Peer<u64, u32>>(self, peer: P) -> u64 {
            (0..30_000).for_each(|key| peer.insert(key, 100));
            peer.settle();
            (0..30_000).filter(|key| peer.get(key)).count() as u64
        }
    }

    #[test]
    fn every_candidate_keeps_to_a_bound_in_entries() {
        for candidate in Candidate::ALL {
            let kept = candidate.build(Bound::Entries(10_000), Overfill);
            assert!((8_000..=10_100).contains(&kept), "{candidate} kept {kept}");
        }
    }

    #[test]
    fn every_candidate_keeps_to_a_bound_in_weight() {
        for candidate in Candidate::ALL {
            let bound = Bound::Weight { total: 1_000_000, entries: 10_000, weigh: |value| *value };
            let kept = candidate.build(bound, Overfill);
            assert!((4_000..=10_100).contains(&kept), "{candidate} kept {kept}");
        }
    }
}
