//! What a server knows of the links that dial it: [`Links`].

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use tokio_util::sync::CancellationToken;

use crate::{
    frame::{FrameError, Kind},
    lane::{Lane, LinkNumber, Purpose},
};

/// Remembers links by the number each gives itself, the most recent ones of them: which of a link's connections is the newest, and
/// how far its events have come.
///
/// A link that is forgotten begins again: its peer sends all it has, or says that something is lost.
pub(super) struct Links {
    known: Mutex<LruCache<LinkNumber, Arc<Known>>>,
}

/// One link.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// For each lane, the connection of this moment.
    newest: Mutex<[Option<Newest>; 2]>,
    /// Locked while an event is taken in, so that a new connection goes on behind it.
    applied: Mutex<u64>,
}

#[derive(Debug)]
struct Newest {
    connection: u64,
    /// Ends the connection once it has answered what it was asked.
    superseded: CancellationToken,
}

/// What has become of an event or of the word that some are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was taken in; the peer may go on from here.
    UpTo(u64),
    /// It came on a connection whose place another has taken, where it will come again.
    Stale,
}

impl Links {
    pub(super) fn new() -> Self {
        let capacity = NonZeroUsize::new(MAX_KNOWN).expect("a positive constant");
        Self { known: Mutex::new(LruCache::new(capacity)) }
    }

    /// Takes note of a connection, and supersedes the one whose place it takes.
    ///
    /// A connection that a network has silently forgotten is not waited for: the dialler knows best which of its connections lives.
    pub(super) fn enter(&self, purpose: Purpose, connection: u64, superseded: CancellationToken) -> Arc<Known> {
        let Purpose { lane, link } = purpose;
        if link == LinkNumber(0) {
            return Arc::default();
        }
        let known = Arc::clone(lock(&self.known).get_or_insert(link, Arc::default));
        let before = lock(&known.newest)[index(lane)].replace(Newest { connection, superseded });
        before.into_iter().for_each(|before| before.superseded.cancel());
        known
    }
}

impl Known {
    /// Takes note that a connection has ended.
    pub(super) fn leave(&self, lane: Lane, connection: u64) {
        lock(&self.newest)[index(lane)].take_if(|newest| newest.connection == connection);
    }

    /// Returns the position that the peer is to go on from.
    pub(super) fn applied(&self) -> u64 {
        *lock(&self.applied)
    }

    /// Takes an event in, if it is the next one.
    pub(super) fn event(&self, connection: u64, position: u64, apply: impl FnOnce()) -> Result<Taken, FrameError> {
        let mut applied = lock(&self.applied);
        if self.is_stale(connection) {
            return Ok(Taken::Stale);
        }
        if position != *applied {
            return Err(FrameError::WrongPosition { kind: Kind::Event, position, expected: *applied });
        }
        apply();
        *applied += 1;
        Ok(Taken::UpTo(*applied))
    }

    /// Takes the word that everything up to a position is lost.
    pub(super) fn lost(&self, connection: u64, position: u64, apply: impl FnOnce()) -> Result<Taken, FrameError> {
        let mut applied = lock(&self.applied);
        if self.is_stale(connection) {
            return Ok(Taken::Stale);
        }
        if position <= *applied {
            return Err(FrameError::WrongPosition { kind: Kind::Lost, position, expected: *applied + 1 });
        }
        apply();
        *applied = position;
        Ok(Taken::UpTo(position))
    }

    fn is_stale(&self, connection: u64) -> bool {
        let newest = lock(&self.newest);
        newest[index(Lane::Control)].as_ref().is_some_and(|newest| newest.connection != connection)
    }
}

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Data => 0,
        Lane::Control => 1,
    }
}

/// What is locked is whole between any two lines, whatever panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both lanes of twice as many peers as a server has room for: links that are gone for a while keep their place.
const MAX_KNOWN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: Purpose = Purpose { lane: Lane::Control, link: LinkNumber(7) };

    fn enter(links: &Links, purpose: Purpose, connection: u64) -> (Arc<Known>, CancellationToken) {
        let superseded = CancellationToken::new();
        (links.enter(purpose, connection, superseded.clone()), superseded)
    }

    #[test]
    fn newest_connection_of_a_lane_supersedes_the_one_before() {
        let links = Links::new();
        let (known, first) = enter(&links, CONTROL, 1);
        let (_, data) = enter(&links, Purpose { lane: Lane::Data, ..CONTROL }, 2);
        let (_, other) = enter(&links, Purpose { link: LinkNumber(8), ..CONTROL }, 3);
        assert!(!first.is_cancelled());
        let (_, second) = enter(&links, CONTROL, 4);
        assert!(first.is_cancelled());
        known.leave(Lane::Control, 1);
        let (_, third) = enter(&links, CONTROL, 5);
        assert!(second.is_cancelled(), "the end of an old connection does not hide the newest");
        assert!(!data.is_cancelled() && !other.is_cancelled() && !third.is_cancelled());
    }

    #[test]
    fn connections_without_a_number_leave_each_other_alone() {
        let links = Links::new();
        let none = Purpose { link: LinkNumber(0), ..CONTROL };
        let (first, token) = enter(&links, none, 1);
        first.event(1, 0, || {}).unwrap();
        let (second, _) = enter(&links, none, 2);
        assert!(!token.is_cancelled());
        assert_eq!(second.applied(), 0);
    }

    #[test]
    fn events_are_taken_in_order_and_once_over_all_connections() {
        let links = Links::new();
        let (known, _) = enter(&links, CONTROL, 1);
        let mut seen = 0;
        assert_eq!(known.event(1, 0, || seen += 1), Ok(Taken::UpTo(1)));
        for wrong in [0, 2] {
            let fault = FrameError::WrongPosition { kind: Kind::Event, position: wrong, expected: 1 };
            assert_eq!(known.event(1, wrong, || seen += 1), Err(fault));
        }
        let (again, _) = enter(&links, CONTROL, 2);
        assert_eq!(again.applied(), 1);
        assert_eq!(known.event(1, 1, || seen += 1), Ok(Taken::Stale), "it comes again on the new connection");
        assert_eq!(again.event(2, 1, || seen += 1), Ok(Taken::UpTo(2)));
        assert_eq!(seen, 2);
    }

    #[test]
    fn lost_events_are_skipped_forwards_only() {
        let links = Links::new();
        let (known, _) = enter(&links, CONTROL, 1);
        assert_eq!(known.lost(1, 10, || {}), Ok(Taken::UpTo(10)));
        assert!(known.lost(1, 10, || {}).is_err());
        assert_eq!(known.event(1, 10, || {}), Ok(Taken::UpTo(11)));
    }
}
