//! The entries of one shard: table, policy, deadlines and the sum of weights, always in step.
//!
//! A store does what it is told: it knows no limit and reads no clock. Whatever it takes out it hands to its caller.

use std::{borrow::Borrow, time::Duration};

use crate::{
    clock::Tick,
    deadlines::Deadlines,
    policy::{Eviction, Node, Nodes, Policy},
    table::{Items, Moves, Table, Tagged},
};

/// An entry in its slot.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) node: Node,
}

/// An entry to be stored.
#[derive(Debug)]
pub(crate) struct NewEntry<K, V> {
    pub(crate) tag: u32,
    pub(crate) key: K,
    pub(crate) value: V,
    /// Not yet known to be small enough for a shard.
    pub(crate) weight: u64,
    pub(crate) deadline: Tick,
}

/// How far a walk through a store has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    layout: u64,
    at: usize,
}

/// Says which write of its shard an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteId(u16);

#[derive(Debug)]
pub(crate) struct Store<K, V> {
    table: Table<Entry<K, V>>,
    policy: Policy,
    deadlines: Deadlines,
    weight: u64,
    limit: u64,
    writes: u16,
    /// Grows whenever entries change their slots, which makes walks start anew.
    layout: u64,
    eviction: Eviction,
    idle: Option<Duration>,
}

impl<K, V> Nodes for Table<Entry<K, V>> {
    fn node(&self, at: u32) -> &Node {
        &self[at].node
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self[at].node
    }

    #[inline]
    fn expect(&self, at: u32) {
        Self::expect(self, at);
    }
}

impl<K, V> Tagged for Entry<K, V> {
    fn tag(&self) -> u32 {
        self.node.tag
    }
}

