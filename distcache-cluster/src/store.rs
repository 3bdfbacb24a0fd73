//! What the cluster layer needs of the node it runs in: its cache and its data source, by name of keyspace.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use distcache_transport::RemoteError;
use tokio::time::Instant;

use crate::{
    fill::Predecessors,
    message::{Found, PutEntry, Role},
    placement::KeyHash,
    standing::Standing,
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

/// Values with their keys, by keyspace.
pub type Entries = Vec<(Arc<str>, Vec<PutEntry>)>;

/// Tells whether this node owns a key at the moment of asking, without a lock.
///
/// A value may be kept by the node that owns its key when the value arrives, which may be another than the one that owned
/// it when the load began.
#[derive(Debug, Clone)]
pub struct Ownership(pub(crate) Arc<Standing>);

impl Ownership {
    /// Whether this node owns the key now.
    #[must_use]
    pub fn owns(&self, key: KeyHash) -> bool {
        self.0.owns(key)
    }

    /// Returns for how long the owner of a key may have told others something that this node has not heard; `None` for ever.
    #[must_use]
    pub fn silence_of_owner(&self, key: KeyHash) -> Option<Duration> {
        self.0.silence_of_owner(key, Instant::now())
    }

    /// Returns the number of the present view, which grows with each.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.0.ordinal()
    }

    /// Whether this node owned a key all the time since the view of number `since`: what was kept then may still be served. Between, it
    /// may have been another's, who changed it. `key` is called only shortly after a change of the ring.
    #[must_use]
    pub fn owned_since(&self, since: u64, key: impl FnOnce() -> KeyHash) -> bool {
        self.0.owned_since(since, key)
    }
}

/// The local side of a node. The engine implements it; the cluster calls it for peers.
///
/// No method may call a peer. Errors travel to the peer as they are.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Takes the means to ask whether this node owns a key, and who had it before. Called once, before anything else.
    fn attach(&self, ownership: Ownership, predecessors: Predecessors);

    /// Returns a key's value from the cache or the data source; `None` when the source has none, or, of a [`Role::Peek`] and a
    /// [`Role::Fill`], when it is not in the cache. For the latter, what [`keep_owned`](Self::keep_owned) has set aside counts too.
    async fn read(&self, keyspace: &str, key: &str, read: Read) -> Result<Option<Found>, RemoteError>;

    /// Reads several keys of a keyspace; one result a key, in order.
    async fn read_many(&self, keyspace: &str, keys: &[&str], read: Read) -> Vec<Result<Option<Found>, RemoteError>>;

    /// Stores values as their owner, each over whatever was there and whatever is being loaded. One result an entry, in order.
    fn write(&self, keyspace: &str, entries: &[PutEntry]) -> Vec<Result<(), RemoteError>>;

    /// Drops keys, and what is being loaded for them. Unknown keyspaces are fine: nothing of them is held.
    fn invalidate(&self, keyspace: &str, keys: &[&str]);

    /// Returns the names of all keyspaces of this node, in order.
    fn keyspaces(&self) -> Vec<Arc<str>>;

    /// Drops every key of a keyspace.
    fn clear(&self, keyspace: &str);

    /// Drops every key of every keyspace.
    fn clear_all(&self);

    /// Removes a keyspace that was deleted `age` ago. One defined since then stays, emptied;
    /// where the two lie closer together than a message takes, either may happen.
    fn delete_keyspace(&self, keyspace: &str, age: Duration);

    /// Takes values over from a peer: as the owner of their keys, or to have them should it become that. What is here, or is being loaded,
    /// stays. `is_vetoed` is to be asked once a fill is registered for the key: what it vetoes is not taken.
    fn adopt(&self, keyspace: &str, entries: &[PutEntry], is_vetoed: &(dyn Fn(KeyHash) -> bool + Sync));

    /// Returns up to about `max_bytes` of values for others to have when this node is gone, the most useful ones first.
    fn estate(&self, max_bytes: u64) -> Entries;

    /// Returns the values of which others are to have copies in case this node dies. Called again and again.
    fn backups(&self) -> Entries;

    /// Drops all values that came from peers: by fills, and by being given.
    fn drop_borrowed(&self);

    /// Serves whatever is held now for about `ttl` longer at most: the cluster had given this node up, and what happened meanwhile is
    /// not known here. Copies of others' values go at once, and no load under way is kept.
    fn doubt_all(&self, ttl: Duration);

    /// Gives back what was set aside and is too old to be asked for. Called once that may be so.
    fn settle(&self);

    /// Sets aside what this node does not own any more, for the new owner to ask for and for nobody else, and drops what is being loaded
    /// for it. What was set aside for a key that this node owns now is dropped.
    fn keep_owned(&self, view: &View);
}
