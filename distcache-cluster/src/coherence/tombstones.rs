//! What was invalidated lately: [`Tombstones`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use distcache_transport::Position;
use lru::LruCache;
use tokio::time::Instant;

use super::rotating::RotatingSet;
use crate::{
    defects::{Defect, planted},
    ident::NodeIdent,
    placement::{KeyHash, KeyspaceSeed},
};

/// Remembers the invalidations this node has applied, for as long as peers may not have heard of them.
///
/// They have two uses. A value that does not come from the data source is not taken for a key that is here (R6), unless it comes from
/// who told of the invalidation: others may not have heard yet. And when the node that was to tell everyone is gone, the keys'
/// new owners are told by whoever was told already (R7).
///
/// Those of which this node itself tells everyone are many and need no text: only that they were counts.
#[derive(Debug)]
pub(crate) struct Tombstones {
    inner: Mutex<Inner>,
    me: NodeIdent,
    keep: Duration,
    capacity: usize,
}

#[derive(Debug)]
struct Inner {
    /// Of which others tell everyone, in the order of their times.
    keys: LruCache<KeyHash, Tombstone>,
    /// Of which this node tells.
    own: RotatingSet,
    /// Of which others told, also those that had to make room.
    heard: RotatingSet,
    /// Those of them that were this node's at the time.
    heard_of_own: RotatingSet,
    keyspaces: BTreeMap<Arc<str>, Instant>,
    /// When everything was dropped.
    everything: Option<Instant>,
    /// When everything that came from peers was.
    borrowed: Option<Instant>,
    /// Until when some are missing that had to make room.
    forgot_until: Option<Instant>,
}

#[derive(Debug)]
struct Tombstone {
    at: Instant,
    keyspace: Arc<str>,
    key: Box<str>,
    /// Who tells everyone; nobody alone if there were several.
    by: Option<Teller>,
}

/// Who tells everyone of an invalidation, and where in its log, if it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Teller {
    pub(crate) node: NodeIdent,
    pub(crate) at: Option<Position>,
}

/// What is offered in the place of a value from the data source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer {
    /// An answer to a question for which a fill was registered: what the giver told meanwhile has spoiled that.
    Asked,
    /// A gift that may be older than what the giver told since: it was read when its log had come that far.
    Given(Position),
}

/// A key and its keyspace.
type KeyOf = (Arc<str>, Box<str>);

/// The tombstones of keys that get another owner.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) keys: BTreeMap<usize, Vec<KeyOf>>,
    /// Whether there may have been others.
    pub(crate) is_incomplete: bool,
}

impl Tombstones {
    pub(crate) fn new(me: NodeIdent, keep: Duration, capacity: usize) -> Self {
        let inner = Inner {
            keys: LruCache::unbounded(),
            own: RotatingSet::new(keep),
            heard: RotatingSet::new(keep),
            heard_of_own: RotatingSet::new(keep),
            keyspaces: BTreeMap::new(),
            everything: None,
            borrowed: None,
            forgot_until: None,
        };
        Self { inner: Mutex::new(inner), me, keep, capacity }
    }

    /// Takes note that keys are invalidated, of which a node tells everyone: before they are, so that no value is taken in between.
    pub(crate) fn note(&self, keyspace: &Arc<str>, keys: &[&str], by: &Teller, now: Instant) {
        if self.capacity == 0 {
            return;
        }
        let (seed, mut inner) = (KeyspaceSeed::of(keyspace), self.lock());
        for key in keys {
            let hash = seed.hash(key);
            if by.node == self.me {
                inner.own.insert(hash, now);
                continue;
            }
            inner.heard.insert(hash, now);
            // One that is noted again is young again, and keeps its text.
            match inner.keys.get_mut(&hash) {
                Some(known) => {
                    let is_same = |known: &Teller| known.node == by.node;
                    let is_another = now < known.at + self.keep && !known.by.as_ref().is_some_and(is_same);
                    (known.at, known.by) = (now, (!is_another).then(|| by.clone()));
                }
                None => {
                    let (keyspace, by) = (Arc::clone(keyspace), Some(by.clone()));
                    inner.keys.put(hash, Tombstone { at: now, keyspace, key: (*key).into(), by });
                }
            }
        }
        inner.forget(now, self.keep, self.capacity);
    }

