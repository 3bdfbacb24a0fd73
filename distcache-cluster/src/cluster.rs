//! The handle to a node's place in its cluster.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use distcache_discovery::Provider;
use distcache_transport::{Dialer, Hello, Listener, Payload, Security, Server};
use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    coherence::{Deed, Invalidation},
    config::ClusterConfig,
    discover,
    driver::{Driver, Parts},
    error::StartError,
    event::Event,
    handover::{back_up, hand_off},
    ident::{NodeIdent, NodeName},
    join::{self, Progress, Verdict},
    membership::Swim,
    message::{self, PutEntry, WriteMode, method},
    read::{self, Asked},
    service::PeerService,
    shared::Shared,
    store::Store,
    sweep::{sweep, tell},
    view::View,
    write::{self, Delivery, Stored, Terms},
};

/// What a node is started from: its identity and everything that is alive.
#[derive(Debug)]
pub struct Node {
    /// Who it is. Made locally.
    pub ident: NodeIdent,
    /// Where peers reach it; bound already, so that a port in use fails before anything starts.
    pub listener: Box<dyn Listener>,
    /// How it reaches peers.
    pub dialer: Arc<dyn Dialer>,
    /// Encryption and identity of the links; the default is plain TCP to anyone.
    pub security: Security,
    /// How it finds peers.
    pub provider: Arc<dyn Provider>,
    /// Its cache and its data source.
    pub store: Arc<dyn Store>,
    /// Seeds every random choice of this layer.
    pub seed: u64,
}

/// A node's place in its cluster: the view of it, and the way to its peers.
///
/// Clones share one node. When the last is dropped the node stops at once, without taking leave; [`leave`](Self::leave)
/// does it properly.
///
/// ```no_run
/// use std::{sync::Arc, time::Duration};
/// use distcache_cluster::{Cluster, ClusterConfig, KeyspaceSeed, Node, NodeIdent, NodeName, Store};
/// use distcache_discovery::StaticProvider;
/// use distcache_transport::{ClusterLabel, Security, TcpDialer, TcpListener};
///
/// # async fn example(store: Arc<dyn Store>) -> Result<(), Box<dyn std::error::Error>> {
/// let addr = "10.0.0.1:3320".parse()?;
/// let node = Node {
///     ident: NodeIdent::new(NodeName::new("cache-0")?, addr, 1_764_000_000_000),
///     listener: Box::new(TcpListener::bind(addr).await?),
///     dialer: Arc::new(TcpDialer),
///     security: Security::default(),
///     provider: Arc::new(StaticProvider::new(["10.0.0.1:3320", "10.0.0.2:3320"])),
///     store,
///     seed: 7,
/// };
/// let cluster = Cluster::start(node, ClusterConfig::new(ClusterLabel::try_from("prod")?)).await?;
/// let owner = cluster.view().owner(KeyspaceSeed::of("users").hash("alice")).ident().clone();
/// println!("alice belongs to {owner}");
/// cluster.leave(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    life: Arc<Life>,
}

