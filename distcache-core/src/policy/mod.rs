//! Which entry goes when space is wanted: the seam to the policies.
//!
//! A policy is one single-threaded file. It knows entries by the numbers of their slots and keeps what it knows of each in the slot's
//! [`Node`]; it sees no keys, no values and no clock.

mod ghost;
mod list;
mod lru;
mod s3fifo;

use crate::{
    sync::{AtomicU8, Ordering},
    table::{Moves, NIL},
};

pub(crate) use ghost::GHOST_BYTES;
use lru::Lru;
use s3fifo::S3Fifo;

/// Chooses what a full cache evicts.
///
/// Both choices are made per shard, and whatever is expired or cleared goes before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Eviction {
    /// Two queues in order of arrival with second chances, which adapt to what is asked for: the default.
    ///
    /// Hits only count, beside one another. What is used once leaves soon, so a scan does not wash out what is used often, and a loop
    /// that is larger than the cache keeps a part of itself. It is an adaptive S3-FIFO (Yang et al., SOSP 2023).
    #[default]
    S3Fifo,
    /// Exact order of use: what was used least recently goes first.
    ///
    /// Choose it where the order must be predictable. A hit moves the entry to the front, under the exclusive lock of its shard,
    /// so hits of one shard wait for one another, and a scan of keys that are used once washes everything else out.
    Lru,
}

/// What a policy and the accounts of a shard keep of an entry, in its slot.
#[derive(Debug)]
pub(crate) struct Node {
    /// Bytes counted for the entry.
    pub(crate) weight: u32,
    /// The 32 bits of its hash that the index knows.
    pub(crate) tag: u32,
    /// The neighbours in the list the entry is in.
    newer: u32,
    older: u32,
    /// When the entry came to its place in the list.
    stamp: u32,
    /// The number of the write that the entry is of, among the writes of its shard; numbers come round after 65,536 of them.
    pub(crate) write: u16,
    /// Hits since the policy last looked, up to a small number.
    hits: AtomicU8,
    /// The list the entry is in. An enumeration, so that a free slot costs no byte more than an occupied one.
    queue: Queue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

/// The nodes of a shard, by slot.
pub(crate) trait Nodes {
    fn node(&self, at: u32) -> &Node;
    fn node_mut(&mut self, at: u32) -> &mut Node;

    /// Asks for the memory of a node ahead of its use.
    fn expect(&self, at: u32);
}

impl Node {
    /// Notes a hit, under a lock that others share. Once it is known to be hot, a node is only read, so that threads which
    /// read the same entry do not fight for its cache line.
    #[inline]
    pub(crate) fn touch(&self) {
        let hits = self.hits.load(Ordering::Relaxed);
        if hits < MOST_HITS {
            // Two hits at the same moment may count as one.
            self.hits.store(hits + 1, Ordering::Relaxed);
        }
    }

    /// Follows the neighbours to the slots they moved to.
    pub(crate) fn renumber(&mut self, moves: &Moves) {
        (self.newer, self.older) = (moves.of(self.newer), moves.of(self.older));
    }

    /// Creates the node of an entry that no policy knows yet.
    pub(crate) fn new(tag: u32, weight: u32, write: u16) -> Self {
        Self { weight, tag, newer: NIL, older: NIL, stamp: 0, write, hits: AtomicU8::new(0), queue: Queue::Small }
    }
}

/// The policy of one shard.
#[derive(Debug)]
pub(crate) enum Policy {
    S3Fifo(S3Fifo),
    Lru(Lru),
}

impl Policy {
    pub(crate) fn new(eviction: Eviction) -> Self {
        match eviction {
            Eviction::S3Fifo => Self::S3Fifo(S3Fifo::new()),
            Eviction::Lru => Self::Lru(Lru::new()),
        }
    }

    /// Whether a hit needs the exclusive lock.
    pub(crate) const fn orders_hits(eviction: Eviction) -> bool {
        matches!(eviction, Eviction::Lru)
    }

