//! The node's own side: its keyspaces by name, its loads as an owner, and what it does for its peers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use distcache_cluster::{Entries, Found, KeyHash, Origin, Ownership, Predecessors, PutEntry, Read, Role, Store, View};
use distcache_core::Lookup;
use distcache_transport::RemoteError;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind, Result},
    flight::{Flights, follow},
    keyspace::KeySpace,
    space::{Fill, Follower, Limits, Load, Slot, Space, Via},
};

type Spaces = BTreeMap<Arc<str>, Arc<Space>>;

/// Everything of a node but its peers.
pub(crate) struct Local {
    spaces: ArcSwap<Spaces>,
    /// Serialises changes of `spaces`; no read takes it.
    change: Mutex<()>,
    limits: Limits,
    ownership: Arc<OnceLock<Ownership>>,
    predecessors: OnceLock<Predecessors>,
    flights: Flights,
}

impl Local {
    pub(crate) fn new(limits: Limits, flights: Flights) -> Self {
        Self {
            spaces: ArcSwap::default(),
            change: Mutex::new(()),
            limits,
            ownership: Arc::default(),
            predecessors: OnceLock::new(),
            flights,
        }
    }

    /// Returns the keyspace of that name.
    pub(crate) fn space(&self, name: &str) -> Result<Arc<Space>> {
        self.spaces.load().get(name).cloned().ok_or_else(|| Error::unknown_keyspace(name))
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.spaces.load().keys().cloned().collect()
    }

