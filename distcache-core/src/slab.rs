//! Slots in chunks of fixed size, addressed by `u32`: no entry is ever moved to make room for another.

use std::ops::{Index, IndexMut};

use crate::clock::Tick;

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;

/// One entry and its links.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    /// `None` in a free slot.
    pub(crate) item: Option<T>,
    /// Bytes counted for it.
    pub(crate) weight: u64,
    /// When it is over.
    pub(crate) deadline: Tick,
    /// The number of its write; no other write of the shard has it.
    pub(crate) serial: u64,
    /// The part of its hash that the index knows.
    pub(crate) tag: u32,
    /// Where it is in the queue of deadlines, or [`NIL`].
    pub(crate) place: u32,
    /// The next more recently used slot.
    pub(crate) newer: u32,
    /// The next less recently used slot; of a free slot, the next free one.
    pub(crate) older: u32,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: NIL, len: 0 }
    }

    /// Slots that hold an item.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Slots, free or not: the numbers below this one.
    pub(crate) fn slots(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Puts a slot somewhere and returns its number.
    pub(crate) fn insert(&mut self, slot: Slot<T>) -> u32 {
        self.len += 1;
        if self.free != NIL {
            let at = self.free;
            self.free = self[at].older;
            self[at] = slot;
            return at;
        }
        let at = u32::try_from(self.slots()).expect("a shard's limit keeps its entries below 2^32");
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.last_mut().expect("a chunk was made if there was none").push(slot);
        at
    }

    /// Takes the item out of a slot, and frees the slot. The caller unlinked it before.
    pub(crate) fn remove(&mut self, at: u32) -> T {
        let free = self.free;
        let slot = &mut self[at];
        let item = slot.item.take().expect("only occupied slots are removed");
        slot.older = free;
        self.free = at;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        item
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = Slot<T>;

    fn index(&self, at: u32) -> &Slot<T> {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut Slot<T> {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

/// Large enough that chunks are few, small enough that a small shard does not reserve more than it may hold.
const CHUNK: usize = 64;

#[cfg(test)]
impl<T> Slab<T> {
    pub(crate) fn validate(&self) {
        let occupied = (0..self.slots()).filter(|at| self[*at as u32].item.is_some()).count();
        assert_eq!(occupied, self.len);
        let mut free = 0;
        let mut at = self.free;
        while at != NIL {
            assert!(self[at].item.is_none(), "an occupied slot is on the free list");
            free += 1;
            at = self[at].older;
        }
        assert_eq!(occupied + free, self.slots(), "a slot is lost");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn slot<T>(item: T) -> Slot<T> {
        Slot { item: Some(item), weight: 0, deadline: Tick::MAX, serial: 0, tag: 0, place: NIL, newer: NIL, older: NIL }
    }

    #[test]
    fn freed_slots_are_used_again_before_new_ones_are_made() {
        let mut slab = Slab::new();
        for item in 0..200 {
            assert_eq!(slab.insert(slot(item)), item);
        }
        assert_eq!(slab.remove(70), 70);
        assert_eq!(slab.remove(5), 5);
        slab.validate();
        assert_eq!((slab.insert(slot(1)), slab.insert(slot(2))), (5, 70));
        assert_eq!(slab.slots(), 200);
        slab.validate();
    }

    #[test]
    fn an_empty_slab_holds_no_memory() {
        let mut slab = Slab::new();
        (0..200).for_each(|item| _ = slab.insert(slot(item)));
        (0..200).for_each(|item| _ = slab.remove(item));
        assert_eq!((slab.slots(), slab.chunks.len()), (0, 0));
        slab.validate();
    }
}
