//! The start of a node: find every fault there is to find, then come up whole or not at all.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use distcache_cluster::{Cluster, ClusterConfig, JoinFault, Node, NodeIdent, NodeName, StartError};
use distcache_discovery::{Provider, SeveralProviders, StandaloneProvider};
use distcache_transport::{ClusterLabel, Dialer, Entropy, Listener, Security, TcpDialer, TcpListener};

use super::{Engine, EngineBuilder, Inner};
use crate::{
    config::EngineConfig,
    error::{Error, ErrorKind, Result},
    flight::Flights,
    keyspace::KeySpace,
    local::{Local, LocalStore},
    machine::Machine,
    space::Limits,
};

pub(super) async fn start(builder: EngineBuilder) -> Result<Engine> {
    let EngineBuilder { config, providers, keyspaces, security, machine } = builder;
    let provider = joined(providers);
    let mut faults = config.faults();
    faults.extend(keyspace_faults(&keyspaces));
    faults.extend(provider.validate().iter().map(|fault| format!("discovery {}: {fault}", provider.id())));

    let bound = match machine {
        _ if provider.is_standalone() => None,
        Some(machine) => on(machine, &config, &mut faults),
        None => bind(&config, &security, &mut faults).await,
    };
    if !faults.is_empty() {
        return Err(Error::faults(ErrorKind::Invalid, "the engine cannot start", faults));
    }

    let flights = Flights::default();
    let limits = Limits {
        max_value_bytes: config.max_value_bytes,
        failover_ttl: config.failover_ttl,
        near_copies: bound.is_some() && !config.near_ttl.is_zero(),
        fill_window: if bound.is_some() { config.fill_window } else { Duration::ZERO },
    };
    let local = Arc::new(Local::new(limits, flights.clone()));
    for keyspace in keyspaces {
        local.define(keyspace, false)?;
    }
    let store = Arc::new(LocalStore(Arc::clone(&local)));
    let mut cluster_config = cluster_config(&config)?;
    let advertised = bound.as_ref().map_or(ALONE, |bound| bound.advertised);
    let since_epoch = bound.as_ref().map_or_else(since_epoch, |bound| bound.since_epoch);
    let ident = identity(&config, advertised, since_epoch)?;

    let (cluster, local_addr) = match bound {
        None => (Cluster::standalone(ident, cluster_config, store), None),
        Some(Bound { listener, dialer, local: local_addr, seed, tune, .. }) => {
            tune(&mut cluster_config);
            let node = Node { ident, listener, dialer, security, provider: Arc::clone(&provider), store, seed };
            let cluster = Cluster::start(node, cluster_config).await;
            (cluster.map_err(|error| cannot_join(&error))?, Some(local_addr))
        }
    };
    Ok(Engine { inner: Arc::new(Inner { config, local, cluster, flights, local_addr }) })
}

/// Makes one provider of those that were given.
fn joined(mut providers: Vec<Arc<dyn Provider>>) -> Arc<dyn Provider> {
    match providers.len() {
        0 => Arc::new(StandaloneProvider::new()),
        1 => providers.remove(0),
        _ => Arc::new(providers.into_iter().fold(SeveralProviders::new(), SeveralProviders::and)),
    }
}

/// Where a node listens, and what else it has of the machine it runs on.
struct Bound {
    listener: Box<dyn Listener>,
    dialer: Arc<dyn Dialer>,
    local: SocketAddr,
    advertised: SocketAddr,
    since_epoch: Duration,
    seed: u64,
    tune: Box<dyn FnOnce(&mut ClusterConfig) + Send>,
}

/// Binds the listener, so that a port in use is one of the faults that are reported together.
async fn bind(config: &EngineConfig, security: &Security, faults: &mut Vec<String>) -> Option<Bound> {
    let mut note = |fault: String| faults.push(fault);
    let addr = config.bind_addr().map_err(&mut note).ok()?;
    if EngineConfig::is_exposed(addr) && security.tls.is_none() {
        if security.secret.is_some() {
            tracing::warn!(%addr, "a shared secret without tls keeps strangers out and hides nothing: others on the network can read");
        } else if !config.insecure {
            note(format!(
                "bind: {addr} can be reached by other machines, and there is neither TLS nor a secret; set one up, or say insecure"
            ));
        }
    }
    let listener = TcpListener::bind(addr).await.map_err(|error| note(format!("bind: {addr}: {error}"))).ok()?;
    let local = listener.local_addr().map_err(|error| note(format!("bind: {addr}: {error}"))).ok()?;
    let advertised = config.advertise_addr(local).map_err(&mut note).ok()?;
    Some(Bound {
        listener: Box::new(listener),
        dialer: Arc::new(TcpDialer),
        local,
        advertised,
        since_epoch: since_epoch(),
        seed: seed(advertised),
        tune: Box::new(|_| {}),
    })
}

