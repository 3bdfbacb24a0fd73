//! A consistent-hash ring with virtual nodes (Karger et al., STOC 1997).
//!
//! The ring search is the `hashring` crate's, fed with points that we hash ourselves: its own hashing goes through
//! `std::hash::Hash`, whose output is no promise between compiler versions, and a placement must be the same on every
//! node of every build. Golden vectors in the tests pin it. Never used: `add` (sorts on each call), `remove` (may take
//! another node's point), `get_with_replicas` (clones the ring, returns virtual nodes).
//!
//! The search is not made anew for each key, because it would wait for memory some ten times in a ring of 64 nodes. It is made for hashes at
//! equal distances when the ring is built; a look-up goes on from the nearest one before its key and passes over a few points.

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::{KeyHash, PREFERENCES, Placement, Preference, Slot};
use crate::ident::NodeName;

/// An immutable ring over a set of members.
///
/// Equal sets of (name, weight) give equal rings, whatever the order they were learned in. A member that joins takes keys
/// from the others and moves none between them; one that leaves gives only its own.
///
/// ```
/// use distcache_cluster::{KeyspaceSeed, NodeName, Placement, Ring};
///
/// let members = ["a", "b", "c"].map(|name| (NodeName::new(name).expect("short"), 100));
/// let ring = Ring::new(&members);
/// let owner = ring.owner(KeyspaceSeed::of("users").hash("alice")).expect("three members");
/// assert!(owner.index() < 3);
/// ```
#[derive(Debug, Clone)]
pub struct Ring {
    /// What the search finds for hashes at equal distances: the first point at or after each. A power of two of them, or none
    /// without members.
    starts: Box<[u32]>,
    /// By how much a hash is shifted to say its start.
    shift: u32,
    /// Of the points, in order. Apart from what else there is to a point, so that those that a look-up passes over lie close together.
    positions: Box<[u64]>,
    /// For each point: the first [`PREFERENCES`] distinct owners from there on.
    orders: Box<[[Slot; PREFERENCES]]>,
    members: usize,
    fingerprint: u64,
}

impl Ring {
    /// Builds the ring of `members`, each with its weight in percent. They may come in any order, without duplicate names;
    /// slots are given in order of name. At most 65,535 members are placed.
    #[must_use]
    pub fn new(members: &[(NodeName, u16)]) -> Self {
        let sorted = sorted(members);
        let points = points(&sorted);
        // One bit at least, for a hash cannot be shifted away whole.
        let shift = u64::BITS - (points.len() / POINTS_PER_START).max(2).ilog2();
        Self {
            orders: orders(&points, sorted.len()),
            positions: points.iter().map(|point| point.position).collect(),
            starts: starts(points, shift),
            shift,
            members: sorted.len(),
            fingerprint: fingerprint(&sorted),
        }
    }

    /// Finds the first point at or after a key: of the last ones, that is the first of all.
    fn order(&self, key: KeyHash) -> Option<&[Slot; PREFERENCES]> {
        let start = *self.starts.get((key.0 >> self.shift) as usize)? as usize;
        let passed = self.positions[start..].iter().take_while(|position| **position < key.0).count();
        self.orders.get(start + passed).or_else(|| self.orders.first())
    }
}

impl Placement for Ring {
    fn owner(&self, key: KeyHash) -> Option<Slot> {
        self.order(key).map(|order| order[0])
    }

