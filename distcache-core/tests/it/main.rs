//! The cache through its public API.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests may")]

mod fences;
mod flights;
mod lifetimes;
mod limits;
mod loading;
mod reading;
mod recency;
mod storm;
mod support;
mod sweeps;
mod user_code;
