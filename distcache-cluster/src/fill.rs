//! Peer-fill: the new owner of a key asks the one before it, ahead of the data source.
//!
//! After Facebook's cold-cluster warm-up (NSDI 2013, section 4.3) and Olric's previous owners. A value that comes so is as good as it was there:
//! whoever invalidated it has told both nodes, or tells the new owner when the key moves (R7); and where the new owner knows of an
//! invalidation that the other may not have heard of, it does not ask (R6).

use std::{
    collections::BTreeMap,
    sync::{
        Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use distcache_transport::{Method, Payload};
use futures_util::future::join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    batch::chunks,
    coherence::Offer,
    message::{self, Answer, Found, Get, GetMany, Role, key_len, method},
    placement::KeyspaceSeed,
    shared::Shared,
    view::{Member, PeerLink},
};

/// Asks the nodes that owned this node's keys before it did.
#[derive(Debug, Clone)]
pub struct Predecessors(pub(crate) Weak<Shared>);

/// How often predecessors had what they were asked for, since the ring moved last.
#[derive(Debug)]
pub(crate) struct FillCounts {
    asked: AtomicU64,
    found: AtomicU64,
    /// So that a burst of misses is not twice the burst if nothing is found.
    places: Semaphore,
}

impl Default for FillCounts {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), found: AtomicU64::new(0), places: Semaphore::new(PLACES) }
    }
}

impl FillCounts {
    pub(crate) fn reset(&self) {
        self.asked.store(0, Ordering::Relaxed);
        self.found.store(0, Ordering::Relaxed);
    }

    /// Whether asking is worth it: of the first hundred, and of all since, one in twenty was found.
    fn pays(&self) -> bool {
        let (asked, found) = (self.asked.load(Ordering::Relaxed), self.found.load(Ordering::Relaxed));
        asked < LEAST_ASKED || found.saturating_mul(LEAST_SHARE) >= asked
    }
}

impl Predecessors {
    /// Whether there may be any: for a while after the ring has moved, and until asking has proved to be in vain.
    #[must_use]
    pub fn may_have(&self) -> bool {
        self.0.upgrade().is_some_and(|shared| {
            shared.standing.moved_within(shared.config.fill_window, Instant::now()) && shared.fills.pays()
        })
    }

    /// Asks for keys, each of its owner before this node, what it has in memory; one result a key, in order. Takes no longer than a
    /// fraction of what a load may take. Have a fill registered for each key before: what is invalidated meanwhile must not be stored.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the requests. They change nothing anywhere.
    pub async fn fill(&self, keyspace: &str, keys: &[&str]) -> Vec<Option<Found>> {
        let mut results = vec![None; keys.len()];
        let Some(shared) = self.0.upgrade() else { return results };
        let Ok(Ok(_place)) = timeout(PATIENCE, shared.fills.places.acquire()).await else { return results };
        if !shared.fills.pays() {
            return results;
        }
        let (seed, now, window) = (KeyspaceSeed::of(keyspace), Instant::now(), shared.config.fill_window);
        let mut groups = BTreeMap::<_, (Member, Vec<usize>)>::new();
        for (at, key) in keys.iter().enumerate() {
            let hash = seed.hash(key);
            if let Some(member) = shared.standing.predecessor(hash, window, now)
                && !shared.tombstones.vetoes(keyspace, hash, member.ident(), Offer::Asked, now)
            {
                let name = member.ident().name().clone();
                groups.entry(name).or_insert_with(|| (member, Vec::new())).1.push(at);
            }
        }
        // A node that has heard of other keyspace epochs does not answer: what it has may be from before one.
        let knows = Knows { fingerprint: shared.view().fingerprint(), epochs: shared.ledger.digest() };
        let asked = groups.into_values().map(|(member, places)| async move {
            let Some(peer) = member.peer_link() else { return (places, Vec::new()) };
            let keys: Vec<_> = places.iter().map(|at| keys[*at]).collect();
            let found = ask(peer, knows, keyspace, &keys).await;
            (places, found)
        });
        for (places, found) in join_all(asked).await {
            shared.fills.asked.fetch_add(places.len() as u64, Ordering::Relaxed);
            for (at, found) in places.into_iter().zip(found) {
                shared.fills.found.fetch_add(u64::from(found.is_some()), Ordering::Relaxed);
                results[at] = found.map(|found| Found { near: Duration::ZERO, ..found });
            }
        }
        results
    }
}

/// What this node goes by: its ring, and the keyspace epochs it has heard of.
#[derive(Clone, Copy)]
struct Knows {
    fingerprint: u64,
    epochs: u64,
}

/// Asks one node. What it does not answer in time is not there.
async fn ask(peer: &PeerLink, knows: Knows, keyspace: &str, keys: &[&str]) -> Vec<Option<Found>> {
    let Knows { fingerprint, epochs } = knows;
    if let [key] = keys {
        let request = Get { fingerprint, epochs, role: Role::Fill, keyspace, key }.encode();
        let answer = call(peer, method::GET, request).await;
        return vec![answer.and_then(|bytes| message::decode_peeked(&bytes).ok()).flatten()];
    }
    let mut found = Vec::with_capacity(keys.len());
    for chunk in chunks(keys, |key| key_len(key)) {
        let request = GetMany { fingerprint, epochs, role: Role::Fill, keyspace, keys: chunk.to_vec() }.encode();
        let answers = call(peer, method::GET_MANY, request).await;
        let answers = answers.and_then(|bytes| message::decode_answers(&bytes).ok());
        let Some(answers) = answers.filter(|answers| answers.len() == chunk.len()) else {
            // It would not answer for the rest either.
            break;
        };
        for (key, answer) in chunk.iter().zip(answers) {
            found.push(match answer {
                Answer::Found(found) => Some(found),
                Answer::Alone => Box::pin(ask(peer, knows, keyspace, &[key])).await.pop().flatten(),
                Answer::Missing | Answer::Failed(_) => None,
            });
        }
    }
    found.resize(keys.len(), None);
    found
}

/// Gives up early, which says nothing against the peer: it is busy, and others wait for it longer.
async fn call(peer: &PeerLink, method: Method, request: Payload) -> Option<Bytes> {
    let mut call = peer.link.begin(method, request, GIVEN).ok()?;
    timeout(PATIENCE, call.answer()).await.ok()?.ok()
}

/// An answer from memory takes a fraction of a millisecond; one that takes longer than this is not worth waiting for, with a data source
/// that would have answered.
const PATIENCE: Duration = Duration::from_millis(100);
/// What the peer is told: more, so that it is not the call that runs out of time.
const GIVEN: Duration = Duration::from_secs(1);
/// Requests of this kind at a time.
const PLACES: usize = 64;
/// Until so many were asked for, nothing is known.
const LEAST_ASKED: u64 = 100;
/// Of so many that are asked for, one must be found.
const LEAST_SHARE: u64 = 20;
