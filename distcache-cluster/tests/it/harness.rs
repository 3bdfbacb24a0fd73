//! Nodes with a store that remembers what it was told, on a network whose links can be cut.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use distcache_cluster::{
    Cluster, ClusterConfig, Entries, Found, KeyHash, KeyspaceSeed, Node, NodeIdent, NodeName, Origin, Ownership,
    Predecessors, PutEntry, Read, Role, StartError, Store, View,
};
use distcache_discovery::{Provider, StaticProvider};
use distcache_transport::{
    BoxStream, ClusterLabel, ConnectError, ControlLink, ControlLog, Dialer, Hello, Link, LogLimits, MemoryDialer,
    MemoryNetwork, RemoteError, Security, TransportConfig,
};
use tokio::time::{Instant, sleep};

/// A store without a data source: it holds what was written, and notes what happened to it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) values: Mutex<BTreeMap<String, Bytes>>,
    pub(crate) notes: Mutex<Vec<String>>,
    /// How many milliseconds a read takes that is no peek.
    pub(crate) slow_ms: AtomicU64,
    /// How many a peek takes.
    pub(crate) slow_peek_ms: AtomicU64,
}

impl Memory {
    pub(crate) fn hold(&self, key: &str) {
        self.values.lock().unwrap().insert(key.to_owned(), Bytes::from_static(b"old"));
    }

    pub(crate) fn holds(&self, key: &str) -> bool {
        self.values.lock().unwrap().contains_key(key)
    }

    pub(crate) fn noted(&self, note: &str) -> usize {
        self.notes.lock().unwrap().iter().filter(|noted| *noted == note).count()
    }

    fn note(&self, note: impl Into<String>) {
        self.notes.lock().unwrap().push(note.into());
    }
}

#[derive(Debug, Clone)]
struct Handle(Arc<Memory>);

#[async_trait]
impl Store for Handle {
    fn attach(&self, _: Ownership, _: Predecessors) {}

    async fn read(&self, _: &str, key: &str, read: Read) -> Result<Option<Found>, RemoteError> {
        self.0.note(format!("read {key} {:?}", read.role));
        let slow = if read.role == Role::Peek { &self.0.slow_peek_ms } else { &self.0.slow_ms };
        sleep(Duration::from_millis(slow.load(Ordering::Relaxed))).await;
        if read.role == Role::Anew {
            self.0.values.lock().unwrap().remove(key);
        }
        let value = self.0.values.lock().unwrap().get(key).cloned();
        Ok(value.map(|value| Found { value, ttl: None, origin: Origin::Cache, near: Duration::ZERO }))
    }

    async fn read_many(&self, keyspace: &str, keys: &[&str], read: Read) -> Vec<Result<Option<Found>, RemoteError>> {
        let mut results = Vec::new();
        for key in keys {
            results.push(self.read(keyspace, key, read).await);
        }
        results
    }

    fn write(&self, _: &str, entries: &[PutEntry]) -> Vec<Result<(), RemoteError>> {
        for entry in entries {
            self.0.note(format!("write {}", entry.key));
            self.0.values.lock().unwrap().insert(entry.key.to_string(), entry.value.clone());
        }
        entries.iter().map(|_| Ok(())).collect()
    }

    fn invalidate(&self, _: &str, keys: &[&str]) {
        for key in keys {
            self.0.note(format!("invalidate {key}"));
            self.0.values.lock().unwrap().remove(*key);
        }
    }

    fn keyspaces(&self) -> Vec<Arc<str>> {
        vec![ROWS.into()]
    }

    fn clear(&self, keyspace: &str) {
        self.0.note(format!("clear {keyspace}"));
        self.0.values.lock().unwrap().clear();
    }

    fn clear_all(&self) {
        self.0.note("clear all");
        self.0.values.lock().unwrap().clear();
    }

    fn delete_keyspace(&self, keyspace: &str, _: Duration) {
        self.0.note(format!("delete {keyspace}"));
        self.0.values.lock().unwrap().clear();
    }

    fn adopt(&self, _: &str, entries: &[PutEntry], is_vetoed: &(dyn Fn(KeyHash) -> bool + Sync)) {
        let seed = KeyspaceSeed::of(ROWS);
        for entry in entries.iter().filter(|entry| !is_vetoed(seed.hash(&entry.key))) {
            self.0.note(format!("adopt {}", entry.key));
            self.0.values.lock().unwrap().entry(entry.key.to_string()).or_insert_with(|| entry.value.clone());
        }
    }

