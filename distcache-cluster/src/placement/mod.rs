//! Which node owns a key: what every node must answer alike. [`Ring`] is how it is answered.

mod ring;

use std::{fmt, ops::Deref};

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use ring::Ring;

/// Decides who owns a key, from nothing but the set of members: every node that knows the same members answers alike.
///
/// [`Ring`] is the one that nodes use. The trait is the seam at which another could take its place, and lets measurements
/// put others beside it. Whatever implements it promises:
///
/// * Equal sets of (name, weight) give equal fingerprints and equal answers, in whatever order they were learned, in every
///   process and build.
/// * A member that joins takes keys from the others and moves none between them; one that leaves gives only its own.
/// * A member's share of the keys grows with its weight.
pub trait Placement: fmt::Debug + Send + Sync {
    /// Returns the owner of a key, or `None` without members.
    fn owner(&self, key: KeyHash) -> Option<Slot>;

    /// Returns up to three distinct members in the order in which they should serve a key: its owner, then its successors. The
    /// first successor is who owns the key once the owner is gone.
    fn preference(&self, key: KeyHash) -> Preference;

    /// Returns a hash of everything that decides ownership: two nodes with equal fingerprints agree on every key.
    fn fingerprint(&self) -> u64;
}

/// The position of a key on the ring, the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub(crate) u64);

impl KeyHash {
    /// Returns the hash as a number, all of whose bits are as good as random for keys that nobody chose.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// The seed under which a keyspace's keys are hashed: computed once for a keyspace, not once for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyspaceSeed(u64);

impl KeyspaceSeed {
    /// Derives the seed of the keyspace called `name`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(xxh3_64_with_seed(name.as_bytes(), ring::ALGORITHM))
    }

    /// Hashes a key of the keyspace.
    #[must_use]
    pub fn hash(self, key: &str) -> KeyHash {
        KeyHash(xxh3_64_with_seed(key.as_bytes(), self.0))
    }
}

/// The number of a member in a [`Placement`]: its place in the order of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// Makes the slot of the member at that place.
    #[must_use]
    pub const fn new(place: u16) -> Self {
        Self(place)
    }

    /// Returns the slot as an index into the members in order of name.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Up to three distinct members, best first: a slice that needs no memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preference {
    slots: [Slot; PREFERENCES],
    len: u8,
}

impl Preference {
    /// Takes the first three of `slots`, which are distinct and in order.
    #[must_use]
    pub fn new(slots: impl IntoIterator<Item = Slot>) -> Self {
        let mut taken = Self { slots: [Slot(0); PREFERENCES], len: 0 };
        for (place, slot) in taken.slots.iter_mut().zip(slots) {
            *place = slot;
            taken.len += 1;
        }
        taken
    }
}

impl Deref for Preference {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.slots[..usize::from(self.len)]
    }
}

/// Owner, and two successors for when it does not answer.
const PREFERENCES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_and_a_key_do_not_alias_another_split_of_the_same_text() {
        assert_ne!(KeyspaceSeed::of("ab").hash("c"), KeyspaceSeed::of("a").hash("bc"));
    }

    #[test]
    fn a_preference_holds_as_many_as_there_are_and_at_most_three() {
        for count in 0..6 {
            let slots: Vec<_> = (0..count).map(Slot).collect();
            assert_eq!(*Preference::new(slots.clone()), slots[..slots.len().min(3)]);
        }
    }
}
