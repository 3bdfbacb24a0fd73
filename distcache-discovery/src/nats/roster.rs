//! Who is there: what was heard of every node, and for how long it is believed.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::message::{Here, NodeId};
use crate::bounds::MAX_SEEDS;
use crate::{Change, Seed};

/// The nodes heard of. It holds at most [`MAX_SEEDS`], a few hundred KiB, whatever comes in: who is in it is not driven out by
/// newcomers.
#[derive(Debug)]
pub(super) struct Roster {
    provider: &'static str,
    nodes: HashMap<NodeId, Node>,
    /// How many nodes are at an address: a node that was started again is there twice until its former life is forgotten.
    addrs: HashMap<SocketAddr, usize>,
    /// How often a newcomer found no room.
    refused: u64,
}

#[derive(Debug)]
struct Node {
    addr: SocketAddr,
    seq: u64,
    every: Duration,
    forgotten: Instant,
}

impl Roster {
    pub(super) fn new(provider: &'static str) -> Self {
        Self { provider, nodes: HashMap::new(), addrs: HashMap::new(), refused: 0 }
    }

    /// Notes that a node is there, and returns what that changes.
    pub(super) fn here(&mut self, id: NodeId, seq: u64, here: &Here, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let has_room = self.nodes.len() < MAX_SEEDS && self.at(here.addr) < MOST_AT_ONE_ADDRESS;
        match self.nodes.get_mut(&id) {
            Some(known) if known.seq > seq => return changes,
            Some(known) => {
                (known.seq, known.every, known.forgotten) = (seq, here.every, now + believed(here.every));
                if known.addr == here.addr {
                    return changes;
                }
                let former = std::mem::replace(&mut known.addr, here.addr);
                changes.extend(self.vacate(former));
            }
            None if !has_room => {
                self.refused = self.refused.saturating_add(1);
                return changes;
            }
            None => {
                let node = Node { addr: here.addr, seq, every: here.every, forgotten: now + believed(here.every) };
                self.nodes.insert(id, node);
            }
        }
        changes.extend(self.occupy(here.addr));
        changes
    }

    /// Forgets a node that says it leaves, unless it has come back since.
    pub(super) fn leave(&mut self, id: NodeId, seq: u64) -> Option<Change> {
        self.nodes.get(&id).filter(|node| node.seq <= seq)?;
        let node = self.nodes.remove(&id)?;
        self.vacate(node.addr)
    }

    /// Forgets the nodes that have gone silent.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let gone: Vec<_> = self.nodes.extract_if(|_, node| node.forgotten <= now).map(|(_, node)| node.addr).collect();
        gone.into_iter().filter_map(|addr| self.vacate(addr)).collect()
    }

    /// Believes every node for as long as if it had just been heard: whoever could not listen cannot tell that others were silent.
    pub(super) fn renew(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            node.forgotten = now + believed(node.every);
        }
    }

    /// Returns the address of every node, each once.
    pub(super) fn seeds(&self) -> BTreeSet<Seed> {
        self.addrs.keys().map(|addr| Seed::new(*addr, self.provider)).collect()
    }

    /// Returns how often there was no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    fn at(&self, addr: SocketAddr) -> usize {
        self.addrs.get(&addr).copied().unwrap_or(0)
    }

    fn occupy(&mut self, addr: SocketAddr) -> Option<Change> {
        let count = self.addrs.entry(addr).or_insert(0);
        *count += 1;
        (*count == 1).then(|| Change::Insert(Seed::new(addr, self.provider)))
    }

    fn vacate(&mut self, addr: SocketAddr) -> Option<Change> {
        let count = self.addrs.get_mut(&addr)?;
        *count = count.saturating_sub(1);
        if *count > 0 {
            return None;
        }
        self.addrs.remove(&addr);
        Some(Change::Remove(Seed::new(addr, self.provider)))
    }
}

/// How long a node is believed that speaks once in `every`: three times it may not be heard, and the last time it may be late.
pub(super) fn believed(every: Duration) -> Duration {
    every * 7 / 2
}

/// A node may have crashed and come back a few times within a few seconds; many more are one sender's invention, which would fill the
/// roster.
const MOST_AT_ONE_ADDRESS: usize = 8;

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
