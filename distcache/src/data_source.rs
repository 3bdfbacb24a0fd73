//! Where values come from when they are not cached.

use std::error::Error as StdError;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;

/// What a data source may fail with: any error of the user's.
pub type SourceError = Box<dyn StdError + Send + Sync>;

/// The system of record behind a keyspace: a database, a file, another service.
///
/// On a miss the key's owner, and only the owner, calls it, once, however many callers on however many nodes wait. It is
/// called without any lock held, each time in a task of its own with the keyspace's load timeout: a fetch that takes longer
/// is dropped. A source that panics fails that load only. It may call the engine.
///
/// ```
/// use distcache::{Bytes, DataSource, SourceError, async_trait};
///
/// struct Greetings;
///
/// #[async_trait]
/// impl DataSource for Greetings {
///     async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
///         Ok((!key.starts_with("nobody")).then(|| Bytes::from(format!("hello, {key}"))))
///     }
/// }
/// ```
#[async_trait]
pub trait DataSource: Send + Sync + 'static {
    /// Returns the value of `key`, or `None` when there is none. `None` is not an error: it reaches every caller as `None`.
    ///
    /// # Errors
    /// Whatever the source fails with. Callers that wait see it as [`ErrorKind::Source`](crate::ErrorKind::Source); nothing is
    /// cached, and the next get tries again.
    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError>;

    /// Returns the values of several keys, one result a key, in order. The default fetches each by itself, at the same time.
    /// A source that can read many rows in one round trip should.
    async fn fetch_many(&self, keys: &[&str]) -> Vec<Result<Option<Bytes>, SourceError>> {
        join_all(keys.iter().map(|key| self.fetch(key))).await
    }
}
