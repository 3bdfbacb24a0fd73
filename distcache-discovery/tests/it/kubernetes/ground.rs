//! The contract, among several nodes that ask one stand-in.

use async_trait::async_trait;
use distcache_discovery::conformance::{self, Ground};
use distcache_discovery::{KubernetesProvider, Provider, Registration};
use distcache_kube_api::{ApiServer, Endpoint, Pod, Slice};

use super::{pods_of, reach, server_of};

#[tokio::test]
async fn pods_keep_the_contract() {
    let server = server_of(&[]).await;
    conformance::run(&pods_of(&server), &Registration::new("cache-0", "10.0.0.1:3320".parse().unwrap())).await.unwrap();
}

#[tokio::test]
async fn nodes_find_each_other_as_pods() {
    let report = conformance::together(&Pods(server_of(&[]).await)).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn nodes_find_each_other_as_endpoints() {
    let report = conformance::together(&Endpoints(server_of(&[]).await)).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

struct Pods(ApiServer);

#[async_trait]
impl Ground for Pods {
    fn server(&self) -> String {
        "stand-in API server, pods".to_owned()
    }

    fn provider(&self, _node: u16) -> Box<dyn Provider> {
        Box::new(pods_of(&self.0))
    }

    async fn list(&self, node: &Registration) {
        self.0.put_pod(&Pod::starting(&node.name, node.addr.ip()));
    }

    async fn unlist(&self, node: &Registration) {
        self.0.remove_pod(&node.name);
    }

    async fn stop_server(&self) -> bool {
        self.0.stop().await;
        true
    }

    async fn start_server(&self) {
        self.0.restart().await.unwrap();
    }
}

struct Endpoints(ApiServer);

#[async_trait]
impl Ground for Endpoints {
    fn server(&self) -> String {
        "stand-in API server, endpoint slices".to_owned()
    }

    fn provider(&self, _node: u16) -> Box<dyn Provider> {
        Box::new(reach(&self.0, KubernetesProvider::service("cache", "distcache")))
    }

    async fn list(&self, node: &Registration) {
        let endpoint = Endpoint::starting(&node.addr.ip().to_string());
        self.0.put_slice(&Slice::of("cache", &node.name).endpoint(endpoint));
    }

    async fn unlist(&self, node: &Registration) {
        self.0.remove_slice(&node.name);
    }

    async fn stop_server(&self) -> bool {
        self.0.stop().await;
        true
    }

    async fn start_server(&self) {
        self.0.restart().await.unwrap();
    }
}
