//! A keyspace: a name, a budget of bytes, a data source, and how long values live.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::data_source::DataSource;

/// A named set of keys with a data source of its own.
///
/// Every node defines its keyspaces itself, for a data source is code; nodes of one cluster should define the same ones. Use
/// [`SourceKeySpace`] unless values need an expiry that depends on the key.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use distcache::{DataSource, Expiry, KeySpace};
///
/// struct Sessions {
///     source: Arc<dyn DataSource>,
/// }
///
/// impl KeySpace for Sessions {
///     fn name(&self) -> &str {
///         "sessions"
///     }
///     fn max_bytes(&self) -> u64 {
///         64 * 1024 * 1024
///     }
///     fn data_source(&self) -> Arc<dyn DataSource> {
///         Arc::clone(&self.source)
///     }
///     fn expires_at(&self, key: &str) -> Expiry {
///         Expiry::After(Duration::from_secs(if key.starts_with("admin:") { 60 } else { 3_600 }))
///     }
/// }
/// ```
pub trait KeySpace: Send + Sync + 'static {
    /// Returns the name, 1 to 255 bytes, unique on a node. It decides ownership together with the key.
    fn name(&self) -> &str;

    /// Returns how many bytes of this node's memory the keyspace may take: keys, values and overhead. At least 64 KiB.
    fn max_bytes(&self) -> u64;

    /// Returns where values come from.
    fn data_source(&self) -> Arc<dyn DataSource>;

    /// Returns when a value that is loaded now goes. Defaults to never. A put may say otherwise for its entry.
    fn expires_at(&self, key: &str) -> Expiry {
        let _ = key;
        Expiry::Never
    }

    /// Returns how long one load may take. Too short, and slow rows are never cached; too long, and callers of a hung source
    /// wait for nothing. Defaults to 5 s.
    fn load_timeout(&self) -> Duration {
        DEFAULT_LOAD_TIMEOUT
    }

    /// Returns how many loads this node makes at once; a batch is one. Too few, and reads wait though the data source is idle; too many,
    /// and a cluster that starts cold takes the data source down. Defaults to 64.
    fn max_concurrent_loads(&self) -> usize {
        DEFAULT_CONCURRENT_LOADS
    }

    /// Returns how many loads may wait for their turn; what comes then fails at once with
    /// [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded). Too few, and a short burst fails; too many, and callers wait in vain.
    /// Defaults to 1,024.
    fn max_queued_loads(&self) -> usize {
        DEFAULT_QUEUED_LOADS
    }

    /// Returns how many bytes of this node's hottest values another node is to have copies of, so that they are not loaded anew should
    /// this node die; and as many bytes of this node's memory are for the copies of others, out of [`max_bytes`](Self::max_bytes),
    /// at most half of it. Costs a message for each value that becomes hot. Defaults to zero: a node that dies costs loads.
    fn backup_bytes(&self) -> u64 {
        0
    }

    /// Returns for how long after its time a value may stand in for one that the data source failed to give. It takes memory for that
    /// long. Defaults to zero: a failed load is an error.
    fn stale_if_error(&self) -> Duration {
        Duration::ZERO
    }
}

/// When a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// It stays until it is evicted, deleted or replaced.
    #[default]
    Never,
    /// It goes after that time. Zero means that it is not kept at all.
    After(Duration),
    /// It goes at that time of day. Translated to a remaining time at once, so that later jumps of the wall clock do not
    /// matter; a time in the past means that it is not kept at all.
    At(SystemTime),
}

impl Expiry {
    /// The remaining time, `None` for no end.
    pub(crate) fn remaining(self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(ttl) => Some(ttl),
            Self::At(at) => Some(at.duration_since(now).unwrap_or(Duration::ZERO)),
        }
    }
}

