//! Tests of resolution against servers whose answers they set.

use super::*;
use crate::dns::stand_in::{Zone, a, cname, name, srv};

const V4: RecordType = RecordType::A;
const V6: RecordType = RecordType::AAAA;
const SRV: RecordType = RecordType::SRV;

fn resolver(zone: &Zone, at: &str, port: Option<u16>) -> Resolver {
    Resolver {
        servers: Box::new(zone.clone()),
        search: Search { domains: vec![name("first.example."), name("second.example.")], ndots: 2 },
        name: name(at),
        port,
        family: None,
        timeout: Duration::from_secs(5),
        overflowing: AtomicBool::new(false),
    }
}

fn hosts(zone: &Zone) -> Resolver {
    resolver(zone, "cache.", Some(3320))
}

fn services(zone: &Zone) -> Resolver {
    resolver(zone, "_cache.", None)
}

fn addrs(answer: &Answer) -> Vec<String> {
    answer.seeds.iter().map(|seed| seed.addr.to_string()).collect()
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test]
async fn addresses_of_both_versions_are_merged_under_the_least_ttl() {
    let zone = Zone::default();
    zone.set("cache.", V4, [a("cache.", 20, "10.0.0.2"), a("cache.", 20, "10.0.0.1"), a("cache.", 20, "10.0.0.1")]);
    zone.set("cache.", V6, [a("cache.", 10, "fd00::1")]);
    let answer = hosts(&zone).resolve().await.unwrap();
    assert_eq!(addrs(&answer), ["10.0.0.1:3320", "10.0.0.2:3320", "[fd00::1]:3320"]);
    assert_eq!(answer.ttl, secs(10));
    assert!(answer.failure.is_none());
}

#[tokio::test]
async fn only_the_version_that_was_chosen_is_asked_for() {
    let zone = Zone::default();
    zone.set("cache.", V4, [a("cache.", 20, "10.0.0.1")]);
    zone.set("cache.", V6, [a("cache.", 20, "fd00::1")]);
    let only = |family| Resolver { family: Some(family), ..hosts(&zone) };
    assert_eq!(addrs(&only(IpFamily::V4).resolve().await.unwrap()), ["10.0.0.1:3320"]);
    assert_eq!(addrs(&only(IpFamily::V6).resolve().await.unwrap()), ["[fd00::1]:3320"]);
    assert_eq!(zone.asked(), 2);

    let given = vec![a("b.", 9, "10.0.0.1"), a("b.", 9, "fd00::1")];
    zone.set_with_additionals("_cache.", vec![srv("_cache.", 9, 1, "b.")], given);
    let only = |family| Resolver { family: Some(family), ..services(&zone) };
    assert_eq!(addrs(&only(IpFamily::V4).resolve().await.unwrap()), ["10.0.0.1:1"]);
    assert_eq!(addrs(&only(IpFamily::V6).resolve().await.unwrap()), ["[fd00::1]:1"]);
}

#[tokio::test]
async fn a_ttl_is_kept_between_one_second_and_thirty() {
    let zone = Zone::default();
    for (ttl, wanted) in [(0, 1), (1, 1), (29, 29), (31, 30), (u32::MAX, 30)] {
        zone.set("cache.", V4, [a("cache.", ttl, "10.0.0.1")]);
        assert_eq!(hosts(&zone).resolve().await.unwrap().ttl, secs(wanted), "{ttl}");
    }
}

#[tokio::test]
async fn a_name_without_records_is_empty_and_not_kept_for_long() {
    let zone = Zone::default();
    for resolver in [hosts(&zone), services(&zone)] {
        let answer = resolver.resolve().await.unwrap();
        assert_eq!(addrs(&answer), [""; 0]);
        assert!(answer.ttl <= LACKING_TTL);
    }
}

