//! The provider of nodes that meet at a NATS server.

mod config;
mod connect;
mod driver;
mod key_value;
mod message;
mod options;
mod presence;
mod roster;
mod session;
mod tls;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use self::config::Settings;
use self::driver::{Life, drive};
use self::message::{Here, check_name};
use crate::address::check_dialable;
use crate::{ChangeStream, DiscoveryError, Fault, Provider, Registration, Seed};

/// Finds peers that publish themselves at a NATS server: on a subject, or in a key-value bucket of JetStream.
///
/// The subject is the cluster: nodes with the same one find each other. It is the same for all nodes, and another one for
/// another cluster on the same server.
///
/// On a subject, which is the default and needs no JetStream, every node that is registered says every 2 seconds that it is
/// there, and answers when it is asked. [`discover`](Provider::discover) asks, collects the answers of half a
/// second, and adds who was heard before. In a bucket ([`key_value`](Self::key_value)), every node keeps one entry alive, and
/// the server tells the others of it: that is less traffic for a cluster of hundreds. Either way a node that leaves is
/// forgotten at once, and one that crashes after three and a half heartbeats; [`changes`](Provider::changes) tells of
/// both. At most 1,024 nodes are found: those that were heard first.
///
/// What is heard is a hint from whoever may publish there, and is checked as such: a message that is malformed or too
/// long, or has an address that cannot be dialled, is dropped and [counted](Self::malformed), and a flood costs bounded memory. Give
/// the nodes credentials of their own, with the rights to publish and subscribe to `SUBJECT` and
/// `SUBJECT.reply.*` and to nothing else; for a bucket, to `$KV.BUCKET.>`, `$JS.API.>` and `_INBOX.>`.
///
/// # Errors
///
/// [`start`](Provider::start) fails with [`Unavailable`](DiscoveryError::Unavailable) if no server can be reached in 5
/// attempts, and with [`Refused`](DiscoveryError::Refused) as soon as one refuses the credentials or forbids the subject.
/// From then on the provider reconnects for ever, publishes the node again when it is back, and fails each call with
/// [`Unavailable`](DiscoveryError::Unavailable) or [`Refused`](DiscoveryError::Refused) meanwhile. Each call ends within
/// 2 seconds, to which [`discover`](Provider::discover) adds the time for answers; a start may take as long as all its
/// attempts. [`register`](Provider::register) fails with
/// [`Invalid`](DiscoveryError::Invalid) for a name or an address that peers would drop. A node whose
/// registration failed otherwise is published as soon as a server is back.
///
/// # Examples
///
/// ```no_run
/// use distcache_discovery::{NatsProvider, Provider, Registration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = NatsProvider::new("nats://nats-0.example:4222", "distcache.presence")
///     .server("nats://nats-1.example:4222")
///     .user_password("cache", std::env::var("NATS_PASSWORD")?)
///     .root_certificates("/etc/nats/ca.pem");
/// assert!(provider.validate().is_empty());
///
/// provider.start().await?;
/// provider.register(&Registration::new("cache-0", "10.0.0.1:3320".parse()?)).await?;
/// for seed in provider.discover().await? {
///     println!("{}", seed.addr);
/// }
/// provider.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct NatsProvider {
    settings: Settings,
    state: Mutex<State>,
    malformed: Arc<AtomicU64>,
}

/// Where the provider is in its life.
enum State {
    Stopped,
    /// Marked so that a start that was overtaken by a stop notices.
    Starting(u64),
    Running(Arc<Running>),
}

/// A life, and the task that leads it. The task ends with this.
struct Running {
    life: Arc<Life>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NatsProvider {
    /// Creates a provider that meets its peers at the server `url`, `nats://host:port` or, with TLS, `tls://host:port`, on
    /// `subject`.
    ///
    /// The port defaults to 4222. Mistakes are kept for [`validate`](Provider::validate).
    pub fn new(url: impl AsRef<str>, subject: impl Into<String>) -> Self {
        let mut settings = Settings::new(subject.into());
        settings.add_server(url.as_ref());
        Self { settings, state: Mutex::new(State::Stopped), malformed: Arc::default() }
    }

    /// Returns how many messages or entries were dropped since the provider was created, since no node sends such.
    ///
    /// The first one is logged. If it grows, something else uses the subject.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Option<Arc<Running>> {
        match &*self.state() {
            State::Running(running) => Some(Arc::clone(running)),
            State::Stopped | State::Starting(_) => None,
        }
    }

