//! Which entry is over first: a binary heap of slots, each of which knows its place in it.
//!
//! Since an entry leaves the heap when it leaves the cache, the heap never outgrows the entries, however often keys are reused
//! and whatever their times to live.

use crate::{
    clock::Tick,
    slab::{NIL, Slab},
};

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Vec<u32>,
}

impl Deadlines {
    /// Returns the slot that is over first, of those that ever are.
    pub(crate) fn first(&self) -> Option<u32> {
        self.heap.first().copied()
    }

    /// Adds a slot that is not in the heap, unless its deadline is the end of time.
    pub(crate) fn add<T>(&mut self, slab: &mut Slab<T>, at: u32) {
        if slab[at].deadline == Tick::MAX {
            return;
        }
        self.heap.push(at);
        self.put(slab, self.heap.len() - 1, at);
        self.rise(slab, self.heap.len() - 1);
    }

    /// Takes a slot out of the heap, if it is in it.
    pub(crate) fn remove<T>(&mut self, slab: &mut Slab<T>, at: u32) {
        let place = std::mem::replace(&mut slab[at].place, NIL);
        if place == NIL {
            return;
        }
        let last = self.heap.pop().expect("a slot with a place is in the heap");
        if last != at {
            self.put(slab, place as usize, last);
            self.rise(slab, place as usize);
            self.sink(slab, slab[last].place as usize);
        }
        if self.heap.len() * 4 < self.heap.capacity() {
            self.heap.shrink_to(self.heap.len() * 2);
        }
    }

    fn rise<T>(&mut self, slab: &mut Slab<T>, mut place: usize) {
        while place > 0 && self.deadline(slab, place) < self.deadline(slab, (place - 1) / 2) {
            self.swap(slab, place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sink<T>(&mut self, slab: &mut Slab<T>, mut place: usize) {
        loop {
            let children = (2 * place + 1)..(2 * place + 3).min(self.heap.len());
            let Some(child) = children.min_by_key(|child| self.deadline(slab, *child)) else { return };
            if self.deadline(slab, place) <= self.deadline(slab, child) {
                return;
            }
            self.swap(slab, place, child);
            place = child;
        }
    }

    fn swap<T>(&mut self, slab: &mut Slab<T>, a: usize, b: usize) {
        let (at_a, at_b) = (self.heap[a], self.heap[b]);
        self.put(slab, a, at_b);
        self.put(slab, b, at_a);
    }

    fn put<T>(&mut self, slab: &mut Slab<T>, place: usize, at: u32) {
        self.heap[place] = at;
        slab[at].place = u32::try_from(place).expect("there are no more places than slots");
    }

    fn deadline<T>(&self, slab: &Slab<T>, place: usize) -> Tick {
        slab[self.heap[place]].deadline
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.heap.capacity()
    }

    #[cfg(test)]
    pub(crate) fn validate<T>(&self, slab: &Slab<T>) {
        for (place, at) in self.heap.iter().enumerate() {
            assert_eq!(slab[*at].place as usize, place);
            assert!(self.deadline(slab, place) >= self.deadline(slab, place.saturating_sub(1) / 2), "not a heap");
        }
        let mortal = (0..slab.slots()).map(|at| &slab[at as u32]);
        let mortal = mortal.filter(|slot| slot.item.is_some() && slot.deadline != Tick::MAX).count();
        assert_eq!(self.heap.len(), mortal, "the heap does not hold every mortal entry once");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::slab::tests::slot;

    #[test]
    fn what_lives_for_ever_takes_no_place() {
        let (mut slab, mut deadlines) = (Slab::new(), Deadlines::default());
        let at = slab.insert(slot(()));
        deadlines.add(&mut slab, at);
        assert_eq!(deadlines.first(), None);
        deadlines.remove(&mut slab, at);
        deadlines.validate(&slab);
    }

    proptest! {
        #[test]
        fn the_first_is_over_before_all_others(steps in prop::collection::vec((any::<bool>(), 0_u64..50, any::<prop::sample::Index>()), 0..200)) {
            let (mut slab, mut deadlines) = (Slab::new(), Deadlines::default());
            let mut live: Vec<u32> = Vec::new();
            for (add, deadline, which) in steps {
                if add || live.is_empty() {
                    let at = slab.insert(slot(()));
                    slab[at].deadline = Tick(deadline);
                    deadlines.add(&mut slab, at);
                    live.push(at);
                } else {
                    let at = live.swap_remove(which.index(live.len()));
                    deadlines.remove(&mut slab, at);
                    slab.remove(at);
                }
                deadlines.validate(&slab);
                let first = live.iter().map(|at| slab[*at].deadline).min();
                prop_assert_eq!(deadlines.first().map(|at| slab[at].deadline), first);
            }
        }
    }
}
