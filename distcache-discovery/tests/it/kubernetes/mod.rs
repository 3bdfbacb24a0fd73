//! The Kubernetes provider, against a stand-in API server and a real one.

mod faults;
mod found;
mod ground;
mod real;
mod watched;

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use distcache_discovery::{DiscoveryError, KubernetesAccess, KubernetesProvider, Provider};
use distcache_kube_api::{ApiServer, Fault, Pod, Verb};
use tokio::time::{Instant, sleep};

/// A provider of the pods of `server`, started.
async fn started(server: &ApiServer) -> KubernetesProvider {
    start(pods_of(server)).await
}

async fn start(provider: KubernetesProvider) -> KubernetesProvider {
    provider.start().await.unwrap();
    provider
}

fn pods_of(server: &ApiServer) -> KubernetesProvider {
    reach(server, KubernetesProvider::pods("app=distcache", "distcache"))
}

/// Leads a provider to `server`, and does not let it wait as long as it would.
fn reach(server: &ApiServer, provider: KubernetesProvider) -> KubernetesProvider {
    provider.access(KubernetesAccess::Url(server.url())).timeout(Duration::from_secs(2))
}

/// What it finds, by address.
async fn found(provider: &KubernetesProvider) -> Result<Vec<String>, DiscoveryError> {
    Ok(provider.discover().await?.iter().map(|seed| seed.addr.to_string()).collect())
}

/// Waits until a watch is open, and tells what happens.
async fn watched(server: &ApiServer, provider: &KubernetesProvider) {
    eventually("the answer comes from a watch", || async {
        let lists = server.requests(Verb::List);
        provider.discover().await.is_ok() && server.requests(Verb::List) == lists
    })
    .await;
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn pod(last: u8) -> Pod {
    Pod::ready(&format!("cache-{last}"), ip(last))
}

async fn server_of(pods: &[Pod]) -> ApiServer {
    let server = ApiServer::start().await.unwrap();
    pods.iter().for_each(|pod| server.put_pod(pod));
    server
}

/// Has a server fail in one way at whatever it is asked.
fn plant(server: &ApiServer, fault: Option<Fault>) {
    server.plant(Verb::List, fault);
    server.plant(Verb::Watch, fault);
}
