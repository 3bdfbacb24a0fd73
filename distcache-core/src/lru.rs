//! The order of use: a list that is linked through the slots themselves.

use crate::slab::{NIL, Slab};

/// The two ends of the list.
#[derive(Debug)]
pub(crate) struct Lru {
    newest: u32,
    oldest: u32,
}

impl Lru {
    pub(crate) fn new() -> Self {
        Self { newest: NIL, oldest: NIL }
    }

    pub(crate) fn newest(&self) -> Option<u32> {
        (self.newest != NIL).then_some(self.newest)
    }

    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Adds a slot that is in no list, as the most recently used one.
    pub(crate) fn push<T>(&mut self, slab: &mut Slab<T>, at: u32) {
        slab[at].newer = NIL;
        slab[at].older = self.newest;
        match self.newest {
            NIL => self.oldest = at,
            newest => slab[newest].newer = at,
        }
        self.newest = at;
    }

    /// Takes a slot out of the list.
    pub(crate) fn unlink<T>(&mut self, slab: &mut Slab<T>, at: u32) {
        let (newer, older) = (slab[at].newer, slab[at].older);
        match newer {
            NIL => self.newest = older,
            newer => slab[newer].older = older,
        }
        match older {
            NIL => self.oldest = newer,
            older => slab[older].newer = newer,
        }
    }

    /// Makes a slot of the list the most recently used one.
    pub(crate) fn touch<T>(&mut self, slab: &mut Slab<T>, at: u32) {
        if self.newest != at {
            self.unlink(slab, at);
            self.push(slab, at);
        }
    }

    /// Returns the slots, most recently used first.
    pub(crate) fn iter<'a, T>(&self, slab: &'a Slab<T>) -> impl Iterator<Item = u32> + 'a {
        std::iter::successors(self.newest(), |at| Some(slab[*at].older).filter(|older| *older != NIL))
    }

    #[cfg(test)]
    pub(crate) fn validate<T>(&self, slab: &Slab<T>) {
        let order: Vec<_> = self.iter(slab).collect();
        assert_eq!(order.len(), slab.len(), "the list does not hold every entry once");
        assert_eq!(order.last().copied(), self.oldest());
        let mut newer = NIL;
        for at in order {
            assert!(slab[at].item.is_some(), "a free slot is in the list");
            assert_eq!(slab[at].newer, newer);
            newer = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::tests::slot;

    #[test]
    fn touched_slots_go_to_the_front_and_removed_ones_leave_no_gap() {
        let (mut slab, mut lru) = (Slab::new(), Lru::new());
        for item in 0..4 {
            let at = slab.insert(slot(item));
            lru.push(&mut slab, at);
        }
        let order = |lru: &Lru, slab: &Slab<u32>| lru.iter(slab).collect::<Vec<_>>();
        assert_eq!(order(&lru, &slab), [3, 2, 1, 0]);
        lru.touch(&mut slab, 0);
        lru.touch(&mut slab, 2);
        lru.touch(&mut slab, 2);
        assert_eq!(order(&lru, &slab), [2, 0, 3, 1]);
        for (at, left) in [(0, vec![2, 3, 1]), (2, vec![3, 1]), (1, vec![3]), (3, vec![])] {
            lru.unlink(&mut slab, at);
            slab.remove(at);
            lru.validate(&slab);
            assert_eq!(order(&lru, &slab), left);
        }
        assert_eq!((lru.newest(), lru.oldest()), (None, None));
    }
}
