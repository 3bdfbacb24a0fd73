//! The same link and server on simulated hosts: a network that splits, stands still and loses messages, in simulated time.
//!
//! A segment that the simulated network loses is never sent again, as if the sender's kernel had stalled: a stream that has lost
//! one is stuck in that direction until somebody gives it up.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use distcache_transport::{BoxStream, CallError, Dialer, Link, LinkState, Listener, Server, TransportConfig};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};
use turmoil::{Builder, Sim, net};

use crate::support::*;

const PORT: u16 = 3320;

/// Dials from the simulated host that it is used on.
#[derive(Debug)]
struct SimulatedDialer;

#[async_trait]
impl Dialer for SimulatedDialer {
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream> {
        Ok(Box::new(net::TcpStream::connect(addr).await?))
    }
}

/// Listens on the simulated host that it was made on.
struct SimulatedListener(net::TcpListener);

impl std::fmt::Debug for SimulatedListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimulatedListener")
    }
}

#[async_trait]
impl Listener for SimulatedListener {
    async fn accept(&mut self) -> io::Result<(BoxStream, SocketAddr)> {
        let (stream, addr) = self.0.accept().await?;
        Ok((Box::new(stream), addr))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Puts a server on a host of that name.
fn serve(sim: &mut Sim<'_>, name: &'static str) {
    sim.host(name, || async {
        let listener = net::TcpListener::bind(("0.0.0.0", PORT)).await?;
        let listener = Box::new(SimulatedListener(listener));
        let _server = Server::start(listener, Script::new(), None, hello("server"), TransportConfig::default());
        std::future::pending().await
    });
}

/// Opens a link from this host to the one of that name.
fn open(name: &str) -> Link {
    let addr = SocketAddr::new(turmoil::lookup(name), PORT);
    Link::open(addr, Arc::new(SimulatedDialer), None, hello("client"), TransportConfig::default())
}

/// What came of one call.
#[derive(Debug, Clone)]
struct Call {
    /// When it began, since the load did.
    at: Duration,
    took: Duration,
    answered: bool,
}

const BUDGET_OF_A_CALL: Duration = Duration::from_secs(1);

/// Calls every 20 ms, for as long as it is said, whatever comes of it.
async fn load(link: Link, length: Duration) -> Vec<Call> {
    let began = Instant::now();
    let mut calls = JoinSet::new();
    let mut ticks = interval(Duration::from_millis(20));
    let mut argument = 0;
    while began.elapsed() < length {
        ticks.tick().await;
        argument += 1;
        let link = link.clone();
        calls.spawn(async move {
            let at = Instant::now();
            let result = link.call(ECHO, number(argument), BUDGET_OF_A_CALL).await;
            if let Ok(answer) = &result {
                assert_eq!(answer[..], argument.to_le_bytes(), "an answer to another call");
            }
            assert!(!matches!(result, Err(CallError::Remote(_))), "{result:?}");
            Call { at: at - began, took: at.elapsed(), answered: result.is_ok() }
        });
    }
    calls.join_all().await
}

/// A budget's timer may fire with the simulation's next tick.
fn assert_bounded(calls: &[Call]) {
    for call in calls {
        assert!(call.took <= BUDGET_OF_A_CALL + Duration::from_millis(2), "{call:?}");
    }
}

/// How many calls began in that second and later, before that other one, and how many of them were answered.
fn count(calls: &[Call], seconds: std::ops::Range<u64>) -> (usize, usize) {
    let window = Duration::from_secs(seconds.start)..Duration::from_secs(seconds.end);
    let calls = || calls.iter().filter(|call| window.contains(&call.at));
    (calls().count(), calls().filter(|call| call.answered).count())
}

/// A split, a pause and a one-way split of 10 s each, with time to recover after each.
///
/// A link finds out after at most 3 s. Once the network is whole, a dial that hangs takes at most 2 s and the wait behind it at
/// most 5 s.
#[test]
fn links_heal_after_splits_and_pauses_and_calls_never_outlive_their_budget() {
    let mut sim = Builder::new()
        .rng_seed(1)
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(Duration::from_secs(120))
        .max_message_latency(Duration::from_millis(5))
        .build();
    serve(&mut sim, "server");
    sim.client("client", async {
        let link = open("server");
        link.connected(LONG).await?;
        let began = Instant::now();
        let load = tokio::spawn(load(link.clone(), Duration::from_secs(75)));
        let at = async |second| sleep_until(began + Duration::from_secs(second)).await;
        at(5).await;
        turmoil::partition("client", "server");
        at(10).await;
        assert!(matches!(link.state(), LinkState::Down(_)), "a split is noticed");
        at(15).await;
        turmoil::repair("client", "server");
        at(30).await;
        turmoil::hold("client", "server");
        at(35).await;
        assert!(matches!(link.state(), LinkState::Down(_)), "a pause is noticed");
        at(40).await;
        turmoil::release("client", "server");
        at(55).await;
        turmoil::partition_oneway("server", "client");
        at(60).await;
        assert!(matches!(link.state(), LinkState::Down(_)), "a one-way split is noticed");
        at(65).await;
        turmoil::repair_oneway("server", "client");

        let calls = load.await?;
        assert_bounded(&calls);
        for whole in [0..4, 23..29, 48..54, 73..75] {
            let (made, answered) = count(&calls, whole.clone());
            assert!(made >= 50 && answered == made, "{answered} of {made} answered in seconds {whole:?}");
        }
        for broken in [6..15, 31..39, 56..65] {
            let (made, answered) = count(&calls, broken.clone());
            assert!(made >= 350 && answered == 0, "{answered} of {made} answered in seconds {broken:?}");
        }
        Ok(())
    });
    sim.run().unwrap();
}

/// Latency of up to 100 ms each way, and every two hundredth message or so cuts the two hosts off until one gets through.
#[test]
fn links_serve_on_a_slow_network_that_loses_messages_and_heal_once_it_does_not() {
    for seed in 1..=3 {
        let mut sim = Builder::new()
            .rng_seed(seed)
            .tick_duration(Duration::from_millis(1))
            .simulation_duration(Duration::from_secs(180))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(100))
            .fail_rate(0.005)
            .repair_rate(0.5)
            .build();
        serve(&mut sim, "server");
        let seen = Arc::new(Mutex::new((Vec::new(), 0)));
        let result = Arc::clone(&seen);
        sim.client("client", async move {
            let link = open("server");
            let mut states = link.watch();
            let losses = tokio::spawn(async move {
                let mut losses = 0;
                while states.changed().await.is_ok() {
                    losses += usize::from(matches!(*states.borrow_and_update(), LinkState::Down(_)));
                }
                losses
            });
            let calls = load(link.clone(), Duration::from_secs(120)).await;
            drop(link);
            let losses = losses.await?;
            *result.lock().unwrap() = (calls, losses);
            Ok(())
        });
        while sim.elapsed() < Duration::from_secs(90) {
            sim.step().unwrap();
        }
        sim.set_fail_rate(0.0);
        sim.set_link_fail_rate("client", "server", 0.0);
        sim.repair("client", "server");
        sim.run().unwrap();

        let (calls, losses) = &*seen.lock().unwrap();
        assert_bounded(calls);
        assert!(*losses >= 3, "the network did not lose enough: {losses} losses with seed {seed}");
        let (made, answered) = count(calls, 0..90);
        assert!(made > 4000 && answered > made / 10 && answered < made, "{answered} of {made} with seed {seed}");
        let (made, answered) = count(calls, 105..120);
        assert_eq!(answered, made, "with seed {seed}, after the network was whole again");
    }
}
