//! The dialling side of a peer link: [`Link`].

mod backoff;
mod breaker;
mod call;
mod control;
mod deadlines;
mod follower;
mod session;
mod stats;
mod task;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, timeout},
};

pub use self::{
    breaker::BreakerState,
    call::{Call, Progress},
    control::ControlLink,
    stats::LinkStats,
};
use self::{breaker::Pass, follower::Followed, session::Session, stats::Health};
use crate::{
    config::{ClusterLabel, Hello, TransportConfig},
    entropy::Entropy,
    error::{CallError, ConnectError, NotSentReason, NotifyError},
    io::Dialer,
    lane::{Lane, LinkNumber, Purpose},
    payload::{Method, Payload},
    security::Security,
    tls::PeerCertificate,
};

/// Keeps a connection to one peer and multiplexes calls over it.
///
/// One task dials, hands shakes, and does so again with back-off whenever the connection is gone, for ever. Calls never wait
/// for it: while the link is not up they fail at once, so that the caller can go elsewhere. Clones share the link; when the
/// last one is dropped, or after [`close`](Self::close), its task ends.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use bytes::Bytes;
/// use distcache_transport::{
///     ClusterLabel, Hello, Link, MemoryNetwork, Method, Payload, Peer, RemoteError, Request, Server, Service,
///     TransportConfig,
/// };
///
/// struct Echo;
///
/// #[async_trait::async_trait]
/// impl Service for Echo {
///     async fn call(&self, _: &Peer, request: Request) -> Result<Payload, RemoteError> {
///         Ok(request.payload.into())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = MemoryNetwork::new();
/// let (alice, bob) = ("10.0.0.1:3320".parse()?, "10.0.0.2:3320".parse()?);
/// let config = TransportConfig::default();
/// let hello = |name| Hello { label: ClusterLabel::try_from("prod").expect("short"), identity: Bytes::from_static(name) };
///
/// let listener = Box::new(network.listen(bob)?);
/// let server = Server::start(listener, Arc::new(Echo), None, hello(b"bob"), config.clone());
///
/// let link = Link::open(bob, Arc::new(network.dialer(alice)), None, hello(b"alice"), config);
/// let peer = link.connected(Duration::from_secs(5)).await?;
/// assert_eq!(peer.identity, "bob");
///
/// let answer = link.call(Method(7), Bytes::from_static(b"hello").into(), Duration::from_secs(1)).await?;
/// assert_eq!(answer, "hello");
///
/// link.close(Duration::from_secs(1)).await;
/// server.shutdown(Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Link {
    handle: Arc<Handle>,
}

/// What the handles own; its drop ends the task.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What handles and task share.
#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    purpose: Purpose,
    config: TransportConfig,
    state: watch::Sender<LinkState>,
    health: Arc<Health>,
    /// The connection, while the link is up.
    session: Mutex<Option<Arc<Session>>>,
    /// Until when calls in flight may finish, once the link is to close.
    closing: watch::Sender<Option<Instant>>,
    redial: Notify,
}

/// Says how a link is doing.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// The first attempt is under way.
    Connecting,
    /// Both sides know each other; calls go through.
    Up(Arc<PeerHello>),
    /// The last attempt failed, or the connection was lost. The link goes on trying.
    Down(Arc<ConnectError>),
    /// The link was closed on this side, for good.
    Closed,
}

/// Says who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    /// The peer's cluster, which is ours.
    pub label: ClusterLabel,
    /// What the peer's upper layer wants us to know.
    pub identity: Bytes,
    /// The wire version in use.
    pub version: u16,
    /// The names in the peer's verified certificate; `None` without TLS.
    pub certificate: Option<PeerCertificate>,
}

