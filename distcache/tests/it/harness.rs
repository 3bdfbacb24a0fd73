//! A cluster in one process: real engines, real sockets on loopback, and for each node a data source of its own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use distcache::{
    Bytes, DataSource, Engine, EngineBuilder, SecretKeys, SourceError, SourceKeySpace, StaticProvider, TlsConfig,
    async_trait,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

/// The rows that every node's source reads, each through a counting source of its own.
#[derive(Clone, Default)]
pub(crate) struct Database(Arc<Mutex<BTreeMap<String, String>>>);

impl Database {
    pub(crate) fn with_rows(count: usize) -> Self {
        let database = Self::default();
        (0..count).for_each(|n| database.set(&key(n), "v1"));
        database
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        self.0.lock().unwrap().insert(key.to_owned(), value.to_owned());
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap().get(key).cloned()
    }
}

pub(crate) fn key(n: usize) -> String {
    format!("row:{n}")
}

/// A node's way to the database: it counts, and can be held up or made to fail.
#[derive(Clone)]
pub(crate) struct Source(Arc<SourceState>);

struct SourceState {
    database: Database,
    fetches: AtomicU64,
    /// Fetches that have read the row already and wait to return it.
    held: AtomicU64,
    gate: Semaphore,
    gated: AtomicU64,
    failing: Mutex<Option<String>>,
}

impl Source {
    pub(crate) fn new(database: &Database) -> Self {
        Self(Arc::new(SourceState {
            database: database.clone(),
            fetches: AtomicU64::new(0),
            held: AtomicU64::new(0),
            gate: Semaphore::new(0),
            gated: AtomicU64::new(0),
            failing: Mutex::new(None),
        }))
    }

    pub(crate) fn fetches(&self) -> u64 {
        self.0.fetches.load(Ordering::SeqCst)
    }

    /// Fetches from now on read their row, then wait for [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.0.gated.store(1, Ordering::SeqCst);
    }

    pub(crate) fn release(&self) {
        self.0.gated.store(0, Ordering::SeqCst);
        self.0.gate.add_permits(1_000);
    }

    pub(crate) fn fail(&self, reason: &str) {
        *self.0.failing.lock().unwrap() = Some(reason.to_owned());
    }

    pub(crate) async fn until_held(&self, count: u64) {
        until("fetches are held", || self.0.held.load(Ordering::SeqCst) >= count).await;
    }
}

#[async_trait]
impl DataSource for Source {
    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        assert!(key != "panic", "the source panics, as the test asked");
        if let Some(reason) = self.0.failing.lock().unwrap().clone() {
            return Err(reason.into());
        }
        let row = self.0.database.get(key);
        if self.0.gated.load(Ordering::SeqCst) == 1 {
            self.0.held.fetch_add(1, Ordering::SeqCst);
            self.0.gate.acquire().await?.forget();
        }
        Ok(row.map(Bytes::from))
    }
}

/// A node and its source.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) source: Source,
}

impl Node {
    pub(crate) async fn read(&self, key: &str) -> Option<String> {
        let value = self.engine.get(ROWS, key).await.expect("the read succeeds");
        value.map(|value| String::from_utf8(value.to_vec()).expect("rows are text"))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.engine.local_addr().expect("the node listens")
    }
}

/// Whether links are encrypted: the same tests run both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Plain,
    Secret,
    MutualTls,
}

/// The secret of clusters that have one.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A cluster over one database.
pub(crate) struct TestCluster {
    pub(crate) database: Database,
    pub(crate) nodes: Vec<Node>,
    links: Links,
    authority: Authority,
}

impl TestCluster {
    pub(crate) async fn start(count: usize, rows: usize, links: Links) -> Self {
        let database = Database::with_rows(rows);
        let mut cluster = Self { database, nodes: Vec::new(), links, authority: Authority::new() };
        for n in 0..count {
            let node = cluster.node(&format!("node-{n}"), 1).await;
            cluster.nodes.push(node);
        }
        cluster.settle(count).await;
        cluster
    }

    /// Starts one more node; the first node is its seed.
    pub(crate) async fn node(&self, name: &str, min_members: usize) -> Node {
        let seeds = self.nodes.first().map(|node| node.addr().to_string());
        let source = Source::new(&self.database);
        let builder = self.builder(name, &source).min_members(min_members);
        let builder = match seeds {
            // The first node is told its own address only once it has one, so it looks for nobody.
            None => builder.discovery(Nobody),
            Some(seed) => builder.discovery(StaticProvider::new([seed])),
        };
        let engine = builder.start().await.expect("the node starts");
        Node { engine, source }
    }

    pub(crate) fn builder(&self, name: &str, source: &Source) -> EngineBuilder {
        let keyspace = SourceKeySpace::new(ROWS, source.clone());
        let builder = Engine::builder().bind("127.0.0.1:0").name(name).label("test").keyspace(keyspace);
        match self.links {
            Links::Plain => builder,
            Links::Secret => builder.secret(SecretKeys::new([SECRET]).unwrap()),
            Links::MutualTls => builder.tls(self.authority.issue()),
        }
    }

    /// Starts nodes that have read all rows, one of which has just died, and returns its name.
    pub(crate) async fn with_a_dead_node(count: usize, rows: usize) -> (Self, String) {
        let mut cluster = Self::start(count, rows, Links::Plain).await;
        for node in &cluster.nodes {
            for n in 0..rows {
                node.read(&key(n)).await;
            }
        }
        let dead = cluster.nodes.pop().expect("there are some");
        let name = dead.engine.name().to_owned();
        (cluster, name)
    }

    /// Waits until every node sees `count` members.
    pub(crate) async fn settle(&self, count: usize) {
        until("all nodes see all members", || self.nodes.iter().all(|node| node.engine.members().len() == count)).await;
    }

    pub(crate) fn fetches(&self) -> u64 {
        self.nodes.iter().map(|node| node.source.fetches()).sum()
    }

    /// The place of the node that owns a key: the one that fetches it.
    pub(crate) async fn owner_of(&self, key: &str) -> usize {
        let before: Vec<_> = self.nodes.iter().map(|node| node.source.fetches()).collect();
        self.nodes[0].read(key).await;
        let owner = self.nodes.iter().zip(before).position(|(node, before)| node.source.fetches() > before);
        owner.expect("a key that was not cached is fetched by its owner")
    }

    pub(crate) async fn shutdown(self) {
        for node in &self.nodes {
            node.engine.shutdown(Duration::from_secs(2)).await;
        }
    }
}

/// A provider that finds nobody but listens: the first node of a cluster.
#[derive(Debug)]
pub(crate) struct Nobody;

#[async_trait]
impl distcache::Provider for Nobody {
    fn id(&self) -> &'static str {
        "nobody"
    }

    async fn start(&self) -> Result<(), distcache::discovery::DiscoveryError> {
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<distcache::discovery::Seed>, distcache::discovery::DiscoveryError> {
        Ok(Vec::new())
    }

    async fn stop(&self) -> Result<(), distcache::discovery::DiscoveryError> {
        Ok(())
    }
}

/// A certificate authority of the test's own.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self) -> TlsConfig {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["node.test".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (ca, leaf) = (self.certificate.pem(), certificate.pem());
        TlsConfig::from_pem(ca.as_bytes(), leaf.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }
}

/// Polls a condition until it holds, for at most ten seconds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited ten seconds until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) const ROWS: &str = "rows";
