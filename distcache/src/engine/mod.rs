//! The engine: what a user holds.

mod builder;
mod get;
mod handle;
mod keyspaces;
mod start;
mod write;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use distcache_cluster::{Cluster, WriteMode};
use tokio::time::Instant;

use crate::{
    config::EngineConfig,
    entry::{Entry, Outcome},
    error::{Error, ErrorKind, Result},
    event::{Events, Member},
    flight::Flights,
    local::Local,
    space::Space,
};

pub use builder::EngineBuilder;
pub use handle::KeySpaceHandle;
pub use keyspaces::KeySpaces;

/// A node of a distributed read-through cache.
///
/// Clones share one node. Dropping the last ends it at once; [`shutdown`](Self::shutdown) takes leave first. All methods may
/// be called from any task at the same time; none holds a lock while it waits.
///
/// ```
/// use distcache::{Bytes, DataSource, Engine, SourceError, SourceKeySpace, async_trait};
///
/// struct Greetings;
///
/// #[async_trait]
/// impl DataSource for Greetings {
///     async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
///         Ok(Some(Bytes::from(format!("hello, {key}"))))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), distcache::Error> {
/// let engine = Engine::builder().keyspace(SourceKeySpace::new("greetings", Greetings)).start().await?;
/// let greeting = engine.get("greetings", "Ada").await?;
/// assert_eq!(greeting.as_deref(), Some(&b"hello, Ada"[..]));
/// # engine.shutdown(std::time::Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: EngineConfig,
    local: Arc<Local>,
    cluster: Cluster,
    flights: Flights,
    local_addr: Option<SocketAddr>,
}

impl Engine {
    /// Returns how much this node holds of what is bounded, beside the bounds; of the layer below.
    #[cfg(distcache_defects)]
    #[doc(hidden)]
    #[must_use]
    pub fn sizes(&self) -> Vec<distcache_cluster::Size> {
        self.inner.cluster.sizes()
    }

    /// Starts building an engine.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Returns the value of `key`, or `None` when the data source has none.
    ///
    /// From this node's memory, else from the key's owner, which loads it once for everyone who asks. When the owner cannot be
    /// reached, this node loads the value itself and does not keep it.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKeySpace`], [`ErrorKind::Invalid`] for a key that is empty or over the limit,
    /// [`ErrorKind::Source`] when the data source fails here or at the owner, [`ErrorKind::Timeout`] after
    /// [`EngineConfig::read_timeout`], [`ErrorKind::Closed`]. No state changes.
    ///
    /// # Concurrent calls on the same key
    /// Share one load. Each keeps its own deadline; one that gives up does not disturb the others. A failed load fails all who
    /// waited for it, with the same error; the next call tries again.
    ///
    /// # Cancel safety
    /// Cancel safe. The load goes on, and its value is kept for the next caller.
    pub async fn get(&self, keyspace: &str, key: &str) -> Result<Option<Bytes>> {
        self.inner.get(&self.inner.space(keyspace)?, key).await
    }

    /// Returns the values of several keys, one result a key, in order. Each owner is asked once for all its keys.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKeySpace`] and [`ErrorKind::Closed`] for the call, all else for the key alone.
    ///
    /// # Cancel safety
    /// As [`get`](Self::get).
    pub async fn get_many(
        &self,
        keyspace: &str,
        keys: &[impl AsRef<str> + Sync],
    ) -> Result<Vec<Result<Option<Bytes>>>> {
        Ok(self.inner.get_many(&self.inner.space(keyspace)?, &borrow(keys)).await)
    }

    /// Stores a value at its owner, over whatever is there. A load that is under way does not overwrite it.
    ///
    /// A put is a hint to the cache: write the data source first. When the owner is out of reach the outcome is
    /// [`Outcome::Degraded`]: the value is not stored, and old copies are invalidated.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a key or value over its limit (nothing is evicted for it; what was cached under an over-limit
    /// value's key is invalidated, for it is old), [`ErrorKind::UnknownKeySpace`], [`ErrorKind::Closed`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the value was stored.
    pub async fn put(&self, keyspace: &str, entry: Entry) -> Result<Outcome> {
        self.inner.put(&self.inner.space(keyspace)?, entry, WriteMode::Owner).await
    }