/// Takes what a simulation gives in the machine's place.
fn on(machine: Machine, config: &EngineConfig, faults: &mut Vec<String>) -> Option<Bound> {
    let Machine { listener, dialer, since_epoch, seed, tune } = machine;
    let mut note = |fault: String| faults.push(fault);
    let local = listener.local_addr().map_err(|error| note(format!("bind: {error}"))).ok()?;
    let advertised = config.advertise_addr(local).map_err(&mut note).ok()?;
    let tune = Box::new(move |config: &mut ClusterConfig| {
        config.transport.entropy = Entropy::seeded(seed);
        tune(config);
    });
    Some(Bound { listener, dialer, local, advertised, since_epoch, seed, tune })
}

fn keyspace_faults(keyspaces: &[Arc<dyn KeySpace>]) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut faults = Vec::new();
    for keyspace in keyspaces {
        let name = keyspace.name();
        if !names.insert(name.to_owned()) {
            faults.push(format!("keyspace {name:?}: is defined twice"));
        }
        faults.extend(definition_faults(&**keyspace));
    }
    faults
}

/// Lists what is wrong with one keyspace by itself.
pub(super) fn definition_faults(keyspace: &dyn KeySpace) -> Vec<String> {
    let name = keyspace.name();
    let mut faults = Vec::new();
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) {
        faults.push(format!("keyspace {name:?}: the name must have 1 to {MAX_NAME_BYTES} bytes"));
    }
    if keyspace.max_bytes() < MIN_CAPACITY {
        let bytes = keyspace.max_bytes();
        faults.push(format!("keyspace {name:?}: max_bytes is {bytes}, and must be at least {MIN_CAPACITY}"));
    }
    if keyspace.load_timeout().is_zero() {
        faults.push(format!("keyspace {name:?}: load_timeout must not be zero"));
    }
    faults
}

fn cluster_config(config: &EngineConfig) -> Result<ClusterConfig> {
    let label = ClusterLabel::try_from(config.label.as_str())
        .map_err(|error| Error::with_source(ErrorKind::Invalid, "the label cannot be used", error))?;
    let mut cluster = ClusterConfig::new(label);
    cluster.networks = config.parsed_networks().map_err(|fault| Error::new(ErrorKind::Invalid, fault))?;
    cluster.discovery_interval = config.discovery_interval;
    cluster.join_timeout = config.join_timeout;
    cluster.min_members = config.min_members;
    cluster.acting_ttl = config.failover_ttl;
    cluster.near_ttl = config.near_ttl;
    cluster.fill_window = config.fill_window;
    cluster.transport.max_payload_bytes = config.max_value_bytes.max(MIN_FRAME) + config.max_key_bytes + FRAME_MARGIN;
    Ok(cluster)
}

fn identity(config: &EngineConfig, advertised: SocketAddr, since_epoch: Duration) -> Result<NodeIdent> {
    let name = config.name.clone().unwrap_or_else(|| advertised.to_string());
    let name = NodeName::new(&name)
        .map_err(|error| Error::with_source(ErrorKind::Invalid, "the name cannot be used", error))?;
    let generation = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    Ok(NodeIdent::new(name, advertised, generation))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A number that differs from node to node and from start to start.
fn seed(advertised: SocketAddr) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(advertised)
}

fn cannot_join(error: &StartError) -> Error {
    match error {
        StartError::Join(faults) => {
            let faults = faults.iter().map(JoinFault::to_string).collect();
            Error::faults(ErrorKind::Unavailable, "the engine cannot join its cluster", faults)
        }
        other => Error::with_source(ErrorKind::Unavailable, "the engine cannot join its cluster", other.clone()),
    }
}

/// What a node that stands alone is called, if it has no name; nobody dials it.
const ALONE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
/// A name travels behind a one-byte length.
const MAX_NAME_BYTES: usize = 255;
/// Below this a cache holds nothing worth its overhead, and a unit was probably mistaken.
const MIN_CAPACITY: u64 = 64 * 1_024;
/// A batch of half a mebibyte must fit in a frame whatever the value limit is.
const MIN_FRAME: usize = 1_024 * 1_024;
/// Room for what stands around a value.
const FRAME_MARGIN: usize = 64 * 1_024;

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
