//! One ordered invalidation stream per peer: what the log holds beyond the peer's cursor is sent, acknowledged, repeated.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use distcache_transport::Link;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Invalidation, InvalidationLog, Position};
use crate::{
    ident::{NodeIdent, NodeName},
    message::{encode_invalidations, invalidation_len, method},
    view::View,
};

/// The streams of this node to all its peers.
#[derive(Debug)]
pub(crate) struct Streams {
    shared: Arc<Shared>,
    peers: Mutex<HashMap<NodeName, Peer>>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    log: Mutex<InvalidationLog>,
    head: watch::Sender<Position>,
}

#[derive(Debug)]
struct Peer {
    ident: NodeIdent,
    acknowledged: watch::Receiver<Position>,
    stop: CancellationToken,
}

impl Streams {
    /// Makes streams that end when `closed` says so.
    pub(crate) fn new(log: InvalidationLog, closed: CancellationToken) -> Self {
        let head = watch::Sender::new(log.end());
        let shared = Arc::new(Shared { log: Mutex::new(log), head });
        Self { shared, peers: Mutex::new(HashMap::new()), tasks: TaskTracker::new(), closed }
    }

    /// Appends to the log and wakes the streams. Returns the position that [`pending_at`](Self::pending_at) waits for.
    pub(crate) fn append(&self, invalidations: impl IntoIterator<Item = Invalidation>) -> Position {
        let end = self.shared.lock().append(invalidations, Instant::now().into_std());
        self.shared.head.send_replace(end);
        end
    }

    /// Starts a stream to each new member and stops those of members that are gone.
    ///
    /// A member that is new here, or whose process is, starts at the very beginning: it may have loaded values before this
    /// node knew it, or come out of another half of a split. It gets all there ever was, or, if some of that is forgotten, the
    /// order to drop everything, which costs a fresh node nothing. A member that is gone and returns under a new generation is
    /// new again.
    pub(crate) fn reconcile(&self, view: &View) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|name, peer| {
            let stays = view.member(name).is_some_and(|member| *member.ident() == peer.ident);
            if !stays {
                peer.stop.cancel();
            }
            stays
        });
        for member in view.members() {
            let Some(link) = member.link() else { continue };
            peers.entry(member.ident().name().clone()).or_insert_with(|| self.start(member.ident(), link.clone()));
        }
    }

    fn start(&self, ident: &NodeIdent, link: Link) -> Peer {
        let cursor = Position::default();
        let (report, acknowledged) = watch::channel(cursor);
        let stop = self.closed.child_token();
        let stream = Stream { shared: Arc::clone(&self.shared), link, cursor, report };
        let stopped = stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = stream.run() => {}
            }
        });
        Peer { ident: ident.clone(), acknowledged, stop }
    }

    /// Waits until every peer acknowledged the log up to `position`, and names those that did not by the deadline.
    pub(crate) async fn pending_at(&self, position: Position, deadline: Instant) -> Vec<NodeName> {
        let waiting: Vec<_> = {
            let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.iter().map(|(name, peer)| (name.clone(), peer.acknowledged.clone(), peer.stop.clone())).collect()
        };
        let mut pending = Vec::new();
        for (name, mut acknowledged, stop) in waiting {
            let reached = async {
                tokio::select! {
                    // A peer that left the cluster holds nothing any more.
                    () = stop.cancelled() => true,
                    reached = acknowledged.wait_for(|at| *at >= position) => reached.is_ok(),
                }
            };
            if !timeout_at(deadline, reached).await.unwrap_or(false) {
                pending.push(name);
            }
        }
        pending
    }

    /// Stops all streams and waits for their tasks.
    pub(crate) async fn close(&self) {
        for peer in self.peers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            peer.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, InvalidationLog> {
        // The log is consistent between its calls, so a panic elsewhere does not spoil it.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending end of one stream.
struct Stream {
    shared: Arc<Shared>,
    link: Link,
    cursor: Position,
    report: watch::Sender<Position>,
}

impl Stream {
    async fn run(mut self) {
        let mut head = self.shared.head.subscribe();
        loop {
            let tail = self.shared.lock().after(self.cursor, MAX_BATCH, Instant::now().into_std());
            let Some(mut tail) = tail else {
                if head.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let fitting = fitting(&tail.batch);
            if fitting < tail.batch.len() {
                tail.batch.truncate(fitting);
                tail.next = Position(self.cursor.0 + fitting as u64);
            }
            match self.link.call_anyway(method::INVALIDATE, encode_invalidations(&tail.batch), CALL_TIMEOUT).await {
                Ok(_) => {
                    self.cursor = tail.next;
                    self.report.send_replace(self.cursor);
                }
                Err(error) => {
                    tracing::debug!(peer = %self.link.addr(), %error, "invalidations wait for the peer");
                    self.wait_for_link().await;
                }
            }
        }
    }

    /// Waits for a change of the link, or a moment: an up link may have refused one call.
    async fn wait_for_link(&self) {
        let mut state = self.link.watch();
        tokio::select! {
            _ = state.changed() => {}
            () = sleep(RETRY) => {}
        }
    }
}

/// How many of a batch fit in one frame; at least one, for a key is far smaller than a frame.
fn fitting(batch: &[Invalidation]) -> usize {
    let mut bytes = 4;
    let fits = batch.iter().take_while(|entry| {
        bytes += invalidation_len(entry);
        bytes <= MAX_BATCH_BYTES
    });
    fits.count().max(1)
}

/// Large enough to share a system call among many keys, small enough that a slow peer acknowledges it in time.
const MAX_BATCH: usize = 1_024;
const MAX_BATCH_BYTES: usize = 256 * 1_024;
/// An invalidation takes the receiver microseconds; a peer that needs longer is not well.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(100);
