//! The provider of what a Kubernetes API server lists.

mod access;
mod api;
mod backoff;
mod body;
mod error;
mod object;
mod pods;
mod slices;
mod store;
mod target;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use self::api::Api;
use self::error::Verb;
use self::target::{Objects, Target, Wanted};
use self::watch::{Known, keep_watching};
use crate::{ChangeStream, DiscoveryError, Fault, IpFamily, Provider, Seed};

pub use access::KubernetesAccess;

/// Finds peers by asking the Kubernetes API server, which knows every pod, so that a node has nothing to publish.
///
/// Either of two kinds of object leads to the peers:
///
/// * [`pods`](Self::pods) takes the pods of a namespace that a label selector selects, and of each the container port of some name.
/// * [`service`](Self::service) takes the endpoint slices of a service, and of each the port of some name. They are fewer and
///   smaller, so this is the way for hundreds of nodes. A headless service serves best; the API server lists its endpoints
///   whatever its type.
///
/// A pod counts from the moment it has an IP address, **ready or not**. Nodes that start together would otherwise wait for each
/// other to be ready, and found clusters of one. It counts no more once it is told to end, or has ended. Addresses that nobody can
/// dial are dropped, and an answer has at most 1,024 seeds.
///
/// While it runs, one watch tells it of every change within moments. [`discover`](Provider::discover) answers from it without asking
/// anybody; while no watch is open, it lists, and ends within [`timeout`](Self::timeout).
/// [`changes`](Provider::changes) tells what the watch sees. An API server that is away is asked again, for ever, with growing
/// waits of at most half a minute. `kube`, which sends the requests, logs each that fails at `error`, under its own target
/// `kube_client`.
///
/// # Rights
///
/// The service account of the pods needs the rights to `get`, `list` and `watch` what is asked for, and no others:
///
/// ```yaml
/// apiVersion: rbac.authorization.k8s.io/v1
/// kind: Role
/// metadata:
///   name: distcache-discovery
/// rules:
///   - apiGroups: [""]                  # for a service: ["discovery.k8s.io"]
///     resources: ["pods"]              # for a service: ["endpointslices"]
///     verbs: ["get", "list", "watch"]
/// ```
///
/// Without the right to watch it still works, by a list at each call. Without the right to list, every call is
/// [`Refused`](DiscoveryError::Refused), and says which right is missing. `examples/kubernetes` in the repository has the whole
/// manifests.
///
/// # Cost
///
/// The feature `kubernetes` brings `kube` and `k8s-openapi`, with `k8s-openapi`'s version feature `latest`. A program that sets
/// another version itself takes the feature `kubernetes-unversioned` in its place.
///
/// # Examples
///
/// In a pod, with the service account of its own:
///
/// ```no_run
/// use distcache_discovery::{KubernetesProvider, Provider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = KubernetesProvider::pods("app=cache", "distcache");
/// provider.start().await?;
/// for seed in provider.discover().await? {
///     println!("{}", seed.addr);
/// }
/// provider.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KubernetesProvider {
    target: Target,
    namespace: Option<String>,
    access: KubernetesAccess,
    timeout: Duration,
    running: Mutex<Option<Arc<Running>>>,
}

impl KubernetesProvider {
    /// Creates a provider of the pods that `selector` selects, each at its TCP container port named `port`.
    ///
    /// The selector is written as for `kubectl get pods --selector`: `app=cache,tier in (a, b)`. The port must have a name in the
    /// pod's manifest. A pod with several ports of that name is found at each of them.
    #[must_use]
    pub fn pods(selector: impl Into<String>, port: impl Into<String>) -> Self {
        Self::new(Objects::Pods { selector: selector.into() }, port.into())
    }

    /// Creates a provider of the endpoints of the service called `service`, each at the service's TCP port named `port`.
    ///
    /// With `publishNotReadyAddresses: true`, names in DNS follow the same rule as here: nodes count while they start.
    #[must_use]
    pub fn service(service: impl Into<String>, port: impl Into<String>) -> Self {
        Self::new(Objects::Slices { service: service.into() }, port.into())
    }

