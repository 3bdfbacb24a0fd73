//! What the parts of a node share: its settings, its store, its present view, its invalidations.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use distcache_transport::LogLimits;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    coherence::{Broadcast, Hearing, Invalidation, Mark, Origin, Sessions, Teller, Tombstones},
    config::ClusterConfig,
    defects::{Defect, planted},
    event::Event,
    exchange::Ledger,
    fill::{FillCounts, Predecessors},
    hot::HotKeys,
    ident::{NodeIdent, NodeName},
    placement::{KeyHash, KeyspaceSeed},
    recent::RecentWrites,
    standing::Standing,
    store::{Ownership, Store},
    view::{Member, SharedView, View},
};

/// One node, as its driver, its service and its handles see it.
pub(crate) struct Shared {
    pub(crate) me: NodeIdent,
    pub(crate) config: ClusterConfig,
    /// When this process began to hold anything.
    pub(crate) started: Instant,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) invalidations: Broadcast,
    pub(crate) sessions: Sessions,
    pub(crate) ledger: Ledger,
    pub(crate) recent: RecentWrites,
    pub(crate) tombstones: Tombstones,
    pub(crate) standing: Arc<Standing>,
    pub(crate) fills: FillCounts,
    pub(crate) hearing: Hearing,
    pub(crate) hot: HotKeys,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) counters: Counters,
    pub(crate) closed: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) views: watch::Sender<SharedView>,
}

/// Counts of what this layer saw.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) ring_mismatches: AtomicU64,
}

impl Counters {
    pub(crate) fn ring_mismatch(&self) {
        self.ring_mismatches.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(
        me: NodeIdent,
        config: ClusterConfig,
        store: Arc<dyn Store>,
        seed: u64,
        is_alone: bool,
    ) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        let view = Arc::new(View::new(1, Member::this_node(me.clone()), Vec::new()));
        let views = watch::Sender::new(Arc::clone(&view));
        let closed = CancellationToken::new();
        let limits = LogLimits {
            max_events: config.invalidation_log,
            max_bytes: config.invalidation_log_bytes,
            retention: config.invalidation_retention,
        };
        let (now, retention) = (Instant::now(), config.invalidation_retention);
        let tombstones = Tombstones::new(me.clone(), retention, if is_alone { 0 } else { config.tombstones });
        let hearing = Hearing::new(config.silence_limit, now);
        let hot = HotKeys::new(HOT_COUNTERS, HEAT_HALF_LIFE, seed, now.into_std());
        let recent = RecentWrites::new(config.acting_ttl.saturating_add(ON_ITS_WAY));
        let ledger = Ledger::new(Origin::of(&me, seed));
        let shared = Self {
            me,
            config,
            started: now,
            store,
            invalidations: Broadcast::new(limits, views.subscribe()),
            sessions: Sessions::default(),
            ledger,
            recent,
            tombstones,
            standing: Arc::new(Standing::new(view, now)),
            fills: FillCounts::default(),
            hearing,
            hot,
            events,
            counters: Counters::default(),
            closed,
            tasks: TaskTracker::new(),
            views,
        };
        let shared = Arc::new(shared);
        let predecessors = Predecessors(Arc::downgrade(&shared));
        shared.store.attach(Ownership(Arc::clone(&shared.standing)), predecessors);
        (shared, received)
    }

    pub(crate) fn view(&self) -> SharedView {
        self.standing.view()
    }

    /// Makes `view` the one that requests are routed by, and tells whoever watches.
    pub(crate) fn publish(&self, view: View) -> SharedView {
        let names: Vec<&NodeName> = view.members().iter().map(|member| member.ident().name()).collect();
        tracing::info!(node = %self.me, ordinal = view.ordinal(), members = ?names, "the cluster changed");
        let view = Arc::new(view);
        self.standing.publish(Arc::clone(&view), Instant::now());
        self.hearing.viewed(view.ordinal());
        self.fills.reset();
        self.views.send_replace(Arc::clone(&view));
        view
    }

