//! Tests through the public API.

#![allow(clippy::unwrap_used, reason = "clippy sees tests only in functions marked as such, not in their helpers")]

mod conformance;
#[cfg(feature = "dns")]
mod dns;
mod forward;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(feature = "nats")]
mod nats;
mod system_resolver;
mod together;
