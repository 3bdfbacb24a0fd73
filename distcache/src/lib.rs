//! DistCache: an embedded, distributed, read-through cache. Every process of a service links it and becomes a node; together
//! the nodes hold one cache, and a missing value is loaded once, by the one node that owns its key.
//!
//! It is not a database (a value can go at any time), not a server to run, and no lock service. Values are bytes; what they
//! mean is the user's matter.
//!
//! Start with [`Engine`]: give it a [`KeySpace`] with a [`DataSource`], and a [`Provider`] that finds the other nodes
//! (the [`discovery`] module has what a provider of your own needs). What reads may be given after writes, and for how long under which
//! fault, is said in [`consistency`].
//!
//! ```
//! use distcache::{Bytes, DataSource, Engine, SourceError, SourceKeySpace, async_trait};
//!
//! struct Squares;
//!
//! #[async_trait]
//! impl DataSource for Squares {
//!     async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
//!         let n: u64 = key.parse()?;
//!         Ok(Some(Bytes::from((n * n).to_string())))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), distcache::Error> {
//! let engine = Engine::builder().keyspace(SourceKeySpace::new("squares", Squares)).start().await?;
//! assert_eq!(engine.get("squares", "12").await?.as_deref(), Some(&b"144"[..]));
//! # engine.shutdown(std::time::Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `aws-lc-rs` | no | TLS by aws-lc-rs in place of ring, which is compiled all the same |
//! | `dns` | no | `DnsProvider`: nodes find each other by the addresses or the SRV records of a name |
//! | `kubernetes` | no | `KubernetesProvider`: by the pods or the EndpointSlices that the API server knows |
//! | `kubernetes-unversioned` | no | the same, for programs that choose a version feature of `k8s-openapi` themselves |
//! | `nats` | no | `NatsProvider`: by their presence at a NATS server |
//!
//! Static and standalone discovery and TLS are always there.
//!
//! # What it logs
//! Through `tracing`: a `debug` span for each operation that leaves memory (`distcache.get`, `distcache.get_many`, `distcache.put`,
//! `distcache.delete`) and for each request to an owner (`distcache.ask`), with the fields `keyspace`, `peer`, `outcome`; changes of
//! the cluster at `info`, recovered faults at `warn`. Never values, never keys.

#[doc = include_str!("../CONSISTENCY.md")]
pub mod consistency {}

mod aside;
mod cap;
mod clock;
mod config;
mod data_source;
mod engine;
mod entry;
mod error;
mod event;
mod flight;
mod keyspace;
mod local;
mod machine;
mod permits;
mod space;
mod stats;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use distcache_cluster::WriteMode;
/// All that a discovery provider of one's own is made of.
pub use distcache_discovery as discovery;
#[cfg(feature = "dns")]
pub use distcache_discovery::DnsProvider;
#[cfg(feature = "kubernetes-unversioned")]
pub use distcache_discovery::KubernetesProvider;
#[cfg(feature = "nats")]
pub use distcache_discovery::NatsProvider;
pub use distcache_discovery::{Provider, StandaloneProvider, StaticProvider};
pub use distcache_transport::{PeerPolicy, SecretError, SecretKeys, TlsConfig, TlsError, TlsStatus, TlsWatch};

pub use config::EngineConfig;
pub use data_source::{DataSource, SourceError};
pub use engine::{Engine, EngineBuilder, KeySpaceHandle, KeySpaces};
pub use entry::{Entry, Outcome};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, Events, Member};
pub use keyspace::{Expiry, KeySpace, SourceKeySpace};
#[doc(hidden)]
pub use machine::Machine;
pub use stats::KeySpaceStats;
