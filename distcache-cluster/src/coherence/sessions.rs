//! Who may hold a value from before a write: [`Sessions`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use distcache_transport::Position;
use tokio::{sync::watch, time::Instant};

use crate::ident::NodeIdent;

/// The processes that follow this node's log, members of its view or not (R3): one that the others have given up may live on the far
/// side of a split, one that is new may have been given values already.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<SocketAddr, Known>>);

/// One of them, at a moment.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) ident: NodeIdent,
    pub(super) acknowledged: watch::Receiver<Position>,
    /// Whether it cannot be reached.
    pub(super) down: bool,
}

#[derive(Debug)]
struct Known {
    ident: NodeIdent,
    acknowledged: watch::Receiver<Position>,
    /// Since when it cannot be reached.
    down: Option<Instant>,
    /// Whether it said that it leaves.
    has_left: bool,
}

impl Sessions {
    /// Takes note that a process is reached, in the place of any that was at its address.
    pub(crate) fn up(&self, addr: SocketAddr, ident: NodeIdent, acknowledged: watch::Receiver<Position>) {
        self.lock().insert(addr, Known { ident, acknowledged, down: None, has_left: false });
    }

    /// Takes note of a process that has reached this node, and may be given values before the lane to it is up.
    pub(crate) fn met(&self, addr: SocketAddr, ident: &NodeIdent, acknowledged: watch::Receiver<Position>) {
        let mut sessions = self.lock();
        if sessions.get(&addr).is_none_or(|known| known.ident != *ident) {
            sessions.insert(addr, Known { ident: ident.clone(), acknowledged, down: None, has_left: false });
        }
    }

    /// Takes note that a process is not reached any more. One that had said that it leaves is gone.
    pub(crate) fn down(&self, addr: SocketAddr, now: Instant) {
        let mut sessions = self.lock();
        if let Some(session) = sessions.get_mut(&addr) {
            session.down.get_or_insert(now);
            if session.has_left {
                sessions.remove(&addr);
            }
        }
    }

    /// Takes note that a process says it leaves: it serves until its lane ends.
    pub(crate) fn leaving(&self, ident: &NodeIdent) {
        self.lock().retain(|_, session| {
            session.has_left |= session.ident == *ident;
            !(session.has_left && session.down.is_some())
        });
    }

    /// Returns all processes that may hold something. Those that have not been reached for long are forgotten: nobody can wait for them
    /// for ever.
    pub(super) fn all(&self, now: Instant) -> Vec<Session> {
        let mut sessions = self.lock();
        sessions
            .retain(|_, session| session.down.is_none_or(|since| now.saturating_duration_since(since) < REMEMBERED));
        let session = |known: &Known| Session {
            ident: known.ident.clone(),
            acknowledged: known.acknowledged.clone(),
            down: known.down.is_some(),
        };
        sessions.values().map(session).collect()
    }

    /// Returns how many are kept.
    #[cfg(distcache_defects)]
    pub(crate) fn held(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Known>> {
        // Whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as the log, by default, remembers.
const REMEMBERED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::NodeName;

    fn ident(name: &str, generation: u64) -> NodeIdent {
        NodeIdent::new(NodeName::new(name).unwrap(), addr(), generation)
    }

    fn addr() -> SocketAddr {
        ([10, 0, 0, 1], 1).into()
    }

    fn met(sessions: &Sessions, generation: u64) {
        sessions.up(addr(), ident("a", generation), watch::channel(Position(0)).1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_reached_counts_for_a_while_and_no_longer() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        met(&sessions, 1);
        sessions.down(addr(), now);
        sessions.down(addr(), now + REMEMBERED / 2);
        assert_eq!(sessions.all(now + REMEMBERED / 2).len(), 1);
        assert_eq!(sessions.all(now + REMEMBERED).len(), 0, "it counts from when it was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_come_counts_before_it_is_reached_and_in_the_place_of_its_predecessor() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let come = |generation| sessions.met(addr(), &ident("a", generation), watch::channel(Position(0)).1);
        come(1);
        assert!(sessions.all(now).iter().all(|session| !session.down) && sessions.all(now).len() == 1);
        sessions.down(addr(), now);
        come(1);
        assert!(sessions.all(now)[0].down, "that it comes again does not make it any easier to reach");
        assert_eq!(sessions.all(now + REMEMBERED).len(), 0);
        come(1);
        come(2);
        assert_eq!((sessions.all(now).len(), sessions.all(now)[0].ident.generation()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_its_leave_counts_until_its_lane_ends() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        met(&sessions, 1);
        sessions.leaving(&ident("a", 1));
        assert_eq!(sessions.all(now).len(), 1, "it still serves");
        sessions.down(addr(), now);
        assert_eq!(sessions.all(now).len(), 0);
        met(&sessions, 2);
        sessions.leaving(&ident("a", 1));
        sessions.down(addr(), now);
        assert_eq!(sessions.all(now).len(), 1, "that was another");
    }
}
