//! The path of a get, top to bottom.

use std::sync::Arc;

use bytes::Bytes;
use distcache_cluster::{Asked, Origin, Place};
use distcache_core::Lookup;
use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::{Instrument, debug_span, field};

use super::Inner;
use crate::{
    error::{Error, ErrorKind, Result},
    flight::follow,
    local::Local,
    space::{RelayFill, Relayed, Slot, Space, Via},
};

impl Inner {
    /// Local hit → owner by the ring → this node: one load for all; a peer: one request for all → fallback → reply.
    pub(crate) async fn get(self: &Arc<Self>, space: &Arc<Space>, key: &str) -> Result<Option<Bytes>> {
        self.check_key(key)?;
        space.counters.reads.one();
        if let Some(slot) = space.fresh(key) {
            space.counters.local_hits.one();
            return Ok(slot.value);
        }
        if let Some(slot) = space.near(key) {
            space.counters.near_hits.one();
            return Ok(slot.value);
        }
        let span = debug_span!("distcache.get", keyspace = %space.name, outcome = field::Empty);
        async {
            let deadline = self.read_deadline();
            let view = self.cluster.view();
            let owner = view.owner(space.seed.hash(key));
            let read = if owner.is_self() {
                self.local.read_own(space, key, deadline, Via::Source).await
            } else {
                self.relay(space, key, deadline).await
            };
            count(space, &read)
        }
        .instrument(span)
        .await
    }

    /// Asks a key's owner, together with whoever else here asks for the key.
    async fn relay(self: &Arc<Self>, space: &Arc<Space>, key: &str, deadline: Instant) -> Result<(Slot, Origin)> {
        let ask = |fill| self.ask(space, vec![fill]);
        let follower = match space.relayed.lookup(key) {
            // It has just come, for whoever asked before.
            Lookup::Hit(copy) => return Ok((copy.slot, Origin::Source)),
            Lookup::Follow(follower) => follower,
            Lookup::Lead(fill) => {
                let follower = fill.follower();
                ask(fill);
                follower
            }
        };
        Ok((follow(follower, deadline, ask).await?.slot, Origin::Source))
    }

    /// As [`get`](Self::get), for many: every owner is asked once.
    pub(crate) async fn get_many(self: &Arc<Self>, space: &Arc<Space>, keys: &[&str]) -> Vec<Result<Option<Bytes>>> {
        let span = debug_span!("distcache.get_many", keyspace = %space.name, keys = keys.len());
        async {
            let (view, deadline) = (self.cluster.view(), self.read_deadline());
            let mut groups = vec![Vec::new(); view.members().len()];
            let mut results: Vec<Option<Result<Option<Bytes>>>> = Vec::with_capacity(keys.len());
            for (at, key) in keys.iter().enumerate() {
                results.push(self.check_key(key).err().map(Err));
                if results[at].is_none() {
                    space.counters.reads.one();
                    groups[view.owner_index(space.seed.hash(key))].push(at);
                }
            }
            let reads = groups.into_iter().zip(view.members()).filter(|(places, _)| !places.is_empty());
            let reads = reads.map(|(places, owner)| async move {
                let keys: Vec<_> = places.iter().map(|at| keys[*at]).collect();
                let answers = if owner.is_self() {
                    self.local.read_own_many(space, &keys, deadline, Via::Source).await
                } else {
                    self.relay_many(space, &keys, deadline).await
                };
                places.into_iter().zip(answers)
            });
            for (at, answer) in join_all(reads).await.into_iter().flatten() {
                results[at] = Some(count(space, &answer));
            }
            let unanswered = || Err(Error::new(ErrorKind::Internal, "a key was not answered"));
            results.into_iter().map(|result| result.unwrap_or_else(unanswered)).collect()
        }
        .instrument(span)
        .await
    }

    async fn relay_many(
        self: &Arc<Self>,
        space: &Arc<Space>,
        keys: &[&str],
        deadline: Instant,
    ) -> Vec<Result<(Slot, Origin)>> {
        let mut leads = Vec::new();
        let waiting: Vec<_> = keys
            .iter()
            .map(|key| {
                // Values of keys that moved a moment ago may still be here; and duplicates of a key share one flight.
                if let Some(slot) = space.fresh(key) {
                    return Ok((slot, Origin::Cache));
                }
                if let Some(slot) = space.near(key) {
                    return Ok((slot, Origin::Cache));
                }
                match space.relayed.lookup(*key) {
                    Lookup::Hit(copy) => Ok((copy.slot, Origin::Source)),
                    Lookup::Follow(follower) => Err(follower),
                    Lookup::Lead(fill) => {
                        let follower = fill.follower();
                        leads.push(fill);
                        Err(follower)
                    }
                }
            })
            .collect();
        self.ask(space, leads);
        join_all(waiting.into_iter().map(|state| async {
            match state {
                Ok(found) => Ok(found),
                Err(follower) => {
                    let relayed = follow(follower, deadline, |fill| self.ask(space, vec![fill])).await?;
                    Ok((relayed.slot, Origin::Source))
                }
            }
        }))
        .await
    }