    /// Takes note, as [`note`](Self::note) does, of what another node's log told of a key, which may be this node's.
    pub(crate) fn note_told(&self, keyspace: &Arc<str>, key: &str, by: &Teller, is_own: bool, now: Instant) {
        self.note(keyspace, &[key], by, now);
        if is_own {
            self.lock().heard_of_own.insert(KeyspaceSeed::of(keyspace).hash(key), now);
        }
    }

    /// Whether a value that is put may be from before an invalidation that was heard of first. `has_moved` says that the key may have been
    /// another's a moment ago.
    ///
    /// Who puts a value and gets no answer has its log tell that the key is old. The put may have waited on its way, or in a
    /// connection that its sender has given up, and come after that word, and after later writes.
    pub(crate) fn outdates_puts(&self, key: KeyHash, has_moved: bool, now: Instant) -> bool {
        if planted(Defect::LatePutsStored) {
            return false;
        }
        let mut inner = self.lock();
        inner.everything.is_some_and(|at| now < at + self.keep)
            || inner.heard_of_own.contains(key, now)
            || has_moved && inner.heard.contains(key, now)
    }

    /// Takes note that a keyspace is emptied.
    pub(crate) fn note_keyspace(&self, keyspace: &Arc<str>, now: Instant) {
        let mut inner = self.lock();
        let keep = self.keep;
        inner.keyspaces.retain(|_, at| now < *at + keep);
        inner.keyspaces.insert(Arc::clone(keyspace), now);
    }

    /// Takes note that everything is dropped, for there are invalidations that this node has missed.
    pub(crate) fn note_everything(&self, now: Instant) {
        self.lock().everything = Some(now);
    }

    /// Takes note that what came from peers is dropped, for there may be invalidations that this node has not heard of.
    pub(crate) fn note_borrowed(&self, now: Instant) {
        self.lock().borrowed = Some(now);
    }

    /// Whether a value of a key must come from the data source rather than from `giver`.
    pub(crate) fn vetoes(&self, keyspace: &str, key: KeyHash, giver: &NodeIdent, offer: Offer, now: Instant) -> bool {
        if planted(Defect::TombstonesIgnored) {
            return false;
        }
        let (mut inner, is_recent) = (self.lock(), |at: Instant| now < at + self.keep);
        if [inner.everything, inner.borrowed, inner.keyspaces.get(keyspace).copied()]
            .into_iter()
            .flatten()
            .any(is_recent)
        {
            return true;
        }
        let by_others = match inner.keys.peek(&key) {
            Some(known) => {
                let knows = |by: &Teller| by.node == *giver && offer.is_after(by.at);
                is_recent(known.at) && !known.by.as_ref().is_some_and(knows)
            }
            None => inner.forgot_until.is_some_and(|until| now < until) && inner.heard.contains(key, now),
        };
        by_others || inner.own.contains(key, now)
    }

    /// Returns the keys for which `heir` names somebody, by whom it names: those of which `is_there` says that the node that was to tell
    /// everyone is not.
    pub(crate) fn moved(
        &self,
        heir: impl Fn(KeyHash) -> Option<usize>,
        is_there: impl Fn(&NodeIdent) -> bool,
        now: Instant,
    ) -> Moved {
        let inner = self.lock();
        let mut moved =
            Moved { is_incomplete: inner.forgot_until.is_some_and(|until| now < until), ..Moved::default() };
        for (hash, Tombstone { at, keyspace, key, by }) in &inner.keys {
            if now >= *at + self.keep {
                // What follows is older still.
                break;
            }
            if !by.as_ref().is_some_and(|by| is_there(&by.node))
                && let Some(heir) = heir(*hash)
            {
                moved.keys.entry(heir).or_default().push((Arc::clone(keyspace), key.clone()));
            }
        }
        moved
    }

