//! Nodes on one server, on a subject and in a bucket, keep the contract.

use async_trait::async_trait;
use distcache_discovery::conformance::{self, Ground, together};
use distcache_discovery::{NatsProvider, Provider};

use super::server::{Server, version};
use super::{SUBJECT, node, quick};

struct Nats {
    server: Server,
    bucket: Option<&'static str>,
}

impl Nats {
    fn provider(&self) -> NatsProvider {
        // As it is configured by default.
        let provider = NatsProvider::new(self.server.url(), SUBJECT);
        match self.bucket {
            Some(bucket) => provider.key_value(bucket),
            None => provider,
        }
    }
}

#[async_trait]
impl Ground for Nats {
    fn server(&self) -> String {
        let version = version().unwrap();
        format!("nats-server {version}{}", if self.bucket.is_some() { " (key-value)" } else { "" })
    }

    fn provider(&self, _: u16) -> Box<dyn Provider> {
        Box::new(Self::provider(self))
    }

    async fn stop_server(&self) -> bool {
        self.server.kill();
        true
    }

    async fn start_server(&self) {
        self.server.run();
    }
}

#[tokio::test]
async fn nodes_on_a_subject_find_each_other() {
    let Some(server) = Server::start("") else { return };
    let report = together(&Nats { server, bucket: None }).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn nodes_in_a_bucket_find_each_other() {
    let Some(server) = Server::start("") else { return };
    let report = together(&Nats { server, bucket: Some("nodes") }).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn one_node_keeps_the_contract_on_a_subject_and_in_a_bucket() {
    let Some(server) = Server::start("") else { return };
    conformance::run(&quick(&server), &node(1)).await.unwrap();
    conformance::run(&quick(&server).key_value("nodes"), &node(1)).await.unwrap();
}
