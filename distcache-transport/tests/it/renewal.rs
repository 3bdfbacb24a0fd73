//! Connections that are replaced while in use: by age, by new certificates, by the listener's word.

use std::{sync::Arc, time::Duration};

use distcache_transport::{ControlLog, Link, LinkState, LogLimits, TlsConfig, TransportConfig};
use tokio::time::{Instant, sleep};

use crate::support::*;

fn aging(age: Duration) -> TransportConfig {
    TransportConfig { max_connection_age: age, ..quick() }
}

/// Calls without a pause for that long; not one may fail.
async fn call_for(link: &Link, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        link.call(SLEEP, number(50), LONG).await.unwrap();
        link.call(ECHO, number(1), LONG).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_replaced_at_their_age_and_no_call_fails() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve_at(world.server_addr(), &script, quick()).await;
    let link = world.open(server.local_addr(), aging(Duration::from_secs(60)));
    link.connected(LONG).await.unwrap();
    let callers: Vec<_> = (0..20).map(|_| link.clone()).collect();
    let mut calls = tokio::task::JoinSet::new();
    for link in callers {
        calls.spawn(async move { call_for(&link, Duration::from_secs(600)).await });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let connected = server.stats().connected;
    assert!((10..=12).contains(&connected), "{connected} connections in ten minutes");
    assert_eq!(server.connections(), 1, "the old ones are gone");
    assert_eq!((server.stats().cancelled, server.stats().deadline_exceeded), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn call_that_is_longer_than_its_connection_is_answered() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve_at(world.server_addr(), &script, quick()).await;
    let link = world.open(server.local_addr(), aging(Duration::from_secs(10)));
    link.connected(LONG).await.unwrap();
    assert!(link.call(SLEEP, number(25_000), Duration::from_secs(60)).await.is_ok());
    assert!(server.stats().connected >= 3, "{}", server.stats().connected);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_calls_on_a_replaced_connection_too() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve_at(world.server_addr(), &script, quick()).await;
    let link = world.open(server.local_addr(), aging(Duration::from_secs(10)));
    link.connected(LONG).await.unwrap();
    let caller = link.clone();
    let call = tokio::spawn(async move { caller.call(SLEEP, number(15_000), Duration::from_secs(60)).await });
    sleep(Duration::from_secs(12)).await;
    link.close(Duration::from_secs(30)).await;
    assert!(call.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn failed_replacement_leaves_the_old_connection_in_use() {
    let (world, script) = (World::memory(), Script::new());
    let config = TransportConfig { max_connections: 1, ..quick() };
    let server = world.serve_at(world.server_addr(), &script, config).await;
    let link = world.open(server.local_addr(), aging(Duration::from_secs(10)));
    link.connected(LONG).await.unwrap();
    call_for(&link, Duration::from_secs(60)).await;
    assert!(server.stats().rejected_connections > 10, "{}", server.stats().rejected_connections);
    assert_eq!(server.stats().connected, 1);
}

#[tokio::test(start_paused = true)]
async fn events_stay_in_order_and_single_over_replacements() {
    let (world, script) = (World::memory(), Script::new());
    let server = world.serve_at(world.server_addr(), &script, quick()).await;
    let log = Arc::new(ControlLog::new(LogLimits::default()));
    let lane = world.open_control(server.local_addr(), aging(Duration::from_secs(10)), &log);
    for number in 0..1_000 {
        log.append([number.to_string().into()]);
        sleep(Duration::from_millis(100)).await;
    }
    lane.acknowledged().wait_for(|at| *at == log.end()).await.unwrap();
    let events = script.events.lock().unwrap().clone();
    assert_eq!(events, (0..1_000).map(|number| Some(number.to_string().into())).collect::<Vec<_>>());
    assert!(server.stats().connected >= 9, "{}", server.stats().connected);
    assert_eq!(server.stats().protocol_errors, 0);
}

/// Files of one node, rewritten in place.
fn tls_files(pki: &Pki, name: &str) -> (std::path::PathBuf, TlsConfig) {
    let dir = std::env::temp_dir().join(format!("distcache-renewal-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    crate::reload::write_to(&dir, pki, name, 2100);
    let tls = TlsConfig::from_pem_files(dir.join("ca.pem"), dir.join("node.pem"), dir.join("node.key")).unwrap();
    (dir, tls)
}

#[tokio::test(start_paused = true)]
async fn links_of_a_node_with_new_certificates_are_renewed_and_no_call_fails() {
    let pki = Pki::new();
    let (dir, tls) = tls_files(&pki, "client");
    let world = World::memory().with_tls(Some(pki.node("server")), Some(tls.clone()));
    let (server, link, script) = world.pair(quick()).await;
    crate::reload::write_to(&dir, &pki, "renewed", 2100);
    tls.reload().unwrap();
    call_for(&link, Duration::from_secs(11)).await;
    assert_eq!(server.stats().connected, 2);
    assert_eq!(server.connections(), 1);
    let names: Vec<_> =
        script.peers.lock().unwrap().iter().map(|peer| peer.certificate.clone().unwrap().dns_names).collect();
    assert_eq!(names, [["client"], ["renewed"]]);
    let _ = std::fs::remove_dir_all(dir);
}

#[tokio::test(start_paused = true)]
async fn server_with_new_authorities_lets_nobody_stay_on_the_strength_of_the_old_ones() {
    let (old, new) = (Pki::new(), Pki::new());
    let (dir, tls) = tls_files(&old, "authorities");
    let world = World::memory().with_tls(Some(tls.clone()), Some(old.node("client")));
    let (server, link, _) = world.pair(quick()).await;
    // The authority of the client is trusted no more.
    std::fs::write(dir.join("ca.pem"), new.ca_pem()).unwrap();
    tls.reload().unwrap();
    call_for(&link, Duration::from_secs(15)).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server.stats().outdated, 1);
    assert!(link.call(ECHO, number(1), LONG).await.is_err());
    assert!(matches!(link.state(), LinkState::Down(_)), "{:?}", link.state());
    assert_eq!(server.connections(), 0);
    let _ = std::fs::remove_dir_all(dir);
}

#[tokio::test(start_paused = true)]
async fn server_with_a_new_certificate_moves_its_peers_over_and_no_call_fails() {
    let pki = Pki::new();
    let (dir, tls) = tls_files(&pki, "moves");
    let world = World::memory().with_tls(Some(tls.clone()), Some(pki.node("client")));
    let (server, link, _) = world.pair(quick()).await;
    crate::reload::write_to(&dir, &pki, "moved", 2100);
    tls.reload().unwrap();
    // It keeps the old connection open for longer than the new one takes to be there.
    let caller = link.clone();
    let long = tokio::spawn(async move { caller.call(SLEEP, number(30_000), Duration::from_secs(60)).await });
    let until = Instant::now() + Duration::from_secs(30);
    let mut failed = 0;
    while Instant::now() < until {
        failed += u32::from(link.call(ECHO, number(1), LONG).await.is_err());
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((server.stats().outdated, server.stats().connected), (1, 2));
    assert!(failed <= 1, "{failed} calls failed while the link moved over");
    assert!(long.await.unwrap().is_ok());
    let _ = std::fs::remove_dir_all(dir);
}
