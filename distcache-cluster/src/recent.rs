//! What this node has just written: it must not be given from before that, by anyone.
//!
//! The owner of a key serialises its writes, so whoever asks the owner that took the write reads it. A node that acts for that owner, or
//! that owns the key since, hears of the write a message later, or much later on a bad network; so a writer that has to ask one
//! says that it wants the value anew.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::{ident::NodeIdent, placement::KeyHash};

/// The keys of the last writes, for as long as another node may hold a value from before them.
#[derive(Debug)]
pub(crate) struct RecentWrites {
    inner: Mutex<Inner>,
    /// Whether there was any: a node that never writes pays nothing for its reads.
    has_any: AtomicBool,
    keep: Duration,
    capacity: usize,
}

#[derive(Debug)]
struct Inner {
    /// In the order of their times; takes memory for those that are in it, and for no more.
    writes: LruCache<KeyHash, Write>,
    /// Until when every key counts as written, because some had to be forgotten too soon.
    all_until: Option<Instant>,
}

#[derive(Debug)]
struct Write {
    at: Instant,
    /// Who took it, or has loaded the value since, and holds nothing from before.
    known_by: Vec<NodeIdent>,
}

impl RecentWrites {
    pub(crate) fn new(keep: Duration) -> Self {
        Self::with_capacity(keep, CAPACITY)
    }

    fn with_capacity(keep: Duration, capacity: usize) -> Self {
        let inner = Inner { writes: LruCache::unbounded(), all_until: None };
        Self { inner: Mutex::new(inner), has_any: AtomicBool::new(false), keep, capacity }
    }

    /// Takes note of writes. Before they are asked for, and again once they are done, for the time counts from there.
    pub(crate) fn note(&self, keys: impl IntoIterator<Item = KeyHash>, now: Instant) {
        let mut inner = self.lock();
        for key in keys {
            self.has_any.store(true, Ordering::Release);
            inner.writes.put(key, Write { at: now, known_by: Vec::new() });
            while let Some((_, oldest)) = inner.writes.peek_lru() {
                let until = oldest.at + self.keep;
                if now < until && inner.writes.len() <= self.capacity {
                    break;
                }
                inner.writes.pop_lru();
                inner.all_until = inner.all_until.max(Some(until)).filter(|until| now < *until);
            }
        }
    }

    /// Takes note that a node took writes as their keys' owner.
    pub(crate) fn taken(&self, node: &NodeIdent, keys: impl IntoIterator<Item = KeyHash>) {
        let mut inner = self.lock();
        for key in keys {
            if let Some(write) = inner.writes.peek_mut(&key) {
                write.known_by(node);
            }
        }
    }

    /// Whether a key was written here so recently that the value of `node` may be from before.
    pub(crate) fn outdates(&self, node: &NodeIdent, key: KeyHash, now: Instant) -> bool {
        if !self.has_any.load(Ordering::Acquire) {
            return false;
        }
        let inner = self.lock();
        match inner.writes.peek(&key) {
            Some(write) => now < write.at + self.keep && !write.known_by.contains(node),
            None => inner.all_until.is_some_and(|until| now < until),
        }
    }

    /// Takes note that a node has loaded a key anew, as it was asked to at `asked`.
    pub(crate) fn loaded(&self, node: &NodeIdent, key: KeyHash, asked: Instant) {
        // A write that came after the question is not in the answer.
        if let Some(write) = self.lock().writes.peek_mut(&key).filter(|write| write.at < asked) {
            write.known_by(node);
        }
    }

    /// Returns how many are kept.
    #[cfg(distcache_defects)]
    pub(crate) fn held(&self) -> usize {
        self.lock().writes.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Whole between any two calls.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write {
    fn known_by(&mut self, node: &NodeIdent) {
        if !self.known_by.contains(node) {
            // An owner, the one after it, and who acted between them.
            self.known_by.truncate(MAX_KNOWN - 1);
            self.known_by.insert(0, node.clone());
        }
    }
}

const MAX_KNOWN: usize = 3;
/// More than four thousand keys a second for fifteen seconds. A node that writes more asks for everything anew while an owner is away.
pub(crate) const CAPACITY: usize = 65_536;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be made by reading the clock; the tests step it themselves"
)]
mod tests {
    use super::*;
    use crate::placement::KeyspaceSeed;

    fn key(n: usize) -> KeyHash {
        KeyspaceSeed::of("rows").hash(&n.to_string())
    }

    fn node(name: &str) -> NodeIdent {
        NodeIdent::new(crate::ident::NodeName::new(name).unwrap(), ([10, 0, 0, 1], 1).into(), 1)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_write_is_recent_for_its_time_and_for_its_key() {
        let (recent, now) = (RecentWrites::new(10 * SECOND), Instant::now());
        recent.note([key(1)], now);
        assert!(recent.outdates(&node("a"), key(1), now + 9 * SECOND) && !recent.outdates(&node("a"), key(2), now));
        assert!(!recent.outdates(&node("a"), key(1), now + 10 * SECOND));
        recent.note([key(1)], now + 5 * SECOND);
        assert!(recent.outdates(&node("a"), key(1), now + 14 * SECOND));
    }

    #[test]
    fn what_is_no_longer_recent_is_not_held() {
        let (recent, now) = (RecentWrites::new(10 * SECOND), Instant::now());
        recent.note((0..1_000).map(key), now);
        recent.note([key(0)], now + 5 * SECOND);
        recent.note([key(1_000)], now + 11 * SECOND);
        assert_eq!(recent.lock().writes.len(), 2, "the one that was written again, and the new one");
        assert!(!recent.outdates(&node("a"), key(7), now + 11 * SECOND), "nothing was forgotten too soon");
    }

    #[test]
    fn a_node_that_has_loaded_a_key_since_it_was_written_need_not_do_so_again() {
        let (recent, now) = (RecentWrites::new(10 * SECOND), Instant::now());
        recent.note([key(1)], now);
        recent.loaded(&node("a"), key(1), now + SECOND);
        assert!(
            !recent.outdates(&node("a"), key(1), now + SECOND) && recent.outdates(&node("b"), key(1), now + SECOND)
        );
        recent.note([key(1)], now + 3 * SECOND);
        recent.loaded(&node("a"), key(1), now + 2 * SECOND);
        assert!(recent.outdates(&node("a"), key(1), now + 4 * SECOND), "it was asked before the last write");
    }

    #[test]
    fn the_node_that_took_a_write_is_asked_as_usual_and_its_next_process_is_not() {
        let (recent, now) = (RecentWrites::new(10 * SECOND), Instant::now());
        recent.note([key(1)], now);
        recent.taken(&node("a"), [key(1)]);
        assert!(!recent.outdates(&node("a"), key(1), now) && recent.outdates(&node("b"), key(1), now));
        assert!(recent.outdates(&node("a").with_generation(2), key(1), now));
    }

    #[test]
    fn writes_that_had_to_be_forgotten_make_every_key_recent_until_they_would_not_be() {
        let (recent, now) = (RecentWrites::with_capacity(10 * SECOND, 3), Instant::now());
        recent.note((0..4).map(key), now);
        assert!(
            recent.outdates(&node("a"), key(0), now + 9 * SECOND)
                && recent.outdates(&node("a"), key(99), now + 9 * SECOND)
        );
        assert!(!recent.outdates(&node("a"), key(99), now + 10 * SECOND));
        recent.note([key(5)], now + 20 * SECOND);
        assert!(!recent.outdates(&node("a"), key(99), now + 20 * SECOND), "what was forgotten then was old");
    }
}