    fn started(&self) -> Result<Arc<Running>, DiscoveryError> {
        let running = self.running().ok_or(DiscoveryError::NotStarted { provider: ID })?;
        // As it does with the runtime in which the provider was started.
        if running.task.is_finished() {
            return Err(DiscoveryError::unavailable(ID, "the task of the provider ended: stop it, and start it again"));
        }
        Ok(running)
    }
}

#[async_trait]
impl Provider for NatsProvider {
    fn id(&self) -> &'static str {
        ID
    }

    fn validate(&self) -> Vec<Fault> {
        self.settings.faults()
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        let starting = Starting::of(self)?;
        let faults = self.validate();
        if !faults.is_empty() {
            return Err(DiscoveryError::Invalid { provider: ID, faults });
        }
        let (life, session) = Life::begin(&self.settings, Arc::clone(&self.malformed)).await?;
        let life = Arc::new(life);
        let task = tokio::spawn(drive(Arc::clone(&life), session));
        starting.done(Running { life, task })
    }

    async fn register(&self, registration: &Registration) -> Result<(), DiscoveryError> {
        let running = self.started()?;
        let (name, addr) = (registration.name.clone(), registration.addr);
        let mut faults = Vec::new();
        if let Err(fault) = check_name(&name) {
            faults.push(Fault::new("name", format!("{name:?} {fault}")));
        }
        if let Err(fault) = check_dialable(addr) {
            faults.push(Fault::new("addr", format!("{addr} {fault}")));
        }
        if !faults.is_empty() {
            return Err(DiscoveryError::Invalid { provider: ID, faults });
        }
        running.life.register(Here { name, addr, every: running.life.heartbeat() }).await
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        self.started()?.life.discover().await
    }

    fn changes(&self) -> Option<ChangeStream> {
        let changes = self.running()?.life.changes();
        let next = |mut changes: tokio::sync::broadcast::Receiver<_>| async move {
            loop {
                match changes.recv().await {
                    Ok(change) => return Some((change, changes)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        Some(stream::unfold(changes, next).boxed())
    }

    async fn deregister(&self) -> Result<(), DiscoveryError> {
        match self.running() {
            Some(running) => running.life.deregister().await,
            None => Ok(()),
        }
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        let State::Running(running) = std::mem::replace(&mut *self.state(), State::Stopped) else { return Ok(()) };
        let left = running.life.deregister().await;
        running.task.abort();
        left
    }
}

impl fmt::Debug for NatsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsProvider").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A start under way. If it is dropped half-way, the provider is stopped again.
struct Starting<'a> {
    provider: &'a NatsProvider,
    mark: u64,
}

impl<'a> Starting<'a> {
    fn of(provider: &'a NatsProvider) -> Result<Self, DiscoveryError> {
        let mark = STARTS.fetch_add(1, Ordering::Relaxed);
        let mut state = provider.state();
        match *state {
            State::Stopped => *state = State::Starting(mark),
            State::Starting(_) | State::Running(_) => return Err(DiscoveryError::AlreadyStarted { provider: ID }),
        }
        Ok(Self { provider, mark })
    }

    fn done(self, running: Running) -> Result<(), DiscoveryError> {
        let mut state = self.provider.state();
        match *state {
            State::Starting(mark) if mark == self.mark => *state = State::Running(Arc::new(running)),
            _ => return Err(DiscoveryError::unavailable(ID, "the provider was stopped while it started")),
        }
        Ok(())
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let mut state = self.provider.state();
        if matches!(*state, State::Starting(mark) if mark == self.mark) {
            *state = State::Stopped;
        }
    }
}

/// Tells starts apart.
static STARTS: AtomicU64 = AtomicU64::new(0);

const ID: &str = "nats";
