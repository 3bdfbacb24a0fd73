//! The contract between a node and whatever knows where its peers are.

use std::fmt::Debug;
use std::net::SocketAddr;

use async_trait::async_trait;

use crate::{ChangeStream, DiscoveryError, Fault, Seed};

/// Finds the addresses where peers may be, and publishes this node's own.
///
/// A node calls [`validate`](Self::validate), then [`start`](Self::start) once and [`register`](Self::register) once it
/// listens, then [`discover`](Self::discover) again and again for as long as it lives. When it leaves, it calls
/// [`deregister`](Self::deregister) first, so that nobody new comes, and [`stop`](Self::stop) at the end. A stopped provider may
/// be started again. Calls may overlap, and any of them may be dropped half-way.
///
/// [`conformance::run`](crate::conformance::run) checks an implementation against all of this.
///
/// # Examples
///
/// A provider of your own, which reads one address a line from a file that something else keeps current:
///
/// ```
/// use std::path::PathBuf;
/// use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
///
/// use async_trait::async_trait;
/// use distcache_discovery::{DiscoveryError, Provider, Registration, Seed};
///
/// #[derive(Debug)]
/// struct FileProvider {
///     path: PathBuf,
///     started: AtomicBool,
/// }
///
/// #[async_trait]
/// impl Provider for FileProvider {
///     fn id(&self) -> &'static str {
///         "file"
///     }
///
///     async fn start(&self) -> Result<(), DiscoveryError> {
///         match self.started.swap(true, SeqCst) {
///             true => Err(DiscoveryError::AlreadyStarted { provider: self.id() }),
///             false => Ok(()),
///         }
///     }
///
///     async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
///         if !self.started.load(SeqCst) {
///             return Err(DiscoveryError::NotStarted { provider: self.id() });
///         }
///         let text = tokio::fs::read_to_string(&self.path).await;
///         let text = text.map_err(|error| DiscoveryError::unavailable(self.id(), error))?;
///         let addrs = text.lines().filter_map(|line| line.trim().parse().ok());
///         let mut seeds: Vec<_> = addrs.map(|addr| Seed::new(addr, self.id())).collect();
///         seeds.sort();
///         seeds.dedup();
///         Ok(seeds)
///     }
///
///     async fn stop(&self) -> Result<(), DiscoveryError> {
///         self.started.store(false, SeqCst);
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("distcache-seeds-{}", std::process::id()));
/// # std::fs::write(&path, "10.0.0.2:3320\n10.0.0.1:3320\n10.0.0.2:3320\n")?;
/// let provider = FileProvider { path: path.clone(), started: AtomicBool::new(false) };
/// let this_node = Registration::new("cache-0", "10.0.0.1:3320".parse()?);
/// distcache_discovery::conformance::run(&provider, &this_node).await?;
/// # provider.start().await?;
/// # assert_eq!(provider.discover().await?.len(), 2);
/// # std::fs::remove_file(path)?;
/// # assert!(provider.discover().await.unwrap_err().is_retryable());
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Provider: Debug + Send + Sync + 'static {
    /// Returns the provider's name in logs, errors and seeds: a short word of lower-case ASCII letters, digits and hyphens,
    /// always the same.
    fn id(&self) -> &'static str;

    /// Returns every mistake in the configuration at once, without any I/O. Defaults to none.
    fn validate(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// Makes ready to answer, and publishes nothing yet.
    ///
    /// # Errors
    ///
    /// [`AlreadyStarted`](DiscoveryError::AlreadyStarted) while it runs, [`Invalid`](DiscoveryError::Invalid) if
    /// [`validate`](Self::validate) finds a fault, or the failure of whatever the provider asks. After an error, the provider
    /// is as it was.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have started the provider; [`stop`](Self::stop) then makes sure.
    async fn start(&self) -> Result<(), DiscoveryError>;

    /// Publishes this node where its peers will look, until [`deregister`](Self::deregister) or [`stop`](Self::stop). A second
    /// registration takes the place of the first.
    ///
    /// The default does nothing: for providers whose lists others keep, as DNS and Kubernetes are.
    ///
    /// # Errors
    ///
    /// [`NotStarted`](DiscoveryError::NotStarted) if the provider publishes at all and is not running, or the failure of
    /// whatever it asks. The node may or may not be published then; the call may be repeated.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have published the node; another call makes sure, and so does
    /// [`deregister`](Self::deregister).
    async fn register(&self, _registration: &Registration) -> Result<(), DiscoveryError> {
        Ok(())
    }

    /// Returns the addresses where peers may be now, each of them once, every seed marked with this provider's
    /// [`id`](Self::id).
    ///
    /// An empty answer is an answer: there are no peers yet. The node's own address may be among the seeds. The call ends in
    /// its own time, within seconds, even if what it asks hangs.
    ///
    /// # Errors
    ///
    /// [`NotStarted`](DiscoveryError::NotStarted) before [`start`](Self::start) and after [`stop`](Self::stop), or the
    /// failure of whatever the provider asks. After an error, the provider goes on as before and the caller
    /// keeps what it knew.
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses its answer and nothing else.
    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError>;

    /// Returns a stream of changes if the provider can tell of them as they happen, else `None`, the default.
    ///
    /// Each call gives a stream of its own, valid from [`start`](Self::start) to [`stop`](Self::stop). Whoever reads it calls
    /// [`discover`](Self::discover) none the less.
    fn changes(&self) -> Option<ChangeStream> {
        None
    }

    /// Withdraws this node from where its peers look, and goes on answering. Does nothing, successfully, if the node is not
    /// published. The default does nothing.
    ///
    /// # Errors
    ///
    /// The failure of whatever the provider asks; the call may be repeated. A peer that still finds the node's address
    /// does no harm: it dials in vain.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have withdrawn the node; another call makes sure.
    async fn deregister(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }

    /// Withdraws this node if it is still published, and ends all that [`start`](Self::start) began. Does nothing,
    /// successfully, if the provider is not running.
    ///
    /// # Errors
    ///
    /// The failure of whatever the provider asks; the provider is stopped none the less.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have stopped the provider; another call makes sure.
    async fn stop(&self) -> Result<(), DiscoveryError>;

    /// Returns whether this node never looks for peers, so that finding none is not worth a warning. Defaults to `false`.
    fn is_standalone(&self) -> bool {
        false
    }
}

/// Says what a node publishes of itself.
///
/// # Examples
///
/// ```
/// use distcache_discovery::Registration;
///
/// let this_node = Registration::new("cache-0", "10.0.0.1:3320".parse()?);
/// assert_eq!(this_node.name, "cache-0");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Registration {
    /// The node's stable name, unique in its cluster.
    pub name: String,
    /// The address at which peers reach the node: the advertised one, which need not be the one it is bound to.
    pub addr: SocketAddr,
}

impl Registration {
    /// Creates the registration of the node called `name`, which peers reach at `addr`.
    pub fn new(name: impl Into<String>, addr: SocketAddr) -> Self {
        Self { name: name.into(), addr }
    }
}
