//! What becomes of a keyspace's values when the ring moves, or a node leaves or dies.

use std::time::Duration;

use bytes::Bytes;
use distcache_cluster::PutEntry;
use distcache_core::Lookup;
use tokio::time::Instant;

use super::{Load, Slot, Space, Via};

impl Space {
    /// Sets aside what `owns` says is not this node's, and drops what is being loaded for it. Returns how much there was.
    pub(crate) fn keep(&self, owns: impl Fn(&str) -> bool) -> usize {
        let mut lost = 0;
        for (key, slot) in &self.owned {
            if !owns(&key) && slot.via != Via::Acting {
                // What is doubted goes with its time here, and would be taken for good elsewhere.
                self.orphans.adopt(&key, || self.owned.remove(&key).filter(|slot| !self.cap.doubts(slot.since)));
                lost += 1;
            }
        }
        lost += self.owned.invalidate_where(|key| !owns(key));
        self.orphans.disown(owns);
        self.settle();
        lost
    }

    /// Gives the space of orphans that are too old back to what is this node's: the two share what the keyspace may take.
    pub(crate) fn settle(&self) {
        self.owned.resize(self.owned_bytes - self.orphans.weight().min(self.owned_bytes));
    }

    /// Returns what the new owner of a key may take over: of this node's own, and of what was set aside.
    pub(crate) fn inheritance(&self, key: &str) -> Option<Slot> {
        let is_heritable = |slot: &Slot| slot.is_fresh() && slot.via != Via::Acting && !self.cap.doubts(slot.since);
        let owned = self.owned.peek(key).filter(is_heritable);
        // What was lost and regained is neither this node's nor another's to take.
        let is_mine = || self.standing.get().is_none_or(|standing| standing.owns(self.seed.hash(key)));
        let owned = owned.filter(|slot| !is_mine() || self.is_servable(key, slot));
        owned.or_else(|| self.orphans.get(key))
    }

    /// Takes a value over that a peer gives: as its owner unless there is something, or else in case it becomes that.
    pub(crate) fn adopt(&self, entry: &PutEntry, owns: bool, is_vetoed: impl Fn() -> bool) {
        // The frame that brought the value holds others too.
        let kept = || self.kept(Bytes::copy_from_slice(&entry.value), entry.ttl, Via::Filled);
        if !owns {
            return self.reserve.adopt(&entry.key, || (!is_vetoed()).then(|| kept().0));
        }
        // Registered first: what is invalidated from here on is not kept.
        if let Lookup::Lead(fill) = self.owned.lookup(&*entry.key)
            && !is_vetoed()
        {
            let (slot, expiry) = kept();
            fill.install(slot, expiry);
        }
    }

    /// Ends a fill with what another gave this node in case it had to answer for the key, if it did.
    pub(crate) fn install_reserve(&self, load: Load, keep: bool, via: Via) -> Option<Load> {
        let acts = via == Via::Acting && !keep;
        let key = load.fill.key();
        let limit = if acts { self.trust(key) } else { Duration::MAX };
        if limit.is_zero() {
            return Some(load);
        }
        // One that acts may have to act again.
        let Some(slot) = (if acts { self.reserve.get(key) } else { self.reserve.take(key) }) else { return Some(load) };
        let left = slot.expires.map(|at| at.saturating_duration_since(Instant::now()));
        let ttl = if acts { Some(left.map_or(limit, |left| left.min(limit))) } else { left };
        let via = if acts { Via::Acting } else { Via::Filled };
        let (slot, expiry) = self.kept(slot.value.unwrap_or_default(), ttl, via);
        if keep || acts {
            load.fill.install(slot, expiry);
        } else {
            load.fill.deliver(slot);
        }
        None
    }

    /// For how long a value may still be served that a key's owner has given this node, and that is the owner's all the same: up to when the
    /// owner was last heard it is as good as the owner's, and it is kept from then for no longer than any value in its place.
    fn trust(&self, key: &str) -> Duration {
        let silence = match self.standing.get() {
            Some(standing) => standing.silence_of_owner(self.seed.hash(key)),
            None => Some(Duration::ZERO),
        };
        silence.map_or(Duration::ZERO, |silence| self.failover_ttl.saturating_sub(silence))
    }

