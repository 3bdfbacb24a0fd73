//! The log of this node's invalidations, and who has not acknowledged it: [`Broadcast`].

use std::sync::Arc;

use distcache_transport::{ControlLog, LogLimits, Position};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Invalidation, Sessions, sessions::Session};
use crate::{
    defects::{Defect, planted},
    ident::{NodeIdent, NodeName},
    message::{encode_invalidations, invalidation_len},
    view::{Member, SharedView, View},
};

/// Tells every peer what must not be served any more.
///
/// The lanes begin to follow the log when they are opened, whether the peer is a member yet or not: whoever is connected may
/// have been given a value.
#[derive(Debug)]
pub(crate) struct Broadcast {
    log: Arc<ControlLog>,
    views: watch::Receiver<SharedView>,
}

impl Broadcast {
    pub(crate) fn new(limits: LogLimits, views: watch::Receiver<SharedView>) -> Self {
        Self { log: Arc::new(ControlLog::new(limits)), views }
    }

    /// Returns the log that lanes follow.
    pub(crate) const fn log(&self) -> &Arc<ControlLog> {
        &self.log
    }

    /// Appends to the log and wakes the lanes. Returns the position that [`pending_at`](Self::pending_at) waits for.
    pub(crate) fn append(&self, invalidations: &[Invalidation]) -> Position {
        let mut rest = if planted(Defect::NotBroadcast) { &[] } else { invalidations };
        let events = std::iter::from_fn(|| {
            let (batch, more) = rest.split_at(fitting(rest));
            rest = more;
            (!batch.is_empty()).then(|| encode_invalidations(batch))
        });
        self.log.append(events)
    }

    /// Waits until every member acknowledged the log up to `position`, and names those that did not by the deadline.
    pub(crate) async fn pending_at(&self, position: Position, deadline: Instant) -> Vec<NodeName> {
        let view = Arc::clone(&self.views.borrow());
        let mut pending = Vec::new();
        for member in view.members() {
            let Some(mut acknowledged) = member.acknowledged() else { continue };
            let reached = async {
                tokio::select! {
                    reached = acknowledged.wait_for(|at| *at >= position) => reached.is_ok(),
                    // A peer that left the cluster, or started anew, holds nothing of what it held.
                    () = self.gone(member.ident()) => true,
                }
            };
            if !timeout_at(deadline, reached).await.unwrap_or(false) {
                pending.push(member.ident().name().clone());
            }
        }
        pending
    }

    /// Waits until every process that may hold something has acknowledged the log up to `position`, and names those that have not by the
    /// deadline. Those that are neither in the view nor within reach are not waited for.
    pub(crate) async fn unheard_at(&self, position: Position, sessions: &Sessions, deadline: Instant) -> Vec<NodeName> {
        let view = Arc::clone(&self.views.borrow());
        let mut pending = Vec::new();
        for Session { ident, mut acknowledged, down } in sessions.all(Instant::now()) {
            let is_member = view.member(ident.name()).is_some();
            let deadline = if down && !is_member { Instant::now() } else { deadline };
            let reached = async {
                tokio::select! {
                    biased;
                    reached = acknowledged.wait_for(|at| *at >= position) => reached.is_ok(),
                    () = self.replaced(&ident) => true,
                }
            };
            if !timeout_at(deadline, reached).await.unwrap_or(false) {
                pending.push(ident.name().clone());
            }
        }
        pending
    }

    /// Waits until a node has come back at another address. One that comes back at the same acknowledges on the same lane; that its
    /// generation is another says nothing, for processes take new ones.
    async fn replaced(&self, ident: &NodeIdent) {
        let is_newer = |view: &View| {
            let member = view.member(ident.name()).map(Member::ident);
            member.is_some_and(|member| member.addr() != ident.addr() && member.generation() > ident.generation())
        };
        // The sender lives as long as the node.
        let _ = self.views.clone().wait_for(|view| is_newer(view)).await;
    }

    async fn gone(&self, ident: &NodeIdent) {
        let is_there = |view: &View| view.member(ident.name()).is_some_and(|member| member.ident() == ident);
        // The sender lives as long as the node.
        let _ = self.views.clone().wait_for(|view| !is_there(view)).await;
    }
}

/// How many of a batch go in one event; at least one, if there is one.
fn fitting(batch: &[Invalidation]) -> usize {
    let mut bytes = 4;
    let fits = batch.iter().take_while(|entry| {
        bytes += invalidation_len(entry);
        bytes <= MAX_EVENT_BYTES
    });
    fits.count().max(1).min(batch.len())
}

/// Large enough to share a frame among many keys, small enough that nothing else waits for it.
const MAX_EVENT_BYTES: usize = 16 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::decode_invalidations;

    fn key(n: usize) -> Invalidation {
        Invalidation::Key { keyspace: "users".into(), key: format!("user:{n}").into() }
    }

    #[test]
    fn many_keys_share_events_of_a_bounded_size() {
        let keys: Vec<_> = (0..10_000).map(key).collect();
        let mut rest = &keys[..];
        let mut events = 0;
        while !rest.is_empty() {
            let (batch, more) = rest.split_at(fitting(rest));
            let bytes = encode_invalidations(batch);
            assert!(bytes.len() <= MAX_EVENT_BYTES);
            assert_eq!(decode_invalidations(&bytes).unwrap(), batch);
            (rest, events) = (more, events + 1);
        }
        assert!(events < 20, "{events}");
        let long = Invalidation::Key { keyspace: "users".into(), key: "x".repeat(2 * MAX_EVENT_BYTES).into() };
        assert_eq!(fitting(&[long, key(1)]), 1, "one that is too long goes alone");
        assert_eq!(fitting(&[]), 0);
    }
}
