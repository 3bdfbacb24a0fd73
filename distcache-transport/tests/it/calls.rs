//! Calls and notices: answers, deadlines, cancellation, errors.

use std::time::{Duration, Instant};

use bytes::Bytes;
use distcache_transport::{
    CallError, ErrorCode, Method, NotSentReason, NotifyError, Payload, Progress, RemoteError, TransportConfig,
};
use tokio::{task::JoinSet, time::timeout};

use crate::support::*;

on_every_wire! {
    call_round_trips,
    thousand_calls_finish_out_of_order,
    deadline_ends_the_handler_and_the_call,
    dropping_a_call_ends_the_handler_and_frees_its_place,
    remote_error_keeps_its_code_and_message,
    panic_in_a_handler_spares_the_link,
    large_values_round_trip,
    caller_learns_that_a_slow_handler_runs,
    notices_arrive_in_order,
}

async fn call_round_trips(world: World) {
    let (_server, link, _) = world.pair(quick()).await;
    for payload in [Payload::default(), number(7), Payload::new("head ".into(), "tail".into())] {
        let sent: Bytes = [&payload.head[..], &payload.tail[..]].concat().into();
        assert_eq!(link.call(ECHO, payload, LONG).await, Ok(sent));
    }
}

async fn thousand_calls_finish_out_of_order(world: World) {
    let (_server, link, script) = world.pair(quick()).await;
    let slow = tokio::spawn({
        let link = link.clone();
        async move { link.call(GATE, number(4242), LONG).await }
    });
    eventually("the slow call runs", || script.running() == 1).await;
    let mut calls = JoinSet::new();
    for id in 0..1000 {
        let link = link.clone();
        calls.spawn(async move {
            let mixed = (id % 20) << 16 | id;
            let method = if id % 2 == 0 { ECHO } else { SLEEP };
            let argument = if method == ECHO { mixed } else { id % 20 };
            let answer = link.call(method, number(argument), LONG).await.unwrap();
            assert_eq!(answer, argument.to_le_bytes()[..]);
        });
    }
    calls.join_all().await;
    assert!(!slow.is_finished(), "later calls must not wait for an earlier one");
    script.open_gate();
    assert_eq!(slow.await.unwrap().unwrap(), 4242u32.to_le_bytes()[..]);
}

async fn deadline_ends_the_handler_and_the_call(world: World) {
    let (server, link, script) = world.pair(quick()).await;
    let started = Instant::now();
    let error = link.call(HANG, number(0), Duration::from_millis(100)).await.unwrap_err();
    assert!(started.elapsed() < SECOND * 5);
    let deadline = matches!(&error, CallError::Remote(error) if error.code == ErrorCode::DEADLINE);
    assert!(error == CallError::TimedOut || deadline, "{error}");
    assert!(error.was_sent());
    eventually("the handler is dropped", || script.running() == 0).await;
    assert_eq!(server.connections(), 1);
}

async fn dropping_a_call_ends_the_handler_and_frees_its_place(world: World) {
    let config = TransportConfig { max_in_flight: 1, ..quick() };
    let (server, link, script) = world.pair(config).await;
    {
        let hanging = link.call(HANG, number(0), LONG);
        tokio::pin!(hanging);
        let running = eventually("the handler runs", || script.running() == 1);
        tokio::select! {
            _ = &mut hanging => panic!("nothing answers"),
            () = running => {}
        }
        let full = link.call(ECHO, number(1), LONG).await;
        assert_eq!(full, Err(CallError::NotSent(NotSentReason::InFlightLimit)));
    }
    assert!(link.call(ECHO, number(1), LONG).await.is_ok());
    eventually("the handler is dropped", || script.running() == 0).await;
    assert_eq!(server.stats().cancelled, 1);
}

async fn remote_error_keeps_its_code_and_message(world: World) {
    let (_server, link, _) = world.pair(quick()).await;
    let code = ErrorCode::application(142).unwrap();
    let expected = RemoteError::new(code, "no such keyspace");
    let error = link.call(FAIL, number(0), LONG).await.unwrap_err();
    assert_eq!(error, CallError::Remote(expected));
    assert!(error.was_sent());

    let unknown = link.call(Method(999), number(0), LONG).await.unwrap_err();
    assert!(matches!(unknown, CallError::Remote(error) if error.code == ErrorCode::UNKNOWN_METHOD));
}

async fn panic_in_a_handler_spares_the_link(world: World) {
    let (server, link, _) = world.pair(quick()).await;
    let error = link.call(PANIC, number(0), LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Remote(error) if error.code == ErrorCode::PANICKED));
    link.notify(PANIC, Bytes::new()).unwrap();
    assert!(link.call(ECHO, number(1), LONG).await.is_ok());
    assert_eq!(server.stats().panics, 2);
    assert_eq!(server.stats().connected, 1);
}

