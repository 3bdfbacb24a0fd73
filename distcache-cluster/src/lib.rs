//! The cluster layer of DistCache: who is in the cluster, which member owns a key, how reads and writes reach it, and how
//! everyone else hears that a value is old.
//!
//! It does not hold values or load them (its [`Store`] does), does not know users' policies, and does not find peers by
//! itself (a [`Provider`](distcache_discovery::Provider) does). Decisions are made by machines without I/O that take the
//! time as an argument; one driver task joins them to links and timers.
//!
//! Start with [`Cluster`]. The [`Ring`] can be used alone:
//!
//! ```
//! use distcache_cluster::{KeyspaceSeed, NodeName, Placement, Ring};
//!
//! let members = ["cache-0", "cache-1", "cache-2"].map(|name| (NodeName::new(name).expect("short"), 100));
//! let ring = Ring::new(&members);
//! let order = ring.preference(KeyspaceSeed::of("cities").hash("Paris"));
//! assert_eq!(order.len(), 3);
//! ```
//!
//! # What it logs
//! `info` for changes of the cluster, `warn` for recovered faults, `debug` for single links and requests, `trace` for dropped
//! packets. Never keys or values.

mod batch;
mod budget;
mod catch_up;
mod causes;
mod cluster;
mod codec;
mod coherence;
mod config;
mod defects;
mod discover;
mod driver;
mod error;
mod event;
mod exchange;
mod fill;
mod handover;
mod hot;
mod ident;
mod join;
mod latency;
mod membership;
mod message;
mod placement;
mod read;
mod recent;
mod route;
mod service;
mod shared;
#[cfg(distcache_defects)]
mod sizes;
mod standing;
mod store;
mod sweep;
mod trials;
mod view;
mod wire;
mod write;

pub use cluster::{Cluster, Node};
pub use coherence::Lease;
pub use config::ClusterConfig;
#[cfg(distcache_defects)]
#[doc(hidden)]
pub use defects::plant;
#[doc(hidden)]
pub use defects::{Defect, planted};
pub use error::StartError;
pub use fill::Predecessors;
pub use ident::{InvalidName, NodeIdent, NodeName};
pub use join::JoinFault;
pub use membership::SwimConfig;
pub use message::{Found, Origin, PutEntry, Role, WriteMode};
pub use placement::{KeyHash, KeyspaceSeed, Placement, Preference, Ring, Slot};
pub use read::{Asked, PeerError};
pub use route::Place;
#[cfg(distcache_defects)]
#[doc(hidden)]
pub use sizes::Size;
pub use store::{Entries, Ownership, Read, Store};
pub use view::{Member, View};
pub use wire::DecodeError;
pub use write::{Delivery, Stored};
