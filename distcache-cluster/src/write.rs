//! Writes: put and delete go to the key's owner, which serialises them (R2) and tells everyone else (deliver or drop).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use distcache_transport::{CallError, ErrorCode, Link, RemoteError};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    batch::chunks,
    coherence::Invalidation,
    defects::{Defect, planted},
    ident::NodeName,
    message::{self, Delete, Put, PutEntry, key_len, method, put_len},
    placement::KeyspaceSeed,
    shared::Shared,
    view::View,
};

/// How a delete went. It never fails because a peer is down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Delivery {
    /// Owners that did not acknowledge. The invalidation waits for them in order, and reaches them before anything later or
    /// they drop what it covers; until then they may serve what they hold. Empty when all is done.
    pub pending: Vec<NodeName>,
}

/// How one entry of a put went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// The owner has taken it. Where it had heard of the key from another node within the last minute or so, it has not kept the value,
    /// which may be older than what it heard, and nobody has another.
    Yes,
    /// The owner could not be reached. Nobody stored it, and what was cached before is invalidated everywhere, the owner
    /// included once it is back.
    No(NodeName),
    /// The owner refused it (its size, an unknown keyspace). What was cached before is gone.
    Refused(RemoteError),
}

/// Deletes keys at their owners and here.
///
/// The local invalidation runs before the request and again after the owner's answer: a local read in between may have been
/// given the old value by the owner, and the writer must read its own delete.
pub(crate) async fn delete(shared: &Shared, keyspace: &Arc<str>, keys: &[&str], timeout: Duration) -> Delivery {
    let seed = KeyspaceSeed::of(keyspace);
    let note = || shared.recent.note(keys.iter().map(|key| seed.hash(key)), Instant::now().into_std());
    note();
    let view = shared.view();
    let groups = group(&view, keyspace, keys.iter().copied(), |key| key);
    for (at, group) in &groups {
        shared.invalidate(keyspace, group, view.members()[*at].ident());
    }
    let calls = groups.into_iter().map(|(at, group)| {
        let member = &view.members()[at];
        async move {
            let Some(link) = member.link() else {
                shared.invalidations.append(&keys_of(keyspace, &group));
                return (group, member, true);
            };
            let acknowledged = delete_at(link, keyspace, &group, 0, timeout).await;
            if !planted(Defect::NoSecondInvalidation) {
                shared.invalidate(keyspace, &group, member.ident());
            }
            if !acknowledged {
                shared.tell_all(keyspace, &group);
            }
            (group, member, acknowledged)
        }
    });
    let done = join_all(calls).await;
    note();
    let mut pending = Vec::new();
    for (group, member, acknowledged) in done {
        if acknowledged {
            shared.recent.taken(member.ident(), group.iter().map(|key| seed.hash(key)));
        } else {
            pending.push(member.ident().name().clone());
        }
    }
    Delivery { pending }
}

/// A peer's delete. As owner: apply and tell everyone. Otherwise: drop what is here and pass it on, unless it came that way.
pub(crate) async fn delete_for_peer(shared: &Shared, delete: &Delete<'_>, left: Duration) {
    let keyspace: Arc<str> = delete.keyspace.into();
    let view = shared.view();
    let groups = group(&view, &keyspace, delete.keys.iter().copied(), |key| key);
    for (at, group) in &groups {
        shared.invalidate(&keyspace, group, view.members()[*at].ident());
    }
    let forwards = groups.into_iter().map(|(at, group)| {
        let keyspace = &keyspace;
        let owner = view.members()[at].link();
        let (link, is_kept_back) =
            (owner.filter(|_| may_pass_on(delete.hops)), owner.is_some() && planted(Defect::NotForwarded));
        async move {
            let forwarded = match link {
                Some(link) => {
                    delete_at(link, keyspace, &group, delete.hops.saturating_add(1), left.saturating_sub(RETURN_TRIP))
                        .await
                }
                None => false,
            };
            if !forwarded && !is_kept_back {
                shared.tell_all(keyspace, &group);
            }
        }
    });
    join_all(forwards).await;
}

/// Whether a write that has crossed so many peers may cross another.
fn may_pass_on(hops: u8) -> bool {
    (hops == 0 || planted(Defect::HopsIgnored)) && !planted(Defect::NotForwarded)
}

/// Sends a delete in as few frames as it fits in. Says whether the peer acknowledged all of it.
async fn delete_at(link: &Link, keyspace: &str, keys: &[&str], hops: u8, timeout: Duration) -> bool {
    for chunk in chunks(keys, |key| key_len(key)) {
        let delete = Delete { hops, keyspace, keys: chunk.to_vec() };
        if let Err(error) = link.call_anyway(method::DELETE, delete.encode(), timeout).await {
            tracing::warn!(peer = %link.addr(), %error, "the owner did not acknowledge a delete; it is delivered later");
            return false;
        }
    }
    true
}

