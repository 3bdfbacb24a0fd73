//! The DNS provider against servers that run: hickory-server in this process, dnsmasq in another, and sockets that lie.

mod against_dnsmasq;
mod against_hickory;
mod against_liars;
mod dnsmasq;
mod hickory;
mod liar;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::Duration;

use distcache_discovery::{DiscoveryError, DnsProvider, Provider};
use tokio::time::{Instant, sleep};

/// The addresses found, or how it failed.
async fn found(provider: &DnsProvider) -> Result<Vec<String>, DiscoveryError> {
    let seeds = provider.discover().await?;
    assert!(seeds.is_sorted() && seeds.iter().all(|seed| seed.provider == "dns"), "{seeds:?}");
    Ok(seeds.iter().map(|seed| seed.addr.to_string()).collect())
}

/// Asks until the answer is `wanted`.
async fn finds(provider: &DnsProvider, wanted: &[&str]) {
    until(|| async {
        let found = found(provider).await;
        if found.as_deref().is_ok_and(|found| found == wanted) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Asks until there is no answer, but an outage.
async fn fails(provider: &DnsProvider) -> DiscoveryError {
    let error = until(|| async {
        match found(provider).await {
            Err(error) => Ok(error),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
    assert!(matches!(error, DiscoveryError::Unavailable { provider: "dns", .. }) && error.is_retryable(), "{error:?}");
    error
}

/// Tries until it succeeds, for as long as a loaded machine may need.
async fn until<T, F: Future<Output = Result<T, String>>>(mut attempt: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Ok(output) => return output,
            Err(found) => assert!(Instant::now() < deadline, "still not true: {found}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// A provider of the addresses of `name`, at port 3320.
fn addresses(server: SocketAddr, name: &str) -> DnsProvider {
    DnsProvider::addresses(name, 3320).servers([server])
}

async fn started(provider: DnsProvider) -> DnsProvider {
    assert_eq!(provider.validate(), []);
    provider.start().await.unwrap();
    provider
}

/// A port of the loopback interface that nobody uses, for a server that is to come back at the same one.
///
/// It is below those that the system gives to clients, so that none of them has it while the server is away.
fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let process = u16::try_from(std::process::id() % 150).unwrap();
        let port = 20_000 + (process * 80 + NEXT.fetch_add(1, SeqCst)) % 12_000;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if std::net::UdpSocket::bind(addr).is_ok() && std::net::TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}
