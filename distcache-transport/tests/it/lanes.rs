//! The control lane: events in order and each once, whatever becomes of connections, or the word that some are lost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use distcache_transport::{ControlLink, ControlLog, Lane, LinkState, LogLimits, Position};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

use crate::{
    support::*,
    wire::{ACK, RawServer, frame},
};

/// A Hello for the control lane of link 7.
const CONTROL_HELLO: &[u8] =
    b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x02\x07\0\0\0\0\0\0\0\x04prod\x03\x00raw";

fn log(max_events: usize) -> Arc<ControlLog> {
    Arc::new(ControlLog::new(LogLimits { max_events, ..LogLimits::default() }))
}

fn event(number: usize) -> Bytes {
    number.to_string().into()
}

fn events(numbers: std::ops::Range<usize>) -> Vec<Option<Bytes>> {
    numbers.map(event).map(Some).collect()
}

fn heard(script: &Script) -> Vec<Option<Bytes>> {
    script.events.lock().unwrap().clone()
}

async fn acknowledged(lane: &ControlLink, position: Position) {
    let mut acknowledged = lane.acknowledged();
    timeout(LONG, acknowledged.wait_for(|at| *at >= position)).await.expect("not acknowledged").unwrap();
}

on_every_wire! {
    events_of_before_and_after_the_connection_arrive_in_order,
}

