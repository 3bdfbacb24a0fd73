//! The entries of one shard: the map, the order of use, the deadlines and the sum of weights, always in step.
//!
//! A store does what it is told: it knows no limit and reads no clock. Whatever it takes out it hands to its caller.

use std::borrow::Borrow;

use crate::{
    clock::Tick,
    deadlines::Deadlines,
    index::Index,
    lru::Lru,
    slab::{NIL, Slab, Slot},
};

/// An entry to be stored.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) tag: u32,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) weight: u64,
    pub(crate) deadline: Tick,
}

/// How far a walk through a store has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    layout: u64,
    at: usize,
}

#[derive(Debug)]
pub(crate) struct Store<K, V> {
    slab: Slab<(K, V)>,
    index: Index,
    lru: Lru,
    deadlines: Deadlines,
    weight: u64,
    /// Writes so far.
    serial: u64,
    /// Entries with a smaller serial are cleared: they take space and are never served.
    live_from: u64,
    cleared: usize,
    /// Grows whenever entries change their slots, which makes walks start anew.
    layout: u64,
}

impl<K, V> Store<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(),
            index: Index::default(),
            lru: Lru::new(),
            deadlines: Deadlines::default(),
            weight: 0,
            serial: 0,
            live_from: 0,
            cleared: 0,
            layout: 0,
        }
    }

    /// Entries that are not cleared.
    pub(crate) fn len(&self) -> usize {
        self.slab.len() - self.cleared
    }

    /// Bytes counted for all entries, cleared ones too.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// Returns the slot of a key, cleared or not.
    pub(crate) fn find<Q>(&self, tag: u32, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.index.find(tag, |at| self.pair(at).0.borrow() == key)
    }

    pub(crate) fn pair(&self, at: u32) -> &(K, V) {
        self.slab[at].item.as_ref().expect("the index and the lists hold occupied slots only")
    }

    pub(crate) fn deadline(&self, at: u32) -> Tick {
        self.slab[at].deadline
    }

    pub(crate) fn serial(&self, at: u32) -> u64 {
        self.slab[at].serial
    }

    pub(crate) fn is_cleared(&self, at: u32) -> bool {
        self.slab[at].serial < self.live_from
    }

    /// Returns the least recently used slot. Cleared entries are older than all others.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.lru.oldest()
    }

    /// Returns the slot that is over first.
    pub(crate) fn first_over(&self) -> Option<u32> {
        self.deadlines.first()
    }

    /// Returns the slots of entries that are not cleared, most recently used first.
    pub(crate) fn by_recency(&self) -> impl Iterator<Item = u32> + '_ {
        self.lru.iter(&self.slab).take_while(|at| !self.is_cleared(*at))
    }

    pub(crate) fn touch(&mut self, at: u32) {
        self.lru.touch(&mut self.slab, at);
    }

    /// Adds an entry whose key is not in the store, as the most recently used one.
    pub(crate) fn push(&mut self, entry: Entry<K, V>) {
        let Entry { tag, key, value, weight, deadline } = entry;
        let slot = Slot {
            item: Some((key, value)),
            weight,
            deadline,
            serial: self.serial,
            tag,
            place: NIL,
            newer: NIL,
            older: NIL,
        };
        self.serial += 1;
        self.weight += weight;
        self.link(slot);
    }

    /// Puts an entry in the place of the one at `at`, which has the same key, and returns that one.
    pub(crate) fn replace(&mut self, at: u32, entry: Entry<K, V>) -> (K, V) {
        self.deadlines.remove(&mut self.slab, at);
        let slot = &mut self.slab[at];
        self.weight = self.weight - slot.weight + entry.weight;
        slot.weight = entry.weight;
        slot.deadline = entry.deadline;
        slot.serial = self.serial;
        let old = slot.item.replace((entry.key, entry.value));
        self.serial += 1;
        self.deadlines.add(&mut self.slab, at);
        self.lru.touch(&mut self.slab, at);
        old.expect("a found slot is occupied")
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, at: u32) -> (K, V) {
        self.cleared -= usize::from(self.is_cleared(at));
        self.weight -= self.slab[at].weight;
        self.index.remove(self.slab[at].tag, at);
        self.deadlines.remove(&mut self.slab, at);
        self.lru.unlink(&mut self.slab, at);
        self.slab.remove(at)
    }

    /// Clears all entries, without touching them: they are to be taken out little by little.
    pub(crate) fn clear(&mut self) {
        self.live_from = self.serial;
        self.cleared = self.slab.len();
    }

    /// Visits up to `count` slots from `cursor` on. Returns where to go on, or `None` at the end.
    ///
    /// Every entry that is in the store during the whole walk is visited, some perhaps twice.
    pub(crate) fn walk(&self, cursor: Cursor, count: usize, mut visit: impl FnMut(u32)) -> Option<Cursor> {
        let from = if cursor.layout == self.layout { cursor.at } else { 0 };
        let to = (from + count).min(self.slab.slots());
        for at in (from..to).map(|at| at as u32) {
            if self.slab[at].item.is_some() && !self.is_cleared(at) {
                visit(at);
            }
        }
        (to < self.slab.slots()).then_some(Cursor { layout: self.layout, at: to })
    }

    /// Gives the memory of free slots back, if they are more than half.
    pub(crate) fn compact(&mut self) {
        if self.slab.slots() <= 2 * self.slab.len() {
            return;
        }
        let mut old = std::mem::replace(&mut self.slab, Slab::new());
        let lru = std::mem::replace(&mut self.lru, Lru::new());
        self.index = Index::default();
        self.deadlines = Deadlines::default();
        self.layout += 1;
        let mut next = lru.oldest();
        while let Some(at) = next {
            let newer = old[at].newer;
            next = (newer != NIL).then_some(newer);
            let slot = &mut old[at];
            let moved = Slot { item: slot.item.take(), place: NIL, newer: NIL, older: NIL, ..*slot };
            self.link(moved);
        }
    }

    fn link(&mut self, slot: Slot<(K, V)>) {
        let tag = slot.tag;
        let at = self.slab.insert(slot);
        self.index.insert(tag, at);
        self.lru.push(&mut self.slab, at);
        self.deadlines.add(&mut self.slab, at);
    }
}

