//! Measurements of `distcache-cluster`: what its ring costs and how evenly it spreads keys, beside rendezvous hashing and the `hashring`
//! crate as its documentation uses it.
//!
//! `cargo xtask bench cluster` runs all of it and writes `benches/CLUSTER.md`; `cargo xtask targets cluster` takes its figures from here.

pub mod join;
pub mod records;
pub mod rendezvous;
pub mod report;
pub mod speed;
pub mod spread;
pub mod subject;
