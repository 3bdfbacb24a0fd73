//! Measurements of DistCache beside the libraries a user would pick instead.

pub mod clean_build;
pub mod collide;
pub mod contest;
pub mod dataset;
pub mod flight;
pub mod hit_ratio;
pub mod latency;
pub mod memory;
pub mod optimum;
pub mod parallel;
pub mod peers;
pub mod records;
pub mod report;
pub mod results;
pub mod rng;
pub mod stats;
pub mod targets;
pub mod throughput;
pub mod traces;
pub mod zipf;