/// Stores entries at their owners. One result an entry, in order.
pub(crate) async fn put(
    shared: &Shared,
    keyspace: &Arc<str>,
    entries: Vec<PutEntry>,
    timeout: Duration,
) -> Vec<Stored> {
    let view = shared.view();
    let (count, seed) = (entries.len(), KeyspaceSeed::of(keyspace));
    let hashes: Vec<_> = entries.iter().map(|entry| seed.hash(&entry.key)).collect();
    shared.recent.note(hashes.iter().copied(), Instant::now().into_std());
    let groups = group(&view, keyspace, entries.into_iter().enumerate(), |(_, entry)| &*entry.key);
    let calls = groups.into_iter().map(|(at, group)| {
        let member = &view.members()[at];
        let (places, group): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        async move {
            let Some(link) = member.link() else {
                let results = store_as_owner(shared, keyspace, &group);
                let stored = results.into_iter().map(|result| result.map_or_else(Stored::Refused, |()| Stored::Yes));
                return places.into_iter().zip(stored).collect();
            };
            let results = put_at(link, keyspace, &group, 0, timeout).await;
            let keys: Vec<_> = group.iter().map(|entry| &*entry.key).collect();
            if !planted(Defect::NoSecondInvalidation) {
                shared.invalidate(keyspace, &keys, member.ident());
            }
            let owner = member.ident().name();
            let outcomes = group.iter().zip(results).map(|(entry, result)| match result {
                Ok(()) => Stored::Yes,
                Err(Undone::Refused(error)) if error.code != NOT_OWNER => Stored::Refused(error),
                Err(Undone::Refused(_) | Undone::Unreachable) => {
                    // The value is lost, which a cache may do; the old one must not survive it.
                    shared.tell_all(keyspace, &[&*entry.key]);
                    Stored::No(owner.clone())
                }
            });
            places.into_iter().zip(outcomes).collect::<Vec<_>>()
        }
    });
    let mut stored: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
    debug_assert_eq!(stored.len(), count, "every entry has an owner");
    shared.recent.note(hashes.iter().copied(), Instant::now().into_std());
    for (place, stored) in &stored {
        if matches!(stored, Stored::Yes | Stored::Refused(_)) {
            shared.recent.taken(view.owner(hashes[*place]).ident(), [hashes[*place]]);
        }
    }
    stored.sort_by_key(|(place, _)| *place);
    stored.into_iter().map(|(_, stored)| stored).collect()
}

/// A peer's put. As owner: store and tell everyone. Otherwise: drop what is here and pass it on, unless it came that way.
pub(crate) async fn put_for_peer(shared: &Shared, put: Put<'_>, left: Duration) -> Vec<Result<(), RemoteError>> {
    let keyspace: Arc<str> = put.keyspace.into();
    let (view, hops) = (shared.view(), put.hops);
    let groups = group(&view, &keyspace, put.entries.into_iter().enumerate(), |(_, entry)| &*entry.key);
    let calls = groups.into_iter().map(|(at, group)| {
        let (keyspace, member) = (&keyspace, &view.members()[at]);
        let (places, group): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        async move {
            let results: Vec<_> = match member.link() {
                None => store_for_peer(shared, keyspace, &group),
                Some(link) => {
                    let keys: Vec<_> = group.iter().map(|entry| &*entry.key).collect();
                    shared.invalidate(keyspace, &keys, member.ident());
                    if may_pass_on(hops) {
                        let left = left.saturating_sub(RETURN_TRIP);
                        put_at(link, keyspace, &group, hops.saturating_add(1), left)
                            .await
                            .into_iter()
                            .map(Undone::or_not_owner)
                            .collect()
                    } else {
                        group.iter().map(|_| Err(not_owner())).collect()
                    }
                }
            };
            places.into_iter().zip(results).collect::<Vec<_>>()
        }
    });
    let mut results: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Stores as the owner what a peer puts, and only drops what is here of keys whose put may have been overtaken by an invalidation.
fn store_for_peer(shared: &Shared, keyspace: &Arc<str>, entries: &[PutEntry]) -> Vec<Result<(), RemoteError>> {
    let (seed, now) = (KeyspaceSeed::of(keyspace), Instant::now());
    let has_moved = shared.standing.moved_within(shared.config.invalidation_retention, now);
    let is_late = |entry: &PutEntry| shared.tombstones.outdates_puts(seed.hash(&entry.key), has_moved, now);
    if !entries.iter().any(is_late) {
        return store_as_owner(shared, keyspace, entries);
    }
    let store = |entry: &PutEntry| {
        if !is_late(entry) {
            return store_as_owner(shared, keyspace, std::slice::from_ref(entry)).pop().unwrap_or(Ok(()));
        }
        shared.invalidate(keyspace, &[&*entry.key], &shared.me);
        shared.invalidations.append(&keys_of(keyspace, &[&*entry.key]));
        Ok(())
    };
    entries.iter().map(store).collect()
}

/// Stores as the owner, then tells all others that whatever they hold of these keys is old.
fn store_as_owner(shared: &Shared, keyspace: &Arc<str>, entries: &[PutEntry]) -> Vec<Result<(), RemoteError>> {
    let keys: Vec<_> = entries.iter().map(|entry| &*entry.key).collect();
    shared.tombstones.note(keyspace, &keys, &shared.told_here(), Instant::now());
    let results = shared.store.write(keyspace, entries);
    shared.invalidations.append(&keys_of(keyspace, &keys));
    results
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
    timeout: Duration,
) -> Vec<Result<(), Undone>> {
    let mut results = Vec::with_capacity(entries.len());
    for chunk in chunks(entries, put_len) {
        let answer = link.call(method::PUT, message::encode_put(hops, keyspace, chunk), timeout).await;
        let written = answer.map(|bytes| message::decode_written(&bytes));
        match written {
            Ok(Ok(written)) if written.len() == chunk.len() => {
                results.extend(written.into_iter().map(|result| result.map_err(Undone::Refused)));
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
    results
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
    /// Has this node's log tell everyone that keys are old, for their owner did not say that it would.
    fn tell_all(&self, keyspace: &Arc<str>, keys: &[&str]) {
        self.tombstones.note(keyspace, keys, &self.told_here(), Instant::now());
        self.invalidations.append(&keys_of(keyspace, keys));
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
/// A forwarded write keeps a part of its deadline for the way back.
const RETURN_TRIP: Duration = Duration::from_millis(10);
