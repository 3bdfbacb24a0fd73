//! Who gets in, and what those who do not are told.

use std::time::Duration;

use bytes::Bytes;
use distcache_transport::{ConnectError, Hello, Link, LinkState, RefusalReason};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

use crate::{support::*, wire};

on_every_wire! {
    both_ends_know_each_other_once_the_link_is_up,
    wrong_label_is_refused_at_once,
    identity_that_is_not_admitted_is_refused_at_once,
}

async fn both_ends_know_each_other_once_the_link_is_up(world: World) {
    let (server, link, script) = world.pair(quick()).await;
    let LinkState::Up(peer) = link.state() else { panic!("{:?}", link.state()) };
    assert_eq!((peer.label.as_str(), &peer.identity[..], peer.version), ("prod", &b"server"[..], 1));
    assert_eq!(link.addr(), server.local_addr());
    eventually("the service knows", || script.connected.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    assert_eq!(server.connections(), 1);
}

async fn refusal_of(world: &World, server: std::net::SocketAddr, hello: Hello) -> ConnectError {
    let link = Link::open(server, world.dialer(), world.client_security.clone(), hello, quick());
    let started = Instant::now();
    let error = link.connected(LONG).await.unwrap_err();
    assert!(started.elapsed() < LONG / 2, "a definite error must not wait");
    assert!(error.is_definite());
    error
}

async fn wrong_label_is_refused_at_once(world: World) {
    let server = world.serve(&Script::new()).await;
    let wrong = Hello { label: label("test"), ..hello("client") };
    let error = refusal_of(&world, server.local_addr(), wrong).await;
    let ConnectError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.reason, RefusalReason::Label);
    assert!(refusal.message.contains("prod") && refusal.message.contains("test"));
    assert!(server.stats().rejected_label > 0);
    assert_eq!(server.stats().connected, 0);
}

async fn identity_that_is_not_admitted_is_refused_at_once(world: World) {
    let server = world.serve(&Script::new()).await;
    let error = refusal_of(&world, server.local_addr(), hello("stranger 1")).await;
    let ConnectError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.reason, RefusalReason::Identity);
    assert_eq!(refusal.message, "not one of us");
    assert_eq!(server.stats().connected, 0);
}

#[tokio::test]
async fn identity_that_does_not_fit_is_refused_here() {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let long = Hello { identity: Bytes::from(vec![0; 1025]), ..hello("client") };
    let error = refusal_of(&world, server.local_addr(), long).await;
    assert!(matches!(error, ConnectError::Refused(refusal) if refusal.reason == RefusalReason::Identity));
}

#[tokio::test(start_paused = true)]
async fn link_that_is_refused_does_not_spin() {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let wrong = Hello { label: label("test"), ..hello("client") };
    let config = distcache_transport::TransportConfig::default();
    let _link = Link::open(server.local_addr(), world.dialer(), None, wrong, config);
    sleep(Duration::from_secs(60)).await;
    // 100 ms doubling to 5 s with full jitter: some 30 dials in a minute.
    let dials = server.stats().accepted;
    assert!((10..=90).contains(&dials), "{dials} dials in a minute");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_peer_that_is_away_tells_why() {
    let world = World::memory();
    let link = world.open(world.server_addr(), quick());
    let started = Instant::now();
    let error = link.connected(SECOND).await.unwrap_err();
    assert_eq!(started.elapsed(), SECOND);
    let refused = std::io::ErrorKind::ConnectionRefused;
    assert!(matches!(error, ConnectError::Dial { kind, .. } if kind == refused));
    assert!(!error.is_definite());
}

#[tokio::test(start_paused = true)]
async fn dial_that_hangs_is_given_up() {
    #[derive(Debug)]
    struct Hangs;

    #[async_trait::async_trait]
    impl distcache_transport::Dialer for Hangs {
        async fn dial(&self, _: std::net::SocketAddr) -> std::io::Result<distcache_transport::BoxStream> {
            std::future::pending().await
        }
    }

    let link = Link::open(addr("10.0.0.9:1"), std::sync::Arc::new(Hangs), None, hello("client"), quick());
    let mut states = link.watch();
    let started = Instant::now();
    states.wait_for(|state| matches!(state, LinkState::Down(_))).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(2));
    assert_eq!(link.connected(Duration::ZERO).await, Err(ConnectError::TimedOut));
}

