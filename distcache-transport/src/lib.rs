//! The peer link of DistCache: framed, multiplexed requests with deadlines, over TCP or TLS.
//!
//! It carries bytes between two nodes that agree on a cluster and a wire version. It does not know what the bytes mean, who
//! owns a key, or which nodes are members; it does not retry a call, and it does not queue calls for a peer that is away.
//!
//! Start at [`Link`], which dials a peer and keeps the connection, and at [`Server`], which accepts peers and hands their
//! requests to a [`Service`]. Both work over anything that implements [`Dialer`] and [`Listener`]: TCP in production,
//! [`MemoryNetwork`] in tests.
//!
//! Two nodes that talk have two lanes: a [`Link`] for requests and values, and a [`ControlLink`] for what must not wait behind them:
//! small messages, heartbeats, and the events of a [`ControlLog`], in order and each once, or with the word that some are lost.
//!
//! # Examples
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use bytes::Bytes;
//! use distcache_transport::{ClusterLabel, Hello, Link, Method, TcpDialer, TlsConfig, TransportConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = TlsConfig::from_pem_files("ca.pem", "node.pem", "node.key")?;
//! let hello = Hello { label: ClusterLabel::try_from("prod")?, identity: Bytes::from_static(b"cache-0") };
//! let addr = "10.0.0.2:3320".parse()?;
//! let link = Link::open(addr, Arc::new(TcpDialer), Some(tls), hello, TransportConfig::default());
//! let peer = link.connected(Duration::from_secs(5)).await?;
//! println!("{} speaks wire version {}", addr, peer.version);
//!
//! let answer = link.call(Method(1), Bytes::from_static(b"alice").into(), Duration::from_millis(200)).await?;
//! println!("{} bytes", answer.len());
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `aws-lc-rs` | no | TLS by aws-lc-rs in place of *ring*, which is compiled all the same; the two understand each other |
//!
//! TCP, TLS and the in-memory network are always there.

#![forbid(unsafe_code)]

mod config;
mod connection;
mod entropy;
mod error;
mod frame;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod greeting;
mod handshake;
mod io;
mod lane;
mod link;
mod log;
mod memory;
mod outbox;
mod payload;
mod reader;
mod room;
mod secret;
mod security;
mod server;
mod tcp;
mod tls;

pub use config::{ClusterLabel, Hello, LabelError, TransportConfig};
pub use entropy::Entropy;
pub use error::{
    CallError, ConfigFault, ConnectError, ErrorCode, NotSentReason, NotifyError, Refusal, RefusalReason, RemoteError,
};
pub use io::{BoxStream, Dialer, Listener, Stream};
pub use lane::Lane;
pub use link::{BreakerState, Call, ControlLink, Link, LinkState, LinkStats, PeerHello, Progress};
pub use log::{ControlLog, Event, LogLimits, Position};
pub use memory::{MemoryDialer, MemoryListener, MemoryNetwork};
pub use payload::{Method, Payload};
pub use secret::{SecretError, SecretKeys};
pub use security::Security;
pub use server::{Peer, Request, Server, ServerStats, Service};
pub use tcp::{TcpDialer, TcpListener};
pub use tls::{PeerCertificate, PeerPolicy, TlsConfig, TlsError, TlsStatus, TlsWatch};