impl<K, V> Store<K, V> {
    pub(crate) fn new(eviction: Eviction, idle: Option<Duration>) -> Self {
        Self {
            table: Table::new(),
            policy: Policy::new(eviction),
            deadlines: Deadlines::new(idle),
            weight: 0,
            limit: 0,
            writes: 0,
            layout: 0,
            eviction,
            idle,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes counted for all entries.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// Returns the slot of a key.
    #[inline]
    pub(crate) fn find<Q>(&self, tag: u32, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.table.find(tag, |entry| entry.key.borrow() == key)
    }

    #[inline]
    pub(crate) fn entry(&self, at: u32) -> &Entry<K, V> {
        &self.table[at]
    }

    /// Whether no entry has an end.
    #[inline]
    pub(crate) fn is_endless(&self) -> bool {
        self.deadlines.is_empty()
    }

    pub(crate) fn deadline(&self, at: u32) -> Tick {
        self.deadlines.deadline(at)
    }

    pub(crate) fn write_id(&self, at: u32) -> WriteId {
        WriteId(self.table[at].node.write)
    }

    /// Whether an entry may be over that [`first_over`](Self::first_over) has not given yet.
    pub(crate) fn is_any_due(&self, now: Tick) -> bool {
        self.deadlines.is_any_due(now)
    }

    /// Returns a slot whose time is over, if one is found soon.
    pub(crate) fn first_over(&mut self, now: Tick) -> Option<u32> {
        self.deadlines.first_over(now)
    }

    /// Notes a use of a slot, under a lock that others share.
    pub(crate) fn touch_shared(&self, at: u32, now: Tick) {
        self.table[at].node.touch();
        self.deadlines.touch(at, now);
    }

    /// Notes a use of a slot, under a lock of one's own.
    pub(crate) fn touch(&mut self, at: u32, now: Tick) {
        self.policy.touch(&mut self.table, at);
        self.deadlines.touch(at, now);
    }

    /// Asks, ahead of their use, for the places in memory that an insert touches, so that the waits for them overlap.
    #[inline]
    pub(crate) fn expect_insert(&self, tag: u32) {
        if let Some(victim) = self.policy.expect_insert(&self.table, tag) {
            self.table.expect_tags(victim);
        }
        self.table.expect_free(tag);
    }

    /// Asks for the entry that the next insert will most likely evict.
    #[inline]
    pub(crate) fn expect_eviction(&self) {
        if let Some(at) = self.policy.next_victim() {
            self.table.expect(at);
        }
    }

    /// Adds an entry whose key is not in the store, and whose weight is at most [`MAX_WEIGHT`].
    pub(crate) fn push(&mut self, entry: NewEntry<K, V>, now: Tick) {
        let NewEntry { tag, key, value, weight, deadline } = entry;
        self.weight += weight;
        if self.table.is_full() {
            self.grow();
        }
        let write = self.next_write();
        let at = self.table.insert(Entry { key, value, node: Node::new(tag, narrow(weight), write) });
        self.policy.insert(&mut self.table, at);
        self.deadlines.add(at, deadline, now);
    }

    /// Puts an entry in the place of the one at `at`, which has the same key, and returns that one's key and value.
    pub(crate) fn replace(&mut self, at: u32, entry: NewEntry<K, V>, now: Tick) -> (K, V) {
        let write = self.next_write();
        let old = &mut self.table[at];
        self.weight = self.weight - u64::from(old.node.weight) + entry.weight;
        let pair = (std::mem::replace(&mut old.key, entry.key), std::mem::replace(&mut old.value, entry.value));
        old.node.write = write;
        self.policy.reweigh(&mut self.table, at, narrow(entry.weight));
        self.policy.touch(&mut self.table, at);
        self.deadlines.remove(at);
        self.deadlines.add(at, entry.deadline, now);
        pair
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, at: u32) -> Entry<K, V> {
        self.policy.remove(&mut self.table, at);
        self.empty(at)
    }

    /// Takes out the entry that the policy can do without. There must be one.
    pub(crate) fn evict(&mut self) -> Entry<K, V> {
        let at = self.policy.evict(&mut self.table).expect("only a store with entries evicts");
        self.empty(at)
    }

    fn empty(&mut self, at: u32) -> Entry<K, V> {
        self.deadlines.remove(at);
        let entry = self.table.remove(at);
        self.weight -= u64::from(entry.node.weight);
        entry
    }

    fn next_write(&mut self) -> u16 {
        self.writes = self.writes.wrapping_add(1);
        self.writes
    }

    /// Tells the policy how much may be stored.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        self.policy.set_capacity(limit);
    }

    /// Takes everything out at once, for its owner to drop little by little.
    pub(crate) fn clear(&mut self) -> Graves<K, V> {
        let mut empty = Self::new(self.eviction, self.idle);
        empty.layout = self.layout + 1;
        // Who judges an entry must not take a later write for it because numbers began anew.
        empty.writes = self.writes;
        let full = std::mem::replace(self, empty);
        Graves { len: full.table.len(), weight: full.weight, items: full.table.into_items() }
    }

    /// Visits up to `count` slots from `cursor` on. Returns where to go on, or `None` at the end.
    ///
    /// Every entry that is in the store during the whole walk is visited, some perhaps twice.
    pub(crate) fn walk(&self, cursor: Cursor, count: usize, mut visit: impl FnMut(u32)) -> Option<Cursor> {
        let from = if cursor.layout == self.layout { cursor.at } else { 0 };
        let to = from.saturating_add(count).min(self.table.slots());
        (from..to).map(|at| at as u32).filter(|at| self.table.get(*at).is_some()).for_each(&mut visit);
        (to < self.table.slots()).then_some(Cursor { layout: self.layout, at: to })
    }

    /// Returns up to `count` slots that `is_wanted`, in the order in which the policy would keep them.
    pub(crate) fn hottest(&self, count: usize, is_wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        self.policy.hottest(&self.table, count, is_wanted)
    }

    /// Makes the table smaller if half of it would do.
    pub(crate) fn compact(&mut self) {
        if self.table.is_sparse() {
            let moves = self.table.shrink();
            self.renumber(&moves);
        }
    }

    /// Makes the table larger: for as many entries as the limit will hold, if they go on as they are.
    #[cold]
    fn grow(&mut self) {
        let expected = u128::from(self.limit) * (self.table.len() as u128 + 1) / u128::from(self.weight).max(1);
        let moves = self.table.grow(usize::try_from(expected).ok());
        self.renumber(&moves);
    }

    fn renumber(&mut self, moves: &Moves) {
        self.layout += 1;
        self.table.iter_mut().for_each(|entry| entry.node.renumber(moves));
        self.policy.renumber(moves);
        self.deadlines.renumber(moves);
    }
}

/// What a clear took out and is not dropped yet. It still counts.
#[derive(Debug)]
pub(crate) struct Graves<K, V> {
    items: Items<Entry<K, V>>,
    pub(crate) len: usize,
    pub(crate) weight: u64,
}

impl<K, V> Iterator for Graves<K, V> {
    type Item = Entry<K, V>;

    fn next(&mut self) -> Option<Entry<K, V>> {
        let entry = self.items.next()?;
        self.len -= 1;
        self.weight -= u64::from(entry.node.weight);
        Some(entry)
    }
}

/// No entry counts more, so that its weight takes four bytes.
pub(crate) const MAX_WEIGHT: u64 = u32::MAX as u64;

fn narrow(weight: u64) -> u32 {
    u32::try_from(weight).expect("no entry of more than MAX_WEIGHT is let in")
}

#[cfg(any(test, fuzzing))]
impl<K: Eq, V> Store<K, V> {
    pub(crate) fn queue_capacity(&self) -> usize {
        self.deadlines.capacity()
    }

    pub(crate) fn slots(&self) -> usize {
        self.table.slots()
    }

    /// Recomputes every counter, list and sum. Returns the slots in the policy's order.
    pub(crate) fn validate(&self) -> Vec<u32> {
        self.table.validate();
        self.deadlines.validate(|at| self.table.get(at).is_some());
        let slots = self.policy.validate(&self.table);
        assert_eq!(slots.len(), self.table.len(), "the policy does not hold every entry once");
        let weight: u64 = slots.iter().map(|at| u64::from(self.table[*at].node.weight)).sum();
        assert_eq!(weight, self.weight, "the sum of weights is wrong");
        for at in &slots {
            let entry = &self.table[*at];
            assert_eq!(self.find(entry.node.tag, &entry.key), Some(*at), "an entry cannot be found");
        }
        slots
    }
}