    fn estate(&self, _: u64) -> Entries {
        let values = self.0.values.lock().unwrap();
        let entry = |(key, value): (&String, &Bytes)| PutEntry { key: (**key).into(), value: value.clone(), ttl: None };
        vec![(ROWS.into(), values.iter().map(entry).collect())]
    }

    fn backups(&self) -> Entries {
        Entries::new()
    }

    fn drop_borrowed(&self) {
        self.0.note("drop borrowed");
    }

    fn doubt_all(&self, _: Duration) {
        self.0.note("doubt all");
    }

    fn settle(&self) {
        self.0.note("settle");
    }

    fn keep_owned(&self, view: &View) {
        let seed = KeyspaceSeed::of(ROWS);
        self.0.values.lock().unwrap().retain(|key, _| view.owns(seed.hash(key)));
    }
}

/// One node of a [`Net`].
pub(crate) struct Member {
    pub(crate) cluster: Cluster,
    pub(crate) store: Arc<Memory>,
}

/// A network and the nodes on it.
pub(crate) struct Net {
    network: MemoryNetwork,
    pub(crate) nodes: Vec<Member>,
    pub(crate) generation: u64,
    pub(crate) config: ClusterConfig,
    /// Where every node dialled.
    pub(crate) dials: Arc<Mutex<Vec<SocketAddr>>>,
}

/// Notes each dial.
#[derive(Debug)]
struct Counted {
    dialer: MemoryDialer,
    dials: Arc<Mutex<Vec<SocketAddr>>>,
}

#[async_trait]
impl Dialer for Counted {
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream> {
        self.dials.lock().unwrap().push(addr);
        self.dialer.dial(addr).await
    }
}

impl Net {
    /// Starts `count` nodes that all have the same seed list.
    pub(crate) async fn start(count: u16) -> Self {
        Self::start_with(count, |_, _| {}).await
    }

    /// Makes a network without nodes.
    pub(crate) fn empty() -> Self {
        let config = ClusterConfig::new(ClusterLabel::try_from("test").unwrap());
        let (network, dials) = (MemoryNetwork::new(), Arc::default());
        Self { network, nodes: Vec::new(), generation: 1_000, config, dials }
    }

    /// As [`start`](Self::start), each node with its own settings. Nodes that join later have those of the last.
    pub(crate) async fn start_with(count: u16, change: impl Fn(u16, &mut ClusterConfig)) -> Self {
        let mut net = Self::empty();
        for n in 0..count {
            change(n, &mut net.config);
            let node = net.join(n, &(0..count).collect::<Vec<_>>()).await.unwrap();
            net.nodes.push(node);
        }
        net.until_members(usize::from(count)).await;
        net
    }

    /// Makes the node at place `n` that knows the nodes at `seeds`.
    pub(crate) async fn join(&self, n: u16, seeds: &[u16]) -> Result<Member, StartError> {
        let provider = StaticProvider::new(seeds.iter().map(|n| addr(*n).to_string()));
        self.join_by(n, Arc::new(provider)).await
    }

    /// Makes the node at place `n`, which looks for the others by a provider.
    pub(crate) async fn join_by(&self, n: u16, provider: Arc<dyn Provider>) -> Result<Member, StartError> {
        let store = Arc::new(Memory::default());
        // A predecessor at this address may be on its way out.
        until("the address is free", Duration::from_secs(5), || self.network.listen(addr(n)).is_ok()).await;
        let node = Node {
            ident: NodeIdent::new(name(n), addr(n), self.generation),
            listener: Box::new(self.network.listen(addr(n)).unwrap()),
            dialer: Arc::new(Counted { dialer: self.network.dialer(addr(n)), dials: Arc::clone(&self.dials) }),
            security: Security::default(),
            provider,
            store: Arc::new(Handle(Arc::clone(&store))),
            seed: u64::from(n),
        };
        let cluster = Cluster::start(node, self.config.clone()).await?;
        Ok(Member { cluster, store })
    }

