//! The network as the transport sees it: something to dial with, something to listen on, streams.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll},
};

use async_trait::async_trait;
use distcache_transport::{BoxStream, Dialer, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::network::{Network, addr_of};

/// Dials from a machine.
#[derive(Debug)]
pub(crate) struct SimDialer {
    pub(crate) network: Network,
    pub(crate) host: usize,
}

#[async_trait]
impl Dialer for SimDialer {
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream> {
        let slot = self.network.lock().dial(self.host, addr);
        let mut unclaimed = Unclaimed { network: self.network.clone(), slot: std::sync::Arc::clone(&slot) };
        let result = poll_fn(|cx| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        unclaimed.slot = std::sync::Arc::default();
        Ok(Box::new(SimStream { network: self.network.clone(), conn: result?, end: 0 }))
    }
}

/// Closes a stream that stood just as its dialler gave up.
struct Unclaimed {
    network: Network,
    slot: std::sync::Arc<std::sync::Mutex<crate::network::Answer>>,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let result = self.slot.lock().unwrap_or_else(PoisonError::into_inner).result.take();
        if let Some(Ok(conn)) = result {
            self.network.lock().drop_end(conn, 0);
        }
    }
}

/// Listens on a machine.
#[derive(Debug)]
pub(crate) struct SimListener {
    network: Network,
    host: usize,
}

impl SimListener {
    pub(crate) fn bind(network: &Network, host: usize) -> Self {
        network.lock().listen(host);
        Self { network: network.clone(), host }
    }
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<(BoxStream, SocketAddr)> {
        let accepted = poll_fn(|cx| match self.network.lock().accept(self.host, cx.waker()) {
            Some(accepted) => Poll::Ready(accepted),
            None => Poll::Pending,
        });
        let (conn, from) = accepted.await;
        Ok((Box::new(SimStream { network: self.network.clone(), conn, end: 1 }), addr_of(from)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(addr_of(self.host))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network.lock().unlisten(self.host);
    }
}

/// One end of a connection.
struct SimStream {
    network: Network,
    conn: u64,
    end: usize,
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.network.lock();
        match state.read(self.conn, self.end, buf.remaining()) {
            Some(result) => Poll::Ready(result.map(|bytes| buf.put_slice(&bytes))),
            None => {
                if let Some(conn) = state.conns.get_mut(&self.conn) {
                    conn.ends[self.end].reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.network.lock();
        match state.write(self.conn, self.end, bytes) {
            Ok(0) if !bytes.is_empty() => {
                if let Some(conn) = state.conns.get_mut(&self.conn) {
                    conn.ends[self.end].writer = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.lock().shut(self.conn, self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.lock().drop_end(self.conn, self.end);
    }
}
