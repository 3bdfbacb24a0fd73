//! Rendezvous hashing, also called highest random weight (Thaler and Ravishankar, IEEE/ACM Transactions on Networking 1998): the member
//! whose hash together with the key is highest owns it.
//!
//! It needs no memory beyond the members and spreads keys evenly, and each look-up takes as long as there are members.

use distcache_cluster::{KeyHash, NodeName, Placement, Preference, Slot};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Members, each with a hash of its name.
#[derive(Debug, Clone)]
pub struct Rendezvous {
    /// In order of name.
    hashes: Vec<u64>,
    weights: Vec<f64>,
    /// Weights need a logarithm for each member, and mostly all are the same.
    are_equal: bool,
    fingerprint: u64,
}

impl Rendezvous {
    /// Places keys on members, each with its weight.
    #[must_use]
    pub fn new(members: &[(NodeName, u16)]) -> Self {
        let mut sorted: Vec<_> = members.iter().collect();
        sorted.sort();
        sorted.dedup_by(|a, b| a.0 == b.0);
        let mut fingerprint = Xxh3::new();
        for (name, weight) in &sorted {
            fingerprint.update(&(name.as_str().len() as u64).to_le_bytes());
            fingerprint.update(name.as_str().as_bytes());
            fingerprint.update(&weight.to_le_bytes());
        }
        Self {
            hashes: sorted.iter().map(|(name, _)| xxh3_64(name.as_str().as_bytes())).collect(),
            weights: sorted.iter().map(|(_, weight)| f64::from(*weight)).collect(),
            are_equal: sorted.windows(2).all(|pair| pair[0].1 == pair[1].1),
            fingerprint: fingerprint.digest(),
        }
    }

    /// The score of a member of some weight, as mcrouter and Ceph have it: the time until the first event of a process of that rate.
    fn score(&self, at: usize, key: KeyHash) -> f64 {
        let unit = ((mixed(self.hashes[at] ^ key.as_u64()) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        self.weights[at] / -unit.ln()
    }

    /// The highest but for those that `taken` holds.
    fn highest(&self, key: KeyHash, taken: &[usize]) -> Option<usize> {
        let left = (0..self.hashes.len()).filter(|at| !taken.contains(at));
        if self.are_equal {
            return left.max_by_key(|at| mixed(self.hashes[*at] ^ key.as_u64()));
        }
        left.max_by(|a, b| self.score(*a, key).total_cmp(&self.score(*b, key)))
    }
}

impl Placement for Rendezvous {
    fn owner(&self, key: KeyHash) -> Option<Slot> {
        if !self.are_equal {
            return self.highest(key, &[]).map(slot);
        }
        // By hand, because the standard library's maximum keeps the last of equals and is slower for it.
        let mut best = (0, None);
        for (at, hash) in self.hashes.iter().enumerate() {
            let score = mixed(hash ^ key.as_u64());
            if score > best.0 || best.1.is_none() {
                best = (score, Some(at));
            }
        }
        best.1.map(slot)
    }

    fn preference(&self, key: KeyHash) -> Preference {
        let mut taken = Vec::new();
        while taken.len() < 3 {
            let Some(next) = self.highest(key, &taken) else {
                break;
            };
            taken.push(next);
        }
        Preference::new(taken.into_iter().map(slot))
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn slot(at: usize) -> Slot {
    Slot::new(u16::try_from(at).expect("members are numbered in 16 bits"))
}

/// The finaliser of MurmurHash3.
const fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use distcache_cluster::KeyspaceSeed;

    use super::*;
    use crate::subject::members;

    fn hashes() -> impl Iterator<Item = KeyHash> {
        (0..20_000).map(|n| KeyspaceSeed::of("users").hash(&format!("user:{n}")))
    }

    #[test]
    fn shares_are_as_weights() {
        let mut all = members(4);
        all[1].1 = 300;
        let placement = Rendezvous::new(&all);
        let heavy = hashes().filter(|key| placement.owner(*key) == Some(Slot::new(1))).count();
        assert!((9_600..=10_400).contains(&heavy), "weight 300 of 600 owns {heavy} of 20,000");
    }

    #[test]
    fn the_successor_owns_a_key_once_the_owner_is_gone() {
        for weight in [100, 150] {
            let mut all = members(5);
            all[3].1 = weight;
            let placement = Rendezvous::new(&all);
            for key in hashes().take(2_000) {
                let order = placement.preference(key);
                assert_eq!((order.len(), Some(order[0])), (3, placement.owner(key)));
                let mut rest = all.clone();
                rest.remove(order[0].index());
                let heir = Rendezvous::new(&rest).owner(key).unwrap();
                assert_eq!(rest[heir.index()].0, all[order[1].index()].0);
            }
        }
    }
}