impl Link {
    /// Starts a link; it dials in the background.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn open(
        addr: SocketAddr,
        dialer: Arc<dyn Dialer>,
        security: impl Into<Security>,
        hello: Hello,
        config: TransportConfig,
    ) -> Self {
        Self::start(addr, dialer, security.into(), hello, config, Lane::Data, None)
    }

    fn start(
        addr: SocketAddr,
        dialer: Arc<dyn Dialer>,
        security: Security,
        hello: Hello,
        config: TransportConfig,
        lane: Lane,
        followed: Option<Arc<Followed>>,
    ) -> Self {
        let health = Arc::new(Health::new(&config));
        let shared = Arc::new(Shared {
            addr,
            health,
            purpose: Purpose { lane, link: LinkNumber::random(&config.entropy) },
            config,
            state: watch::Sender::new(LinkState::Connecting),
            session: Mutex::default(),
            closing: watch::Sender::new(None),
            redial: Notify::new(),
        });
        let task = task::LinkTask::new(Arc::clone(&shared), dialer, security, hello, followed);
        let task = tokio::spawn(task.run()).abort_handle();
        Self { handle: Arc::new(Handle { shared, task }) }
    }

    /// Returns the address that is dialled.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.shared().addr
    }

    /// Returns the state of this moment.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.shared().state.borrow().clone()
    }

    /// Returns a receiver that sees every change of state, or the last of several. It outlives the link and then stays at
    /// [`LinkState::Closed`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.shared().state.subscribe()
    }

    /// Waits until the link is up.
    ///
    /// # Errors
    /// A [definite](ConnectError::is_definite) error at once, as waiting would not mend it. After `wait`, the error of the
    /// last attempt, or [`ConnectError::TimedOut`] if none has ended. The link goes on trying in either case.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connected(&self, wait: Duration) -> Result<Arc<PeerHello>, ConnectError> {
        let mut states = self.watch();
        let mut last = ConnectError::TimedOut;
        let up = async {
            loop {
                match &*states.borrow_and_update() {
                    LinkState::Up(peer) => return Ok(Arc::clone(peer)),
                    LinkState::Down(error) if error.is_definite() => return Err((**error).clone()),
                    LinkState::Down(error) => last = (**error).clone(),
                    LinkState::Closed => return Err(ConnectError::Closed),
                    LinkState::Connecting => {}
                }
                if states.changed().await.is_err() {
                    return Err(ConnectError::Closed);
                }
            }
        };
        match timeout(wait, up).await {
            Ok(result) => result,
            Err(_) => Err(last),
        }
    }

    /// Sends a request and waits for the answer, if the [breaker](Self::breaker) lets it, at most `budget` long. The peer learns the budget and gives up when it is
    /// spent; it grants no more than 60 s.
    ///
    /// # Errors
    /// [`CallError`]; its [`was_sent`](CallError::was_sent) tells whether the peer may have acted.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future frees the place in flight and tells the peer to stop. The peer may have acted.
    pub async fn call(&self, method: Method, payload: Payload, budget: Duration) -> Result<Bytes, CallError> {
        self.begin(method, payload, budget)?.answer().await
    }

    /// Sends a request, as [`call`](Self::call) does, and leaves the waiting to its caller, who can learn more than the answer
    /// from it. The budget runs from here.
    ///
    /// # Errors
    /// [`CallError::NotSent`], or [`CallError::TimedOut`] if there is no budget; the peer's state is untouched.
    pub fn begin(&self, method: Method, payload: Payload, budget: Duration) -> Result<Call, CallError> {
        let session = self.shared().session_for(&payload, budget)?;
        let Health { gate, counters } = &*self.shared().health;
        let pass = gate.admit().map_err(|reason| {
            counters.refused_by_breaker.add_one();
            CallError::NotSent(reason)
        })?;
        let mut begun = session.begin(method, payload.clone(), budget, pass);
        if matches!(begun, Err(NotSentReason::GoingAway)) {
            // The connection may have been replaced between the two steps.
            begun = self.shared().session().and_then(|session| session.begin(method, payload, budget, pass));
        }
        begun.map_err(|reason| {
            gate.abandoned(pass);
            CallError::NotSent(reason)
        })
    }

    /// Sends a request as [`begin`](Self::begin) does, whatever the breaker says: for what must reach the peer if anything can,
    /// and for a caller who knows that the breakers of too many peers are open. What becomes of it counts: an answer closes the
    /// breaker.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), but for [`NotSentReason::BreakerOpen`] and [`NotSentReason::HeldOff`].
    pub fn begin_anyway(&self, method: Method, payload: Payload, budget: Duration) -> Result<Call, CallError> {
        let session = self.shared().session_for(&payload, budget)?;
        session.begin(method, payload, budget, Pass::Plain).map_err(CallError::NotSent)
    }

    /// Sends a request as [`begin_anyway`](Self::begin_anyway) does and waits for the answer.
    ///
    /// # Errors
    /// As [`call`](Self::call), but for [`NotSentReason::BreakerOpen`] and [`NotSentReason::HeldOff`].
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    pub async fn call_anyway(&self, method: Method, payload: Payload, budget: Duration) -> Result<Bytes, CallError> {
        self.begin_anyway(method, payload, budget)?.answer().await
    }

    /// Returns whether calls are let through to the peer. It says nothing of membership, and changes none.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.shared().health.gate.state()
    }

    /// Returns what the link has counted.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let Health { gate, counters } = &*self.shared().health;
        counters.snapshot(gate.opened())
    }

    /// Sends a message that has no answer. It arrives at most once, in order with other messages of the same link, or not at all.
    ///
    /// # Errors
    /// [`NotifyError`] if it was dropped here.
    pub fn notify(&self, method: Method, payload: Bytes) -> Result<(), NotifyError> {
        let (bytes, limit) = (payload.len(), self.shared().config.max_payload_bytes);
        if bytes > limit {
            return Err(NotifyError::TooLarge { bytes, limit });
        }
        match self.shared().session() {
            Ok(session) => session.notify(method, payload),
            Err(NotSentReason::Closed) => Err(NotifyError::Closed),
            Err(_) => Err(NotifyError::LinkDown),
        }
    }

    /// Dials now if the link is waiting to: there is reason to believe that the peer is there.
    pub fn redial_now(&self) {
        self.shared().redial.notify_waiters();
    }

    /// Closes the link: takes no more calls, lets those in flight finish for at most `drain`, writes what is queued, and ends.
    ///
    /// May be called again, by any clone; every call returns when the link is closed, and the first one's `drain` holds.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the closing.
    pub async fn close(&self, drain: Duration) {
        let shared = self.shared();
        let now = Instant::now();
        let until = now.checked_add(drain).unwrap_or(now + FAR_FUTURE);
        shared.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(until);
            first
        });
        let mut states = self.watch();
        // The sender lives in this handle, so waiting ends with the state and nothing else.
        let _ = states.wait_for(|state| matches!(state, LinkState::Closed)).await;
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl Shared {
    fn session(&self) -> Result<Arc<Session>, NotSentReason> {
        if self.closing.borrow().is_some() {
            return Err(NotSentReason::Closed);
        }
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.clone().ok_or(NotSentReason::LinkDown)
    }

    /// Returns the connection a request may go out on.
    fn session_for(&self, payload: &Payload, budget: Duration) -> Result<Arc<Session>, CallError> {
        let (bytes, limit) = (payload.len(), self.config.max_payload_bytes);
        if bytes > limit {
            return Err(CallError::NotSent(NotSentReason::TooLarge { bytes, limit }));
        }
        if budget.is_zero() {
            return Err(CallError::TimedOut);
        }
        self.session().map_err(CallError::NotSent)
    }

    /// Makes a state known; after the end there is no other.
    fn publish(&self, state: LinkState) {
        // What was never up goes down with its first dial that fails.
        if matches!(state, LinkState::Down(_)) {
            self.health.gate.link_down();
        }
        self.state.send_if_modified(|current| {
            let open = !matches!(current, LinkState::Closed);
            if open {
                *current = state;
            }
            open
        });
    }

    fn set_session(&self, session: &Arc<Session>) {
        // First: whoever sees the connection may use it.
        self.health.gate.link_up();
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(session));
    }

    /// Forgets a session, unless another has taken its place.
    fn unset_session(&self, session: &Arc<Session>) {
        let mut current = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if current.take_if(|current| Arc::ptr_eq(current, session)).is_some() {
            self.health.gate.link_down();
        }
    }
}

impl LinkNumber {
    fn random(entropy: &Entropy) -> Self {
        let mut bytes = [0; 8];
        // Without randomness it is 0: a link whose connections have nothing to do with one another.
        let _ = entropy.fill(&mut bytes);
        Self(u64::from_le_bytes(bytes))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.publish(LinkState::Closed);
    }
}

/// Stands for "as long as it takes" where the clock cannot hold a duration.
const FAR_FUTURE: Duration = Duration::from_secs(365 * 24 * 3600);