    /// Drops keys, and what is being loaded for them (R1); for a while no peer's value is taken for them (R6). `by` is the node whose log
    /// tells everyone.
    pub(crate) fn invalidate(&self, keyspace: &Arc<str>, keys: &[&str], by: &NodeIdent) {
        self.invalidate_as(keyspace, keys, &Teller { node: by.clone(), at: None });
    }

    fn invalidate_as(&self, keyspace: &Arc<str>, keys: &[&str], by: &Teller) {
        self.tombstones.note(keyspace, keys, by, Instant::now());
        self.store.invalidate(keyspace, keys);
    }

    /// Drops what an invalidation covers that was made `age` ago, of which `by` told.
    pub(crate) fn apply(&self, invalidation: Invalidation, by: &Teller, age: Duration) {
        match invalidation {
            Invalidation::Key { keyspace, key } => {
                let is_own = self.standing.owns(KeyspaceSeed::of(&keyspace).hash(&key));
                self.tombstones.note_told(&keyspace, &key, by, is_own, Instant::now());
                self.store.invalidate(&keyspace, &[&key]);
            }
            Invalidation::Epoch(mark) => {
                let age = mark.age.saturating_add(age);
                self.ledger.take(self, Mark { age, ..mark });
            }
        }
    }

    /// Names this node as the one that tells.
    pub(crate) fn told_here(&self) -> Teller {
        Teller { node: self.me.clone(), at: None }
    }

    /// Drops every key of a keyspace.
    pub(crate) fn clear(&self, keyspace: &Arc<str>) {
        self.tombstones.note_keyspace(keyspace, Instant::now());
        self.store.clear(keyspace);
    }

    /// Removes a keyspace that was deleted `age` ago.
    pub(crate) fn delete_keyspace(&self, keyspace: &Arc<str>, age: Duration) {
        self.tombstones.note_keyspace(keyspace, Instant::now());
        self.store.delete_keyspace(keyspace, age);
    }

    /// Drops everything, for there are invalidations that this node has missed.
    pub(crate) fn drop_everything(&self) {
        self.tombstones.note_everything(Instant::now());
        self.store.clear_all();
    }

    /// The others had given this node up, and it did not know (R8).
    pub(crate) fn rejoined(&self) {
        if planted(Defect::RejoinTrusted) {
            return;
        }
        self.tombstones.note_everything(Instant::now());
        self.store.doubt_all(self.config.heal_ttl);
    }

    /// Drops what came from peers, and takes nothing from them for a while: there are invalidations that nobody can name.
    pub(crate) fn drop_borrowed(&self) {
        self.tombstones.note_borrowed(Instant::now());
        self.store.drop_borrowed();
    }

    /// Counts that a peer's ring differs from this node's, and has the driver compare members with it: one of the two is behind.
    pub(crate) fn ring_mismatch(&self, peer: &NodeName) {
        self.counters.ring_mismatch();
        // With a full queue the driver has news enough; the periodic comparison finds what is left.
        let _ = self.events.try_send(Event::Disagrees(peer.clone()));
    }

    /// For how long a peer may keep a copy of a key of this node's that it has just read: zero unless the key is hot.
    pub(crate) fn near(&self, key: KeyHash) -> Duration {
        let ClusterConfig { near_ttl, hot_reads, .. } = self.config;
        if near_ttl.is_zero() || self.hot.touch(key, Instant::now().into_std()) < hot_reads {
            return Duration::ZERO;
        }
        near_ttl
    }

    /// Spawns a task that ends with the node.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = task => {}
            }
        });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("me", &self.me)
            .field("members", &self.view().members().len())
            .finish_non_exhaustive()
    }
}

/// Sixteen thousand keys can be told apart at a time, in some 128 KiB; what is hot is far fewer.
const HOT_COUNTERS: usize = 16_384;
/// What was read a few seconds ago is forgotten.
const HEAT_HALF_LIFE: Duration = Duration::from_secs(1);
/// A load may have begun before the write and end after it.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// Enough for a burst of packets from every member of a large cluster; beyond it, packets are dropped as a network would.
const EVENT_QUEUE: usize = 4_096;
