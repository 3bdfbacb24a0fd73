//! What the calls of one connection share: who waits for which answer.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use super::{deadlines::Deadlines, follower::Follower};
use crate::{
    connection::Receive,
    error::{CallError, NotSentReason, NotifyError},
    frame::{FrameError, Header, Incoming, Kind, Outgoing, whole_millis},
    log::Position,
    outbox::{Outbox, Unqueued},
    payload::{Method, Payload},
};

/// Hashes numbers that this side counted itself: they differ where hash tables look, and nobody else chooses them.
#[derive(Debug, Default)]
struct CountHasher(u64);

impl Hasher for CountHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers of calls are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        // The upper bits choose the group within a table, the lower ones the place.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One connection's calls, from the moment it is up until it is gone.
#[derive(Debug)]
pub(super) struct Session {
    calls: Mutex<Calls>,
    pub(super) outbox: Outbox,
    max_in_flight: usize,
    /// Told when a call is to give up before all others.
    sooner: Notify,
    /// Told when the listener wants the link elsewhere.
    told_to_go: Notify,
    /// On a control lane, the way through the log.
    follower: Option<Follower>,
}

#[derive(Debug, Default)]
struct Calls {
    waiting: HashMap<u64, oneshot::Sender<Result<Bytes, CallError>>, BuildHasherDefault<CountHasher>>,
    deadlines: Deadlines,
    last_id: u64,
    /// Set once no more calls are taken.
    ended: Option<NotSentReason>,
}

impl Session {
    pub(super) fn new(max_in_flight: usize, follower: Option<Follower>) -> Self {
        let (sooner, told_to_go) = (Notify::new(), Notify::new());
        let outbox = Outbox::new(usize::MAX);
        Self { calls: Mutex::default(), outbox, max_in_flight, sooner, told_to_go, follower }
    }

    /// Does what goes on beside reading and writing, for as long as it is polled: calls give up, and events are sent.
    pub(super) async fn run(&self) -> Infallible {
        match &self.follower {
            None => self.expire().await,
            Some(follower) => tokio::select! {
                never = self.expire() => never,
                never = follower.run(&self.outbox) => never,
            },
        }
    }

    /// Waits until the listener has said that it takes no more requests on this connection.
    pub(super) async fn told_to_go(&self) {
        self.told_to_go.notified().await;
    }

