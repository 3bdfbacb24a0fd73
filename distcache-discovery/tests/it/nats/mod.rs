//! The NATS provider, at a real server.

mod conformance;
mod failure;
mod hostile;
mod login;
mod nodes;
mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use distcache_discovery::{NatsProvider, Provider, Registration};
use tokio::time::{Instant, sleep};

use server::Server;

const SUBJECT: &str = "distcache.presence";
/// No port at all.
const NOBODY: [u16; 0] = [];

/// A provider at this server whose heart beats fast enough for a test.
fn quick(server: &Server) -> NatsProvider {
    NatsProvider::new(server.url(), SUBJECT)
        .heartbeat(Duration::from_millis(200))
        .answer_window(Duration::from_millis(200))
}

fn addr(node: u16) -> SocketAddr {
    ([10, 0, 0, 1], node).into()
}

fn node(node: u16) -> Registration {
    Registration::new(format!("node-{node}"), addr(node))
}

/// A provider that is started and published.
async fn published(provider: NatsProvider, number: u16) -> NatsProvider {
    provider.start().await.unwrap();
    provider.register(&node(number)).await.unwrap();
    provider
}

/// The ports of all that a provider finds.
async fn found(provider: &NatsProvider) -> Vec<u16> {
    provider.discover().await.unwrap().iter().map(|seed| seed.addr.port()).collect()
}

/// Waits until something is so.
async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
