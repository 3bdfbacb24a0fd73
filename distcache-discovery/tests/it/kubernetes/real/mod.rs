//! The same against a real API server with its etcd, whose programs lie in the folder that `KUBEBUILDER_ASSETS` names.

mod server;

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use distcache_discovery::conformance::{self, Ground};
use distcache_discovery::{DiscoveryError, KubernetesAccess, KubernetesProvider, Provider, Registration};

use self::server::{ADMIN, NODE, RealServer, STRANGER};
use super::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_each_other_and_need_no_more_rights_than_the_manifests_give() {
    let Some(server) = RealServer::start().await else { return };
    every_manifest_is_valid(&server).await;
    rights_are_needed_and_suffice(&server).await;
    for objects in [Objects::Pods, Objects::Slices] {
        let report = conformance::together(&Real { server: &server, objects }).await;
        print!("{report}");
        assert!(report.is_clean(), "{report}");
    }
}

async fn every_manifest_is_valid(server: &RealServer) {
    let folder = server::manifests();
    let mut kinds = Vec::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            for document in documents(&std::fs::read_to_string(&path).unwrap()) {
                let answer = server.create_yaml(ADMIN, &document, "?dryRun=All&fieldValidation=Strict").await;
                kinds.push(answer.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
        }
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["deployments", "rolebindings", "roles", "serviceaccounts", "services", "statefulsets"]);
    // What is no manifest is refused, so that the above says something.
    let misspelt = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\n  nmespace: default\n";
    assert!(server.create_yaml(ADMIN, misspelt, "?dryRun=All&fieldValidation=Strict").await.is_err());
}

async fn rights_are_needed_and_suffice(server: &RealServer) {
    server.put_pod("cache-0", "10.0.0.1").await;
    for (objects, file, right) in [
        (Objects::Pods, "rbac.yaml", "pods list in namespace default"),
        (Objects::Slices, "rbac-endpointslices.yaml", "endpointslices.discovery.k8s.io list in namespace default"),
    ] {
        let node = server.provider(objects, NODE);
        node.start().await.unwrap();
        let refused = node.discover().await.unwrap_err();
        assert!(matches!(refused, DiscoveryError::Refused { .. }), "{refused:?}");
        let cause = refused.source().unwrap().to_string();
        assert!(cause.contains(right), "{cause}");

        let yaml = std::fs::read_to_string(server::manifests().join(file)).unwrap();
        for document in documents(&yaml) {
            let created = server.create_yaml(ADMIN, &document, "").await;
            // The account is in both files.
            created
                .or_else(|error| if error.contains("AlreadyExists") { Ok(String::new()) } else { Err(error) })
                .unwrap();
        }
        eventually("the role is in force", || async { node.discover().await.is_ok() }).await;
        // Only a watch tells of changes.
        let mut changes = node.changes().unwrap();
        let told = async {
            loop {
                server.put(objects, "cache-9", "10.0.0.9").await;
                let next = futures_util::StreamExt::next(&mut changes);
                if tokio::time::timeout(Duration::from_secs(2), next).await.is_ok() {
                    return;
                }
                server.remove(objects, "cache-9").await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.expect("the right to watch suffices");
        server.remove(objects, "cache-9").await;

        let stranger = server.provider(objects, STRANGER);
        stranger.start().await.unwrap();
        assert!(matches!(stranger.discover().await, Err(DiscoveryError::Refused { .. })));
        let unknown = server.provider(objects, "no such token");
        unknown.start().await.unwrap();
        assert!(matches!(unknown.discover().await, Err(DiscoveryError::Refused { .. })));
        server.remove_role().await;
    }
    server.remove(Objects::Pods, "cache-0").await;
}

/// The documents of a YAML file that are more than comments.
fn documents(yaml: &str) -> Vec<String> {
    yaml.split("\n---\n").map(str::to_owned).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objects {
    Pods,
    Slices,
}

struct Real<'a> {
    server: &'a RealServer,
    objects: Objects,
}

#[async_trait]
impl Ground for Real<'_> {
    fn server(&self) -> String {
        format!("kube-apiserver {}, {}", self.server.version, format!("{:?}", self.objects).to_lowercase())
    }

    fn provider(&self, _node: u16) -> Box<dyn Provider> {
        Box::new(self.server.provider(self.objects, ADMIN))
    }

    async fn list(&self, node: &Registration) {
        self.server.put(self.objects, &node.name, &node.addr.ip().to_string()).await;
    }

    async fn unlist(&self, node: &Registration) {
        self.server.remove(self.objects, &node.name).await;
    }

    async fn stop_server(&self) -> bool {
        self.server.stop_api_server().await;
        true
    }

    async fn start_server(&self) {
        self.server.start_api_server().await;
    }

    fn patience(&self) -> Duration {
        // It is a large program, and its start may share the machine with other tests.
        Duration::from_secs(60)
    }
}

impl RealServer {
    fn provider(&self, objects: Objects, token: &str) -> KubernetesProvider {
        let provider = match objects {
            Objects::Pods => KubernetesProvider::pods("app=distcache", "distcache"),
            Objects::Slices => KubernetesProvider::service("cache", "distcache"),
        };
        let path = Some(self.kubeconfig(token));
        provider.access(KubernetesAccess::Kubeconfig { path, context: None })
    }

    async fn put(&self, objects: Objects, name: &str, ip: &str) {
        match objects {
            Objects::Pods => self.put_pod(name, ip).await,
            Objects::Slices => self.put_slice(name, ip).await,
        }
    }

    async fn remove(&self, objects: Objects, name: &str) {
        let path = match objects {
            Objects::Pods => format!("/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0"),
            Objects::Slices => format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/{name}"),
        };
        let _ = self.ask(ADMIN, "DELETE", &path, "application/json", String::new()).await;
    }
}