async fn caller_learns_that_a_slow_handler_runs(world: World) {
    let (server, link, script) = world.pair(quick()).await;
    let mut fast = link.begin(ECHO, number(1), LONG).unwrap();
    assert_eq!(fast.progress().await, Progress::Answered(Ok(Bytes::from_static(&[1, 0, 0, 0]))));

    let mut slow = link.begin(GATE, number(2), LONG).unwrap();
    assert_eq!(slow.progress().await, Progress::Loading);
    assert!(timeout(Duration::from_millis(30), slow.progress()).await.is_err(), "it is said once");
    script.open_gate();
    assert_eq!(slow.progress().await, Progress::Answered(Ok(Bytes::from_static(&[2, 0, 0, 0]))));
    assert_eq!(slow.answer().await, Err(CallError::Lost), "an answer is given once");
    assert_eq!(server.stats().loading, 1);

    let dropped = link.begin(HANG, number(0), LONG).unwrap();
    eventually("it runs", || script.running() == 1).await;
    drop(dropped);
    eventually("it is cancelled", || script.running() == 0).await;
}

async fn large_values_round_trip(world: World) {
    let (_server, link, _) = world.pair(quick()).await;
    let value: Bytes = (0..1 << 20).map(|at: u32| (at ^ at >> 8) as u8).collect::<Vec<_>>().into();
    let mut calls = JoinSet::new();
    // As many as may be in flight with so much to carry.
    for _ in 0..7 {
        let (link, value) = (link.clone(), value.clone());
        calls.spawn(async move {
            let payload = Payload::new(Bytes::from_static(b"head"), value.clone());
            let answer = link.call(ECHO, payload, LONG).await.unwrap();
            assert_eq!(answer[..4], b"head"[..]);
            assert_eq!(answer[4..], value);
        });
    }
    calls.join_all().await;
}

async fn notices_arrive_in_order(world: World) {
    let (_server, link, script) = world.pair(quick()).await;
    let expected: Vec<_> = (0..500u32).map(|id| (Method(40), Bytes::copy_from_slice(&id.to_le_bytes()))).collect();
    for (method, payload) in expected.clone() {
        link.notify(method, payload).unwrap();
    }
    eventually("all have arrived", || script.notices.lock().unwrap().len() == 500).await;
    assert_eq!(*script.notices.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn handler_is_told_the_callers_budget() {
    let (_server, link, _) = World::memory().pair(quick()).await;
    for (asked, granted) in [(250, 250), (60_000, 60_000), (3_600_000, 60_000)] {
        let answer = link.call(BUDGET, number(0), Duration::from_millis(asked)).await.unwrap();
        assert_eq!(answer, u32::to_le_bytes(granted)[..], "asked for {asked} ms");
    }
    assert!(link.call(BUDGET, number(0), Duration::MAX).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn call_without_budget_reaches_no_handler() {
    let (_server, link, script) = World::memory().pair(quick()).await;
    let error = link.call(ECHO, number(0), Duration::ZERO).await.unwrap_err();
    assert_eq!(error, CallError::TimedOut);
    assert!(link.call(ECHO, number(0), SECOND).await.is_ok());
    assert_eq!(script.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn deadline_is_kept_to_the_millisecond() {
    let (server, link, script) = World::memory().pair(quick()).await;
    let started = tokio::time::Instant::now();
    let error = link.call(HANG, number(0), Duration::from_millis(100)).await.unwrap_err();
    assert!(error.was_sent());
    assert!(started.elapsed() <= Duration::from_millis(102), "{:?}", started.elapsed());
    eventually("the handler is dropped", || script.running() == 0).await;
    assert!(started.elapsed() <= Duration::from_millis(110), "{:?}", started.elapsed());
    let stats = server.stats();
    assert_eq!(stats.deadline_exceeded + stats.cancelled, 1);
}

#[tokio::test]
async fn link_that_is_down_fails_calls_at_once() {
    let world = World::memory();
    let link = world.open(world.server_addr(), quick());
    let call = link.call(ECHO, number(0), LONG);
    let error = timeout(Duration::from_millis(500), call).await.expect("no waiting").unwrap_err();
    assert_eq!(error, CallError::NotSent(NotSentReason::LinkDown));
    assert!(!error.was_sent());
    assert_eq!(link.notify(ECHO, Bytes::new()), Err(NotifyError::LinkDown));
}

/// One timer serves all calls of a link.
#[tokio::test(start_paused = true)]
async fn each_call_gives_up_when_its_own_budget_is_spent() {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), TransportConfig { ping_timeout: LONG, ..quick() });
    let _mute = crate::wire::RawServer::accept(listener).await;
    link.connected(LONG).await.unwrap();
    let started = tokio::time::Instant::now();
    let call = |millis| {
        let link = link.clone();
        async move {
            let budget = Duration::from_millis(millis);
            assert_eq!(link.call(HANG, number(0), budget).await, Err(CallError::TimedOut));
            let took = started.elapsed();
            assert!(took >= budget && took < budget + Duration::from_millis(20), "{took:?} instead of {budget:?}");
        }
    };
    tokio::join!(call(900), call(300), call(600), call(40));
}
