//! The engine as a user has it: whole nodes over loopback, one data source a node, fetches counted.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod bad_input;
mod coherence;
mod failure;
mod harness;
mod keyspaces;
mod life;
mod near;
mod path_of_a_get;
mod reads;
mod standalone;
mod strict;
mod topology;
