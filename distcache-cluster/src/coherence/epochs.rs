//! Which clears and deletions of keyspaces this node has heard of (R9): [`Epochs`], a pure machine.
//!
//! Every process that clears or deletes a keyspace is an *origin* and stamps what it does with its Lamport clock. A node keeps, for each
//! keyspace and origin, the newest stamps: its [`Mark`]. Marks merge as the pointwise maximum, a version vector for each keyspace, so
//! nodes may hear of them in any order, any number of times, and deletions on both sides of a split both win. One stamp for a whole
//! keyspace would not do: of two that were made at once, the smaller would be taken for old.
//!
//! A node keeps so many marks, those with the highest stamps: a choice that all nodes make alike, so that what one has forgotten no
//! other teaches it anew. Each change has an ordinal at its node, and a node remembers of which ordinal its peers have told it
//! everything. A peer that has forgotten something that came after that says so, and then everything goes: *deliver or drop*.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{
    defects::{Defect, planted},
    ident::NodeIdent,
};

/// A process that clears and deletes keyspaces. Not the node: a restart begins anew, and must neither go on counting nor be taken
/// for what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin(pub(crate) u64);

impl Origin {
    /// Makes the origin of a process. `seed` tells processes apart whose clock was set back between their starts.
    pub(crate) fn of(ident: &NodeIdent, seed: u64) -> Self {
        Self(xxh3_64_with_seed(&ident.encode(), seed))
    }
}

/// What an origin last did to a keyspace. Later stamps are higher; zero stands for never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its name; empty for all keyspaces.
    pub(crate) keyspace: Arc<str>,
    pub(crate) origin: Origin,
    pub(crate) cleared: u64,
    pub(crate) deleted: u64,
    /// How long ago it was deleted.
    pub(crate) age: Duration,
}

/// Everything a node has to say about epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) origin: Origin,
    /// How many changes it has heard of.
    pub(crate) ordinal: u64,
    /// The last of them that is not among its marks any more.
    pub(crate) forgot: u64,
    pub(crate) marks: Vec<Mark>,
}

/// What a node is to do, having heard of something new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Clear(Arc<str>),
    /// A keyspace that was deleted that long ago.
    Delete(Arc<str>, Duration),
    /// Something was missed, here or by another.
    ClearAll,
}

/// What can be done to a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Clear,
    Delete,
}

/// What one node has heard of.
#[derive(Debug)]
pub(crate) struct Epochs {
    me: Origin,
    marks: BTreeMap<(Arc<str>, Origin), Known>,
    /// The highest stamp seen.
    clock: u64,
    ordinal: u64,
    forgot: u64,
    /// Up to which of its ordinals each peer has told everything.
    met: LruCache<Origin, u64>,
    capacity: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    cleared: u64,
    deleted: u64,
    /// When it was deleted; `None` for before this machine's clock began.
    deleted_at: Option<Instant>,
    /// The ordinal of the last change.
    learned: u64,
}

impl Known {
    fn stamp(&self) -> u64 {
        self.cleared.max(self.deleted)
    }
}

impl Epochs {
    pub(crate) fn new(me: Origin) -> Self {
        Self::with_capacity(me, MAX_MARKS)
    }

    fn with_capacity(me: Origin, capacity: usize) -> Self {
        let (marks, met) = (BTreeMap::new(), LruCache::new(MAX_PEERS));
        Self { me, marks, clock: 0, ordinal: 0, forgot: 0, met, capacity }
    }

    /// Returns the hash of all marks: nodes of equal digests have heard of the same.
    pub(crate) fn digest(&self) -> u64 {
        let marks = self.marks.iter().map(|((keyspace, origin), known)| hash(keyspace, *origin, known));
        // Sums do not depend on order. The largest number has another meaning on the wire.
        marks.fold(0, u64::wrapping_add).min(u64::MAX - 1)
    }

    /// Notes what this node does to keyspaces, and returns what the others are to be told.
    pub(crate) fn note(&mut self, deed: Deed, keyspaces: &[Arc<str>], now: Instant) -> Vec<Mark> {
        let mut marks = Vec::with_capacity(keyspaces.len());
        for keyspace in keyspaces {
            self.clock += 1;
            self.ordinal += 1;
            let known = self.marks.entry((Arc::clone(keyspace), self.me)).or_default();
            known.learned = self.ordinal;
            match deed {
                Deed::Clear => known.cleared = self.clock,
                Deed::Delete => (known.deleted, known.deleted_at) = (self.clock, Some(now)),
            }
            marks.push(mark(keyspace, self.me, known, now));
        }
        self.forget();
        marks
    }