    fn preference(&self, key: KeyHash) -> Preference {
        Preference::new(self.order(key).into_iter().flatten().copied().take(self.members))
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// In order of name, each name once: the order of slots.
fn sorted(members: &[(NodeName, u16)]) -> Vec<&(NodeName, u16)> {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted.dedup_by(|a, b| a.0 == b.0);
    sorted.truncate(usize::from(u16::MAX));
    sorted
}

/// The virtual nodes of all members, in order of position.
fn points(sorted: &[&(NodeName, u16)]) -> Vec<Point> {
    let count = |weight: u16| (POINTS_PER_NODE * u32::from(weight) / 100).max(1);
    let mut points = Vec::with_capacity(sorted.iter().map(|(_, weight)| count(*weight) as usize).sum());
    for (slot, (name, weight)) in (0u16..).zip(sorted) {
        let at = |index: u32| xxh3_64_with_seed(name.as_str().as_bytes(), ALGORITHM ^ u64::from(index));
        points.extend((0..count(*weight)).map(|index| Point { position: at(index), index: 0, slot: Slot(slot) }));
    }
    in_order(points)
}

/// Sorts and numbers them. Two nodes may claim one position: the lower slot has it, so every node agrees.
fn in_order(mut points: Vec<Point>) -> Vec<Point> {
    // By one number only, which is much faster than by two.
    points.sort_unstable_by_key(|point| point.position);
    points.dedup_by(|other, kept| {
        let is_claimed_twice = other.position == kept.position;
        if is_claimed_twice {
            kept.slot = kept.slot.min(other.slot);
        }
        is_claimed_twice
    });
    for (index, point) in (0u32..).zip(&mut points) {
        point.index = index;
    }
    points
}

/// Searches for the first point at or after each hash of which nothing but the highest bits is set.
fn starts(points: Vec<Point>, shift: u32) -> Box<[u32]> {
    let mut ring = HashRing::with_hasher(PassThrough);
    ring.batch_add(points);
    let start = |highest: u64| {
        let hash = highest << shift;
        let found: &Point = ring.get(&KeyHash(hash))?;
        // Across the wrap there is nothing to pass over.
        Some(if found.position < hash { ring.len() as u32 } else { found.index })
    };
    (0..1 << (u64::BITS - shift)).map_while(start).collect()
}

/// Walks the ring backwards once, so that building costs O(points), not O(points × members).
fn orders(points: &[Point], members: usize) -> Box<[[Slot; PREFERENCES]]> {
    let mut orders = vec![[Slot(0); PREFERENCES]; points.len()].into_boxed_slice();
    // What follows the last point is what the first ones of all say. Places beyond the number of members are never asked for.
    let mut ahead: Vec<Slot> = Vec::with_capacity(PREFERENCES);
    for point in points {
        if ahead.len() == members.min(PREFERENCES) {
            break;
        }
        if !ahead.contains(&point.slot) {
            ahead.push(point.slot);
        }
    }
    ahead.resize(PREFERENCES, Slot(0));
    let mut ahead = [ahead[0], ahead[1], ahead[2]];
    for (order, point) in orders.iter_mut().zip(points).rev() {
        // Its member moves to the front, if need be from its place.
        let [first, second, third] = ahead;
        ahead = match point.slot {
            slot if slot == first => ahead,
            slot if slot == second => [second, first, third],
            slot => [slot, first, second],
        };
        *order = ahead;
    }
    orders
}

fn fingerprint(sorted: &[&(NodeName, u16)]) -> u64 {
    let mut hash = Xxh3::with_seed(ALGORITHM);
    hash.update(&POINTS_PER_NODE.to_le_bytes());
    for (name, weight) in sorted {
        hash.update(&(name.as_str().len() as u64).to_le_bytes());
        hash.update(name.as_str().as_bytes());
        hash.update(&weight.to_le_bytes());
    }
    hash.digest()
}

/// A virtual node: a position on the ring that belongs to a member.
#[derive(Debug, Clone, Copy)]
struct Point {
    position: u64,
    index: u32,
    slot: Slot,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.position);
    }
}

/// Hands a hash that was computed already through `std::hash::Hash` untouched.
#[derive(Debug, Clone, Copy)]
struct PassThrough;

impl BuildHasher for PassThrough {
    type Hasher = Passed;

    fn build_hasher(&self) -> Passed {
        Passed(0)
    }
}

#[derive(Debug)]
struct Passed(u64);

impl Hasher for Passed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("points and keys write one u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Virtual nodes of a node of weight 100. A node's share is the sum of as many arcs, so its standard deviation is 2.2 %, and the
/// busiest of 64 equal nodes is more than a tenth above the mean for one set of names in some 2,600. Measured: for 2 sets of 5,000
/// (median 1.051, 99th percentile 1.080), of 32 nodes for 1, of 16 or fewer for none. With 1,024 points it is one set in 20. With 4,096
/// it would be one in fifty million, for twice the time and memory, which are some 10 ms and 2 MB for 64 nodes.
const POINTS_PER_NODE: u32 = 2_048;
/// Points for each start, on average. A look-up passes over half as many, which lie in a cache line or two.
const POINTS_PER_START: usize = 8;
/// Part of every hash here. Another algorithm gets another number, and nodes of different numbers see it by fingerprint.
pub(super) const ALGORITHM: u64 = 1 << 32;

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "ring_golden.rs"]
mod golden;

#[cfg(test)]
#[path = "ring_proofs.rs"]
mod proofs;
