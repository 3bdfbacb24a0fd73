//! Values of keys that are another node's: [`Aside`].

use std::time::Duration;

use distcache_core::{BuildError, Cache, Expiry, Lookup};
use tokio::time::Instant;

use crate::{clock::TokioClock, space::Slot};

/// A second place for values, beside what a node serves: of keys that it has lost, for their new owner to ask for; and of keys that it
/// may get, which their owner has given it.
///
/// Clones are handles of the same place.
#[derive(Clone)]
pub(crate) struct Aside {
    cache: Cache<Box<str>, Slot>,
    /// How long they are kept at most.
    window: Duration,
}

impl Aside {
    pub(crate) fn new(max_bytes: u64, shards: usize, window: Duration) -> Result<Self, BuildError> {
        let cache = Cache::builder(max_bytes.max(1)).shards(shards).clock(TokioClock::new()).build()?;
        Ok(Self { cache, window })
    }

    /// Takes a value over from where `take` removes it. An invalidation that comes in between finds one of the two.
    pub(crate) fn adopt(&self, key: &str, take: impl FnOnce() -> Option<Slot>) {
        self.cache.remove(key);
        // Registered before the value leaves its place: what is invalidated from here on is not kept.
        let Lookup::Lead(fill) = self.cache.lookup(key) else { return };
        let Some(slot) = take().filter(Slot::is_fresh) else { return };
        let left = slot.expires.map(|at| at.saturating_duration_since(Instant::now()));
        fill.install(slot, Expiry::After(left.map_or(self.window, |left| left.min(self.window))));
    }

    pub(crate) fn get(&self, key: &str) -> Option<Slot> {
        self.cache.peek(key).filter(Slot::is_fresh)
    }

    /// Takes a value out.
    pub(crate) fn take(&self, key: &str) -> Option<Slot> {
        self.cache.remove(key).filter(Slot::is_fresh)
    }

    /// Returns copies of all of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Box<str>, Slot)> {
        self.cache.iter().filter(|(_, slot)| slot.is_fresh())
    }

    pub(crate) fn remove(&self, key: &str) {
        self.cache.remove(key);
    }

    /// Drops those of keys that `owns` says are this node's again: what happened to them meanwhile is not known here.
    pub(crate) fn disown(&self, owns: impl Fn(&str) -> bool) {
        self.cache.invalidate_where(|key| owns(key));
    }

    pub(crate) fn clear(&self) {
        self.cache.clear();
        self.cache.fence_loads();
    }

    pub(crate) fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    /// Gives back the memory of those that are too old, or were cleared.
    pub(crate) fn purge(&self) {
        self.cache.purge_expired();
    }

    /// The bytes they take.
    pub(crate) fn weight(&self) -> u64 {
        self.purge();
        self.cache.weight()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::space::Via;

    const WINDOW: Duration = Duration::from_secs(300);

    fn slot(ttl: Option<Duration>) -> Slot {
        let expires = ttl.map(|ttl| Instant::now() + ttl);
        Slot { value: Some(Bytes::from_static(b"v")), expires, ..Slot::missing(Via::Source) }
    }

    fn aside() -> Aside {
        Aside::new(1 << 20, 1, WINDOW).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn they_live_for_the_window_and_no_longer_than_they_would_have() {
        let aside = aside();
        aside.adopt("forever", || Some(slot(None)));
        aside.adopt("short", || Some(slot(Some(WINDOW / 2))));
        tokio::time::advance(WINDOW / 2).await;
        assert!(aside.get("forever").is_some() && aside.get("short").is_none());
        tokio::time::advance(WINDOW / 2).await;
        assert!(aside.get("forever").is_none());
        assert_eq!(aside.weight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_invalidated_while_it_changes_its_place_is_not_kept() {
        let aside = aside();
        aside.adopt("key", || {
            aside.remove("key");
            Some(slot(None))
        });
        assert!(aside.get("key").is_none());
        aside.adopt("key", || {
            aside.clear();
            Some(slot(None))
        });
        assert!(aside.get("key").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn those_of_keys_that_come_back_are_dropped() {
        let aside = aside();
        aside.adopt("mine", || Some(slot(None)));
        aside.adopt("lost", || Some(slot(None)));
        aside.disown(|key| key == "mine");
        assert!(aside.get("mine").is_none() && aside.get("lost").is_some());
    }
}
