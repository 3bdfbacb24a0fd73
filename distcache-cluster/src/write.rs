//! Writes: put and delete go to the key's owner, which serialises them (R2) and tells everyone else (deliver or drop).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use distcache_transport::{
    BreakerState, CallError, ErrorCode, Link, LinkState, Payload, Position, Progress, RemoteError,
};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use crate::{
    batch::chunks,
    coherence::Invalidation,
    defects::{Defect, planted},
    ident::NodeName,
    message::{self, Delete, Put, PutEntry, WriteMode, Written, key_len, method, put_len},
    placement::KeyspaceSeed,
    shared::Shared,
    view::{Member, View},
};

/// How a delete went. It never fails because a peer is down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Delivery {
    /// Who did not acknowledge: of the keys' owners, and of a strict write of all nodes. The invalidation waits for them in order, and
    /// reaches them before anything later or they drop what it covers; until then they may serve what they hold. Empty when all is done.
    pub pending: Vec<NodeName>,
}

/// How one entry of a put went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// The owner has taken it, and of a strict write every node has dropped what was there before. Where the owner had heard of the key
    /// from another node within the last minute or so, it has not kept the value, which may be older than what it heard, and nobody has
    /// another.
    Yes,
    /// The owner has it. These nodes have not acknowledged that what was there before is old.
    Unheard(Vec<NodeName>),
    /// The owner could not be reached. Nobody stored it, and what was cached before is invalidated everywhere, the owner
    /// included once it is back.
    No(NodeName),
    /// The owner refused it (its size, an unknown keyspace). What was cached before is gone.
    Refused {
        /// Who.
        by: NodeName,
        /// Why.
        error: RemoteError,
    },
}

/// When a write is done, and when it is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) mode: WriteMode,
    deadline: Instant,
}

impl Terms {
    pub(crate) fn new(mode: WriteMode, timeout: Duration) -> Self {
        let now = Instant::now();
        Self { mode, deadline: now.checked_add(timeout).unwrap_or(now) }
    }

