//! What a put stores, and how a write went.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::keyspace::Expiry;

/// A value to store under a key.
///
/// ```
/// use std::time::Duration;
/// use distcache::Entry;
///
/// let entry = Entry::new("alice", "{\"name\":\"Alice\"}").ttl(Duration::from_secs(60));
/// assert_eq!(entry.key(), "alice");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    key: String,
    value: Bytes,
    /// `None`: as the keyspace says.
    expiry: Option<Expiry>,
}

impl Entry {
    /// Makes an entry that lives as long as its keyspace says.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), expiry: None }
    }

    /// Sets how long the value lives, whatever the keyspace says. Zero means that it is not kept.
    #[must_use]
    pub const fn ttl(self, ttl: Duration) -> Self {
        self.expiry(Expiry::After(ttl))
    }

    /// Sets the time of day at which the value goes, whatever the keyspace says.
    #[must_use]
    pub const fn expires_at(self, at: SystemTime) -> Self {
        self.expiry(Expiry::At(at))
    }

    const fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the value.
    #[must_use]
    pub const fn value(&self) -> &Bytes {
        &self.value
    }

    /// Takes the entry apart: key, value, expiry if it has one of its own.
    pub(crate) fn into_parts(self) -> (String, Bytes, Option<Expiry>) {
        (self.key, self.value, self.expiry)
    }
}

/// How a write or a deletion went. A peer that is down never makes it an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a degraded outcome means that some nodes may serve the old value for a while"]
#[non_exhaustive]
pub enum Outcome {
    /// Done where it counts: at the keys' owners; for a keyspace and for a strict write, on every node.
    Applied,
    /// Some nodes did not answer. Nothing stale is left here or on nodes that can be reached; those named hear of it in order
    /// when they are back, or drop what they hold. A value that was put and whose owner is named was **not** stored; it will
    /// be loaded from the source. A strict put names other nodes than the owner when the value is stored and these have not heard.
    Degraded {
        /// The names of the nodes that did not answer.
        pending: Vec<String>,
    },
}

impl Outcome {
    pub(crate) fn of(mut pending: Vec<String>) -> Self {
        pending.sort();
        pending.dedup();
        if pending.is_empty() { Self::Applied } else { Self::Degraded { pending } }
    }

    /// Whether it is done everywhere it counts.
    #[must_use]
    pub const fn is_applied(&self) -> bool {
        matches!(self, Self::Applied)
    }
}
