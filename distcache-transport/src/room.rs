//! What waits to be written on all connections of a server together, and what each may add whatever the others hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::config::OUT_SHARE_BYTES;

/// Counts what connections hold beyond their shares, up to a limit.
///
/// A share is small and nobody else's. So a peer that reads its answers has room, even while others, who do not, have used up the
/// rest.
#[derive(Debug)]
pub(crate) struct NodeRoom {
    bytes: AtomicUsize,
    max_bytes: usize,
}

impl NodeRoom {
    pub(crate) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), max_bytes })
    }
}

/// Is one connection's part of the room. What it holds is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    node: Arc<NodeRoom>,
    held: AtomicUsize,
}

impl Room {
    pub(crate) const fn new(node: Arc<NodeRoom>) -> Self {
        Self { node, held: AtomicUsize::new(0) }
    }

    /// Holds so much more, if that lies within the share or there is room. One connection's calls must not overlap.
    pub(crate) fn try_hold(&self, bytes: usize) -> bool {
        let before = self.held.load(Ordering::Relaxed);
        let more = beyond(before + bytes) - beyond(before);
        let taken = self.node.bytes.fetch_add(more, Ordering::Relaxed);
        let fits = more == 0 || taken.saturating_add(more) <= self.node.max_bytes;
        if fits {
            self.held.store(before + bytes, Ordering::Relaxed);
        } else {
            self.node.bytes.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }

    /// Holds so much more, whether there is room or not: for the little that cannot be refused.
    pub(crate) fn hold(&self, bytes: usize) {
        let before = self.held.load(Ordering::Relaxed);
        self.node.bytes.fetch_add(beyond(before + bytes) - beyond(before), Ordering::Relaxed);
        self.held.store(before + bytes, Ordering::Relaxed);
    }

    /// Gives back what was held.
    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.held.load(Ordering::Relaxed);
        self.node.bytes.fetch_sub(beyond(before) - beyond(before - bytes), Ordering::Relaxed);
        self.held.store(before - bytes, Ordering::Relaxed);
    }

    /// Tells whether this connection holds more than its share while the node is short of room: half of it is kept for the
    /// answers of requests that run already.
    pub(crate) fn is_short(&self) -> bool {
        let held = self.held.load(Ordering::Relaxed);
        held > OUT_SHARE_BYTES && self.node.bytes.load(Ordering::Relaxed) >= self.node.max_bytes / 2
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.held.load(Ordering::Relaxed));
    }
}

const fn beyond(held: usize) -> usize {
    held.saturating_sub(OUT_SHARE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = OUT_SHARE_BYTES;

    #[test]
    fn share_is_ones_own_and_the_rest_goes_to_who_comes_first() {
        let node = NodeRoom::new(1000);
        let (first, second) = (Room::new(Arc::clone(&node)), Room::new(Arc::clone(&node)));
        assert!(first.try_hold(SHARE + 499));
        assert!(!first.is_short());
        assert!(first.try_hold(1));
        assert!(first.is_short(), "half the room is gone");
        assert!(first.try_hold(500));
        assert!(!first.try_hold(1));
        assert!(second.try_hold(SHARE) && !second.is_short(), "others have their shares");
        assert!(!second.try_hold(1));
        second.hold(10);
        assert!(second.is_short());
        second.give_back(SHARE + 10);
        first.give_back(600);
        assert!(!first.is_short());
        assert!(second.try_hold(SHARE + 600));
        drop((first, second));
        assert_eq!(node.bytes.load(Ordering::Relaxed), 0);
    }
}