    /// Asks the owners in a task of its own and hands the answers to all who wait. What comes with a lease is kept. Keys that nobody answers for are loaded here: those this node is next in line for are kept for a short time.
    fn ask(self: &Arc<Self>, space: &Arc<Space>, fills: Vec<RelayFill>) {
        if fills.is_empty() {
            return;
        }
        let (cluster, local, space) = (self.cluster.clone(), Arc::clone(&self.local), Arc::clone(space));
        self.flights.spawn(async move {
            let span = debug_span!("distcache.ask", keyspace = %space.name, keys = fills.len());
            async {
                let deadline = Instant::now() + space.load_timeout;
                let keys: Vec<_> = fills.iter().map(|fill| fill.key().clone()).collect();
                let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
                let asked = cluster.ask(&space.name, &keys, space.load_timeout).await;
                let mut unanswered = Vec::new();
                for (fill, asked) in fills.into_iter().zip(asked) {
                    match asked {
                        Asked::Answered { answer: Ok(found), lease, .. } => space.install_near(fill, found, lease),
                        Asked::Answered { by, answer: Err(error), .. } => {
                            fill.fail(Error::from_peer(error, by.as_str()));
                        }
                        Asked::Unasked(place) => unanswered.push((fill, via(place))),
                    }
                }
                for via in [Via::Source, Via::Acting, Via::Fallback] {
                    let (fills, rest): (Vec<_>, _) = unanswered.into_iter().partition(|(_, place)| *place == via);
                    unanswered = rest;
                    if !fills.is_empty() {
                        let fills = fills.into_iter().map(|(fill, _)| fill).collect();
                        load_here(&local, &space, fills, deadline, via).await;
                    }
                }
            }
            .instrument(span)
            .await;
        });
    }
}

/// Loads what nobody answered for.
async fn load_here(local: &Arc<Local>, space: &Arc<Space>, fills: Vec<RelayFill>, deadline: Instant, via: Via) {
    tracing::debug!(keys = fills.len(), ?via, "nobody answered; loading here");
    let keys: Vec<_> = fills.iter().map(|fill| fill.key().clone()).collect();
    let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
    let loads = local.read_own_many(space, &keys, deadline, via).await;
    for (fill, loaded) in fills.into_iter().zip(loads) {
        match loaded {
            Ok((slot, _)) => {
                let via = if slot.via == Via::Stale { Via::Stale } else { via };
                fill.deliver(Relayed::once(Slot { via, ..slot }));
            }
            Err(error) => fill.fail(error),
        }
    }
}

const fn via(place: Place) -> Via {
    match place {
        Place::Owner => Via::Source,
        Place::Acting => Via::Acting,
        Place::LastResort => Via::Fallback,
    }
}

/// Counts how a read ended, and takes the value out.
fn count(space: &Space, read: &Result<(Slot, Origin)>) -> Result<Option<Bytes>> {
    let counters = &space.counters;
    let (counter, outcome) = match read {
        Err(_) => (&counters.failures, "failure"),
        Ok((_, Origin::Cache)) => (&counters.local_hits, "local_hit"),
        Ok((Slot { value: None, .. }, _)) => (&counters.missing, "missing"),
        Ok((Slot { via: Via::PeerHit, .. }, _)) => (&counters.peer_hits, "peer_hit"),
        Ok((Slot { via: Via::PeerLoad, .. }, _)) => (&counters.peer_loads, "peer_load"),
        Ok((Slot { via: Via::Filled, .. }, _)) => (&counters.peer_fills, "peer_fill"),
        Ok((Slot { via: Via::Fallback | Via::Acting, .. }, _)) => (&counters.fallbacks, "fallback"),
        Ok((Slot { via: Via::Stale, .. }, _)) => (&counters.stale, "stale"),
        Ok((Slot { via: Via::Source, .. }, _)) => (&counters.local_loads, "local_load"),
    };
    counter.one();
    tracing::Span::current().record("outcome", outcome);
    read.clone().map(|(slot, _)| slot.value)
}