    /// Sends a request. Dropping the returned guard cancels it.
    pub(super) fn begin(
        &self,
        method: Method,
        payload: Payload,
        budget: Duration,
    ) -> Result<Waiting<'_>, NotSentReason> {
        let mut calls = self.lock();
        if let Some(reason) = calls.ended {
            return Err(reason);
        }
        if calls.waiting.len() >= self.max_in_flight {
            return Err(NotSentReason::InFlightLimit);
        }
        calls.last_id += 1;
        let id = calls.last_id;
        let deadline_ms = whole_millis(budget);
        let header = Header { kind: Kind::Request, code: method.0, id, deadline_ms };
        // Under the lock, so that a drain either sees this call waiting or turns it away.
        let queued = self.outbox.push(Outgoing { header, payload });
        queued.map_err(|_| NotSentReason::LinkDown)?;
        let (sender, answer) = oneshot::channel();
        let calls = &mut *calls;
        calls.waiting.insert(id, sender);
        // A budget that no clock can hold has no end.
        if let Some(deadline) = Instant::now().checked_add(budget) {
            calls.deadlines.prune(calls.waiting.len(), |id| calls.waiting.contains_key(&id));
            if calls.deadlines.add(deadline, id) {
                self.sooner.notify_one();
            }
        }
        Ok(Waiting { session: self, id, answer, is_answered: false })
    }

    /// Ends calls whose budget is spent, for as long as it is polled.
    async fn expire(&self) -> Infallible {
        loop {
            match self.give_up(Instant::now()) {
                Some(next) => tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
        }
    }

    /// Ends calls whose budget is spent, tells the peer, and returns when the next one's will be.
    fn give_up(&self, now: Instant) -> Option<Instant> {
        let mut over = Vec::new();
        let mut calls = self.lock();
        let Calls { waiting, deadlines, .. } = &mut *calls;
        while let Some(id) = deadlines.take_over(now) {
            if let Some(caller) = waiting.remove(&id) {
                self.outbox.cancel(id);
                over.push(caller);
            }
        }
        let next = deadlines.next(|id| waiting.contains_key(&id));
        self.finish_if_drained(&calls);
        drop(calls);
        for caller in over {
            // The caller may have gone; then nobody needs to know.
            let _ = caller.send(Err(CallError::TimedOut));
        }
        next
    }

    pub(super) fn notify(&self, method: Method, payload: Bytes) -> Result<(), NotifyError> {
        let header = Header { code: method.0, ..Header::new(Kind::Notice, 0) };
        let frame = Outgoing { header, payload: payload.into() };
        self.outbox.push_notice(frame).map_err(|unqueued| match unqueued {
            Unqueued::Full => NotifyError::QueueFull,
            Unqueued::Ended => match self.lock().ended {
                Some(NotSentReason::GoingAway) => NotifyError::GoingAway,
                Some(NotSentReason::Closed) => NotifyError::Closed,
                _ => NotifyError::LinkDown,
            },
        })
    }

    /// Takes no more calls, and ends the connection once those in flight are answered.
    pub(super) fn drain(&self, reason: NotSentReason) {
        let mut calls = self.lock();
        calls.ended.get_or_insert(reason);
        self.finish_if_drained(&calls);
    }

    /// Ends every call: the connection is gone.
    pub(super) fn fail(&self) {
        let unwritten = self.outbox.close();
        let mut calls = self.lock();
        calls.ended.get_or_insert(NotSentReason::LinkDown);
        let mut waiting = std::mem::take(&mut calls.waiting);
        drop(calls);
        for id in unwritten {
            if let Some(caller) = waiting.remove(&id) {
                // The caller may have gone; then nobody needs to know.
                let _ = caller.send(Err(CallError::NotSent(NotSentReason::LinkDown)));
            }
        }
        for caller in waiting.into_values() {
            let _ = caller.send(Err(CallError::Lost));
        }
    }

    fn complete(&self, id: u64, result: Result<Bytes, CallError>) {
        let mut calls = self.lock();
        // An answer that nobody waits for came after its caller gave up.
        let caller = calls.waiting.remove(&id);
        self.finish_if_drained(&calls);
        drop(calls);
        if let Some(caller) = caller {
            let _ = caller.send(result);
        }
    }

    fn cancel(&self, id: u64) {
        let mut calls = self.lock();
        if calls.waiting.remove(&id).is_some() {
            self.outbox.cancel(id);
            self.finish_if_drained(&calls);
        }
    }

    fn finish_if_drained(&self, calls: &Calls) {
        if calls.ended.is_some() && calls.waiting.is_empty() {
            self.outbox.finish();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receive for Session {
    /// Always: a listener sends no requests.
    async fn ready(&self) -> bool {
        false
    }

    fn receive(&self, frame: Incoming, _: bool) -> Result<(), FrameError> {
        let Header { kind, id, .. } = frame.header;
        match kind {
            Kind::Response => self.complete(id, Ok(frame.payload)),
            Kind::Error => self.complete(id, Err(frame.into_remote_error()?.into())),
            Kind::GoAway => {
                self.drain(NotSentReason::GoingAway);
                self.told_to_go.notify_one();
            }
            Kind::Ack => match &self.follower {
                Some(follower) => follower.acknowledge(Position(id))?,
                None => return Err(FrameError::WrongLane { kind }),
            },
            Kind::Ping | Kind::Pong => {}
            Kind::Request | Kind::Cancel | Kind::Notice | Kind::Event | Kind::Lost => {
                return Err(FrameError::WrongSide { kind });
            }
        }
        Ok(())
    }
}

/// A call that waits for its answer, and holds its place in flight until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    session: &'a Session,
    id: u64,
    answer: oneshot::Receiver<Result<Bytes, CallError>>,
    is_answered: bool,
}

impl Waiting<'_> {
    pub(super) async fn answer(&mut self) -> Result<Bytes, CallError> {
        // Without a sender the connection's task was dropped with the link.
        let answer = (&mut self.answer).await.unwrap_or(Err(CallError::Lost));
        self.is_answered = true;
        answer
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.session.cancel(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(session: &Session) -> Result<Waiting<'_>, NotSentReason> {
        session.begin(Method(1), Payload::default(), Duration::from_secs(1))
    }

    fn frame(kind: Kind, id: u64, payload: &'static [u8]) -> Incoming {
        Incoming { header: Header::new(kind, id), payload: Bytes::from_static(payload), arrived: Instant::now() }
    }

    #[tokio::test]
    async fn answers_find_their_callers_in_any_order() {
        let session = Session::new(10, None);
        let (mut first, mut second) = (begin(&session).unwrap(), begin(&session).unwrap());
        session.receive(frame(Kind::Response, second.id, b"two"), false).unwrap();
        session.receive(frame(Kind::Response, first.id, b"one"), false).unwrap();
        assert_eq!(first.answer().await.unwrap(), "one");
        assert_eq!(second.answer().await.unwrap(), "two");
    }

    #[tokio::test]
    async fn late_and_unknown_answers_are_ignored() {
        let session = Session::new(10, None);
        let id = begin(&session).unwrap().id;
        assert_eq!(session.receive(frame(Kind::Response, id, b"late"), false), Ok(()));
        assert_eq!(session.receive(frame(Kind::Error, 77, b"unknown"), false), Ok(()));
    }

    #[tokio::test]
    async fn answered_calls_leave_no_deadlines_behind() {
        let session = Session::new(10, None);
        for _ in 0..10_000 {
            let id = begin(&session).unwrap().id;
            session.receive(frame(Kind::Response, id, b""), false).unwrap();
        }
        let deadlines = session.lock().deadlines.len();
        assert!(deadlines < 1_000, "{deadlines}");
    }

    #[tokio::test]
    async fn dropping_a_call_frees_its_place() {
        let session = Session::new(1, None);
        let waiting = begin(&session).unwrap();
        assert_eq!(begin(&session).unwrap_err(), NotSentReason::InFlightLimit);
        drop(waiting);
        assert!(begin(&session).is_ok());
    }

    #[tokio::test]
    async fn frames_that_only_a_listener_may_get_are_refused() {
        let session = Session::new(1, None);
        for kind in [Kind::Request, Kind::Cancel, Kind::Notice, Kind::Event, Kind::Lost] {
            assert_eq!(session.receive(frame(kind, 1, b""), false), Err(FrameError::WrongSide { kind }));
        }
    }

    #[tokio::test]
    async fn a_data_lane_takes_no_acknowledgements() {
        let session = Session::new(1, None);
        assert_eq!(session.receive(frame(Kind::Ack, 1, b""), false), Err(FrameError::WrongLane { kind: Kind::Ack }));
    }

    #[tokio::test]
    async fn broken_connection_tells_sent_from_unsent() {
        let session = Session::new(10, None);
        let mut sent = begin(&session).unwrap();
        session.outbox.fill(&mut crate::outbox::Batch::default()).await;
        let mut unsent = begin(&session).unwrap();
        session.fail();
        assert_eq!(sent.answer().await, Err(CallError::Lost));
        let link_down = CallError::NotSent(NotSentReason::LinkDown);
        assert_eq!(unsent.answer().await, Err(link_down));
        assert_eq!(begin(&session).unwrap_err(), NotSentReason::LinkDown);
    }

    #[tokio::test]
    async fn going_away_lets_calls_in_flight_finish() {
        let session = Session::new(10, None);
        let mut waiting = begin(&session).unwrap();
        session.receive(frame(Kind::GoAway, 0, b""), false).unwrap();
        assert_eq!(begin(&session).unwrap_err(), NotSentReason::GoingAway);
        session.receive(frame(Kind::Response, waiting.id, b"done"), false).unwrap();
        assert_eq!(waiting.answer().await.unwrap(), "done");
        assert_eq!(session.notify(Method(1), Bytes::new()), Err(NotifyError::GoingAway));
    }

    #[test]
    fn budgets_are_rounded_up_and_clamped() {
        assert_eq!(whole_millis(Duration::from_micros(1)), 1);
        assert_eq!(whole_millis(Duration::from_millis(7)), 7);
        assert_eq!(whole_millis(Duration::MAX), u32::MAX);
        assert_eq!(whole_millis(Duration::ZERO), 0);
    }
}
