//! Catch-up: when the owner of a key is gone, whoever knows of a recent invalidation of it tells the next owner (R7).
//!
//! The invalidation was acknowledged by the owner of then, which may have gone before it had told everyone. Everyone who heard of it tells,
//! the writer among them, and each only what moved. What an owner acknowledged that is still there, its own log tells.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    coherence::{Invalidation, Moved},
    defects::{Defect, planted},
    ident::NodeIdent,
    message::{encode_catch_up, invalidation_len, method},
    shared::Shared,
    view::{Member, View},
};

/// Tells the new owners of keys what this node has invalidated of late. Returns at once; telling goes on in tasks.
pub(crate) fn catch_up(shared: &Arc<Shared>, old: &View, new: &View) {
    if planted(Defect::NoCatchUp) {
        return;
    }
    let heir = |key| {
        let (before, after) = (old.owner(key), new.owner(key));
        (!after.is_self() && before.ident() != after.ident()).then(|| new.owner_index(key))
    };
    let is_there = |by: &NodeIdent| new.member(by.name()).is_some_and(|member| member.ident() == by);
    let Moved { mut keys, is_incomplete } = shared.tombstones.moved(heir, is_there, Instant::now());
    let is_incomplete = is_incomplete && !old.members().iter().all(|member| is_there(member.ident()));
    if is_incomplete {
        // What is missing may be anybody's.
        let peers = new.members().iter().enumerate().filter(|(_, member)| !member.is_self());
        peers.for_each(|(at, _)| _ = keys.entry(at).or_default());
    }
    let tellers = keys.into_iter().map(|(at, keys)| {
        let keys = keys.into_iter().map(|(keyspace, key)| Invalidation::Key { keyspace, key }).collect();
        tell(Arc::clone(shared), new.members()[at].clone(), keys, is_incomplete)
    });
    let tellers: Vec<_> = tellers.collect();
    if !tellers.is_empty() {
        shared.spawn(async move { _ = join_all(tellers).await });
    }
}

/// Tells one node, in as few frames as it takes; what it does not acknowledge goes into the log, which every peer follows.
async fn tell(shared: Arc<Shared>, heir: Member, keys: Vec<Invalidation>, is_incomplete: bool) {
    let Some(link) = heir.link() else { return };
    let mut rest = &keys[..];
    let mut is_first = is_incomplete;
    while is_first || !rest.is_empty() {
        let (batch, more) = rest.split_at(fitting(rest));
        let payload = encode_catch_up(is_incomplete, batch);
        let mut told = false;
        for attempt in 1..=ATTEMPTS {
            told = link.call_anyway(method::CATCH_UP, payload.clone(), TIMEOUT).await.is_ok();
            if told || shared.view().member(heir.ident().name()).is_none_or(|member| member.ident() != heir.ident()) {
                break;
            }
            sleep(RETRY * attempt).await;
        }
        if !told {
            tracing::debug!(peer = %heir.ident(), keys = batch.len(), "catch-up is left to the log");
            shared.invalidations.append(batch);
        }
        (rest, is_first) = (more, false);
    }
}

fn fitting(batch: &[Invalidation]) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take_while(|entry| {
        bytes += invalidation_len(entry);
        bytes <= MAX_BYTES
    });
    fits.count().max(1).min(batch.len())
}

const ATTEMPTS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(200);
/// A fraction of a frame.
const MAX_BYTES: usize = 256 * 1_024;