    /// Returns up to about so many bytes of the hottest values that are this node's, and then of those that were.
    pub(crate) fn estate(&self, max_bytes: u64) -> Vec<PutEntry> {
        let owned = self.hottest(max_bytes);
        let orphans = self.orphans.all().filter_map(|(key, slot)| into_entry(key, slot));
        within(max_bytes, owned.into_iter().chain(orphans))
    }

    /// Returns the hottest values, as many of them as others keep copies of.
    pub(crate) fn backups(&self) -> Vec<PutEntry> {
        if self.backup_bytes == 0 { Vec::new() } else { within(self.backup_bytes, self.hottest(self.backup_bytes)) }
    }

    /// Returns at least so many bytes of values, the hottest first, if there are so many.
    fn hottest(&self, bytes: u64) -> Vec<PutEntry> {
        let (count, weight) = (self.owned.len() as u64, self.owned.weight().max(1));
        // By the mean weight, and some more for small ones.
        let count = count.min(count.saturating_mul(bytes) / weight * 2 + 64);
        let hottest = self.owned.hottest(usize::try_from(count).unwrap_or(usize::MAX)).into_iter();
        let servable = hottest
            .filter(|(_, slot, _)| slot.via != Via::Acting && slot.is_fresh() && !self.cap.doubts(slot.since))
            .filter(|(key, slot, _)| self.is_servable(key, slot))
            .filter_map(|(key, slot, _)| into_entry(key, slot));
        servable.collect()
    }

    /// Drops what came from peers, and what is on its way.
    pub(crate) fn drop_borrowed(&self) {
        self.owned.retain(|_, slot| slot.via != Via::Filled);
        self.owned.fence_loads();
        self.orphans.clear();
        self.reserve.clear();
    }

    /// This node was away without knowing (R8): what it holds may be old, so it has only `ttl`, give or take half of that, lest all is
    /// loaded at once. Nobody else is given it, for there it would be a value like any other.
    pub(crate) fn doubt(&self, ttl: Duration) {
        self.owned.fence_loads();
        self.relayed.clear();
        self.orphans.clear();
        self.reserve.clear();
        self.owned.retain(|key, slot| self.cap.allows(slot.since, || self.seed.hash(key).as_u64()));
        self.cap.set(self.ordinal(), ttl);
    }
}

/// Makes what is left of a value ready to be given away.
fn into_entry(key: Box<str>, slot: Slot) -> Option<PutEntry> {
    let ttl = slot.expires.map(|at| at.saturating_duration_since(Instant::now()));
    slot.value.map(|value| PutEntry { key, value, ttl })
}

/// Takes entries until they are so many bytes.
fn within(max_bytes: u64, entries: impl IntoIterator<Item = PutEntry>) -> Vec<PutEntry> {
    let mut bytes = 0;
    let fits = |entry: &PutEntry| {
        bytes += (entry.key.len() + entry.value.len()) as u64 + ENTRY_BYTES;
        bytes <= max_bytes
    };
    entries.into_iter().take_while(fits).collect()
}