#[cfg(test)]
impl<K: Eq, V> Store<K, V> {
    /// Entries that are cleared and not taken out yet.
    pub(crate) fn cleared(&self) -> usize {
        self.cleared
    }

    /// All slots, cleared ones too, most recently used first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.lru.iter(&self.slab)
    }

    pub(crate) fn weight_of(&self, at: u32) -> u64 {
        self.slab[at].weight
    }

    pub(crate) fn queue_capacity(&self) -> usize {
        self.deadlines.capacity()
    }

    /// Recomputes every counter, list and sum.
    pub(crate) fn validate(&self) {
        self.slab.validate();
        self.index.validate(self.slab.len());
        self.lru.validate(&self.slab);
        self.deadlines.validate(&self.slab);
        let slots: Vec<_> = self.lru.iter(&self.slab).collect();
        let weight: u64 = slots.iter().map(|at| self.slab[*at].weight).sum();
        assert_eq!(weight, self.weight, "the sum of weights is wrong");
        let cleared = slots.iter().filter(|at| self.is_cleared(**at)).count();
        assert_eq!(cleared, self.cleared);
        let from_cleared = slots.iter().skip_while(|at| !self.is_cleared(**at));
        assert!(from_cleared.clone().all(|at| self.is_cleared(*at)), "a cleared entry is newer than a live one");
        for at in slots {
            assert!(self.slab[at].serial < self.serial);
            assert_eq!(self.find(self.slab[at].tag, &self.pair(at).0), Some(at), "an entry cannot be found");
        }
    }
}
