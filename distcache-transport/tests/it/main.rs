//! The transport through its public API: the same promises over memory, TCP, TLS and mutual TLS.

mod calls;
mod handshake;
mod lifecycle;
mod limits;
mod silence;
mod support;
mod tls;
mod wire;
