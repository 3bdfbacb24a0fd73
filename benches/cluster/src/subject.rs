//! What is measured, and the members and keys it is measured with.

use std::fmt;

use distcache_cluster::{KeyspaceSeed, NodeName, Placement, Ring};
use hashring::HashRing;
use serde::{Deserialize, Serialize};

use crate::rendezvous::Rendezvous;

/// A way to say who owns a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The ring that DistCache uses.
    Ring,
    /// Rendezvous hashing.
    Rendezvous,
    /// The `hashring` crate, as its documentation uses it: a point a node, and its own hashing.
    Hashring,
}

impl Subject {
    /// Everything that is measured.
    pub const ALL: [Self; 3] = [Self::Ring, Self::Rendezvous, Self::Hashring];

    /// Returns who owns each of some keys, as places of members in order of name.
    ///
    /// # Panics
    ///
    /// Panics without members.
    #[must_use]
    pub fn owners(self, members: &[(NodeName, u16)], keys: &[String]) -> Vec<u16> {
        match self {
            Self::Ring => placed(&Ring::new(members), keys),
            Self::Rendezvous => placed(&Rendezvous::new(members), keys),
            Self::Hashring => {
                let ring = hashring(members);
                keys.iter().map(|key| *ring.get(key).map(|(_, at)| at).expect("there are members")).collect()
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ring => "DistCache's ring",
            Self::Rendezvous => "rendezvous",
            Self::Hashring => "`hashring`, a point a node",
        })
    }
}

fn placed(placement: &impl Placement, keys: &[String]) -> Vec<u16> {
    let seed = KeyspaceSeed::of(KEYSPACE);
    let owner = |key: &String| placement.owner(seed.hash(key)).expect("there are members").index() as u16;
    keys.iter().map(owner).collect()
}

/// The ring of the `hashring` crate, made by `add` as in its documentation.
#[must_use]
pub fn hashring(members: &[(NodeName, u16)]) -> HashRing<(String, u16)> {
    let mut ring = HashRing::new();
    for (at, (name, _)) in (0_u16..).zip(members) {
        ring.add((name.as_str().to_owned(), at));
    }
    ring
}

/// So many members of equal weight, in order of name.
///
/// # Panics
///
/// Never: the names are short.
#[must_use]
pub fn members(count: usize) -> Vec<(NodeName, u16)> {
    (0..count).map(|n| (NodeName::new(&format!("cache-{n:02}")).expect("it is short"), 100)).collect()
}

/// So many keys of 20 to 27 bytes.
#[must_use]
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("customer:profile:{:x}", n as u64 * 2_654_435_761 % (1 << 40))).collect()
}

/// The keyspace of all keys.
pub const KEYSPACE: &str = "users";
/// As many nodes as the targets speak of.
pub const MOST: usize = 64;
