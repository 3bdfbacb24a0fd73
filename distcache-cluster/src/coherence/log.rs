//! The log of recent invalidations: numbered, bounded in entries and in time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Invalidation;

/// A position in the log: how many invalidations came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position(pub(crate) u64);

/// The last invalidations of this node, oldest first.
#[derive(Debug)]
pub(crate) struct InvalidationLog {
    entries: VecDeque<(Instant, Invalidation)>,
    /// The position of the oldest entry kept.
    start: u64,
    max_entries: usize,
    retention: Duration,
}

/// What a reader of the log must be sent next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) batch: Vec<Invalidation>,
    /// Where the reader stands once it has applied the batch.
    pub(crate) next: Position,
}

impl InvalidationLog {
    pub(crate) const fn new(max_entries: usize, retention: Duration) -> Self {
        Self { entries: VecDeque::new(), start: 0, max_entries, retention }
    }

    /// Appends, and forgets what is too old or too much. Returns the position after the last entry.
    pub(crate) fn append(&mut self, invalidations: impl IntoIterator<Item = Invalidation>, now: Instant) -> Position {
        self.entries.extend(invalidations.into_iter().map(|invalidation| (now, invalidation)));
        while self.entries.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > self.retention)
            || self.entries.len() > self.max_entries
        {
            self.entries.pop_front();
            self.start += 1;
        }
        self.end()
    }

    /// The position after the last entry.
    pub(crate) fn end(&self) -> Position {
        Position(self.start + self.entries.len() as u64)
    }

    /// Returns what comes after `from`, at most `max_entries` of it; `None` when there is nothing.
    ///
    /// A reader that fell behind the oldest entry gets [`Invalidation::Everything`] and goes on from the end: deliver or drop.
    pub(crate) fn after(&self, from: Position, max_entries: usize, now: Instant) -> Option<Tail> {
        if from >= self.end() {
            return None;
        }
        if from.0 < self.start {
            return Some(Tail { batch: vec![Invalidation::Everything], next: self.end() });
        }
        let skip = usize::try_from(from.0 - self.start).ok()?;
        let batch: Vec<_> =
            self.entries.iter().skip(skip).take(max_entries).map(|(at, entry)| aged(entry, *at, now)).collect();
        let next = Position(from.0 + batch.len() as u64);
        Some(Tail { batch, next })
    }
}

fn aged(entry: &Invalidation, at: Instant, now: Instant) -> Invalidation {
    match entry {
        Invalidation::DeleteKeyspace { keyspace, .. } => {
            Invalidation::DeleteKeyspace { keyspace: keyspace.clone(), age: now.saturating_duration_since(at) }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be made by reading the clock; the tests step it themselves"
)]
mod tests {
    use super::*;

    fn key(key: &str) -> Invalidation {
        Invalidation::Key { keyspace: "users".into(), key: key.into() }
    }

    #[test]
    fn a_reader_gets_everything_once_and_in_order() {
        let (mut log, now) = (InvalidationLog::new(10, Duration::from_secs(60)), Instant::now());
        log.append([key("a"), key("b"), key("c")], now);
        let first = log.after(Position(0), 2, now).unwrap();
        assert_eq!(first, Tail { batch: vec![key("a"), key("b")], next: Position(2) });
        let second = log.after(first.next, 2, now).unwrap();
        assert_eq!(second, Tail { batch: vec![key("c")], next: Position(3) });
        assert_eq!(log.after(second.next, 2, now), None);
    }

    #[test]
    fn a_reader_that_fell_behind_is_told_to_drop_everything() {
        let (mut log, now) = (InvalidationLog::new(2, Duration::from_secs(60)), Instant::now());
        log.append([key("a"), key("b"), key("c")], now);
        assert_eq!(
            log.after(Position(0), 10, now),
            Some(Tail { batch: vec![Invalidation::Everything], next: Position(3) })
        );
        assert_eq!(log.after(Position(1), 10, now).unwrap().batch, [key("b"), key("c")]);
    }

    #[test]
    fn a_deleted_keyspace_is_told_with_its_age() {
        let (mut log, now) = (InvalidationLog::new(2, Duration::from_secs(60)), Instant::now());
        let deleted = |age| Invalidation::DeleteKeyspace { keyspace: "users".into(), age };
        log.append([deleted(Duration::ZERO)], now);
        let later = now + Duration::from_secs(7);
        assert_eq!(log.after(Position(0), 1, later).unwrap().batch, [deleted(Duration::from_secs(7))]);
    }

    #[test]
    fn old_entries_are_forgotten_and_the_forgetting_is_noticed() {
        let (mut log, now) = (InvalidationLog::new(10, Duration::from_secs(60)), Instant::now());
        log.append([key("a")], now);
        log.append([key("b")], now + Duration::from_secs(61));
        assert_eq!(log.after(Position(0), 10, now).unwrap().batch, [Invalidation::Everything]);
        assert_eq!(log.after(Position(1), 10, now).unwrap().batch, [key("b")]);
    }
}
