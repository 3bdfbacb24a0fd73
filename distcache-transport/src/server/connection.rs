//! One accepted connection: its requests, each in a task, and their answers.

use std::{
    collections::HashMap,
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Peer, Request, Shared,
    in_flight::InFlight,
    links::{Known, Taken},
};
use crate::{
    connection::{Break, Pings, Receive, drive},
    error::{ErrorCode, RemoteError},
    frame::{FrameError, Header, Incoming, Kind, Outgoing},
    io::BoxStream,
    lane::{Lane, Purpose},
    log::{Event, Position},
    outbox::{Outbox, Unqueued},
    payload::{Method, Payload},
    room::Room,
};

/// Serves a peer until its connection ends or, once the server stops, its requests are answered.
pub(super) async fn serve(shared: Arc<Shared>, stream: BoxStream, peer: Peer, purpose: Purpose, generation: u64) {
    let superseded = CancellationToken::new();
    let known = shared.links.enter(purpose, peer.link_id, superseded.clone());
    let connection = Guard::open(shared, peer, known);
    let Connection { shared, peer, outbox, known, .. } = &*connection.0;
    if peer.lane == Lane::Control {
        outbox.ack(known.applied());
    }
    let receiver = Receiver(&connection.0);
    let mut drive = pin!(drive(stream, outbox, &receiver, &shared.config, Pings::late(&shared.config)));
    let end = tokio::select! {
        end = &mut drive => end,
        () = has_to_go(shared, &superseded, generation) => {
            connection.0.drain();
            drive.await
        }
    };
    match &end {
        Break::Frame(error @ FrameError::TooSlow { .. }) => {
            shared.counters.slow_frames.add_one();
            shared.warn(|| tracing::warn!(peer = %peer.addr, %error, "connection closed"));
        }
        Break::Frame(error) => {
            shared.counters.protocol_errors.add_one();
            shared.warn(|| tracing::warn!(peer = %peer.addr, %error, "connection closed"));
        }
        Break::Mute => shared.counters.mute_peers.add_one(),
        Break::Stalled => shared.counters.stalled_peers.add_one(),
        Break::Closed | Break::Io(_) => {}
    }
    tracing::debug!(peer = %peer.addr, link_id = peer.link_id, ?end, "connection ended");
}

/// Waits until a connection is to take no more requests: the server stops, another connection has taken its place, or this node's
/// certificates and authorities have changed and its peer has not dialled anew.
async fn has_to_go(shared: &Shared, superseded: &CancellationToken, generation: u64) {
    let outdated = async {
        match &shared.security.tls {
            Some(tls) => tls.superseded(generation).await,
            None => pending().await,
        }
        sleep(RENEWAL_GRACE).await;
    };
    tokio::select! {
        () = shared.stopping.cancelled() => {}
        () = superseded.cancelled() => shared.counters.superseded.add_one(),
        () = outdated => shared.counters.outdated.add_one(),
    }
}

/// What a connection's tasks share.
struct Connection {
    shared: Arc<Shared>,
    peer: Peer,
    /// The link it belongs to.
    known: Arc<Known>,
    outbox: Outbox,
    in_flight: InFlight,
    running: Mutex<Running>,
    /// Handlers that exist, also those that were cancelled and are not dropped yet.
    alive: AtomicUsize,
    /// Told when there is one less.
    dropped: Notify,
    /// Told when a request runs and none did when `is_waiting` looked.
    began: Notify,
}

#[derive(Debug, Default)]
struct Running {
    requests: HashMap<u64, AbortHandle>,
    /// The next request that runs is to be told of.
    is_idle: bool,
    draining: bool,
}