async fn events_of_before_and_after_the_connection_arrive_in_order(world: World) {
    let script = Script::new();
    let server = world.serve(&script).await;
    let log = log(10_000);
    log.append((0..1_000).map(event));
    let lane = world.open_control(server.local_addr(), quick(), &log);
    for number in 1_000..2_000 {
        log.append([event(number)]);
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    acknowledged(&lane, log.end()).await;
    assert_eq!(heard(&script), events(0..2_000));
    assert_eq!((server.stats().events, server.stats().streams_lost), (2_000, 0));
    assert_eq!(script.peers.lock().unwrap()[0].lane, Lane::Control);
}

/// Data lanes on which nobody waits are asked seldom; heartbeats are due all the time, at both ends.
#[tokio::test(start_paused = true)]
async fn silence_on_a_control_lane_is_noticed_within_the_ping_timeout() {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let lane = world.open_control(world.server_addr(), quick(), &log(10));
    let mut server = RawServer::accept(listener).await;
    sleep(SECOND).await;
    server.stream.write_all(&frame(12, 0, 0, 0, b"")).await.unwrap();
    let (spoke, mut states) = (Instant::now(), lane.link().watch());
    states.wait_for(|state| matches!(state, LinkState::Down(_))).await.unwrap();
    assert!(spoke.elapsed() <= quick().ping_timeout + Duration::from_millis(5), "{:?}", spoke.elapsed());
    drop((server, lane));

    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let mut client = RawControl::connect(&world, server.local_addr()).await;
    sleep(SECOND).await;
    client.stream.write_all(&frame(13, 0, 0, 0, b"")).await.unwrap();
    let spoke = Instant::now();
    eventually("the server noticed", || server.stats().mute_peers == 1).await;
    assert!(spoke.elapsed() <= quick().ping_timeout + Duration::from_millis(5), "{:?}", spoke.elapsed());
}

#[tokio::test(start_paused = true)]
async fn each_event_arrives_once_however_often_the_connection_breaks() {
    let (world, script, log) = (World::memory(), Script::new(), log(100_000));
    let server = world.serve(&script).await;
    let lane = world.open_control(server.local_addr(), quick(), &log);
    for round in 0..50 {
        log.append((round * 200..(round + 1) * 200).map(event));
        // Now in the middle of a batch, now between two, now while it dials.
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        sleep(Duration::from_millis(round as u64 % 5 * 20)).await;
        world.network().cut(world.client_addr(), server.local_addr());
        world.network().heal(world.client_addr(), server.local_addr());
    }
    acknowledged(&lane, log.end()).await;
    assert_eq!(heard(&script), events(0..10_000));
    assert!(server.stats().connected > 10, "{}", server.stats().connected);
    assert_eq!(server.stats().protocol_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn large_events_keep_their_place_among_small_ones() {
    let (world, script, log) = (World::memory(), Script::new(), log(100));
    let server = world.serve(&script).await;
    let sent: Vec<_> =
        (0..50).map(|number| Bytes::from(vec![number; [10, 200_000][usize::from(number) % 2]])).collect();
    let end = log.append(sent.clone());
    let lane = world.open_control(server.local_addr(), quick(), &log);
    acknowledged(&lane, end).await;
    assert!(heard(&script).into_iter().eq(sent.into_iter().map(Some)), "out of order");
}

#[tokio::test(start_paused = true)]
async fn peer_that_was_away_for_longer_than_the_log_remembers_is_told_what_it_lost() {
    let (world, script, log) = (World::memory(), Script::new(), log(100));
    let server = world.serve(&script).await;
    let lane = world.open_control(server.local_addr(), quick(), &log);
    acknowledged(&lane, log.append((0..10).map(event))).await;
    world.network().cut(world.client_addr(), server.local_addr());
    (10..500).for_each(|number| _ = log.append([event(number)]));
    world.network().heal(world.client_addr(), server.local_addr());
    acknowledged(&lane, Position(500)).await;
    acknowledged(&lane, log.append([event(500)])).await;
    assert_eq!(heard(&script), [events(0..10), vec![None], events(400..501)].concat());
    assert_eq!(server.stats().streams_lost, 1);
}

#[tokio::test(start_paused = true)]
async fn peer_that_starts_anew_hears_everything_or_that_something_is_lost() {
    for (kept, expected) in [(100, events(0..51)), (20, [vec![None], events(30..51)].concat())] {
        let (world, log) = (World::memory(), log(kept));
        let first = world.serve(&Script::new()).await;
        let lane = world.open_control(first.local_addr(), quick(), &log);
        acknowledged(&lane, log.append((0..50).map(event))).await;
        first.shutdown(SECOND).await;

        let script = Script::new();
        let _second = world.serve(&script).await;
        lane.link().redial_now();
        eventually("the lane is back", || script.connected() == 1).await;
        acknowledged(&lane, log.append([event(50)])).await;
        assert_eq!(heard(&script), expected, "{kept} events kept");
    }
}

#[tokio::test(start_paused = true)]
async fn event_whose_handler_panics_is_lost_and_the_next_ones_are_not() {
    let (world, script, log) = (World::memory(), Script::new(), log(100));
    let server = world.serve(&script).await;
    let lane = world.open_control(server.local_addr(), quick(), &log);
    let end = log.append([event(1), Bytes::from_static(b"panic"), event(2)]);
    acknowledged(&lane, end).await;
    assert_eq!(heard(&script), [Some(event(1)), None, Some(event(2))]);
    assert_eq!((server.stats().panics, server.stats().streams_lost), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_and_say_whether_the_peer_has_heard_everything() {
    let (world, script, log) = (World::memory(), Script::new(), log(100));
    let server = world.serve(&script).await;
    let lane = world.open_control(server.local_addr(), quick(), &log);
    for number in 0..5 {
        log.append([event(number)]);
        *script.is_current.lock().unwrap() = None;
        // An interval, and what the network takes.
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(*script.is_current.lock().unwrap(), Some(true));
    }
    // Events and their acknowledgements do not stand in for it.
    *script.is_current.lock().unwrap() = None;
    for number in 5..20 {
        log.append([event(number)]);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*script.is_current.lock().unwrap(), Some(true));
    drop(lane);

    let mut raw = RawControl::connect(&world, server.local_addr()).await;
    raw.stream.write_all(&frame(13, 0, 3, 0, b"")).await.unwrap();
    eventually("a heartbeat", || *script.is_current.lock().unwrap() == Some(false)).await;
}

#[tokio::test(start_paused = true)]
async fn lane_carries_calls_and_notices_too() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve(&script).await;
    let lane = world.open_control(server.local_addr(), quick(), &log(1));
    lane.link().connected(LONG).await.unwrap();
    assert_eq!(lane.link().call(ECHO, number(7), LONG).await.unwrap(), 7u32.to_le_bytes()[..]);
    lane.link().notify(ECHO, Bytes::from_static(b"hello")).unwrap();
    eventually("the notice", || script.notices.lock().unwrap().len() == 1).await;
}

/// A dialler of a control lane that knows only what this file says.
struct RawControl {
    stream: distcache_transport::BoxStream,
}

impl RawControl {
    async fn connect(world: &World, at: std::net::SocketAddr) -> Self {
        let mut stream = world.dialer().dial(at).await.unwrap();
        stream.write_all(CONTROL_HELLO).await.unwrap();
        let mut ack = [0; ACK.len()];
        stream.read_exact(&mut ack).await.unwrap();
        assert_eq!(ack, ACK);
        Self { stream }
    }

    async fn expect(&mut self, frame: &[u8]) {
        let mut read = vec![0; frame.len()];
        self.stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, frame);
    }

    /// Reads what comes until the end, which must come in time.
    async fn end(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        timeout(LONG, self.stream.read_to_end(&mut rest)).await.expect("still open").unwrap();
        rest
    }
}

#[tokio::test(start_paused = true)]
async fn listener_says_first_where_to_go_on_and_acknowledges_what_comes() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve(&script).await;
    let mut raw = RawControl::connect(&world, server.local_addr()).await;
    raw.expect(&frame(12, 0, 0, 0, b"")).await;
    raw.stream.write_all(&frame(10, 0, 0, 250, b"a")).await.unwrap();
    raw.expect(&frame(12, 0, 1, 0, b"")).await;
    raw.stream.write_all(&frame(11, 0, 9, 0, b"")).await.unwrap();
    raw.expect(&frame(12, 0, 9, 0, b"")).await;

    let mut again = RawControl::connect(&world, server.local_addr()).await;
    again.expect(&frame(12, 0, 9, 0, b"")).await;
    assert_eq!(heard(&script), [Some(Bytes::from_static(b"a")), None]);
}

#[tokio::test(start_paused = true)]
async fn new_connection_of_a_lane_ends_the_old_one_whose_events_no_longer_count() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve(&script).await;
    let mut old = RawControl::connect(&world, server.local_addr()).await;
    old.expect(&frame(12, 0, 0, 0, b"")).await;
    let mut new = RawControl::connect(&world, server.local_addr()).await;
    new.expect(&frame(12, 0, 0, 0, b"")).await;
    let _ = old.stream.write_all(&frame(10, 0, 0, 0, b"old")).await;
    assert_eq!(old.end().await, frame(8, 0, 0, 0, b""), "a go-away and nothing else");
    new.stream.write_all(&frame(10, 0, 0, 0, b"new")).await.unwrap();
    new.expect(&frame(12, 0, 1, 0, b"")).await;
    assert_eq!(heard(&script), [Some(Bytes::from_static(b"new"))]);
    assert_eq!((server.stats().superseded, server.stats().protocol_errors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn events_out_of_order_or_on_a_data_lane_end_the_connection() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve(&script).await;
    for (faults, bad) in [frame(10, 0, 1, 0, b"x"), frame(11, 0, 0, 0, b""), frame(12, 0, 0, 0, b"")].iter().enumerate()
    {
        let mut raw = RawControl::connect(&world, server.local_addr()).await;
        raw.expect(&frame(12, 0, 0, 0, b"")).await;
        raw.stream.write_all(bad).await.unwrap();
        raw.end().await;
        assert_eq!(server.stats().protocol_errors, faults as u64 + 1);
    }
    for bad in [frame(10, 0, 0, 0, b"x"), frame(11, 0, 1, 0, b""), frame(13, 0, 0, 0, b"")] {
        let mut client = crate::wire::RawClient::connect(&world, server.local_addr()).await;
        client.stream.write_all(&bad).await.unwrap();
        let mut rest = Vec::new();
        timeout(LONG, client.stream.read_to_end(&mut rest)).await.expect("still open").unwrap();
    }
    assert_eq!(server.stats().protocol_errors, 6);
    assert!(heard(&script).is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_keep_their_order_over_a_slow_network_and_many_are_on_their_way_at_once() {
    let (world, script, log) = (World::memory(), Script::new(), log(10_000));
    let server = world.serve(&script).await;
    world.network().delay(world.client_addr(), server.local_addr(), Duration::from_millis(100));
    let lane = world.open_control(server.local_addr(), quick(), &log);
    lane.link().connected(LONG).await.unwrap();
    let started = Instant::now();
    acknowledged(&lane, log.append((0..1_000).map(event))).await;
    assert_eq!(heard(&script), events(0..1_000));
    let took = started.elapsed();
    assert!(took <= Duration::from_millis(350), "a thousand events took {took:?}, where one takes 200 ms");
}

/// A data lane that is full both ways does not hold up the control lane.
#[tokio::test(start_paused = true)]
async fn stuck_data_lane_delays_no_event_and_no_call_of_the_control_lane() {
    let (world, script, log) = (World::memory(), Script::new(), log(100));
    let server = world.serve(&script).await;
    // It asks for 20 MB and reads nothing.
    let mut data = crate::wire::RawClient::connect(&world, server.local_addr()).await;
    for id in 0..20 {
        data.stream.write_all(&frame(1, BYTES.0, id, 60_000, &1_000_000u32.to_le_bytes())).await.unwrap();
    }
    let lane = world.open_control(server.local_addr(), quick(), &log);
    lane.link().connected(LONG).await.unwrap();
    let started = Instant::now();
    assert!(lane.link().call(ECHO, number(1), LONG).await.is_ok());
    acknowledged(&lane, log.append([event(1)])).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}