    /// Sets the namespace to look in. Defaults to the one of the pod that this process runs in, or of the kubeconfig's context;
    /// `default` if there is none. In a wrong one, nobody is found, or the right to look is missing.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets which addresses to take in a dual-stack cluster. Defaults to the primary address of each pod, and to all addresses of a
    /// service. With a family that the pods do not have, nobody is found.
    #[must_use]
    pub fn family(mut self, family: IpFamily) -> Self {
        self.target.wanted.family = Some(family);
        self
    }

    /// Sets how the API server is reached. Defaults to [`KubernetesAccess::Inferred`].
    #[must_use]
    pub fn access(mut self, access: KubernetesAccess) -> Self {
        self.access = access;
        self
    }

    /// Sets how long the API server has for an answer. Defaults to 5 s. Too short, and a busy server seems away; too long, and a
    /// node that is asked for its peers waits for one that is.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn new(objects: Objects, port: String) -> Self {
        Self {
            target: Target { objects, wanted: Wanted { port, family: None } },
            namespace: None,
            access: KubernetesAccess::default(),
            timeout: TIMEOUT,
            running: Mutex::new(None),
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        // Nothing panics while it is held, and it is whole in between.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provider for KubernetesProvider {
    fn id(&self) -> &'static str {
        ID
    }

    fn validate(&self) -> Vec<Fault> {
        let mut faults = self.target.faults();
        let namespace = self.namespace.as_deref().and_then(target::label_fault);
        faults.extend(namespace.map(|fault| Fault::new("namespace", fault)));
        faults.extend(self.access.fault());
        if self.timeout.is_zero() || self.timeout > LONGEST_TIMEOUT {
            faults.push(Fault::new("timeout", format!("is not above 0 and at most {LONGEST_TIMEOUT:?}")));
        }
        faults
    }

    /// Reads the configuration of access, and begins to watch. The API server may be away. With a kubeconfig, this runs a
    /// credential plugin.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DiscoveryError::Invalid) also if the configuration of access cannot be read: if there is no service account, or
    /// no such context.
    async fn start(&self) -> Result<(), DiscoveryError> {
        let faults = self.validate();
        if !faults.is_empty() {
            return Err(DiscoveryError::Invalid { provider: ID, faults });
        }
        if self.running().is_some() {
            return Err(DiscoveryError::AlreadyStarted { provider: ID });
        }
        let connected = self.access.connect(self.timeout).await;
        let (client, namespace) = connected
            .map_err(|fault| DiscoveryError::Invalid { provider: ID, faults: vec![Fault::new("access", fault)] })?;
        let namespace = self.namespace.clone().unwrap_or(namespace);
        let api = Api::new(client, self.target.clone(), namespace, self.timeout);
        let mut running = self.running();
        if running.is_some() {
            return Err(DiscoveryError::AlreadyStarted { provider: ID });
        }
        *running = Some(Arc::new(Running::new(api)));
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        let running = self.running().clone().ok_or(DiscoveryError::NotStarted { provider: ID })?;
        if let Some(seeds) = running.known.answer() {
            return Ok(seeds);
        }
        match running.api.list().await {
            Ok((store, _)) => {
                running.known.retry();
                Ok(running.known.answer_of(&store))
            }
            Err(error) => Err(running.api.explain(error, Verb::List)),
        }
    }

    fn changes(&self) -> Option<ChangeStream> {
        Some(self.running().as_ref()?.known.changes())
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        if let Some(running) = self.running().take() {
            running.watching.abort();
        }
        Ok(())
    }
}

/// What lives from start to stop.
struct Running {
    api: Arc<Api>,
    known: Arc<Known>,
    watching: JoinHandle<()>,
}

impl Running {
    fn new(api: Api) -> Self {
        let (api, known) = (Arc::new(api), Arc::new(Known::new()));
        let watching = tokio::spawn({
            let (api, known) = (api.clone(), known.clone());
            async move { keep_watching(&api, &known).await }
        });
        Self { api, known, watching }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("api", &self.api).finish_non_exhaustive()
    }
}

const ID: &str = "kubernetes";
/// An API server that is well answers within a second.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The contract of a provider is to answer within seconds.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(20);
