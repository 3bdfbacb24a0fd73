//! Who gets in, and what those who do not are told.

use std::time::Duration;

use bytes::Bytes;
use distcache_transport::{ConnectError, Hello, Link, LinkState, RefusalReason};
use tokio::time::{Instant, sleep};

use crate::support::*;

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
