//! Keyspace epochs between nodes: what this one has heard of is applied to its store, told, and compared with its peers.
//!
//! Marks come over the log of invalidations at once. What that cannot bring, because a peer was away for longer than the log
//! remembers, comes when two nodes compare all they have: on each new link, every few seconds with some peer, and when a request
//! shows that they differ.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use distcache_transport::{CallError, Link};
use tokio::time::Instant;

use crate::{
    coherence::{Change, Deed, Epochs, Mark, Origin, Told},
    message::{self, method},
    read::PeerError,
    shared::Shared,
    view::PeerLink,
};

/// The epochs of a node, in step with its store: by the time the digest shows a mark, nothing from before it is held.
#[derive(Debug)]
pub(crate) struct Ledger {
    epochs: Mutex<Epochs>,
    digest: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(me: Origin) -> Self {
        Self { epochs: Mutex::new(Epochs::new(me)), digest: AtomicU64::new(0) }
    }

    /// Returns the hash of all that this node has heard of and done.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Acquire)
    }

    /// Clears or deletes keyspaces here, and returns what the others are to be told.
    pub(crate) fn note(&self, shared: &Shared, deed: Deed, keyspaces: &[Arc<str>]) -> Vec<Mark> {
        let mut epochs = self.lock();
        let marks = epochs.note(deed, keyspaces, Instant::now().into_std());
        for keyspace in keyspaces {
            match deed {
                Deed::Clear => shared.clear(keyspace),
                Deed::Delete => shared.delete_keyspace(keyspace, Duration::ZERO),
            }
        }
        self.show(&epochs);
        marks
    }

    /// Takes in a mark that came over a peer's log.
    pub(crate) fn take(&self, shared: &Shared, mark: Mark) {
        let mut epochs = self.lock();
        apply(shared, epochs.merge(&[mark], Instant::now().into_std()));
        self.show(&epochs);
    }

    pub(crate) fn tell(&self) -> Told {
        self.lock().tell(Instant::now().into_std())
    }

    /// Takes in all that a peer has heard of.
    pub(crate) fn hear(&self, shared: &Shared, told: &Told) {
        let mut epochs = self.lock();
        apply(shared, epochs.hear(told, Instant::now().into_std()));
        self.show(&epochs);
    }

    /// Returns how many marks are kept.
    #[cfg(distcache_defects)]
    pub(crate) fn held(&self) -> usize {
        self.lock().held()
    }

    fn show(&self, epochs: &Epochs) {
        self.digest.store(epochs.digest(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Epochs> {
        // Whole between any two of its own calls; a store that panicked has to be told again, by whoever knows more.
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(shared: &Shared, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Clear(keyspace) => shared.clear(&keyspace),
            Change::Delete(keyspace, age) => shared.delete_keyspace(&keyspace, age),
            Change::ClearAll => {
                tracing::warn!("operations on keyspaces were missed; the cache is dropped");
                shared.drop_everything();
            }
        }
    }
}

/// Tells a peer all, and takes in all that it knows.
pub(crate) async fn exchange(shared: &Shared, link: &Link, limit: Duration) -> Result<(), PeerError> {
    let told = message::encode_told(&shared.ledger.tell());
    let answer = link.call_anyway(method::EPOCHS, told, limit).await?;
    shared.ledger.hear(shared, &message::decode_told(&answer)?);
    Ok(())
}

/// The other side of an [`exchange`].
pub(crate) fn answer(shared: &Shared, request: &Bytes) -> Result<distcache_transport::Payload, crate::DecodeError> {
    shared.ledger.hear(shared, &message::decode_told(request)?);
    Ok(message::encode_told(&shared.ledger.tell()))
}

/// Compares epochs with a peer that has heard of other ones, unless that was done since `asked`, which is when this node last spoke
/// with it. Of many who find out at the same time, one does it.
pub(crate) async fn agree(shared: &Shared, peer: &PeerLink, asked: Instant, limit: Duration) -> Result<(), PeerError> {
    let mut last = peer.agreed.lock().await;
    let agreed = match *last {
        Some((at, agreed)) if at >= asked => return if agreed { Ok(()) } else { Err(CallError::Lost.into()) },
        _ => {
            let at = Instant::now();
            let agreed = exchange(shared, peer.control.link(), limit).await;
            *last = Some((at, agreed.is_ok()));
            agreed
        }
    };
    if let Err(error) = &agreed {
        tracing::debug!(%error, "keyspace epochs could not be compared");
    }
    agreed
}
