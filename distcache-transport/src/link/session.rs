//! What the calls of one connection share: who waits for which answer.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use super::{breaker::Pass, call::Call, deadlines::Deadlines, follower::Follower, stats::Health};
use crate::{
    config::TransportConfig,
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
    health: Arc<Health>,
    max_in_flight: usize,
    max_in_flight_bytes: usize,
    /// Budgets shorter than this say nothing of the peer when they are spent.
    patience: Duration,
    /// Told when a call is to give up before all others.
    sooner: Notify,
    /// Told when the listener wants the link elsewhere.
    told_to_go: Notify,
    /// Told when a call begins and none was in flight when `is_waiting` looked.
    began: Notify,
    /// On a control lane, the way through the log.
    follower: Option<Follower>,
}

#[derive(Debug, Default)]
struct Calls {
    waiting: HashMap<u64, Waiting, BuildHasherDefault<CountHasher>>,
    /// What the payloads of those that wait hold.
    bytes: usize,
    deadlines: Deadlines,
    last_id: u64,
    /// The next call is to be told of.
    is_idle: bool,
    /// Set once no more calls are taken.
    ended: Option<NotSentReason>,
}

impl Session {
    pub(super) fn new(health: Arc<Health>, config: &TransportConfig, follower: Option<Follower>) -> Self {
        let outbox = Outbox::new(usize::MAX);
        let (sooner, told_to_go, began) = (Notify::new(), Notify::new(), Notify::new());
        let patience = config.loading_after.saturating_mul(WAY_AND_BACK);
        let TransportConfig { max_in_flight, max_in_flight_bytes, .. } = *config;
        Self {
            calls: Mutex::default(),
            outbox,
            health,
            max_in_flight,
            max_in_flight_bytes,
            patience,
            sooner,
            told_to_go,
            began,
            follower,
        }
    }

    /// Does what goes on beside reading and writing, for as long as it is polled: calls give up, and events are sent.
    pub(super) async fn run(&self, heartbeat: Duration) -> Infallible {
        match &self.follower {
            None => self.expire().await,
            Some(follower) => tokio::select! {
                never = self.expire() => never,
                never = follower.run(&self.outbox, heartbeat) => never,
            },
        }
    }

    /// Waits until the listener has said that it takes no more requests on this connection.
    pub(super) async fn told_to_go(&self) {
        self.told_to_go.notified().await;
    }

    /// Sends a request. Dropping the call cancels it.
    pub(super) fn begin(
        self: &Arc<Self>,
        method: Method,
        payload: Payload,
        budget: Duration,
        pass: Pass,
    ) -> Result<Call, NotSentReason> {
        let is_patient = budget >= self.patience;
        let mut calls = self.lock();
        if let Some(reason) = calls.ended {
            return Err(reason);
        }
        let bytes = payload.len();
        let is_full = calls.waiting.len() >= self.max_in_flight;
        if is_full || calls.bytes.saturating_add(bytes) > self.max_in_flight_bytes {
            self.health.counters.refused_in_flight.add_one();
            return Err(NotSentReason::InFlightLimit);
        }
        calls.last_id += 1;
        let id = calls.last_id;
        let deadline_ms = whole_millis(budget);
        let header = Header { kind: Kind::Request, code: method.0, id, deadline_ms };
        // Under the lock, so that a drain either sees this call waiting or turns it away.
        let queued = self.outbox.push(Outgoing { header, payload });
        queued.map_err(|_| NotSentReason::LinkDown)?;
        let (caller, answer) = oneshot::channel();
        let calls = &mut *calls;
        calls.bytes += bytes;
        calls.waiting.insert(id, Waiting { caller, word: Word::None, pass, is_patient, bytes });
        self.health.counters.calls.add_one();
        // Once for many calls: while there are some, the peer is watched by a timer.
        if std::mem::take(&mut calls.is_idle) {
            self.began.notify_one();
        }
        // A budget that no clock can hold has no end.
        if let Some(deadline) = Instant::now().checked_add(budget) {
            calls.deadlines.prune(calls.waiting.len(), |id| calls.waiting.contains_key(&id));
            if calls.deadlines.add(deadline, id) {
                self.sooner.notify_one();
            }
        }
        Ok(Call::new(Arc::clone(self), id, answer))
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
        while let Some(id) = calls.deadlines.take_over(now) {
            if let Some(call) = calls.take(id) {
                self.outbox.cancel(id);
                over.push(call);
            }
        }
        let Calls { waiting, deadlines, .. } = &mut *calls;
        let next = deadlines.next(|id| waiting.contains_key(&id));
        self.finish_if_drained(&calls);
        drop(calls);
        for call in over {
            self.count_over(&call);
            // The caller may have gone; then nobody needs to know.
            let _ = call.caller.send(Err(CallError::TimedOut));
        }
        next
    }

