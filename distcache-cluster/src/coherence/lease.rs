//! Leases: for how long a node may serve a value that another owns (R4).
//!
//! As Gray and Cheriton's leases (SOSP 1989): a copy is good for a time that both sides know, and only while the owner is
//! heard. Time counts from before the value was asked for, so no delay makes a lease longer. The owner's invalidations reach a
//! copy at once; a lease bounds what happens when they cannot.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    defects::{Defect, planted},
    ident::NodeIdent,
};

/// The right to serve a value that another node owns, for a short time.
#[derive(Debug, Clone)]
pub struct Lease {
    granter: Arc<Heard>,
    until: Instant,
    /// The view by which the granter owns the key.
    ordinal: u64,
}

impl Lease {
    pub(crate) const fn new(granter: Arc<Heard>, until: Instant, ordinal: u64) -> Self {
        Self { granter, until, ordinal }
    }

    /// Whether the value may still be served: its time is not up, the view is the one it was given under, and everything that
    /// its owner had to say up to a moment ago was heard.
    #[must_use]
    pub fn holds(&self) -> bool {
        let now = Instant::now();
        if planted(Defect::LeaseIgnored) {
            return true;
        }
        now < self.until && self.ordinal == self.granter.ordinal.load(Ordering::Acquire) && self.granter.is_near(now)
    }
}

/// When this node last knew everything that one process of a peer had to say.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Microseconds after `base`; zero for never.
    last: AtomicU64,
    base: Instant,
    silence_limit: Duration,
    /// Of this node's present view.
    ordinal: Arc<AtomicU64>,
}

impl Heard {
    /// For how long it may have said something that is not known here; `None` for ever.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        let last = Duration::from_micros(self.last.load(Ordering::Acquire));
        (!last.is_zero()).then(|| now.saturating_duration_since(self.base).saturating_sub(last))
    }

    fn is_near(&self, now: Instant) -> bool {
        let last = Duration::from_micros(self.last.load(Ordering::Acquire));
        !last.is_zero() && now.saturating_duration_since(self.base) < last + self.silence_limit
    }
}

/// Listens to all peers' heartbeats.
#[derive(Debug)]
pub(crate) struct Hearing {
    base: Instant,
    silence_limit: Duration,
    ordinal: Arc<AtomicU64>,
    peers: Mutex<Peers>,
}

#[derive(Debug, Default)]
struct Peers {
    /// A process has its address and its generation to itself.
    processes: BTreeMap<(SocketAddr, u64), Arc<Heard>>,
    /// By the control connection on which it is heard.
    connections: BTreeMap<u64, Arc<Heard>>,
}

impl Hearing {
    pub(crate) fn new(silence_limit: Duration, now: Instant) -> Self {
        // A heartbeat at the very first moment must not read as none.
        let base = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        Self { base, silence_limit, ordinal: Arc::new(AtomicU64::new(1)), peers: Mutex::default() }
    }

    /// Leases that were given under another view than that one end.
    pub(crate) fn viewed(&self, ordinal: u64) {
        self.ordinal.store(ordinal, Ordering::Release);
    }

    /// Returns what is heard of a process.
    pub(crate) fn of(&self, peer: &NodeIdent) -> Arc<Heard> {
        let mut peers = self.lock();
        let key = (peer.addr(), peer.generation());
        if let Some(heard) = peers.processes.get(&key) {
            return Arc::clone(heard);
        }
        // Those that only this map knows are of processes that are gone.
        peers.processes.retain(|_, heard| Arc::strong_count(heard) > 1);
        let (base, silence_limit) = (self.base, self.silence_limit);
        let heard =
            Arc::new(Heard { last: AtomicU64::new(0), base, silence_limit, ordinal: Arc::clone(&self.ordinal) });
        peers.processes.insert(key, Arc::clone(&heard));
        heard
    }

    /// Takes note of a control connection of a peer's.
    pub(crate) fn connected(&self, peer: &NodeIdent, connection: u64) {
        let heard = self.of(peer);
        self.lock().connections.insert(connection, heard);
    }

    pub(crate) fn disconnected(&self, connection: u64) {
        self.lock().connections.remove(&connection);
    }

    /// Takes note that all a peer had to say is heard.
    pub(crate) fn heartbeat(&self, connection: u64, now: Instant) {
        if let Some(heard) = self.lock().connections.get(&connection) {
            let after = now.saturating_duration_since(self.base);
            heard.last.store(u64::try_from(after.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        // Whole between any two calls.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::ident::NodeName;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(generation: u64) -> NodeIdent {
        NodeIdent::new(NodeName::new("a").unwrap(), ([10, 0, 0, 1], 1).into(), generation)
    }

    fn lease(hearing: &Hearing, seconds: u64) -> Lease {
        Lease::new(hearing.of(&peer(1)), Instant::now() + Duration::from_secs(seconds), 1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_with_its_time_though_the_owner_is_heard() {
        let hearing = Hearing::new(SECOND, Instant::now());
        hearing.connected(&peer(1), 7);
        let lease = lease(&hearing, 2);
        assert!(!lease.holds(), "the owner was not heard yet");
        for _ in 0..4 {
            hearing.heartbeat(7, Instant::now());
            assert!(lease.holds());
            advance(SECOND / 2).await;
        }
        hearing.heartbeat(7, Instant::now());
        assert!(!lease.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_when_the_owner_is_silent_and_holds_again_when_it_is_heard() {
        let hearing = Hearing::new(SECOND, Instant::now());
        hearing.connected(&peer(1), 7);
        hearing.heartbeat(7, Instant::now());
        let lease = lease(&hearing, 10);
        advance(SECOND).await;
        assert!(!lease.holds());
        hearing.connected(&peer(1), 8);
        hearing.disconnected(7);
        hearing.heartbeat(7, Instant::now());
        assert!(!lease.holds(), "that connection is gone");
        hearing.heartbeat(8, Instant::now());
        assert!(lease.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_with_the_view_and_with_the_process_that_gave_it() {
        let hearing = Hearing::new(SECOND, Instant::now());
        hearing.connected(&peer(1), 7);
        hearing.connected(&peer(2), 8);
        hearing.heartbeat(7, Instant::now());
        let lease = lease(&hearing, 10);
        assert!(lease.holds());
        hearing.viewed(2);
        assert!(!lease.holds());
        hearing.viewed(1);
        advance(SECOND).await;
        hearing.heartbeat(8, Instant::now());
        assert!(!lease.holds(), "the next process of the node does not vouch for what the one before gave");
    }

    #[tokio::test(start_paused = true)]
    async fn processes_that_nobody_asks_for_are_forgotten() {
        let hearing = Hearing::new(SECOND, Instant::now());
        (0..100).for_each(|generation| drop(hearing.of(&peer(generation))));
        assert_eq!(hearing.lock().processes.len(), 1);
    }
}