/// A keyspace made of a name, a data source and fixed settings.
///
/// ```
/// # use distcache::{async_trait, Bytes, DataSource, SourceError};
/// # struct Users;
/// # #[async_trait]
/// # impl DataSource for Users {
/// #     async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> { Ok(None) }
/// # }
/// use std::time::Duration;
/// use distcache::{KeySpace, SourceKeySpace};
///
/// let users = SourceKeySpace::new("users", Users).max_bytes(256 * 1024 * 1024).ttl(Duration::from_secs(300));
/// assert_eq!(users.name(), "users");
/// ```
#[derive(Clone)]
pub struct SourceKeySpace {
    name: String,
    max_bytes: u64,
    source: Arc<dyn DataSource>,
    expiry: Expiry,
    load_timeout: Duration,
    max_concurrent_loads: usize,
    max_queued_loads: usize,
    stale_if_error: Duration,
    backup_bytes: u64,
}

impl SourceKeySpace {
    /// Makes a keyspace of 64 MiB without expiry.
    #[must_use]
    pub fn new(name: impl Into<String>, source: impl DataSource) -> Self {
        Self::shared(name, Arc::new(source))
    }

    /// Makes a keyspace over a data source that others use too.
    #[must_use]
    pub fn shared(name: impl Into<String>, source: Arc<dyn DataSource>) -> Self {
        Self {
            name: name.into(),
            max_bytes: DEFAULT_MAX_BYTES,
            source,
            expiry: Expiry::Never,
            load_timeout: DEFAULT_LOAD_TIMEOUT,
            max_concurrent_loads: DEFAULT_CONCURRENT_LOADS,
            max_queued_loads: DEFAULT_QUEUED_LOADS,
            stale_if_error: Duration::ZERO,
            backup_bytes: 0,
        }
    }

    /// Sets how many bytes of this node's memory the keyspace may take. Too few, and values are evicted before they are read
    /// again. Defaults to 64 MiB.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how long values live. Defaults to no end.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = Expiry::After(ttl);
        self
    }

    /// Sets how long one load may take. Defaults to 5 s.
    #[must_use]
    pub const fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// Sets how many loads are made at once, and how many may wait for their turn. Defaults to 64 and 1,024.
    #[must_use]
    pub const fn max_loads(mut self, concurrent: usize, queued: usize) -> Self {
        (self.max_concurrent_loads, self.max_queued_loads) = (concurrent, queued);
        self
    }

    /// Sets of how many bytes of the hottest values another node has copies: [`KeySpace::backup_bytes`]. Defaults to zero.
    #[must_use]
    pub const fn backup_bytes(mut self, bytes: u64) -> Self {
        self.backup_bytes = bytes;
        self
    }

    /// Sets for how long after its time a value may stand in for one that failed to load. Defaults to zero: never.
    #[must_use]
    pub const fn stale_if_error(mut self, time: Duration) -> Self {
        self.stale_if_error = time;
        self
    }
}

impl KeySpace for SourceKeySpace {
    fn name(&self) -> &str {
        &self.name
    }

    fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    fn data_source(&self) -> Arc<dyn DataSource> {
        Arc::clone(&self.source)
    }

    fn expires_at(&self, _: &str) -> Expiry {
        self.expiry
    }

    fn load_timeout(&self) -> Duration {
        self.load_timeout
    }

    fn max_concurrent_loads(&self) -> usize {
        self.max_concurrent_loads
    }

    fn max_queued_loads(&self) -> usize {
        self.max_queued_loads
    }

    fn stale_if_error(&self) -> Duration {
        self.stale_if_error
    }

    fn backup_bytes(&self) -> u64 {
        self.backup_bytes
    }
}

impl fmt::Debug for SourceKeySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceKeySpace")
            .field("name", &self.name)
            .field("max_bytes", &self.max_bytes)
            .field("expiry", &self.expiry)
            .field("load_timeout", &self.load_timeout)
            .finish_non_exhaustive()
    }
}

/// Room for some hundred thousand small values; nobody is surprised by it.
const DEFAULT_MAX_BYTES: u64 = 64 * 1_024 * 1_024;
/// Longer than any healthy query, shorter than a user's patience.
const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// What a pool of connections to a database often holds, a few times over.
const DEFAULT_CONCURRENT_LOADS: usize = 64;
/// A second's work of a source that takes 60 ms for each load.
const DEFAULT_QUEUED_LOADS: usize = 1_024;
