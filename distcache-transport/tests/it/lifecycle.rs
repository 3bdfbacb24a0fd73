//! Beginning and end: restarts, draining, and that nothing is left behind.

use std::{sync::atomic::Ordering, time::Duration};

use distcache_transport::{CallError, ErrorCode, LinkState, NotSentReason, NotifyError};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use crate::support::*;

on_every_wire! {
    link_comes_back_after_the_server_restarts,
    shutdown_finishes_what_is_in_flight,
    shutdown_aborts_what_outlasts_the_drain,
    shutdown_twice_is_the_same_as_once,
    closing_a_link_finishes_what_is_in_flight,
    closing_a_link_delivers_what_is_queued,
    closed_link_takes_no_calls,
    dropping_both_ends_leaves_no_task,
}

async fn link_comes_back_after_the_server_restarts(world: World) {
    let (server, link, script) = world.pair(quick()).await;
    let at = server.local_addr();
    server.shutdown(SECOND).await;
    eventually("the link noticed", || !matches!(link.state(), LinkState::Up(_))).await;
    let error = link.call(ECHO, number(1), LONG).await.unwrap_err();
    assert_eq!(error, CallError::NotSent(NotSentReason::LinkDown));

    let _again = world.serve_at(at, &script, quick()).await;
    link.connected(LONG).await.unwrap();
    assert!(link.call(ECHO, number(1), LONG).await.is_ok());
}

async fn shutdown_finishes_what_is_in_flight(world: World) {
    let (server, link, script) = world.pair(quick()).await;
    let calling = link.call(GATE, number(7), LONG);
    let stopping = async {
        eventually("the call runs", || script.running() == 1).await;
        let mut shutdown = std::pin::pin!(server.shutdown(LONG));
        assert!(timeout(Duration::from_millis(50), &mut shutdown).await.is_err(), "must wait for the call");
        let late = link.call(ECHO, number(8), LONG).await.unwrap_err();
        assert!(
            !late.was_sent() || matches!(&late, CallError::Remote(error) if error.code == ErrorCode::SHUTTING_DOWN)
        );
        script.open_gate();
        shutdown.await;
    };
    let (answer, ()) = tokio::join!(calling, stopping);
    assert_eq!(answer.unwrap(), 7u32.to_le_bytes()[..]);
    assert_eq!(server.connections(), 0);
}

async fn shutdown_aborts_what_outlasts_the_drain(world: World) {
    let (server, link, script) = world.pair(quick()).await;
    let stopping = async {
        eventually("the call runs", || script.running() == 1).await;
        let started = Instant::now();
        server.shutdown(Duration::from_millis(100)).await;
        assert!(started.elapsed() >= Duration::from_millis(100));
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        assert_eq!(script.running(), 0);
    };
    let (answer, ()) = tokio::join!(link.call(HANG, number(0), LONG), stopping);
    assert_eq!(answer, Err(CallError::Lost));
}

async fn shutdown_twice_is_the_same_as_once(world: World) {
    let (server, _link, script) = world.pair(quick()).await;
    tokio::join!(server.shutdown(SECOND), server.shutdown(SECOND));
    server.shutdown(SECOND).await;
    assert_eq!(server.connections(), 0);
    assert_eq!(script.disconnected.load(Ordering::SeqCst), 1);
}

async fn closing_a_link_finishes_what_is_in_flight(world: World) {
    let (server, link, script) = world.pair(quick()).await;
    let closing = async {
        eventually("the call runs", || script.running() == 1).await;
        let mut close = std::pin::pin!(link.close(LONG));
        assert!(timeout(Duration::from_millis(50), &mut close).await.is_err(), "must wait for the call");
        script.open_gate();
        close.await;
    };
    let (answer, ()) = tokio::join!(link.call(GATE, number(7), LONG), closing);
    assert_eq!(answer.unwrap(), 7u32.to_le_bytes()[..]);
    eventually("the server noticed", || server.connections() == 0).await;
}

async fn closing_a_link_delivers_what_is_queued(world: World) {
    let (_server, link, script) = world.pair(quick()).await;
    for _ in 0..100 {
        link.notify(ECHO, bytes::Bytes::from(vec![7; 1000])).unwrap();
    }
    link.close(SECOND).await;
    eventually("all have arrived", || script.notices.lock().unwrap().len() == 100).await;
}

async fn closed_link_takes_no_calls(world: World) {
    let (_server, link, _) = world.pair(quick()).await;
    let states = link.watch();
    tokio::join!(link.close(SECOND), link.close(SECOND));
    link.clone().close(SECOND).await;
    let closed = CallError::NotSent(NotSentReason::Closed);
    assert_eq!(link.call(ECHO, number(1), LONG).await, Err(closed));
    assert_eq!(link.notify(ECHO, bytes::Bytes::new()), Err(NotifyError::Closed));
    assert!(link.connected(LONG).await.is_err());
    assert!(matches!(*states.borrow(), LinkState::Closed));
}

async fn dropping_both_ends_leaves_no_task(world: World) {
    let metrics = Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let (server, link, script) = world.pair(quick()).await;
    let away = world.open(addr("127.0.0.1:1"), quick());
    let calling = tokio::spawn({
        let link = link.clone();
        async move { link.call(HANG, number(0), LONG).await }
    });
    eventually("the call runs", || script.running() == 1).await;
    let mut states = link.watch();
    calling.abort();
    let _ = calling.await;
    drop((server, link, away));
    eventually("all tasks are gone", || metrics.num_alive_tasks() == before).await;
    assert_eq!(script.running(), 0);
    let closed = states.wait_for(|state| matches!(state, LinkState::Closed)).await;
    assert!(closed.is_ok());
    assert_eq!(script.disconnected.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_server_is_left_by_idle_peers_at_once() {
    let (server, link, _) = World::memory().pair(quick()).await;
    let started = Instant::now();
    server.shutdown(LONG).await;
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    eventually("the link is down", || matches!(link.state(), LinkState::Down(_))).await;
}

#[tokio::test(start_paused = true)]
async fn closing_a_link_that_is_down_is_immediate() {
    let world = World::memory();
    let link = world.open(world.server_addr(), quick());
    let started = Instant::now();
    link.close(LONG).await;
    assert!(started.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn closing_with_a_hanging_call_takes_the_drain_and_no_longer() {
    let (_server, link, script) = World::memory().pair(quick()).await;
    let closing = async {
        eventually("the call runs", || script.running() == 1).await;
        let started = Instant::now();
        link.close(SECOND).await;
        assert_eq!(started.elapsed(), SECOND);
    };
    let (answer, ()) = tokio::join!(link.call(HANG, number(0), LONG), closing);
    assert_eq!(answer, Err(CallError::Lost));
}

#[tokio::test(start_paused = true)]
async fn peer_that_flaps_is_dialled_with_back_off() {
    let world = World::memory();
    let mut listener = world.listen(world.server_addr()).await;
    let config = distcache_transport::TransportConfig::default();
    let _link = world.open(world.server_addr(), config);
    let mut dials = 0;
    let flapping = async {
        loop {
            let accepted = crate::wire::handshake_and_leave(&mut listener).await;
            dials += u32::from(accepted);
        }
    };
    let _ = timeout(Duration::from_secs(60), flapping).await;
    assert!((10..=90).contains(&dials), "{dials} dials in a minute");
}
