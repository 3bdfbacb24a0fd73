//! What the examples of DistCache share: a database of real cities, and a cache node as a process of its own.
//!
//! Nothing here is part of the library, and nothing here is published. To see how an engine is used, read `node.rs`; for the
//! smallest program, `examples/quickstart.rs`.
//!
//! The way in is [`Cities`], a [`DataSource`](distcache::DataSource) over SQLite:
//!
//! ```
//! use distcache::{DataSource, Engine, SourceKeySpace};
//! use distcache_examples::{Cities, Scratch};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let scratch = Scratch::new("doc")?;
//! let cities = Cities::create(&scratch.path().join("cities.db"))?;
//!
//! let engine = Engine::builder().keyspace(SourceKeySpace::new("cities", cities.clone())).start().await?;
//! let london = engine.get("cities", "2643743").await?.expect("London is in the table");
//! assert!(std::str::from_utf8(&london)?.contains("London"));
//! assert_eq!(cities.fetches(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`node::run`] is a node that obeys lines of [`Request`]s on its standard input; [`NodeProcess`] is the other end of those
//! lines. Feature `discovery`: the node can find others by DNS, NATS and Kubernetes.

pub mod node;

mod audit;
mod cities;
mod commands;
#[cfg(distcache_defects)]
mod defect;
mod finding;
mod first;
mod journal;
mod latency;
mod load;
mod pool;
mod process;
mod protocol;
mod pulse;
mod scratch;
mod stats;
mod versions;

pub use cities::{Cities, City};
pub use finding::Finding;
pub use journal::{Audit, Journal, Mode, Seen, Written};
pub use latency::Latencies;
pub use process::NodeProcess;
pub use protocol::{
    Answer, Class, Found, Hammered, Loaded, MemberList, Numbers, Owned, Pending, ReadReport, Ready, Request, Sample,
    Started, Stopped, Updated,
};
pub use scratch::Scratch;
pub use stats::NodeStats;
pub use versions::Versions;

/// The README's code blocks, compiled and run like any other documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