#[tokio::test]
async fn a_failure_hides_nothing_that_was_found_and_is_told_if_nothing_was() {
    let zone = Zone::default();
    zone.set("cache.", V4, [a("cache.", 20, "10.0.0.1")]);
    zone.fail("cache.", V6);
    let answer = hosts(&zone).resolve().await.unwrap();
    assert_eq!(addrs(&answer), ["10.0.0.1:3320"]);
    assert!(answer.failure.is_some());
    assert!(answer.ttl <= LACKING_TTL);

    zone.remove("cache.", V4);
    assert!(hosts(&zone).resolve().await.is_err(), "one family is unknown");
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_in_time_with_what_there_is() {
    let zone = Zone::default();
    zone.set("cache.", V4, [a("cache.", 20, "10.0.0.1")]);
    zone.hang("cache.", V6);
    let before = Instant::now();
    let answer = hosts(&zone).resolve().await.unwrap();
    assert_eq!(addrs(&answer), ["10.0.0.1:3320"]);
    assert!(matches!(answer.failure.unwrap().cause, Cause::Late(_)));
    assert_eq!(before.elapsed(), secs(5));

    zone.hang("cache.", V4);
    let before = Instant::now();
    assert!(matches!(hosts(&zone).resolve().await.unwrap_err().cause, Cause::Late(_)));
    assert_eq!(before.elapsed(), secs(5));
}

#[tokio::test]
async fn addresses_that_nobody_can_dial_are_left_out() {
    let zone = Zone::default();
    let ips = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.0.1"];
    zone.set("cache.", V4, ips.map(|ip| a("cache.", 20, ip)));
    zone.set("cache.", V6, ["::", "ff02::1", "::ffff:0.0.0.0"].map(|ip| a("cache.", 20, ip)));
    assert_eq!(addrs(&hosts(&zone).resolve().await.unwrap()), ["10.0.0.1:3320"]);
}

#[tokio::test]
async fn the_first_search_domain_that_has_the_name_is_taken() {
    let zone = Zone::default();
    zone.set("cache.second.example.", V4, [a("cache.second.example.", 20, "10.0.0.2")]);
    zone.set("cache.", V4, [a("cache.", 20, "10.0.0.3")]);
    let relative = resolver(&zone, "cache", Some(3320));
    assert_eq!(addrs(&relative.resolve().await.unwrap()), ["10.0.0.2:3320"]);
    zone.set("cache.first.example.", V6, [a("cache.first.example.", 20, "fd00::1")]);
    assert_eq!(addrs(&relative.resolve().await.unwrap()), ["[fd00::1]:3320"]);
}

#[tokio::test]
async fn a_name_is_not_absent_while_one_search_domain_fails() {
    let zone = Zone::default();
    zone.fail("cache.first.example.", V4);
    zone.fail("_cache.first.example.", SRV);
    assert!(resolver(&zone, "cache", Some(3320)).resolve().await.is_err());
    assert!(resolver(&zone, "_cache", None).resolve().await.is_err());
    zone.set("cache.", V4, [a("cache.", 20, "10.0.0.3")]);
    let answer = resolver(&zone, "cache", Some(3320)).resolve().await.unwrap();
    assert_eq!(addrs(&answer), ["10.0.0.3:3320"]);
}

#[tokio::test]
async fn services_have_their_own_ports_and_the_addresses_of_their_targets() {
    let zone = Zone::default();
    let records = [srv("_cache.", 20, 2, "b."), srv("_cache.", 20, 1, "a."), srv("_cache.", 20, 3, "B.")];
    zone.set("_cache.", SRV, records);
    zone.set("a.", V4, [a("a.", 9, "10.0.0.1")]);
    zone.set("b.", V6, [cname("b.", 8, "c."), a("c.", 20, "fd00::2")]);
    let answer = services(&zone).resolve().await.unwrap();
    assert_eq!(addrs(&answer), ["10.0.0.1:1", "[fd00::2]:2", "[fd00::2]:3"]);
    assert_eq!(zone.asked(), 1 + 2 * 2, "a target with two ports is looked up once");
}

#[tokio::test]
async fn the_least_ttl_of_services_and_targets_counts() {
    let zone = Zone::default();
    zone.set("_cache.", SRV, [srv("_cache.", 20, 1, "a."), srv("_cache.", 20, 2, "b.")]);
    zone.set("a.", V4, [a("a.", 25, "10.0.0.1")]);
    zone.set("b.", V4, [a("b.", 15, "10.0.0.2")]);
    assert_eq!(services(&zone).resolve().await.unwrap().ttl, secs(15));
    let records = || vec![srv("_cache.", 20, 1, "a.")];
    zone.set_with_additionals("_cache.", records(), vec![a("a.", 7, "10.0.0.1"), a("other.", 3, "10.0.0.2")]);
    assert_eq!(services(&zone).resolve().await.unwrap().ttl, secs(7));
    zone.set_with_additionals("_cache.", records(), vec![a("a.", 25, "10.0.0.1")]);
    assert_eq!(services(&zone).resolve().await.unwrap().ttl, secs(20));
}

#[tokio::test]
async fn added_addresses_are_used_and_the_rest_is_looked_up() {
    let zone = Zone::default();
    let records = vec![srv("_cache.", 20, 1, "a."), srv("_cache.", 20, 2, "b.")];
    zone.set_with_additionals("_cache.", records, vec![a("A.", 20, "10.0.0.1"), a("stranger.", 20, "10.0.0.9")]);
    zone.set("b.", V4, [a("b.", 20, "10.0.0.2")]);
    let answer = services(&zone).resolve().await.unwrap();
    assert_eq!(addrs(&answer), ["10.0.0.1:1", "10.0.0.2:2"]);
    assert_eq!(zone.asked(), 1 + 2);
}

#[tokio::test]
async fn a_service_that_is_not_offered_and_port_zero_are_left_out() {
    let zone = Zone::default();
    zone.set("_cache.", SRV, [srv("_cache.", 20, 1, "."), srv("_cache.", 20, 0, "a.")]);
    zone.set("a.", V4, [a("a.", 20, "10.0.0.1")]);
    let answer = services(&zone).resolve().await.unwrap();
    assert_eq!(addrs(&answer), [""; 0]);
    assert_eq!(zone.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn targets_that_fail_hang_or_do_not_exist_hide_no_other() {
    let zone = Zone::default();
    zone.set("_cache.", SRV, ["a.", "fails.", "hangs.", "absent."].map(|target| srv("_cache.", 20, 1, target)));
    zone.set("a.", V4, [a("a.", 20, "10.0.0.1")]);
    zone.fail("fails.", V4);
    zone.hang("hangs.", V4);
    let before = Instant::now();
    let answer = services(&zone).resolve().await.unwrap();
    assert_eq!(addrs(&answer), ["10.0.0.1:1"]);
    assert!(answer.failure.is_some());
    assert_eq!(before.elapsed(), secs(5));

    zone.set("_cache.", SRV, [srv("_cache.", 20, 1, "a."), srv("_cache.", 20, 1, "absent.")]);
    let answer = services(&zone).resolve().await.unwrap();
    assert!(answer.failure.is_none());
    assert!(answer.ttl <= LACKING_TTL, "a target that appears is found soon");

    zone.set("_cache.", SRV, [srv("_cache.", 20, 1, "fails.")]);
    assert!(services(&zone).resolve().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn at_most_256_services_are_looked_up_and_32_at_once() {
    let zone = Zone::default();
    let targets: Vec<String> = (0..1000).map(|i| format!("t{i:04}.")).collect();
    zone.set("_cache.", SRV, targets.iter().map(|target| srv("_cache.", 20, 1, target)));
    for (i, target) in targets.iter().enumerate() {
        let ip = format!("10.0.{}.{}", i / 250, i % 250 + 1);
        zone.set_slow(target, V4, Duration::from_millis(20), a(target, 20, &ip));
    }
    let only_v4 = Resolver { family: Some(IpFamily::V4), ..services(&zone) };
    let answer = only_v4.resolve().await.unwrap();
    assert_eq!(answer.seeds.len(), 256);
    assert_eq!(addrs(&answer)[255], "10.0.1.6:1", "the first by name, so that all nodes keep the same");
    assert_eq!((zone.asked(), zone.most_at_once()), (1 + 256, 32));
}

#[tokio::test]
async fn a_priority_decides_what_is_left_out() {
    let zone = Zone::default();
    let mut records: Vec<Record> = (0..300).map(|i| srv("_cache.", 20, 1, &format!("t{i:04}."))).collect();
    for record in &mut records {
        if let RData::SRV(srv) = &mut record.data {
            srv.priority = u16::from(srv.target != name("t0299."));
        }
    }
    zone.set("_cache.", SRV, records);
    zone.set("t0299.", V4, [a("t0299.", 20, "10.0.0.1")]);
    assert_eq!(addrs(&services(&zone).resolve().await.unwrap()), ["10.0.0.1:1"]);
}

#[tokio::test]
async fn a_flood_behind_many_services_fills_no_memory() {
    let zone = Zone::default();
    let ips: Vec<Record> = (0..4000).map(|i| a("a.", 20, &format!("10.1.{}.{}", i / 250, i % 250))).collect();
    let records = (1..=200).map(|port| srv("_cache.", 20, port, "a.")).collect();
    zone.set_with_additionals("_cache.", records, ips);
    let answer = services(&zone).resolve().await.unwrap();
    assert_eq!(answer.seeds.len(), MAX_HELD);
    assert_eq!(addrs(&answer)[0], "10.1.0.0:1");
}