/// The Hello of a node of the next release: it speaks versions 1 to 2, sets a flag that is not known yet, and has more to say.
const NEXT_HELLO: &[u8] =
    b"DCHE\x01\x2c\x00\x01\x00\x02\x000123456789abcdef\x80\0\0\0\0\0\0\0\0\x04prod\x03\x00raw\xde\xad\xbe\xef\x00";

/// The HelloAck that a listener of the next release sends to one of this: version 1, and more to say.
const NEXT_ACK: &[u8] = b"DCHE\x02\x13\x00\x01\x00\x04prod\x06\x00server\xca\xfe\xf0\x0d";

#[tokio::test(start_paused = true)]
async fn dialler_of_the_next_version_is_served_in_this_one() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut stream = world.dialer().dial(server.local_addr()).await.unwrap();
    stream.write_all(NEXT_HELLO).await.unwrap();
    let mut ack = [0; wire::ACK.len()];
    stream.read_exact(&mut ack).await.unwrap();
    assert_eq!(ack, wire::ACK, "the version chosen is 1");
    let mut client = wire::RawClient { stream };
    client.stream.write_all(&wire::frame(1, ECHO.0, 7, 1000, b"hello")).await.unwrap();
    let answer = client.read_frame().await;
    assert_eq!((answer.kind, answer.id, &answer.payload[..]), (2, 7, &b"hello"[..]));
    assert_eq!(script.peers.lock().unwrap()[0].identity, "raw", "later fields are no part of the identity");
}

#[tokio::test(start_paused = true)]
async fn listener_of_the_next_version_is_spoken_to_in_this_one() {
    let world = World::memory();
    let mut listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        wire::read_hello(&mut stream).await;
        stream.write_all(NEXT_ACK).await.unwrap();
        loop {
            let asked = wire::read_frame(&mut stream).await.unwrap();
            if asked.kind == 1 {
                stream.write_all(&wire::frame(2, 0, asked.id, 0, &asked.payload)).await.unwrap();
            }
        }
    };
    let call = async {
        let peer = link.connected(LONG).await.unwrap();
        assert_eq!((peer.version, &peer.identity[..]), (1, &b"server"[..]));
        assert_eq!(link.call(ECHO, number(7), LONG).await.unwrap()[..], 7_u32.to_le_bytes());
    };
    tokio::select! {
        () = serve => unreachable!(),
        () = call => {}
    }
}

/// Both ends' operators read both ranges: the dialler in the refusal it gets, the listener in its log, which is the same text.
#[tokio::test(start_paused = true)]
async fn ends_without_a_common_version_are_told_both_ranges() {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let mut stream = world.dialer().dial(server.local_addr()).await.unwrap();
    stream.write_all(b"DCHE\x01\x1f\x00\x02\x00\x03\x000123456789abcdef\x00\x04prod\x03\x00raw").await.unwrap();
    let mut refusal = Vec::new();
    stream.read_to_end(&mut refusal).await.unwrap();
    drop(stream);
    assert_eq!((&refusal[..5], &refusal[7..9]), (&b"DCHE\x03"[..], &[2, 0][..]));
    let message = "this node speaks 1 to 1, the peer 2 to 3";
    assert!(String::from_utf8_lossy(&refusal).contains(message), "{refusal:?}");
    assert_eq!((server.stats().rejected_version, server.stats().connected), (1, 0));
    drop(server);
    tokio::task::yield_now().await;

    // The same words from a listener of another release, to a link of this one.
    let mut listener = world.listen(addr("10.0.0.3:1")).await;
    let link = world.open(addr("10.0.0.3:1"), quick());
    let (mut stream, _) = listener.accept().await.unwrap();
    wire::read_hello(&mut stream).await;
    stream.write_all(&refusal).await.unwrap();
    let error = link.connected(LONG).await.unwrap_err();
    let ConnectError::Refused(refusal) = &error else { panic!("{error}") };
    assert_eq!(refusal.reason, RefusalReason::Version);
    assert!(refusal.message.contains(message) && error.is_definite(), "{refusal:?}");
}
