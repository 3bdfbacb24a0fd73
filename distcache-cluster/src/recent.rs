//! What this node has just written: it must not be given from before that, by anyone.
//!
//! The owner of a key serialises its writes, so whoever asks the owner reads its own. A node that acts for an owner hears of the
//! write a message later, or much later on a bad network; so a writer that has to ask one says that it wants the value anew.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::{ident::NodeName, placement::KeyHash};

/// The keys of the last writes, for as long as an acting node may hold a value from before them.
#[derive(Debug)]
pub(crate) struct RecentWrites {
    inner: Mutex<Inner>,
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
    /// Who has loaded the value since, and is not to load it once more.
    loaded_by: Option<NodeName>,
}

impl RecentWrites {
    pub(crate) fn new(keep: Duration) -> Self {
        Self::with_capacity(keep, CAPACITY)
    }

    fn with_capacity(keep: Duration, capacity: usize) -> Self {
        let inner = Inner { writes: LruCache::unbounded(), all_until: None };
        Self { inner: Mutex::new(inner), keep, capacity }
    }

    /// Takes note of writes. Before they are asked for, and again once they are done, for the time counts from there.
    pub(crate) fn note(&self, keys: impl IntoIterator<Item = KeyHash>, now: Instant) {
        let mut inner = self.lock();
        for key in keys {
            inner.writes.put(key, Write { at: now, loaded_by: None });
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

    /// Whether a key was written here so recently that the value of `node`, which is not its owner, may be from before.
    pub(crate) fn outdates(&self, node: &NodeName, key: KeyHash, now: Instant) -> bool {
        let inner = self.lock();
        let is_recent = |write: &Write| now < write.at + self.keep && write.loaded_by.as_ref() != Some(node);
        inner.all_until.is_some_and(|until| now < until) || inner.writes.peek(&key).is_some_and(is_recent)
    }

    /// Takes note that a node has loaded a key anew, as it was asked to at `asked`.
    pub(crate) fn loaded(&self, node: &NodeName, key: KeyHash, asked: Instant) {
        // A write that came after the question is not in the answer.
        if let Some(write) = self.lock().writes.peek_mut(&key).filter(|write| write.at < asked) {
            write.loaded_by = Some(node.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Whole between any two calls.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More than four thousand keys a second for fifteen seconds. A node that writes more asks for everything anew while an owner is away.
const CAPACITY: usize = 65_536;

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

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
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