impl Connection {
    fn request(self: &Arc<Self>, frame: Incoming, held: bool) -> Result<(), FrameError> {
        let Header { code, id, deadline_ms, .. } = frame.header;
        let counters = &self.shared.counters;
        counters.requests.add_one();
        let running = self.lock();
        if running.requests.contains_key(&id) {
            return Err(FrameError::DuplicateId { id });
        }
        if running.draining {
            self.reply_error(id, ErrorCode::SHUTTING_DOWN, "the node is shutting down");
            return Ok(());
        }
        let limit = self.shared.config.max_in_flight;
        if running.requests.len() >= limit {
            counters.overloaded.add_one();
            self.reply_overloaded(id, "too many requests in flight on this link");
            return Ok(());
        }
        let bytes = frame.payload.len();
        if !self.in_flight.try_take(bytes) {
            counters.overloaded_bytes.add_one();
            self.reply_overloaded(id, "requests in flight on this link hold too many bytes");
            return Ok(());
        }
        if !self.shared.in_flight.try_take(bytes) {
            self.in_flight.give_back(bytes);
            counters.overloaded_node.add_one();
            self.reply_overloaded(id, "too many requests in flight at this node");
            return Ok(());
        }
        drop(running);
        let budget = Duration::from_millis(deadline_ms.into()).min(MAX_DEADLINE);
        let deadline = frame.arrived + budget;
        let alive = Alive::count(Arc::clone(self), bytes);
        if budget.is_zero() || (held && Instant::now() >= deadline) {
            drop(alive);
            self.reply(id, self.too_late());
            return Ok(());
        }
        let request = Request { method: Method(code), payload: frame.payload, deadline };
        let mut answer = Box::pin(alive.answer(id, request));
        // What is there at once, as a hit is, needs no task of its own. Whoever is not ready is asked again by its task, so nobody
        // needs to be woken for now.
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => self.reply(id, answer),
            Poll::Pending => self.spawn(id, deadline, answer),
        }
        Ok(())
    }

    fn spawn(
        self: &Arc<Self>,
        id: u64,
        deadline: Instant,
        mut answer: impl Future<Output = Answer> + Send + Unpin + 'static,
    ) {
        let connection = Arc::clone(self);
        // Under the lock, so that the task cannot end before it is known.
        let mut running = self.lock();
        let task = self.shared.tasks.spawn(async move {
            let first_word = Instant::now().checked_add(connection.shared.config.loading_after);
            let first_word = first_word.filter(|at| *at < deadline);
            let answer = match timeout_at(first_word.unwrap_or(deadline), &mut answer).await {
                Err(_) if first_word.is_some() => {
                    connection.say_loading(id);
                    timeout_at(deadline, answer).await
                }
                answer => answer,
            };
            connection.complete(id, answer.unwrap_or_else(|_| connection.too_late()));
        });
        running.requests.insert(id, task.abort_handle());
        if std::mem::take(&mut running.is_idle) {
            self.began.notify_one();
        }
    }

    /// Tells the peer that its request is being worked on, unless it has cancelled it.
    fn say_loading(&self, id: u64) {
        let running = self.lock();
        if running.requests.contains_key(&id) {
            self.shared.counters.loading.add_one();
            let _ = self.outbox.push(Outgoing { header: Header::new(Kind::Loading, id), payload: Payload::default() });
        }
    }

    fn too_late(&self) -> Answer {
        self.shared.counters.deadline_exceeded.add_one();
        Err(RemoteError::new(ErrorCode::DEADLINE, "deadline passed"))
    }

    fn cancel(&self, id: u64) {
        if let Some(task) = self.lock().requests.remove(&id) {
            task.abort();
            self.shared.counters.cancelled.add_one();
        }
    }

    fn notice(&self, frame: Incoming) {
        let Shared { service, counters, .. } = &*self.shared;
        counters.notices.add_one();
        let method = Method(frame.header.code);
        self.shared.guarded(|| service.notice(&self.peer, method, frame.payload));
    }

    /// Takes the next event, or the word that some are lost, and tells the peer how far it has come.
    fn event(&self, frame: Incoming) -> Result<(), FrameError> {
        let Self { shared, peer, known, .. } = self;
        let Header { kind, id, deadline_ms, .. } = frame.header;
        if peer.lane != Lane::Control {
            return Err(FrameError::WrongLane { kind });
        }
        let age = Duration::from_millis(deadline_ms.into());
        let lose = |age| {
            shared.counters.streams_lost.add_one();
            shared.guarded(|| shared.service.lost(peer, age));
        };
        let taken = if kind == Kind::Lost {
            known.lost(peer.link_id, id, || lose(age))?
        } else {
            known.event(peer.link_id, id, || {
                shared.counters.events.add_one();
                let event = Event { position: Position(id), age, payload: frame.payload };
                // Deliver or drop: an event that could not be taken in is one that is lost.
                if shared.guarded(|| shared.service.event(peer, event)).is_none() {
                    lose(Duration::ZERO);
                }
            })?
        };
        if let Taken::UpTo(position) = taken {
            self.outbox.ack(position);
        }
        Ok(())
    }

    fn heartbeat(&self, end: u64) -> Result<(), FrameError> {
        let Self { shared, peer, known, .. } = self;
        if peer.lane != Lane::Control {
            return Err(FrameError::WrongLane { kind: Kind::Head });
        }
        let applied = known.applied();
        shared.guarded(|| shared.service.heartbeat(peer, applied >= end));
        self.outbox.ack(applied);
        Ok(())
    }

    /// Queues an answer and gives its place to the next request.
    fn complete(&self, id: u64, answer: Answer) {
        // Under the lock, so that the peer cannot see the answer before the place is free.
        let mut running = self.lock();
        if running.requests.remove(&id).is_some() {
            self.reply(id, answer);
        }
        self.finish_if_drained(&running);
    }

    fn reply(&self, id: u64, answer: Answer) {
        let limit = self.shared.config.max_payload_bytes;
        let frame = match answer {
            Ok(payload) if payload.len() > limit => {
                let message = format!("answer of {} bytes exceeds the limit of {limit}", payload.len());
                Outgoing::error(id, &RemoteError::new(ErrorCode::TOO_LARGE, message))
            }
            Ok(payload) => Outgoing { header: Header::new(Kind::Response, id), payload },
            Err(error) => Outgoing::error(id, &error),
        };
        // A connection that is gone needs no answer.
        match self.outbox.push_answer(frame) {
            Err((Unqueued::Full, _)) => {
                self.shared.counters.answers_dropped.add_one();
                self.reply_error(id, ErrorCode::NO_ROOM, "too many answers wait to be read");
            }
            Err((Unqueued::NodeFull, _)) => {
                self.shared.counters.answers_dropped_node.add_one();
                self.reply_error(id, ErrorCode::NO_ROOM, "too many answers wait to be read at this node");
            }
            Err((Unqueued::Ended, _)) | Ok(()) => {}
        }
    }

    fn reply_error(&self, id: u64, code: ErrorCode, message: &str) {
        let _ = self.outbox.push(Outgoing::error(id, &RemoteError::new(code, message)));
    }

    fn reply_overloaded(&self, id: u64, message: &str) {
        let retry_after = Some(self.shared.config.retry_after);
        let error = RemoteError { retry_after, ..RemoteError::new(ErrorCode::OVERLOADED, message) };
        let _ = self.outbox.push(Outgoing::error(id, &error));
    }

    /// Takes no more requests, and ends the connection once those that run are answered.
    fn drain(&self) {
        let mut running = self.lock();
        running.draining = true;
        self.outbox.go_away();
        self.finish_if_drained(&running);
    }

    fn finish_if_drained(&self, running: &Running) {
        if running.draining && running.requests.is_empty() {
            self.outbox.finish();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts frames from the dialler.
struct Receiver<'a>(&'a Arc<Connection>);

impl Receive for Receiver<'_> {
    /// Holds back a peer that sends and never reads, and one that starts and cancels faster than handlers end.
    async fn ready(&self) -> bool {
        let connection = self.0;
        let mut waited = connection.outbox.room().await;
        let limit = connection.shared.config.max_in_flight.saturating_mul(ALIVE_PER_RUNNING);
        while connection.alive.load(Ordering::Acquire) > limit {
            waited = true;
            connection.dropped.notified().await;
        }
        waited
    }

    /// For the peer to live, while requests of it run; on a control lane always, for its next heartbeat.
    fn is_waiting(&self) -> bool {
        let mut running = self.0.lock();
        running.is_idle = self.0.peer.lane != Lane::Control && running.requests.is_empty();
        !running.is_idle
    }

    async fn begins(&self) {
        self.0.began.notified().await;
    }

    fn receive(&self, frame: Incoming, held: bool) -> Result<(), FrameError> {
        let kind = frame.header.kind;
        match kind {
            Kind::Request => return self.0.request(frame, held),
            Kind::Cancel => self.0.cancel(frame.header.id),
            Kind::Notice => self.0.notice(frame),
            Kind::Event | Kind::Lost => return self.0.event(frame),
            Kind::Head => return self.0.heartbeat(frame.header.id),
            Kind::Ping | Kind::Pong => {}
            Kind::Response | Kind::Error | Kind::GoAway | Kind::Loading | Kind::Ack => {
                return Err(FrameError::WrongSide { kind });
            }
        }
        Ok(())
    }
}

