//! A keyspace, looked up once.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use distcache_cluster::WriteMode;

use super::{Inner, borrow};
use crate::{
    entry::{Entry, Outcome},
    error::Result,
    space::Space,
    stats::KeySpaceStats,
};

/// One keyspace of an [`Engine`](crate::Engine): the same operations without the look-up of the name. Cheap to clone.
///
/// A handle follows its name: after [`update_keyspace`](crate::Engine::update_keyspace) it works on the new definition (by a look-up
/// each time, so take a new handle), after [`delete_keyspace`](crate::Engine::delete_keyspace) its operations end with
/// [`ErrorKind::UnknownKeySpace`](crate::ErrorKind::UnknownKeySpace).
///
/// ```
/// # use distcache::{async_trait, Bytes, DataSource, Engine, SourceError, SourceKeySpace};
/// # struct Users;
/// # #[async_trait]
/// # impl DataSource for Users {
/// #     async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> { Ok(Some(key.to_owned().into())) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), distcache::Error> {
/// let engine = Engine::builder().keyspace(SourceKeySpace::new("users", Users)).start().await?;
/// let users = engine.keyspace("users")?;
/// users.get("alice").await?;
/// users.get("alice").await?;
/// assert_eq!((users.stats().reads, users.stats().source_loads), (2, 1));
/// # engine.shutdown(std::time::Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KeySpaceHandle {
    inner: Arc<Inner>,
    space: Arc<Space>,
    mode: WriteMode,
}

impl KeySpaceHandle {
    pub(super) const fn new(inner: Arc<Inner>, space: Arc<Space>) -> Self {
        Self { inner, space, mode: WriteMode::Owner }
    }

    /// Sets when this handle's puts and deletes are done. Defaults to [`WriteMode::Owner`].
    ///
    /// A write in [`WriteMode::Strict`] whose outcome is [`Outcome::Applied`] leaves no node that could serve what was there before.
    /// [`Outcome::Degraded`] then names every node that has not said that it has heard: they are told in order when they are back, and
    /// until then may serve what they hold to their own callers; a copy of another node's value no longer than its lease.
    ///
    /// ```
    /// # use distcache::{async_trait, Bytes, DataSource, Engine, Outcome, SourceError, SourceKeySpace, WriteMode};
    /// # struct Users;
    /// # #[async_trait]
    /// # impl DataSource for Users {
    /// #     async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> { Ok(None) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), distcache::Error> {
    /// # let engine = Engine::builder().keyspace(SourceKeySpace::new("users", Users)).start().await?;
    /// let strict = engine.keyspace("users")?.write_mode(WriteMode::Strict);
    /// assert_eq!(strict.delete("alice").await?, Outcome::Applied);
    /// # engine.shutdown(std::time::Duration::from_secs(1)).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn write_mode(mut self, mode: WriteMode) -> Self {
        self.mode = mode;
        self
    }

    /// Returns the keyspace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.space.name
    }

    /// As [`Engine::get`](crate::Engine::get).
    ///
    /// # Errors
    /// As [`Engine::get`](crate::Engine::get).
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.inner.get(&self.space()?, key).await
    }

    /// As [`Engine::get_many`](crate::Engine::get_many).
    ///
    /// # Errors
    /// As [`Engine::get_many`](crate::Engine::get_many).
    pub async fn get_many(&self, keys: &[impl AsRef<str> + Sync]) -> Result<Vec<Result<Option<Bytes>>>> {
        Ok(self.inner.get_many(&self.space()?, &borrow(keys)).await)
    }

    /// As [`Engine::put`](crate::Engine::put).
    ///
    /// # Errors
    /// As [`Engine::put`](crate::Engine::put).
    pub async fn put(&self, entry: Entry) -> Result<Outcome> {
        self.inner.put(&self.space()?, entry, self.mode).await
    }

    /// As [`Engine::put_many`](crate::Engine::put_many).
    ///
    /// # Errors
    /// As [`Engine::put_many`](crate::Engine::put_many).
    pub async fn put_many(&self, entries: Vec<Entry>) -> Result<Vec<Result<Outcome>>> {
        Ok(self.inner.put_many(&self.space()?, entries, self.mode).await)
    }

    /// As [`Engine::delete`](crate::Engine::delete).
    ///
    /// # Errors
    /// As [`Engine::delete`](crate::Engine::delete).
    pub async fn delete(&self, key: &str) -> Result<Outcome> {
        self.inner.delete_many(&self.space()?, &[key], self.mode).await
    }

    /// As [`Engine::delete_many`](crate::Engine::delete_many).
    ///
    /// # Errors
    /// As [`Engine::delete_many`](crate::Engine::delete_many).
    pub async fn delete_many(&self, keys: &[impl AsRef<str> + Sync]) -> Result<Outcome> {
        self.inner.delete_many(&self.space()?, &borrow(keys), self.mode).await
    }

    fn space(&self) -> Result<Arc<Space>> {
        self.inner.open()?;
        if self.space.is_retired() { self.inner.space(&self.space.name) } else { Ok(Arc::clone(&self.space)) }
    }

    /// Returns what the keyspace, as this handle was taken of it, did on this node so far.
    #[must_use]
    pub fn stats(&self) -> KeySpaceStats {
        self.space.stats()
    }
}

impl fmt::Debug for KeySpaceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySpaceHandle").field("name", &self.name()).finish_non_exhaustive()
    }
}
