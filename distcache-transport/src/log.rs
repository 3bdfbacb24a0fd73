//! What every peer is to hear in order, kept for those that are away: [`ControlLog`].

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

/// Keeps the last events of a node, which its [`ControlLink`](crate::ControlLink)s carry to its peers, each event once and in order.
///
/// One log serves all links: an event is laid out once and held once. A peer that was away goes on where it stopped. If the log has
/// forgotten what came next, the peer is told so, with [`Service::lost`](crate::Service::lost), and goes on from what is left: it hears
/// of everything, or it knows that it did not.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use distcache_transport::{ControlLog, LogLimits, Position};
///
/// let log = ControlLog::new(LogLimits::default());
/// let end = log.append([Bytes::from_static(b"alice is old"), Bytes::from_static(b"bob is old")]);
/// assert_eq!(end, Position(2));
/// ```
#[derive(Debug)]
pub struct ControlLog {
    entries: Mutex<Entries>,
    end: watch::Sender<Position>,
}

/// A place in a log: how many events came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// Bounds what a [`ControlLog`] keeps. Whatever is older than the first limit reached is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Most events kept. Defaults to 65,536. Too few show as peers that lose events after a short absence.
    pub max_events: usize,
    /// Most bytes kept, counting 64 for each event besides its payload. Defaults to 16 MiB.
    pub max_bytes: usize,
    /// How long an event is kept. Defaults to 60 s, which is several times what a change of the cluster takes to be known everywhere.
    pub retention: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_events: 65_536, max_bytes: 16 << 20, retention: Duration::from_secs(60) }
    }
}

/// One event as it came from a peer's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in that log.
    pub position: Position,
    /// How long the peer had it before it was sent, to the millisecond.
    pub age: Duration,
    /// What the peer's upper layer appended.
    pub payload: Bytes,
}

/// What a reader of the log is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// These, with the time each was appended at.
    Events(Vec<(Instant, Bytes)>),
    /// What came next is forgotten; the reader goes on from here. The last of what is forgotten was appended at that time.
    Lost(Position, Instant),
}

#[derive(Debug)]
struct Entries {
    events: VecDeque<(Instant, Bytes)>,
    /// The position of the oldest one.
    start: u64,
    /// When the last one was appended that is forgotten.
    forgotten: Option<Instant>,
    bytes: usize,
    limits: LogLimits,
}

impl ControlLog {
    /// Makes a log without events.
    #[must_use]
    pub fn new(limits: LogLimits) -> Self {
        let entries = Entries { events: VecDeque::new(), start: 0, forgotten: None, bytes: 0, limits };
        Self { entries: Mutex::new(entries), end: watch::Sender::new(Position::default()) }
    }

    /// Appends events, forgets what is too old or too much, and wakes the links. Returns the position after the last event.
    pub fn append(&self, events: impl IntoIterator<Item = Bytes>) -> Position {
        let now = Instant::now();
        let mut entries = self.lock();
        for event in events {
            entries.bytes += cost(&event);
            entries.events.push_back((now, event));
        }
        entries.forget(now);
        let end = entries.end();
        // Under the lock, so that the end that is told never goes back.
        self.end.send_replace(end);
        end
    }

    /// Returns the position after the last event.
    #[must_use]
    pub fn end(&self) -> Position {
        *self.end.borrow()
    }

    /// Returns how many events and bytes are kept, by the count of [`LogLimits`].
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let entries = self.lock();
        (entries.events.len(), entries.bytes)
    }

    /// Returns a receiver that sees the end move.
    pub(crate) fn watch_end(&self) -> watch::Receiver<Position> {
        self.end.subscribe()
    }

    /// Returns what follows a position, at most that many events; `None` when nothing does.
    pub(crate) fn after(&self, from: Position, max_events: usize) -> Option<Tail> {
        let entries = self.lock();
        let end = entries.end();
        if from >= end || max_events == 0 {
            return None;
        }
        if from.0 < entries.start {
            let forgotten = entries.forgotten.unwrap_or_else(Instant::now);
            return Some(Tail::Lost(Position(entries.start), forgotten));
        }
        let skip = usize::try_from(from.0 - entries.start).ok()?;
        Some(Tail::Events(entries.events.iter().skip(skip).take(max_events).cloned().collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn end(&self) -> Position {
        Position(self.start + self.events.len() as u64)
    }

    fn forget(&mut self, now: Instant) {
        let LogLimits { max_events, max_bytes, retention } = self.limits;
        while self.events.len() > max_events
            || self.bytes > max_bytes
            || self.events.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > retention)
        {
            let Some((at, event)) = self.events.pop_front() else { return };
            self.forgotten = Some(at);
            self.bytes -= cost(&event);
            self.start += 1;
        }
    }
}

fn cost(event: &Bytes) -> usize {
    event.len() + EVENT_BYTES
}

/// The place in the queue, and the allocation behind the payload.
const EVENT_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn log(max_events: usize, max_bytes: usize) -> ControlLog {
        ControlLog::new(LogLimits { max_events, max_bytes, retention: Duration::from_secs(60) })
    }

    fn payloads(tail: Option<Tail>) -> Vec<Bytes> {
        match tail {
            Some(Tail::Events(events)) => events.into_iter().map(|(_, payload)| payload).collect(),
            other => panic!("{other:?}"),
        }
    }

    const ABC: [Bytes; 3] = [Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::from_static(b"c")];

    #[test]
    fn a_reader_gets_every_event_once_and_in_order() {
        let log = log(10, 10_000);
        assert_eq!(log.append(ABC), Position(3));
        assert_eq!(payloads(log.after(Position(0), 2)), ["a", "b"]);
        assert_eq!(payloads(log.after(Position(2), 2)), ["c"]);
        assert_eq!(log.after(Position(3), 2), None);
    }

    #[test]
    fn a_reader_that_fell_behind_is_told_that_it_lost_something() {
        let log = log(2, 10_000);
        log.append(ABC);
        assert!(matches!(log.after(Position(0), 10), Some(Tail::Lost(Position(1), _))));
        assert_eq!(payloads(log.after(Position(1), 10)), ["b", "c"]);
    }

    #[test]
    fn bytes_bound_the_log_too_and_are_counted_back() {
        let log = log(1_000, 3 * (EVENT_BYTES + 10));
        for _ in 0..100 {
            log.append([Bytes::from_static(b"ten bytes.")]);
            assert!(log.held().1 <= 3 * (EVENT_BYTES + 10));
        }
        assert_eq!(log.held(), (3, 3 * (EVENT_BYTES + 10)));
        log.append([Bytes::from(vec![0; 10_000])]);
        assert_eq!(log.held(), (0, 0), "an event larger than the log is forgotten at once, and that is noticed");
        assert!(matches!(log.after(Position(100), 1), Some(Tail::Lost(Position(101), _))));
    }

    #[tokio::test(start_paused = true)]
    async fn old_events_are_forgotten_and_that_is_noticed() {
        let log = log(10, 10_000);
        log.append([ABC[0].clone()]);
        let appended = Instant::now();
        advance(Duration::from_secs(61)).await;
        log.append([ABC[1].clone()]);
        assert_eq!(log.after(Position(0), 10), Some(Tail::Lost(Position(1), appended)));
        assert_eq!(payloads(log.after(Position(1), 10)), ["b"]);
    }
}
