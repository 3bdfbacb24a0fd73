//! A keyspace at work on one node: its definition, its two caches, its loads.
//!
//! * `owned` holds values of keys that this node owns, and the flights that load them from the data source. What waits on
//!   it waits for the source, never for a peer.
//! * `relayed` holds near copies, each under a lease of its key's owner, and the flights that ask owners. What waits on it waits
//!   for a peer.
//!
//! The two are apart so that a request from a peer, which only ever waits on `owned`, can never wait for a request to a
//! peer: nodes whose rings disagree load twice, they do not wait for one another.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use distcache_cluster::{Defect, Found, KeyspaceSeed, Lease, Origin, Ownership, PutEntry, planted};
use distcache_core::{
    Cache, Expiry as CacheExpiry, Fill as CoreFill, Follower as CoreFollower, InsertError, Installed, Lookup, Weigh,
};
use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use crate::{
    aside::Aside,
    cap::Cap,
    clock::TokioClock,
    data_source::{DataSource, SourceError},
    error::{Error, ErrorKind, Result},
    keyspace::KeySpace,
    permits::LoadPermits,
    stats::{Counters, KeySpaceStats},
};

pub(crate) type Fill = CoreFill<Box<str>, Slot>;
pub(crate) type Follower = CoreFollower<Box<str>, Slot>;
pub(crate) type RelayFill = CoreFill<Box<str>, Relayed>;

/// What a cache holds under a key and what a flight hands to its callers.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// `None`: the data source has no such key. Handed to callers, never stored.
    pub(crate) value: Option<Bytes>,
    /// When its time is up; `None` for no end.
    pub(crate) expires: Option<Instant>,
    /// Until when it stands in for a value that cannot be loaded; `None` for no end. Not before `expires`.
    pub(crate) usable: Option<Instant>,
    /// The number of the view under which it was kept; zero for what is not.
    pub(crate) since: u32,
    pub(crate) via: Via,
}

/// What a peer said of a key, and for how long it may be served.
#[derive(Debug, Clone)]
pub(crate) struct Relayed {
    pub(crate) slot: Slot,
    lease: Option<Lease>,
}

impl Relayed {
    /// A value that is handed to its callers, and not kept.
    pub(crate) const fn once(slot: Slot) -> Self {
        Self { slot, lease: None }
    }
}

impl Weigh for Relayed {
    fn weight(&self) -> usize {
        self.slot.weight()
    }
}

/// How a value came to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// From this node's data source.
    Source,
    /// From the owner's memory.
    PeerHit,
    /// From the owner, which loaded it.
    PeerLoad,
    /// From this node's data source, for an owner that does not answer and by the next in line: kept for a short time.
    Acting,
    /// From this node's data source, because nobody else was left to ask: not kept.
    Fallback,
    /// From the memory of the node that owned the key before this one.
    Filled,
    /// From this node's memory though its time was up, because the data source failed.
    Stale,
}

impl Weigh for Slot {
    fn weight(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl Slot {
    pub(crate) const fn missing(via: Via) -> Self {
        Self { value: None, expires: None, usable: None, since: 0, via }
    }

    /// Whether its time is not up. Reads no clock of one without an end.
    pub(crate) fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() < at)
    }

    pub(crate) fn of_peer(found: Option<Found>) -> Self {
        match found {
            None => Self::missing(Via::PeerLoad),
            Some(found) => Self {
                expires: found.ttl.and_then(|ttl| Instant::now().checked_add(ttl)),
                usable: None,
                since: 0,
                value: Some(found.value),
                via: if found.origin == Origin::Cache { Via::PeerHit } else { Via::PeerLoad },
            },
        }
    }

    pub(crate) fn into_found(self, origin: Origin) -> Option<Found> {
        let ttl = self.expires.map(|at| at.saturating_duration_since(Instant::now()));
        self.value.map(|value| Found { value, ttl, origin, near: Duration::ZERO })
    }
}

/// What the engine's configuration says of every keyspace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_value_bytes: usize,
    pub(crate) failover_ttl: Duration,
    /// Whether copies of other nodes' hot values are kept.
    pub(crate) near_copies: bool,
    /// How long values are kept whose keys are another's by now, for that one to ask for; zero for not at all.
    pub(crate) fill_window: Duration,
}

