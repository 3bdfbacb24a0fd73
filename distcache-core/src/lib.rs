//! A concurrent in-process cache: bounded in bytes, with times to live, and with loads that are made once however many ask.
//!
//! It does not talk to other processes, run tasks or threads of its own, read the wall clock, or depend on any other
//! crate. It works the same from threads and from tasks of any executor.
//!
//! Start at [`Cache`]; its [`get_or_load`](Cache::get_or_load) (tasks) and
//! [`get_or_insert_with`](Cache::get_or_insert_with) (threads) read through it. Both are built on
//! [`lookup`](Cache::lookup), which gives a caller the value, the duty to load it ([`Fill`]), or a wait for whoever
//! does ([`Follower`]).
//!
//! What it promises:
//!
//! * **Bytes.** What entries count, [`ENTRY_OVERHEAD`] included, never exceeds the capacity when no call is running. An
//!   entry that is too large is refused and evicts nothing.
//! * **Fences.** A value that was read before a write or a removal of its key is never stored after it, and a read that begins
//!   after a removal never gets it.
//! * **One load.** One caller loads a key at a time. If it fails, all who waited know why; if it goes away, one of
//!   them takes over at once.
//! * **No wait on user code.** Loading, weighing, judging and dropping happen outside all locks.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! use distcache_core::Cache;
//!
//! let cache = Cache::<String, String>::builder(64 * 1024 * 1024).default_ttl(Duration::from_secs(60)).build()?;
//!
//! let greeting = cache.get_or_insert_with("alice", || String::from("hello, alice"));
//! assert_eq!(greeting, "hello, alice");
//!
//! cache.remove("alice");
//! assert_eq!(cache.get("alice"), None);
//! # Ok::<_, distcache_core::BuildError>(())
//! ```
//!
//! # Features
//!
//! None.

// One small module may: see `cpu.rs`.
#![deny(unsafe_code)]

mod batch;
mod builder;
mod cache;
mod clock;
mod cpu;
mod deadlines;
mod defects;
mod error;
mod expiry;
mod fill;
mod flight;
mod follower;
mod garbage;
mod hash;
mod inner;
mod key;
mod lane;
mod load;
mod policy;
mod shard;
mod stats;
mod store;
mod sweep;
mod sync;
mod table;
mod tags;
mod tally;
mod walk;
mod weigh;

pub use builder::{ByCount, ByFunction, ByWeigh, CacheBuilder};
pub use cache::{Cache, Epoch, Lookup};
pub use clock::{Clock, ManualClock, MonotonicClock, Tick};
#[cfg(distcache_defects)]
#[doc(hidden)]
pub use defects::{Defect, plant};
pub use error::{BuildError, Failure, InsertError, LoadError};
pub use expiry::Expiry;
pub use fill::{Fill, Installed};
pub use follower::{Follower, Outcome};
pub use garbage::Cause;
pub use hash::{SecretHasher, SecretState};
pub use key::ToKey;
pub use policy::Eviction;
pub use stats::Stats;
pub use walk::Iter;
pub use weigh::{ENTRY_OVERHEAD, EXPIRY_OVERHEAD, IDLE_OVERHEAD, Weigh};
