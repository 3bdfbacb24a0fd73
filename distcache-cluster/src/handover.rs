//! Values that go from node to node: handed off by a leaver, and copied for the case that a node dies.
//!
//! A node that leaves gives its hottest values to the keys' next owners, within a budget; as Netflix's EVCache warmers and unlike
//! groupcache, where each deploy begins cold. A node of a keyspace that has backups gives copies of its hottest values to whoever is next
//! in line, so that its death is no storm of misses. Who is given a value takes it only if it knows of no invalidation that the
//! giver may not have heard of (R6), and drops it at the word of either.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, time::Duration};

use distcache_transport::Position;
use futures_util::future::join_all;
use lru::LruCache;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    batch::chunks,
    ident::NodeIdent,
    message::{self, PutEntry, method, put_len},
    placement::{KeyHash, KeyspaceSeed},
    shared::Shared,
    store::Entries,
    view::{Member, View},
};

/// Gives what this node holds to those that own its keys once it has left. Ends by `deadline`, or when the budget is spent.
pub(crate) async fn hand_off(shared: &Arc<Shared>, deadline: Instant) {
    let view = shared.view();
    if view.members().len() == 1 || shared.config.handoff_bytes == 0 {
        return;
    }
    let budget = shared.config.handoff_bytes;
    let before = Before::now(shared);
    let Some(estate) = blocking(shared, move |shared| shared.store.estate(budget)).await else { return };
    let heir = |view: &View, key| match view.owner(key) {
        owner if owner.is_self() => view.next_in_line(key).cloned(),
        owner => Some(owner.clone()),
    };
    let shares = share(&view, estate, heir);
    let given = join_all(shares.into_values().map(|(heir, share)| async move {
        let mut given = 0;
        for (keyspace, entries) in share {
            for chunk in chunks(&entries, put_len) {
                if !give(&heir, before, &keyspace, chunk, deadline).await {
                    return given;
                }
                given += chunk.len();
            }
        }
        given
    }))
    .await;
    tracing::info!(entries = given.into_iter().sum::<usize>(), "handed off to the next owners");
}

/// Gives copies of the hottest values to whoever is next in line, again and again, each value once.
pub(crate) async fn back_up(shared: Arc<Shared>) {
    let mut given = LruCache::<KeyHash, Copied>::new(NonZeroUsize::new(MAX_COPIES).expect("a positive constant"));
    loop {
        sleep(shared.config.backup_interval).await;
        let view = shared.view();
        if view.members().len() == 1 {
            continue;
        }
        let before = Before::now(&shared);
        let Some(copies) = blocking(&shared, |shared| stamped(shared.store.backups())).await else { continue };
        let mut fresh = Vec::new();
        for (keyspace, entries) in copies {
            let seed = KeyspaceSeed::of(&keyspace);
            let is_new = |(entry, stamp): &(PutEntry, u64)| {
                let hash = seed.hash(&entry.key);
                let next = view.next_in_line(hash).map(Member::ident);
                next.is_some() && given.peek(&hash).is_none_or(|copied| !copied.is(*stamp, next))
            };
            let entries = entries.into_iter().filter(is_new).map(|(entry, _)| entry).collect();
            fresh.push((keyspace, entries));
        }
        let shares = share(&view, fresh, |view, key| view.next_in_line(key).cloned());
        let deadline = Instant::now() + shared.config.backup_interval.max(LEAST_TIME);
        for (heir, share) in shares.into_values() {
            for (keyspace, entries) in share {
                let seed = KeyspaceSeed::of(&keyspace);
                for chunk in chunks(&entries, put_len) {
                    if !give(&heir, before, &keyspace, chunk, deadline).await {
                        break;
                    }
                    for entry in chunk {
                        let copied = Copied { stamp: xxh3_64(&entry.value), to: heir.ident().clone() };
                        given.put(seed.hash(&entry.key), copied);
                    }
                }
            }
        }
    }
}

/// What this node had heard of before it read the values it gives: what is invalidated from there on spoils them.
#[derive(Debug, Clone, Copy)]
struct Before {
    end: Position,
    epochs: u64,
}

impl Before {
    fn now(shared: &Shared) -> Self {
        Self { end: shared.invalidations.log().end(), epochs: shared.ledger.digest() }
    }
}

/// What was given to whom: the value is known again by its hash. Of two values with one hash the second would have no copy, and nothing worse.
#[derive(Debug)]
struct Copied {
    stamp: u64,
    to: NodeIdent,
}

impl Copied {
    fn is(&self, stamp: u64, to: Option<&NodeIdent>) -> bool {
        self.stamp == stamp && Some(&self.to) == to
    }
}

type Stamped = Vec<(Arc<str>, Vec<(PutEntry, u64)>)>;

fn stamped(copies: Entries) -> Stamped {
    let stamp = |entry: PutEntry| {
        let stamp = xxh3_64(&entry.value);
        (entry, stamp)
    };
    copies.into_iter().map(|(keyspace, entries)| (keyspace, entries.into_iter().map(stamp).collect())).collect()
}

type Shares = BTreeMap<crate::ident::NodeName, (Member, Entries)>;

/// Sorts entries by who gets them.
fn share(view: &View, estate: Entries, heir: impl Fn(&View, KeyHash) -> Option<Member>) -> Shares {
    let mut shares = Shares::new();
    for (keyspace, entries) in estate {
        let seed = KeyspaceSeed::of(&keyspace);
        for entry in entries {
            let Some(heir) = heir(view, seed.hash(&entry.key)) else { continue };
            let (_, share) = shares.entry(heir.ident().name().clone()).or_insert_with(|| (heir, Vec::new()));
            match share.last_mut() {
                Some((last, entries)) if *last == keyspace => entries.push(entry),
                _ => share.push((Arc::clone(&keyspace), vec![entry])),
            }
        }
    }
    shares
}

/// Gives a batch to one node, and says whether it arrived.
async fn give(heir: &Member, before: Before, keyspace: &str, entries: &[PutEntry], deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
    let Some(link) = heir.link().filter(|_| !left.is_zero()) else { return false };
    let given =
        link.call(method::ADOPT, message::encode_adopt(before.end, before.epochs, keyspace, entries), left).await;
    given.inspect_err(|error| tracing::debug!(peer = %heir.ident(), %error, "values were not taken")).is_ok()
}

/// Walks the store on a thread of its own, unless all is to happen in one order.
async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    walk: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Option<T> {
    if shared.config.transport.entropy.is_seeded() {
        return Some(walk(shared));
    }
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || walk(&shared)).await.ok()
}

/// A batch of half a mebibyte takes milliseconds; a peer that takes longer has better things to do.
const PATIENCE: Duration = Duration::from_secs(1);
const LEAST_TIME: Duration = Duration::from_secs(1);
/// What was given is remembered for so many keys; of more, some are given again.
const MAX_COPIES: usize = 262_144;