    pub(super) fn notify(&self, method: Method, payload: Bytes) -> Result<(), NotifyError> {
        let header = Header { code: method.0, ..Header::new(Kind::Notice, 0) };
        let frame = Outgoing { header, payload: payload.into() };
        self.outbox.push_notice(frame).map_err(|unqueued| match unqueued {
            Unqueued::Full | Unqueued::NodeFull => NotifyError::QueueFull,
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
        calls.bytes = 0;
        drop(calls);
        waiting.iter().for_each(|_| self.health.counters.lost.add_one());
        for id in unwritten {
            if let Some(call) = waiting.remove(&id) {
                // The caller may have gone; then nobody needs to know.
                let _ = call.caller.send(Err(CallError::NotSent(NotSentReason::LinkDown)));
            }
        }
        for call in waiting.into_values() {
            let _ = call.caller.send(Err(CallError::Lost));
        }
    }

    fn complete(&self, id: u64, result: Result<Bytes, CallError>) {
        let mut calls = self.lock();
        // An answer that nobody waits for came after its caller gave up.
        let call = calls.take(id);
        self.finish_if_drained(&calls);
        drop(calls);
        if let Some(call) = call {
            self.health.answered(&result);
            let _ = call.caller.send(result);
        }
    }

    /// Notes that the peer works on a call. Of a call that is over, it came too late.
    fn loading(&self, id: u64) {
        let mut calls = self.lock();
        let Some(call) = calls.waiting.get_mut(&id) else { return };
        let word = std::mem::replace(&mut call.word, Word::Loading);
        drop(calls);
        if !matches!(word, Word::Loading) {
            self.health.counters.loading.add_one();
            self.health.gate.succeeded();
        }
        if let Word::Awaited(caller) = word {
            caller.wake();
        }
    }

    /// Tells whether the peer has said that it works on a call; if not, its caller is woken when it does.
    pub(super) fn is_loading(&self, id: u64, caller: &Context<'_>) -> bool {
        let mut calls = self.lock();
        // Of a call that is over, only the answer is left to wait for.
        let Some(call) = calls.waiting.get_mut(&id) else { return false };
        let is_loading = matches!(call.word, Word::Loading);
        if !is_loading {
            call.word = Word::Awaited(caller.waker().clone());
        }
        is_loading
    }

    fn count_over(&self, call: &Waiting) {
        self.health.counters.timed_out.add_one();
        // A peer that is known to work on it, or had no time to say so, has not failed.
        match call.word {
            Word::None | Word::Awaited(_) if call.is_patient => self.health.gate.failed(call.pass),
            _ => self.health.gate.abandoned(call.pass),
        }
    }

    /// Ends a call that its caller takes for failed.
    pub(super) fn expired(&self, id: u64) {
        let mut calls = self.lock();
        if let Some(call) = calls.take(id) {
            self.outbox.cancel(id);
            self.finish_if_drained(&calls);
            drop(calls);
            self.count_over(&call);
        }
    }

    pub(super) fn cancel(&self, id: u64) {
        let mut calls = self.lock();
        if let Some(call) = calls.take(id) {
            self.health.gate.abandoned(call.pass);
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

impl Calls {
    /// Takes out a call that no longer waits, and gives back its place.
    fn take(&mut self, id: u64) -> Option<Waiting> {
        let call = self.waiting.remove(&id)?;
        self.bytes -= call.bytes;
        Some(call)
    }
}

impl Receive for Session {
    /// Always: a listener sends no requests.
    async fn ready(&self) -> bool {
        false
    }

    /// On a control lane always: each heartbeat is answered.
    fn is_waiting(&self) -> bool {
        let mut calls = self.lock();
        calls.is_idle = self.follower.is_none() && calls.waiting.is_empty();
        !calls.is_idle
    }

    async fn begins(&self) {
        self.began.notified().await;
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
            Kind::Loading => self.loading(id),
            Kind::Ping | Kind::Pong => {}
            Kind::Request | Kind::Cancel | Kind::Notice | Kind::Event | Kind::Lost | Kind::Head => {
                return Err(FrameError::WrongSide { kind });
            }
        }
        Ok(())
    }
}

/// Who waits for an answer, and what is known until then.
#[derive(Debug)]
struct Waiting {
    caller: oneshot::Sender<Result<Bytes, CallError>>,
    word: Word,
    pass: Pass,
    /// The budget leaves the peer time to say that it works on it.
    is_patient: bool,
    /// Size of the request's payload.
    bytes: usize,
}

/// What the peer has said of a call besides its answer.
#[derive(Debug, Default)]
enum Word {
    #[default]
    None,
    /// None, and the caller would be woken by one.
    Awaited(Waker),
    Loading,
}

/// As many times what a peer waits before it says that it works on a call leaves the word time to come.
const WAY_AND_BACK: u32 = 2;

#[cfg(test)]
mod tests {
    use super::{super::Progress, *};

    fn session(max_in_flight: usize) -> Arc<Session> {
        Arc::new({
            let config = TransportConfig { max_in_flight, ..TransportConfig::default() };
            Session::new(Arc::new(Health::new(&config)), &config, None)
        })
    }

    fn begin(session: &Arc<Session>) -> Result<Call, NotSentReason> {
        session.begin(Method(1), Payload::default(), Duration::from_secs(1), Pass::Plain)
    }

    fn is_pending(future: impl Future) -> bool {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn frame(kind: Kind, id: u64, payload: &'static [u8]) -> Incoming {
        Incoming { header: Header::new(kind, id), payload: Bytes::from_static(payload), arrived: Instant::now() }
    }

    #[tokio::test]
    async fn answers_find_their_callers_in_any_order() {
        let session = session(10);
        let (mut first, mut second) = (begin(&session).unwrap(), begin(&session).unwrap());
        session.receive(frame(Kind::Response, second.id, b"two"), false).unwrap();
        session.receive(frame(Kind::Response, first.id, b"one"), false).unwrap();
        assert_eq!(first.answer().await.unwrap(), "one");
        assert_eq!(second.answer().await.unwrap(), "two");
    }

    #[tokio::test]
    async fn late_and_unknown_answers_are_ignored() {
        let session = session(10);
        let id = begin(&session).unwrap().id;
        assert_eq!(session.receive(frame(Kind::Response, id, b"late"), false), Ok(()));
        assert_eq!(session.receive(frame(Kind::Error, 77, b"unknown"), false), Ok(()));
    }

    #[tokio::test]
    async fn answered_calls_leave_no_deadlines_behind() {
        let session = session(10);
        for _ in 0..10_000 {
            let id = begin(&session).unwrap().id;
            session.receive(frame(Kind::Response, id, b""), false).unwrap();
        }
        let deadlines = session.lock().deadlines.len();
        assert!(deadlines < 1_000, "{deadlines}");
    }

    #[tokio::test]
    async fn dropping_a_call_frees_its_place() {
        let session = session(1);
        let waiting = begin(&session).unwrap();
        assert_eq!(begin(&session).unwrap_err(), NotSentReason::InFlightLimit);
        drop(waiting);
        assert!(begin(&session).is_ok());
    }

    #[tokio::test]
    async fn caller_learns_once_that_the_peer_works_and_then_the_answer() {
        let session = session(10);
        let mut call = begin(&session).unwrap();
        let (id, mut early) = (call.id, begin(&session).unwrap());
        session.receive(frame(Kind::Loading, early.id, b""), false).unwrap();
        assert_eq!(early.progress().await, Progress::Loading, "said before it was asked for");

        let waits = tokio::spawn(async move { (call.progress().await, call) });
        tokio::task::yield_now().await;
        session.receive(frame(Kind::Loading, id, b""), false).unwrap();
        let (progress, mut call) = waits.await.unwrap();
        assert_eq!(progress, Progress::Loading);

        session.receive(frame(Kind::Loading, id, b""), false).unwrap();
        assert!(is_pending(call.progress()), "a second word changes nothing");
        session.receive(frame(Kind::Response, id, b"done"), false).unwrap();
        assert_eq!(call.progress().await, Progress::Answered(Ok(Bytes::from_static(b"done"))));
        assert_eq!(session.receive(frame(Kind::Loading, id, b""), false), Ok(()), "too late");
        assert_eq!(session.receive(frame(Kind::Loading, 77, b""), false), Ok(()), "of no call");
    }

    #[tokio::test]
    async fn payloads_count_until_their_calls_are_over_however_they_end() {
        let config = TransportConfig { max_in_flight_bytes: 10, ..TransportConfig::default() };
        let session = Arc::new(Session::new(Arc::new(Health::new(&config)), &config, None));
        let begin =
            |bytes, millis| session.begin(Method(1), vec![7; bytes].into(), Duration::from_millis(millis), Pass::Plain);
        assert_eq!(begin(11, 9).unwrap_err(), NotSentReason::InFlightLimit, "more than there is");
        let (answered, dropped, over) = (begin(4, 9).unwrap(), begin(4, 9).unwrap(), begin(2, 5).unwrap());
        assert!(begin(0, 9).is_ok(), "what has no payload fills no memory");
        assert_eq!(begin(1, 9).unwrap_err(), NotSentReason::InFlightLimit);
        session.receive(frame(Kind::Response, answered.id, b""), false).unwrap();
        assert_eq!(session.lock().bytes, 6);
        drop(dropped);
        assert_eq!(session.lock().bytes, 2);
        session.give_up(Instant::now() + Duration::from_millis(6));
        assert_eq!(session.lock().bytes, 0);
        drop((answered, over));
        let _lost = begin(10, 9).unwrap();
        session.fail();
        assert_eq!(session.lock().bytes, 0);
        assert_eq!(session.health.counters.snapshot(0).refused_in_flight, 2);
    }

    #[tokio::test]
    async fn frames_that_only_a_listener_may_get_are_refused() {
        let session = session(1);
        for kind in [Kind::Request, Kind::Cancel, Kind::Notice, Kind::Event, Kind::Lost, Kind::Head] {
            assert_eq!(session.receive(frame(kind, 1, b""), false), Err(FrameError::WrongSide { kind }));
        }
    }

    #[tokio::test]
    async fn a_data_lane_takes_no_acknowledgements() {
        let session = session(1);
        assert_eq!(session.receive(frame(Kind::Ack, 1, b""), false), Err(FrameError::WrongLane { kind: Kind::Ack }));
    }

    #[tokio::test]
    async fn broken_connection_tells_sent_from_unsent() {
        let session = session(10);
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
        let session = session(10);
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
