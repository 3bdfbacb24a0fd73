//! A keyspace at work on one node: its definition, its two caches and what lies beside them, its loads.
//!
//! * `owned` holds values of keys that this node owns, and the flights that load them from the data source. What waits on
//!   it waits for the source, and never for a peer that waits itself: a predecessor answers from memory or is not waited for.
//! * `relayed` holds near copies, each under a lease of its key's owner, and the flights that ask owners. What waits on it waits
//!   for a peer.
//!
//! The two are apart so that a request from a peer, which only ever waits on `owned`, can never wait for a request to a
//! peer: nodes whose rings disagree load twice, they do not wait for one another.

mod heritage;
mod slot;
mod source;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use distcache_cluster::{Defect, Found, KeyspaceSeed, Lease, Ownership, PutEntry, planted};
use distcache_core::{
    Cache, Expiry as CacheExpiry, Fill as CoreFill, Follower as CoreFollower, InsertError, Installed,
};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    aside::Aside,
    cap::Cap,
    clock::TokioClock,
    data_source::DataSource,
    error::{Error, ErrorKind, Result},
    keyspace::KeySpace,
    permits::LoadPermits,
    stats::{Counters, KeySpaceStats},
};

pub(crate) use slot::{Relayed, Slot, Via};

pub(crate) type Fill = CoreFill<Box<str>, Slot>;
pub(crate) type Follower = CoreFollower<Box<str>, Slot>;
pub(crate) type RelayFill = CoreFill<Box<str>, Relayed>;

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

    /// The number of the present view.
    fn ordinal(&self) -> u32 {
        self.standing.get().map_or(1, |standing| u32::try_from(standing.ordinal()).unwrap_or(u32::MAX))
    }

    /// Returns a copy of another node's value, if its lease holds.
    pub(crate) fn near(&self, key: &str) -> Option<Slot> {
        let Relayed { slot, lease } = self.relayed.get(key)?;
        // No lease is longer than the value's own time, so one look at the clock is enough.
        if lease.is_some_and(|lease| lease.holds()) {
            return Some(slot);
        }
        // Its time is up, its owner is silent, or the view is another. One that comes meanwhile goes too, which costs a request.
        self.relayed.remove(key);
        None
    }

    /// Ends a fill with what a peer said, and keeps that for as long as its owner lets.
    pub(crate) fn install_near(&self, fill: RelayFill, found: Option<Found>, lease: Option<Lease>) {
        let slot = Slot::of_peer(found);
        if lease.is_none() || slot.value.is_none() {
            return fill.deliver(Relayed::once(slot));
        }
        // A value shares the memory of its frame, in which others may have come.
        let value = slot.value.map(|value| Bytes::copy_from_slice(&value));
        // The lease ends by itself; a cache that knows no end reads no clock. What is not read again makes room for others.
        fill.install(Relayed { slot: Slot { value, ..slot }, lease }, CacheExpiry::Never);
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

/// As many entries are given back by the next writes, or with the keyspace, before anybody notices.
const FEW_ENTRIES: u64 = 256;
/// Of what a keyspace holds, so much may be another's by now: more than a node of four gives a fifth.
const ORPHAN_SHARE: u64 = 4;
/// Beyond 64 shards two cores or sixty-four do not meet often enough to matter.
const MAX_SHARDS: u64 = 64;
/// One byte in sixteen is for copies of others' hot values: few keys are hot, and each node keeps them.
const NEAR_SHARE: u64 = 16;