/// A keyspace of this node.
pub(crate) struct Space {
    pub(crate) name: Arc<str>,
    pub(crate) seed: KeyspaceSeed,
    pub(crate) owned: Cache<Box<str>, Slot>,
    pub(crate) relayed: Cache<Box<str>, Relayed>,
    /// What was this node's, for the new owners of its keys to ask for. Never served, never this node's again.
    orphans: Aside,
    /// What others gave this node, in case it gets their keys.
    reserve: Aside,
    /// What `owned` and `orphans` may take together.
    owned_bytes: u64,
    /// How much of the hottest others are to have too.
    backup_bytes: u64,
    standing: Arc<OnceLock<Ownership>>,
    cap: Cap,
    pub(crate) counters: Counters,
    pub(crate) load_timeout: Duration,
    pub(crate) permits: LoadPermits,
    /// How long values outlive their time, for when the data source fails.
    pub(crate) stale_if_error: Duration,
    /// How long values are kept that were loaded in another's place.
    failover_ttl: Duration,
    max_value_bytes: usize,
    definition: Arc<dyn KeySpace>,
    source: Arc<dyn DataSource>,
    defined: Instant,
    retired: AtomicBool,
}

impl Space {
    /// Sets a keyspace up. Its definition was validated before.
    pub(crate) fn new(
        definition: Arc<dyn KeySpace>,
        limits: Limits,
        standing: Arc<OnceLock<Ownership>>,
    ) -> Result<Self> {
        let Limits { max_value_bytes, failover_ttl, near_copies, fill_window } = limits;
        let refused = |error| Error::with_source(ErrorKind::Invalid, "the keyspace cannot be set up", error);
        let (max_bytes, name) = (definition.max_bytes(), definition.name());
        // A value may take all of a shard but not more, so shards must not be smaller than the largest values.
        let shards = max_bytes / (4 * max_value_bytes as u64).max(1);
        let shards = usize::try_from(shards.clamp(1, MAX_SHARDS)).unwrap_or(1).next_power_of_two();
        let near_bytes = if near_copies { max_bytes / NEAR_SHARE } else { 0 };
        // A node that stands alone has nobody to keep copies for it, and nobody to keep them for.
        let backup_bytes = if fill_window.is_zero() { 0 } else { definition.backup_bytes().min(max_bytes / 2) };
        let reserve = Aside::new(backup_bytes, shards, Duration::MAX).map_err(refused)?;
        let owned_bytes = max_bytes - near_bytes - backup_bytes;
        let orphan_bytes = if fill_window.is_zero() { 0 } else { owned_bytes / ORPHAN_SHARE };
        let orphans = Aside::new(orphan_bytes, shards, fill_window).map_err(refused)?;
        let owned = Cache::builder(owned_bytes).shards(shards).clock(TokioClock::new()).build().map_err(refused)?;
        let relayed =
            Cache::builder(near_bytes.max(1)).shards(shards).clock(TokioClock::new()).build().map_err(refused)?;
        Ok(Self {
            seed: KeyspaceSeed::of(name),
            name: name.into(),
            owned,
            relayed,
            orphans,
            reserve,
            backup_bytes,
            owned_bytes,
            standing,
            cap: Cap::default(),
            counters: Counters::default(),
            load_timeout: definition.load_timeout(),
            permits: LoadPermits::new(definition.max_concurrent_loads(), definition.max_queued_loads()),
            stale_if_error: definition.stale_if_error(),
            failover_ttl,
            max_value_bytes,
            source: definition.data_source(),
            definition,
            defined: Instant::now(),
            retired: AtomicBool::new(false),
        })
    }

    /// How long ago the keyspace was defined here.
    pub(crate) fn age(&self) -> Duration {
        self.defined.elapsed()
    }

    /// Takes the keyspace out of service: its name is gone, or means another definition. Invalidations do not find it any
    /// more, so nothing may be read from it either.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.clear();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Drops a key, and what is being read for it (R1).
    pub(crate) fn invalidate(&self, key: &str) {
        self.owned.remove(key);
        self.relayed.remove(key);
        self.orphans.remove(key);
        self.reserve.remove(key);
    }

