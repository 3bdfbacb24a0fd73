//! When a peer is left alone, and when it is asked again.

use std::time::Duration;

use distcache_transport::{
    BreakerState, CallError, ErrorCode, Link, LinkState, NotSentReason, Progress, Server, TransportConfig,
};

use crate::support::*;

/// The shortest budget that says something of a peer.
const BRIEF: Duration = Duration::from_millis(20);

/// Asks as often as it takes to open the breaker.
async fn open(link: &Link) {
    for _ in 0..3 {
        assert!(matches!(link.breaker(), BreakerState::Closed));
        assert_eq!(link.call(HANG, number(0), BRIEF).await, Err(CallError::TimedOut));
    }
}

fn breaker_open(result: Result<bytes::Bytes, CallError>) -> bool {
    matches!(result, Err(CallError::NotSent(NotSentReason::BreakerOpen { .. })))
}

/// A link to a peer that shakes hands, and never says a word afterwards but for what the test lets it say.
async fn deaf(config: TransportConfig) -> (crate::wire::RawServer, Link) {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), TransportConfig { ping_timeout: LONG, ..config });
    let server = crate::wire::RawServer::accept(listener).await;
    link.connected(LONG).await.unwrap();
    (server, link)
}

#[tokio::test(start_paused = true)]
async fn peer_that_does_not_answer_is_left_alone_after_three_calls() {
    let (_server, link) = deaf(quick()).await;
    open(&link).await;
    let BreakerState::Open { until } = link.breaker() else { panic!("{:?}", link.breaker()) };
    let started = tokio::time::Instant::now();
    let Err(CallError::NotSent(NotSentReason::BreakerOpen { retry_after })) = link.call(ECHO, number(0), LONG).await
    else {
        panic!("it was sent");
    };
    assert_eq!((started.elapsed(), retry_after), (Duration::ZERO, until - started));
    assert!(matches!(link.state(), LinkState::Up(_)), "the link is not its affair");

    tokio::time::sleep_until(until).await;
    assert_eq!(link.breaker(), BreakerState::HalfOpen);
    let probe = link.begin(HANG, number(0), LONG).unwrap();
    assert!(breaker_open(link.call(ECHO, number(0), LONG).await), "one at a time");
    drop(probe);
    assert_eq!(link.call(HANG, number(0), BRIEF).await, Err(CallError::TimedOut), "it was given up, so another may");
    assert!(matches!(link.breaker(), BreakerState::Open { .. }));
    let stats = link.stats();
    assert_eq!((stats.calls, stats.timed_out, stats.refused_by_breaker, stats.breaker_opened), (5, 4, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn word_that_the_peer_works_keeps_the_breaker_closed() {
    let (server, link, _script) = World::memory().pair(quick()).await;
    for _ in 0..10 {
        let mut call = link.begin(HANG, number(0), Duration::from_millis(50)).unwrap();
        assert_eq!(call.progress().await, Progress::Loading);
        assert!(call.answer().await.is_err());
    }
    assert_eq!(link.breaker(), BreakerState::Closed);
    assert_eq!((server.stats().loading, link.stats().loading), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn call_that_the_peer_is_known_to_work_on_does_not_count_when_its_budget_is_spent() {
    let (mut server, link) = deaf(TransportConfig { breaker_failures: 1, ..quick() }).await;
    let mut call = link.begin(HANG, number(0), BRIEF).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut server.stream, &crate::wire::frame(9, 0, 1, 0, b"")).await.unwrap();
    assert_eq!(call.progress().await, Progress::Loading);
    assert_eq!(call.answer().await, Err(CallError::TimedOut));
    assert_eq!(link.breaker(), BreakerState::Closed);
    assert_eq!(link.call(HANG, number(0), BRIEF).await, Err(CallError::TimedOut));
    assert!(matches!(link.breaker(), BreakerState::Open { .. }), "and silence does");
}

#[tokio::test(start_paused = true)]
async fn budgets_that_leave_the_peer_no_time_for_a_word_say_nothing_of_it() {
    let (_server, link) = deaf(quick()).await;
    for _ in 0..10 {
        assert_eq!(link.call(HANG, number(0), BRIEF / 2).await, Err(CallError::TimedOut));
    }
    assert_eq!(link.breaker(), BreakerState::Closed);
    open(&link).await;
    let BreakerState::Open { until } = link.breaker() else { panic!("{:?}", link.breaker()) };
    tokio::time::sleep_until(until).await;
    assert_eq!(link.call(HANG, number(0), BRIEF / 2).await, Err(CallError::TimedOut));
    assert_eq!(link.breaker(), BreakerState::HalfOpen, "such a probe makes room for another");
    assert_eq!(link.call(HANG, number(0), BRIEF).await, Err(CallError::TimedOut));
    assert!(matches!(link.breaker(), BreakerState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_or_the_peer_decides_is_no_failure() {
    let config = TransportConfig { max_in_flight: 1, ..quick() };
    let (_server, link, _script) = World::memory().pair(config).await;
    for _ in 0..10 {
        assert!(matches!(link.call(FAIL, number(0), LONG).await, Err(CallError::Remote(_))));
        let held = link.begin(HANG, number(0), LONG).unwrap();
        let full = CallError::NotSent(NotSentReason::InFlightLimit);
        assert_eq!(link.call(ECHO, number(0), LONG).await, Err(full));
        drop(held);
    }
    assert_eq!(link.breaker(), BreakerState::Closed);
    let stats = link.stats();
    assert_eq!((stats.answered, stats.refused_in_flight, stats.breaker_opened), (10, 10, 0));
}

#[tokio::test(start_paused = true)]
async fn overloaded_peer_gets_no_calls_until_it_would_have_them() {
    let script = Script::new();
    let world = World::memory();
    let strict = TransportConfig { max_in_flight: 1, retry_after: Duration::from_millis(80), ..quick() };
    let server: Server = world.serve_at(world.server_addr(), &script, strict).await;
    let link = world.open(server.local_addr(), quick());
    link.connected(LONG).await.unwrap();
    let gated = link.begin(GATE, number(0), LONG).unwrap();
    eventually("it runs", || script.running() == 1).await;
    let overloaded = link.call(ECHO, number(0), LONG).await;
    assert!(matches!(overloaded, Err(CallError::Remote(error)) if error.code == ErrorCode::OVERLOADED));
    assert!(matches!(link.breaker(), BreakerState::HoldOff { .. }));
    let started = tokio::time::Instant::now();
    let held_off = NotSentReason::HeldOff { retry_after: Duration::from_millis(80) };
    assert_eq!(link.call(ECHO, number(0), LONG).await, Err(CallError::NotSent(held_off)));
    assert_eq!(server.stats().requests, 2, "the peer does not see it");

    script.open_gate();
    drop(gated);
    tokio::time::sleep_until(started + Duration::from_millis(80)).await;
    assert!(link.call(ECHO, number(0), LONG).await.is_ok());
    assert_eq!((link.breaker(), link.stats().overloaded), (BreakerState::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn caller_may_pass_an_open_breaker_and_an_answer_closes_it() {
    let (mut server, link) = deaf(quick()).await;
    open(&link).await;
    assert!(breaker_open(link.call(ECHO, number(0), LONG).await));
    let mut call = link.begin_anyway(ECHO, number(0), LONG).unwrap();
    let answer = crate::wire::frame(2, 0, 4, 0, b"well");
    tokio::io::AsyncWriteExt::write_all(&mut server.stream, &answer).await.unwrap();
    assert_eq!(call.answer().await.unwrap(), "well");
    assert_eq!(link.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn link_that_went_down_lets_one_call_through_when_it_is_up_again() {
    let world = World::memory();
    let (server, link, script) = world.pair(quick()).await;
    assert_eq!(link.breaker(), BreakerState::Closed);
    world.network().cut(world.client_addr(), server.local_addr());
    eventually("it is down", || matches!(link.state(), LinkState::Down(_))).await;
    assert!(matches!(link.breaker(), BreakerState::Open { .. }));
    let down = CallError::NotSent(NotSentReason::LinkDown);
    assert_eq!(link.call(ECHO, number(0), LONG).await, Err(down));

    world.network().heal(world.client_addr(), server.local_addr());
    link.connected(LONG).await.ok();
    eventually("it is up", || matches!(link.state(), LinkState::Up(_))).await;
    assert_eq!(link.breaker(), BreakerState::HalfOpen);
    let mut probe = link.begin(GATE, number(7), LONG).unwrap();
    assert!(breaker_open(link.call(ECHO, number(0), LONG).await));
    script.open_gate();
    assert!(probe.answer().await.is_ok());
    assert_eq!(link.breaker(), BreakerState::Closed);
}
