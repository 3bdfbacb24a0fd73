//! The listening side of a peer link: [`Server`], and the [`Service`] it serves.

mod accept;
mod connection;
mod in_flight;
mod links;
mod pending;
mod stats;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::stats::ServerStats;
use self::{in_flight::InFlight, links::Links, pending::PendingByIp, stats::Counters};
use crate::{
    config::{Hello, TransportConfig},
    error::{Refusal, RemoteError},
    io::Listener,
    lane::Lane,
    log::Event,
    payload::{Method, Payload},
    room::NodeRoom,
    security::Security,
    tls::PeerCertificate,
};

/// Answers peers. What a handler does when it panics is its own affair; the connection and the server live on.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Decides whether a peer may connect, after the transport has found it to be of the same cluster.
    ///
    /// # Errors
    /// The refusal that the peer is told.
    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        let _ = peer;
        Ok(())
    }

    /// Answers a request. What is ready when it is polled first is answered at once, on the connection's task, which must not be
    /// blocked; whatever waits goes on in a task of its own.
    ///
    /// # Errors
    /// What the caller is told; use codes from [`ErrorCode::application`](crate::ErrorCode::application).
    ///
    /// # Cancel safety
    /// The future is dropped when the deadline passes, the caller cancels or the connection ends.
    async fn call(&self, peer: &Peer, request: Request) -> Result<Payload, RemoteError>;

    /// Takes a one-way message. Runs on the connection's task: it must not block.
    fn notice(&self, peer: &Peer, method: Method, payload: Bytes) {
        let _ = (peer, method, payload);
    }

    /// Takes an event of the peer's log. Every event of a log comes once and in order, over all connections of the peer's
    /// [`ControlLink`](crate::ControlLink), except after [`lost`](Self::lost). Once it returns, the peer is told that the event is taken
    /// in. Runs on the connection's task: it must not block.
    fn event(&self, peer: &Peer, event: Event) {
        let _ = (peer, event);
    }

    /// Learns that events of the peer's log are lost, because the peer was out of reach for longer than its log remembers, or this
    /// side has forgotten how far it had come, or is new: whatever they can have said has to be assumed. All of them were appended longer
    /// ago than `age`, so a process that is younger than that has missed nothing. Called also in place of an event whose handler
    /// panicked, with no age. Runs on the connection's task: it must not block.
    fn lost(&self, peer: &Peer, age: Duration) {
        let _ = (peer, age);
    }

    /// Learns that the peer was alive a moment ago, and whether every event it had appended by then is taken in. Called at each
    /// heartbeat of a control lane.
    fn heartbeat(&self, peer: &Peer, is_current: bool) {
        let _ = (peer, is_current);
    }

    /// Learns that a peer has connected, on one of its lanes.
    fn connected(&self, peer: &Peer) {
        let _ = peer;
    }

    /// Learns that the connection of a peer has ended; called once for each [`connected`](Self::connected).
    fn disconnected(&self, peer: &Peer) {
        let _ = peer;
    }
}

/// Is what a peer asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// With what.
    pub payload: Bytes,
    /// When the caller stops waiting, by this node's clock; at most 60 s from its arrival.
    pub deadline: Instant,
}

/// Names the peer at the other end of an accepted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from; the port is usually not the one the peer listens at.
    pub addr: SocketAddr,
    /// What the peer's upper layer says of itself.
    pub identity: Bytes,
    /// The names in the peer's verified certificate; `None` without TLS, and of clients that need none.
    pub certificate: Option<PeerCertificate>,
    /// What the connection is for.
    pub lane: Lane,
    /// Tells connections of this server apart.
    pub link_id: u64,
}

/// Accepts connections from peers and serves their requests.
///
/// See [`Link`](crate::Link) for an example of both ends. Dropping the server closes all connections at once;
/// [`shutdown`](Self::shutdown) lets requests finish.
pub struct Server {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
}

/// What the server's tasks share.
struct Shared {
    service: Arc<dyn Service>,
    security: Security,
    hello: Hello,
    config: TransportConfig,
    counters: Counters,
    /// Places for streams in the handshake.
    pending: Arc<Semaphore>,
    pending_by_ip: Arc<PendingByIp>,
    in_flight: InFlight,
    links: Links,
    /// Room for answers that wait to be written.
    out: Arc<NodeRoom>,
    /// Places for connections.
    places: Arc<Semaphore>,
    connections: AtomicUsize,
    last_link_id: AtomicU64,
    /// No new connections, no new requests.
    stopping: CancellationToken,
    /// Drop everything.
    aborting: CancellationToken,
    tasks: TaskTracker,
    last_warning: Mutex<Option<Instant>>,
}

impl Server {
    /// Starts to accept on a listener.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        listener: Box<dyn Listener>,
        service: Arc<dyn Service>,
        security: impl Into<Security>,
        hello: Hello,
        config: TransportConfig,
    ) -> Self {
        let local_addr = listener.local_addr().unwrap_or_else(|error| {
            tracing::warn!(%error, "the listener does not know its address");
            (Ipv4Addr::UNSPECIFIED, 0).into()
        });
        let places = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        let shared = Arc::new(Shared {
            service,
            security: security.into(),
            hello,
            counters: Counters::default(),
            pending: places(config.max_pending_handshakes),
            pending_by_ip: PendingByIp::new(config.max_pending_handshakes_per_ip),
            in_flight: InFlight::new(config.max_node_in_flight, config.max_node_in_flight_bytes),
            links: Links::new(),
            out: NodeRoom::new(config.max_node_out_bytes),
            places: places(config.max_connections),
            config,
            connections: AtomicUsize::new(0),
            last_link_id: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
            tasks: TaskTracker::new(),
            last_warning: Mutex::default(),
        });
        shared.tasks.spawn(accept::accept_loop(Arc::clone(&shared), listener));
        Self { shared, local_addr }
    }

    /// Returns the address that peers dial, or an unspecified one if the listener did not know it.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the number of connections whose handshake is done.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Returns what the server has counted.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.shared.counters.snapshot()
    }

    /// Stops in order: accepts no more connections, tells peers to go elsewhere, lets requests finish for at most `drain`,
    /// closes what is left, and waits until every task has ended. A handler that blocks its thread is waited for 5 s.
    ///
    /// May be called again; every call returns when the server has stopped, and the shortest `drain` holds.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the server draining; dropping the server ends that.
    pub async fn shutdown(&self, drain: Duration) {
        let Shared { stopping, aborting, tasks, .. } = &*self.shared;
        stopping.cancel();
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_ok() {
            return;
        }
        aborting.cancel();
        if timeout(ABORT_GRACE, tasks.wait()).await.is_err() {
            tracing::error!(tasks = tasks.len(), "handlers block their threads; not waiting for them");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.aborting.cancel();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local_addr", &self.local_addr)
            .field("connections", &self.connections())
            .field("stopping", &self.shared.stopping.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// A dropped future is gone as soon as its task is polled once more; only code that never yields takes longer.
const ABORT_GRACE: Duration = Duration::from_secs(5);