    /// Drops every key, and what is being read for them, in a moment however many there are. Their memory is given back behind the
    /// caller's back, for nobody may ever write here again.
    pub(crate) fn clear(&self) {
        let held = self.owned.len() as u64 + self.orphans.len() + self.reserve.len();
        self.owned.clear();
        self.relayed.clear();
        self.orphans.clear();
        self.reserve.clear();
        if held > FEW_ENTRIES
            && let Ok(runtime) = Handle::try_current()
        {
            let (owned, asides) = (self.owned.clone(), [self.orphans.clone(), self.reserve.clone()]);
            runtime.spawn_blocking(move || {
                owned.purge_expired();
                asides.iter().for_each(Aside::purge);
            });
        }
    }

    /// Sets aside what `owns` says is not this node's, and drops what is being loaded for it. Returns how much there was.
    pub(crate) fn keep(&self, owns: impl Fn(&str) -> bool) -> usize {
        let mut lost = 0;
        for (key, slot) in &self.owned {
            if !owns(&key) && slot.via != Via::Acting {
                self.orphans.adopt(&key, || self.owned.remove(&key));
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

    /// Returns what is in memory and may be served.
    pub(crate) fn fresh(&self, key: &str) -> Option<Slot> {
        self.owned.get(key).filter(|slot| slot.is_fresh() && self.is_servable(key, slot))
    }

    /// Whether a value was this node's without a break since it was kept (R5), and is not too old for a node that was away (R8).
    pub(crate) fn is_servable(&self, key: &str, slot: &Slot) -> bool {
        let since = u64::from(slot.since);
        let hash = || self.seed.hash(key);
        slot.via == Via::Acting
            || self.standing.get().is_none_or(|standing| standing.owned_since(since, hash))
                && self.cap.allows(slot.since, || hash().as_u64())
    }

    /// Returns what the new owner of a key may take over: of this node's own, and of what was set aside.
    pub(crate) fn inheritance(&self, key: &str) -> Option<Slot> {
        let owned = self.owned.peek(key).filter(|slot| slot.is_fresh() && slot.via != Via::Acting);
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
        // One that acts may have to act again.
        let Some(slot) = (if acts { self.reserve.get(key) } else { self.reserve.take(key) }) else { return Some(load) };
        let left = slot.expires.map(|at| at.saturating_duration_since(Instant::now()));
        let ttl = if acts { Some(left.map_or(self.failover_ttl, |left| left.min(self.failover_ttl))) } else { left };
        let via = if acts { Via::Acting } else { Via::Filled };
        let (slot, expiry) = self.kept(slot.value.unwrap_or_default(), ttl, via);
        if keep || acts {
            load.fill.install(slot, expiry);
        } else {
            load.fill.deliver(slot);
        }
        None
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
            .filter(|(key, slot, _)| slot.via != Via::Acting && slot.is_fresh() && self.is_servable(key, slot))
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
    /// loaded at once.
    pub(crate) fn doubt(&self, ttl: Duration) {
        self.owned.fence_loads();
        self.relayed.clear();
        self.orphans.clear();
        self.reserve.clear();
        self.owned.retain(|key, slot| self.cap.allows(slot.since, || self.seed.hash(key).as_u64()));
        self.cap.set(self.ordinal(), ttl);
    }

    /// The number of the present view.
    fn ordinal(&self) -> u32 {
        self.standing.get().map_or(0, |standing| u32::try_from(standing.ordinal()).unwrap_or(u32::MAX))
    }

    /// Returns a copy of another node's value, if its lease holds.
    pub(crate) fn near(&self, key: &str) -> Option<Slot> {
        let copy = self.relayed.get(key)?;
        if copy.lease.is_some_and(|lease| lease.holds()) && copy.slot.is_fresh() {
            return Some(copy.slot);
        }
        // Its owner is silent, or the view is another. One that comes meanwhile goes too, which costs a request.
        self.relayed.remove(key);
        None
    }

    /// Ends a fill with what a peer said, and keeps that for as long as its owner lets.
    pub(crate) fn install_near(&self, fill: RelayFill, found: Option<Found>, lease: Option<Lease>) {
        let slot = Slot::of_peer(found);
        let lease = lease.filter(|_| slot.value.is_some());
        let Some(until) = lease.as_ref().map(Lease::until) else {
            return fill.deliver(Relayed::once(slot));
        };
        // A value shares the memory of its frame, in which others may have come.
        let value = slot.value.map(|value| Bytes::copy_from_slice(&value));
        let expiry = CacheExpiry::After(until.saturating_duration_since(Instant::now()));
        fill.install(Relayed { slot: Slot { value, ..slot }, lease }, expiry);
    }

    /// Stores a value as its owner, over whatever is there or being loaded.
    pub(crate) fn store(&self, entry: &PutEntry) -> Result<()> {
        // The frame that brought the value holds other entries too; a small value must not keep it alive.
        let value = Bytes::copy_from_slice(&entry.value);
        let (slot, expiry) = self.kept(value, entry.ttl, Via::Source);
        self.relayed.remove(&*entry.key);
        self.orphans.remove(&entry.key);
        self.reserve.remove(&entry.key);
        let since = slot.since;
        let stored = self.owned.insert_with(entry.key.clone(), slot, expiry);
        if self.ordinal() != since {
            // The sweep for the new view may have passed this place.
            self.owned.remove(&*entry.key);
        }
        stored.map_err(|error| match error {
            InsertError::TooLarge { weight, limit } => Error::new(
                ErrorKind::Invalid,
                format!(
                    "an entry of {weight} bytes is over the {limit} bytes that keyspace {:?} has for one",
                    self.name
                ),
            ),
            other => Error::with_source(ErrorKind::Internal, "the entry was not stored", other),
        })
    }

    /// Makes a value ready to be kept for that long, and for as long after that as it may stand in for one that fails to load.
    fn kept(&self, value: Bytes, ttl: Option<Duration>, via: Via) -> (Slot, CacheExpiry) {
        let now = Instant::now();
        let usable = ttl.filter(|ttl| !ttl.is_zero()).map(|ttl| ttl.saturating_add(self.stale_if_error)).or(ttl);
        let at = |time: Option<Duration>| time.and_then(|time| now.checked_add(time));
        let slot = Slot { value: Some(value), expires: at(ttl), usable: at(usable), since: self.ordinal(), via };
        (slot, usable.map_or(CacheExpiry::Never, CacheExpiry::After))
    }

    /// Ends a fill with what the data source gave. `keep` says whether this node owns the key now; a value that is loaded in
    /// another's place is kept whoever owns it, and only for a short time. A value whose time was up stands in for one that
    /// could not be loaded.
    pub(crate) fn install(&self, load: Load, loaded: Result<Option<Bytes>>, keep: bool, via: Via, now: SystemTime) {
        let Load { fill, stale } = load;
        let value = match loaded {
            Ok(Some(value)) => value,
            Ok(None) => return fill.deliver(Slot::missing(via)),
            Err(error) => return self.stand_in(fill, stale, error),
        };
        let ttl = self.definition.expires_at(fill.key()).remaining(now);
        let acts = via == Via::Acting && !keep;
        let is_short = acts && !planted(Defect::ActingKept);
        let ttl = if is_short { Some(ttl.map_or(self.failover_ttl, |ttl| ttl.min(self.failover_ttl))) } else { ttl };
        // What is loaded in another's place and turns out to be this node's is as good as any of its own.
        let (slot, expiry) = self.kept(value, ttl, if keep && via == Via::Acting { Via::Source } else { via });
        if !keep && !acts {
            return fill.deliver(slot);
        }
        match fill.install(slot, expiry) {
            Installed::Stored => {}
            // The callers have their value; it just is not kept.
            reason => {
                tracing::debug!(keyspace = %self.name, ?reason, "a loaded value was not kept")
            }
        }
    }

    /// Ends a fill with what the owner of before had.
    pub(crate) fn install_filled(&self, fill: Fill, found: Found, keep: bool) {
        let Found { value, ttl, .. } = found;
        let (slot, expiry) = self.kept(Bytes::copy_from_slice(&value), ttl, Via::Filled);
        if keep {
            fill.install(slot, expiry);
        } else {
            fill.deliver(slot);
        }
    }

    /// Answers a failed load with what was there before, if there is something, and puts that back: it is asked for again before
    /// long, and the data source should not be, for a moment.
    fn stand_in(&self, fill: Fill, stale: Option<Slot>, error: Error) {
        let now = Instant::now();
        let Some(stale) = stale.filter(|stale| stale.usable.is_none_or(|until| now < until)) else {
            return fill.fail(error);
        };
        tracing::debug!(keyspace = %self.name, %error, "a load failed; an older value stands in");
        let pause = now + SOURCE_PAUSE;
        let expires = stale.usable.map_or(pause, |until| until.min(pause));
        let left = stale.usable.map_or(CacheExpiry::Never, |until| CacheExpiry::After(until - now));
        let _ = fill.install(Slot { expires: Some(expires), via: Via::Stale, ..stale }, left);
    }

    /// Reads one key from the data source: outside any lock, with the load timeout, safe from panics.
    pub(crate) async fn load(&self, key: &str) -> Result<Option<Bytes>> {
        self.counters.source_loads.one();
        let load = AssertUnwindSafe(self.source.fetch(key)).catch_unwind();
        let result = match timeout(self.load_timeout, load).await {
            Ok(Ok(result)) => result.map_err(source_failed).and_then(|value| self.within_limit(value)),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Source, "the data source panicked")),
            Err(_) => Err(Error::timeout("the data source")),
        };
        if result.is_err() {
            self.counters.source_failures.one();
        }
        result
    }

    /// Reads several keys from the data source. One result a key, in order.
    pub(crate) async fn load_many(&self, keys: &[&str]) -> Vec<Result<Option<Bytes>>> {
        if let [key] = keys {
            return vec![self.load(key).await];
        }
        self.counters.source_loads.add(keys.len());
        let load = AssertUnwindSafe(self.source.fetch_many(keys)).catch_unwind();
        let all = |error: Error| keys.iter().map(|_| Err(error.clone())).collect::<Vec<_>>();
        let results = match timeout(self.load_timeout, load).await {
            Ok(Ok(results)) if results.len() == keys.len() => {
                let checked = results.into_iter();
                checked.map(|result| result.map_err(source_failed).and_then(|value| self.within_limit(value))).collect()
            }
            Ok(Ok(results)) => {
                let (got, asked) = (results.len(), keys.len());
                all(Error::new(ErrorKind::Source, format!("the data source gave {got} results for {asked} keys")))
            }
            Ok(Err(_)) => all(Error::new(ErrorKind::Source, "the data source panicked")),
            Err(_) => all(Error::timeout("the data source")),
        };
        self.counters.source_failures.add(results.iter().filter(|result| result.is_err()).count());
        results
    }

    /// A value that could not be sent to a peer is refused here too, so that a key reads the same everywhere.
    fn within_limit(&self, value: Option<Bytes>) -> Result<Option<Bytes>> {
        match value.as_ref().map_or(0, Bytes::len) {
            len if len > self.max_value_bytes => Err(Error::new(
                ErrorKind::Invalid,
                format!("the data source gave a value of {len} bytes, over the limit of {}", self.max_value_bytes),
            )),
            _ => Ok(value),
        }
    }

    /// How long a put value lives when its entry does not say.
    pub(crate) fn ttl_of(&self, key: &str, now: SystemTime) -> Option<Duration> {
        self.definition.expires_at(key).remaining(now)
    }

    pub(crate) fn stats(&self) -> KeySpaceStats {
        let cache = self.owned.stats();
        KeySpaceStats {
            entries: cache.entries,
            reserve_entries: self.reserve.len(),
            bytes: cache.weight,
            evictions: cache.evictions,
            expired: cache.expired,
            ..self.counters.snapshot()
        }
    }
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("name", &self.name).finish_non_exhaustive()
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

fn source_failed(error: SourceError) -> Error {
    Error::with_source(ErrorKind::Source, "the data source failed", error)
}

/// A load to be made: the fill, and what may stand in for its value.
pub(crate) struct Load {
    pub(crate) fill: Fill,
    pub(crate) stale: Option<Slot>,
}

impl From<Fill> for Load {
    fn from(fill: Fill) -> Self {
        Self { fill, stale: None }
    }
}

/// What an entry counts besides its key and value, about.
const ENTRY_BYTES: u64 = 64;
/// As many entries are given back by the next writes, or with the keyspace, before anybody notices.
const FEW_ENTRIES: u64 = 256;
/// Of what a keyspace holds, so much may be another's by now: more than a node of four gives a fifth.
const ORPHAN_SHARE: u64 = 4;
/// How long a data source that failed is spared a key that has a stand-in.
const SOURCE_PAUSE: Duration = Duration::from_secs(1);
/// Beyond 64 shards two cores or sixty-four do not meet often enough to matter.
const MAX_SHARDS: u64 = 64;
/// One byte in sixteen is for copies of others' hot values: few keys are hot, and each node keeps them.
const NEAR_SHARE: u64 = 16;
