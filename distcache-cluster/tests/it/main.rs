//! Whole nodes over the in-memory network, on a paused clock: links that are cut and healed, seconds that take no time.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod catch_up;
mod discovery;
mod epochs;
mod harness;
mod membership;
mod reads;
mod strict;
mod writes;
