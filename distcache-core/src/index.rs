//! From a key's hash to its slot: open addressing with linear probing, eight bytes a bucket.
//!
//! Rust's `HashMap` would store each key a second time and hash it under the lock. The index stores 32 bits of a hash that was
//! computed before, and asks its caller which of the few candidates is the one.

use crate::slab::NIL;

/// A place in the index. The slot is [`NIL`] if the place is free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tag: u32,
    slot: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A power of two of them, or none.
    buckets: Vec<Bucket>,
    len: usize,
}

impl Index {
    /// Returns the slot with that tag which `is_it`.
    pub(crate) fn find(&self, tag: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut at = self.home(tag);
        loop {
            let bucket = self.buckets[at];
            if bucket.slot == NIL {
                return None;
            }
            if bucket.tag == tag && is_it(bucket.slot) {
                return Some(bucket.slot);
            }
            at = self.after(at);
        }
    }

    /// Adds a slot that is not in the index.
    pub(crate) fn insert(&mut self, tag: u32, slot: u32) {
        if (self.len + 1) * 4 > self.buckets.len() * 3 {
            self.resize((self.buckets.len() * 2).max(MIN_BUCKETS));
        }
        self.place(Bucket { tag, slot });
        self.len += 1;
    }

    /// Removes a slot that is in the index.
    pub(crate) fn remove(&mut self, tag: u32, slot: u32) {
        let mut hole = self.home(tag);
        while self.buckets[hole].slot != slot {
            assert!(self.buckets[hole].slot != NIL, "only slots in the index are removed");
            hole = self.after(hole);
        }
        self.close(hole);
        self.len -= 1;
        if self.buckets.len() > MIN_BUCKETS && self.len * 8 < self.buckets.len() {
            self.resize(self.buckets.len() / 2);
        }
    }

    /// Moves later buckets back into the hole, so that no search meets a gap before what it looks for.
    fn close(&mut self, mut hole: usize) {
        let mask = self.buckets.len() - 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let bucket = self.buckets[at];
            if bucket.slot == NIL {
                break;
            }
            let distance_from_home = at.wrapping_sub(self.home(bucket.tag)) & mask;
            let distance_from_hole = at.wrapping_sub(hole) & mask;
            if distance_from_home >= distance_from_hole {
                self.buckets[hole] = bucket;
                hole = at;
            }
        }
        self.buckets[hole].slot = NIL;
    }

    fn place(&mut self, bucket: Bucket) {
        let mut at = self.home(bucket.tag);
        while self.buckets[at].slot != NIL {
            at = self.after(at);
        }
        self.buckets[at] = bucket;
    }

    fn resize(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.buckets, vec![Bucket { tag: 0, slot: NIL }; size]);
        for bucket in old.into_iter().filter(|bucket| bucket.slot != NIL) {
            self.place(bucket);
        }
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.buckets.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len() - 1)
    }

    #[cfg(test)]
    pub(crate) fn validate(&self, len: usize) {
        assert_eq!(self.len, len);
        let used = self.buckets.iter().filter(|bucket| bucket.slot != NIL);
        assert_eq!(used.clone().count(), len);
        for bucket in used {
            assert_eq!(
                self.find(bucket.tag, |slot| slot == bucket.slot),
                Some(bucket.slot),
                "a bucket is out of reach"
            );
        }
    }
}

/// Below eight buckets, which is one cache line, nothing is gained by being smaller.
const MIN_BUCKETS: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_with_equal_tags_are_told_apart_by_the_caller() {
        let mut index = Index::default();
        assert_eq!(index.find(9, |_| true), None);
        index.insert(9, 1);
        index.insert(9, 2);
        assert_eq!(index.find(9, |slot| slot == 2), Some(2));
        index.remove(9, 1);
        assert_eq!(index.find(9, |_| true), Some(2));
    }

    #[test]
    fn it_shrinks_when_it_empties() {
        let mut index = Index::default();
        (0..10_000).for_each(|slot| index.insert(slot, slot));
        let full = index.buckets.len();
        (0..9_990).for_each(|slot| index.remove(slot, slot));
        assert!(index.buckets.len() * 100 < full, "{} of {full} buckets are left for 10 slots", index.buckets.len());
        index.validate(10);
    }

    proptest! {
        // Few homes, so that chains are long and wrap around the end.
        #[test]
        fn it_agrees_with_a_list(steps in prop::collection::vec((any::<bool>(), 0_u32..24, 0_u32..6), 0..300)) {
            let mut index = Index::default();
            let mut list: Vec<(u32, u32)> = Vec::new();
            for (insert, slot, spread) in steps {
                let known = list.iter().position(|(_, listed)| *listed == slot);
                match (insert, known) {
                    (true, None) => {
                        // Tags at both ends of a table of any size.
                        let tag = (spread % 3).wrapping_sub(2);
                        index.insert(tag, slot);
                        list.push((tag, slot));
                    }
                    (false, Some(at)) => {
                        let (tag, slot) = list.swap_remove(at);
                        index.remove(tag, slot);
                    }
                    _ => {}
                }
                index.validate(list.len());
                for (tag, slot) in &list {
                    prop_assert_eq!(index.find(*tag, |at| at == *slot), Some(*slot));
                }
            }
        }
    }
}
