//! What is refused, by whom, and that nothing grows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use distcache_transport::{
    BoxStream, CallError, ConnectError, ErrorCode, LinkState, Listener, NotSentReason, NotifyError, RefusalReason,
    Server, TransportConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

use crate::{support::*, wire::RawClient};

on_every_wire! {
    oversize_payload_is_refused_before_it_is_sent,
    oversize_frame_is_refused_by_the_receiver,
    oversize_answer_becomes_an_error,
    calls_over_the_limit_fail_at_once,
    calls_that_hold_too_many_bytes_fail_at_once,
    server_refuses_requests_over_its_limit,
    server_refuses_connections_over_its_limit,
}

fn small(max_payload_bytes: usize) -> TransportConfig {
    TransportConfig { max_payload_bytes, ..quick() }
}

async fn oversize_payload_is_refused_before_it_is_sent(world: World) {
    let (server, link, _) = world.pair(small(1000)).await;
    assert!(link.call(ECHO, vec![0; 1000].into(), LONG).await.is_ok());
    let too_large = NotSentReason::TooLarge { bytes: 1001, limit: 1000 };
    let error = link.call(ECHO, vec![0; 1001].into(), LONG).await.unwrap_err();
    assert_eq!(error, CallError::NotSent(too_large));
    assert_eq!(link.notify(ECHO, vec![0; 1001].into()), Err(NotifyError::TooLarge { bytes: 1001, limit: 1000 }));
    assert_eq!(server.stats().requests, 1);
}

async fn oversize_frame_is_refused_by_the_receiver(world: World) {
    let script = Script::new();
    let server = world.serve_at(world.server_addr(), &script, small(1000)).await;
    let link = world.open(server.local_addr(), quick());
    let other = world.open(server.local_addr(), quick());
    link.connected(LONG).await.unwrap();
    other.connected(LONG).await.unwrap();

    let error = link.call(ECHO, vec![0; 1001].into(), LONG).await.unwrap_err();
    assert_eq!(error, CallError::Lost);
    eventually("the fault is counted", || server.stats().protocol_errors == 1).await;
    assert_eq!(script.started(), 0);
    assert!(other.call(ECHO, number(1), LONG).await.is_ok(), "only that connection is closed");
    link.connected(LONG).await.unwrap();
}

async fn oversize_answer_becomes_an_error(world: World) {
    let (_server, link, _) = world.pair(small(1000)).await;
    assert_eq!(link.call(BYTES, number(1000), LONG).await.unwrap().len(), 1000);
    let error = link.call(BYTES, number(1001), LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Remote(error) if error.code == ErrorCode::TOO_LARGE));
    assert!(link.call(ECHO, number(1), LONG).await.is_ok());
}

async fn calls_over_the_limit_fail_at_once(world: World) {
    let config = TransportConfig { max_in_flight: 10, ..quick() };
    let (_server, link, script) = world.pair(config).await;
    let mut calls = JoinSet::new();
    for id in 0..10 {
        let link = link.clone();
        calls.spawn(async move { link.call(GATE, number(id), LONG).await });
    }
    eventually("ten are in flight", || script.running() == 10).await;
    let error = link.call(ECHO, number(0), LONG).await.unwrap_err();
    assert_eq!(error, CallError::NotSent(NotSentReason::InFlightLimit));
    script.open_gate();
    assert!(calls.join_all().await.iter().all(Result::is_ok));
    assert!(link.call(ECHO, number(0), LONG).await.is_ok());
}

async fn calls_that_hold_too_many_bytes_fail_at_once(world: World) {
    let config = TransportConfig { max_payload_bytes: 1000, max_in_flight_bytes: 2500, ..quick() };
    let (server, link, script) = world.pair(config).await;
    let held = [link.begin(GATE, vec![0; 1000].into(), LONG), link.begin(GATE, vec![0; 1000].into(), LONG)];
    let full = CallError::NotSent(NotSentReason::InFlightLimit);
    assert_eq!(link.call(ECHO, vec![0; 501].into(), LONG).await, Err(full));
    assert!(link.call(ECHO, vec![0; 500].into(), LONG).await.is_ok());
    script.open_gate();
    for call in held {
        assert!(call.unwrap().answer().await.is_ok());
    }
    assert!(link.call(ECHO, vec![0; 1000].into(), LONG).await.is_ok());
    assert_eq!((server.stats().overloaded_bytes, link.stats().refused_in_flight), (0, 1));
}

