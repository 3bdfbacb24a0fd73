//! Builds an engine from plain settings and live parts.

use std::{fmt, sync::Arc, time::Duration};

use distcache_discovery::Provider;
use distcache_transport::{SecretKeys, Security, TlsConfig};

use super::{Engine, start};
use crate::{config::EngineConfig, error::Result, keyspace::KeySpace, machine::Machine};

/// What an [`Engine`] is built from. Nothing happens before [`start`](Self::start).
///
/// ```no_run
/// use std::time::Duration;
/// use distcache::{Engine, SourceKeySpace, StaticProvider};
/// # use distcache::{async_trait, Bytes, DataSource, SourceError};
/// # struct Users;
/// # #[async_trait]
/// # impl DataSource for Users {
/// #     async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> { Ok(None) }
/// # }
///
/// # async fn example() -> distcache::Result<()> {
/// let engine = Engine::builder()
///     .bind("10.0.0.1:3320")
///     .insecure(true)
///     .discovery(StaticProvider::new(["10.0.0.1:3320", "10.0.0.2:3320", "10.0.0.3:3320"]))
///     .keyspace(SourceKeySpace::new("users", Users).ttl(Duration::from_secs(300)))
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct EngineBuilder {
    pub(super) config: EngineConfig,
    /// All that are asked, in the order in which they were given.
    pub(super) providers: Vec<Arc<dyn Provider>>,
    pub(super) keyspaces: Vec<Arc<dyn KeySpace>>,
    pub(super) security: Security,
    pub(super) machine: Option<Machine>,
}

impl EngineBuilder {
    /// Sets all plain settings at once. Call it before the single ones.
    #[must_use]
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the address to listen on: [`EngineConfig::bind`].
    #[must_use]
    pub fn bind(mut self, addr: impl Into<String>) -> Self {
        self.config.bind = addr.into();
        self
    }

    /// Sets the address peers dial: [`EngineConfig::advertise`].
    #[must_use]
    pub fn advertise(mut self, addr: impl Into<String>) -> Self {
        self.config.advertise = Some(addr.into());
        self
    }

    /// Sets the node's name on the ring: [`EngineConfig::name`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Sets the cluster's name: [`EngineConfig::label`].
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.config.label = label.into();
        self
    }

    /// Sets how many members a start waits for: [`EngineConfig::min_members`].
    #[must_use]
    pub fn min_members(mut self, members: usize) -> Self {
        self.config.min_members = members;
        self
    }

    /// Sets how long a start waits for the cluster: [`EngineConfig::join_timeout`].
    #[must_use]
    pub fn join_timeout(mut self, timeout: Duration) -> Self {
        self.config.join_timeout = timeout;
        self
    }

    /// Sets how long a get may take: [`EngineConfig::read_timeout`].
    #[must_use]
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.config.read_timeout = timeout;
        self
    }

    /// Sets how long nodes may keep copies of hot values that others own, zero for not at all: [`EngineConfig::near_ttl`].
    #[must_use]
    pub const fn near_ttl(mut self, time: Duration) -> Self {
        self.config.near_ttl = time;
        self
    }

    /// Sets for how long after a change of the cluster owners ask those of before: [`EngineConfig::fill_window`].
    #[must_use]
    pub const fn fill_window(mut self, time: Duration) -> Self {
        self.config.fill_window = time;
        self
    }

    /// Sets how long values are kept that were loaded in another node's place: [`EngineConfig::failover_ttl`].
    #[must_use]
    pub fn failover_ttl(mut self, time: Duration) -> Self {
        self.config.failover_ttl = time;
        self
    }

    /// Allows unguarded links that other machines can reach: [`EngineConfig::insecure`].
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.config.insecure = insecure;
        self
    }

    /// Adds a way to find peers. With several, all are asked, and one that fails does not keep the others from answering. Defaults to
    /// none: a node that stands alone, without any network.
    #[must_use]
    pub fn discovery(mut self, provider: impl Provider) -> Self {
        self.providers.push(Arc::new(provider));
        self
    }

    /// Sets the only networks with addresses to dial: [`EngineConfig::networks`].
    #[must_use]
    pub fn networks(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.networks = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a keyspace.
    #[must_use]
    pub fn keyspace(mut self, keyspace: impl KeySpace) -> Self {
        self.keyspaces.push(Arc::new(keyspace));
        self
    }

    /// Encrypts the links and demands certificates of peers. Defaults to plain TCP.
    #[must_use]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.security.tls = Some(tls);
        self
    }

    /// Demands of peers to know the secret that the cluster's nodes share. Defaults to none. Without TLS it keeps strangers out,
    /// and encrypts nothing.
    #[must_use]
    pub fn secret(mut self, secret: SecretKeys) -> Self {
        self.security.secret = Some(secret);
        self
    }

    /// Runs the node on a simulated machine: the address to bind and the clock are the machine's.
    #[doc(hidden)]
    #[must_use]
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = Some(machine);
        self
    }

    /// Starts the node: checks everything, listens, finds its peers, joins them, serves.
    ///
    /// # Errors
    /// One error that [lists](crate::Error::list) every fault found: [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for the configuration (a
    /// duplicate or empty keyspace name, no capacity, an address that cannot be parsed or bound, too few limits, exposed
    /// links without TLS or a secret), [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) for the cluster (seeds out of reach,
    /// another label, another secret, a certificate of another authority, too few members). Nothing is left behind: no task, no socket, no
    /// membership.
    ///
    /// # Cancel safety
    /// Dropping the future stops the node without taking leave of peers it had met.
    pub async fn start(self) -> Result<Engine> {
        start::start(self).await
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyspaces: Vec<_> = self.keyspaces.iter().map(|keyspace| keyspace.name()).collect();
        f.debug_struct("EngineBuilder")
            .field("config", &self.config)
            .field("providers", &self.providers)
            .field("keyspaces", &keyspaces)
            .field("tls", &self.security.tls.is_some())
            .field("secret", &self.security.secret.is_some())
            .finish()
    }
}
