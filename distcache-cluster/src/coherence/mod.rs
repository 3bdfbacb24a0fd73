//! Invalidation: what a node applied as owner reaches every other node, or that node drops what it may cover.
//!
//! For a cache over-invalidation is always safe, so nothing here compares versions or clocks: it only delivers. A node
//! appends each invalidation to its [`log`]; one [`stream`] per peer sends the log in order and keeps a cursor at what the
//! peer acknowledged. A peer that was away longer than the log remembers is told to drop everything.

mod log;
mod stream;

use std::{sync::Arc, time::Duration};

pub(crate) use log::{InvalidationLog, Position};
pub(crate) use stream::Streams;

/// Something that must not be served any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// One key.
    Key { keyspace: Arc<str>, key: Box<str> },
    /// Every key of a keyspace; the keyspace stays.
    Clear { keyspace: Arc<str> },
    /// A keyspace and all its keys, deleted `age` ago: a keyspace defined since then stays, emptied.
    DeleteKeyspace { keyspace: Arc<str>, age: Duration },
    /// All that the receiver holds: the log no longer knows what it missed.
    Everything,
}