async fn server_refuses_requests_over_its_limit(world: World) {
    let script = Script::new();
    let config = TransportConfig { max_in_flight: 10, ..quick() };
    let server = world.serve_at(world.server_addr(), &script, config).await;
    let link = world.open(server.local_addr(), quick());
    link.connected(LONG).await.unwrap();
    let mut calls = JoinSet::new();
    for id in 0..10 {
        let link = link.clone();
        calls.spawn(async move { link.call(GATE, number(id), LONG).await });
    }
    eventually("ten are in flight", || script.running() == 10).await;
    let error = link.call(ECHO, number(0), LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Remote(error) if error.code == ErrorCode::OVERLOADED));
    assert_eq!(server.stats().overloaded, 1);
    script.open_gate();
    assert!(calls.join_all().await.iter().all(Result::is_ok));
}

async fn server_refuses_connections_over_its_limit(world: World) {
    let script = Script::new();
    let config = TransportConfig { max_connections: 1, ..quick() };
    let server = world.serve_at(world.server_addr(), &script, config).await;
    let first = world.open(server.local_addr(), quick());
    first.connected(LONG).await.unwrap();
    let second = world.open(server.local_addr(), quick());
    eventually("the second is refused", || {
        let LinkState::Down(error) = second.state() else { return false };
        matches!(&*error, ConnectError::Refused(refusal) if refusal.reason == RefusalReason::Overloaded)
    })
    .await;
    assert!(server.stats().rejected_connections > 0);
    first.close(SECOND).await;
    second.connected(LONG).await.unwrap();
}