    /// Those of a peer, less what the answer takes.
    fn of_peer(mode: WriteMode, left: Duration) -> Self {
        Self::new(mode, left.saturating_sub(RETURN_TRIP))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Deletes keys at their owners and here.
///
/// The local invalidation runs before the request and again after the owner's answer: a local read in between may have been
/// given the old value by the owner, and the writer must read its own delete.
pub(crate) async fn delete(shared: &Shared, keyspace: &Arc<str>, keys: &[&str], terms: Terms) -> Delivery {
    let seed = KeyspaceSeed::of(keyspace);
    let note = || shared.recent.note(keys.iter().map(|key| seed.hash(key)), Instant::now().into_std());
    note();
    let view = shared.view();
    let groups = group(&view, keyspace, keys.iter().copied(), |key| key);
    for (at, group) in &groups {
        shared.invalidate(keyspace, group, view.members()[*at].ident());
    }
    let calls = groups.into_iter().map(|(at, group)| {
        let (view, member) = (&view, &view.members()[at]);
        async move {
            let Some(link) = member.link() else {
                let position = shared.invalidations.append(&keys_of(keyspace, &group));
                return (group, Some(member), shared.unheard(position, terms).await);
            };
            let delivered = delete_at(shared, link, keyspace, &group, 0, terms).await;
            let by_owner = delivered.is_some().then_some(member);
            let delivered = match delivered {
                None => relay(shared, view, member, keyspace, &group, terms).await,
                delivered => delivered,
            };
            if !planted(Defect::NoSecondInvalidation) {
                shared.invalidate(keyspace, &group, member.ident());
            }
            let owner = member.ident().name();
            let is_with_owner =
                |pending: &Vec<_>| pending.is_empty() || terms.mode == WriteMode::Strict && !pending.contains(owner);
            let pending = match delivered {
                Some(pending) if is_with_owner(&pending) => pending,
                // Whoever was asked instead could not pass it on, or nobody was. That one has it in its log, which may be lost.
                delivered => {
                    let mut pending = shared.tell_all(keyspace, &group, terms).await;
                    pending.extend(delivered.unwrap_or_else(|| vec![owner.clone()]));
                    pending
                }
            };
            (group, by_owner, pending)
        }
    });
    let done = join_all(calls).await;
    note();
    let mut pending = Vec::new();
    for (group, owner, unheard) in done {
        if let Some(owner) = owner {
            shared.recent.taken(owner.ident(), group.iter().map(|key| seed.hash(key)));
        }
        pending.extend(unheard);
    }
    Delivery { pending: shared.others(pending) }
}

/// A peer's delete. As owner: apply and tell everyone. Otherwise: drop what is here and pass it on, unless it came that way.
pub(crate) async fn delete_for_peer(shared: &Shared, delete: &Delete<'_>, left: Duration) -> Vec<NodeName> {
    let (keyspace, terms): (Arc<str>, _) = (delete.keyspace.into(), Terms::of_peer(delete.mode, left));
    let view = shared.view();
    let groups = group(&view, &keyspace, delete.keys.iter().copied(), |key| key);
    for (at, group) in &groups {
        shared.invalidate(&keyspace, group, view.members()[*at].ident());
    }
    let forwards = groups.into_iter().map(|(at, group)| {
        let (keyspace, member) = (&keyspace, &view.members()[at]);
        let link = member.link().filter(|_| may_pass_on(delete.hops));
        let is_kept_back = !member.is_self() && planted(Defect::NotForwarded);
        async move {
            if is_kept_back {
                return Vec::new();
            }
            if let Some(link) = link
                && let Some(pending) =
                    delete_at(shared, link, keyspace, &group, delete.hops.saturating_add(1), terms).await
            {
                return pending;
            }
            let mut pending = shared.tell_all(keyspace, &group, terms).await;
            // The owner hears of it from this node's log, and has not yet.
            pending.extend((!member.is_self()).then(|| member.ident().name().clone()));
            pending
        }
    });
    join_all(forwards).await.concat()
}

/// Whether a write that has crossed so many peers may cross another.
fn may_pass_on(hops: u8) -> bool {
    (hops == 0 || planted(Defect::HopsIgnored)) && !planted(Defect::NotForwarded)
}

/// Sends a delete in as few frames as it fits in. Returns who has not heard of it, or nothing if the peer did not acknowledge all of it.
async fn delete_at(
    shared: &Shared,
    link: &Link,
    keyspace: &str,
    keys: &[&str],
    hops: u8,
    terms: Terms,
) -> Option<Vec<NodeName>> {
    let mut pending = Vec::new();
    for chunk in chunks(keys, |key| key_len(key)) {
        let delete = Delete { hops, mode: terms.mode, keyspace, keys: chunk.to_vec() };
        let answer = call(shared, link, delete.encode(), terms.left()).await;
        match answer.map(|bytes| message::decode_pending(&bytes)) {
            Ok(Ok(unheard)) => pending.extend(unheard),
            Ok(Err(error)) => {
                tracing::warn!(peer = %link.addr(), %error, "a delete was answered with nonsense; it is delivered again");
                return None;
            }
            Err(error) => {
                tracing::warn!(peer = %link.addr(), %error, "a node did not acknowledge a delete; it is delivered later");
                return None;
            }
        }
    }
    Some(pending)
}

/// Asks a peer that takes moments for the answer, and that says so if it takes longer: one that says nothing is not waited for.
async fn call(shared: &Shared, link: &Link, delete: Payload, left: Duration) -> Result<Bytes, CallError> {
    let patience = shared.config.peer_patience.saturating_mul(2).min(left);
    let mut call = link.begin_anyway(method::DELETE, delete, left)?;
    match timeout(patience, call.progress()).await {
        Ok(Progress::Answered(answer)) => answer,
        Ok(Progress::Loading) => call.answer().await,
        Err(_) => {
            call.expired();
            Err(CallError::TimedOut)
        }
    }
}

/// Sends a delete to an owner that does not answer by way of another peer, which may still reach it: the next in line, for that one acts
/// for the owner, or whoever is there. One, and once.
async fn relay(
    shared: &Shared,
    view: &View,
    owner: &Member,
    keyspace: &str,
    keys: &[&str],
    terms: Terms,
) -> Option<Vec<NodeName>> {
    let next = keys.first().and_then(|key| view.next_in_line(KeyspaceSeed::of(keyspace).hash(key)));
    let others = next.into_iter().chain(view.members());
    let is_silent = |link: &Link| matches!(link.breaker(), BreakerState::Open { .. });
    let is_there = |link: &&Link| matches!(link.state(), LinkState::Up(_)) && !is_silent(link);
    let link = others.filter(|member| member.ident() != owner.ident()).filter_map(Member::link).find(is_there)?;
    // It passes the delete on with the same patience as this node had.
    let patience = shared.config.peer_patience.saturating_mul(2) + RETURN_TRIP.saturating_mul(4);
    let terms = match terms.mode {
        WriteMode::Strict => terms,
        _ => Terms::new(terms.mode, terms.left().min(patience)),
    };
    tracing::debug!(peer = %link.addr(), owner = %owner.ident(), "a delete goes by way of another node");
    delete_at(shared, link, keyspace, keys, 0, terms).await
}

/// Stores entries at their owners. One result an entry, in order.
pub(crate) async fn put(shared: &Shared, keyspace: &Arc<str>, entries: Vec<PutEntry>, terms: Terms) -> Vec<Stored> {
    let view = shared.view();
    let (count, seed) = (entries.len(), KeyspaceSeed::of(keyspace));
    let hashes: Vec<_> = entries.iter().map(|entry| seed.hash(&entry.key)).collect();
    shared.recent.note(hashes.iter().copied(), Instant::now().into_std());
    let groups = group(&view, keyspace, entries.into_iter().enumerate(), |(_, entry)| &*entry.key);
    let calls = groups.into_iter().map(|(at, group)| {
        let member = &view.members()[at];
        let (places, group): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        async move {
            let keys: Vec<_> = group.iter().map(|entry| &*entry.key).collect();
            let (results, pending) = match member.link() {
                None => {
                    let (results, pending) = store_as_owner(shared, keyspace, &group, terms).await;
                    (results.into_iter().map(|result| result.map_err(Undone::Refused)).collect(), pending)
                }
                Some(link) => {
                    let put = put_at(link, keyspace, &group, 0, terms).await;
                    if !planted(Defect::NoSecondInvalidation) {
                        shared.invalidate(keyspace, &keys, member.ident());
                    }
                    put
                }
            };
            let (owner, pending) = (member.ident().name(), shared.others(pending));
            let is_lost = |result: &Result<(), Undone>| match result {
                Err(Undone::Refused(error)) => error.code == NOT_OWNER,
                Err(Undone::Unreachable) => true,
                Ok(()) => false,
            };
            // The value is lost, which a cache may do; the old one must not survive it.
            let lost: Vec<_> =
                keys.iter().zip(&results).filter(|(_, result)| is_lost(result)).map(|(key, _)| *key).collect();
            if !lost.is_empty() {
                shared.tell_all(keyspace, &lost, Terms { mode: WriteMode::Owner, ..terms }).await;
            }
            let outcomes = results.into_iter().map(|result| match result {
                Ok(()) if pending.is_empty() => Stored::Yes,
                Ok(()) => Stored::Unheard(pending.clone()),
                Err(Undone::Refused(error)) if error.code != NOT_OWNER => Stored::Refused { by: owner.clone(), error },
                Err(Undone::Refused(_) | Undone::Unreachable) => Stored::No(owner.clone()),
            });
            places.into_iter().zip(outcomes).collect::<Vec<_>>()
        }
    });
    let mut stored: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
    debug_assert_eq!(stored.len(), count, "every entry has an owner");
    shared.recent.note(hashes.iter().copied(), Instant::now().into_std());
    for (place, stored) in &stored {
        if !matches!(stored, Stored::No(_)) {
            shared.recent.taken(view.owner(hashes[*place]).ident(), [hashes[*place]]);
        }
    }
    stored.sort_by_key(|(place, _)| *place);
    stored.into_iter().map(|(_, stored)| stored).collect()
}

/// A peer's put. As owner: store and tell everyone. Otherwise: drop what is here and pass it on, unless it came that way.
pub(crate) async fn put_for_peer(shared: &Shared, put: Put<'_>, left: Duration) -> Written {
    let (keyspace, terms): (Arc<str>, _) = (put.keyspace.into(), Terms::of_peer(put.mode, left));
    let (view, hops) = (shared.view(), put.hops);
    let groups = group(&view, &keyspace, put.entries.into_iter().enumerate(), |(_, entry)| &*entry.key);
    let calls = groups.into_iter().map(|(at, group)| {
        let (keyspace, member) = (&keyspace, &view.members()[at]);
        let (places, group): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        async move {
            let (results, pending): Written = match member.link() {
                None => store_for_peer(shared, keyspace, &group, terms).await,
                Some(link) => {
                    let keys: Vec<_> = group.iter().map(|entry| &*entry.key).collect();
                    shared.invalidate(keyspace, &keys, member.ident());
                    if may_pass_on(hops) {
                        let (results, pending) = put_at(link, keyspace, &group, hops.saturating_add(1), terms).await;
                        (results.into_iter().map(Undone::or_not_owner).collect(), pending)
                    } else {
                        (group.iter().map(|_| Err(not_owner())).collect(), Vec::new())
                    }
                }
            };
            (places.into_iter().zip(results).collect::<Vec<_>>(), pending)
        }
    });
    let (results, pending): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().unzip();
    let mut results: Vec<_> = results.into_iter().flatten().collect();
    results.sort_by_key(|(place, _)| *place);
    (results.into_iter().map(|(_, result)| result).collect(), pending.concat())
}

/// Stores as the owner what a peer puts, and only drops what is here of keys whose put may have been overtaken by an invalidation.
async fn store_for_peer(shared: &Shared, keyspace: &Arc<str>, entries: &[PutEntry], terms: Terms) -> Written {
    let (seed, now) = (KeyspaceSeed::of(keyspace), Instant::now());
    let has_moved = shared.standing.moved_within(shared.config.invalidation_retention, now);
    let is_late = |entry: &PutEntry| shared.tombstones.outdates_puts(seed.hash(&entry.key), has_moved, now);
    if !entries.iter().any(is_late) {
        return store_as_owner(shared, keyspace, entries, terms).await;
    }
    let keys: Vec<_> = entries.iter().map(|entry| &*entry.key).collect();
    shared.invalidate(keyspace, &keys, &shared.me);
    let store = |entry: &PutEntry| {
        let stored = || shared.store.write(keyspace, std::slice::from_ref(entry)).pop().unwrap_or(Ok(()));
        if is_late(entry) { Ok(()) } else { stored() }
    };
    let results = entries.iter().map(store).collect();
    let position = shared.invalidations.append(&keys_of(keyspace, &keys));
    (results, shared.unheard(position, terms).await)
}

/// Stores as the owner, then tells all others that whatever they hold of these keys is old.
async fn store_as_owner(shared: &Shared, keyspace: &Arc<str>, entries: &[PutEntry], terms: Terms) -> Written {
    let keys: Vec<_> = entries.iter().map(|entry| &*entry.key).collect();
    shared.tombstones.note(keyspace, &keys, &shared.told_here(), Instant::now());
    let results = shared.store.write(keyspace, entries);
    let position = shared.invalidations.append(&keys_of(keyspace, &keys));
    (results, shared.unheard(position, terms).await)
}

/// Why an entry was not stored at a peer.
#[derive(Debug, Clone)]
enum Undone {
    Unreachable,
    Refused(RemoteError),
}

impl Undone {
    fn or_not_owner(result: Result<(), Self>) -> Result<(), RemoteError> {
        result.map_err(|undone| match undone {
            Self::Unreachable => not_owner(),
            Self::Refused(error) => error,
        })
    }
}

async fn put_at(
    link: &Link,
    keyspace: &str,
    entries: &[PutEntry],
    hops: u8,
    terms: Terms,
) -> (Vec<Result<(), Undone>>, Vec<NodeName>) {
    let (mut results, mut pending) = (Vec::with_capacity(entries.len()), Vec::new());
    for chunk in chunks(entries, put_len) {
        let put = message::encode_put(hops, terms.mode, keyspace, chunk);
        let answer = link.call(method::PUT, put, terms.left()).await;
        let written = answer.map(|bytes| message::decode_written(&bytes));
        match written {
            Ok(Ok((written, unheard))) if written.len() == chunk.len() => {
                results.extend(written.into_iter().map(|result| result.map_err(Undone::Refused)));
                pending.extend(unheard);
            }
            Err(CallError::Remote(error)) if !is_transports(error.code) => {
                results.extend(chunk.iter().map(|_| Err(Undone::Refused(error.clone()))));
            }
            other => {
                tracing::warn!(peer = %link.addr(), answer = ?other.map(|_| "malformed"), "the owner did not take a put");
                results.extend(chunk.iter().map(|_| Err(Undone::Unreachable)));
            }
        }
    }
    (results, pending)
}

/// Whether an error is the link's or the server's own, and not the store's answer. The store may have seen the request: the deadline
/// may have passed, or the answer been dropped, after that.
const fn is_transports(code: ErrorCode) -> bool {
    code.0 < FIRST_APPLICATION_CODE
}

pub(crate) fn not_owner() -> RemoteError {
    RemoteError::new(NOT_OWNER, "the nodes do not agree on the owner yet")
}

impl Shared {
    /// Has this node's log tell everyone that keys are old, for their owner did not say that it would. Returns who has not heard of it, of
    /// a strict write.
    async fn tell_all(&self, keyspace: &Arc<str>, keys: &[&str], terms: Terms) -> Vec<NodeName> {
        self.tombstones.note(keyspace, keys, &self.told_here(), Instant::now());
        let position = self.invalidations.append(&keys_of(keyspace, keys));
        self.unheard(position, terms).await
    }

    /// Waits, for a strict write, until everybody has heard of it, and returns who has not. Nobody is waited for longer than for the
    /// lease of a copy: what a node holds that has not answered by then is its own.
    async fn unheard(&self, position: Position, terms: Terms) -> Vec<NodeName> {
        if terms.mode != WriteMode::Strict || planted(Defect::StrictAcksAtOnce) {
            return Vec::new();
        }
        let patience = self.config.near_ttl.max(LEAST_PATIENCE);
        let deadline = terms.deadline.min(Instant::now() + patience);
        self.invalidations.unheard_at(position, &self.sessions, deadline).await
    }

    /// Leaves out this node, whose last invalidation comes after the owner's answer, and what is named twice.
    fn others(&self, pending: impl IntoIterator<Item = NodeName>) -> Vec<NodeName> {
        let others: BTreeSet<_> = pending.into_iter().filter(|name| name != self.me.name()).collect();
        others.into_iter().collect()
    }
}

fn keys_of(keyspace: &Arc<str>, keys: &[&str]) -> Vec<Invalidation> {
    keys.iter().map(|key| Invalidation::Key { keyspace: Arc::clone(keyspace), key: (*key).into() }).collect()
}

/// Sorts items by the member that owns their key.
fn group<T>(
    view: &View,
    keyspace: &str,
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &str,
) -> BTreeMap<usize, Vec<T>> {
    let seed = KeyspaceSeed::of(keyspace);
    let mut groups = BTreeMap::<_, Vec<T>>::new();
    for item in items {
        groups.entry(view.owner_index(seed.hash(key(&item)))).or_default().push(item);
    }
    groups
}

/// The answering node is not the owner in its own view, and was not asked to act for one; or a write had crossed a peer already.
pub(crate) const NOT_OWNER: ErrorCode = ErrorCode(FIRST_APPLICATION_CODE);
const FIRST_APPLICATION_CODE: u16 = 100;
/// For how long a strict write waits for the slowest node at least.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// A forwarded write keeps a part of its deadline for the way back.
const RETURN_TRIP: Duration = Duration::from_millis(10);