    /// Notes a hit under the exclusive lock.
    pub(crate) fn touch(&mut self, nodes: &mut impl Nodes, at: u32) {
        match self {
            Self::S3Fifo(_) => nodes.node(at).touch(),
            Self::Lru(lru) => lru.touch(nodes, at),
        }
    }

    /// Asks, ahead of its use, for the memory that an [insert](Self::insert) needs and the eviction that it may lead to. Returns the
    /// tag of who will most likely be evicted.
    #[inline]
    pub(crate) fn expect_insert(&self, nodes: &impl Nodes, tag: u32) -> Option<u32> {
        let victim = nodes.node(self.next_victim()?);
        nodes.expect(victim.newer);
        if let Self::S3Fifo(queues) = self {
            queues.expect_ghosts(tag, victim.tag);
        }
        Some(victim.tag)
    }

    /// Returns who will most likely be evicted next, if anybody will be.
    #[inline]
    pub(crate) fn next_victim(&self) -> Option<u32> {
        match self {
            Self::S3Fifo(queues) => queues.next_victim(),
            Self::Lru(lru) => lru.next_victim(),
        }
    }

    /// Takes note of an entry that is new in its slot.
    pub(crate) fn insert(&mut self, nodes: &mut impl Nodes, at: u32) {
        match self {
            Self::S3Fifo(queues) => queues.insert(nodes, at),
            Self::Lru(lru) => lru.insert(nodes, at),
        }
    }

    /// Sets what an entry counts.
    pub(crate) fn reweigh(&mut self, nodes: &mut impl Nodes, at: u32, weight: u32) {
        match self {
            Self::S3Fifo(queues) => queues.reweigh(nodes, at, weight),
            Self::Lru(lru) => lru.reweigh(nodes, at, weight),
        }
    }

    /// Forgets an entry that leaves by other ways than [`evict`](Self::evict).
    pub(crate) fn remove(&mut self, nodes: &mut impl Nodes, at: u32) {
        match self {
            Self::S3Fifo(queues) => queues.remove(nodes, at),
            Self::Lru(lru) => lru.remove(nodes, at),
        }
    }

    /// Chooses who goes, and forgets it. `None` only if there is no entry. Never the entry that was stored last, unless it is the
    /// only one.
    pub(crate) fn evict(&mut self, nodes: &mut impl Nodes) -> Option<u32> {
        match self {
            Self::S3Fifo(queues) => queues.evict(nodes),
            Self::Lru(lru) => lru.evict(nodes),
        }
    }

    /// Takes note of how much all entries may count.
    pub(crate) fn set_capacity(&mut self, capacity: u64) {
        match self {
            Self::S3Fifo(queues) => queues.set_capacity(capacity),
            Self::Lru(_) => {}
        }
    }

    /// Follows all entries to the slots they moved to, with their nodes, which were [told](Node::renumber) already.
    pub(crate) fn renumber(&mut self, moves: &Moves) {
        match self {
            Self::S3Fifo(queues) => queues.renumber(moves),
            Self::Lru(lru) => lru.renumber(moves),
        }
    }

    /// Returns up to `count` slots that `is_wanted`, those first that would be evicted last.
    pub(crate) fn hottest(&self, nodes: &impl Nodes, count: usize, is_wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        match self {
            Self::S3Fifo(queues) => queues.hottest(nodes, count, is_wanted),
            Self::Lru(lru) => lru.hottest(nodes).filter(|at| is_wanted(*at)).take(count).collect(),
        }
    }

    /// Recomputes what can be, and returns all slots.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn validate(&self, nodes: &impl Nodes) -> Vec<u32> {
        match self {
            Self::S3Fifo(queues) => queues.validate(nodes),
            Self::Lru(lru) => lru.validate(nodes),
        }
    }
}

/// Hits that are told apart. With three, main takes a third longer to forget what nobody wants any more, for no gain on average.
const MOST_HITS: u8 = 2;