/// A full client at its limit, for a while: the server with the same limit must never be the one to say no.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_never_refuses_a_client_that_keeps_the_same_limit() {
    let config = TransportConfig { max_in_flight: 4, ..quick() };
    let (server, link, _) = World::tcp().pair(config).await;
    let mut callers = JoinSet::new();
    for caller in 0..4u64 {
        let link = link.clone();
        callers.spawn(async move {
            for round in 0..500u64 {
                if (round + caller) % 7 == 0 {
                    let brief = Duration::from_micros(50 + 10 * (round % 20));
                    let _ = link.call(GATE, number(0), brief).await;
                } else {
                    link.call(ECHO, number(0), LONG).await.unwrap();
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(server.stats().overloaded, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_the_handshake_limit_are_closed_at_once() {
    let world = World::tcp();
    let config = TransportConfig { max_pending_handshakes: 2, ..quick() };
    let server = world.serve_at(world.server_addr(), &Script::new(), config).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(tokio::net::TcpStream::connect(server.local_addr()).await.unwrap());
    }
    eventually("both are accepted", || server.stats().accepted == 2).await;
    let mut third = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
    assert!(matches!(third.read_u8().await, Err(error) if error.kind() != std::io::ErrorKind::TimedOut));
    assert_eq!(server.stats().rejected_pending, 1);
    drop(silent);
    let link = world.open(server.local_addr(), quick());
    link.connected(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stream_that_says_nothing_is_closed_when_the_handshake_is_due() {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let mut silent = world.dialer().dial(server.local_addr()).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut byte = [0; 1];
    let end = tokio::time::timeout(PATIENCE, silent.read(&mut byte)).await.expect("still open");
    assert_eq!(end.unwrap(), 0);
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(server.stats().rejected_timeout, 1);
}

/// Floods requests and reads no answer: the server stops reading, and gives up once it cannot write for long enough.
#[tokio::test(start_paused = true)]
async fn peer_that_never_reads_is_given_up() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    for id in 1..=200_000 {
        let request = crate::wire::frame(1, BYTES.0, id, 60_000, &1000_u32.to_le_bytes());
        if client.stream.write_all(&request).await.is_err() {
            break;
        }
    }
    eventually("the server gave up", || server.connections() == 0).await;
    assert_eq!(server.stats().stalled_peers + server.stats().mute_peers, 1);
    assert!(server.stats().requests < 10_000, "{:?}", server.stats());
}

#[tokio::test(start_paused = true)]
async fn write_that_makes_no_progress_ends_the_connection() {
    let world = World::memory();
    let config = TransportConfig { ping_timeout: Duration::from_secs(3600), ..quick() };
    let server = world.serve_at(world.server_addr(), &Script::new(), config).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    let started = tokio::time::Instant::now();
    let request = crate::wire::frame(1, BYTES.0, 1, 60_000, &1_000_000_u32.to_le_bytes());
    client.stream.write_all(&request).await.unwrap();
    let given_up = async {
        while server.connections() == 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_up).await.expect("still open");
    assert!(started.elapsed() >= Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(started.elapsed() <= Duration::from_secs(11), "{:?}", started.elapsed());
    assert_eq!(server.stats().stalled_peers, 1);
}

#[tokio::test(start_paused = true)]
async fn cancel_flood_leaves_nothing_behind() {
    let world = World::memory();
    let script = Script::new();
    let config = TransportConfig { max_in_flight: 16, ..quick() };
    let server = world.serve_at(world.server_addr(), &script, config).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    for id in 1..=20_000 {
        let request = crate::wire::frame(1, HANG.0, id, 60_000, b"");
        let cancel = crate::wire::frame(4, 0, id, 0, b"");
        client.stream.write_all(&[request, cancel].concat()).await.unwrap();
    }
    client.stream.write_all(&crate::wire::frame(1, ECHO.0, 99_999, 60_000, b"alive")).await.unwrap();
    assert_eq!(client.read_frame().await.id, 99_999);
    assert_eq!(server.stats().overloaded, 0);
    assert!(script.peak.load(Ordering::SeqCst) <= 2 * 16 + 1, "{script:?}");
    eventually("all handlers are gone", || script.running() == 0).await;
    assert_eq!(server.stats().protocol_errors, 0);
}

/// Cancelling does not end a handler that never yields; starting ever new ones must not get a peer more than twice its share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_do_not_end_hold_their_peer_back() {
    let world = World::memory();
    let script = Script::new();
    let unblock = Unblock(Arc::clone(&script));
    let config = TransportConfig { max_in_flight: 1, ..quick() };
    let server = world.serve_at(world.server_addr(), &script, config).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    for id in 1..=3 {
        client.stream.write_all(&crate::wire::frame(1, BLOCK.0, id, 60_000, b"")).await.unwrap();
        eventually("it runs", || script.started() == usize::try_from(id).unwrap()).await;
        client.stream.write_all(&crate::wire::frame(4, 0, id, 0, b"")).await.unwrap();
        eventually("it is cancelled", || server.stats().cancelled == id).await;
    }
    client.stream.write_all(&crate::wire::frame(1, ECHO.0, 4, 60_000, b"")).await.unwrap();
    let answered = tokio::time::timeout(Duration::from_millis(100), client.read_frame()).await;
    drop(unblock);
    assert!(answered.is_err(), "{answered:?}");
    assert_eq!(client.read_frame().await.id, 4);
    assert_eq!(server.stats().overloaded, 0);
}

/// Lets a failing test end: its runtime waits for blocked handlers.
struct Unblock(Arc<Script>);

impl Drop for Unblock {
    fn drop(&mut self) {
        self.0.unblocked.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn notices_to_a_stuck_peer_are_dropped_here() {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let _stuck = crate::wire::RawServer::accept(listener).await;
    link.connected(LONG).await.unwrap();
    let refused = (0..10_000).find_map(|_| {
        let notice = Bytes::from_static(&[0; 1024]);
        link.notify(ECHO, notice).err()
    });
    assert_eq!(refused, Some(NotifyError::QueueFull));
}

#[tokio::test(start_paused = true)]
async fn listener_that_fails_is_not_asked_at_full_speed() {
    #[derive(Debug)]
    struct Fails(Arc<AtomicUsize>);

    #[async_trait::async_trait]
    impl Listener for Fails {
        async fn accept(&mut self) -> std::io::Result<(BoxStream, std::net::SocketAddr)> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(std::io::Error::from_raw_os_error(24))
        }

        fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
            Ok(addr("10.0.0.2:1"))
        }
    }

    let asked = Arc::new(AtomicUsize::new(0));
    let listener = Box::new(Fails(Arc::clone(&asked)));
    let server = Server::start(listener, Script::new(), None, hello("server"), quick());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = asked.load(Ordering::SeqCst);
    assert!((60..=70).contains(&asked), "asked {asked} times in a minute");
    server.shutdown(SECOND).await;
}

/// Requests that had to wait in the reader are answered, and not started, once nobody wants their answers any more.
#[tokio::test(start_paused = true)]
async fn requests_that_were_held_back_too_long_are_not_started() {
    let world = World::memory();
    let script = Script::new();
    let config = TransportConfig { max_out_bytes: 1 << 20, ..quick() };
    let server = world.serve_at(world.server_addr(), &script, config).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    let requests: Vec<_> =
        (1..=40).flat_map(|id| crate::wire::frame(1, BYTES.0, id, 500, &500_000_u32.to_le_bytes())).collect();
    client.stream.write_all(&requests).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let mut late = 0;
    for _ in 0..40 {
        let answer = client.read_frame().await;
        late += usize::from(answer.kind == 3 && answer.code == ErrorCode::DEADLINE.0);
    }
    assert!(late > 10, "{late} of 40 were too late");
    assert_eq!((script.started(), server.stats().deadline_exceeded), (40 - late, late as u64));
}
