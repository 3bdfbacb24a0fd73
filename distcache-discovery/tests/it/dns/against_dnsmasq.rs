//! The DNS provider against dnsmasq, as it is installed here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use distcache_discovery::conformance::{self, Ground};
use distcache_discovery::{DnsProvider, Provider, Registration};
use tokio::sync::Mutex;

use super::dnsmasq::Dnsmasq;
use super::{addresses, fails, finds, found, started};

#[tokio::test]
async fn nodes_find_each_other_by_address() {
    let Some(server) = Dnsmasq::start().await else { return };
    let ground = InDnsmasq { server, by_service: false, nodes: Mutex::default() };
    let report = conformance::together(&ground).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn nodes_find_each_other_by_service() {
    let Some(server) = Dnsmasq::start().await else { return };
    let ground = InDnsmasq { server, by_service: true, nodes: Mutex::default() };
    let report = conformance::together(&ground).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn records_that_come_and_go_are_followed_through_a_crash_of_the_server() {
    let Some(server) = Dnsmasq::start().await else { return };
    let provider = started(addresses(server.addr, "cache.example").timeout(Duration::from_secs(1))).await;
    assert_eq!(found(&provider).await.unwrap(), [""; 0], "there is no such name");
    server.write_hosts(&[("10.0.0.1", "cache.example"), ("fd00::2", "cache.example")]);
    server.reload().await;
    finds(&provider, &["10.0.0.1:3320", "[fd00::2]:3320"]).await;
    server.kill().await;
    fails(&provider).await;
    server.write_hosts(&[("10.0.0.3", "cache.example")]);
    server.restart().await;
    finds(&provider, &["10.0.0.3:3320"]).await;
    server.write_hosts(&[]);
    server.reload().await;
    finds(&provider, &[]).await;
}

#[tokio::test]
async fn services_and_aliases_are_followed() {
    let Some(server) = Dnsmasq::start().await else { return };
    server.write_config(
        "srv-host=_cache._tcp.example,a.example,3321\nsrv-host=_cache._tcp.example,b.example,3322,1\n\
         srv-host=_cache._tcp.example,nowhere.example,3323\ncname=alias.example,a.example\n",
    );
    server.write_hosts(&[("10.0.0.1", "a.example"), ("fd00::1", "a.example"), ("10.0.0.2", "b.example")]);
    server.restart().await;
    let services = started(DnsProvider::services("_cache._tcp.example").servers([server.addr])).await;
    finds(&services, &["10.0.0.1:3321", "10.0.0.2:3322", "[fd00::1]:3321"]).await;
    let alias = started(addresses(server.addr, "alias.example")).await;
    finds(&alias, &["10.0.0.1:3320", "[fd00::1]:3320"]).await;
}

#[tokio::test]
async fn a_long_list_comes_over_tcp() {
    let Some(server) = Dnsmasq::start().await else { return };
    let ips: Vec<String> = (0..500).map(|i| format!("10.1.{}.{}", i / 250, i % 250)).collect();
    server.write_hosts(&ips.iter().map(|ip| (ip.as_str(), "cache.example")).collect::<Vec<_>>());
    server.reload().await;
    let provider = started(addresses(server.addr, "cache.example")).await;
    super::until(|| async {
        let found = found(&provider).await;
        if found.as_ref().is_ok_and(|found| found.len() == 500) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_name_that_it_will_not_answer_for_is_an_outage() {
    let Some(server) = Dnsmasq::start().await else { return };
    let provider = started(addresses(server.addr, "cache.other").timeout(Duration::from_secs(1))).await;
    fails(&provider).await;
}

struct InDnsmasq {
    server: Dnsmasq,
    by_service: bool,
    nodes: Mutex<BTreeMap<String, SocketAddr>>,
}

impl InDnsmasq {
    async fn publish(&self) {
        let nodes = self.nodes.lock().await;
        let names = nodes.keys().map(|node| match self.by_service {
            true => format!("{node}.example"),
            false => "cache.example".to_owned(),
        });
        let hosts: Vec<(String, String)> = nodes.values().map(|addr| addr.ip().to_string()).zip(names).collect();
        let hosts: Vec<_> = hosts.iter().map(|(ip, name)| (ip.as_str(), name.as_str())).collect();
        self.server.write_hosts(&hosts);
        if self.by_service {
            let service = |(node, addr): (&String, &SocketAddr)| {
                format!("srv-host=_cache._tcp.example,{node}.example,{}\n", addr.port())
            };
            self.server.write_config(&nodes.iter().map(service).collect::<String>());
            self.server.restart().await;
        } else {
            self.server.reload().await;
        }
    }
}

#[async_trait]
impl Ground for InDnsmasq {
    fn server(&self) -> String {
        format!("dnsmasq {}, {}", self.server.version, if self.by_service { "SRV" } else { "A" })
    }

    fn provider(&self, _node: u16) -> Box<dyn Provider> {
        let provider = match self.by_service {
            true => DnsProvider::services("_cache._tcp.example"),
            false => DnsProvider::addresses("cache.example", 3320),
        };
        Box::new(provider.servers([self.server.addr]))
    }

    async fn list(&self, node: &Registration) {
        self.nodes.lock().await.insert(node.name.clone(), node.addr);
        self.publish().await;
    }

    async fn unlist(&self, node: &Registration) {
        self.nodes.lock().await.remove(&node.name);
        self.publish().await;
    }

    async fn stop_server(&self) -> bool {
        self.server.kill().await;
        true
    }

    async fn start_server(&self) {
        self.server.restart().await;
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}
