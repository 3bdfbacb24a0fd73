//! What a keyspace holds under a key, and how it came there: [`Slot`].

use std::time::Duration;

use bytes::Bytes;
use distcache_cluster::{Found, Lease, Origin};
use distcache_core::Weigh;
use tokio::time::Instant;

/// What a cache holds under a key and what a flight hands to its callers.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// `None`: the data source has no such key. Handed to callers, never stored.
    pub(crate) value: Option<Bytes>,
    /// When its time is up; `None` for no end.
    pub(crate) expires: Option<Instant>,
    /// Until when it stands in for a value that cannot be loaded; `None` for no end. Not before `expires`.
    pub(crate) usable: Option<Instant>,
    /// The number of the view under which it was kept; zero for what is not.
    pub(crate) since: u32,
    pub(crate) via: Via,
}

/// What a peer said of a key, and for how long it may be served.
#[derive(Debug, Clone)]
pub(crate) struct Relayed {
    pub(crate) slot: Slot,
    pub(super) lease: Option<Lease>,
}

impl Relayed {
    /// A value that is handed to its callers, and not kept.
    pub(crate) const fn once(slot: Slot) -> Self {
        Self { slot, lease: None }
    }
}

impl Weigh for Relayed {
    fn weight(&self) -> usize {
        self.slot.weight()
    }
}

/// How a value came to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// From this node's data source.
    Source,
    /// From the owner's memory.
    PeerHit,
    /// From the owner, which loaded it.
    PeerLoad,
    /// From this node's data source, for an owner that does not answer and by the next in line: kept for a short time.
    Acting,
    /// From this node's data source, because nobody else was left to ask: not kept.
    Fallback,
    /// From the memory of the node that owned the key before this one.
    Filled,
    /// From this node's memory though its time was up, because the data source failed.
    Stale,
}

impl Weigh for Slot {
    fn weight(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl Slot {
    pub(crate) const fn missing(via: Via) -> Self {
        Self { value: None, expires: None, usable: None, since: 0, via }
    }

    /// Whether its time is not up. Reads no clock of one without an end.
    pub(crate) fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() < at)
    }

    pub(crate) fn of_peer(found: Option<Found>) -> Self {
        match found {
            None => Self::missing(Via::PeerLoad),
            Some(found) => Self {
                expires: found.ttl.and_then(|ttl| Instant::now().checked_add(ttl)),
                usable: None,
                since: 0,
                value: Some(found.value),
                via: if found.origin == Origin::Cache { Via::PeerHit } else { Via::PeerLoad },
            },
        }
    }

    pub(crate) fn into_found(self, origin: Origin) -> Option<Found> {
        let ttl = self.expires.map(|at| at.saturating_duration_since(Instant::now()));
        self.value.map(|value| Found { value, ttl, origin, near: Duration::ZERO })
    }
}
