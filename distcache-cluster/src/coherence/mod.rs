//! Invalidation: what a node applied as owner reaches every other node, or that node drops what it may cover.
//!
//! For a cache over-invalidation is always safe, so nothing here compares versions or clocks: it only delivers. A node
//! appends each invalidation to its [`Broadcast`], whose log the control lane to every peer follows, in order. A peer that was
//! away longer than the log remembers is told so by the transport, and drops everything.

mod broadcast;
mod epochs;
mod lease;
mod rotating;
mod sessions;
mod tombstones;

use std::sync::Arc;

pub(crate) use broadcast::Broadcast;
#[cfg(any(test, distcache_defects))]
pub(crate) use epochs::MAX_MARKS;
pub(crate) use epochs::{Change, Deed, Epochs, Mark, Origin, Told};
pub use lease::Lease;
pub(crate) use lease::{Heard, Hearing};
pub(crate) use sessions::Sessions;
pub(crate) use tombstones::{Moved, Offer, Teller, Tombstones};

/// Something that must not be served any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// One key.
    Key { keyspace: Arc<str>, key: Box<str> },
    /// What was done to a whole keyspace.
    Epoch(Mark),
}
