//! Real sockets with a bad network between them, plain and with mutual TLS: every call ends in time, no answer is another's, and the
//! link comes back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use distcache_transport::{CallError, ConnectError, Link, LinkState, NotSentReason, Server, TransportConfig};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    proxy::{Fault, Proxy},
    support::*,
};

/// The times of production, scaled down.
fn brisk() -> TransportConfig {
    TransportConfig {
        dial_timeout: SECOND,
        handshake_timeout: SECOND,
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        ping_interval: Duration::from_millis(100),
        idle_ping_interval: SECOND,
        ping_timeout: Duration::from_millis(400),
        write_stall: Duration::from_millis(300),
        frame_grace: Duration::from_millis(150),
        ..TransportConfig::default()
    }
}

/// No ping comes between the frames that a test is about.
fn without_pings() -> TransportConfig {
    // A frame that is announced larger than it is does not take seconds to be too slow.
    let (ping_interval, idle_ping_interval, ping_timeout) = (LONG, LONG, PATIENCE);
    TransportConfig { ping_interval, idle_ping_interval, ping_timeout, min_frame_rate: 64 << 20, ..brisk() }
}

/// Far longer than anything takes to be noticed, and far shorter than [`LONG`], the budget of calls.
const NOTICED: Duration = Duration::from_secs(3);

/// A server, a link to it through a proxy, and a bystander's link past the proxy, with a call that waits.
struct Rig {
    server: Server,
    script: Arc<Script>,
    proxy: Proxy,
    link: Link,
    bystander: Link,
    waiting: tokio::task::JoinHandle<Result<Bytes, CallError>>,
}

impl Rig {
    async fn start(world: World, config: TransportConfig) -> Self {
        let script = Script::new();
        let server = world.serve_at(world.server_addr(), &script, config.clone()).await;
        let proxy = Proxy::start(server.local_addr()).await;
        let link = world.open(proxy.addr(), config.clone());
        let bystander = world.open(server.local_addr(), config);
        link.connected(LONG).await.unwrap();
        bystander.connected(LONG).await.unwrap();
        let waiting = bystander.clone();
        let waiting = tokio::spawn(async move { waiting.call(GATE, number(42), LONG).await });
        eventually("the bystander's call runs", || script.running() == 1).await;
        Self { server, script, proxy, link, bystander, waiting }
    }

    /// Makes a call that nobody answers, and returns how it ends; it must end long before its budget does.
    async fn hang(&self) -> CallError {
        let call = self.link.call(HANG, number(0), LONG);
        timeout(NOTICED, call).await.expect("a call outlives its connection").unwrap_err()
    }

    async fn is_down(&self) -> ConnectError {
        let mut states = self.link.watch();
        let state = timeout(NOTICED, states.wait_for(|state| matches!(state, LinkState::Down(_)))).await;
        let LinkState::Down(error) = &*state.expect("the link stays up").unwrap() else { unreachable!() };
        (**error).clone()
    }

