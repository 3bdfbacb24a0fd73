//! The transport through its public API: the same promises over memory, TCP, TLS and mutual TLS.

// The lint's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod attacks;
mod breaker;
mod calls;
mod faults;
mod handshake;
mod hostile_listener;
mod idle;
mod lanes;
mod lifecycle;
mod limits;
mod policy;
mod proxy;
mod reload;
mod renewal;
mod secret;
mod silence;
mod simulation;
mod support;
mod tls;
mod wire;