    /// Opens a link to the node at place `to` by hand, under the identity of a node that does not exist.
    pub(crate) async fn stranger(&self, to: u16) -> Link {
        let dialer = Arc::new(self.network.dialer(STRANGER.into()));
        let link = Link::open(addr(to), dialer, None, Self::strange_hello(), TransportConfig::default());
        link.connected(Duration::from_secs(5)).await.unwrap();
        link
    }

    /// As [`stranger`](Self::stranger), the lane on which nodes meet.
    pub(crate) async fn strange_control(&self, to: u16) -> ControlLink {
        let dialer = Arc::new(self.network.dialer(STRANGER.into()));
        let log = Arc::new(ControlLog::new(LogLimits::default()));
        let config = TransportConfig::default();
        let lane = ControlLink::open(addr(to), dialer, None, Self::strange_hello(), config, log);
        lane.link().connected(Duration::from_secs(5)).await.unwrap();
        lane
    }

    /// What became of a stranger's link whose node speaks those versions of this layer's messages.
    pub(crate) async fn stranger_of(&self, to: u16, lowest: u16, highest: u16) -> Result<(), ConnectError> {
        let dialer = Arc::new(self.network.dialer(STRANGER.into()));
        let hello = Self::hello_of(lowest, highest);
        let link = Link::open(addr(to), dialer, None, hello, TransportConfig::default());
        link.connected(Duration::from_secs(5)).await.map(drop)
    }

    fn strange_hello() -> Hello {
        Self::hello_of(1, 1)
    }

    fn hello_of(lowest: u16, highest: u16) -> Hello {
        let mut identity = vec![1, 4, 10, 0, 0, 2, 1, 0];
        identity.extend(1u64.to_le_bytes());
        identity.extend([100, 0]);
        identity.extend([lowest, highest].map(u16::to_le_bytes).concat());
        identity.push(8);
        identity.extend(b"stranger");
        Hello { label: ClusterLabel::try_from("test").unwrap(), identity: identity.into() }
    }

    pub(crate) fn cut(&self, a: u16, b: u16) {
        self.network.cut(addr(a), addr(b));
    }

    pub(crate) fn heal(&self, a: u16, b: u16) {
        self.network.heal(addr(a), addr(b));
    }

    /// Sets how long bytes take between two nodes.
    pub(crate) fn delay(&self, a: u16, b: u16, time: Duration) {
        self.network.delay(addr(a), addr(b), time);
    }

    pub(crate) async fn until_members(&self, count: usize) {
        let all = || self.nodes.iter().all(|node| node.cluster.view().members().len() == count);
        until(&format!("all nodes see {count} members"), Duration::from_secs(60), all).await;
        let prints: Vec<_> = self.nodes.iter().map(|node| node.cluster.view().fingerprint()).collect();
        assert!(prints.iter().all(|print| *print == prints[0]), "equal members give equal rings");
    }

    /// A key that the node at place `n` owns while all members are there.
    pub(crate) fn key_of(&self, n: u16) -> String {
        let [key, _] = self.keys_of(n);
        key
    }

    /// Two keys that the node at place `n` owns while all members are there.
    pub(crate) fn keys_of(&self, n: u16) -> [String; 2] {
        let view = self.nodes[0].cluster.view();
        let seed = KeyspaceSeed::of(ROWS);
        let owned = |key: &String| *view.owner(seed.hash(key)).ident().name() == name(n);
        let mut keys = (0..1_000).map(|n| format!("row:{n}")).filter(owned);
        [keys.next(), keys.next()].map(|key| key.expect("of a thousand keys each node owns two"))
    }
}

pub(crate) fn name(n: u16) -> NodeName {
    NodeName::new(&format!("node-{n}")).unwrap()
}

pub(crate) fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 3_000 + n))
}

/// Where a node that does not exist would be.
const STRANGER: ([u8; 4], u16) = ([10, 0, 0, 2], 1);

/// Polls a condition on the paused clock: waiting takes no real time.
pub(crate) async fn until(what: &str, patience: Duration, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {patience:?} until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) const ROWS: &str = "rows";

impl Net {
    /// As [`until_members`](Self::until_members), for some nodes only.
    pub(crate) async fn until_members_of(&self, nodes: &[usize], count: usize) {
        let some = || nodes.iter().all(|n| self.nodes[*n].cluster.view().members().len() == count);
        until(&format!("nodes {nodes:?} see {count} members"), Duration::from_secs(60), some).await;
    }
}