/// Tells the service of a peer's coming and going, and takes running requests along when the connection ends.
struct Guard(Arc<Connection>);

impl Guard {
    fn open(shared: Arc<Shared>, peer: Peer, known: Arc<Known>) -> Self {
        shared.counters.connected.add_one();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(peer = %peer.addr, link_id = peer.link_id, "connection accepted");
        // Answers that wait for the writer, besides the requests that run.
        let outbox = Outbox::new(shared.config.max_in_flight.saturating_mul(2));
        let outbox = outbox.with_max_bytes(shared.config.max_out_bytes).with_room(Room::new(Arc::clone(&shared.out)));
        // The number of requests has its limit where they are kept.
        let in_flight = InFlight::new(usize::MAX, shared.config.max_in_flight_bytes);
        let (running, alive) = (Mutex::default(), AtomicUsize::new(0));
        let (dropped, began) = (Notify::new(), Notify::new());
        let connection = Connection { shared, peer, known, outbox, in_flight, running, alive, dropped, began };
        let guard = Self(Arc::new(connection));
        let Connection { shared, peer, .. } = &*guard.0;
        shared.guarded(|| shared.service.connected(peer));
        guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let connection = &*self.0;
        connection.outbox.close();
        let requests = std::mem::take(&mut connection.lock().requests);
        requests.into_values().for_each(|task| task.abort());
        let Connection { shared, peer, known, .. } = connection;
        known.leave(peer.lane, peer.link_id);
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        shared.guarded(|| shared.service.disconnected(peer));
    }
}

