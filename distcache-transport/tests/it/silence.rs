//! Peers that are there and say nothing, and networks that break.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use distcache_transport::{BoxStream, CallError, ConnectError, Dialer, Link, LinkState};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep},
};

use crate::support::*;

/// Dials streams that can be frozen: what is written vanishes, and nothing can be read. So does a stopped process look.
#[derive(Debug)]
struct Freezer {
    inner: Arc<dyn Dialer>,
    frozen: Arc<AtomicBool>,
}

struct Freezable {
    inner: BoxStream,
    frozen: Arc<AtomicBool>,
}

#[async_trait]
impl Dialer for Freezer {
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream> {
        let inner = self.inner.dial(addr).await?;
        Ok(Box::new(Freezable { inner, frozen: Arc::clone(&self.frozen) }))
    }
}

impl AsyncRead for Freezable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.frozen.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Freezable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.frozen.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn both_ends_notice_a_mute_peer_within_the_ping_timeout() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let frozen = Arc::new(AtomicBool::new(false));
    let dialer = Arc::new(Freezer { inner: world.dialer(), frozen: Arc::clone(&frozen) });
    let link = Link::open(server.local_addr(), dialer, None, hello("client"), quick());
    link.connected(LONG).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert!(matches!(link.state(), LinkState::Up(_)), "an idle link stays up");
    assert_eq!(server.stats().connected, 1);

    frozen.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let error = link.call(HANG, number(0), LONG).await.unwrap_err();
    assert_eq!(error, CallError::Lost);
    let noticed = started.elapsed();
    assert!(noticed >= Duration::from_secs(2) && noticed <= Duration::from_millis(3100), "{noticed:?}");
    let LinkState::Down(why) = link.state() else { panic!("{:?}", link.state()) };
    assert!(matches!(&*why, ConnectError::Lost(_)));

    eventually("the server noticed, too", || server.connections() == 0).await;
    assert!(started.elapsed() <= Duration::from_millis(3200), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn call_that_takes_longer_than_the_ping_timeout_is_not_taken_for_silence() {
    let (_server, link, _) = World::memory().pair(quick()).await;
    let answer = link.call(SLEEP, number(8_000), LONG).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn cut_network_fails_calls_and_healed_one_brings_the_link_back() {
    let world = World::memory();
    let (server, link, script) = world.pair(quick()).await;
    let (here, there) = (world.client_addr(), server.local_addr());
    let calling = link.call(GATE, number(1), LONG);
    let cutting = async {
        eventually("the call runs", || script.running() == 1).await;
        world.network().cut(here, there);
    };
    let (result, ()) = tokio::join!(calling, cutting);
    assert_eq!(result, Err(CallError::Lost));
    eventually("the handler is dropped", || script.running() == 0).await;
    eventually("the server noticed", || server.connections() == 0).await;

    assert!(link.connected(SECOND).await.is_err());
    world.network().heal(here, there);
    link.connected(SECOND).await.unwrap();
    assert!(link.call(ECHO, number(1), LONG).await.is_ok());
    assert_eq!(script.disconnected.load(Ordering::SeqCst), 1);
    assert_eq!(script.connected.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn redialling_now_skips_the_wait() {
    let world = World::memory();
    let config = distcache_transport::TransportConfig {
        backoff_min: Duration::from_secs(3600),
        backoff_max: Duration::from_secs(3600),
        ..quick()
    };
    let link = world.open(world.server_addr(), config);
    let mut states = link.watch();
    states.wait_for(|state| matches!(state, LinkState::Down(_))).await.unwrap();
    let _server = world.serve(&Script::new()).await;
    tokio::task::yield_now().await;
    let started = Instant::now();
    link.redial_now();
    link.connected(SECOND).await.unwrap();
    assert!(started.elapsed() < SECOND);
}
