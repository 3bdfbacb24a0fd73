//! Invalidation: what a node applied as owner reaches every other node, or that node drops what it may cover.
//!
//! For a cache over-invalidation is always safe, so nothing here compares versions or clocks: it only delivers. A node
//! appends each invalidation to its [`Broadcast`], whose log the control lane to every peer follows, in order. A peer that was
//! away longer than the log remembers is told so by the transport, and drops everything.

mod broadcast;
mod lease;
mod rotating;
mod tombstones;

use std::sync::Arc;

pub(crate) use broadcast::Broadcast;
pub use lease::Lease;
pub(crate) use lease::{Heard, Hearing};
pub(crate) use tombstones::{Moved, Offer, Teller, Tombstones};

/// Something that must not be served any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// One key.
    Key { keyspace: Arc<str>, key: Box<str> },
    /// Every key of a keyspace; the keyspace stays.
    Clear { keyspace: Arc<str> },
    /// A keyspace and all its keys: one defined since the message was made stays, emptied.
    DeleteKeyspace { keyspace: Arc<str> },
}