impl Cluster {
    /// Starts a node: listens, looks for peers, joins them.
    ///
    /// Returns once the node is a member, or may rightly be the first (it stands in its own seed list and no other seed
    /// answers, or there is none), and `min_members` are there.
    ///
    /// # Errors
    /// [`StartError`] with every reason. Nothing is left running then.
    ///
    /// # Cancel safety
    /// Dropping the future stops the node without taking leave.
    pub async fn start(node: Node, config: ClusterConfig) -> Result<Self, StartError> {
        let Node { ident, listener, dialer, security, provider, store, seed } = node;
        discover::enlist(&*provider, &ident).await?;

        let mut rng = StdRng::seed_from_u64(seed);
        let (shared, events) = Shared::new(ident.clone(), config, store, rng.random(), false);
        let hello = Hello { label: shared.config.label.clone(), identity: ident.encode() };
        let service = Arc::new(PeerService::new(Arc::clone(&shared)));
        let transport = shared.config.transport.clone();
        let server = Server::start(listener, service, security.clone(), hello.clone(), transport);

        let rediscover = Arc::new(Notify::new());
        let (sweeps, views) = mpsc::unbounded_channel();
        let (progress, watched) = watch::channel(Progress { members: 1, ..Progress::default() });
        shared.spawn(discover::discover(
            Arc::clone(&shared),
            Arc::clone(&provider),
            Arc::clone(&rediscover),
            rng.random(),
        ));
        let (told, sweepable) = mpsc::unbounded_channel();
        shared.spawn(tell(Arc::clone(&shared), views, told));
        shared.spawn(sweep(Arc::clone(&shared), sweepable));
        shared.spawn(back_up(Arc::clone(&shared)));
        let membership = Box::new(Swim::new(ident, &shared.config.swim, StdRng::seed_from_u64(rng.random())));
        let parts = Parts {
            membership,
            shared: Arc::clone(&shared),
            dialer,
            security,
            hello,
            events,
            progress,
            rediscover,
            sweeps,
            rng,
        };
        shared.spawn(Driver::new(parts).run());

        let peers = Some(Peers { server, provider });
        let cluster = Self { life: Arc::new(Life::new(&shared, peers)), shared };
        match cluster.joined(watched).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.leave(ABANDON).await;
                Err(error)
            }
        }
    }

    /// Makes a node that is a cluster of its own: no listener, no peers, no task.
    #[must_use]
    pub fn standalone(ident: NodeIdent, config: ClusterConfig, store: Arc<dyn Store>) -> Self {
        let (shared, _) = Shared::new(ident, config, store, 0, true);
        Self { life: Arc::new(Life::new(&shared, None)), shared }
    }

    /// Returns what the parts of this node share.
    #[cfg(distcache_defects)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    async fn joined(&self, mut progress: watch::Receiver<Progress>) -> Result<(), StartError> {
        let deadline = Instant::now() + self.shared.config.join_timeout;
        loop {
            let time_is_up = Instant::now() >= deadline;
            let verdict = join::decide(&progress.borrow_and_update(), self.shared.config.min_members, time_is_up);
            match verdict {
                Verdict::Started => return Ok(()),
                Verdict::Failed(faults) => return Err(StartError::Join(faults)),
                // Either there is news, or the time is up and the next round says so.
                Verdict::Wait => drop(timeout_at(deadline, progress.changed()).await),
            }
        }
    }

    /// Returns the present view, without a lock.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view()
    }

    /// Returns a receiver of views: the present one first, then each that follows (a slow receiver sees the newest only).
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.shared.views.subscribe()
    }

    /// Asks the cluster for keys that other nodes own: each key's owner, and if that does not answer, the next in line, which acts as
    /// the owner. In as few frames as the keys fit in; one result a key, in order.
    ///
    /// A node that is asked asks no other. A peer that says nothing for [`peer_patience`](ClusterConfig::peer_patience) is not waited
    /// for; one that says that it is loading is, for as long as there is time.
    ///
    /// # Errors
    /// Each key's own, in [`Asked`]; an error of a peer's [`Store`] arrives as it was made there.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the requests; a load that others wait for goes on.
    pub async fn ask(&self, keyspace: &str, keys: &[&str], timeout: Duration) -> Vec<Asked> {
        read::ask(&self.shared, keyspace, keys, timeout).await
    }

    /// Stores entries at their owners. One result an entry, in order.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open which owners stored their entries; none is half stored.
    pub async fn put(&self, keyspace: &Arc<str>, entries: Vec<PutEntry>, timeout: Duration) -> Vec<Stored> {
        self.put_with(keyspace, entries, WriteMode::Owner, timeout).await
    }

    /// As [`put`](Self::put), done when `mode` says.
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn put_with(
        &self,
        keyspace: &Arc<str>,
        entries: Vec<PutEntry>,
        mode: WriteMode,
        timeout: Duration,
    ) -> Vec<Stored> {
        write::put(&self.shared, keyspace, entries, Terms::new(mode, timeout)).await
    }

    /// Deletes keys here and at their owners, which tell every other node.
    ///
    /// # Cancel safety
    /// Dropping the future may leave keys undeleted at owners that had not answered.
    pub async fn delete(&self, keyspace: &Arc<str>, keys: &[&str], timeout: Duration) -> Delivery {
        self.delete_with(keyspace, keys, WriteMode::Owner, timeout).await
    }

    /// As [`delete`](Self::delete), done when `mode` says.
    ///
    /// # Cancel safety
    /// As [`delete`](Self::delete).
    pub async fn delete_with(
        &self,
        keyspace: &Arc<str>,
        keys: &[&str],
        mode: WriteMode,
        timeout: Duration,
    ) -> Delivery {
        write::delete(&self.shared, keyspace, keys, Terms::new(mode, timeout)).await
    }

    /// Asks every member which keyspaces it has, this node first: its own, then in order of name; `None` for one that did not answer.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing changes anywhere.
    pub async fn keyspaces(&self, timeout: Duration) -> Vec<(NodeName, Option<Vec<Arc<str>>>)> {
        let (view, patience) = (self.shared.view(), timeout.min(self.shared.config.peer_patience.saturating_mul(5)));
        let asked = view.members().iter().filter_map(|member| Some((member.ident().name(), member.peer_link()?)));
        let asked = asked.map(|(name, peer)| async move {
            let answer = peer.control.link().call_anyway(method::KEYSPACES, Payload::default(), patience).await;
            let names = answer.ok().and_then(|bytes| message::decode_keyspaces(&bytes).ok());
            (name.clone(), names)
        });
        let here = (self.shared.me.name().clone(), Some(self.shared.store.keyspaces()));
        [here].into_iter().chain(join_all(asked).await).collect()
    }

    /// Empties a keyspace on every node; the keyspace stays. Waits up to `timeout` for the peers' word.
    ///
    /// # Cancel safety
    /// Once polled, the invalidation is on its way to every peer.
    pub async fn clear(&self, keyspace: &Arc<str>, timeout: Duration) -> Delivery {
        self.change(Deed::Clear, std::slice::from_ref(keyspace), timeout).await
    }

    /// Removes keyspaces on every node. Waits up to `timeout` for the peers' word.
    ///
    /// # Cancel safety
    /// Once polled, the invalidation is on its way to every peer.
    pub async fn delete_keyspaces(&self, keyspaces: &[Arc<str>], timeout: Duration) -> Delivery {
        self.change(Deed::Delete, keyspaces, timeout).await
    }

    async fn change(&self, deed: Deed, keyspaces: &[Arc<str>], timeout: Duration) -> Delivery {
        let marks = self.shared.ledger.note(&self.shared, deed, keyspaces);
        let position =
            self.shared.invalidations.append(&marks.into_iter().map(Invalidation::Epoch).collect::<Vec<_>>());
        Delivery { pending: self.shared.invalidations.pending_at(position, Instant::now() + timeout).await }
    }

    /// Counts the peers' requests that were routed by another ring than this node's.
    #[must_use]
    pub fn ring_mismatches(&self) -> u64 {
        self.shared.counters.ring_mismatches.load(Ordering::Relaxed)
    }

    /// Returns the address peers dial, and the name the ring knows.
    #[must_use]
    pub fn ident(&self) -> &NodeIdent {
        &self.shared.me
    }

    /// Takes leave and stops: the others learn that this node goes and take over its keys and the hottest of its values, what they still
    /// must be told is sent, requests in flight are finished, every task ends. Takes at most about `drain` for each of these; a second call waits for the
    /// first and does nothing.
    ///
    /// # Cancel safety
    /// Not cancel safe: call it again to finish.
    pub async fn leave(&self, drain: Duration) {
        let mut peers = self.life.peers.lock().await;
        if let Some(Peers { server, provider }) = peers.as_ref() {
            let deadline = Instant::now() + drain;
            // First of all, so that nobody new comes.
            discover::delist(&**provider).await;
            // A deadline of its own each, so that no step that fails keeps the next from running.
            if self.shared.events.send(Event::Depart).await.is_ok() && self.shared.view().members().len() > 1 {
                // Once the others have moved the ring they take what is handed off; until then they ask this node.
                let moved = self.shared.config.settle + NEWS;
                sleep_until(deadline.min(Instant::now() + moved)).await;
                let until = Instant::now() + self.shared.config.handoff_time.min(drain / 2);
                let _ = timeout_at(until, hand_off(&self.shared, until)).await;
            }
            let told = self.shared.invalidations.append(&[]);
            let _ = self.shared.invalidations.pending_at(told, deadline.min(Instant::now() + LAST_INVALIDATIONS)).await;
            discover::stop(&**provider).await;
            let (reply, left) = oneshot::channel();
            if self.shared.events.send(Event::Leave(reply)).await.is_ok() {
                let _ = timeout_at(deadline.max(Instant::now() + LEAVE), left).await;
            }
            server.shutdown(deadline.saturating_duration_since(Instant::now())).await;
        }
        self.shared.closed.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        *peers = None;
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// Ends the node when the last handle goes.
struct Life {
    closed: CancellationToken,
    peers: Mutex<Option<Peers>>,
}

struct Peers {
    server: Server,
    provider: Arc<dyn Provider>,
}

impl Life {
    fn new(shared: &Shared, peers: Option<Peers>) -> Self {
        Self { closed: shared.closed.clone(), peers: Mutex::new(peers) }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// How long a failed start takes to take leave of whomever it met.
const ABANDON: Duration = Duration::from_millis(500);
/// How long the word that a node leaves may be on its way.
const NEWS: Duration = Duration::from_millis(100);
/// How long a leaver waits for peers to take its last invalidations.
const LAST_INVALIDATIONS: Duration = Duration::from_secs(1);
/// Links get half a second to send the news; the driver's answer follows at once.
const LEAVE: Duration = Duration::from_secs(1);
