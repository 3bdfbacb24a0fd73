//! The DNS provider against hickory-server, whose records change while it runs.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use distcache_discovery::conformance::{self, Ground};
use distcache_discovery::{Change, DnsProvider, IpFamily, Provider, Registration};
use futures_util::StreamExt as _;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RData;
use hickory_server::proto::rr::rdata::TXT;

use super::hickory::{Hickory, Mood};
use super::{addresses, fails, finds, found, free_port, started};

#[tokio::test]
async fn one_node_keeps_the_contract() {
    let server = Hickory::start().await;
    server.set("cache.example.", 1, &["10.0.0.1", "fd00::1"]).await;
    let node = Registration::new("cache-0", "10.0.0.1:3320".parse().unwrap());
    conformance::run(&addresses(server.addr, "cache.example"), &node).await.unwrap();
}

#[tokio::test]
async fn nodes_find_each_other_by_address() {
    let ground = InHickory { server: Hickory::start().await, by_service: false, nodes: Default::default() };
    let report = conformance::together(&ground).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn nodes_find_each_other_by_service() {
    let ground = InHickory { server: Hickory::start().await, by_service: true, nodes: Default::default() };
    let report = conformance::together(&ground).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_newcomer_and_a_leaver_are_seen_when_the_ttl_ends() {
    let server = Hickory::start().await;
    server.set("cache.example.", 1, &["10.0.0.1"]).await;
    let provider = started(addresses(server.addr, "cache.example")).await;
    finds(&provider, &["10.0.0.1:3320"]).await;
    server.set("cache.example.", 1, &["10.0.0.1", "10.0.0.2", "fd00::3"]).await;
    finds(&provider, &["10.0.0.1:3320", "10.0.0.2:3320", "[fd00::3]:3320"]).await;
    server.set("cache.example.", 1, &["10.0.0.2"]).await;
    finds(&provider, &["10.0.0.2:3320"]).await;
}

#[tokio::test]
async fn an_answer_is_not_asked_for_again_while_its_ttl_lasts() {
    let server = Hickory::start().await;
    server.set("cache.example.", 30, &["10.0.0.1"]).await;
    let provider = started(addresses(server.addr, "cache.example").family(IpFamily::V4)).await;
    for _ in 0..10 {
        assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"]);
    }
    assert_eq!(server.asked(), (1, 0));
}

#[tokio::test]
async fn a_name_that_appears_is_found_within_seconds_whatever_the_zone_says() {
    let server = Hickory::start().await;
    let provider = started(addresses(server.addr, "cache.example")).await;
    assert_eq!(found(&provider).await.unwrap(), [""; 0], "there is no such name");
    let text = TXT::new(vec!["a text".to_owned()]);
    server.add("cache.example.", 1, RData::TXT(text)).await;
    assert_eq!(found(&provider).await.unwrap(), [""; 0], "there is no address of the name");
    let before = Instant::now();
    server.set("cache.example.", 1, &["10.0.0.1"]).await;
    finds(&provider, &["10.0.0.1:3320"]).await;
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}, though the SOA says an hour", before.elapsed());
}

#[tokio::test]
async fn changes_are_told_and_the_stream_ends_with_the_provider() {
    let server = Hickory::start().await;
    server.set("cache.example.", 1, &["10.0.0.1"]).await;
    let provider = started(addresses(server.addr, "cache.example")).await;
    let mut changes = provider.changes().unwrap();
    assert!(matches!(changes.next().await, Some(Change::Insert(seed)) if seed.addr.to_string() == "10.0.0.1:3320"));
    server.set("cache.example.", 1, &["10.0.0.2"]).await;
    assert!(matches!(changes.next().await, Some(Change::Insert(seed)) if seed.addr.to_string() == "10.0.0.2:3320"));
    assert!(matches!(changes.next().await, Some(Change::Remove(seed)) if seed.addr.to_string() == "10.0.0.1:3320"));
    provider.stop().await.unwrap();
    assert_eq!(changes.next().await, None);
    assert_eq!(provider.changes().unwrap().next().await, None);
}

#[tokio::test]
async fn services_are_found_with_added_addresses_and_without() {
    let server = Hickory::start().await;
    server.set_services("_cache._tcp.example.", 1, &[(3321, "a.example."), (3322, "b.example."), (1, ".")]).await;
    server.set("a.example.", 1, &["10.0.0.1", "fd00::1"]).await;
    server.set_alias("b.example.", 1, "c.example.").await;
    server.set("c.example.", 1, &["10.0.0.2"]).await;
    let provider = started(DnsProvider::services("_cache._tcp.example").servers([server.addr])).await;
    finds(&provider, &["10.0.0.1:3321", "10.0.0.2:3322", "[fd00::1]:3321"]).await;
    server.set_services("_cache._tcp.example.", 1, &[(3321, "a.example.")]).await;
    finds(&provider, &["10.0.0.1:3321", "[fd00::1]:3321"]).await;
}

#[tokio::test]
async fn aliases_of_hosts_and_of_services_are_followed() {
    let server = Hickory::start().await;
    server.set_alias("alias.example.", 1, "cache.example.").await;
    server.set("cache.example.", 1, &["10.0.0.1"]).await;
    finds(&started(addresses(server.addr, "alias.example")).await, &["10.0.0.1:3320"]).await;

    server.set_alias("_alias._tcp.example.", 1, "_cache._tcp.example.").await;
    server.set_services("_cache._tcp.example.", 1, &[(3321, "cache.example.")]).await;
    let services = started(DnsProvider::services("_alias._tcp.example").servers([server.addr])).await;
    finds(&services, &["10.0.0.1:3321"]).await;
}

#[tokio::test]
async fn a_circle_of_aliases_is_a_failure_and_its_end_is_seen() {
    let server = Hickory::start().await;
    server.set_alias("cache.example.", 1, "other.example.").await;
    server.set_alias("other.example.", 1, "cache.example.").await;
    let provider = started(addresses(server.addr, "cache.example")).await;
    let before = Instant::now();
    fails(&provider).await;
    assert!(before.elapsed() < Duration::from_secs(10));
    server.set_alias("cache.example.", 1, "end.example.").await;
    server.set("end.example.", 1, &["10.0.0.1"]).await;
    finds(&provider, &["10.0.0.1:3320"]).await;
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_over_tcp_and_is_cut_at_1024() {
    let server = Hickory::start().await;
    let flood = |count: usize| (0..count).map(|i| format!("10.1.{}.{}", i / 250, i % 250)).collect::<Vec<_>>();
    let provider = started(addresses(server.addr, "cache.example").family(IpFamily::V4)).await;
    for (count, wanted) in [(300, 300), (2000, 1024)] {
        let ips = flood(count);
        server.set("cache.example.", 1, &ips.iter().map(String::as_str).collect::<Vec<_>>()).await;
        super::until(|| async {
            match found(&provider).await {
                Ok(found) if found.len() == wanted => Ok(()),
                found => Err(format!("{:?}", found.map(|found| found.len()))),
            }
        })
        .await;
    }
    let (udp, tcp) = server.asked();
    assert!(udp >= 2 && tcp >= 2, "{udp} and {tcp}");

    // No DNS message is longer than 64 KiB: 5,000 addresses do not fit in one.
    let ips = flood(5000);
    server.set("cache.example.", 1, &ips.iter().map(String::as_str).collect::<Vec<_>>()).await;
    fails(&provider).await;
    server.set("cache.example.", 1, &["10.0.0.1"]).await;
    finds(&provider, &["10.0.0.1:3320"]).await;
}

#[tokio::test]
async fn a_server_that_fails_refuses_or_is_silent_is_an_outage_that_ends() {
    let server = Hickory::start().await;
    server.set("cache.example.", 1, &["10.0.0.1"]).await;
    let provider = addresses(server.addr, "cache.example").timeout(Duration::from_millis(500));
    let provider = started(provider).await;
    finds(&provider, &["10.0.0.1:3320"]).await;
    let moods = [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::Unknown(12)];
    for mood in moods.map(Mood::Say).into_iter().chain([Mood::Silent]) {
        server.feel(mood);
        let error = fails(&provider).await;
        assert_eq!(error.to_string(), "dns discovery is unavailable");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with("no answer about cache.example. A"), "{source}");
        server.feel(Mood::Serve);
        finds(&provider, &["10.0.0.1:3320"]).await;
    }
    server.stop().await;
    fails(&provider).await;
    server.restart().await;
    finds(&provider, &["10.0.0.1:3320"]).await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_opened_again() {
    let server = Hickory::start().await;
    let ips: Vec<String> = (0..300).map(|i| format!("10.1.{}.{}", i / 250, i % 250)).collect();
    server.set("cache.example.", 1, &ips.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let provider = started(addresses(server.addr, "cache.example").family(IpFamily::V4)).await;
    assert_eq!(found(&provider).await.unwrap().len(), 300);
    server.stop().await;
    fails(&provider).await;
    server.restart().await;
    super::until(|| async {
        let found = found(&provider).await;
        if found.as_ref().is_ok_and(|found| found.len() == 300) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_ends_the_call_in_time() {
    let server = Hickory::start().await;
    server.feel(Mood::Silent);
    for provider in
        [addresses(server.addr, "cache.example"), DnsProvider::services("_cache.example").servers([server.addr])]
    {
        let provider = started(provider.timeout(Duration::from_secs(1))).await;
        let before = Instant::now();
        assert!(provider.discover().await.unwrap_err().is_retryable());
        assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_fails_is_passed_over_and_the_next_is_kept() {
    let (bad, good) = (Hickory::start().await, Hickory::start().await);
    good.set("cache.example.", 1, &["10.0.0.1"]).await;
    for mood in [Mood::Say(ResponseCode::ServFail), Mood::Say(ResponseCode::Refused), Mood::Silent] {
        bad.feel(mood);
        let nobody = free_port();
        let provider = addresses(good.addr, "cache.example").servers([nobody, bad.addr, good.addr]);
        let provider = started(provider.timeout(Duration::from_secs(3))).await;
        assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"], "{mood:?}");
        let asked = bad.asked();
        good.set("cache.example.", 1, &["10.0.0.2"]).await;
        finds(&provider, &["10.0.0.2:3320"]).await;
        assert_eq!(bad.asked(), asked, "{mood:?}: the one that answered is asked first");
        good.set("cache.example.", 1, &["10.0.0.1"]).await;
    }
}

#[tokio::test]
async fn a_name_without_a_final_dot_is_absolute_at_a_server_of_ones_own() {
    let server = Hickory::start().await;
    server.set("cache.example.", 1, &["10.0.0.1"]).await;
    for name in ["cache.example", "cache.example.", "CACHE.Example"] {
        finds(&started(addresses(server.addr, name)).await, &["10.0.0.1:3320"]).await;
    }
}

struct InHickory {
    server: Hickory,
    by_service: bool,
    nodes: tokio::sync::Mutex<std::collections::BTreeMap<String, std::net::SocketAddr>>,
}

impl InHickory {
    async fn publish(&self) {
        let nodes = self.nodes.lock().await;
        if self.by_service {
            let services: Vec<_> = nodes.iter().map(|(node, addr)| (addr.port(), format!("{node}.example."))).collect();
            let services: Vec<_> = services.iter().map(|(port, target)| (*port, target.as_str())).collect();
            self.server.set_services("_cache._tcp.example.", 1, &services).await;
            for (node, addr) in &*nodes {
                self.server.set(&format!("{node}.example."), 1, &[&addr.ip().to_string()]).await;
            }
        } else {
            let ips: Vec<_> = nodes.values().map(|addr| addr.ip().to_string()).collect();
            self.server.set("cache.example.", 1, &ips.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
    }
}

#[async_trait]
impl Ground for InHickory {
    fn server(&self) -> String {
        format!("hickory-server 0.26, {}", if self.by_service { "SRV" } else { "A" })
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
        self.server.stop().await;
        true
    }

    async fn start_server(&self) {
        self.server.restart().await;
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}