    /// Adds a keyspace, or puts it in the place of one that must be there. The caller validated it.
    pub(crate) fn define(&self, definition: Arc<dyn KeySpace>, replace: bool) -> Result<Arc<Space>> {
        let space = Arc::new(Space::new(definition, self.limits, Arc::clone(&self.ownership))?);
        let guard = self.changing();
        let mut spaces = Spaces::clone(&self.spaces.load());
        match (spaces.contains_key(&space.name), replace) {
            (true, false) => {
                let message = format!("a keyspace is called {:?} already", space.name);
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            (false, true) => return Err(Error::unknown_keyspace(&space.name)),
            _ => {}
        }
        let old = spaces.insert(Arc::clone(&space.name), Arc::clone(&space));
        self.spaces.store(Arc::new(spaces));
        drop(guard);
        if let Some(old) = old {
            old.retire();
        }
        Ok(space)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        // The map is replaced whole, so a panic cannot leave it half changed.
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owns(&self, space: &Space, key: &str) -> bool {
        self.ownership.get().is_none_or(|ownership| ownership.owns(space.seed.hash(key)))
    }

    /// Reads a key that was not in the cache a moment ago, as its owner or in the owner's place: one load for all who ask.
    ///
    /// What it waits for is the data source only, never a peer, so that peers may wait for it.
    pub(crate) async fn read_own(
        self: &Arc<Self>,
        space: &Arc<Space>,
        key: &str,
        deadline: Instant,
        via: Via,
    ) -> Result<(Slot, Origin)> {
        let mut loads = Vec::new();
        let follower = match look_up(space, key, &mut loads) {
            Ok(slot) => return Ok((slot, Origin::Cache)),
            Err(follower) => follower,
        };
        self.load(space, loads, deadline, via);
        let slot = follow(follower, deadline, |fill| self.load(space, vec![fill.into()], deadline, via)).await?;
        Ok((slot, Origin::Source))
    }

    /// Reads several keys as their owner, or in its place. Those to be loaded go to the data source together. One result a key, in
    /// order.
    pub(crate) async fn read_own_many(
        self: &Arc<Self>,
        space: &Arc<Space>,
        keys: &[&str],
        deadline: Instant,
        via: Via,
    ) -> Vec<Result<(Slot, Origin)>> {
        let mut loads = Vec::new();
        let waiting: Vec<_> = keys.iter().map(|key| look_up(space, key, &mut loads)).collect();
        self.load(space, loads, deadline, via);
        join_all(waiting.into_iter().map(|state| async {
            match state {
                Ok(slot) => Ok((slot, Origin::Cache)),
                Err(follower) => {
                    let again = |fill: Fill| self.load(space, vec![fill.into()], deadline, via);
                    Ok((follow(follower, deadline, again).await?, Origin::Source))
                }
            }
        }))
        .await
    }

    /// Loads keys in a task of its own: no caller's patience ends it, and the keyspace's load timeout does. A load that finds no
    /// place before `deadline` is not started.
    ///
    /// Shortly after the ring has moved, the owner of before is asked first what it has.
    ///
    /// A value is kept only if this node owns its key when it arrives, whatever it was loaded for, or acts for the owner. Ownership
    /// that is lost later poisons the fill.
    fn load(self: &Arc<Self>, space: &Arc<Space>, loads: Vec<Load>, deadline: Instant, via: Via) {
        if loads.is_empty() {
            return;
        }
        if matches!(via, Via::Fallback | Via::Acting) {
            space.counters.fallback_loads.add(loads.len());
        }
        let (local, space) = (Arc::clone(self), Arc::clone(space));
        self.flights.spawn(async move {
            let loads = if via == Via::Source { local.inherit(&space, loads).await } else { loads };
            let spare = |load: Load| {
                let keep = local.owns(&space, load.fill.key());
                space.install_reserve(load, keep, via)
            };
            let loads: Vec<_> = loads.into_iter().filter_map(spare).collect();
            let keys: Vec<_> = loads.iter().map(|load| load.fill.key().clone()).collect();
            let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
            if keys.is_empty() {
                return;
            }
            let loaded = match space.permits.acquire(deadline).await {
                Ok(_permit) => space.load_many(&keys).await,
                Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
            };
            for (load, loaded) in loads.into_iter().zip(loaded) {
                let keep = local.owns(&space, load.fill.key());
                space.install(load, loaded, keep, via, SystemTime::now());
            }
        });
    }

    /// Asks the owners of before for keys. Returns what is still to be loaded.
    async fn inherit(&self, space: &Space, loads: Vec<Load>) -> Vec<Load> {
        let Some(predecessors) = self.predecessors.get().filter(|predecessors| predecessors.may_have()) else {
            return loads;
        };
        let keys: Vec<_> = loads.iter().map(|load| load.fill.key().clone()).collect();
        let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
        let found = predecessors.fill(&space.name, &keys).await;
        let mut left = Vec::new();
        for (load, found) in loads.into_iter().zip(found) {
            match found {
                Some(found) => {
                    let keep = self.owns(space, load.fill.key());
                    space.install_filled(load.fill, found, keep);
                }
                None => left.push(load),
            }
        }
        left
    }
}

/// Looks for a key among what is in memory and what is on its way; else notes a load to be made, and follows it like any other
/// caller. A value whose time is up leaves its place to the load, and stands in if that fails.
fn look_up(space: &Space, key: &str, loads: &mut Vec<Load>) -> Result<Slot, Follower> {
    let mut stale = None;
    loop {
        match space.owned.lookup(key) {
            Lookup::Hit(slot) => {
                let may_be_served = space.is_servable(key, &slot);
                if may_be_served && slot.is_fresh() {
                    return Ok(slot);
                }
                stale = Some(slot).filter(|_| may_be_served);
                space.owned.remove(key);
            }
            Lookup::Follow(follower) => return Err(follower),
            Lookup::Lead(fill) => {
                let follower = fill.follower();
                loads.push(Load { fill, stale });
                return Err(follower);
            }
        }
    }
}

/// The store as the cluster sees it: a handle, so that loads can outlive the request they began for.
#[derive(Debug, Clone)]
pub(crate) struct LocalStore(pub(crate) Arc<Local>);

/// How a value is loaded for a peer; a peek loads nothing.
const fn via(role: Role) -> Option<Via> {
    match role {
        Role::Owner => Some(Via::Source),
        Role::Acting | Role::Anew => Some(Via::Acting),
        _ => None,
    }
}

#[async_trait]
impl Store for LocalStore {
    fn attach(&self, ownership: Ownership, predecessors: Predecessors) {
        // Only the first counts; a node has one cluster.
        let _ = self.0.ownership.set(ownership);
        let _ = self.0.predecessors.set(predecessors);
    }

    async fn read(&self, keyspace: &str, key: &str, read: Read) -> Result<Option<Found>, RemoteError> {
        let space = self.0.space(keyspace).map_err(|error| error.to_remote())?;
        space.counters.peer_reads.one();
        if read.role == Role::Anew {
            space.invalidate(key);
        }
        if read.role == Role::Fill {
            return Ok(space.inheritance(key).and_then(|slot| slot.into_found(Origin::Cache)));
        }
        if let Some(slot) = space.fresh(key) {
            return Ok(slot.into_found(Origin::Cache));
        }
        let Some(via) = via(read.role) else { return Ok(None) };
        let read = self.0.read_own(&space, key, read.deadline, via).await;
        read.map(|(slot, origin)| slot.into_found(origin)).map_err(|error| error.to_remote())
    }

    async fn read_many(&self, keyspace: &str, keys: &[&str], read: Read) -> Vec<Result<Option<Found>, RemoteError>> {
        let space = match self.0.space(keyspace) {
            Ok(space) => space,
            Err(error) => return keys.iter().map(|_| Err(error.to_remote())).collect(),
        };
        space.counters.peer_reads.add(keys.len());
        if read.role == Role::Anew {
            keys.iter().for_each(|key| space.invalidate(key));
        }
        if read.role == Role::Fill {
            let inherited = keys.iter().map(|key| space.inheritance(key));
            return inherited.map(|slot| Ok(slot.and_then(|slot| slot.into_found(Origin::Cache)))).collect();
        }
        let Some(via) = via(read.role) else {
            let peeked = keys.iter().map(|key| space.fresh(key).and_then(|slot| slot.into_found(Origin::Cache)));
            return peeked.map(Ok).collect();
        };
        let results = self.0.read_own_many(&space, keys, read.deadline, via).await;
        results
            .into_iter()
            .map(|read| read.map(|(slot, origin)| slot.into_found(origin)).map_err(|error| error.to_remote()))
            .collect()
    }

    fn write(&self, keyspace: &str, entries: &[PutEntry]) -> Vec<Result<(), RemoteError>> {
        match self.0.space(keyspace) {
            Ok(space) => entries.iter().map(|entry| space.store(entry).map_err(|error| error.to_remote())).collect(),
            Err(error) => entries.iter().map(|_| Err(error.to_remote())).collect(),
        }
    }

    fn invalidate(&self, keyspace: &str, keys: &[&str]) {
        if let Ok(space) = self.0.space(keyspace) {
            keys.iter().for_each(|key| space.invalidate(key));
        }
    }

    fn keyspaces(&self) -> Vec<Arc<str>> {
        self.0.names()
    }

    fn clear(&self, keyspace: &str) {
        if let Ok(space) = self.0.space(keyspace) {
            space.clear();
        }
    }

    fn clear_all(&self) {
        self.0.spaces.load().values().for_each(|space| space.clear());
    }

    fn delete_keyspace(&self, keyspace: &str, age: Duration) {
        let local = &self.0;
        let guard = local.changing();
        let mut spaces = Spaces::clone(&local.spaces.load());
        let Some(space) = spaces.get(keyspace).cloned() else {
            return;
        };
        let outlives = space.age() <= age;
        if !outlives {
            spaces.remove(keyspace);
            local.spaces.store(Arc::new(spaces));
        }
        drop(guard);
        if outlives { space.clear() } else { space.retire() }
    }

    fn adopt(&self, keyspace: &str, entries: &[PutEntry], is_vetoed: &(dyn Fn(KeyHash) -> bool + Sync)) {
        let Ok(space) = self.0.space(keyspace) else { return };
        for entry in entries {
            let owns = self.0.owns(&space, &entry.key);
            space.adopt(entry, owns, || is_vetoed(space.seed.hash(&entry.key)));
        }
    }

    fn estate(&self, max_bytes: u64) -> Entries {
        let spaces = self.0.spaces.load();
        let held: u64 = spaces.values().map(|space| space.owned.weight()).sum();
        let share = |space: &Space| {
            let share = u128::from(max_bytes) * u128::from(space.owned.weight()) / u128::from(held.max(1));
            space.estate(u64::try_from(share).unwrap_or(max_bytes))
        };
        spaces.values().map(|space| (Arc::clone(&space.name), share(space))).collect()
    }

    fn backups(&self) -> Entries {
        let spaces = self.0.spaces.load();
        let backups = spaces.values().map(|space| (Arc::clone(&space.name), space.backups()));
        backups.filter(|(_, entries)| !entries.is_empty()).collect()
    }

    fn drop_borrowed(&self) {
        self.0.spaces.load().values().for_each(|space| space.drop_borrowed());
    }

    fn doubt_all(&self, ttl: Duration) {
        self.0.spaces.load().values().for_each(|space| space.doubt(ttl));
    }

    fn settle(&self) {
        self.0.spaces.load().values().for_each(|space| space.settle());
    }

    fn keep_owned(&self, view: &View) {
        for space in self.0.spaces.load().values() {
            let dropped = space.keep(|key| view.owns(space.seed.hash(key)));
            if dropped > 0 {
                tracing::debug!(keyspace = %space.name, dropped, "keys moved to other nodes");
            }
        }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("keyspaces", &self.names()).finish_non_exhaustive()
    }
}