    /// Checks that the link serves once the network does, and that nobody else has noticed anything.
    async fn heals(self) {
        self.proxy.heal();
        // A link that has not noticed yet may lose a call or two.
        let answered = async {
            while self.link.call(ECHO, number(1), Duration::from_millis(500)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, answered).await.expect("the link does not come back");
        self.script.open_gate();
        assert_eq!(self.waiting.await.unwrap().unwrap()[..], 42_u32.to_le_bytes(), "the bystander's call");
        assert!(matches!(self.bystander.state(), LinkState::Up(_)));
        assert_eq!(self.server.stats().panics, 0);
    }
}

/// Runs a test on plain and on encrypted streams, both at once.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(World, bool) -> F) {
    tokio::join!(test(World::tcp(), false), test(World::mutual_tls(), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mute_network_is_noticed_within_the_ping_timeout() {
    on_both(async |world, _| {
        let rig = Rig::start(world, brisk()).await;
        rig.proxy.up(Fault::Mute);
        rig.proxy.down(Fault::Mute);
        assert_eq!(rig.hang().await, CallError::Lost);
        assert_eq!(rig.is_down().await, ConnectError::Lost("the peer fell silent".to_owned()));
        eventually("the server noticed", || rig.server.stats().mute_peers == 1).await;
        rig.heals().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_that_is_mute_one_way_is_noticed_at_both_ends() {
    on_both(async |world, _| {
        let rig = Rig::start(world.clone(), brisk()).await;
        rig.proxy.up(Fault::Mute);
        assert_eq!(rig.hang().await, CallError::Lost);
        eventually("the server heard nothing", || rig.server.stats().mute_peers == 1).await;
        rig.heals().await;

        let rig = Rig::start(world, brisk()).await;
        rig.proxy.down(Fault::Mute);
        assert_eq!(rig.hang().await, CallError::Lost);
        rig.is_down().await;
        eventually("its connection and its handler are gone", || {
            rig.server.connections() == 1 && rig.script.running() == 1
        })
        .await;
        rig.heals().await;
    })
    .await;
}

/// Over TLS nothing of a frame is there before its record is whole, so that what comes slowly looks like silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_that_trickles_ends_the_connection() {
    on_both(async |world, is_tls| {
        let rig = Rig::start(world, brisk()).await;
        rig.proxy.up(Fault::Trickle { bytes: 1, every: Duration::from_millis(25) });
        assert_eq!(rig.hang().await, CallError::Lost);
        eventually("the server counts it", || {
            let stats = rig.server.stats();
            if is_tls { stats.mute_peers == 1 } else { stats.slow_frames == 1 }
        })
        .await;
        rig.heals().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_that_ends_inside_a_frame_is_lost_at_both_ends() {
    on_both(async |world, is_tls| {
        let rig = Rig::start(world.clone(), without_pings()).await;
        rig.proxy.up(Fault::Truncate { after: 22 });
        assert_eq!(rig.hang().await, CallError::Lost);
        assert_eq!(rig.script.started(), 1, "half a request was started");
        // Over TLS, what is cut is a record.
        eventually("it is gone", || rig.server.connections() == 1).await;
        assert_eq!(rig.server.stats().protocol_errors, u64::from(!is_tls));
        rig.heals().await;

        let rig = Rig::start(world, without_pings()).await;
        rig.proxy.down(Fault::Truncate { after: 22 });
        let call = timeout(NOTICED, rig.link.call(ECHO, number(0), LONG)).await.expect("it ends with the stream");
        assert_eq!(call, Err(CallError::Lost));
        let error = rig.is_down().await;
        assert!(matches!(error, ConnectError::Lost(_)), "{error:?}");
        rig.heals().await;
    })
    .await;
}

/// What a call comes to when one byte of its way there or back is flipped, and whether the server ended the connection for it.
async fn flipped(world: World, up: bool, at: usize, mask: u8) -> (Result<Bytes, CallError>, bool) {
    let rig = Rig::start(world, without_pings()).await;
    let fault = Fault::Corrupt { at, mask };
    if up {
        rig.proxy.up(fault)
    } else {
        rig.proxy.down(fault)
    }
    let call = rig.link.call(ECHO, Bytes::from_static(PAYLOAD).into(), SECOND);
    let result = timeout(NOTICED, call).await.expect("a call outlives its budget");
    let ended = || {
        let stats = rig.server.stats();
        stats.protocol_errors + stats.slow_frames == 1
    };
    if up && result == Err(CallError::Lost) {
        // Nobody else ends connections here, but the link may hear of it before it is counted.
        eventually("what the server ended is counted", ended).await;
    }
    let is_ended = ended();
    if is_ended {
        eventually("only that connection ends", || rig.server.stats().connected == 3 || rig.server.connections() == 1)
            .await;
    }
    rig.heals().await;
    (result, is_ended)
}

const PAYLOAD: &[u8] = b"0123456789abcdef";

/// A plain stream has no checksum but TCP's, which the proxy passes by. Of a header that is damaged:
///
/// * Length, kind and flags are checked: what they cannot be ends the connection. A kind that is another one of the same side is
///   not noticed: the call runs out. Nor is a length that is less and leaves what looks like a frame.
/// * A method is the service's to know. Another one that exists would be called.
/// * An answer whose id nobody waits for is dropped: the call runs out. An id of another call in flight is one that the server
///   knows, which ends the connection.
/// * The deadline is a hint: another one may end the handler sooner.
///
/// A payload that is damaged arrives like that. Who cannot have it so has TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_byte_of_a_plain_frame_never_makes_an_answer_another() {
    let mut flips = JoinSet::new();
    for up in [true, false] {
        for at in 0..20 + PAYLOAD.len() {
            // All three in headers; payloads are all alike.
            for mask in [0x01, 0x80, 0xff].into_iter().take(if at < 20 { 3 } else { 1 }) {
                flips.spawn(async move { (up, at, mask, flipped(World::tcp(), up, at, mask).await) });
            }
        }
    }
    for (up, at, mask, (result, is_ended)) in flips.join_all().await {
        let case = format!("bits {mask:#04x} of byte {at}, up: {up}: {result:?}");
        match (at, &result) {
            // Length, kind and flags.
            (0..6, result) => assert!(result.is_err() && is_ended == up, "{case}, ended: {is_ended}"),
            // A method that is not known; of an answer it means nothing.
            (6..8, Err(CallError::Remote(_))) if up => {}
            (6..8, Ok(answer)) if !up => assert_eq!(answer, PAYLOAD, "{case}"),
            // The id.
            (8..16, Err(CallError::TimedOut)) => {}
            // The deadline, which may be over at once.
            (16..20, Err(CallError::Remote(_))) if up => {}
            (16..20, Ok(answer)) => assert_eq!(answer, PAYLOAD, "{case}"),
            (20.., Ok(answer)) => {
                let mut damaged = PAYLOAD.to_vec();
                damaged[at - 20] ^= mask;
                assert_eq!(answer, &damaged, "{case}");
            }
            _ => panic!("{case}"),
        }
    }
}

/// Of a record's header the outer type and version mean nothing in TLS 1.3, and may be wrong; all else is checked before a byte of it
/// gets to the link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_byte_of_an_encrypted_frame_ends_the_connection_or_changes_nothing() {
    // Five bytes of a record's header, the frame, its type, and the tag.
    let record = 5 + 20 + PAYLOAD.len() + 1 + 16;
    let world = World::mutual_tls();
    let mut flips = JoinSet::new();
    for at in 0..record {
        let world = world.clone();
        flips.spawn(async move {
            let up = at % 2 == 0;
            let config = TransportConfig { ping_interval: SECOND, ping_timeout: 2 * SECOND, ..brisk() };
            let rig = Rig::start(world, config).await;
            for up in [up, !up] {
                let before = rig.proxy.accepted();
                let fault = Fault::Corrupt { at, mask: 1 << (at % 8) };
                if up {
                    rig.proxy.up(fault)
                } else {
                    rig.proxy.down(fault)
                }
                let call = rig.link.call(ECHO, Bytes::from_static(PAYLOAD).into(), LONG).await;
                rig.proxy.heal();
                match call {
                    Ok(answer) if at < 3 => {
                        assert_eq!(answer, PAYLOAD, "byte {at}, up: {up}");
                        continue;
                    }
                    call => assert_eq!(call, Err(CallError::Lost), "byte {at}, up: {up}"),
                }
                eventually("the link is back", || {
                    rig.proxy.accepted() > before && matches!(rig.link.state(), LinkState::Up(_))
                })
                .await;
            }
            rig.heals().await;
        });
    }
    flips.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receiver_that_stops_reading_is_given_up() {
    // Pings alone would not find out in time.
    let config = || TransportConfig { ping_timeout: LONG, frame_grace: LONG, ..brisk() };
    on_both(async |world, _| {
        let rig = Rig::start(world.clone(), config()).await;
        rig.proxy.down(Fault::Hold);
        let calls = (0..16).map(|_| {
            let link = rig.link.clone();
            async move { link.call(BYTES, number(1_000_000), LONG).await }
        });
        let calls = calls.collect::<JoinSet<_>>();
        eventually("the server gave up", || rig.server.stats().stalled_peers == 1).await;
        rig.proxy.heal();
        let calls = timeout(NOTICED, calls.join_all()).await.expect("calls outlive their connection");
        assert!(calls.iter().any(|call| *call == Err(CallError::Lost)), "{} calls", calls.len());
        rig.heals().await;

        let rig = Rig::start(world, config()).await;
        rig.proxy.up(Fault::Hold);
        let calls = (0..8).map(|_| {
            let link = rig.link.clone();
            async move { link.call(HANG, vec![7; 1_000_000].into(), LONG).await }
        });
        let calls = timeout(NOTICED, calls.collect::<JoinSet<_>>().join_all()).await.expect("calls wait for ever");
        let unsent = Err(CallError::NotSent(NotSentReason::LinkDown));
        assert!(calls.iter().all(|call| *call == Err(CallError::Lost) || *call == unsent), "{} calls", calls.len());
        assert!(calls.contains(&unsent), "a request that was never written has not been sent");
        rig.heals().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_during_a_call_ends_it_at_once() {
    on_both(async |world, _| {
        let rig = Rig::start(world, without_pings()).await;
        let reset = async {
            eventually("it runs", || rig.script.running() == 2).await;
            rig.proxy.reset();
        };
        let (error, ()) = tokio::join!(rig.hang(), reset);
        assert_eq!(error, CallError::Lost);
        eventually("the handler is dropped", || rig.script.running() == 1).await;
        rig.heals().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_that_is_closed_one_way_is_lost() {
    on_both(async |world, _| {
        for up in [true, false] {
            let rig = Rig::start(world.clone(), without_pings()).await;
            let close = async {
                eventually("it runs", || rig.script.running() == 2).await;
                if up { rig.proxy.up(Fault::HalfClose) } else { rig.proxy.down(Fault::HalfClose) }
            };
            let (error, ()) = tokio::join!(rig.hang(), close);
            assert_eq!(error, CallError::Lost, "up: {up}");
            rig.heals().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delay_is_no_reason_to_end_a_connection() {
    on_both(async |world, _| {
        let delay = Duration::from_millis(50);
        let rig = Rig::start(world, TransportConfig { ping_timeout: NOTICED, ..brisk() }).await;
        rig.proxy.up(Fault::Delay(delay));
        rig.proxy.down(Fault::Delay(delay));
        let started = Instant::now();
        for round in 0..10 {
            let asked = Instant::now();
            assert!(rig.link.call(ECHO, number(round), LONG).await.is_ok());
            assert!(asked.elapsed() >= 2 * delay, "the fault does not work");
        }
        assert!(started.elapsed() >= SECOND);
        assert_eq!((rig.server.stats().connected, rig.proxy.accepted()), (2, 1));
        rig.heals().await;
    })
    .await;
}
