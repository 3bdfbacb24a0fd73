//! The node binary, run as users and the cluster tests run it.

#![allow(clippy::unwrap_used, reason = "a test may; the lint sees test functions only, not what they share")]

mod node;