/// What an entry counts besides its key and value, about.
const ENTRY_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::{
        data_source::{DataSource, SourceError},
        keyspace::SourceKeySpace,
        space::Limits,
    };

    struct Empty;

    #[async_trait]
    impl DataSource for Empty {
        async fn fetch(&self, _: &str) -> Result<Option<Bytes>, SourceError> {
            Ok(None)
        }
    }

    fn entry(key: &str) -> PutEntry {
        PutEntry { key: key.into(), value: Bytes::from_static(b"value"), ttl: None }
    }

    /// A keyspace that holds some keys.
    fn space(keys: &[&str]) -> Space {
        let window = Duration::from_secs(300);
        let limits = Limits { max_value_bytes: 1_024, failover_ttl: window, near_copies: true, fill_window: window };
        let definition = SourceKeySpace::new("rows", Empty).backup_bytes(1 << 20);
        let space = Space::new(Arc::new(definition), limits, Arc::default()).unwrap();
        keys.iter().for_each(|key| space.store(&entry(key)).unwrap());
        space
    }

    fn keys(entries: Vec<PutEntry>) -> Vec<Box<str>> {
        entries.into_iter().map(|entry| entry.key).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_is_for_the_new_owner_and_what_is_regained_is_nobodys() {
        let space = space(&["a", "b"]);
        space.keep(|key| key == "b");
        assert!(space.fresh("a").is_none() && space.fresh("b").is_some());
        assert!(space.inheritance("a").is_some());
        space.keep(|_| true);
        assert!(space.fresh("a").is_none() && space.inheritance("a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn estate_is_what_is_this_nodes_and_then_what_was_within_the_budget() {
        let space = space(&["a", "b", "c"]);
        space.keep(|key| key != "a");
        let all = keys(space.estate(1 << 20));
        assert_eq!((all.len(), &*all[2]), (3, "a"));
        assert_eq!(keys(space.estate(2 * (ENTRY_BYTES + 6))).len(), 2);
        assert_eq!(keys(space.backups()).len(), 2, "what is another's by now is not backed up");
    }

    #[tokio::test(start_paused = true)]
    async fn given_values_wait_until_their_key_is_this_nodes_and_go_with_an_invalidation() {
        let space = space(&[]);
        ["a", "b", "c"].into_iter().for_each(|key| space.adopt(&entry(key), false, || key == "c"));
        assert!(space.fresh("a").is_none(), "they are not served");
        space.invalidate("b");
        let mut loaded = Vec::new();
        for key in ["a", "b", "c"] {
            let Lookup::Lead(fill) = space.owned.lookup(key) else { unreachable!() };
            loaded.push(space.install_reserve(fill.into(), true, Via::Source).is_some());
        }
        assert_eq!(loaded, [false, true, true], "one was invalidated, one was refused");
        assert!(space.fresh("a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn owner_takes_what_it_is_given_only_where_it_has_nothing() {
        let space = space(&["a"]);
        let given = |key| PutEntry { value: Bytes::from_static(b"given"), ..entry(key) };
        ["a", "b"].into_iter().for_each(|key| space.adopt(&given(key), true, || false));
        space.adopt(&given("c"), true, || true);
        let value = |key| space.fresh(key).and_then(|slot| slot.value);
        assert_eq!((value("a").as_deref(), value("b").as_deref()), (Some(&b"value"[..]), Some(&b"given"[..])));
        assert!(value("c").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn doubted_values_go_one_after_another_and_no_copy_of_anothers_stays() {
        let many: Vec<_> = (0..200).map(|n| n.to_string()).collect();
        let space = space(&many.iter().map(String::as_str).collect::<Vec<_>>());
        space.adopt(&entry("given"), false, || false);
        space.doubt(Duration::from_secs(30));
        assert_eq!(space.stats().reserve_entries, 0);
        let left = || many.iter().filter(|key| space.fresh(key).is_some()).count();
        space.drop_borrowed();
        assert_eq!(left(), 200);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!((50..150).contains(&left()), "{}", left());
        tokio::time::advance(Duration::from_secs(16)).await;
        assert_eq!(left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn doubted_values_are_given_to_nobody() {
        let space = space(&["a", "b"]);
        let given = |space: &Space| (space.estate(1 << 20).len(), space.backups().len());
        assert_eq!((space.inheritance("a").is_some(), given(&space)), (true, (2, 2)));
        space.doubt(Duration::from_secs(30));
        assert!(space.fresh("a").is_some(), "they are served here for a while");
        assert_eq!((space.inheritance("a").is_some(), given(&space)), (false, (0, 0)));
        space.keep(|key| key == "b");
        assert!(space.inheritance("a").is_none(), "it is not set aside for its next owner");
    }
}
