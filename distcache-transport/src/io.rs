//! What the transport needs of a network: something to dial with, something to listen on, and byte streams.

use std::{fmt::Debug, io, net::SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Is a reliable, ordered byte stream in both directions. Every type that can be one is one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Holds any stream.
pub type BoxStream = Box<dyn Stream>;

/// Opens streams to peers. The transport sets the time limit.
#[async_trait]
pub trait Dialer: Debug + Send + Sync + 'static {
    /// Opens a stream.
    ///
    /// # Errors
    /// What the network says; the link backs off and tries again.
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream>;
}

/// Accepts streams from peers.
#[async_trait]
pub trait Listener: Debug + Send + 'static {
    /// Waits for the next stream and the address it comes from.
    ///
    /// # Errors
    /// What the network says; the server backs off and tries again.
    ///
    /// # Cancel safety
    /// Must be cancel safe: no accepted stream is lost.
    async fn accept(&mut self) -> io::Result<(BoxStream, SocketAddr)>;

    /// Returns the address that peers dial.
    ///
    /// # Errors
    /// What the network says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
