//! How one connection of a control lane goes through the log: [`Follower`].

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    frame::{FrameError, Header, Kind, Outgoing, whole_millis},
    log::{ControlLog, Position, Tail},
    outbox::Outbox,
    payload::Payload,
};

/// What the connections of one control lane share.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) log: Arc<ControlLog>,
    /// How far the peer has ever come.
    pub(super) acknowledged: watch::Sender<Position>,
}

/// One connection's way through the log, from where the listener asks to begin.
#[derive(Debug)]
pub(super) struct Follower {
    followed: Arc<Followed>,
    /// Nothing until the listener has said where to begin.
    place: watch::Sender<Option<Place>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    acknowledged: Position,
    /// The next event to send.
    next: Position,
}

impl Follower {
    pub(super) fn new(followed: Arc<Followed>) -> Self {
        Self { followed, place: watch::Sender::new(None) }
    }

    /// Takes the listener's word on how far it has come. Its first one says where to begin.
    pub(super) fn acknowledge(&self, position: Position) -> Result<(), FrameError> {
        let (least, most) = match *self.place.borrow() {
            None => (Position::default(), self.followed.log.end()),
            Some(place) => (place.acknowledged, place.next),
        };
        if position < least || position > most {
            let (kind, expected) = (Kind::Ack, most.0);
            return Err(FrameError::WrongPosition { kind, position: position.0, expected });
        }
        self.place.send_modify(|place| {
            let next = place.map_or(position, |place| place.next);
            *place = Some(Place { acknowledged: position, next });
        });
        self.followed.acknowledged.send_if_modified(|acknowledged| {
            let is_news = *acknowledged < position;
            *acknowledged = position.max(*acknowledged);
            is_news
        });
        Ok(())
    }

    /// Sends what the log holds and will hold, and at each heartbeat where it ends, for as long as it is polled.
    pub(super) async fn run(&self, outbox: &Outbox, heartbeat: Duration) -> Infallible {
        let log = &self.followed.log;
        let (mut place, mut end) = (self.place.subscribe(), log.watch_end());
        let mut heartbeats = interval(heartbeat.max(SHORTEST_HEARTBEAT));
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_due = false;
        loop {
            // Marked as seen before the look, so that what comes in between is not missed.
            end.mark_unchanged();
            let seen = *place.borrow_and_update();
            if let Some(tail) = seen.and_then(|place| log.after(place.next, place.room())) {
                if !self.send(tail, outbox) {
                    // The connection takes no more; the next one goes on.
                    return pending().await;
                }
                // Others that share the task have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            // Behind every event that can be sent, so that whoever hears it has heard them.
            if seen.is_some() && std::mem::take(&mut is_due) {
                let header = Header::new(Kind::Head, log.end().0);
                let _ = outbox.push(Outgoing { header, payload: Payload::default() });
                // An event may have come since the look.
                continue;
            }
            // The senders live as long as this does.
            tokio::select! {
                _ = place.changed() => {}
                _ = end.changed() => {}
                _ = heartbeats.tick() => is_due = true,
            }
        }
    }

    /// Queues frames, and says whether that could be done.
    fn send(&self, tail: Tail, outbox: &Outbox) -> bool {
        let push = |kind, position: Position, deadline_ms, payload: Bytes| {
            self.place.send_if_modified(|place| {
                if let Some(place) = place {
                    place.next = if kind == Kind::Lost { position } else { Position(position.0 + 1) };
                }
                false
            });
            let header = Header { deadline_ms, ..Header::new(kind, position.0) };
            outbox.push(Outgoing { header, payload: Payload::from(payload) }).is_ok()
        };
        match tail {
            Tail::Lost(to, at) => {
                push(Kind::Lost, to, whole_millis(Instant::now().saturating_duration_since(at)), Bytes::new())
            }
            Tail::Events(events) => {
                let now = Instant::now();
                let first = self.place.borrow().map_or_else(Position::default, |place| place.next);
                let mut numbered = (first.0..).map(Position).zip(events);
                numbered.all(|(position, (at, event))| {
                    push(Kind::Event, position, whole_millis(now.saturating_duration_since(at)), event)
                })
            }
        }
    }
}

impl Place {
    /// How many events may be sent now.
    fn room(self) -> usize {
        let unacknowledged = usize::try_from(self.next.0.saturating_sub(self.acknowledged.0)).unwrap_or(usize::MAX);
        WINDOW.saturating_sub(unacknowledged).min(BATCH)
    }
}

/// Keeps a configuration with a zero in it from spinning.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(1);

/// A round trip's worth of small events; the log keeps their payloads whether they are on their way or not.
const WINDOW: usize = 4096;

/// As many as are queued in one go.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::{log::LogLimits, outbox::Batch};