    /// Returns how many are kept with their text.
    #[cfg(distcache_defects)]
    pub(crate) fn held(&self) -> usize {
        self.lock().keys.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whole between any two calls.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offer {
    /// Whether it is of after an invalidation that its giver told of at that place.
    fn is_after(self, told: Option<Position>) -> bool {
        match self {
            Self::Asked => true,
            Self::Given(end) => told.is_some_and(|told| told < end),
        }
    }
}

impl Inner {
    fn forget(&mut self, now: Instant, keep: Duration, capacity: usize) {
        while let Some((_, oldest)) = self.keys.peek_lru() {
            let until = oldest.at + keep;
            if now < until && self.keys.len() <= capacity {
                break;
            }
            self.keys.pop_lru();
            self.forgot_until = self.forgot_until.max(Some(until)).filter(|until| now < *until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    fn node(n: u16) -> NodeIdent {
        NodeIdent::new(crate::ident::NodeName::new(&n.to_string()).unwrap(), ([10, 0, 0, 1], n).into(), 1)
    }

    fn told(n: u16) -> Teller {
        Teller { node: node(n), at: Some(Position(7)) }
    }

    fn hash(key: &str) -> KeyHash {
        KeyspaceSeed::of("rows").hash(key)
    }

    fn rows() -> Arc<str> {
        "rows".into()
    }

    #[tokio::test(start_paused = true)]
    async fn key_keyspace_and_everything_are_vetoed_for_their_time() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 10), Instant::now());
        let vetoes = |key: &str, after| tombstones.vetoes("rows", hash(key), &node(2), Offer::Asked, now + after);
        tombstones.note(&rows(), &["a"], &told(1), now);
        assert!(vetoes("a", KEEP / 2) && !vetoes("b", KEEP / 2) && !vetoes("a", KEEP));
        tombstones.note(&rows(), &["a"], &told(1), now + KEEP / 2);
        assert!(vetoes("a", KEEP), "noted again, it is young again");
        tombstones.note_keyspace(&rows(), now + KEEP);
        assert!(vetoes("b", KEEP) && !tombstones.vetoes("others", hash("b"), &node(2), Offer::Asked, now + KEEP));
        assert!(!vetoes("b", 2 * KEEP));
        tombstones.note_everything(now + 2 * KEEP);
        assert!(
            tombstones.vetoes("others", hash("b"), &node(2), Offer::Asked, now + 2 * KEEP) && !vetoes("b", 3 * KEEP)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn put_of_a_key_that_another_node_told_of_may_be_late_for_a_while_however_often_this_node_invalidates_it() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 10), Instant::now());
        let outdates = |key, has_moved, after| tombstones.outdates_puts(hash(key), has_moved, now + after);
        tombstones.note(&rows(), &["a"], &told(9), now);
        assert!(!outdates("a", true, Duration::ZERO), "its own deletes come in order with puts");
        tombstones.note_told(&rows(), "a", &told(2), true, now);
        tombstones.note(&rows(), &["a"], &told(9), now + KEEP / 2);
        assert!(outdates("a", false, KEEP / 2) && !outdates("b", false, KEEP / 2));
        tombstones.note_told(&rows(), "b", &told(2), false, now + KEEP / 2);
        assert!(!outdates("b", false, KEEP / 2) && outdates("b", true, KEEP / 2), "it was another's");
        assert!(!outdates("a", true, 3 * KEEP));
        tombstones.note_everything(now + 3 * KEEP);
        assert!(outdates("c", false, 3 * KEEP));
    }

    #[tokio::test(start_paused = true)]
    async fn what_this_node_tells_is_vetoed_whoever_gives_and_however_much_there_is() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 2), Instant::now());
        let keys: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        keys.iter().for_each(|key| tombstones.note(&rows(), &[key], &told(9), now));
        let vetoes = |key: &str| tombstones.vetoes("rows", hash(key), &node(1), Offer::Asked, now + KEEP / 2);
        assert!(keys.iter().all(|key| vetoes(key)) && !vetoes("another"));
        assert_eq!(tombstones.lock().keys.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_told_of_an_invalidation_may_give_the_value_unless_another_told_of_one_too() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 10), Instant::now());
        let vetoes = |giver| tombstones.vetoes("rows", hash("a"), &node(giver), Offer::Asked, now + KEEP);
        tombstones.note(&rows(), &["a"], &told(1), now + KEEP / 2);
        assert!(!vetoes(1) && vetoes(2));
        tombstones.note(&rows(), &["a"], &told(2), now + KEEP / 2);
        assert!(vetoes(1) && vetoes(2), "neither is known to have heard of the other's");
        tombstones.note(&rows(), &["a"], &told(1), now + KEEP / 2);
        assert!(vetoes(1), "and what one says later does not tell whether it has");
        tombstones.note(&rows(), &["a"], &told(1), now + 2 * KEEP);
        assert!(!vetoes(1));
    }

    #[tokio::test(start_paused = true)]
    async fn gift_that_was_read_before_its_giver_told_of_an_invalidation_is_not_taken() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 10), Instant::now());
        let vetoes = |offer| tombstones.vetoes("rows", hash("a"), &node(1), offer, now);
        tombstones.note(&rows(), &["a"], &told(1), now);
        assert!(vetoes(Offer::Given(Position(7))) && !vetoes(Offer::Given(Position(8))));
        tombstones.note(&rows(), &["a"], &Teller { at: None, ..told(1) }, now);
        assert!(vetoes(Offer::Given(Position(8))), "where it was told is not known");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_of_what_is_told_by_a_node_that_is_there() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 10), Instant::now());
        tombstones.note(&rows(), &["a"], &told(1), now);
        tombstones.note(&rows(), &["b"], &told(2), now);
        let moved = tombstones.moved(|_| Some(7), |by| *by == node(1), now);
        assert_eq!(moved.keys[&7].iter().map(|(_, key)| &**key).collect::<Vec<_>>(), ["b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_had_to_make_room_are_vetoed_whoever_gives() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 2), Instant::now());
        tombstones.note(&rows(), &["a", "b"], &told(1), now);
        let vetoes = |key: &str, after| tombstones.vetoes("rows", hash(key), &node(1), Offer::Asked, now + after);
        assert!(!vetoes("a", Duration::ZERO), "who told of it may give it");
        tombstones.note(&rows(), &["c"], &told(1), now + KEEP / 2);
        assert!(vetoes("a", KEEP / 2) && !vetoes("b", KEEP / 2) && !vetoes("z", KEEP / 2));
        assert!(tombstones.moved(|_| None, |_| false, now + KEEP / 2).is_incomplete);
        assert!(!tombstones.moved(|_| None, |_| false, now + KEEP).is_incomplete);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_young_enough_go_to_the_heirs_of_their_keys() {
        let (tombstones, now) = (Tombstones::new(node(9), KEEP, 100), Instant::now());
        tombstones.note(&rows(), &["old"], &told(1), now);
        tombstones.note(&rows(), &["a", "b", "c"], &told(1), now + KEEP / 2);
        let heir = |key| (key != hash("b")).then_some(7);
        let moved = tombstones.moved(heir, |_| false, now + KEEP);
        let mut keys: Vec<_> = moved.keys[&7].iter().map(|(_, key)| &**key).collect();
        keys.sort_unstable();
        assert_eq!((keys, moved.keys.len(), moved.is_incomplete), (vec!["a", "c"], 1, false));
    }

    #[test]
    fn a_node_without_peers_remembers_nothing() {
        let tombstones = Tombstones::new(node(9), KEEP, 0);
        tombstones.note(&rows(), &["a"], &told(1), Instant::now());
        assert_eq!(tombstones.lock().keys.len(), 0);
    }
}
