//! What the cluster layer needs of the node it runs in: its cache and its data source, by name of keyspace.

use std::{fmt::Debug, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use distcache_transport::RemoteError;
use tokio::time::Instant;

use crate::{
    message::{Found, PutEntry, Role},
    placement::KeyHash,
    view::View,
};

/// How a value is to be read for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// In what capacity this node is asked. As an owner it was checked to be one; acting, it loads the value for all who ask and keeps it
    /// for a short time only; a peek loads nothing. A read for a peer never asks another peer.
    pub role: Role,
    /// When the asker stops waiting.
    pub deadline: Instant,
}

/// Tells whether this node owns a key at the moment of asking, without a lock.
///
/// A value may be kept by the node that owns its key when the value arrives, which may be another than the one that owned
/// it when the load began.
#[derive(Debug, Clone)]
pub struct Ownership(pub(crate) Arc<ArcSwap<View>>);

impl Ownership {
    /// Whether this node owns the key now.
    #[must_use]
    pub fn owns(&self, key: KeyHash) -> bool {
        self.0.load().owns(key)
    }
}

/// The local side of a node. The engine implements it; the cluster calls it for peers.
///
/// No method may call a peer. Errors travel to the peer as they are.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Takes the means to ask whether this node owns a key. Called once, before anything else.
    fn attach(&self, ownership: Ownership);

    /// Returns a key's value from the cache or the data source; `None` when the source has none, or, of a peek, when it is not in
    /// the cache.
    async fn read(&self, keyspace: &str, key: &str, read: Read) -> Result<Option<Found>, RemoteError>;

    /// Reads several keys of a keyspace; one result a key, in order.
    async fn read_many(&self, keyspace: &str, keys: &[&str], read: Read) -> Vec<Result<Option<Found>, RemoteError>>;

    /// Stores values as their owner, each over whatever was there and whatever is being loaded. One result an entry, in order.
    fn write(&self, keyspace: &str, entries: &[PutEntry]) -> Vec<Result<(), RemoteError>>;

    /// Drops keys, and what is being loaded for them. Unknown keyspaces are fine: nothing of them is held.
    fn invalidate(&self, keyspace: &str, keys: &[&str]);

    /// Drops every key of a keyspace.
    fn clear(&self, keyspace: &str);

    /// Drops every key of every keyspace.
    fn clear_all(&self);

    /// Removes a keyspace that was deleted `age` ago. One defined since then stays, emptied;
    /// where the two lie closer together than a message takes, either may happen.
    fn delete_keyspace(&self, keyspace: &str, age: Duration);

    /// Drops what this node does not own any more, and what is being loaded for it.
    fn keep_owned(&self, view: &View);
}
