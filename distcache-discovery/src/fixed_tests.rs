//! Tests of the static provider against a resolver whose answers they set.

use std::collections::HashMap;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::resolve::{Answer, LOOKUP_TIMEOUT, LOOKUPS_AT_ONCE};

/// What the fake resolver does with a name.
#[derive(Clone)]
enum Reply {
    Addrs(Vec<&'static str>),
    Fail,
    Hang,
    After(Duration, &'static str),
    Panic,
}

/// A resolver whose answers a test can change, and which counts the look-ups it was asked for.
#[derive(Clone, Default)]
struct Dns(Arc<Mutex<Zone>>);

#[derive(Default)]
struct Zone {
    replies: HashMap<String, Reply>,
    asked: HashMap<String, usize>,
}

impl Dns {
    fn set(&self, host: &str, reply: Reply) {
        self.0.lock().unwrap().replies.insert(host.to_owned(), reply);
    }

    fn asked(&self, host: &str) -> usize {
        self.0.lock().unwrap().asked.get(host).copied().unwrap_or(0)
    }

    fn provider(&self, addresses: &[&str]) -> StaticProvider {
        let dns = self.clone();
        let lookup = move |host, port| -> crate::resolve::LookupFuture { Box::pin(dns.clone().lookup(host, port)) };
        StaticProvider::with_resolver(addresses.iter().copied(), Resolver::new(ID, Box::new(lookup)))
    }

    async fn started(&self, addresses: &[&str]) -> StaticProvider {
        let provider = self.provider(addresses);
        provider.start().await.unwrap();
        provider
    }

    async fn lookup(self, host: String, port: u16) -> Answer {
        let reply = {
            let mut zone = self.0.lock().unwrap();
            *zone.asked.entry(host.clone()).or_default() += 1;
            zone.replies.get(&host).cloned().unwrap_or(Reply::Fail)
        };
        let addr = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        match reply {
            Reply::Addrs(ips) => Ok(ips.into_iter().map(addr).collect()),
            Reply::Fail => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
            Reply::Hang => future::pending().await,
            Reply::After(delay, ip) => {
                tokio::time::sleep(delay).await;
                Ok(vec![addr(ip)])
            }
            Reply::Panic => panic!("the resolver broke"),
        }
    }
}

async fn found(provider: &StaticProvider) -> Vec<String> {
    let seeds = provider.discover().await.unwrap();
    assert!(seeds.iter().all(|seed| seed.provider == "static"));
    seeds.iter().map(|seed| seed.addr.to_string()).collect()
}

#[tokio::test]
async fn seeds_of_literals_and_names_are_merged_and_sorted() {
    let dns = Dns::default();
    dns.set("cache", Reply::Addrs(vec!["10.0.0.9", "10.0.0.1", "fd00::1", "10.0.0.9"]));
    let provider = dns.started(&["10.0.0.10:3320", "cache:3320", "10.0.0.1:3320"]).await;
    assert_eq!(found(&provider).await, ["10.0.0.1:3320", "10.0.0.9:3320", "10.0.0.10:3320", "[fd00::1]:3320"]);
}

#[tokio::test]
async fn names_are_looked_up_anew_at_each_call() {
    let dns = Dns::default();
    let provider = dns.started(&["cache:3320"]).await;
    dns.set("cache", Reply::Addrs(vec!["10.0.0.1"]));
    assert_eq!(found(&provider).await, ["10.0.0.1:3320"]);
    dns.set("cache", Reply::Addrs(vec!["10.0.0.2"]));
    assert_eq!(found(&provider).await, ["10.0.0.2:3320"]);
}

#[tokio::test]
async fn nothing_is_looked_up_before_discover() {
    let dns = Dns::default();
    let provider = dns.started(&["cache:3320"]).await;
    assert!(provider.validate().is_empty());
    assert_eq!(dns.asked("cache"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_or_hangs_does_not_hide_the_others() {
    let dns = Dns::default();
    dns.set("hangs", Reply::Hang);
    dns.set("good", Reply::Addrs(vec!["10.0.0.3"]));
    dns.set("breaks", Reply::Panic);
    let provider = dns.started(&["hangs:1", "missing:1", "good:3320", "breaks:1"]).await;
    assert_eq!(found(&provider).await, ["10.0.0.3:3320"]);
}

#[tokio::test]
async fn literals_are_found_while_no_name_resolves() {
    let provider = Dns::default().started(&["missing:1", "10.0.0.1:3320"]).await;
    assert_eq!(found(&provider).await, ["10.0.0.1:3320"]);
}

#[tokio::test]
async fn the_call_fails_when_nothing_was_found_and_the_first_failure_is_named() {
    let dns = Dns::default();
    let provider = dns.started(&["first:1", "second:1"]).await;
    let error = provider.discover().await.unwrap_err();
    let DiscoveryError::Resolve { host, source, .. } = &error else { panic!("{error:?}") };
    assert_eq!((host.as_str(), source.kind()), ("first", io::ErrorKind::NotFound));
    assert!(error.is_retryable());

    dns.set("second", Reply::Addrs(vec!["10.0.0.2"]));
    assert_eq!(found(&provider).await, ["10.0.0.2:1"]);
}

#[tokio::test]
async fn a_resolver_that_panics_is_an_error_and_the_next_call_asks_again() {
    let dns = Dns::default();
    dns.set("cache", Reply::Panic);
    let provider = dns.started(&["cache:3320"]).await;
    assert!(provider.discover().await.unwrap_err().is_retryable());
    dns.set("cache", Reply::Addrs(vec!["10.0.0.1"]));
    assert_eq!(found(&provider).await, ["10.0.0.1:3320"]);
}

#[tokio::test]
async fn an_answer_without_a_usable_address_is_a_failure() {
    let dns = Dns::default();
    for ips in [vec![], vec!["0.0.0.0"], vec!["::", "224.0.0.1"]] {
        dns.set("sinkhole", Reply::Addrs(ips));
        let provider = dns.started(&["sinkhole:3320"]).await;
        let error = provider.discover().await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Resolve { .. }), "{error:?}");
    }
    dns.set("sinkhole", Reply::Addrs(vec!["0.0.0.0", "10.0.0.1"]));
    let provider = dns.started(&["sinkhole:3320"]).await;
    assert_eq!(found(&provider).await, ["10.0.0.1:3320"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_the_limit_however_many_names_hang() {
    let dns = Dns::default();
    let names: Vec<String> = (0..LOOKUPS_AT_ONCE * 3).map(|i| format!("host-{i}")).collect();
    names.iter().for_each(|name| dns.set(name, Reply::Hang));
    let addresses: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
    let provider = dns.started(&addresses.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let before = Instant::now();
    let error = provider.discover().await.unwrap_err();
    let DiscoveryError::ResolveTimeout { host, waited, .. } = error else { panic!("{error:?}") };
    assert_eq!((host.as_str(), waited), ("host-0", LOOKUP_TIMEOUT));
    assert_eq!(before.elapsed(), LOOKUP_TIMEOUT);
    let asked: usize = names.iter().map(|name| dns.asked(name)).sum();
    assert_eq!(asked, LOOKUPS_AT_ONCE, "look-ups that hang must not use up the blocking pool");
}

#[tokio::test(start_paused = true)]
async fn many_healthy_names_are_all_found_in_one_call() {
    let dns = Dns::default();
    let names: Vec<String> = (0..LOOKUPS_AT_ONCE * 3).map(|i| format!("host-{i}")).collect();
    names.iter().for_each(|name| dns.set(name, Reply::After(Duration::from_millis(20), "10.0.0.1")));
    let addresses: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{name}:{}", i + 1)).collect();
    let provider = dns.started(&addresses.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(found(&provider).await.len(), names.len());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_look_up_is_joined_and_not_repeated() {
    let dns = Dns::default();
    dns.set("slow", Reply::After(LOOKUP_TIMEOUT * 2 - Duration::from_secs(1), "10.0.0.1"));
    let provider = dns.started(&["slow:3320"]).await;
    assert!(matches!(provider.discover().await.unwrap_err(), DiscoveryError::ResolveTimeout { .. }));
    assert_eq!(found(&provider).await, ["10.0.0.1:3320"]);
    assert_eq!(dns.asked("slow"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_waited_for_is_not_used_later() {
    let dns = Dns::default();
    dns.set("cache", Reply::After(LOOKUP_TIMEOUT * 2, "10.0.0.1"));
    let provider = dns.started(&["cache:3320"]).await;
    provider.discover().await.unwrap_err();
    dns.set("cache", Reply::Addrs(vec!["10.0.0.2"]));
    tokio::time::advance(LOOKUP_TIMEOUT * 4).await;
    tokio::task::yield_now().await;
    assert_eq!(found(&provider).await, ["10.0.0.2:3320"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_the_provider_usable() {
    let dns = Dns::default();
    dns.set("slow", Reply::After(Duration::from_secs(1), "10.0.0.1"));
    let provider = dns.started(&["slow:3320"]).await;
    for _ in 0..10 {
        tokio::time::timeout(Duration::from_millis(10), provider.discover()).await.unwrap_err();
    }
    assert_eq!(dns.asked("slow"), 1, "calls that give up must not pile up look-ups");
    assert_eq!(found(&provider).await, ["10.0.0.1:3320"]);
}

#[test]
fn one_provider_serves_a_second_runtime_after_the_first_is_gone() {
    let dns = Dns::default();
    dns.set("cache", Reply::Hang);
    let provider = dns.provider(&["cache:3320"]);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime().block_on(async {
        provider.start().await.unwrap();
        tokio::time::timeout(Duration::from_millis(1), provider.discover()).await.unwrap_err();
        provider.stop().await.unwrap();
    });
    dns.set("cache", Reply::Addrs(vec!["10.0.0.1"]));
    runtime().block_on(async {
        provider.start().await.unwrap();
        assert_eq!(found(&provider).await, ["10.0.0.1:3320"]);
    });
}

#[test]
fn every_fault_is_reported_at_once_at_its_place() {
    let provider = StaticProvider::new(["10.0.0.1:3320", "", "10.0.0.1:3320", "cache-0", "10.0.0.2:0", "a b:1"]);
    let fields: Vec<_> = provider.validate().into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["addresses[1]", "addresses[3]", "addresses[4]", "addresses[5]"]);
    assert_eq!(provider.validate()[1].to_string(), r#"addresses[3]: "cache-0" has no port: write host:port"#);
}

#[test]
fn an_empty_list_is_a_fault() {
    let faults = StaticProvider::new(Vec::<String>::new()).validate();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].field, "addresses");
}

#[test]
fn the_limit_is_1024_different_addresses() {
    let list = |count: usize| (0..count).map(|i| format!("10.0.{}.{}:3320", i / 256, i % 256));
    assert!(StaticProvider::new(list(1024).chain(list(1024))).validate().is_empty());
    let faults = StaticProvider::new(list(1025)).validate();
    assert_eq!(faults, [Fault::new("addresses", "holds 1025 addresses, more than 1024")]);
    let wrong = StaticProvider::new((0..100_000).map(|i| i.to_string()));
    assert_eq!(wrong.validate().len(), 1 + 1024, "the report stays bounded");
}

#[test]
fn addresses_are_trimmed_and_kept_in_the_order_given() {
    let provider = StaticProvider::new([" b:2", "a:1\n", "b:2"]);
    assert_eq!(provider.addresses(), ["b:2", "a:1"]);
    assert!(provider.validate().is_empty());
}

#[tokio::test]
async fn a_misconfigured_provider_does_not_start() {
    let provider = StaticProvider::new(["10.0.0.1"]);
    let error = provider.start().await.unwrap_err();
    let DiscoveryError::Invalid { faults, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*faults, provider.validate());
    assert!(matches!(provider.discover().await.unwrap_err(), DiscoveryError::NotStarted { .. }));
}

#[tokio::test]
async fn a_flood_of_records_is_cut_at_1024_seeds() {
    let dns = Dns::default();
    let ips: Vec<&'static str> = (0..1500).map(|i| &*format!("10.1.{}.{}", i / 256, i % 256).leak()).collect();
    dns.set("cache", Reply::Addrs(ips));
    let provider = dns.started(&["cache:3320", "10.0.0.1:3320"]).await;
    let found = found(&provider).await;
    assert_eq!((found.len(), found[0].as_str()), (1024, "10.0.0.1:3320"));
}
