//! The cache through its public API.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests may")]

mod batches;
mod fences;
mod flights;
mod idling;
mod lifetimes;
mod limits;
mod listening;
mod loading;
mod queues;
mod reading;
mod recency;
mod storm;
mod support;
mod sweeps;
mod user_code;
