//! Exact least-recently-used order: a hit moves an entry to the front, the back goes first.

use super::{Nodes, list::List};
use crate::table::Moves;

#[derive(Debug)]
pub(crate) struct Lru {
    list: List,
}

impl Lru {
    pub(super) const fn new() -> Self {
        Self { list: List::new() }
    }

    pub(super) fn insert(&mut self, nodes: &mut impl Nodes, at: u32) {
        self.list.push(nodes, at);
    }

    pub(super) fn touch(&mut self, nodes: &mut impl Nodes, at: u32) {
        if self.list.newest() != Some(at) {
            self.list.unlink(nodes, at);
            self.list.push(nodes, at);
        }
    }

    pub(super) fn reweigh(&mut self, nodes: &mut impl Nodes, at: u32, weight: u32) {
        self.list.reweigh(nodes, at, weight);
    }

    pub(super) fn remove(&mut self, nodes: &mut impl Nodes, at: u32) {
        self.list.unlink(nodes, at);
    }

    pub(super) fn next_victim(&self) -> Option<u32> {
        self.list.oldest()
    }

    /// Takes out what was used least recently.
    pub(super) fn evict(&mut self, nodes: &mut impl Nodes) -> Option<u32> {
        let oldest = self.list.oldest()?;
        self.list.unlink(nodes, oldest);
        Some(oldest)
    }

    pub(super) fn renumber(&mut self, moves: &Moves) {
        self.list.renumber(moves);
    }

    /// Returns the slots, what was used most recently first.
    pub(super) fn hottest<'a>(&self, nodes: &'a impl Nodes) -> impl Iterator<Item = u32> + 'a {
        self.list.iter(nodes)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn validate(&self, nodes: &impl Nodes) -> Vec<u32> {
        self.list.validate(nodes)
    }
}