/// What a handler made of a request.
type Answer = Result<Payload, RemoteError>;

/// A request's handler, counted while it exists, and its payload, counted while that does.
struct Alive {
    connection: Arc<Connection>,
    payload_bytes: Option<usize>,
}

impl Alive {
    fn count(connection: Arc<Connection>, payload_bytes: usize) -> Self {
        connection.alive.fetch_add(1, Ordering::Relaxed);
        Self { connection, payload_bytes: Some(payload_bytes) }
    }

    async fn answer(mut self, id: u64, request: Request) -> Answer {
        let connection = Arc::clone(&self.connection);
        let Connection { shared, peer, outbox, .. } = &*connection;
        if !outbox.has_room_for_bytes() {
            outbox.room().await;
        }
        let answer = caught(shared.service.call(peer, request)).await;
        // Before the answer is sent: the peer may count on it.
        self.give_back();
        answer.unwrap_or_else(|| {
            shared.counters.panics.add_one();
            tracing::error!(peer = %peer.addr, request_id = id, "handler panicked");
            Err(RemoteError::new(ErrorCode::PANICKED, "the handler panicked"))
        })
    }

    fn give_back(&mut self) {
        if let Some(bytes) = self.payload_bytes.take() {
            self.connection.in_flight.give_back(bytes);
            self.connection.shared.in_flight.give_back(bytes);
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.give_back();
        self.connection.alive.fetch_sub(1, Ordering::Release);
        self.connection.dropped.notify_one();
    }
}

/// Runs a future to its end, or to `None` if it panics. A future that has panicked is not polled again.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// No request is worth more: a peer's mistake or malice must not keep handlers for hours.
const MAX_DEADLINE: Duration = Duration::from_secs(60);

/// Cancelled handlers are usually gone at once. While as many of them linger as may run, their peer has to wait.
const ALIVE_PER_RUNNING: usize = 2;

/// Peers that share a reload dial anew within 10 s; whoever has not by then is told to.
const RENEWAL_GRACE: Duration = Duration::from_secs(20);
