//! A list of slots, linked through their nodes, that knows what they weigh.

use super::{Node, Nodes};
use crate::table::{Moves, NIL};

#[derive(Debug)]
pub(super) struct List {
    newest: u32,
    oldest: u32,
    pub(super) len: usize,
    pub(super) weight: u64,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { newest: NIL, oldest: NIL, len: 0, weight: 0 }
    }

    pub(super) fn newest(&self) -> Option<u32> {
        (self.newest != NIL).then_some(self.newest)
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Adds a slot that is in no list.
    pub(super) fn push(&mut self, nodes: &mut impl Nodes, at: u32) {
        let node = nodes.node_mut(at);
        (node.newer, node.older) = (NIL, self.newest);
        self.weight += u64::from(node.weight);
        self.len += 1;
        match self.newest {
            NIL => self.oldest = at,
            newest => nodes.node_mut(newest).newer = at,
        }
        self.newest = at;
    }

    /// Sets what a slot of this list weighs.
    pub(super) fn reweigh(&mut self, nodes: &mut impl Nodes, at: u32, weight: u32) {
        let old = std::mem::replace(&mut nodes.node_mut(at).weight, weight);
        self.weight = self.weight - u64::from(old) + u64::from(weight);
    }

    /// Takes a slot of this list out.
    pub(super) fn unlink(&mut self, nodes: &mut impl Nodes, at: u32) {
        let Node { newer, older, weight, .. } = *nodes.node(at);
        self.weight -= u64::from(weight);
        self.len -= 1;
        match newer {
            NIL => self.newest = older,
            newer => nodes.node_mut(newer).older = older,
        }
        match older {
            NIL => self.oldest = newer,
            older => nodes.node_mut(older).newer = newer,
        }
    }

    /// Follows its slots to where they went, with their nodes.
    pub(super) fn renumber(&mut self, moves: &Moves) {
        (self.newest, self.oldest) = (moves.of(self.newest), moves.of(self.oldest));
    }

    /// Returns the slots, the newest first.
    pub(super) fn iter<'a>(&self, nodes: &'a impl Nodes) -> impl Iterator<Item = u32> + 'a {
        let slot = |at: u32| (at != NIL).then_some(at);
        std::iter::successors(slot(self.newest), move |at| slot(nodes.node(*at).older))
    }

    /// Checks every link and sum, and returns the slots, the newest first.
    #[cfg(any(test, fuzzing))]
    pub(super) fn validate(&self, nodes: &impl Nodes) -> Vec<u32> {
        let (mut newer, mut weight) = (NIL, 0);
        // A circle would never end.
        let order: Vec<_> = self.iter(nodes).take(self.len + 1).collect();
        for at in &order {
            assert_eq!(nodes.node(*at).newer, newer, "a link back is wrong");
            newer = *at;
            weight += u64::from(nodes.node(*at).weight);
        }
        assert_eq!((order.len(), weight), (self.len, self.weight), "a list counts wrong");
        assert_eq!(newer, self.oldest, "a list ends elsewhere");
        order
    }
}
