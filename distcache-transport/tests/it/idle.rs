//! Connections on which nothing happens: they cost little, and their peers are found out when it matters.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use distcache_transport::{BoxStream, CallError, Dialer, Link, LinkState, Server};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, advance, sleep, timeout},
};

use crate::{
    support::*,
    wire::{RawClient, RawServer, frame, read_frame},
};

/// Dials streams that count their bytes and can be frozen: what is written vanishes, and nothing can be read.
#[derive(Debug)]
struct Tap {
    inner: Arc<dyn Dialer>,
    tapped: Arc<Tapped>,
}

#[derive(Debug, Default)]
struct Tapped {
    bytes: AtomicUsize,
    is_frozen: AtomicBool,
    /// Only nothing can be read.
    is_deaf: AtomicBool,
}

struct Stream {
    inner: BoxStream,
    tapped: Arc<Tapped>,
}

#[async_trait]
impl Dialer for Tap {
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream> {
        let inner = self.inner.dial(addr).await?;
        Ok(Box::new(Stream { inner, tapped: Arc::clone(&self.tapped) }))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.tapped.is_frozen.load(Ordering::SeqCst) || self.tapped.is_deaf.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.tapped.bytes.fetch_add(buf.filled().len() - before, Ordering::SeqCst);
        poll
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.tapped.is_frozen.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(buf.len()));
        }
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = poll {
            self.tapped.bytes.fetch_add(written, Ordering::SeqCst);
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A link whose stream is tapped, and its server.
async fn tapped() -> (Server, Link, Arc<Tapped>) {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let tapped = Arc::new(Tapped::default());
    let dialer = Arc::new(Tap { inner: world.dialer(), tapped: Arc::clone(&tapped) });
    let link = Link::open(server.local_addr(), dialer, None, hello("client"), quick());
    link.connected(LONG).await.unwrap();
    (server, link, tapped)
}

/// Waits until the link is lost, and returns how long that took.
async fn lost(link: &Link, started: Instant) -> Duration {
    let mut states = link.watch();
    let down = states.wait_for(|state| matches!(state, LinkState::Down(_)));
    timeout(Duration::from_secs(60), down).await.expect("the link stays up").unwrap();
    started.elapsed()
}

async fn next_ping(server: &mut RawServer) {
    while read_frame(&mut server.stream).await.unwrap().kind != PING {}
}

const PING: u8 = 6;
const PONG: u8 = 7;
const FRAME_BYTES: usize = 20;

/// After this a connection is no longer new, and is idle.
const SETTLED: Duration = Duration::from_secs(5);

/// What the answer to a ping may take at the defaults.
const ANSWER: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn idle_ends_exchange_six_pings_a_minute_and_stay_connected() {
    let (server, link, tapped) = tapped().await;
    sleep(SETTLED).await;
    tapped.bytes.store(0, Ordering::SeqCst);
    sleep(Duration::from_secs(600)).await;
    let frames = tapped.bytes.load(Ordering::SeqCst) / FRAME_BYTES;
    assert!((110..=122).contains(&frames), "{frames} pings and pongs in ten minutes");
    assert!(matches!(link.state(), LinkState::Up(_)));
    assert_eq!((server.stats().connected, server.connections()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn idle_link_that_had_calls_is_idle_again() {
    let (_server, link, tapped) = tapped().await;
    for round in 0..50 {
        assert!(link.call(ECHO, number(round), LONG).await.is_ok());
        sleep(Duration::from_millis(70)).await;
    }
    sleep(SETTLED).await;
    tapped.bytes.store(0, Ordering::SeqCst);
    sleep(Duration::from_secs(60)).await;
    let frames = tapped.bytes.load(Ordering::SeqCst) / FRAME_BYTES;
    assert!((10..=14).contains(&frames), "{frames} pings and pongs in a minute");
}

#[tokio::test(start_paused = true)]
async fn frozen_listener_is_found_out_by_the_first_call_on_an_idle_link() {
    // Before a ping, while one is on its way, after one.
    for tenths in 0..110 {
        let (_server, link, tapped) = tapped().await;
        sleep(SETTLED + Duration::from_millis(tenths * 100)).await;
        tapped.is_frozen.store(true, Ordering::SeqCst);
        sleep(Duration::from_millis(300)).await;
        let started = Instant::now();
        assert_eq!(link.call(HANG, number(0), LONG).await, Err(CallError::Lost), "after {tenths} tenths");
        let (took, most) = (started.elapsed(), quick().ping_timeout + Duration::from_millis(5));
        assert!(took <= most, "{took:?}, after {tenths} tenths");
    }
}

#[tokio::test(start_paused = true)]
async fn frozen_listener_is_found_out_by_calls_that_give_up_early() {
    let (_server, link, tapped) = tapped().await;
    sleep(SETTLED).await;
    tapped.is_frozen.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let calls = async {
        loop {
            let budget = Duration::from_millis(50);
            assert!(link.call_anyway(HANG, number(0), budget).await.is_err());
            // Whenever the link looks, there is none.
            sleep(Duration::from_millis(1_100)).await;
        }
    };
    let took = tokio::select! {
        took = lost(&link, started) => took,
        () = calls => unreachable!("calls never end"),
    };
    assert!(took <= quick().ping_timeout + quick().ping_interval, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_on_an_idle_link_is_no_fault_and_an_unanswered_ping_is() {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let mut server = RawServer::accept(listener).await;
    next_ping(&mut server).await;
    server.stream.write_all(&frame(PONG, 0, 0, 0, b"")).await.unwrap();
    let heard = Instant::now();
    let pinged = async {
        next_ping(&mut server).await;
        assert!(heard.elapsed() >= quick().idle_ping_interval, "{:?}", heard.elapsed());
        assert!(matches!(link.state(), LinkState::Up(_)), "silence alone ended it");
    };
    let (took, ()) = tokio::join!(lost(&link, heard), pinged);
    let due = quick().idle_ping_interval + ANSWER;
    assert!(took >= due && took <= due + Duration::from_millis(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn busy_link_is_lost_when_its_listener_was_silent_for_the_ping_timeout() {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let mut server = RawServer::accept(listener).await;
    link.connected(LONG).await.unwrap();
    let calling = tokio::spawn({
        let link = link.clone();
        async move { link.call(HANG, number(0), LONG).await }
    });
    // A byte now and then is enough.
    for millis in [1_900, 200, 2_500, 1_900] {
        sleep(Duration::from_millis(millis)).await;
        server.stream.write_all(&frame(PONG, 0, 0, 0, b"")).await.unwrap();
    }
    let took = lost(&link, Instant::now()).await;
    assert!(took >= quick().ping_timeout && took <= quick().ping_timeout + Duration::from_millis(5), "{took:?}");
    assert_eq!(calling.await.unwrap(), Err(CallError::Lost));
}

/// Makes a link, and stops its process for that long while a ping is on its way that nobody answers.
async fn stopped_for(pause: Duration) -> (Link, RawServer) {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let mut server = RawServer::accept(listener).await;
    next_ping(&mut server).await;
    server.stream.write_all(&frame(PONG, 0, 0, 0, b"")).await.unwrap();
    next_ping(&mut server).await;
    advance(pause).await;
    (link, server)
}

#[tokio::test(start_paused = true)]
async fn answer_that_came_while_the_process_was_stopped_is_heard() {
    // The order in which a task polls its parts is random.
    for _ in 0..20 {
        for pause in [ANSWER / 4, ANSWER / 2, Duration::from_secs(60)] {
            let (server, _link, tapped) = tapped().await;
            sleep(SETTLED).await;
            tapped.is_deaf.store(true, Ordering::SeqCst);
            let before = tapped.bytes.load(Ordering::SeqCst);
            eventually("it pings", || tapped.bytes.load(Ordering::SeqCst) > before).await;
            sleep(ANSWER * 3 / 4).await;
            // The answer is there, and nobody is told of it but by the clock, as after a stop.
            tapped.is_deaf.store(false, Ordering::SeqCst);
            advance(pause).await;
            sleep(Duration::from_millis(100)).await;
            assert_eq!(server.stats().connected, 1, "stopped for {pause:?}, and lost");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn process_that_was_stopped_asks_again_before_it_gives_its_peer_up() {
    let (link, mut server) = stopped_for(Duration::from_secs(60)).await;
    let woken = Instant::now();
    timeout(ANSWER / 2, next_ping(&mut server)).await.expect("it does not ask again");
    assert!(matches!(link.state(), LinkState::Up(_)), "its own pause was taken for the peer's silence");
    let took = lost(&link, woken).await;
    assert!(took >= ANSWER && took <= ANSWER + Duration::from_millis(5), "{took:?}");
}

/// How long after its last byte the server gives up a client that did this a second after its handshake.
async fn given_up_after(bytes: &[u8]) -> Duration {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    sleep(SECOND).await;
    client.stream.write_all(bytes).await.unwrap();
    let spoke = Instant::now();
    while client.stream.read(&mut [0; 100]).await.is_ok_and(|read| read > 0) {}
    let took = spoke.elapsed();
    eventually("it is gone", || server.connections() == 0 && script.running() == 0).await;
    assert_eq!(server.stats().mute_peers, 1);
    took
}

fn assert_about(took: Duration, expected: Duration) {
    assert!(took >= expected && took <= expected + Duration::from_millis(5), "{took:?} instead of {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn server_gives_up_an_idle_mute_peer_in_the_documented_time() {
    let took = given_up_after(&frame(PING, 0, 1, 0, b"")).await;
    assert_about(took, quick().idle_ping_interval * 3 / 2 + Duration::from_millis(1_500));
    assert!(took <= quick().idle_ping_interval * 3 / 2 + quick().ping_timeout);
}

#[tokio::test(start_paused = true)]
async fn server_gives_up_a_mute_peer_whose_request_runs_after_the_ping_timeout() {
    let request = frame(1, HANG.0, 1, 60_000, b"");
    // The first bytes after a silence, and behind others.
    assert_about(given_up_after(&request).await, quick().ping_timeout);
    let ping = frame(PING, 0, 1, 0, b"");
    assert_about(given_up_after(&[ping, request].concat()).await, quick().ping_timeout);
}

#[tokio::test(start_paused = true)]
async fn request_on_a_connection_that_was_idle_is_watched_at_once() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    sleep(SECOND).await;
    client.stream.write_all(&frame(PING, 0, 1, 0, b"")).await.unwrap();
    // Long enough to be taken for idle, and not yet for the next ping.
    sleep(SETTLED).await;
    client.stream.write_all(&frame(1, HANG.0, 1, 60_000, b"")).await.unwrap();
    let spoke = Instant::now();
    while client.stream.read(&mut [0; 100]).await.is_ok_and(|read| read > 0) {}
    assert_about(spoke.elapsed(), quick().ping_timeout);
    eventually("its handler is dropped", || script.running() == 0).await;
    assert_eq!(server.stats().mute_peers, 1);
}