    /// Stores several values at their owners, one result an entry, in order.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKeySpace`] and [`ErrorKind::Closed`] for the call, all else for the entry alone.
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn put_many(&self, keyspace: &str, entries: Vec<Entry>) -> Result<Vec<Result<Outcome>>> {
        Ok(self.inner.put_many(&self.inner.space(keyspace)?, entries, WriteMode::Owner).await)
    }

    /// Removes a key from every node. Once it returned, no read here sees a value from before; a load that was under way does
    /// not bring it back. On other nodes that holds one message later, where the network lets messages through;
    /// [`KeySpaceHandle::write_mode`] makes it hold there too by then. An owner that is silent holds a delete up for less than a second.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a key that is empty or over the limit, [`ErrorKind::UnknownKeySpace`],
    /// [`ErrorKind::Closed`]. Never because a peer is down: then the outcome is [`Outcome::Degraded`].
    ///
    /// # Cancel safety
    /// Dropping the future may leave the key undeleted at its owner. Call it again.
    pub async fn delete(&self, keyspace: &str, key: &str) -> Result<Outcome> {
        self.inner.delete_many(&self.inner.space(keyspace)?, &[key], WriteMode::Owner).await
    }

    /// Removes several keys from every node, as [`delete`](Self::delete) does; each owner is asked once.
    ///
    /// # Errors
    /// As [`delete`](Self::delete); a single key at fault fails the call before anything is deleted.
    ///
    /// # Cancel safety
    /// As [`delete`](Self::delete).
    pub async fn delete_many(&self, keyspace: &str, keys: &[impl AsRef<str> + Sync]) -> Result<Outcome> {
        self.inner.delete_many(&self.inner.space(keyspace)?, &borrow(keys), WriteMode::Owner).await
    }

    /// Returns a handle to a keyspace: it skips the look-up of the name.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKeySpace`], [`ErrorKind::Closed`].
    pub fn keyspace(&self, name: &str) -> Result<KeySpaceHandle> {
        Ok(KeySpaceHandle::new(Arc::clone(&self.inner), self.inner.space(name)?))
    }

    /// Returns the present members of the cluster in order of name, this node among them.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        Member::all(&self.inner.cluster.view())
    }

    /// Returns the present view of the cluster, for simulations.
    #[doc(hidden)]
    #[must_use]
    pub fn view(&self) -> Arc<distcache_cluster::View> {
        self.inner.cluster.view()
    }

    /// Subscribes to changes of the cluster: first the members as they are, then what changes.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.inner.cluster.views())
    }

    /// Returns the name of this node on the ring.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.cluster.ident().name().as_str()
    }

    /// Returns the address this node listens on; `None` for a node that stands alone.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr
    }

    /// Takes leave of the cluster and stops: requests in flight are finished within `drain`, peers learn that this node goes,
    /// every task and socket is closed. Operations end with [`ErrorKind::Closed`] from now on. A second call waits for the first.
    ///
    /// # Cancel safety
    /// Not cancel safe: call it again to finish.
    pub async fn shutdown(&self, drain: Duration) {
        self.inner.cluster.leave(drain).await;
        self.inner.flights.close().await;
    }
}

impl Inner {
    fn space(&self, name: &str) -> Result<Arc<Space>> {
        self.open()?;
        self.local.space(name)
    }

    fn open(&self) -> Result<()> {
        if self.flights.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }

    fn read_deadline(&self) -> Instant {
        Instant::now() + self.config.read_timeout
    }

    /// Checks a key before anything is done with it.
    fn check_key(&self, key: &str) -> Result<()> {
        let limit = self.config.max_key_bytes;
        match key.len() {
            0 => Err(Error::new(ErrorKind::Invalid, "a key must not be empty")),
            len if len > limit => {
                Err(Error::new(ErrorKind::Invalid, format!("a key of {len} bytes is over the limit of {limit}")))
            }
            _ => Ok(()),
        }
    }
}

/// The last engine, handle or running call is gone: loads that nobody can ask for any more end.
impl Drop for Inner {
    fn drop(&mut self) {
        self.flights.cancel();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("name", &self.name())
            .field("local_addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}

fn borrow(keys: &[impl AsRef<str>]) -> Vec<&str> {
    keys.iter().map(AsRef::as_ref).collect()
}
