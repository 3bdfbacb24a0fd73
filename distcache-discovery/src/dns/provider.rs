//! The provider itself: its settings, and its life.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::watch;

use super::ID;
use super::config::Config;
use super::resolve::Resolver;
use super::run::Run;
use super::search::Search;
use super::servers::Servers;
use super::watch::changes;
use crate::{ChangeStream, DiscoveryError, Fault, IpFamily, Provider, Seed};

/// Finds peers under a DNS name, which others keep: a headless service of Kubernetes, Consul, dnsmasq, or a zone file.
///
/// [`addresses`](Self::addresses) reads the A and AAAA records of a name (RFC 1035, RFC 3596), at which all nodes listen on one
/// port. [`services`](Self::services) reads its SRV records (RFC 2782), each with a port of its own. The node's own records may
/// be among them. What is answered:
///
/// * The records as of now: an answer is kept for its TTL and never longer, at least 1 s and at most 30 s, however
///   long the TTL is, so that nobody who joins stays hidden.
/// * None for a name that does not exist or has no such records: a cluster that is being created is empty at first. That is kept
///   for 2 s at most, whatever the zone says (RFC 2308).
/// * An error if the servers fail, refuse, or say nothing in time. The caller keeps what it knew, and the next call asks again.
///   Should only a part of the questions fail, the rest is answered, and nobody is told that the missing part is gone.
///
/// The servers are those of the system (`/etc/resolv.conf` on Unix, read again at each start, with its search domains; the hosts
/// file is not read) unless [`servers`](Self::servers) names others. They are asked one after the other until one answers,
/// beginning with the one that answered last; over UDP, and over TCP when the answer is too long.
///
/// At most 1,024 seeds are kept (an answer that does not fit in one message, 64 KiB, is an error), and 256 service records looked up, 32 at a time. Their addresses come from the same answer if
/// it holds any. Addresses that nobody can dial, such as 0.0.0.0, are left out. A node's own server may still lie: what a seed leads
/// to is proven by the peer's certificate, not by its address.
///
/// [`register`](Provider::register) does nothing: whoever keeps the zone lists the node.
///
/// # Cancel safety
///
/// All calls can be dropped; [`discover`](Provider::discover) loses its answer only. A [change stream](Provider::changes) asks
/// while it is polled, and needs no task.
///
/// # Examples
///
/// ```no_run
/// use distcache_discovery::{DnsProvider, Provider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A headless service of Kubernetes: one record for each pod, all on one port.
/// let by_address = DnsProvider::addresses("cache.default.svc.cluster.local", 3320);
///
/// // Service records, from a name server of one's own.
/// let by_service = DnsProvider::services("_distcache._tcp.example.com").servers(["10.0.0.53:53".parse()?]);
/// assert!(by_service.validate().is_empty());
///
/// by_service.start().await?;
/// for seed in by_service.discover().await? {
///     println!("{seed}");
/// }
/// by_service.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DnsProvider {
    config: Config,
    running: Mutex<Option<Running>>,
    system: ReadSystem,
}

/// Reads the system's configuration, from files.
type ReadSystem = fn() -> Result<(ResolverConfig, ResolverOpts), NetError>;

#[derive(Debug)]
struct Running {
    run: Arc<Run>,
    /// Dropped at the end, which ends the streams.
    open: watch::Sender<()>,
}

impl DnsProvider {
    /// Creates a provider of the addresses of `name`, at each of which a peer listens on `port`.
    ///
    /// The name is looked for in the system's search domains unless it ends in a dot or [`servers`](Self::servers) are given.
    /// Mistakes are kept for [`validate`](Provider::validate).
    pub fn addresses(name: impl Into<String>, port: u16) -> Self {
        Self::new(Config::new(name.into(), Some(port)))
    }

    /// Creates a provider of the services of `name`, such as `_distcache._tcp.cache.default.svc.cluster.local`.
    ///
    /// The labels that begin with an underscore are part of the name and not added to it; some servers, Consul's among them,
    /// have service records without. See [`addresses`](Self::addresses) for relative names.
    pub fn services(name: impl Into<String>) -> Self {
        Self::new(Config::new(name.into(), None))
    }

    /// Sets the name servers to ask instead of the system's, each with its port, at most 8. Every name is absolute then.
    ///
    /// Defaults to the system's configuration. A wrong address shows as an error of
    /// [`discover`](Provider::discover) that there is no answer.
    #[must_use]
    pub fn servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.config.servers = Some(servers.into_iter().collect());
        self
    }

    /// Sets the only family of addresses to ask for. Defaults to both.
    ///
    /// Peers that have only the other one are not found.
    #[must_use]
    pub fn family(mut self, family: IpFamily) -> Self {
        self.config.family = Some(family);
        self
    }

    /// Sets how long one [`discover`](Provider::discover) may take, all servers and all names together: 100 ms to 10 s.
    /// Defaults to 5 s.
    ///
    /// Too short, and a server that answers from afar is taken for dead; the servers share the time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = timeout;
        self
    }

    fn new(config: Config) -> Self {
        Self { config, running: Mutex::new(None), system: read_system_conf }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn resolver(&self) -> Result<Resolver, DiscoveryError> {
        let Config { name, port, servers, family, timeout } = &self.config;
        let unavailable = |error| DiscoveryError::unavailable(ID, error);
        // A name without faults is one for hickory too.
        let mut name = Name::from_ascii(name).map_err(|error| DiscoveryError::unavailable(ID, error))?;
        let (servers, search) = match servers {
            Some(servers) => {
                name.set_fqdn(true);
                (Servers::given(servers, *timeout).map_err(unavailable)?, Search::default())
            }
            None => {
                let system = tokio::task::spawn_blocking(self.system).await;
                let system = system.map_err(|error| DiscoveryError::unavailable(ID, error))?.map_err(unavailable)?;
                Servers::of_system(system, *timeout).map_err(unavailable)?
            }
        };
        let servers = Box::new(servers);
        let overflowing = AtomicBool::new(false);
        Ok(Resolver { servers, search, name, port: *port, family: *family, timeout: *timeout, overflowing })
    }
}

#[async_trait]
impl Provider for DnsProvider {
    fn id(&self) -> &'static str {
        ID
    }

    fn validate(&self) -> Vec<Fault> {
        self.config.faults()
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        let faults = self.validate();
        if !faults.is_empty() {
            return Err(DiscoveryError::Invalid { provider: ID, faults });
        }
        let already = DiscoveryError::AlreadyStarted { provider: ID };
        if self.running().is_some() {
            return Err(already);
        }
        let run = Arc::new(Run::new(self.resolver().await?));
        let mut running = self.running();
        if running.is_some() {
            return Err(already);
        }
        *running = Some(Running { run, open: watch::Sender::new(()) });
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        let run = self.running().as_ref().map(|running| Arc::clone(&running.run));
        let run = run.ok_or(DiscoveryError::NotStarted { provider: ID })?;
        Ok(run.answer().await?.seeds.to_vec())
    }

    fn changes(&self) -> Option<ChangeStream> {
        match self.running().as_ref() {
            Some(running) => Some(changes(Arc::clone(&running.run), running.open.subscribe())),
            None => Some(Box::pin(stream::empty())),
        }
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        *self.running() = None;
        Ok(())
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
