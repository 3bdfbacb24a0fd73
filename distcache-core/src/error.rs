//! How operations fail: one enum an operation, and [`Failure`], which followers of a load share.

use std::{any::Any, error::Error, fmt, sync::Arc};

/// Explains why a cache could not be built. The caller's configuration is wrong, and a retry does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A cache of no bytes was asked for.
    ZeroCapacity,
    /// A cache of no shards was asked for.
    ZeroShards,
    /// Entries would be over before they could be read.
    ZeroTtl,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCapacity => "a cache needs a capacity of at least one byte",
            Self::ZeroShards => "a cache needs at least one shard",
            Self::ZeroTtl => "a default time to live of zero would store nothing",
        })
    }
}

impl Error for BuildError {}

/// Explains why a value was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertError {
    /// The entry is larger than what one shard may hold. The caller's value is to blame, and a retry does not help.
    ///
    /// Nothing was evicted. The state did change in one way: what was stored under the key before is gone, and a load of
    /// it will not be stored, because an old value must not outlive a write.
    TooLarge {
        /// Bytes that the entry would have counted.
        weight: u64,
        /// Bytes that an entry may count at most.
        limit: u64,
    },
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { weight, limit } => {
                write!(f, "an entry of {weight} bytes is over the limit of {limit} bytes")
            }
        }
    }
}

impl Error for InsertError {}

/// The error a load ended with, shared by all who waited for it.
///
/// # Examples
///
/// ```
/// use distcache_core::Failure;
///
/// let failure = Failure::new(String::from("no such table"));
/// assert_eq!(failure.downcast_ref::<String>().unwrap(), "no such table");
/// assert!(failure.downcast_ref::<u32>().is_none());
/// ```
#[derive(Clone)]
pub struct Failure(Arc<dyn Any + Send + Sync>);

impl Failure {
    /// Wraps an error.
    pub fn new<E: Any + Send + Sync>(error: E) -> Self {
        Self(Arc::new(error))
    }

    /// Wraps an error that is shared already.
    pub fn from_shared<E: Any + Send + Sync>(error: Arc<E>) -> Self {
        Self(error)
    }

    /// Returns the error if it is of type `E`.
    #[must_use]
    pub fn downcast_ref<E: Any>(&self) -> Option<&E> {
        (*self.0).downcast_ref()
    }

    /// Returns the shared error if it is of type `E`.
    ///
    /// # Errors
    ///
    /// Gives itself back if the error is of another type.
    pub fn downcast<E: Any + Send + Sync>(self) -> Result<Arc<E>, Self> {
        self.0.downcast().map_err(Self)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").finish_non_exhaustive()
    }
}

/// Explains why [`get_or_load`](crate::Cache::get_or_load) has no value. Nothing was stored.
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed: this caller's, or the one of another caller it waited for. A retry calls a loader again.
    Failed(Arc<E>),
    /// The loader of another caller failed, with an error of another type than this caller's loader has. A retry calls a
    /// loader again, and is likely to call this caller's.
    FailedElsewhere(Failure),
}

impl<E: Any + Send + Sync> LoadError<E> {
    pub(crate) fn of_failure(failure: Failure) -> Self {
        failure.downcast().map_or_else(Self::FailedElsewhere, Self::Failed)
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::FailedElsewhere(failure) => Self::FailedElsewhere(failure.clone()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::FailedElsewhere(failure) => f.debug_tuple("FailedElsewhere").field(failure).finish(),
        }
    }
}

impl<E> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(_) => "the load failed",
            Self::FailedElsewhere(_) => "the load of another caller failed, with an error of another type",
        })
    }
}

impl<E: Error + 'static> Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::FailedElsewhere(_) => None,
        }
    }
}
