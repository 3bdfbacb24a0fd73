//! Values of keys that this node has lost to another, kept aside for a while: [`Orphans`].

use std::time::Duration;

use distcache_core::{BuildError, Cache, Expiry, Lookup};
use tokio::time::Instant;

use crate::{clock::TokioClock, space::Slot};

/// What is never served again, and only told to the new owner of its key, which would have to load it.
pub(crate) struct Orphans {
    cache: Cache<Box<str>, Slot>,
    /// How long they are kept.
    window: Duration,
}

impl Orphans {
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

    /// The bytes they take.
    pub(crate) fn weight(&self) -> u64 {
        self.cache.purge_expired();
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

    fn orphans() -> Orphans {
        Orphans::new(1 << 20, 1, WINDOW).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn they_live_for_the_window_and_no_longer_than_they_would_have() {
        let orphans = orphans();
        orphans.adopt("forever", || Some(slot(None)));
        orphans.adopt("short", || Some(slot(Some(WINDOW / 2))));
        tokio::time::advance(WINDOW / 2).await;
        assert!(orphans.get("forever").is_some() && orphans.get("short").is_none());
        tokio::time::advance(WINDOW / 2).await;
        assert!(orphans.get("forever").is_none());
        assert_eq!(orphans.weight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_invalidated_while_it_changes_its_place_is_not_kept() {
        let orphans = orphans();
        orphans.adopt("key", || {
            orphans.remove("key");
            Some(slot(None))
        });
        assert!(orphans.get("key").is_none());
        orphans.adopt("key", || {
            orphans.clear();
            Some(slot(None))
        });
        assert!(orphans.get("key").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn those_of_keys_that_come_back_are_dropped() {
        let orphans = orphans();
        orphans.adopt("mine", || Some(slot(None)));
        orphans.adopt("lost", || Some(slot(None)));
        orphans.disown(|key| key == "mine");
        assert!(orphans.get("mine").is_none() && orphans.get("lost").is_some());
    }
}
