//! The transport through its public API: the same promises over memory, TCP, TLS and mutual TLS.

// The lint's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod attacks;
mod breaker;
mod calls;
mod handshake;
mod lifecycle;
mod limits;
mod policy;
mod reload;
mod secret;
mod silence;
mod support;
mod tls;
mod wire;