    /// Merges marks, and returns what this node is to do. A second time there is nothing to do.
    pub(crate) fn merge(&mut self, marks: &[Mark], now: Instant) -> Vec<Change> {
        // For each keyspace, the age of its youngest deletion that is news.
        let mut news = BTreeMap::<Arc<str>, Option<Duration>>::new();
        for mark in marks {
            if planted(Defect::EpochMaxRegister) && self.newest(&mark.keyspace) >= mark.cleared.max(mark.deleted) {
                continue;
            }
            self.clock = self.clock.max(mark.cleared).max(mark.deleted);
            let known = self.marks.entry((Arc::clone(&mark.keyspace), mark.origin)).or_default();
            let (clear, delete) = (mark.cleared > known.cleared, mark.deleted > known.deleted);
            if !clear && !delete {
                continue;
            }
            self.ordinal += 1;
            known.learned = self.ordinal;
            known.cleared = known.cleared.max(mark.cleared);
            let age = news.entry(Arc::clone(&mark.keyspace)).or_default();
            if delete {
                (known.deleted, known.deleted_at) = (mark.deleted, now.checked_sub(mark.age));
                *age = Some(age.map_or(mark.age, |age| age.min(mark.age)));
            }
        }
        self.forget();
        if news.contains_key(EVERY) {
            // A keyspace that is deleted is so all the same.
            news.remove(EVERY);
            let deletes = news.into_iter().filter_map(|(keyspace, age)| Some(Change::Delete(keyspace, age?)));
            return [Change::ClearAll].into_iter().chain(deletes).collect();
        }
        let change = |(keyspace, age)| match age {
            Some(age) => Change::Delete(keyspace, age),
            None => Change::Clear(keyspace),
        };
        news.into_iter().map(change).collect()
    }

    /// Returns all there is to tell a peer.
    pub(crate) fn tell(&self, now: Instant) -> Told {
        let marks = self.marks.iter().map(|((keyspace, origin), known)| mark(keyspace, *origin, known, now));
        Told { origin: self.me, ordinal: self.ordinal, forgot: self.forgot, marks: marks.collect() }
    }

    /// Takes in all that a peer has to tell, and returns what this node is to do.
    pub(crate) fn hear(&mut self, told: &Told, now: Instant) -> Vec<Change> {
        if planted(Defect::EpochNotMerged) {
            return Vec::new();
        }
        let newborn = self.ordinal == 0 && self.met.is_empty();
        let before = self.digest();
        let seen = self.met.get(&told.origin).copied();
        self.met.put(told.origin, told.ordinal.max(seen.unwrap_or(0)));
        let mut changes = self.merge(&told.marks, now);
        let missed = match seen {
            Some(seen) => told.forgot > seen,
            // Whoever has just come, and knows the same as a peer that it has not met, has it from that one's peers.
            None => told.forgot > 0 && before != digest(&told.marks),
        };
        if missed {
            changes.insert(0, Change::ClearAll);
            // Those that rely on this node for news of the peer cannot be told what this one was not. Nobody relies on a newborn.
            if !newborn {
                self.note(Deed::Clear, &[EVERY.into()], now);
            }
        }
        changes
    }

    /// Returns how many marks are kept.
    #[cfg(distcache_defects)]
    pub(crate) fn held(&self) -> usize {
        self.marks.len()
    }

    /// Drops the marks that are too many, the lowest stamps first. Those of all keyspaces count apart: what follows from forgetting
    /// must not make a node forget.
    fn forget(&mut self) {
        for of_all in [false, true] {
            let is_counted = |keyspace: &str| (keyspace == EVERY) == of_all;
            let counted = self.marks.keys().filter(|(keyspace, _)| is_counted(keyspace)).count();
            for _ in self.capacity..counted {
                let counted = self.marks.iter().filter(|((keyspace, _), _)| is_counted(keyspace));
                let order = |((keyspace, origin), known): (&(Arc<str>, Origin), &Known)| {
                    (known.stamp(), *origin, Arc::clone(keyspace))
                };
                let Some((_, origin, keyspace)) = counted.map(order).min() else { break };
                if let Some(known) = self.marks.remove(&(keyspace, origin)) {
                    self.forgot = self.forgot.max(known.learned);
                }
            }
        }
    }

    /// The highest stamp of a keyspace, whosever it is.
    fn newest(&self, keyspace: &str) -> u64 {
        let of_it = self.marks.iter().filter(|((name, _), _)| **name == *keyspace);
        of_it.map(|(_, known)| known.stamp()).max().unwrap_or(0)
    }
}

fn mark(keyspace: &Arc<str>, origin: Origin, known: &Known, now: Instant) -> Mark {
    let age = match known.deleted_at {
        Some(at) => now.saturating_duration_since(at),
        None if known.deleted == 0 => Duration::ZERO,
        None => LONG_AGO,
    };
    Mark { keyspace: Arc::clone(keyspace), origin, cleared: known.cleared, deleted: known.deleted, age }
}

fn hash(keyspace: &str, origin: Origin, known: &Known) -> u64 {
    let numbers = [xxh3_64(keyspace.as_bytes()), origin.0, known.cleared, known.deleted].map(u64::to_le_bytes);
    xxh3_64(numbers.as_flattened())
}

fn digest(marks: &[Mark]) -> u64 {
    let known = |mark: &Mark| Known { cleared: mark.cleared, deleted: mark.deleted, ..Known::default() };
    let marks = marks.iter().map(|mark| hash(&mark.keyspace, mark.origin, &known(mark)));
    marks.fold(0, u64::wrapping_add).min(u64::MAX - 1)
}

/// The name that stands for all keyspaces, and that none has.
const EVERY: &str = "";
/// Stands for an age that this machine's clock cannot tell. It goes over the wire in milliseconds.
const LONG_AGO: Duration = Duration::from_millis(u64::MAX);
/// Marks kept, and as many of those of all keyspaces. Most clusters never make as many; all of them, with the longest names, fit in one frame of a peer link.
pub(crate) const MAX_MARKS: usize = 1_024;
/// Peers remembered, as many as a node links to. One that is forgotten is a stranger again.
const MAX_PEERS: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

#[cfg(test)]
#[path = "epochs_tests.rs"]
mod tests;