    fn follower(log: &Arc<ControlLog>) -> Follower {
        let acknowledged = watch::Sender::new(Position::default());
        Follower::new(Arc::new(Followed { log: Arc::clone(log), acknowledged }))
    }

    fn log_of(events: usize, limits: LogLimits) -> Arc<ControlLog> {
        let log = ControlLog::new(limits);
        log.append((0..events).map(|_| Bytes::from_static(b"x")));
        Arc::new(log)
    }

    /// How many bytes were queued once nothing more is, without the first heartbeat.
    async fn queued(follower: &Follower, outbox: &Outbox) -> usize {
        let heartbeat = Duration::from_secs(100);
        let _ = timeout(Duration::from_secs(1), follower.run(outbox, heartbeat)).await;
        outbox.finish();
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while outbox.fill(&mut batch).await {
            bytes += bytes::Buf::remaining(&batch);
            batch = Batch::default();
        }
        bytes - if follower.place.borrow().is_some() { crate::frame::HEADER_BYTES } else { 0 }
    }

    const EVENT: usize = crate::frame::HEADER_BYTES + 1;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_before_the_listener_says_where_to_begin() {
        let follower = follower(&log_of(3, LogLimits::default()));
        assert_eq!(queued(&follower, &Outbox::new(usize::MAX)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_sent_from_there_to_the_end() {
        let follower = follower(&log_of(1_000, LogLimits::default()));
        follower.acknowledge(Position(400)).unwrap();
        assert_eq!(queued(&follower, &Outbox::new(usize::MAX)).await, 600 * EVENT);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_window_is_on_its_way() {
        let follower = follower(&log_of(3 * WINDOW, LogLimits::default()));
        follower.acknowledge(Position(0)).unwrap();
        assert_eq!(queued(&follower, &Outbox::new(usize::MAX)).await, WINDOW * EVENT);
        follower.acknowledge(Position(100)).unwrap();
        assert_eq!(queued(&follower, &Outbox::new(usize::MAX)).await, 100 * EVENT);
    }

    #[tokio::test(start_paused = true)]
    async fn forgotten_events_are_one_lost_frame_and_the_others_follow() {
        let follower = follower(&log_of(100, LogLimits { max_events: 10, ..LogLimits::default() }));
        follower.acknowledge(Position(50)).unwrap();
        let (lost, event) = (crate::frame::HEADER_BYTES, crate::frame::HEADER_BYTES + 1);
        assert_eq!(queued(&follower, &Outbox::new(usize::MAX)).await, lost + 10 * event);
        assert_eq!(follower.place.borrow().unwrap().next, Position(100));
    }

    #[test]
    fn acknowledgements_of_what_was_not_sent_or_going_back_are_faults() {
        let follower = follower(&log_of(10, LogLimits::default()));
        assert!(follower.acknowledge(Position(11)).is_err(), "beyond the log");
        follower.acknowledge(Position(5)).unwrap();
        assert!(follower.acknowledge(Position(6)).is_err(), "not sent yet");
        assert!(follower.acknowledge(Position(4)).is_err(), "back");
        assert_eq!(*follower.followed.acknowledged.borrow(), Position(5));
    }

    #[test]
    fn what_was_ever_acknowledged_stays_so_when_the_peer_begins_again() {
        let first = follower(&log_of(10, LogLimits::default()));
        first.acknowledge(Position(5)).unwrap();
        let second = Follower::new(Arc::clone(&first.followed));
        second.acknowledge(Position(0)).unwrap();
        assert_eq!(*first.followed.acknowledged.borrow(), Position(5));
    }
}
